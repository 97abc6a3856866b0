"""``MetricsLake``: the object that users hold. It checks arguments and delegates."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from metrics_lake.errors import ClosedError, InvalidInputError, NotPublishedError
from metrics_lake.handle import Resource
from metrics_lake.lakefile import LakeFile, require_lake
from metrics_lake.points import (
    Point,
    checked_step,
    checked_timestamp,
    flattened,
    int64_column,
    numbers_of,
    point_rows,
    points_table,
    rows_frame,
    series_rows,
    stamped_rows,
    timestamp_column,
    values_of,
)
from metrics_lake.resources import canonical_tags, check_id, resource_key, tags_key
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.storage import open_storage
from metrics_lake.tracker import BaseMetricsTracker
from metrics_lake.values import decode, encode
from metrics_lake.writer import (
    KIND_CODES,
    MAX_CALL_BYTES,
    MAX_CALL_ROWS,
    Durability,
    Receipt,
    Status,
    Writer,
    WriterSettings,
    append_object,
    bulk_writer_id,
    recover_journals,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from metrics_lake.commits import Snapshot
    from metrics_lake.maintenance import Maintenance
    from metrics_lake.prediction_jobs import PredictionJobs
    from metrics_lake.predictions import PredictionMetrics
    from metrics_lake.reader import Reader
    from metrics_lake.result import Result
    from metrics_lake.storage import Storage
    from metrics_lake.writer import Published

__all__ = ["MetricsLake"]

DEFAULT_URL = "metrics-lake"


class MetricsLake(BaseMetricsTracker):
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
        _check_choice("durability", durability, ("logged", "synced", "published"))
        _check_choice("on_full", on_full, ("raise", "block"))
        _check_choice("compaction", compaction, ("auto", "off"))
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
        self._writer = Writer(storage, settings)
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
        except NotPublishedError as failure:
            if error is None:
                raise
            error.add_note(f"metrics_lake: {failure}")

    def _flush_on_leaving(self, error: BaseException | None) -> None:
        try:
            self._writer.flush()
        except NotPublishedError as failure:
            if error is None:
                raise
            error.add_note(f"metrics_lake: {failure}")

    # -- writing ---------------------------------------------------------------------------------------------

    def log_metric(
        self,
        resource: Any,
        id: str,
        value: Any,
        *,
        step: int | None = None,
        timestamp: Any = None,
        tags: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Log one value; when the call returns it survives the process.

        Args:
            resource: A str, or any object with an identity (see ``resource_key``).
            id: The metric's id, 1 to 4096 characters.
            value: Any value that can be stored exactly; it comes back with the same type.
            step: Where on the x axis: an int, never invented.
            timestamp: An aware datetime or POSIX seconds; None: now.
            tags: What one slices by, such as a fold or a country; a series is (resource, id, tags).
            durability: A stronger level for this call; see ``MetricsLake``.

        Raises:
            InvalidInputError: An argument is wrong; nothing was logged.
            JournalError: The point could not be journaled; it was not logged.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metric("digits/run-1", "confusion", [[50, 2], [1, 47]])
        >>> lake.get_metric("digits/run-1", "confusion")
        [[50, 2], [1, 47]]
        """
        if self._read_only:
            self._refuse_write()
        self._writer.log_point(resource, id, value, step, timestamp, tags, durability)

    def log_metrics(
        self,
        resource: Any,
        metrics: Mapping[str, Any],
        perf_metric: Any = None,
        *,
        step: int | None = None,
        timestamp: Any = None,
        tags: Mapping[str, Any] | None = None,
        separator: str | None = "/",
        durability: Durability | None = None,
    ) -> None:
        """Log several values at one time and step, all or nothing.

        Args:
            resource: What was measured.
            metrics: A mapping from ids to values. Mappings in it are flattened: ``{"train": {"loss": 1.0}}``
                is ``train/loss``; an empty one adds nothing.
            perf_metric: What the workflow optimises; logged as ``performance_metric``.
            step: As in ``log_metric``, for all.
            timestamp: As in ``log_metric``, for all.
            tags: As in ``log_metric``, for all.
            separator: What joins the parts of an id; None: a mapping inside is one value.
            durability: As in ``log_metric``.

        Raises:
            InvalidInputError: An argument is wrong; nothing was logged.
            JournalError: Nothing could be journaled.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metrics("digits/run-1", {"train": {"loss": 0.5}, "valid": {"acc": 0.75}}, step=3)
        >>> lake.latest_metrics("digits/run-1")
        {'train/loss': 0.5, 'valid/acc': 0.75}
        """
        if self._read_only:
            self._refuse_write()
        if durability is not None:
            _check_choice("durability", durability, ("logged", "synced", "published"))
        flat = flattened(metrics, separator)
        if perf_metric is not None:
            if "performance_metric" in flat:
                raise InvalidInputError(
                    "metrics has an id 'performance_metric' and perf_metric is given.",
                    hint="Give one of them.",
                    argument="perf_metric",
                )
            flat["performance_metric"] = perf_metric
        resource = resource_key(resource)
        key = tags_key(canonical_tags(tags))
        at = checked_step(step)
        micros = None if timestamp is None else checked_timestamp(timestamp)
        points = []
        for id, value in flat.items():
            kind, number, text = encode(value)
            points.append(Point((resource, check_id(id, "metric"), key), KIND_CODES[kind], number, text))
        if not points:
            return
        if len(points) > MAX_CALL_ROWS or _size_of(points) > MAX_CALL_BYTES:
            self._publish_points(points, at, micros)
        else:
            self._writer.log_points(points, at, micros, durability)

    def log_params(self, resource: Any, params: Mapping[str, Any]) -> None:
        """Log parameters: the points ``params/<name>``.

        Raises:
            InvalidInputError: An argument is wrong; nothing was logged.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_params("digits/run-1", {"lr": 3e-4, "layers": [64, 64]})
        >>> lake.get_metric("digits/run-1", "params/layers")
        [64, 64]
        """
        if not isinstance(params, Mapping):
            raise InvalidInputError(
                f"params is of type {type(params).__name__}.", hint="Pass a mapping.", argument="params"
            )
        self.log_metrics(resource, {"params": params})

    def log_series(
        self,
        resource: Any,
        id: str,
        values: Any,
        *,
        steps: Any = None,
        timestamps: Any = None,
        tags: Mapping[str, Any] | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Log many values of one metric, all or nothing.

        Args:
            resource: What was measured.
            id: The metric's id.
            values: A one-dimensional list, array or column.
            steps: One int a value; None: 0, 1, 2, ….
            timestamps: One instant a value; None: the call's time for all.
            tags: As in ``log_metric``, for all.
            durability: As in ``log_metric``.

        Raises:
            InvalidInputError: An argument is wrong; nothing was logged.
            JournalError: Nothing could be journaled.
            StorageError: More than 65,536 values go to the store at once, and it failed.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> lake.history("digits/run-1", "loss").values("step")
        [0, 1, 2]
        """
        if self._read_only:
            self._refuse_write()
        if durability is not None:
            _check_choice("durability", durability, ("logged", "synced", "published"))
        series = (resource_key(resource), check_id(id, "metric"), tags_key(canonical_tags(tags)))
        items = values_of(values, "values")
        rows = len(items)
        at = int64_column(range(rows) if steps is None else steps, rows, "steps")
        stamps = None if timestamps is None else timestamp_column(timestamps, rows)
        if not rows:
            return
        numbers = numbers_of(items)
        if numbers is not None and rows <= MAX_CALL_ROWS:
            self._writer.log_numbers(series, numbers.kind, numbers.data, stamps, at, durability)
        else:
            rows_of_series = series_rows(series, numbers or items, at, stamps, self._writer.clock())
            self._log_rows(METRICS, rows_of_series, durability)

    def append(self, table: Any, *, key: str | None = None) -> Receipt:
        """Publish a table of points, whole or not at all.

        Args:
            table: An Arrow, Polars or pandas table or an Arrow reader: a row a point, with the columns
                ``resource``, ``metric``, ``value`` and, where wanted, ``step``, ``timestamp``, ``tags``.
            key: Makes the call repeatable: what was appended under a key is not appended again.

        Raises:
            InvalidInputError: A column is missing, unknown or wrong; nothing was written.
            StorageError: The store failed; with a key, repeating the call is safe.

        >>> import pyarrow as pa
        >>> lake = MetricsLake(tmp / "lake")
        >>> table = pa.table({"resource": ["a", "a"], "metric": ["x", "y"], "value": [1.0, 2.0]})
        >>> lake.append(table, key="import-7").points, lake.append(table, key="import-7").points
        (2, 0)
        """
        if self._read_only:
            self._refuse_write()
        return self._publish_rows(METRICS, point_rows(table, self._writer.clock()), key)

    def copy_metrics(self, from_resource: Any, to_resource: Any, *, metrics: Any = None) -> int:
        """Copy a resource's points, whole histories, exactly; return how many were added.

        Copies keep time, step, writer and ``seq`` and remember where they came from, so repeating, chaining
        and copying back add nothing.

        Args:
            from_resource: Whose points; this process's own are published first.
            to_resource: Whose points they shall be as well.
            metrics: Ids or patterns; None: all.

        Raises:
            InvalidInputError: A resource would be copied onto itself.
            NotFoundError: There is nothing to copy.
            NotPublishedError: Own points could not be published.
            StorageError: The store failed; the copy may be repeated.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> lake.copy_metrics("digits/run-1", "models/digits/7")
        3
        >>> lake.copy_metrics("digits/run-1", "models/digits/7")
        0
        """
        if self._read_only:
            self._refuse_write()
        source, target = resource_key(from_resource), resource_key(to_resource)
        if source == target:
            raise InvalidInputError(
                f"{source!r} would be copied onto itself.",
                hint="Name another resource.",
                argument="to_resource",
            )
        self._writer.flush()
        reader = self._reading()
        if not self._lake().creates_exclusively:
            rows = reader.rows_of(source, metrics=metrics, to=target).read_all()
            return (
                self._append_object(METRICS, rows, bulk_writer_id(None), is_keyed=False).points
                if rows.num_rows
                else 0
            )
        from metrics_lake.maintenance import publish_copy

        def select(snapshot: Snapshot) -> Iterator[pa.Table]:
            import pyarrow as pa

            for batch in reader.rows_of(source, metrics=metrics, to=target, snapshot=snapshot):
                yield pa.Table.from_batches([batch]).cast(arrow_schema(METRICS))

        return publish_copy(self._storage, reader.table(METRICS).log, target, select).points

    def log_prediction_metrics(
        self,
        prediction_job: Any,
        predictions: Any,
        *,
        prediction: str | None = None,
        truth: Any = None,
        score: Any = None,
        task: Any = None,
        by: Any = None,
        time: Any = None,
        every: Any = None,
        key: str | Sequence[str] | None = None,
        weight: Any = None,
        reference: Any = None,
        metrics: str | Sequence[str] = "default",
        exact: bool = False,
        part: str | None = None,
        step: int | None = None,
        timestamp: Any = None,
        tags: Mapping[str, Any] | None = None,
    ) -> PredictionMetrics:
        """Compute metrics of a job's predictions in one pass, log them as the job's and return them.

        The total is the untagged series; a segment's value is tagged with the segment, a class's with
        ``label``, a window's with ``every`` (its timestamp is the window's end). The state that all metrics
        follow from is kept: ``prediction_metrics`` merges it into other segments and longer windows.

        Args:
            prediction_job: The job that predicted. Calling again replaces what it had.
            predictions: Labels or numbers, or a table that has them: a list, an array, a series, a tensor, an
                Arrow, Polars or pandas table, a reader, Parquet files.
            prediction: The column of predictions; None: the only column that no other argument names.
            truth: The column of true labels or numbers, or the values.
            score: The column of scores in [0, 1], several for several classes, or the values.
            task: ``"binary"``, ``"multiclass"``, ``"regression"`` or a task object with options; None:
                inferred from the data.
            by: Segment columns: ``"country"``, ``["country", "device"]``, or a list of such lists.
            time: The column of times, with ``every``.
            every: The length of a window, such as ``"1d"``.
            key: The columns that name a prediction: they are kept for labels that come later.
            weight: The column of weights, or the values.
            reference: A prediction job or data to compare with: adds drift.
            metrics: ``"default"``, ``"all"``, or names.
            exact: Also compute exactly, by a sort, what the state gives with a bound.
            part: The part of the job that these predictions are: the same part replaces, another adds.
            step: As in ``log_metric``, for all.
            timestamp: As in ``log_metric``, for all but windows.
            tags: As in ``log_metric``, for all.

        Returns:
            A mapping from names to values for the job so far; ``.to_frame()`` has segments, windows, error
            bounds and intervals, ``.excluded`` what could not be used.

        Raises:
            InvalidInputError: An argument is wrong; nothing was logged.
            TaskAmbiguousError: With a truth, whole numbers could be classes or quantities.
            StorageError: The job's earlier parts or keyed rows need the store, and it failed.

        >>> lake = MetricsLake(tmp / "lake")
        >>> found = lake.log_prediction_metrics("churn/2026-11-22", ["stay", "stay", "leave", "stay"])
        >>> lake.get_metric("churn/2026-11-22", "class_distribution")
        {'leave': 0.25, 'stay': 0.75}
        >>> found["num_predictions"]
        4
        """
        if self._read_only:
            self._refuse_write()
        return self._jobs().log(
            resource_key(prediction_job),
            predictions,
            prediction=prediction,
            truth=truth,
            score=score,
            task=task,
            by=by,
            time=time,
            every=every,
            key=key,
            weight=weight,
            reference=reference,
            metrics=metrics,
            exact=exact,
            part=part,
            step=checked_step(step),
            timestamp=None if timestamp is None else checked_timestamp(timestamp),
            tags=tags,
        )

    def log_ground_truth(
        self,
        prediction_job: Any,
        labels: Any,
        *,
        key: str | Sequence[str],
        truth: str | None = None,
        part: str | None = None,
    ) -> PredictionMetrics:
        """Keep labels of a job's predictions, and log its metrics over all labels so far.

        Works days later, from another process, in pieces, again and again: of several labels of a key the
        newest counts.

        Args:
            prediction_job: The job, logged with ``key=``.
            labels: A table with the key columns and the truth.
            key: The columns that name a prediction, in the order of the predictions' ``key``.
            truth: The column of the truth; None: the only one that is left over.
            part: Join only this part's predictions again; None: all parts'.

        Raises:
            InvalidInputError: An argument is wrong, the keys' types differ, or no label fits; nothing was
                kept.
            NotFoundError: There is no such job, or it has no keys.
            StorageError: The store failed; repeating the call is safe.

        >>> import polars as pl
        >>> lake = MetricsLake(tmp / "lake")
        >>> scored = pl.DataFrame({"id": [1, 2, 3, 4], "p": [0.9, 0.2, 0.7, 0.4]})
        >>> _ = lake.log_prediction_metrics("churn/1", scored, score="p", key="id")
        >>> labels = pl.DataFrame({"id": [1, 2, 3], "churned": [True, False, False]})
        >>> _ = lake.log_ground_truth("churn/1", labels, key="id")
        >>> lake.get_metric("churn/1", "roc_auc"), lake.get_metric("churn/1", "coverage")
        (1.0, 0.75)
        """
        if self._read_only:
            self._refuse_write()
        return self._jobs().log_truth(resource_key(prediction_job), labels, key=key, truth=truth, part=part)

    def prediction_metrics(
        self,
        jobs: Any,
        *,
        metrics: str | Sequence[str] = "default",
        by: Any = None,
        every: Any = None,
        since: Any = None,
        until: Any = None,
        reference: Any = None,
        confidence: float = 0.95,
    ) -> Result:
        """Return prediction metrics from stored states: other segments, longer windows, many jobs.

        Args:
            jobs: A job, a ``glob``, or a list of them. With ``every`` several jobs become one series.
            metrics: ``"default"``, ``"all"``, or names.
            by: The segment columns to keep, of those that were logged; None: all rows only.
            every: The length of the windows, a multiple of the logged ones; None: no windows.
            since: Only windows that begin then or later.
            until: Only windows that end then or earlier.
            reference: A job or data to compare with: adds drift.
            confidence: Of the intervals.

        Returns:
            A Result with the columns ``resource window_start window_end segment metric label value n low high
            bound method reason``.

        Raises:
            NotFoundError: There is no such job, or its states lack the segments; with near names.
            InvalidInputError: An argument is wrong.

        >>> from metrics_lake import glob
        >>> lake = MetricsLake(tmp / "lake")
        >>> for day, labels in enumerate((["stay", "leave"], ["stay", "stay"])):
        ...     _ = lake.log_prediction_metrics(f"churn/{day}", labels)
        >>> lake.prediction_metrics(glob("churn/*"), metrics=["num_predictions"]).values("value")
        [2.0, 2.0]
        """
        return self._jobs().aggregate(
            jobs,
            metrics=metrics,
            by=by,
            every=every,
            since=since,
            until=until,
            reference=reference,
            confidence=confidence,
        )

    def _jobs(self) -> PredictionJobs:
        from metrics_lake.prediction_jobs import PredictionJobs

        def publish(table: str, rows: pa.Table) -> Receipt:
            return self._publish_rows(table, rows, None)

        return PredictionJobs(self._writer, self._reading, publish, self._log_rows)

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

    def _log_rows(self, table: str, rows: pa.Table, durability: Durability | None) -> None:
        """Journal rows without ``writer`` and ``seq``, or publish them where they are many."""
        if rows.num_rows <= MAX_CALL_ROWS and rows.nbytes <= MAX_CALL_BYTES:
            self._writer.log_frame(table, rows_frame(rows), rows.num_rows, durability)
        else:
            self._publish_rows(table, rows, None)

    def _publish_points(self, points: Sequence[Point], step: int | None, micros: int | None) -> None:
        stamp = self._writer.clock() if micros is None else micros
        self._publish_rows(METRICS, points_table(points, stamp, step), None)

    def _publish_rows(self, table: str, rows: pa.Table, key: str | None) -> Receipt:
        """Publish rows without ``writer`` and ``seq``, whole or not at all."""
        begun = time.monotonic()
        lake = self._writer.connect()
        writer = bulk_writer_id(key)
        stamped = stamped_rows(table, rows, writer)
        if not lake.creates_exclusively:
            done = self._append_object(table, stamped, writer, is_keyed=key is not None)
            return Receipt(done.points, done.objects, done.size_bytes, time.monotonic() - begun)
        from metrics_lake.maintenance import publish_bulk

        log = self._reading().table(table).log
        made = publish_bulk(self._storage, log, stamped, key=key)
        return Receipt(made.points, made.files, made.size_bytes, time.monotonic() - begun, made.version)

    def _append_object(self, table: str, rows: pa.Table, writer: str, *, is_keyed: bool) -> Published:
        """Publish rows as one inbox object: all that a store without exclusive creation can do."""
        lake = self._writer.connect()
        return append_object(self._storage, lake.lake_id, table, rows, writer, is_keyed=is_keyed)

    def _refuse_write(self) -> None:
        raise InvalidInputError(
            f"this handle on {self.url} is read-only.", hint="Make it without read_only=True.", url=self.url
        )

    # -- reading ---------------------------------------------------------------------------------------------

    def get_metric(
        self,
        resource: Any,
        id: str,
        *,
        default: Any = None,
        step: int | None = None,
        tags: Mapping[str, Any] | None = None,
        order_by: Literal["timestamp", "step"] = "timestamp",
        at: Any = None,
    ) -> Any:
        """Return the latest value of a metric, with the type that was logged.

        Args:
            resource: What was measured.
            id: The metric's id.
            default: What to return where there is no such point.
            step: Only points of this step.
            tags: Exactly this series; ``{}``: the untagged one; None: the untagged one, else the only one.
            order_by: What "latest" means: the greatest timestamp, or the greatest step.
            at: A datetime: only points up to then. An int: a version of the compacted table.

        Raises:
            AmbiguousSeriesError: There are several tagged series and no untagged one; it lists them.
            LakeNotFoundError: There is no lake under the url.
            StorageError: The store failed.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metric("digits/run-1", "acc", 0.9, step=1)
        >>> lake.log_metric("digits/run-1", "acc", 0.8, step=2)
        >>> lake.get_metric("digits/run-1", "acc"), lake.get_metric("digits/run-1", "acc", step=1)
        (0.8, 0.9)
        """
        found = self._reading().latest(
            resource_key(resource),
            check_id(id, "metric"),
            step=checked_step(step),
            tags=tags,
            order_by=order_by,
            at=at,
        )
        return default if found is None else decode(found.kind, found.value, found.text)

    def latest_metrics(
        self, resource: Any, *, tags: Mapping[str, Any] | None = None, at: Any = None
    ) -> dict[str, Any]:
        """Return the latest value of every metric of a resource, by id.

        Args:
            resource: What was measured.
            tags: As in ``get_metric``; with None a metric that has several tagged series and no untagged one
                raises.
            at: As in ``get_metric``.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metrics("digits/run-1", {"acc": 0.9, "epochs": 3})
        >>> lake.latest_metrics("digits/run-1")
        {'acc': 0.9, 'epochs': 3}
        """
        found = self._reading().latest_metrics(resource_key(resource), tags=tags, at=at)
        return {id: decode(point.kind, point.value, point.text) for id, point in found.items()}

    def metric_ids(self, resource: Any) -> list[str]:
        """Return the ids of a resource's metrics, sorted.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metrics("digits/run-1", {"loss": 0.1, "acc": 0.9})
        >>> lake.metric_ids("digits/run-1")
        ['acc', 'loss']
        """
        return self._reading().metric_ids(resource_key(resource))

    def resources(self, pattern: Any = None) -> Result:
        """Return the lake's resources, a row each, sorted by id.

        Args:
            pattern: A resource, a ``glob``, or a list of them; None: all.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metric("digits/run-1", "acc", 0.9)
        >>> lake.resources().values("resource")
        ['digits/run-1']
        """
        return self._reading().resources(pattern)

    def history(
        self,
        resources: Any = None,
        metrics: Any = None,
        *,
        steps: Any = None,
        since: Any = None,
        until: Any = None,
        tags: Mapping[str, Any] | None = None,
        repeats: Literal["all", "last"] = "all",
        full: bool = False,
        at: Any = None,
    ) -> Result:
        """Return every point that fits, exactly, ordered by series, step, timestamp, writer and seq.

        Args:
            resources: Resources, ``glob`` patterns, or a list of them; None: all.
            metrics: Metric ids, ``glob`` patterns, or a list of them; None: all.
            steps: A step, a range, or a list of steps.
            since: Only points with this timestamp or a later one.
            until: Only points with an earlier timestamp.
            tags: Only series that have these tags among theirs; None: all series.
            repeats: ``"last"``: only the newest point of each step of a series, as after a resumed run.
            full: With the columns ``kind text tags_key writer seq origin`` too.
            at: As in ``get_metric``.

        Returns:
            A Result with the columns ``resource metric tags step timestamp value``.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> lake.history("digits/run-1", "loss").values("value")
        [0.9, 0.5, 0.3]
        """
        return self._reading().history(
            resources,
            metrics,
            steps=steps,
            since=since,
            until=until,
            tags=tags,
            repeats=repeats,
            full=full,
            at=at,
        )

    def snapshot(self) -> Snapshot:
        """Return what a read begun now would see, pinned; ``str()`` of it can be kept and given back."""
        return self._reading().snapshot()

    @property
    def maintenance(self) -> Maintenance:
        """Compaction, deletes, retention, vacuum, recovery."""
        from metrics_lake.maintenance import Maintenance

        return Maintenance(self._storage, self._lake(), self._writer.flush, self._recover)

    def _recover(self, journals: str | os.PathLike[str] | None) -> int:
        """Publish dead processes' journals: of this machine, or those under a folder."""
        lake = self._writer.connect()
        if journals is not None:
            return recover_journals(self._storage, lake, journals)
        before = self._writer.status("").published_points
        self._writer.adopt(lake)
        self._writer.flush()
        return self._writer.status("").published_points - before

    def _lake(self) -> LakeFile:
        if self._lake_file is None:
            self._lake_file = require_lake(self._storage)
        return self._lake_file

    def _reading(self) -> Reader:
        if self._is_closed:
            raise ClosedError(f"the handle on {self.url} was closed.", hint="Make a new MetricsLake.")
        pid = os.getpid()
        reader = self._reader
        if reader is not None and self._reader_pid == pid:
            return reader
        if self._reader_pid != pid:
            self._reader_lock = threading.Lock()  # a fork may have copied a held one
            self._reader_pid = pid
            self._reader = None
        with self._reader_lock:
            if self._reader is None:
                lake = self._lake()
                if not self._read_only:
                    self._writer.adopt(lake)
                from metrics_lake.reader import Reader

                self._reader = Reader(self._storage, pending=self._writer.pending)
            return self._reader

    # -- the handle itself -----------------------------------------------------------------------------------

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
        return self._writer.status(self._compaction)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInputError(
            f"{name} is {value!r}.", hint=f"Pass {' or '.join(map(repr, choices))}.", argument=name
        )


def _size_of(points: Sequence[Point]) -> int:
    return sum(36 + len(point.text) for point in points if point.text is not None)
