"""Rows of cells as runs of one sorted integer, their place: merged in a tenth of the time of three keys.

A place stands for a state and a cell of it (``gid``, ``cell``), in that order. Counts of a run are the
differences of a running total, which whole numbers allow; sums of weights are added up group by group.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = [
    "cell_table",
    "has_weights",
    "mass",
    "merged_cells",
    "merged_ties",
    "order",
    "place",
    "summed",
    "weight_sum",
    "with_ties",
]

_CELLS: Final = 1 << 20
"""Cells lie between -2^19 and 2^19."""

_TRUTHS: Final = 4
"""Room for the codes of ``y``: 0 for NULL, else one more than it is."""


def place() -> pl.Expr:
    """Return the place (Int64, not negative) of a row with ``gid`` and ``cell``."""
    return (pl.col("gid") * _CELLS + (pl.col("cell").cast(pl.Int64) + _CELLS // 2)).alias("place")


def order() -> pl.Expr:
    """Return what sorts cells by ``gid``, ``cell`` and ``y``, NULL first."""
    return (place() * _TRUTHS + (pl.col("y").cast(pl.Int64) + 1).fill_null(0)).alias("place")


def _of_place(at: pl.Expr) -> dict[str, pl.Expr]:
    return {"gid": at // _CELLS, "cell": at % _CELLS - _CELLS // 2}


def mass() -> pl.Expr:
    """Return what a row of cells weighs: ``sum_w``, or ``n`` where rows are not weighted."""
    return pl.coalesce("sum_w", pl.col("n").cast(pl.Float64))


def weight_sum(rows: pl.Expr) -> pl.Expr:
    """Return the sum of ``sum_w`` of a group: NULL where no row is weighted, else unweighted rows count 1."""
    return (
        pl.when(pl.col("sum_w").is_not_null().any())
        .then(pl.coalesce(pl.col("sum_w"), rows.cast(pl.Float64)).sum())
        .alias("sum_w")
    )


def has_weights(rows: pl.DataFrame) -> bool:
    """Return whether any row has a ``sum_w``."""
    return "sum_w" in rows.columns and rows["sum_w"].null_count() < rows.height


def _runs(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row for each ``place`` of rows with ``place`` and counts, sorted, with the sums."""
    counts, at = pl.exclude("place"), pl.col("place")
    ends = rows.sort("place").with_columns(counts.cum_sum()).filter(at != at.shift(-1, fill_value=-1))
    return ends.with_columns(counts - counts.shift(1, fill_value=0))


def merged_cells(cells: pl.DataFrame) -> pl.DataFrame:
    """Return ``gid cell y n sum_w`` with one row for each of the first three, sorted by them."""
    is_weighted = has_weights(cells)
    rows = cells.lazy().select(order(), "n", *(["sum_w"] if is_weighted else []))
    if is_weighted:
        sums = [pl.col("n").sum(), weight_sum(pl.col("n"))]
        rows = rows.sort("place", maintain_order=True).group_by("place", maintain_order=True).agg(sums)
    else:
        rows = _runs(rows).with_columns(sum_w=pl.lit(None, dtype=pl.Float64))
    at = pl.col("place")
    code = at % _TRUTHS
    y = pl.when(code > 0).then(code - 1).cast(pl.Int8)
    return rows.select(**_of_place(at // _TRUTHS), y=y, n="n", sum_w="sum_w").collect(engine="in-memory")


def merged_ties(ties: pl.DataFrame) -> pl.DataFrame:
    """Return ``gid cell value`` with one row for each cell, sorted: NULL where its rows' values differ."""
    at, value = pl.col("place"), pl.col("value")
    rows = ties.lazy().select(place(), "value").sort("place", maintain_order=True)
    is_first = at != at.shift(1, fill_value=-1)
    is_other = value.is_null() | (~is_first & (value != value.shift(1)).fill_null(value=False))
    ends = rows.with_columns(others=is_other.cast(pl.Int64).cum_sum()).filter(
        at != at.shift(-1, fill_value=-1)
    )
    others = pl.col("others") - pl.col("others").shift(1, fill_value=0)
    return ends.select(**_of_place(at), value=pl.when(others == 0).then(value)).collect(engine="in-memory")


def summed(cells: pl.DataFrame, *, by_truth: bool) -> pl.DataFrame:
    """Return the rows and the mass of each cell, sorted by ``place``.

    Args:
        cells: ``gid cell y n sum_w``.
        by_truth: Whether only rows with a truth count, each class by itself.

    Returns:
        ``place gid cell weighted`` and ``n mass``, or ``c1 c0 w1 w0`` of positives and negatives: the rows
        and what they weigh.
    """
    of = {"1": pl.col("y") == 1, "0": pl.col("y") == 0} if by_truth else {"": pl.lit(value=True)}
    counts, masses = ("c", "w") if by_truth else ("n", "mass")
    rows = cells.lazy().filter(pl.col("y").is_not_null()) if by_truth else cells.lazy()

    def each(name: str, column: pl.Expr) -> dict[str, pl.Expr]:
        return {f"{name}{key}": pl.when(mask).then(column).otherwise(0) for key, mask in of.items()}

    placed = [place(), *(column.alias(name) for name, column in each(counts, pl.col("n")).items())]
    if has_weights(cells):
        columns = {**each(masses, mass()), "weighted": pl.col("sum_w").is_not_null()}
        found = (
            rows.select(*placed, **columns)
            .sort("place", maintain_order=True)
            .group_by("place", maintain_order=True)
            .agg(pl.exclude("weighted").sum(), pl.col("weighted").any())
        )
    else:
        found = _runs(rows.select(placed)).with_columns(
            **{f"{masses}{key}": pl.col(f"{counts}{key}").cast(pl.Float64) for key in of},
            weighted=pl.lit(value=False),
        )
    return found.with_columns(**_of_place(pl.col("place"))).collect(engine="in-memory")


def cell_table(cells: pl.DataFrame) -> pl.DataFrame:
    """Return ``cells`` and ``ties`` as one, from the columns ``gid cell n low high`` (and ``sum_w``)."""
    sums = [pl.col("n").sum(), *([pl.col("sum_w").sum()] if "sum_w" in cells.columns else [])]
    low, high = pl.col("low").min(), pl.col("high").max()
    found = (
        cells.lazy()
        .with_columns(place())
        .sort("place", maintain_order=True)
        .group_by("place", maintain_order=True)
        .agg(*sums, value=pl.when(low == high).then(low))
    )
    return found.with_columns(**_of_place(pl.col("place"))).collect(engine="in-memory")


def with_ties(rows: pl.DataFrame, ties: pl.DataFrame) -> pl.DataFrame:
    """Return rows with one ``place`` each, in their order, with the ``value`` of the cell, if it has one."""
    values = ties.select(place(), "value")
    if values["place"].equals(rows["place"]):
        return rows.with_columns(values["value"])
    return rows.join(values, on="place", how="left", maintain_order="left")
