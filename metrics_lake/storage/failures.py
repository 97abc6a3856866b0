"""What foreign exceptions mean, in one place; each becomes an error of this package once, with its cause.

No driver is imported here. An exception is known by the HTTP status or code that it or its cause carries,
else by the names of its classes, else by its ``errno``.
"""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import (
    BucketNotFoundError,
    MetricsLakeError,
    ObjectNotFoundError,
    PermissionDeniedError,
    RequestRefusedError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metrics_lake.storage.base import Storage

__all__ = ["Failure", "classify", "code_of", "store_error", "wrapped"]


class Failure(Enum):
    """What a driver's exception says about the store."""

    EXISTS = "exists"
    ABSENT = "absent"
    NO_BUCKET = "no bucket"
    OUT_OF_RANGE = "out of range"
    DENIED = "denied"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    TRANSIENT = "transient"


_BY_CODE: Final[dict[str, Failure]] = {
    **dict.fromkeys(["PreconditionFailed", "BlobAlreadyExists", "ConditionNotMet"], Failure.EXISTS),
    **dict.fromkeys(["NoSuchBucket", "ContainerNotFound"], Failure.NO_BUCKET),
    **dict.fromkeys(["NoSuchKey", "BlobNotFound", "NoSuchVersion"], Failure.ABSENT),
    **dict.fromkeys(["InvalidRange"], Failure.OUT_OF_RANGE),
    **dict.fromkeys(["NotImplemented", "XNotImplemented"], Failure.UNSUPPORTED),
    **dict.fromkeys(
        [
            "AccessDenied",
            "AccountProblem",
            "AllAccessDisabled",
            "AuthenticationFailed",
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
        ],
        Failure.DENIED,
    ),
    **dict.fromkeys(
        [
            "BadDigest",
            "ConditionalRequestConflict",
            "IncompleteBody",
            "InternalError",
            "OperationAborted",
            "RequestTimeout",
            "ServiceUnavailable",
            "SlowDown",
            "ThrottlingException",
            "XAmzContentSHA256Mismatch",
        ],
        Failure.TRANSIENT,
    ),
}
"""Codes of S3 and Azure. They come before the status: ``ExpiredToken`` and ``RequestTimeout`` are 400."""

_BY_STATUS: Final[dict[int, Failure]] = {
    401: Failure.DENIED,
    403: Failure.DENIED,
    404: Failure.ABSENT,
    408: Failure.TRANSIENT,
    409: Failure.TRANSIENT,
    412: Failure.EXISTS,
    416: Failure.OUT_OF_RANGE,
    429: Failure.TRANSIENT,
    501: Failure.UNSUPPORTED,
}

_BY_CLASS: Final[dict[str, Failure]] = {
    **dict.fromkeys(
        [
            "botocore.NoCredentialsError",
            "botocore.PartialCredentialsError",
            "botocore.CredentialRetrievalError",
            "botocore.TokenRetrievalError",
            "botocore.UnauthorizedSSOTokenError",
            "google.DefaultCredentialsError",
            "google.RefreshError",
            "azure.ClientAuthenticationError",
        ],
        Failure.DENIED,
    ),
    **dict.fromkeys(
        [
            "aiohttp.ClientConnectorCertificateError",
            "aiohttp.InvalidURL",
            "botocore.ConfigParseError",
            "botocore.InvalidRegionError",
            "botocore.NoRegionError",
            "botocore.ParamValidationError",
            "botocore.ProfileNotFound",
            "botocore.SSLError",
            "builtins.ValueError",
            "ssl.SSLCertVerificationError",
        ],
        Failure.REFUSED,
    ),
    "builtins.FileExistsError": Failure.EXISTS,
    "builtins.FileNotFoundError": Failure.ABSENT,
    "builtins.PermissionError": Failure.DENIED,
}
"""By ``package.Class``; a class counts for those derived from it, the most derived first."""

_FORBIDDEN: Final = re.compile(r"^Forbidden\b|\b(?:401|403)\b")
"""gcsfs turns a 403 into a bare ``OSError('Forbidden: …')``, and batch deletes into one with JSON in it."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_FOLDER: Final = frozenset({errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP})
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})

_MAX_REASON: Final = 500
"""Characters: proxies answer with whole pages, libraries list all places where they looked."""

_RIGHTS: Final = {"get": "GET", "list": "LIST", "delete": "DELETE", "put": "PUT", "put_new": "PUT"}


def classify(error: BaseException) -> Failure:
    """Return what a driver's exception means; what nobody knows is ``TRANSIENT``."""
    link: BaseException | None = error
    while link is not None:
        code, status = _code(link), _status(link)
        if code in _BY_CODE:
            return _BY_CODE[code]
        if status in _BY_STATUS:
            return _BY_STATUS[status]
        if status is not None and 300 <= status < 500:
            return Failure.REFUSED
        if status is not None and status >= 500:
            return Failure.TRANSIENT
        link = link.__cause__
    for kind in type(error).__mro__:
        found = _BY_CLASS.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}")
        if found is not None:
            return found
    if type(error) is OSError and error.errno is None and _FORBIDDEN.search(str(error)):
        return Failure.DENIED
    return Failure.TRANSIENT


def code_of(error: BaseException) -> str:
    """Return the store's own word for a failure, or the exception's class."""
    link: BaseException | None = error
    while link is not None:
        word = _code(link) or _status(link)
        if word:
            return str(word)
        link = link.__cause__
    return type(error).__name__


def _code(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        found = response.get("Error", {}).get("Code")
    else:
        found = getattr(error, "error_code", None) if _package(error) == "azure" else None
    return None if found is None else str(getattr(found, "value", found))


def _status(error: BaseException) -> int | None:
    """Return the HTTP status; other packages' attributes of such names mean other things."""
    package, response, found = _package(error), getattr(error, "response", None), None
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif package == "gcsfs":
        found = getattr(error, "code", None)
    elif package == "azure":
        found = getattr(error, "status_code", None)
    elif package == "requests":
        found = getattr(response, "status_code", None)
    elif package == "aiohttp":
        found = getattr(error, "status", None)
    try:
        return int(found) if found else None
    except (TypeError, ValueError):
        return None


def _package(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def store_error(
    failure: Failure,
    error: BaseException,
    *,
    url: str,
    bucket: str,
    operation: str,
    key: str,
    text: str,
    lost: tuple[str, ...] = (),
) -> MetricsLakeError:
    """Return the error for a store's refusal.

    Args:
        failure: What ``classify`` said.
        error: The driver's exception.
        url: The storage's url.
        bucket: The bucket, container or host that was asked.
        operation: The method of ``Storage``.
        key: The key or prefix.
        text: The exception's message without credentials.
        lost: The names of options that were left behind when the storage was pickled.
    """
    code = code_of(error)
    reason = f"{code}, {text}" if text else code
    if len(reason) > _MAX_REASON:
        reason = f"{reason[:_MAX_REASON]}…"
    context: dict[str, Any] = {
        "url": url,
        "bucket": bucket,
        "operation": operation,
        "key": key,
        "status": code,
    }
    what = f"{operation} of {key!r} in {bucket!r} ({url})"
    if failure is Failure.NO_BUCKET or (
        failure is Failure.ABSENT and operation in ("put_new", "put", "list")
    ):
        return BucketNotFoundError(
            f"There is no bucket {bucket!r}: {what} failed ({code}).",
            hint="Create the bucket, or mend the url: buckets are never made by this package.",
            **context,
        )
    if failure is Failure.ABSENT:
        return ObjectNotFoundError(f"There is no object {key!r} under {url}.", **context)
    if failure is Failure.DENIED:
        return PermissionDeniedError(
            f"{what} was refused: {reason}.", hint=_denied_hint(operation, code, lost), **context
        )
    if failure in (Failure.REFUSED, Failure.UNSUPPORTED, Failure.OUT_OF_RANGE, Failure.EXISTS):
        return RequestRefusedError(
            f"The store does not accept {what}: {reason}.",
            hint="Check the url and the storage_options (endpoint, region, names).",
            **context,
        )
    return StorageError(
        f"{what} failed: {reason}.", hint="The store or the way to it is down or overloaded.", **context
    )


def _denied_hint(operation: str, code: str, lost: tuple[str, ...]) -> str:
    if lost:
        return (
            f"Credentials are never pickled ({', '.join(lost)} stayed behind): "
            "this process needs its own, from its environment or in storage_options."
        )
    if code in ("RequestTimeTooSkewed", "RequestExpired"):
        return "Set this machine's clock (NTP): it differs too much from the store's."
    if code in ("AccessDenied", "OSError", "403"):
        also = " (without LIST, S3 says this also of an absent object)" if operation == "get" else ""
        return f"This identity needs the right to {_RIGHTS.get(operation, operation)} there{also}."
    return "Check the credentials in storage_options or in the environment."


@contextmanager
def wrapped(storage: Storage, operation: str, key: str) -> Iterator[None]:
    """Turn an ``OSError`` of the file system into this package's error.

    Raises:
        StorageError: Of the class that says what the caller can do.
    """
    try:
        yield
    except OSError as error:
        raise _local_error(error, storage.url, operation, key) from error


def _local_error(error: OSError, url: str, operation: str, key: str) -> MetricsLakeError:
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
    if error.errno in _NO_FOLDER:
        return RequestRefusedError(
            f"{what} is impossible ({error.strerror}).",
            hint="Name a folder: a part of this path is a file, too long, or a link that leads nowhere.",
            **context,
        )
    hint = "Close handles, or raise the limit (ulimit -n)." if error.errno in _NO_DESCRIPTORS else None
    return StorageError(f"{what} failed: {error}.", hint=hint, **context)
