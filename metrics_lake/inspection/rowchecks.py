"""Checks of rows that need nothing but the rows: piece by piece, in bounded memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query
from metrics_lake.commits import may_contain
from metrics_lake.errors import CorruptObjectError
from metrics_lake.schema import TABLES, arrow_schema
from metrics_lake.tags import tags_from_key, tags_key
from metrics_lake.values import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.parquet as pq

    from metrics_lake.inspection.report import Severity

__all__ = ["Problem", "RowChecker", "first_disorder", "statistics_problem"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_WRITER: Final = re.compile(r"[0-9a-f]{32}")
_MOST_TAGS_KNOWN: Final = 100_000
_FEW_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the rows of one object."""

    code: str
    what: str
    severity: Severity = "error"


class RowChecker:
    """Looks at the rows of one object, piece by piece, and remembers what the log must say of them.

    Args:
        table: The table's name.
        is_sorted: The rows must be in the order of the table's sort keys.

    Attributes:
        problems: What is wrong, one of each code.
        num_rows: The rows so far.
        bounds: Minimum and maximum of each column with statistics, as far as it has values; timestamps in
            microseconds.
        nulls: The NULLs in each of these columns.
        greatest: By writer the greatest ``seq`` of rows that were not copied.
    """

    def __init__(self, table: str, *, is_sorted: bool) -> None:
        self.problems: dict[str, Problem] = {}
        self.num_rows = 0
        self.bounds: dict[str, tuple[Any, Any]] = {}
        self.nulls: dict[str, int] = {}
        self.greatest: dict[str, int] = {}
        self._table = table
        self._spec = TABLES[table]
        self._schema = arrow_schema(table)
        self._is_sorted = is_sorted
        self._last: pa.Table | None = None
        self._tags_known: set[tuple[str, tuple[tuple[str, str], ...] | None]] = set()

    def add(self, rows: pa.Table, *, bloom: bytes | None = None) -> None:
        """Look at rows that follow those before."""
        if not rows.num_rows:
            return
        rows = rows.combine_chunks()
        self._check_nulls(rows)
        if self._is_sorted:
            self._check_order(rows)
        self._take_bounds(rows)
        self._check_writers(rows)
        if "kind" in rows.column_names:
            self._check_kinds(rows)
        if "tags_key" in rows.column_names:
            self._check_tags(rows)
        if bloom is not None:
            lacking = [each for each in _distinct(rows, "resource") if not may_contain(bloom, each)]
            if lacking:
                self.report("bloom", f"Its Bloom filter lacks the resource {lacking[0]!r}.")
        self.num_rows += rows.num_rows

    def report(self, code: str, what: str, severity: Severity = "error") -> None:
        """Remember a problem, the first of its code."""
        self.problems.setdefault(code, Problem(code, what, severity))

    def _check_nulls(self, rows: pa.Table) -> None:
        for field in self._schema:
            if not field.nullable and rows.column(field.name).null_count:
                self.report("null", f"The column {field.name!r} holds a NULL.")

    def _check_order(self, rows: pa.Table) -> None:
        together = rows if self._last is None else pa.concat_tables([self._last, rows])
        at = first_disorder(together, self._spec.sort_keys)
        if at is not None:
            row = self.num_rows + at + (0 if self._last is None else -1)
            self.report("order", f"Row {row} sorts before the row in front of it.")
        self._last = rows.slice(rows.num_rows - 1)

    def _take_bounds(self, rows: pa.Table) -> None:
        for name in self._spec.stats_columns:
            column: Any = rows.column(name)
            self.nulls[name] = self.nulls.get(name, 0) + column.null_count
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.int64())
            found = pc.min_max(column).as_py()
            low, high = found["min"], found["max"]
            if low is None:
                continue
            if name in self.bounds:
                known_low, known_high = self.bounds[name]
                low, high = min(low, known_low), max(high, known_high)
            self.bounds[name] = low, high

    def _check_writers(self, rows: pa.Table) -> None:
        if pc.any(pc.less(rows.column("seq"), pa.scalar(0, pa.int64()))).as_py():
            self.report("writer", "A sequence number is negative.")
        names = ["writer", "seq"] + (["origin"] if "origin" in rows.column_names else [])
        own = rows.select(names)
        if "origin" in names:
            own = own.filter(pc.is_null(own.column("origin")))
        most = own.group_by("writer").aggregate([("seq", "max")])
        found: Any = zip(most.column("writer").to_pylist(), most.column("seq_max").to_pylist(), strict=True)
        for writer, seq in found:
            if writer is None or seq is None:
                continue
            if _WRITER.fullmatch(writer) is None:
                self.report("writer", f"{writer!r} is no writer's id: 32 hexadecimal digits.")
            self.greatest[writer] = max(seq, self.greatest.get(writer, -1))

    def _check_kinds(self, rows: pa.Table) -> None:
        for kind in _distinct(rows, "kind"):
            if kind not in KINDS:
                self.report(
                    "kind",
                    f"Values of kind {kind!r} are not known to this version of metrics_lake.",
                    "warning",
                )

    def _check_tags(self, rows: pa.Table) -> None:
        keys = rows.column("tags_key")
        tags = rows.column("tags")
        plain = pc.and_(pc.equal(keys, ""), pc.is_null(tags))
        if pc.all(plain).as_py():
            return
        tagged = rows.select(["tags_key", "tags"]).filter(pc.invert(pc.fill_null(plain, False)))
        distinct = tagged
        if tagged.num_rows > _FEW_ROWS:
            # DuckDB tells {a, b} from {b, a} and an empty map from NULL: here just the right thing.
            distinct = query.run("SELECT DISTINCT tags_key, tags FROM rows", rows=tagged)
        found: list[Any] = distinct.column("tags_key").to_pylist()
        for key, pairs in zip(found, _pairs(distinct.column("tags")), strict=True):
            if key is None or (key, pairs) in self._tags_known:
                continue
            if (problem := _tags_problem(key, pairs)) is not None:
                self.report("tags", problem)
                return
            if len(self._tags_known) < _MOST_TAGS_KNOWN:
                self._tags_known.add((key, pairs))


def _pairs(column: Any) -> list[tuple[tuple[str, str], ...] | None]:
    found: list[Any] = column.to_pylist()
    return [None if pairs is None else tuple(pairs) for pairs in found]


def _tags_problem(key: str, pairs: tuple[tuple[str, str], ...] | None) -> str | None:
    try:
        expected = tags_from_key(key)
    except CorruptObjectError as error:
        return f"A tags_key cannot be read: {error.message}"
    if tags_key(sorted(expected.items())) != key:
        return f"The tags_key {key!r} is not canonical."
    if dict(pairs or ()) != expected or len(pairs or ()) != len(expected):
        return f"The tags {dict(pairs or ())!r} are not those of their tags_key {key!r}."
    if pairs is not None and not pairs:
        return "A row has an empty map of tags in place of NULL."
    return None


def _distinct(rows: pa.Table, name: str) -> list[str]:
    found: list[Any] = pc.unique(rows.column(name)).to_pylist()
    return [each for each in found if each is not None]


def first_disorder(rows: pa.Table, keys: Sequence[str]) -> int | None:
    """Return the first row that sorts before the one in front of it: NULL first, strings by bytes."""
    count = rows.num_rows
    if count < 2:
        return None
    before, after = rows.slice(0, count - 1), rows.slice(1)
    ordered: Any = pa.repeat(pa.scalar(True), count - 1)
    for name in reversed(keys):
        low, high = before.column(name), after.column(name)
        rises = pc.fill_null(pc.less(low, high), False)
        ties = pc.fill_null(pc.equal(low, high), False)
        if low.null_count or high.null_count:
            rises = pc.or_(rises, pc.and_(pc.is_null(low), pc.is_valid(high)))
            ties = pc.or_(ties, pc.and_(pc.is_null(low), pc.is_null(high)))
        ordered = pc.or_(rises, pc.and_(ties, ordered))
    at = pc.index(ordered, pa.scalar(False)).as_py()
    return None if at < 0 else at + 1


def statistics_problem(group: pq.RowGroupMetaData, schema: pq.ParquetSchema, rows: pa.Table) -> str | None:
    """Return what a row group's own statistics say wrongly of its rows, or None.

    The footer has no checksum. Readers skip row groups by it, so a wrong bound loses rows silently.

    Args:
        group: What the footer says of the row group.
        schema: The file's schema.
        rows: The row group's rows.
    """
    if group.num_rows != rows.num_rows:
        return f"A row group says {group.num_rows} rows and holds {rows.num_rows}."
    for number in range(group.num_columns):
        column = group.column(number)
        name = column.path_in_schema
        # pyarrow 26 aborts the process that asks for statistics whose type is not the schema's
        if column.physical_type != schema.column(number).physical_type:
            return f"The footer gives the column {name!r} two different types."
        if name not in rows.column_names or not column.is_stats_set:
            continue
        statistics: Any = column.statistics  # the stubs lack has_null_count
        values = rows.column(name)
        if statistics is None or pa.types.is_nested(values.type):
            continue
        if statistics.has_null_count and statistics.null_count != values.null_count:
            return f"The statistics of column {name!r} count {statistics.null_count} NULLs in a row group."
        if not statistics.has_min_max:
            continue
        found = pc.min_max(values).as_py()
        if found["min"] is None:
            continue
        if not (statistics.min <= found["min"] and found["max"] <= statistics.max):
            return f"The statistics of column {name!r} do not enclose a row group's values."
    return None
