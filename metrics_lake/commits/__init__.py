"""Snapshots and commits of the lake's tables: the inbox beside an ordinary Delta log.

``take_snapshot`` says which rows count; ``TableLog`` reads the log; ``commit`` turns an ``Intent`` into the
next version or says why it cannot.
"""

from __future__ import annotations

from metrics_lake.commits.bloom import make_bloom, may_contain
from metrics_lake.commits.datafile import (
    MAX_FILE_BYTES,
    MAX_FILE_ROWS,
    DataFileBuilder,
    digest_of,
    split_by_month,
)
from metrics_lake.commits.inbox import GAP_WAIT_SECONDS, Inbox, boot_seconds
from metrics_lake.commits.intervals import Intervals
from metrics_lake.commits.log import ANCHOR_SECONDS, TableLog
from metrics_lake.commits.model import ColumnStats, DataFile, Gap, InboxFile, LiveFile, PendingRun, Snapshot
from metrics_lake.commits.parquet import decode_rows, encode_rows, open_rows
from metrics_lake.commits.pins import snapshot_from_text, snapshot_to_text
from metrics_lake.commits.snapshot import STEPS, take_snapshot
from metrics_lake.commits.sorting import sort_rows
from metrics_lake.commits.state import TableSnapshot
from metrics_lake.commits.transaction import Intent, NewFile, commit, conflict_of
from metrics_lake.commits.upkeep import CHECKPOINT_INTERVAL, clean_log, write_checkpoint

__all__ = [
    "ANCHOR_SECONDS",
    "CHECKPOINT_INTERVAL",
    "GAP_WAIT_SECONDS",
    "MAX_FILE_BYTES",
    "MAX_FILE_ROWS",
    "STEPS",
    "ColumnStats",
    "DataFile",
    "DataFileBuilder",
    "Gap",
    "Inbox",
    "InboxFile",
    "Intent",
    "Intervals",
    "LiveFile",
    "NewFile",
    "PendingRun",
    "Snapshot",
    "TableLog",
    "TableSnapshot",
    "boot_seconds",
    "clean_log",
    "commit",
    "conflict_of",
    "decode_rows",
    "digest_of",
    "encode_rows",
    "make_bloom",
    "may_contain",
    "open_rows",
    "snapshot_from_text",
    "snapshot_to_text",
    "sort_rows",
    "split_by_month",
    "take_snapshot",
    "write_checkpoint",
]
