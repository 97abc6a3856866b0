"""What every store can do: the one interface that the rest of the package sees."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Creation", "ObjectInfo", "Storage", "check_key", "check_new_key", "check_prefix", "check_range"]

_NEW_KEY: Final = re.compile(r"[a-z0-9_=-][a-z0-9_=.-]*(?:/[a-z0-9_=-][a-z0-9_=.-]*)*")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says about one object.

    Attributes:
        key: The object's key relative to the storage's url.
        size_bytes: Its length.
        modified: When it was written, in POSIX seconds by the *store's* clock: only differences between two
            such times mean anything. 0.0 where the store keeps no times.
    """

    key: str
    size_bytes: int
    modified: float


class Creation(Enum):
    """What ``Storage.create_exclusively_or_mark`` found out."""

    EXISTS = "exists"
    """Somebody's object was there already; nothing was written."""
    EXCLUSIVE = "exclusive"
    """The object is new and the store proved that it refuses a second creation."""
    NOT_EXCLUSIVE = "not_exclusive"
    """The object is new and the store let itself be overwritten: the object says so now."""


class Storage(ABC):
    """Immutable objects under one url.

    All methods may be called from several threads at once. An instance survives ``fork`` and pickles; what is
    pickled holds no credentials and no connections (``open_storage`` says what the receiver needs).

    Keys are ``/``-separated paths relative to the url. Keys that are written use ``[a-z0-9/_=.-]`` only, and
    no part of them begins with a dot; other engines' names can be read, listed and deleted as they are.

    Attributes:
        url: Absolute, without credentials and without a trailing slash.
        is_local: True where the objects are files that other libraries may open through ``local_path``.
        is_remote: True where every request is a round trip over a network.
    """

    url: str
    is_local: bool = False
    is_remote: bool = False

    @abstractmethod
    def put_new(self, key: str, data: bytes | memoryview) -> bool:
        """Create an object exclusively, atomically and durably.

        Args:
            key: Where; ``[a-z0-9/_=.-]`` only.
            data: The whole content.

        Returns:
            True if this call created the object; False if an object with this key was there already, whoever
            put it. A store's client may repeat a request whose answer was lost, and an error may hide a
            success: False, after an attempt of one's own, can mean one's own object. Compare before calling
            it a conflict.

        Raises:
            InvalidInputError: The key has other characters.
            PermissionDeniedError: The store refused these credentials.
            BucketNotFoundError: The bucket does not exist.
            StorageError: The store or the disk failed; whether the object exists now is unknown, and the same
                call may be repeated.
        """

    @abstractmethod
    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write an object, over whatever was there: for hints only, never for anything that is relied on.

        Raises:
            InvalidInputError: The key has other characters than ``[a-z0-9/_=.-]``.
            StorageError: As for ``put_new``.
        """

    @abstractmethod
    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them, with one request.

        Args:
            key: Which object.
            start: The first byte; negative counts from the object's end, and then ``end`` must be None.
            end: The byte behind the last one; None is the object's end.

        Returns:
            The bytes, clipped to the object as a slice would be.

        Raises:
            InvalidInputError: The range is none.
            ObjectNotFoundError: There is no such object.
            PermissionDeniedError: The store refused these credentials.
            BucketNotFoundError: The bucket does not exist.
            StorageError: The store or the disk failed.
        """

    @abstractmethod
    def get_many(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Return several ranges, fetched in parallel where that helps.

        Args:
            ranges: ``(key, start, end)`` each, ``0 <= start <= end``, end exclusive.

        Returns:
            The bytes of each range in the order asked, clipped to the objects.

        Raises:
            ObjectNotFoundError: One of the objects does not exist.
            StorageError: As for ``get``.
        """

    @abstractmethod
    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return all objects whose key begins with a prefix, sorted by key in UTF-8 byte order.

        Args:
            prefix: Any beginning of a key, mostly a folder with its trailing slash; ``""`` is everything.

        Returns:
            The complete listing, as fresh as the store gives it; empty where nothing is there. Half-written
            files of a local folder are left out.

        Raises:
            PermissionDeniedError: The store refused these credentials.
            BucketNotFoundError: The bucket does not exist.
            StorageError: The store or the disk failed.
        """

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; keys that are absent are fine.

        Raises:
            PermissionDeniedError: The store refused these credentials. Some of the objects may be gone.
            StorageError: Some of the objects could not be deleted. The call may be repeated.
        """

    def local_path(self, key: str) -> str:
        """Return the absolute path of the file that holds an object.

        Raises:
            InvalidInputError: This storage is not a local folder (``is_local`` is False).
        """
        raise InvalidInputError(
            f"{self.url} is not a local folder, so {key!r} has no path.", url=self.url, key=key
        )

    @property
    def honours_exclusive_create(self) -> bool | None:
        """Whether ``put_new`` refuses an existing key even in a race; None as long as nothing proved it."""
        return None

    def create_exclusively_or_mark(
        self, key: str, if_honoured: bytes | memoryview, if_not: bytes | memoryview
    ) -> Creation:
        """Create an object and learn, with the same key, whether the store honours exclusive creation.

        Old S3 clones ignore ``If-None-Match`` without a word. So the object is created twice: a store that
        honours the condition refuses the second one and keeps ``if_honoured``; one that does not has now
        ``if_not`` in its place. Either way the object itself tells all later readers.

        Args:
            key: Which object; nobody else writes it by another way.
            if_honoured: The content to stay where creation is exclusive.
            if_not: The content to stay where it is not.

        Returns:
            ``EXISTS`` where the first attempt met an object (which may be one's own, see ``put_new``: read
            it), else what the second attempt proved. Where the answer is ``NOT_EXCLUSIVE``, someone else may
            have created the object at the same moment: read it back too.

        Raises:
            StorageError: As for ``put_new``. After a failure between the two attempts the object says
                ``if_honoured`` without a proof.
        """
        if self._is_known_to_race():
            return Creation.NOT_EXCLUSIVE if self.put_new(key, if_not) else Creation.EXISTS
        if not self.put_new(key, if_honoured):
            return Creation.EXISTS
        if self._is_known_to_race():  # since the first put
            self.put(key, if_not)
            return Creation.NOT_EXCLUSIVE
        honoured = not self.put_new(key, if_not)
        self._learn_exclusive_create(honoured)
        return Creation.EXCLUSIVE if honoured else Creation.NOT_EXCLUSIVE

    def _is_known_to_race(self) -> bool:
        return self.honours_exclusive_create is False

    def _learn_exclusive_create(self, honoured: bool) -> None:  # noqa: B027 -- most stores know by themselves
        """Keep what a probe proved, where ``honours_exclusive_create`` depends on it."""

    def close(self) -> None:  # noqa: B027 -- not every store has connections
        """Release connections; a later call opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def check_new_key(key: str) -> str:
    """Return a key that may be written.

    Raises:
        InvalidInputError: It has characters that some store or engine would change or refuse.
    """
    if _NEW_KEY.fullmatch(key) is None:
        raise InvalidInputError(
            f"{key!r} cannot be an object's key.",
            hint="Use a-z, 0-9, '_', '=', '.', '-' in parts that do not begin with a dot, and '/' between.",
            key=key,
        )
    return key


def check_key(key: str) -> str:
    """Return a key that may be read or deleted: other engines choose their own characters.

    Raises:
        InvalidInputError: It could lead out of the url.
    """
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise InvalidInputError(f"{key!r} is not an object's key.", key=key)
    return key


def check_prefix(prefix: str) -> str:
    """Return a prefix that may be listed.

    Raises:
        InvalidInputError: It could lead out of the url.
    """
    if prefix:
        check_key(f"{prefix}x")
    return prefix


def check_range(start: int | None, end: int | None) -> tuple[int, int | None]:
    """Return a range with its start filled in.

    Raises:
        InvalidInputError: The end lies before the start, or a suffix has an end.
    """
    first = 0 if start is None else start
    if end is not None and (first < 0 or end < first):
        raise InvalidInputError(
            f"[{start}:{end}] is not a range of bytes.",
            hint="A negative start takes no end.",
            start=start,
            end=end,
        )
    return first, end
