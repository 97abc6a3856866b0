"""Every kind of prediction data as one Polars source, without importing the library it came from.

numpy, pandas and torch are looked for in ``sys.modules`` only: an object of theirs cannot exist otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Final

import polars as pl
import pyarrow as pa

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions.batches import Once
from metrics_lake.predictions.columns import (
    array_of_tensor,
    check_names,
    column_of_values,
    frame_of_arrow,
    frame_of_column,
    is_one_row,
    is_pandas,
    loaded,
    mixed_types,
    numpy_column,
    pandas_column,
    type_name,
)
from metrics_lake.predictions.source import Source, in_memory, readable

__all__ = ["adapt", "adapt_column", "is_path"]

_PYTHON_CHUNK: Final = 1 << 16
_SUFFIXES: Final = (".parquet", ".parq", ".pq")

OpenFile = Callable[[str], IO[bytes]]


def adapt(
    data: Any,
    *,
    name: str = "prediction",
    argument: str = "predictions",
    storage_options: Mapping[str, Any] | None = None,
    open_file: OpenFile | None = None,
) -> Source:
    """Return the data as a :class:`Source`; lazy data stay lazy.

    Args:
        data: A Polars DataFrame, LazyFrame or Series; a pyarrow Table, RecordBatch, RecordBatchReader,
            Dataset, Array or ChunkedArray; an object with ``__arrow_c_stream__`` or ``__arrow_c_array__``;
            the path or url of Parquet files (or a list of them); a pandas DataFrame or Series; a numpy
            array of one or two dimensions; a torch tensor; a mapping of columns; a list of values, rows or
            mappings; an iterator of any of these.
        name: The column's name where the data have none.
        argument: The argument to name in errors.
        storage_options: Handed to Polars' own Parquet scan for urls.
        open_file: Opens a url as a seekable binary file where Polars should not do it itself.

    Raises:
        InvalidInputError: The data are of no known kind, or a column mixes types.
    """
    lazy = _polars(data, name, argument)
    if lazy is not None:
        return lazy
    paths = _paths(data)
    if paths is not None:
        return _parquet(paths, storage_options, open_file, argument)
    arrow = _arrow(data, name, argument)
    if arrow is not None:
        return arrow
    foreign = _foreign(data, name, argument)
    if foreign is not None:
        return foreign
    if isinstance(data, Mapping):
        check_names(data, argument)
        columns = {str(key): adapt_column(values, str(key), argument) for key, values in data.items()}
        return in_memory(_frame_of(columns, argument))
    if isinstance(data, (list, tuple, range)):
        return _python_rows(list(data), name, argument)
    if isinstance(data, (bytes, bytearray, set, frozenset)) or not isinstance(data, Iterable):
        raise InvalidInputError(
            f"{argument} is a {type_name(data)}, which holds no column of values.",
            hint="Pass a Series, an array, a list, a frame, an Arrow table or reader, or the path of a "
            "Parquet file.",
            argument=argument,
        )
    return _one_pass(_frames(iter(data), name, argument), name)


def adapt_column(values: Any, name: str, argument: str) -> pl.Series:
    """Return one column's values as a Series.

    Raises:
        InvalidInputError: The values have several columns, come from a one-pass reader, or mix types.
    """
    source = adapt(values, name=name, argument=argument)
    if source.frame is None or len(source.schema) != 1:
        raise InvalidInputError(
            f"{argument} must be one column of values or the name of a column; got {type_name(values)} "
            f"with {len(source.schema)} columns.",
            hint="Pass the column's name, or a Series, an array or a list of one value a row.",
            argument=argument,
        )
    with readable(argument):
        return source.frame.collect().to_series().alias(name)


# -- Polars, files ----------------------------------------------------------------------------------------


def _polars(data: Any, name: str, argument: str) -> Source | None:
    if isinstance(data, pl.DataFrame):
        return in_memory(data)
    if isinstance(data, pl.LazyFrame):
        with readable(argument):
            return Source(data.collect_schema(), data)
    if isinstance(data, pl.Series):
        return in_memory(data.alias(data.name or name).to_frame(), is_bare=True)
    return None


def _paths(data: Any) -> list[str] | None:
    """Return the paths, or None where the data are none: a list of labels must not be read as files."""
    if isinstance(data, (str, os.PathLike)):
        return [os.fspath(data)]
    if isinstance(data, (list, tuple)) and data and all(map(is_path, data)):
        return [os.fspath(item) for item in data]
    return None


def is_path(item: Any) -> bool:
    """Return whether something is, or as a text could be, the path or url of Parquet files."""
    if isinstance(item, str):
        return "://" in item or item.lower().endswith(_SUFFIXES)
    return isinstance(item, os.PathLike)


def _parquet(
    paths: list[str],
    storage_options: Mapping[str, Any] | None,
    open_file: OpenFile | None,
    argument: str,
) -> Source:
    if open_file is not None:
        return _opened(paths, open_file)
    try:
        # Files that grew: a column more, or a wider type, is no other value.
        frame = pl.scan_parquet(
            paths,
            storage_options=None if storage_options is None else dict(storage_options),
            extra_columns="ignore",
            cast_options=pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
        )
        schema = frame.collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidInputError(
            f"{argument}: {paths[0]!r} cannot be read as Parquet: {str(error).splitlines()[0]}.",
            hint="Pass the path or url of Parquet files, or the values themselves.",
            argument=argument,
        ) from error
    is_remote = any("://" in path and not path.startswith("file://") for path in paths)
    return Source(schema, frame, is_remote=is_remote, has_cheap_slices=not is_remote)


def _opened(paths: list[str], open_file: OpenFile) -> Source:
    import pyarrow.parquet as pq

    def batches(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for path in paths:
            with open_file(path) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
                for batch in parquet.iter_batches(_PYTHON_CHUNK * 4, columns=list(columns)):
                    yield frame_of_arrow(batch)

    with open_file(paths[0]) as file, pq.ParquetFile(file) as parquet:
        schema = frame_of_arrow(parquet.schema_arrow.empty_table()).schema
    return Source(schema, batches=batches, is_remote=True)


# -- Arrow ------------------------------------------------------------------------------------------------


def _arrow(data: Any, name: str, argument: str) -> Source | None:
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        return in_memory(frame_of_arrow(data))
    if isinstance(data, (pa.Array, pa.ChunkedArray)):
        return in_memory(frame_of_column(data, name), is_bare=True)
    if isinstance(data, pa.RecordBatchReader):
        return _reader(data, name)
    if type(data).__module__.startswith("pyarrow") and hasattr(data, "scanner"):
        return _dataset(data)
    if is_pandas(data) or not _is_class_with(data, "__arrow_c_stream__", "__arrow_c_array__"):
        return None
    if not hasattr(data, "__arrow_c_stream__"):
        try:
            return in_memory(frame_of_arrow(pa.record_batch(data)))
        except (pa.ArrowInvalid, TypeError, ValueError):
            return in_memory(frame_of_column(pa.array(data), name), is_bare=True)
    try:
        return _reader(pa.RecordBatchReader.from_stream(data), name)
    except (pa.ArrowInvalid, TypeError, ValueError):
        # Not a stream of rows but of one column's values.
        try:
            return in_memory(frame_of_column(pa.chunked_array(data), name), is_bare=True)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{argument}: the Arrow stream of {type_name(data)} cannot be read: {error}.",
                argument=argument,
            ) from error


def _is_class_with(data: Any, *methods: str) -> bool:
    return not isinstance(data, type) and any(hasattr(type(data), method) for method in methods)


def _reader(reader: pa.RecordBatchReader, name: str) -> Source:
    schema = frame_of_arrow(reader.schema.empty_table()).schema
    return _one_pass((frame_of_arrow(batch) for batch in reader), name, schema)


def _dataset(dataset: Any) -> Source:
    def batches(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        # Little read-ahead: Arrow's default of 16 batches in 4 files is what makes its memory grow.
        for batch in dataset.to_batches(
            columns=list(columns), batch_size=_PYTHON_CHUNK * 2, batch_readahead=2, fragment_readahead=1
        ):
            yield frame_of_arrow(batch)

    return Source(frame_of_arrow(dataset.schema.empty_table()).schema, batches=batches)


# -- pandas, numpy, torch ---------------------------------------------------------------------------------


def _foreign(data: Any, name: str, argument: str) -> Source | None:
    if is_pandas(data):
        return _pandas(data, name, argument)
    if hasattr(data, "detach") and hasattr(data, "cpu") and hasattr(data, "dtype"):
        return _foreign(array_of_tensor(data), name, argument)
    numpy = loaded("numpy")
    if numpy is None:
        return None
    if isinstance(data, numpy.ndarray):
        return _numpy(data, name, argument)
    if hasattr(type(data), "__array__") and hasattr(data, "shape"):
        return _numpy(numpy.asarray(data), name, argument)
    return None


def _pandas(data: Any, name: str, argument: str) -> Source:
    if not hasattr(data, "columns"):
        column = str(getattr(data, "name", None) or name)
        return in_memory(pandas_column(data, column, argument).to_frame(), is_bare=True)
    check_names(data.columns, argument)
    return in_memory(pl.DataFrame([pandas_column(data[key], str(key), argument) for key in data.columns]))


def _numpy(array: Any, name: str, argument: str) -> Source:
    if array.ndim == 1:
        return in_memory(numpy_column(array, name, argument).to_frame(), is_bare=True)
    if array.ndim == 2 and array.shape[1] == 1:
        return in_memory(numpy_column(array[:, 0], name, argument).to_frame(), is_bare=True)
    if array.ndim == 2 and array.shape[1] > 1:
        columns = [numpy_column(array[:, i], str(i), argument) for i in range(array.shape[1])]
        return in_memory(pl.DataFrame(columns), is_bare=True, is_matrix=True)
    raise InvalidInputError(
        f"{argument} has the shape {tuple(array.shape)}.",
        hint="Pass one dimension (a value a row) or two (rows x classes).",
        argument=argument,
    )


# -- plain Python -----------------------------------------------------------------------------------------


def _python_rows(rows: list[Any], name: str, argument: str) -> Source:
    first = next((row for row in rows if row is not None), None)
    if isinstance(first, Mapping) and all(row is None or isinstance(row, Mapping) for row in rows):
        keys = list(dict.fromkeys(key for row in rows if row is not None for key in row))
        check_names(keys, argument)
        columns = [
            column_of_values(str(key), [None if row is None else row.get(key) for row in rows])
            for key in keys
        ]
        return in_memory(pl.DataFrame(columns))
    if isinstance(first, (list, tuple)) or len(getattr(first, "shape", ())) == 1:
        if not all(isinstance(row, Iterable) for row in rows):
            raise mixed_types(name, rows)
        table = [list(row) for row in rows]
        widths = {len(row) for row in table}
        if len(widths) != 1:
            raise InvalidInputError(
                f"{argument}: the rows have different lengths ({', '.join(map(str, sorted(widths)))}).",
                hint="Pass one score for each class in every row.",
                argument=argument,
            )
        columns = [column_of_values(str(i), [row[i] for row in table]) for i in range(widths.pop())]
        if len(columns) == 1:
            return in_memory(columns[0].alias(name).to_frame(), is_bare=True)
        return in_memory(pl.DataFrame(columns), is_bare=True, is_matrix=True)
    return in_memory(column_of_values(name, rows).to_frame(), is_bare=True)


def _frames(items: Iterator[Any], name: str, argument: str) -> Iterator[pl.DataFrame]:
    """Give the items of a generator as frames: batches of any kind, or single values in chunks."""
    values: list[Any] = []
    for item in items:
        if is_one_row(item):
            values.append(item)
            if len(values) == _PYTHON_CHUNK:
                yield from _rows_frame(values, name, argument)
                values = []
            continue
        source = adapt(item, name=name, argument=argument)
        if source.frame is not None:
            yield source.frame.collect()
        elif source.batches is not None:
            yield from source.batches(source.schema.names())
    if values:
        yield from _rows_frame(values, name, argument)


def _rows_frame(rows: list[Any], name: str, argument: str) -> Iterator[pl.DataFrame]:
    frame = _python_rows(rows, name, argument).frame
    assert frame is not None  # noqa: S101 -- rows in memory
    yield frame.collect()


def _one_pass(frames: Iterator[pl.DataFrame], name: str, schema: pl.Schema | None = None) -> Source:
    first = next(frames, None)
    if first is None:
        first = pl.DataFrame(schema={name: pl.Null} if schema is None else schema)
    for column in first:
        if column.dtype == pl.Object:
            raise mixed_types(column.name, column.to_list())
    is_bare = schema is None and first.columns == [name]
    return Source(first.schema, batches=Once(first, frames), is_bare=is_bare)


def _frame_of(columns: Mapping[str, pl.Series], argument: str) -> pl.DataFrame:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} has {length:,}" for name, length in lengths.items())
        raise InvalidInputError(
            f"{argument}: the columns have different lengths: {told}.",
            hint="Pass one value a row in every column.",
            argument=argument,
        )
    return pl.DataFrame(list(columns.values()))
