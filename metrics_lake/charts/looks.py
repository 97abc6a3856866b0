"""How series are told apart: by colours, of many by strokes too, of very many by a ramp without a legend."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts.theme import DASHES, LEGEND_SERIES, NUM_COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "NEAREST",
    "colour_of",
    "dash_of",
    "legend_columns",
    "nearest_point",
    "number_tooltips",
    "time_scale",
    "told_of_nearest",
]

_LETTER: Final = 6.5  # pixels
_CONTAINER_WIDTH: Final = 480
"""What a chart that is as wide as its place is reckoned to have at least."""


def colour_of(alt: Any, groups: Sequence[str], title: str | None = None, *, columns: Any = 4) -> Any:
    """Return the colour of the field ``group``, with a legend where it helps."""
    if len(groups) <= 1:
        return alt.Color("group:N", legend=None)
    if len(groups) > LEGEND_SERIES:
        scale = alt.Scale(domain=list(groups), scheme=alt.SchemeParams(name="viridis", extent=[0.1, 0.9]))
        return alt.Color("group:O", scale=scale, legend=None)
    return alt.Color("group:N", scale=alt.Scale(domain=list(groups)), legend=_legend(alt, title, columns))


def dash_of(alt: Any, groups: Sequence[str], title: str | None = None, *, columns: Any = 4) -> Any:
    """Return the stroke of the field ``group``: so many times as many looks as there are colours."""
    patterns = [list(DASHES[at // NUM_COLOURS]) for at in range(len(groups))]
    scale = alt.Scale(domain=list(groups), range=patterns)
    return alt.StrokeDash("group:N", scale=scale, legend=_legend(alt, title, columns))


def _legend(alt: Any, title: str | None, columns: Any) -> Any:
    # Layers that are nearly transparent must not fade the legend that they share.
    return alt.Legend(title=title, orient="bottom", columns=columns, symbolType="stroke", symbolOpacity=1)


NEAREST: Final = "(datum.datum || datum)"
"""What is under the pointer, in the expression of a tooltip of a mark to which the nearest is found."""


def nearest_point(alt: Any, name: str = "hover", **options: Any) -> Any:
    """Return the selection of the point that is nearest to the pointer."""
    return alt.selection_point(name=name, nearest=True, on="pointerover", clear="pointerout", **options)


def told_of_nearest(alt: Any, parts: Mapping[str, str]) -> Any:
    """Return the tooltip of a mark of which the nearest is found: expressions over ``NEAREST`` by label.

    Not a list of fields: Vega-Lite 6.4 then reads texts from the cell around the mark, as ``undefined``.
    """
    inside = ", ".join(f"{json.dumps(label)}: {expression}" for label, expression in parts.items())
    return alt.TooltipValue(alt.ExprRef(expr=f"{{{inside}}}"))


def legend_columns(groups: Sequence[str], width: int | str, *, signal: str | None = None) -> Any:
    """Return how many columns of a legend fit below a chart.

    Args:
        groups: The legend's texts.
        width: Of the chart, in pixels, or ``"container"``.
        signal: Vega's signal that has the width of a chart that is as wide as its place; None: there is none.
    """
    widest = max(map(len, groups), default=0) * _LETTER + 50
    if width == "container" and signal is not None:
        return {"expr": f"max(1, floor({signal} / {widest:g}))"}
    room = width if isinstance(width, int) else _CONTAINER_WIDTH
    return max(1, int(room // widest))


def time_scale(alt: Any, low: float | None, high: float | None) -> Any:
    """Return the scale of a time axis from its first to its last point, in milliseconds since 1970.

    Of ends that it finds itself Vega drops what is below a millisecond, and does not show what lies behind.
    """
    if low is None or high is None or math.floor(low) == math.ceil(high):
        return alt.Scale(type="utc")
    return alt.Scale(type="utc", domain=[math.floor(low), math.ceil(high)], nice=False)


def number_tooltips(alt: Any) -> list[Any]:
    """Return what hovering tells of a metric: its value, interval and bound, and of how many rows."""
    return [
        alt.Tooltip("value:Q", format=".6~g"),
        alt.Tooltip("low:Q", format=".6~g"),
        alt.Tooltip("high:Q", format=".6~g"),
        alt.Tooltip("bound:Q", format=".1~g"),
        alt.Tooltip("n:Q", title="rows", format=",d"),
    ]
