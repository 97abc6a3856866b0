"""Numbers with a truth: residuals, their cells and the sums behind every error measure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.predictions.cells import NUMBER_RESOLUTION, cell_of_key, number_key
from metrics_lake.predictions.families.numbers import by_cell, deviations, moment_rows
from metrics_lake.predictions.grouping import BAD, aggregate, number
from metrics_lake.predictions.long_tables import EXCLUDED
from metrics_lake.predictions.runs import cell_table

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles

__all__ = ["TINY", "build", "moments_of_all"]

TINY: Final = 2.0**-52
"""Relative errors leave out rows whose truth is at most this in magnitude."""

_NO_TRUTH: Final = {"null": 1, "nan": 2, "inf": 3}


def build(frame: pl.LazyFrame, roles: Roles, *, pilot: float = 0.0) -> Long:
    """Return the state ``residuals``: prediction less truth, over the rows that have both.

    Sums are kept by name: ``abs`` and ``sq`` of the residual, ``ape`` (relative to the truth), ``sape``
    (relative to the mean magnitude), ``abs_truth``; moments of the ``truth``, the ``predicted`` and the
    ``residual``.
    """
    assert roles.prediction is not None  # noqa: S101 -- the caller looked
    assert roles.truth is not None  # noqa: S101 -- the caller looked
    predicted, truth = number(roles, roles.prediction), number(roles, roles.truth)
    has_both = (predicted.is_finite() & truth.is_finite()).fill_null(value=False)
    residual = predicted - truth
    status = (
        pl.when(has_both)
        .then(0)
        .when(~predicted.is_finite().fill_null(value=False))
        .then(BAD)
        .when(truth.is_null())
        .then(_NO_TRUTH["null"])
        .when(truth.is_nan())
        .then(_NO_TRUTH["nan"])
        .otherwise(_NO_TRUTH["inf"])
        .cast(pl.Int64)
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
    # Sums by segment and cells by value are two passes: 17 sums for each of thousands of cells cost more
    # than twice as much (10 M rows: 516 ms of CPU in one, 290 in two).
    codes = (0, *_NO_TRUTH.values(), BAD)
    groups = aggregate(frame, roles, status, values, aggregates, codes=codes)
    counts = groups.counts({name: pl.col("k") == code for name, code in _NO_TRUTH.items()})
    usable = groups.rows.filter(pl.col("k") == 0)
    ends = [r.min().alias("low"), r.max().alias("high")]
    of_cells = by_cell(
        aggregate(frame, roles, number_key(residual).fill_null(BAD), {"r": residual}, ends)
    ).usable
    if of_cells["n"].sum() != usable["n"].sum():
        # A residual of finite numbers overflowed, and infinity is a cell.
        both = number_key(pl.when(has_both).then(residual)).fill_null(BAD)
        of_cells = aggregate(frame, roles, both, {"r": residual}, ends).usable
        of_cells = of_cells.with_columns(cell=cell_of_key(pl.col("k")))
    cells = cell_table(of_cells)
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
        ties=cells,
        moments=pl.concat(moments, how="diagonal"),
    )


def moments_of_all(state: Long) -> pl.DataFrame | None:
    """Return the moments of the predictions, ``gid n sum_w mean m2``, if they are those of all rows.

    None where there are segments or windows, or a row that has not both numbers.
    """
    excluded = state.head.select(pl.sum_horizontal(*EXCLUDED).sum()).item()
    if state.head.height != 1 or excluded:
        return None
    rows = state.moments.filter(pl.col("of") == "predicted")
    return rows.select("gid", "n", "sum_w", "mean", "m2")
