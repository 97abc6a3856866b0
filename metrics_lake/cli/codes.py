"""The exit codes of the console script."""

from __future__ import annotations

from typing import Final

from metrics_lake.errors import (
    FormatError,
    InvalidInputError,
    MetricsLakeError,
    MissingDriverError,
    NotFoundError,
    ObjectNotFoundError,
    SnapshotExpired,
    UnsupportedFormatError,
)

__all__ = ["FAILURE", "INTEGRITY", "NOT_FOUND", "STOPPED", "USAGE", "code_of"]

FAILURE: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
INTEGRITY: Final = 4
STOPPED: Final = 130

_CODES: Final[tuple[tuple[type[MetricsLakeError], int], ...]] = (
    (MissingDriverError, FAILURE),
    (InvalidInputError, USAGE),
    (NotFoundError, NOT_FOUND),
    (UnsupportedFormatError, FAILURE),
    (FormatError, INTEGRITY),
    (ObjectNotFoundError, INTEGRITY),
)
"""The first class that an error is of decides; every other error is a failure."""


def code_of(error: MetricsLakeError, *, is_past: bool = False) -> int:
    """Return how the script exits behind an error.

    Args:
        error: What was raised.
        is_past: A version of the past was asked for. Files of it may be gone; those of now may not.
    """
    if isinstance(error, SnapshotExpired):
        return NOT_FOUND if is_past else INTEGRITY
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILURE)
