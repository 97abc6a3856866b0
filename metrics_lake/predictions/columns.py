"""One column of Arrow, pandas, numpy, torch or Python values as a Polars Series.

numpy, pandas and torch are never imported: an object of theirs cannot exist before they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

__all__ = [
    "array_of_tensor",
    "check_names",
    "column_of_values",
    "frame_of_arrow",
    "frame_of_column",
    "is_one_row",
    "is_pandas",
    "loaded",
    "mixed_types",
    "numpy_column",
    "pandas_column",
    "type_name",
]


def frame_of_arrow(data: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """Return an Arrow table or batch as a frame, without a copy where the types allow.

    Raises:
        InvalidInputError: Two columns have one name, or Polars does not know a column's type.
    """
    check_names(data.schema.names)
    try:
        if any(pa.types.is_decimal256(field.type) for field in data.schema):
            data = _narrowed(data)
        frame = pl.from_arrow(data)
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        kinds = ", ".join(f"{field.name!r} of {field.type}" for field in data.schema)
        raise InvalidInputError(
            f"Arrow columns cannot be read: {str(error).splitlines()[0]}. They are {kinds}.",
            hint="Cast the column to numbers, booleans or strings, or leave it out.",
        ) from error
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 -- from_arrow of a table: for the type checker
    return frame


def _narrowed(data: Any) -> Any:
    """Return Arrow rows with wide decimals as doubles: Polars panics at the sight of them."""
    for place, field in enumerate(data.schema):
        if pa.types.is_decimal256(field.type):
            data = data.set_column(place, field.name, data.column(place).cast(pa.float64()))
    return data


def check_names(names: Iterable[Any], argument: str = "predictions") -> None:
    """Check that columns have different names as text.

    Raises:
        InvalidInputError: Two have the same.
    """
    seen: set[str] = set()
    for name in map(str, names):
        if name in seen:
            raise InvalidInputError(
                f"{argument}: two columns are called {name!r}.",
                hint="Rename one of them, or leave it out.",
                argument=argument,
                column=name,
            )
        seen.add(name)


def frame_of_column(data: Any, name: str) -> pl.DataFrame:
    """Return an Arrow array as a frame of one column."""
    return frame_of_arrow(pa.table({name: data}))


def loaded(name: str) -> ModuleType | None:
    """Return a module if the process has imported it."""
    return sys.modules.get(name)


def is_pandas(data: Any) -> bool:
    """Return whether an object is one of pandas."""
    return type(data).__module__.split(".")[0] == "pandas"


def array_of_tensor(tensor: Any) -> Any:
    """Return a torch tensor as a numpy array; only the half-width floats change type, integers never."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) in {"torch.bfloat16", "torch.float16"}:
        tensor = tensor.float()
    return tensor.numpy()


def pandas_column(series: Any, name: str, argument: str) -> pl.Series:
    """Return a pandas Series or Index as a Polars one; a float NaN stays NaN, so that it is counted so."""
    numpy = loaded("numpy")
    dtype = series.dtype
    is_sparse = hasattr(dtype, "subtype") and hasattr(dtype, "fill_value")
    if numpy is not None and (is_sparse or (isinstance(dtype, numpy.dtype) and dtype.kind in "fiub")):
        return numpy_column(series.to_numpy(), name, argument)
    try:
        return frame_of_column(_plain(pa.array(series, from_pandas=True)), name).to_series()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        if str(dtype) == "object":
            raise mixed_types(name, list(series)) from error
        raise InvalidInputError(
            f"{argument}: column {name!r} of type {dtype} cannot be read: {error}.",
            hint="Convert the column to numbers, booleans or strings.",
            argument=argument,
            column=name,
        ) from error


def _plain(array: Any) -> Any:
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def numpy_column(array: Any, name: str, argument: str) -> pl.Series:
    """Return a one-dimensional array as a Series; masked values are NULL.

    Raises:
        InvalidInputError: Its type holds no predictions.
    """
    numpy = loaded("numpy")
    kind = array.dtype.kind
    if kind == "M":  # for time=; no prediction is one
        return pl.Series(name, array.astype("M8[us]"))
    if kind in "cVm":
        raise InvalidInputError(
            f"{argument}: an array of {array.dtype} holds no predictions.",
            hint="Pass numbers, booleans or strings.",
            argument=argument,
        )
    if kind in "OUS" or numpy is None:
        return column_of_values(name, array.tolist())
    mask = getattr(array, "mask", None)
    plain = array.data if mask is not None else array
    if array.dtype.itemsize > 8:
        plain = plain.astype("float64")
    elif array.dtype == "float16":
        plain = plain.astype("float32")
    plain = numpy.ascontiguousarray(plain, dtype=plain.dtype.newbyteorder("="))
    series = pl.Series(name, plain)
    if mask is None or mask is False or not numpy.any(mask):
        return series
    hidden = pl.Series(numpy.broadcast_to(mask, plain.shape).copy())
    return pl.select(pl.when(hidden).then(None).otherwise(series).alias(name)).to_series()


def column_of_values(name: str, values: Sequence[Any]) -> pl.Series:
    """Return Python values as a Series of one type: booleans, integers, floats or strings."""
    plain = [
        value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
        for value in values
    ]
    kinds = {type(value) for value in plain if value is not None}
    if any(kind.__name__ in _PANDAS_NULLS and kind.__module__.startswith("pandas.") for kind in kinds):
        plain = [None if type(value).__name__ in _PANDAS_NULLS else value for value in plain]
        kinds = {type(value) for value in plain if value is not None}
    if not kinds:
        return pl.Series(name, plain, dtype=pl.Null)
    if kinds == {bool}:
        return pl.Series(name, plain, dtype=pl.Boolean)
    if bool not in kinds and all(issubclass(kind, (int, float, Decimal)) for kind in kinds):
        if kinds == {int}:
            try:
                return pl.Series(name, plain, dtype=pl.Int64)
            except (OverflowError, TypeError) as error:
                raise InvalidInputError(
                    f"Column {name!r} holds an integer that does not fit 64 bits.",
                    hint="Pass such ids as strings.",
                    column=name,
                ) from error
        return pl.Series(name, [None if value is None else float(value) for value in plain], dtype=pl.Float64)
    if all(issubclass(kind, str) for kind in kinds):
        return pl.Series(name, [None if value is None else str(value) for value in plain], dtype=pl.String)
    if kinds in ({str, float}, {bool, float}) and not _has_number(plain):
        # pandas writes a missing string or boolean as NaN.
        return pl.Series(name, [None if isinstance(value, float) else value for value in plain])
    if len(kinds) == 1:
        series = pl.Series(name, plain, strict=False)
        if series.dtype != pl.Object:
            return series
    raise mixed_types(name, plain)


_PANDAS_NULLS: Final = ("NAType", "NaTType")


def _has_number(values: Sequence[Any]) -> bool:
    return any(isinstance(value, float) and value == value for value in values)


def is_one_row(item: Any) -> bool:
    """Return whether an item of an iterator is one row, a value or a mapping of values, not a batch."""
    if isinstance(item, Mapping):
        return all(is_one_row(value) and not isinstance(value, Mapping) for value in item.values())
    is_plain = item is None or isinstance(item, (bool, int, float, str, Decimal))
    return is_plain or getattr(item, "shape", None) == ()


def mixed_types(name: str, values: Iterable[Any]) -> InvalidInputError:
    """Return the error for a column that is of no single type, with examples."""
    examples: dict[str, Any] = {}
    for value in values:
        if value is not None:
            examples.setdefault(type(value).__name__, value)
    told = ", ".join(f"{kind} ({value!r})" for kind, value in list(examples.items())[:4])
    return InvalidInputError(
        f"Column {name!r} mixes values of several types or of a type that is no prediction: {told}.",
        hint="Convert the column to one type first: all numbers, all booleans or all strings.",
        column=name,
        types=tuple(examples),
    )


def type_name(value: Any) -> str:
    """Return the name of a value's type for a message."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
