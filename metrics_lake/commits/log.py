"""The log of one table: its versions, read incrementally."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from metrics_lake.commits.inbox import Inbox, boot_seconds
from metrics_lake.commits.intervals import union
from metrics_lake.errors import ObjectNotFoundError
from metrics_lake.layout import log_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metrics_lake.commits.intervals import Intervals
    from metrics_lake.commits.model import DataFile
    from metrics_lake.storage import Storage

__all__ = ["TableLog", "TableSnapshot"]


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """The compacted table at one version; -1 where there is no log yet."""

    table: str
    version: int = -1
    files: Sequence[DataFile] = ()
    watermarks: Mapping[str, Intervals] = field(default_factory=dict)

    def consumed(self, writer: str) -> Intervals:
        """Return the ``seq`` intervals of a writer whose rows the table has taken over."""
        return self.watermarks.get(writer, ())


class TableLog:
    """Reads the log of one table; thread-safe."""

    def __init__(
        self, storage: Storage, table: str, *, boot_clock: Callable[[], float] = boot_seconds
    ) -> None:
        self.storage = storage
        self.table = table
        self.inbox = Inbox(table, boot_clock=boot_clock)
        self._lock = Lock()
        self._current = TableSnapshot(table)

    def refresh(self) -> TableSnapshot:
        """Return the newest version."""
        with self._lock:
            while True:
                current = self._current
                try:
                    data = self.storage.get(log_key(self.table, current.version + 1))
                except ObjectNotFoundError:
                    return current
                watermarks = dict(current.watermarks)
                for line in data.splitlines():
                    txn = json.loads(line).get("txn")
                    if txn is not None:
                        writer, _, first = txn["appId"].removeprefix("ml:").partition("@")
                        interval = (int(first or 0), txn["version"])
                        watermarks[writer] = union((*watermarks.get(writer, ()), interval))
                self._current = TableSnapshot(self.table, current.version + 1, current.files, watermarks)
