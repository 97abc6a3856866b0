"""One commit: an intent, one rule for every conflict, and certainty about what became of the PUT.

A version is created exclusively. Where somebody else was faster, every winner is read, whoever wrote it, and
the one rule decides: start over from a new snapshot (``CommitConflictError``) or try the next version with
the same actions. Where the answer of the PUT was lost, the version is read back and recognised by
``commitInfo.txnId``; the same bytes are offered for the *same* version until it exists, so a PUT that lands
late can never be a second commit.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.commits.actions import (
    add_action,
    encode_commit,
    new_table_actions,
    remove_action,
)
from metrics_lake.commits.intervals import contains
from metrics_lake.commits.watermarks import end_app_id, watermark_txns, writer_of
from metrics_lake.errors import (
    CommitConflictError,
    CommitUnknownError,
    PermissionDeniedError,
    StorageError,
)
from metrics_lake.jitter import jitter
from metrics_lake.layout import log_key, table_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metrics_lake.commits.actions import Commit
    from metrics_lake.commits.intervals import Intervals
    from metrics_lake.commits.log import TableLog
    from metrics_lake.commits.model import DataFile
    from metrics_lake.commits.state import TableSnapshot

__all__ = ["Intent", "NewFile", "commit", "conflict_of"]

_PUT_ATTEMPTS: Final = 8
_FIRST_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class NewFile:
    """A data file that is in the store and not yet in the log.

    Attributes:
        file: Its description.
        stats: The ``stats`` text of its ``add`` action.
    """

    file: DataFile
    stats: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What a commit is to do, and with that what it conflicts with.

    Attributes:
        operation: The name in the table's history.
        adds: Files to add; they exist already.
        removes: Keys of live files to remove.
        consumed: Rows that the added files take over from the inbox: intervals by writer.
        ended: ``ml:{writer}@end`` to set: 0 or 1 by writer (see :mod:`metrics_lake.commits.watermarks`).
        txns: Other application ids to set: keys of bulk commits and copies.
        fences: Keys that no later commit may add.
        may_match: Whether a file may hold rows that this commit's decision rests on; a winner that adds one
            is a conflict. None where the commit rests on no predicate.
        data_change: False where the same rows only move between files.
    """

    operation: str
    adds: tuple[NewFile, ...] = ()
    removes: tuple[str, ...] = ()
    consumed: Mapping[str, Intervals] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)
    txns: Mapping[str, int] = field(default_factory=dict)
    fences: tuple[str, ...] = ()
    may_match: Callable[[DataFile], bool] | None = None
    data_change: bool = True


def conflict_of(intent: Intent, winner: Commit, table: str) -> str | None:
    """Return why an intent must start over after another commit won, or None where it need not.

    This is the one rule, for every kind of commit, ours and foreign ones.
    """
    if winner.metadata is not None or winner.protocol is not None:
        return "changed the table's metadata or protocol"
    writers = {writer_of(text) for text in winner.txns} - {None}
    if moved := writers & intent.consumed.keys():
        return f"moved the watermark of writer {min(filter(None, moved))}"
    mine = {*intent.txns, *(end_app_id(writer) for writer in intent.ended)}
    if taken := winner.txns.keys() & mine:
        return f"set {min(taken)!r}"
    if gone := winner.removes.keys() & set(intent.removes):
        return f"removed {min(gone)!r}"
    if fenced := winner.fences(table) & {new.file.key for new in intent.adds}:
        return f"fenced {min(fenced)!r}"
    if intent.fences and (revived := {entry.file.key for entry in winner.adds} & set(intent.fences)):
        return f"added {min(revived)!r}"
    if intent.may_match is not None:
        for entry in winner.adds:
            if intent.may_match(entry.file):
                return f"added {entry.file.key!r}, which may hold rows that the decision rests on"
    return None


def commit(
    log: TableLog,
    base: TableSnapshot,
    intent: Intent,
    *,
    sleep: Callable[[float], None] = time.sleep,
    wall_clock: Callable[[], float] = time.time,
) -> int:
    """Make an intent the next version and return that version.

    Args:
        log: The table's log.
        base: The snapshot on which the intent was decided.
        intent: What to do.
        sleep: Waits between attempts.
        wall_clock: POSIX seconds for the times that the log carries for people and other engines.

    Raises:
        CommitConflictError: Nothing was and nothing will be committed: decide anew from a new snapshot. The
            files to add are in no version; they may be deleted.
        CommitUnknownError: The store kept failing in the middle: the commit may have landed or may still
            land. The files to add must stay.
        PermissionDeniedError: The store refused these credentials; nothing was committed.
    """
    body = _encode(log.table, base, intent, now_ms=int(wall_clock() * 1000))
    _prove_newest(log, base)
    for attempt in count():
        version = base.version + 1 + attempt
        winner = _offer(log, version, body, sleep)
        if winner is None:
            _prove_effective(log, version, intent)
            return version
        reason = conflict_of(intent, winner, log.table)
        if reason is not None:
            raise _lost(log, version, reason)
        sleep(jitter(0, min(_FIRST_PAUSE_SECONDS * 2**attempt, 2.0)))
    raise AssertionError  # pragma: no cover -- the loop returns or raises


def _prove_newest(log: TableLog, base: TableSnapshot) -> None:
    """Refuse to commit on a version that the log may have left behind.

    Raises:
        CommitConflictError: The base is gone from the log.
    """
    if log.is_recent and base.version >= 0:
        if log.is_anchored(base):
            return
    else:
        listing = log.list_log()
        newer = range(base.version + 1, listing.newest + 1)
        if (base.version < 0 or base.version in listing.commits) and all(
            version in listing.commits for version in newer
        ):
            return
    # The base's own object is gone. That is fine only where a listing shows nothing newer, as after a
    # cleanup that kept nothing but the checkpoint.
    if log.list_log().newest != base.version:
        raise _lost(log, base.version, "was cleaned up since it was read")


def _prove_effective(log: TableLog, version: int, intent: Intent) -> None:
    """Refuse to believe in a commit that landed in the past.

    A process that was stopped between the proof and the PUT can create a version that a cleanup by another
    engine has taken away meanwhile. The version in front of it is gone then as well.

    Raises:
        CommitConflictError: The table does not know of this commit.
    """
    if version == 0 or log.has_version(version - 1):
        return
    state = log.reopen()
    known = state.entries.keys() | state.tombstones.keys()
    if state.version == version or (
        all(new.file.key in known for new in intent.adds)
        and all(
            contains(state.consumed(writer), first, last)
            for writer, intervals in intent.consumed.items()
            for first, last in intervals
        )
        and all(state.transactions.get(text) is not None for text in intent.txns)
        and not intent.fences
    ):
        return
    raise _lost(log, version, "had been cleaned up already when it was written")


def _offer(log: TableLog, version: int, body: _Body, sleep: Callable[[float], None]) -> Commit | None:
    """Return None once a version is certainly ours, or the commit that it certainly is instead."""
    key = log_key(log.table, version)
    failure: StorageError | None = None
    for attempt in range(_PUT_ATTEMPTS):
        if attempt:
            sleep(jitter(0.5, 1.0) * min(_FIRST_PAUSE_SECONDS * 2**attempt, 10.0))
        try:
            if log.storage.put_new(key, body.data):
                return None
            found = log.read_commit(version)
        except StorageError as error:
            if isinstance(error, PermissionDeniedError) and failure is None:
                raise
            if not error.retryable:
                failure = error
                break
            failure = error
            continue
        if found is None:
            if failure is None:
                raise _lost(log, version, "was cleaned up before it could be read")
            continue
        return None if found.info.get("txnId") == body.txn_id else found
    raise CommitUnknownError(
        f"Whether version {version} of table {log.table!r} was committed is unknown: the store failed.",
        hint="Nothing is lost. The next run reads the log and goes on from what it finds.",
        table=log.table,
        version=version,
    ) from failure


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    txn_id: str


def _encode(table: str, base: TableSnapshot, intent: Intent, *, now_ms: int) -> _Body:
    txn_id = uuid.uuid4().hex
    info: dict[str, Any] = {
        "timestamp": now_ms,
        "operation": intent.operation,
        "operationParameters": {},
        "engineInfo": "metrics_lake",
        "txnId": txn_id,
        "isBlindAppend": not intent.removes,
    }
    prefix = table_prefix(table)
    if intent.fences:
        info["fenced"] = [key.removeprefix(prefix) for key in intent.fences]
    actions: list[dict[str, Any]] = [{"commitInfo": info}]
    if base.version < 0:
        actions += new_table_actions(table, str(uuid.uuid4()), now_ms)
    txns = dict(intent.txns)
    for writer, added in intent.consumed.items():
        txns |= watermark_txns(writer, base.consumed(writer), added)
    txns |= {end_app_id(writer): stage for writer, stage in intent.ended.items()}
    actions += [
        {"txn": {"appId": text, "version": version, "lastUpdated": now_ms}} for text, version in txns.items()
    ]
    for key in intent.removes:
        remove = remove_action(base.entries[key].add, deletion_time_ms=now_ms, data_change=intent.data_change)
        actions.append({"remove": remove})
    for new in intent.adds:
        add = add_action(
            new.file,
            table,
            stats=new.stats,
            modification_time_ms=now_ms,
            data_change=intent.data_change,
        )
        actions.append({"add": add})
    return _Body(encode_commit(actions), txn_id)


def _lost(log: TableLog, version: int, reason: str) -> CommitConflictError:
    return CommitConflictError(
        f"Version {version} of table {log.table!r} {reason}; this commit starts over.",
        table=log.table,
        version=version,
    )
