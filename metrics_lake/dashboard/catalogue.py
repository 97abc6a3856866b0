"""What there is to choose from: the lake's metrics and tags, from its summaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from metrics_lake.charts import counted
from metrics_lake.panels import metric_overview

if TYPE_CHECKING:
    from metrics_lake import MetricsLake

__all__ = ["NOTHING", "Catalogue", "catalogue"]

_PARAMS: Final = "params/"
_TAGS: Final = "SELECT DISTINCT unnest(map_keys(tags)) AS tag FROM series WHERE tags_key <> '' ORDER BY tag"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a lake holds, by name.

    Attributes:
        curves: Metrics that have a series of several numbers; first untagged ones, of most resources first.
        numbers: Metrics that have any number and are no parameters, in the same order.
        tags: Names of tags.
        stepless: Those of ``curves`` that can be drawn along the time alone.
        num_resources: How many resources there are.
        num_series: How many series.
        num_points: How many points.
    """

    curves: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    stepless: tuple[str, ...] = ()
    num_resources: int = 0
    num_series: int = 0
    num_points: int = 0

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """What there is to choose from: controls are made anew where this changes."""
        return self.curves, self.numbers, self.tags, self.stepless

    @property
    def told(self) -> str:
        """How much there is."""
        if not self.num_points:
            return "no points yet: what is logged appears here"
        counts = {"run": self.num_resources, "series": self.num_series, "point": self.num_points}
        return " · ".join(counted(number, noun) for noun, number in counts.items())


NOTHING: Final = Catalogue()


def catalogue(lake: MetricsLake) -> Catalogue:
    """Return what the lake holds now.

    Raises:
        MetricsLakeError: The lake cannot be read.
    """
    metrics = metric_overview(lake).to_pylist()
    numbers = sorted(
        (row for row in metrics if row["is_number"] and not row["metric"].startswith(_PARAMS)),
        key=lambda row: (row["is_ambiguous"], -row["resources"], row["metric"]),
    )
    curves = [row for row in numbers if row["is_curve"]]
    return Catalogue(
        curves=tuple(row["metric"] for row in curves),
        numbers=tuple(row["metric"] for row in numbers),
        tags=tuple(lake.sql(_TAGS).values("tag")),
        stepless=tuple(row["metric"] for row in curves if not row["has_steps"]),
        num_resources=len(lake.resources()),
        num_series=sum(row["series"] for row in metrics),
        num_points=sum(row["points"] for row in metrics),
    )
