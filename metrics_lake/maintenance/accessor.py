"""``lake.maintenance``: what keeps a lake small and fast, and what takes points out of it."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from metrics_lake.commits import TableLog
from metrics_lake.errors import InvalidInputError, UnsupportedFormatError
from metrics_lake.layout import inbox_prefix, log_prefix
from metrics_lake.maintenance.collecting import collect_inbox
from metrics_lake.maintenance.compaction import Compaction, compact_inbox, merge_files
from metrics_lake.maintenance.deleting import Deletion, delete_rows
from metrics_lake.maintenance.recovery import recover_watermarks
from metrics_lake.maintenance.selection import Condition
from metrics_lake.maintenance.vacuuming import vacuum
from metrics_lake.points import checked_timestamp
from metrics_lake.progress import progress_bar
from metrics_lake.reader.selection import Ids
from metrics_lake.resources import resource_ids
from metrics_lake.schema import METRICS, TABLES
from metrics_lake.tags import canonical_tags, tags_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from metrics_lake.commits import Intervals
    from metrics_lake.lakefile import LakeFile
    from metrics_lake.maintenance.collecting import Garbage
    from metrics_lake.progress import Progress
    from metrics_lake.reader import Reader
    from metrics_lake.storage import Storage
    from metrics_lake.writer import Receipt

__all__ = ["Maintenance", "Recovery"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery brought back.

    Attributes:
        points: Points of dead processes' journals that are published now.
        watermarks: By writer, what the table's own rows proved to be consumed and the log had lost.
    """

    points: int
    watermarks: Mapping[str, Intervals]


class Maintenance:
    """Maintenance of one lake; every method may run anywhere, any number of times, and be killed.

    Args:
        storage: The lake's objects.
        lake: What ``_lake.json`` says.
        flush: Publishes this process's own points.
        adopt: Publishes the journals under a folder; returns how many points.
        reader: Gives what knows what is there.
        check_writable: Raises where this handle may not write; then dry runs are all that is left.
    """

    def __init__(
        self,
        storage: Storage,
        lake: LakeFile,
        flush: Callable[[], Receipt],
        adopt: Callable[[Any], int],
        reader: Callable[[], Reader],
        check_writable: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._lake = lake
        self._flush = flush
        self._adopt = adopt
        self._reader = reader
        self._check_writable = check_writable

    def compact(
        self, table: str | None = None, *, progress: bool | Progress | None = None
    ) -> dict[str, Compaction]:
        """Move published points from the inbox into the sorted table, and merge small and foreign files.

        Readers see the same points before, during and after.

        Args:
            table: One table; None: all that the lake has.
            progress: A bar where somebody can see it (None), always, never, or a function of done and total.

        Returns:
            What moved, by table.

        Raises:
            UnsupportedFormatError: The store does not honour exclusive creation, or another engine gave the
                table properties that this version must not ignore.
            StorageError: The store failed; repeating the call is safe.

        >>> from metrics_lake import MetricsLake
        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> lake.maintenance.compact()["metrics"].points
        3
        """
        self._check_writable()
        self._require_commits()
        self._flush()
        done = {}
        for name in self._tables(table):
            log = TableLog(self._storage, name)
            with progress_bar(f"compacting {name}", progress) as report:
                moved = compact_inbox(self._storage, log, progress=report)
            with progress_bar(f"merging {name}", progress) as report:
                merged = merge_files(self._storage, log, progress=report)
            collect_inbox(self._storage, log)
            done[name] = Compaction(
                version=max(moved.version, merged.version),
                points=moved.points,
                objects=moved.objects + merged.objects,
                files=moved.files + merged.files,
                size_bytes=moved.size_bytes + merged.size_bytes,
                seconds=moved.seconds + merged.seconds,
                damaged=(*moved.damaged, *merged.damaged),
            )
        return done

    def vacuum(
        self,
        table: str | None = None,
        *,
        retention: dt.timedelta = dt.timedelta(days=7),
        dry_run: bool = False,
    ) -> dict[str, Garbage]:
        """Delete the bytes that no reader can need any more.

        Args:
            table: One table; None: all that the lake has.
            retention: How long replaced files stay for readers of older snapshots.
            dry_run: Only say what would leave.

        Raises:
            InvalidInputError: The retention is negative.
            StorageError: The store failed; what is left is for the next run.
        """
        if not dry_run:
            self._check_writable()
        self._require_commits()
        seconds = retention.total_seconds()
        if seconds < 0:
            raise InvalidInputError(f"retention is {retention}.", hint="Pass a timedelta of 0 or more.")
        return {
            name: vacuum(
                self._storage, TableLog(self._storage, name), retention_seconds=seconds, dry_run=dry_run
            )
            for name in self._tables(table)
        }

    def delete(
        self,
        resources: Any = None,
        metrics: Any = None,
        *,
        tags: Mapping[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
        table: str = METRICS,
        dry_run: bool = True,
        purge: bool = False,
        progress: bool | Progress | None = None,
    ) -> Deletion:
        """Delete exactly the points that a read begun now would give; what is published later is new data.

        Args:
            resources: Resources, ``glob`` patterns, or a list of them; None: all.
            metrics: Metric ids, ``glob`` patterns, or a list of them; None: all.
            tags: Exactly this series; ``{}``: the untagged one; None: all.
            since: Only points with this timestamp or a later one.
            until: Only points with an earlier timestamp.
            table: The table.
            dry_run: Only say what would go: the default.
            purge: Remove the bytes at once too, not only at the next vacuum.
            progress: As in ``compact``.

        Raises:
            InvalidInputError: Nothing limits the delete: pass ``glob("*")`` to mean everything.
            NotFoundError: Nothing would go, and there is no resource or metric of a name that was given; with
                near names.
            StorageError: The store failed; nothing was deleted.

        >>> from metrics_lake import MetricsLake
        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> lake.maintenance.delete("digits/run-1").points
        3
        >>> lake.maintenance.delete("digits/run-1", dry_run=False).points
        3
        >>> lake.get_metric("digits/run-1", "loss") is None
        True
        """
        if resources is None and metrics is None and tags is None and since is None and until is None:
            raise InvalidInputError(
                "nothing says what to delete.", hint='Pass glob("*") to delete everything.', table=table
            )
        of_resources, of_metrics = Ids.of(resource_ids(resources), "resource"), Ids.of(metrics, "metric")
        condition = Condition(
            resources=_names(of_resources),
            metrics=_names(of_metrics),
            since_us=None if since is None else checked_timestamp(since, "since"),
            until_us=None if until is None else checked_timestamp(until, "until"),
            tags_keys=None if tags is None else (tags_key(canonical_tags(tags)),),
        )
        done = self._delete(
            condition, table, keep_last=False, dry_run=dry_run, purge=purge, progress=progress
        )
        if not done.points and table == METRICS and of_resources is not None:
            self._require(of_resources, of_metrics)
        return done

    def retention(
        self,
        older_than: dt.timedelta | dt.datetime,
        *,
        keep: Literal["last"] | None = "last",
        table: str = METRICS,
        dry_run: bool = True,
        purge: bool = False,
        progress: bool | Progress | None = None,
    ) -> Deletion:
        """Delete points by age.

        Args:
            older_than: Points whose timestamp is earlier than this instant, or than this long ago.
            keep: ``"last"``: the latest point of every series stays, whatever its age; None: nothing does.
            table: The table.
            dry_run: Only say what would go: the default.
            purge: As in ``delete``.
            progress: As in ``compact``.

        Raises:
            InvalidInputError: The instant has no time zone, or ``keep`` is something else.
            StorageError: The store failed; nothing was deleted.
        """
        if keep not in (None, "last"):
            raise InvalidInputError(f"keep is {keep!r}.", hint="Pass 'last' or None.", argument="keep")
        if isinstance(older_than, dt.timedelta):
            older_than = dt.datetime.now(dt.UTC) - older_than
        condition = Condition(until_us=checked_timestamp(older_than, "older_than"))
        keep_last = keep == "last" and table == METRICS
        return self._delete(
            condition, table, keep_last=keep_last, dry_run=dry_run, purge=purge, progress=progress
        )

    def recover(self, journals: Any = None) -> Recovery:
        """Publish journals that no process of this machine would adopt, and mend lost watermarks.

        Args:
            journals: A folder of journals: of another machine, or a copy. None: this machine's.

        Raises:
            NotFoundError: There is no such folder.
            StorageError: The store failed; repeating the call is safe.
        """
        self._check_writable()
        points = self._adopt(journals)
        found: dict[str, Intervals] = {}
        if self._lake.creates_exclusively:
            for name in self._tables(None):
                found.update(recover_watermarks(self._storage, TableLog(self._storage, name)))
        return Recovery(points=points, watermarks=found)

    def _delete(
        self,
        condition: Condition,
        table: str,
        *,
        keep_last: bool,
        dry_run: bool,
        purge: bool,
        progress: bool | Progress | None,
    ) -> Deletion:
        if not dry_run:
            self._check_writable()
        self._require_commits()
        self._flush()
        log = TableLog(self._storage, _known_table(table))
        with progress_bar(f"deleting from {table}", progress) as report:
            done = delete_rows(
                self._storage, log, condition, keep_last=keep_last, dry_run=dry_run, progress=report
            )
        if purge and not dry_run:
            vacuum(self._storage, log, purge=(*done.files, *done.objects))
        return done

    def _require(self, resources: Ids, metrics: Ids | None) -> None:
        reader = self._reader()
        for resource in resources.names:
            there = reader.metric_ids(resource)
            if not there:
                raise reader.not_found(resource)
            for metric in metrics.names if metrics and resource == resources.only else ():
                if metric not in there:
                    raise reader.not_found(resource, metric)

    def _tables(self, table: str | None) -> Iterable[str]:
        if table is not None:
            return [_known_table(table)]
        return [
            name
            for name in TABLES
            if name == METRICS
            or self._storage.list(inbox_prefix(name))
            or self._storage.list(log_prefix(name))
        ]

    def _require_commits(self) -> None:
        if not self._lake.creates_exclusively:
            raise UnsupportedFormatError(
                f"the store of {self._storage.url} does not honour exclusive creation, which commits need.",
                hint="It takes appends and reads; a local disk, S3, GCS and Azure can compact too.",
                url=self._storage.url,
            )


def _known_table(table: str) -> str:
    if table not in TABLES:
        raise InvalidInputError(
            f"there is no table {table!r}.", hint=f"Tables are {', '.join(TABLES)}.", argument="table"
        )
    return table


def _names(asked: Ids | None) -> tuple[str | re.Pattern[str], ...] | None:
    """Return ids as they are and patterns compiled; None is all."""
    return None if asked is None else (*asked.names, *(re.compile(each.regex) for each in asked.globs))
