"""Rows of a copied process: two live copies that give different rows the same writer and numbers.

A virtual machine that is restored or copied goes on under the writer id of the original. Where both copies
cut their rows alike, the second PUT meets the first, and the publisher takes a new id. Where they do not,
both objects are there, each number counts once, and the other copy's rows count nowhere. So no consumed
object is deleted before it was asked whether it may hold such rows: one that shares numbers with another
object, or that came after a commit had consumed its numbers. Late deliveries of one's own objects look alike;
the rows decide, the object's against the table's.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query
from metrics_lake.commits import decode_rows, open_rows
from metrics_lake.commits.model import ColumnStats
from metrics_lake.errors import CorruptObjectError, NotFoundError, SnapshotExpired
from metrics_lake.layout import InboxName, parse_inbox_key
from metrics_lake.maintenance.files import file_rows
from metrics_lake.schema import arrow_schema
from metrics_lake.writer.outbox import warn_in_background
from metrics_lake.writer.publishing import publish_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metrics_lake.commits import TableLog, TableSnapshot
    from metrics_lake.maintenance.collecting import Scan
    from metrics_lake.storage import ObjectInfo, Storage

__all__ = ["publish_hidden_rows", "sharing_numbers"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_OBJECTS_AT_ONCE: Final = 32
_TIME_PART: Final = 12
"""Of a writer id, the digits that say when it was born: equal timestamps go to the later-born writer."""


def sharing_numbers(infos: Iterable[ObjectInfo]) -> list[list[str]]:
    """Return the keys of inbox objects that share sequence numbers of a writer with others, by cluster."""
    named = ((parse_inbox_key(info.key), info.key) for info in infos)
    ranges = sorted((name, key) for name, key in named if name is not None and name.last >= name.first)
    clusters: list[list[str]] = []
    for _, own in groupby(ranges, key=lambda each: each[0].writer):
        cluster: list[str] = []
        end = -1
        for name, key in own:
            if name.first > end and cluster:
                clusters.append(cluster)
                cluster = []
            cluster.append(key)
            end = max(end, name.last)
        clusters.append(cluster)
    return [cluster for cluster in clusters if len(cluster) > 1]


def publish_hidden_rows(storage: Storage, log: TableLog, seen: Scan, garbage: Sequence[ObjectInfo]) -> None:
    """Publish the rows of consumed objects in whose place the table holds other rows, under ids of their own.

    The id follows from the object, so repeating it, or two of it at once, publishes nothing twice. A row
    whose number the table does not hold (any more) was deleted, or its twin was: it goes with its object.

    Args:
        storage: The lake's objects.
        log: The table's log.
        seen: The table, cold; it has consumed all rows of the garbage.
        garbage: The inbox objects that are about to be deleted.

    Raises:
        StorageError: The store failed; nothing may be deleted yet.
        CorruptObjectError: A data file of the table is damaged.

    Warns:
        MetricsLakeWarning: There were such rows.
    """
    keys = {key for cluster in sharing_numbers(seen.inbox) for key in cluster} | _late(log, seen, garbage)
    suspects = sorted(keys & {info.key for info in garbage})
    for start in range(0, len(suspects), _OBJECTS_AT_ONCE):
        _publish_hidden(storage, seen.state, suspects[start : start + _OBJECTS_AT_ONCE])


def _late(log: TableLog, seen: Scan, garbage: Sequence[ObjectInfo]) -> set[str]:
    """Return the objects that were not there before a commit had consumed numbers of theirs."""
    versions = sorted((info.modified, number) for number, info in seen.log.commits.items())
    late: set[str] = set()
    state: TableSnapshot | None = None
    known = 0
    for info in sorted(garbage, key=lambda info: info.modified):
        while known < len(versions) and versions[known][0] <= info.modified:
            known += 1
        name = parse_inbox_key(info.key)
        if name is None or name.last < name.first:
            continue
        if not known:
            if versions and min(number for _, number in versions) > 0:
                late.add(info.key)  # what was consumed then was cleaned out of the log
            continue
        wanted = max(number for _, number in versions[:known])
        try:
            if state is None or state.version > wanted:
                state = log.at_version(wanted)
            while state.version < wanted and (commit := log.read_commit(state.version + 1)) is not None:
                state = state.after(commit)
        except (SnapshotExpired, NotFoundError):
            late.add(info.key)  # nobody can tell any more; its rows can
            continue
        if any(low <= name.last and name.first <= high for low, high in state.consumed(name.writer)):
            late.add(info.key)
    return late


def _publish_hidden(storage: Storage, state: TableSnapshot, keys: Sequence[str]) -> None:
    found: list[tuple[InboxName, bytes, pa.Table]] = []
    for key in keys:
        name, data = parse_inbox_key(key), storage.get(key)
        if name is None:
            raise AssertionError("only inbox objects are garbage of the inbox")
        try:
            found.append((name, data, decode_rows(state.table, data, key=key)))
        except CorruptObjectError:
            continue  # what it holds beside the table's rows, nobody can tell
    stored = _stored_rows(storage, state, {name.writer for name, _, _ in found})
    for name, data, rows in found:
        hidden = _hidden(state.table, rows, stored)
        if hidden.num_rows:
            _publish(storage, name, data, hidden)


def _stored_rows(storage: Storage, state: TableSnapshot, writers: set[str]) -> pa.Table:
    """Return the table's rows of these writers that were not copied."""
    schema = arrow_schema(state.table)
    pieces = [schema.empty_table()]
    for file in state.files:
        bounds = file.stats.get("writer", ColumnStats(None, None, None))
        low, high = bounds.min or "", bounds.max
        if not any(low <= writer and (high is None or writer <= high) for writer in writers):
            continue
        for rows in file_rows(storage, state.table, file):
            mask = pc.is_in(rows.column("writer"), value_set=pa.array(sorted(writers), pa.string()))
            if "origin" in schema.names:
                mask = pc.and_(mask, pc.is_null(rows.column("origin")))
            pieces.append(rows.filter(mask))
    return pa.concat_tables(pieces)


def _hidden(table: str, rows: pa.Table, stored: pa.Table) -> pa.Table:
    """Return the rows in whose place the table holds others, in order."""
    # Maps compare by the order of their pairs; `tags_key` says the same as `tags`.
    compared = ", ".join(f'"{each.name}"' for each in arrow_schema(table) if not pa.types.is_map(each.type))
    sql = f"""
        SELECT seq FROM rows WHERE (writer, seq) IN (SELECT (writer, seq) FROM stored)
        EXCEPT
        SELECT seq FROM (SELECT {compared} FROM rows INTERSECT SELECT {compared} FROM stored)
    """
    seqs = query.run(sql, rows=rows, stored=stored).column("seq")
    return rows.filter(pc.is_in(rows.column("seq"), value_set=seqs.combine_chunks()))


def _publish(storage: Storage, name: InboxName, data: bytes, rows: pa.Table) -> None:
    digest = blake2b(name.key.encode() + data, digest_size=16, person=b"ml-clone").hexdigest()
    writer = name.writer[:_TIME_PART] + digest[_TIME_PART:]
    schema = rows.schema
    number = rows.num_rows
    for column, values in (
        ("writer", pa.repeat(writer, number)),
        ("seq", pa.array(range(number), pa.int64())),
    ):
        rows = rows.set_column(schema.get_field_index(column), schema.field(column), values)
    # Not marked as the writer's end: its watermark has to outlive the object that these rows came from.
    target = InboxName(writer, 0, number - 1, name.table, name.date, is_end=False)
    with open_rows(data, key=name.key) as opened:
        footer = opened.metadata.metadata or {}
    lake_id = footer.get(b"metrics_lake.lake_id", b"").decode()
    publish_rows(storage, lake_id, target, rows, digest)
    warn_in_background(
        f"metrics_lake: {number} rows of {name.key!r} have the writer and the numbers of other rows: two "
        "copies of one process are alive (a restored or copied machine). They are kept under the writer id "
        f"{writer}."
    )
