"""One handle's writer: journal first, publish later.

Two daemon threads belong to a writer that has logged: the *publisher* seals and publishes, the *syncer*
brings the journal to stable storage in groups. The caller's thread does neither. All state is guarded by one
lock that is never held during network or Parquet work.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from metrics_lake.errors import (
    MetricsLakeError,
    NotPublishedError,
    StorageError,
)
from metrics_lake.journal import (
    Identity,
    Journal,
    MemoryJournal,
    Segment,
    find_state_directory,
    host_id,
    unbound_name,
    utc_day,
)
from metrics_lake.schema import TABLES
from metrics_lake.writer.changed import Changed
from metrics_lake.writer.exit import close_at_exit
from metrics_lake.writer.identity import new_writer_id
from metrics_lake.writer.journaling import Journaling, WriterSettings, publishing_order
from metrics_lake.writer.outbox import Outbox, warn_in_background
from metrics_lake.writer.pending import PendingRows, PublishedRows
from metrics_lake.writer.publishing import publish_end
from metrics_lake.writer.receipts import Receipt, Status
from metrics_lake.writer.threads import Publisher, Syncer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from metrics_lake.commits import PendingRun
    from metrics_lake.lakefile import LakeFile
    from metrics_lake.storage import Storage

__all__ = ["Writer"]


class Writer(Journaling):
    """Takes points, keeps them in a journal and publishes them.

    Nothing happens until the first point: no thread, no file, no request.

    Args:
        storage: The store.
        settings: How to write.
        after_publishing: Called in the publisher's thread whenever everything that was sealed is published.
    """

    def __init__(
        self,
        storage: Storage,
        settings: WriterSettings,
        after_publishing: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._after_publishing = after_publishing
        self._begin()
        close_at_exit(self)

    def _begin(self) -> None:
        """Begin anew: at construction, and in a forked child, which gets a writer of its own."""
        self._changed = Changed()
        self._lock = self._changed.lock
        self._opening = threading.Lock()
        self._published = PublishedRows()
        self._outbox = Outbox(
            self._storage,
            self._changed,
            self._take_new_identity,
            self._settings.state_dir,
            self._published.keep,
        )
        self._publisher = Publisher(self._changed, self._outbox, self._seal_all, self._bind, self._let_go)
        self._publisher.after_publishing = self._after_publishing
        self._syncer = Syncer(self._changed, self._outbox)
        self._journal: Journal | MemoryJournal | None = None
        self._id: str | None = None
        self._born = time.monotonic()
        self._segments: dict[str, Segment] = {}
        self._metrics: Segment | None = None
        self._next: dict[str, int] = {}
        self._pending = {table: PendingRows() for table in TABLES}
        self._decoding = threading.Lock()
        self._identity: Identity | None = None
        self._foreign_ids: set[str] = set()
        self._has_journal = False
        self._last_clock = 0
        self._is_closing = False

    # -- opening -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the journal, and reach the lake if the store answers."""
        with self._opening:
            if self._journal is not None:
                return
            outbox = self._outbox
            outbox.state = find_state_directory(self._settings.state_dir)
            try:
                lake: LakeFile | None = outbox.connect(create=True)
            except StorageError as error:
                if not error.retryable:
                    raise
                lake = outbox.lake
                outbox.report("publishing", f"the store cannot be reached; points are kept here. {error}")
            if lake is not None:
                outbox.adopt(lake)
            writer = new_writer_id()
            if outbox.state is None:
                journal: Journal | MemoryJournal = MemoryJournal()
                outbox.report(
                    "journal",
                    "no folder for the journal can be written on this machine: points that are not published "
                    "die with this process. Name a folder with METRICS_LAKE_STATE.",
                )
            else:
                name = lake.lake_id if lake else unbound_name(self._storage.url)
                journal = Journal(outbox.state / name / host_id(), writer)
            with self._lock:
                self._id = writer
                self._journal = journal
                self._has_journal = True

    @property
    def has_logged(self) -> bool:
        """True once a point was to be logged, whether or not the store could be reached."""
        return self._journal is not None

    def connect(self) -> LakeFile:
        """Return the lake; make it if there is none.

        Raises:
            StorageError: The store cannot be reached or written.
        """
        return self._outbox.connect(create=True)

    def adopt(self, lake: LakeFile) -> None:
        """Publish what dead processes of this host left for the lake, before a first read.

        What cannot be published now is read from their journals and published with the next flush.
        """
        outbox = self._outbox
        if outbox.lake is None:
            with self._lock:
                outbox.lake = lake
        outbox.adopt(lake)
        if outbox.orphans and not self._publisher.is_started:
            try:
                outbox.publish_all(lake)
            except StorageError as error:
                outbox.report("publishing", f"points of a process that died wait in the journal: {error}")

    def _bind(self) -> LakeFile:
        """Return the lake; move a journal that was begun offline to it."""
        outbox = self._outbox
        lake = outbox.connect(create=True)
        outbox.adopt(lake)
        if self._identity is not None:
            self._take_new_identity(self._identity.old)  # the journal could not be written the last time
        journal = self._journal
        if isinstance(journal, Journal) and outbox.state is not None:
            root = outbox.state / lake.lake_id / host_id()
            if journal.directory.parent != root:
                with self._lock:
                    journal.move(root)
        return lake

    def _take_new_identity(self, old: str) -> None:
        """Give every unpublished point of this writer a new writer id: somebody else has the old one."""
        with self._lock:
            for table in list(self._segments):
                self._seal(table)
            outbox = self._outbox
            identity = self._identity
            if identity is None:
                bases: dict[str, int] = {}
                for segment in outbox.queue:
                    if segment.header.writer == old:
                        bases.setdefault(segment.header.table, segment.header.first)
                for table, end in self._next.items() if self._id == old else ():
                    bases.setdefault(table, end)
                identity = self._identity = Identity(old=old, new=new_writer_id(), bases=bases)
            if self._journal is not None:
                self._journal.remember(identity)
            for i, segment in enumerate(outbox.queue):
                if segment.header.writer == identity.old:
                    restamped = segment.restamp(identity.restamped(segment.header))
                    outbox.journal_bytes += restamped.size_bytes - segment.size_bytes
                    outbox.queue[i] = restamped
            if self._id == identity.old:
                self._id = identity.new
                self._next = {table: end - identity.base(table) for table, end in self._next.items()}
            self._identity = None
            self._foreign_ids.add(old)

    # -- flushing and closing --------------------------------------------------------------------------------

    def flush(self, timeout_seconds: float | None = None) -> Receipt:
        """Publish every point that was logged before the call.

        Args:
            timeout_seconds: How long to keep trying; None gives up when one whole attempt has failed. The
                publisher goes on either way.

        Raises:
            NotPublishedError: Points are still in the journal; it says how many, where and why.
        """
        begun = time.monotonic()
        before = self._outbox.published
        self._publish_until(timeout_seconds)
        if self._publisher.fatal is not None:
            raise self._publisher.fatal
        return self._receipt(before, begun)

    def _publish_until(self, timeout_seconds: float | None) -> None:
        outbox, publisher = self._outbox, self._publisher
        with self._lock:
            if publisher.is_stopped:
                is_left = bool(outbox.queue)
            elif not publisher.is_started and not outbox.orphans:
                return
            else:
                self._seal_all()
                wanted = outbox.done + len(outbox.queue)
                failed_before = publisher.failed_rounds

                def is_settled() -> bool:
                    gave_up = timeout_seconds is None and publisher.failed_rounds > failed_before
                    is_done = outbox.done >= wanted and not outbox.orphans
                    return is_done or gave_up or publisher.fatal is not None

                publisher.ask()
                if not publisher.wait(is_settled, timeout_seconds) and not publisher.start():
                    # No thread can be started, as when the interpreter is on its way out.
                    self._lock.release()
                    try:
                        publisher.publish()
                    finally:
                        self._lock.acquire()
                is_left = outbox.done < wanted or (self._journal is None and bool(outbox.orphans))
        if is_left:
            self._raise_if_pending()
        if outbox.losses:
            losses, outbox.losses = outbox.losses, []
            raise NotPublishedError(" ".join(losses), hint="See lake.status().")

    def _raise_if_pending(self) -> None:
        with self._lock:
            points = self._outbox.pending_points()
            adopted = self._outbox.orphans[:1]
            where = str(adopted[0].directory) if adopted else ""
            if self._journal is not None:
                where = self._journal.where
        if not points:
            return
        reason = self._outbox.problems.get("publishing", "the store did not answer in time.")
        what = "1 point is" if points == 1 else f"{points:,} points are"
        raise NotPublishedError(
            f"{what} in the journal {where} and not in {self._storage.url}: {reason}",
            hint="They are published by the next handle on this machine, or with `metrics-lake recover`.",
            points=points,
            path=where,
        )

    def _receipt(self, before: Any, begun: float) -> Receipt:
        now = self._outbox.published
        return Receipt(
            points=now.points - before.points,
            objects=now.objects - before.objects,
            size_bytes=now.size_bytes - before.size_bytes,
            seconds=time.monotonic() - begun,
        )

    def close(self, timeout_seconds: float | None = 30.0) -> None:
        """Publish what is pending, mark the writer's end and stop; a second call does nothing.

        Raises:
            NotPublishedError: Points are still in the journal; they are safe there.
        """
        with self._lock:
            if self._is_closing:
                return
            self._is_closing = True
        try:
            self._end_sequence(timeout_seconds)
        finally:
            self._publisher.stop()
            self._syncer.stop()
            # A publisher that is in the middle of a request keeps the journal, and lets it go by itself.
            if not self._publisher.is_alive:
                self._let_go()

    def _end_sequence(self, timeout_seconds: float | None) -> None:
        """Publish what there is as the end of this writer's sequence; what is logged later begins another."""
        with self._lock:
            last = list(self._segments.values())
            for table in sorted(self._segments, key=publishing_order):
                self._seal(table, is_end=True)
            marked = {segment.header.table for segment in last if segment.is_end}
            writer, ends = self._id, self._next
            if writer is not None and not self._is_closing:
                self._id, self._next = new_writer_id(), {}
        self._publish_until(timeout_seconds)
        if writer is not None and writer not in self._foreign_ids:
            self._mark_ends(
                writer, {table: end for table, end in ends.items() if end and table not in marked}
            )

    def _mark_ends(self, writer: str, ends: Mapping[str, int]) -> None:
        """Say in the inbox that a writer goes no further; a reader loses nothing where it is not said."""
        outbox = self._outbox
        if not ends or outbox.lake is None or self._publisher.fatal is not None:
            return
        today = utc_day(time.time_ns() // 1000)
        try:
            lake = outbox.connect(create=False)
            for table, end in ends.items():
                publish_end(self._storage, lake.lake_id, table, writer, end, today)
        except MetricsLakeError as error:
            outbox.problems["closing"] = f"the end of writer {writer} could not be marked: {error}"

    def _close_empty_journal(self) -> None:
        """Leave no empty folder behind where this is the end; a later point opens a journal anew."""
        with self._lock:
            if self._segments or self._outbox.queue or not self._has_journal:
                return
            journal, self._journal, self._has_journal = self._journal, None, False
        if journal is not None:
            journal.close()

    def _let_go(self) -> None:
        """Give back the journals, own and adopted; once, whoever comes first."""
        with self._lock:
            has_journal, self._has_journal = self._has_journal, False
            orphans = list(self._outbox.orphans)
        if has_journal and self._journal is not None:
            self._journal.close()
        for orphan in orphans:
            orphan.close()

    # -- for reads, forks and reports ------------------------------------------------------------------------

    def pending(self, table: str) -> list[PendingRun]:
        """Return the table's rows that are not published yet, adopted ones of dead processes included."""
        with self._decoding:
            with self._lock:
                segments = self._outbox.sealed(table)
                current = self._segments.get(table)
                if current is not None:
                    segments.append((current, current.size_bytes))
            return self._pending[table].runs(segments) if segments else []

    def take_published(self, key: str) -> pa.Table | None:
        """Return the rows of an object that this writer has published, once, where it still has them."""
        return self._published.take(key)

    def report(self, name: str, problem: str) -> None:
        """Keep a background problem for ``status()`` and warn of it once."""
        self._outbox.report(name, problem)

    def status(self, compaction: str) -> Status:
        """Return what this writer knows of itself."""
        with self._lock:
            outbox = self._outbox
            journal = self._journal
            opened = sum(segment.row_count for segment in self._segments.values())
            in_memory = journal is not None and not journal.is_durable
            return Status(
                url=self._storage.url,
                lake_id=outbox.lake.lake_id if outbox.lake else None,
                writer=self._id,
                durability="memory" if in_memory else self._settings.durability,
                journal=journal.where if journal else None,
                pending_points=outbox.pending_points() + opened,
                pending_bytes=outbox.journal_bytes,
                published_points=outbox.published.points,
                published_objects=outbox.published.objects,
                compaction=compaction,
                problems=tuple(outbox.problems.values()),
            )

    def begin_in_child(self) -> None:
        """Make a forked child a writer of its own: the parent's points and locks stay the parent's."""
        if self._journal is not None:
            self._journal.abandon_in_child()
        self._begin()

    def finish(self, *, is_last: bool, timeout_seconds: float = 30.0) -> None:
        """Publish at interpreter exit; what cannot be published is a warning, it is safe in the journal.

        Args:
            is_last: Nothing can log any more: close. False while threads and exit hooks may.
            timeout_seconds: How long to keep trying.
        """
        try:
            if is_last:
                self.close(timeout_seconds)
            else:
                self._end_sequence(timeout_seconds)
                self._close_empty_journal()
        except MetricsLakeError as error:
            warn_in_background(f"metrics_lake at exit: {error}")
