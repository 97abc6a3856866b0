"""One cell as text: exact in JSON, plain in CSV, short in a table."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any, Final, NamedTuple

from metrics_lake.errors import UnsupportedFormatError
from metrics_lake.printing import printable
from metrics_lake.values import decode, encode

__all__ = ["Logged", "csv_cell", "json_cell", "logged", "table_cell"]

_KIND: Final = "$kind"
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Logged(NamedTuple):
    """A value as the lake stores it."""

    kind: str
    value: float | None
    text: str | None


def logged(value: Any) -> Logged:
    """Return a value that was read from the lake as it is stored."""
    return value if isinstance(value, Logged) else Logged(*encode(value))


# ---- JSON: exact ------------------------------------------------------------------------------------------


def json_cell(value: Any) -> str:
    """Return a value as JSON, exactly.

    Of what was logged, JSON's own types are themselves and all others an object with the key ``$kind``. Other
    cells: instants are ISO 8601 in UTC, decimals are numbers with all their digits, bytes are base64.

    >>> json_cell(Logged("float", 0.1, None)), json_cell(float("nan")), json_cell({"fold": "2"})
    ('0.1', '{"$kind":["float","nan"]}', '{"fold":"2"}')
    """
    if isinstance(value, Logged):
        return _logged_json(value)
    if value is None:
        return "null"
    if type(value) is int:
        return str(value)
    if isinstance(value, str | bool):
        return _dumps(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else _dumps({_KIND: ["float", repr(value)]})
    if isinstance(value, dict):
        return "{" + ",".join(f"{_dumps(str(key))}:{json_cell(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(json_cell, value)) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    return _dumps(_plain_text(value))


def _logged_json(stored: Logged) -> str:
    kind, value, text = stored
    if kind == "float" and value is not None:
        return json_cell(value)
    if kind == "json" and text is not None:
        return text
    if kind in {"bool", "null", "str"} or (kind == "int" and text is None):
        return _dumps(decode(kind, value, text))
    try:
        # In a list the lake writes every kind as JSON; the list's own brackets go.
        whole = encode([decode(kind, value, text)])[2]
    except UnsupportedFormatError:
        whole = None
    return _dumps({_KIND: [kind, value if text is None else text]}) if whole is None else whole[1:-1]


def _plain_text(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return _iso(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def _iso(instant: dt.datetime) -> str:
    if instant.tzinfo is None:
        return instant.isoformat()
    return instant.astimezone(dt.UTC).replace(tzinfo=None).isoformat() + "Z"


# ---- CSV --------------------------------------------------------------------------------------------------


def csv_cell(value: Any) -> str:
    """Return a value as the text of a CSV field: numbers read back the same, NULL is empty."""
    if isinstance(value, Logged):
        if value.kind == "null":
            return ""
        if value.kind == "str" and value.text is not None:
            return value.text
        if value.kind == "float" and value.value is not None:
            return repr(value.value)
        return _logged_json(value)
    if value is None:
        return ""
    if isinstance(value, bool | dict | list | tuple):
        return json_cell(value)
    return repr(value) if isinstance(value, float) else _plain_text(value)


# ---- table ------------------------------------------------------------------------------------------------


def table_cell(value: Any) -> str:
    """Return a value as a person reads it: short, on one line, without anything that moves a cursor."""
    return printable(_table_text(value))


def _table_text(value: Any) -> str:
    if isinstance(value, Logged):
        if value.kind == "str" and value.text is not None:
            return value.text
        is_short = value.kind == "float" and value.value is not None
        return _table_text(value.value) if is_short else _logged_json(value)
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dt.datetime):
        return _iso(value.replace(microsecond=0)).replace("T", " ")
    if isinstance(value, dict):
        return ", ".join(f"{key}={_table_text(each)}" for key, each in value.items())
    return json_cell(value) if isinstance(value, list | tuple) else _plain_text(value)
