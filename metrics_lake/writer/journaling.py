"""From a call to a journaled frame: the part of a writer that runs in the caller's thread."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake.errors import ClosedError, InvalidInputError, JournalError, JournalFullError
from metrics_lake.journal import Journal, MemoryJournal, Segment, SegmentHeader, utc_day
from metrics_lake.points import PointFields, SeriesKey, checked_step, checked_timestamp
from metrics_lake.resources import check_id, resource_key
from metrics_lake.schema import METRICS
from metrics_lake.tags import canonical_tags, tags_key
from metrics_lake.values import KINDS, encode

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Mapping, Sequence

    from metrics_lake.storage import Storage
    from metrics_lake.writer.changed import Changed
    from metrics_lake.writer.outbox import Outbox
    from metrics_lake.writer.receipts import Receipt
    from metrics_lake.writer.threads import Publisher, Syncer

__all__ = [
    "KIND_CODES",
    "MAX_CALL_BYTES",
    "MAX_CALL_ROWS",
    "Durability",
    "Journaling",
    "WriterSettings",
    "publishing_order",
]

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


class Journaling(ABC):
    """Takes points into open segments, seals and queues them; ``Writer`` gives it its state and the rest.

    One lock guards everything. It is never held during network or Parquet work.
    """

    _storage: Storage
    _settings: WriterSettings
    _lock: threading.Lock
    _changed: Changed
    _outbox: Outbox
    _publisher: Publisher
    _syncer: Syncer
    _journal: Journal | MemoryJournal | None
    _id: str | None
    _born: float
    _segments: dict[str, Segment]
    _metrics: Segment | None
    _next: dict[str, int]
    _last_clock: int
    _is_closing: bool

    @abstractmethod
    def _open(self) -> None:
        """Open the journal, and reach the lake if the store answers."""

    @abstractmethod
    def flush(self, timeout_seconds: float | None = None) -> Receipt:
        """Publish every point that was logged before the call."""

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
        for table in sorted(self._segments, key=publishing_order):
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


def publishing_order(table: str) -> tuple[bool, str]:
    """States before the points that announce them."""
    return table == METRICS, table


def _check_durability(durability: Any) -> None:
    if durability not in ("logged", "synced", "published"):
        raise InvalidInputError(
            f"durability is {durability!r}.",
            hint="Pass 'logged', 'synced' or 'published'.",
            argument="durability",
        )
