"""From the user's table to rows of the lake, column by column: ``append``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import InvalidInputError
from metrics_lake.points.arguments import EARLIEST_MICROS, LATEST_MICROS
from metrics_lake.points.columns import Numbers
from metrics_lake.points.decoding import decode_frames
from metrics_lake.points.frames import PointFields, SeriesEncoder, SeriesKey, split_frames
from metrics_lake.resources import check_id, nearest
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.tags import canonical_tags, tags_from_key, tags_key
from metrics_lake.texts import MAX_ID_LENGTH
from metrics_lake.values import KINDS, encode

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MADE_COLUMNS", "point_rows", "points_table", "rows_of_points", "series_rows", "stamped_rows"]

_REQUIRED: Final = ("resource", "metric", "value")
_OPTIONAL: Final = ("step", "timestamp", "tags", "kind", "text")
MADE_COLUMNS: Final = ("tags_key", "writer", "seq", "origin")
"""What histories and exports have beside, and points that are appended are given anew."""
_EXACT_INT: Final = 2**53


def point_rows(data: Any, clock: int) -> pa.Table:
    """Return a table of points in the lake's columns, without ``writer`` and ``seq``.

    Args:
        data: An Arrow, Polars or pandas table or an Arrow reader with the columns ``resource``, ``metric``
            and ``value`` and, where wanted, ``step``, ``timestamp`` (with a time zone, or POSIX seconds),
            ``tags`` (a map or a struct), or ``kind`` and ``text`` (then ``value`` is the numeric view).
        clock: The time of points without one, microseconds since 1970.

    Raises:
        InvalidInputError: A column is missing, unknown or of a wrong type, or holds a wrong value.
    """
    import pyarrow as pa

    table = _arrow_table(data)
    names = table.column_names
    _check_names(names)
    rows = table.num_rows

    def column(name: str) -> pa.ChunkedArray[Any] | None:
        return table.column(name) if name in names else None

    value, kind, text = _values(table)
    tags, keys = _tags(column("tags"), rows)
    columns = {
        "resource": _ids(table.column("resource"), "resource"),
        "metric": _ids(table.column("metric"), "metric"),
        "step": _steps(column("step"), rows),
        "timestamp": _timestamps(column("timestamp"), rows, clock),
        "value": value,
        "kind": kind,
        "text": text,
        "tags": tags,
        "tags_key": keys,
        "origin": pa.nulls(rows, pa.string()),
    }
    return pa.table(columns)


def points_table(points: Sequence[PointFields], micros: int, step: int | None) -> pa.Table:
    """Return the points of one call as rows without ``writer`` and ``seq``."""
    return _rows_of_frame(SeriesEncoder().points(points, micros, step))


def rows_of_points(points: Sequence[tuple[SeriesKey, Any, int, int | None]]) -> pa.Table:
    """Return points (series, value, time in microseconds, step) as rows without ``writer`` and ``seq``."""
    import pyarrow as pa

    encoded = [encode(value) for _, value, _, _ in points]
    keys = [series[2] for series, _, _, _ in points]
    pairs = {key: tuple(tags_from_key(key).items()) if key else None for key in set(keys)}
    return pa.table(
        {
            "resource": pa.array([series[0] for series, _, _, _ in points], pa.string()),
            "metric": pa.array([series[1] for series, _, _, _ in points], pa.string()),
            "step": pa.array([step for _, _, _, step in points], pa.int64()),
            "timestamp": pa.array([when for _, _, when, _ in points], pa.timestamp("us", tz="UTC")),
            "value": pa.array([value for _, value, _ in encoded], pa.float64()),
            "kind": pa.array([kind for kind, _, _ in encoded], pa.string()),
            "text": pa.array([text for _, _, text in encoded], pa.string()),
            "tags": pa.array([pairs[key] for key in keys], pa.map_(pa.string(), pa.string())),
            "tags_key": pa.array(keys, pa.string()),
            "origin": pa.nulls(len(points), pa.string()),
        }
    )


def series_rows(
    series: SeriesKey,
    values: Numbers | Sequence[Any],
    steps: bytes | memoryview,
    timestamps: bytes | memoryview | None,
    clock: int,
) -> pa.Table:
    """Return the points of one series as rows without ``writer`` and ``seq``.

    Args:
        series: The series.
        values: Its values, as numbers or one by one.
        steps: Int64, one a value.
        timestamps: Int64 microseconds, one a value; None: the clock's for all.
        clock: Microseconds since 1970.
    """
    import pyarrow as pa

    stamps = clock if timestamps is None else timestamps
    if isinstance(values, Numbers):
        return _rows_of_frame(SeriesEncoder().numbers(series, values.kind, values.data, stamps, steps))
    encoded = [encode(value) for value in values]
    # Zeroes stand in for the values: the rest of the columns is the same.
    rows = _rows_of_frame(SeriesEncoder().numbers(series, 0, bytes(len(steps)), stamps, steps))
    columns: dict[str, pa.Array[Any]] = {
        "value": pa.array([value for _, value, _ in encoded], pa.float64()),
        "kind": pa.array([kind for kind, _, _ in encoded], pa.string()),
        "text": pa.array([text for _, _, text in encoded], pa.string()),
    }
    for name, column in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def _rows_of_frame(data: bytes) -> pa.Table:
    frames = [frame for frame, _ in split_frames(data)]
    return decode_frames(METRICS, "", 0, frames).drop_columns(["writer", "seq"])


def stamped_rows(table: str, rows: pa.Table, writer: str, first: int = 0) -> pa.Table:
    """Return rows in a table's schema, as the observations ``first … first + n - 1`` of a writer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    count = rows.num_rows
    ones = pa.repeat(pa.scalar(1, pa.int64()), count)
    seq = pc.cumulative_sum(ones, start=pa.scalar(first - 1, pa.int64()))
    stamped = rows.append_column("writer", pa.repeat(pa.scalar(writer), count)).append_column("seq", seq)
    schema = arrow_schema(table)
    return stamped.select(schema.names).cast(schema)


def _arrow_table(data: Any) -> pa.Table:
    import pyarrow as pa

    pandas = sys.modules.get("pandas")
    try:
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if pandas is not None and isinstance(data, pandas.DataFrame):
            return pa.Table.from_pandas(data, preserve_index=False)
        if hasattr(data, "collect") and not hasattr(data, "__arrow_c_stream__"):
            data = data.collect()  # a Polars LazyFrame
        if hasattr(data, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(data).read_all()
        if isinstance(data, Mapping):
            return pa.table(dict(data))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"the table cannot be turned into Arrow: {error}",
            hint="Give each column one type.",
            argument="table",
        ) from error
    raise InvalidInputError(
        f"a {type(data).__name__} is no table.",
        hint="Pass an Arrow, Polars or pandas table, an Arrow reader, or a dict of columns.",
        argument="table",
    )


def _check_names(names: list[str]) -> None:
    for name in _REQUIRED:
        if name not in names:
            raise InvalidInputError(
                f"the table has no column {name!r}; it has {', '.join(map(repr, names)) or 'none'}.",
                hint="A row is a point: resource, metric, value.",
                argument="table",
            )
    known = (*_REQUIRED, *_OPTIONAL)
    unknown = [name for name in names if name not in known]
    if unknown:
        near = [] if unknown[0] in MADE_COLUMNS else nearest(unknown[0], known)
        raise InvalidInputError(
            f"the table has columns that a point does not have: {', '.join(map(repr, unknown))}.",
            hint=f"Did you mean {near[0]!r}?" if near else f"Drop them; points have {', '.join(known)}.",
            argument="table",
        )
    if len(set(names)) != len(names):
        raise InvalidInputError("the table has two columns of one name.", argument="table")
    if ("kind" in names) != ("text" in names):
        raise InvalidInputError("'kind' and 'text' come together.", argument="table")


def _strings(column: pa.ChunkedArray[Any], name: str) -> pa.ChunkedArray[Any]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not is_string:
        raise InvalidInputError(
            f"the column {name!r} is {column.type}.", hint="Pass strings.", argument="table"
        )
    return column.cast(pa.string())


def _ids(column: pa.ChunkedArray[Any], name: str) -> pa.ChunkedArray[Any]:
    import pyarrow.compute as pc

    ids = _strings(column, name)
    if ids.null_count:
        raise InvalidInputError(f"the column {name!r} holds {ids.null_count:,} nulls.", argument="table")
    lengths = pc.utf8_length(ids)
    if len(ids) and not 1 <= pc.min(lengths).as_py() <= pc.max(lengths).as_py() <= MAX_ID_LENGTH:
        for text in ids.unique().to_pylist():
            check_id(text, name)
    return ids


def _steps(column: pa.ChunkedArray[Any] | None, rows: int) -> Any:
    import pyarrow as pa

    if column is None or pa.types.is_null(column.type):
        return pa.nulls(rows, pa.int64())
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    try:
        if is_number:
            return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InvalidInputError(
            f"the column 'step' holds what is no 64-bit integer: {error}",
            hint="A step is an int; log a fractional position as a metric of its own.",
            argument="table",
        ) from error
    raise InvalidInputError(f"the column 'step' is {column.type}.", hint="Pass integers.", argument="table")


def _timestamps(column: pa.ChunkedArray[Any] | None, rows: int, clock: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    instants = pa.timestamp("us", tz="UTC")
    now = pa.scalar(clock, pa.int64())
    if column is None or pa.types.is_null(column.type):
        return pa.repeat(now, rows).cast(instants)
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        # Finer than a microsecond is cut off: no engine that reads the lake keeps it.
        micros = column.cast(instants, safe=False).cast(pa.int64())
    elif pa.types.is_timestamp(kind):
        raise InvalidInputError(
            "the column 'timestamp' has no time zone.",
            hint="Say which: in Polars .dt.replace_time_zone('UTC'), in pandas .dt.tz_localize('UTC').",
            argument="table",
        )
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        seconds = column.cast(pa.float64(), safe=False)
        if pc.any(pc.invert(pc.is_finite(seconds))).as_py():
            raise InvalidInputError("the column 'timestamp' holds NaN or inf.", argument="table")
        # Checked before it becomes an int: beyond 64 bits a cast gives anything.
        _check_instants(seconds, 1e-6)
        micros = pc.round(pc.multiply(seconds, 1e6)).cast(pa.int64(), safe=False)
    else:
        raise InvalidInputError(
            f"the column 'timestamp' is {kind}.",
            hint="Pass timestamps with a time zone, or POSIX seconds.",
            argument="table",
        )
    _check_instants(micros, 1)
    return micros.fill_null(now).cast(instants)


def _check_instants(column: pa.ChunkedArray[Any], unit: float) -> None:
    import pyarrow.compute as pc

    bounds: Any = pc.min_max(column).as_py()
    if bounds["min"] is None:
        return
    if not EARLIEST_MICROS * unit <= bounds["min"] <= bounds["max"] <= LATEST_MICROS * unit:
        raise InvalidInputError(
            "the column 'timestamp' reaches beyond the years 1900 to 9999.",
            hint="Numbers are POSIX seconds, not milliseconds.",
            argument="table",
        )


def _values(table: pa.Table) -> tuple[Any, Any, Any]:
    """Return the columns value, kind and text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column("value")
    kind, rows = column.type, table.num_rows
    no_text = pa.nulls(rows, pa.string())
    value: pa.ChunkedArray[Any] | pa.Array[Any]
    if "kind" in table.column_names:
        return _stored_values(table)
    if pa.types.is_floating(kind):
        name, value = "float", column.cast(pa.float64())
    elif pa.types.is_boolean(kind):
        name, value = "bool", column.cast(pa.uint8()).cast(pa.float64())
    elif pa.types.is_integer(kind) and _fits_a_double(column):
        name, value = "int", column.cast(pa.float64())
    elif pa.types.is_null(kind):
        name, value = "null", pa.nulls(rows, pa.float64())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        kinds = pc.if_else(column.is_null(), "null", "str")
        return pa.nulls(rows, pa.float64()), kinds, column.cast(pa.string())
    else:
        # Wide integers, decimals, dates, lists, structs: by the rules for single values.
        encoded = [encode(item) for item in column.to_pylist()]
        return (
            pa.array([value for _, value, _ in encoded], pa.float64()),
            pa.array([name for name, _, _ in encoded], pa.string()),
            pa.array([text for _, _, text in encoded], pa.string()),
        )
    return value, pc.if_else(column.is_null(), "null", name), no_text


def _fits_a_double(column: pa.ChunkedArray[Any]) -> bool:
    import pyarrow.compute as pc

    bounds: Any = pc.min_max(column).as_py()
    return bounds["min"] is None or -_EXACT_INT <= bounds["min"] <= bounds["max"] <= _EXACT_INT


def _stored_values(table: pa.Table) -> tuple[Any, Any, Any]:
    """Return value, kind and text as another lake stored them."""
    import pyarrow as pa

    kinds = _strings(table.column("kind"), "kind")
    unknown = sorted(set(kinds.unique().to_pylist()) - set(KINDS), key=str)
    if unknown:
        raise InvalidInputError(
            f"the column 'kind' holds {unknown[0]!r}, which is no stored type.",
            hint="Leave 'kind' and 'text' out to have values encoded.",
            argument="table",
        )
    value = table.column("value")
    if not pa.types.is_floating(value.type) and not pa.types.is_null(value.type):
        raise InvalidInputError(
            f"the column 'value' is {value.type} beside 'kind'.",
            hint="Beside 'kind', 'value' is the numeric view: doubles.",
            argument="table",
        )
    text = table.column("text")
    text = text.cast(pa.string()) if pa.types.is_null(text.type) else _strings(text, "text")
    return value.cast(pa.float64()), kinds, text


def _tags(column: pa.ChunkedArray[Any] | None, rows: int) -> tuple[Any, Any]:
    """Return the columns tags and tags_key in canonical form."""
    import pyarrow as pa

    stored = pa.map_(pa.string(), pa.string())
    if column is None or column.null_count == rows:
        return pa.nulls(rows, stored), pa.repeat(pa.scalar(""), rows)
    if not pa.types.is_map(column.type) and not pa.types.is_struct(column.type):
        raise InvalidInputError(
            f"the column 'tags' is {column.type}.",
            hint="Pass a map or a struct of strings.",
            argument="table",
        )
    is_struct = pa.types.is_struct(column.type)
    known: dict[Any, tuple[tuple[tuple[str, str], ...] | None, str]] = {}
    tags: list[tuple[tuple[str, str], ...] | None] = []
    keys: list[str] = []
    for item in column.to_pylist():
        pairs = tuple(item.items()) if isinstance(item, dict) else tuple(item or ())
        try:
            is_new = pairs not in known
        except TypeError as error:
            raise InvalidInputError(
                f"the column 'tags' is {column.type}.", hint="Pass tags of strings.", argument="table"
            ) from error
        if is_new:
            # A struct has all its fields in every row: a null one is a tag that this row does not have.
            present = {key: value for key, value in pairs if value is not None or not is_struct}
            if len({key for key, _ in pairs}) != len(pairs):
                raise InvalidInputError(f"tags {pairs} have a key twice.", argument="table")
            canonical = canonical_tags(present)
            known[pairs] = (canonical or None, tags_key(canonical))
        pair = known[pairs]
        tags.append(pair[0])
        keys.append(pair[1])
    return pa.array(tags, stored), pa.array(keys, pa.string())
