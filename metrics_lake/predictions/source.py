"""Prediction data as the rest of the package reads them.

A :class:`Source` is either *replayable* (a LazyFrame that can be scanned again: frames, tables, files) or
*one pass* (readers, generators, streams: batches that come once, so that memory stays bounded by a batch).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions.columns import mixed_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Source", "in_memory", "readable"]


@dataclass(frozen=True, slots=True)
class Source:
    """Prediction data that can be scanned.

    Attributes:
        schema: The columns and their Polars types.
        frame: The rows, where they can be scanned again and again; None for a one-pass source.
        batches: Gives the rows once, in frames of the named columns; None for a replayable source.
        is_bare: True where the data had no column names of their own (a series, an array, a list).
        is_matrix: True where the data were two-dimensional: one column a class.
        is_remote: True where scanning again would download again.
        is_local_memory: True where the rows are in this process's memory already.
        has_cheap_slices: True where any range of rows can be read by itself at no cost of the others.
        num_rows: How many rows there are, where that costs nothing to know.
    """

    schema: pl.Schema
    frame: pl.LazyFrame | None = None
    batches: Callable[[Sequence[str]], Iterator[pl.DataFrame]] | None = None
    is_bare: bool = False
    is_matrix: bool = False
    is_remote: bool = False
    is_local_memory: bool = False
    has_cheap_slices: bool = False
    num_rows: int | None = None


def in_memory(frame: pl.DataFrame, *, is_bare: bool = False, is_matrix: bool = False) -> Source:
    """Return a frame as a :class:`Source`.

    Raises:
        InvalidInputError: A column mixes types.
    """
    for column in frame:
        if column.dtype == pl.Object:
            raise mixed_types(column.name, column.to_list())
    return Source(
        frame.schema,
        frame.lazy(),
        is_bare=is_bare,
        is_matrix=is_matrix,
        is_local_memory=True,
        has_cheap_slices=True,
        num_rows=frame.height,
    )


@contextmanager
def readable(argument: str = "predictions") -> Iterator[None]:
    """Tell of data that Polars cannot read or compute by the argument that they are.

    Raises:
        InvalidInputError: A lazy plan failed, or a file is missing or broken.
    """
    try:
        yield
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise InvalidInputError(
            f"{argument} cannot be read: {str(error).splitlines()[0]}.",
            hint="Mend the lazy plan or the files: collect() shows the same failure with its plan.",
            argument=argument,
        ) from error
