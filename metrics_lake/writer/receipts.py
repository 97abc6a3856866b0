"""What a writer reports: receipts and its status."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Receipt", "Status"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a call published.

    Attributes:
        points: The number of points that became visible to every reader.
        objects: The number of objects that hold them.
        size_bytes: The objects' size.
        seconds: How long the call took.
        snapshot: The newest version of the table that is known to hold them, or None while they are in the
            inbox, from which every read takes them too.
    """

    points: int
    objects: int
    size_bytes: int
    seconds: float
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What a handle knows of its writer.

    Attributes:
        url: The lake.
        lake_id: The lake's id; None before its first use or while it cannot be reached.
        writer: The id of this process's writer; None before it logged.
        durability: What a point has survived when its call returns: ``"logged"`` (this process's death),
            ``"synced"`` (power loss), ``"published"`` (loss of this machine), or ``"memory"`` (nothing yet:
            no folder for a journal could be written).
        journal: Where the journal is; None before the first point.
        pending_points: Points in the journal that are not published yet, adopted ones of dead processes
            included.
        pending_bytes: Their size in the journal.
        published_points: Points that this handle published.
        published_objects: The objects that hold them.
        compaction: ``"auto"``, ``"off"``, or why it turned itself off.
        problems: What went wrong in the background and is not mended yet, newest last.
    """

    url: str
    lake_id: str | None
    writer: str | None
    durability: str
    journal: str | None
    pending_points: int
    pending_bytes: int
    published_points: int
    published_objects: int
    compaction: str
    problems: tuple[str, ...]
