"""The reading half of a lake: what every read verb returns, before values are decoded."""

from __future__ import annotations

import datetime as dt
import warnings
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from metrics_lake.commits import Snapshot, snapshot_from_text
from metrics_lake.errors import AmbiguousSeriesError, InvalidInputError, MetricsLakeWarning, NotFoundError
from metrics_lake.points import checked_step, checked_timestamp
from metrics_lake.reader.cache import ByteCache
from metrics_lake.reader.drawing import RecentCurves
from metrics_lake.reader.history import copied_rows, history_query, list_resources, rows_to_copy
from metrics_lake.reader.overview import ambiguous_series, without_ambiguous_warning
from metrics_lake.reader.recent import SCAN_ROWS
from metrics_lake.reader.selection import Ids, IdsLike, Selection, Steps, StepsLike
from metrics_lake.reader.table import TableReader
from metrics_lake.resources import nearest
from metrics_lake.result import Result
from metrics_lake.schema import METRICS
from metrics_lake.tags import canonical_tags, tags_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from metrics_lake.charts import Drawn
    from metrics_lake.commits import PendingRun
    from metrics_lake.reader.lookup import Order, Point
    from metrics_lake.storage import Storage

__all__ = ["Reader"]

_Answer = TypeVar("_Answer")

_CACHE_BYTES: Final = 256 << 20
_RECENT_BYTES: Final = 256 << 20
_SMALL_ROWS: Final = 4_000_000
"""Of a few resources in files of up to so many rows a query keeps the points that it needs three times."""


def _nothing_pending(_: str) -> tuple[PendingRun, ...]:
    return ()


def _nothing_published(_: str) -> None:
    return None


def _unnoticed(_: Snapshot) -> None:
    return None


class Reader:
    """Reads the tables of one lake; thread-safe, holds no connections, survives fork.

    Args:
        storage: The lake's objects.
        pending: Gives this process's own rows of a table that may not be published yet.
        published: Gives the rows of an inbox object by its key, where this process has just published it.
        cache_bytes: How much of footers and series sidecars is kept in memory.
        recent_bytes: How much of the decoded inbox is kept in memory, per table.
        scan_rows: Up to how many rows a part of the inbox is searched row by row.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        pending: Callable[[str], Sequence[PendingRun]] = _nothing_pending,
        published: Callable[[str], pa.Table | None] = _nothing_published,
        cache_bytes: int = _CACHE_BYTES,
        recent_bytes: int = _RECENT_BYTES,
        scan_rows: int = SCAN_ROWS,
        noticed: Callable[[Snapshot], object] = _unnoticed,
    ) -> None:
        self._storage = storage
        self._pending = pending
        self._published = published
        self._cache = ByteCache(cache_bytes)
        self._recent_bytes = recent_bytes
        self._scan_rows = scan_rows
        self._noticed = noticed
        self._tables: dict[str, TableReader] = {}
        self._curves = RecentCurves()

    @property
    def storage(self) -> Storage:
        """The lake's objects."""
        return self._storage

    def table(self, name: str = METRICS) -> TableReader:
        """Return the reader of one table."""
        found = self._tables.get(name)
        if found is None:
            made = TableReader(
                self._storage,
                name,
                lambda: self._pending(name),
                self._cache,
                self._recent_bytes,
                self._scan_rows,
                self._noticed,
                self._published,
            )
            found = self._tables.setdefault(name, made)
        return found

    def snapshot(self, table: str = METRICS) -> Snapshot:
        """Return which published rows count now: to be passed as ``at``, as it is or as ``str(snapshot)``.

        Every read of it gives exactly the same rows, in any process, or raises ``SnapshotExpired``. Rows of
        this process that are not published yet are no part of it.
        """
        return replace(self.table(table).snapshot(), pending=())

    # ---- one value -----------------------------------------------------------------------------------------

    def latest(
        self,
        resource: str,
        metric: str,
        *,
        step: Any = None,
        tags: Mapping[str, Any] | None = None,
        order_by: Order = "timestamp",
        at: Any = None,
    ) -> Point | None:
        """Return the latest point of one series, or None where there is none.

        Args:
            resource: A literal id.
            metric: A literal id.
            step: Only points at this step.
            tags: Exactly this series, ``{}`` the untagged one; None = the untagged one, else the only one.
            order_by: What is latest: the greatest ``timestamp``, or ``step`` (no step is lowest).
            at: As it was at this instant (aware datetime), or in this version of the table (int), or in a
                snapshot.

        Raises:
            AmbiguousSeriesError: ``tags`` is None and several tagged series are there.
            SnapshotExpired: The version or snapshot asked for is gone.
            InvalidInputError: An argument is of the wrong type.
        """
        if order_by not in ("timestamp", "step"):
            raise InvalidInputError(
                f"order_by is {order_by!r}.", hint="Pass 'timestamp' or 'step'.", argument="order_by"
            )
        at_step = checked_step(step)
        wanted = None if tags is None else tags_key(canonical_tags(tags))
        pinned, instant = self.moment(METRICS, at)
        table = self.table()
        both = Selection(Ids((resource,)), Ids((metric,)))

        def answer(snapshot: Snapshot) -> Point | None:
            latest = table.latest(snapshot, resource, metric, order_by)
            if instant is not None:
                newest = latest
                if order_by == "step":
                    newest = table.latest(snapshot, resource, metric, "timestamp")
                if any(point.timestamp > instant for point in newest.values()):
                    latest = table.latest_among(snapshot, both.up_to(instant), order_by)
            key = _series(latest, wanted, resource, metric)
            point = None if key is None else latest.get(key)
            if point is None:
                return None
            if at_step is not None and point.step != at_step:
                exact = replace(both, tags_key=key, steps=Steps(at_step, at_step)).up_to(instant)
                point = table.latest_among(snapshot, exact, order_by).get(point.tags_key)
            return None if point is None else table.uncut(snapshot, resource, metric, point)

        return table.read(answer, pinned)

    def latest_metrics(
        self, resource: str, *, tags: Mapping[str, Any] | None = None, at: Any = None
    ) -> dict[str, Point]:
        """Return the latest point of every metric of a resource, by metric id in order; {} if there is none.

        Args:
            resource: A literal id.
            tags: For each metric exactly this series; None = the untagged one, else the only one there is.
            at: As for ``latest``.

        Raises:
            SnapshotExpired: The version or snapshot asked for is gone.

        Warns:
            MetricsLakeWarning: ``tags`` is None and metrics are left out that have several tagged series and
                no untagged one.
        """
        wanted = None if tags is None else tags_key(canonical_tags(tags))
        pinned, instant = self.moment(METRICS, at)
        table = self.table()

        def answer(snapshot: Snapshot) -> tuple[dict[str, Point], list[str]]:
            found, left_out = {}, []
            for metric, latest in table.latest_points(snapshot, resource, instant).items():
                try:
                    key = _series(latest, wanted, resource, metric)
                except AmbiguousSeriesError:
                    left_out.append(metric)
                    continue
                if key is not None and key in latest:
                    found[metric] = table.uncut(snapshot, resource, metric, latest[key])
            return found, left_out

        found, left_out = table.read(answer, pinned)
        if left_out:
            warnings.warn(without_ambiguous_warning(left_out), MetricsLakeWarning, stacklevel=3)
        return found

    # ---- what is there -------------------------------------------------------------------------------------

    def metric_ids(self, resource: str) -> list[str]:
        """Return the ids of a resource's metrics in UTF-8 byte order; [] if there is no such resource."""
        table = self.table()
        return table.read(lambda snapshot: table.metric_ids(snapshot, resource))

    def resources(self, pattern: IdsLike = None, *, at: Any = None) -> Result:
        """Return a row a resource, by id in UTF-8 byte order.

        Columns: ``resource``; ``metrics``, ``series``, ``points`` (counts); ``first_timestamp``,
        ``last_timestamp``; ``last_step`` (the greatest, NULL where no point has one).

        Raises:
            InvalidInputError: ``pattern`` is no id, pattern or list of these.
            SnapshotExpired: The version or snapshot asked for is gone.
        """
        selection = Selection.of(pattern)
        pinned, instant = self.moment(METRICS, at)
        table = self.table()
        snapshot = pinned or table.snapshot()

        def run() -> pa.Table:
            return list_resources(table.summaries(snapshot, selection, instant=instant), selection)

        return Result(lambda: self.pinned(table, snapshot, run), snapshot=snapshot)

    # ---- rows ----------------------------------------------------------------------------------------------

    def history(
        self,
        resources: IdsLike = None,
        metrics: IdsLike = None,
        *,
        steps: StepsLike = None,
        since: Any = None,
        until: Any = None,
        tags: Mapping[str, Any] | None = None,
        repeats: Literal["all", "last"] = "all",
        downsample: Any = None,
        smooth: Any = None,
        full: bool = False,
        at: Any = None,
    ) -> Result:
        """Return all points of some metrics of some resources, in order.

        Columns ``resource metric tags step timestamp value``, with ``full`` also ``kind text tags_key writer
        seq origin``; ordered by resource, metric, tags_key, step (NULL first), timestamp, writer, seq.

        Args:
            resources: An id, a pattern, or a list of these; None = all.
            metrics: Likewise.
            steps: Only points at this step (int), at the steps of a ``range``, or at these (a list of ints).
            since: Only points from this instant on (aware datetime or POSIX seconds).
            until: Only points before this instant.
            tags: Only series that have these pairs.
            repeats: ``"last"`` keeps the newest point of each (series, step); points without a step stay.
            downsample: At most about this many points a series are kept, by M4 over their steps (or, of
                series without steps, their timestamps): the first, last, least and greatest of each of
                ``downsample / 4`` intervals. A line through them looks like the line through all.
            smooth: Weight of the past in an exponential moving average, from 0 to below 1, over each series
                in order, corrected for its start; NaN and NULL are passed by. Done before thinning.
            full: With all columns.
            at: As for ``latest``.

        Returns:
            The points. ``notes`` says how they were smoothed and thinned, and how many there were.

        Raises:
            InvalidInputError: An argument is of the wrong type or out of range.
            SnapshotExpired: The version or snapshot asked for is gone, or, when the result is read too late,
                its objects are.
        """
        selection = Selection.of(resources, metrics, steps=steps, since=since, until=until, tags=tags)
        pinned, instant = self.moment(METRICS, at)
        selection = selection.up_to(instant)
        table = self.table()
        snapshot = pinned or table.snapshot()
        is_small = selection.is_few and table.most_rows(snapshot, selection) <= _SMALL_ROWS
        asked = history_query(
            repeats=repeats,
            downsample=downsample,
            smooth=smooth,
            full=full,
            is_kept=is_small or not self._storage.is_local,
        )
        over_points = (partial(table.run, snapshot, selection), partial(table.stream, snapshot, selection))

        def run() -> pa.Table:
            return asked.run(*over_points)

        def stream() -> pa.RecordBatchReader:
            return asked.stream(over_points[1])

        def drawn(x: str | None, max_points: int) -> Drawn:
            curves = self._curves.of(table, snapshot, selection, instant)
            return curves.draw(x, max_points, downsample=downsample, smooth=smooth)

        return Result(
            lambda: self.pinned(table, snapshot, run),
            stream=(lambda: self.pinned(table, snapshot, stream)) if asked.smoothing is None else None,
            drawn=lambda x, most: self.pinned(table, snapshot, lambda: drawn(x, most)),
            hidden=asked.hidden,
            snapshot=snapshot,
            notes=asked.notes,
        )

    def rows_of(
        self,
        resource: str,
        *,
        metrics: IdsLike = None,
        to: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> pa.RecordBatchReader:
        """Return a resource's rows in the table's schema, values never decoded; without ``to`` in its order.

        Args:
            resource: A literal id.
            metrics: Of these; None = all.
            to: As they are to be copied to this resource: under its id, ``origin`` saying where they come
                from, without those that it has already, by (writer, seq).
            snapshot: Read from this one; None = from now.

        Returns:
            A reader, which computes the rows while it is read.

        Raises:
            NotFoundError: The resource, or a metric asked for by its id, is not there; with near names.
            InvalidInputError: ``to`` is the resource itself.
            SnapshotExpired: An object of the snapshot is gone, here or while the reader is read.
        """
        if to == resource:
            raise InvalidInputError(f"{resource!r} cannot be copied onto itself.", argument="to")
        wanted = Ids.of(metrics, "metric")
        table = self.table()
        pinned = snapshot or table.snapshot()
        source = Selection(Ids((resource,)), wanted)
        selection, sql, bindings = rows_to_copy(source, resource, to)
        rows: pa.Table | None = None
        ids: list[Any]
        if to is not None:
            rows = self.pinned(table, pinned, lambda: table.rows_in_memory(pinned, selection))
        if rows is None:
            ids = self.pinned(table, pinned, lambda: table.metric_ids(pinned, resource))
        else:
            ids = source.rows_of(rows).column("metric").unique().to_pylist()
        for name in () if wanted is None else wanted.names:
            if name not in ids:
                raise self.not_found(resource, name)
        if not any(wanted is None or wanted.matches(each) for each in ids):
            raise self.not_found(resource, None if wanted is None else repr(metrics))
        if rows is not None and to is not None:
            return copied_rows(rows, resource, to).to_reader()
        return self.pinned(table, pinned, lambda: table.stream(pinned, selection, sql, bindings))

    def not_found(self, resource: str, metric: str | None = None) -> NotFoundError:
        """Return the error that there is no such resource, or no such metric of it, with near names."""
        table = self.table()
        if metric is not None and (there := self.metric_ids(resource)):
            near = nearest(metric, there)
            return NotFoundError(
                f"{resource!r} has no metric {metric!r}.",
                hint=_did_you_mean(near) or f"It has {len(there)} others; metric_ids() lists them.",
                resource=resource,
                metric=metric,
                near=near,
            )
        everything = table.read(lambda snapshot: table.summaries(snapshot, Selection()))
        names: list[Any] = everything.column("resource").to_pylist()
        near = nearest(resource, dict.fromkeys(names))
        return NotFoundError(
            f"There is no resource {resource!r}.",
            hint=_did_you_mean(near) or "resources() lists what is there.",
            resource=resource,
            near=near,
        )

    # -------------------------------------------------------------------------------------------------------

    def moment(self, table: str, at: Any) -> tuple[Snapshot | None, int | None]:
        """Return what ``at`` pins: a snapshot, or an instant in microseconds, or neither."""
        if at is None:
            return None, None
        if isinstance(at, Snapshot):
            return at, None
        if isinstance(at, str):
            return snapshot_from_text(at, self.table(table).log.at_version, table), None
        if isinstance(at, int) and not isinstance(at, bool):
            return self.table(table).at_version(at), None
        if isinstance(at, dt.datetime):
            return None, checked_timestamp(at, "at")
        raise InvalidInputError(
            f"at is {at!r}, of type {type(at).__name__}.",
            hint="Pass an aware datetime, a version of the table (int), or a snapshot (or its text).",
            argument="at",
        )

    @staticmethod
    def pinned(table: TableReader, snapshot: Snapshot, run: Callable[[], _Answer]) -> _Answer:
        """Return an answer from one snapshot and no other.

        Raises:
            SnapshotExpired: One of its objects is gone.
            ObjectNotFoundError: One of its objects is gone, and new snapshots need it too: it was lost.
        """
        return table.read(lambda _: run(), snapshot)


def _series(latest: Mapping[str, Point], wanted: str | None, resource: str, metric: str) -> str | None:
    """Return the key of the series that one value is to come from; None where there is none."""
    if wanted is not None:
        return wanted
    if "" in latest:
        return ""
    if len(latest) > 1:
        raise ambiguous_series(resource, metric, latest)
    return next(iter(latest), None)


def _did_you_mean(near: Sequence[str]) -> str | None:
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else None
