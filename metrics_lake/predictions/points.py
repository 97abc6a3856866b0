"""From numbers to the points that a lake logs for a job."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from metrics_lake.predictions.families.labels import label_value
from metrics_lake.predictions.metrics import PER_LABEL_DICTS, is_count, label_kind_of

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

    from metrics_lake.predictions.long import Long

__all__ = ["MetricPoint", "metric_points"]


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One point of a job.

    Attributes:
        metric: The metric's id.
        value: A float, an int, a dict of classes, or None where the metric has no value.
        tags: The segment, ``label`` for a value of one class, ``every`` for a window's; empty for the total.
        timestamp: The end of the window; None for the time of the call.
    """

    metric: str
    value: Any
    tags: dict[str, str] = field(default_factory=dict)
    timestamp: datetime | None = None


def metric_points(
    numbers: pa.Table, state: pa.Table | Long, *, every: str | None = None
) -> list[MetricPoint]:
    """Return the points of a finalised table, in its order.

    ``class_distribution`` and ``class_counts`` are one dict each, with the classes in their own type;
    ``confusion`` is ``{"labels": […], "rows": [[…], …]}``, a row for each true class.

    Args:
        numbers: What :func:`~metrics_lake.predictions.finalize.finalize` returned, of one job.
        state: The states it was computed from: they know the type of the labels.
        every: The length of the windows, for their tag.

    Returns:
        The points; of windows or segments without any prediction only the counts.
    """
    kind = label_kind_of(state)
    dicts: dict[tuple[Any, ...], dict[Any, Any]] = {}
    points: list[MetricPoint] = []
    rows = numbers.to_pylist()
    empty = {_unit(row) for row in rows if row["metric"] == "num_predictions" and not row["value"]}
    for row in rows:
        name, value = row["metric"], row["value"]
        unit = _unit(row)
        if unit in empty and name != "num_predictions":
            continue
        tags = dict(row["segment"] or ())
        if row["window_start"] is not None:
            tags["every"] = "window" if every is None else every
        if name in PER_LABEL_DICTS or name == "confusion":
            group = (name, *unit)
            if group not in dicts:
                dicts[group] = {}
                points.append(MetricPoint(name, dicts[group], tags, row["window_end"]))
            label = row["label"] if name == "confusion" else label_value(row["label"], kind)
            dicts[group][label] = value if name == "class_distribution" else _count(value)
            continue
        if row["label"] is not None:
            tags["label"] = row["label"]
        if value is not None and is_count(name):
            value = int(value)
        points.append(MetricPoint(name, value, tags, row["window_end"]))
    for point in points:
        if point.metric == "confusion":
            _square(point.value, kind)
    return points


def _unit(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row["segment"] or ()), row["window_start"]


def _count(value: float) -> float:
    """Return a number of rows as an int; weighted ones stay floats."""
    return int(value) if float(value).is_integer() else value


def _square(pairs: dict[Any, Any], kind: str) -> None:
    """Turn ``{"[true, predicted]": rows}`` into a table, in place."""
    counts = {tuple(json.loads(pair)): value for pair, value in pairs.items()}
    texts = sorted({text for pair in counts for text in pair}, key=lambda text: _order(text, kind))
    pairs.clear()
    pairs["labels"] = [label_value(text, kind) for text in texts]
    pairs["rows"] = [[counts.get((truth, pred), 0) for pred in texts] for truth in texts]


def _order(text: str, kind: str) -> tuple[float, str]:
    return (float(text), text) if kind in {"int", "float"} else (0.0, text)
