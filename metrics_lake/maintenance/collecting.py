"""What may be deleted: consumed inbox objects, removed and orphaned files, what the log outgrew.

Nothing is deleted but on the evidence of a snapshot opened cold, after the commit that made it garbage. Ages
are differences between times of the *store*: the present is the time of an object that is written for it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from metrics_lake.commits.checkpoint import parse_log_listing
from metrics_lake.commits.intervals import contains
from metrics_lake.commits.watermarks import end_app_id
from metrics_lake.errors import (
    CorruptObjectError,
    NotFoundError,
    ObjectNotFoundError,
    SnapshotExpired,
)
from metrics_lake.layout import inbox_prefix, parse_inbox_key, table_prefix
from metrics_lake.maintenance.clones import publish_hidden_rows, sharing_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metrics_lake.commits import TableLog, TableSnapshot
    from metrics_lake.commits.checkpoint import LogListing
    from metrics_lake.storage import ObjectInfo, Storage

__all__ = ["Garbage", "Scan", "collect_inbox", "scan", "store_now"]

INBOX_SECONDS: Final = 600.0
INBOX_HURRY_SECONDS: Final = 60.0
INBOX_HURRY_OBJECTS: Final = 1_000


def store_now(storage: Storage, table: str) -> float:
    """Return the store's clock, as the time of an object written now.

    Raises:
        StorageError: The store failed.
    """
    key = f"{table}/_claims/clock.{uuid.uuid4().hex}"
    storage.put_new(key, b"")
    try:
        return max(info.modified for info in storage.list(key))
    except ValueError:
        raise ObjectNotFoundError(
            f"The store does not list the object {key!r} that it has just taken.", key=key
        ) from None
    finally:
        storage.delete([key])


@dataclass(frozen=True, slots=True)
class Scan:
    """A table and everything that lies under its prefixes, seen in this order: the objects, then the log.

    Attributes:
        now: The store's clock before anything was listed.
        inbox: The inbox objects.
        table: Everything under the table's prefix: data files, claims, the log.
        state: The newest version, opened cold after the listings.
    """

    now: float
    inbox: tuple[ObjectInfo, ...]
    table: tuple[ObjectInfo, ...]
    state: TableSnapshot

    @property
    def log(self) -> LogListing:
        """The log as listed."""
        return parse_log_listing(info for info in self.table if "/_delta_log/" in info.key)

    def version_before(self, seconds: float) -> int | None:
        """Return the newest version that the store has had for that long, or None."""
        listing = self.log
        old = [number for number, info in listing.commits.items() if info.modified <= self.now - seconds]
        old += [
            number
            for number, parts in listing.checkpoints.items()
            if max(info.modified for info in parts) <= self.now - seconds
        ]
        return max(old, default=None)

    def data_files(self) -> dict[str, ObjectInfo]:
        """Return the listed Parquet files of the table's partitions by key."""
        prefix = table_prefix(self.state.table)
        return {
            info.key: info
            for info in self.table
            if info.key.endswith(".parquet") and not info.key.removeprefix(prefix).startswith(("_", "."))
        }


def scan(storage: Storage, log: TableLog, now: float | None = None) -> Scan:
    """Look at everything: the objects first and the log cold afterwards, so that what the log uses is seen.

    Args:
        storage: The lake's objects.
        log: The table's log.
        now: What to take for the store's clock; None = ask it, which writes an object.

    Raises:
        StorageError: The store failed.
        CorruptObjectError: The log or a checkpoint is damaged.
    """
    now = store_now(storage, log.table) if now is None else now
    inbox = tuple(storage.list(inbox_prefix(log.table)))
    table = tuple(storage.list(table_prefix(log.table)))
    return Scan(now, inbox, table, log.reopen())


@dataclass(slots=True)
class Garbage:
    """What was deleted, or would be.

    Attributes:
        objects: Keys of inbox objects whose rows are in the table.
        files: Keys of data files that no version of the last week uses, and of orphans.
        sidecars: Keys of series sidecars without their file.
        log: Keys of versions and checkpoints that the log outgrew.
        claims: Keys of claims that ended.
        size_bytes: How many bytes all of these have.
    """

    objects: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    size_bytes: int = 0


def consumed_objects(seen: Scan, log: TableLog, *, min_age_seconds: float | None = None) -> list[ObjectInfo]:
    """Return the inbox objects that a commit consumed long enough ago.

    A reader that listed them may still be reading them, so they stay for ten minutes after the commit; for
    one minute where over a thousand lie there.

    Raises:
        CorruptObjectError: A data file of the table is missing: then the inbox may hold its only copy, and
            nothing of it is deleted.
    """
    by_now = _consumed(seen.inbox, seen.state)
    if not by_now:
        return []
    # the scan listed the files before it read the log: look again for those that are newer
    listed = seen.data_files()
    if missing := sorted(seen.state.entries.keys() - listed.keys()):
        there = {info.key for info in log.storage.list(table_prefix(log.table))}
        if lost := [key for key in missing if key not in there]:
            raise CorruptObjectError(
                f"The data file {lost[0]!r} is in the log of table {log.table!r} and not in the store; "
                f"{len(lost)} in all. Nothing is deleted from the inbox.",
                hint="`metrics-lake verify` names everything that is missing.",
                key=lost[0],
                keys=tuple(lost),
            )
    if min_age_seconds is None:
        min_age_seconds = INBOX_HURRY_SECONDS if len(by_now) > INBOX_HURRY_OBJECTS else INBOX_SECONDS
    version = seen.version_before(min_age_seconds)
    if version is None:
        return []
    if version == seen.state.version:
        return _without_partners(by_now, seen.inbox)
    try:
        return _without_partners(_consumed(seen.inbox, log.at_version(version)), seen.inbox)
    except (SnapshotExpired, NotFoundError):
        return []  # the log was cleaned up meanwhile: the next run knows more


def _without_partners(garbage: list[ObjectInfo], inbox: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    """Return the objects that share no numbers with one that stays: to judge one of a pair takes both."""
    keys = {info.key for info in garbage}
    kept = {key for cluster in sharing_numbers(inbox) if not keys.issuperset(cluster) for key in cluster}
    return [info for info in garbage if info.key not in kept]


def _consumed(infos: Iterable[ObjectInfo], state: TableSnapshot) -> list[ObjectInfo]:
    found = []
    for info in infos:
        name = parse_inbox_key(info.key)
        if name is None or name.table != state.table:
            continue
        if name.is_end and state.transactions.get(end_app_id(name.writer)) is None:
            continue  # the only sign that this writer has ended
        if name.last >= name.first:
            is_consumed = contains(state.consumed(name.writer), name.first, name.last)
        else:
            is_consumed = name.is_end
        if is_consumed:
            found.append(info)
    return found


def collect_inbox(
    storage: Storage, log: TableLog, *, seen: Scan | None = None, min_age_seconds: float | None = None
) -> list[ObjectInfo]:
    """Delete consumed inbox objects that no reader needs any more, and return them.

    Raises:
        StorageError: The store failed; what is left is collected next time.
        CorruptObjectError: As for :func:`consumed_objects`.

    Warns:
        MetricsLakeWarning: An object holds rows of a copied process; they were published anew.
    """
    seen = scan(storage, log) if seen is None else seen
    garbage = consumed_objects(seen, log, min_age_seconds=min_age_seconds)
    if garbage:
        publish_hidden_rows(storage, log, seen, garbage)
        storage.delete([info.key for info in garbage])
    return garbage
