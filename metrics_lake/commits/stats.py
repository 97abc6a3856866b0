"""The statistics that the log keeps of a data file: every engine skips rightly by them.

Rules that were found by trying the engines: timestamps in milliseconds, the maximum rounded up; strings cut
to 32 characters, a cut maximum ends one code point higher; where one bound cannot be given, no bounds at all
(leaving out those of one column made pyarrow datasets drop rows); never NaN.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake.commits.model import ColumnStats
from metrics_lake.schema import TABLES, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StatsBuilder", "parse_stats"]

_MAX_CHARACTERS: Final = 32
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND: Final = (datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC) - _EPOCH) // timedelta(
    milliseconds=1
)
_SURROGATES: Final = range(0xD800, 0xE000)


class StatsBuilder:
    """Gathers the statistics of one data file from its rows, piece by piece.

    Args:
        table: The table's name.
    """

    def __init__(self, table: str) -> None:
        self.num_records = 0
        self._columns = TABLES[table].stats_columns
        schema = arrow_schema(table)
        self._is_time = {name: pa.types.is_timestamp(schema.field(name).type) for name in self._columns}
        self._bounds: dict[str, tuple[Any, Any]] = {}
        self._nulls = dict.fromkeys(self._columns, 0)

    def add(self, rows: pa.Table) -> None:
        """Take rows into account."""
        self.num_records += rows.num_rows
        for name in self._columns:
            column = rows.column(name)
            self._nulls[name] += column.null_count
            if self._is_time[name]:
                column = column.cast(pa.int64())
            bounds: Any = pc.min_max(column).as_py()
            low, high = bounds["min"], bounds["max"]
            if low is None:
                continue
            if name in self._bounds:
                known_low, known_high = self._bounds[name]
                low, high = min(low, known_low), max(high, known_high)
            self._bounds[name] = low, high

    def to_json(self) -> str:
        """Return the ``stats`` text of the file's ``add`` action."""
        lows: dict[str, Any] = {}
        highs: dict[str, Any] = {}
        for name, (low, high) in self._bounds.items():
            bounds = self._time_bounds(low, high) if self._is_time[name] else _plain_bounds(low, high)
            if bounds is None:
                return json.dumps({"numRecords": self.num_records})
            lows[name], highs[name] = bounds
        return json.dumps(
            {
                "numRecords": self.num_records,
                "minValues": lows,
                "maxValues": highs,
                "nullCount": self._nulls,
            },
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @staticmethod
    def _time_bounds(low: int, high: int) -> tuple[str, str] | None:
        first, last = low // 1000, -(-high // 1000)
        if last > _LAST_MILLISECOND:
            return None
        return _format_time(first), _format_time(last)


def _plain_bounds(low: Any, high: Any) -> tuple[Any, Any] | None:
    if not isinstance(low, str):
        return low, high
    cut = _round_up(high)
    return None if cut is None else (low[:_MAX_CHARACTERS], cut)


def _round_up(text: str) -> str | None:
    """Return a short text that sorts at or behind ``text``, or None where there is none."""
    if len(text) <= _MAX_CHARACTERS:
        return text
    cut = text[:_MAX_CHARACTERS]
    while cut:
        following = ord(cut[-1]) + 1
        if following in _SURROGATES:
            following = _SURROGATES.stop
        if following <= 0x10FFFF:
            return cut[:-1] + chr(following)
        cut = cut[:-1]
    return None


def _format_time(milliseconds: int) -> str:
    time = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z".rjust(24, "0")


def parse_stats(table: str, text: str | None) -> tuple[int | None, dict[str, ColumnStats]]:
    """Return a file's number of rows and what its ``stats`` say of our columns.

    Whatever cannot be read is unknown: statistics only ever prune. Timestamp maxima are widened by one
    millisecond, since other writers cut them.
    """
    if not text:
        return None, {}
    try:
        stats = json.loads(text)
    except ValueError:
        return None, {}
    if not isinstance(stats, dict):
        return None, {}
    num_records = stats.get("numRecords")
    lows, highs, nulls = (_mapping(stats.get(name)) for name in ("minValues", "maxValues", "nullCount"))
    schema = arrow_schema(table)
    columns = {}
    for name in TABLES[table].stats_columns:
        if name not in lows and name not in highs and name not in nulls:
            continue
        kind = schema.field(name).type
        count = nulls.get(name)
        columns[name] = ColumnStats(
            _parse_bound(lows.get(name), kind, widen=0),
            _parse_bound(highs.get(name), kind, widen=1000),
            count if isinstance(count, int) else None,
        )
    return num_records if isinstance(num_records, int) else None, columns


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _parse_bound(value: Any, kind: pa.DataType, *, widen: int) -> Any:
    if pa.types.is_timestamp(kind):
        if not isinstance(value, str):
            return None
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return None
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        return (time - _EPOCH) // timedelta(microseconds=1) + widen
    expected = str if pa.types.is_string(kind) else int
    return value if isinstance(value, expected) and not isinstance(value, bool) else None
