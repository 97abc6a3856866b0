"""Numbers from the states ``labels`` and ``class_scores``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.predictions.curves_binary import average_precision, by_cell, roc_auc
from metrics_lake.predictions.exact import exact_values
from metrics_lake.predictions.families.confusion import binary_rows, confusion_rows, multiclass_rows
from metrics_lake.predictions.families.scores_final import calibration, curve_rows
from metrics_lake.predictions.rows import counted, distribution, labelled, out
from metrics_lake.predictions.runs import mass

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.options import Options
    from metrics_lake.predictions.rows import Measure

__all__ = ["finalise", "finalise_classes"]


def finalise(state: Long, options: Options) -> list[Measure]:
    """Return the rows of predicted labels, of two classes or of several."""
    confusion = state.confusion.with_columns(mass=mass())
    rows = [*counted(state), *labelled(state)]
    if confusion["truth"].null_count() == confusion.height:
        rows += distribution(confusion)  # each class has one row
    else:
        sums = [pl.col("n").sum(), pl.col("mass").sum()]
        rows += distribution(confusion.group_by("gid", "pred", maintain_order=True).agg(sums))
        known = confusion.filter(pl.col("truth").is_not_null()).sort("gid", "truth", "pred")
        rows += _decisions(state, known, options)
    if state.calib.height:
        calib = state.calib.with_columns(mass=mass())
        rows += _confidence(state, calib)
        rows += calibration(calib, options)
    return rows


def _decisions(state: Long, known: pl.DataFrame, options: Options) -> list[Measure]:
    """Return what decisions were worth, of the rows that have a truth."""
    rows: list[Measure] = []
    binary = state.head.filter(pl.col("task") == "binary")
    if binary.height:
        positives = pl.Series(
            "pos", [json.loads(text)["pos_label"] for text in binary["params"]], dtype=pl.String
        )
        own = known.join(binary.select("gid", positives), on="gid")
        true, found = pl.col("truth") == pl.col("pos"), pl.col("pred") == pl.col("pos")
        weight = pl.col("mass")
        four = own.group_by("gid").agg(
            tp=weight.filter(found & true).sum(),
            fp=weight.filter(found & ~true).sum(),
            fn=weight.filter(~found & true).sum(),
            tn=weight.filter(~found & ~true).sum(),
            rows=pl.col("n").sum(),
        )
        rows += binary_rows(four, options)
    several = known.join(binary, on="gid", how="anti")
    if several.height:
        rows += multiclass_rows(several, options)
    rows.append(confusion_rows(known, pl.col("n").sum().over("gid")))
    return rows


def _confidence(state: Long, calib: pl.DataFrame) -> list[Measure]:
    mean = calib.group_by("gid").agg(value=pl.col("sum_s").sum() / pl.col("mass").sum(), n=pl.col("n").sum())
    off = state.moments.filter(pl.col("of") == "not_normalised")
    return [
        out(mean, "mean_confidence", "value", n="n", method="mean of the greatest score"),
        out(off, "num_not_normalised", "n", method="scores whose sum is not 1 within 1e-6"),
    ]


def finalise_classes(state: Long, options: Options) -> list[Measure]:
    """Return one-versus-rest ROC AUC and average precision: of each class, and their macro means."""
    if not state.head["truth_null"].is_not_null().any():
        return []
    labels = pl.Series("label", [json.loads(text)["label"] for text in state.head["params"]], dtype=pl.String)
    unit = ["resource", "segment_key", "window_start", "window_end"]
    heads = state.head.select("gid", *unit, labels, labelled=pl.col("truth_null"))
    heads = heads.with_columns(common=pl.col("gid").min().over(unit))
    rows = []
    cells, exact = by_cell(state), exact_values(state)
    for label in labels.unique().sort():
        own = cells.join(heads.filter(pl.col("label") == label).select("gid"), on="gid", how="semi")
        rows += curve_rows(own, options, label=label, exact=exact)
    auc, precision = exact.into(roc_auc(cells), "roc_auc"), average_precision(cells)
    auc = auc.with_columns(low=pl.col("value"), share=pl.col("n1").cast(pl.Float64))
    precision = precision.with_columns(
        bound=pl.max_horizontal(pl.col("most") - pl.col("value"), pl.col("value") - pl.col("least"), 0.0)
    ).join(auc.select("gid", "share"), on="gid")
    precision = exact.into(precision, "average_precision")
    for name, frame in (("roc_auc", auc), ("average_precision", precision)):
        together = frame.join(heads, on="gid").group_by("common").agg(
            macro=pl.when(pl.col("value").null_count() == 0).then(pl.col("value").mean()),
            bound=pl.col("bound").mean(),
            weighted=pl.when(pl.col("value").filter(pl.col("share") > 0).null_count() == 0).then(
                (pl.col("value") * pl.col("share")).sum() / pl.col("share").sum()
            ),
            weighted_bound=(pl.col("bound") * pl.col("share")).sum() / pl.col("share").sum(),
            n=pl.col("n").max(),
        ).rename({"common": "gid"})  # fmt: skip
        reason = "a class never occurs in the truth, or always"
        rows += [
            out(together, name, "macro", n="n", bound="bound", method="one versus rest, macro",
                reason=reason,
            ),
            out(
                together, f"{name}_weighted", "weighted", n="n", bound="weighted_bound",
                method="one versus rest, by true class", reason=reason,
            ),
        ]  # fmt: skip
    return rows
