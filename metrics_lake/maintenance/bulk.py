"""Bulk commits: many rows at once, sorted Parquet and one commit, visible when the call returns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from metrics_lake.commits import Intent
from metrics_lake.commits.watermarks import bulk_app_id
from metrics_lake.maintenance.attempts import Plan, run_attempts
from metrics_lake.maintenance.files import write_files
from metrics_lake.maintenance.selection import Condition
from metrics_lake.maintenance.sorting import RowSorter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metrics_lake.commits import NewFile, Snapshot, TableLog
    from metrics_lake.storage import Storage

__all__ = ["BulkCommit", "copy_app_id", "publish_bulk", "publish_copy"]

_RUN_ROWS: Final = 2_000_000
"""A call's rows are in its caller's memory anyway; up to here, and the sorter's bytes, none goes to disk."""


@dataclass(frozen=True, slots=True)
class BulkCommit:
    """What a bulk commit did.

    Attributes:
        version: The table's version as of which the rows are there.
        points: The rows that this call added; 0 where an earlier call with the same key had.
        files: The data files that hold them.
        size_bytes: Their size.
    """

    version: int
    points: int
    files: int
    size_bytes: int


def copy_app_id(to: str) -> str:
    """Return the application id by which two copies to one resource notice each other."""
    return f"ml:copy:{blake2b(to.encode(), digest_size=16).hexdigest()}"


def publish_bulk(
    storage: Storage,
    log: TableLog,
    rows: pa.Table | Callable[[], Iterable[pa.Table]],
    *,
    key: str | None = None,
    work_dir: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> BulkCommit:
    """Publish rows whole or not at all, once however often it is called with the same key.

    Args:
        storage: The lake's objects.
        log: The table's log.
        rows: The rows in the table's schema, with writer and seq that no other rows have; or a function that
            gives them piece by piece, called again where another commit gets in the way.
        key: Names the call for ever; None = the call is its own.
        work_dir: Where temporary files go once the rows do not fit memory.
        sleep: Waits between attempts.

    Raises:
        StorageError: The store failed; nothing is visible.
        CommitUnknownError: The store failed in the middle. With a key the call may be repeated.
    """
    app = None if key is None else bulk_app_id(key)

    def decide(snapshot: Snapshot, attempt: int) -> Plan[BulkCommit]:
        del attempt
        if app is not None and snapshot.log.transactions.get(app) is not None:
            return Plan(None, BulkCommit(snapshot.log.version, 0, 0, 0))
        files, points = _write(storage, log.table, _pieces(rows), work_dir)
        if not points:
            return Plan(None, BulkCommit(snapshot.log.version, 0, 0, 0))
        intent = Intent("WRITE", adds=tuple(files), txns={} if app is None else {app: 0})
        return Plan(intent, _done(files, points))

    done, version = run_attempts(storage, log, decide, sleep=sleep)
    return BulkCommit(version, done.points, done.files, done.size_bytes)


def publish_copy(
    storage: Storage,
    log: TableLog,
    to: str,
    select: Callable[[Snapshot], Iterable[pa.Table]],
    *,
    work_dir: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> BulkCommit:
    """Add rows to a resource that depend on what it holds: none twice, however many copies run at once.

    Args:
        storage: The lake's objects.
        log: The table's log.
        to: The resource that receives the rows.
        select: Gives the rows for a snapshot: those to add that the resource does not have in it, by
            (writer, seq). Called again with a new snapshot where another commit gets in the way.
        work_dir: Where temporary files go once the rows do not fit memory.
        sleep: Waits between attempts.

    Raises:
        StorageError: The store failed; nothing is visible.
    """
    app = copy_app_id(to)
    condition = Condition(resources=(to,))

    def decide(snapshot: Snapshot, attempt: int) -> Plan[BulkCommit]:
        del attempt
        files, points = _write(storage, log.table, select(snapshot), work_dir)
        if not points:
            return Plan(None, BulkCommit(snapshot.log.version, 0, 0, 0))
        previous = snapshot.log.transactions.get(app)
        intent = Intent(
            "WRITE",
            adds=tuple(files),
            txns={app: 0 if previous is None else previous + 1},
            may_match=condition.may_match,
        )
        return Plan(intent, _done(files, points))

    done, version = run_attempts(storage, log, decide, sleep=sleep)
    return BulkCommit(version, done.points, done.files, done.size_bytes)


def _write(
    storage: Storage, table: str, pieces: Iterable[pa.Table], work_dir: str | None
) -> tuple[list[NewFile], int]:
    with RowSorter(table, work_dir=work_dir, run_rows=_RUN_ROWS) as sorter:
        for piece in pieces:
            sorter.add(piece)
        if not sorter.num_rows:
            return [], 0
        files = write_files(storage, table, sorter.pieces(), with_float_stats=not sorter.has_nan)
        return files, sorter.num_rows


def _pieces(rows: pa.Table | Callable[[], Iterable[pa.Table]]) -> Iterable[pa.Table]:
    return [rows] if isinstance(rows, pa.Table) else rows()


def _done(files: list[NewFile], points: int) -> BulkCommit:
    return BulkCommit(-1, points, len(files), sum(new.file.size_bytes for new in files))
