"""Numbers from the state ``scores``: a binary task with scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from metrics_lake.predictions.curves import cell_edges
from metrics_lake.predictions.curves_binary import average_precision, by_cell, ks, roc_auc
from metrics_lake.predictions.exact import exact_values
from metrics_lake.predictions.families.confusion import binary_rows, confusion_rows
from metrics_lake.predictions.families.numbers_final import quantile_rows
from metrics_lake.predictions.families.scores import BINS, log_loss_of
from metrics_lake.predictions.intervals import normal, quantile_of_normal
from metrics_lake.predictions.rows import counted, distribution, labelled, out
from metrics_lake.predictions.runs import mass

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.options import Options
    from metrics_lake.predictions.rows import Measure, Values

__all__ = ["calibration", "class_texts", "curve_rows", "finalise"]

_ONE_CLASS = "the truth has one class only"


def finalise(state: Long, options: Options) -> list[Measure]:
    """Return the rows of binary scores: distribution, decisions, ranking, loss and calibration."""
    calib = state.calib.with_columns(mass=mass())
    cells, known = cell_edges(state, is_score=True), by_cell(state)
    rows = [*counted(state), *labelled(state)]
    rows += _score_rows(state, calib, cells)
    rows += _decisions(state, calib, options)
    rows += curve_rows(known, options, exact_values(state))
    rows += calibration(calib, options, _loss_spread(known, cells))
    return rows


def _score_rows(state: Long, calib: pl.DataFrame, cells: pl.DataFrame) -> list[Measure]:
    moments = state.moments.filter(pl.col("of") == "score").with_columns(mass=mass())
    sure = pl.when(pl.col("bin") >= BINS // 2).then("sum_s").otherwise(pl.col("mass") - pl.col("sum_s"))
    confidence = calib.group_by("gid").agg(value=sure.sum() / pl.col("mass").sum(), n=pl.col("n").sum())
    return [
        out(moments, "score_mean", pl.col("sum") / pl.col("mass"), n="n"),
        out(moments, "score_min", "low", n="n"),
        out(moments, "score_max", "high", n="n"),
        out(confidence, "mean_confidence", "value", n="n", method="mean of max(s, 1 - s)"),
        quantile_rows(cells, "score_"),
    ]


def class_texts(params: dict[str, Any]) -> tuple[str, str]:
    """Return the texts of the negative and the positive class."""
    if params["label_kind"] == "null" and "labels" not in params:
        return "false", "true"
    positive = params["pos_label"]
    known = params.get("labels") or params.get("seen_labels", [])
    others = [label for label in known if label != positive]
    return (others[0] if others else f"not {positive}"), positive


def _decisions(state: Long, calib: pl.DataFrame, options: Options) -> list[Measure]:
    """Return the rows of every threshold; the states of one call may have been built with different ones."""
    rows: list[Measure] = []
    for text in state.head["params"].unique().sort():
        params = json.loads(text)
        gids = state.head.filter(pl.col("params") == text).select("gid")
        own = calib.join(gids, on="gid", how="semi")
        negative, positive = class_texts(params)
        if params["decision"] == "prediction":
            levels = [(1, "", True)]
        else:
            given = params["thresholds"]
            levels = [
                (i + 1, f"@{_short(value)}", value == params["threshold"]) for i, value in enumerate(given)
            ]
        for level, suffix, is_first in levels:
            is_positive = pl.col("yhat") >= level
            if is_first:
                rows += _decided(own, is_positive, negative, positive, options)
            if len(levels) > 1:
                rows += binary_rows(_four(own, is_positive), options, suffix)
    return rows


def _short(value: float) -> str:
    """Return a number as short as it can be written without becoming another one."""
    return short if float(short := f"{value:g}") == value else repr(float(value))


def _four(calib: pl.DataFrame, is_positive: pl.Expr) -> pl.DataFrame:
    true = pl.col("y") == 1
    weight = pl.col("mass")
    return calib.filter(pl.col("y").is_not_null()).group_by("gid").agg(
        tp=weight.filter(is_positive & true).sum(),
        fp=weight.filter(is_positive & ~true).sum(),
        fn=weight.filter(~is_positive & true).sum(),
        tn=weight.filter(~is_positive & ~true).sum(),
        rows=pl.col("n").sum(),
    )  # fmt: skip


def _decided(
    calib: pl.DataFrame, is_positive: pl.Expr, negative: str, positive: str, options: Options
) -> list[Measure]:
    named = calib.with_columns(
        pred=pl.when(is_positive).then(pl.lit(positive)).otherwise(pl.lit(negative)),
        truth=pl.when(pl.col("y") == 1).then(pl.lit(positive)).when(pl.col("y") == 0).then(pl.lit(negative)),
    )
    sums = [pl.col("n").sum(), pl.col("mass").sum()]
    rows = distribution(named.group_by("gid", "pred", maintain_order=True).agg(sums))
    rows += binary_rows(_four(calib, is_positive), options)
    table = named.filter(pl.col("truth").is_not_null()).group_by("gid", "truth", "pred").agg(sums)
    rows.append(confusion_rows(table.sort("gid", "truth", "pred"), pl.col("n").sum().over("gid")))
    return rows


def curve_rows(
    cells: pl.DataFrame, options: Options, exact: Values, label: str | None = None
) -> list[Measure]:
    """Return ROC AUC with DeLong's interval, Gini, KS and average precision, of one class on request."""
    extra: dict[str, Any] = {} if label is None else {"label": pl.lit(label)}
    auc = exact.into(roc_auc(cells), "roc_auc").with_columns(
        half=quantile_of_normal(options.confidence) * pl.col("variance").clip(0.0).sqrt()
    )
    low, high = (pl.col("value") - pl.col("half")).clip(0, 1), (pl.col("value") + pl.col("half")).clip(0, 1)
    method = exact.method(
        pl.when(pl.col("variance").is_not_null()).then(pl.lit("cells, DeLong")).otherwise(pl.lit("cells"))
    )
    rows = [
        out(
            auc, "roc_auc", "value", n="n", bound="bound", low=low, high=high, method=method,
            reason=_ONE_CLASS, **extra,
        )
    ]  # fmt: skip
    if label is None:
        rows.append(
            out(
                auc, "gini", 2 * pl.col("value") - 1, n="n", bound=2 * pl.col("bound"), low=2 * low - 1,
                high=2 * high - 1, method=method, reason=_ONE_CLASS,
            )
        )  # fmt: skip
        if options.wants("ks"):
            rows.append(
                out(ks(cells), "ks", pl.col("value"), n="n", bound="bound", method="cells", reason=_ONE_CLASS)
            )
    if not options.wants("average_precision"):
        return rows
    bound = pl.max_horizontal(pl.col("most") - pl.col("value"), pl.col("value") - pl.col("least"), 0.0)
    precision = exact.into(average_precision(cells).with_columns(bound=bound), "average_precision")
    rows.append(
        out(
            precision, "average_precision", "value", n="n", bound="bound",
            method=exact.method(pl.lit("cells")), reason="the truth has no positives", **extra,
        )
    )  # fmt: skip
    return rows


def _loss_spread(known: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """Return the mean square of the log loss: of cells at their middle, which is enough for an interval."""
    middle = (pl.col("lower") + pl.col("upper")) / 2
    places = cells.select("place", loss1=log_loss_of(middle), loss0=log_loss_of(1.0 - middle))
    loss1, loss0 = pl.col("loss1"), pl.col("loss0")
    rows1, rows0 = (pl.col(name).cast(pl.Float64) for name in ("c1", "c0"))
    rows = (rows1 + rows0).sum()
    return known.join(places, on="place", how="left", maintain_order="left").group_by("gid").agg(
        ll2=(rows1 * loss1 * loss1 + rows0 * loss0 * loss0).sum() / rows,
        middle_ll=(rows1 * loss1 + rows0 * loss0).sum() / rows,
    )  # fmt: skip


def calibration(calib: pl.DataFrame, options: Options, spread: pl.DataFrame | None = None) -> list[Measure]:
    """Return log loss, Brier score and the expected and maximum calibration error of rows with a truth.

    Args:
        calib: The calibration bins.
        options: Confidence and bins.
        spread: ``gid ll2 middle_ll``: for the interval of the log loss.
    """
    known = calib.filter(pl.col("y").is_not_null())
    weight = pl.col("mass").sum()
    loss = known.group_by("gid").agg(
        ll=pl.col("sum_ll").sum() / weight,
        brier=pl.col("sum_se").sum() / weight,
        n=pl.col("n").sum(),
        weighted=pl.col("sum_w").is_not_null().any(),
    )
    if spread is None:
        spread = pl.DataFrame(schema={"gid": pl.Int64, "ll2": pl.Float64, "middle_ll": pl.Float64})
    loss = loss.join(spread, on="gid", how="left")
    variance = pl.col("ll2") - pl.col("middle_ll") ** 2
    low, high = normal(pl.col("ll"), variance, pl.col("n"), options.confidence, least=0.0)
    plain = ~pl.col("weighted")
    wide = known.with_columns(wide=pl.col("bin") * options.bins // BINS)
    bins = wide.group_by("gid", "wide", maintain_order=True).agg(
        gap=(pl.col("sum_s").sum() - pl.col("mass").filter(pl.col("y") == 1).sum()).abs(),
        mass=weight,
        n=pl.col("n").sum(),
    )  # fmt: skip
    errors = bins.group_by("gid").agg(
        ece=pl.col("gap").sum() / weight,
        mce=(pl.col("gap") / pl.col("mass")).filter(pl.col("mass") > 0).max(),
        n=pl.col("n").sum(),
    )
    method = f"{options.bins} equal bins"
    return [
        out(
            loss, "log_loss", "ll", n="n", low=pl.when(plain).then(low),
            high=pl.when(plain).then(high), method="nats, clipped at 2^-52",
        ),
        out(loss, "brier", "brier", n="n"),
        out(errors, "ece", "ece", n="n", method=method),
        out(errors, "mce", "mce", n="n", method=method),
    ]  # fmt: skip
