"""Python's own scalars: how each kind is written and read."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from metrics_lake.errors import InvalidInputError, UnsupportedFormatError
from metrics_lake.values._refusals import check_text

__all__ = [
    "DECIMAL_BITS",
    "DECODERS",
    "ENCODERS",
    "TAG",
    "Decoder",
    "Encoded",
    "Encoder",
    "float_node",
    "int_columns",
    "int_text",
    "not_null",
]

Encoded = tuple[str, float | None, str | None]
Encoder = Callable[[Any], Encoded]
Decoder = Callable[[float | None, str | None], Any]

_EXACT: Final = 2**53
DECIMAL_BITS: Final = 2048
"""Longer ints are written in hexadecimal: Python limits decimal conversions, to no less than 640 digits."""

TAG: Final = "$kind"
"""The key of what JSON lacks."""

_TIMEDELTA: Final = re.compile(r"(-?\d+) days (\d+)\.(\d{6}) seconds")
_ZONED: Final = re.compile(r"(?P<iso>[^\[]+)(?:\[(?P<zone>[^\]=]+)\])?(?P<fold>\[fold=1\])?")


def float_node(value: float) -> Any:
    """Return a float as JSON: itself, or tagged where JSON has no number for it."""
    return value if value - value == 0.0 else {TAG: ["float", repr(value)]}


def int_text(value: int) -> str:
    """Return the digits of an int of any size; ``int(text, 0)`` reads them back."""
    return str(value) if value.bit_length() <= DECIMAL_BITS else hex(value)


def int_columns(value: int) -> tuple[float | None, str | None]:
    """Return the numeric view and the text of an int of any size."""
    if -_EXACT <= value <= _EXACT:
        return float(value), None
    try:
        return float(value), int_text(value)
    except OverflowError:
        return None, int_text(value)


def _encode_int(value: int) -> Encoded:
    if -_EXACT <= value <= _EXACT:
        return "int", float(value), None
    return "int", *int_columns(value)


def _encode_decimal(value: Decimal) -> Encoded:
    if value.is_snan():
        return "decimal", None, str(value)
    number = float(value)
    is_beyond_double = value.is_finite() and number in (float("inf"), float("-inf"))
    return "decimal", None if is_beyond_double else number, str(value)


def _zone_suffix(zone: tzinfo | None) -> str:
    """Return what the offset in the ISO form does not say about a time zone.

    Raises:
        InvalidInputError: The zone would not come back as it is.
    """
    if zone is None:
        return ""
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        # fromisoformat (3.11 to 3.13) reads an offset below a second as UTC; no real zone has one.
        if not offset.microseconds and zone.tzname(None) == timezone(offset).tzname(None):
            return ""
    else:
        zoneinfo = sys.modules.get("zoneinfo")
        key = getattr(zone, "key", None)  # None for a zone read from a file
        if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo and key is not None:
            return f"[{key}]"
    raise InvalidInputError(
        f"The time zone {zone!r} cannot be stored exactly.",
        hint="Pass value.astimezone(datetime.timezone.utc), or use zoneinfo.ZoneInfo.",
    )


def _zoned_text(value: datetime | time) -> str:
    return value.isoformat() + _zone_suffix(value.tzinfo) + ("[fold=1]" if value.fold else "")


def _unzoned(text: str) -> tuple[str, dict[str, Any]]:
    """Return the ISO part of a text and what to replace in the value that it gives."""
    found = _ZONED.fullmatch(text)
    if found is None:
        raise ValueError(text)
    changes: dict[str, Any] = {}
    if found["zone"] is not None:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            changes["tzinfo"] = ZoneInfo(found["zone"])
        except ZoneInfoNotFoundError as error:
            raise UnsupportedFormatError(
                f"The time zone {found['zone']!r} is not known on this machine.", hint="pip install tzdata"
            ) from error
    if found["fold"] is not None:
        changes["fold"] = 1
    return found["iso"], changes


def _decode_datetime(_: float | None, text: str | None) -> datetime:
    iso, changes = _unzoned(not_null(text))
    return datetime.fromisoformat(iso).replace(**changes)


def _decode_time(_: float | None, text: str | None) -> time:
    iso, changes = _unzoned(not_null(text))
    return time.fromisoformat(iso).replace(**changes)


def _encode_timedelta(value: timedelta) -> Encoded:
    return "timedelta", None, f"{value.days} days {value.seconds}.{value.microseconds:06d} seconds"


def _decode_timedelta(_: float | None, text: str | None) -> timedelta:
    found = _TIMEDELTA.fullmatch(not_null(text))
    if found is None:
        raise ValueError(text)
    days, seconds, microseconds = map(int, found.groups())
    return timedelta(days, seconds, microseconds)


def not_null(text: str | None) -> str:
    """Return the text of a kind that always has one."""
    if text is None:
        raise ValueError("text is NULL")
    return text


def _number(value: float | None) -> float:
    if value is None:
        raise ValueError("value is NULL")
    return value


def _decode_int(value: float | None, text: str | None) -> int:
    return int(_number(value)) if text is None else int(text, 0)


ENCODERS: dict[type, Encoder] = {
    float: lambda value: ("float", value, None),
    int: _encode_int,
    bool: lambda value: ("bool", 1.0 if value else 0.0, None),
    type(None): lambda _: ("null", None, None),
    str: lambda value: ("str", None, check_text(value)),
    bytes: lambda value: ("bytes", None, base64.b64encode(value).decode("ascii")),
    datetime: lambda value: ("datetime", None, _zoned_text(value)),
    date: lambda value: ("date", None, value.isoformat()),
    time: lambda value: ("time", None, _zoned_text(value)),
    timedelta: _encode_timedelta,
    Decimal: _encode_decimal,
    complex: lambda value: ("complex", None, repr(value)),
    UUID: lambda value: ("uuid", None, str(value)),
}
"""By exact type: a subclass is another type and would not come back as itself."""

DECODERS: dict[str, Decoder] = {
    "float": lambda value, _: float(_number(value)),
    "int": _decode_int,
    "bool": lambda value, _: bool(_number(value)),
    "null": lambda _value, _text: None,
    "str": lambda _, text: not_null(text),
    "bytes": lambda _, text: base64.b64decode(not_null(text), validate=True),
    "datetime": _decode_datetime,
    "date": lambda _, text: date.fromisoformat(not_null(text)),
    "time": _decode_time,
    "timedelta": _decode_timedelta,
    "decimal": lambda _, text: Decimal(not_null(text)),
    "complex": lambda _, text: complex(not_null(text)),
    "uuid": lambda _, text: UUID(not_null(text)),
}
