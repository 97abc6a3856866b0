"""Compaction: inbox rows become sorted data files, small files become larger ones."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from metrics_lake.commits import Intent
from metrics_lake.commits.intervals import contains, union
from metrics_lake.commits.watermarks import end_app_id
from metrics_lake.errors import CorruptObjectError, MetricsLakeWarning
from metrics_lake.maintenance.attempts import Plan, run_attempts
from metrics_lake.maintenance.files import file_rows, inbox_rows, write_files
from metrics_lake.maintenance.sorting import RowSorter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pyarrow as pa

    from metrics_lake.commits import DataFile, Intervals, LiveFile, Snapshot, TableLog
    from metrics_lake.storage import Storage

__all__ = ["Compaction", "compact_inbox", "merge_files"]

MERGE_TARGET_BYTES: Final = 128 << 20
SMALL_BYTES: Final = MERGE_TARGET_BYTES // 2
SMALL_ROWS: Final = 1_250_000
MERGE_AT_LEAST: Final = 4


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did.

    Attributes:
        version: The table's version after it.
        points: The rows that moved.
        objects: The inbox objects or data files that they came from.
        files: The data files that hold them now.
        size_bytes: The size of these files.
        seconds: How long it took.
        damaged: Keys of objects that could not be read; their rows stay where they are.
    """

    version: int
    points: int
    objects: int
    files: int
    size_bytes: int
    seconds: float
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Moved:
    points: int = 0
    objects: int = 0
    files: int = 0
    size_bytes: int = 0
    damaged: tuple[str, ...] = ()


def compact_inbox(
    storage: Storage,
    log: TableLog,
    *,
    budget_bytes: int | None = None,
    work_dir: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Compaction:
    """Move the inbox's live rows into the table by one commit.

    Args:
        storage: The lake's objects.
        log: The table's log.
        budget_bytes: The most encoded bytes to take from the inbox; None = all.
        work_dir: Where temporary files go once the rows do not fit memory; None = the system's place.
        progress: Called with the rows done and the rows in all, as often as it pays.
        sleep: Waits between attempts.

    Raises:
        StorageError: The store failed; the rows are where they were.
        UnsupportedFormatError: The table asks for something that we cannot give.

    Warns:
        MetricsLakeWarning: An inbox object is damaged: it and its writer's later rows stay in the inbox.
    """
    begun = time.monotonic()

    def decide(snapshot: Snapshot, attempt: int) -> Plan[_Moved]:
        del attempt
        return _plan_compaction(storage, log.table, snapshot, budget_bytes, work_dir, progress)

    moved, version = run_attempts(storage, log, decide, sleep=sleep)
    for key in () if log.inbox.is_silent else moved.damaged:
        warnings.warn(
            f"The inbox object {key!r} is damaged. It and later rows of its writer are not compacted; "
            "`metrics-lake verify` says more.",
            MetricsLakeWarning,
            stacklevel=2,
        )
    return _report(moved, version, begun)


def _plan_compaction(
    storage: Storage,
    table: str,
    snapshot: Snapshot,
    budget_bytes: int | None,
    work_dir: str | None,
    progress: Callable[[int, int], None] | None,
) -> Plan[_Moved]:
    chosen = _within(snapshot.inbox, budget_bytes)
    total = sum(last - first + 1 for live in chosen for first, last in live.keep)
    consumed: dict[str, list[tuple[int, int]]] = {}
    damaged: dict[str, str] = {}
    objects = 0
    with RowSorter(table, work_dir=work_dir) as sorter:
        for live, rows in inbox_rows(storage, table, chosen, as_dictionaries=True):
            writer = live.name.writer
            if writer in damaged:
                continue  # what is behind a damaged object waits with it, as readers see it
            if isinstance(rows, CorruptObjectError):
                damaged[writer] = live.name.key
                continue
            sorter.add(rows)
            consumed.setdefault(writer, []).extend(live.keep)
            objects += 1
            if progress is not None:
                progress(sorter.num_rows, 2 * total)
        points = sorter.num_rows
        intervals = {writer: union(runs) for writer, runs in consumed.items()}
        ended = _ended(snapshot, intervals)
        if not points and not ended:
            return Plan(None, _Moved(damaged=tuple(damaged.values())))
        files = write_files(
            storage,
            table,
            _reported(sorter.pieces(), points, total, progress),
            with_float_stats=not sorter.has_nan,
        )
    intent = Intent("WRITE", adds=tuple(files), consumed=intervals, ended=dict.fromkeys(ended, 0))
    size = sum(new.file.size_bytes for new in files)
    return Plan(intent, _Moved(points, objects, len(files), size, tuple(damaged.values())))


def _within(live: Sequence[LiveFile], budget_bytes: int | None) -> Sequence[LiveFile]:
    """Return the first objects that fit a budget, at least one: of each writer a prefix of its run."""
    if budget_bytes is None:
        return live
    size = 0
    for index, file in enumerate(live):
        size += file.size_bytes
        if size > budget_bytes and index:
            return live[:index]
    return live


def _ended(snapshot: Snapshot, added: dict[str, Intervals]) -> list[str]:
    """Return the writers of which a commit that adds these intervals consumes the very last row."""
    ended = []
    for file in snapshot.listed:
        name = file.name
        if not name.is_end or snapshot.log.transactions.get(end_app_id(name.writer)) is not None:
            continue
        known = union((*snapshot.log.consumed(name.writer), *added.get(name.writer, ())))
        if contains(known, 0, name.last):
            ended.append(name.writer)
    return ended


def merge_files(
    storage: Storage,
    log: TableLog,
    *,
    budget_bytes: int | None = None,
    work_dir: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Compaction:
    """Rewrite small and foreign files of each month as few sorted ones; the rows stay the same.

    Args:
        storage: The lake's objects.
        log: The table's log.
        budget_bytes: The most bytes of files to rewrite; None = all that are worth it.
        work_dir: Where temporary files go once the rows do not fit memory.
        progress: Called with the rows done and the rows in all.
        sleep: Waits between attempts.

    Raises:
        StorageError: The store failed; the table is as it was.
        CorruptObjectError: A file is damaged; the table is as it was.
    """
    begun = time.monotonic()

    def decide(snapshot: Snapshot, attempt: int) -> Plan[_Moved]:
        del attempt
        groups = worth_merging(snapshot.log.files)
        chosen: list[DataFile] = []
        for group in groups:
            if budget_bytes is not None:
                group = _first_within(group, budget_bytes - sum(file.size_bytes for file in chosen))
            if len(group) > 1 or any(not file.is_ours for file in group):
                chosen += group
        if not chosen:
            return Plan(None, _Moved())
        total = sum(file.num_records or 0 for file in chosen)
        with RowSorter(log.table, work_dir=work_dir) as sorter:
            for file in chosen:
                for rows in file_rows(storage, log.table, file, as_dictionaries=True):
                    sorter.add(rows)
                if progress is not None:
                    progress(sorter.num_rows, 2 * max(total, sorter.num_rows))
            points = sorter.num_rows
            files = write_files(
                storage,
                log.table,
                _reported(sorter.pieces(), points, points, progress),
                with_float_stats=not sorter.has_nan,
            )
        intent = Intent(
            "OPTIMIZE",
            adds=tuple(files),
            removes=tuple(file.key for file in chosen),
            data_change=False,
        )
        size = sum(new.file.size_bytes for new in files)
        return Plan(intent, _Moved(points, len(chosen), len(files), size))

    moved, version = run_attempts(storage, log, decide, sleep=sleep)
    return _report(moved, version, begun)


def worth_merging(files: Sequence[DataFile]) -> list[list[DataFile]]:
    """Return the groups of files that are worth being rewritten together, a month each.

    Foreign files always are, since they have neither a known order nor a digest. Small ones are as soon as
    four of them are there and the largest is no larger than the others together: so a row is rewritten a
    logarithmic number of times.
    """
    months: dict[str, list[DataFile]] = {}
    for file in files:
        months.setdefault(file.month, []).append(file)
    groups = []
    for _, members in sorted(months.items()):
        foreign = [file for file in members if not file.is_ours]
        small = sorted(
            (
                file
                for file in members
                if file.is_ours and file.size_bytes < SMALL_BYTES and (file.num_records or 0) < SMALL_ROWS
            ),
            key=lambda file: (file.num_records or 0, file.key),
        )
        chosen: list[DataFile] = []
        num_rows = 0
        for index, file in enumerate(small):
            # rows, not bytes: footers make tiny files look alike
            if (file.num_records or 0) <= num_rows and index + 1 >= MERGE_AT_LEAST:
                chosen = small[: index + 1]
            num_rows += file.num_records or 0
        if foreign or chosen:
            groups.append(foreign + chosen)
    return groups


def _first_within(files: Sequence[DataFile], budget_bytes: int) -> list[DataFile]:
    taken: list[DataFile] = []
    for file in files:
        budget_bytes -= file.size_bytes
        if budget_bytes < 0:
            break
        taken.append(file)
    return taken


def _reported(
    pieces: Iterable[pa.Table], points: int, total: int, progress: Callable[[int, int], None] | None
) -> Iterator[pa.Table]:
    done = 0
    for piece in pieces:
        yield piece
        done += piece.num_rows
        if progress is not None:
            progress(points + done, points + total)


def _report(moved: _Moved, version: int, begun: float) -> Compaction:
    return Compaction(
        version=version,
        points=moved.points,
        objects=moved.objects,
        files=moved.files,
        size_bytes=moved.size_bytes,
        seconds=time.monotonic() - begun,
        damaged=moved.damaged,
    )
