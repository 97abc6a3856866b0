"""The verbs that write points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import InvalidInputError
from metrics_lake.lake.access import LakeAccess, check_choice
from metrics_lake.points import (
    PointFields,
    checked_step,
    checked_timestamp,
    flattened,
    int64_column,
    numbers_of,
    point_rows,
    series_rows,
    timestamp_column,
    values_of,
)
from metrics_lake.resources import check_id, resource_key
from metrics_lake.result import Result
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.tags import canonical_tags, tags_key
from metrics_lake.values import encode
from metrics_lake.writer import (
    KIND_CODES,
    MAX_CALL_BYTES,
    MAX_CALL_ROWS,
    Durability,
    Receipt,
    bulk_writer_id,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.commits import Snapshot

__all__ = ["WriteVerbs"]

_FLOAT: Final = KIND_CODES["float"]


class WriteVerbs(LakeAccess):
    """Log, append, copy."""

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
        self._check_writable()
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
        self._check_writable()
        if durability is not None:
            check_choice("durability", durability, ("logged", "synced", "published"))
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
        points: list[PointFields] = []
        for id, value in flat.items():
            # The encoder checks the ids of a series that is new to it; so an id is not checked at every step.
            series = (resource, id if type(id) is str else check_id(id, "metric"), key)
            if type(value) is float:
                points.append((series, _FLOAT, value, None))
            else:
                kind, number, text = encode(value)
                points.append((series, KIND_CODES[kind], number, text))
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
        self._check_writable()
        if durability is not None:
            check_choice("durability", durability, ("logged", "synced", "published"))
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
                ``resource``, ``metric``, ``value`` and, where wanted, ``step``, ``timestamp``, ``tags``, or
                ``kind`` and ``text`` too, as exports have them. Or a ``history``: its values come exactly.
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
        self._check_writable()
        given = table.points() if isinstance(table, Result) else table
        return self._publish_rows(METRICS, point_rows(given, self._writer.clock()), key)

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
        self._check_writable()
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


def _size_of(points: Sequence[PointFields]) -> int:
    return sum(36 + len(text) for _, _, _, text in points if text is not None)
