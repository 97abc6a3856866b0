"""Whether any (resource, writer, seq) is there twice, in bounded memory whatever the number of rows.

Every row is hashed to 64 bits; the hashes go to as many parts as keep a part small, on disk where there are
several. Equal hashes are suspects (of 100 M different rows one pair is expected in some 4,000 runs), and only
a second reading, of the suspects' rows alone, convicts them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["Duplicates", "Suspects"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_PART_ROWS: Final = 4_000_000
_MOST_PARTS: Final = 256
_HASHED_ROWS: Final = 131_072
"""Rows of many small objects are hashed together."""

_FLUSH_BYTES: Final = 1 << 20
_MOST_SUSPECTS: Final = 10_000

_HASH_SQL: Final = "SELECT hash(resource, writer, seq) AS hash FROM rows"
_ROWS_SQL: Final = """
    SELECT resource, writer, seq, count(*) AS times
    FROM (SELECT resource, writer, seq, hash(resource, writer, seq) AS hash FROM rows)
    WHERE hash IN (SELECT hash FROM suspects)
    GROUP BY resource, writer, seq
"""


class Duplicates:
    """Takes the rows of a snapshot and says which of them may be there twice; a context manager.

    Args:
        expected_rows: About how many rows will come.
        part_rows: How many rows are compared at once.
    """

    def __init__(self, expected_rows: int, *, part_rows: int = _PART_ROWS) -> None:
        self._parts = min(max(-(-expected_rows // part_rows), 1), _MOST_PARTS)
        self._buffers: list[list[pa.Array[Any]]] = [[] for _ in range(self._parts)]
        self._sizes = [0] * self._parts
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, rows: pa.Table) -> None:
        """Take rows that count."""
        self._waiting.append(rows.select(["resource", "writer", "seq"]))
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= _HASHED_ROWS:
            self._hash()

    def suspects(self) -> Suspects:
        """Return the hashes that more than one row has."""
        self._hash()
        found: list[pa.Array[Any]] = []
        count = 0
        for part in range(self._parts):
            hashes = self._load(part)
            if len(hashes) < 2:
                continue
            ordered = hashes.take(pc.sort_indices(hashes))
            repeated = ordered.slice(1).filter(pc.equal(ordered.slice(0, len(ordered) - 1), ordered.slice(1)))
            repeated = pc.unique(repeated).slice(0, _MOST_SUSPECTS - count)
            count += len(repeated)
            found.append(repeated)
        return Suspects(pa.concat_arrays(found) if found else pa.array([], pa.uint64()))

    def close(self) -> None:
        """Delete the temporary files."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hash(self) -> None:
        if not self._waiting_rows:
            return
        keys = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        hashes: Any = query.run(_HASH_SQL, rows=keys).column("hash").combine_chunks()
        if self._parts == 1:
            self._buffers[0].append(hashes)
            return
        numbers = pc.bit_wise_and(
            pc.shift_right(hashes, pa.scalar(40, pa.uint64())), pa.scalar(0xFFFF, pa.uint64())
        )
        for part in range(self._parts):
            low, high = part * 65_536 // self._parts, (part + 1) * 65_536 // self._parts
            mask = pc.and_(
                pc.greater_equal(numbers, pa.scalar(low, pa.uint64())),
                pc.less(numbers, pa.scalar(high, pa.uint64())),
            )
            self._keep(part, hashes.filter(mask))

    def _keep(self, part: int, hashes: pa.Array[Any]) -> None:
        self._buffers[part].append(hashes)
        self._sizes[part] += hashes.nbytes
        if self._sizes[part] >= _FLUSH_BYTES:
            with self._path(part).open("ab") as file:
                file.write(_bytes_of(pa.concat_arrays(self._buffers[part])))
            self._buffers[part], self._sizes[part] = [], 0

    def _load(self, part: int) -> Any:
        pieces = list(self._buffers[part])
        self._buffers[part] = []
        if self._folder is not None and self._path(part).exists():
            data = self._path(part).read_bytes()
            pieces.append(pa.Array.from_buffers(pa.uint64(), len(data) // 8, [None, pa.py_buffer(data)]))
        return pa.concat_arrays(pieces) if pieces else pa.array([], pa.uint64())

    def _path(self, part: int) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="metrics-lake-verify-")
        return Path(self._folder.name) / str(part)


class Suspects:
    """Hashes that more than one row has, and the rows that have them.

    Args:
        hashes: The hashes.
    """

    def __init__(self, hashes: pa.Array[Any]) -> None:
        self._hashes = pa.table({"hash": hashes})
        self._places: dict[tuple[str, str, int], list[str]] = {}

    def __len__(self) -> int:
        return self._hashes.num_rows

    def add(self, key: str, rows: pa.Table) -> None:
        """Look for suspects among rows of an object."""
        keys = rows.select(["resource", "writer", "seq"])
        for row in query.run(_ROWS_SQL, rows=keys, suspects=self._hashes).to_pylist():
            place = (row["resource"], row["writer"], row["seq"])
            self._places.setdefault(place, []).extend([key] * row["times"])

    def convicted(self) -> Iterator[tuple[tuple[str, ...], int, tuple[str, str, int]]]:
        """Yield the objects that share rows, how many rows, and one (resource, writer, seq) of them."""
        groups: dict[tuple[str, ...], list[tuple[str, str, int]]] = {}
        for place, keys in self._places.items():
            if len(keys) > 1:
                groups.setdefault(tuple(sorted(set(keys))), []).append(place)
        for shared, places in sorted(groups.items()):
            yield shared, len(places), min(places)


def _bytes_of(hashes: pa.Array[Any]) -> memoryview:
    data = hashes.buffers()[1]
    if data is None:
        raise AssertionError("an array of numbers has a buffer")
    return memoryview(data)[hashes.offset * 8 : (hashes.offset + len(hashes)) * 8]
