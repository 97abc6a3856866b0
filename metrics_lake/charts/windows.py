"""Prediction metrics over windows of time, or over jobs, by segment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.theme import LEGEND_SERIES, themed

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["windows"]

_MAX_PANELS: Final = 12
_MAX_ROWS: Final = 4_000


def windows(
    rows: pa.Table,
    *,
    title: str | None = None,
    width: int | str = 640,
    height: int = 220,
    dark: bool = False,
) -> Chart:
    """Return prediction metrics over their windows (without windows: over jobs), a line a segment.

    Where a metric has a confidence interval or a bound, a band shows it.

    Args:
        rows: ``resource window_start window_end segment metric label value n low high``.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: Of one panel, in pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    alt = altair_module()
    found = rows.to_pylist()
    has_windows = any(row["window_start"] is not None for row in found)
    drawn = [
        row
        for row in found
        if row["value"] is not None
        and math.isfinite(row["value"])
        and (row["window_start"] is not None or not has_windows)
    ]
    metrics = list(dict.fromkeys(row["metric"] for row in drawn))[:_MAX_PANELS]
    drawn = [row for row in drawn if row["metric"] in metrics][:_MAX_ROWS]
    jobs = list(dict.fromkeys(row["resource"] for row in drawn))
    label_of = dict(zip(jobs, short_labels(jobs), strict=True))
    values = [_value(row, label_of, has_windows=has_windows) for row in drawn]
    groups = list(dict.fromkeys(value["group"] for value in values))
    lost = len(found) - len(drawn)
    lines = subtitle(
        [counted(len(drawn), "value"), f"{lost:,} of {len(found):,} rows not shown" if lost else None]
    )
    x = (
        alt.X("x:T", title="window (UTC)", scale=alt.Scale(type="utc"))
        if has_windows
        else alt.X("x:N", title="job", sort=[label_of[job] for job in jobs])
    )
    has_legend = 1 < len(groups) <= LEGEND_SERIES
    legend = alt.Legend(title=None, orient="bottom", columns=4) if has_legend else None
    colour = alt.Color("group:N", sort=groups, legend=legend)
    base = alt.Chart(alt.InlineData(values=values or [{}])).encode(x=x, color=colour)
    band = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
    interval = band.mark_area(opacity=0.15) if has_windows else band.mark_rule(strokeWidth=2, opacity=0.6)
    tooltip = [
        alt.Tooltip("job:N"),
        alt.Tooltip("group:N", title="segment"),
        alt.Tooltip("metric:N"),
        alt.Tooltip("value:Q"),
        alt.Tooltip("low:Q"),
        alt.Tooltip("high:Q"),
        alt.Tooltip("n:Q"),
    ]
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    layers = [
        interval.encode(y=alt.Y("low:Q", title=None, scale=alt.Scale(zero=False)), y2="high:Q"),
        base.mark_line().encode(y=y),
        base.mark_point(filled=True, size=35, opacity=1).encode(y=y, tooltip=tooltip),
    ]
    lined = alt.layer(*layers)
    if len(metrics) > 1:
        chart = (
            lined.properties(width=420 if not isinstance(width, int) else min(width, 420), height=height)
            .facet(
                facet=alt.Facet("metric:N", title=None, sort=metrics),
                columns=max(1, (width if isinstance(width, int) else 840) // 380),
            )
            .resolve_scale(y="independent")
        )
    else:
        chart = lined.properties(width=width, height=height)
    shown = title if title is not None else (metrics[0] if len(metrics) == 1 else "")
    chart = chart.properties(
        title=alt.Title(text=shown, subtitle=lines),
        description=f"Prediction metrics {', '.join(metrics)}: {'; '.join(lines)}.",
    )
    return themed(chart, dark=dark)


def _value(row: dict[str, Any], label_of: dict[str, str], *, has_windows: bool) -> dict[str, Any]:
    segment = row["segment"]
    pairs = dict(segment) if segment else {}
    parts = [f"{name}={value}" for name, value in pairs.items()] or ["all"]
    if row["label"]:
        parts.append(str(row["label"]))
    if has_windows and len(label_of) > 1:
        parts.insert(0, label_of[row["resource"]])
    start = row["window_start"]
    return {
        "x": int(start.timestamp() * 1000) if has_windows else label_of[row["resource"]],
        "job": row["resource"],
        "group": " ".join(parts),
        "metric": row["metric"],
        "value": row["value"],
        "low": _finite(row["low"]),
        "high": _finite(row["high"]),
        "n": row["n"],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
