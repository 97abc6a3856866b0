"""A storage that fails, lingers, repeats itself and dies, as told or at random."""

from __future__ import annotations

import random  # noqa: TID251 -- seeded, of its own
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from metrics_lake.errors import StorageError
from metrics_lake.testing.wrappers import Verb, WrappedStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metrics_lake.storage import ObjectInfo, Storage

__all__ = ["CrashError", "Fault", "FaultKind", "FaultyStorage"]

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

_WRITES: Final = frozenset({"put_new", "put", "delete"})

_Answer = TypeVar("_Answer")
_Listing = list["ObjectInfo"]


class CrashError(BaseException):
    """The process died here: nothing that catches errors may go on."""


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
