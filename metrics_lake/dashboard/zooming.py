"""The strip under the curves on which one picks the part of the axis to look at.

The strip stays as it is while one drags on it; the charts above ask the lake for the points of the part, so
that a short part of a long run shows every point that it has.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from metrics_lake.charts import MAX_POINTS, themed, time_scale
from metrics_lake.dashboard.look import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from metrics_lake import MetricsLake

__all__ = ["AXES", "HOW", "KEPT_AS", "Part", "along", "axis_name", "points_of", "strip", "window"]

Part: TypeAlias = "tuple[float, float] | None"
"""Two ends on the axis, steps or milliseconds since 1970; None = all of it."""

AXES: Final = {"step": "step", "time": "timestamp", "time since the start": "relative"}
"""What the page calls the axes."""

KEPT_AS: Final = {"step": "part", "timestamp": "times"}
"""Under what the page's address has the part of an axis."""

HOW: Final = (
    "Drag on the strip to look closer: the lake is asked for every point in view. Click it to see all."
)

_COLUMNS: Final = 400
_HEIGHT: Final = 34
_PLACES: Final = {"step": "step::DOUBLE", "timestamp": "epoch_us(timestamp) / 1000.0"}

_ENVELOPE: Final = f"""
    WITH chosen AS (
        SELECT {{place}} AS x, value FROM metrics {{joined}}
        WHERE metric = $metric AND isfinite(value) AND {{place}} IS NOT NULL
    ),
    ends AS (SELECT min(x) AS low, greatest(max(x) - min(x), 1e-9) / {_COLUMNS} AS width FROM chosen)
    SELECT any_value(low + width * least(floor((x - low) / width), {_COLUMNS - 1})) AS x,
        min(value) AS low, max(value) AS high
    FROM chosen, ends GROUP BY least(floor((x - low) / width), {_COLUMNS - 1}) ORDER BY x
"""


def axis_name(axis: str) -> str:
    """Return what an axis is called; of one that there is not, the step."""
    return next((name for name, each in AXES.items() if each == axis), "step")


def along(axis: str, metrics: Sequence[str], stepless: Sequence[str]) -> str:
    """Return the axis of metrics: the time instead of the step where none of them has any.

    >>> along("step", ["loss"], ["loss"]), along("step", ["loss", "acc"], ["loss"])
    ('timestamp', 'step')
    """
    return "timestamp" if axis == "step" and metrics and set(metrics) <= set(stepless) else axis


def points_of(charts: int) -> int:
    """Return how many points each of several charts of a page may draw."""
    return MAX_POINTS // max(1, charts)


def window(axis: str, part: Part) -> dict[str, Any]:
    """Return what of a history is asked for when a part of an axis is looked at."""
    if part is None or axis not in _PLACES:
        return {}
    low, high = part
    if axis == "step":
        # Outwards: between two steps there is nothing to see.
        return {"steps": range(math.floor(low), math.ceil(high) + 1)}
    return {"since": _instant(low), "until": _instant(high)}


def strip(
    lake: MetricsLake,
    runs: Any,
    metric: str,
    axis: str,
    *,
    part: Part,
    look: Callable[[Part], None],
    dark: bool,
) -> Any:
    """Return the strip of a metric, least to greatest value over all runs; None where there is none to show.

    Args:
        lake: The lake.
        runs: As read verbs take them.
        metric: The metric's id.
        axis: One of ``AXES``.
        part: What is marked first.
        look: Is called with what somebody marks.
        dark: For a dark background.

    Raises:
        MetricsLakeError: The lake cannot be read.
    """
    import marimo as mo

    if axis not in _PLACES:
        return None
    rows = _envelope(lake, runs, metric, axis)
    if rows.num_rows < 2:
        return None
    shown: Any = None

    def marked(_: object) -> None:
        ends = shown.selections.get("part", {}).get("x")
        look((float(ends[0]), float(ends[1])) if ends and ends[0] < ends[1] else None)

    shown = mo.ui.altair_chart(
        _chart(rows, axis, part, dark), chart_selection=False, legend_selection=False, on_change=marked
    )
    return shown


def _envelope(lake: MetricsLake, runs: Any, metric: str, axis: str) -> pa.Table:
    place = _PLACES[axis]
    if runs is None:
        return lake.sql(_ENVELOPE.format(place=place, joined=""), {"metric": metric}).arrow()
    wanted = lake.resources(runs).arrow().select(["resource"])
    sql = _ENVELOPE.format(place=place, joined="SEMI JOIN wanted USING (resource)")
    return lake.sql(sql, {"metric": metric}, frames={"wanted": wanted}).arrow()


def _chart(rows: pa.Table, axis: str, part: Part, dark: bool) -> Any:
    import altair as alt

    marking = alt.selection_interval(
        name="part", encodings=["x"], value={"x": list(part)} if part is not None else alt.Undefined
    )
    is_time = axis == "timestamp"
    scale = alt.Scale(zero=False, nice=False)
    if is_time:
        scale = time_scale(alt, rows.column("x")[0].as_py(), rows.column("x")[-1].as_py())
    chart = (
        alt.Chart(alt.InlineData(values=rows.to_pylist()))
        .mark_area(opacity=0.45, interpolate="step-after", line=True)
        .encode(
            x=alt.X("x:T" if is_time else "x:Q", title=None, axis=None, scale=scale),
            y=alt.Y("low:Q", title=None, axis=None, scale=alt.Scale(zero=False)),
            y2="high:Q",
        )
        .properties(
            width="container",
            height=_HEIGHT,
            description="The whole range; drag to look closer.",
            # A page keeps the picture, and what is marked in it, where a chart equals the last one.
            usermeta={"made": time.monotonic_ns(), "embedOptions": {"actions": ACTIONS}},
        )
        .add_params(marking)
    )
    return themed(chart, dark=dark)


def _instant(millis: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(millis / 1000, dt.UTC)
