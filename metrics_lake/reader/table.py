"""One table as a reader sees it: snapshots, caches by name, and queries over both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute

from metrics_lake import series
from metrics_lake.commits import Snapshot, TableLog, take_snapshot
from metrics_lake.errors import ObjectNotFoundError, SnapshotExpired
from metrics_lake.reader.datafiles import DataFiles
from metrics_lake.reader.lookup import Order, Point, find_series, newest_in_rows, point_of, series_range
from metrics_lake.reader.recent import SCAN_ROWS, Recent
from metrics_lake.reader.scan import Place, Scan, Scanner
from metrics_lake.reader.selection import Ids, Selection
from metrics_lake.schema import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metrics_lake.commits import DataFile, PendingRun
    from metrics_lake.reader.cache import ByteCache
    from metrics_lake.storage import Storage

__all__ = ["TableReader", "has_later"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_ATTEMPTS: Final = 5

_Answer = TypeVar("_Answer")


class TableReader:
    """Reads one table; thread-safe.

    Args:
        storage: The lake's objects.
        table: The table's name.
        pending: Gives this process's own rows that may not be published yet.
        cache: Keeps footers and sidecars by name.
        recent_bytes: How many bytes of inbox rows are kept decoded.
        scan_rows: Up to how many rows a part of the inbox is searched row by row.
        noticed: Told of each snapshot.
        published: Gives the rows of an inbox object by its key, where this process has just published it.
    """

    def __init__(
        self,
        storage: Storage,
        table: str,
        pending: Callable[[], Sequence[PendingRun]],
        cache: ByteCache,
        recent_bytes: int,
        scan_rows: int = SCAN_ROWS,
        noticed: Callable[[Snapshot], object] = lambda _: None,
        published: Callable[[str], pa.Table | None] = lambda _: None,
    ) -> None:
        self.storage = storage
        self.table = table
        self.log = TableLog(storage, table)
        self._pending = pending
        self._cache = cache
        self._scan_rows = scan_rows
        self._noticed = noticed
        self._recent = Recent(storage, table, recent_bytes, published)
        self._data_files = DataFiles(storage, table, cache)
        self._scanner = Scanner(storage, table, self._data_files)

    # ---- snapshots -----------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return which rows count now: PENDING, LIST, LOG."""
        snapshot = take_snapshot(self.storage, self.log, self._pending)
        self._noticed(snapshot)
        return snapshot

    def at_version(self, version: int) -> Snapshot:
        """Return the compacted rows of one version of the table.

        Raises:
            SnapshotExpired: The log no longer reaches back to it.
            NotFoundError: There is no such version yet.
        """
        return Snapshot(self.table, self.log.at_version(version), (), (), (), ())

    def read(self, answer: Callable[[Snapshot], _Answer], pinned: Snapshot | None = None) -> _Answer:
        """Return an answer from one snapshot; if one of its objects is gone meanwhile, from a newer one.

        Args:
            answer: Reads it.
            pinned: This snapshot and no other.

        Raises:
            SnapshotExpired: An object of the pinned snapshot is gone.
            ObjectNotFoundError: New snapshots, too, name an object that is gone: it was lost.
        """
        if pinned is not None:
            try:
                return answer(pinned)
            except ObjectNotFoundError as error:
                raise self.gone(error) from error
        for _ in range(_ATTEMPTS):
            try:
                return answer(self.snapshot())
            except ObjectNotFoundError as error:
                gone = error
                self.log.reopen()  # only a cold look proves that the version is not of the past
        raise self._lost(gone) from gone

    def gone(self, error: ObjectNotFoundError) -> SnapshotExpired | ObjectNotFoundError:
        """Return what it means that an object of a pinned snapshot is gone, by a cold look at the table.

        An object that the table does without by now was vacuumed, so a new snapshot helps. One that it still
        needs was lost, and every new snapshot would end the same way.
        """
        self.log.reopen()
        newest = self.snapshot()
        needed = {each.key for each in newest.log.files} | {live.name.key for live in newest.inbox}
        if error.context.get("key") in needed:
            return self._lost(error)
        return SnapshotExpired(
            f"The snapshot is too old: {error.message}",
            hint="Take a new one; vacuum removes what newer snapshots no longer need.",
            **error.context,
        )

    def _lost(self, error: ObjectNotFoundError) -> ObjectNotFoundError:
        return ObjectNotFoundError(
            f"{error.message} It was lost: every new snapshot of table {self.table!r} names it.",
            hint="`metrics-lake verify` lists what is missing; restore it from a backup.",
            **error.context,
        )

    # ---- rows ----------------------------------------------------------------------------------------------

    def scan(self, snapshot: Snapshot, selection: Selection, files: Sequence[DataFile] | None = None) -> Scan:
        """Return the sources of a selection's rows."""
        groups = self._recent.groups(snapshot.inbox)
        return self._scanner.scan(snapshot, groups, selection, files)

    def scan_at(self, snapshot: Snapshot, selection: Selection, place: Place) -> Scan:
        """Return the sources of a selection's rows for a view: Arrow tables, paths from ``place``."""
        groups = self._recent.groups(snapshot.inbox)
        return self._scanner.scan(snapshot, groups, selection, place=place)

    def tail(self, key: str, fetch: Callable[[], bytes]) -> bytes:
        """Return the end of a data file, fetched once."""
        kept: bytes | None = self._cache.get(("tail", key))
        if kept is None:
            kept = fetch()
            self._cache.put(("tail", key), kept, len(kept))
        return kept

    def run(
        self,
        snapshot: Snapshot,
        selection: Selection,
        sql: str,
        bindings: dict[str, Any] | None = None,
        **tables: pa.Table,
    ) -> pa.Table:
        """Return a query's result over a selection's rows, ``{points}`` in the SQL, and other tables."""
        return self._scanner.run(self.scan(snapshot, selection), sql, bindings, **tables)

    def may_hold(self, snapshot: Snapshot, selection: Selection) -> bool:
        """Say whether a selection may have rows; False is certain, and no query was run to find out."""
        if any(selection.may_be_in(each) for each in snapshot.log.files):
            return True
        groups = self._recent.groups(snapshot.inbox)
        recent = [*(group.rows for group in groups), *(run.rows for run in snapshot.pending)]
        return any(rows is None or selection.may_be_among(rows) for rows in recent)

    def most_rows(self, snapshot: Snapshot, selection: Selection) -> float:
        """Return how many rows a selection may have at most, by what the log says of whole files."""
        files = [each for each in snapshot.log.files if selection.may_be_in(each)]
        compacted = sum(math.inf if each.num_records is None else each.num_records for each in files)
        return compacted + snapshot.num_inbox_rows + sum(run.rows.num_rows for run in snapshot.pending)

    def stream(
        self, snapshot: Snapshot, selection: Selection, sql: str, bindings: dict[str, Any] | None = None
    ) -> pa.RecordBatchReader:
        """Return a query's result over a selection's rows as a reader.

        Raises:
            SnapshotExpired: While the reader is read, an object is gone.
            ObjectNotFoundError: Likewise, and the object was lost.
        """
        reader = self._scanner.stream(self.scan(snapshot, selection), sql, bindings)

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from reader
            except ObjectNotFoundError as error:
                raise self.gone(error) from error

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    # ---- series --------------------------------------------------------------------------------------------

    def latest(self, snapshot: Snapshot, resource: str, metric: str, by: Order) -> dict[str, Point]:
        """Return the latest point of each series of a (resource, metric), by ``tags_key``."""
        column = "last" if by == "timestamp" else "last_step"
        selection = Selection(Ids((resource,)), Ids((metric,)))
        latest: dict[str, Point] = {}

        def offer(points: Any) -> None:
            for point in points:
                best = latest.get(point.tags_key)
                if best is None or point.order(by) > best.order(by):
                    latest[point.tags_key] = point

        for group in self._recent.groups(snapshot.inbox):
            rows = group.to_scan(self._scan_rows)
            if rows is not None:
                offer(newest_in_rows(rows, resource, metric, by))
            else:
                offer(find_series(group.summarised(), resource, metric, column))
        for run in snapshot.pending:
            offer(newest_in_rows(run.rows, resource, metric, by))
        unsummarised = []
        candidates = [each for each in snapshot.log.files if selection.may_be_in(each)]
        for file, summary in zip(candidates, self._data_files.sidecars(candidates), strict=True):
            if summary is None:
                unsummarised.append(file)
            else:
                offer(find_series(summary, resource, metric, column))
        if unsummarised:
            offer(self._latest_in_files(snapshot, selection, unsummarised, column))
        return latest

    def latest_among(self, snapshot: Snapshot, selection: Selection, by: Order) -> dict[str, Point]:
        """Return the latest of a selection's rows of each ``tags_key``; reads the rows themselves."""
        column = "last" if by == "timestamp" else "last_step"
        found = self.run(snapshot, selection, _latest_sql(column))
        return {point.tags_key: point for point in _points(found, column)}

    def summaries(
        self,
        snapshot: Snapshot,
        selection: Selection,
        *,
        resource: str | None = None,
        instant: int | None = None,
    ) -> pa.Table:
        """Return the merged series summary of what a selection of ids looks at.

        Args:
            snapshot: What to read.
            selection: Ids; files without them are left out. The result may have other series too.
            resource: Only this one's series.
            instant: As it was at this instant, in microseconds since 1970; None = now.
        """
        merged = series.merge(self.summary_parts(snapshot, selection, resource), in_order=False)
        if instant is None or not has_later(merged, instant):
            return merged
        return self.summarised_until(snapshot, selection, instant)

    def summarised_until(self, snapshot: Snapshot, selection: Selection, instant: int) -> pa.Table:
        """Return the series summary of a selection's rows up to an instant; reads the rows."""
        sql = series.summarise_sql("{points}")
        return self.run(snapshot, selection.up_to(instant), sql).cast(series.summary_schema())

    def exact(self, snapshot: Snapshot, rows: pa.Table) -> pa.Table:
        """Return ``resource writer seq value kind text`` of rows that a summary cuts, as they are stored.

        Args:
            snapshot: What to read.
            rows: With the columns ``resource metric timestamp writer seq``.
        """
        times: list[Any] = rows.column("timestamp").cast(pa.int64()).to_pylist()
        names: Any = (dict.fromkeys(rows.column(name).to_pylist()) for name in ("resource", "metric"))
        resources, metrics = (Ids(tuple(each)) for each in names)
        selection = Selection(resources, metrics, since=min(times), until=max(times) + 1)
        sql = """
            SELECT resource, writer, seq, value, kind, text FROM {points}
            WHERE (resource, writer, seq) IN
                (SELECT (unnest($cut_resource), unnest($cut_writer), unnest($cut_seq)))
        """
        bindings = {f"cut_{name}": rows.column(name).to_pylist() for name in ("resource", "writer", "seq")}
        return self.run(snapshot, selection, sql, bindings)

    def latest_points(
        self, snapshot: Snapshot, resource: str, instant: int | None
    ) -> dict[str, dict[str, Point]]:
        """Return the latest point of each series of a resource, by metric and ``tags_key``."""
        selection = Selection(Ids((resource,)))
        parts = self.summary_parts(snapshot, selection, resource)
        if instant is not None and any(has_later(part, instant) for part in parts):
            parts = [self.summaries(snapshot, selection, resource=resource, instant=instant)]
        found: dict[str, dict[str, Point]] = {}
        # In Python, because a merge in SQL takes 17 ms: a loop over one resource's series, not its points.
        for part in parts:
            metrics: list[Any] = part.column("metric").to_pylist()
            for metric, point in zip(metrics, _points(part, "last"), strict=True):
                latest = found.setdefault(metric, {})
                best = latest.get(point.tags_key)
                if best is None or point.order("timestamp") > best.order("timestamp"):
                    latest[point.tags_key] = point
        return dict(sorted(found.items()))

    def metric_ids(self, snapshot: Snapshot, resource: str) -> list[str]:
        """Return the ids of a resource's metrics in order."""
        selection = Selection(Ids((resource,)))
        parts = self._file_summaries(snapshot, selection, resource)
        for group in self._recent.groups(snapshot.inbox):
            rows = group.to_scan(self._scan_rows)
            parts.append(
                _of_resource(group.summarised(), resource) if rows is None else selection.rows_of(rows)
            )
        parts += [selection.rows_of(run.rows) for run in snapshot.pending]
        found: set[Any] = set()
        for part in parts:
            found.update(pc.unique(part.column("metric")).to_pylist())
        return sorted(found)

    def rows_in_memory(self, snapshot: Snapshot, selection: Selection) -> pa.Table | None:
        """Return the rows of a selection of ids where they are few and all in memory, else None."""
        groups = self._recent.groups(snapshot.inbox)
        recent = [*(group.rows for group in groups), *(run.rows for run in snapshot.pending)]
        tables = [rows for rows in recent if rows is not None]
        if len(tables) < len(recent) or sum(rows.num_rows for rows in tables) > self._scan_rows:
            return None
        if any(selection.may_be_in(each) for each in snapshot.log.files):
            return None
        empty = arrow_schema(self.table).empty_table()
        return pa.concat_tables([empty, *(selection.rows_of(rows) for rows in tables)])

    def uncut(self, snapshot: Snapshot, resource: str, metric: str, point: Point) -> Point:
        """Return a point with its exact value, from its row where a summary or query has it not."""
        if not point.is_cut:
            return point
        exact = Selection(
            Ids((resource,)),
            Ids((metric,)),
            tags_key=point.tags_key,
            since=point.timestamp,
            until=point.timestamp + 1,
        )
        sql = f"SELECT tags_key, {series.row_sql()} AS last FROM {{points}} "
        sql += "WHERE writer = $writer AND seq = $seq"
        row = {"writer": point.writer, "seq": point.seq}
        (whole,) = _points(self.run(snapshot, exact, sql, row), "last")
        return whole

    def summary_parts(
        self, snapshot: Snapshot, selection: Selection, resource: str | None = None
    ) -> list[pa.Table]:
        """Return summaries of disjoint rows: all of a selection's ids, and maybe others."""
        groups = self._recent.groups(snapshot.inbox)
        parts = [_of_resource(group.summarised(), resource) for group in groups]
        rows = [selection.rows_of(run.rows) for run in snapshot.pending]
        if any(each.num_rows for each in rows):
            parts.append(series.summarise(pa.concat_tables(rows)))
        return parts + self._file_summaries(snapshot, selection, resource)

    def _file_summaries(
        self, snapshot: Snapshot, selection: Selection, resource: str | None
    ) -> list[pa.Table]:
        files = [each for each in snapshot.log.files if selection.may_be_in(each)]
        keys = tuple(each.key for each in files)
        # Files are immutable, so what all of them together say is kept as long as they are the same.
        merged = self._cache.get(keys) if resource is None else None
        if merged is not None:
            return [merged]
        parts = []
        unsummarised = []
        for file, summary in zip(files, self._data_files.sidecars(files), strict=True):
            if summary is None:
                unsummarised.append(file)
            else:
                parts.append(_of_resource(summary, resource))
        if unsummarised:
            scan = self._scanner.scan(_table_only(snapshot), (), selection, unsummarised)
            found = self._scanner.run(scan, series.summarise_sql("{points}"))
            parts.append(found.cast(series.summary_schema()))
        if resource is not None or len(keys) < 2 or unsummarised:
            return parts
        merged = series.merge(parts)
        self._cache.put(keys, merged, merged.nbytes)
        return [merged]

    def _latest_in_files(
        self, snapshot: Snapshot, selection: Selection, files: Sequence[DataFile], column: str
    ) -> list[Point]:
        scan = self._scanner.scan(_table_only(snapshot), (), selection, files)
        return _points(self._scanner.run(scan, _latest_sql(column)), column)


def _latest_sql(column: str) -> str:
    return f"SELECT tags_key, {series.point_sql(column)} FROM {{points}} GROUP BY tags_key"


def _table_only(snapshot: Snapshot) -> Snapshot:
    return Snapshot(snapshot.table, snapshot.log, (), (), (), ())


def _points(found: pa.Table, column: str) -> list[Point]:
    return [
        point_of(found.column("tags_key")[at].as_py(), found.column(column)[at])
        for at in range(found.num_rows)
    ]


def has_later(summary: pa.Table, instant: int) -> bool:
    """Say whether any series of a summary has a point after an instant."""
    if not summary.num_rows:
        return False
    newest = pc.max(pc.struct_field(summary.column("last"), "timestamp"))
    return bool(newest.value > instant)


def _of_resource(summary: pa.Table, resource: str | None) -> pa.Table:
    if resource is None:
        return summary
    low, high = series_range(summary, resource)
    return summary.slice(low, high - low)
