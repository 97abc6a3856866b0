"""Ranking measures from cells: ROC AUC with DeLong's variance, average precision, Kolmogorov-Smirnov.

Inside a cell the order of the rows is not known. Each measure has a value in the middle of what is possible
and a bound that encloses every order; a cell whose rows all have one score adds nothing to the bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.predictions.runs import summed, with_ties

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long

__all__ = ["average_precision", "by_cell", "ks", "roc_auc"]

_ASYMPTOTIC = 10


def by_cell(state: Long) -> pl.DataFrame:
    """Return one row for each cell with a truth: ``gid cell place w1 w0 c1 c0 tied`` and what is around it.

    ``w1`` and ``w0`` are the masses of positives and negatives (rows, or weights), ``c1`` and ``c0`` the
    rows; ``below1``, ``below0`` the masses of lower cells; ``p``, ``q`` the totals and ``n1``, ``n0`` the
    total rows. Sorted by ``gid`` and ``cell``.
    """
    cells = with_ties(summed(state.cells, by_truth=True), state.ties)
    return cells.with_columns(
        tied=pl.col("value").is_not_null(),
        below1=(pl.col("w1").cum_sum() - pl.col("w1")).over("gid"),
        below0=(pl.col("w0").cum_sum() - pl.col("w0")).over("gid"),
        p=pl.col("w1").sum().over("gid"),
        q=pl.col("w0").sum().over("gid"),
        n1=pl.col("c1").sum().over("gid"),
        n0=pl.col("c0").sum().over("gid"),
        weighted=pl.col("weighted").any().over("gid"),
    )


def roc_auc(cells: pl.DataFrame) -> pl.DataFrame:
    """Return ``gid value bound variance n n1 n0 weighted``; the value is NULL where a class is missing.

    The variance is DeLong's (1988, Biometrics 44): of the placements of positives among negatives and of
    negatives among positives, both taken at the middle of their cell. NULL where rows are weighted.
    """
    w1, w0, p, q = pl.col("w1"), pl.col("w0"), pl.col("p"), pl.col("q")
    frame = cells.with_columns(
        # Share of the negatives below a positive of this cell; share of the positives above a negative.
        v10=(pl.col("below0") + w0 / 2) / q,
        v01=(p - pl.col("below1") - w1 / 2) / p,
    ).with_columns(auc=((w1 * pl.col("v10")).sum() / pl.col("p").first()).over("gid"))
    d10, d01 = pl.col("v10") - pl.col("auc"), pl.col("v01") - pl.col("auc")
    first = {name: pl.col(name).first() for name in ("p", "q", "n1", "n0", "weighted")}
    found = frame.group_by("gid").agg(
        value=pl.col("auc").first(),
        inside=(w1 * w0).filter(~pl.col("tied")).sum(),
        s10=(w1 * d10 * d10).sum(),
        s01=(w0 * d01 * d01).sum(),
        **first,
    )
    both = (p > 0) & (q > 0)
    variance = pl.col("s10") / (p - 1) / p + pl.col("s01") / (q - 1) / q
    return found.select(
        "gid", "n1", "n0", "weighted",
        n=pl.col("n1") + pl.col("n0"),
        value=pl.when(both).then("value"),
        bound=pl.when(both).then(0.5 * pl.col("inside") / (p * q)),
        variance=pl.when(both, p > 1, q > 1, ~pl.col("weighted")).then(variance),
    )  # fmt: skip


def ks(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the greatest distance between the classes' score distributions: ``gid value bound n``.

    Exact at the edges of cells; inside a cell the distance can exceed its ends by no more than the bound.
    """
    p, q = pl.col("p"), pl.col("q")
    before = pl.col("below1") / p - pl.col("below0") / q
    step1, step0 = pl.col("w1") / p, pl.col("w0") / q
    after = before + step1 - step0
    # All positives of the cell before all negatives, or the other way round.
    most = pl.max_horizontal((before + step1).abs(), (before - step0).abs())
    found = cells.with_columns(
        at_edges=pl.max_horizontal(before.abs(), after.abs()),
        most=pl.when("tied").then(pl.max_horizontal(before.abs(), after.abs())).otherwise(
            pl.max_horizontal(before.abs(), after.abs(), most)
        ),
    )  # fmt: skip
    both = (pl.col("p").first() > 0) & (pl.col("q").first() > 0)
    return found.group_by("gid").agg(
        value=pl.when(both).then(pl.col("at_edges").max()),
        bound=pl.when(both).then(pl.col("most").max() - pl.col("at_edges").max()),
        n=(pl.col("n1") + pl.col("n0")).first(),
    )


def average_precision(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the average precision and what encloses it: ``gid value least most n``.

    As in scikit-learn: the sum over distinct scores of the recall gained times the precision. Inside a cell
    the j-th positive from above has ``w0 * j / (w1 + 1)`` of the cell's negatives above it; least and most
    have all negatives above, or below, all positives. The sums over j are closed: differences of the
    digamma function, or logarithms where rows are weighted.
    """
    w1, w0 = pl.col("w1"), pl.col("w0")
    above = cells.with_columns(
        tp=pl.col("p") - pl.col("below1") - w1, fp=pl.col("q") - pl.col("below0") - w0
    ).filter(w1 > 0)
    tp, fp = pl.col("tp"), pl.col("fp")
    at_end = w1 * (tp + w1) / (tp + fp + w1 + w0)
    if above["weighted"].any():
        # Weighted everywhere or for some states only: the logarithms hold for both.
        bounds = {
            "value": _logarithmic(tp, tp + fp, 1 + w0 / w1, w1),
            "least": _logarithmic(tp, tp + fp + w0, pl.lit(1.0), w1),
            # One positive could carry all the weight: its step is judged at its end.
            "most": w1 * (tp + w1) / (tp + fp + w1),
        }
    else:
        bounds = {
            "value": _harmonic(tp, tp + fp, 1 + w0 / (w1 + 1), w1),
            "least": _harmonic(tp, tp + fp + w0, pl.lit(1.0), w1),
            "most": _harmonic(tp, tp + fp, pl.lit(1.0), w1),
        }
    # A cell of one score needs none of them: most cells of small data are such.
    parts = pl.concat(
        [
            above.filter("tied").select("gid", *(at_end.alias(name) for name in bounds), "p", "n1", "n0"),
            above.filter(~pl.col("tied")).select("gid", "p", "n1", "n0", **bounds).select(
                "gid", *bounds, "p", "n1", "n0"
            ),
        ]
    )  # fmt: skip
    found = parts.group_by("gid").agg(
        *((pl.col(name).sum() / pl.col("p").first()).alias(name) for name in ("value", "least", "most")),
        n=(pl.col("n1") + pl.col("n0")).first(),
    )
    totals = cells.group_by("gid").agg(has=pl.col("p").first() > 0)
    return totals.join(found, on="gid", how="left")


def _harmonic(a: pl.Expr, b: pl.Expr, c: pl.Expr, n: pl.Expr) -> pl.Expr:
    """Return the sum over j = 1 … n of (a + j) / (b + c j), for whole n."""
    x = b / c
    return n / c + (a - x) / c * _digamma_difference(x + 1, n)


def _digamma_difference(x: pl.Expr, n: pl.Expr) -> pl.Expr:
    """Return psi(x + n) - psi(x) for x >= 1 and whole n: the sum over k = 0 … n-1 of 1 / (x + k).

    By recurrence past x = 10, then the asymptotic series (Abramowitz and Stegun 6.3.18), whose first term
    left out is below 1e-13 there. Few terms are added one by one.
    """
    head = pl.sum_horizontal(pl.when(n > k).then(1.0 / (x + k)).otherwise(0.0) for k in range(_ASYMPTOTIC))
    start, end = x + _ASYMPTOTIC, x + n
    tail = ((n - _ASYMPTOTIC) / start).log1p() + _series(end) - _series(start)
    return pl.when(n > _ASYMPTOTIC).then(head + tail).otherwise(head)


def _series(z: pl.Expr) -> pl.Expr:
    """Return psi(z) - ln(z) for z >= 10."""
    s = 1.0 / (z * z)
    return -0.5 / z - s * (
        1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s * (1 / 132 - s * 691 / 32760))))
    )


def _logarithmic(a: pl.Expr, b: pl.Expr, c: pl.Expr, w: pl.Expr) -> pl.Expr:
    """Return the integral over v from 0 to w of (a + v) / (b + c v)."""
    x = b / c
    # With nothing above the cell the integrand is 1 / c throughout.
    grown = pl.when(x > 0).then((w / x).log1p() * (a - x)).otherwise(0.0)
    return w / c + grown / c
