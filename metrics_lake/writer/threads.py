"""The two threads behind a writer: one publishes, one brings the journal to stable storage."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import JournalError, MetricsLakeError
from metrics_lake.jitter import jitter
from metrics_lake.writer.exit import import_for_publishing
from metrics_lake.writer.outbox import LakeReplacedError, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from metrics_lake.journal import Journal, Segment
    from metrics_lake.lakefile import LakeFile
    from metrics_lake.writer.changed import Changed

__all__ = ["Publisher", "Syncer"]

_SYNC_SECONDS: Final = 0.05
_FIRST_RETRY_SECONDS: Final = 0.5
_LAST_RETRY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 5.0


class Publisher:
    """Publishes when a flush is due or asked for, and tries again, ever more rarely, while the store fails.

    Args:
        changed: The condition that guards the writer's state.
        outbox: What is to be published.
        seal_all: Seals the writer's open segments; called with the lock held.
        bind: Reaches the lake; called without the lock.
        let_go: Gives back the journal of a stopped writer; called without the lock.

    Attributes:
        flush_due: When the open segments are to be sealed, on the monotonic clock; None where there are none.
        asked: How many flushes were asked for.
        failed_rounds: How many attempts failed.
        after_publishing: Called, without the lock, whenever everything that was sealed is published.
        fatal: Why nothing can be written any more, or None.
    """

    def __init__(
        self,
        changed: Changed,
        outbox: Outbox,
        seal_all: Callable[[], None],
        bind: Callable[[], LakeFile],
        let_go: Callable[[], None],
    ) -> None:
        self._changed = changed
        self._outbox = outbox
        self._seal_all = seal_all
        self._bind = bind
        self._let_go = let_go
        self._thread: threading.Thread | None = None
        self._answered = 0
        self._retry_at = 0.0
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self.flush_due: float | None = None
        self.asked = 0
        self.failed_rounds = 0
        self.after_publishing: Callable[[], None] = lambda: None
        self.fatal: MetricsLakeError | None = None

    @property
    def is_started(self) -> bool:
        """True once a thread publishes."""
        return self._thread is not None

    @property
    def is_alive(self) -> bool:
        """True while a thread publishes."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_stopped(self) -> bool:
        """True once the writer was closed: nothing is published any more."""
        return self._outbox.is_stopped

    def start(self) -> bool:
        """Start the thread if none is alive, and tell whether one is now; called with the lock held."""
        if self.is_alive or self.is_stopped:
            return self.is_alive
        thread = threading.Thread(target=self._run, name="metrics_lake-publisher", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            # No more threads, or the interpreter is on its way out. What was logged is in the journal, and
            # flush() publishes it in its caller's thread.
            return False
        return True

    def stop(self) -> None:
        """End the thread, after the request that it is in the middle of; called without the lock."""
        with self._changed.lock:
            self._outbox.is_stopped = True
            self._changed.notify_all()
        if self.is_alive and self._thread is not None:
            self._thread.join(timeout=1.0)

    def wait(self, is_settled: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """Wait for the thread, and tell whether the predicate holds; called with the lock held."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self.start():
            # Woken now and then: a thread that died is started again and seen here.
            left = _LOOK_SECONDS if deadline is None else min(deadline - time.monotonic(), _LOOK_SECONDS)
            if self._changed.wait_for(is_settled, timeout=max(left, 0.0)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
        return is_settled()

    def ask(self) -> None:
        """Ask for a flush now, whatever failed before; called with the lock held."""
        self.asked += 1
        self._changed.notify_all()

    def publish(self) -> None:
        """Publish what is sealed; on failure set the time of the next try."""
        try:
            if self._outbox.has_work:
                import_for_publishing()
                self._outbox.publish_all(self._bind())
        except LakeReplacedError as error:
            with self._changed.lock:
                self.fatal = error
            self._failed(error)
        except (MetricsLakeError, OSError, MemoryError) as error:
            self._failed(error)
        else:
            with self._changed.lock:
                self._retry_seconds = _FIRST_RETRY_SECONDS
                self._retry_at = 0.0
                self._changed.notify_all()
            self.after_publishing()

    def _failed(self, error: BaseException) -> None:
        self._outbox.report("publishing", f"publishing failed and is tried again: {error}")
        with self._changed.lock:
            self.failed_rounds += 1
            self._retry_at = time.monotonic() + self._retry_seconds * jitter(0.8, 1.2)
            self._retry_seconds = min(self._retry_seconds * 2, _LAST_RETRY_SECONDS)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._publish_for_ever()
        except BaseException as error:
            # Nobody foresaw it: the thread ends with a traceback, and a successor tries again in a while.
            self._failed(error)
            with self._changed.lock:
                self._thread = None
                self.start()
            raise
        self._let_go()

    def _publish_for_ever(self) -> None:
        while True:
            with self._changed.lock:
                while not self._has_reason():
                    # Not wait_for: what woke this up may be a flush that is due sooner than was known.
                    self._changed.wait(self._seconds_to_due())
                if self.is_stopped:
                    return
                if self.asked > self._answered or self._is_flush_due():
                    self._seal_all()
                self._answered = self.asked
            self.publish()

    def _has_reason(self) -> bool:
        return self.is_stopped or self.asked > self._answered or self._is_due()

    def _is_flush_due(self) -> bool:
        return self.flush_due is not None and time.monotonic() >= self.flush_due

    def _is_due(self) -> bool:
        """True where there is something to publish and the last failure is long enough ago."""
        has_work = self._outbox.has_work or self._is_flush_due()
        return has_work and time.monotonic() >= self._retry_at

    def _seconds_to_due(self) -> float | None:
        if self._outbox.has_work:
            due = self._retry_at
        elif self.flush_due is not None:
            due = max(self.flush_due, self._retry_at)
        else:
            return None
        return max(due - time.monotonic(), 0.0)


class Syncer:
    """Brings appended frames to stable storage, in groups.

    Args:
        changed: The condition that guards the writer's state.
        outbox: Where a failure is reported.
    """

    def __init__(self, changed: Changed, outbox: Outbox) -> None:
        self._changed = changed
        self._outbox = outbox
        self._thread: threading.Thread | None = None
        self._segments: list[Segment] = []
        self._journal: Journal | None = None
        # How many segments there were, and of how many the name is on stable storage.
        self._added = 0
        self._named = 0
        self._syncing = threading.Lock()
        self._is_stopped = False

    def add(self, segment: Segment, journal: Journal) -> None:
        """Look after a new segment of a journal on disk; called with the lock held."""
        self._segments.append(segment)
        self._journal = journal
        self._added += 1
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="metrics_lake-syncer", daemon=True)
            with suppress(RuntimeError):  # no more threads: a call that asks for "synced" syncs by itself
                thread.start()
                self._thread = thread

    def stop(self) -> None:
        """End the thread once everything is on stable storage; called without the lock."""
        with self._changed.lock:
            self._is_stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10.0)

    def sync(self) -> None:
        """Bring all that was appended so far to stable storage.

        Raises:
            JournalError: The device failed.
        """
        # One at a time: whoever comes second must not return before what the first has taken is synced.
        with self._syncing:
            with self._changed.lock:
                segments = list(self._segments)
                journal, added = self._journal, self._added
            for segment in segments:
                was_sealed = segment.is_sealed
                if segment.needs_sync:
                    segment.sync()
                if was_sealed and not segment.needs_sync:
                    segment.release()
                    with self._changed.lock:
                        self._segments = [other for other in self._segments if other is not segment]
            if journal is not None and added > self._named:
                journal.sync()
                self._named = added

    def _run(self) -> None:
        while True:
            with self._changed.lock:
                self._changed.wait_for(lambda: self._is_stopped or bool(self._segments))
                if self._is_stopped and not any(segment.needs_sync for segment in self._segments):
                    return
            try:
                self.sync()
                self._outbox.problems.pop("syncing", None)
            except JournalError as error:
                self._outbox.report("syncing", f"the journal cannot be brought to stable storage: {error}")
                if self._is_stopped:
                    return
            time.sleep(_SYNC_SECONDS)
