"""What the write methods are given, checked and turned into points: steps, times, nested dicts."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Final

from metrics_lake.errors import InvalidInputError

__all__ = ["EARLIEST_MICROS", "LATEST_MICROS", "checked_step", "checked_timestamp", "flattened"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
EARLIEST_MICROS: Final = (dt.datetime(1900, 1, 1, tzinfo=dt.UTC) - _EPOCH) // _MICROSECOND
LATEST_MICROS: Final = (dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC) - _EPOCH) // _MICROSECOND


def checked_step(step: Any) -> int | None:
    """Return the step as an int, or None.

    Raises:
        InvalidInputError: It is not an int or an integral numpy number, or does not fit in 64 bits.
    """
    if step is None:
        return None
    if isinstance(step, bool):
        raise InvalidInputError(
            f"step is the bool {step}.", hint="Pass an int, such as the epoch's number.", argument="step"
        )
    try:
        number = operator.index(step)
    except TypeError:
        number = _integral(step)
    if not -(2**63) <= number < 2**63:
        raise InvalidInputError(f"step {number} does not fit in a 64-bit integer.", argument="step")
    return number


def _integral(step: Any) -> int:
    hint = "A step is an int; log a fractional position as a metric of its own, or as a tag."
    # A 0-d array or tensor and a float such as numpy's 2.0 that a loop counter became.
    if type(step).__module__ != "builtins" and hasattr(step, "item") and getattr(step, "ndim", 0) == 0:
        item = step.item()
        if isinstance(item, int) and not isinstance(item, bool):
            return item
        if isinstance(item, float) and item.is_integer():
            return int(item)
        step = item
    raise InvalidInputError(f"step is {step!r}, of type {type(step).__name__}.", hint=hint, argument="step")


def checked_timestamp(timestamp: Any) -> int:
    """Return an instant as microseconds since 1970 UTC.

    Args:
        timestamp: An aware datetime, or POSIX seconds as int or float; 1900 to 9999.

    Raises:
        InvalidInputError: It is naive, out of range (milliseconds are) or something else.
    """
    if isinstance(timestamp, dt.datetime):
        if timestamp.tzinfo is None or timestamp.utcoffset() is None:
            raise InvalidInputError(
                f"timestamp {timestamp.isoformat()} has no time zone.",
                hint="Say which: timestamp.replace(tzinfo=datetime.timezone.utc), or "
                "timestamp.astimezone() for this machine's.",
                argument="timestamp",
            )
        micros = (timestamp - _EPOCH) // _MICROSECOND
    else:
        if hasattr(timestamp, "item") and getattr(timestamp, "ndim", 0) == 0:
            timestamp = timestamp.item()
        if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
            raise InvalidInputError(
                f"timestamp is {timestamp!r}, of type {type(timestamp).__name__}.",
                hint="Pass an aware datetime or POSIX seconds.",
                argument="timestamp",
            )
        if not abs(timestamp) < 1e18:  # also refuses NaN
            raise _out_of_range(timestamp)
        micros = timestamp * 1_000_000 if isinstance(timestamp, int) else round(timestamp * 1e6)
    if not EARLIEST_MICROS <= micros <= LATEST_MICROS:
        raise _out_of_range(timestamp)
    return micros


def _out_of_range(timestamp: Any) -> InvalidInputError:
    hint = "Pass POSIX seconds between the years 1900 and 9999."
    if isinstance(timestamp, int | float) and EARLIEST_MICROS <= timestamp * 1000 <= LATEST_MICROS:
        hint = f"It looks like milliseconds: pass seconds, {timestamp / 1000!r}."
    return InvalidInputError(f"timestamp {timestamp!r} is out of range.", hint=hint, argument="timestamp")


def flattened(metrics: Any, separator: str | None, argument: str = "metrics") -> dict[str, Any]:
    """Return nested metrics as one dict from metric ids to values.

    An empty mapping adds nothing. With ``separator=None`` only the first level is taken apart and a dict is
    a value.

    Raises:
        InvalidInputError: It is not a mapping, a key is not a non-empty str, or two paths meet.
    """
    if not isinstance(metrics, Mapping):
        raise InvalidInputError(
            f"{argument} is of type {type(metrics).__name__}.",
            hint="Pass a mapping from metric ids to values, such as {'loss': 0.1}.",
            argument=argument,
        )
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise InvalidInputError(
            f"separator is {separator!r}.",
            hint="Pass a non-empty str, or None to store nested mappings as values.",
            argument="separator",
        )
    flat: dict[str, Any] = {}
    for name, value in _leaves(metrics, separator, (), argument, ()):
        if name in flat:
            raise InvalidInputError(
                f"two entries of {argument} have the id {name!r}.",
                hint="Rename one of them, or choose another separator.",
                argument=argument,
            )
        flat[name] = value
    return flat


def _leaves(
    metrics: Mapping[Any, Any],
    separator: str | None,
    path: tuple[str, ...],
    argument: str,
    above: tuple[int, ...],
) -> Iterator[tuple[str, Any]]:
    if id(metrics) in above:
        raise InvalidInputError(
            f"{argument} contains itself under {(separator or '/').join(path)!r}.", argument=argument
        )
    for key, value in metrics.items():
        if not isinstance(key, str) or not key:
            where = f" under {separator.join(path)!r}" if separator and path else ""
            raise InvalidInputError(
                f"a key of {argument}{where} is {key!r}, of type {type(key).__name__}.",
                hint="Metric ids are non-empty strings.",
                argument=argument,
            )
        if separator is not None and isinstance(value, Mapping):
            yield from _leaves(value, separator, (*path, key), argument, (*above, id(metrics)))
        else:
            yield (key if separator is None else separator.join((*path, key))), value
