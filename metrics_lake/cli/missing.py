"""What to say where something that was named is not there: the near names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metrics_lake.cli.output import note
from metrics_lake.errors import NotFoundError
from metrics_lake.globs import Glob
from metrics_lake.resources import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake import MetricsLake

__all__ = [
    "metric_found_nowhere",
    "metric_not_found",
    "require_some",
    "resource_not_found",
    "say_nothing_fits",
]


def resource_not_found(lake: MetricsLake, resource: str) -> NotFoundError:
    """Return the error that names a resource of which there is no point."""
    near = nearest(resource, lake.resources().values("resource"))
    return NotFoundError(
        f"there is no resource {resource!r} in {lake.url}.", hint=_did_you_mean(near, "ls"), resource=resource
    )


def metric_not_found(lake: MetricsLake, resource: str, metric: str, what: str = "") -> NotFoundError:
    """Return the error that names a metric, or the resource where there is none of it at all."""
    ids = lake.metric_ids(resource)
    if not ids:
        return resource_not_found(lake, resource)
    if metric in ids:
        return NotFoundError(f"{resource!r} has no such point of {metric!r}{what}.", metric=metric)
    near = nearest(metric, ids)
    return NotFoundError(
        f"{resource!r} has no metric {metric!r}.",
        hint=_did_you_mean(near, f"get {resource}"),
        metric=metric,
    )


def metric_found_nowhere(lake: MetricsLake, metric: str) -> NotFoundError:
    """Return the error that names a metric that no resource that fits has."""
    near = nearest(metric, lake.sql("SELECT DISTINCT metric FROM series").values())
    hint = _did_you_mean(near, "ls") if near else None
    return NotFoundError(
        f"no resource that fits has a metric {metric!r} in {lake.url}.", hint=hint, metric=metric
    )


def require_some(
    lake: MetricsLake, resources: Sequence[str | Glob] | None, metrics: Sequence[str | Glob] | None = None
) -> None:
    """Raise where one of the names that are no patterns is not there; of patterns nothing is required.

    Raises:
        NotFoundError: It names the first one, with near names.
    """
    for resource in resources or ():
        if isinstance(resource, Glob):
            continue
        ids = lake.metric_ids(resource)
        if not ids:
            raise resource_not_found(lake, resource)
        for metric in metrics or ():
            if not isinstance(metric, Glob) and metric not in ids and len(resources or ()) == 1:
                raise metric_not_found(lake, resource, metric)


def say_nothing_fits(lake: MetricsLake, asked: Sequence[str | Glob]) -> None:
    """Tell the person that nothing fits: no error, for a pattern may fit nothing."""
    names = " ".join(str(each) for each in asked)
    note(f"Nothing in {lake.url} fits {names}." if asked else f"{lake.url} holds no points yet.")


def _did_you_mean(near: Sequence[str], command: str) -> str:
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return f"`metrics-lake {command}` lists what is there."
