"""A local folder: no fsspec on this path, and a put is whole and on the disk, or it is not there."""

from __future__ import annotations

import errno
import os
import sys
import time
import uuid
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import StorageError
from metrics_lake.storage.base import (
    ObjectInfo,
    Storage,
    check_key,
    check_new_key,
    check_prefix,
    check_range,
)
from metrics_lake.storage.failures import wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LocalStorage"]

_TMP_PREFIX: Final = ".tmp-"
_TMP_MAX_AGE_SECONDS: Final = 3600.0
"""A put lasts milliseconds. A file that is swept too early makes its put begin anew, nothing worse."""

_NO_HARD_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
)
"""What FAT, SMB, FUSE and container file systems say to ``link``."""

_NO_DIRECTORY_SYNC: Final = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES}
)
_ATTEMPTS: Final = 10
_MAX_KNOWN_DIRS: Final = 10_000
_MAX_SETTLED_DIRS: Final = 256
_SETTLED_SECONDS: Final = 2.0
"""A file that another engine writes in place grows while it is listed; one that is older is whole."""

_Listing = list[ObjectInfo]


class LocalStorage(Storage):
    """Objects as files of one folder, which is made at the first put.

    A put writes a hidden file beside its target, syncs it, gives it its name by a hard link (which refuses an
    existing name) and syncs the directories. File systems without hard links get a rename that refuses to
    replace; where that is missing too, ``honours_exclusive_create`` turns False: a put is still whole, but
    two writers of one key can both believe that they made it.
    """

    is_local = True

    def __init__(self, root: str) -> None:
        self.url = root
        self._root = root if root.endswith(os.sep) else f"{root}{os.sep}"
        self._honours: bool | None = None
        self._synced_dirs: dict[str, tuple[int, int]] = {}
        self._leftovers: set[str] = set()
        # By folder and name: the inode and the info of files that a listing has seen settled. Four fifths of
        # listing a full inbox, at every read, was asking for sizes and times that never change.
        self._settled: dict[str, dict[str, tuple[int, ObjectInfo]]] = {}

    def __reduce__(self) -> tuple[type[LocalStorage], tuple[str]]:
        return LocalStorage, (self.url,)

    def local_path(self, key: str) -> str:
        """Return the absolute path of the file that holds an object; it need not exist."""
        return self._root + check_key(key)

    @property
    def honours_exclusive_create(self) -> bool | None:
        """Whether the file system can name a file exclusively; None before the first put."""
        return self._honours

    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create a file exclusively, whole and synced; see ``Storage.put_new``."""
        path = self._root + check_new_key(key)
        with wrapped(self, "put_new", key):
            for _ in range(_ATTEMPTS):
                tmp = self._write_tmp(path, data)
                try:
                    created = self._name_exclusively(tmp, path)
                except FileNotFoundError:
                    continue  # somebody swept the file, or removed the folder as empty: begin anew
                finally:
                    with suppress(FileNotFoundError):
                        Path(tmp).unlink()
                # Also where the object was there: whoever made it may have died before this.
                self._sync_directories(path)
                return created
        raise _unstable(self.url, key)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a file over whatever was there, whole and synced; see ``Storage.put``."""
        path = self._root + check_new_key(key)
        self._settled.clear()
        with wrapped(self, "put", key):
            for _ in range(_ATTEMPTS):
                tmp = self._write_tmp(path, data)
                try:
                    Path(tmp).replace(path)
                except FileNotFoundError:
                    continue
                finally:
                    with suppress(FileNotFoundError):
                        Path(tmp).unlink()
                self._sync_directories(path)
                return
        raise _unstable(self.url, key)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes or a range of them; see ``Storage.get``."""
        first, end = check_range(start, end)
        with wrapped(self, "get", key):
            descriptor = _open_file(self.local_path(key))
            try:
                return _read(descriptor, first, end)
            finally:
                os.close(descriptor)

    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges, opening each file once; see ``Storage.get_many``."""
        found: list[bytes] = []
        for key, group in groupby(ranges, key=lambda asked: asked[0]):
            with wrapped(self, "get", key):
                descriptor = _open_file(self.local_path(key))
                try:
                    found += [_read(descriptor, *check_range(start, end)) for _, start, end in group]
                finally:
                    os.close(descriptor)
        return found

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the files below a prefix without half-written ones; see ``Storage.list``."""
        found: list[ObjectInfo] = []
        folder, slash, beginning = check_prefix(prefix).rpartition("/")
        with wrapped(self, "list", prefix):
            self._scan(f"{self._root}{folder}", folder + slash, beginning, found)
        found.sort(key=lambda info: info.key)
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete files, folders left empty, and what killed processes left behind; see ``Storage.delete``."""
        folders = set()
        self._settled.clear()  # the next file of that name may be given the same inode
        for key in keys:
            path = self.local_path(key)
            with wrapped(self, "delete", key), suppress(FileNotFoundError, NotADirectoryError):
                Path(path).unlink()
                folders.add(os.path.dirname(key))  # noqa: PTH120 -- keys are not paths of this system
        self._sweep_leftovers()
        self._remove_empty(folders)

    def _scan(self, path: str, base: str, beginning: str, found: _Listing) -> None:
        try:
            entries = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            return  # nothing there, or gone since it was seen
        known = self._settled.get(path, {})
        settled: dict[str, tuple[int, ObjectInfo]] = {}
        latest = time.time() - _SETTLED_SECONDS
        with entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(beginning):
                    continue
                if name.startswith(_TMP_PREFIX):
                    self._note_leftover(entry)
                    continue
                seen = known.get(name)
                if seen is not None and seen[0] == entry.inode():
                    found.append(seen[1])
                    settled[name] = seen
                elif entry.is_dir():
                    self._scan(entry.path, f"{base}{name}/", "", found)
                else:
                    try:
                        stat = entry.stat()
                    except FileNotFoundError:
                        continue  # deleted since it was seen
                    info = ObjectInfo(f"{base}{name}", stat.st_size, stat.st_mtime)
                    found.append(info)
                    if stat.st_mtime < latest:
                        settled[name] = (stat.st_ino, info)
        if not beginning:
            if len(self._settled) >= _MAX_SETTLED_DIRS:
                self._settled.clear()
            self._settled[path] = settled

    def _note_leftover(self, entry: os.DirEntry[str]) -> None:
        # Listing needs no right to delete, so a listing only notes what a killed process left behind; the
        # next delete, whose caller has that right, removes it.
        with suppress(FileNotFoundError):
            if time.time() - entry.stat().st_mtime > _TMP_MAX_AGE_SECONDS:
                self._leftovers.add(entry.path)

    def _sweep_leftovers(self) -> None:
        while self._leftovers:
            with suppress(KeyError, OSError):
                Path(self._leftovers.pop()).unlink()

    def _remove_empty(self, folders: set[str]) -> None:
        for folder in folders:
            while folder:
                try:
                    Path(self._root, folder).rmdir()
                except OSError:
                    break  # mostly: not empty
                folder = folder.rpartition("/")[0]

    def _write_tmp(self, path: str, data: bytes | memoryview) -> str:
        folder = path.rpartition("/")[0]
        tmp = f"{folder}/{_TMP_PREFIX}{uuid.uuid4().hex}"
        for _ in range(_ATTEMPTS):
            try:
                descriptor = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_FLAGS, 0o666)
            except FileNotFoundError:
                Path(folder).mkdir(parents=True, exist_ok=True)
            else:
                break
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
        try:
            try:
                rest = memoryview(data).cast("B")
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                _sync_file(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            with suppress(OSError):
                Path(tmp).unlink()
            raise
        return tmp

    def _name_exclusively(self, tmp: str, path: str) -> bool:
        try:
            os.link(tmp, path)
        except FileExistsError:
            self._honours = True
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        else:
            self._honours = True
            return True
        renamed = rename_exclusively(tmp, path)
        self._honours = renamed is not None
        if renamed is not None:
            return renamed
        if Path(path).exists():
            return False
        Path(tmp).rename(path)
        return True

    def _sync_directories(self, path: str) -> None:
        """Make the file's name survive a power loss, and the names of the folders above it."""
        folder = path.rpartition("/")[0]
        known = self._synced_dirs.get(folder)
        # A folder that is gone took the file with it: it was deleted meanwhile.
        with suppress(FileNotFoundError):
            identity = _sync_directory(folder)
            if known == identity:
                return
            above = folder
            # The folder above the root holds the root's own name.
            while len(above) >= len(self._root) - 1 and len(above) > 1:
                above = above.rpartition("/")[0] or "/"
                _sync_directory(above)
            if len(self._synced_dirs) > _MAX_KNOWN_DIRS:
                self._synced_dirs.clear()
            self._synced_dirs[folder] = identity


_O_FLAGS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _unstable(url: str, key: str) -> StorageError:
    return StorageError(f"Folders of {url} vanish while {key!r} is written.", url=url, key=key)


def _open_file(path: str) -> int:
    return os.open(path, os.O_RDONLY | _O_FLAGS)


def _read(descriptor: int, start: int, end: int | None) -> bytes:
    size = os.fstat(descriptor).st_size
    start = max(size + start, 0) if start < 0 else start
    wanted = (size if end is None else min(end, size)) - start
    if wanted <= 0:
        return b""
    os.lseek(descriptor, start, os.SEEK_SET)
    data = os.read(descriptor, wanted)
    while len(data) < wanted:  # one read returns at most 2 GiB on Linux
        more = os.read(descriptor, wanted - len(data))
        if not more:
            break
        data += more
    return data


def _sync_file(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # network file systems know only the plain one
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _sync_directory(path: str) -> tuple[int, int]:
    if os.name == "nt":
        return (0, 0)  # Windows offers no such thing
    try:
        descriptor = os.open(path, os.O_RDONLY | _O_FLAGS)
    except PermissionError:
        return (0, 0)  # a folder that may be entered and not read, above the root mostly
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        stat = os.fstat(descriptor)
        os.close(descriptor)
    return stat.st_dev, stat.st_ino


_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCL: Final = 4


def rename_exclusively(source: str, target: str) -> bool | None:
    """Rename a file unless the new name is taken: True renamed, False taken, None where no system call can.

    Raises:
        OSError: The rename failed for another reason.
    """
    import ctypes  # here: hardly any file system needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        call, arguments = (
            "renameat2",
            (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE),
        )
    elif sys.platform == "darwin":
        call, arguments = "renamex_np", (os.fsencode(source), os.fsencode(target), _RENAME_EXCL)
    else:
        return None
    function = getattr(libc, call, None)
    if function is None:
        return None
    if function(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return False
    if number in _NO_HARD_LINKS:
        return None
    raise OSError(number, os.strerror(number), target)
