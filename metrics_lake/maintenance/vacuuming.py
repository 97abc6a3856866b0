"""Vacuum: bytes that no version needs leave the store.

A file that no version names is either garbage or the work of a compactor that has not committed yet. Which
of the two cannot be seen, so it is decided: a commit *fences* the file, and from then on no commit may add
it. Only then it is deleted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from metrics_lake.commits import Intent, clean_log, commit, write_checkpoint
from metrics_lake.commits.watermarks import end_app_id
from metrics_lake.errors import CommitConflictError, NotFoundError, SnapshotExpired
from metrics_lake.layout import parse_inbox_key, sidecar_key
from metrics_lake.maintenance.clones import publish_hidden_rows
from metrics_lake.maintenance.collecting import Garbage, Scan, consumed_objects, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from metrics_lake.commits import TableLog
    from metrics_lake.storage import ObjectInfo, Storage

__all__ = ["vacuum"]

FILE_SECONDS: Final = 7 * 86_400.0
WATERMARK_SECONDS: Final = 86_400.0
CLAIM_SECONDS: Final = 86_400.0
_FENCE_AT_ONCE: Final = 1_000
_FENCE_ATTEMPTS: Final = 5


def vacuum(
    storage: Storage,
    log: TableLog,
    *,
    retention_seconds: float = FILE_SECONDS,
    inbox_seconds: float | None = None,
    purge: Collection[str] = (),
    dry_run: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    wall_clock: Callable[[], float] = time.time,
) -> Garbage:
    """Delete what no reader can need any more and say what it was.

    Args:
        storage: The lake's objects.
        log: The table's log.
        retention_seconds: How long removed and orphaned data files stay. Readers of snapshots that are older
            find them gone (and retry, or say ``SnapshotExpired`` where the snapshot was pinned).
        inbox_seconds: How long consumed inbox objects stay; None = 10 minutes, or 1 minute while over 1,000
            lie there.
        purge: Keys of removed data files and consumed inbox objects that leave at once, whatever their age.
        dry_run: Write and delete nothing. Then the wall clock stands for the store's, which cannot be asked
            without a write.
        sleep: Waits between attempts.
        wall_clock: POSIX seconds, for the times in the log.

    Raises:
        StorageError: The store failed; what is left is for the next run.
        CorruptObjectError: A data file of the table is missing.
    """
    found = Garbage()
    seen = scan(storage, log, wall_clock() if dry_run else None)
    sizes = {info.key: info.size_bytes for info in (*seen.inbox, *seen.table)}

    consumed = {info.key for info in consumed_objects(seen, log, min_age_seconds=inbox_seconds)}
    if purge:
        consumed |= set(purge) & {info.key for info in consumed_objects(seen, log, min_age_seconds=0.0)}
    found.objects = sorted(consumed)
    if not dry_run and found.objects:
        publish_hidden_rows(storage, log, seen, [info for info in seen.inbox if info.key in consumed])
        storage.delete(found.objects)

    _vacuum_files(storage, log, seen, found, retention_seconds, frozenset(purge), dry_run, sleep)
    _vacuum_sidecars(storage, log, seen, found, sizes, dry_run)

    found.claims = [
        info.key
        for info in seen.table
        if "/_claims/" in info.key and info.modified <= seen.now - CLAIM_SECONDS
    ]
    if not dry_run:
        if found.claims:
            storage.delete(found.claims)
        _forget_ended_writers(log, seen, sleep, wall_clock)
        found.log = clean_log(log, now=seen.now)
    found.size_bytes = sum(
        sizes.get(key, 0)
        for key in (*found.objects, *found.files, *found.sidecars, *found.claims, *found.log)
    )
    return found


def _vacuum_files(
    storage: Storage,
    log: TableLog,
    seen: Scan,
    found: Garbage,
    retention_seconds: float,
    purge: frozenset[str],
    dry_run: bool,
    sleep: Callable[[float], None],
) -> None:
    if seen.state.version < 0:
        return
    dead = [
        key
        for key, info in seen.data_files().items()
        if key not in seen.state.entries and (key in purge or info.modified <= seen.now - retention_seconds)
    ]
    if not purge.issuperset(dead):
        recent = _used_since(log, seen, retention_seconds)
        dead = [key for key in dead if key in purge or key not in recent]
    if dry_run:
        found.files = dead
        return
    # What the log says was removed was committed once and cannot be committed again by its maker. Everything
    # else may still be: it is fenced first.
    orphans = [key for key in dead if key not in seen.state.tombstones]
    for start in range(0, len(orphans), _FENCE_AT_ONCE):
        _fence(log, orphans[start : start + _FENCE_AT_ONCE], sleep)
    if not dead:
        return
    live = log.reopen().entries
    found.files = [key for key in dead if key not in live]
    storage.delete([key for each in found.files for key in (each, sidecar_key(log.table, each))])


def _used_since(log: TableLog, seen: Scan, seconds: float) -> set[str]:
    """Return the files that some version within the last ``seconds`` used, as far as can be known."""
    version = seen.version_before(seconds)
    used: set[str] = set()
    listing = seen.log
    start = version if version is not None else min((*listing.commits, *listing.checkpoints), default=0)
    try:
        state = log.at_version(start)
    except (SnapshotExpired, NotFoundError):
        # Other engines cleaned the log up. Whatever it still remembers as removed counts as used.
        return set(seen.state.tombstones)
    used.update(state.entries)
    if version is None:
        used.update(state.tombstones)
    # files that were added and removed again in between
    for number in range(start + 1, seen.state.version + 1):
        commit_read = log.read_commit(number)
        if commit_read is not None:
            used.update(commit_read.removes)
    return used


def _fence(log: TableLog, keys: list[str], sleep: Callable[[float], None]) -> None:
    for attempt in range(_FENCE_ATTEMPTS):
        base = log.reopen()
        wanted = tuple(key for key in keys if key not in base.entries)
        if not wanted:
            return
        try:
            commit(log, base, Intent("FENCE", fences=wanted, data_change=False), sleep=sleep)
        except CommitConflictError:
            if attempt == _FENCE_ATTEMPTS - 1:
                raise
            sleep(0.1 * 2**attempt)
        else:
            return


def _vacuum_sidecars(
    storage: Storage, log: TableLog, seen: Scan, found: Garbage, sizes: dict[str, int], dry_run: bool
) -> None:
    """Delete sidecars whose data file has been gone for as long as anybody may still need them."""
    infos: list[ObjectInfo] = storage.list(f"_derived/series/{log.table}/")
    sizes.update({info.key: info.size_bytes for info in infos})
    kept = {sidecar_key(log.table, key) for key in (*seen.data_files(), *seen.state.entries)}
    kept -= {sidecar_key(log.table, key) for key in found.files}
    gone = {sidecar_key(log.table, key) for key in found.files}
    found.sidecars = [
        info.key
        for info in infos
        if info.key not in kept and (info.key in gone or info.modified <= seen.now - FILE_SECONDS)
    ]
    if found.sidecars and not dry_run:
        storage.delete(found.sidecars)


def _forget_ended_writers(
    log: TableLog,
    seen: Scan,
    sleep: Callable[[float], None],
    wall_clock: Callable[[], float],
) -> None:
    """Let go of the watermarks of writers that ended, a day after the last of their objects was seen gone.

    Two steps, each on the evidence of a listing that nothing of this run has touched: a commit notes that no
    object of the writer is left; a checkpoint leaves its identifiers out once that note is a day old. An
    object that shows up again in between takes the note back. So a PUT that lingers for less than a day after
    the collection is still known to be consumed.
    """
    state = log.reopen()
    ended = state.transactions.ended_writers()
    if not ended:
        return
    names = [parse_inbox_key(info.key) for info in seen.inbox]
    present = {name.writer for name in names if name is not None}
    noted = {writer for writer in ended if state.transactions.get(end_app_id(writer)) == 1}
    changes = dict.fromkeys(noted & present, 0)
    changes |= {writer: 1 for writer in ended if writer not in noted and writer not in present}
    if changes:
        try:
            commit(log, state, Intent("NOTE ENDS", ended=changes, data_change=False), sleep=sleep)
        except CommitConflictError:
            return  # the next run looks again
    version = seen.version_before(WATERMARK_SECONDS)
    if version is None or not noted - present:
        return
    try:
        day_old = log.at_version(version)
    except (SnapshotExpired, NotFoundError):
        return

    def is_old(writer: str) -> bool:
        note = end_app_id(writer)
        return (
            day_old.transactions.get(note) == 1
            and day_old.transactions.last_updated(note) == state.transactions.last_updated(note)
            and day_old.consumed(writer) == state.consumed(writer)
        )

    forget = frozenset(
        text for writer in noted - present if is_old(writer) for text in state.transactions.of_writer(writer)
    )
    if forget:
        write_checkpoint(log, log.reopen(), forget=forget, wall_clock=wall_clock)
