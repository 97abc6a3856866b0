"""The live inbox as this process knows it: decoded once, folded into few tables, kept up to date.

A lake between two compactions has hundreds of small inbox objects. Their rows are kept as a few *groups*,
each one Arrow table (and, once it is large, its series summary). A new object makes a new group, and groups
that are not much larger than their successor are merged with it, so that there are O(log n) of them and a
row is copied O(log n) times. When a compaction has consumed objects, their rows are cut out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from metrics_lake import series
from metrics_lake.commits.parquet import conform, decode_rows
from metrics_lake.errors import CorruptObjectError
from metrics_lake.schema import METRICS, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metrics_lake.commits import LiveFile
    from metrics_lake.storage import Storage

__all__ = ["SCAN_ROWS", "Group", "Recent", "read_live"]

SCAN_ROWS: Final = 65_536
"""Groups up to this size may be searched row by row (0.4 ms at 10k rows): DuckDB need not be loaded."""

_SCANS: Final = 8
"""After so many searches a summary pays: it takes 13 ms to make and 0.02 ms to search."""

_BATCH_BYTES: Final = 16 << 20
"""Objects are fetched and decoded in batches of this size, so that a large inbox never is in memory whole."""

_BATCH_OBJECTS: Final = 256


@dataclass(slots=True)
class Group:
    """The rows of some live inbox objects.

    Attributes:
        files: The objects in the order of their rows.
        num_rows: How many rows of them count.
        rows: The rows, in one chunk; None where they were too many to keep.
        summary: Their series summary; None until it is needed, and of tables other than metrics.
        scans: How often the rows were searched one by one.
    """

    files: tuple[LiveFile, ...]
    num_rows: int
    rows: pa.Table | None
    summary: pa.Table | None = None
    scans: int = 0
    lock: Lock = field(default_factory=Lock, repr=False)

    def to_scan(self, scan_rows: int) -> pa.Table | None:
        """Return the rows where one more search of them is cheaper than a summary, else None."""
        if self.summary is not None or self.rows is None or self.num_rows > scan_rows:
            return None
        self.scans += 1
        return self.rows if self.scans <= _SCANS else None

    def summarised(self) -> pa.Table:
        """Return the series summary of the rows."""
        with self.lock:
            if self.summary is None:
                if self.rows is None:
                    raise AssertionError("a group has neither rows nor a summary")
                self.summary = series.summarise(self.rows).combine_chunks()
            return self.summary


class Recent:
    """Keeps the groups of one table's live inbox; thread-safe.

    Args:
        storage: The lake's objects.
        table: The table's name.
        limit_bytes: How many bytes of rows are kept; of larger inboxes of metrics the summaries alone are.
        published: Gives the rows of an object by its key, where this process has just published it.
    """

    def __init__(
        self, storage: Storage, table: str, limit_bytes: int, published: Callable[[str], pa.Table | None]
    ) -> None:
        self._storage = storage
        self._table = table
        self._limit_bytes = limit_bytes
        self._published = published
        self._lock = Lock()
        self._inbox: tuple[LiveFile, ...] = ()
        self._groups: tuple[Group, ...] = ()

    def groups(self, inbox: tuple[LiveFile, ...]) -> tuple[Group, ...]:
        """Return the rows of exactly these live objects, reading those that are new.

        Raises:
            ObjectNotFoundError: An object is gone: the snapshot is too old.
            CorruptObjectError: An object is damaged.
            StorageError: The store failed.
        """
        with self._lock:
            # The same tuple comes back as long as neither the listing nor the log changed.
            if inbox is self._inbox or inbox == self._inbox:
                return self._groups
            groups = self._kept(inbox)
            known = {live.name for group in groups for live in group.files}
            for batch in _batches([live for live in inbox if live.name not in known]):
                rows = pa.concat_tables(self._rows(batch)).combine_chunks()
                groups.append(Group(batch, rows.num_rows, rows))
                self._merge_tail(groups)
                self._enforce_limit(groups)
            self._inbox = inbox
            self._groups = tuple(groups)
            return self._groups

    def _rows(self, batch: Sequence[LiveFile]) -> list[pa.Table]:
        """Return the rows that count of each object, reading those that this process does not have."""
        schema = arrow_schema(self._table)
        found = {}
        for live in batch:
            rows = self._published(live.name.key)
            if rows is not None:
                found[live.name] = _that_count(live, conform(rows, schema))
        rest = [live for live in batch if live.name not in found]
        if rest:
            read = read_live(self._storage, self._table, rest)
            found |= zip((live.name for live in rest), read, strict=True)
        return [found[live.name] for live in batch]

    def _kept(self, inbox: tuple[LiveFile, ...]) -> list[Group]:
        """Return what is known of these objects already."""
        live = {each.name: each.keep for each in inbox}
        kept = []
        for group in self._groups:
            still = tuple(each for each in group.files if live.get(each.name) == each.keep)
            if len(still) == len(group.files):
                kept.append(group)
            elif still and group.rows is not None:
                rows = _rows_of(group, {each.name for each in still})
                kept.append(Group(still, rows.num_rows, rows))
        return kept

    def _merge_tail(self, groups: list[Group]) -> None:
        while len(groups) > 1 and groups[-2].num_rows <= 2 * groups[-1].num_rows:
            last, before = groups[-1], groups[-2]
            if (last.rows is None) != (before.rows is None):
                break  # what was let go of stays apart, or its rows would have to be read again
            num_rows = before.num_rows + last.num_rows
            summary = None
            have_summaries = last.summary is not None and before.summary is not None
            if have_summaries and (last.rows is None or num_rows > SCAN_ROWS):
                summary = series.merge([before.summarised(), last.summarised()]).combine_chunks()
            rows = None
            if last.rows is not None and before.rows is not None:
                rows = pa.concat_tables([before.rows, last.rows]).combine_chunks()
            groups[-2:] = [Group(before.files + last.files, num_rows, rows, summary)]

    def _enforce_limit(self, groups: list[Group]) -> None:
        kept = sorted((group for group in groups if group.rows is not None), key=_size, reverse=True)
        size = sum(map(_size, kept))
        for group in kept:
            if size <= self._limit_bytes:
                break
            if self._table == METRICS:  # other tables have no series
                group.summarised()
            size -= _size(group)
            position = next(at for at, each in enumerate(groups) if each is group)
            # A new object: readers of the previous snapshot may hold the old one.
            groups[position] = Group(group.files, group.num_rows, None, group.summary)


def read_live(storage: Storage, table: str, files: Sequence[LiveFile]) -> list[pa.Table]:
    """Return the rows that count of each inbox object, fetched in parallel.

    Raises:
        ObjectNotFoundError: An object is gone.
        CorruptObjectError: An object is damaged, or holds other rows than its name says.
        StorageError: The store failed.
    """
    if not files:
        return [arrow_schema(table).empty_table()]
    contents = storage.get_many([(live.name.key, 0, live.size_bytes) for live in files])
    return [_decoded(table, live, data) for live, data in zip(files, contents, strict=True)]


def _decoded(table: str, live: LiveFile, data: bytes) -> pa.Table:
    name = live.name
    rows = decode_rows(table, data, key=name.key)
    expected = name.last - name.first + 1
    if rows.num_rows != expected:
        raise CorruptObjectError(
            f"The object {name.key!r} holds {rows.num_rows} rows and its name says {expected}.",
            hint="inspect.verify() lists what is damaged.",
            key=name.key,
        )
    return _that_count(live, rows)


def _that_count(live: LiveFile, rows: pa.Table) -> pa.Table:
    name = live.name
    if live.keep == ((name.first, name.last),):
        return rows
    # Rows are sorted by seq without holes, so a range of seq is a slice.
    return pa.concat_tables([rows.slice(first - name.first, last - first + 1) for first, last in live.keep])


def _batches(files: Iterable[LiveFile]) -> Iterator[tuple[LiveFile, ...]]:
    batch: list[LiveFile] = []
    size = 0
    for live in files:
        if batch and (size + live.size_bytes > _BATCH_BYTES or len(batch) >= _BATCH_OBJECTS):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(live)
        size += live.size_bytes
    if batch:
        yield tuple(batch)


def _rows_of(group: Group, names: set[object]) -> pa.Table:
    pieces = []
    position = 0
    for live in group.files:
        count = sum(last - first + 1 for first, last in live.keep)
        if live.name in names and group.rows is not None:
            pieces.append(group.rows.slice(position, count))
        position += count
    return pa.concat_tables(pieces).combine_chunks()


def _size(group: Group) -> int:
    return 0 if group.rows is None else group.rows.nbytes
