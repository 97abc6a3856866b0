"""Rows from the store and data files into it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from metrics_lake import series
from metrics_lake.commits import (
    MAX_FILE_BYTES,
    MAX_FILE_ROWS,
    DataFileBuilder,
    decode_rows,
    digest_of,
    open_rows,
    split_by_month,
)
from metrics_lake.commits.parquet import ROW_GROUP_ROWS, conform
from metrics_lake.errors import CorruptObjectError, StorageError
from metrics_lake.layout import sidecar_key
from metrics_lake.schema import METRICS, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metrics_lake.commits import DataFile, LiveFile, NewFile
    from metrics_lake.storage import Storage

__all__ = ["DataFileWriter", "file_rows", "inbox_rows", "write_files"]

_FETCH_BYTES: Final = 32 << 20
_FETCH_ROWS: Final = 200_000
_ROW_GROUPS_AT_ONCE: Final = 16
_WAITING_BYTES: Final = 64 << 20
"""Rows with long texts make smaller row groups."""
_ENCODE_ROWS: Final = 8 * ROW_GROUP_ROWS


def inbox_rows(
    storage: Storage, table: str, files: Sequence[LiveFile], *, as_dictionaries: bool = False
) -> Iterator[tuple[LiveFile, pa.Table | CorruptObjectError]]:
    """Yield the rows of inbox objects that count, in the order given, or what is wrong with an object.

    The next objects are fetched while the caller works on the last ones.

    Raises:
        ObjectNotFoundError: An object is gone: the snapshot is too old.
        StorageError: The store failed.
    """
    groups: list[list[LiveFile]] = [[]]
    size = num_rows = 0
    for file in files:
        if groups[-1] and (size + file.size_bytes > _FETCH_BYTES or num_rows >= _FETCH_ROWS):
            groups.append([])
            size = num_rows = 0
        groups[-1].append(file)
        size += file.size_bytes
        num_rows += file.name.last - file.name.first + 1

    def fetch(group: Sequence[LiveFile]) -> list[pa.Table | CorruptObjectError]:
        bodies = storage.get_many([(file.name.key, 0, file.size_bytes) for file in group])
        return [
            _live_rows(table, file, body, as_dictionaries) for file, body in zip(group, bodies, strict=True)
        ]

    with ThreadPoolExecutor(1, thread_name_prefix="metrics-lake-read") as pool:
        ahead: Future[list[pa.Table | CorruptObjectError]] | None = None
        for index, group in enumerate(groups):
            found = fetch(group) if ahead is None else ahead.result()
            ahead = pool.submit(fetch, groups[index + 1]) if index + 1 < len(groups) else None
            yield from zip(group, found, strict=True)


def _live_rows(
    table: str, file: LiveFile, body: bytes, as_dictionaries: bool
) -> pa.Table | CorruptObjectError:
    name = file.name
    try:
        rows = decode_rows(table, body, key=name.key, as_dictionaries=as_dictionaries)
    except CorruptObjectError as error:
        return error
    if rows.num_rows:
        seqs, writers = rows.column("seq"), rows.column("writer")
        holds_its_name = (
            rows.num_rows == name.last - name.first + 1
            and seqs[0].as_py() == name.first
            and seqs[-1].as_py() == name.last
            and writers[0].as_py() == name.writer
        )
    else:
        holds_its_name = name.last == name.first - 1
    if not holds_its_name:
        return CorruptObjectError(
            f"The rows of the object {name.key!r} are not those that its name promises.",
            hint="`metrics-lake verify` names all that is damaged; quarantine this object.",
            key=name.key,
        )
    pieces = [rows.slice(first - name.first, last - first + 1) for first, last in file.keep]
    return pa.concat_tables(pieces) if pieces else rows.slice(0, 0)


def file_rows(
    storage: Storage, table: str, file: DataFile, *, as_dictionaries: bool = False
) -> Iterator[pa.Table]:
    """Yield a data file's rows piece by piece, every checksum verified.

    Raises:
        CorruptObjectError: The file is damaged.
        ObjectNotFoundError: It is gone: the snapshot is too old.
        StorageError: The store failed.
    """
    data = storage.get(file.key)
    if file.digest is not None and digest_of(data) != file.digest:
        raise CorruptObjectError(
            f"The bytes of the data file {file.key!r} are not those that were written.",
            hint="`metrics-lake verify` names all that is damaged; restore it from a backup.",
            key=file.key,
        )
    opened = open_rows(data, key=file.key)
    for start in range(0, opened.num_row_groups, _ROW_GROUPS_AT_ONCE):
        groups = list(range(start, min(start + _ROW_GROUPS_AT_ONCE, opened.num_row_groups)))
        yield decode_rows(table, data, key=file.key, row_groups=groups, as_dictionaries=as_dictionaries)


class DataFileWriter:
    """Writes ordered rows as data files and their series sidecars, none too large.

    Args:
        storage: The lake's objects.
        table: The table's name.
        with_float_stats: False where a floating-point value may be NaN.
        max_rows: The most rows of a file.
        max_bytes: The most bytes of a file, but for the last row groups.
    """

    def __init__(
        self,
        storage: Storage,
        table: str,
        *,
        with_float_stats: bool,
        max_rows: int = MAX_FILE_ROWS,
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self.files: list[NewFile] = []
        self._storage = storage
        self._table = table
        self._with_float_stats = with_float_stats
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._builder: DataFileBuilder | None = None
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._summaries: list[pa.Table] = []

    def add(self, rows: pa.Table) -> None:
        """Append rows, which follow those before by (month, sort keys)."""
        for month, part in sorted(split_by_month(rows).items()):
            if self._builder is not None and self._builder.month != month:
                self.finish()
            start = 0
            while start < part.num_rows:
                if self._builder is None:
                    self._builder = DataFileBuilder(
                        self._table, month, with_float_stats=self._with_float_stats
                    )
                room = self._max_rows - self._builder.num_rows - self._waiting_rows
                taken = part.slice(start, room)
                start += taken.num_rows
                self._waiting.append(taken)
                self._waiting_rows += taken.num_rows
                self._waiting_bytes += taken.nbytes
                is_heavy = self._waiting_bytes >= _WAITING_BYTES
                self._write(self._waiting_rows - (0 if is_heavy else self._waiting_rows % ROW_GROUP_ROWS))
                if (
                    self._builder.num_rows + self._waiting_rows >= self._max_rows
                    or self._builder.size_bytes >= self._max_bytes
                ):
                    self.finish()

    def finish(self) -> None:
        """Put the file that is being built, and its sidecar, into the store."""
        if self._builder is None:
            return
        self._write(self._waiting_rows)
        data, new = self._builder.finish()
        self._builder = None
        with ThreadPoolExecutor(1, thread_name_prefix="metrics-lake-write") as pool:
            put = pool.submit(self._put, new.file.key, data)
            if self._summaries:
                summary = series.merge(self._summaries)
                self._put(sidecar_key(self._table, new.file.key), series.encode(summary))
                self._summaries = []
            put.result()
        self.files.append(new)

    def _write(self, num_rows: int) -> None:
        """Encode the first rows that wait: whole row groups, until the file ends."""
        if not num_rows or self._builder is None:
            return
        waiting = pa.concat_tables(self._waiting)
        rows = waiting.slice(0, num_rows)
        self._waiting = [waiting.slice(num_rows)] if num_rows < waiting.num_rows else []
        self._waiting_rows -= num_rows
        self._waiting_bytes = sum(each.nbytes for each in self._waiting)
        plain = arrow_schema(self._table)
        for start in range(0, num_rows, _ENCODE_ROWS):
            self._builder.add(conform(rows.slice(start, _ENCODE_ROWS), plain))
        if self._table == METRICS:
            self._summaries.append(series.summarise_sorted(rows))

    def _put(self, key: str, data: bytes | memoryview) -> None:
        if not self._storage.put_new(key, data) and self._storage.get(key) != data:
            # the name is a fresh uuid: only our own earlier attempt can be there
            raise StorageError(f"The object {key!r} holds other bytes than were written.", key=key)


def write_files(
    storage: Storage, table: str, pieces: Iterable[pa.Table], *, with_float_stats: bool, **limits: Any
) -> list[NewFile]:
    """Write ordered pieces of rows as data files while the next piece is made, and return the files.

    Raises:
        StorageError: The store failed; what was written is in no version.
    """
    writer = DataFileWriter(storage, table, with_float_stats=with_float_stats, **limits)
    with ThreadPoolExecutor(1, thread_name_prefix="metrics-lake-write") as pool:
        busy: Future[None] | None = None
        for piece in pieces:
            if busy is not None:
                busy.result()
            busy = pool.submit(writer.add, piece)
        if busy is not None:
            busy.result()
    writer.finish()
    return writer.files
