"""One writer's journal: a locked directory of segments, and the orphans that died without publishing."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import FormatError, JournalError
from metrics_lake.journal.segments import (
    FileSegment,
    MemorySegment,
    SealedFile,
    Segment,
    SegmentHeader,
    load_sealed,
    sync_directory,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Identity", "Journal", "MemoryJournal", "Orphan", "adopt_orphans"]

_LOCK: Final = "lock"
_IDENTITY: Final = "identity.json"
_STALE_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Identity:
    """The writer id under which a cloned writer's unpublished rows go on.

    Attributes:
        old: The id that somebody else turned out to use as well.
        new: The id from now on.
        bases: By table, the old ``seq`` that becomes 0.
    """

    old: str
    new: str
    bases: dict[str, int]

    def restamped(self, header: SegmentHeader) -> SegmentHeader:
        """Return the header of a segment of the old id under the new one."""
        return SegmentHeader(
            writer=self.new,
            table=header.table,
            first=header.first - self.bases[header.table],
            date=header.date,
            lake_id=header.lake_id,
        )


class MemoryJournal:
    """The journal of a process that has no folder to write: what it holds dies with the process."""

    is_durable = False
    where = "this process's memory"

    def open_segment(self, header: SegmentHeader) -> Segment:
        """Return a new segment to append to."""
        return MemorySegment(header)

    def remember(self, identity: Identity) -> None:
        """Nothing to remember: a memory journal has no successor."""

    def sync(self) -> None:
        """Nothing to sync."""

    def close(self) -> None:
        """Nothing to give back."""

    def abandon_in_child(self) -> None:
        """Nothing is shared with the parent."""


class Journal:
    """A writer's directory of segments, locked while its process lives.

    Args:
        root: ``{state}/{lake id}/{host id}``.
        writer: The writer's id, the directory's name.

    Raises:
        JournalError: The directory cannot be made.
    """

    is_durable = True

    def __init__(self, root: Path, writer: str) -> None:
        self.directory = root / writer
        self._segments: list[FileSegment] = []
        hidden = root / f".new-{writer}"
        try:
            hidden.mkdir(parents=True, mode=0o700)
            fd = _lock(hidden / _LOCK)
            # Renamed only once it is locked: nobody can take it for an orphan's.
            hidden.rename(self.directory)
        except OSError as error:
            raise JournalError(
                f"the journal {self.directory} cannot be made: {error.strerror}.", path=str(self.directory)
            ) from error
        if fd is None:
            raise JournalError(
                f"the lock of the new journal {self.directory} is held by another process.",
                path=str(self.directory),
            )
        self._lock_fd = fd

    @property
    def where(self) -> str:
        """Where the journal is, for messages."""
        return str(self.directory)

    def open_segment(self, header: SegmentHeader) -> Segment:
        """Return a new segment to append to.

        Raises:
            JournalError: The file cannot be made.
        """
        segment = FileSegment(header, self.directory)
        self._segments = [*(known for known in self._segments if known.is_held), segment]
        return segment

    def remember(self, identity: Identity) -> None:
        """Keep a new identity, durably, before the first segment is restamped."""
        temporary = self.directory / f"{_IDENTITY}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(identity), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.directory / _IDENTITY)
        sync_directory(self.directory)

    def move(self, root: Path) -> None:
        """Bind a journal that was begun offline to the lake that was reached."""
        target = root / self.directory.name
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.directory.rename(target)
        except OSError as error:
            raise JournalError(
                f"the journal {self.directory} cannot be moved to {target}: {error.strerror}.",
                path=str(self.directory),
            ) from error
        self.directory = target
        for segment in self._segments:
            segment.directory = target

    def sync(self) -> None:
        """Bring the directory's entries to stable storage."""
        sync_directory(self.directory)

    def close(self) -> None:
        """Give back the descriptors and the lock; a directory without segments is removed."""
        for segment in self._segments:
            segment.release()
        _remove_if_empty(self.directory)
        os.close(self._lock_fd)

    def abandon_in_child(self) -> None:
        """Close the parent's descriptors in a forked child: its lock must die with the parent."""
        for segment in self._segments:
            segment.release()
        os.close(self._lock_fd)


class Orphan:
    """A dead writer's journal, locked by the process that publishes it.

    Attributes:
        directory: The writer's directory.
        segments: Its segments with rows, by table and first ``seq``.
        unreadable: What this version cannot publish: each file with the reason. It is left as it is.
    """

    def __init__(self, directory: Path, lock_fd: int) -> None:
        self.directory = directory
        self._lock_fd = lock_fd
        self.segments: list[SealedFile] = []
        self.unreadable: list[tuple[Path, FormatError]] = []
        for path in sorted(directory.glob("*.seg")):
            try:
                segment = load_sealed(path)
            except FormatError as error:
                self.unreadable.append((path, error))
                continue
            if segment is None:
                path.unlink()
            else:
                self.segments.append(segment)
        self._finish_restamping()
        self.segments.sort(key=_order)

    def _finish_restamping(self) -> None:
        """Go on where a process died while it gave its rows a new identity."""
        path = self.directory / _IDENTITY
        if not path.exists():
            return
        identity = Identity(**json.loads(path.read_text(encoding="utf-8")))
        for i, segment in enumerate(self.segments):
            if segment.header.writer == identity.old:
                segment.restamp(identity.restamped(segment.header))
                self.segments[i] = _loaded(segment.path)

    def restamp(self, identity: Identity) -> None:
        """Give the unpublished rows of a cloned identity a new one.

        Raises:
            JournalError: The journal cannot be written.
        """
        Journal.remember(self, identity)  # type: ignore[arg-type]  # it needs no more than the directory
        self._finish_restamping()

    def close(self) -> None:
        """Give back the lock; a directory without segments is removed."""
        _remove_if_empty(self.directory)
        os.close(self._lock_fd)

    def abandon_in_child(self) -> None:
        """Close the parent's descriptor in a forked child."""
        os.close(self._lock_fd)


def _order(segment: SealedFile) -> tuple[str, str, int]:
    header = segment.header
    return header.table, header.writer, header.first


def _loaded(path: Path) -> SealedFile:
    segment = load_sealed(path)
    if segment is None:
        raise JournalError(f"the restamped segment {path} has lost its rows.", path=str(path))
    return segment


def adopt_orphans(roots: Sequence[Path]) -> Iterator[Orphan]:
    """Yield the journals under the roots whose process is dead, each locked by this process.

    Args:
        roots: Folders ``{state}/{lake id}/{host id}`` of this host; absent ones are fine.
    """
    for root in roots:
        if not root.is_dir():
            continue
        for directory in sorted(root.iterdir()):
            if directory.name.startswith(".new-"):
                _remove_stale(directory)
                continue
            fd = _lock(directory / _LOCK)
            if fd is None:
                continue
            orphan = Orphan(directory, fd)
            if orphan.segments or orphan.unreadable:
                yield orphan
            else:
                orphan.close()


def _lock(path: Path) -> int | None:
    """Open and lock a file; None where a living process holds it or has just removed it."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if _lock_descriptor(fd) and os.fstat(fd).st_ino == path.stat().st_ino:
            return fd
    except FileNotFoundError:
        pass  # its owner published everything and removed it between the two calls
    os.close(fd)
    return None


def _lock_descriptor(fd: int) -> bool:
    """Lock a file until its descriptor is closed; False where another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _remove_if_empty(directory: Path) -> None:
    names = {path.name for path in directory.iterdir()}
    if names <= {_LOCK, _IDENTITY}:
        for name in names:
            (directory / name).unlink()
        try:
            directory.rmdir()
        except OSError as error:
            # Another process has just opened the lock to look for orphans; it removes what is left.
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise


def _remove_stale(directory: Path) -> None:
    """Remove what a process left that died while it made its journal."""
    try:
        if time.time() - directory.stat().st_mtime < _STALE_SECONDS:
            return
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    except FileNotFoundError:
        return
