"""Checks of one object: of the inbox against its name, of the table against the log, of a sidecar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import series
from metrics_lake.commits import decode_rows, digest_of, open_rows
from metrics_lake.errors import CorruptObjectError, MetricsLakeError
from metrics_lake.inspection.rowchecks import Problem, RowChecker, statistics_problem
from metrics_lake.schema import FORMAT_VERSION, METRICS, SCHEMA_VERSION, arrow_schema

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from metrics_lake.commits import ColumnStats, DataFile
    from metrics_lake.layout import InboxName

__all__ = ["Checked", "check_data_file", "check_inbox_object", "check_sidecar", "footers"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_ROW_GROUPS_AT_ONCE: Final = 16
_PREFIX: Final = "metrics_lake."
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# What a damaged footer makes pyarrow raise beside its own errors: lengths and texts out of their bounds.
_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, KeyError)

_ROUNDED: Final = ("mean", "m2")

OnRows = Callable[[pa.Table], None]


@dataclass(slots=True)
class Checked:
    """What the check of one object found.

    Attributes:
        problems: What is wrong, one of each code.
        num_rows: The rows that could be read.
        greatest: By writer the greatest ``seq`` of rows that were not copied.
        summary: The series summary of the rows; None where it was not asked for or cannot be made.
        is_readable: Whether all rows could be read.
    """

    problems: list[Problem] = field(default_factory=list)
    num_rows: int = 0
    greatest: dict[str, int] = field(default_factory=dict)
    summary: pa.Table | None = None
    is_readable: bool = True

    @property
    def is_damaged(self) -> bool:
        """Whether something is wrong that makes rows unreadable, or wrong."""
        return any(each.severity == "error" for each in self.problems)


def footers(opened: pq.ParquetFile) -> dict[str, str]:
    """Return our own footer entries of a Parquet file, without their prefix."""
    entries = opened.metadata.metadata or {}
    return {
        key.decode("utf-8", "replace").removeprefix(_PREFIX): value.decode("utf-8", "replace")
        for key, value in entries.items()
        if key.startswith(_PREFIX.encode())
    }


def check_inbox_object(name: InboxName, data: bytes, lake_id: str | None, on_rows: OnRows) -> Checked:
    """Check an inbox object against its name.

    Args:
        name: What its name says.
        data: Its bytes.
        lake_id: The lake's id, or None where that is not known.
        on_rows: Is given the rows, all at once and in order, if they can be read.
    """
    checker = RowChecker(name.table, is_sorted=False)
    try:
        date.fromisoformat(name.date)
    except ValueError:
        checker.report("name", f"{name.date!r} is no date.")
    if name.last < name.first - 1 or (name.last < name.first and not name.is_end):
        checker.report("name", f"An object of rows {name.first} to {name.last} cannot be.")
    done = Checked()
    try:
        opened = open_rows(data, key=name.key)
        with opened:
            _check_footers(name, footers(opened), lake_id, checker)
            _check_schema(name.table, opened, checker, is_ours=True)
            for rows in _rows_of(name.table, data, opened, name.key, checker):
                _check_run(name, rows, checker)
                checker.add(rows)
                on_rows(rows)
    except CorruptObjectError as error:
        checker.report("checksum", error.message)
        done.is_readable = False
    except _UNREADABLE as error:
        checker.report("checksum", f"It cannot be decoded: {error}")
        done.is_readable = False
    if done.is_readable and checker.num_rows != name.last - name.first + 1:
        checker.report(
            "count", f"It holds {checker.num_rows} rows and its name says {name.last - name.first + 1}."
        )
    done.problems = list(checker.problems.values())
    done.num_rows = checker.num_rows
    done.greatest = checker.greatest
    return done


def _check_footers(name: InboxName, found: dict[str, str], lake_id: str | None, checker: RowChecker) -> None:
    expected = {
        "table": name.table,
        "writer": name.writer,
        "first": str(name.first),
        "last": str(name.last),
    }
    if lake_id is not None:
        expected["lake_id"] = lake_id
    for entry, wanted in expected.items():
        if found.get(entry) != wanted:
            checker.report(
                "footer",
                f"Its footer's {entry} is {found.get(entry)!r}, not {wanted!r}: it was renamed or damaged.",
            )
    if "digest" not in found:
        checker.report("footer", "Its footer has no digest.")
    for entry, newest in (("format", FORMAT_VERSION), ("schema_version", SCHEMA_VERSION)):
        text = found.get(entry, "")
        if not text.isdecimal() or not 1 <= int(text) <= newest:
            checker.report("footer", f"Its footer's {entry} is {text!r}; this version knows up to {newest}.")


def _check_run(name: InboxName, rows: pa.Table, checker: RowChecker) -> None:
    first = name.first + checker.num_rows
    wanted = pa.array(range(first, first + rows.num_rows), pa.int64())
    if not pc.all(pc.fill_null(pc.equal(rows.column("seq"), wanted), False)).as_py():
        checker.report("count", f"Its sequence numbers are not {name.first} to {name.last} in order.")
    if not pc.all(pc.fill_null(pc.equal(rows.column("writer"), pa.scalar(name.writer)), False)).as_py():
        checker.report("writer", "It holds rows of another writer than its name says.")


def check_data_file(file: DataFile, data: bytes, on_rows: OnRows, *, summarised: bool = False) -> Checked:
    """Check a data file against what the log says of it.

    Where the digest holds and something else does not, the log is wrong and not the file; the problem's code
    is ``log`` then.

    Args:
        file: What the log says.
        data: Its bytes.
        on_rows: Is given the rows piece by piece.
        summarised: Make the series summary of its rows.
    """
    table = file.key.partition("/")[0]
    checker = RowChecker(table, is_sorted=file.is_ours)
    if len(data) != file.size_bytes:
        checker.report("size", f"It has {len(data)} bytes and the log says {file.size_bytes}.")
    is_intact = file.digest is not None and digest_of(data) == file.digest
    if file.digest is not None and not is_intact:
        checker.report("digest", "Its bytes are not those that were written: the digest in the log differs.")
    done = Checked()
    summaries: list[pa.Table] = []
    try:
        opened = open_rows(data, key=file.key)
        with opened:
            _check_schema(table, opened, checker, is_ours=file.is_ours)
            for rows in _rows_of(table, data, opened, file.key, checker):
                checker.add(rows, bloom=file.bloom)
                on_rows(rows)
                if summarised and table == METRICS:
                    summaries.append(series.summarise(rows))
    except CorruptObjectError as error:
        checker.report("checksum", error.message)
        done.is_readable = False
    except _UNREADABLE as error:
        checker.report("checksum", f"It cannot be decoded: {error}")
        done.is_readable = False
    if done.is_readable:
        _check_against_log(file, checker)
        if summarised and table == METRICS:
            done.summary = series.merge(summaries)
    done.problems = list(checker.problems.values())
    if is_intact:
        done.problems = [
            Problem("log", f"The log is wrong about it, its own bytes are right: {each.what}")
            if each.code in ("stats", "bloom", "month", "size", "count")
            else each
            for each in done.problems
        ]
    done.num_rows = checker.num_rows
    done.greatest = checker.greatest
    return done


def _check_against_log(file: DataFile, checker: RowChecker) -> None:
    if file.num_records is not None and file.num_records != checker.num_rows:
        checker.report("count", f"It holds {checker.num_rows} rows and the log says {file.num_records}.")
    for name, stats in file.stats.items():
        if (problem := _stats_problem(name, stats, checker)) is not None:
            checker.report("stats", problem)
    times = checker.bounds.get("timestamp")
    if times is not None:
        for micros in times:
            month = (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m").rjust(7, "0")
            if month != file.month:
                checker.report("month", f"It holds rows of {month} and lies in the partition {file.month!r}.")


def _stats_problem(name: str, stats: ColumnStats, checker: RowChecker) -> str | None:
    nulls = checker.nulls.get(name, 0)
    if stats.null_count is not None and stats.null_count != nulls:
        return f"The log counts {stats.null_count} NULLs in {name!r}; there are {nulls}."
    bounds = checker.bounds.get(name)
    if bounds is not None:
        if stats.min is not None and stats.min > bounds[0]:
            return f"The log's minimum of {name!r} is {stats.min!r} and a row has {bounds[0]!r}."
        if stats.max is not None and stats.max < bounds[1]:
            return f"The log's maximum of {name!r} is {stats.max!r} and a row has {bounds[1]!r}."
    return None


def _check_schema(table: str, opened: pq.ParquetFile, checker: RowChecker, *, is_ours: bool) -> None:
    stored = opened.schema_arrow.remove_metadata()
    expected = arrow_schema(table)
    if is_ours:
        if not stored.equals(expected):
            different = (
                [each.name for each in expected if each.name not in stored.names]
                or [each.name for each in stored if each.name not in expected.names]
                or [each.name for each in expected if not stored.field(each.name).equals(each)]
            )
            checker.report(
                "schema", f"Its columns are not the table's: {', '.join(different) or 'their order'}."
            )
        return
    required = [each.name for each in expected if not each.nullable and each.name not in stored.names]
    if required:
        checker.report("schema", f"It lacks the columns {', '.join(required)}.")


def _rows_of(
    table: str, data: bytes, opened: pq.ParquetFile, key: str, checker: RowChecker
) -> Iterator[pa.Table]:
    """Yield the rows of some row groups at a time, each group's own statistics checked."""
    metadata = opened.metadata
    numeric_ours = {each.name for each in arrow_schema(table)}
    for start in range(0, metadata.num_row_groups, _ROW_GROUPS_AT_ONCE):
        groups = list(range(start, min(start + _ROW_GROUPS_AT_ONCE, metadata.num_row_groups)))
        rows = decode_rows(table, data, key=key, row_groups=groups)
        at = 0
        for number in groups:
            group = metadata.row_group(number)
            own = rows.slice(at, group.num_rows).select(sorted(numeric_ours & set(rows.column_names)))
            at += group.num_rows
            problem = statistics_problem(group, opened.schema, own)
            if problem is not None:
                checker.report("statistics", problem)
        yield rows


def check_sidecar(data: bytes, key: str, expected: pa.Table) -> str | None:
    """Return what is wrong with a series sidecar, or None.

    Args:
        data: Its bytes.
        key: Its key.
        expected: The summary of its data file's rows.
    """
    try:
        found = series.decode(data, key=key)
    except MetricsLakeError as error:
        return error.message
    except _UNREADABLE as error:
        return f"It cannot be decoded: {error}"
    if found.num_rows != expected.num_rows:
        return f"It summarises {found.num_rows} series; its file has {expected.num_rows}."
    for name in expected.column_names:
        if name in _ROUNDED:
            continue
        for path, left, right in _leaves(name, found.column(name), expected.column(name)):
            if not _equal(left, right):
                return f"Its column {path!r} is not what the rows of its file give."
    for name, tolerance in _tolerances(expected).items():
        if not _close(found.column(name), expected.column(name), tolerance):
            return f"Its column {name!r} is not what the rows of its file give."
    return None


def _tolerances(expected: pa.Table) -> dict[str, Any]:
    """Return how far means and variances may be off: they depend on the order of summation, by rounding."""
    extent = pc.add(
        pc.abs(pc.struct_field(expected.column("min"), "value")),
        pc.abs(pc.struct_field(expected.column("max"), "value")),
    )
    squares = pc.multiply(pc.multiply(extent, extent), expected.column("n_finite").cast(pa.float64()))
    return {"mean": pc.multiply(extent, 1e-9), "m2": pc.multiply(squares, 1e-9)}


def _close(left: Any, right: Any, tolerance: Any) -> bool:
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    near = pc.less_equal(pc.abs(pc.subtract(left, right)), tolerance)
    # where an infinity or an overflow takes part no bound can be given
    unbounded = pc.invert(pc.is_finite(tolerance))
    fine = pc.or_kleene(both_null, pc.or_kleene(pc.fill_null(near, False), pc.fill_null(unbounded, False)))
    return pc.all(fine).as_py() is not False


def _leaves(name: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    left, right = left.combine_chunks(), right.combine_chunks()
    if pa.types.is_struct(left.type):
        yield name, pc.is_null(left), pc.is_null(right)
        for each in left.type:
            yield f"{name}.{each.name}", pc.struct_field(left, each.name), pc.struct_field(right, each.name)
    elif pa.types.is_map(left.type):
        # maps compare by their text; there are as many as series
        yield name, pa.array(list(map(repr, left.to_pylist()))), pa.array(list(map(repr, right.to_pylist())))
    else:
        yield name, left, right


def _equal(left: Any, right: Any) -> bool:
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    equal = pc.or_(both_null, pc.fill_null(pc.equal(left, right), False))
    if pa.types.is_floating(left.type):
        nan = pc.and_(pc.fill_null(pc.is_nan(left), False), pc.fill_null(pc.is_nan(right), False))
        equal = pc.or_(equal, nan)
    return pc.all(equal).as_py() is not False
