"""One handle's writer: journal first, publish later.

Two daemon threads belong to a writer that has logged: the *publisher* seals and publishes, the *syncer*
brings the journal to stable storage in groups. The caller's thread does neither. All state is guarded by one
lock that is never held during network or Parquet work.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake.errors import (
    ClosedError,
    JournalError,
    JournalFullError,
    MetricsLakeError,
    NotPublishedError,
    StorageError,
)
from metrics_lake.journal import (
    Identity,
    Journal,
    MemoryJournal,
    Segment,
    SegmentHeader,
    find_state_directory,
    host_id,
    unbound_name,
    utc_day,
)
from metrics_lake.points import PointFields, SeriesKey, checked_step, checked_timestamp
from metrics_lake.resources import canonical_tags, check_id, resource_key, tags_key
from metrics_lake.schema import METRICS, TABLES
from metrics_lake.values import KINDS, encode
from metrics_lake.writer.exit import close_at_exit
from metrics_lake.writer.identity import new_writer_id
from metrics_lake.writer.outbox import Outbox, warn_in_background
from metrics_lake.writer.pending import PendingRows
from metrics_lake.writer.publishing import publish_end
from metrics_lake.writer.receipts import Receipt, Status
from metrics_lake.writer.threads import Publisher, Syncer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from metrics_lake.commits import PendingRun
    from metrics_lake.lakefile import LakeFile
    from metrics_lake.storage import Storage

__all__ = ["KIND_CODES", "MAX_CALL_BYTES", "MAX_CALL_ROWS", "Durability", "Writer", "WriterSettings"]

Durability = Literal["logged", "synced", "published"]
"""What a point survives when its call returns: this process's death, power loss, loss of the machine."""

MAX_CALL_ROWS: Final = 65_536
"""A call with more rows is published by itself and not journaled; a segment holds no more either."""

MAX_CALL_BYTES: Final = 8 << 20

KIND_CODES: Final[dict[str, int]] = {kind: code for code, kind in enumerate(KINDS)}

_FIRST_FLUSH_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 5.0
_REMOTE_FLUSH_SECONDS: Final = 30.0
_YOUNG_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How a handle writes; see ``MetricsLake``."""

    durability: Durability = "logged"
    flush_seconds: float | None = None
    on_full: Literal["raise", "block"] = "raise"
    journal_max_bytes: int = 1 << 30
    state_dir: str | os.PathLike[str] | None = None


class Writer:
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
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._opening = threading.Lock()
        self._outbox = Outbox(self._storage, self._changed, self._take_new_identity, self._settings.state_dir)
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

    # -- logging: the caller's thread ------------------------------------------------------------------------

    def log_point(
        self,
        resource: Any,
        metric: Any,
        value: Any,
        step: Any,
        timestamp: Any,
        tags: Mapping[str, Any] | None,
        durability: Durability | None,
    ) -> None:
        """Journal one point.

        Raises:
            InvalidInputError: An argument is wrong.
            JournalError: The point was not journaled.
        """
        if type(resource) is not str:
            resource = resource_key(resource)
        if type(metric) is not str:
            metric = check_id(metric, "metric")
        number: float | None
        text: str | None
        if type(value) is float:
            kind, number, text = 0, value, None
        else:
            name, number, text = encode(value)
            kind = KIND_CODES[name]
        if step is not None:
            step = checked_step(step)
        series = (resource, metric, "" if tags is None else tags_key(canonical_tags(tags)))
        micros = None if timestamp is None else checked_timestamp(timestamp)
        if durability is not None:
            _check_durability(durability)
        is_plain = durability is None and self._settings.durability == "logged"
        with self._lock:
            segment = self._metrics
            if (
                segment is None
                or segment.row_count >= MAX_CALL_ROWS
                or segment.size_bytes > MAX_CALL_BYTES
                or self._outbox.journal_bytes >= self._settings.journal_max_bytes
            ):
                segment = self._segment_for(METRICS, 1)
            if not is_plain:
                self._check_level(durability)
            if micros is None:
                micros = time.time_ns() // 1000
                if micros <= self._last_clock:
                    micros = self._last_clock + 1
                self._last_clock = micros
            self._append(segment, segment.encoder.point(series, kind, number, text, micros, step), 1)
        if not is_plain:
            self._reach(durability)

    def log_points(
        self,
        points: Sequence[PointFields],
        step: int | None,
        micros: int | None,
        durability: Durability | None,
    ) -> None:
        """Journal the points of one call, all or nothing."""
        with self._lock:
            segment = self._segment_for(METRICS, len(points))
            self._check_level(durability)
            stamp = self._clock() if micros is None else micros
            self._append(segment, segment.encoder.points(points, stamp, step), len(points))
        self._reach(durability)

    def log_numbers(
        self,
        series: SeriesKey,
        kind: int,
        values: bytes | memoryview,
        timestamps: int | bytes | memoryview | None,
        steps: bytes | memoryview | None,
        durability: Durability | None,
    ) -> None:
        """Journal many numbers of one series, all or nothing."""
        rows = len(values) // 8
        with self._lock:
            segment = self._segment_for(METRICS, rows)
            self._check_level(durability)
            stamps = self._clock() if timestamps is None else timestamps
            self._append(segment, segment.encoder.numbers(series, kind, values, stamps, steps), rows)
        self._reach(durability)

    def log_frame(self, table: str, frame: bytes, rows: int, durability: Durability | None) -> None:
        """Journal rows that were framed by the caller, all or nothing."""
        with self._lock:
            segment = self._segment_for(table, rows)
            self._check_level(durability)
            self._append(segment, frame, rows)
        self._reach(durability)

    def clock(self) -> int:
        """Return this call's time: microseconds since 1970, strictly increasing over the writer's calls."""
        with self._lock:
            return self._clock()

    def _clock(self) -> int:
        self._last_clock = max(time.time_ns() // 1000, self._last_clock + 1)
        return self._last_clock

    def _append(self, segment: Segment, frame: bytes, rows: int) -> None:
        try:
            segment.append(frame, rows)
        except JournalError:
            if segment.is_sealed:
                self._metrics = None  # it could not be mended: the next call seals it and opens another one
            raise
        self._outbox.journal_bytes += len(frame)

    def _is_full(self) -> bool:
        return self._outbox.journal_bytes >= self._settings.journal_max_bytes

    def _segment_for(self, table: str, rows: int) -> Segment:
        """Return the open segment that takes the next rows; called with the lock held."""
        while self._is_full():
            self._make_room()
        if self._publisher.fatal is not None:
            raise self._publisher.fatal
        if self._is_closing:
            raise ClosedError(
                f"the handle on {self._storage.url} was closed.", hint="Make a new MetricsLake."
            )
        segment = self._segments.get(table)
        if segment is not None:
            is_full = segment.row_count + rows > MAX_CALL_ROWS or segment.size_bytes > MAX_CALL_BYTES
            if not segment.is_sealed and not (is_full and segment.row_count):
                return segment
            self._seal(table)
            self._changed.notify_all()
        if self._journal is None:
            # The first point opens the journal, which may ask the store: not under the lock.
            self._lock.release()
            try:
                self._open()
            finally:
                self._lock.acquire()
            return self._segment_for(table, rows)
        return self._new_segment(table, self._journal)

    def _make_room(self) -> None:
        """Raise, or wait for the publisher; called with the lock held."""
        outbox = self._outbox
        if self._segments:
            self._publisher.flush_due = time.monotonic()  # the cap may be smaller than a segment
            self._publisher.start()
            self._changed.notify_all()
        if self._settings.on_full == "raise" or self._publisher.fatal is not None or self._is_closing:
            where = self._journal.where if self._journal else "of this handle"
            reason = "; ".join(outbox.problems.values()) or "logging is faster than publishing"
            raise JournalFullError(
                f"the journal {where} holds {outbox.journal_bytes:,} bytes, its cap is "
                f"{self._settings.journal_max_bytes:,} ({reason}): nothing of this call was logged.",
                hint="Mend the store, raise journal_max_bytes, or wait with on_full='block'.",
                path=where,
            )
        self._changed.wait(1.0)

    def _new_segment(self, table: str, journal: Journal | MemoryJournal) -> Segment:
        header = SegmentHeader(
            writer=self._id or "",
            table=table,
            first=self._next.setdefault(table, 0),
            date=utc_day(time.time_ns() // 1000),
            lake_id=self._outbox.lake.lake_id if self._outbox.lake else None,
        )
        segment = journal.open_segment(header)
        self._segments[table] = segment
        if table == METRICS:
            self._metrics = segment
        self._outbox.journal_bytes += segment.size_bytes
        if isinstance(journal, Journal):
            self._syncer.add(segment, journal)
        if self._publisher.flush_due is None:
            self._publisher.flush_due = time.monotonic() + self._flush_interval()
        self._publisher.start()
        self._changed.notify_all()
        return segment

    def _seal(self, table: str, *, is_end: bool = False) -> None:
        """Close a table's open segment for more rows and queue it; called with the lock held."""
        segment = self._segments.get(table)
        if table == METRICS:
            self._metrics = None
        if segment is None:
            return
        outbox = self._outbox
        if segment.row_count:
            before = segment.size_bytes
            if not segment.is_sealed:
                segment.seal(is_end=is_end)
            outbox.journal_bytes += segment.size_bytes - before
            self._next[table] = segment.end
            # In this order, and looked for: a signal's handler may have raised here the last time.
            if not outbox.queue or outbox.queue[-1] is not segment:
                outbox.queue.append(segment)
            del self._segments[table]
        else:
            del self._segments[table]
            outbox.journal_bytes -= segment.size_bytes
            segment.discard()

    def _seal_all(self) -> None:
        self._publisher.flush_due = None
        for table in sorted(self._segments, key=_publishing_order):
            self._seal(table)

    def _flush_interval(self) -> float:
        if self._settings.flush_seconds is not None:
            return self._settings.flush_seconds
        if not self._outbox.published.objects:
            return _FIRST_FLUSH_SECONDS
        is_old = time.monotonic() - self._born > _YOUNG_SECONDS
        return _REMOTE_FLUSH_SECONDS if is_old and self._storage.is_remote else _FLUSH_SECONDS

    def _check_level(self, durability: Durability | None) -> None:
        """Refuse, before anything is written, a level that this machine cannot give."""
        if (durability or self._settings.durability) == "synced" and not isinstance(self._journal, Journal):
            raise JournalError(
                "durability 'synced' needs a journal on disk, and no folder for one can be written on this "
                "machine: nothing of this call was logged.",
                hint="Name a folder with METRICS_LAKE_STATE.",
            )

    def _reach(self, durability: Durability | None) -> None:
        """Raise the durability of what this call journaled to the level that was asked for."""
        level = durability or self._settings.durability
        if level == "published":
            self.flush()
        elif level == "synced":
            self._syncer.sync()

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
        with self._changed:
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
        reason = self._outbox.problems.get("publishing", "the store did not answer in time")
        raise NotPublishedError(
            f"{points:,} points are in the journal {where} and not in {self._storage.url}: {reason}",
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
        with self._changed:
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
        with self._changed:
            last = list(self._segments.values())
            for table in sorted(self._segments, key=_publishing_order):
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


def _publishing_order(table: str) -> tuple[bool, str]:
    """States before the points that announce them."""
    return table == METRICS, table


def _check_durability(durability: Any) -> None:
    from metrics_lake.errors import InvalidInputError

    if durability not in ("logged", "synced", "published"):
        raise InvalidInputError(
            f"durability is {durability!r}.",
            hint="Pass 'logged', 'synced' or 'published'.",
            argument="durability",
        )
