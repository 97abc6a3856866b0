"""What the page has seen of the lake: one look a tick tells what is new, or why nothing can be."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metrics_lake.dashboard.catalogue import NOTHING, Catalogue, catalogue
from metrics_lake.errors import MetricsLakeError

if TYPE_CHECKING:
    from metrics_lake import MetricsLake

__all__ = ["Seen", "look"]


@dataclass(frozen=True, slots=True)
class Seen:
    """The lake as it was last read.

    Attributes:
        version: The snapshot, as text; "": it was never read.
        holds: What the lake held then.
        problem: Why it cannot be read now; None: it can.
    """

    version: str = ""
    holds: Catalogue = NOTHING
    problem: str | None = None

    def is_news_after(self, last: Seen) -> bool:
        """Return whether what is drawn must be drawn anew: after an outage too, which it may have met."""
        return self.problem is None and (self.version != last.version or last.problem is not None)


def look(lake: MetricsLake, last: Seen | None = None) -> Seen:
    """Return what is seen of the lake now; where it cannot be read, what was seen last, and the problem."""
    last = last or Seen()
    try:
        version = str(lake.snapshot())
        holds = last.holds if version == last.version else catalogue(lake)
    except MetricsLakeError as error:
        # Of one outage one message stands, so that the page is still: each attempt may fail in other words.
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return last if last.problem else replace(last, problem=f"Since {now}: {error}")
    return Seen(version, holds)
