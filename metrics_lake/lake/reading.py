"""The verbs that read points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from metrics_lake.lake.access import LakeAccess
from metrics_lake.points import (
    checked_step,
)
from metrics_lake.resources import check_id, resource_ids, resource_key
from metrics_lake.values import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metrics_lake.commits import Snapshot
    from metrics_lake.result import Result

__all__ = ["ReadVerbs"]


class ReadVerbs(LakeAccess):
    """Latest values, histories, what is there."""

    def get_metric(
        self,
        resource: Any,
        id: str,
        *,
        default: Any = None,
        step: int | None = None,
        tags: Mapping[str, Any] | None = None,
        order_by: Literal["timestamp", "step"] = "timestamp",
        at: Any = None,
    ) -> Any:
        """Return the latest value of a metric, with the type that was logged.

        Args:
            resource: What was measured.
            id: The metric's id.
            default: What to return where there is no such point.
            step: Only points of this step.
            tags: Exactly this series; ``{}``: the untagged one; None: the untagged one, else the only one.
            order_by: What "latest" means: the greatest timestamp, or the greatest step.
            at: A datetime: only points up to then. An int: a version of the compacted table.

        Raises:
            AmbiguousSeriesError: There are several tagged series and no untagged one; it lists them.
            LakeNotFoundError: There is no lake under the url.
            StorageError: The store failed.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metric("digits/run-1", "acc", 0.9, step=1)
        >>> lake.log_metric("digits/run-1", "acc", 0.8, step=2)
        >>> lake.get_metric("digits/run-1", "acc"), lake.get_metric("digits/run-1", "acc", step=1)
        (0.8, 0.9)
        """
        found = self._reading().latest(
            resource_key(resource),
            check_id(id, "metric"),
            step=checked_step(step),
            tags=tags,
            order_by=order_by,
            at=at,
        )
        return default if found is None else decode(found.kind, found.value, found.text)

    def latest_metrics(
        self, resource: Any, *, tags: Mapping[str, Any] | None = None, at: Any = None
    ) -> dict[str, Any]:
        """Return the latest value of every metric of a resource, by id.

        Args:
            resource: What was measured.
            tags: As in ``get_metric``.
            at: As in ``get_metric``.

        Warns:
            MetricsLakeWarning: ``tags`` is None, and metrics that have several tagged series and no untagged
                one are left out; it names them.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metrics("digits/run-1", {"acc": 0.9, "epochs": 3})
        >>> lake.latest_metrics("digits/run-1")
        {'acc': 0.9, 'epochs': 3}
        """
        found = self._reading().latest_metrics(resource_key(resource), tags=tags, at=at)
        return {id: decode(point.kind, point.value, point.text) for id, point in found.items()}

    def metric_ids(self, resource: Any) -> list[str]:
        """Return the ids of a resource's metrics, sorted.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metrics("digits/run-1", {"loss": 0.1, "acc": 0.9})
        >>> lake.metric_ids("digits/run-1")
        ['acc', 'loss']
        """
        return self._reading().metric_ids(resource_key(resource))

    def resources(self, pattern: Any = None, *, at: Any = None) -> Result:
        """Return the lake's resources, a row each, sorted by id.

        Args:
            pattern: A resource, a ``glob``, or a list of them; None: all.
            at: As in ``get_metric``.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metric("digits/run-1", "acc", 0.9)
        >>> lake.resources().values("resource")
        ['digits/run-1']
        """
        return self._reading().resources(resource_ids(pattern), at=at)

    def history(
        self,
        resources: Any = None,
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
        """Return every point that fits, exactly, ordered by series, step, timestamp, writer and seq.

        Args:
            resources: Resources, ``glob`` patterns, or a list of them; None: all.
            metrics: Metric ids, ``glob`` patterns, or a list of them; None: all.
            steps: A step, a range, or a list of steps.
            since: Only points with this timestamp or a later one.
            until: Only points with an earlier timestamp.
            tags: Only series that have these tags among theirs; None: all series.
            repeats: ``"last"``: only the newest point of each step of a series, as after a resumed run.
            downsample: How many points a series may have at most (4 or more): what a line is drawn
                through. A longer one keeps, of each of ``downsample // 4`` equal intervals of its steps
                (of its time where it has no steps), the first, last, least and greatest point (M4), each
                exactly as it was logged. None: every point.
            smooth: How much the past weighs in an exponential moving average along each series, from 0
                (not at all) to below 1, corrected for its start; done before thinning. NaN, infinities
                and what is no number stay as they are and are passed by.
            full: With the columns ``kind text tags_key writer seq origin`` too.
            at: As in ``get_metric``.

        Returns:
            A Result with the columns ``resource metric tags step timestamp value``. What was done to the
            points is in its ``notes``: ``smooth``, ``downsample``, and with the latter ``total_points``,
            how many points there were before they were thinned out.

        Raises:
            InvalidInputError: An argument is of the wrong type or out of range.
            LakeNotFoundError: There is no lake under the url.
            SnapshotExpired: What ``at`` names is gone.
            StorageError: The store failed.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> lake.history("digits/run-1", "loss").values("value")
        [0.9, 0.5, 0.3]
        >>> lake.log_series("digits/run-1", "long", [float(at % 10) for at in range(1000)])
        >>> thin = lake.history("digits/run-1", "long", downsample=40)
        >>> len(thin) <= 40, thin.notes
        (True, {'downsample': 40, 'total_points': 1000})
        """
        return self._reading().history(
            resource_ids(resources),
            metrics,
            steps=steps,
            since=since,
            until=until,
            tags=tags,
            repeats=repeats,
            downsample=downsample,
            smooth=smooth,
            full=full,
            at=at,
        )

    def snapshot(self) -> Snapshot:
        """Return what a read begun now would see, pinned; ``str()`` of it can be kept and given back."""
        return self._reading().snapshot()
