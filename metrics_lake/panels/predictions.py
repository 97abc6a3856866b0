"""Panels about prediction jobs: what predictions were worth, by segment and over time, and how they drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake.charts import (
    class_distribution,
    confusion_matrix,
    counted,
    curve_chart,
    distribution,
    metrics_chart,
    segment_texts,
    windows,
)
from metrics_lake.panels.panel import Panel

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from metrics_lake.charts import Chart
    from metrics_lake.lake import MetricsLake

__all__ = ["prediction_jobs", "prediction_windows", "predictions"]

_POINTS: Final = 400
_SIDE: Final = 400
_CURVES: Final = {
    "roc": ("ROC curve", "Share of positives found against share of negatives taken, by threshold."),
    "pr": (
        "Precision-recall curve",
        "Share of right ones among those predicted positive, by threshold.",
    ),
    "calibration": ("Calibration", "How often what was predicted with a score came true."),
    "scores": ("Scores", "Density of the scores."),
    "predictions": ("Predictions", "Density of the predicted numbers."),
    "residuals": ("Residuals", "Density of prediction less truth."),
}
_PERFORMANCE: Final = (
    "roc_auc", "average_precision", "accuracy", "f1", "precision", "recall", "log_loss", "brier", "ece",
    "rmse", "mae", "r2",
)  # fmt: skip
_DRIFT: Final = ("drift/psi", "drift/js", "drift/wasserstein", "drift/ks")
_VOLUME: Final = ("num_predictions", "num_ground_truth_observations", "coverage")
_EXCLUDED: Final = {
    "num_null": "NULL",
    "num_nan": "NaN",
    "num_inf": "infinite",
    "num_out_of_range": "out of range",
}
_OF_CLASSES: Final = ("confusion", "class_distribution", "class_counts")
_RESERVED: Final = ("every", "label")

_JOBS: Final = """
    SELECT resource, tags, last::BIGINT AS predictions, last_timestamp
    FROM series WHERE metric = 'num_predictions' ORDER BY resource, tags_key
"""


def prediction_jobs(lake: MetricsLake) -> pa.Table:
    """Return a row a prediction job, by id: what a page offers to choose from.

    Args:
        lake: The lake.

    Returns:
        ``resource``, ``predictions`` (all rows, unusable ones included), ``last_timestamp`` (when the job was
        last computed), ``segments`` (the columns that ``by`` can keep), ``every`` (the length of its windows;
        NULL: it has none).

    Raises:
        MetricsLakeError: As ``lake.sql``.

    >>> lake = MetricsLake(tmp / "lake")
    >>> data = {"p": ["stay", "leave"], "country": ["FR", "NO"]}
    >>> _ = lake.log_prediction_metrics("churn/1", data, prediction="p", by="country")
    >>> prediction_jobs(lake).drop_columns(["last_timestamp"]).to_pylist()
    [{'resource': 'churn/1', 'predictions': 2, 'segments': ['country'], 'every': None}]
    """
    import pyarrow as pa

    found = lake.sql(_JOBS)
    series: dict[str, list[dict[str, Any]]] = {}
    for row in found.rows():
        series.setdefault(row["resource"], []).append(row | {"tags": row["tags"] or {}})
    rows = []
    for resource, own in series.items():
        # A tag that all series have was given to the job; it is no segment.
        given = set.intersection(*(set(row["tags"]) for row in own))
        segments = {name for row in own for name in row["tags"]} - given - set(_RESERVED)
        total = min(own, key=lambda row: len(row["tags"]))
        lengths = [row["tags"]["every"] for row in own if "every" in row["tags"]]
        rows.append(
            {
                "resource": resource,
                "predictions": total["predictions"],
                "last_timestamp": max(row["last_timestamp"] for row in own),
                "segments": sorted(segments),
                "every": lengths[0] if lengths else None,
            }
        )
    fields: list[Any] = [
        ("resource", pa.string()),
        ("predictions", pa.int64()),
        ("last_timestamp", pa.timestamp("us", tz="UTC")),
        ("segments", pa.list_(pa.string())),
        ("every", pa.string()),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def predictions(
    lake: MetricsLake,
    jobs: Any,
    *,
    by: Any = None,
    since: Any = None,
    until: Any = None,
    reference: str | None = None,
    confidence: float = 0.95,
    width: int | Literal["container"] = 640,
    dark: bool = False,
) -> list[Panel]:
    """Return what is known of the predictions of jobs: their metrics, then the curves and tables there are.

    Several jobs, or segments, are drawn in each chart beside one another. Panels of what does not exist, such
    as the ROC curve of labels without scores, are left out.

    Args:
        lake: The lake.
        jobs: As in ``lake.prediction_metrics``.
        by: The segment columns to keep; None: all rows together.
        since: As in ``lake.prediction_metrics``.
        until: As in ``lake.prediction_metrics``.
        reference: A job to compare with: adds drift and estimates, and stands behind the distributions.
        confidence: Of the intervals.
        width: Of wide charts, in pixels, or ``"container"``.
        dark: For a dark background.

    Raises:
        MetricsLakeError: As ``lake.prediction_metrics``.

    >>> lake = MetricsLake(tmp / "lake")
    >>> scored = {"p": [0.9, 0.8, 0.3, 0.2], "churned": [True, False, True, False]}
    >>> _ = lake.log_prediction_metrics("churn/1", scored, score="p", truth="churned")
    >>> for panel in predictions(lake, "churn/1"):
    ...     print(panel.title)
    Metrics
    ROC curve
    Precision-recall curve
    Calibration
    Scores
    Confusion matrix
    """
    span: dict[str, Any] = {"by": by, "since": since, "until": until, "confidence": confidence}
    numbers = lake.prediction_metrics(jobs, metrics="all", reference=reference, **span).arrow()
    panels = [_metrics(numbers, width=width, dark=dark)]
    known = lake.prediction_curves(jobs, list(_CURVES), points=_POINTS, **span).arrow()
    curves: list[Any] = known.column("curve").to_pylist()
    for curve, (title, what) in _CURVES.items():
        points = known.filter(_mask(name == curve for name in curves))
        if not points.num_rows:
            continue
        if curve in ("roc", "pr", "calibration"):
            chart = curve_chart(points, numbers, width=_SIDE, dark=dark)
        else:
            if reference is not None:
                points = _with_reference(lake, points, curve, reference)
            chart = distribution(points, reference=reference, width=width, dark=dark)
        panels.append(Panel(title, _caption(what, chart), None, chart))
    confusion = _chosen(numbers, ("confusion",))
    classes = _chosen(numbers, ("class_distribution",))
    if confusion.num_rows:
        chart = confusion_matrix(confusion, dark=dark)
        what = "Rows by true and predicted class, at the decision that the bare metrics judge."
        panels.append(Panel("Confusion matrix", _caption(what, chart), None, chart))
    elif classes.num_rows:
        chart = class_distribution(classes, width=width, dark=dark)
        panels.append(Panel("Predicted classes", _caption("Share of each class.", chart), None, chart))
    return panels


def prediction_windows(
    lake: MetricsLake,
    jobs: Any,
    *,
    every: Any,
    by: Any = None,
    since: Any = None,
    until: Any = None,
    reference: str | None = None,
    metrics: Any = None,
    confidence: float = 0.95,
    width: int | Literal["container"] = 640,
    dark: bool = False,
) -> list[Panel]:
    """Return prediction metrics over time: performance with intervals, drift, and how many rows there were.

    With a reference whose truth is known the performance of binary scores is also estimated, dashed, before
    any label is there.

    Args:
        lake: The lake.
        jobs: As in ``lake.prediction_metrics``; several are one series.
        every: The length of the windows, a multiple of the logged ones.
        by: The segment columns to keep; None: all rows together.
        since: As in ``lake.prediction_metrics``.
        until: As in ``lake.prediction_metrics``.
        reference: A job to compare with: adds drift and estimates.
        metrics: Those of the performance; None: the usual ones that there are.
        confidence: Of the intervals.
        width: In pixels, or ``"container"``.
        dark: For a dark background.

    Raises:
        MetricsLakeError: As ``lake.prediction_metrics``.
    """
    chosen = _PERFORMANCE if metrics is None else ((metrics,) if isinstance(metrics, str) else tuple(metrics))
    estimates = _estimates(chosen)
    numbers = lake.prediction_metrics(
        jobs,
        metrics=[*chosen, *estimates, *_DRIFT, *_VOLUME],
        by=by,
        every=every,
        since=since,
        until=until,
        reference=reference,
        confidence=confidence,
    ).arrow()
    numbers = numbers.filter(numbers.column("window_start").is_valid())
    parts = (
        (
            "Performance over time",
            (*chosen, *estimates),
            "as labels tell so far",
        ),
        ("Drift over time", _DRIFT, f"against {reference}"),
        ("Predictions over time", _VOLUME, "unusable rows included"),
    )
    panels = []
    for title, names, what in parts:
        rows = _chosen(numbers, names)
        if metrics is None:
            rows = _with_values(rows)
        if rows.num_rows:
            chart = windows(rows, title=title, width=width, dark=dark)
            caption = _caption(f"Windows of {every}, {what}.", chart)
            panels.append(Panel(title, caption, _as_text(rows), chart))
    return panels


def _metrics(numbers: pa.Table, *, width: int | Literal["container"], dark: bool) -> Panel:
    """Return all numbers as a table, the usual ones as a chart, and the counts as a caption."""
    chart = None
    usual = _with_values(_chosen(numbers, _PERFORMANCE))
    if not usual.num_rows:  # before labels come: what a reference lets expect, and how far off it is
        usual = _with_values(_chosen(numbers, (*_estimates(_PERFORMANCE), *_DRIFT)))
    if usual.num_rows:
        chart = metrics_chart(usual, title="Metrics", width=width, dark=dark)
    rows = numbers.filter(_mask(name not in _OF_CLASSES for name in numbers.column("metric").to_pylist()))
    return Panel("Metrics", _counts(numbers), _as_text(rows), chart)


def _counts(numbers: pa.Table) -> str:
    """Return how many predictions there are, with labels and without use, in words."""
    sums: dict[str, float] = {}
    for row in numbers.to_pylist():
        if not row["segment"] and row["window_start"] is None and row["label"] is None:
            sums[row["metric"]] = sums.get(row["metric"], 0.0) + (row["value"] or 0.0)
    count = int(sums.get("num_predictions", 0))
    labelled = sums.get("num_ground_truth_observations")
    left_out = [f"{int(sums[name]):,} {word}" for name, word in _EXCLUDED.items() if sums.get(name, 0.0) > 0]
    told = counted(count, "prediction")
    told += ", none with a label" if not labelled else f", {int(labelled):,} with a label"
    return told + (f"; left out: {', '.join(left_out)}." if left_out else ".")


def _with_reference(lake: MetricsLake, points: pa.Table, curve: str, reference: str) -> pa.Table:
    """Return the points of distributions with those of the job to compare with."""
    import pyarrow as pa

    other = lake.prediction_curves(reference, curve).arrow()
    return pa.concat_tables([points, other])


def _chosen(numbers: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """Return the rows of some metrics, in the metrics' order, without those of single classes."""
    import pyarrow as pa

    metrics: list[Any] = numbers.column("metric").to_pylist()
    labels: list[Any] = numbers.column("label").to_pylist()
    places: dict[str, list[int]] = {name: [] for name in names}
    for at, (metric, label) in enumerate(zip(metrics, labels, strict=True)):
        if metric in places and (label is None or metric in _OF_CLASSES):
            places[metric].append(at)
    return numbers.take(pa.array([at for own in places.values() for at in own], pa.int64()))


def _estimates(names: Iterable[str]) -> list[str]:
    """Return the metrics that estimate others before their labels come."""
    from metrics_lake.predictions import METRICS

    return [name for name in (f"estimated/{each}" for each in names) if name in METRICS]


def _with_values(numbers: pa.Table) -> pa.Table:
    """Return the rows of the metrics that have a value anywhere."""
    metrics: list[Any] = numbers.column("metric").to_pylist()
    values: list[Any] = numbers.column("value").to_pylist()
    known = {metric for metric, value in zip(metrics, values, strict=True) if value is not None}
    return numbers.filter(_mask(metric in known for metric in metrics))


def _mask(wanted: Any) -> Any:
    import pyarrow as pa

    return pa.array(list(wanted), pa.bool_())


def _as_text(numbers: pa.Table) -> pa.Table:
    """Return numbers for reading: the segment as text, and no columns in which nothing stands."""
    import pyarrow as pa

    segments: list[Any] = numbers.column("segment").to_pylist()
    texts = [", ".join(segment_texts(pairs or ())) or None for pairs in segments]
    place = numbers.column_names.index("segment")
    told = numbers.set_column(place, "segment", pa.array(texts, pa.string()))
    kept = [
        name
        for name in told.column_names
        if name in ("metric", "value", "n") or told.column(name).null_count < told.num_rows
    ]
    return told.select(kept)


def _caption(what: str, chart: Chart) -> str:
    lines: Any = chart.title.subtitle
    told = " · ".join(lines)
    return f"{what} {told[:1].upper()}{told[1:]}." if told else what
