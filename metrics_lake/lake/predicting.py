"""The verbs of prediction jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metrics_lake.lake.access import LakeAccess
from metrics_lake.points import (
    checked_step,
    checked_timestamp,
)
from metrics_lake.resources import resource_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from metrics_lake.prediction_jobs import PredictionJobs
    from metrics_lake.predictions import PredictionMetrics
    from metrics_lake.result import Result
    from metrics_lake.writer import (
        Receipt,
    )

__all__ = ["PredictionVerbs"]


class PredictionVerbs(LakeAccess):
    """Metrics of predictions, with labels now or later."""

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
            score: The column of scores in [0, 1], several for several classes, or the values; a mapping of
                class to column says whose they are.
            task: ``"binary"``, ``"multiclass"``, ``"regression"`` or a task object with options; None:
                inferred from the data.
            by: Segment columns: ``"country"``, ``["country", "device"]``, or a list of such lists.
            time: The column of times, with ``every``; those without a zone are taken for UTC.
            every: The length of a window, such as ``"1d"``: windows begin at whole hours, days, … of UTC.
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
        self._check_writable()
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
        self._check_writable()
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
            by: The segment columns to keep, of those that were logged; None: all rows only. Jobs that lack
                them have the numbers of all rows.
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
        from metrics_lake.prediction_jobs import Aggregates, Span

        span = Span(by=by, every=every, since=since, until=until)
        stored = Aggregates(self._reading)
        return stored.numbers(jobs, span, metrics=metrics, reference=reference, confidence=confidence)

    def prediction_curves(
        self,
        jobs: Any,
        curve: str | Sequence[str] = "roc",
        *,
        by: Any = None,
        every: Any = None,
        since: Any = None,
        until: Any = None,
        points: int | None = None,
        bins: int = 15,
        confidence: float = 0.95,
    ) -> Result:
        """Return points of curves from stored states: other segments, longer windows, many jobs.

        Points of ROC and precision-recall curves are exact; between two of them the curve of the rows
        themselves is within ``bound`` of a straight line (ROC) or of a step with the later point's precision.

        Args:
            jobs: A job, a ``glob``, or a list of them. With ``every`` several jobs become one series.
            curve: ``"roc" "pr" "calibration"``, or a distribution: of ``"scores"``, by true class where the
                truth is known, of ``"predictions"`` that are numbers, of ``"residuals"``; or several.
            by: The segment columns to keep, of those that were logged; None: all rows only.
            every: The length of the windows, a multiple of the logged ones; None: no windows.
            since: Only windows that begin then or later.
            until: Only windows that end then or earlier.
            points: Keep about so many points of each ``roc`` or ``pr`` curve; None: all that are known.
            bins: Equal bins of ``calibration``, a divisor of 60.
            confidence: Of the intervals.

        Returns:
            A Result with the columns ``resource window_start window_end segment curve label x y low high
            bound n threshold bin_start bin_end``, in the order in which a curve is drawn; no rows for a curve
            that does not exist, such as the ROC curve of one class.

        Raises:
            NotFoundError: There is no such job, or its states lack the segments; with near names.
            InvalidInputError: An argument is wrong.

        >>> lake = MetricsLake(tmp / "lake")
        >>> scored = {"p": [0.9, 0.8, 0.3, 0.2], "churned": [True, False, True, False]}
        >>> _ = lake.log_prediction_metrics("churn/1", scored, score="p", truth="churned")
        >>> for point in lake.prediction_curves("churn/1", "roc"):
        ...     print(point["x"], point["y"], point["threshold"])
        0.0 0.0 inf
        0.0 0.5 0.9
        0.5 0.5 0.8
        0.5 1.0 0.3
        1.0 1.0 0.2
        """
        from metrics_lake.prediction_jobs import Aggregates, Span

        span = Span(by=by, every=every, since=since, until=until)
        stored = Aggregates(self._reading)
        return stored.curves(jobs, curve, span, points=points, bins=bins, confidence=confidence)

    def _jobs(self) -> PredictionJobs:
        from metrics_lake.prediction_jobs import PredictionJobs

        def publish(table: str, rows: pa.Table) -> Receipt:
            return self._publish_rows(table, rows, None)

        return PredictionJobs(self._writer, self._reading, publish, self._log_rows)
