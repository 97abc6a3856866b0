"""A few objects of a storage as a read-only file system that DuckDB can open.

It has exactly the objects that it was given, under names of its own, and cannot write. Where every request is
a round trip, the end of a file (its footer) is fetched once and kept by whoever passes ``tails``, and reads
that follow on each other fetch ahead: a scan of a 75 MB table makes tens of requests, not hundreds.
"""

from __future__ import annotations

import datetime as dt
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import fsspec

from metrics_lake.errors import MetricsLakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metrics_lake.storage.base import Storage

__all__ = ["ExposedObjects"]

_PROTOCOL: Final = "metricslake"
_TAIL_BYTES: Final = 256 << 10
_NEAR_BYTES: Final = 64 << 10
_AHEAD_BYTES: Final = (1 << 20, 8 << 20)
_UNCHANGED: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


class ExposedObjects(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Objects by number: the first is ``metricslake://0.parquet``.

    Args:
        storage: Where they are.
        objects: Their keys and sizes in bytes.
        tails: Returns the end of an object, given its key and a function that fetches it; may keep it.

    Attributes:
        paths: The objects' paths, in order.
        key: Equal for two that show the same objects of one storage.
    """

    protocol = _PROTOCOL
    cachable = False

    def __init__(
        self,
        storage: Storage,
        objects: Sequence[tuple[str, int]],
        tails: Callable[[str, Callable[[], bytes]], bytes] = lambda _, fetch: fetch(),
    ) -> None:
        super().__init__()
        self.storage = storage
        self.tails = tails
        self.key = (id(storage), tuple(objects))
        self._failure: MetricsLakeError | None = None
        self.paths = [self.path_of(number) for number in range(len(objects))]
        self._objects = {f"{number}.parquet": each for number, each in enumerate(objects)}

    @staticmethod
    def path_of(number: int) -> str:
        """Return the path of the object with this number."""
        return f"{_PROTOCOL}://{number}.parquet"

    def open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        """Open an object; only ``"rb"`` is possible."""
        if mode != "rb":
            raise PermissionError(f"{path} can only be read")
        key, size = self._found(path)
        is_file = self.storage.is_local and hasattr(os, "pread")
        return _OpenFile(self, key, size) if is_file else _OpenObject(self, key, size)

    def failed(self, error: MetricsLakeError) -> None:
        """Keep what the storage raised: DuckDB turns it into a text."""
        self._failure = error

    def take_failure(self) -> MetricsLakeError | None:
        """Return what the storage raised last, once."""
        error, self._failure = self._failure, None
        return error

    def key_of(self, path: str) -> str:
        """Return the key of the object that a path names."""
        return self._found(path)[0]

    def exists(self, path: str, **_: Any) -> bool:
        """Say whether a path names one of the objects."""
        return self._name(path) in self._objects

    def isfile(self, path: str) -> bool:
        """Say whether a path names one of the objects."""
        return self.exists(path)

    def isdir(self, path: str) -> bool:
        """There are no folders."""
        return False

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the path's name if it is one of the objects; patterns fit nothing."""
        return [self._name(path)] if self.exists(path) else []

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return an object's size."""
        return {"name": self._name(path), "size": self._found(path)[1], "type": "file"}

    def size(self, path: str) -> int:
        """Return an object's size in bytes."""
        return self._found(path)[1]

    def modified(self, path: str) -> dt.datetime:
        """Objects never change."""
        return _UNCHANGED

    def _found(self, path: str) -> tuple[str, int]:
        found = self._objects.get(self._name(path))
        if found is None:
            raise FileNotFoundError(path)
        return found

    @staticmethod
    def _name(path: str) -> str:
        return path.removeprefix(f"{_PROTOCOL}://").lstrip("/")


class _Position(threading.local):
    """Where each thread is: DuckDB's threads share a handle and seek before each read."""

    at = 0
    start = 0
    window = b""
    ahead = _AHEAD_BYTES[0]


class _Handle:
    """What DuckDB needs of an open file."""

    def __init__(self, owner: ExposedObjects, key: str, size: int) -> None:
        self._owner = owner
        self._key = key
        self._size = size
        self._here = _Position()

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._here.at, self._size)[whence]
        self._here.at = base + offset
        return self._here.at

    def tell(self) -> int:
        return self._here.at

    def read(self, size: int = -1) -> bytes:
        here = self._here
        end = self._size if size < 0 else min(here.at + size, self._size)
        try:
            data = self._range(here.at, end)
        except MetricsLakeError as error:
            self._owner.failed(error)
            raise
        here.at += len(data)
        return data

    def _range(self, start: int, end: int) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _OpenFile(_Handle):
    """An object that is a local file."""

    def __init__(self, owner: ExposedObjects, key: str, size: int) -> None:
        super().__init__(owner, key, size)
        try:
            self._descriptor: int | None = os.open(owner.storage.local_path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            try:
                owner.storage.get(key, 0, 1)  # says it in our words
            except MetricsLakeError as error:
                owner.failed(error)
            raise

    def _range(self, start: int, end: int) -> bytes:
        if self._descriptor is None:
            raise ValueError(f"{self._key} is closed")
        return os.pread(self._descriptor, end - start, start)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        # DuckDB lets go of handles without closing them.
        if getattr(self, "_descriptor", None) is not None:
            self.close()


class _OpenObject(_Handle):
    """An object behind ranged requests."""

    def _range(self, start: int, end: int) -> bytes:
        here = self._here
        offset = start - here.start
        if offset >= 0 and end <= here.start + len(here.window):
            return here.window[offset : offset + end - start]
        tail = max(self._size - _TAIL_BYTES, 0)
        if start >= tail:
            whole = self._owner.tails(self._key, lambda: self._get(tail, self._size))
            return whole[start - tail : end - tail]
        follows = 0 <= start - (here.start + len(here.window)) <= _NEAR_BYTES and here.window
        here.ahead = min(2 * here.ahead, _AHEAD_BYTES[1]) if follows else _AHEAD_BYTES[0]
        upto = min(max(end, start + here.ahead), self._size) if follows else end
        here.start, here.window = start, self._get(start, upto)
        return here.window[: end - start]

    def _get(self, start: int, end: int) -> bytes:
        return self._owner.storage.get(self._key, start, end)
