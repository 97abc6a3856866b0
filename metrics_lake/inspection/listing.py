"""What a lake holds, as tables: live files, versions, writers, gaps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake.commits.checkpoint import parse_log_listing
from metrics_lake.commits.intervals import contains, first_missing, union
from metrics_lake.commits.watermarks import end_app_id, writer_of
from metrics_lake.errors import CorruptObjectError, NotFoundError, SnapshotExpired
from metrics_lake.layout import log_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metrics_lake.commits import DataFile, Intervals, LiveFile, Snapshot, TableLog, TableSnapshot
    from metrics_lake.storage import Storage

__all__ = ["Hole", "file_rows", "gap_rows", "holes_of", "version_rows", "writer_rows"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_TIME: Final[pa.DataType] = pa.timestamp("us", tz="UTC")
_RUNS: Final[pa.DataType] = pa.list_(pa.struct([("first", pa.int64()), ("last", pa.int64())]))

_FILES: Final[list[tuple[str, pa.DataType]]] = [
    ("path", pa.string()),
    ("key", pa.string()),
    ("kind", pa.string()),
    ("size_bytes", pa.int64()),
    ("points", pa.int64()),
    ("is_whole", pa.bool_()),
    ("predicate", pa.string()),
    ("month", pa.string()),
    ("date", pa.string()),
    ("writer", pa.string()),
    ("first_seq", pa.int64()),
    ("last_seq", pa.int64()),
    ("keep", _RUNS),
    ("resource_min", pa.string()),
    ("resource_max", pa.string()),
    ("is_ours", pa.bool_()),
    ("digest", pa.string()),
    ("modified", _TIME),
]
_VERSIONS: Final[list[tuple[str, pa.DataType]]] = [
    ("version", pa.int64()),
    ("timestamp", _TIME),
    ("operation", pa.string()),
    ("engine", pa.string()),
    ("files_added", pa.int64()),
    ("files_removed", pa.int64()),
    ("points_added", pa.int64()),
    ("points_removed", pa.int64()),
    ("bytes_added", pa.int64()),
    ("writers", pa.int64()),
    ("data_change", pa.bool_()),
    ("has_checkpoint", pa.bool_()),
]
_WRITERS: Final[list[tuple[str, pa.DataType]]] = [
    ("writer", pa.string()),
    ("started", _TIME),
    ("next_seq", pa.int64()),
    ("consumed_to", pa.int64()),
    ("points_in_table", pa.int64()),
    ("points_in_inbox", pa.int64()),
    ("objects", pa.int64()),
    ("missing", pa.int64()),
    ("is_ended", pa.bool_()),
    ("last_object", _TIME),
]
_GAPS: Final[list[tuple[str, pa.DataType]]] = [
    ("writer", pa.string()),
    ("first_seq", pa.int64()),
    ("last_seq", pa.int64()),
    ("points", pa.int64()),
    ("since", _TIME),
    ("is_skipped", pa.bool_()),
    ("is_settled", pa.bool_()),
]
_RUN_APP: Final = re.compile(r"ml:([0-9a-f]{32})@\d+")


def _table(columns: Sequence[tuple[str, pa.DataType]], rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(columns))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# ---- files ---------------------------------------------------------------------------------------------


def file_rows(storage: Storage, snapshot: Snapshot) -> pa.Table:
    """Return every object of which a snapshot takes rows; see ``Inspection.files``."""
    adds = snapshot.log.entries
    rows = [_data_row(storage, file, adds[file.key].add) for file in snapshot.log.files]
    rows += [_inbox_row(storage, live) for live in snapshot.inbox]
    return _table(_FILES, rows)


def _data_row(storage: Storage, file: DataFile, add: Mapping[str, Any]) -> dict[str, Any]:
    bounds = file.stats.get("resource")
    modified = add.get("modificationTime")
    return {
        "path": _path(storage, file.key),
        "key": file.key,
        "kind": "table",
        "size_bytes": file.size_bytes,
        "points": file.num_records,
        "is_whole": True,
        "month": file.month,
        "resource_min": None if bounds is None else bounds.min,
        "resource_max": None if bounds is None else bounds.max,
        "is_ours": file.is_ours,
        "digest": file.digest,
        "modified": None if modified is None else _time(modified / 1000),
    }


def _inbox_row(storage: Storage, live: LiveFile) -> dict[str, Any]:
    name = live.name
    is_whole = live.keep == ((name.first, name.last),)
    predicate = None if is_whole else " OR ".join(f"seq BETWEEN {low} AND {high}" for low, high in live.keep)
    return {
        "path": _path(storage, name.key),
        "key": name.key,
        "kind": "inbox",
        "size_bytes": live.size_bytes,
        "points": _count(live.keep),
        "is_whole": is_whole,
        "predicate": predicate,
        "date": name.date,
        "writer": name.writer,
        "first_seq": name.first,
        "last_seq": name.last,
        "keep": [{"first": low, "last": high} for low, high in live.keep],
        "is_ours": True,
        "modified": _time(live.modified),
    }


def _path(storage: Storage, key: str) -> str:
    return storage.local_path(key) if storage.is_local else f"{storage.url}/{key}"


def _count(intervals: Intervals) -> int:
    return sum(last - first + 1 for first, last in intervals)


# ---- versions ------------------------------------------------------------------------------------------


def version_rows(storage: Storage, log: TableLog) -> pa.Table:
    """Return the versions that the log still has; see ``Inspection.snapshots``.

    Raises:
        StorageError: The store failed.
        CorruptObjectError: A version is damaged.
    """
    listing = parse_log_listing(storage.list(log_prefix(log.table)))
    sizes = _sizes_before(log, min(listing.commits, default=0))
    rows = []
    for version in sorted(listing.commits):
        commit = log.read_commit(version)
        if commit is None:
            continue  # cleaned up since the listing
        removed = [sizes.get(key) for key in commit.removes]
        added = [entry.file.num_records for entry in commit.adds]
        actions = [*(entry.add for entry in commit.adds), *commit.removes.values()]
        sizes.update((entry.file.key, entry.file.num_records) for entry in commit.adds)
        stamp = commit.info.get("timestamp")
        rows.append(
            {
                "version": version,
                "timestamp": _time(
                    stamp / 1000 if isinstance(stamp, int) else listing.commits[version].modified
                ),
                "operation": commit.info.get("operation"),
                "engine": commit.info.get("engineInfo"),
                "files_added": len(added),
                "files_removed": len(removed),
                "points_added": _sum(added),
                "points_removed": _sum(removed),
                "bytes_added": sum(entry.file.size_bytes for entry in commit.adds),
                "writers": len({writer_of(text) for text in commit.txns} - {None}),
                "data_change": any(action.get("dataChange") is not False for action in actions),
                "has_checkpoint": version in listing.checkpoints,
            }
        )
    return _table(_VERSIONS, rows)


def _sizes_before(log: TableLog, first: int) -> dict[str, int | None]:
    if first <= 0:
        return {}
    try:
        state = log.at_version(first)
    except (SnapshotExpired, NotFoundError, CorruptObjectError):
        return {}
    return {file.key: file.num_records for file in state.files}


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


# ---- writers and gaps ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hole:
    """Rows of a writer that no object holds.

    Attributes:
        writer: The writer.
        first: The first missing ``seq``.
        last: The last one.
        since: When the object behind the gap appeared; None where none is left in the inbox.
        is_skipped: Readers read on behind it.
        is_settled: A commit has taken over rows behind it.
    """

    writer: str
    first: int
    last: int
    since: float | None
    is_skipped: bool
    is_settled: bool


def holes_of(snapshot: Snapshot) -> list[Hole]:
    """Return what is missing in front of rows that are there, in the inbox and in the table's watermarks."""
    holes = {
        (gap.writer, gap.first, gap.last): Hole(
            gap.writer, gap.first, gap.last, gap.since, gap.is_skipped, gap.is_settled
        )
        for gap in snapshot.gaps
    }
    live: dict[str, list[tuple[int, int]]] = {}
    for file in snapshot.inbox:
        live.setdefault(file.name.writer, []).extend(file.keep)
    for writer in _writers_with_runs(snapshot.log):
        consumed = snapshot.log.consumed(writer)
        # a late object that is live again fills its gap
        known = union((*consumed, *live.get(writer, ())))
        position = 0
        for first, last in known:
            if position < first <= consumed[-1][1]:
                identity = (writer, position, first - 1)
                holes.setdefault(identity, Hole(*identity, None, is_skipped=True, is_settled=True))
            position = last + 1
    return [holes[identity] for identity in sorted(holes)]


def _writers_with_runs(state: TableSnapshot) -> list[str]:
    """Return the writers of which rows behind a gap were consumed."""
    texts = state.transactions.table().column("appId")
    mask = pc.match_substring_regex(texts, r"^ml:[0-9a-f]{32}@[0-9]+$")
    found: list[Any] = pc.utf8_slice_codeunits(texts.filter(mask), 3, 35).unique().to_pylist()
    return sorted(found)


def gap_rows(snapshot: Snapshot) -> pa.Table:
    """Return the gaps; see ``Inspection.gaps``."""
    return _table(
        _GAPS,
        [
            {
                "writer": hole.writer,
                "first_seq": hole.first,
                "last_seq": hole.last,
                "points": hole.last - hole.first + 1,
                "since": None if hole.since is None else _time(hole.since),
                "is_skipped": hole.is_skipped,
                "is_settled": hole.is_settled,
            }
            for hole in holes_of(snapshot)
        ],
    )


def writer_rows(snapshot: Snapshot) -> pa.Table:
    """Return the writers; see ``Inspection.writers``."""
    listed: dict[str, list[Any]] = {}
    for file in snapshot.listed:
        listed.setdefault(file.name.writer, []).append(file)
    live: dict[str, list[tuple[int, int]]] = {}
    for each in snapshot.inbox:
        live.setdefault(each.name.writer, []).extend(each.keep)
    missing: dict[str, int] = {}
    for hole in holes_of(snapshot):
        missing[hole.writer] = missing.get(hole.writer, 0) + hole.last - hole.first + 1
    state = snapshot.log
    rows = []
    for writer in sorted({*listed, *state.transactions.writers()}):
        consumed = state.consumed(writer)
        files = listed.get(writer, [])
        known = union((*consumed, *live.get(writer, ())))
        ends = [file.name.last for file in files if file.name.is_end]
        is_ended = state.transactions.get(end_app_id(writer)) is not None or any(
            contains(known, 0, last) for last in ends
        )
        rows.append(
            {
                "writer": writer,
                "started": _birth(writer),
                "next_seq": max((last + 1 for _, last in known), default=0),
                "consumed_to": first_missing(consumed) - 1,
                "points_in_table": _count(consumed),
                "points_in_inbox": _count(tuple(live.get(writer, ()))),
                "objects": len(files),
                "missing": missing.get(writer, 0),
                "is_ended": is_ended,
                "last_object": _time(max(file.modified for file in files)) if files else None,
            }
        )
    return _table(_WRITERS, rows)


def _birth(writer: str) -> datetime | None:
    """Return when a uuid7 was made; None for an id that was made of a key."""
    if writer[12] != "7" or writer[16] not in "89ab":
        return None
    millis = int(writer[:12], 16)
    return _time(millis / 1000) if millis < 253_402_300_800_000 else None
