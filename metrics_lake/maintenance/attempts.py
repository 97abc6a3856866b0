"""One pattern for everything that commits: decide on a snapshot, write files, commit, or start over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from metrics_lake.commits import CHECKPOINT_INTERVAL, Intent, commit, take_snapshot, write_checkpoint
from metrics_lake.errors import CommitConflictError, ObjectNotFoundError, StorageError
from metrics_lake.jitter import jitter
from metrics_lake.layout import sidecar_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metrics_lake.commits import NewFile, Snapshot, TableLog
    from metrics_lake.storage import Storage

__all__ = ["Plan", "run_attempts"]

_MOST_ATTEMPTS: Final = 50

_Outcome = TypeVar("_Outcome")


@dataclass(frozen=True, slots=True)
class Plan(Generic[_Outcome]):
    """What an attempt decided.

    Attributes:
        intent: What to commit; its files are in the store. None where there is nothing to do.
        outcome: What to tell the caller once it is committed.
    """

    intent: Intent | None
    outcome: _Outcome


def run_attempts(
    storage: Storage,
    log: TableLog,
    decide: Callable[[Snapshot, int], Plan[_Outcome]],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[_Outcome, int]:
    """Commit what ``decide`` plans on a snapshot, on a new one as often as another commit gets in the way.

    Args:
        storage: The lake's objects.
        log: The table's log.
        decide: Given a snapshot and the number of the attempt, writes files and says what to commit.
        sleep: Waits between attempts.

    Returns:
        The plan's outcome and the version it became; the snapshot's version where nothing was to do.

    Raises:
        CommitConflictError: Others got in the way fifty times.
        CommitUnknownError: Whether the commit landed is unknown. The files stay; vacuum finds them.
        StorageError: The store failed.
    """
    missing: tuple[int, object] | None = None
    for attempt in count(1):
        snapshot = take_snapshot(storage, log, tuple)
        try:
            plan = decide(snapshot, attempt)
        except ObjectNotFoundError as error:
            # Consumed or rewritten, and collected, by others since the snapshot. Where the table, opened
            # anew, is still the same it is lost.
            evidence = snapshot.log.version, error.context.get("key")
            if attempt >= _MOST_ATTEMPTS or evidence == missing:
                raise
            missing = evidence
            log.reopen()
            _pause(attempt, sleep)
            continue
        if plan.intent is None:
            return plan.outcome, snapshot.log.version
        try:
            version = commit(log, snapshot.log, plan.intent, sleep=sleep)
        except CommitConflictError:
            # A proven loss: no version has these files and none ever will.
            drop_files(storage, log.table, plan.intent.adds)
            if attempt >= _MOST_ATTEMPTS:
                raise
            _pause(attempt, sleep)
            continue
        _checkpoint_if_due(log, version)
        return plan.outcome, version
    raise AssertionError  # pragma: no cover -- the loop returns or raises


def drop_files(storage: Storage, table: str, files: Sequence[NewFile]) -> None:
    """Delete data files that are in no version, and their sidecars; what cannot be deleted is vacuum's."""
    keys = [key for new in files for key in (new.file.key, sidecar_key(table, new.file.key))]
    if keys:
        try:
            storage.delete(keys)
        except StorageError:
            return


def _pause(attempt: int, sleep: Callable[[float], None]) -> None:
    sleep(jitter(0, min(0.05 * 2**attempt, 5.0)))


def _checkpoint_if_due(log: TableLog, version: int) -> None:
    if version and version % CHECKPOINT_INTERVAL == 0:
        state = log.refresh()
        if state.version != version:
            state = log.at_version(version)
        try:
            write_checkpoint(log, state)
        except StorageError:
            return  # the log is whole without it, and the next one is ten versions away
