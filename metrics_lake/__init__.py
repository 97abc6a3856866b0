"""ML metrics as Parquet in your own bucket or folder: no server, no catalog, no lost points.

>>> from metrics_lake import MetricsLake
>>> lake = MetricsLake(tmp / "lake")
>>> lake.log_metric("digits/run-1", "loss", 0.25, step=1)
>>> lake.get_metric("digits/run-1", "loss")
0.25
"""

from metrics_lake.errors import (
    AmbiguousSeriesError,
    ClosedError,
    ConflictError,
    FormatError,
    GapWarning,
    InvalidInputError,
    LakeNotFoundError,
    MetricsLakeError,
    MetricsLakeWarning,
    NotFoundError,
    NotPublishedError,
    SnapshotExpired,
    StorageError,
)
from metrics_lake.globs import glob
from metrics_lake.handle import Resource
from metrics_lake.lake import MetricsLake
from metrics_lake.resources import register_resource
from metrics_lake.tracker import BaseMetricsTracker
from metrics_lake.writer import Receipt, Status

__version__ = "0.1.0"

__all__ = [
    "AmbiguousSeriesError",
    "BaseMetricsTracker",
    "ClosedError",
    "ConflictError",
    "FormatError",
    "GapWarning",
    "InvalidInputError",
    "LakeNotFoundError",
    "MetricsLake",
    "MetricsLakeError",
    "MetricsLakeWarning",
    "NotFoundError",
    "NotPublishedError",
    "Receipt",
    "Resource",
    "SnapshotExpired",
    "Status",
    "StorageError",
    "glob",
    "register_resource",
]
