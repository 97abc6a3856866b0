"""Many values at once: the columns of ``log_series`` and the tables of ``append``."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from metrics_lake.errors import InvalidInputError
from metrics_lake.points.arguments import checked_step, checked_timestamp
from metrics_lake.values import KINDS

__all__ = ["Numbers", "int64_column", "numbers_of", "timestamp_column", "values_of"]

_EXACT_INT: Final = 2**53
_NUMPY_NUMBERS: Final = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
    | {"float16", "float32", "float64"}
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Values of one kind whose doubles are exact.

    Attributes:
        kind: The code of their kind.
        data: Float64 numbers, little endian.
    """

    kind: int
    data: bytes | memoryview


def numbers_of(values: Any) -> Numbers | None:
    """Return values as numbers of one kind, or None where each needs to be looked at by itself.

    Args:
        values: A list, a tuple, or a one-dimensional numpy array.
    """
    if type(values) in {list, tuple}:
        return _of_python(values)
    if sys.byteorder == "little" and type(values).__module__ == "numpy" and hasattr(values, "dtype"):
        return _of_numpy(values)
    return None


def _of_python(values: Sequence[Any]) -> Numbers | None:
    kinds = set(map(type, values))
    if kinds == {float}:
        kind = "float"
    elif kinds == {bool}:
        kind = "bool"
    elif kinds == {int} and min(values) >= -_EXACT_INT and max(values) <= _EXACT_INT:
        kind = "int"
    else:
        return None
    data = array("d", values)
    if sys.byteorder == "big":
        data.byteswap()
    return Numbers(KINDS.index(kind), memoryview(data).cast("B"))


def _of_numpy(values: Any) -> Numbers | None:
    if values.ndim != 1 or values.dtype.name not in _NUMPY_NUMBERS or not len(values):
        return None
    if values.dtype.kind in "iu" and (values.min() < -_EXACT_INT or values.max() > _EXACT_INT):
        return None
    return Numbers(KINDS.index(f"np.{values.dtype.name}"), values.astype("<f8").tobytes())


def values_of(values: Any, argument: str) -> Sequence[Any]:
    """Return a column of values as a sequence whose items are what ``log_metric`` would be given.

    Args:
        values: A list, a tuple, a numpy array, an Arrow or Polars or pandas column, a tensor, any iterable.
        argument: Its name, for messages.

    Raises:
        InvalidInputError: It is not one-dimensional or not a column.
    """
    # A set has no order, and of a mapping nobody could say whether its keys or its values were meant.
    is_column = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping | Set)
    if not is_column:
        raise InvalidInputError(
            f"{argument} is of type {type(values).__name__}.",
            hint="Pass a list or a one-dimensional array.",
            argument=argument,
        )
    dimensions = getattr(values, "ndim", 1)
    if dimensions != 1:
        raise InvalidInputError(
            f"{argument} has {dimensions} dimensions.", hint="Pass one dimension.", argument=argument
        )
    if isinstance(values, list | tuple) or type(values).__module__ == "numpy":
        column: Sequence[Any] = values  # numpy's array is a sequence in all that matters here
        return column
    for name in ("to_pylist", "to_list", "tolist"):
        as_list = getattr(values, name, None)
        if callable(as_list):
            items: list[Any] = as_list()
            return items
    return list(values)


def int64_column(values: Any, rows: int, argument: str) -> bytes | memoryview:
    """Return steps as int64 numbers, little endian.

    Raises:
        InvalidInputError: There are more or fewer than ``rows``, or one is no step.
    """
    if isinstance(values, range):
        _check_length(len(values), rows, argument)
        return _packed(values, argument)
    items: Any = values_of(values, argument)
    _check_length(len(items), rows, argument)
    if not rows:
        return b""
    if type(items).__module__ == "numpy" and getattr(items, "dtype", None) is not None:
        kind = items.dtype.kind
        if kind == "i" or (kind == "u" and int(items.max()) < 2**63):
            return bytes(items.astype("<i8").tobytes())
    if set(map(type, items)) != {int}:
        items = [_present(checked_step(item), argument) for item in items]
    return _packed(items, argument)


def timestamp_column(values: Any, rows: int) -> bytes | memoryview:
    """Return instants as microseconds since 1970, int64, little endian.

    Raises:
        InvalidInputError: There are more or fewer than ``rows``, or one is no instant.
    """
    items = values_of(values, "timestamps")
    _check_length(len(items), rows, "timestamps")
    return _packed([checked_timestamp(_present(item, "timestamps")) for item in items], "timestamps")


def _present(item: Any, argument: str) -> Any:
    if item is None:
        raise InvalidInputError(
            f"{argument} holds a null.", hint=f"Give one a value, or leave {argument} out.", argument=argument
        )
    return item


def _check_length(given: int, rows: int, argument: str) -> None:
    if given != rows:
        raise InvalidInputError(
            f"there are {rows:,} values and {given:,} {argument}.",
            hint="Pass one a value.",
            argument=argument,
        )


def _packed(items: Sequence[int], argument: str) -> memoryview:
    try:
        data = array("q", items)
    except OverflowError as error:
        raise InvalidInputError(
            f"{argument} holds a number that does not fit in 64 bits.", argument=argument
        ) from error
    if sys.byteorder == "big":
        data.byteswap()
    return memoryview(data).cast("B")
