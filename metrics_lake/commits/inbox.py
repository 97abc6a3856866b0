"""The inbox of one table as this process saw it last: parsed names, the latest verdict, known gaps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from metrics_lake.commits.liveness import find_live
from metrics_lake.commits.model import InboxFile
from metrics_lake.layout import inbox_prefix, parse_inbox_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from metrics_lake.commits.model import Gap, LiveFile, LogView
    from metrics_lake.storage import Storage

__all__ = ["GAP_WAIT_SECONDS", "Inbox", "Listing", "Verdict", "boot_seconds"]

GAP_WAIT_SECONDS: Final = 900.0
"""How old a gap must be, by the store's clock, before a reader reads on behind it."""


def boot_seconds() -> float:
    """Return seconds since this machine started, counting suspended time where the platform can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Listing:
    """One complete LIST of the inbox.

    Attributes:
        number: Counts the listings of this process: a later one is greater.
        keys: The objects' keys as listed.
        files: The parsed objects, ascending by (writer, first, last).
        newest: The latest ``modified`` seen so far: the store's clock is at least there. 0.0 while empty.
    """

    number: int
    keys: tuple[str, ...]
    files: tuple[InboxFile, ...]
    newest: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which rows of a listing count beside one version of the log.

    Attributes:
        live: The objects of which rows count.
        gaps: The gaps in front of published rows.
        must_look_again: True where a gap is old enough and one more LIST must confirm it.
    """

    live: tuple[LiveFile, ...]
    gaps: tuple[Gap, ...]
    must_look_again: bool


class Inbox:
    """Lists a table's inbox and says which rows count; thread-safe, holds no resources.

    When neither the listing nor the log changed, the previous verdict is the answer: names are never
    reused, so equal keys mean equal objects.

    Args:
        table: The table's name.
        boot_clock: Seconds that only grow, whatever is done to the wall clock.

    Attributes:
        table: The table's name.
        is_silent: True where nobody is to be warned: work on the side, of which a reader warns anyway.
    """

    def __init__(self, table: str, *, boot_clock: Callable[[], float] = boot_seconds) -> None:
        self.table = table
        self.is_silent = False
        self._boot_clock = boot_clock
        self._listing = Listing(0, (), (), 0.0)
        self._verdict: tuple[Listing, LogView, Verdict] | None = None
        # Gaps by (writer, first, last): when this process first saw one, and the first listing that showed
        # it at its full age.
        self._first_seen: dict[tuple[str, int, int], float] = {}
        self._aged_in: dict[tuple[str, int, int], int] = {}
        self._warned: set[tuple[str, int, int]] = set()

    def list(self, storage: Storage) -> Listing:
        """Return what the inbox holds now."""
        infos = storage.list(inbox_prefix(self.table))
        previous = self._listing
        keys = tuple([info.key for info in infos])
        if keys == previous.keys:
            listing = Listing(previous.number + 1, previous.keys, previous.files, previous.newest)
        else:
            known = {file.name.key: file for file in previous.files}
            files = []
            for info in infos:
                file = known.get(info.key)
                if file is None:
                    name = parse_inbox_key(info.key)
                    if name is None or name.table != self.table:
                        continue  # a marker object, or something a later version put there
                    file = InboxFile(name, info.size_bytes, info.modified)
                files.append(file)
            files.sort(key=lambda file: (file.name.writer, file.name.first, file.name.last, file.name.is_end))
            newest = max((file.modified for file in files), default=0.0)
            listing = Listing(previous.number + 1, keys, tuple(files), max(newest, previous.newest))
        self._listing = listing
        return listing

    def judge(self, listing: Listing, log: LogView) -> Verdict:
        """Return which rows of a listing count beside a version of the log that was read after it."""
        cached = self._verdict
        if (
            cached is not None
            and cached[0].files is listing.files
            and cached[1] is log
            and all(gap.is_settled for gap in cached[2].gaps)
        ):
            return cached[2]
        now = self._boot_clock()
        look_again = False

        def may_skip(gap: Gap) -> bool:
            nonlocal look_again
            identity = (gap.writer, gap.first, gap.last)
            age = max(now - self._first_seen.setdefault(identity, now), listing.newest - gap.since)
            if age < GAP_WAIT_SECONDS:
                return False
            if self._aged_in.setdefault(identity, listing.number) < listing.number:
                return True
            look_again = True
            return False

        live, gaps = find_live(listing.files, log.consumed, may_skip)
        open_gaps = {(gap.writer, gap.first, gap.last) for gap in gaps if not gap.is_settled}
        for known in (self._first_seen, self._aged_in):
            for identity in known.keys() - open_gaps:
                known.pop(identity, None)
        verdict = Verdict(tuple(live), tuple(gaps), look_again)
        self._verdict = (listing, log, verdict)
        return verdict

    def is_first_warning(self, gap: Gap) -> bool:
        """Return whether to warn of a gap, and remember that this process has."""
        if self.is_silent:
            return False
        identity = (gap.writer, gap.first, gap.last)
        if identity in self._warned:
            return False
        self._warned.add(identity)
        return True
