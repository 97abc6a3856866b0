"""Storages around a storage, which count and delay; ``faults`` has one that fails."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal

from metrics_lake.storage import ObjectInfo, Storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["CountingStorage", "LatencyStorage", "Verb", "WrappedStorage"]

Verb = Literal["put_new", "put", "get", "list", "delete"]
"""The operations of a storage; ``get_many`` counts as ``get``."""

_PAGE: Final = 1000


class WrappedStorage(Storage):
    """A storage that passes everything on to another one; the base of those that do more.

    Args:
        inner: The storage that does the work.
        is_local: What to say in place of ``inner.is_local``: with False, no file is opened past the wrapper.
    """

    def __init__(self, inner: Storage, *, is_local: bool | None = None) -> None:
        self.inner = inner
        self.url = inner.url
        self.is_local = inner.is_local if is_local is None else is_local
        self.is_remote = inner.is_remote

    @property
    def honours_exclusive_create(self) -> bool | None:
        """What the inner storage says."""
        return self.inner.honours_exclusive_create

    def _learn_exclusive_create(self, honoured: bool) -> None:
        self.inner._learn_exclusive_create(honoured)

    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create an object; see ``Storage.put_new``."""
        return self.inner.put_new(key, data)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object; see ``Storage.put``."""
        self.inner.put(key, data)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes; see ``Storage.get``."""
        return self.inner.get(key, start, end)

    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges; see ``Storage.get_many``."""
        return self.inner.get_many(ranges)

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix; see ``Storage.list``."""
        return self.inner.list(prefix)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; see ``Storage.delete``."""
        self.inner.delete(keys)

    def local_path(self, key: str) -> str:
        """Return an object's file; see ``Storage.local_path``."""
        return self.inner.local_path(key) if self.is_local else super().local_path(key)

    def close(self) -> None:
        """Close the inner storage."""
        self.inner.close()


class CountingStorage(WrappedStorage):
    """Counts what an object store would bill.

    Attributes:
        requests: The number of requests by ``PUT``, ``GET``, ``LIST`` (a request a thousand keys) and
            ``DELETE`` (likewise).
        calls: Every call as ``(verb, key or prefix)``, in order; ranges and deletes of many keys one by one.
        bytes_read: The bytes that were returned.
        bytes_written: The bytes that were given.
    """

    def __init__(self, inner: Storage, *, is_local: bool | None = None) -> None:
        super().__init__(inner, is_local=is_local)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self.requests: Counter[str] = Counter()
            self.calls: list[tuple[Verb, str]] = []
            self.bytes_read = 0
            self.bytes_written = 0

    def _count(
        self, request: str, verb: Verb, keys: Iterable[str], number: int = 1, *, written: int = 0
    ) -> None:
        with self._lock:
            self.requests[request] += number
            self.calls += [(verb, key) for key in keys]
            self.bytes_written += written

    def _read(self, size_bytes: int) -> None:
        with self._lock:
            self.bytes_read += size_bytes

    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create an object: one PUT."""
        self._count("PUT", "put_new", [key], written=len(data))
        return self.inner.put_new(key, data)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object: one PUT."""
        self._count("PUT", "put", [key], written=len(data))
        self.inner.put(key, data)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes: one GET."""
        self._count("GET", "get", [key])
        data = self.inner.get(key, start, end)
        self._read(len(data))
        return data

    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges: one GET each."""
        self._count("GET", "get", [key for key, _, _ in ranges], len(ranges))
        found = self.inner.get_many(ranges)
        self._read(sum(map(len, found)))
        return found

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix: one LIST a thousand of them."""
        found = self.inner.list(prefix)
        self._count("LIST", "list", [prefix], max(1, math.ceil(len(found) / _PAGE)))
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects: one DELETE a thousand of them."""
        self._count("DELETE", "delete", keys, math.ceil(len(keys) / _PAGE))
        self.inner.delete(keys)


class LatencyStorage(WrappedStorage):
    """Makes every operation as slow as a distant store.

    Args:
        inner: The storage that does the work.
        seconds: How long each request takes at least, by verb or for all.
        parallel: How many ranges of one ``get_many`` travel at once.
        is_local: As for ``WrappedStorage``; False by default, since a distant store has no files.
    """

    def __init__(
        self,
        inner: Storage,
        seconds: float | Mapping[Verb, float],
        *,
        parallel: int = 32,
        is_local: bool | None = False,
    ) -> None:
        super().__init__(inner, is_local=is_local)
        self._seconds = seconds
        self._parallel = parallel

    def _wait(self, verb: Verb, times: int = 1) -> None:
        seconds = self._seconds
        time.sleep(times * (seconds if isinstance(seconds, (int, float)) else seconds.get(verb, 0.0)))

    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create an object, slowly."""
        self._wait("put_new")
        return self.inner.put_new(key, data)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object, slowly."""
        self._wait("put")
        self.inner.put(key, data)

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes, slowly."""
        self._wait("get")
        return self.inner.get(key, start, end)

    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges, ``parallel`` of them at the price of one."""
        self._wait("get", math.ceil(len(ranges) / self._parallel))
        return self.inner.get_many(ranges)

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix, slowly, page by page."""
        found = self.inner.list(prefix)
        self._wait("list", max(1, math.ceil(len(found) / _PAGE)))
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, slowly."""
        self._wait("delete", math.ceil(len(keys) / _PAGE))
        self.inner.delete(keys)
