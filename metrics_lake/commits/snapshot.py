"""PENDING, LIST, LOG: the three steps of every read, in the order that makes them a snapshot.

Rows only ever move one way: from a writer's journal into the inbox, from the inbox into the table. A read
that looks at the places in that same order can meet a row twice, which liveness sorts out, but cannot miss
it. In any other order a row can move behind the reader's back.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from metrics_lake.commits.intervals import subtract, union
from metrics_lake.commits.model import PendingRun, Snapshot
from metrics_lake.errors import GapWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metrics_lake.commits.inbox import Listing, Verdict
    from metrics_lake.commits.log import TableLog, TableSnapshot
    from metrics_lake.storage import Storage

__all__ = ["STEPS", "take_snapshot"]


@dataclass(slots=True)
class _Reading:
    """What the steps of one read have found so far."""

    storage: Storage
    log: TableLog
    pending: Callable[[], Sequence[PendingRun]]
    looks_again: bool = False
    runs: Sequence[PendingRun] = field(default=())
    listing: Listing | None = None
    version: TableSnapshot | None = None


def _take_pending(reading: _Reading) -> None:
    reading.runs = tuple(reading.pending())


def _list_inbox(reading: _Reading) -> None:
    reading.listing = reading.log.inbox.list(reading.storage)


def _read_log(reading: _Reading) -> None:
    reading.version = reading.log.reopen() if reading.looks_again else reading.log.refresh()


STEPS: Final = (_take_pending, _list_inbox, _read_log)
"""PENDING, LIST, LOG. Tests permute them to show that no other order holds."""


def take_snapshot(
    storage: Storage,
    log: TableLog,
    pending: Callable[[], Sequence[PendingRun]],
    *,
    steps: Iterable[Callable[[_Reading], None]] = STEPS,
) -> Snapshot:
    """Return which rows count now: each published row, and each row of ``pending``, exactly once.

    Args:
        storage: The lake's objects.
        log: The table's log; it keeps what was read, so that a later snapshot reads only what is new.
        pending: Gives this process's own rows that may not be published yet. It is called before the inbox
            is listed.
        steps: The three steps in order.

    Raises:
        StorageError: The store could not be read.
        UnsupportedFormatError: The table's log asks for something that this version cannot give.

    Warns:
        GapWarning: Rows of a writer are missing for good and the snapshot reads on behind them.
    """
    steps = tuple(steps)
    looks_again = False
    while True:
        reading = _Reading(storage, log, pending, looks_again)
        for step in steps:
            step(reading)
        if reading.listing is None or reading.version is None:
            raise AssertionError("a step is missing")
        verdict = log.inbox.judge(reading.listing, reading.version)
        # A gap that has come of age must be in a second LIST as well: the first may have raced the late
        # object. And beside a log opened anew: a machine that was paused for a month trusts its old version,
        # as its clock stood still while the newer ones were cleaned up. The second look settles it either
        # way, so this loop runs twice at most per new gap.
        looks_again = verdict.must_look_again
        if not looks_again:
            break
    _warn_of_gaps(log, verdict)
    return Snapshot(
        table=log.table,
        log=reading.version,
        inbox=verdict.live,
        pending=_cut(reading.runs, verdict, reading.version),
        gaps=verdict.gaps,
        listed=reading.listing.files,
    )


def _cut(runs: Sequence[PendingRun], verdict: Verdict, version: TableSnapshot) -> tuple[PendingRun, ...]:
    """Return the pending rows that neither the table nor a live object gives."""
    if not runs:
        return ()
    writers = {run.writer for run in runs}
    given: dict[str, list[tuple[int, int]]] = {writer: list(version.consumed(writer)) for writer in writers}
    for live in verdict.live:
        if live.name.writer in writers:
            given[live.name.writer].extend(live.keep)
    left = []
    for run in runs:
        for first, last in subtract(run.first, run.last, union(given[run.writer])):
            rows = run.rows.slice(first - run.first, last - first + 1)
            left.append(PendingRun(run.writer, first, last, rows))
    return tuple(left)


def _warn_of_gaps(log: TableLog, verdict: Verdict) -> None:
    for gap in verdict.gaps:
        if gap.is_skipped and not gap.is_settled and log.inbox.is_first_warning(gap):
            warnings.warn(
                f"Rows {gap.first} to {gap.last} of writer {gap.writer} are missing from table "
                f"{log.table!r}: their object was lost, quarantined or is very late. Later rows are read "
                "without them; inspect.gaps() lists what is missing.",
                GapWarning,
                stacklevel=3,
            )
