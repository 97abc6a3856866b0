"""Our own SQL over Arrow tables and Parquet files, with bound parameters.

There is one in-memory database per process and one cursor per query. A cursor's registered Arrow tables are
its own: two queries at once never see each other's, and they go when the query ends.
"""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import duckdb
import pyarrow as pa

from metrics_lake.errors import (
    CorruptObjectError,
    InvalidInputError,
    MetricsLakeError,
    ObjectNotFoundError,
    QueryError,
    StorageError,
)

__all__ = [
    "SETTINGS",
    "Bindings",
    "Feed",
    "Source",
    "file_pattern",
    "leave_to_parent",
    "new_cursor",
    "raise_if_interrupted",
    "reader_of",
    "run",
    "spill_directory",
    "stream",
    "translation",
]


@dataclass(slots=True, eq=False)
class Feed:
    """Batches that are made while a query reads them, once.

    Attributes:
        schema: The batches' schema.
        batches: Gives them.
        failure: What they raised. DuckDB would turn it into a text.
    """

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    failure: MetricsLakeError | None = None

    def reader(self) -> pa.RecordBatchReader:
        """Return the batches as a reader that remembers its failure."""
        return pa.RecordBatchReader.from_batches(self.schema, self._watched())

    def _watched(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self.batches
        except MetricsLakeError as error:
            self.failure = error
            raise


Source = pa.Table | Feed
"""What a query may read by name."""

Bindings = Mapping[str, Any]
"""The values of a query's ``$name`` parameters; each must occur in the SQL."""

SETTINGS: Final[dict[str, str | bool]] = {
    # Never anything from the network at run time, never a Python variable by its name.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    # False lost the ORDER BY of to_arrow_table() in DuckDB 2.0.
    "preserve_insertion_order": True,
    # Half of what the container or machine has: a training run lives beside us.
    "memory_limit": "50%",
}
"""What every connection that we make is set to."""

_AFTER_OPENING: Final = (
    # Names of data files are never reused, so a footer that was read once stays right: a point read in one
    # 2.5 M-row file took 10.7 ms without and 5.1 ms with it (November 2026).
    "SET GLOBAL parquet_metadata_cache = true",
    "SET GLOBAL TimeZone = 'UTC'",
)
_STREAM_ROWS: Final = 65_536
_GLOB_CHARACTERS: Final = re.compile(r"([*?\[])")
_NO_FILE: Final = re.compile(r"No files found that match|No such file|Could not open file|Cannot open file")
_INTERRUPTED: Final = re.compile(r"^Query interrupted$|(^|failed: )KeyboardInterrupt(:|$)", re.MULTILINE)
_PARQUET_PATH: Final = re.compile(r"""['"](?P<path>[^'"]*\.parquet)['"]""")

_WRONG_SQL: Final = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.NotImplementedException,  # a parameter of a type that SQL does not have, too
)

_databases: dict[int, duckdb.DuckDBPyConnection] = {}
_lock = Lock()


def run(sql: str, bindings: Bindings | None = None, /, **tables: Source) -> pa.Table:
    """Return a query's whole result.

    Args:
        sql: One statement over the tables and ``read_parquet``; values come in as ``$name``.
        bindings: The parameters' values.
        tables: Arrow tables and feeds by the name that the SQL gives them.

    Raises:
        ObjectNotFoundError: A Parquet file is gone.
        CorruptObjectError: A Parquet file cannot be decoded.
        InvalidInputError: The statement is not valid SQL over these tables.
        StorageError: The disk failed or is full.
        QueryError: The query needs more memory than it may have, or DuckDB failed otherwise.
    """
    with _translated(tables), closing(new_cursor()) as cursor:
        table: pa.Table = _relation(cursor, sql, bindings, tables).to_arrow_table()
    return table


def stream(sql: str, bindings: Bindings | None = None, /, **tables: Source) -> pa.RecordBatchReader:
    """Return a query's result as a reader that computes the batches while they are taken.

    The cursor lives until the reader is exhausted or dropped.

    Raises:
        MetricsLakeError: As for ``run``, here or while the reader is read.
    """
    with _translated(tables):
        cursor = new_cursor()
        source = reader_of(_relation(cursor, sql, bindings, tables))

    def batches() -> Iterator[pa.RecordBatch]:
        with _translated(tables), closing(cursor):
            yield from source

    return pa.RecordBatchReader.from_batches(source.schema, batches())


def file_pattern(path: str) -> str:
    """Return a path as ``read_parquet`` takes it: characters that its globs would read are escaped."""
    return _GLOB_CHARACTERS.sub(r"[\1]", path)


def _relation(
    cursor: duckdb.DuckDBPyConnection, sql: str, bindings: Bindings | None, tables: Mapping[str, Source]
) -> Any:
    for name, table in tables.items():
        cursor.register(name, table.reader() if isinstance(table, Feed) else table)
    return cursor.sql(sql, params=dict(bindings) if bindings else None)


def reader_of(relation: Any) -> pa.RecordBatchReader:
    """Return a relation's rows as a reader that computes them while it is read."""
    # The name that DuckDB 2.0 keeps, and the one that older versions have.
    method = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    reader: pa.RecordBatchReader = method(_STREAM_ROWS)
    return reader


def new_cursor() -> duckdb.DuckDBPyConnection:
    """Return a cursor of this process's database."""
    database = _databases.get(os.getpid())
    if database is None:
        with _lock:
            database = _databases.get(os.getpid())
            if database is None:
                database = _databases[os.getpid()] = _connect()
    # A cursor, other than a first connection in a notebook, shows no progress bar.
    return database.cursor()


def spill_directory() -> str:
    """Return where a database may put what does not fit in memory, or "" for nowhere; it goes with it."""
    # Made by DuckDB when something spills, and only the last part of the path; a name that nobody can guess,
    # because others may write to this directory too.
    try:
        return str(Path(tempfile.gettempdir(), f"metrics-lake-{uuid.uuid4().hex}"))
    except FileNotFoundError:
        return ""  # as in a container whose file system is read-only


def _connect() -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        **SETTINGS,
        "temp_directory": spill_directory(),
    }
    database = duckdb.connect(":memory:", config=config)
    for setting in _AFTER_OPENING:
        database.execute(setting)
    return database


def leave_to_parent(database: duckdb.DuckDBPyConnection) -> None:
    """Keep a forked child from closing its parent's database, even at the interpreter's exit.

    The database has threads that do not exist in the child, and closing it waits for them for ever.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(database))


def _after_fork() -> None:
    """Let a forked child make a database of its own and never close its parent's."""
    global _lock
    _lock = Lock()
    for database in _databases.values():
        leave_to_parent(database)
    _databases.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def _translated(tables: Mapping[str, Source]) -> Iterator[None]:
    try:
        yield
    # While a result streams, DuckDB's errors come through Arrow's C interface as these.
    except (duckdb.Error, OSError, RuntimeError, pa.ArrowException) as error:
        raise_if_interrupted(error)
        for table in tables.values():
            if isinstance(table, Feed) and table.failure is not None:
                raise table.failure from error
        raise translation(error) from error


def raise_if_interrupted(error: BaseException) -> None:
    """Return unless a query ended because somebody pressed Ctrl-C.

    DuckDB 2.0 makes of it a RuntimeError of its own, or a text about the table or the file that Python was
    giving it just then: an ``except Exception`` would go on as if nothing had been asked.

    Raises:
        KeyboardInterrupt: They did.
    """
    if _INTERRUPTED.search(str(error)):
        raise KeyboardInterrupt from error


def translation(error: BaseException) -> MetricsLakeError:
    """Return DuckDB's error as one of ours, with its message."""
    text = str(error)
    found = _PARQUET_PATH.search(text)
    path = found["path"] if found else None
    if isinstance(error, duckdb.IOException) or text.startswith("IO Error"):
        if path is not None and _NO_FILE.search(text):
            return ObjectNotFoundError(f"A file is gone: {_first_line(text)}", path=path)
        return StorageError(f"The disk failed: {_first_line(text)}", path=path)
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryError(
            f"The query needs more memory than it may have: {_first_line(text)}",
            hint="Ask for fewer resources, metrics or steps, or read the result in pieces with .reader().",
        )
    if path is not None:
        return CorruptObjectError(
            f"{path} cannot be decoded: {_first_line(text)}",
            hint="inspect.verify() lists what is damaged.",
            path=path,
        )
    if isinstance(error, _WRONG_SQL):
        return InvalidInputError(f"The query is not valid: {text}")
    return QueryError(f"The query failed: {text}")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
