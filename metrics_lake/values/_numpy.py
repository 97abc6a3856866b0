"""numpy's scalars and arrays; numpy is imported only for a value that comes from it, or is to become one."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from metrics_lake.errors import UnsupportedFormatError
from metrics_lake.values._refusals import check_text, refused
from metrics_lake.values._scalars import Encoded, Encoder, float_node, int_columns

__all__ = [
    "FLOAT_KINDS",
    "INT_KINDS",
    "NUMPY_KINDS",
    "array_from_tree",
    "array_tree",
    "decode",
    "encoders",
    "is_array",
    "item",
]

INT_KINDS: Final = (
    *("np.int8", "np.int16", "np.int32", "np.int64", "np.uint8", "np.uint16", "np.uint32", "np.uint64"),
    *("np.longlong", "np.ulonglong"),
)
FLOAT_KINDS: Final = ("np.float16", "np.float32", "np.float64")
NUMPY_KINDS: Final = (
    *("np.bool", *INT_KINDS, *FLOAT_KINDS, "np.longdouble"),
    *("np.complex64", "np.complex128", "np.clongdouble"),
    *("np.str", "np.bytes", "np.datetime64", "np.timedelta64"),
)
"""The scalars; ``np.ndarray`` is apart because its text is JSON."""

_NAMES: Final = {"np.bool": "bool_", "np.str": "str_", "np.bytes": "bytes_"}
_COUNTED: Final = re.compile(r"(-?\d+)\[(\w+)\]")


def _numpy(kind: str) -> Any:
    try:
        import numpy as np
    except ModuleNotFoundError as error:
        raise UnsupportedFormatError(
            f"A value of kind {kind} needs numpy to be read.", hint="pip install numpy", kind=kind
        ) from error
    return np


def encoders() -> dict[type, Encoder]:
    """Return the encoder of every scalar type of the numpy that is installed."""
    np = _numpy("np.float64")
    table: dict[type, Encoder] = {}
    # Reversed, because np.longlong is np.int64 on some platforms and the plain name shall win there.
    for kind in reversed(NUMPY_KINDS):
        table[getattr(np, _NAMES.get(kind, kind.removeprefix("np.")))] = _encoder(kind)
    return table


def _encoder(kind: str) -> Encoder:
    if kind in FLOAT_KINDS:
        return lambda value: (kind, float(value), None)
    if kind in INT_KINDS:
        return lambda value: (kind, *int_columns(int(value)))
    special: dict[str, Encoder] = {
        "np.bool": lambda value: (kind, 1.0 if value else 0.0, None),
        "np.longdouble": _encode_longdouble,
        "np.complex64": lambda value: (kind, None, repr(complex(value))),
        "np.complex128": lambda value: (kind, None, repr(complex(value))),
        "np.clongdouble": lambda value: (kind, None, f"{value.real!s} {value.imag!s}"),
        "np.str": lambda value: (kind, None, check_text(str(value))),
        "np.bytes": lambda value: (kind, None, base64.b64encode(bytes(value)).decode("ascii")),
        "np.datetime64": lambda value: (kind, None, _counted(value)),
        "np.timedelta64": lambda value: (kind, None, _counted(value)),
    }
    return special[kind]


def _encode_longdouble(value: Any) -> Encoded:
    number = float(value)
    is_beyond_double = number in (float("inf"), float("-inf")) and number != value
    return "np.longdouble", None if is_beyond_double else number, str(value)


def _counted(value: Any) -> str:
    """Return a datetime64 or timedelta64 as its count of units: exact for every unit, also for NaT."""
    unit = value.dtype.str[3:] or "[generic]"
    return f"{int(value.view('i8'))}{unit}"


def decode(kind: str, value: float | None, text: str | None) -> Any:
    """Return the numpy scalar of a kind."""
    np = _numpy(kind)
    scalar = getattr(np, _NAMES.get(kind, kind.removeprefix("np.")))
    if text is None:
        if value is None:
            raise ValueError("value and text are NULL")
        return scalar(int(value)) if kind in INT_KINDS else scalar(value)
    if kind in INT_KINDS:
        return scalar(int(text, 0))
    if kind in {"np.complex64", "np.complex128"}:
        return scalar(complex(text))
    if kind in {"np.datetime64", "np.timedelta64"}:
        found = _COUNTED.fullmatch(text)
        if found is None:
            raise ValueError(text)
        code = "m8" if kind == "np.timedelta64" else "M8"
        unit = "" if found[2] == "generic" else f"[{found[2]}]"
        return np.array([int(found[1])], "i8").view(code + unit)[0]
    if kind == "np.longdouble":
        return _longdouble(np, text)
    if kind == "np.clongdouble":
        real, imaginary = text.split(" ")
        parts = np.array([_longdouble(np, real), _longdouble(np, imaginary)], np.longdouble)
        return parts.view(np.clongdouble)[0]
    return scalar(base64.b64decode(text, validate=True) if kind == "np.bytes" else text)


def _longdouble(np: Any, text: str) -> Any:
    number = np.longdouble(text)
    if str(number) != text:
        raise UnsupportedFormatError(
            f"The long double {text} has more digits than this machine's type.",
            hint="Read it on the kind of machine that wrote it, or take the text column.",
            kind="np.longdouble",
        )
    return number


def is_array(value: Any) -> bool:
    """Say whether a value is exactly an ``np.ndarray``."""
    return type(value).__module__ == "numpy" and type(value).__name__ == "ndarray"


def item(array: Any) -> Any:
    """Return the scalar in an array without dimensions, as Python's type where that is as exact."""
    if array.dtype.kind == "V":
        raise refused(array)
    # .item() of a datetime64[ns] is an int.
    return array[()] if array.dtype.kind in "mM" else array.item()


def array_tree(array: Any) -> dict[str, Any]:
    """Return what an array is as ``dtype``, ``shape`` and nested ``values``, or ``base64`` of its bytes.

    Raises:
        InvalidInputError: The dtype holds objects or fields, or is not numpy's own.
    """
    np = _numpy("np.ndarray")
    kind = array.dtype.kind
    if kind not in "biufcmMSU" or np.dtype(array.dtype.str) != array.dtype:
        raise refused(array)
    tree: dict[str, Any] = {"dtype": array.dtype.str, "shape": list(array.shape)}
    if kind in "biuf" and array.dtype.itemsize <= 8:
        values = array.tolist()
        is_plain = kind != "f" or bool(np.isfinite(array).all())
        tree["values"] = values if is_plain else _float_nodes(values)
    else:
        tree["base64"] = base64.b64encode(array.tobytes()).decode("ascii")
    return tree


def _float_nodes(values: Any) -> Any:
    return [_float_nodes(each) for each in values] if isinstance(values, list) else float_node(values)


def array_from_tree(tree: dict[str, Any]) -> Any:
    """Return a new array in C order from what ``array_tree`` gave."""
    np = _numpy("np.ndarray")
    dtype = np.dtype(tree["dtype"])
    if "values" in tree:
        return np.array(tree["values"], dtype).reshape(tree["shape"])
    return np.frombuffer(base64.b64decode(tree["base64"], validate=True), dtype).reshape(tree["shape"]).copy()
