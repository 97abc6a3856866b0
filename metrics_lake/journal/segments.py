"""Segments: append-only runs of frames, on disk or, where no disk can be written, in memory.

One segment belongs to one writer and one table. It is appended to by one process, sealed once, and becomes
exactly one inbox object.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from metrics_lake.errors import JournalError, JournalFullError
from metrics_lake.journal.sealed import (
    SealedFile,
    content_of,
    journal_error,
    load_sealed,
    read_range,
    set_file_aside,
    written_content,
)
from metrics_lake.points import SeriesEncoder, end_frame

if TYPE_CHECKING:
    from pathlib import Path

    from metrics_lake.journal.content import SegmentContent, SegmentHeader
    from metrics_lake.journal.sealed import SealedSegment

__all__ = ["FileSegment", "Home", "MemorySegment", "Segment"]

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Segment:
    """The appending side of a segment.

    The owner (the writer) serialises calls: a segment has no lock of its own. Its rows are complete in its
    bytes at any moment, so nothing else has to be remembered of them.
    """

    def __init__(self, header: SegmentHeader) -> None:
        self.header = header
        self.encoder = SeriesEncoder()
        self.row_count = 0
        self.size_bytes = 0
        self.is_sealed = False
        self.is_end = False
        self.needs_sync = False

    @property
    def end(self) -> int:
        """The ``seq`` behind the last row."""
        return self.header.first + self.row_count

    def append(self, frame: bytes, rows: int) -> None:
        """Write one frame whole, or raise and leave the segment as it was.

        Raises:
            JournalFullError: There is no room on the device.
            JournalError: The device failed.
        """
        raise NotImplementedError

    def read(self, start: int, end: int) -> bytes | None:
        """Return a range of the segment's bytes, or None where it was discarded."""
        raise NotImplementedError

    def sync(self) -> None:
        """Bring what was appended to stable storage."""
        raise NotImplementedError

    def seal(self, *, is_end: bool = False) -> None:
        """Take no more frames; ``is_end`` marks the writer's last segment of the table."""
        if is_end:
            with suppress(JournalError):  # on a full disk only the mark is missing
                self.append(end_frame(), 0)
                self.is_end = True
        self.is_sealed = True
        # Through an outage many segments wait, and nobody needs to know their series.
        self.encoder = SeriesEncoder()

    def release(self) -> None:
        """Give back the descriptor; the segment stays and can be read."""

    def discard(self) -> None:
        """Remove the segment: its rows are published."""
        raise NotImplementedError

    def set_aside(self) -> None:
        """Keep the segment's bytes for a person to look at, where no replay takes them."""
        raise NotImplementedError

    def content(self) -> SegmentContent | None:
        """Return what the segment holds, or None where it is gone."""
        return content_of(self)

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        """Replace the header of a sealed segment; the rows stay as they are."""
        raise NotImplementedError

    @property
    def where(self) -> str:
        """Where the segment is, for messages."""
        raise NotImplementedError


class Home(Protocol):
    """Whoever knows where a writer's segments are: their directory moves when the lake is reached."""

    @property
    def directory(self) -> Path:
        """The writer's directory."""


class FileSegment(Segment):
    """A segment in a file of the journal's directory.

    Args:
        header: What it says of itself.
        home: Knows the writer's directory; the file's name follows from the header.

    Raises:
        JournalError: The file cannot be made.
    """

    def __init__(self, header: SegmentHeader, home: Home) -> None:
        super().__init__(header)
        self._home = home
        self._attempt: tuple[bytes, int, int] | None = None
        self.encoder = SeriesEncoder(self._settle_attempt)
        self._fd = -1
        # The descriptor once more, in a list: taking it out decides which of several threads closes it.
        self._held: list[int] = []
        try:
            self._fd = _create(self.path)
        except OSError as error:
            raise _journal_error(error, self.where) from error
        self._held.append(self._fd)
        self._inode = _inode(os.fstat(self._fd))
        try:
            self.append(header.frame(), 0)
        except BaseException:
            self.discard()
            raise

    @property
    def is_held(self) -> bool:
        """True while the segment holds a descriptor."""
        return bool(self._held)

    @property
    def path(self) -> Path:
        """The segment's file."""
        header = self.header
        return self._home.directory / f"{header.table}.{header.writer}.{header.first:020d}.seg"

    @property
    def where(self) -> str:
        """Where the segment is, for messages."""
        return str(self.path)

    def seal(self, *, is_end: bool = False) -> None:
        """Take no more frames; see ``Segment``."""
        self._settle_attempt()
        super().seal(is_end=is_end)

    def append(self, frame: bytes, rows: int) -> None:
        """Write one frame whole; see ``Segment``."""
        if self._attempt is not None:
            self._settle(self._attempt)
        length = len(frame)
        size = self.size_bytes + length
        count = self.row_count + rows
        encoder = self.encoder
        try:
            written = os.write(self._fd, frame)
            if written == length:
                # Without a call from here on: a signal's handler could raise (Ctrl-C) only at the next one.
                self.size_bytes = size
                self.row_count = count
                self.needs_sync = True
                if encoder.unconfirmed and encoder.frame is frame:
                    encoder.unconfirmed = []
                return
        except BaseException as error:
            # Also what a signal's handler raised when the write was over: the file says what is true.
            self._attempt = (frame, size, count)
            is_written = self._settle(self._attempt)
            # One without a number is no answer of the system: a signal's handler raised TimeoutError.
            if isinstance(error, OSError) and error.errno is not None and not is_written:
                raise _journal_error(error, self.where) from error
            raise
        self._attempt = (frame, size, count)
        self._settle(self._attempt)
        raise _full(self.where)

    def _settle_attempt(self) -> None:
        if self._attempt is not None:
            self._settle(self._attempt)

    def _settle(self, attempt: tuple[bytes, int, int]) -> bool:
        """Tell whether an interrupted write took place; if not, nothing of it stays.

        Where a second signal interrupts this too, the next append begins with it.
        """
        frame, size, count = attempt
        try:
            is_written = os.fstat(self._fd).st_size == size
        except OSError as error:
            if error.errno is None:
                raise  # another signal's handler: its TimeoutError is an OSError too
            # Not even that can be asked: what was told to be kept stays, and nothing follows it.
            self.is_sealed = True
            self._attempt = None
            return False
        if is_written:
            self.size_bytes, self.row_count, self.needs_sync = size, count, True
            if self.encoder.frame is frame:
                self.encoder.unconfirmed = []
        else:
            self._cut_to(size - len(frame))
        self._attempt = None
        return is_written

    def _cut_to(self, size: int) -> None:
        """Cut off a part of a frame: what follows it could not be read."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            if error.errno is None:
                raise  # as above: it is cut off at the next append
            # What was there stays whole; only no further frame may follow the torn one.
            self.is_sealed = True
            raise _journal_error(error, self.where) from error

    def read(self, start: int, end: int) -> bytes | None:
        """Return a range of the bytes; see ``Segment``."""
        path = self.path
        data = read_range(path, start, end)
        if data is None and path != self.path:
            data = read_range(self.path, start, end)  # it moved between the two looks
        return self._read_unlinked(start, end) if data is None else data

    def _read_unlinked(self, start: int, end: int) -> bytes | None:
        """Return a range of a file whose name somebody removed, while its descriptor is held."""
        try:
            fd = os.dup(self._fd)
        except OSError:
            return None
        try:
            # The number may belong to another file by now, whose inode may have been this one's.
            found = os.fstat(fd)
            is_ours = not found.st_nlink and _inode(found) == self._inode
            return os.pread(fd, end - start, start) if is_ours else None
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Bring what was appended to stable storage; see ``Segment``."""
        fd = self._fd
        self.needs_sync = False
        if fd < 0:
            return  # discarded: its rows are in the store
        try:
            os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
            is_named = os.fstat(fd).st_nlink > 0
        except OSError as error:
            if self._fd < 0:
                return  # discarded meanwhile
            self.needs_sync = True
            raise _journal_error(error, self.where) from error
        if not is_named and self._fd >= 0:
            self.needs_sync = True
            raise JournalError(
                f"the journal segment {self.where} was removed by somebody: its points are lost if this "
                "process dies before they are published.",
                path=self.where,
            )

    def release(self) -> None:
        """Give back the descriptor; see ``Segment``."""
        try:
            fd = self._held.pop()
        except IndexError:
            return
        self._fd = -1
        self.needs_sync = False
        os.close(fd)

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        """Replace the header; see ``Segment``."""
        self.release()
        return SealedFile(self.path, self.header, self.size_bytes, self.row_count).restamp(header)

    def discard(self) -> None:
        """Remove the segment; see ``Segment``."""
        self.release()
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Keep the bytes where no replay takes them; see ``Segment``."""
        self.release()
        set_file_aside(self.path)


class MemorySegment(Segment):
    """A segment in this process's memory: it dies with the process."""

    def __init__(self, header: SegmentHeader) -> None:
        super().__init__(header)
        self._data = bytearray()
        self.append(header.frame(), 0)

    @property
    def where(self) -> str:
        """Where the segment is, for messages."""
        return f"in memory ({self.header.table} from {self.header.first})"

    def append(self, frame: bytes, rows: int) -> None:
        """Write one frame whole; see ``Segment``."""
        length = len(frame)
        encoder = self.encoder
        # Without a call from here on, as above.
        self._data += frame
        self.size_bytes += length
        self.row_count += rows
        if encoder.unconfirmed and encoder.frame is frame:
            encoder.unconfirmed = []

    def read(self, start: int, end: int) -> bytes | None:
        """Return a range of the bytes; see ``Segment``."""
        return bytes(self._data[start:end]) if self._data else None

    def sync(self) -> None:
        """Bring what was appended to stable storage; see ``Segment``."""
        raise JournalError(
            "durability 'synced' needs a journal on disk, and this machine has no folder to write one in.",
            hint="Name a folder with METRICS_LAKE_STATE.",
        )

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        """Replace the header; see ``Segment``."""
        copy = MemorySegment(header)
        copy._data = bytearray(b"".join(written_content(self).bytes_as(header)))
        copy.size_bytes = len(copy._data)
        copy.row_count = self.row_count
        copy.is_sealed = True
        return copy

    def discard(self) -> None:
        """Remove the segment; see ``Segment``."""
        self._data = bytearray()

    def set_aside(self) -> None:
        """Keep the bytes where no replay takes them; see ``Segment``."""
        self.discard()  # memory has no place to put it


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _create(path: Path) -> int:
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        # Only this process writes here: an exception of a signal's handler left a file that nobody has used.
        if load_sealed(path) is not None:
            raise
        path.unlink()
        return os.open(path, flags, 0o600)


def _full(where: str) -> JournalFullError:
    return JournalFullError(
        f"the disk of the journal segment {where} is full: nothing of this call was logged.",
        hint="Free room, or name another folder with METRICS_LAKE_STATE.",
        path=where,
    )


def _journal_error(error: OSError, where: str) -> JournalError:
    if error.errno in _NO_ROOM:
        return _full(where)
    return journal_error("journal segment", where, "written", error)
