"""The SQL of the read verbs that give rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query
from metrics_lake.errors import InvalidInputError
from metrics_lake.reader.selection import Ids, Selection
from metrics_lake.schema import METRICS, TABLES, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "TOTAL",
    "HistoryQuery",
    "copied_rows",
    "drawing_query",
    "history_query",
    "list_resources",
    "rows_to_copy",
]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

TOTAL: Final = "total_points"
"""The hidden column that says how many points there were before they were thinned out."""

_SHOWN: Final = ("resource", "metric", "tags", "step", "timestamp", "value")
_FULL: Final = ("kind", "text", "tags_key", "writer", "seq", "origin")
_DECODING: Final = ("kind", "text")
_SERIES: Final = "resource, metric, tags_key"
_ORDER: Final = f"{_SERIES}, step NULLS FIRST, timestamp, writer, seq"

# Points without a step are no repeats of each other. With only those numbered that are repeated, drawing 200
# series of 10,000 points took two thirds of the time (November 2026).
_LAST_OF_STEP: Final = f"""
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
    """

    sql: str
    bindings: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def history_query(
    *,
    repeats: str = "all",
    downsample: int | None = None,
    smooth: float | None = None,
    full: bool = False,
    is_read_once: bool = False,
) -> HistoryQuery:
    """Return the query of ``Reader.history``; ``is_read_once`` says that ``{points}`` gives its rows once.

    Raises:
        InvalidInputError: An argument is out of range.
    """
    if repeats not in ("all", "last"):
        raise InvalidInputError(f"repeats is {repeats!r}.", hint="Pass 'all' or 'last'.", argument="repeats")
    bindings: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    columns = _SHOWN + (_FULL if full else ())
    hidden: tuple[str, ...] = () if full else _DECODING
    source = _LAST_OF_STEP if repeats == "last" else "SELECT * FROM {points}"
    is_kept = is_read_once or repeats == "last"
    order = _ORDER
    if smooth is not None and (weight := _checked_weight(smooth)) > 0:
        source = _smoothed(source)
        is_kept = True
        bindings |= {"weight": weight, "block": _block_rows(weight)}
        notes["smooth"] = weight
    if downsample is not None:
        # The points of a series without steps are thinned along their timestamps, by themselves.
        place = "coalesce(step::DOUBLE, epoch_us(timestamp))"
        along = "step, timestamp, writer, seq"
        source = _thinned(source, place, apart="step IS NOT NULL", order=along, is_kept=is_kept)
        order = "series_number, x, place"
        bindings |= {"most": _checked_count(downsample), "intervals": _checked_count(downsample) // 4}
        notes["downsample"] = downsample
        hidden += (TOTAL,)
    shown = ", ".join(columns + hidden)
    return HistoryQuery(f"SELECT {shown} FROM ({source}) ORDER BY {order}", bindings, hidden, notes)


def drawing_query(x: str, *, most: int | None, smooth: float | None = None) -> HistoryQuery:
    """Return the query of what is drawn: points with a number, of repeated steps the newest, thinned.

    Its hidden columns count, over all points: ``total_points`` those that can be drawn, ``num_not_finite``
    those of them that are NaN or infinite, ``num_texts`` those that have no number, ``num_unplaced`` those
    that have a number and no step, where x is the step.

    Args:
        x: ``"step"``, or what is along the timestamp.
        most: How many points of a series are kept at most; as many again of those that are not finite. None:
            all; planning what thins them takes longer than a query over a few thousand.
        smooth: As in ``history_query``.
    """
    is_step = x == "step"
    drawable = "value IS NOT NULL AND step IS NOT NULL" if is_step else "value IS NOT NULL"
    counts = {
        "num_not_finite": f"{drawable} AND NOT isfinite(value)",
        "num_texts": "value IS NULL",
        "num_unplaced": "value IS NOT NULL AND step IS NULL" if is_step else "false",
    }
    # Not count(*) FILTER (…) OVER (): DuckDB 2.0 takes 9 s for it over 100,000 rows, four times as long over
    # twice as many.
    counted = ", ".join(
        f"sum(({condition})::BIGINT) OVER ()::BIGINT AS {name}" for name, condition in counts.items()
    )
    source = f"SELECT * FROM (SELECT *, {counted} FROM ({_LAST_OF_STEP})) WHERE {drawable}"
    bindings: dict[str, Any] = {}
    if smooth is not None and (weight := _checked_weight(smooth)) > 0:
        source = _smoothed(source)
        bindings |= {"weight": weight, "block": _block_rows(weight)}
    if most is None:
        source = f"SELECT *, count(*) OVER () AS {TOTAL} FROM ({source})"
    else:
        source = _thinned(
            source,
            "step::DOUBLE" if is_step else "epoch_us(timestamp)::DOUBLE",
            # So that finite extremes are kept beside an infinity, and gaps are where they were.
            apart="isfinite(value)",
            order="step, timestamp, writer, seq" if is_step else "timestamp, writer, seq",
            is_kept=True,
        )
        bindings |= {"most": most, "intervals": most // 4}
    hidden = (TOTAL, *counts)
    shown = ", ".join(("resource", "metric", "tags_key", "step", "timestamp", "value", *hidden))
    order = f"{_SERIES}, {'step' if is_step else 'timestamp'}, timestamp, writer, seq"
    return HistoryQuery(f"SELECT {shown} FROM ({source}) ORDER BY {order}", bindings, hidden)


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


def _block_rows(weight: float) -> int:
    """Return after how many rows the past weighs less than 1e-30, which no double can see."""
    return max(1, math.ceil(30 * math.log(10) / -math.log(weight)))


def _smoothed(source: str) -> str:
    """Return SQL that replaces finite values by their exponential moving average, corrected for its start.

    ``ema(t)`` is the sum of ``w**(t-i) * v(i)`` over all i up to t, divided by the sum of ``w**(t-i)``. It is
    a running sum of ``w**-i * v(i)``, in blocks, so that the powers stay small: what lies before the previous
    block weighs less than 1e-30 and is left out.
    """
    series = f"{_SERIES}, is_finite"
    return f"""
        WITH summed AS MATERIALIZED (
            SELECT *, pow($weight, place) * sum(CASE WHEN is_finite THEN value * pow($weight, -place) END)
                OVER (PARTITION BY {series}, block ORDER BY nth) AS block_sum
            FROM (
                SELECT *, nth % $block AS place, nth // $block AS block
                FROM (
                    SELECT *, row_number() OVER (
                        PARTITION BY {series} ORDER BY step NULLS FIRST, timestamp, writer, seq
                    ) - 1 AS nth
                    FROM (SELECT *, coalesce(isfinite(value), false) AS is_finite FROM ({source}))
                )
            )
        ), ends AS (
            SELECT {series}, block + 1 AS block, arg_max(block_sum, nth) AS before_block
            FROM summed WHERE is_finite GROUP BY {series}, block
        )
        SELECT * EXCLUDE (is_finite, nth, place, block, block_sum, before_block) REPLACE (
            CASE WHEN is_finite THEN
                (block_sum + pow($weight, place + 1) * coalesce(before_block, 0))
                * (1 - $weight) / (1 - pow($weight, nth + 1))
            ELSE value END AS value,
            CASE WHEN is_finite THEN 'float' ELSE kind END AS kind,
            CASE WHEN is_finite THEN NULL ELSE text END AS text
        )
        FROM summed LEFT JOIN ends USING ({series}, block)
    """


def _thinned(source: str, place: str, *, apart: str, order: str, is_kept: bool) -> str:
    """Return SQL that keeps the first, last, least and greatest points of each interval of each series.

    M4 (Jugel, Jerzak, Hackenbroich, Markl: "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB
    2014). Plain minima and maxima of each interval come first, and rows are put in order only in intervals
    where several share one of these numbers, to find the one that counts: ordering all took four times as
    long for 200 series of 10,000 points, ordering all that have such a number a quarter longer (November
    2026).

    Its columns ``series_number, x, place`` give the order of the series, those apart first, and along the
    axis.

    Args:
        source: The points.
        place: Their place on the axis along which intervals are equal, a double.
        apart: A condition: points of a series for which it is true, and the others, are thinned each by
            themselves.
        order: The order along the axis.
        is_kept: Read the points once and keep them; else they are scanned three times, which is cheaper than
            keeping what a scan can give again.
    """
    part = f"{_SERIES}, is_apart"
    interval = "series_number, part_number"
    return f"""
        WITH whole AS {"MATERIALIZED" if is_kept else "NOT MATERIALIZED"} (
            SELECT *, {apart} AS is_apart, {place} AS x FROM ({source})
        ), bounds AS (
            SELECT {part}, min(x) AS lower, max(x) AS upper, count(*) AS points,
                row_number() OVER (ORDER BY {part}) AS series_number
            FROM whole GROUP BY {part}
        ), located AS NOT MATERIALIZED (
            SELECT whole.*, series_number, points, CASE WHEN upper > lower
                THEN least(floor((x - lower) / (upper - lower) * $intervals), $intervals - 1)
                ELSE 0 END::BIGINT AS part_number
            FROM whole JOIN bounds USING ({part})
        ), extremes AS (
            SELECT {interval}, min(x) AS first_x, max(x) AS last_x,
                min(value) FILTER (NOT isnan(value)) AS lowest,
                max(value) FILTER (NOT isnan(value)) AS highest
            FROM located WHERE points > $most GROUP BY {interval}
        ), candidates AS MATERIALIZED (
            SELECT located.*, first_x, last_x, lowest, highest
            FROM located LEFT JOIN extremes USING ({interval})
            WHERE points <= $most OR x = first_x OR x = last_x OR value = lowest OR value = highest
        ), tied AS MATERIALIZED (
            SELECT {interval} FROM candidates GROUP BY {interval}
            HAVING any_value(points) <= $most
                OR count_if(x = first_x) > 1 OR count_if(x = last_x) > 1
                OR count_if(value = lowest) > 1 OR count_if(value = highest) > 1
                OR (any_value(lowest) < any_value(highest)
                    AND any_value(x) FILTER (value = lowest) = any_value(x) FILTER (value = highest))
        ), placed AS MATERIALIZED (
            SELECT *, row_number() OVER (PARTITION BY {interval} ORDER BY {order}) AS place
            FROM candidates SEMI JOIN tied USING ({interval})
        ), kept AS (
            SELECT {interval}, unnest([
                min(place), max(place),
                min(place) FILTER (value = lowest), min(place) FILTER (value = highest)
            ]) AS place
            FROM placed WHERE points > $most GROUP BY {interval}
        )
        SELECT *, (SELECT sum(points)::BIGINT FROM bounds) AS {TOTAL} FROM (
            SELECT *, 0 AS place FROM candidates ANTI JOIN tied USING ({interval})
            UNION ALL
            SELECT * FROM placed WHERE points <= $most OR ({interval}, place) IN (FROM kept)
        )
    """


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
