"""What hovering over lines does: it names the nearest point and lifts its line out of the others.

Vega-Lite would draw an invisible mark, and a cell around it, for every point: of the 255 ms that a browser
takes for ten lines of 500 points 200, and of the 325 ms for other data 300 (Vega 6.2, November 2026). So the
picture is made without, and Vega-Embed, which draws charts in notebooks, reports and the dashboard, adds a
search in Vega's own words that does nothing before the pointer comes. An image has nothing to hover over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts.theme import HALO_STYLE, TEXT_STYLE, VEIL_STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["POINTS", "SERIES", "lifting"]

POINTS: Final = "points"
"""The data of a chart's points: CSV of ``s x y dot`` as ``Picture`` has them."""
SERIES: Final = "series"
"""The data of a chart's series: row ``s`` is of series ``s``, and has its ``group``."""

_AWAY: Final = 9  # pixels from the point to what is told of it
_LINE_HEIGHT: Final = 14  # pixels


def lifting(told: Sequence[str]) -> dict[str, Any]:
    """Return the ``usermeta`` of a chart of lines on one pair of axes, by which hovering names points.

    Args:
        told: The lines of what is told, Vega expressions over ``datum``: ``x``, ``y``, and the row of
            ``SERIES`` as ``series``.
    """
    is_right, is_low = "datum.px > width / 2", "datum.py > height / 2"
    up = _AWAY + _LINE_HEIGHT * (len(told) - 1)
    text = {
        "x": {"signal": f"datum.px + ({is_right} ? {-_AWAY} : {_AWAY})"},
        "y": {"signal": f"datum.py + ({is_low} ? {-up} : {_AWAY})"},
        "align": {"signal": f"{is_right} ? 'right' : 'left'"},
        "baseline": {"signal": f"{is_low} ? 'bottom' : 'top'"},
        "lineHeight": {"value": _LINE_HEIGHT},
        "limit": {"signal": "width / 2"},
        "text": {"signal": f"[{', '.join(told)}]"},
    }
    marks = [
        _mark("rect", "nearest", {"width": {"signal": "width"}, "height": {"signal": "height"}}, VEIL_STYLE),
        _mark("line", "lifted", _LIFTED_LINE) | {"sort": {"field": "x"}, "clip": True},
        _mark("symbol", "lifted", _LIFTED_DOT) | {"clip": True},
        _mark("symbol", "nearest", _NEAREST_DOT),
        _mark("text", "nearest", text, HALO_STYLE),
        _mark("text", "nearest", text, TEXT_STYLE),
    ]
    added = [("signals", _POINTER), *(("data", each) for each in _DATA), *(("marks", each) for each in marks)]
    patch = [{"op": "add", "path": f"/{place}/-", "value": value} for place, value in added]
    return {"embedOptions": {"patch": patch}}


def _is_inside(x: str, y: str, by: int) -> str:
    """Return the expression of whether a place is inside of the axes, give or take some pixels."""
    return f"inrange({x}, [-{by}, width + {by}]) && inrange({y}, [-{by}, height + {by}])"


def _formula(name: str, expression: str) -> dict[str, str]:
    return {"type": "formula", "as": name, "expr": expression}


def _mark(kind: str, data: str, look: dict[str, Any], style: str | None = None) -> dict[str, Any]:
    made = {"type": kind, "from": {"data": data}, "encode": {"update": look}}
    # What lies below keeps its own answers to the pointer.
    return made | {"interactive": False, "aria": False} | ({"style": style} if style else {})


_POINTER: Final = {
    "name": "pointer",
    "value": None,
    "on": [
        {
            "events": {"type": "pointermove"},
            "update": f"{_is_inside('x()', 'y()', by=5)} ? [x(), y()] : null",
        },
        {"events": {"type": "pointerout"}, "update": "null"},
    ],
}
_DATA: Final = (
    {
        "name": "reached",
        "source": POINTS,
        "transform": [
            {"type": "filter", "expr": "pointer"},
            # Vega-Lite makes numbers of the CSV's texts on the way to its own marks.
            *(_formula(name, f"toNumber(datum.{name})") for name in ("s", "x", "y", "dot")),
        ],
    },
    {
        "name": "nearest",
        "source": "reached",
        "transform": [
            {"type": "filter", "expr": "isValid(datum.y)"},
            _formula("px", "scale('x', datum.x)"),
            _formula("py", "scale('y', datum.y)"),
            {"type": "filter", "expr": _is_inside("datum.px", "datum.py", by=1)},
            _formula("far", "pointer ? hypot(datum.px - pointer[0], datum.py - pointer[1]) : 0"),
            {"type": "aggregate", "fields": ["far"], "ops": ["argmin"], "as": ["it"]},
            {"type": "filter", "expr": "datum.it"},
            *(_formula(name, f"datum.it.{name}") for name in ("s", "x", "y", "px", "py")),
            _formula("series", f"data('{SERIES}')[datum.s]"),
        ],
    },
    {
        "name": "lifted",
        "source": "reached",
        "transform": [
            {"type": "filter", "expr": "length(data('nearest')) && data('nearest')[0].s === datum.s"}
        ],
    },
)
_COLOUR: Final = {"signal": f"scale('color', data('{SERIES}')[datum.s].group)"}
_PLACE: Final = {
    "x": {"scale": "x", "field": "x"},
    "y": {"scale": "y", "field": "y"},
}
_LIFTED_LINE: Final = {
    **_PLACE,
    "stroke": _COLOUR,
    "strokeWidth": {"value": 2},
    "defined": {"signal": "isValid(datum.y)"},
}
_LIFTED_DOT: Final = {**_PLACE, "fill": _COLOUR, "size": {"signal": "datum.dot && isValid(datum.y) ? 22 : 0"}}
_NEAREST_DOT: Final = {
    "x": {"field": "px"},
    "y": {"field": "py"},
    "fill": _COLOUR,
    "size": {"value": 60},
}
