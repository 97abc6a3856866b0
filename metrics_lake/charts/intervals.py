"""Prediction metrics of one job as values with their intervals: by metric, or by segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module
from metrics_lake.charts.counts import MAX_PANELS, counted, subtitle
from metrics_lake.charts.looks import number_tooltips
from metrics_lake.charts.segments import group_names
from metrics_lake.charts.theme import themed
from metrics_lake.charts.windows import FIRST, finite

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["intervals"]

_MAX_SEGMENTS: Final = 40
_ROW: Final = 20
_NOT_PERFORMANCE: Final = (
    "num_",
    "score_",
    "residual_",
    "entropy",
    "mean_confidence",
    "p0",
    "p1",
    "p2",
    "p5",
    "p7",
    "p9",
)


def intervals(
    rows: pa.Table,
    *,
    title: str | None = None,
    width: int | str = 420,
    dark: bool = False,
) -> Chart:
    """Return the metrics of one job as points with whiskers, its segments below one another.

    Without segments the metrics stand below one another with their numbers on one axis from 0 to 1, outside
    of which a metric has its number alone; with segments each has a panel, and its line of all rows helps to
    compare.

    Args:
        rows: ``resource segment metric label value n low high bound reason``, without windows.
        title: Above the chart.
        width: Of one panel, in pixels, or ``"container"``.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    alt = altair_module()
    found = [row for row in rows.to_pylist() if row["label"] is None and row["window_start"] is None]
    names = group_names(found, with_windows=False)
    values = [
        {
            "group": name,
            "metric": row["metric"],
            "value": finite(row["value"]),
            "low": finite(row["low"]),
            "high": finite(row["high"]),
            "n": row["n"],
            "bound": row["bound"],
            "text": _text(row),
            "is_all": not row["segment"],
        }
        for row, name in zip(found, names, strict=True)
    ]
    groups = list(dict.fromkeys(names))
    draw = _segments if len(groups) > 1 else _metrics
    chart, told = draw(alt, values, groups, width)
    lines = subtitle(told)
    shown = "Prediction metrics" if title is None else title
    chart = chart.properties(
        title=alt.Title(text=shown, subtitle=lines), description=f"Prediction metrics: {'; '.join(lines)}."
    )
    return themed(chart, dark=dark)


def _text(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return row["reason"] or "no value"
    text = f"{row['value']:.4g}"
    return text if row["low"] is None else f"{text}  [{row['low']:.4g}, {row['high']:.4g}]"


def _tooltip(alt: Any) -> list[Any]:
    return [
        alt.Tooltip("group:N", title="segment"),
        alt.Tooltip("metric:N"),
        *number_tooltips(alt),
    ]


def _metrics(
    alt: Any, values: list[dict[str, Any]], groups: list[str], width: int | str
) -> tuple[Any, list[str | None]]:
    shown = [_on_axis(value) for value in values if not value["metric"].startswith(_NOT_PERFORMANCE)]
    order = [name for name in FIRST if any(value["metric"] == name for value in shown)]
    order += [value["metric"] for value in shown if value["metric"] not in FIRST]
    base = alt.Chart(alt.InlineData(values=shown)).encode(
        y=alt.Y("metric:N", title=None, scale=alt.Scale(domain=order)), tooltip=_tooltip(alt)
    )
    x = alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, 1]))
    chart = alt.layer(
        base.mark_rule(strokeWidth=3, opacity=0.35, clip=True).encode(
            x=alt.X("low:Q", title=None), x2="high:Q"
        ),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x),
        base.mark_text(align="left", dx=8).encode(x=alt.XValue("width"), text="text:N"),
    ).properties(width=width, height=alt.Step(_ROW))
    size = max((value["n"] or 0 for value in values), default=0)
    others, outside = len(values) - len(shown), sum(value["is_outside"] for value in shown)
    return chart, [
        counted(len(shown), "metric"),
        f"of up to {counted(size, 'row')}",
        f"{outside} in numbers alone: not between 0 and 1" if outside else None,
        f"{others} others, counts among them, not drawn" if others else None,
    ]


def _on_axis(value: dict[str, Any]) -> dict[str, Any]:
    """Return a value without its place where it has none on an axis from 0 to 1."""
    is_outside = value["value"] is not None and not 0.0 <= value["value"] <= 1.0
    place = {"value": None, "low": None, "high": None} if is_outside else {}
    return {**value, **place, "is_outside": is_outside}


def _segments(
    alt: Any, values: list[dict[str, Any]], groups: list[str], width: int | str
) -> tuple[Any, list[str | None]]:
    known = list(dict.fromkeys(value["metric"] for value in values))
    metrics = known
    if len(known) > MAX_PANELS:
        metrics = [name for name in FIRST if name in known][:MAX_PANELS]
    kept = groups[:_MAX_SEGMENTS]
    shown = [value for value in values if value["metric"] in metrics and value["group"] in kept]
    base = alt.Chart().encode(
        y=alt.Y("group:N", title=None, scale=alt.Scale(domain=kept)), tooltip=_tooltip(alt)
    )
    x = alt.X("value:Q", title=None, scale=alt.Scale(zero=False))
    layers = [
        base.transform_filter("datum.is_all")
        .mark_rule(strokeDash=[3, 3], color="#8a8a8a")
        .encode(x=x, y=alt.YValue(0), y2=alt.value("height")),
        base.mark_rule(strokeWidth=3, opacity=0.35).encode(
            x=alt.X("low:Q", title=None, scale=alt.Scale(zero=False)), x2="high:Q"
        ),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x),
        base.transform_filter("!isValid(datum.value)")
        .mark_text(align="left", fontSize=10)
        .encode(x=alt.XValue(4), text="text:N"),
    ]
    data = alt.InlineData(values=shown)
    if len(metrics) > 1:
        panel = min(width, 260) if isinstance(width, int) else 260
        chart = (
            alt.layer(*layers)
            .properties(width=panel, height=alt.Step(_ROW))
            .facet(data=data, facet=alt.Facet("metric:N", title=None, sort=metrics), columns=3)
            .resolve_scale(x="independent")
        )
    else:
        chart = alt.layer(*layers, data=data).properties(width=width, height=alt.Step(_ROW))
    return chart, [
        f"{len(metrics)} of {len(known)} metrics" if len(known) > len(metrics) else None,
        f"{len(kept)} of {counted(len(groups), 'segment')}" if len(groups) > len(kept) else None,
        "dashed: all rows",
    ]
