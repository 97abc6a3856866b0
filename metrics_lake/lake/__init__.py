"""``MetricsLake``: the object that users hold."""

from metrics_lake.lake.facade import MetricsLake

__all__ = ["MetricsLake"]
