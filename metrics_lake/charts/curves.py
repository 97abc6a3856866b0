"""Histories as curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import counted
from metrics_lake.charts.hovering import POINTS, SERIES, lifting
from metrics_lake.charts.looks import (
    NEAREST,
    colour_of,
    dash_of,
    legend_columns,
    nearest_point,
    time_scale,
    told_of_nearest,
)
from metrics_lake.charts.picture import Picture
from metrics_lake.charts.theme import LEGEND_SERIES, NUM_COLOURS, config

if TYPE_CHECKING:
    from metrics_lake.charts._altair import Chart
    from metrics_lake.charts.counts import Drawn

__all__ = ["curves"]

_PANEL_WIDTH: Final = 260
_AXIS_WIDTH: Final = 60
_CONTAINER_WIDTH: Final = 800
_FORMAT: Final = ".6~g"
"""Of an axis of which all values are the same: by the distance of its ticks Vega would write 0.1 as 0."""

_DASHED_POINTS: Final = 600
"""Of more points lines are not dashed: three of ten lines of 500 noisy points each took a browser 0.4 s more
(November 2026)."""

_BROAD_POINTS: Final = 2_000
"""Lines of more points are one pixel wide: ten of 500 noisy points each, 1.6 wide, took a browser without a
graphics card 200 ms, and 5 so (Chromium 156, November 2026)."""

_NEAR_POINTS: Final = 8_000
"""Of how many points the nearest is sought in panels: with 36,000 a browser takes a second more."""


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
    (in panels of very many points, of some) and lifts its line out; dragging moves and the wheel with shift
    zooms.

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
    metrics = picture.metrics
    what = metrics[0] if len(metrics) == 1 else counted(len(metrics), "metric") if metrics else "no curve"
    shown_title = title if title is not None else what
    # Each column, and each field of its series that a point is given, costs a browser 1 ms for 5,000 points.
    is_plain = len(metrics) <= 1 and not picture.marks
    fields = ["group"] if is_plain else ["series", "resource", "metric", "tags", "group"]
    points = inline(picture.points.drop_columns(_unused(picture)))
    told = {
        "title": alt.Title(text=_one_line(shown_title), subtitle=picture.subtitle),
        "description": _told(shown_title, picture.subtitle),
        "datasets": {POINTS: points.values, SERIES: picture.series or [{}]},
        "transform": [
            alt.LookupTransform(
                lookup="s",
                **{
                    "from": alt.LookupData(
                        data=alt.NamedData(name=SERIES),
                        key="s",
                        fields=fields,
                    )
                },
            )
        ],
        "config": config(dark=dark),
    }
    chart: Chart
    data = alt.NamedData(name=POINTS, format=points.format)
    if len(metrics) > 1:
        room = width if isinstance(width, int) else _CONTAINER_WIDTH
        columns = max(1, room // (_PANEL_WIDTH + _AXIS_WIDTH))
        # Axes of panels have no names of their own, by which ``lifting`` would find them.
        hover = nearest_point(alt, fields=["s"])
        layers = _layers(alt, picture, log=log, width=width, hover=hover)
        panel = alt.layer(*layers, width=room // columns - _AXIS_WIDTH, height=min(height, 180))
        chart = (
            panel.facet(
                data=data, facet=alt.Facet("metric:N", title=None, sort=list(metrics)), columns=columns
            )
            .resolve_scale(y="independent")
            .resolve_axis(x="independent")
            .properties(**told)
        )
    else:
        # In one go: each further step makes a copy of all layers.
        layers = _layers(alt, picture, log=log, width=width)
        usermeta = lifting(_told_lines(picture))
        chart = alt.layer(*layers, data=data, width=width, height=height, usermeta=usermeta, **told)
    return chart


def _unused(picture: Picture) -> list[str]:
    """Return the columns of the points that no layer reads."""
    return [*(() if picture.has_dots else ("dot",)), *(() if picture.marks else ("mark",))]


def _layers(alt: Any, picture: Picture, *, log: bool, width: int | str, hover: Any = None) -> list[Any]:
    """Return lines, dots where a line alone shows nothing, what is hovered over, and marks at the edges."""
    y_axis = {"axis": alt.Axis(format=_FORMAT)} if picture.is_flat else {}
    y_scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False)
    x_scale = alt.Scale(zero=False, nice=False)
    if picture.is_time:
        x_scale = time_scale(alt, *picture.ends)
    base = alt.Chart().encode(
        x=alt.X("x:T" if picture.is_time else "x:Q", title=picture.x_title, scale=x_scale),
        y=alt.Y("y:Q", title=None, scale=y_scale, **y_axis),
        detail=alt.Detail("s:N"),  # of a text Altair would find out by its schema what it is
    )
    zoom = alt.selection_interval(name="zoom", bind="scales", zoom="wheel![event.shiftKey]")
    is_crowd = len(picture.groups) > LEGEND_SERIES
    columns = legend_columns(picture.groups, width, signal="width" if hover is None else None)
    look: dict[str, Any] = {"title": picture.colour_title, "columns": columns}
    colour = colour_of(alt, picture.groups, **look)
    seen = 0.35 if is_crowd else 0.95
    opacity = alt.OpacityValue(seen)
    if hover is not None:
        # Channels, not what alt.when and alt.value give: of that Altair has to find out what it is.
        lifted = {"param": hover.name, "empty": False, "value": 1}
        opacity = alt.OpacityValue(0.06, condition=[lifted, {"param": hover.name, "value": seen}])
    is_fine = is_crowd or picture.points.num_rows > _BROAD_POINTS
    line = base.mark_line(strokeWidth=1 if is_fine else 1.6, aria=False).encode(color=colour, opacity=opacity)
    if NUM_COLOURS < len(picture.groups) <= LEGEND_SERIES and picture.points.num_rows <= _DASHED_POINTS:
        line = line.encode(strokeDash=dash_of(alt, picture.groups, **look))
    dots = (
        base.transform_filter("datum.dot == 1")
        .mark_point(filled=True, size=22, aria=False)
        .encode(color=colour, opacity=opacity)
    )
    layers = [line.add_params(zoom), *([dots] if picture.has_dots else [])]
    if hover is not None:
        there = base.transform_filter("isValid(datum.y)")
        if picture.points.num_rows > _NEAR_POINTS:
            there = there.transform_sample(_NEAR_POINTS)
        near = there.mark_point(filled=True, size=50, opacity=0).encode(tooltip=_tooltip(alt, picture, "y"))
        layers.append(near.add_params(hover))
    return [*layers, *_marks(alt, base, picture, colour)]


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
        .encode(y=place, color=colour, tooltip=_tooltip(alt, picture, "mark"))
        for name, place, shape, offset in edges
        if name in picture.marks
    ]


def _tooltip(alt: Any, picture: Picture, value: str) -> Any:
    parts = {"resource": f"{NEAREST}.resource", "metric": f"{NEAREST}.metric"}
    if any(each["tags"] for each in picture.series):
        parts["tags"] = f"{NEAREST}.tags"
    label = "time" if picture.is_time else picture.x_title
    return told_of_nearest(alt, {**parts, label: _x_text(picture, NEAREST), "value": f"{NEAREST}.{value}"})


def _told_lines(picture: Picture) -> list[str]:
    """Return the lines that ``lifting`` tells of a point."""
    x = _x_text(picture, "datum")
    if not picture.is_time:
        x = f"'step ' + {x}" if picture.x_title == "step" else f"{x} + ' {picture.x_title}'"
    tags = "(datum.series.tags ? datum.series.tags + ' · ' : '')"
    return ["datum.series.resource", f"{tags} + {x}", "'' + datum.y"]


def _x_text(picture: Picture, point: str) -> str:
    """Return the expression that writes a point's place on the x axis."""
    if picture.is_time:
        return f"utcFormat({point}.x, '%Y-%m-%d %H:%M:%S') + ' UTC'"
    return f"format({point}.x, '{',d' if picture.x_title == 'step' else ',.4~r'}')"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _told(title: str, lines: list[str]) -> str:
    return f"Curves of {title}: {'; '.join(lines)}."
