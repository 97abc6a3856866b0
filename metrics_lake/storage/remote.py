"""Objects in a bucket, or wherever else an fsspec filesystem reaches: retries, errors, forks and pickles."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from metrics_lake.errors import InvalidInputError, StorageError
from metrics_lake.jitter import jitter
from metrics_lake.storage.base import (
    ObjectInfo,
    Storage,
    check_key,
    check_new_key,
    check_prefix,
    check_range,
)
from metrics_lake.storage.drivers import modified_at
from metrics_lake.storage.failures import Failure, classify, store_error
from metrics_lake.storage.options import redacted, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metrics_lake.errors import MetricsLakeError
    from metrics_lake.storage.drivers import Driver

__all__ = ["RemoteStorage"]

_ATTEMPTS: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.1
_PAUSE_FACTOR: Final = 4.0
_PATIENCE_SECONDS: Final = 9.0
"""No new attempt after this: with 5 s to connect and 15 s of silence, a dead endpoint takes 10 to 15 s."""

_Answer = TypeVar("_Answer")

_ENDING: Final = ("cannot schedule new futures", "Event loop is closed", "Loop is not running")
"""What asyncio's RuntimeErrors say when the interpreter is going down: no name can be looked up any more."""


class RemoteStorage(Storage):
    """Objects that an fsspec filesystem reaches.

    Failures that pass by themselves are tried again a few times within seconds, with growing, jittered
    pauses; the filesystems' own, much longer, retrying is off. Whoever publishes in the background backs off
    by itself.

    Args:
        url: Without credentials.
        bucket: The bucket, container or host, for messages.
        driver: How this kind of filesystem is used.
        options: The filesystem's options, credentials included.
        lost: The names of the options that stayed behind in a pickle.
    """

    is_remote = True

    def __init__(
        self, url: str, bucket: str, driver: Driver, options: Mapping[str, Any], lost: tuple[str, ...] = ()
    ) -> None:
        self.url = url
        self._bucket = bucket
        self._driver = driver
        self._options = dict(options)
        self._lost = lost
        self._honours: bool | None = None if driver.is_exclusive else False
        self._connecting = threading.Lock()
        self._connection: _Connection | None = None
        _LIVING.add(self)

    def __reduce__(self) -> tuple[type[RemoteStorage], tuple[Any, ...]]:
        options, lost = without_secrets(self._options)
        return RemoteStorage, (self.url, self._bucket, self._driver, options, self._lost + lost)

    @property
    def honours_exclusive_create(self) -> bool | None:
        """Whether the store refuses a second creation; None until a probe proved it."""
        return self._honours

    def _learn_exclusive_create(self, honoured: bool) -> None:
        self._honours = honoured

    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create an object with the store's conditional request; see ``Storage.put_new``."""
        check_new_key(key)
        body = bytes(data)

        def create(connection: _Connection) -> bool:
            path = connection.path(key)
            try:
                self._driver.create(connection.filesystem, path, body)
            except self._driver.errors() as error:
                failure = classify(error)
                if failure is Failure.UNSUPPORTED:
                    return self._create_unconditionally(connection, path, body)
                if failure is not Failure.EXISTS:
                    raise
                return False
            return True

        return self._run("put_new", key, create)

    def _create_unconditionally(self, connection: _Connection, path: str, body: bytes) -> bool:
        """Create an object where the store refuses conditions: two writers may both believe that they did."""
        self._honours = False
        try:
            self._driver.read(connection.filesystem, path, 0, 1)
        except self._driver.errors() as error:
            failure = classify(error)
            if failure is Failure.OUT_OF_RANGE:
                return False  # an empty object
            if failure is not Failure.ABSENT:
                raise
        else:
            return False
        self._driver.write(connection.filesystem, path, body)
        return True

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object over whatever was there; see ``Storage.put``."""
        check_new_key(key)
        body = bytes(data)
        self._run("put", key, lambda on: self._driver.write(on.filesystem, on.path(key), body))

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them, by one request; see ``Storage.get``."""
        check_key(key)
        first, end = check_range(start, end)
        if first == end:
            return b""

        def read(connection: _Connection) -> bytes:
            try:
                return self._driver.read(connection.filesystem, connection.path(key), first, end)
            except self._driver.errors() as error:
                if classify(error) is Failure.OUT_OF_RANGE:
                    return b""  # behind the end, or of an empty object: as a slice
                raise

        return self._run("get", key, read)

    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges by parallel requests; see ``Storage.get_many``."""
        found: dict[int, bytes] = {}
        for index, (key, start, end) in enumerate(ranges):
            check_key(key)
            if check_range(start, end) == (end, end):
                found[index] = b""

        def read(connection: _Connection) -> None:
            missing = [index for index in range(len(ranges)) if index not in found]
            asked = [(connection.path(ranges[index][0]), *ranges[index][1:]) for index in missing]
            answers = self._driver.read_many(connection.filesystem, asked) if asked else []
            failed: tuple[int, BaseException] | None = None
            before = len(found)
            for index, answer in zip(missing, answers, strict=True):
                if isinstance(answer, BaseException):
                    failure = classify(answer)
                    if failure is Failure.OUT_OF_RANGE:
                        found[index] = b""
                    elif failed is None or failure is not Failure.TRANSIENT:
                        failed = index, answer
                else:
                    found[index] = bytes(answer)
            if failed is not None:
                raise _PartError(ranges[failed[0]][0], is_moving=len(found) > before) from failed[1]

        keys = dict.fromkeys(key for key, _, _ in ranges)
        self._run("get", ", ".join(list(keys)[:3]), read)
        return [found[index] for index in range(len(ranges))]

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects below a prefix, a request a page; see ``Storage.list``."""
        check_prefix(prefix)

        def find(connection: _Connection) -> list[ObjectInfo]:
            cut = len(connection.root) + 1
            infos = self._driver.find(connection.filesystem, connection.root, prefix)
            return [
                ObjectInfo(info["name"][cut:], int(info["size"] or 0), modified_at(info))
                for info in infos
                if info["name"][cut:].startswith(prefix) and not info["name"].endswith("/")
            ]

        found = self._run("list", prefix, find)
        found.sort(key=lambda info: info.key)
        return found

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects in bulk; see ``Storage.delete``."""
        for key in keys:
            check_key(key)
        if keys:
            self._run(
                "delete",
                keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more",
                lambda on: self._driver.remove(on.filesystem, [on.path(key) for key in keys]),
            )

    def close(self) -> None:
        """Let the connections go; a later call opens new ones."""
        with self._connecting:
            self._connection = None

    def _run(self, operation: str, key: str, call: Callable[[_Connection], _Answer]) -> _Answer:
        """Return a call's answer, trying again what passes by itself."""
        self._connect()  # on a busy machine this alone takes seconds, which are not the store's
        attempt, begun, pause = 0, time.monotonic(), _FIRST_PAUSE_SECONDS
        while True:
            attempt += 1
            connection = self._connect()
            try:
                return call(connection)
            except _PartError as part:
                error, at = part.__cause__ or part, part.key
                if part.is_moving:  # slow is not dead: patience is for a store that gives nothing
                    attempt, begun, pause = 1, time.monotonic(), _FIRST_PAUSE_SECONDS
            except self._driver.errors() as caught:
                error, at = caught, key
            except RuntimeError as caught:
                if not _is_ending(caught):
                    raise
                error, at = caught, key
            failure = classify(error)
            is_over = attempt == _ATTEMPTS or time.monotonic() - begun > _PATIENCE_SECONDS
            if failure is not Failure.TRANSIENT or is_over or _is_ending(error):
                raise self._error(failure, error, operation, at) from error
            time.sleep(pause * jitter(0.5, 1.5))
            pause *= _PAUSE_FACTOR

    def _error(self, failure: Failure, error: BaseException, operation: str, key: str) -> MetricsLakeError:
        return store_error(
            failure,
            error,
            url=self.url,
            bucket=self._bucket,
            operation=operation,
            key=key,
            text=redacted(str(error), self._options).rstrip(". "),
            lost=self._lost,
        )

    def _connect(self) -> _Connection:
        connection = self._connection
        if connection is not None:
            return connection
        with self._connecting:
            if self._connection is None:
                self._connection = self._new_connection()
            return self._connection

    def _new_connection(self) -> _Connection:
        try:
            return _Connection(*self._driver.connect(self.url, self._options))
        except (TypeError, KeyError, ValueError) as error:
            raise InvalidInputError(
                f"The storage_options do not fit {self.url}: {redacted(str(error), self._options)}.",
                hint=f"Given: {', '.join(sorted(self._options)) or 'none'}.",
                url=self.url,
            ) from error
        except self._driver.errors() as error:
            failure = classify(error)
            if failure is Failure.ABSENT:
                failure = Failure.REFUSED  # a file of credentials, not an object
            raise self._error(failure, error, "connect", "") from error

    def _forget_parent(self) -> None:
        """Leave the parent's connections alone in a forked child."""
        self._connecting = threading.Lock()
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None


def _is_ending(error: BaseException) -> bool:
    return any(words in str(error) for words in _ENDING)


class _Connection:
    """One filesystem of one process."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem = filesystem
        self.root = root
        self._loop = getattr(filesystem, "loop", None)

    def path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def abandon(self) -> None:
        """Keep finalizers of a copied filesystem from closing what the parent process still uses.

        Its sockets are registered with an epoll that both processes share: closing a transport here would
        take it from the parent's. aiohttp and the drivers leave everything alone once the loop says that it
        is closed, which is true here: its thread was not copied.
        """
        if self._loop is not None:
            self._loop.is_running = lambda: False
            self._loop.is_closed = lambda: True
        _ABANDONED.append(self.filesystem)


class _PartError(StorageError):
    """One range of several failed, and others may have come (``is_moving``); its cause says why."""

    def __init__(self, key: str, *, is_moving: bool) -> None:
        super().__init__(key)
        self.key = key
        self.is_moving = is_moving


_LIVING: Final[weakref.WeakSet[RemoteStorage]] = weakref.WeakSet()
_ABANDONED: Final[list[Any]] = []


def _after_fork() -> None:
    for storage in list(_LIVING):
        storage._forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
