"""Numbers with a truth: residuals, their cells and the sums behind every error measure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.predictions.cells import NUMBER_RESOLUTION, number_cell
from metrics_lake.predictions.families.numbers import (
    CELL_OFFSET,
    cell_tables,
    deviations,
    moment_rows,
    usable_key,
)
from metrics_lake.predictions.grouping import aggregate, number

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles

__all__ = ["TINY", "build"]

TINY: Final = 2.0**-52
"""Relative errors leave out rows whose truth is at most this in magnitude."""

_NO_TRUTH: Final = 1 << 40


def build(frame: pl.LazyFrame, roles: Roles, *, pilot: float = 0.0) -> Long:
    """Return the state ``residuals``: prediction less truth, over the rows that have both.

    Sums are kept by name: ``abs`` and ``sq`` of the residual, ``ape`` (relative to the truth), ``sape``
    (relative to the mean magnitude), ``abs_truth``; moments of the ``truth``, the ``predicted`` and the
    ``residual``.
    """
    assert roles.prediction is not None  # noqa: S101 -- the caller looked
    assert roles.truth is not None  # noqa: S101 -- the caller looked
    predicted, truth = number(roles, roles.prediction), number(roles, roles.truth)
    residual = predicted - truth
    has_truth = (
        pl.when(truth.is_finite())
        .then(number_cell(residual) + CELL_OFFSET)
        .when(truth.is_null())
        .then(_NO_TRUTH)
        .when(truth.is_nan())
        .then(_NO_TRUTH + 1)
        .otherwise(_NO_TRUTH + 2)
    )
    is_weighted = roles.weight is not None
    r, size = pl.col("r"), pl.col("t").abs()

    def times(value: pl.Expr) -> pl.Expr:
        # The weight by its name in this pass's frame, not in the data.
        return value * pl.col("w") if is_weighted else value

    both = size + pl.col("p").abs()
    relative = pl.when(size > TINY).then(r.abs() / size)
    aggregates = [
        r.min().alias("low"),
        r.max().alias("high"),
        pl.col("t").min().alias("low_t"),
        pl.col("t").max().alias("high_t"),
        times(r.abs()).sum().alias("abs"),
        times(r * r).sum().alias("sq"),
        times(relative).sum().alias("ape"),
        (size > TINY).sum().cast(pl.Int64).alias("ape_n"),
        times(pl.when(both > 0).then(2.0 * r.abs() / both).otherwise(0.0)).sum().alias("sape"),
        times(size).sum().alias("abs_truth"),
        *deviations("_r", is_weighted=is_weighted),
        *deviations("_t", is_weighted=is_weighted),
        *deviations("_p", is_weighted=is_weighted),
    ]
    if is_weighted:
        aggregates.append(pl.when(size > TINY).then("w").sum().alias("ape_w"))
    values = {
        "r": residual, "t": truth, "p": predicted,
        "d_r": residual, "d_t": truth - pilot, "d_p": predicted - pilot,
    }  # fmt: skip
    groups = aggregate(frame, roles, usable_key(predicted, has_truth), values, aggregates)
    counts = groups.counts(
        {name: pl.col("k") == _NO_TRUTH + code for code, name in enumerate(("null", "nan", "inf"))}
    )
    usable = groups.usable.filter(pl.col("k") < _NO_TRUTH).with_columns(cell=pl.col("k") - CELL_OFFSET)
    cells, ties = cell_tables(usable)
    moments = [
        moment_rows(usable, "residual", "_r", pilot=0.0),
        moment_rows(
            usable.drop("low", "high").rename({"low_t": "low", "high_t": "high"}), "truth", "_t", pilot=pilot
        ),
        moment_rows(usable.drop("low", "high"), "predicted", "_p", pilot=pilot),
    ]
    weights = [pl.col("sum_w").sum()] if is_weighted else []
    for name in ("abs", "sq", "sape", "abs_truth"):
        total = usable.group_by("gid").agg(pl.col("n").sum(), *weights, pl.col(name).sum().alias("sum"))
        moments.append(total.with_columns(of=pl.lit(name)))
    heavy = [pl.col("ape_w").sum().alias("sum_w")] if is_weighted else []
    relative_sum = usable.group_by("gid").agg(
        pl.col("ape_n").sum().alias("n"), *heavy, pl.col("ape").sum().alias("sum")
    )
    moments.append(relative_sum.with_columns(of=pl.lit("ape")))
    return groups.states(
        counts,
        column=roles.name,
        task="regression",
        state="residuals",
        res=NUMBER_RESOLUTION,
        params=json.dumps({}),
        cells=cells,
        ties=ties,
        moments=pl.concat(moments, how="diagonal"),
    )
