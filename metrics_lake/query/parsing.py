"""Somebody else's SQL as a tree, before it runs: one SELECT and nothing else; one condition and nothing else.

DuckDB parses, we read the tree. The wall against files, network and settings is the sandbox; what is refused
here is what a locked connection lets through: statements that write, table functions that take addresses of
memory or make external resources, functions that cannot be interrupted.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import duckdb

from metrics_lake.errors import InvalidInputError
from metrics_lake.query.database import new_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Condition", "Statement", "parse_condition", "parse_select"]

_TABLE_FUNCTIONS: Final = frozenset(
    {
        *("range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"),
        *("histogram", "histogram_values", "summary", "pragma_table_info", "pragma_version"),
        *("duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_tables", "duckdb_types"),
        *("duckdb_views", "pg_timezone_names"),
    }
)
"""All that a query may call where a table stands."""

_FORBIDDEN_FUNCTIONS: Final = frozenset(
    {"sleep_ms", "pg_sleep", "write_log", "getenv", "current_setting", "json_serialize_plan"}
)
"""Scalars that wait where no interrupt reaches them, reach out, or plan SQL that nobody looked at."""

_QUERY_NODES: Final = frozenset(
    {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "STATEMENT_NODE"}
)

_EXPLAIN: Final = re.compile(
    r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*EXPLAIN\b(?:\s*ANALYZE\b)?(?:\s*\([^()]*\))?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One SELECT, or the EXPLAIN of one.

    Attributes:
        sql: Its text.
        parameters: The names of its ``$name`` parameters.
    """

    sql: str
    parameters: frozenset[str]


@dataclass(frozen=True, slots=True)
class Condition:
    """A boolean expression over columns.

    Attributes:
        tree: DuckDB's tree of it.
        columns: The names that stand where columns do, as they were written, each once.
    """

    tree: Any
    columns: tuple[str, ...]

    def select(self, what: str, source: str, renamed: Mapping[str, str]) -> str:
        """Return ``SELECT what FROM source WHERE`` this, its columns renamed.

        Args:
            what: A column.
            source: A table.
            renamed: What each of ``columns`` is called there.
        """
        statement = _tree(f"SELECT {what} FROM {source} WHERE true")
        tree = json.loads(json.dumps(self.tree))
        for each in _dicts(tree):
            if each.get("class") == "COLUMN_REF":
                each["column_names"] = [renamed[_column_name(each)]]
        statement["statements"][0]["node"]["where_clause"] = tree
        with closing(new_cursor()) as cursor:
            text = json.dumps(statement)
            (sql,) = _only_row(cursor.execute("SELECT json_deserialize_sql($tree::JSON)", {"tree": text}))
        return str(sql)


def parse_select(sql: str) -> Statement:
    """Return a statement that only reads.

    Raises:
        InvalidInputError: It is not valid SQL, not exactly one SELECT (or EXPLAIN of one), or calls what a
            read-only query may not call.
    """
    given: Any = sql
    if not isinstance(given, str):
        raise InvalidInputError(
            f"The query is of type {type(given).__qualname__}.", hint="Pass SQL as a str.", argument="query"
        )
    return _parsed(given)


@lru_cache(maxsize=256)  # dashboards ask the same again and again, with other parameters
def _parsed(sql: str) -> Statement:
    statement = _only_statement(sql)
    body = sql
    kind = _type_of(statement)
    if kind == "EXPLAIN":
        found = _EXPLAIN.match(sql)
        body = "" if found is None else sql[found.end() :]
        if not body.strip() or _type_of(_only_statement(body)) != "SELECT":
            raise _not_a_select("an EXPLAIN of something else")
    elif kind == "MULTI":  # DuckDB looks for the columns first, in a statement of its own
        raise _not_a_select(
            "several statements", "Name the columns of a PIVOT: PIVOT … ON metric IN ('loss')."
        )
    elif kind != "SELECT":
        raise _not_a_select(f"a statement of type {kind}")
    tree = _tree(body)
    if tree["error"]:
        raise _not_a_select(f"a statement of which DuckDB says: {tree.get('error_message')}")
    for each in _dicts(tree):
        _refuse(each)
    return Statement(sql, frozenset(map(str, statement.named_parameters)))


def parse_condition(text: str) -> Condition:
    """Return a boolean expression.

    Raises:
        InvalidInputError: It is no valid expression, or holds a subquery, an aggregate over rows, a
            parameter or a ``*``.
    """
    given: Any = text
    if not isinstance(given, str) or not given.strip():
        raise InvalidInputError(
            f"where is {given!r}.",
            hint="Pass a SQL condition over metric ids: where='\"params/lr\" < 1e-3'.",
            argument="where",
        )
    wrapped = _tree(f"SELECT 1 WHERE (\n{text}\n)")
    if wrapped["error"]:
        raise InvalidInputError(
            f"where is no valid SQL condition: {wrapped.get('error_message')}: {text!r}.",
            hint="Metric ids stand in double quotes, texts in single ones: \"params/optimizer\" = 'adam'.",
            argument="where",
        )
    tree = _where_of(wrapped)
    # The text may have closed our parenthesis and gone on: then more than the condition is new.
    if tree is None or _without_where(wrapped) != _without_where(_tree("SELECT 1 WHERE (true)")):
        raise _no_condition("more than one condition")
    columns: dict[str, None] = {}
    for each in _dicts(tree):
        _refuse(each)
        kind = each.get("class")
        if kind in {"SUBQUERY", "PARAMETER", "STAR", "WINDOW", "LAMBDA"}:
            raise _no_condition(f"a {str(kind).lower()}")
        if kind == "COLUMN_REF":
            columns[_column_name(each)] = None
    return Condition(tree, tuple(columns))


def _only_statement(sql: str) -> Any:
    try:
        with closing(new_cursor()) as cursor:
            statements = cursor.extract_statements(sql)
    except duckdb.Error as error:
        raise InvalidInputError(f"The query is not valid: {error}", argument="query") from error
    if len(statements) != 1:
        raise _not_a_select("no statement" if not statements else f"{len(statements)} statements")
    return statements[0]


def _type_of(statement: Any) -> str:
    try:
        name: str = statement.type.name
    except ValueError as error:  # DuckDB 2.0's Python knows not all that its parser does
        raise _not_a_select("of a rare kind") from error
    return name


def _tree(sql: str) -> Any:
    with closing(new_cursor()) as cursor:
        (text,) = _only_row(cursor.execute("SELECT json_serialize_sql($sql)", {"sql": sql}))
    return json.loads(text)


def _only_row(cursor: duckdb.DuckDBPyConnection) -> tuple[Any, ...]:
    rows = cursor.fetchall()
    return tuple(rows[0])


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a tree, each before those inside it."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(reversed(node.values()))
        elif isinstance(node, list):
            left.extend(reversed(node))


def _refuse(node: Mapping[str, Any]) -> None:
    """Raise where a node of a tree is nothing that a read-only query may hold."""
    kind = str(node.get("type"))
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        raise _not_a_select(f"something that writes ({kind.removesuffix('_NODE').lower()})")
    name = str(node.get("function_name", "")).lower()
    if kind == "TABLE_FUNCTION":
        name = str(node.get("function", {}).get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise InvalidInputError(
                f"The query may not read from {name}().",
                hint="It reads the lake's views and frames=; lake.duckdb() is a connection without limits.",
                function=name,
            )
    elif name in _FORBIDDEN_FUNCTIONS:
        raise InvalidInputError(f"The query may not call {name}().", function=name)


def _column_name(node: Mapping[str, Any]) -> str:
    return ".".join(node["column_names"])


def _where_of(tree: Any) -> Any:
    statements = tree["statements"]
    return statements[0]["node"].get("where_clause") if len(statements) == 1 else None


def _without_where(tree: Any) -> Any:
    def kept(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: kept(value)
                for key, value in node.items()
                if key not in {"where_clause", "query_location", "query_location_length", "named_param_map"}
            }
        return [kept(each) for each in node] if isinstance(node, list) else node

    return kept(tree)


def _not_a_select(
    what: str, hint: str = "lake.duckdb() is an ordinary connection on the same views."
) -> InvalidInputError:
    return InvalidInputError(
        f"The query is {what}; it must be exactly one SELECT, or EXPLAIN of one.",
        hint=hint,
        argument="query",
    )


def _no_condition(what: str) -> InvalidInputError:
    return InvalidInputError(
        f"where holds {what}.",
        hint="Pass one boolean expression over metric ids in double quotes.",
        argument="where",
    )
