"""Numbers read off a histogram of cells, each with its proved error bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.predictions.cells import NUMBER_RESOLUTION, SCORE_RESOLUTION, edges
from metrics_lake.predictions.runs import summed, with_ties

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metrics_lake.predictions.long import Long

__all__ = ["cell_edges", "quantiles"]


def cell_edges(state: Long, *, is_score: bool) -> pl.DataFrame:
    """Return one row for each cell: ``gid cell place n mass weighted lower upper value``.

    ``lower`` and ``upper`` enclose the cell's rows; they are equal, and ``value`` is their value, where the
    rows all have one value. Sorted by ``gid`` and ``cell``.
    """
    full = SCORE_RESOLUTION if is_score else NUMBER_RESOLUTION
    levels = state.head["res"].unique()
    cells = with_ties(summed(state.cells, by_truth=False), state.ties)
    dropped = pl.col("dropped")
    if len(levels) == 1:
        dropped = full - pl.lit(levels[0], dtype=pl.Int64)
    else:
        drops = state.head.select("gid", dropped=full - pl.col("res"))
        cells = cells.join(drops, on="gid", how="left", maintain_order="left")
    low, high = edges(pl.col("cell"), dropped, is_score=is_score)
    return cells.with_columns(lower=pl.coalesce("value", low), upper=pl.coalesce("value", high))


def quantiles(cells: pl.DataFrame, qs: Mapping[str, float]) -> pl.DataFrame:
    """Return the quantiles of each ``gid``: columns ``gid metric q value bound n``.

    Unweighted: the linear interpolation between order statistics (numpy's default); the order statistic of
    a rank lies in the rank's cell, so the value is within ``bound``. Weighted: the smallest value at which
    the share of the weight reaches ``q``.

    Args:
        cells: As :func:`cell_edges` returns them, in its order.
        qs: The quantiles, each by the name of its metric.
    """
    schema = {"metric": pl.String, "q": pl.Float64}
    wanted = pl.DataFrame(list(qs.items()), schema, orient="row")
    if not cells["weighted"].any():
        return _interpolated(cells, wanted)
    behind = pl.col("mass").cum_sum().over("gid")
    frame = cells.with_columns(
        behind=behind,
        before=behind - pl.col("mass"),
        total=pl.col("mass").sum().over("gid"),
        size=pl.col("n").sum().over("gid"),
        weighted=pl.col("weighted").any().over("gid"),
    )
    plain, heavy = frame.filter(~pl.col("weighted")), frame.filter("weighted")
    return pl.concat([_interpolated(plain, wanted), _inverted(heavy, wanted)]).sort("gid", "q")


def _interpolated(frame: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    size, first = pl.col("size"), pl.col("first")
    sizes = frame.group_by("gid", maintain_order=True).agg(pl.col("n").sum().alias("size"))
    ranks = sizes.with_columns(first=size.cum_sum() - size).join(wanted, how="cross")
    h = pl.col("q") * (size - 1)
    ranks = ranks.with_columns(
        share=h - h.floor(), low=first + h.floor().cast(pl.Int64), high=first + h.ceil().cast(pl.Int64)
    )
    # One search for the ranks of all gids, the lower ones and the upper ones.
    found = _at_ranks(frame, pl.concat([ranks["low"], ranks["high"]]))
    low = found.head(ranks.height)
    high = found.tail(ranks.height).select(at2="at", lower2="lower", upper2="upper")

    def mixed(a: str, b: str) -> pl.Expr:
        # Not a + share * (b - a): with equal ends that must give the end itself.
        return pl.col(a) * (1 - pl.col("share")) + pl.col(b) * pl.col("share")

    value = pl.when(pl.col("at") == pl.col("at2")).then("at").otherwise(mixed("at", "at2"))
    bound = pl.max_horizontal(value - mixed("lower", "lower2"), mixed("upper", "upper2") - value, 0.0)
    both = pl.concat([ranks, low, high], how="horizontal")
    return both.select("gid", "metric", "q", value=value, bound=bound, n="size")


def _at_ranks(frame: pl.DataFrame, ranks: pl.Series) -> pl.DataFrame:
    """Return where order statistics lie: ``at lower upper``, a row for each rank among all rows of cells."""
    before = frame["n"].cum_sum() - frame["n"]
    place = before.search_sorted(ranks, side="right") - 1
    inside = (pl.lit(ranks - before.gather(place)) + 0.5) / pl.col("n")
    at = pl.when(pl.col("lower") == pl.col("upper")).then("lower").otherwise(
        pl.col("lower") * (1 - inside) + pl.col("upper") * inside
    )  # fmt: skip
    return frame[place].select("lower", "upper", at=at)


def _inverted(frame: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    crossed = frame.join(wanted, how="cross").with_columns(target=pl.col("q") * pl.col("total"))
    # A hair of tolerance: sums of weights are rounded.
    reached = crossed.filter(pl.col("behind") >= pl.col("target") * (1 - 1e-12), pl.col("mass") > 0)
    first = reached.sort("gid", "q", "cell").group_by("gid", "q", maintain_order=True).first()
    inside = ((pl.col("target") - pl.col("before")) / pl.col("mass")).clip(0, 1)
    return first.with_columns(
        value=pl.when(pl.col("lower") == pl.col("upper")).then("lower").otherwise(
            pl.col("lower") * (1 - inside) + pl.col("upper") * inside
        )
    ).select(
        "gid", "metric", "q", "value",
        bound=pl.max_horizontal(pl.col("value") - pl.col("lower"), pl.col("upper") - pl.col("value")),
        n="size",
    )  # fmt: skip
