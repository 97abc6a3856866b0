"""Real numbers without a truth: distribution, moments, quantiles; and the shared passes of a regression."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.predictions.cells import (
    NUMBER_RESOLUTION,
    cell_of_key,
    is_infinite_key,
    is_nan_key,
    number_key,
)
from metrics_lake.predictions.grouping import BAD, Groups, aggregate, number
from metrics_lake.predictions.runs import cell_table

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles

__all__ = ["build", "by_cell", "deviations", "moment_rows"]


def by_cell(groups: Groups) -> Groups:
    """Return the groups of a pass over number keys, with the keys that cannot be used coded as such."""
    key = pl.col("k")
    coded = (
        pl.when(key >= BAD)
        .then(BAD)
        .when(is_nan_key(key))
        .then(BAD + 1)
        .when(is_infinite_key(key))
        .then(BAD + 2)
        .otherwise(key)
    )
    return replace(groups, rows=groups.rows.with_columns(k=coded, cell=cell_of_key(key)))


def build(
    frame: pl.LazyFrame,
    roles: Roles,
    *,
    task: str,
    pilot: float = 0.0,
    known: pl.DataFrame | None = None,
) -> Long:
    """Return the state ``numbers`` of the prediction column: cells, ties, moments, how many are no integer.

    Args:
        frame: The rows.
        roles: Names the prediction.
        task: ``regression``, or ``unknown`` where the numbers could be classes.
        pilot: A number near the predictions: deviations are taken from it, so that no digits are lost
            where the spread is small against the mean.
        known: Of data in one group the moments ``gid n sum_w mean m2``, where another pass has them: of the
            cells they take a quarter of the time.
    """
    assert roles.prediction is not None  # noqa: S101 -- the caller looked
    value = number(roles, roles.prediction)
    key = number_key(value).fill_null(BAD)
    may_have_fractions = task == "unknown" and not roles.source.schema[roles.prediction].is_integer()
    v = pl.col("v")
    aggregates = [v.min().alias("low"), v.max().alias("high")]
    values = {"v": value}
    if known is None:
        aggregates += deviations("", is_weighted=roles.weight is not None)
        values["d"] = value - pilot
    if may_have_fractions:
        aggregates.append((v != v.floor()).sum().cast(pl.Int64).alias("fractions"))
    groups = by_cell(aggregate(frame, roles, key, values, aggregates))
    usable = groups.usable
    if known is None:
        moments = [moment_rows(usable, "prediction", "", pilot=pilot)]
    else:
        ends = usable.group_by("gid").agg(pl.col("low").min(), pl.col("high").max())
        moments = [known.join(ends, on="gid").with_columns(of=pl.lit("prediction"))]
    if may_have_fractions:
        moments.append(
            usable.group_by("gid").agg(n=pl.col("fractions").sum()).with_columns(of=pl.lit("fractions"))
        )
    if task == "unknown" and may_have_fractions and usable["fractions"].sum() > 0:
        task = "regression"
    cells = cell_table(usable)
    return groups.states(
        groups.counts(),
        column=roles.name,
        task=task,
        state="numbers",
        res=NUMBER_RESOLUTION,
        params=json.dumps({}),
        cells=cells,
        ties=cells,
        moments=pl.concat(moments, how="diagonal"),
    )


def deviations(suffix: str, *, is_weighted: bool) -> list[pl.Expr]:
    """Return mean and M2 of the column ``d<suffix>`` of each group."""
    d = pl.col(f"d{suffix}")
    if not is_weighted:
        return [
            d.mean().alias(f"mean{suffix}"),
            (d.var(ddof=0) * pl.len()).alias(f"m2{suffix}"),
        ]
    w = pl.col("w")
    mean = (w * d).sum() / w.sum()
    return [mean.alias(f"mean{suffix}"), ((w * d * d).sum() - w.sum() * mean * mean).alias(f"m2{suffix}")]


def moment_rows(usable: pl.DataFrame, of: str, suffix: str, *, pilot: float) -> pl.DataFrame:
    """Return the moments of each ``gid``, merged over its cells, as rows of ``moments``."""
    mean, m2 = pl.col(f"mean{suffix}"), pl.col(f"m2{suffix}")
    has_weights = "sum_w" in usable.columns
    weight = pl.col("sum_w") if has_weights else pl.col("n").cast(pl.Float64)
    if has_weights:
        # Rows without weight have no mean, and are rows all the same.
        usable = usable.with_columns(pl.when(weight > 0).then(mean), pl.when(weight > 0).then(m2))
    common = pl.when(weight.sum() > 0).then((weight * mean).sum() / weight.sum())
    usable = usable.with_columns(common=common.over("gid"))
    deviation = mean - pl.col("common")
    ranges = [pl.col("low").min(), pl.col("high").max()] if "low" in usable.columns else []
    merged = usable.group_by("gid").agg(
        pl.col("n").sum(),
        *([pl.col("sum_w").sum()] if has_weights else []),
        (pl.col("common").first() + pilot).alias("mean"),
        pl.when(pl.col("common").first().is_not_null())
        .then((m2 + weight * deviation * deviation).sum())
        .alias("m2"),
        *ranges,
    )
    return merged.with_columns(of=pl.lit(of))
