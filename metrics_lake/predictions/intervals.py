"""Confidence intervals as Polars expressions."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["normal", "quantile_of_normal", "wilson"]


def quantile_of_normal(confidence: float) -> float:
    """Return the two-sided quantile of the standard normal distribution: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(share: pl.Expr, n: pl.Expr, confidence: float) -> tuple[pl.Expr, pl.Expr]:
    """Return the score interval of a proportion (Wilson, 1927, JASA 22): both ends in [0, 1]."""
    z = quantile_of_normal(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)).sqrt() / (1 + z * z / n)
    return (centre - half).clip(0.0, 1.0), (centre + half).clip(0.0, 1.0)


def normal(
    value: pl.Expr, variance: pl.Expr, n: pl.Expr, confidence: float, *, least: float | None = None
) -> tuple[pl.Expr, pl.Expr]:
    """Return ``value`` ± z·sqrt(variance / n): the interval of a mean by the central limit theorem."""
    half = quantile_of_normal(confidence) * (variance.clip(0.0) / n).sqrt()
    low = value - half
    return (low if least is None else low.clip(least)), value + half
