"""A snapshot as a text, to pin a read today and to give it to another process tomorrow.

``metrics@12;0192….0.4095.2026-11-22.81920;…``: the table and its version, then for each live inbox object its
writer, first and last ``seq``, day and size in bytes (``e`` behind it where the object is its writer's end),
and ``.a-b+c-d`` where only those ``seq`` ranges count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from metrics_lake.commits.model import LiveFile, Snapshot
from metrics_lake.commits.state import TableSnapshot
from metrics_lake.errors import InvalidInputError
from metrics_lake.layout import InboxName

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["snapshot_from_text", "snapshot_to_text"]

_HEAD: Final = re.compile(r"(?P<table>[a-z_]+)@(?P<version>-1|\d+)")
_LIVE: Final = re.compile(
    r"(?P<writer>[0-9a-f]{32})\.(?P<first>\d+)\.(?P<last>\d+)\.(?P<date>\d{4}-\d\d-\d\d)\.(?P<size>\d+)(?P<end>e)?"
    r"(?:\.(?P<keep>\d+-\d+(?:\+\d+-\d+)*))?"
)


def snapshot_to_text(snapshot: Snapshot) -> str:
    """Return the text of a snapshot's published rows; a process's own unpublished ones have none."""
    parts = [f"{snapshot.table}@{snapshot.log.version}"]
    for live in snapshot.inbox:
        name = live.name
        text = f"{name.writer}.{name.first}.{name.last}.{name.date}.{live.size_bytes}{'e' * name.is_end}"
        if live.keep != ((name.first, name.last),):
            text += "." + "+".join(f"{first}-{last}" for first, last in live.keep)
        parts.append(text)
    return ";".join(parts)


def snapshot_from_text(text: str, version_of: Callable[[int], TableSnapshot], table: str) -> Snapshot:
    """Return the snapshot that a text names.

    Args:
        text: What ``snapshot_to_text`` gave.
        version_of: Reads a version of the table's log.
        table: The table that is to be read.

    Raises:
        InvalidInputError: It is no such text, or one of another table.
        SnapshotExpired: The log no longer goes back that far.
    """
    head, *entries = text.split(";")
    found = _HEAD.fullmatch(head)
    if found is None or found["table"] != table:
        raise InvalidInputError(
            f"{text[:80]!r} names no snapshot of table {table!r}.", hint="Pass what str(snapshot) gave."
        )
    version = int(found["version"])
    inbox = tuple(_live(each, table) for each in entries)
    # Without a log yet there was nothing to read; the one that is there now has nothing to do with it.
    log = TableSnapshot(table) if version < 0 else version_of(version)
    return Snapshot(table, log, inbox, (), (), ())


def _live(text: str, table: str) -> LiveFile:
    found = _LIVE.fullmatch(text)
    if found is None:
        raise InvalidInputError(f"{text!r} names no inbox object.", hint="Pass what str(snapshot) gave.")
    first, last = int(found["first"]), int(found["last"])
    name = InboxName(found["writer"], first, last, table, found["date"], is_end=found["end"] is not None)
    keep: tuple[tuple[int, int], ...] = ((first, last),)
    if found["keep"] is not None:
        pairs = (pair.split("-") for pair in found["keep"].split("+"))
        keep = tuple((int(low), int(high)) for low, high in pairs)
    return LiveFile(name, int(found["size"]), 0.0, keep)
