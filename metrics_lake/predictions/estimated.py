"""Estimated performance without labels: what the metrics are expected to be if the scores mean what they did.

Confidence-based performance estimation: the reference, whose truth is known, tells how likely the positive
class is at each score; every row then counts as a positive with that weight and as a negative with the rest.
It sees a shift of the scores, not a change of what they mean (concept drift).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.predictions.curves import cell_edges
from metrics_lake.predictions.curves_binary import average_precision, by_cell, roc_auc
from metrics_lake.predictions.families.confusion import binary_rows
from metrics_lake.predictions.families.scores import log_loss_of
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.rollup import rolled_up
from metrics_lake.predictions.rows import Measure, out
from metrics_lake.predictions.runs import mass
from metrics_lake.predictions.state import merge_long

if TYPE_CHECKING:
    from metrics_lake.predictions.options import Options

__all__ = ["ESTIMATED", "estimated_rows"]

ESTIMATED: Final = (
    "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc",
    "roc_auc", "average_precision", "log_loss", "brier",
)  # fmt: skip
"""What is estimated: each has a name of its own, such as ``estimated/roc_auc``."""

_METHOD: Final = "CBPE, calibrated on the reference"


def estimated_rows(state: Long, reference: Long, options: Options) -> list[Measure]:
    """Return the estimates for every state of binary scores; NULL with the reason if nothing can be learnt.

    Args:
        state: Merged states; their truth, if they have one, is not looked at.
        reference: States of one other job or frame. All its rows with a truth calibrate the scores.
        options: ``zero_division``.
    """
    own = state.filter(pl.col("state") == "scores")
    if not own.head.height:
        return []
    total = rolled_up(merge_long(reference), by=None, every=None)
    knots = _calibration(total.filter(pl.col("state") == "scores"))
    if not knots.height:
        return _prefixed(_unknown(own))
    return _prefixed([*_ranking(own, knots), *_decisions(own, knots, options)])


def _prefixed(rows: list[Measure]) -> list[Measure]:
    # The intervals and bounds of counted rows do not hold for expected ones.
    changed = {"low": None, "high": None, "bound": None, "method": _METHOD}
    return [
        Measure(row.frame, {**row.columns, **changed, "metric": f"estimated/{name}"})
        for row in rows
        if (name := row.columns["metric"]) in ESTIMATED
    ]


def _unknown(own: Long) -> list[Measure]:
    return [out(own.head, name, None, reason="the reference has no truth") for name in ESTIMATED]


def _calibration(reference: Long) -> pl.DataFrame:
    """Return how likely the positive class is at some scores: ``at share slope``, ascending.

    The observed shares of the calibration bins, made monotone by pooling adjacent violators.
    """
    known = reference.calib.filter(pl.col("y").is_not_null()).with_columns(mass=mass())
    bins = known.group_by("bin").agg(
        at=pl.col("sum_s").sum() / pl.col("mass").sum(),
        positives=pl.col("mass").filter(pl.col("y") == 1).sum(),
        mass=pl.col("mass").sum(),
    ).filter(pl.col("mass") > 0).sort("at")  # fmt: skip
    blocks: list[tuple[float, float, int]] = []  # positives, mass, bins
    for positives, weight in bins.select("positives", "mass").iter_rows():
        block = (positives, weight, 1)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    shares = [positives / weight for positives, weight, count in blocks for _ in range(count)]
    rise = pl.col("share").diff().shift(-1) / pl.col("at").diff().shift(-1)
    return bins.select("at", share=pl.Series(shares, dtype=pl.Float64)).with_columns(
        slope=rise.fill_null(0.0)
    )


def _likely(frame: pl.DataFrame, knots: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with ``likely``: the share of positives expected at ``score``."""
    found = frame.sort("score", maintain_order=True).join_asof(
        knots, left_on="score", right_on="at", strategy="backward", check_sortedness=False
    )
    line = pl.col("share") + (pl.col("score") - pl.col("at")) * pl.col("slope")
    return found.with_columns(likely=line.fill_null(knots["share"][0])).drop("at", "share", "slope")


def _ranking(own: Long, knots: pl.DataFrame) -> list[Measure]:
    """Return what follows from the scores alone, by their cells."""
    places = cell_edges(own, is_score=True).with_columns(score=(pl.col("lower") + pl.col("upper")) / 2)
    cells = _likely(places, knots)
    likely = pl.col("likely")
    expected = [
        cells.select("gid", "cell", "n", y=pl.lit(y, dtype=pl.Int8), sum_w=pl.col("mass") * weight)
        for y, weight in ((1, likely), (0, 1 - likely))
    ]
    ranked = by_cell(Long.build(own.head, cells=pl.concat(expected), ties=own.ties))
    score = pl.col("score")
    loss = likely * log_loss_of(score) + (1 - likely) * log_loss_of(1 - score)
    error = likely * (1 - score) ** 2 + (1 - likely) * score**2
    sums = cells.group_by("gid").agg(
        loss=(loss * pl.col("mass")).sum() / pl.col("mass").sum(),
        error=(error * pl.col("mass")).sum() / pl.col("mass").sum(),
        n=pl.col("n").sum(),
    )
    count = sums.select("gid", rows="n")
    one_class = "one class only is expected"
    auc = roc_auc(ranked).join(count, on="gid")
    precision = average_precision(ranked).join(count, on="gid")
    return [
        out(auc, "roc_auc", "value", n="rows", reason=one_class),
        out(precision, "average_precision", "value", n="rows", reason=one_class),
        out(sums, "log_loss", "loss", n="n"),
        out(sums, "brier", "error", n="n"),
    ]


def _decisions(own: Long, knots: pl.DataFrame, options: Options) -> list[Measure]:
    """Return what the decisions are worth, of the threshold that names the bare metrics."""
    levels = []
    for gid, text in own.head.select("gid", "params").iter_rows():
        params = json.loads(text)
        is_given = params["decision"] == "prediction"
        levels.append((gid, 1 if is_given else params["thresholds"].index(params["threshold"]) + 1))
    level = pl.DataFrame(levels, {"gid": pl.Int64, "level": pl.Int64}, orient="row")
    bins = own.calib.with_columns(mass=mass()).group_by("gid", "bin", "yhat", maintain_order=True).agg(
        pl.col("n").sum(), pl.col("mass").sum(), pl.col("sum_s").sum()
    ).filter(pl.col("mass") > 0).with_columns(score=pl.col("sum_s") / pl.col("mass"))  # fmt: skip
    expected = _likely(bins, knots).join(level, on="gid")
    positive = pl.col("yhat") >= pl.col("level")
    true, false = pl.col("mass") * pl.col("likely"), pl.col("mass") * (1 - pl.col("likely"))
    four = expected.group_by("gid").agg(
        tp=true.filter(positive).sum(),
        fp=false.filter(positive).sum(),
        fn=true.filter(~positive).sum(),
        tn=false.filter(~positive).sum(),
        rows=pl.col("n").sum(),
    )
    return binary_rows(four, options)
