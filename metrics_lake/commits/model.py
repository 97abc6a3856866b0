"""What a snapshot is made of: values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from metrics_lake.commits.intervals import Intervals
    from metrics_lake.layout import InboxName

__all__ = ["ColumnStats", "DataFile", "Gap", "InboxFile", "LiveFile", "LogView", "PendingRun", "Snapshot"]


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """What the log says about one column of a data file.

    The bounds enclose every value and may be wider than the values (strings are cut, timestamps rounded
    outwards), so they prune and never answer.

    Attributes:
        min: A lower bound: str, int, or for timestamps microseconds since 1970 as int; None = unknown.
        max: An upper bound, likewise.
        null_count: The number of NULLs, or None where it is unknown.
    """

    min: Any
    max: Any
    null_count: int | None


@dataclass(frozen=True, slots=True)
class DataFile:
    """One live file of the compacted table.

    Attributes:
        key: The file's key under the lake's url, percent-decoded.
        size_bytes: Its size in bytes.
        num_records: Its number of rows, or None where the log does not say.
        month: Its partition, ``YYYY-MM``; ``''`` where a foreign writer left it NULL.
        stats: Bounds by column; a column that is absent is unknown.
        is_ours: True where the file carries our tags: then it is sorted by the table's sort keys, unless its
            name says otherwise, and has a digest. A foreign file has no assumed order.
        bloom: The bloom filter of its resources (see :mod:`metrics_lake.commits.bloom`), or None.
        digest: The digest of the file's bytes, or None for a foreign file.
    """

    key: str
    size_bytes: int
    num_records: int | None
    month: str
    stats: Mapping[str, ColumnStats]
    is_ours: bool
    bloom: bytes | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class PendingRun:
    """Rows that a writer of this process holds and that no snapshot shows yet.

    Attributes:
        writer: The writer's id.
        first: The ``seq`` of the first row.
        last: The ``seq`` of the last row; there are exactly ``last - first + 1`` rows.
        rows: The rows in the table's full schema, ascending by ``seq``.
    """

    writer: str
    first: int
    last: int
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class InboxFile:
    """One object of a listing of the inbox, its name parsed."""

    name: InboxName
    size_bytes: int
    modified: float


@dataclass(frozen=True, slots=True)
class LiveFile:
    """One inbox object of which some rows count.

    Attributes:
        name: What the object's name says.
        size_bytes: Its size in bytes.
        modified: When the store made it visible, POSIX seconds by the store's clock.
        keep: The inclusive ``seq`` ranges that count, ascending; the other rows are in the table or in
            another live file.
    """

    name: InboxName
    size_bytes: int
    modified: float
    keep: Intervals


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows of a writer that no object holds: lost, quarantined or very late.

    Attributes:
        writer: The writer's id.
        first: The first missing ``seq``.
        last: The last missing ``seq``.
        since: When the object behind the gap appeared, POSIX seconds by the store's clock.
        is_skipped: True where the snapshot reads on behind the gap; False where it stops there for now.
        is_settled: True where an earlier commit already read on behind the gap.
    """

    writer: str
    first: int
    last: int
    since: float
    is_skipped: bool
    is_settled: bool


class LogView(Protocol):
    """What liveness needs to know of a table's log at one version."""

    @property
    def version(self) -> int:
        """The version, -1 where there is no log yet."""
        ...

    def consumed(self, writer: str) -> Intervals:
        """Return the ``seq`` intervals of a writer whose rows the table has taken over."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which rows a read sees: exactly once each, from the table, the inbox and this process's own journal.

    Attributes:
        table: The table's name.
        log: The table at one version of its log.
        inbox: The inbox objects of which rows count, ascending by (writer, first, last).
        pending: Own rows that neither the table nor the inbox objects hold.
        gaps: Where rows of a writer are missing in front of published ones.
        listed: Every object of the inbox, consumed ones included.
    """

    table: str
    log: Any
    inbox: tuple[LiveFile, ...]
    pending: tuple[PendingRun, ...]
    gaps: tuple[Gap, ...]
    listed: tuple[InboxFile, ...]

    def __str__(self) -> str:
        """The published part as a text that names the same rows in any process, as ``at=`` takes it."""
        from metrics_lake.commits.pins import snapshot_to_text  # which needs this module

        return snapshot_to_text(self)

    @property
    def is_void(self) -> bool:
        """Whether there is no object of the table at all: nothing was ever published, or all was deleted."""
        return self.log.version < 0 and not self.listed

    @property
    def num_listed(self) -> int:
        """The number of objects in the inbox, consumed ones included."""
        return len(self.listed)

    @property
    def num_inbox_rows(self) -> int:
        """The number of inbox rows that count."""
        return sum(last - first + 1 for live in self.inbox for first, last in live.keep)
