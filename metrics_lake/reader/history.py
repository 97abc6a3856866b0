"""The SQL of the read verbs that give rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from metrics_lake import query
from metrics_lake.errors import InvalidInputError
from metrics_lake.reader.selection import Ids, Selection
from metrics_lake.schema import METRICS, TABLES, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

__all__ = ["HistoryQuery", "history_query", "list_resources", "rows_to_copy"]

_SHOWN: Final = ("resource", "metric", "tags", "step", "timestamp", "value")
_FULL: Final = ("kind", "text", "tags_key", "writer", "seq", "origin")
_DECODING: Final = ("kind", "text")
_SERIES: Final = "resource, metric, tags_key"
_ORDER: Final = f"{_SERIES}, step NULLS FIRST, timestamp, writer, seq"


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """A history as SQL over ``{points}``.

    Attributes:
        sql: The query.
        bindings: Its parameters.
        hidden: Columns of its result that only decode values.
        notes: What was done to the points.
    """

    sql: str
    bindings: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def history_query(*, repeats: str, downsample: Any, smooth: Any, full: bool) -> HistoryQuery:
    """Return the query of ``Reader.history``.

    Raises:
        InvalidInputError: An argument is out of range.
    """
    if repeats not in ("all", "last"):
        raise InvalidInputError(f"repeats is {repeats!r}.", hint="Pass 'all' or 'last'.", argument="repeats")
    if downsample is not None or smooth is not None:
        raise InvalidInputError("downsample and smooth are not there yet.")
    columns = _SHOWN + (_FULL if full else _DECODING)
    # Points without a step are no repeats of each other.
    qualify = (
        f"QUALIFY step IS NULL OR row_number() OVER (PARTITION BY {_SERIES}, step "
        "ORDER BY timestamp DESC, writer DESC, seq DESC) = 1"
        if repeats == "last"
        else ""
    )
    sql = f"SELECT {', '.join(columns)} FROM {{points}} {qualify} ORDER BY {_ORDER}"
    return HistoryQuery(sql, hidden=() if full else _DECODING)


def list_resources(summary: pa.Table, selection: Selection) -> pa.Table:
    """Return a row a resource from a series summary."""
    bindings: dict[str, Any] = {}
    condition = "true" if selection.resources is None else selection.resources.sql("resource", bindings)
    return query.run(
        f"""
        SELECT
            resource,
            count(DISTINCT metric) AS metrics,
            count(*) AS series,
            sum("count")::BIGINT AS points,
            min("first".timestamp) AS first_timestamp,
            max("last".timestamp) AS last_timestamp,
            max("last_step".step) AS last_step
        FROM summary WHERE {condition} GROUP BY resource ORDER BY resource
        """,
        bindings,
        summary=summary,
    )


def rows_to_copy(source: Selection, resource: str, to: str | None) -> tuple[Selection, str, dict[str, Any]]:
    """Return what to scan, the query over it and its parameters, for ``Reader.rows_of``."""
    names = [each.name for each in arrow_schema(METRICS)]
    order = ", ".join(f"{each} NULLS FIRST" if each == "step" else each for each in TABLES[METRICS].sort_keys)
    if to is None:
        return source, f"SELECT {', '.join(names)} FROM {{points}} ORDER BY {order}", {}
    new = {"resource": "$copy_to", "origin": "$copy_from"}
    columns = ", ".join(f"{new[each]} AS {each}" if each in new else each for each in names)
    # Materialised, because a feed of rows can be read once.
    sql = f"""
        WITH both_rows AS MATERIALIZED (SELECT * FROM {{points}})
        SELECT {columns} FROM both_rows AS old
        WHERE resource = $copy_from AND NOT EXISTS (
            FROM both_rows AS there
            WHERE there.resource = $copy_to AND there.writer = old.writer AND there.seq = old.seq
        )
        ORDER BY {order}
    """
    selection = replace(source, resources=Ids((resource, to)))
    return selection, sql, {"copy_from": resource, "copy_to": to}
