"""From a snapshot and a selection to the sources of one SQL query: pruned files and Arrow tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa

from metrics_lake import query
from metrics_lake.commits.parquet import decode_rows
from metrics_lake.errors import CorruptObjectError, ObjectNotFoundError, QueryError
from metrics_lake.reader.recent import read_live
from metrics_lake.schema import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metrics_lake.commits import DataFile, LiveFile, Snapshot
    from metrics_lake.reader.datafiles import DataFiles
    from metrics_lake.reader.recent import Group
    from metrics_lake.reader.selection import Selection
    from metrics_lake.storage import Storage

__all__ = ["Place", "Scan", "Scanner"]

Place: TypeAlias = "Callable[[int, str], str]"

_SQL_TYPES: Final = {
    "string": "VARCHAR",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}
_STREAM_OBJECTS: Final = 32


@dataclass(slots=True)
class Scan:
    """The rows of a selection, as what a query needs to read them.

    Attributes:
        sql: A subquery that gives the rows, with the table's columns.
        bindings: Its parameters.
        tables: What it reads by name.
        files: The keys and sizes of the data files and inbox objects that it reads by path.
        place: Where each of them is for the query; None = where the storage has it, as parameters.
    """

    sql: str
    bindings: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, query.Source] = field(default_factory=dict)
    files: list[tuple[str, int]] = field(default_factory=list)
    place: Place | None = None

    def add_files(self, name: str, files: Sequence[tuple[str, int]], path_of: Callable[[str], str]) -> str:
        """Add files to be read and return the SQL of the list of their paths."""
        first = len(self.files)
        self.files += files
        if self.place is None:
            self.bindings[name] = [path_of(key) for key, _ in files]
            return f"${name}"
        paths = [self.place(first + number, key) for number, (key, _) in enumerate(files)]
        return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


class Scanner:
    """Plans and runs queries over one table's rows.

    Args:
        storage: The lake's objects.
        table: The table's name.
        data_files: Reads data files where they are no local files.
    """

    def __init__(self, storage: Storage, table: str, data_files: DataFiles) -> None:
        self._storage = storage
        self._table = table
        self._data_files = data_files
        self._columns = [each.name for each in arrow_schema(table)]

    def scan(
        self,
        snapshot: Snapshot,
        groups: Sequence[Group],
        selection: Selection,
        files: Sequence[DataFile] | None = None,
        place: Place | None = None,
    ) -> Scan:
        """Return the sources of a selection's rows.

        Args:
            snapshot: What to read.
            groups: The rows of the snapshot's inbox.
            selection: Which rows.
            files: The data files to read; None = all of the snapshot's that may hold such rows.
            place: Where each file is for the query, given its number among the scan's files and its key;
                then paths stand in the SQL itself, as views need it, and no source can be read only once.
                None = where the storage has it.
        """
        scan = Scan("", place=place)
        condition = selection.sql(scan.bindings)
        parts: list[str] = []
        if not selection.is_empty:
            if files is None:
                files = [each for each in snapshot.log.files if selection.may_be_in(each)]
            self._add_data_files(scan, parts, files, selection)
            self._add_rows(scan, parts, snapshot, groups)
            self._add_unkept(scan, parts, groups, selection)
        if not parts:
            scan.tables["no_rows"] = arrow_schema(self._table).empty_table()
            parts.append("no_rows")
        columns = ", ".join(f'"{name}"' for name in self._columns)  # "column" is a keyword of SQL
        selects = [part if part.startswith("SELECT") else f"SELECT {columns} FROM {part}" for part in parts]
        # A condition on each branch: DuckDB prunes row groups by it.
        scan.sql = "(" + "\nUNION ALL ".join(f"{select} WHERE {condition}" for select in selects) + ")"
        return scan

    def run(
        self, scan: Scan, sql: str, bindings: dict[str, Any] | None = None, **tables: pa.Table
    ) -> pa.Table:
        """Return the result of a query over a scan.

        Args:
            scan: The rows.
            sql: The query; ``{points}`` stands for the rows.
            bindings: Further parameters.
            tables: Further tables, by the names that the query has for them.

        Raises:
            ObjectNotFoundError: A file is gone.
            CorruptObjectError: A file is damaged; the error names it.
            QueryError: There is not enough memory.
        """
        try:
            text = sql.replace("{points}", scan.sql)
            return query.run(text, {**scan.bindings, **(bindings or {})}, **scan.tables, **tables)
        except (CorruptObjectError, QueryError, ObjectNotFoundError) as error:
            raise self.named(scan, error) from error

    def stream(self, scan: Scan, sql: str, bindings: dict[str, Any] | None = None) -> pa.RecordBatchReader:
        """Return the result of a query over a scan as a reader.

        Raises:
            MetricsLakeError: As for ``run``, here or while it is read.
        """
        try:
            text = sql.replace("{points}", scan.sql)
            reader = query.stream(text, {**scan.bindings, **(bindings or {})}, **scan.tables)
        except (CorruptObjectError, QueryError, ObjectNotFoundError) as error:
            raise self.named(scan, error) from error

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from reader
            except (CorruptObjectError, QueryError, ObjectNotFoundError) as error:
                raise self.named(scan, error) from error

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    # -------------------------------------------------------------------------------------------------------

    def _add_data_files(
        self, scan: Scan, parts: list[str], files: Sequence[DataFile], selection: Selection
    ) -> None:
        if not files:
            return
        if not self._storage.is_local and scan.place is None:
            batches = self._data_files.batches(files, selection)
            scan.tables["data_rows"] = query.Feed(arrow_schema(self._table), batches)
            parts.append("data_rows")
            return
        ours = [(each.key, each.size_bytes) for each in files if each.is_ours]
        if ours:
            paths = scan.add_files("data_files", ours, self._pattern)
            parts.append(f"read_parquet({paths}, hive_partitioning = false)")
        # Another engine may have written other string, time or integer types: each file by itself, cast.
        for number, each in enumerate(each for each in files if not each.is_ours):
            path = scan.add_files(f"foreign_file_{number}", [(each.key, each.size_bytes)], self._pattern)
            casts = ", ".join(
                f'CAST("{column.name}" AS {_sql_type(column.type)}) AS "{column.name}"'
                for column in arrow_schema(self._table)
            )
            parts.append(f"(SELECT {casts} FROM read_parquet({path}, hive_partitioning = false))")

    def _add_rows(self, scan: Scan, parts: list[str], snapshot: Snapshot, groups: Sequence[Group]) -> None:
        tables = [group.rows for group in groups if group.rows is not None and group.num_rows]
        tables += [run.rows for run in snapshot.pending if run.rows.num_rows]
        if tables:
            scan.tables["recent_rows"] = pa.concat_tables(tables)
            parts.append("recent_rows")

    def _add_unkept(
        self, scan: Scan, parts: list[str], groups: Sequence[Group], selection: Selection
    ) -> None:
        """Add the inbox objects whose rows were too many to keep."""
        unkept = [live for group in groups if group.rows is None for live in group.files]
        if not unkept:
            return
        if not self._storage.is_local and scan.place is None:
            batches = self._unkept_batches(unkept, selection)
            scan.tables["unkept_rows"] = query.Feed(arrow_schema(self._table), batches)
            parts.append("unkept_rows")
            return
        whole = [live for live in unkept if live.keep == ((live.name.first, live.name.last),)]
        if whole:
            files = [(live.name.key, live.size_bytes) for live in whole]
            paths = scan.add_files("inbox_files", files, self._pattern)
            parts.append(f"read_parquet({paths}, hive_partitioning = false)")
        columns = ", ".join(f'"{name}"' for name in self._columns)  # "column" is a keyword of SQL
        for number, live in enumerate(live for live in unkept if live not in whole):
            path = scan.add_files(f"inbox_file_{number}", [(live.name.key, live.size_bytes)], self._pattern)
            kept = " OR ".join(f"seq BETWEEN {first} AND {last}" for first, last in live.keep)
            source = f"read_parquet({path}, hive_partitioning = false)"
            parts.append(f"(SELECT {columns} FROM {source} WHERE {kept})")

    def _unkept_batches(self, files: Sequence[LiveFile], selection: Selection) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(files), _STREAM_OBJECTS):
            for rows in read_live(self._storage, self._table, files[start : start + _STREAM_OBJECTS]):
                yield from selection.rows_of(rows).to_batches()

    def _pattern(self, key: str) -> str:
        return query.file_pattern(self._storage.local_path(key))

    def named(
        self, scan: Scan, error: CorruptObjectError | QueryError | ObjectNotFoundError
    ) -> CorruptObjectError | QueryError | ObjectNotFoundError:
        """Return an error of DuckDB with the key of the object that it is about."""
        if "key" in error.context:
            return error
        path = error.context.get("path")
        if path is not None:
            keys = [key for key, _ in scan.files if self._storage.local_path(key) in (path, str(path))]
            if isinstance(error, ObjectNotFoundError):
                return ObjectNotFoundError(error.message, key=keys[0] if keys else path)
            key = keys[0] if keys else path
            return CorruptObjectError(error.message, hint=error.hint, key=key)
        # DuckDB did not say which: the one that our own decoder, which verifies checksums, refuses.
        for key, size in scan.files:
            try:
                decode_rows(self._table, self._storage.get(key, 0, size), key=key)
            except (CorruptObjectError, ObjectNotFoundError) as culprit:
                return culprit
        return error


def _sql_type(kind: pa.DataType) -> str:
    """Return how DuckDB spells an Arrow type of the lake's tables."""
    if isinstance(kind, pa.MapType):
        return f"MAP({_sql_type(kind.key_type)}, {_sql_type(kind.item_type)})"
    if isinstance(kind, pa.ListType):
        return f"{_sql_type(kind.value_type)}[]"
    if isinstance(kind, pa.StructType):
        fields = (f'"{field.name}" {_sql_type(field.type)}' for field in kind.fields)
        return f"STRUCT({', '.join(fields)})"
    return _SQL_TYPES[str(kind)]
