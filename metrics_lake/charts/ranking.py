"""Leaderboards as bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.theme import themed

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["ranking"]

_MAX_BARS: Final = 50
_BAR_HEIGHT: Final = 20


def ranking(rows: pa.Table, *, title: str | None = None, width: int | str = 640, dark: bool = False) -> Chart:
    """Return a leaderboard as bars, the best on top, each with its value; infinite ones have no bar.

    Args:
        rows: ``rank resource metric value`` and more, in order; at most the first 50 are drawn.
        title: Above the chart; None: the metric.
        width: In pixels, or ``"container"``.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    alt = altair_module()
    drawn = rows.slice(0, _MAX_BARS).to_pylist()
    labels = short_labels([row["resource"] for row in drawn])
    values: list[dict[str, Any]] = [
        {
            "rank": row["rank"],
            "label": f"{row['rank']}.  {label}",
            "resource": row["resource"],
            "value": row["value"] if math.isfinite(row["value"]) else None,
            "text": f"{row['value']:.6g}",
            "end": max(0.0, row["value"]) if math.isfinite(row["value"]) else 0.0,
            "step": row.get("step"),
        }
        for row, label in zip(drawn, labels, strict=True)
    ]
    metrics = list(dict.fromkeys(row["metric"] for row in drawn))
    heading = title if title is not None else ", ".join(metrics)
    count = (
        f"the first {len(drawn)} of {counted(rows.num_rows, 'resource')}"
        if rows.num_rows > len(drawn)
        else counted(rows.num_rows, "resource")
    )
    lines = subtitle([count])
    base = alt.Chart(alt.InlineData(values=values or [{}])).encode(
        y=alt.Y("label:N", sort=[value["label"] for value in values], title=None),
        x=alt.X("value:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=8)),
        tooltip=[
            alt.Tooltip("rank:Q"),
            alt.Tooltip("resource:N"),
            alt.Tooltip("text:N", title="value"),
            alt.Tooltip("step:Q"),
        ],
    )
    bars = base.mark_bar(height=alt.RelativeBandSize(band=0.7))
    # Beside a negative bar: over it one reads nothing.
    texts = base.mark_text(align="left", dx=4).encode(x="end:Q", text="text:N")
    chart = alt.layer(bars, texts).properties(
        width=width,
        height=max(1, len(values)) * _BAR_HEIGHT,
        title=alt.Title(text=heading, subtitle=lines),
        description=f"Leaderboard of {heading}: {'; '.join(lines)}.",
    )
    return themed(chart, dark=dark)
