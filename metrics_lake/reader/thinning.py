"""M4: of each interval of a series only its first, last, least and greatest points.

Uwe Jugel, Zbigniew Jerzak, Gregor Hackenbroich, Volker Markl: "M4: A Visualization-Oriented Time Series Data
Aggregation", VLDB 2014. DuckDB finds the points that have the extreme numbers of their interval; of several
that share one, the rows in order say which one counts, and there are few of them. In SQL too that took a
third longer, for 8 series of 10,000 points as for 200: most of it planning (November 2026).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake.series import SERIES_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MARKS", "TOTAL", "candidates", "ends", "is_other", "one_of_each", "thinning"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

TOTAL: Final = "total_points"
"""The column that says how many points there were before they were thinned out."""

MARKS: Final = ("interval", "is_lowest", "is_highest")
"""What ``one_of_each`` needs to see, and takes away."""


def candidates(
    source: str, place: str, *, series: str = ", ".join(SERIES_KEYS), apart: str, is_kept: bool
) -> str:
    """Return SQL for the points that may be the first, last, least or greatest of their interval.

    Beside the points' columns it gives ``total_points``, ``series_number``, which counts the series, those
    apart last, and the marks that ``one_of_each`` takes. Its parameters are those of ``thinning``.

    Args:
        source: The points.
        place: Their place on the axis along which intervals are equal, a double.
        series: The columns that tell series apart.
        apart: A condition: points of a series for which it is true, and the others, are thinned each by
            themselves.
        is_kept: Read the points once and keep them; else they are scanned three times, which is cheaper than
            keeping many that a scan can give again.
    """
    part = f"{series}, is_apart"
    return f"""
        WITH whole AS {"MATERIALIZED" if is_kept else "NOT MATERIALIZED"} (
            SELECT *, {apart} AS is_apart, {place} AS x FROM ({source})
        ), bounds AS (
            SELECT {part}, min(x) AS lower, max(x) AS upper, count(*) AS points,
                sum(count(*)) OVER ()::BIGINT AS {TOTAL},
                row_number() OVER (ORDER BY {part}) AS series_number
            FROM whole GROUP BY {part}
        ), located AS NOT MATERIALIZED (
            SELECT whole.*, series_number, {TOTAL}, points > $most AS is_thinned, CASE WHEN upper > lower
                THEN least(floor((x - lower) / (upper - lower) * $intervals), $intervals - 1)
                ELSE 0 END::BIGINT AS part_number
            FROM whole JOIN bounds USING ({part})
        ), extremes AS (
            SELECT series_number, part_number, min(x) AS first_x, max(x) AS last_x,
                min(value) FILTER (NOT isnan(value)) AS lowest,
                max(value) FILTER (NOT isnan(value)) AS highest
            FROM located WHERE is_thinned GROUP BY series_number, part_number
        )
        SELECT located.*, value = lowest AS is_lowest, value = highest AS is_highest,
            CASE WHEN is_thinned THEN series_number * $intervals + part_number END AS interval
        FROM located LEFT JOIN extremes USING (series_number, part_number)
        WHERE NOT is_thinned OR x = first_x OR x = last_x OR value = lowest OR value = highest
    """


def thinning(most: int) -> dict[str, Any]:
    """Return the parameters of ``candidates`` by which a series has at most so many points afterwards."""
    return {"most": most, "intervals": most // 4}


def one_of_each(batches: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return the first and last row of each interval, and its first ones of the least and greatest values.

    Args:
        batches: Candidates, interval by interval, each in order; no more than an interval's four rows of them
            are held. Where ``interval`` is NULL each row stays.
    """
    names = [name for name in batches.schema.names if name not in MARKS]

    def thinned() -> Iterator[pa.RecordBatch]:
        held = batches.schema.empty_table()
        for batch in batches:
            rows = _one_of_each(pa.concat_tables([held, pa.Table.from_batches([batch])]))
            # The last interval may go on in the next batch, and what it has so far stands for all of it.
            begins = pc.indices_nonzero(is_other(rows.column("interval").combine_chunks()))
            end = begins[-1].as_py() if len(begins) else 0
            held = rows.slice(end)
            yield from rows.slice(0, end).select(names).to_batches()
        yield from held.select(names).to_batches()

    schema = pa.schema([batches.schema.field(name) for name in names])
    return pa.RecordBatchReader.from_batches(schema, thinned())


def _one_of_each(rows: pa.Table) -> pa.Table:
    interval: Any = rows.column("interval").combine_chunks()
    is_first = is_other(interval)
    is_kept = pc.or_(is_first, ends(is_first))
    for name in ("is_lowest", "is_highest"):
        is_extreme = rows.column(name).combine_chunks().fill_null(False)
        is_first_of_them = is_other(interval.filter(is_extreme))
        is_kept = pc.or_(is_kept, pc.replace_with_mask(is_extreme, is_extreme, is_first_of_them))
    return rows if pc.all(is_kept).as_py() else rows.filter(is_kept)


def is_other(values: Any) -> Any:
    """Say of each value of an array whether it is another than the one before it; NULL always is."""
    if not len(values):
        return pa.array([], pa.bool_())
    others = pc.not_equal(values.slice(1), values.slice(0, len(values) - 1))
    return pa.concat_arrays([pa.array([True]), others.fill_null(True)])


def ends(begins: Any) -> Any:
    """Say of each row whether a run of rows ends with it, where it is known of each whether one begins."""
    return pa.concat_arrays([begins.slice(1), pa.array([True] * min(1, len(begins)), pa.bool_())])
