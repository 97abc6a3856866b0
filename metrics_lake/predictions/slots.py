"""How keys, labels and numbers of any type stand in one fixed schema, and how they come back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions.inference import label_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from metrics_lake.predictions.source import Source

__all__ = ["collected", "frame_of", "key_kind", "key_names", "key_texts", "slots", "unslotted"]

_EXACT_INT: Final = 2**53
_KEY_KINDS: Final = "integers, text, booleans, dates and times"


def key_names(key: Any) -> list[str]:
    """Return the key's columns as a list, having checked that they are names, each once."""
    keys = [key] if isinstance(key, str) else list(key) if isinstance(key, Iterable) else [key]
    if not keys:
        raise InvalidInputError("key is empty.", hint="Pass key='…'.", argument="key")
    if len(set(keys)) < len(keys) or not all(isinstance(name, str) for name in keys):
        raise InvalidInputError(
            f"key={key!r} is no list of different columns.", hint="Pass columns' names.", argument="key"
        )
    return keys


def collected(source: Source, columns: list[str]) -> pl.DataFrame:
    """Return columns of the data in memory."""
    if source.frame is not None:
        return source.frame.select(columns).collect(engine="streaming")
    assert source.batches is not None  # noqa: S101 -- a source has one or the other
    empty = pl.DataFrame(schema={name: source.schema[name] for name in columns})
    return pl.concat([empty, *source.batches(columns)])


def frame_of(rows: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """Return Arrow rows as a frame."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 -- from_arrow of a table: for the type checker
    return frame


def key_kind(dtype: pl.DataType, name: str) -> str:
    """Return what a key's column holds: keys of different kinds are never equal.

    ``null`` is the kind of a column without any value, as of an empty list.
    """
    if dtype == pl.Null:
        return "null"
    if isinstance(dtype, pl.Categorical | pl.Enum) or dtype == pl.String:
        return "str"
    if dtype.is_integer():
        return "int"
    if dtype == pl.Boolean:
        return "bool"
    if dtype == pl.Date:
        return "date"
    if isinstance(dtype, pl.Datetime):
        return "datetime" if dtype.time_zone is None else "datetime with a time zone"
    raise InvalidInputError(
        f"key={name!r} holds {dtype}, which cannot name a row.",
        hint=f"Keys are {_KEY_KINDS}; whole numbers of pandas with gaps are .astype('Int64').",
        argument="key",
    )


def key_texts(frame: pl.DataFrame, keys: Sequence[str], argument: str) -> pl.Series:
    """Return the canonical text of each row's key: JSON, an object of the key's columns in their order.

    Integers and booleans are plain, everything else is a string; times have six decimals, those with a zone
    are in UTC.
    """
    columns = []
    for name in keys:
        column = pl.col(name)
        kind = key_kind(frame.schema[name], name)
        if frame[name].null_count():
            raise InvalidInputError(
                f"{argument}: {frame[name].null_count():,} rows have no {name!r}.",
                hint="Drop them: a key names one prediction.",
                argument="key",
            )
        if kind == "str":
            column = column.cast(pl.String)
        elif kind == "datetime with a time zone":
            column = column.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        elif kind == "datetime":
            column = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
        elif kind == "date":
            column = column.dt.strftime("%Y-%m-%d")
        columns.append(column.alias(name))
    return frame.select(pl.struct(columns).struct.json_encode().alias("key"))["key"]


def slots(frame: pl.DataFrame, name: str | None, what: str) -> list[pl.Series]:
    """Return labels or numbers as the two columns ``{what}_text`` and ``{what}_number``."""
    rows = frame.height
    text = pl.Series(f"{what}_text", [None] * rows if rows else [], pl.String)
    number = pl.Series(f"{what}_number", [None] * rows if rows else [], pl.Float64)
    if name is None:
        return [text, number]
    column = frame[name]
    kind = label_kind(column.dtype)
    if kind == "str":
        return [column.cast(pl.String).alias(f"{what}_text"), number]
    if kind == "int" and rows and column.len() - column.null_count():
        low, high = column.min(), column.max()
        if not (isinstance(low, int) and isinstance(high, int) and -_EXACT_INT <= low <= high <= _EXACT_INT):
            raise InvalidInputError(
                f"{name!r} holds integers beyond 2**53.", hint="Cast them to strings.", argument=what
            )
    return [text, column.cast(pl.Float64).alias(f"{what}_number")]


def unslotted(what: str, kind: str) -> pl.Expr:
    """Return the expression that gives stored labels or numbers back in their type."""
    if kind == "null":
        return pl.lit(None, dtype=pl.Null)
    number = pl.col(f"{what}_number")
    if kind == "str":
        return pl.col(f"{what}_text")
    if kind == "int":
        return number.cast(pl.Int64)
    if kind == "bool":
        return number.cast(pl.Boolean)
    return number
