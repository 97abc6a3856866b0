"""Numbers from the state ``numbers``: the distribution of predicted numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.predictions.curves import cell_edges, quantiles
from metrics_lake.predictions.names import QUANTILES, quantile_name
from metrics_lake.predictions.rows import counted, distribution, out
from metrics_lake.predictions.runs import mass

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.options import Options
    from metrics_lake.predictions.rows import Measure

__all__ = ["finalise", "quantile_rows"]

_FEW: Final = 20
"""Whole numbers of at most so many distinct values are shown as classes too where the task is unknown."""
_EXACT: Final = 2.0**53
"""Beyond it two integers can be one double: they are no classes that could be told apart."""


def finalise(state: Long, options: Options) -> list[Measure]:
    """Return the rows of numbers: counts, mean, std, min, max, quantiles; classes where they may be some."""
    rows = counted(state)
    moments = state.moments.filter(pl.col("of") == "prediction")
    rows += [
        out(moments, "mean", "mean", n="n"),
        out(moments, "std", (pl.col("m2").clip(0) / mass()).sqrt(), n="n", method="population"),
        out(moments, "min", "low", n="n"),
        out(moments, "max", "high", n="n"),
    ]
    cells = cell_edges(state, is_score=False)
    rows.append(quantile_rows(cells, ""))
    rows += _classes(state, cells)
    return rows


def quantile_rows(cells: pl.DataFrame, prefix: str) -> Measure:
    """Return the rows of the quantiles of the cells of ``cell_edges``."""
    found = quantiles(cells, {prefix + quantile_name(q): q for q in QUANTILES})
    return out(found, found["metric"], "value", n="n", bound="bound", method="cells")


def _classes(state: Long, cells: pl.DataFrame) -> list[Measure]:
    """Few whole numbers are also shown as classes: each has a cell of its own, whose value is known."""
    if not (state.head["task"] == "unknown").any():
        return []
    few = (
        state.ties.join(state.head.filter(pl.col("task") == "unknown"), on="gid", how="semi")
        .group_by("gid")
        .agg(size=pl.len(), pure=(pl.col("value").abs() <= _EXACT).fill_null(value=False).all())
        .filter(pl.col("size") <= _FEW, "pure")
    )
    if not few.height:
        return []
    shares = cells.join(few, on="gid", how="semi").with_columns(
        pred=pl.col("value").cast(pl.Int64, strict=False).cast(pl.String)
    )
    return distribution(shares)
