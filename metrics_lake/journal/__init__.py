"""The local write-ahead journal: append, seal, replay. A point is in it before its call returns."""

from metrics_lake.journal.directory import Identity, Journal, MemoryJournal, Orphan, adopt_orphans
from metrics_lake.journal.segments import (
    SealedSegment,
    Segment,
    SegmentContent,
    SegmentHeader,
    utc_day,
)
from metrics_lake.journal.state import find_state_directory, host_id, unbound_name

__all__ = [
    "Identity",
    "Journal",
    "MemoryJournal",
    "Orphan",
    "SealedSegment",
    "Segment",
    "SegmentContent",
    "SegmentHeader",
    "adopt_orphans",
    "find_state_directory",
    "host_id",
    "unbound_name",
    "utc_day",
]
