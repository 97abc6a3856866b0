"""Data files: sorted rows in, the bytes and the log's description of one file out."""

from __future__ import annotations

import uuid
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake.commits.bloom import make_bloom
from metrics_lake.commits.model import DataFile
from metrics_lake.commits.parquet import RowEncoder
from metrics_lake.commits.stats import StatsBuilder, parse_stats
from metrics_lake.commits.transaction import NewFile
from metrics_lake.layout import data_key

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_FILE_ROWS",
    "DataFileBuilder",
    "digest_of",
    "new_name",
    "split_by_month",
]

MAX_FILE_BYTES: Final = 128 << 20
MAX_FILE_ROWS: Final = 2_500_000


def digest_of(data: bytes | memoryview) -> str:
    """Return the digest of an object's bytes that the log keeps: 16 bytes of BLAKE2b, in hexadecimal."""
    return blake2b(data, digest_size=16).hexdigest()


def new_name() -> str:
    """Return the name of a new data file, unique for ever."""
    return uuid.uuid4().hex


class DataFileBuilder:
    """Builds one data file from rows that come in the order of the sort keys, piece by piece.

    Args:
        table: The table's name.
        month: The file's partition, ``YYYY-MM``: every row's timestamp lies in it.
        with_float_stats: False where a floating-point value may be NaN.
        make_name: Gives the file's name, which must be unique for ever.
    """

    def __init__(
        self, table: str, month: str, *, with_float_stats: bool, make_name: Callable[[], str] = new_name
    ) -> None:
        self.table = table
        self.month = month
        self._name = make_name
        self._sink = pa.BufferOutputStream()
        self._encoder = RowEncoder(
            table, self._sink, metadata={}, presorted=True, with_float_stats=with_float_stats
        )
        self._stats = StatsBuilder(table)
        self._resources: dict[str, None] = {}

    @property
    def num_rows(self) -> int:
        """The rows so far."""
        return self._stats.num_records

    @property
    def size_bytes(self) -> int:
        """The encoded bytes so far."""
        return int(self._sink.tell())

    def add(self, rows: pa.Table) -> None:
        """Append rows."""
        if rows.num_rows:
            self._encoder.write(rows)
            self._stats.add(rows)
            resources: list[Any] = pc.unique(rows.column("resource")).to_pylist()
            self._resources.update(dict.fromkeys(resources))

    def finish(self) -> tuple[memoryview, NewFile]:
        """Return the file's bytes and its description."""
        self._encoder.close()
        data = memoryview(self._sink.getvalue())  # up to 128 MB: not copied
        text = self._stats.to_json()
        num_records, stats = parse_stats(self.table, text)
        file = DataFile(
            key=data_key(self.table, self.month, self._name()),
            size_bytes=len(data),
            num_records=num_records,
            month=self.month,
            stats=stats,
            is_ours=True,
            bloom=make_bloom(self._resources),
            digest=digest_of(data),
        )
        return data, NewFile(file, text)


def split_by_month(rows: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each month ``YYYY-MM`` (UTC) of their timestamps, in the order given."""
    if not rows.num_rows:
        return {}
    times: Any = rows.column("timestamp").cast(pa.timestamp("us"))  # as UTC wall time: four times as fast
    bounds: Any = pc.min_max(times)
    first, last = (_month_number(bounds[name]).as_py() for name in ("min", "max"))
    if first == last:
        return {_month_text(first): rows}
    numbers = _month_number(times)
    present = sorted(pc.unique(numbers).to_pylist())
    return {_month_text(number): rows.filter(pc.equal(numbers, number)) for number in present}


def _month_number(times: Any) -> Any:
    return pc.add(pc.multiply(pc.year(times), 12), pc.subtract(pc.month(times), 1))


def _month_text(number: int) -> str:
    return f"{number // 12:04d}-{number % 12 + 1:02d}"
