"""Random lengths of pauses, which neither take from the program's own random numbers nor follow from them.

Training code seeds ``random``: a background thread that drew from it would change, by its timing, what comes
next, and writers that were seeded alike, or forked, would all come back at the same moment.
"""

from __future__ import annotations

import random  # noqa: TID251 -- the one that has no state
from typing import Final

__all__ = ["jitter"]

_SYSTEM: Final = random.SystemRandom()


def jitter(low: float, high: float) -> float:
    """Return a number between two bounds, from the operating system's random bytes.

    >>> 0.5 <= jitter(0.5, 1.5) <= 1.5
    True
    """
    return _SYSTEM.uniform(low, high)
