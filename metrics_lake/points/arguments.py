"""What the write methods are given, checked and turned into points: steps, times, nested dicts."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterator, Mapping
from typing import Any, Final

from metrics_lake.errors import InvalidInputError
from metrics_lake.texts import MAX_ID_LENGTH

__all__ = [
    "EARLIEST_MICROS",
    "LATEST_MICROS",
    "checked_step",
    "checked_timestamp",
    "flattened",
    "shortened",
]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_NO_MAPPINGS: Final = frozenset({float, int, bool, str, type(None)})
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
        raise InvalidInputError(f"step {shortened(number)} does not fit in 64 bits.", argument="step")
    return number


def _integral(step: Any) -> int:
    hint = "A step is an int; log a fractional position as a metric of its own, or as a tag."
    # A 0-d array or tensor and a float such as numpy's 2.0 that a loop counter became. numpy's times are ints
    # of some unit inside, which is no step.
    is_time = getattr(getattr(step, "dtype", None), "kind", "") in {"m", "M"}
    if hasattr(step, "item") and getattr(step, "ndim", 0) == 0 and not is_time:
        item = step.item()
        if isinstance(item, int) and not isinstance(item, bool):
            return item
        if isinstance(item, float) and item.is_integer():
            return int(item)
        step = item
    raise InvalidInputError(
        f"step is {shortened(step)}, of type {type(step).__name__}.", hint=hint, argument="step"
    )


def shortened(value: Any) -> str:
    """Return a value's text for a message: short, and also where Python refuses to write an int out."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"an int of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def checked_timestamp(timestamp: Any, argument: str = "timestamp") -> int:
    """Return an instant as microseconds since 1970 UTC.

    Args:
        timestamp: An aware datetime, or POSIX seconds as int or float; 1900 to 9999.
        argument: What to call it in errors.

    Raises:
        InvalidInputError: It is naive, out of range (milliseconds are) or something else.
    """
    if not isinstance(timestamp, dt.datetime) and getattr(timestamp, "ndim", None) == 0:
        # A number of numpy's or a tensor's; numpy's datetime64 has no time zone whatever its unit.
        is_numpy_time = getattr(getattr(timestamp, "dtype", None), "kind", "") == "M"
        timestamp = timestamp.astype("M8[us]").item() if is_numpy_time else timestamp.item()
    if isinstance(timestamp, dt.datetime):
        if timestamp.tzinfo is None or timestamp.utcoffset() is None:
            raise InvalidInputError(
                f"{argument} {timestamp.isoformat()} has no time zone.",
                hint=f"Say which: {argument}.replace(tzinfo=datetime.timezone.utc), or "
                f"{argument}.astimezone() for this machine's.",
                argument=argument,
            )
        micros = int((timestamp - _EPOCH) // _MICROSECOND)
    else:
        if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
            raise InvalidInputError(
                f"{argument} is {shortened(timestamp)}, of type {type(timestamp).__name__}.",
                hint="Pass an aware datetime or POSIX seconds.",
                argument=argument,
            )
        if not abs(timestamp) < 1e18:  # also refuses NaN
            raise _out_of_range(timestamp, argument)
        micros = int(timestamp) * 1_000_000 if isinstance(timestamp, int) else round(timestamp * 1e6)
    if not EARLIEST_MICROS <= micros <= LATEST_MICROS:
        raise _out_of_range(timestamp, argument)
    return micros


def _out_of_range(timestamp: Any, argument: str) -> InvalidInputError:
    hint = "Pass POSIX seconds between the years 1900 and 9999."
    is_number = isinstance(timestamp, int | float) and abs(timestamp) < 1e18
    if is_number and EARLIEST_MICROS <= timestamp * 1000 <= LATEST_MICROS:
        hint = f"It looks like milliseconds: pass seconds, {timestamp / 1000!r}."
    return InvalidInputError(
        f"{argument} {shortened(timestamp)} is out of range.", hint=hint, argument=argument
    )


def flattened(metrics: Any, separator: Any, argument: str = "metrics") -> dict[str, Any]:
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
    if type(metrics) is dict and all(
        type(name) is str and name and type(value) in _NO_MAPPINGS for name, value in metrics.items()
    ):
        return dict(metrics)
    flat: dict[str, Any] = {}
    for name, value in _leaves(metrics, separator, argument):
        if name in flat:
            raise InvalidInputError(
                f"two entries of {argument} have the id {name!r}.",
                hint="Rename one of them, or choose another separator.",
                argument=argument,
            )
        flat[name] = value
    return flat


def _leaves(metrics: Mapping[Any, Any], separator: str | None, argument: str) -> Iterator[tuple[str, Any]]:
    # Without recursion: nothing is too deep but what no id could say.
    path: list[str] = []
    above = [id(metrics)]
    levels = [iter(metrics.items())]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            above.pop()
            if path:
                path.pop()
            continue
        key, value = entry
        if not isinstance(key, str) or not key:
            where = f" under {(separator or '').join(path)[:80]!r}" if path else ""
            raise InvalidInputError(
                f"a key of {argument}{where} is {shortened(key)}, of type {type(key).__name__}.",
                hint="Metric ids are non-empty strings.",
                argument=argument,
            )
        # The question whether something is a mapping costs as much as all the rest.
        if separator is None or type(value) in _NO_MAPPINGS or not isinstance(value, Mapping):
            yield (key if not path or separator is None else separator.join((*path, key))), value
            continue
        path.append(key)
        if id(value) in above:
            raise InvalidInputError(
                f"{argument} contains itself under {separator.join(path)[:80]!r}.", argument=argument
            )
        if len(path) > MAX_ID_LENGTH:
            raise InvalidInputError(
                f"{argument} is nested in more than {MAX_ID_LENGTH:,} levels.",
                hint=f"An id has at most {MAX_ID_LENGTH:,} characters.",
                argument=argument,
            )
        above.append(id(value))
        levels.append(iter(value.items()))
