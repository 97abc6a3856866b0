"""The contract: what any keeper of ML metrics offers to a training or prediction workflow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["BaseMetricsTracker"]


class BaseMetricsTracker(ABC):
    """Keeps metrics of resources: training runs, model versions, deployments, prediction jobs.

    Resources and prediction jobs are arbitrary objects with a stable identity. Implementations may take
    further arguments, which is what ``*args`` and ``**kwargs`` stand for.

    Attributes:
        url: Where the metrics are kept.
    """

    url: str

    @abstractmethod
    def log_metric(self, resource: Any, id: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Keep one value of a metric of a resource; earlier values stay in its history.

        Args:
            resource: What was measured.
            id: The metric's name.
            value: Any value; ``get_metric`` returns it with the same type.
            *args: What the implementation takes besides.
            **kwargs: What the implementation takes besides.
        """

    @abstractmethod
    def get_metric(self, resource: Any, id: str, *args: Any, **kwargs: Any) -> Any:
        """Return the latest value of a metric of a resource, or None where there is none."""

    @abstractmethod
    def log_metrics(self, resource: Any, metrics: Any, *args: Any, **kwargs: Any) -> None:
        """Keep several metrics of a resource, all or nothing.

        Args:
            resource: What was measured.
            metrics: A mapping from metric ids to values.
            *args: What the implementation takes besides.
            **kwargs: What the implementation takes besides.
        """

    @abstractmethod
    def copy_metrics(self, from_resource: Any, to_resource: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy every metric of one resource to another, such as a run's to the model version made of it."""

    @abstractmethod
    def log_prediction_metrics(self, prediction_job: Any, predictions: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute metrics of a job's predictions and keep them as the job's.

        Args:
            prediction_job: The job that predicted.
            predictions: Labels or numbers, one a prediction.
            *args: What the implementation takes besides.
            **kwargs: What the implementation takes besides.
        """
