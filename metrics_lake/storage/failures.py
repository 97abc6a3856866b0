"""Foreign exceptions become errors of this package here, once, with their cause."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import (
    MetricsLakeError,
    ObjectNotFoundError,
    PermissionDeniedError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metrics_lake.storage.base import Storage

__all__ = ["wrapped"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})


@contextmanager
def wrapped(storage: Storage, operation: str, key: str) -> Iterator[None]:
    """Turn an ``OSError`` of the file system into this package's error.

    Raises:
        StorageError: Of the class that says what the caller can do.
    """
    try:
        yield
    except OSError as error:
        raise local_failure(error, storage.url, operation, key) from error


def local_failure(error: OSError, url: str, operation: str, key: str) -> MetricsLakeError:
    """Return the error that says what a file system's refusal means."""
    context: dict[str, Any] = {"url": url, "operation": operation, "key": key}
    what = f"{operation} of {key!r} under {url}"
    if error.errno in _FULL:
        return StorageError(
            f"The disk is full: {what} wrote nothing ({error.strerror}).",
            hint="Free space or raise the quota, then try again.",
            **context,
        )
    if error.errno in _DENIED:
        return PermissionDeniedError(
            f"{what} was refused ({error.strerror}).", hint="Check the folder's owner and mode.", **context
        )
    if error.errno in _ABSENT and operation == "get":
        return ObjectNotFoundError(f"There is no object {key!r} under {url}.", **context)
    return StorageError(f"{what} failed: {error}.", **context)
