"""How states are turned into numbers."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Options"]

_BINS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


@dataclass(frozen=True, slots=True)
class Options:
    """Choices of the finalisers.

    Args:
        confidence: Of the intervals, in (0, 1).
        bins: Equal bins of the calibration error: a divisor of 60.
        zero_division: The value of a ratio whose denominator is 0, such as the precision without any
            predicted positive; None gives NULL with the reason.
        keep: Tells by its name whether a metric is wanted; None: all are.

    Raises:
        InvalidInputError: An option is out of its range.
    """

    confidence: float = 0.95
    bins: int = 15
    zero_division: float | None = 0.0
    keep: Callable[[str], bool] | None = None

    def wants(self, *names: str) -> bool:
        """Return whether any of the metrics is wanted."""
        return self.keep is None or any(map(self.keep, names))

    def __post_init__(self) -> None:
        confidence: Any = self.confidence
        zero_division: Any = self.zero_division
        if not (isinstance(confidence, Real) and 0 < float(confidence) < 1):
            raise InvalidInputError(
                f"confidence={self.confidence!r} is not in (0, 1).",
                hint="Pass confidence=0.95.",
                argument="confidence",
            )
        if zero_division is not None and not isinstance(zero_division, Real):
            raise InvalidInputError(
                f"zero_division={self.zero_division!r} is no number.",
                hint="Pass 0.0, 1.0 or None.",
                argument="zero_division",
            )
        if self.bins not in _BINS:
            raise InvalidInputError(
                f"bins={self.bins!r} does not divide the 60 bins that a state keeps.",
                hint=f"Pass one of {', '.join(map(str, _BINS))}.",
                argument="bins",
            )
