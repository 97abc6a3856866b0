"""Histograms read off the cells of states: of scores in bins on cells' edges, of numbers in equal bins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.predictions.curves import cell_edges
from metrics_lake.predictions.families.scores_final import class_texts
from metrics_lake.predictions.intervals import wilson
from metrics_lake.predictions.runs import mass

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long

__all__ = ["SCORE_BINS", "number_histogram", "score_histogram"]

SCORE_BINS: Final = 32
"""Equal bins of a histogram of scores; a power of two, so that the edges are edges of cells."""

_NUMBER_BINS: Final = 40
_OUTSIDE: Final = 0.005  # share of the rows at either end that one bin beyond the equal ones holds


def score_histogram(state: Long, confidence: float) -> pl.DataFrame:
    """Return the density of scores: ``gid label x y low high bound n bin_start bin_end``.

    Of a binary task all rows (a NULL label) and, where a truth is known, the rows of each true class (its
    label), each with an area of 1; of several classes the scores of each class.
    """
    frames = [pl.DataFrame(schema=_BINNED)]
    for kind in ("scores", "class_scores"):
        own = state.filter(pl.col("state") == kind)
        middle = (pl.col("lower") + pl.col("upper")) / 2
        places = cell_edges(own, is_score=True).select(
            "gid", "cell", bin=(middle * SCORE_BINS).floor().clip(0, SCORE_BINS - 1).cast(pl.Int64)
        )
        cells = own.cells.with_columns(mass=mass()).join(places, on=["gid", "cell"])
        cells = cells.join(_texts(own, kind), on="gid")
        if kind == "scores":
            known = cells.filter(pl.col("y").is_not_null())
            known = known.with_columns(label=pl.when(pl.col("y") == 1).then("positive").otherwise("negative"))
            cells = pl.concat([cells, known])
        frames.append(
            cells.group_by("gid", "label", "bin").agg(
                pl.col("n").sum(),
                pl.col("mass").sum(),
                weighted=pl.col("sum_w").is_not_null().any(),
            )
        )
    counts = pl.concat(frames)
    every_bin = pl.DataFrame({"bin": range(SCORE_BINS)}, schema={"bin": pl.Int64})
    units = counts.group_by("gid", "label").agg(
        total=pl.col("mass").sum(), rows=pl.col("n").sum(), weighted=pl.col("weighted").any()
    )
    frame = units.join(every_bin, how="cross").join(
        counts.drop("weighted"), on=["gid", "label", "bin"], how="left", nulls_equal=True
    )
    edges = {
        "bin_start": pl.col("bin") / SCORE_BINS,
        "bin_end": (pl.col("bin") + 1) / SCORE_BINS,
        "bound": pl.lit(0.0),
    }
    return _densities(frame.with_columns(**edges), confidence).sort("gid", "label", "bin_start")


_BINNED: Final = {
    "gid": pl.Int64, "label": pl.String, "bin": pl.Int64, "n": pl.Int64, "mass": pl.Float64,
    "weighted": pl.Boolean,
}  # fmt: skip


def _texts(state: Long, kind: str) -> pl.DataFrame:
    """Return ``gid label negative positive``: the class that a state is about, or its two classes."""
    rows = []
    for gid, text in state.head.select("gid", "params").iter_rows():
        params = json.loads(text)
        negative, positive = class_texts(params) if kind == "scores" else (None, None)
        rows.append((gid, params.get("label"), negative, positive))
    names = ("label", "negative", "positive")
    return pl.DataFrame(rows, {"gid": pl.Int64, **dict.fromkeys(names, pl.String)}, orient="row")


def number_histogram(state: Long, kind: str, confidence: float) -> pl.DataFrame:
    """Return the density of predicted numbers or residuals: ``gid x y low high bound n bin_start bin_end``.

    Equal bins, the same for all states together, no narrower than the widest cell and at most 40, from the
    0.5 % to the 99.5 % quantile; one bin on either side holds what lies beyond. Rows of a cell that an edge
    cuts are spread evenly over it; ``bound`` says how much they could move.
    """
    own = state.filter(pl.col("state") == kind)
    cells = cell_edges(own, is_score=False)
    if not cells.height:
        return pl.DataFrame(schema={"gid": pl.Int64})
    edges = _equal_edges(cells)
    before = cells.with_columns(
        mass_before=(pl.col("mass").cum_sum() - pl.col("mass")).over("gid"),
        n_before=(pl.col("n").cum_sum() - pl.col("n")).over("gid"),
    )
    totals = cells.group_by("gid").agg(
        pl.col("mass").sum().alias("total"),
        pl.col("n").sum().alias("rows"),
        pl.col("lower").min(),
        pl.col("upper").max(),
        weighted=pl.col("weighted").any(),
    )
    places = totals.select("gid").join(pl.DataFrame({"edge": edges}), how="cross").sort("gid", "edge")
    found = places.join_asof(
        before.sort("gid", "lower"), left_on="edge", right_on="lower", by="gid", strategy="backward",
        allow_exact_matches=False, check_sortedness=False,
    )  # fmt: skip
    width = pl.col("upper") - pl.col("lower")
    inside = pl.when(pl.col("edge") >= pl.col("upper")).then(1.0).otherwise(
        (pl.col("edge") - pl.col("lower")) / width
    )  # fmt: skip
    found = found.select(
        "gid", "edge",
        mass_below=(pl.col("mass_before") + inside * pl.col("mass")).fill_null(0.0),
        n_below=(pl.col("n_before") + inside * pl.col("n")).round().cast(pl.Int64).fill_null(0),
        cut=pl.when(inside < 1.0).then("mass").otherwise(0.0).fill_null(0.0),
    )  # fmt: skip
    # All rows lie between two edges that no row is beyond.
    ends = [
        totals.select("gid", edge="lower", mass_below=0.0, n_below=pl.lit(0, pl.Int64), cut=0.0, order=0),
        found.with_columns(order=1),
        totals.select("gid", edge="upper", mass_below="total", n_below="rows", cut=0.0, order=2),
    ]
    frame = pl.concat(ends).sort("gid", "order", "edge").join(
        totals.select("gid", "total", "rows", "weighted"), on="gid", maintain_order="left"
    ).with_columns(
        bin_start=pl.col("edge").shift(1).over("gid"),
        bin_end="edge",
        mass=(pl.col("mass_below") - pl.col("mass_below").shift(1)).over("gid"),
        n=(pl.col("n_below") - pl.col("n_below").shift(1)).over("gid"),
        cut=(pl.col("cut") + pl.col("cut").shift(1)).over("gid"),
        is_outer=(pl.col("order") == 2) | (pl.col("order").shift(1).over("gid") == 0),
    )  # fmt: skip
    frame = frame.filter(pl.col("bin_start").is_not_null(), ~pl.col("is_outer") | (pl.col("mass") > 0))
    bound = pl.col("cut") / pl.col("total") / (pl.col("bin_end") - pl.col("bin_start"))
    return _densities(frame.with_columns(bound=bound), confidence).sort("gid", "bin_start")


def _equal_edges(cells: pl.DataFrame) -> list[float]:
    """Return the edges of equal bins that hold all but the ends of what all states have together."""
    together = cells.sort("lower", "upper").with_columns(
        reached=pl.col("mass").cum_sum() / pl.col("mass").sum()
    )
    low = together.filter(pl.col("reached") >= _OUTSIDE)["lower"][0]
    high = together.filter(pl.col("reached") >= 1 - _OUTSIDE)["upper"].min()
    if not low < high:
        return [low - 0.5, low + 0.5]
    inner = together.filter(pl.col("lower") >= low, pl.col("upper") <= high)
    widest = inner.select((pl.col("upper") - pl.col("lower")).max()).item() or 0.0
    count = _NUMBER_BINS if not widest else int(min(max((high - low) // widest, 1), _NUMBER_BINS))
    step = (high - low) / count
    # The last bin holds its end too: the greatest number is often a round one that many rows have.
    return [*(low + step * i for i in range(count)), high + step * 1e-9]


def _densities(frame: pl.DataFrame, confidence: float) -> pl.DataFrame:
    """Return bins with densities, from ``mass total n rows weighted bin_start bin_end``."""
    width = pl.col("bin_end") - pl.col("bin_start")
    share = pl.col("mass").fill_null(0.0) / pl.col("total")
    low, high = wilson(share, pl.col("rows"), confidence)
    plain = ~pl.col("weighted")
    return frame.filter(pl.col("total") > 0).with_columns(
        x=(pl.col("bin_start") + pl.col("bin_end")) / 2,
        y=share / width,
        low=pl.when(plain).then(low / width),
        high=pl.when(plain).then(high / width),
        n=pl.col("n").fill_null(0),
    )
