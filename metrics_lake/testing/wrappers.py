"""Storages around a storage: they count, delay, fail and die, so that tests can say when."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from metrics_lake.errors import StorageError
from metrics_lake.storage import ObjectInfo, Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "CountingStorage",
    "CrashError",
    "Fault",
    "FaultKind",
    "FaultyStorage",
    "LatencyStorage",
    "Verb",
    "WrappedStorage",
]

Verb = Literal["put_new", "put", "get", "list", "delete"]
"""The operations of a storage; ``get_many`` counts as ``get``."""

FaultKind = Literal["before", "after", "late", "duplicate", "delay", "stale", "crash", "crash_after"]
"""What can go wrong with one operation.

===============  ==========================================================================================
``before``       the request is lost: an error, and nothing happened
``after``        the answer is lost: an error, and yet it happened
``late``         an error now, and it happens before a later operation: the request lingered
``duplicate``    the request is delivered twice and the second answer is the one that arrives
``delay``        it takes ``seconds`` longer
``stale``        a listing is answered as it was the last time (as empty, the first time)
``crash``        the process dies before the operation, ``crash_after`` when it has happened
===============  ==========================================================================================
"""

_PAGE: Final = 1000
_WRITES: Final = frozenset({"put_new", "put", "delete"})

_Answer = TypeVar("_Answer")
_Listing = list[ObjectInfo]


class CrashError(BaseException):
    """The process died here: nothing that catches errors may go on."""


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


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: What.
        verb: With which operation; None is any. A fault waits for an operation that it fits.
        key: A part of the key or prefix that it is about.
        seconds: How long a ``delay`` takes.
        operations: How many operations later a ``late`` request arrives.
    """

    kind: FaultKind
    verb: Verb | None = None
    key: str = ""
    seconds: float = 0.01
    operations: int = 1

    def fits(self, verb: Verb, key: str) -> bool:
        """Whether this fault can befall an operation."""
        if self.kind in ("late", "duplicate") and verb not in _WRITES:
            return False
        if self.kind == "stale" and verb != "list":
            return False
        return self.verb in (None, verb) and self.key in key


class FaultyStorage(WrappedStorage):
    """Fails as told, and at random.

    Args:
        inner: The storage that does the work.
        faults: What goes wrong, each once, in this order as far as the operations fit.
        rates: How often each kind happens by itself, between 0 and 1.
        seed: Makes the random faults the same every time.
        crash_at: The number of the operation, from 1, before which the process dies.
        is_local: As for ``WrappedStorage``; False by default, so that no file is read past the faults.

    Attributes:
        operations: How many operations were begun.
        log: Every operation as ``(number, verb, key, fault's kind or "")``.
    """

    def __init__(
        self,
        inner: Storage,
        faults: Iterable[Fault] = (),
        *,
        rates: Mapping[FaultKind, float] | None = None,
        seed: int | None = None,
        crash_at: int | None = None,
        is_local: bool | None = False,
    ) -> None:
        super().__init__(inner, is_local=is_local)
        self._lock = threading.Lock()
        self._faults = deque(faults)
        self._rates = dict(rates or {})
        self._random = random.Random(seed)  # noqa: S311 -- repeatable, not secret
        self._listings: dict[str, list[ObjectInfo]] = {}
        self._late: list[tuple[int, Callable[[], object]]] = []
        self._crashed = False
        self.crash_at = crash_at
        self.operations = 0
        self.log: list[tuple[int, Verb, str, str]] = []

    def inject(self, *faults: Fault) -> None:
        """Add faults behind those that wait."""
        with self._lock:
            self._faults.extend(faults)

    def quiet(self) -> None:
        """From now on nothing fails; requests that linger arrive now."""
        with self._lock:
            self._faults.clear()
            self._rates.clear()
            self.crash_at = None
            self._crashed = False
        self.deliver()

    def revive(self) -> None:
        """Let a storage whose process died be used again, as by the process that follows it."""
        with self._lock:
            self._crashed = False
            self.crash_at = None

    def deliver(self) -> None:
        """Let all requests that linger arrive now."""
        with self._lock:
            late, self._late = self._late, []
        for _, request in late:
            request()

    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create an object, unless something goes wrong."""
        body = bytes(data)
        return self._do("put_new", key, lambda: self.inner.put_new(key, body))

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object, unless something goes wrong."""
        body = bytes(data)
        self._do("put", key, lambda: self.inner.put(key, body))

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes, unless something goes wrong."""
        return self._do("get", key, lambda: self.inner.get(key, start, end))

    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges, unless something goes wrong."""
        key = ranges[0][0] if ranges else ""
        return self._do("get", key, lambda: self.inner.get_many(ranges))

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix, unless something goes wrong."""
        return self._do("list", prefix, lambda: self._list(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, unless something goes wrong."""
        asked = tuple(keys)
        self._do("delete", asked[0] if asked else "", lambda: self.inner.delete(asked))

    def _list(self, prefix: str) -> _Listing:
        found = self.inner.list(prefix)
        self._listings[prefix] = found
        return found

    def _do(self, verb: Verb, key: str, effect: Callable[[], _Answer]) -> _Answer:
        fault = self._next(verb, key)
        kind = None if fault is None else fault.kind
        if kind == "crash":
            raise CrashError(f"before {verb} of {key!r}")
        if kind == "before":
            raise _lost(verb, key, self.url)
        if kind == "late" and fault is not None:
            with self._lock:
                self._late.append((self.operations + fault.operations, effect))
            raise _lost(verb, key, self.url)
        if kind == "stale":
            return self._listings.get(key, [])  # type: ignore[return-value]  # only a list can be stale
        if kind == "delay" and fault is not None:
            time.sleep(fault.seconds)
        answer = effect()
        if kind == "duplicate":
            answer = effect()
        if kind == "after":
            raise _lost(verb, key, self.url)
        if kind == "crash_after":
            with self._lock:
                self._crashed = True
            raise CrashError(f"after {verb} of {key!r}")
        return answer

    def _next(self, verb: Verb, key: str) -> Fault | None:
        with self._lock:
            if self._crashed:
                raise CrashError("the process is dead")
            self.operations += 1
            due = [request for at, request in self._late if at <= self.operations]
            self._late = [(at, request) for at, request in self._late if at > self.operations]
            fault = self._choose(verb, key)
            self._crashed = fault is not None and fault.kind == "crash"
            self.log.append((self.operations, verb, key, "" if fault is None else fault.kind))
        for request in due:
            request()
        return fault

    def _choose(self, verb: Verb, key: str) -> Fault | None:
        if self.crash_at is not None and self.operations >= self.crash_at:
            return Fault("crash")
        for fault in self._faults:
            if fault.fits(verb, key):
                self._faults.remove(fault)
                return fault
        for kind, rate in self._rates.items():
            fault = Fault(kind)
            if fault.fits(verb, key) and self._random.random() < rate:
                return fault
        return None


def _lost(verb: Verb, key: str, url: str) -> StorageError:
    return StorageError(f"Planted: {verb} of {key!r} under {url} was lost.", operation=verb, key=key, url=url)
