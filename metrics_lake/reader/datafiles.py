"""Compacted files: their series sidecars, and on object stores their rows by ranged requests."""

from __future__ import annotations

import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from metrics_lake import series
from metrics_lake.commits.parquet import conform, dictionary_schema
from metrics_lake.errors import CorruptObjectError, ObjectNotFoundError
from metrics_lake.layout import sidecar_key
from metrics_lake.schema import TABLES, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metrics_lake.commits import DataFile
    from metrics_lake.reader.cache import ByteCache
    from metrics_lake.reader.selection import Selection
    from metrics_lake.storage import Storage

__all__ = ["DataFiles"]

_FOOTER_GUESS_BYTES: Final = 256 << 10
"""A 2.5 M-row file with row groups of 16k rows has a footer of 166 kB: one request gets it."""

_WHOLE_BYTES: Final = 1 << 20
"""Smaller files are fetched whole."""

_BATCH_BYTES: Final = 8 << 20
"""Row groups are fetched and decoded in batches of this size before compression."""

_COALESCE_BYTES: Final = 64 << 10
_THREADS: Final = 16
_DECODING_THREADS: Final = 4
"""One batch waits for the store while another one is decoded."""

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Footer:
    metadata: pq.FileMetaData
    bounds: tuple[dict[str, tuple[Any, Any]], ...]


class DataFiles:
    """Reads the data files of one table; thread-safe.

    Args:
        storage: The lake's objects.
        table: The table's name.
        cache: Keeps footers and sidecars by name.
    """

    def __init__(self, storage: Storage, table: str, cache: ByteCache) -> None:
        self._storage = storage
        self._table = table
        self._cache = cache

    # ---- sidecars ------------------------------------------------------------------------------------------

    def sidecars(self, files: Sequence[DataFile]) -> list[pa.Table | None]:
        """Return the series summary of each file; None where it has none and must be scanned.

        A damaged sidecar counts as none: it is derived from the file, which says the same.

        Raises:
            StorageError: The store failed.
        """
        keys = [sidecar_key(self._table, each.key) for each in files]
        found: dict[str, Any] = {key: self._cache.get(key) for key in keys}
        missing = [key for key, each in zip(keys, files, strict=True) if found[key] is None and each.is_ours]
        if len(missing) == 1 or not self._storage.is_remote:
            fetched = [self._sidecar(key) for key in missing]
        elif missing:
            with ThreadPoolExecutor(min(_THREADS, len(missing))) as pool:
                fetched = list(pool.map(self._sidecar, missing))
        else:
            fetched = []
        found.update(zip(missing, fetched, strict=True))
        return [each if isinstance(each, pa.Table) else None for each in map(found.get, keys)]

    def _sidecar(self, key: str) -> pa.Table | bool:
        summary: pa.Table | bool
        try:
            summary = series.decode(self._storage.get(key), key=key)
        except (ObjectNotFoundError, CorruptObjectError):
            summary = False
        self._cache.put(key, summary, summary.nbytes if isinstance(summary, pa.Table) else len(key))
        return summary

    # ---- rows ----------------------------------------------------------------------------------------------

    def batches(self, files: Sequence[DataFile], selection: Selection) -> Iterator[pa.RecordBatch]:
        """Yield the rows of row groups that may hold a selection's, by ranged requests in parallel.

        Every page's checksum is verified. Memory holds a few batches of row groups at a time.

        Raises:
            ObjectNotFoundError: A file is gone.
            CorruptObjectError: A file is damaged.
            StorageError: The store failed.
        """

        def parts() -> Iterator[tuple[DataFile, _Footer, list[int]]]:
            footers = _ahead(self._footer, files, _THREADS)
            for each, footer in zip(files, footers, strict=True):
                wanted = [at for at, bounds in enumerate(footer.bounds) if _may_hold(bounds, selection)]
                for groups in _by_size(footer.metadata, wanted):
                    yield each, footer, groups

        def read(part: tuple[DataFile, _Footer, list[int]]) -> pa.Table:
            each, footer, groups = part
            return self._row_groups(each, footer.metadata, groups, selection)

        for rows in _ahead(read, parts(), _DECODING_THREADS):
            yield from rows.to_batches()

    def _footer(self, file: DataFile) -> _Footer:
        footer: _Footer | None = self._cache.get(file.key)
        if footer is None:
            start = max(file.size_bytes - _FOOTER_GUESS_BYTES, 0)
            source = _Sparse(self._storage, file.key, file.size_bytes)
            source.fetch([(start, file.size_bytes)])
            try:
                metadata = pq.read_metadata(pa.PythonFile(source, mode="r"))
            except (pa.ArrowException, OSError) as error:
                raise _corrupt(file.key, error) from error
            footer = _Footer(
                metadata, tuple(_bounds_of(metadata, at) for at in range(metadata.num_row_groups))
            )
            self._cache.put(file.key, footer, 2 * metadata.serialized_size)
        return footer

    def _row_groups(
        self, file: DataFile, metadata: pq.FileMetaData, groups: Sequence[int], selection: Selection
    ) -> pa.Table:
        source = _Sparse(self._storage, file.key, file.size_bytes)
        if file.size_bytes <= _WHOLE_BYTES:
            source.fetch([(0, file.size_bytes)])
        else:
            source.fetch(_coalesced(_chunk_ranges(metadata, groups)))
        # As dictionaries, and plain texts of the chosen rows alone: the most of what decoding costs.
        schema = dictionary_schema(self._table)
        try:
            with pq.ParquetFile(
                pa.PythonFile(source, mode="r"),
                metadata=metadata,
                page_checksum_verification=True,
                read_dictionary=list(TABLES[self._table].dictionary_columns),
            ) as opened:
                stored = [each.name for each in schema if each.name in opened.schema_arrow.names]
                rows = opened.read_row_groups(list(groups), columns=stored, use_threads=False)
            return selection.rows_of(conform(rows, schema)).cast(arrow_schema(self._table))
        except (pa.ArrowException, OSError) as error:
            raise _corrupt(file.key, error) from error


class _Sparse(io.RawIOBase):
    """A file of which some ranges are in memory; the others are fetched when they are read."""

    def __init__(self, storage: Storage, key: str, size_bytes: int) -> None:
        self._storage = storage
        self._key = key
        self._size = size_bytes
        self._position = 0
        self._pieces: list[tuple[int, bytes]] = []

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Bring these ranges into memory, in parallel."""
        found = self._storage.get_many([(self._key, start, end) for start, end in ranges])
        self._pieces += [(start, data) for (start, _), data in zip(ranges, found, strict=True)]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        start = self._position
        end = self._size if size < 0 else min(start + size, self._size)
        self._position = max(start, end)
        for first, data in self._pieces:
            if first <= start and end <= first + len(data):
                return data[start - first : end - first]
        return self._storage.get(self._key, start, end) if end > start else b""


def _bounds_of(metadata: pq.FileMetaData, number: int) -> dict[str, tuple[Any, Any]]:
    """Return the bounds that a row group's statistics give: of ids and steps, which are exact there."""
    bounds = {}
    group = metadata.row_group(number)
    for at in range(group.num_columns):
        column = group.column(at)
        # pyarrow 26 aborts the process that asks for statistics whose type is not the schema's, which one
        # flipped bit in a footer can do; without bounds the row group is read, and that raises.
        if column.physical_type != metadata.schema.column(at).physical_type:
            continue
        if column.path_in_schema in {"resource", "metric", "step"}:
            statistics = column.statistics
            if statistics is not None and statistics.has_min_max:
                bounds[column.path_in_schema] = (statistics.min, statistics.max)
    return bounds


def _may_hold(bounds: dict[str, tuple[Any, Any]], selection: Selection) -> bool:
    for name, ids in (("resource", selection.resources), ("metric", selection.metrics)):
        if ids is not None and name in bounds and not ids.may_be_within(*bounds[name]):
            return False
    if selection.steps is not None and "step" in bounds:
        low, high = bounds["step"]
        return not (selection.steps.last < low or selection.steps.first > high)
    return True


def _by_size(metadata: pq.FileMetaData, wanted: Sequence[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for at in wanted:
        group_bytes = metadata.row_group(at).total_byte_size
        if batch and size + group_bytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(at)
        size += group_bytes
    if batch:
        yield batch


def _chunk_ranges(metadata: pq.FileMetaData, groups: Sequence[int]) -> Iterator[tuple[int, int]]:
    for at in groups:
        group = metadata.row_group(at)
        for number in range(group.num_columns):
            column = group.column(number)
            offsets = [column.data_page_offset]
            if column.dictionary_page_offset is not None:
                offsets.append(column.dictionary_page_offset)
            yield min(offsets), min(offsets) + column.total_compressed_size


def _coalesced(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start - merged[-1][1] <= _COALESCE_BYTES:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _ahead(call: Callable[[_Item], _Answer], items: Iterable[_Item], number: int) -> Iterator[_Answer]:
    """Yield a call's answers in the order of the items, while the calls for the next ones run in threads."""
    with ThreadPoolExecutor(number, thread_name_prefix="metrics_lake-read") as pool:
        running: deque[Future[_Answer]] = deque()
        try:
            for item in items:
                running.append(pool.submit(call, item))
                if len(running) >= number:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for each in running:
                each.cancel()


def _corrupt(key: str, error: BaseException) -> CorruptObjectError:
    return CorruptObjectError(
        f"The object {key!r} cannot be decoded: {error}",
        hint="inspect.verify() lists what is damaged.",
        key=key,
    )
