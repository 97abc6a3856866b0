"""Prediction metrics over windows of time, or over jobs, by segment."""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import MAX_PANELS, counted, subtitle
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.looks import colour_of, legend_columns, number_tooltips
from metrics_lake.charts.segments import group_names
from metrics_lake.charts.theme import themed

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["FIRST", "finite", "windows"]

_MAX_ROWS: Final = 10_000
"""Values of a chart: about 2 MB in its page."""
_BANDS: Final = 4
"""So many lines of a panel have bands; of more, bands would hide the lines."""
_PANEL_WIDTH: Final = 260
_AXIS_WIDTH: Final = 60
_CONTAINER_WIDTH: Final = 800
_ESTIMATED: Final = "estimated/"
_NOTABLE_PSI: Final = 0.1
"""From here on a population stability index is taken for a shift worth a look (a rule of thumb)."""

FIRST: Final = (
    "roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1", "precision", "recall", "log_loss",
    "brier", "ece", "rmse", "mae", "r2", "mape", "mean_error", "drift/psi", "drift/js", "drift/wasserstein",
    "coverage", "num_predictions", "score_mean", "mean",
)  # fmt: skip
"""The metrics that are drawn first where there are too many."""


def windows(
    rows: pa.Table,
    *,
    title: str | None = None,
    width: int | str = 640,
    height: int = 220,
    dark: bool = False,
) -> Chart:
    """Return prediction metrics over their windows (without windows: over jobs), a line a segment.

    A band is the confidence interval. A line breaks where a window has no predictions or a metric no value;
    a cross at the foot says why. An estimate such as ``estimated/roc_auc`` is drawn dashed in the panel of
    the metric that it estimates.

    Args:
        rows: ``resource window_start window_end segment metric label value n low high reason``.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: Of one panel, in pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    alt = altair_module()
    found = [row for row in rows.to_pylist() if row["metric"] != "confusion"]
    has_windows = any(row["window_start"] is not None for row in found)
    placed = [row for row in found if row["window_start"] is not None or not has_windows]
    known = list(dict.fromkeys(row["metric"].removeprefix(_ESTIMATED) for row in placed))
    metrics = _fitting(placed, known)
    wanted = [row for row in placed if row["metric"].removeprefix(_ESTIMATED) in metrics]
    segments = list(dict.fromkeys(tuple(row["segment"] or ()) for row in wanted))
    kept = _first_segments(wanted, segments)
    drawn = (
        wanted
        if len(kept) == len(segments)
        else [row for row in wanted if tuple(row["segment"] or ()) in kept]
    )
    values, groups = _values(drawn, has_windows=has_windows)
    num_empty = sum(row["value"] is None or not math.isfinite(row["value"]) for row in drawn)
    lines = subtitle(
        [
            f"{len(metrics)} of {len(known)} metrics" if len(known) > len(metrics) else None,
            counted(len(drawn) - num_empty, "value"),
            f"{num_empty:,} without one (crosses say why)" if num_empty else None,
            f"{len(kept):,} of {len(segments):,} segments" if len(kept) < len(segments) else None,
            _intervals_told(drawn, groups, "bands" if has_windows else "whiskers"),
        ]
    )
    layers = _layers(alt, values, groups, width, has_windows=has_windows)
    data = inline(_table(values, has_windows=has_windows))
    if len(metrics) > 1:
        room = width if isinstance(width, int) else _CONTAINER_WIDTH
        columns = max(1, room // (_PANEL_WIDTH + _AXIS_WIDTH))
        chart = (
            alt.layer(*layers)
            .properties(width=room // columns - _AXIS_WIDTH, height=min(height, 180))
            .facet(
                data=data,
                facet=alt.Facet("metric:N", title=None, sort=metrics),
                columns=columns,
            )
            .resolve_scale(y="independent")
        )
    else:
        chart = alt.layer(*layers, data=data).properties(width=width, height=height)
    shown = title if title is not None else (metrics[0] if len(metrics) == 1 else "Prediction metrics")
    chart = chart.properties(
        title=alt.Title(text=shown, subtitle=lines),
        description=f"Prediction metrics {', '.join(metrics)}: {'; '.join(lines)}.",
    )
    return themed(chart, dark=dark)


def finite(value: float | None) -> float | None:
    """Return a number that has a place on an axis, else None."""
    return value if value is not None and math.isfinite(value) else None


def _fitting(rows: list[dict[str, Any]], known: list[str]) -> list[str]:
    """Return the metrics that are drawn, of which there is room for few where each has many values."""
    sizes = Counter(row["metric"].removeprefix(_ESTIMATED) for row in rows)
    if len(known) <= MAX_PANELS and len(rows) <= _MAX_ROWS:
        return known
    chosen: list[str] = []
    room = _MAX_ROWS
    for metric in sorted(known, key=_rank)[:MAX_PANELS]:
        room -= sizes[metric]
        if chosen and room < 0:
            break
        chosen.append(metric)
    return chosen


def _first_segments(rows: list[dict[str, Any]], segments: list[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Return the segments that there is room for, in their order."""
    sizes = Counter(tuple(row["segment"] or ()) for row in rows)
    room = accumulate(sizes[segment] for segment in segments)
    return {segment for segment, used in zip(segments, room, strict=True) if used <= _MAX_ROWS} or {
        *segments[:1]
    }


def _rank(metric: str) -> tuple[int, str]:
    return (FIRST.index(metric) if metric in FIRST else len(FIRST), metric)


def _intervals_told(rows: list[dict[str, Any]], groups: list[str], marks: str) -> str | None:
    if not any(row["low"] is not None for row in rows):
        return None
    return f"{marks}: confidence intervals" if len(groups) <= _BANDS else "intervals on hovering"


def _values(rows: list[dict[str, Any]], *, has_windows: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what is drawn of each row, with an empty one where windows are missing between two."""
    jobs = list(dict.fromkeys(row["resource"] for row in rows))
    label_of = dict(zip(jobs, short_labels(jobs), strict=True))
    # Over jobs the job is a place on the axis, not a line.
    own = rows if has_windows else [row | {"resource": ""} for row in rows]
    names = group_names(own, with_windows=False)
    groups = list(dict.fromkeys(names))
    values: list[dict[str, Any]] = []
    ends: dict[tuple[str, str], Any] = {}
    for row, group in zip(rows, names, strict=True):
        metric = row["metric"].removeprefix(_ESTIMATED)
        kind = "estimated" if metric != row["metric"] else "measured"
        start = row["window_start"]
        place = {"group": group, "metric": metric, "kind": kind}
        if has_windows:
            before = ends.get((group, row["metric"]))
            if before is not None and before < start:
                values.append(place | {"x": before.timestamp() * 1000, "value": None})
            ends[group, row["metric"]] = row["window_end"]
        values.append(
            place
            | {
                "x": start.timestamp() * 1000 if has_windows else label_of[row["resource"]],
                "end": row["window_end"].timestamp() * 1000 if has_windows else None,
                "job": row["resource"],
                "value": finite(row["value"]),
                "low": finite(row["low"]),
                "high": finite(row["high"]),
                "n": row["n"],
                "bound": row["bound"],
                "reason": row["reason"] or ("" if finite(row["value"]) is not None else "it is not finite"),
            }
        )
    if "drift/psi" in {value["metric"] for value in values}:
        values.append({"metric": "drift/psi", "rule": _NOTABLE_PSI})
    return values, groups


def _table(values: list[dict[str, Any]], *, has_windows: bool) -> pa.Table:
    """Return what is drawn as columns; a text that is not there is empty, that is null."""
    import pyarrow as pa

    texts = {"group", "metric", "kind", "job", "reason"} | (set() if has_windows else {"x"})
    names = (
        "group",
        "metric",
        "kind",
        "job",
        "reason",
        "x",
        "end",
        "value",
        "low",
        "high",
        "n",
        "bound",
        "rule",
    )
    return pa.table(
        {
            name: pa.array([value.get(name) or "" for value in values], pa.string())
            if name in texts
            else pa.array([value.get(name) for value in values], pa.float64())
            for name in names
        }
    )


def _layers(
    alt: Any, values: list[dict[str, Any]], groups: list[str], width: int | str, *, has_windows: bool
) -> list[Any]:
    jobs = list(dict.fromkeys(value["x"] for value in values if "x" in value))
    x = (
        alt.X(
            "x:T",
            title="window (UTC)",
            scale=alt.Scale(type="utc"),
            axis=alt.Axis(labelOverlap=True, labelSeparation=8),
        )
        if has_windows
        else alt.X("x:N", title="job", scale=alt.Scale(domain=jobs), axis=alt.Axis(labelLimit=160))
    )
    colour = colour_of(alt, groups, columns=legend_columns(groups, width))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    base = alt.Chart().transform_filter("isValid(datum.group)").encode(x=x, color=colour, detail="kind:N")
    tooltip = [
        alt.Tooltip("job:N"),
        *([alt.Tooltip("x:T", title="from", timeUnit="utcyearmonthdatehours"),
           alt.Tooltip("end:T", title="to", timeUnit="utcyearmonthdatehours")] if has_windows else []),
        alt.Tooltip("group:N"),
        alt.Tooltip("metric:N"),
        alt.Tooltip("kind:N"),
        *number_tooltips(alt),
    ]  # fmt: skip
    # Jobs may be anything, such as rival models: what lies between two of them is nothing.
    line = base.mark_line(strokeWidth=1.7 if has_windows else 1, opacity=1 if has_windows else 0.35)
    line = line.encode(y=y)
    if any(value.get("kind") == "estimated" for value in values):
        scale = alt.Scale(domain=["measured", "estimated"], range=[[1, 0], [5, 3]])
        legend = alt.Legend(title=None, orient="bottom", symbolType="stroke")
        line = line.encode(strokeDash=alt.StrokeDash("kind:N", scale=scale, legend=legend))
    layers = [
        alt.Chart()
        .transform_filter("isValid(datum.rule)")
        .mark_rule(strokeDash=[2, 3], color="#8a8a8a")
        .encode(y=alt.Y("rule:Q", title=None)),
        line,
        base.transform_filter("isValid(datum.value)")
        .mark_point(filled=True, size=35, opacity=1)
        .encode(y=y, tooltip=tooltip),
        base.transform_filter("isValid(datum.reason)")
        .mark_text(text="\N{MULTIPLICATION SIGN}", fontSize=12, baseline="bottom")
        .encode(
            y=alt.YValue("height"),
            tooltip=[*tooltip[: 3 if has_windows else 1], alt.Tooltip("group:N"), alt.Tooltip("reason:N")],
        ),
    ]
    if len(groups) <= _BANDS:
        low = alt.Y("low:Q", title=None, scale=alt.Scale(zero=False))
        if has_windows:
            # Invalid ends break the area as the line is broken.
            band = base.mark_area(opacity=0.15).encode(y=low, y2="high:Q")
        else:
            only = base.transform_filter("isValid(datum.low) && isValid(datum.high)")
            band = only.mark_rule(strokeWidth=2, opacity=0.5).encode(y=low, y2="high:Q")
        layers.insert(0, band)
    return layers
