"""Segments: append-only runs of frames, on disk or, where no disk can be written, in memory.

One segment belongs to one writer and one table. It is appended to by one process, sealed once, and becomes
exactly one inbox object.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Protocol

from metrics_lake.errors import CorruptObjectError, JournalError, JournalFullError, UnsupportedFormatError
from metrics_lake.points import (
    END,
    HEADER,
    Frame,
    SeriesEncoder,
    decode_frames,
    end_frame,
    header_frame,
    read_header,
    split_frames,
)
from metrics_lake.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

__all__ = [
    "JOURNAL_VERSION",
    "FileSegment",
    "MemorySegment",
    "SealedFile",
    "SealedSegment",
    "Segment",
    "SegmentContent",
    "SegmentHeader",
    "load_sealed",
    "sync_directory",
    "utc_day",
]

JOURNAL_VERSION: Final = 1
"""The version of the frames; a newer one is refused and left for a newer metrics_lake to publish."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself in its first frame.

    Attributes:
        writer: The writer's id.
        table: The table that the rows belong to.
        first: The ``seq`` of the first row.
        date: The UTC day on which the segment was opened, ``YYYY-MM-DD``: a part of its object's name.
        lake_id: The lake, or None where the journal was begun before the lake could be reached.
    """

    writer: str
    table: str
    first: int
    date: str
    lake_id: str | None

    def frame(self) -> bytes:
        """Return the header as a frame."""
        return header_frame(
            {
                "format": JOURNAL_VERSION,
                "schema": SCHEMA_VERSION,
                "writer": self.writer,
                "table": self.table,
                "first": self.first,
                "date": self.date,
                "lake": self.lake_id,
            }
        )

    @staticmethod
    def parse(fields: dict[str, Any], where: str) -> SegmentHeader:
        """Return the header of a frame's fields; refuse what a newer version wrote."""
        if fields["format"] > JOURNAL_VERSION or fields["schema"] > SCHEMA_VERSION:
            raise UnsupportedFormatError(
                f"the journal segment {where} was written by a newer version of metrics_lake.",
                hint="Upgrade metrics_lake on this machine; the segment is kept.",
                path=where,
            )
        return SegmentHeader(
            writer=fields["writer"],
            table=fields["table"],
            first=fields["first"],
            date=fields["date"],
            lake_id=fields["lake"],
        )


def utc_day(micros: int) -> str:
    """Return the UTC day of an instant (microseconds since 1970) as ``YYYY-MM-DD``."""
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)).date().isoformat()


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """What a sealed segment holds.

    Attributes:
        header: What it says of itself.
        frames: Its intact frames of rows, in order.
        is_end: True where the writer sealed it as its last.
        intact_bytes: The offset behind the last intact frame.
        size_bytes: The segment's size; greater than ``intact_bytes`` where its tail is torn.
        tail_is_damaged: True where what follows the intact frames is no interrupted write: a whole frame
            with a wrong checksum.
    """

    header: SegmentHeader
    frames: tuple[Frame, ...]
    is_end: bool
    intact_bytes: int
    size_bytes: int
    tail_is_damaged: bool

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return sum(frame.rows for frame in self.frames)

    @property
    def digest(self) -> str:
        """A hash of the rows' frames: equal for every replay of the same segment."""
        digest = blake2b(digest_size=16)
        for frame in self.frames:
            digest.update(frame.body)
        return digest.hexdigest()

    def rows(self) -> pa.Table:
        """Return the rows in the table's schema."""
        return decode_frames(self.header.table, self.header.writer, self.header.first, self.frames)

    def bytes_as(self, header: SegmentHeader) -> Iterator[bytes]:
        """Yield the intact bytes of the segment under another header."""
        yield header.frame()
        for frame in self.frames:
            yield frame.bytes()
        if self.is_end:
            yield end_frame()


class SealedSegment(Protocol):
    """A segment that takes no more frames: what publishing needs of it, whoever wrote it."""

    @property
    def header(self) -> SegmentHeader:
        """What the segment says of itself."""

    @property
    def row_count(self) -> int:
        """The number of rows."""

    @property
    def size_bytes(self) -> int:
        """The number of bytes that it takes in the journal."""

    @property
    def where(self) -> str:
        """Where the segment is, for messages."""

    def read(self, start: int, end: int) -> bytes | None:
        """Return a range of the segment's bytes, or None where it was discarded."""

    def content(self) -> SegmentContent:
        """Return what the segment holds."""

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        """Replace the header, atomically and durably; the rows stay as they are."""

    def discard(self) -> None:
        """Remove the segment: its rows are published."""

    def set_aside(self) -> None:
        """Keep the segment's bytes for a person to look at, where no replay takes them."""


def _parse(data: bytes, where: str) -> SegmentContent | None:
    """Return what the bytes of a segment hold, or None where not even its header was written.

    Raises:
        UnsupportedFormatError: A newer version wrote it.
        CorruptObjectError: It does not begin with a header.
    """
    frames: list[Frame] = []
    end = 0
    for frame, behind in split_frames(data):
        frames.append(frame)
        end = behind
    tail = memoryview(data)[end:]
    damaged = _is_damage(tail)
    if not frames:
        if damaged:
            raise CorruptObjectError(f"the journal segment {where} is damaged at its start.", path=where)
        return None
    if frames[0].type != HEADER:
        raise CorruptObjectError(f"the journal segment {where} does not begin with a header.", path=where)
    return SegmentContent(
        header=SegmentHeader.parse(read_header(frames[0]), where),
        frames=tuple(frame for frame in frames[1:] if frame.type != END),
        is_end=frames[-1].type == END,
        intact_bytes=end,
        size_bytes=len(data),
        tail_is_damaged=damaged,
    )


def _is_damage(tail: memoryview) -> bool:
    """Tell a damaged frame from what an interrupted write or a power loss leaves behind."""
    if len(tail) < 8:
        return False
    length = int.from_bytes(tail[:4], "little")
    return 0 < length <= len(tail) - 8 and any(tail[8 : 8 + length])


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
            self.append(end_frame(), 0)
        self.is_sealed = True

    def release(self) -> None:
        """Give back the descriptor; the segment stays and can be read."""

    def discard(self) -> None:
        """Remove the segment: its rows are published."""
        raise NotImplementedError

    def set_aside(self) -> None:
        """Keep the segment's bytes for a person to look at, where no replay takes them."""
        raise NotImplementedError

    def content(self) -> SegmentContent:
        """Return what the segment holds."""
        return _parse_written(self.read(0, self.size_bytes), self.where)

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        """Replace the header of a sealed segment; the rows stay as they are."""
        raise NotImplementedError

    @property
    def where(self) -> str:
        """Where the segment is, for messages."""
        raise NotImplementedError


class FileSegment(Segment):
    """A segment in a file of the journal's directory.

    Args:
        header: What it says of itself.
        directory: The writer's directory; the file's name follows from the header.
    """

    def __init__(self, header: SegmentHeader, directory: Path) -> None:
        super().__init__(header)
        self.directory = directory
        self._fd = -1
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise _journal_error(error, self.where) from error
        try:
            self.append(header.frame(), 0)
        except JournalError:
            self.release()
            self.path.unlink()
            raise

    @property
    def is_held(self) -> bool:
        """True while the segment holds a descriptor."""
        return self._fd >= 0

    @property
    def path(self) -> Path:
        """The segment's file."""
        header = self.header
        return self.directory / f"{header.table}.{header.writer}.{header.first:020d}.seg"

    @property
    def where(self) -> str:
        return str(self.path)

    def append(self, frame: bytes, rows: int) -> None:
        size = len(frame)
        try:
            written = os.write(self._fd, frame)
        except OSError as error:
            raise _journal_error(error, self.where) from error
        if written != size:
            self._take_back()
            raise JournalFullError(
                f"the disk of the journal segment {self.where} is full: nothing of this call was logged.",
                hint="Free room, or name another folder with METRICS_LAKE_STATE.",
                path=self.where,
            )
        self.size_bytes += size
        self.row_count += rows
        self.needs_sync = True

    def _take_back(self) -> None:
        """Cut off a part of a frame: what follows it could not be read."""
        try:
            os.ftruncate(self._fd, self.size_bytes)
        except OSError as error:
            # What was there stays whole; only no further frame may follow the torn one.
            self.is_sealed = True
            raise _journal_error(error, self.where) from error

    def read(self, start: int, end: int) -> bytes | None:
        return _read_file(self.path, start, end)

    def sync(self) -> None:
        fd = self._fd
        self.needs_sync = False
        if fd < 0:
            return  # discarded: its rows are in the store
        try:
            os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
        except OSError as error:
            if self._fd < 0:
                return  # discarded meanwhile
            self.needs_sync = True
            raise _journal_error(error, self.where) from error

    def release(self) -> None:
        self.needs_sync = False
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        self.release()
        return SealedFile(self.path, self.header, self.size_bytes, self.row_count).restamp(header)

    def discard(self) -> None:
        self.release()
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        self.release()
        _set_aside(self.path)


class MemorySegment(Segment):
    """A segment in this process's memory: it dies with the process."""

    def __init__(self, header: SegmentHeader) -> None:
        super().__init__(header)
        self._data = bytearray()
        self.append(header.frame(), 0)

    @property
    def where(self) -> str:
        return f"in memory ({self.header.table} from {self.header.first})"

    def append(self, frame: bytes, rows: int) -> None:
        self._data += frame
        self.size_bytes += len(frame)
        self.row_count += rows

    def read(self, start: int, end: int) -> bytes | None:
        return bytes(self._data[start:end]) if self._data else None

    def sync(self) -> None:
        raise JournalError(
            "durability 'synced' needs a journal on disk, and this machine has no folder to write one in.",
            hint="Name a folder with METRICS_LAKE_STATE.",
        )

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        copy = MemorySegment(header)
        copy._data = bytearray(b"".join(self.content().bytes_as(header)))
        copy.size_bytes = len(copy._data)
        copy.row_count = self.row_count
        copy.is_sealed = True
        return copy

    def discard(self) -> None:
        self._data = bytearray()

    def set_aside(self) -> None:
        self.discard()  # memory has no place to put it


class SealedFile:
    """A segment file that another process, or an earlier identity of this one, wrote.

    Args:
        path: The file.
        header: What it says of itself.
        size_bytes: Its size.
        row_count: The number of its rows.
    """

    def __init__(self, path: Path, header: SegmentHeader, size_bytes: int, row_count: int) -> None:
        self.path = path
        self.header = header
        self.size_bytes = size_bytes
        self.row_count = row_count

    @property
    def where(self) -> str:
        """Where the segment is, for messages."""
        return str(self.path)

    def read(self, start: int, end: int) -> bytes | None:
        """Return a range of the segment's bytes, or None where it was discarded."""
        return _read_file(self.path, start, end)

    def content(self) -> SegmentContent:
        """Return what the segment holds."""
        return _parse_written(self.read(0, self.size_bytes), self.where)

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        """Replace the header, atomically and durably; the rows stay as they are."""
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.writelines(self.content().bytes_as(header))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        sync_directory(self.path.parent)
        return SealedFile(self.path, header, self.path.stat().st_size, self.row_count)

    def discard(self) -> None:
        """Remove the segment: its rows are published."""
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Keep the segment's bytes for a person to look at, where no replay takes them."""
        _set_aside(self.path)


def load_sealed(path: Path) -> SealedFile | None:
    """Return a segment file that nobody appends to any more, or None where it holds no rows.

    Raises:
        UnsupportedFormatError: A newer version wrote it.
        CorruptObjectError: It does not begin with a header.
    """
    content = _parse(path.read_bytes(), str(path))
    if content is None or (not content.row_count and not content.tail_is_damaged):
        return None
    return SealedFile(path, content.header, content.size_bytes, content.row_count)


def sync_directory(directory: Path) -> None:
    """Bring a directory's entries to stable storage."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _set_aside(path: Path) -> None:
    path.rename(path.with_suffix(".damaged"))


def _read_file(path: Path, start: int, end: int) -> bytes | None:
    # By its name, not by a descriptor: that may be closed, and given to another file, at any moment.
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    except FileNotFoundError:
        return None


def _parse_written(data: bytes | None, where: str) -> SegmentContent:
    content = _parse(data, where) if data else None
    if content is None:
        raise CorruptObjectError(f"the journal segment {where} is gone or empty.", path=where)
    return content


def _journal_error(error: OSError, where: str) -> JournalError:
    if error.errno in _NO_ROOM:
        return JournalFullError(
            f"the disk of the journal segment {where} is full: nothing of this call was logged.",
            hint="Free room, or name another folder with METRICS_LAKE_STATE.",
            path=where,
        )
    return JournalError(f"the journal segment {where} cannot be written: {error.strerror}.", path=where)
