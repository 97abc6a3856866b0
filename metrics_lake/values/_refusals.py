"""What to say about values that cannot be stored exactly."""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Mapping
from typing import Any

from metrics_lake.errors import InvalidInputError

__all__ = ["check_text", "refused"]

_BY_MODULE = {
    "pandas": "Pass value.to_pydatetime(), value.to_list() or None for a missing value; "
    "a whole column goes to log_series, a whole table to append.",
    "polars": "Pass value.to_list(); a whole column goes to log_series, a whole table to append.",
    "pyarrow": "Pass value.as_py() or value.to_pylist(); a whole table goes to append.",
    "fractions": "Pass float(value), or str(value) for the exact fraction.",
}
_BY_BASE: tuple[tuple[type, str], ...] = (
    (enum.Enum, "Pass value.value or value.name."),
    (str, "Pass str(value)."),
    (bytes, "Pass bytes(value)."),
    (bytearray, "Pass bytes(value)."),
    (memoryview, "Pass bytes(value)."),
    (float, "Pass float(value)."),
    (int, "Pass int(value)."),
    (complex, "Pass complex(value)."),
    (Mapping, "Pass dict(value)."),
    (list, "Pass list(value)."),
    (set, "Pass set(value)."),
    (frozenset, "Pass frozenset(value)."),
    (range, "Pass list(value)."),
    (os.PathLike, "Pass str(value)."),
)
_GENERAL = "Pass a number, a str, or lists and dicts of these."


def refused(value: Any) -> InvalidInputError:
    """Return the error for a value of a type that has no exact form here."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return InvalidInputError(
        f"A value of type {name} cannot be stored exactly.", hint=_hint(value), value_type=name
    )


def _hint(value: Any) -> str:
    if isinstance(value, type):
        return "This is a class; pass an instance or its name."
    package = type(value).__module__.partition(".")[0]
    if package == "numpy":
        return "Pass value.tolist(), or np.asarray(value) of a numeric dtype."
    if package in _BY_MODULE:
        return _BY_MODULE[package]
    if dataclasses.is_dataclass(value):
        return "Pass dataclasses.asdict(value)."
    if isinstance(value, tuple):
        return "Pass value._asdict() or tuple(value)." if hasattr(value, "_asdict") else "Pass tuple(value)."
    for base, hint in _BY_BASE:
        if isinstance(value, base):
            return hint
    if _has_dimensions(value):
        return (
            "It has dimensions: pass value.tolist() or an array of numpy, value.item() for a single element, "
            "or log its elements with log_series."
        )
    return _GENERAL


def _has_dimensions(value: Any) -> bool:
    dimensions = getattr(value, "ndim", None)
    return isinstance(dimensions, int) and dimensions > 0


def check_text(text: str) -> str:
    """Return the text if it is Unicode that UTF-8 can carry.

    Raises:
        InvalidInputError: It holds a lone surrogate.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"The text holds a lone surrogate at position {error.start}, which UTF-8 cannot carry.",
                hint='Pass text.encode("utf-8", "replace").decode(), or bytes.',
                position=error.start,
            ) from error
    return text
