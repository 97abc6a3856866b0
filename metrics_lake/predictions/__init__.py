"""Prediction metrics: Arrow in, mergeable Arrow states and numbers out.

Knows no lake, no storage and no clock.
"""

from metrics_lake.predictions.curve_points import CURVE_SCHEMA, CURVES, curve_points
from metrics_lake.predictions.finalize import finalize
from metrics_lake.predictions.metrics import PredictionMetrics
from metrics_lake.predictions.names import METRICS
from metrics_lake.predictions.points import MetricPoint, metric_points
from metrics_lake.predictions.schema import FINAL_SCHEMA, STATE_SCHEMA
from metrics_lake.predictions.state import merge_states, prediction_state
from metrics_lake.predictions.tasks import Binary, Multiclass, Regression, Task

__all__ = [
    "CURVES",
    "CURVE_SCHEMA",
    "FINAL_SCHEMA",
    "METRICS",
    "STATE_SCHEMA",
    "Binary",
    "MetricPoint",
    "Multiclass",
    "PredictionMetrics",
    "Regression",
    "Task",
    "curve_points",
    "finalize",
    "merge_states",
    "metric_points",
    "prediction_state",
]
