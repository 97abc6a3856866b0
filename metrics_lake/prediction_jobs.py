"""Prediction jobs on a lake: what ``predictions`` computes becomes points of the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metrics_lake.points import Point
from metrics_lake.predictions import PredictionMetrics, finalize, prediction_state
from metrics_lake.values import KINDS, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["compute", "points_of"]


def compute(predictions: Any, *, job: str, metrics: str | Sequence[str], **options: Any) -> PredictionMetrics:
    """Return the metrics of predictions; nothing is stored.

    Raises:
        InvalidInputError: An argument is wrong; the message says which.
        TaskAmbiguousError: The data do not say whether they are classes or numbers.
    """
    state = prediction_state(predictions, resource=job, **options)
    return PredictionMetrics(finalize(state, metrics), state)


def points_of(job: str, found: PredictionMetrics, tags_key: str) -> list[Point]:
    """Return the points that a job's metrics are logged as; a metric without a value has none."""
    points = []
    for name, value in found.items():
        if value is not None:
            kind, number, text = encode(value)
            points.append(Point((job, name, tags_key), KINDS.index(kind), number, text))
    return points
