"""Snapshots and commits of the lake's tables: the inbox beside an ordinary Delta log.

``take_snapshot`` says which rows count; ``TableLog`` reads the log.
"""

from __future__ import annotations

from metrics_lake.commits.inbox import GAP_WAIT_SECONDS, Inbox, boot_seconds
from metrics_lake.commits.log import TableLog, TableSnapshot
from metrics_lake.commits.model import ColumnStats, DataFile, Gap, LiveFile, PendingRun, Snapshot
from metrics_lake.commits.snapshot import STEPS, take_snapshot

__all__ = [
    "GAP_WAIT_SECONDS",
    "STEPS",
    "ColumnStats",
    "DataFile",
    "Gap",
    "Inbox",
    "LiveFile",
    "PendingRun",
    "Snapshot",
    "TableLog",
    "TableSnapshot",
    "boot_seconds",
    "take_snapshot",
]
