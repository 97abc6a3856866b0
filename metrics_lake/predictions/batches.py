"""Frames that come one after the other, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BATCH_ROWS", "Once", "Parts", "rebatch"]

BATCH_ROWS: Final = 1 << 20
"""Rows of one batch of a one-pass source: 10 columns of doubles are 80 MB."""


@dataclass(slots=True)
class Once:
    """The rest of an iterator behind its first frame; a second pass is an error, not an empty result."""

    first: pl.DataFrame
    rest: Iterator[pl.DataFrame]
    is_spent: bool = field(default=False)

    def __call__(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Give the columns of each frame.

        Raises:
            InvalidInputError: The frames were given before, or one has other columns than the first.
        """
        if self.is_spent:
            raise InvalidInputError(
                "predictions came from a reader or generator that was already read to its end.",
                hint="Pass a new reader, or data that can be read twice (a table, a frame, a Parquet file).",
                argument="predictions",
            )
        self.is_spent = True
        schema = self.first.schema
        yield self.first.select(columns)
        while (batch := next(self.rest, None)) is not None:
            yield _same_schema(batch, schema).select(columns)


class Parts:
    """Rows that come part by part, once: where one pass is enough, they stand for a frame."""

    def __init__(self, frames: Iterator[pl.DataFrame]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self._frames

    def with_columns(self, *columns: pl.Expr) -> Parts:
        """Return the parts with more columns."""
        return Parts(frame.with_columns(*columns) for frame in self._frames)


def rebatch(batches: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Give the same rows in frames of about ``rows`` rows; small batches are joined, large ones cut."""
    held: list[pl.DataFrame] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.height
        if count >= rows:
            joined = pl.concat(held) if len(held) > 1 else held[0]
            full = count - count % rows
            for start in range(0, full, rows):
                yield joined.slice(start, rows)
            held, count = ([joined.slice(full)], count - full) if full < count else ([], 0)
    if held:
        yield pl.concat(held)


def _same_schema(batch: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return the batch with the first batch's types; a null column takes the other's type."""
    if batch.schema == schema:
        return batch
    missing = [name for name in schema.names() if name not in batch.schema]
    if missing:
        raise InvalidInputError(
            f"A later batch of predictions lacks the column {missing[0]!r}.",
            hint="Give every batch the columns of the first.",
            argument="predictions",
            column=missing[0],
        )
    columns = []
    for name, dtype in schema.items():
        column = batch[name]
        fitted = _fitted(column, dtype)
        if fitted is None:
            raise InvalidInputError(
                f"A later batch of predictions has {column.dtype} in the column {name!r}, which does not fit "
                f"the {dtype} of the first.",
                hint="Give every batch the columns and types of the first.",
                argument="predictions",
                column=name,
            )
        columns.append(fitted)
    return pl.DataFrame(columns)


def _fitted(column: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Return a column as another type, or None where that would change a value."""
    if column.dtype == dtype or column.null_count() == len(column):
        return column.cast(dtype)
    kinds = (pl.String, pl.Categorical, pl.Enum)
    is_alike = (
        (column.dtype.is_numeric() and dtype.is_numeric())
        or (isinstance(column.dtype, kinds) and isinstance(dtype, kinds))
        or (isinstance(dtype, pl.Datetime) and isinstance(column.dtype, pl.Datetime | pl.Date))
    )
    if not is_alike:
        return None
    try:
        fitted = column.cast(dtype)
        same = fitted.cast(column.dtype).eq_missing(column).all()
    except pl.exceptions.PolarsError:
        return None
    return fitted if same else None
