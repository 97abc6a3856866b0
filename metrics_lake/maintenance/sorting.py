"""Any number of rows in order, in bounded memory.

Rows are sorted in runs of half a million. One run stays in memory. Several go to temporary files in small
batches whose first keys are remembered; every so many bytes one of these keys becomes a splitter. For each
splitter the batches that begin in front of it are read from all runs, sorted together, and what sorts before
the splitter is final. What waits behind it is less than one batch a run, so memory does not grow with the
rows, whatever their keys: one resource, or one series, may hold all of them.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from metrics_lake.commits import sort_rows
from metrics_lake.commits.parquet import conform, dictionary_schema, has_nan
from metrics_lake.errors import StorageError
from metrics_lake.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["RowSorter"]

RUN_ROWS: Final = 500_000
RUN_BYTES: Final = 96 << 20
BATCH_ROWS: Final = 4_096
BATCH_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 48 << 20

_MONTH: Final = "month#"
_SMALL_DICTIONARY: Final = 256

_Key = tuple[Any, ...]


class _Run:
    """A sorted run in a temporary file, read batch by batch."""

    def __init__(self, path: Path, keys: list[_Key], sizes: list[int]) -> None:
        self.path = path
        self.keys = keys
        self.sizes = sizes
        self._position = 0
        self._file: Any = None

    def before(self, splitter: _Key | None) -> Iterator[pa.RecordBatch]:
        """Yield the unread batches that begin in front of a splitter (None: all)."""
        if self._file is None:
            self._file = pa.ipc.open_stream(pa.OSFile(str(self.path), "rb"))
        while self._position < len(self.keys) and (splitter is None or self.keys[self._position] < splitter):
            yield self._file.read_next_batch()
            self._position += 1


class RowSorter:
    """Takes rows in any order and gives them back by (month, sort keys); a context manager.

    Args:
        table: The table's name.
        work_dir: Where temporary files go; None = the system's place.
        run_rows: Rows that are sorted at once.

    Attributes:
        num_rows: The rows taken so far.
        has_nan: Whether one of them holds a NaN.
    """

    def __init__(self, table: str, *, work_dir: str | None = None, run_rows: int = RUN_ROWS) -> None:
        self.num_rows = 0
        self.has_nan = False
        self._table = table
        self._schema = dictionary_schema(table)
        self._keys = (_MONTH, *TABLES[table].sort_keys)
        self._run_rows = run_rows
        self._batch_rows = min(BATCH_ROWS, max(run_rows // 4, 1))
        self._work_dir = work_dir
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._buffer: list[pa.Table] = []
        self._buffered_rows = 0
        self._buffered_bytes = 0
        self._runs: list[_Run] = []
        self._spiller = ThreadPoolExecutor(1, thread_name_prefix="metrics-lake-sort")
        self._spilling: Future[None] | None = None

    def add(self, rows: pa.Table) -> None:
        """Take rows in the table's schema, or better in its ``dictionary_schema``."""
        if not rows.num_rows:
            return
        step = max(min(self._run_rows, RUN_BYTES // max(rows.nbytes // rows.num_rows, 1)), 1)
        for start in range(0, rows.num_rows, step):
            self._add(rows.slice(start, step))

    def _add(self, rows: pa.Table) -> None:
        self.num_rows += rows.num_rows
        self.has_nan = self.has_nan or has_nan(rows)
        rows = conform(rows, self._schema)
        self._buffer.append(rows)
        self._buffered_rows += rows.num_rows
        self._buffered_bytes += rows.nbytes
        if self._buffered_rows >= self._run_rows or self._buffered_bytes >= RUN_BYTES:
            self._spill()

    def pieces(self) -> Iterator[pa.Table]:
        """Yield all rows in order, in pieces of some 48 MB; then the sorter is used up.

        The pieces are in the table's ``dictionary_schema``.
        """
        if not self._runs and self._spilling is None:
            if self._buffer:
                rows = self._sorted(self._take_buffer()).drop_columns([_MONTH])
                step = max(int(PIECE_BYTES // max(rows.nbytes // rows.num_rows, 1)), 1)
                for start in range(0, rows.num_rows, step):
                    yield rows.slice(start, step)
            return
        if self._buffer:
            self._spill()
        self._wait()
        yield from self._merged()

    def close(self) -> None:
        """Delete the temporary files."""
        self._spiller.shutdown(wait=True)
        self._runs.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_buffer(self) -> pa.Table:
        rows = pa.concat_tables(self._buffer)
        self._buffer, self._buffered_rows, self._buffered_bytes = [], 0, 0
        return rows

    def _sorted(self, rows: pa.Table) -> pa.Table:
        if _MONTH not in rows.column_names:
            times: Any = rows.column("timestamp").cast(pa.timestamp("us"))
            months = pc.add(pc.multiply(pc.year(times), 12), pc.month(times))
            rows = rows.append_column(_MONTH, months.cast(pa.int32()))
        return sort_rows(self._table, rows, keys=self._keys)

    def _spill(self) -> None:
        self._wait()
        self._spilling = self._spiller.submit(self._write_run, self._take_buffer())

    def _wait(self) -> None:
        if self._spilling is not None:
            self._spilling.result()
            self._spilling = None

    def _write_run(self, rows: pa.Table) -> None:
        try:
            self._write_run_file(rows)
        except OSError as error:
            raise StorageError(
                f"Rows could not be sorted: temporary files failed: {error}.",
                hint="Make room, or point TMPDIR (or work_dir) to a larger disk.",
                operation="sort",
            ) from error

    def _write_run_file(self, rows: pa.Table) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="metrics-lake-sort-", dir=self._work_dir)
        path = Path(self._folder.name) / f"{len(self._runs)}.arrow"
        rows = self._sorted(rows)
        batch_rows = max(min(self._batch_rows, BATCH_BYTES // max(rows.nbytes // rows.num_rows, 1)), 1)
        keys, sizes = [], []
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_stream(sink, rows.schema, options=options) as writer,
        ):
            for whole in rows.to_batches(max_chunksize=batch_rows):
                batch = _with_own_dictionaries(whole)
                keys.append(self._key(batch, 0))
                sizes.append(batch.nbytes)
                writer.write_batch(batch)
        self._runs.append(_Run(path, keys, sizes))
        pa.default_memory_pool().release_unused()

    def _merged(self) -> Iterator[pa.Table]:
        schema = self._schema.append(pa.field(_MONTH, pa.int32()))
        carry = schema.empty_table()
        for splitter in (*self._splitters(), None):
            batches = [batch for run in self._runs for batch in run.before(splitter)]
            rows = self._sorted(pa.concat_tables([carry, pa.Table.from_batches(batches, schema=schema)]))
            del batches
            final = rows.num_rows if splitter is None else self._position(rows, splitter)
            if final:
                yield rows.slice(0, final).drop_columns([_MONTH])
            # a copy, so that the emitted rows can be freed
            carry = rows.slice(final).take(pa.array(range(rows.num_rows - final), pa.int64()))
            del rows
            pa.default_memory_pool().release_unused()

    def _splitters(self) -> list[_Key]:
        batches = sorted(
            (key, size) for run in self._runs for key, size in zip(run.keys, run.sizes, strict=True)
        )
        splitters: list[_Key] = []
        waiting = 0
        for key, size in batches:
            if waiting >= PIECE_BYTES and (not splitters or key > splitters[-1]):
                splitters.append(key)
                waiting = 0
            waiting += size
        return splitters

    def _position(self, rows: pa.Table, splitter: _Key) -> int:
        return bisect_left(range(rows.num_rows), splitter, key=lambda index: self._key(rows, index))

    def _key(self, rows: pa.Table | pa.RecordBatch, index: int) -> _Key:
        """Return one row's sort key as Python compares it: texts by code point, NULL first."""
        key: list[Any] = []
        for name in self._keys:
            scalar: Any = rows.column(name)[index]
            if not scalar.is_valid:
                key.append((False,))
            elif isinstance(scalar, pa.TimestampScalar):
                key.append((True, scalar.value))
            else:
                key.append((True, scalar.as_py()))
        return tuple(key)


def _with_own_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose large dictionaries hold its own texts only, not those of the run it is cut from.

    Small ones stay as they are: a stream writes a dictionary again only where it changes. Columns of NULLs
    are made anew: their buffers may be as long as the run, and every batch of it would write them whole.
    """

    def own(column: Any) -> Any:
        if isinstance(column, pa.DictionaryArray) and len(column.dictionary) > _SMALL_DICTIONARY:
            return column.dictionary_decode().dictionary_encode()
        return pa.nulls(len(column), column.type) if column.null_count == len(column) else column

    return pa.RecordBatch.from_arrays([own(column) for column in batch.columns], schema=batch.schema)
