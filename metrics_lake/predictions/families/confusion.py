"""Measures of decisions: from the four counts of a binary task, and from a table of several classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from metrics_lake.predictions.intervals import wilson
from metrics_lake.predictions.rows import out

if TYPE_CHECKING:
    from metrics_lake.predictions.options import Options
    from metrics_lake.predictions.rows import Measure

__all__ = ["binary_rows", "confusion_rows", "multiclass_rows"]


def binary_rows(counts: pl.DataFrame, options: Options, suffix: str = "") -> list[Measure]:
    """Return the measures of binary decisions.

    Args:
        counts: ``gid tp fp fn tn`` as masses, and as rows ``rows`` (all with a truth and a decision).
        options: Confidence and ``zero_division``.
        suffix: Behind each name, such as ``@0.3``.
    """
    tp, fp, fn, tn = (pl.col(name) for name in ("tp", "fp", "fn", "tn"))
    counts = counts.filter(pl.col("rows") > 0)
    total = tp + fp + fn + tn
    pairs = {
        "accuracy": (tp + tn, total),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "specificity": (tn, tn + fp),
    }
    rows = []
    for name, (part, whole) in pairs.items():
        low, high = wilson(part / whole, whole, options.confidence)
        rows.append(_ratio(counts, name + suffix, part, whole, options, low=low, high=high, method="Wilson"))
    rows.append(_ratio(counts, "f1" + suffix, 2 * tp, 2 * tp + fp + fn, options))
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    rows.append(
        out(
            counts,
            "balanced_accuracy" + suffix,
            (recall + specificity) / 2,
            n="rows",
            reason="the truth has one class only",
        )
    )
    # By factors: their product overflows no double, and of integers it would.
    scale = (tp + fp).sqrt() * (tp + fn).sqrt() * (tn + fp).sqrt() * (tn + fn).sqrt()
    mcc = pl.when(scale > 0).then((tp * tn - fp * fn) / scale).otherwise(0.0)
    rows.append(out(counts, "mcc" + suffix, mcc, n="rows"))
    chance = ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / total
    rows.append(
        out(
            counts,
            "kappa" + suffix,
            (tp + tn - chance) / (total - chance),
            n="rows",
            reason="truth and predictions have one and the same class",
        )
    )
    return rows


def _ratio(
    counts: pl.DataFrame, name: str, part: pl.Expr, whole: pl.Expr, options: Options, **columns: Any
) -> Measure:
    value = pl.when(whole > 0).then(part / whole).otherwise(options.zero_division)
    method = pl.lit(columns.pop("method", None), dtype=pl.String)
    return out(
        counts,
        name,
        value,
        n="rows",
        reason="its denominator is 0",
        method=pl.when(whole > 0).then(method).otherwise(pl.lit("zero_division")),
        **{end: pl.when(whole > 0).then(column) for end, column in columns.items()},
    )


def confusion_rows(confusion: pl.DataFrame, total: pl.Expr) -> Measure:
    """Return the table of rows by (true, predicted) class; ``label`` is the JSON list of the two."""
    labels = [
        json.dumps([truth, pred], ensure_ascii=False)
        for truth, pred in confusion.select("truth", "pred").iter_rows()
    ]
    frame = confusion.with_columns(pl.Series("pair", labels, dtype=pl.String), total=total)
    return out(frame, "confusion", "mass", label="pair", n="total")


def multiclass_rows(confusion: pl.DataFrame, options: Options) -> list[Measure]:
    """Return the measures of decisions among several classes.

    Classes are those that occur as truth or prediction of rows with a truth, as in scikit-learn. The bare
    name is the macro mean.

    Args:
        confusion: ``gid truth pred n mass``, all with a truth.
        options: Confidence and ``zero_division``.
    """
    mass = pl.col("mass")
    hits = confusion.filter(pl.col("truth") == pl.col("pred"))
    by_truth = confusion.group_by("gid", "truth").agg(true=mass.sum()).rename({"truth": "label"})
    by_pred = confusion.group_by("gid", "pred").agg(found=mass.sum()).rename({"pred": "label"})
    right = hits.select("gid", label="truth", right="mass")
    labels = pl.concat([by_truth.select("gid", "label"), by_pred.select("gid", "label")]).unique()
    table = labels
    for part in (by_truth, by_pred, right):
        table = table.join(part, on=["gid", "label"], how="left")
    table = table.with_columns(pl.col("true", "found", "right").fill_null(0.0)).sort("gid", "label")
    totals = confusion.group_by("gid").agg(total=mass.sum(), rows=pl.col("n").sum())
    table = table.join(totals, on="gid")
    zero = options.zero_division

    def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
        return pl.when(whole > 0).then(part / whole).otherwise(zero)

    hit, true, found = pl.col("right"), pl.col("true"), pl.col("found")
    table = table.with_columns(
        precision=ratio(hit, found), recall=ratio(hit, true), f1=ratio(2 * hit, true + found)
    )
    rows = []
    names = ("precision", "recall", "f1")
    # A class without truth has no recall: it is no part of the balanced accuracy.
    recall = pl.when(true > 0).then(hit / true)
    total = pl.col("total").first()
    summary = table.group_by("gid").agg(
        *(pl.when(pl.col(name).null_count() == 0).then(pl.col(name).mean()).alias(name) for name in names),
        *(((pl.col(name).fill_null(0.0) * true).sum() / total).alias(f"{name}_weighted") for name in names),
        right=hit.sum(),
        total=total,
        rows=pl.col("rows").first(),
        balanced=recall.mean(),
        chance=(true * found).sum(),
        squares_true=(true * true).sum(),
        squares_found=(found * found).sum(),
    )
    share = pl.col("right") / pl.col("total")
    low, high = wilson(share, pl.col("total"), options.confidence)
    rows.append(out(summary, "accuracy", share, n="rows", low=low, high=high, method="Wilson"))
    rows.append(out(summary, "balanced_accuracy", "balanced", n="rows"))
    undefined = "a class has a denominator of 0"
    for name in names:
        rows += [
            out(summary, name, name, n="rows", method="macro", reason=undefined),
            out(summary, f"{name}_weighted", f"{name}_weighted", n="rows", method="by true class"),
            # Each row has one label: micro precision, recall and F1 are all the accuracy.
            out(summary, f"{name}_micro", share, n="rows", method="micro"),
        ]
    total_, chance = pl.col("total"), pl.col("chance")
    spread = (total_ * total_ - pl.col("squares_found")).sqrt() * (
        total_ * total_ - pl.col("squares_true")
    ).sqrt()
    mcc = pl.when(spread > 0).then((pl.col("right") * total_ - chance) / spread).otherwise(0.0)
    rows.append(out(summary, "mcc", mcc, n="rows"))
    expected = chance / total_
    rows.append(
        out(
            summary, "kappa", (pl.col("right") - expected) / (total_ - expected), n="rows",
            reason="truth and predictions have one and the same class",
        )
    )  # fmt: skip
    rows += [
        out(table, name, name, label="label", n="rows", method="of one class", reason=undefined)
        for name in names
    ]
    return rows
