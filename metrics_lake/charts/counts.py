"""How much a chart draws, and how it says what it does not draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

__all__ = ["MAX_PANELS", "MAX_POINTS", "MAX_SERIES", "MAX_SERIES_POINTS", "Drawn", "counted", "subtitle"]

MAX_SERIES_POINTS: Final = 2_000
"""Points of one drawn series: more than a line of some 800 pixels can show."""

MAX_POINTS: Final = 40_000
"""Points of all series of a chart: about 1 MB in its page."""

MAX_SERIES: Final = 200
"""Series of one metric: of more, nobody can follow one."""

MAX_PANELS: Final = 12
"""Metrics, each a panel of its own."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Points of a history, thinned out for drawing, and what there was before.

    Attributes:
        points: ``resource metric tags tags_key step timestamp value``.
        x: What they were thinned out along: ``"step"``, ``"timestamp"`` or ``"relative"``.
        num_points: How many points have a number and a place on the axis, before they were thinned out.
        num_series: How many series were asked for; the points are those of the first.
        num_not_finite: How many of the points are NaN or infinite.
        num_texts: How many more points have no number.
        num_unplaced: How many more have a number and no step, where x is the step.
        smooth: The weight of the past with which they were smoothed.
    """

    points: pa.Table
    x: str
    num_points: int
    num_series: int
    num_not_finite: int = 0
    num_texts: int = 0
    num_unplaced: int = 0
    smooth: float | None = None


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "point"), counted(2000, "point"), counted(2, "series")
    ('1 point', '2,000 points', '2 series')
    """
    return f"{number:,} {noun}{'' if number == 1 or noun.endswith('s') else 's'}"


def subtitle(parts: Iterable[str | None]) -> list[str]:
    """Return the lines of a subtitle, none longer than what fits on one line of a chart."""
    lines: list[str] = []
    for part in parts:
        if not part:
            continue
        if lines and len(lines[-1]) + len(part) < 90:
            lines[-1] += f" · {part}"
        else:
            lines.append(part)
    return lines
