"""Numbers from the state ``residuals``: error measures of a regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.predictions.curves import cell_edges, quantiles
from metrics_lake.predictions.families.numbers_final import quantile_rows
from metrics_lake.predictions.families.regression import TINY
from metrics_lake.predictions.intervals import normal
from metrics_lake.predictions.rows import labelled, out
from metrics_lake.predictions.runs import mass

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.options import Options
    from metrics_lake.predictions.rows import Measure

__all__ = ["finalise"]


def finalise(state: Long, options: Options) -> list[Measure]:
    """Return the rows of residuals (prediction less truth)."""
    rows = labelled(state)
    wide, cells = _wide(state), cell_edges(state, is_score=False)
    n = pl.col("n")
    mae, mse = pl.col("abs_sum") / pl.col("mass"), pl.col("sq_sum") / pl.col("mass")
    plain = ~pl.col("weighted")
    mae_ends = normal(mae, mse - mae * mae, n, options.confidence, least=0.0)
    bias = pl.col("residual_mean")
    bias_ends = normal(bias, pl.col("residual_m2") / pl.col("mass"), n, options.confidence)
    spread = pl.col("truth_m2")
    # As scikit-learn with force_finite: a constant truth is explained wholly, or not at all.
    is_constant = (pl.col("truth_low") == pl.col("truth_high")) | (spread <= 0)
    r2 = (
        pl.when((n < 2) | (pl.col("mass") == 0))
        .then(None)
        .when(is_constant)
        .then(pl.when(pl.col("sq_sum") == 0).then(1.0).otherwise(0.0))
        .otherwise(1.0 - pl.col("sq_sum") / spread)
    )
    explained = (
        pl.when((n < 2) | (pl.col("mass") == 0))
        .then(None)
        .when(is_constant)
        .then(pl.when(pl.col("residual_low") == pl.col("residual_high")).then(1.0).otherwise(0.0))
        .otherwise(1.0 - pl.col("residual_m2") / spread)
    )
    shared = (spread + pl.col("predicted_m2") - pl.col("residual_m2")) / 2
    both = spread.sqrt() * pl.col("predicted_m2").sqrt()
    pearson = pl.when(~is_constant & (both > 0)).then((shared / both).clip(-1.0, 1.0))
    worst = pl.max_horizontal(pl.col("residual_low").abs(), pl.col("residual_high").abs())
    truths = pl.col("abs_truth_sum")
    wape = pl.when(truths > 0).then(pl.col("abs_sum") / truths)
    unexplained = pl.when(n < 2).then(pl.lit("it needs two rows"))
    rows += [
        out(wide, "mae", mae, n="n", **_ends(plain, mae_ends), method="normal interval"),
        out(wide, "mse", mse, n="n"),
        out(wide, "rmse", mse.sqrt(), n="n"),
        out(wide, "r2", r2, n="n", reason=unexplained),
        out(wide, "explained_variance", explained, n="n", reason=unexplained),
        out(wide, "pearson", pearson, n="n", reason="the truth or the prediction is constant"),
        out(wide, "mean_error", bias, n="n", **_ends(plain, bias_ends), method="normal interval"),
        out(wide, "max_error", worst, n="n"),
        out(
            wide, "mape", pl.col("ape_sum") / pl.col("ape_mass"), n="ape_n",
            method=f"rows with |truth| > {TINY:.2g}", reason="every truth is 0",
        ),
        out(wide, "num_tiny_truth", n - pl.col("ape_n"), n="n"),
        out(wide, "smape", pl.col("sape_sum") / pl.col("mass"), n="n", method="in [0, 2]; 0/0 is 0"),
        out(wide, "wape", wape, n="n", reason="every truth is 0"),
        _median_absolute(cells),
        quantile_rows(cells, "residual_"),
    ]  # fmt: skip
    return rows


def _ends(plain: pl.Expr, ends: tuple[pl.Expr, pl.Expr]) -> dict[str, pl.Expr]:
    return {name: pl.when(plain).then(end) for name, end in zip(("low", "high"), ends, strict=True)}


def _wide(state: Long) -> pl.DataFrame:
    """Return one row a state, with the moments as columns ``<of>_<field>``."""
    moments = state.moments
    base = moments.filter(pl.col("of") == "residual").select(
        "gid", "n", mass=mass(), weighted=pl.col("sum_w").is_not_null()
    )
    for of in ("residual", "truth", "predicted"):
        own = moments.filter(pl.col("of") == of).select(
            "gid", *(pl.col(field).alias(f"{of}_{field}") for field in ("mean", "m2", "low", "high"))
        )
        base = base.join(own, on="gid", how="left")
    for of in ("abs", "sq", "ape", "sape", "abs_truth"):
        own = moments.filter(pl.col("of") == of).select(
            "gid", pl.col("sum").alias(f"{of}_sum"), pl.col("n").alias(f"{of}_n"), mass().alias(f"{of}_mass")
        )
        base = base.join(own, on="gid", how="left")
    return base


def _median_absolute(cells: pl.DataFrame) -> Measure:
    """Return the median of the residuals' magnitudes: negative cells are folded onto positive ones."""
    cells = cells.with_columns(
        cell=pl.when(pl.col("cell") < 0).then(-1 - pl.col("cell")).otherwise("cell"),
        lower=pl.when(pl.col("cell") < 0).then(-pl.col("upper")).otherwise("lower"),
        upper=pl.when(pl.col("cell") < 0).then(-pl.col("lower")).otherwise("upper"),
    )
    folded = cells.group_by("gid", "cell").agg(
        pl.col("n").sum(), pl.col("mass").sum(), pl.col("weighted").any(),
        pl.col("lower").min(), pl.col("upper").max(),
    ).sort("gid", "cell")  # fmt: skip
    found = quantiles(folded, {"median_absolute_error": 0.5})
    return out(found, found["metric"], "value", n="n", bound="bound", method="cells")
