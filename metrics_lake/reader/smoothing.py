"""Smoothing of histories."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute

from metrics_lake.series import SERIES_KEYS

__all__ = ["smoothed"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments


def smoothed(rows: pa.Table, weight: float) -> pa.Table:
    """Return rows with each finite value replaced by the exponential moving average of its series up to it.

    The average is corrected for its start: at t it is the sum of ``weight**(t-i) * v(i)`` over all finite
    values up to t, divided by the sum of ``weight**(t-i)``. Other values are passed by, and stay.

    Args:
        rows: ``resource metric tags_key value``, series by series, each in order; ``kind`` and ``text``, if
            they are there, become those of a float.
        weight: The weight of the past, above 0 and below 1.
    """
    import polars as pl

    frame = pl.DataFrame(rows.select([*SERIES_KEYS, "value"]))
    is_finite = pl.col("value").is_finite().fill_null(False)
    finite = pl.when(is_finite).then(pl.col("value"))
    average = finite.ewm_mean(alpha=1 - weight, adjust=True, ignore_nulls=True)
    found = frame.select(
        value=pl.when(is_finite)
        .then(average.over(pl.struct(SERIES_KEYS).rle_id()))
        .otherwise(pl.col("value")),
        is_finite=is_finite,
    ).to_arrow()
    new: dict[str, Any] = {"value": found.column("value")}
    if "kind" in rows.column_names:
        new["kind"] = pc.if_else(found.column("is_finite"), "float", rows.column("kind"))
        new["text"] = pc.if_else(found.column("is_finite"), None, rows.column("text"))
    for name, column in new.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), column.cast(rows.schema.field(index).type))
    return rows
