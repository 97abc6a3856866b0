"""Watermarks that another engine or an accident dropped: the table is the truth, they are its cache."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake.commits import Intent, decode_rows
from metrics_lake.commits.intervals import union
from metrics_lake.maintenance.attempts import Plan, run_attempts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metrics_lake.commits import DataFile, Intervals, Snapshot, TableLog
    from metrics_lake.storage import Storage

__all__ = ["recover_watermarks", "rows_in_table"]


def recover_watermarks(
    storage: Storage, log: TableLog, *, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Intervals]:
    """Set the watermarks that the table's own rows prove and the log lacks, and return them by writer.

    Looked at are the writers that have objects in the inbox and no watermark: their rows would be read, and
    compacted, a second time.

    Raises:
        StorageError: The store failed; nothing was changed.
        CorruptObjectError: A data file is damaged; nothing was changed.
    """

    def decide(snapshot: Snapshot, attempt: int) -> Plan[dict[str, Intervals]]:
        del attempt
        writers = {
            file.name.writer for file in snapshot.listed if not snapshot.log.consumed(file.name.writer)
        }
        found = rows_in_table(storage, log.table, snapshot.log.files, writers)
        if not found:
            return Plan(None, found)
        return Plan(Intent("RECOVER", consumed=found, data_change=False), found)

    found, _ = run_attempts(storage, log, decide, sleep=sleep)
    return found


def rows_in_table(
    storage: Storage, table: str, files: Iterable[DataFile], writers: set[str]
) -> dict[str, Intervals]:
    """Return, of each of these writers that has original rows in the table, the run up to the greatest.

    Rows are consumed in order, so all rows up to the greatest one went into the table, although deletes may
    have taken some of them out again.
    """
    greatest: dict[str, int] = {}
    for file in files if writers else ():
        bounds = file.stats.get("writer")
        if bounds is not None and bounds.min is not None and bounds.max is not None:
            wanted = [writer for writer in writers if bounds.min <= writer <= bounds.max]
        else:
            wanted = sorted(writers)
        if not wanted:
            continue
        rows = decode_rows(table, storage.get(file.key), key=file.key, columns=["writer", "seq", "origin"])
        mask: Any = pc.and_(
            pc.is_in(rows.column("writer"), value_set=pa.array(wanted, pa.string())),
            pc.is_null(rows.column("origin")),
        )
        most = rows.filter(mask).group_by("writer").aggregate([("seq", "max")])
        found: Any = zip(most.column("writer").to_pylist(), most.column("seq_max").to_pylist(), strict=True)
        for writer, seq in found:
            greatest[writer] = max(seq, greatest.get(writer, -1))
    return {writer: union([(0, seq)]) for writer, seq in greatest.items()}
