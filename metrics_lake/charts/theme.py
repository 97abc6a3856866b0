"""One look: colours that colour-blind people tell apart, on light and on dark backgrounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from metrics_lake.charts._altair import Chart

__all__ = [
    "DASHES",
    "HALO_STYLE",
    "LEGEND_SERIES",
    "NUM_COLOURS",
    "TEXT_STYLE",
    "VEIL_STYLE",
    "config",
    "themed",
]

# Okabe and Ito, "Color Universal Design" (2008), without its black and its yellow, which vanish on one of the
# two backgrounds; brighter blues and greens on the dark one.
_LIGHT: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_DARK: Final = ("#4ba3e3", "#ff8c42", "#2fc79a", "#e59ac4", "#f2b93b", "#8fd3ff", "#a6a6a6")

NUM_COLOURS: Final = len(_LIGHT)
DASHES: Final = ([1, 0], [6, 3], [2, 2])
"""Strokes: so many times as many series as colours can be told apart."""

LEGEND_SERIES: Final = NUM_COLOURS * len(DASHES)
"""Up to so many series each has a look of its own, and a legend."""

# As many shades of each colour as there are strokes, so that lines differ where they are not dashed.
_SHADES: Final = (("#ffffff", 0.0), ("#000000", 0.45), ("#ffffff", 0.5))

_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_TITLE_LIMIT: Final = 560  # pixels
HALO_STYLE: Final = "halo"
TEXT_STYLE: Final = "over-lines"
VEIL_STYLE: Final = "veil"


def config(*, dark: bool = False) -> dict[str, Any]:
    """Return the Vega-Lite configuration of all charts."""
    text, faint, back = ("#e6e6e6", "#3a3f46", "#16191d") if dark else ("#24292f", "#e3e6ea", "#ffffff")
    muted = "#a3abb5" if dark else "#57606a"
    colours = _DARK if dark else _LIGHT
    # Of marks that Vega-Lite does not know of, a style is all that they have.
    over = {"font": _FONT, "fontSize": 11}
    return {
        "background": back,
        "font": _FONT,
        "view": {"stroke": None, "continuousWidth": 640, "continuousHeight": 300},
        "range": {"category": [_mixed(each, *shade) for shade in _SHADES for each in colours]},
        "axis": {
            "labelColor": muted,
            "titleColor": text,
            "titleFontWeight": "normal",
            "gridColor": faint,
            "domainColor": muted,
            "tickColor": muted,
            "labelFontSize": 11,
            "titleFontSize": 12,
            "labelLimit": 240,
            "labelSeparation": 6,
        },
        "legend": {
            "labelColor": text,
            "titleColor": text,
            "labelLimit": 260,
            "labelFontSize": 11,
            "symbolStrokeWidth": 2,
            "symbolSize": 160,
        },
        "title": {
            "anchor": "start",
            "color": text,
            "subtitleColor": muted,
            "fontSize": 14,
            "subtitleFontSize": 11,
            "offset": 10,
            # A chart as wide as its page gives a longer title the room of its lines.
            "limit": _TITLE_LIMIT,
        },
        "header": {"labelColor": text, "titleColor": text, "labelFontSize": 12, "labelFontWeight": "bold"},
        "bar": {"color": colours[0]},
        "point": {"color": colours[0]},
        "line": {"color": colours[0]},
        "text": {"color": text},
        "rule": {"color": muted},
        "style": {
            # Text over lines: once as its outline in the colour of the page, once as itself.
            HALO_STYLE: {"fill": back, "stroke": back, "strokeWidth": 4, "strokeJoin": "round", **over},
            TEXT_STYLE: {"fill": text, **over},
            VEIL_STYLE: {"fill": back, "fillOpacity": 0.8},
        },
    }


def themed(chart: Chart, *, dark: bool = False) -> Chart:
    """Return a chart in our look, whatever look it had."""
    made = chart.copy(deep=False)
    made.config = config(dark=dark)
    return made


def _mixed(colour: str, other: str, share: float) -> str:
    parts = [(int(colour[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(one + (two - one) * share):02x}" for one, two in parts)
