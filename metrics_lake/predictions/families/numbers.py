"""Real numbers without a truth: distribution, moments, quantiles; and the shared passes of a regression."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.predictions.cells import NUMBER_RESOLUTION, number_cell
from metrics_lake.predictions.grouping import BAD, aggregate, number

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles

__all__ = ["CELL_OFFSET", "build", "cell_tables", "deviations", "moment_rows", "usable_key"]

CELL_OFFSET: Final = 1 << 18
"""Added to a number's cell in the key, which is not negative."""


def usable_key(value: pl.Expr, packed: pl.Expr) -> pl.Expr:
    """Return the packed key where the value is finite, else the code of why it cannot be used."""
    return (
        pl.when(value.is_finite())
        .then(packed)
        .when(value.is_null())
        .then(BAD)
        .when(value.is_nan())
        .then(BAD + 1)
        .otherwise(BAD + 2)
    )


def build(frame: pl.LazyFrame, roles: Roles, *, task: str, pilot: float = 0.0) -> Long:
    """Return the state ``numbers`` of the prediction column: cells, ties, moments, how many are no integer.

    Args:
        frame: The rows.
        roles: Names the prediction.
        task: ``regression``, or ``unknown`` where the numbers could be classes.
        pilot: A number near the predictions: deviations are taken from it, so that no digits are lost
            where the spread is small against the mean.
    """
    assert roles.prediction is not None  # noqa: S101 -- the caller looked
    value = number(roles, roles.prediction)
    key = usable_key(value, number_cell(value) + CELL_OFFSET)
    may_have_fractions = not roles.source.schema[roles.prediction].is_integer()
    v = pl.col("v")
    aggregates = [*deviations("", is_weighted=roles.weight is not None)]
    aggregates += [v.min().alias("low"), v.max().alias("high")]
    values = {"v": value, "d": value - pilot}
    if may_have_fractions:
        aggregates.append((v != v.floor()).sum().cast(pl.Int64).alias("fractions"))
    groups = aggregate(frame, roles, key, values, aggregates)
    usable = groups.usable.with_columns(cell=pl.col("k") - CELL_OFFSET)
    moments = [moment_rows(usable, "prediction", "", pilot=pilot)]
    if may_have_fractions:
        moments.append(
            usable.group_by("gid").agg(n=pl.col("fractions").sum()).with_columns(of=pl.lit("fractions"))
        )
    if task == "unknown" and may_have_fractions and usable["fractions"].sum() > 0:
        task = "regression"
    cells, ties = cell_tables(usable)
    return groups.states(
        groups.counts(),
        column=roles.name,
        task=task,
        state="numbers",
        res=NUMBER_RESOLUTION,
        params=json.dumps({}),
        cells=cells,
        ties=ties,
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
    usable = usable.filter(weight > 0)
    usable = usable.with_columns(common=((weight * mean).sum() / weight.sum()).over("gid"))
    deviation = mean - pl.col("common")
    ranges = [pl.col("low").min(), pl.col("high").max()] if "low" in usable.columns else []
    merged = usable.group_by("gid").agg(
        pl.col("n").sum(),
        *([pl.col("sum_w").sum()] if has_weights else []),
        (pl.col("common").first() + pilot).alias("mean"),
        (m2 + weight * deviation * deviation).sum().alias("m2"),
        *ranges,
    )
    return merged.with_columns(of=pl.lit(of))


def cell_tables(usable: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return ``cells`` and ``ties`` from the columns ``gid cell n low high`` (and ``sum_w``)."""
    sums = [pl.col("n").sum(), *([pl.col("sum_w").sum()] if "sum_w" in usable.columns else [])]
    cells = usable.group_by("gid", "cell").agg(sums)
    ties = usable.group_by("gid", "cell").agg(low=pl.col("low").min(), high=pl.col("high").max())
    return cells, ties.with_columns(value=pl.when(pl.col("low") == pl.col("high")).then("low"))
