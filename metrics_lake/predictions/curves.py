"""Numbers read off a histogram of cells, each with its proved error bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.predictions.cells import NUMBER_RESOLUTION, SCORE_RESOLUTION, edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake.predictions.long import Long

__all__ = ["cell_edges", "mass", "quantiles"]


def mass() -> pl.Expr:
    """Return what a row of cells weighs: ``sum_w``, or ``n`` where rows are not weighted."""
    return pl.coalesce("sum_w", pl.col("n").cast(pl.Float64))


def cell_edges(state: Long, *, is_score: bool) -> pl.DataFrame:
    """Return one row for each cell: ``gid cell n sum_w mass lower upper value``.

    ``lower`` and ``upper`` enclose the cell's rows; they are equal, and ``value`` is their value, where the
    rows all have one value. Sorted by ``gid`` and ``cell``.
    """
    full = SCORE_RESOLUTION if is_score else NUMBER_RESOLUTION
    dropped = state.head.select("gid", dropped=full - pl.col("res"))
    low, high = edges(pl.col("cell"), pl.col("dropped"), is_score=is_score)
    cells = state.cells.group_by("gid", "cell").agg(
        pl.col("n").sum(),
        mass().sum().alias("mass"),
        pl.col("sum_w").is_not_null().any().alias("is_weighted"),
    )
    return (
        cells.join(dropped, on="gid")
        .with_columns(lower=low, upper=high)
        .join(state.ties.filter(pl.col("value").is_not_null()), on=["gid", "cell"], how="left")
        .with_columns(lower=pl.coalesce("value", "lower"), upper=pl.coalesce("value", "upper"))
        .sort("gid", "cell")
        .drop("dropped")
    )


def quantiles(cells: pl.DataFrame, qs: Sequence[float]) -> pl.DataFrame:
    """Return the quantiles of each ``gid``: columns ``gid q value bound n``.

    Unweighted: the linear interpolation between order statistics (numpy's default); the order statistic of
    a rank lies in the rank's cell, so the value is within ``bound``. Weighted: the smallest value at which
    the share of the weight reaches ``q``.
    """
    behind = pl.col("mass").cum_sum().over("gid")
    count = pl.col("n").cum_sum().over("gid")
    frame = cells.with_columns(
        behind=behind,
        before=behind - pl.col("mass"),
        count_behind=count,
        count_before=count - pl.col("n"),
        total=pl.col("mass").sum().over("gid"),
        size=pl.col("n").sum().over("gid"),
        weighted=pl.col("is_weighted").any().over("gid"),
    )
    wanted = pl.DataFrame({"q": list(qs)}, schema={"q": pl.Float64})
    plain, heavy = frame.filter(~pl.col("weighted")), frame.filter("weighted")
    found = [_interpolated(plain, wanted)] if plain.height or not heavy.height else []
    found += [_inverted(heavy, wanted)] if heavy.height else []
    return pl.concat(found).sort("gid", "q")


def _interpolated(frame: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    ranks = frame.select("gid", "size").unique().join(wanted, how="cross")
    h = pl.col("q") * (pl.col("size") - 1)
    ranks = ranks.with_columns(
        low_rank=h.floor().cast(pl.Int64), high_rank=h.ceil().cast(pl.Int64), share=h - h.floor()
    )
    low = _at_rank(frame, ranks, "low_rank")
    high = _at_rank(frame, ranks, "high_rank").rename({"at": "at2", "lower": "lower2", "upper": "upper2"})
    both = ranks.join(low, on=["gid", "q"]).join(high, on=["gid", "q"])

    def mixed(a: str, b: str) -> pl.Expr:
        # Not a + share * (b - a): with equal ends that must give the end itself.
        return pl.col(a) * (1 - pl.col("share")) + pl.col(b) * pl.col("share")

    return both.with_columns(
        value=pl.when(pl.col("at") == pl.col("at2")).then("at").otherwise(mixed("at", "at2"))
    ).select(
        "gid", "q", "value",
        bound=pl.max_horizontal(
            pl.col("value") - mixed("lower", "lower2"), mixed("upper", "upper2") - pl.col("value"), 0.0
        ),
        n="size",
    )  # fmt: skip


def _at_rank(frame: pl.DataFrame, ranks: pl.DataFrame, rank: str) -> pl.DataFrame:
    """Return where the order statistic of a rank lies: ``gid q at lower upper``."""
    found = ranks.select("gid", "q", rank).sort("gid", rank).join_asof(
        frame.select("gid", "count_before", "n", "lower", "upper").sort("gid", "count_before"),
        left_on=rank, right_on="count_before", by="gid", strategy="backward", check_sortedness=False,
    )  # fmt: skip
    inside = (pl.col(rank) - pl.col("count_before") + 0.5) / pl.col("n")
    at = pl.when(pl.col("lower") == pl.col("upper")).then("lower").otherwise(
        pl.col("lower") * (1 - inside) + pl.col("upper") * inside
    )  # fmt: skip
    return found.select("gid", "q", "lower", "upper", at=at)


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
        "gid", "q", "value",
        bound=pl.max_horizontal(pl.col("value") - pl.col("lower"), pl.col("upper") - pl.col("value")),
        n="size",
    )  # fmt: skip
