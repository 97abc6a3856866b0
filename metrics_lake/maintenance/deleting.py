"""Deletes and retention: one commit that leaves out exactly the rows that a read at the call would give."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake import series
from metrics_lake.commits import Intent
from metrics_lake.commits.intervals import union
from metrics_lake.errors import CorruptObjectError
from metrics_lake.maintenance.attempts import Plan, run_attempts
from metrics_lake.maintenance.files import file_rows, inbox_rows, write_files
from metrics_lake.maintenance.sorting import RowSorter
from metrics_lake.schema import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metrics_lake.commits import DataFile, Intervals, LiveFile, Snapshot, TableLog
    from metrics_lake.maintenance.selection import Condition
    from metrics_lake.storage import Storage

__all__ = ["Deletion", "delete_rows"]


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a delete did, or would do.

    Attributes:
        version: The table's version after it; the snapshot's version in a dry run.
        points: The rows that are gone.
        kept: The rows that fulfil the condition and stay, as the latest point of their series.
        files: Keys of the data files that were removed or rewritten.
        objects: Keys of the inbox objects whose other rows are in the table now.
        resources: Up to 20 of the resources of which rows were looked at and are gone, ascending.
        dry_run: True where nothing was changed.
    """

    version: int
    points: int
    kept: int
    files: tuple[str, ...]
    objects: tuple[str, ...]
    resources: tuple[str, ...]
    dry_run: bool


@dataclass(slots=True)
class _Tally:
    points: int = 0
    kept: int = 0
    files: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    resources: set[str] = field(default_factory=set)


class _Scope:
    """The rows that were there when the delete was called: what is published later is new data.

    Args:
        snapshot: The first snapshot.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._first = snapshot
        self._files = set(snapshot.log.entries)
        self._live: dict[str, list[tuple[int, int]]] = {}
        for live in snapshot.inbox:
            self._live.setdefault(live.name.writer, []).extend(live.keep)
        self._known: dict[str, Intervals] = {}

    def has_file(self, key: str) -> bool:
        """Return whether a data file was there already, and all of its rows with it."""
        return key in self._files

    def of_inbox(self, snapshot: Snapshot, live: LiveFile, rows: pa.Table) -> Any:
        """Return for each row of an inbox object whether it was there already; None = all of them."""
        return None if snapshot is self._first else self._inside(rows, self._intervals(live.name.writer))

    def of_file(self, key: str, rows: pa.Table, *, is_rewrite: bool) -> Any:
        """Return for each row of a data file whether it was there already; None = all of them.

        A row that came through the inbox is recognised by its writer and number. Of bulk rows only the file
        can tell: rewritten ones (``is_rewrite``) were there before, added ones were not.
        """
        if key in self._files:
            return None
        writers = rows.column("writer")
        names: list[Any] = pc.unique(writers).to_pylist()
        mask: Any = pa.repeat(pa.scalar(False), rows.num_rows)
        for writer in names:
            intervals = self._intervals(writer)
            inside = self._inside(rows, intervals)
            if is_rewrite:
                bulk = pc.is_valid(rows.column("origin")) if intervals else pa.scalar(True)
                inside = pc.or_(inside, bulk)
            else:
                inside = pc.and_(inside, pc.is_null(rows.column("origin")))
            mask = pc.or_(mask, pc.and_(pc.equal(writers, pa.scalar(writer, pa.string())), inside))
        return mask

    @staticmethod
    def _inside(rows: pa.Table, intervals: Intervals) -> Any:
        seqs: Any = rows.column("seq")
        inside: Any = pa.repeat(pa.scalar(False), rows.num_rows)
        for first, last in intervals:
            low, high = pa.scalar(first, pa.int64()), pa.scalar(last, pa.int64())
            inside = pc.or_(inside, pc.and_(pc.greater_equal(seqs, low), pc.less_equal(seqs, high)))
        return inside

    def _intervals(self, writer: str) -> Intervals:
        known = self._known.get(writer)
        if known is None:
            known = union((*self._first.log.consumed(writer), *self._live.get(writer, ())))
            self._known[writer] = known
        return known


def delete_rows(
    storage: Storage,
    log: TableLog,
    condition: Condition,
    *,
    keep_last: bool = False,
    dry_run: bool = False,
    work_dir: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Deletion:
    """Delete the rows that fulfil a condition, by one commit.

    The inbox objects of every writer that has such rows are consumed without them, and the data files that
    hold some are rewritten without them. There are no tombstones, so nothing that happens later, here or in
    another engine, brings the rows back.

    Args:
        storage: The lake's objects.
        log: The table's log.
        condition: Which rows.
        keep_last: Keep the latest point of every series although it fulfils the condition.
        dry_run: Only say what would happen.
        work_dir: Where temporary files go once the rows do not fit memory.
        progress: Called with the objects and files done, and with all there are.
        sleep: Waits between attempts.

    Raises:
        StorageError: The store failed; nothing was deleted.
        CorruptObjectError: An object that may hold such rows is damaged; nothing was deleted.
    """
    scope: _Scope | None = None

    def decide(snapshot: Snapshot, attempt: int) -> Plan[_Tally]:
        nonlocal scope
        del attempt
        if scope is None:
            scope = _Scope(snapshot)
        return _plan(storage, log.table, snapshot, scope, condition, keep_last, dry_run, work_dir, progress)

    tally, version = run_attempts(storage, log, decide, sleep=sleep)
    return Deletion(
        version=version,
        points=tally.points,
        kept=tally.kept,
        files=tuple(tally.files),
        objects=tuple(tally.objects),
        resources=tuple(sorted(tally.resources)[:20]),
        dry_run=dry_run,
    )


def _plan(
    storage: Storage,
    table: str,
    snapshot: Snapshot,
    scope: _Scope,
    condition: Condition,
    keep_last: bool,
    dry_run: bool,
    work_dir: str | None,
    progress: Callable[[int, int], None] | None,
) -> Plan[_Tally]:
    files = [file for file in snapshot.log.files if condition.may_match(file)]
    kept_keys = _latest_keys(storage, table, snapshot) if keep_last else None
    tally = _Tally()
    total = len(files) + len(snapshot.inbox)
    done = 0

    def chosen(rows: pa.Table, in_scope: Any) -> Any:
        """Return which rows go, and count them."""
        mask = condition.mask(rows)
        if in_scope is not None:
            mask = pc.and_(mask, in_scope)
        if kept_keys is not None:
            latest = _is_latest(rows, kept_keys)
            tally.kept += pc.sum(pc.and_(mask, latest)).as_py() or 0
            mask = pc.and_(mask, pc.invert(latest))
        hits: int = pc.sum(mask).as_py() or 0
        if hits and len(tally.resources) < 1000:
            resources: list[Any] = pc.unique(rows.column("resource").filter(mask)).to_pylist()
            tally.resources.update(resources)
        tally.points += hits
        return mask if hits else None

    touched: set[str] = set()
    for live, rows in _checked(storage, table, snapshot.inbox):
        if chosen(rows, scope.of_inbox(snapshot, live, rows)) is not None:
            touched.add(live.name.writer)
        done += 1
        if progress is not None:
            progress(done, total)
    counted = tally.points, tally.kept
    with RowSorter(table, work_dir=work_dir) as sorter:
        consumed: dict[str, list[tuple[int, int]]] = {}
        run = [live for live in snapshot.inbox if live.name.writer in touched]
        for live, rows in _checked(storage, table, run):
            mask = chosen(rows, scope.of_inbox(snapshot, live, rows))
            sorter.add(rows if mask is None else rows.filter(pc.invert(mask)))
            consumed.setdefault(live.name.writer, []).extend(live.keep)
            tally.objects.append(live.name.key)
        tally.points, tally.kept = counted  # these rows were counted before
        for file in files:
            if (
                kept_keys is None
                and file.num_records is not None
                and condition.must_match(file)
                and scope.has_file(file.key)
            ):
                tally.points += file.num_records
                tally.files.append(file.key)
            elif _rewrite(storage, table, snapshot, scope, file, chosen, sorter):
                tally.files.append(file.key)
            done += 1
            if progress is not None:
                progress(done, total)
        if dry_run or not tally.points:
            return Plan(None, tally)
        adds = write_files(storage, table, sorter.pieces(), with_float_stats=not sorter.has_nan)
    intent = Intent(
        "DELETE",
        adds=tuple(adds),
        removes=tuple(tally.files),
        consumed={writer: union(runs) for writer, runs in consumed.items()},
        may_match=condition.may_match,
    )
    return Plan(intent, tally)


def _rewrite(
    storage: Storage,
    table: str,
    snapshot: Snapshot,
    scope: _Scope,
    file: DataFile,
    chosen: Callable[[pa.Table, Any], Any],
    sorter: RowSorter,
) -> bool:
    """Give the sorter what is left of a data file if it loses rows, and return whether it does."""
    is_rewrite = snapshot.log.entries[file.key].add.get("dataChange") is False
    waiting: list[pa.Table] = []
    is_touched = False
    for rows in file_rows(storage, table, file):
        mask = chosen(rows, scope.of_file(file.key, rows, is_rewrite=is_rewrite))
        if mask is not None and not is_touched:
            is_touched = True
            for earlier in waiting:
                sorter.add(earlier)
            waiting.clear()
        left = rows if mask is None else rows.filter(pc.invert(mask))
        if is_touched:
            sorter.add(left)
        else:
            waiting.append(left)  # at most one file of 128 MB
    return is_touched


def _checked(
    storage: Storage, table: str, files: list[LiveFile] | tuple[LiveFile, ...]
) -> Iterator[tuple[LiveFile, pa.Table]]:
    for live, rows in inbox_rows(storage, table, files):
        if isinstance(rows, CorruptObjectError):
            raise rows
        yield live, rows


def _latest_keys(storage: Storage, table: str, snapshot: Snapshot) -> pa.Table:
    """Return (resource, writer, seq) of the latest point of every series."""
    if table != METRICS:
        raise AssertionError("only series have a latest point")
    parts = []
    for file in snapshot.log.files:
        parts += [series.summarise(rows) for rows in file_rows(storage, table, file)]
    parts += [series.summarise(rows) for _, rows in _checked(storage, table, snapshot.inbox)]
    merged = series.merge(parts)
    last: Any = merged.column("last").combine_chunks()
    return pa.table(
        {"resource": merged.column("resource"), "writer": last.field("writer"), "seq": last.field("seq")}
    )


def _is_latest(rows: pa.Table, latest: pa.Table) -> Any:
    """Return for each row whether it is one of the latest points."""
    numbered = pa.table(
        {
            "resource": rows.column("resource"),
            "writer": rows.column("writer"),
            "seq": rows.column("seq"),
            "row": pa.array(range(rows.num_rows), pa.int64()),
        }
    )
    found = numbered.join(latest, ["resource", "writer", "seq"], join_type="left semi")
    return pc.is_in(numbered.column("row"), value_set=found.column("row").combine_chunks())
