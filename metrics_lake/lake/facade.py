"""``MetricsLake``: the object that users hold. It checks arguments and delegates."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake.errors import InvalidInputError, MetricsLakeError
from metrics_lake.handle import Resource
from metrics_lake.lake.access import check_choice
from metrics_lake.lake.analysing import AnalysisVerbs
from metrics_lake.lake.predicting import PredictionVerbs
from metrics_lake.lake.reading import ReadVerbs
from metrics_lake.lake.writing import WriteVerbs
from metrics_lake.storage import open_storage
from metrics_lake.tracker import BaseMetricsTracker
from metrics_lake.writer import (
    Durability,
    Receipt,
    Status,
    Writer,
    WriterSettings,
    recover_journals,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from metrics_lake.inspection import Inspection
    from metrics_lake.lakefile import LakeFile
    from metrics_lake.maintenance import BackgroundCompaction, Maintenance
    from metrics_lake.reader import Reader
    from metrics_lake.storage import Storage

__all__ = ["MetricsLake"]

DEFAULT_URL: Final = "metrics-lake"


class MetricsLake(WriteVerbs, ReadVerbs, AnalysisVerbs, PredictionVerbs, BaseMetricsTracker):
    """A lake of metrics under one url: log, read, copy, with no server and no catalog.

    Making one reads and writes nothing. The first write makes the lake if there is none; the first read of a
    url without a lake raises. A handle is safe for threads, gives each forked child a writer of its own, and
    pickles (without credentials). As a context manager it closes itself.

    Args:
        url: A folder, ``s3://…``, ``gs://…``, ``memory://…`` or any other fsspec url. None:
            ``$METRICS_LAKE_URL``, else ``./metrics-lake``.
        storage_options: What the url's fsspec filesystem takes.
        durability: What a point survives when its call returns: ``"logged"`` (the process is killed),
            ``"synced"`` (the power fails) or ``"published"`` (the machine is lost).
        flush_seconds: How long a point may wait in the journal before it is published; None: 1 s for the
            first, then 5 s, and 30 s on object stores once the writer is ten minutes old.
        on_full: What happens when the journal reaches its cap because the store is down: ``"raise"`` or
            ``"block"``. Nothing is ever dropped.
        journal_max_bytes: The cap.
        state_dir: The folder for journals. None: ``$METRICS_LAKE_STATE``, else the user's state folder.
        read_only: Refuse every write; then nothing is ever written, not even a dead process's journal.
        compaction: ``"auto"``: compact in the background when many objects wait; ``"off"``: leave it to
            ``lake.maintenance.compact()`` or the command line.

    Attributes:
        url: The lake's absolute url, without credentials and without a trailing slash.

    Raises:
        InvalidInputError: An argument is wrong.
        MissingDriverError: The url's scheme needs a package that is not installed.

    >>> lake = MetricsLake(tmp / "lake")
    >>> lake.log_metric("digits/run-1", "loss", 0.25, step=1)
    >>> lake.get_metric("digits/run-1", "loss")
    0.25
    >>> lake.close()
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        durability: Durability = "logged",
        flush_seconds: float | None = None,
        on_full: Literal["raise", "block"] = "raise",
        journal_max_bytes: int = 1 << 30,
        state_dir: str | os.PathLike[str] | None = None,
        read_only: bool = False,
        compaction: Literal["auto", "off"] = "auto",
    ) -> None:
        check_choice("durability", durability, ("logged", "synced", "published"))
        check_choice("on_full", on_full, ("raise", "block"))
        check_choice("compaction", compaction, ("auto", "off"))
        if flush_seconds is not None and not flush_seconds >= 0:
            raise InvalidInputError(f"flush_seconds is {flush_seconds!r}.", hint="Pass seconds, 0 or more.")
        if journal_max_bytes < 1:
            raise InvalidInputError(f"journal_max_bytes is {journal_max_bytes!r}.", hint="Pass bytes.")
        chosen = url if url is not None else os.environ.get("METRICS_LAKE_URL") or DEFAULT_URL
        self._open(
            open_storage(chosen, storage_options),
            WriterSettings(
                durability=durability,
                flush_seconds=flush_seconds,
                on_full=on_full,
                journal_max_bytes=journal_max_bytes,
                state_dir=state_dir,
            ),
            read_only=read_only,
            compaction=compaction,
        )

    def _open(self, storage: Storage, settings: WriterSettings, *, read_only: bool, compaction: str) -> None:
        self.url = storage.url
        self._storage = storage
        self._settings = settings
        self._read_only = read_only
        self._compaction = compaction
        self._made_in = os.getpid()
        self._compactor: BackgroundCompaction | None = None
        self._next_look = 0.0
        self._refused: str | None = None
        self._writer = Writer(storage, settings, self._look_at_inbox)
        self._lake_file: LakeFile | None = None
        self._reader: Reader | None = None
        self._reader_pid = 0
        self._reader_lock = threading.Lock()
        self._is_closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {
            "storage": self._storage,
            "settings": self._settings,
            "read_only": self._read_only,
            "compaction": self._compaction,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(
            state["storage"], state["settings"], read_only=state["read_only"], compaction=state["compaction"]
        )

    def __repr__(self) -> str:
        return f"<MetricsLake {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MetricsLakeError as failure:
            if error is None:
                raise
            error.add_note(f"metrics_lake: {failure}")

    def _flush_on_leaving(self, error: BaseException | None) -> None:
        try:
            self._writer.flush()
        except MetricsLakeError as failure:
            if error is None:
                raise
            error.add_note(f"metrics_lake: {failure}")

    def resource(self, obj: Any, tags: Mapping[str, Any] | None = None) -> Resource:
        """Return a handle on one resource: every verb without its first argument.

        Args:
            obj: The resource.
            tags: Tags of every point that is logged through the handle.

        >>> lake = MetricsLake(tmp / "lake")
        >>> with lake.resource("digits/run-1", tags={"fold": 2}) as run:
        ...     run.log_metric("loss", 0.25)
        >>> lake.get_metric("digits/run-1", "loss", tags={"fold": 2})
        0.25
        """
        return Resource(self, obj, tags)

    def flush(self, timeout_seconds: float | None = None) -> Receipt:
        """Publish every point logged before the call: then every reader sees it.

        Args:
            timeout_seconds: How long to keep trying; None gives up after one failed attempt. Either way the
                points stay in the journal and the background goes on.

        Raises:
            NotPublishedError: Points are still in the journal: how many, where and why.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metric("digits/run-1", "acc", 0.9)
        >>> lake.flush().points
        1
        """
        return self._writer.flush(timeout_seconds)

    def close(self, timeout_seconds: float | None = 30.0) -> None:
        """Publish what is pending and stop; a second call does nothing.

        Raises:
            NotPublishedError: Points are still in the journal; the next handle on this machine publishes
                them.
        """
        self._is_closed = True
        self._writer.close(timeout_seconds)

    def status(self) -> Status:
        """Return what this handle knows of its writer: pending points, durability, problems."""
        compactor = self._compactor
        return self._writer.status(
            self._refused or (self._compaction if compactor is None else compactor.state)
        )

    @property
    def maintenance(self) -> Maintenance:
        """Compaction, deletes, retention, vacuum, recovery."""
        from metrics_lake.maintenance import Maintenance

        return Maintenance(
            self._storage,
            self._lake(),
            self._writer.flush,
            self._recover,
            self._reading,
            self._check_writable,
        )

    @property
    def inspect(self) -> Inspection:
        """Live files, versions, writers, gaps; verification and quarantine."""
        from metrics_lake.inspection import Inspection

        return Inspection(self._storage, self._reading(), self._lake(), self._check_writable)

    def _recover(self, journals: str | os.PathLike[str] | None) -> int:
        """Publish dead processes' journals: of this machine, or those under a folder."""
        lake = self._writer.connect()
        if journals is not None:
            return recover_journals(self._storage, lake, journals)
        before = self._writer.status("").published_points
        self._writer.adopt(lake)
        self._writer.flush()
        return self._writer.status("").published_points - before
