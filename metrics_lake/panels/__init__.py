"""What a page about a lake shows: tables and charts with captions, by the lake's public verbs.

The report and the dashboard are made of these; each function asks the lake once and gives a ``Panel``.
"""

from metrics_lake.panels.health import health
from metrics_lake.panels.panel import Panel
from metrics_lake.panels.predictions import prediction_jobs, prediction_windows, predictions
from metrics_lake.panels.runs import curves, leaderboard, metric_overview, parameters, run_table

__all__ = [
    "Panel",
    "curves",
    "health",
    "leaderboard",
    "metric_overview",
    "parameters",
    "prediction_jobs",
    "prediction_windows",
    "predictions",
    "run_table",
]
