"""A resource handle: the lake's verbs without their first argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from metrics_lake.resources import resource_key
from metrics_lake.tags import canonical_tags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from metrics_lake.lake import MetricsLake
    from metrics_lake.predictions import PredictionMetrics
    from metrics_lake.result import Result
    from metrics_lake.writer import Durability, Receipt

__all__ = ["Resource"]


class Resource:
    """One resource of a lake; itself a resource wherever one is asked for.

    Leaving a ``with`` block publishes what was logged. A failure to publish never replaces the block's own
    exception.

    Attributes:
        id: The resource's id.
        tags: The tags that every point logged through this handle gets, below those of the call.
    """

    __slots__ = ("_lake", "id", "tags")

    def __init__(self, lake: MetricsLake, obj: Any, tags: Mapping[str, Any] | None = None) -> None:
        self._lake = lake
        self.id = resource_key(obj)
        self.tags = dict(canonical_tags(tags))

    def __metrics_resource__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        tags = f", tags={self.tags}" if self.tags else ""
        return f"<Resource {self.id!r}{tags} of {self._lake.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lake._flush_on_leaving(error)

    def _tagged(self, tags: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if not self.tags:
            return tags
        return self.tags if tags is None else {**self.tags, **tags}

    def _read_tags(self, tags: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return tags if tags is not None or not self.tags else self.tags

    def log_metric(
        self,
        id: str,
        value: Any,
        *,
        step: int | None = None,
        timestamp: Any = None,
        tags: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Log one point of this resource; see ``MetricsLake.log_metric``."""
        self._lake.log_metric(
            self.id,
            id,
            value,
            step=step,
            timestamp=timestamp,
            tags=self._tagged(tags),
            durability=durability,
        )

    def log_metrics(
        self,
        metrics: Mapping[str, Any],
        perf_metric: Any = None,
        *,
        step: int | None = None,
        timestamp: Any = None,
        tags: Mapping[str, Any] | None = None,
        separator: str | None = "/",
        durability: Durability | None = None,
    ) -> None:
        """Log several points of this resource; see ``MetricsLake.log_metrics``."""
        self._lake.log_metrics(
            self.id,
            metrics,
            perf_metric,
            step=step,
            timestamp=timestamp,
            tags=self._tagged(tags),
            separator=separator,
            durability=durability,
        )

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters of this resource; see ``MetricsLake.log_params``."""
        self._lake.log_params(self.id, params)

    def log_series(
        self,
        id: str,
        values: Any,
        *,
        steps: Any = None,
        timestamps: Any = None,
        tags: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Log many values of one metric of this resource; see ``MetricsLake.log_series``."""
        self._lake.log_series(
            self.id,
            id,
            values,
            steps=steps,
            timestamps=timestamps,
            tags=self._tagged(tags),
            durability=durability,
        )

    def get_metric(
        self,
        id: str,
        *,
        default: Any = None,
        step: int | None = None,
        tags: Mapping[str, Any] | None = None,
        order_by: Literal["timestamp", "step"] = "timestamp",
        at: Any = None,
    ) -> Any:
        """Return the latest value of a metric of this resource; see ``MetricsLake.get_metric``."""
        return self._lake.get_metric(
            self.id,
            id,
            default=default,
            step=step,
            tags=self._read_tags(tags),
            order_by=order_by,
            at=at,
        )

    def latest_metrics(self, *, tags: Mapping[str, Any] | None = None, at: Any = None) -> dict[str, Any]:
        """Return the latest value of every metric of this resource; see ``MetricsLake.latest_metrics``."""
        return self._lake.latest_metrics(self.id, tags=self._read_tags(tags), at=at)

    def metric_ids(self) -> list[str]:
        """Return the ids of this resource's metrics."""
        return self._lake.metric_ids(self.id)

    def history(
        self,
        metrics: Any = None,
        *,
        steps: Any = None,
        since: Any = None,
        until: Any = None,
        tags: Mapping[str, Any] | None = None,
        repeats: Literal["all", "last"] = "all",
        downsample: int | None = None,
        smooth: float | None = None,
        full: bool = False,
        at: Any = None,
    ) -> Result:
        """Return the points of this resource; see ``MetricsLake.history``."""
        return self._lake.history(
            self.id,
            metrics,
            steps=steps,
            since=since,
            until=until,
            tags=self._read_tags(tags),
            repeats=repeats,
            downsample=downsample,
            smooth=smooth,
            full=full,
            at=at,
        )

    def best(
        self,
        metric: str,
        *,
        mode: Literal["max", "min"],
        by: Literal["best", "last", "step"] = "best",
        step: int | None = None,
        tags: Mapping[str, Any] | None = None,
        at: Any = None,
    ) -> Result:
        """Return the best point of a metric of this resource, one row; see ``MetricsLake.best``."""
        return self._lake.best(
            metric, mode=mode, by=by, step=step, resources=self.id, tags=self._read_tags(tags), at=at
        )

    def compare(
        self,
        metrics: Any = None,
        *,
        stat: Literal["last", "first", "min", "max", "mean", "count"] = "last",
        tags: Mapping[str, Any] | None = None,
        at: Any = None,
    ) -> Result:
        """Return this resource's row of a comparison; see ``MetricsLake.compare``."""
        return self._lake.compare(self.id, metrics, stat=stat, tags=self._read_tags(tags), at=at)

    def log_prediction_metrics(self, predictions: Any, **options: Any) -> PredictionMetrics:
        """Compute and log metrics of this job's predictions; see ``MetricsLake.log_prediction_metrics``."""
        options["tags"] = self._tagged(options.get("tags"))
        return self._lake.log_prediction_metrics(self.id, predictions, **options)

    def log_ground_truth(self, labels: Any, **options: Any) -> PredictionMetrics:
        """Keep labels of this job's predictions; see ``MetricsLake.log_ground_truth``."""
        return self._lake.log_ground_truth(self.id, labels, **options)

    def prediction_metrics(self, **options: Any) -> Result:
        """Return this job's metrics from stored states; see ``MetricsLake.prediction_metrics``."""
        return self._lake.prediction_metrics(self.id, **options)

    def prediction_curves(self, curve: str | Sequence[str] = "roc", **options: Any) -> Result:
        """Return points of this job's curves from stored states; see ``MetricsLake.prediction_curves``."""
        return self._lake.prediction_curves(self.id, curve, **options)

    def copy_metrics(self, to_resource: Any, *, metrics: Any = None) -> int:
        """Copy this resource's metrics to another; see ``MetricsLake.copy_metrics``."""
        return self._lake.copy_metrics(self.id, to_resource, metrics=metrics)

    def flush(self, timeout_seconds: float | None = None) -> Receipt:
        """Publish what was logged; see ``MetricsLake.flush``."""
        return self._lake.flush(timeout_seconds)
