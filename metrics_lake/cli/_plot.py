"""Curves in a terminal: one character a point, plain enough for a log file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MARKERS", "curves"]

MARKERS: Final = (("*", "green"), ("+", "cyan"), ("o", "yellow"), ("x", "magenta"))
"""The character and colour of each curve, in order; no more curves than these are drawn."""

_LABEL_WIDTH: Final = 8


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    width: int,
    height: int = 10,
    is_log: bool = False,
    x_label: str = "step",
) -> Text:
    """Return curves of (x, y) points as text of ``width`` columns with axes and a legend.

    Points that are not finite, or not above 0 on a logarithmic axis, are left out.

    Args:
        series: Points by name. The first curve is drawn on top.
        width: Columns in all.
        height: Rows of the plot itself.
        is_log: Draw y on a logarithmic axis.
        x_label: What x is.
    """
    drawn = list(zip(series.items(), MARKERS, strict=False))
    points = {
        name: [
            (x, math.log(y) if is_log else y)
            for x, y in pairs
            if math.isfinite(x) and math.isfinite(y) and (y > 0 or not is_log)
        ]
        for (name, pairs), _ in drawn
    }
    every = [point for pairs in points.values() for point in pairs]
    if not every:
        return Text("(nothing to draw)")
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)
    y_low, y_high = min(y for _, y in every), max(y for _, y in every)
    columns = width - _LABEL_WIDTH - 2
    cells: dict[tuple[int, int], int] = {}
    for index, pairs in reversed(list(enumerate(points.values()))):
        for x, y in pairs:
            row = height - 1 - _place(y, y_low, y_high, height)
            cells[row, _place(x, x_low, x_high, columns)] = index
    text = Text()
    for row in range(height):
        share = 1 - row / (height - 1)
        label = y_low + (y_high - y_low) * share
        is_labelled = row in {0, height // 2, height - 1}
        shown = f"{math.exp(label) if is_log else label:.3g}" if is_labelled else ""
        text.append(f"{shown:>{_LABEL_WIDTH}} ┤" if is_labelled else " " * _LABEL_WIDTH + " │", "dim")
        for column in range(columns):
            index = cells.get((row, column), -1)
            text.append(" " if index < 0 else MARKERS[index][0], None if index < 0 else MARKERS[index][1])
        text.rstrip()
        text.append("\n")
    ends = f"{x_low:g}", f"{x_high:g}"
    middle = x_label.center(columns - len(ends[0]) - len(ends[1]))
    text.append(" " * _LABEL_WIDTH + " └" + "─" * columns + "\n", "dim")
    text.append(" " * (_LABEL_WIDTH + 2) + ends[0] + middle + ends[1] + "\n", "dim")
    for name, (marker, colour) in zip(points, MARKERS, strict=False):
        text.append(" " * (_LABEL_WIDTH + 2)).append(marker, colour).append(f" {name}\n")
    text.rstrip()
    return text


def _place(value: float, low: float, high: float, cells: int) -> int:
    return 0 if high == low else round((value - low) / (high - low) * (cells - 1))
