"""Segments that take no more frames: what publishing needs of them, whoever wrote them."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from metrics_lake.errors import CorruptObjectError, JournalError
from metrics_lake.journal.content import SegmentContent, SegmentHeader, parse_segment

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "SealedFile",
    "SealedSegment",
    "content_of",
    "journal_error",
    "load_sealed",
    "read_range",
    "set_file_aside",
    "sync_directory",
    "written_content",
]


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

    def content(self) -> SegmentContent | None:
        """Return what the segment holds, or None where it is gone.

        Raises:
            FormatError: It is damaged at its start.
        """

    def restamp(self, header: SegmentHeader) -> SealedSegment:
        """Replace the header, atomically and durably; the rows stay as they are."""

    def discard(self) -> None:
        """Remove the segment: its rows are published."""

    def set_aside(self) -> None:
        """Keep the segment's bytes for a person to look at, where no replay takes them."""


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
        return read_range(self.path, start, end)

    def content(self) -> SegmentContent | None:
        """Return what the segment holds, or None where it is gone."""
        return content_of(self)

    def restamp(self, header: SegmentHeader) -> SealedFile:
        """Replace the header, atomically and durably; the rows stay as they are.

        Raises:
            JournalError: The journal cannot be written.
        """
        content = written_content(self)
        temporary = self.path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.writelines(content.bytes_as(header))
                file.flush()
                os.fsync(file.fileno())
            if content.tail_is_damaged:
                set_file_aside(self.path)  # what cannot be read does not go along
            temporary.replace(self.path)
            sync_directory(self.path.parent)
            size = self.path.stat().st_size
        except OSError as error:
            raise journal_error("journal segment", self.path, "written", error) from error
        return SealedFile(self.path, header, size, self.row_count)

    def discard(self) -> None:
        """Remove the segment: its rows are published."""
        self.path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Keep the segment's bytes for a person to look at, where no replay takes them."""
        set_file_aside(self.path)


def journal_error(what: str, path: str | Path, done: str, error: OSError) -> JournalError:
    """Return the error that something cannot be done to a part of the journal, and what to do."""
    return JournalError(
        f"the {what} {path} cannot be {done}: {error.strerror}.",
        hint="Mend its disk or its rights, or name another folder with METRICS_LAKE_STATE.",
        path=str(path),
    )


def load_sealed(path: Path) -> SealedFile | None:
    """Return a segment file that nobody appends to any more, or None where it holds no rows.

    Raises:
        UnsupportedFormatError: A newer version wrote it.
        CorruptObjectError: It does not begin with a header.
    """
    content = parse_segment(path.read_bytes(), str(path))
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


def set_file_aside(path: Path) -> None:
    """Give a file a name that no replay takes."""
    with suppress(FileNotFoundError):
        path.rename(path.with_suffix(".damaged"))


def read_range(path: Path, start: int, end: int) -> bytes | None:
    """Return a range of a file's bytes, or None where it is gone."""
    # By its name, not by a descriptor: that may be closed, and given to another file, at any moment.
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    except FileNotFoundError:
        return None


def content_of(segment: SealedSegment) -> SegmentContent | None:
    """Return what a segment holds, or None where it is gone."""
    data = segment.read(0, segment.size_bytes)
    if data is None:
        return None
    content = parse_segment(data, segment.where)
    if content is None:
        raise CorruptObjectError(f"the journal segment {segment.where} is empty.", path=segment.where)
    return content


def written_content(segment: SealedSegment) -> SegmentContent:
    """Return what a segment that must be there holds."""
    content = segment.content()
    if content is None:
        raise JournalError(f"the journal segment {segment.where} is gone.", path=segment.where)
    return content
