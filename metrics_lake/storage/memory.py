"""``memory://``: objects in this process, the same that ``fsspec.filesystem("memory")`` shows."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from metrics_lake.errors import ObjectNotFoundError
from metrics_lake.storage.base import ObjectInfo, Storage, check_key, check_new_key, check_prefix, check_range

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MemoryStorage"]


class _Lock:
    """One lock for fsspec's one store, whole again in a forked child."""

    def __init__(self) -> None:
        self._make()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._make)

    def _make(self) -> None:
        self.lock = threading.Lock()


_STORE = _Lock()


class MemoryStorage(Storage):
    """Objects in fsspec's process-wide memory store; they end with the process.

    A forked child has a copy of its own, and another process that receives a pickle has an empty store.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        name = url.removeprefix("memory://").strip("/")
        self._root = f"/{name}/" if name else "/"

    def __reduce__(self) -> tuple[type[MemoryStorage], tuple[str]]:
        return MemoryStorage, (self.url,)

    @property
    def honours_exclusive_create(self) -> bool | None:
        """True: one lock guards the store."""
        return True

    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create an object unless it is there; see ``Storage.put_new``."""
        filesystem, path = _filesystem(), self._root + check_new_key(key)
        with _STORE.lock:
            if path in filesystem.store:
                return False
            filesystem.pipe_file(path, bytes(data))
        return True

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object over whatever was there; see ``Storage.put``."""
        filesystem, path = _filesystem(), self._root + check_new_key(key)
        with _STORE.lock:
            filesystem.pipe_file(path, bytes(data))

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes or a range of them; see ``Storage.get``."""
        first, end = check_range(start, end)
        filesystem, path = _filesystem(), self._root + check_key(key)
        with _STORE.lock:
            file = filesystem.store.get(path)
            if file is None:
                raise ObjectNotFoundError(
                    f"There is no object {key!r} under {self.url}.", url=self.url, key=key, operation="get"
                )
            data: bytes = file.getvalue()
        return data[first:end]

    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges; see ``Storage.get_many``."""
        return [self.get(key, start, end) for key, start, end in ranges]

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix; see ``Storage.list``."""
        filesystem, start, cut = _filesystem(), self._root + check_prefix(prefix), len(self._root)
        with _STORE.lock:
            found = [
                ObjectInfo(path[cut:], file.size, file.modified.timestamp())
                for path, file in filesystem.store.items()
                if path.startswith(start)
            ]
        found.sort(key=lambda info: info.key)
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; see ``Storage.delete``."""
        filesystem = _filesystem()
        with _STORE.lock:
            for key in keys:
                filesystem.store.pop(self._root + check_key(key), None)


def _filesystem() -> Any:
    import fsspec

    return fsspec.filesystem("memory")
