"""Curves whose zoom asks the lake again, for the points of what is looked at."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts import MAX_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AXES", "axis_name", "points_of", "window", "zoomable"]

AXES: Final = {"step": "step", "time since the start": "relative", "time": "timestamp"}
"""What the page calls the axes."""


def axis_name(axis: str) -> str:
    """Return what an axis is called; of one that there is not, the step."""
    return next((name for name, each in AXES.items() if each == axis), "step")


def points_of(charts: int) -> int:
    """Return how many points each of several charts of a page may draw."""
    return MAX_POINTS // max(1, charts)


def window(axis: str, zoom: tuple[float, float] | None) -> dict[str, Any]:
    """Return what of a history is asked for when this part of an axis is looked at; time is in ms."""
    if zoom is None or axis == "relative":
        return {}
    low, high = zoom
    if axis == "step":
        return {"steps": range(math.floor(low), math.ceil(high) + 1)}
    return {"since": _instant(low), "until": _instant(high)}


def zoomable(chart: Any, axis: str, look: Callable[[tuple[float, float]], None]) -> Any:
    """Return the chart as an element that calls ``look`` with the part of the axis that one moves to."""
    import marimo as mo

    if axis == "relative":
        return chart
    shown: Any = None

    def moved(_: object) -> None:
        part = shown.selections.get("zoom", {}).get("x")
        if part:
            look((float(part[0]), float(part[1])))

    shown = mo.ui.altair_chart(chart, chart_selection=False, legend_selection=False, on_change=moved)
    return shown


def _instant(millis: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(millis / 1000, dt.UTC)
