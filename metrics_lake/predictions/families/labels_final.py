"""Numbers from the state ``labels``: what pairs of true and predicted classes say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.predictions.curves import mass
from metrics_lake.predictions.rows import always, distribution

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long

__all__ = ["finalise"]


def finalise(state: Long) -> list[pl.DataFrame]:
    """Return the rows of predicted labels."""
    shares = state.confusion.group_by("gid", "pred").agg(pl.col("n").sum(), mass().sum().alias("mass"))
    return [*always(state), *distribution(shares)]
