"""Maintenance of a lake: compaction, merges, deletes, retention, vacuum, bulk commits.

Every function works on one table through its log, may run in any number of processes at once, and may be
killed at any moment: rows become visible or invisible by one commit each.
"""

from metrics_lake.maintenance.accessor import Maintenance, Recovery
from metrics_lake.maintenance.background import BackgroundCompaction
from metrics_lake.maintenance.bulk import BulkCommit, publish_bulk, publish_copy
from metrics_lake.maintenance.compaction import Compaction
from metrics_lake.maintenance.deleting import Deletion

__all__ = [
    "BackgroundCompaction",
    "BulkCommit",
    "Compaction",
    "Deletion",
    "Maintenance",
    "Recovery",
    "publish_bulk",
    "publish_copy",
]
