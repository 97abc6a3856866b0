"""What is sealed and on its way: bound to a lake, published in order, kept until the store has it.

The outbox has no thread of its own. Whoever publishes (the writer's thread, or a reading handle that found
orphans) calls ``publish_all``; calls wait for one another.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from typing import TYPE_CHECKING

from metrics_lake.errors import (
    ConflictError,
    CorruptObjectError,
    LakeNotFoundError,
    MetricsLakeError,
    MetricsLakeWarning,
    UnsupportedFormatError,
)
from metrics_lake.journal import (
    Identity,
    Orphan,
    SealedSegment,
    adopt_orphans,
    host_id,
    state_directories,
    unbound_name,
)
from metrics_lake.lakefile import LakeFile, create_lake, require_lake
from metrics_lake.writer.identity import new_writer_id
from metrics_lake.writer.publishing import ClonedIdentityError, Published, publish_end, publish_segment

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from metrics_lake.storage import Storage
    from metrics_lake.writer.changed import Changed

__all__ = ["LakeReplacedError", "Outbox"]


class LakeReplacedError(ConflictError):
    """The lake that this handle wrote to was deleted, or made anew under the same url."""

    code = "lake_replaced"
    retryable = False


class Outbox:
    """Sealed segments on their way to the store.

    Args:
        storage: The store.
        changed: The condition, and with it the lock, that guards the writer's and this object's state.
        on_clone: Called when somebody else turns out to use the writer's id; gives the queued segments
            another one.
        state_dir: The folder for journals that the user named, or None.
        keep: Given the key and the rows of each object that was published.

    Attributes:
        lake: The lake, once it was reached.
        state: The folder of this writer's journal, or None where it has none on disk.
        queue: Own sealed segments, oldest first.
        done: How many own segments left the queue.
        orphans: Journals of dead processes that this process publishes.
        journal_bytes: The size of the own segments, the open ones included.
        published: What was published so far.
        problems: What is wrong at the moment, by a stable name.
        losses: What was lost of the own points, for the next flush to raise.
        is_stopped: True once the writer was closed: nothing is begun any more.
    """

    def __init__(
        self,
        storage: Storage,
        changed: Changed,
        on_clone: Callable[[str], None],
        state_dir: str | os.PathLike[str] | None = None,
        keep: Callable[[str, pa.Table], None] = lambda key, rows: None,
    ) -> None:
        self._storage = storage
        self._keep = keep
        self._changed = changed
        self._on_clone = on_clone
        self._state_dir = state_dir
        self._publishing = threading.Lock()
        self._has_adopted = False
        self.lake: LakeFile | None = None
        self.state: Path | None = None
        self.queue: deque[SealedSegment] = deque()
        self.done = 0
        self.orphans: list[Orphan] = []
        self.journal_bytes = 0
        self.published = Published(0, 0, 0)
        self.problems: dict[str, str] = {}
        self.losses: list[str] = []
        self.is_stopped = False

    @property
    def has_work(self) -> bool:
        """True where something is sealed and not published."""
        return bool(self.queue or self.orphans)

    def connect(self, *, create: bool) -> LakeFile:
        """Return the lake under the url.

        Raises:
            LakeNotFoundError: There is none and ``create`` is False.
            LakeReplacedError: It is another one than before.
            StorageError: The store cannot be reached, read or written.
        """
        known = self.lake
        if known is None:
            lake = create_lake(self._storage) if create else require_lake(self._storage)
            with self._changed.lock:
                self.lake = lake
            return lake
        try:
            lake = require_lake(self._storage)
        except LakeNotFoundError as error:
            raise self._replaced("was deleted") from error
        if lake.lake_id != known.lake_id:
            raise self._replaced("was deleted and made anew under the same url")
        return lake

    def _replaced(self, what: str) -> LakeReplacedError:
        kept = f" Points that were not published are kept in {self.state}." if self.queue else ""
        return LakeReplacedError(
            f"the lake at {self._storage.url} {what} while this handle was open.{kept}",
            hint="Make a new MetricsLake to write to what is there now.",
            url=self._storage.url,
        )

    def roots(self, lake: LakeFile) -> list[Path]:
        """Return the folders of this host's journals for the lake: bound ones and ones begun offline."""
        states = state_directories(self._state_dir)
        names = (lake.lake_id, unbound_name(self._storage.url))
        return [state / name / host_id() for state in states for name in names]

    def adopt(self, lake: LakeFile) -> None:
        """Take over, once, the journals of dead processes of this host; their rows are pending now."""
        with self._publishing:
            if self._has_adopted:
                return
            self._has_adopted = True
            adopted: list[Orphan] = []
            try:
                adopted.extend(adopt_orphans(self.roots(lake)))
            except (OSError, MetricsLakeError) as error:
                self.report("journals", f"journals of dead processes cannot be read: {error}")
            for orphan in adopted:
                for segment in list(orphan.segments):
                    if segment.header.lake_id not in (None, lake.lake_id):
                        orphan.give_up(segment, _wrong_lake(segment))
                for path, problem in orphan.unreadable:
                    self.report(f"journal {path}", str(problem))
            with self._changed.lock:
                self.orphans.extend(adopted)

    def publish_all(self, lake: LakeFile) -> None:
        """Publish everything that is sealed, each writer's segments in order; own ones first.

        Args:
            lake: The lake as it was just read.

        Raises:
            StorageError: The store failed; what was not published stays.
        """
        with self._publishing:
            while self.queue and not self.is_stopped:
                segment = self.queue[0]
                try:
                    self._publish(lake, segment, self.losses)
                except ClonedIdentityError:
                    self._warn_of_clone(segment)
                    self._on_clone(segment.header.writer)
                    continue
                with self._changed.lock:
                    self.queue.popleft()
                    self.done += 1
                    self.journal_bytes -= segment.size_bytes
                    self._changed.notify_all()
            while self.orphans and not self.is_stopped:
                orphan = self.orphans[0]
                if not self._publish_orphan(lake, orphan):
                    return
                with self._changed.lock:
                    self.orphans.pop(0)
                    self._changed.notify_all()
                orphan.close()
            self.problems.pop("publishing", None)

    def _publish_orphan(self, lake: LakeFile, orphan: Orphan) -> bool:
        """Publish a dead writer's segments; False where this writer was stopped before the last one."""
        ends: dict[tuple[str, str], tuple[int, str]] = {}
        while orphan.segments:
            if self.is_stopped:
                return False
            segment = orphan.segments[0]
            header = segment.header
            sequence = (header.table, header.writer)
            try:
                is_end = self._publish(lake, segment, None)
            except ClonedIdentityError:
                self._warn_of_clone(segment)
                ends.pop(sequence, None)  # somebody else goes on with it
                bases: dict[str, int] = {}
                for left in orphan.segments:
                    bases.setdefault(left.header.table, left.header.first)
                orphan.restamp(Identity(old=header.writer, new=new_writer_id(), bases=bases))
                continue
            except UnsupportedFormatError as error:
                with self._changed.lock:
                    orphan.give_up(segment, error)
                ends.pop(sequence, None)
                self.report(f"journal {segment.where}", str(error))
                continue
            ends[sequence] = (-1 if is_end else header.first + segment.row_count, header.date)
            with self._changed.lock:
                orphan.segments.pop(0)
        for (table, writer), (end, date) in ends.items():
            if end >= 0:
                self.count(publish_end(self._storage, lake.lake_id, table, writer, end, date))
        return True

    def _publish(self, lake: LakeFile, segment: SealedSegment, losses: list[str] | None) -> bool:
        """Publish one segment and remove it; return whether it marks its writer's end.

        Args:
            lake: The lake.
            segment: The segment.
            losses: Where to say what was lost, or None where nobody asks.
        """
        try:
            content = segment.content()
        except CorruptObjectError as error:
            segment.set_aside()
            self._lose(segment, f"{error} It was set aside and is not published.", losses)
            return False
        if content is None:
            what = f"the journal segment {segment.where} was removed by somebody; its points are lost."
            self._lose(segment, what, losses)
            return False
        if content.row_count:
            self.count(publish_segment(self._storage, lake.lake_id, content, self._keep))
        lost = segment.row_count - content.row_count
        if content.tail_is_damaged or lost > 0:
            rest = f"{lost:,} of its points" if lost > 0 else "what follows"
            segment.set_aside()
            what = (
                f"the journal segment {segment.where} is damaged behind its first {content.row_count:,} "
                f"points; these are published, {rest} cannot be read. The file was set aside."
            )
            self._lose(segment, what, losses)
        else:
            segment.discard()
        return content.is_end

    def _lose(self, segment: SealedSegment, what: str, losses: list[str] | None) -> None:
        self.report(f"journal {segment.where}", what)
        if losses is not None:
            losses.append(what)

    def count(self, new: Published) -> None:
        """Add to what was published."""
        with self._changed.lock:
            old = self.published
            self.published = Published(
                points=old.points + new.points,
                objects=old.objects + new.objects,
                size_bytes=old.size_bytes + new.size_bytes,
            )

    def sealed(self, table: str) -> list[tuple[SealedSegment, int]]:
        """Return a table's sealed segments with their sizes, each writer's oldest first; lock held."""
        adopted = (segment for orphan in self.orphans for segment in orphan.segments)
        return [
            (segment, segment.size_bytes)
            for segment in (*adopted, *self.queue)
            if segment.header.table == table
        ]

    def pending_points(self) -> int:
        """Return the number of points that are sealed and not published; called with the lock held."""
        adopted = sum(segment.row_count for orphan in self.orphans for segment in orphan.segments)
        return adopted + sum(segment.row_count for segment in self.queue)

    def report(self, name: str, problem: str) -> None:
        """Keep a background problem for ``status()``, ``flush`` and ``close``, and warn of it once."""
        is_new = name not in self.problems
        self.problems[name] = problem
        if is_new:
            warn_in_background(f"metrics_lake: {problem}")

    def _warn_of_clone(self, segment: SealedSegment) -> None:
        warn_in_background(
            f"metrics_lake: writer {segment.header.writer} is used by another process too (a restored or "
            "copied machine or state folder); its unpublished points go on under a new writer id."
        )


def _wrong_lake(segment: SealedSegment) -> ConflictError:
    return ConflictError(
        f"the journal segment {segment.where} was written for another lake, {segment.header.lake_id}.",
        hint="`metrics-lake recover` publishes it to a lake that you name.",
    )


def warn_in_background(message: str) -> None:
    """Warn from a thread in which nobody could catch the warning if filters turn it into an error."""
    try:
        warnings.warn(message, MetricsLakeWarning, stacklevel=2)
    except MetricsLakeWarning:
        return  # it is in status() as well, and flush() and close() raise what matters
