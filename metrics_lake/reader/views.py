"""SQL over one snapshot: the views that users see and what stands behind them.

============  ==============================================================================================
``metrics``   all points: ``resource metric step timestamp value kind text tags tags_key writer seq origin``
``latest``    the latest point of each series, with the columns of ``metrics`` but ``origin``
``series``    a row a series: ``resource metric tags tags_key count num_nan mean`` and, of its ``first``,
              ``last``, ``min`` and ``max`` point, the value under this name and ``…_step …_timestamp``
``params``    the latest value of each parameter of each resource: ``resource name value kind text timestamp``
============  ==============================================================================================
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from metrics_lake import query
from metrics_lake.errors import CorruptObjectError, InvalidInputError
from metrics_lake.reader.overview import Overview
from metrics_lake.reader.selection import Selection
from metrics_lake.result import Result
from metrics_lake.schema import METRICS, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    import duckdb

    from metrics_lake.commits import Snapshot
    from metrics_lake.reader.reader import Reader
    from metrics_lake.reader.table import TableReader
    from metrics_lake.storage.exposed import ExposedObjects

    _Answer = TypeVar("_Answer")

__all__ = ["VIEWS", "connect", "sql"]

VIEWS: Final = ("metrics", "latest", "series", "params")

_INTERNAL: Final = ("recent_rows", "no_rows", "series_summary", "latest_points")
_CATALOG: Final = re.compile(r"\b(?:show|describe|duckdb_\w+|information_schema|pg_catalog)\b", re.IGNORECASE)
"""Queries that may ask what there is, and not name it."""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST: Final = ("step", "timestamp", "value", "kind", "text", "is_cut", "writer", "seq")

_SERIES_SQL: Final = (
    'SELECT resource, metric, tags, tags_key, "count", n_nan AS num_nan, mean, '
    + ", ".join(
        f'"{name}".value AS "{name}", "{name}".step AS {name}_step, "{name}".timestamp AS {name}_timestamp'
        for name in ("first", "last", "min", "max")
    )
    + " FROM series_summary"
)
_LATEST_SQL: Final = (
    "SELECT resource, metric, step, timestamp, value, kind, text, tags, tags_key, writer, seq "
    "FROM latest_points"
)
_PARAMS_SQL: Final = """
    SELECT resource, substr(metric, 8) AS name, value, kind, text, timestamp
    FROM latest_points WHERE starts_with(metric, 'params/')
    QUALIFY row_number() OVER (
        PARTITION BY resource, metric ORDER BY tags_key = '' DESC, timestamp DESC, writer DESC, seq DESC
    ) = 1
"""


def sql(
    reader: Reader,
    text: str,
    params: Mapping[str, Any] | None = None,
    *,
    frames: Mapping[str, Any] | None = None,
    at: Any = None,
    timeout_seconds: float | None = 60.0,
) -> Result:
    """Return the result of a user's query over the views; ``MetricsLake.sql`` says how.

    Raises:
        InvalidInputError: The query is not exactly one SELECT, or an argument is wrong.
        SnapshotExpired: What ``at`` names is gone.
    """
    statement = query.parse_select(text)
    given = _checked_params(statement, params)
    if timeout_seconds is not None and not timeout_seconds > 0:
        raise InvalidInputError(
            f"timeout_seconds is {timeout_seconds!r}.",
            hint="Pass seconds, or None.",
            argument="timeout_seconds",
        )
    limits = query.Limits(seconds=timeout_seconds)
    tables = _checked_frames(frames)
    pinned, instant = reader.moment(METRICS, at)
    table = reader.table()
    snapshot = pinned or table.snapshot()
    is_catalog = _CATALOG.search(text) is not None
    wanted = [name for name in VIEWS if is_catalog or re.search(rf"\b{name}\b", text, re.IGNORECASE)]

    def answer(
        run: Callable[[str, Mapping[str, Any], query.Sources, query.Limits], _Answer],
    ) -> _Answer:
        files: list[ExposedObjects] = []

        def sources() -> _Answer:
            found = _sources(reader, table, snapshot, instant, wanted, files)
            found.tables |= tables
            try:
                return run(statement.sql, given, found, limits)
            except CorruptObjectError as error:
                raise _with_key(error, files) from error
            except InvalidInputError as error:
                if "table" not in error.context:
                    raise
                hint = f'Tables are {", ".join(VIEWS)}, and yours: frames={{"{error.table}": …}}.'
                raise InvalidInputError(error.message, hint=hint, **error.context) from error

        return reader.pinned(table, snapshot, sources)

    return Result(
        lambda: answer(query.run_guarded),
        stream=lambda: answer(query.stream_guarded),
        snapshot=snapshot,
        is_plain=True,
    )


def connect(reader: Reader, *, at: Any = None) -> duckdb.DuckDBPyConnection:
    """Return an ordinary DuckDB connection with the views.

    Raises:
        SnapshotExpired: What ``at`` names is gone.
    """
    pinned, instant = reader.moment(METRICS, at)
    table = reader.table()
    snapshot = pinned or table.snapshot()
    files: list[ExposedObjects] | None = None if reader.storage.is_local else []

    def run() -> duckdb.DuckDBPyConnection:
        return query.ordinary_connection(_sources(reader, table, snapshot, instant, VIEWS, files))

    return reader.pinned(table, snapshot, run)


def _sources(
    reader: Reader,
    table: TableReader,
    snapshot: Snapshot,
    instant: int | None,
    wanted: Any,
    files: list[ExposedObjects] | None,
) -> query.Sources:
    """Return what a query over some of the views reads.

    Args:
        reader: Knows the storage.
        table: Reads the points.
        snapshot: Which points.
        instant: Up to when, in microseconds since 1970; None = all.
        wanted: The names of the views.
        files: Takes the file system through which data files are read; None = by their own paths.
    """
    from metrics_lake.storage.exposed import ExposedObjects  # here, for it loads fsspec

    found = query.Sources()
    if "metrics" in wanted:
        storage = reader.storage

        def place(number: int, key: str) -> str:
            if files is None:
                return query.file_pattern(storage.local_path(key))
            return ExposedObjects.path_of(number)

        scan = table.scan_at(snapshot, Selection(), place)
        if scan.files and files is not None:
            exposed = ExposedObjects(storage, scan.files, table.tail)
            files.append(exposed)
            found.file_system = exposed
            found.paths = exposed.paths
            found.key = exposed.key
            found.failure = exposed.take_failure
        found.tables |= scan.tables
        columns = ", ".join(arrow_schema(METRICS).names)
        until = ""
        if instant is not None:
            bound = _EPOCH + dt.timedelta(microseconds=instant)
            until = f" WHERE timestamp <= TIMESTAMPTZ '{bound:%Y-%m-%d %H:%M:%S.%f}+00'"
        found.views["metrics"] = f"SELECT {columns} FROM {scan.sql}{until}"
    if any(name in wanted for name in ("latest", "series", "params")):
        overview = Overview.of(table, snapshot, instant)
        summary = overview.series(None, None)
        if "series" in wanted:
            found.tables["series_summary"] = summary
            found.views["series"] = _SERIES_SQL
        if "latest" in wanted or "params" in wanted:
            found.tables["latest_points"] = _latest_points(overview, summary)
            found.views["latest"] = _LATEST_SQL
            found.views["params"] = _PARAMS_SQL
    return found


def _latest_points(overview: Overview, summary: pa.Table) -> pa.Table:
    fields = ", ".join(f'"last".{name} AS {name}' for name in _LATEST)
    points = query.run(
        f"SELECT resource, metric, tags, tags_key, {fields} FROM summary",
        summary=summary.select(["resource", "metric", "tags", "tags_key", "last"]),
    )
    return overview.exact(points)


def _checked_params(statement: query.Statement, params: Mapping[str, Any] | None) -> dict[str, Any]:
    given: Any = {} if params is None else params
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"params is of type {type(given).__qualname__}.",
            hint='Pass {"name": value} for $name in the query.',
            argument="params",
        )
    missing = sorted(statement.parameters - given.keys())
    unused = sorted(map(str, given.keys() - statement.parameters))
    if missing or unused:
        what = f"has no value for ${missing[0]}" if missing else f"does not use ${unused[0]}"
        raise InvalidInputError(
            f"The query {what}.", hint='Pass {"name": value} for each $name in the query.', argument="params"
        )
    return {name: _python_scalar(value) for name, value in given.items()}


def _python_scalar(value: Any) -> Any:
    """Return what numpy's scalars, arrays and tensors without dimensions hold; all else as it is."""
    is_time = getattr(getattr(value, "dtype", None), "kind", "") in {"m", "M"}
    is_scalar = getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)) and not is_time
    return value.item() if is_scalar else value


def _checked_frames(frames: Mapping[str, Any] | None) -> dict[str, pa.Table]:
    given: Any = {} if frames is None else frames
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"frames is of type {type(given).__qualname__}.", hint='Pass {"labels": df}.', argument="frames"
        )
    tables = {}
    for name, frame in given.items():
        is_taken = isinstance(name, str) and name.lower() in {*VIEWS, *_INTERNAL}
        if not isinstance(name, str) or not name.isidentifier() or is_taken:
            raise InvalidInputError(
                f"frames names a table {name!r}.",
                hint=f"Take another name than {', '.join(VIEWS)}, made of letters, digits and _.",
                argument="frames",
            )
        tables[name] = _arrow_table(name, frame)
    return tables


def _arrow_table(name: str, frame: Any) -> pa.Table:
    if hasattr(frame, "collect") and not hasattr(frame, "__arrow_c_stream__"):
        frame = frame.collect()  # a Polars LazyFrame
    try:
        if isinstance(frame, pa.RecordBatch):
            return pa.Table.from_batches([frame])
        if isinstance(frame, Mapping) or hasattr(frame, "__arrow_c_stream__"):
            return pa.table(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InvalidInputError(
            f"frames[{name!r}] cannot become an Arrow table: {error}", argument="frames"
        ) from error
    raise InvalidInputError(
        f"frames[{name!r}] is of type {type(frame).__qualname__}.",
        hint="Pass an Arrow, Polars or pandas table, or a Result.",
        argument="frames",
    )


def _with_key(error: CorruptObjectError, files: list[ExposedObjects]) -> CorruptObjectError:
    """Return DuckDB's error about a file with the object's key."""
    path = error.context.get("path", "")
    if not files or not files[0].exists(path):
        return error
    key = files[0].key_of(path)
    return CorruptObjectError(error.message.replace(path, key), hint=error.hint, key=key)
