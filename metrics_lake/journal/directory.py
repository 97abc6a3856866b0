"""One writer's journal: a locked directory of segments, and the orphans that died without publishing."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import (
    CorruptObjectError,
    FormatError,
    JournalError,
    MetricsLakeError,
    UnsupportedFormatError,
)
from metrics_lake.journal.content import SegmentHeader
from metrics_lake.journal.locks import lock_file, unlock
from metrics_lake.journal.sealed import SealedFile, journal_error, load_sealed, set_file_aside, sync_directory
from metrics_lake.journal.segments import FileSegment, MemorySegment, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Identity", "Journal", "MemoryJournal", "Orphan", "adopt_orphans"]

_LOCK: Final = "lock"
_IDENTITY: Final = "identity.json"
_WRITER: Final = re.compile(r"[0-9a-f]{32}")
_HOST: Final = re.compile(r"[0-9a-f]{16}")
_LAKE: Final = re.compile(r"[0-9a-f]{32}|unbound-[0-9a-f]{16}")
_STALE_SECONDS: Final = 3600.0
_PUT_ATTEMPTS: Final = 100


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

    def base(self, table: str) -> int:
        """Return the old ``seq`` of a table that becomes 0."""
        return self.bases.get(table, 0)

    def restamped(self, header: SegmentHeader) -> SegmentHeader:
        """Return the header of a segment of the old id under the new one."""
        return SegmentHeader(
            writer=self.new,
            table=header.table,
            first=header.first - self.base(header.table),
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
        self._has_new_names = True
        self._is_closed = False
        self._lock_fd = self._make()

    def _make(self) -> int:
        """Make the locked directory; return the lock's descriptor."""
        hidden = self.directory.with_name(f".new-{self.directory.name}")
        try:
            _in_folder(hidden.parent, lambda: hidden.mkdir(mode=0o700))
            fd = lock_file(hidden / _LOCK)
            # Renamed only once it is locked: nobody can take it for an orphan's.
            hidden.rename(self.directory)
        except OSError as error:
            raise journal_error("journal", self.directory, "made", error) from error
        if fd is None:
            raise JournalError(
                f"the lock of the new journal {self.directory} is held by another process.",
                path=str(self.directory),
            )
        return fd

    @property
    def where(self) -> str:
        """Where the journal is, for messages."""
        return str(self.directory)

    def open_segment(self, header: SegmentHeader) -> Segment:
        """Return a new segment to append to.

        Raises:
            JournalError: The file cannot be made.
        """
        if not os.path.exists(self.directory):  # noqa: PTH110 -- Path.exists raises where it may not look
            # Somebody removed the state folder: from now on points are safe again.
            unlock(self._lock_fd)
            self._lock_fd = self._make()
            self._has_new_names = True
        segment = FileSegment(header, self)
        self._segments = [*(known for known in self._segments if known.is_held), segment]
        return segment

    def remember(self, identity: Identity) -> None:
        """Keep a new identity, durably, before the first segment is restamped.

        Raises:
            JournalError: The journal cannot be written.
        """
        _remember(self.directory, identity)

    def move(self, root: Path) -> None:
        """Bind a journal that was begun offline to the lake that was reached."""
        before, target = self.directory, root / self.directory.name
        try:
            _in_folder(root, lambda: before.rename(target))
        except OSError as error:
            raise journal_error("journal", self.directory, f"moved to {target}", error) from error
        self.directory = target
        self._has_new_names = True
        _remove_empty_parents(before)

    def sync(self) -> None:
        """Bring the names of the segments, and once those of the folders above, to stable storage.

        Raises:
            JournalError: The device failed.
        """
        try:
            sync_directory(self.directory)
            if self._has_new_names:
                # {state}/{lake id}/{host id}/{writer}: each folder's name stands in the one above it.
                for folder in list(self.directory.parents)[:4]:
                    sync_directory(folder)
                self._has_new_names = False
        except OSError as error:
            if self._is_closed:
                return  # what it held is in the store
            raise journal_error("journal", self.directory, "brought to stable storage", error) from error

    def close(self) -> None:
        """Give back the descriptors and the lock; a directory without segments is removed."""
        self._is_closed = True
        for segment in self._segments:
            segment.release()
        _remove_if_empty(self.directory)
        unlock(self._lock_fd)

    def abandon_in_child(self) -> None:
        """Close the parent's segments in a forked child; its lock is closed there already."""
        for segment in self._segments:
            segment.release()


class Orphan:
    """A dead writer's journal, locked by the process that publishes it.

    Attributes:
        directory: The writer's directory.
        segments: Its segments with rows, by table and first ``seq``.
        unreadable: What this version cannot publish: each file with the reason.
    """

    def __init__(self, directory: Path, lock_fd: int) -> None:
        self.directory = directory
        self._lock_fd = lock_fd
        self.segments: list[SealedFile] = []
        self.unreadable: list[tuple[Path, MetricsLakeError]] = []
        for leftover in directory.glob("*.tmp"):
            leftover.unlink()
        for path in sorted(directory.glob("*.seg")):
            try:
                segment = load_sealed(path)
            except FormatError as error:
                self.unreadable.append((path, error))
                if not isinstance(error, UnsupportedFormatError):
                    set_file_aside(path)  # what a newer version wrote stays for that version
                continue
            if segment is None:
                path.unlink()
            else:
                self.segments.append(segment)
        try:
            self._finish_restamping()
        except CorruptObjectError as error:
            self.unreadable += [(segment.path, error) for segment in self.segments]
            self.segments.clear()
        self.segments.sort(key=_order)

    def _finish_restamping(self) -> None:
        """Go on where a process died while it gave its rows a new identity."""
        identity = _remembered(self.directory)
        if identity is None:
            return
        for i, segment in enumerate(self.segments):
            if segment.header.writer == identity.old:
                self.segments[i] = segment.restamp(identity.restamped(segment.header))

    def restamp(self, identity: Identity) -> None:
        """Give the unpublished rows of a cloned identity a new one.

        Raises:
            JournalError: The journal cannot be written.
        """
        _remember(self.directory, identity)
        self._finish_restamping()

    def give_up(self, segment: SealedFile, error: MetricsLakeError) -> None:
        """Leave a segment, and those that follow it in its sequence, where they are."""
        header = segment.header
        for later in list(self.segments):
            if (later.header.table, later.header.writer) == (header.table, header.writer):
                self.segments.remove(later)
                self.unreadable.append((later.path, error))

    def close(self) -> None:
        """Give back the lock; a directory without segments is removed."""
        _remove_if_empty(self.directory)
        unlock(self._lock_fd)


def _order(segment: SealedFile) -> tuple[str, str, int]:
    header = segment.header
    return header.table, header.writer, header.first


def _remember(directory: Path, identity: Identity) -> None:
    temporary = directory / f"{_IDENTITY}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(identity), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / _IDENTITY)
        sync_directory(directory)
    except OSError as error:
        raise journal_error("journal", directory, "written", error) from error


def _remembered(directory: Path) -> Identity | None:
    path = directory / _IDENTITY
    try:
        return Identity(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise CorruptObjectError(f"{path} does not name an identity.", path=str(path)) from error


def adopt_orphans(roots: Sequence[Path]) -> Iterator[Orphan]:
    """Yield the journals under the roots whose process is dead, each locked by this process.

    What belongs to another user is left to that user.

    Args:
        roots: Folders ``{state}/{lake id}/{host id}`` of this host; absent ones are fine.
    """
    for root in roots:
        try:
            directories = sorted(root.iterdir())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        for directory in directories:
            if directory.name.startswith(".new-"):
                _remove_stale(directory)
            elif _WRITER.fullmatch(directory.name):
                orphan = _adopt(directory)
                if orphan is not None:
                    yield orphan


def _adopt(directory: Path) -> Orphan | None:
    try:
        fd = lock_file(directory / _LOCK)
    except PermissionError:
        return None
    if fd is None:
        return None
    try:
        orphan = Orphan(directory, fd)
    except BaseException:
        unlock(fd)
        raise
    if orphan.segments or orphan.unreadable:
        return orphan
    orphan.close()
    return None


def _in_folder(folder: Path, put: Callable[[], object]) -> None:
    """Put something into a folder, which others remove while it is empty.

    Raises:
        OSError: It cannot be made, or not be put there.
    """
    for is_last in (*[False] * _PUT_ATTEMPTS, True):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            put()
        except (FileNotFoundError, FileExistsError):  # the second one where mkdir finds it, and then not
            if is_last:
                raise
        else:
            return


def _remove_empty_parents(directory: Path) -> None:
    """Remove the host's and the lake's folder above a journal that is gone, unless there is another one."""
    with suppress(OSError):
        for folder, names in zip(directory.parents, (_HOST, _LAKE), strict=False):
            if names.fullmatch(folder.name) is None:
                return  # somebody's own, that was to be recovered
            folder.rmdir()


def _remove_if_empty(directory: Path) -> None:
    try:
        names = {path.name for path in directory.iterdir()}
        if names <= {_LOCK, _IDENTITY}:
            for name in names:
                (directory / name).unlink()
            directory.rmdir()
            _remove_empty_parents(directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # somebody removed the state folder, or took its rights away: nothing that matters is left
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
    except (FileNotFoundError, PermissionError):
        return
