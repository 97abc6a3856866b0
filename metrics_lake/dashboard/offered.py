"""The lake that this process shows. marimo runs a page's cells in threads of the server's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from metrics_lake import MetricsLake

__all__ = ["offer", "offered"]

_LAKES: Final[list[MetricsLake]] = []


def offer(lake: MetricsLake) -> None:
    """Every page of this process shows this lake from now on, through one set of caches."""
    _LAKES[:] = [lake]


def offered() -> MetricsLake:
    """Return the lake to show; where nobody offers one, as under ``marimo edit``, the environment's."""
    if not _LAKES:
        from metrics_lake import MetricsLake

        offer(MetricsLake(read_only=True))
    return _LAKES[0]
