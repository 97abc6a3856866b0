"""The log of one table: opened cold by a LIST, then followed with one GET a refresh.

**Anchor.** That version ``v + 1`` is absent proves that ``v`` is the newest only while ``v`` itself exists: a
cleanup by another engine may have removed both. So a handle whose last proof is older than ten minutes looks
for both, and opens the log anew where ``v`` is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from metrics_lake.commits.actions import parse_commit
from metrics_lake.commits.checkpoint import decode_checkpoint, parse_log_listing
from metrics_lake.commits.inbox import Inbox, boot_seconds
from metrics_lake.commits.state import TableSnapshot, check_supported
from metrics_lake.errors import (
    ConflictError,
    CorruptObjectError,
    NotFoundError,
    ObjectNotFoundError,
    SnapshotExpired,
)
from metrics_lake.layout import log_key, log_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from metrics_lake.commits.actions import Commit
    from metrics_lake.commits.checkpoint import LogListing
    from metrics_lake.storage import Storage

__all__ = ["ANCHOR_SECONDS", "TableLog", "TableSnapshot"]

ANCHOR_SECONDS: Final = 600.0
"""How long a proof that a version is the newest lets its successor's absence speak for itself."""

_OPEN_ATTEMPTS: Final = 5
_MOST_STEPS: Final = 20


class TableLog:
    """Reads the log of one table and keeps its newest version; thread-safe, holds no resources.

    Args:
        storage: The lake's objects.
        table: The table's name.
        boot_clock: Seconds that only grow, whatever is done to the wall clock.

    Attributes:
        storage: The lake's objects.
        table: The table's name.
        inbox: The table's inbox as this process saw it last.
    """

    def __init__(
        self, storage: Storage, table: str, *, boot_clock: Callable[[], float] = boot_seconds
    ) -> None:
        self.storage = storage
        self.table = table
        self.inbox = Inbox(table, boot_clock=boot_clock)
        self._boot_clock = boot_clock
        # The newest known version and when it was last proven to be the newest, replaced as one: threads
        # may read the same news twice, and none ever sees half of it.
        self._known: tuple[TableSnapshot, float] | None = None
        self._checked: TableSnapshot | None = None

    def refresh(self) -> TableSnapshot:
        """Return the newest version: one GET that answers "not found" when there is no news.

        Raises:
            StorageError: The store could not be read.
            UnsupportedFormatError: The table asks for something that we cannot give; ``property`` names it.
            CorruptObjectError: A version or all checkpoints cannot be decoded.
        """
        known = self._known
        if known is None:
            return self.reopen()
        state, anchored = known
        start = state.version
        while True:
            # The time of a proof is from before it was asked for: this process may be stopped at any line.
            asked = self._boot_clock()
            commit = self.read_commit(state.version + 1)
            if commit is None:
                break
            state, anchored = state.after(commit), asked
            if state.version - start >= _MOST_STEPS:
                return self.reopen()  # one LIST and parallel GETs are faster than many GETs in a row
        now = self._boot_clock()
        if now - anchored > ANCHOR_SECONDS:
            if not self.is_anchored(state):
                return self.reopen()
            anchored = now
        return self._keep(state, anchored)

    def reopen(self) -> TableSnapshot:
        """Return the newest version as a LIST of the log shows it, whatever was known before.

        Raises:
            StorageError: The store could not be read.
            ConflictError: The table was deleted and made anew.
            UnsupportedFormatError: As for :meth:`refresh`.
            CorruptObjectError: As for :meth:`refresh`.
        """
        begun = self._boot_clock()
        state = self._open(None)
        known = self._known
        if known is not None and known[0].metadata.get("id") not in (None, state.metadata.get("id")):
            raise ConflictError(
                f"Table {self.table!r} of {self.storage.url} was deleted and made anew.",
                hint="Open the lake again.",
                table=self.table,
            )
        return self._keep(state, begun)

    def at_version(self, version: int) -> TableSnapshot:
        """Return the table as of a version.

        Raises:
            NotFoundError: There is no such version yet.
            SnapshotExpired: The log no longer goes back that far.
            StorageError: The store could not be read.
        """
        state = self._open(version)
        check_supported(state)
        return state

    def is_anchored(self, state: TableSnapshot) -> bool:
        """Return whether a version's own object is still there (without a log: whether there is none)."""
        if state.version < 0:
            return not self.storage.list(log_prefix(self.table))
        return self.has_version(state.version)

    def has_version(self, version: int) -> bool:
        """Return whether a version's own object is there."""
        try:
            self.storage.get(log_key(self.table, version), 0, 1)
        except ObjectNotFoundError:
            return False
        return True

    def read_commit(self, version: int) -> Commit | None:
        """Return one version's actions, or None where the version does not exist."""
        key = log_key(self.table, version)
        try:
            data = self.storage.get(key)
        except ObjectNotFoundError:
            return None
        return parse_commit(self.table, version, data, key=key)

    def list_log(self) -> LogListing:
        """Return the commits and checkpoints that the store lists."""
        return parse_log_listing(self.storage.list(log_prefix(self.table)))

    @property
    def is_recent(self) -> bool:
        """Whether the newest known version was proven to be the newest within the anchor's time."""
        return self._known is not None and self._boot_clock() - self._known[1] <= ANCHOR_SECONDS

    def _keep(self, state: TableSnapshot, anchored: float) -> TableSnapshot:
        known = self._known
        if known is not None and known[0].version > state.version and known[1] >= anchored:
            state, anchored = known  # another thread was faster
        self._known = state, anchored
        checked = self._checked
        if checked is None or (checked.metadata, checked.protocol) != (state.metadata, state.protocol):
            check_supported(state)
        self._checked = state
        return state

    def _open(self, version: int | None) -> TableSnapshot:
        """Return a version (None: the newest) from a LIST, again where a cleanup took what it named."""
        for attempt in range(_OPEN_ATTEMPTS):
            listing = self.list_log()
            try:
                return self._load(listing, listing.newest if version is None else version)
            except ObjectNotFoundError:
                if attempt == _OPEN_ATTEMPTS - 1:
                    raise
        raise AssertionError  # pragma: no cover -- the loop returns or raises

    def _load(self, listing: LogListing, version: int) -> TableSnapshot:
        if version == -1 and listing.newest == -1:
            return TableSnapshot(self.table)
        if not -1 < version <= listing.newest:
            raise NotFoundError(
                f"Table {self.table!r} has no version {version}; the newest is {listing.newest}.",
                table=self.table,
                version=version,
            )
        damage: CorruptObjectError | None = None
        for start in (*sorted((each for each in listing.checkpoints if each <= version), reverse=True), -1):
            wanted = range(start + 1, version + 1)
            if any(each not in listing.commits for each in wanted):
                continue
            try:
                state = self._load_checkpoint(listing, start)
            except CorruptObjectError as error:
                damage = damage or error  # an older checkpoint and more commits may say the same
                continue
            infos = [listing.commits[each] for each in wanted]
            bodies = self.storage.get_many([(info.key, 0, info.size_bytes) for info in infos])
            for number, info, body in zip(wanted, infos, bodies, strict=True):
                state = state.after(parse_commit(self.table, number, body, key=info.key))
            return state
        if damage is not None:
            raise damage
        raise SnapshotExpired(
            f"Version {version} of table {self.table!r} cannot be read: the log was cleaned up and does not "
            "go back that far.",
            table=self.table,
            version=version,
        )

    def _load_checkpoint(self, listing: LogListing, version: int) -> TableSnapshot:
        if version < 0:
            return TableSnapshot(self.table)
        infos = listing.checkpoints[version]
        bodies = self.storage.get_many([(info.key, 0, info.size_bytes) for info in infos])
        parts = [(info.key, body) for info, body in zip(infos, bodies, strict=True)]
        return decode_checkpoint(self.table, version, parts)
