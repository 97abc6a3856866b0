"""Compaction on the side: whoever has just listed a full inbox may take a part of it.

A claim on the next version keeps others from doing the same work. It is advice, not a lock: the commit itself
decides, so a claim that is lost, stale or ignored costs work and never rows.
"""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import MetricsLakeError, PermissionDeniedError, UnsupportedFormatError
from metrics_lake.layout import claim_key
from metrics_lake.maintenance.collecting import collect_inbox
from metrics_lake.maintenance.compaction import compact_inbox, merge_files

if TYPE_CHECKING:
    from metrics_lake.commits import LiveFile, Snapshot, TableLog
    from metrics_lake.storage import Storage

__all__ = ["BackgroundCompaction", "claim"]

LIVE_OBJECTS: Final = 500
BUDGET_BYTES: Final = 64 << 20
CLAIM_SECONDS: Final = 600.0
REFUSED_SECONDS: Final = 3600.0
"""How long refused credentials are left alone: tokens that expired are renewed, rights are given."""


def claim(storage: Storage, table: str, snapshot: Snapshot) -> bool:
    """Return whether the work on the next version is ours to do.

    A claim of somebody else is respected for ten minutes by the store's clock.

    Raises:
        StorageError: The store failed.
    """
    key = claim_key(table, snapshot.log.version + 1)
    if storage.put_new(key, b""):
        return True
    times = [info.modified for info in storage.list(key)]
    # the store's clock is at least at the newest object that the snapshot listed
    now = max((file.modified for file in snapshot.listed), default=0.0)
    if not times or now - min(times) <= CLAIM_SECONDS:
        return False
    storage.delete([key])
    return storage.put_new(key, b"")


def _is_full(snapshot: Snapshot) -> bool:
    """Return whether the inbox has many objects, or as much as one compaction moves.

    The states of one prediction job with hundreds of segments are megabytes, and ten times that in memory:
    whoever opens the lake reads them all.
    """
    inbox = snapshot.inbox
    return len(inbox) > LIVE_OBJECTS or sum(live.size_bytes for live in inbox) > BUDGET_BYTES


class BackgroundCompaction:
    """Compacts in a thread of the process that made it, which ends after it; never in a forked child.

    Args:
        storage: The lake's objects.
        logs: The logs of the tables: of its own, so that it never waits for a reader.
        enabled: False never does anything.

    Attributes:
        state: ``"auto"``, ``"off"``, or why it turned itself off; for an hour, where rights were missing.
        last_error: What went wrong the last time, or None.
    """

    def __init__(self, storage: Storage, *logs: TableLog, enabled: bool = True) -> None:
        self.state = "auto" if enabled else "off"
        self.last_error: MetricsLakeError | None = None
        self._off_until = 0.0 if enabled else math.inf
        self._storage = storage
        self._logs = {log.table: log for log in logs}
        for log in logs:
            log.inbox.is_silent = True
        self._seen_not_full: tuple[LiveFile, ...] | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def notice(self, snapshot: Snapshot) -> bool:
        """Start a compaction if a snapshot shows a full inbox and nobody works on any.

        Returns at once; the claim and the work happen in the background.

        Returns:
            True where a compaction was started.
        """
        # Readers hand in the same tuple as long as nothing is new.
        if (
            time.monotonic() < self._off_until
            or snapshot.inbox is self._seen_not_full
            or os.getpid() != self._pid
        ):
            return False
        if snapshot.table not in self._logs or not _is_full(snapshot):
            self._seen_not_full = snapshot.inbox
            return False
        if not self._lock.acquire(blocking=False):
            return False
        # No daemon: one that is still inside of DuckDB when the interpreter ends takes the process down.
        self._thread = threading.Thread(target=self._run, args=(snapshot,), name="metrics-lake-compact")
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is shutting down
            self._lock.release()
            return False
        return True

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait for the compaction that is under way, if any."""
        thread = self._thread
        if thread is not None and os.getpid() == self._pid:
            thread.join(timeout_seconds)

    def _run(self, snapshot: Snapshot) -> None:
        log = self._logs[snapshot.table]
        try:
            if claim(self._storage, log.table, snapshot):
                compact_inbox(self._storage, log, budget_bytes=BUDGET_BYTES)
                merge_files(self._storage, log, budget_bytes=BUDGET_BYTES)
                collect_inbox(self._storage, log)
        except PermissionDeniedError as error:
            self.state = f"off: these credentials may not compact ({error.message})"
            self._off_until = time.monotonic() + REFUSED_SECONDS
        except UnsupportedFormatError as error:
            self.state = f"off: {error.message}"
            self._off_until = math.inf
        except MetricsLakeError as error:
            # Whoever reads next tries again; the rows are where they were.
            self.last_error = error
        except RuntimeError:  # no pool of threads takes work while the interpreter shuts down
            if threading.main_thread().is_alive():
                raise
        else:
            self.state = "auto"
            self.last_error = None
        finally:
            self._lock.release()
