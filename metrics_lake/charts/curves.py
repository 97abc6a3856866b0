"""Histories as curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import counted
from metrics_lake.charts.picture import Picture
from metrics_lake.charts.theme import DASHES, LEGEND_SERIES, NUM_COLOURS, themed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake.charts._altair import Chart
    from metrics_lake.charts.counts import Drawn

__all__ = ["curves"]

_PANEL_WIDTH: Final = 260
_AXIS_WIDTH: Final = 60
_CONTAINER_WIDTH: Final = 800


def curves(
    drawn: Drawn,
    *,
    log: bool = False,
    color: str | None = None,
    title: str | None = None,
    width: int | str = 640,
    height: int = 300,
    dark: bool = False,
) -> Chart:
    """Return curves of a history: a line a series, a panel a metric.

    Gaps are where a value is NaN or infinite; a mark says so at the edge. Hovering names the nearest point
    and lifts its line out; dragging moves and the wheel with shift zooms.

    Args:
        drawn: The points.
        log: Draw values on a logarithmic axis.
        color: What lines of the same colour share: ``"resource"``, ``"metric"`` or the name of a tag; None:
            each series has its own.
        title: Above the chart; None: the metric.
        width: In pixels, or ``"container"``.
        height: Of one panel, in pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed, or there is no such tag.
    """
    alt = altair_module()
    picture = Picture.of(drawn, log=log, color=color)
    lines = _layers(alt, picture, log=log, width=width)
    metrics = picture.metrics
    what = metrics[0] if len(metrics) == 1 else counted(len(metrics), "metric")
    shown_title = title if title is not None else what
    heading = alt.Title(text=_one_line(shown_title), subtitle=picture.subtitle)
    data = inline(picture.points)
    if len(metrics) > 1:
        room = width if isinstance(width, int) else _CONTAINER_WIDTH
        columns = max(1, room // (_PANEL_WIDTH + _AXIS_WIDTH))
        chart = (
            lines.properties(width=room // columns - _AXIS_WIDTH, height=min(height, 180))
            .facet(data=data, facet=alt.Facet("metric:N", title=None, sort=list(metrics)), columns=columns)
            .resolve_scale(y="independent")
            .resolve_axis(x="independent")
        )
    else:
        chart = lines.properties(data=data, width=width, height=height)
    chart = chart.transform_lookup(
        lookup="s",
        from_=alt.LookupData(
            data=alt.InlineData(values=picture.series or [{}]),
            key="s",
            fields=["series", "resource", "metric", "tags", "group"],
        ),
    )
    chart = chart.properties(title=heading, description=_told(shown_title, picture.subtitle))
    return themed(chart, dark=dark)


def _layers(alt: Any, picture: Picture, *, log: bool, width: int | str) -> Any:
    y_scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False)
    x_scale = alt.Scale(type="utc") if picture.is_time else alt.Scale(zero=False, nice=False)
    base = alt.Chart().encode(
        x=alt.X("x:T" if picture.is_time else "x:Q", title=picture.x_title, scale=x_scale),
        y=alt.Y("y:Q", title=None, scale=y_scale),
        detail="s:N",
    )
    hover = alt.selection_point(
        name="hover", fields=["s"], nearest=True, on="pointerover", clear="pointerout"
    )
    zoom = alt.selection_interval(name="zoom", bind="scales", zoom="wheel![event.shiftKey]")
    is_crowd = len(picture.groups) > LEGEND_SERIES
    colour, dash = _colours(alt, picture, width)
    opacity = alt.condition(hover, alt.value(0.35 if is_crowd else 0.95), alt.value(0.06))
    line = base.mark_line(strokeWidth=1 if is_crowd else 1.6).encode(color=colour, opacity=opacity)
    if dash is not None:
        line = line.encode(strokeDash=dash)
    # What is hovered is drawn again on top: a crowd is pale, and one of it has to stand out.
    chosen = (
        base.transform_filter(alt.expr.isValid(alt.datum.y))
        .transform_filter({"param": "hover", "empty": False})
        .mark_line(strokeWidth=2.4)
        .encode(color=colour)
    )
    dots = (
        base.transform_filter("datum.dot == 1")
        .mark_point(filled=True, size=22)
        .encode(color=colour, opacity=opacity)
    )
    near = (
        base.transform_filter("isValid(datum.y)")
        .mark_point(filled=True, size=50, opacity=0)
        .encode(tooltip=_tooltip(alt, picture, "y:Q"))
        .add_params(hover)
    )
    layers = [line, dots, *([chosen] if is_crowd else []), near]
    if any(picture.points.column("mark").to_pylist()):
        layers += _marks(alt, base, picture, colour)
    return alt.layer(*layers).add_params(zoom)


def _marks(alt: Any, base: Any, picture: Picture, colour: Any) -> list[Any]:
    """Return marks at the edges for what has no place on the axis: infinity on top, the others below."""
    edges = (
        ("inf", alt.YValue(0), "triangle-up", 6),
        ("NaN", alt.YValue("height"), "cross", -6),
        ("-inf", alt.YValue("height"), "triangle-down", -6),
    )
    return [
        base.transform_filter(f"datum.mark == '{name}'")
        .mark_point(shape=shape, filled=True, size=40, angle=45 if name == "NaN" else 0, yOffset=offset)
        .encode(y=place, color=colour, tooltip=_tooltip(alt, picture, "mark:N"))
        for name, place, shape, offset in edges
    ]


def _tooltip(alt: Any, picture: Picture, value: str) -> list[Any]:
    x = (
        alt.Tooltip("x:T", title="time", timeUnit="utcyearmonthdatehoursminutesseconds")
        if picture.is_time
        else alt.Tooltip("x:Q", title=picture.x_title, format=",d" if picture.x_title == "step" else ",.4~r")
    )
    has_tags = any(each["tags"] for each in picture.series)
    return [
        alt.Tooltip("resource:N"),
        alt.Tooltip("metric:N"),
        *([alt.Tooltip("tags:N")] if has_tags else []),
        x,
        alt.Tooltip(value, title="value"),
    ]


def _colours(alt: Any, picture: Picture, width: int | str) -> tuple[Any, Any]:
    """Return what colours and strokes stand for; None where all strokes are alike."""
    groups = list(picture.groups)
    if len(groups) <= 1:
        return alt.Color("group:N", legend=None), None
    if len(groups) > LEGEND_SERIES:
        scheme = alt.SchemeParams(name="viridis", extent=[0.1, 0.9])
        return alt.Color(
            "group:N", sort=groups, scale=alt.Scale(domain=groups, scheme=scheme), legend=None
        ), None
    legend = alt.Legend(
        title=picture.colour_title,
        orient="bottom",
        columns=_legend_columns(groups, width),
        symbolType="stroke",
    )
    colour = alt.Color("group:N", scale=alt.Scale(domain=groups), legend=legend)
    if len(groups) <= NUM_COLOURS:
        return colour, None
    strokes = [list(DASHES[at // NUM_COLOURS]) for at in range(len(groups))]
    return colour, alt.StrokeDash("group:N", scale=alt.Scale(domain=groups, range=strokes), legend=legend)


def _legend_columns(groups: Sequence[str], width: int | str) -> int:
    """Return how many labels fit beside each other, each a symbol and some 6.5 pixels a character."""
    room = width if isinstance(width, int) else _CONTAINER_WIDTH
    return max(1, int(room // (45 + 6.5 * max(map(len, groups)))))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _told(title: str, lines: list[str]) -> str:
    return f"Curves of {title}: {'; '.join(lines)}."
