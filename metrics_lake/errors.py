"""Every error that metrics_lake raises on purpose, grouped by what the caller would do about it.

========================  =====================================================================
group                     what the caller does
========================  =====================================================================
``NotFoundError``         asks for something else, or takes the default (also a ``KeyError``)
``InvalidInputError``     corrects the call (also a ``ValueError`` and a ``TypeError``)
``ConflictError``         reads again and decides anew
``StorageError``          waits, or mends the store, the disk or the rights
``FormatError``           upgrades, or repairs the lake with ``verify`` and ``recover``
``QueryError``            asks for less at once
``ClosedError``           opens a new handle
========================  =====================================================================

Each class has a stable ``code`` (codes are only ever added), says whether trying the same call again can
help (``retryable``) and carries its context as attributes.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AmbiguousSeriesError",
    "BucketNotFoundError",
    "ClosedError",
    "CommitConflictError",
    "CommitUnknownError",
    "ConflictError",
    "CorruptObjectError",
    "FormatError",
    "GapWarning",
    "InvalidInputError",
    "JournalError",
    "JournalFullError",
    "LakeNotFoundError",
    "MetricsLakeError",
    "MetricsLakeWarning",
    "MissingDriverError",
    "NotFoundError",
    "NotPublishedError",
    "ObjectNotFoundError",
    "PermissionDeniedError",
    "QueryError",
    "RequestRefusedError",
    "SnapshotExpired",
    "StorageError",
    "TaskAmbiguousError",
    "UnsupportedFormatError",
]


class MetricsLakeError(Exception):
    """The root of all errors of this package.

    Attributes:
        code: A stable machine-readable name; codes are only ever added.
        retryable: True where the same call can succeed later without any change by the caller.
        hint: What to do, or None. It is the last sentence of the message.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __getattr__(self, name: str) -> Any:
        context = self.__dict__.get("context", {})
        if name in context:
            return context[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.context)


def _rebuild(
    kind: type[MetricsLakeError], message: str, hint: str | None, context: dict[str, Any]
) -> MetricsLakeError:
    return kind(message, hint=hint, **context)


class NotFoundError(MetricsLakeError, KeyError):
    """What was asked for is not in the lake."""

    code = "not_found"


class LakeNotFoundError(NotFoundError):
    """There is no lake under the url that was to be read."""

    code = "lake_not_found"


class InvalidInputError(MetricsLakeError, ValueError, TypeError):
    """An argument is wrong; nothing was written."""

    code = "invalid_input"


class AmbiguousSeriesError(InvalidInputError):
    """One value was asked for and several tagged series could give it."""

    code = "ambiguous_series"


class TaskAmbiguousError(InvalidInputError):
    """The data do not say whether they are classes or numbers, and the answer would change the result."""

    code = "task_ambiguous"


class MissingDriverError(InvalidInputError):
    """The url's scheme needs a package that is not installed."""

    code = "missing_driver"


class ConflictError(MetricsLakeError):
    """Someone else changed what this call was about to change."""

    code = "conflict"
    retryable = True


class CommitConflictError(ConflictError):
    """Another commit won and the decision behind this one no longer holds: nothing was committed."""

    code = "commit_conflict"


class SnapshotExpired(ConflictError):  # noqa: N818 -- the field's name for it, as in "snapshot expired"
    """Files of a pinned snapshot are gone; other rows are never given in their place."""

    code = "snapshot_expired"
    retryable = False


class StorageError(MetricsLakeError):
    """The store, the network or the local disk refused or failed."""

    code = "storage"
    retryable = True


class ObjectNotFoundError(StorageError):
    """One object that a listing or the log named is not in the store."""

    code = "object_not_found"
    retryable = False


class BucketNotFoundError(StorageError):
    """The bucket or container that the url names does not exist."""

    code = "bucket_not_found"
    retryable = False


class PermissionDeniedError(StorageError):
    """The store refused these credentials."""

    code = "permission_denied"
    retryable = False


class RequestRefusedError(StorageError):
    """The store does not accept such a request: wrong region, endpoint, name or option."""

    code = "request_refused"
    retryable = False


class JournalError(StorageError):
    """The local journal could not take the point: it was not logged."""

    code = "journal"


class JournalFullError(JournalError):
    """The journal reached its cap or the disk is full: nothing of this call was logged."""

    code = "journal_full"


class NotPublishedError(StorageError):
    """Points are safe in the local journal and have not reached the store."""

    code = "not_published"


class CommitUnknownError(StorageError):
    """The store failed in the middle of a commit: it may have landed, or may still land."""

    code = "commit_unknown"


class FormatError(MetricsLakeError):
    """Bytes in the lake or the journal are not what they should be."""

    code = "format"


class UnsupportedFormatError(FormatError):
    """The lake was written by a newer version of metrics_lake, or uses a feature that this one lacks."""

    code = "unsupported_format"


class CorruptObjectError(FormatError):
    """An object's bytes do not match their checksum or cannot be decoded."""

    code = "corrupt_object"


class QueryError(MetricsLakeError):
    """A query could not be computed: mostly, it needs more memory than it may have."""

    code = "query"


class ClosedError(MetricsLakeError):
    """The handle was closed."""

    code = "closed"


class MetricsLakeWarning(UserWarning):
    """The root of all warnings of this package."""


class GapWarning(MetricsLakeWarning):
    """Rows of a writer are missing from the lake: an object was lost, quarantined or is very late."""
