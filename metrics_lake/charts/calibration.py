"""Reliability: how often what was predicted with a score came true, with counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.looks import colour_of, dash_of, legend_columns
from metrics_lake.charts.segments import group_names
from metrics_lake.charts.theme import LEGEND_SERIES, NUM_COLOURS, themed

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["calibration"]

_CONTAINER_WIDTH: Final = 480
_FEW: Final = 10
_INTERVALS: Final = 4
"""So many curves have whiskers; of more, one could not tell whose they are."""


def calibration(
    points: pa.Table,
    numbers: pa.Table | None = None,
    *,
    title: str | None = None,
    width: int | str = 360,
    height: int = 300,
    dark: bool = False,
) -> Chart:
    """Return a reliability diagram: observed share against mean score of each bin, and below rows by bin.

    On the diagonal a score means what it says; below it the scores are too high. Whiskers are the
    confidence interval of the share.

    Args:
        points: Points of the curve ``calibration``, as ``lake.prediction_curves`` gives them.
        numbers: Prediction metrics of the same groups: of one curve their ``ece`` and ``brier`` are told.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: Of the upper part, in pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    alt = altair_module()
    width = _CONTAINER_WIDTH if width == "container" else width  # Vega-Lite sizes no concatenation
    found = points.to_pylist()
    names = group_names(found, with_windows=True)
    known = list(dict.fromkeys(names))
    groups = known[:LEGEND_SERIES]
    rows = [
        {name: row[name] for name in ("x", "y", "low", "high", "n", "bin_start", "bin_end")} | {"group": name}
        for row, name in zip(found, names, strict=True)
        if name in groups
    ]
    lines = subtitle(_told(rows, groups, len(known), numbers))
    columns = legend_columns(groups, width)
    colour = colour_of(alt, groups, columns=columns)
    unit = alt.Scale(domain=[0, 1])
    x = alt.X("x:Q", title=None, scale=unit, axis=alt.Axis(labels=False))
    y = alt.Y("y:Q", title="observed share", scale=unit)
    base = alt.Chart().encode(x=x, color=colour)
    tooltip = [
        alt.Tooltip("group:N", title="curve"),
        alt.Tooltip("bin_start:Q", title="scores from", format=".3f"),
        alt.Tooltip("bin_end:Q", title="to", format=".3f"),
        alt.Tooltip("x:Q", title="mean score", format=".4f"),
        alt.Tooltip("y:Q", title="observed share", format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
        alt.Tooltip("n:Q", title="rows", format=",d"),
    ]
    diagonal = alt.Chart(alt.InlineData(values=[{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}]))
    line = base.mark_line(strokeWidth=1.5).encode(y=y)
    if len(groups) > NUM_COLOURS:
        line = line.encode(strokeDash=dash_of(alt, groups, columns=columns))
    layers: list[Any] = [
        diagonal.mark_line(strokeDash=[4, 4], strokeWidth=1, color="#8a8a8a").encode(x=x, y=y),
        line,
    ]
    if len(groups) <= _INTERVALS:
        whiskers = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5, opacity=0.7)
        layers.append(whiskers.encode(y=alt.Y("low:Q", title="observed share"), y2="high:Q"))
    layers.append(base.mark_point(filled=True, size=40, opacity=1).encode(y=y, tooltip=tooltip))
    upper = alt.layer(*layers).properties(width=width, height=height)
    start = alt.X("bin_start:Q", title="score", scale=unit)
    count = alt.Y("n:Q", title="rows", axis=alt.Axis(tickCount=3, format="~s"), stack=None)
    lower = alt.Chart().encode(x=start, x2="bin_end:Q", y=count, color=colour, tooltip=tooltip)
    if len(groups) > 1:
        bars = lower.mark_rule(strokeWidth=2)
    else:
        bars = lower.mark_bar(opacity=0.8).encode(y2=alt.datum(0))
    bars = bars.properties(width=width, height=70)
    shown = "Calibration" if title is None else title
    chart = alt.vconcat(upper, bars, spacing=6, data=alt.InlineData(values=rows)).properties(
        title=alt.Title(text=shown, subtitle=lines), description=f"{shown}: {'; '.join(lines)}."
    )
    return themed(chart, dark=dark)


def _told(
    rows: list[dict[str, Any]], groups: list[str], num_groups: int, numbers: pa.Table | None
) -> list[str | None]:
    if not rows:
        return ["no curve: calibration needs scores and rows with a label"]
    told: list[str | None] = []
    if num_groups > len(groups):
        told.append(f"{len(groups)} of {counted(num_groups, 'curve')}")
    if len(groups) == 1:
        told.append(counted(sum(row["n"] for row in rows), "labelled row"))
        values = [] if numbers is None else numbers.to_pylist()
        for metric in ("ece", "brier"):
            value = next((row["value"] for row in values if row["metric"] == metric), None)
            told.append(None if value is None else f"{metric} {value:.4f}")
    thin = sum(row["n"] < _FEW for row in rows)
    told.append(f"{counted(thin, 'bin')} of fewer than {_FEW} rows" if thin else None)
    return told
