"""The SQL of the read verbs that give rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query
from metrics_lake.errors import InvalidInputError
from metrics_lake.reader.selection import Ids, Selection
from metrics_lake.reader.smoothing import smoothed
from metrics_lake.reader.thinning import MARKS, TOTAL, candidates, one_of_each, thinning
from metrics_lake.schema import METRICS, TABLES, arrow_schema
from metrics_lake.series import SERIES_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "LAST_OF_STEP",
    "ORDER",
    "HistoryQuery",
    "copied_rows",
    "history_query",
    "list_resources",
    "rows_to_copy",
]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

Run: TypeAlias = "Callable[[str, dict[str, Any]], pa.Table]"
Stream: TypeAlias = "Callable[[str, dict[str, Any]], pa.RecordBatchReader]"

_SHOWN: Final = ("resource", "metric", "tags", "step", "timestamp", "value")
_FULL: Final = ("kind", "text", "tags_key", "writer", "seq", "origin")
_DECODING: Final = ("kind", "text")
_SERIES: Final = ", ".join(SERIES_KEYS)
ORDER: Final = f"{_SERIES}, step NULLS FIRST, timestamp, writer, seq"

# Points without a step are no repeats of each other. With only those numbered that are repeated, drawing 200
# series of 10,000 points took two thirds of the time (November 2026).
LAST_OF_STEP: Final = f"""
    WITH every_point AS MATERIALIZED (SELECT * FROM {{points}}),
    repeated AS MATERIALIZED (
        SELECT {_SERIES}, step FROM every_point WHERE step IS NOT NULL
        GROUP BY {_SERIES}, step HAVING count(*) > 1
    )
    SELECT * FROM every_point ANTI JOIN repeated USING ({_SERIES}, step)
    UNION ALL
    SELECT * FROM every_point SEMI JOIN repeated USING ({_SERIES}, step)
    QUALIFY row_number() OVER (
        PARTITION BY {_SERIES}, step ORDER BY timestamp DESC, writer DESC, seq DESC
    ) = 1
"""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """A history as SQL over ``{points}``.

    Attributes:
        sql: The query.
        bindings: Its parameters.
        hidden: Columns of its result that users do not see.
        notes: What was done to the points.
        smoothing: What is done to the points before the query sees them.
        is_thinned: Whether the query gives candidates, of which ``one_of_each`` are the history.
    """

    sql: str
    bindings: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    smoothing: Smoothing | None = None
    is_thinned: bool = False

    def run(self, run: Run, stream: Stream) -> pa.Table:
        """Return the history.

        Args:
            run: Runs a query over the points.
            stream: Runs one whose result is read batch by batch.
        """
        if self.smoothing is not None:
            rows = smoothed(run(self.smoothing.source, {}), self.smoothing.weight)
            sql = self.sql.replace("{points}", "smooth_rows")
            if not self.is_thinned:
                return query.run(sql, self.bindings, smooth_rows=rows)
            return one_of_each(query.stream(sql, self.bindings, smooth_rows=rows)).read_all()
        return self.stream(stream).read_all() if self.is_thinned else run(self.sql, dict(self.bindings))

    def stream(self, stream: Stream) -> pa.RecordBatchReader:
        """Return the history, which is not smoothed, while it is computed."""
        rows = stream(self.sql, dict(self.bindings))
        return one_of_each(rows) if self.is_thinned else rows


@dataclass(frozen=True, slots=True)
class Smoothing:
    """An exponential moving average.

    Attributes:
        weight: Of the past; above 0 and below 1.
        source: The query over ``{points}`` that gives what is smoothed, in order.
    """

    weight: float
    source: str


def history_query(
    *,
    repeats: str = "all",
    downsample: int | None = None,
    smooth: float | None = None,
    full: bool = False,
    is_kept: bool = False,
) -> HistoryQuery:
    """Return the query of ``Reader.history``; ``is_kept`` as in ``candidates``.

    Raises:
        InvalidInputError: An argument is out of range.
    """
    if repeats not in ("all", "last"):
        raise InvalidInputError(f"repeats is {repeats!r}.", hint="Pass 'all' or 'last'.", argument="repeats")
    bindings: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    columns = _SHOWN + (_FULL if full else ())
    hidden: tuple[str, ...] = () if full else _DECODING
    points = LAST_OF_STEP if repeats == "last" else "SELECT * FROM {points}"
    needed = ", ".join(dict.fromkeys((*columns, *_DECODING, "tags_key", "writer", "seq")))
    smoothing = None
    if smooth is not None and (weight := _checked_weight(smooth)) > 0:
        smoothing = Smoothing(weight, f"SELECT {needed} FROM ({points}) ORDER BY {ORDER}")
        points = "SELECT * FROM {points}"
        notes["smooth"] = weight
    order = ORDER
    marks: tuple[str, ...] = ()
    if downsample is not None:
        # The points of a series without steps are thinned along their timestamps, by themselves.
        place = "coalesce(step::DOUBLE, epoch_us(timestamp))"
        is_kept = smoothing is None and (is_kept or repeats == "last")
        points = candidates(points, place, apart="step IS NOT NULL", is_kept=is_kept)
        order, marks = "series_number, step, timestamp, writer, seq", MARKS
        bindings = thinning(_checked_count(downsample))
        notes["downsample"] = downsample
        hidden += (TOTAL,)
    shown = ", ".join(columns + hidden + marks)
    sql = f"SELECT {shown} FROM ({points}) ORDER BY {order}"
    return HistoryQuery(sql, bindings, hidden, notes, smoothing, downsample is not None)


def _checked_weight(smooth: Any) -> float:
    if isinstance(smooth, bool) or not isinstance(smooth, int | float) or not 0 <= smooth < 1:
        raise InvalidInputError(
            f"smooth is {smooth!r}.",
            hint="Pass the weight of the past, from 0 (none) to below 1, such as 0.9.",
            argument="smooth",
        )
    return float(smooth)


def _checked_count(downsample: Any) -> int:
    if isinstance(downsample, bool) or not isinstance(downsample, int) or downsample < 4:
        raise InvalidInputError(
            f"downsample is {downsample!r}.",
            hint="Pass how many points a series may have at most, 4 or more, such as 2000.",
            argument="downsample",
        )
    return min(downsample, 2**31)


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


def copied_rows(rows: pa.Table, resource: str, to: str) -> pa.Table:
    """Do what ``rows_to_copy`` says in Arrow, for the few rows of the two resources that are in memory.

    Planning and running that query takes five times as long as copying what one run logged. The rows come in
    no order: whoever commits them sorts them by month first.
    """
    there = rows.filter(pc.equal(rows.column("resource"), to))
    rows = rows.filter(pc.equal(rows.column("resource"), resource))
    held = set(_identities(there))
    if held:
        rows = rows.filter(pa.array([each not in held for each in _identities(rows)], pa.bool_()))
    for name, text in (("resource", to), ("origin", resource)):
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), pa.repeat(text, rows.num_rows))
    return rows


def _identities(rows: pa.Table) -> Iterable[tuple[str, int]]:
    """Return what makes a row itself wherever it is copied."""
    return zip(*(rows.column(name).to_pylist() for name in ("writer", "seq")), strict=True)
