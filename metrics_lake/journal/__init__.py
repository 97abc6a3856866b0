"""The local write-ahead journal: append, seal, replay. A point is in it before its call returns."""

from metrics_lake.journal.content import SegmentContent, SegmentHeader, utc_day
from metrics_lake.journal.directory import Identity, Journal, MemoryJournal, Orphan, adopt_orphans
from metrics_lake.journal.sealed import SealedSegment
from metrics_lake.journal.segments import Segment
from metrics_lake.journal.state import find_state_directory, host_id, state_directories, unbound_name

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
    "state_directories",
    "unbound_name",
    "utc_day",
]
