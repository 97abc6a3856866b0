"""The tables of a lake and their columns: pure declarations.

pyarrow is imported on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

__all__ = [
    "FORMAT_VERSION",
    "GROUND_TRUTH",
    "METRICS",
    "PREDICTIONS",
    "PREDICTION_STATES",
    "SCHEMA_VERSION",
    "TABLES",
    "TableSpec",
    "arrow_schema",
]

FORMAT_VERSION: Final = 1
"""The layout and protocol under a url; a reader refuses a greater one."""

SCHEMA_VERSION: Final = 1
"""The columns of the tables; written into every journal segment and inbox object."""

METRICS: Final = "metrics"
PREDICTION_STATES: Final = "prediction_states"
PREDICTIONS: Final = "predictions"
GROUND_TRUTH: Final = "ground_truth"


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table of the lake.

    Attributes:
        name: The folder's name under the url.
        sort_keys: The columns by which compacted files are sorted, ascending, NULL first, strings in UTF-8
            byte order.
        stats_columns: The columns whose minimum and maximum stand in the log.
        dictionary_columns: The columns that are dictionary-encoded in Parquet.
        delta_columns: The integer columns that are DELTA_BINARY_PACKED in Parquet.
    """

    name: str
    sort_keys: tuple[str, ...]
    stats_columns: tuple[str, ...]
    dictionary_columns: tuple[str, ...]
    delta_columns: tuple[str, ...]


TABLES: Final[dict[str, TableSpec]] = {
    spec.name: spec
    for spec in (
        TableSpec(
            name=METRICS,
            sort_keys=("resource", "metric", "tags_key", "step", "timestamp", "writer", "seq"),
            stats_columns=("resource", "metric", "step", "timestamp", "writer"),
            dictionary_columns=("resource", "metric", "kind", "tags_key", "writer", "origin"),
            delta_columns=("step", "timestamp", "seq"),
        ),
        TableSpec(
            name=PREDICTION_STATES,
            sort_keys=("resource", "part_id", "column", "state", "segment_key", "timestamp", "writer", "seq"),
            stats_columns=("resource", "timestamp", "writer"),
            dictionary_columns=("resource", "column", "task", "state", "part_id", "params", "writer"),
            delta_columns=("timestamp", "seq"),
        ),
        TableSpec(
            name=PREDICTIONS,
            sort_keys=("resource", "part_id", "key", "timestamp", "writer", "seq"),
            stats_columns=("resource", "timestamp", "writer"),
            dictionary_columns=("resource", "part_id", "spec", "prediction_text", "writer"),
            delta_columns=("timestamp", "seq"),
        ),
        TableSpec(
            name=GROUND_TRUTH,
            sort_keys=("resource", "key", "timestamp", "writer", "seq"),
            stats_columns=("resource", "timestamp", "writer"),
            dictionary_columns=("resource", "spec", "truth_text", "writer"),
            delta_columns=("timestamp", "seq"),
        ),
    )
}
"""Every table by name. All tables have ``resource``, ``timestamp``, ``writer`` and ``seq``."""


@cache
def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table, in the order in which the columns are stored."""
    import pyarrow as pa

    makers: dict[str, Callable[[], list[pa.Field[Any]]]] = {
        METRICS: _points,
        PREDICTION_STATES: _prediction_states,
        PREDICTIONS: _predictions,
        GROUND_TRUTH: _ground_truth,
    }
    identity: list[pa.Field[Any]] = [
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("writer", pa.string(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("origin", pa.string()),
    ]
    fields = makers[table]()
    names = {field.name for field in fields}
    return pa.schema([*fields, *(field for field in identity if field.name not in names)])


def _points() -> list[pa.Field[Any]]:
    import pyarrow as pa

    return [
        pa.field("resource", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("step", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("tags", pa.map_(pa.string(), pa.string())),
        pa.field("tags_key", pa.string(), nullable=False),
    ]


def _prediction_states() -> list[pa.Field[Any]]:
    """The one place that names a state's columns; ``predictions/schema.py`` says what they mean.

    Every count is Int64 from birth: sums of narrower integers wrap without a word.
    """
    import pyarrow as pa

    count: pa.DataType = pa.int64()
    total: pa.DataType = pa.float64()

    def rows_of(**fields: pa.DataType) -> pa.DataType:
        return pa.struct([pa.field(name, kind) for name, kind in fields.items()])

    excluded = dict.fromkeys(("null", "nan", "inf", "range", "truth_null", "truth_nan", "truth_inf"), count)
    calib: dict[str, pa.DataType] = {"bin": pa.int16(), "yhat": pa.int16(), "y": pa.int8(), "n": count}
    calib |= dict.fromkeys(("sum_w", "sum_s", "sum_se", "sum_ll"), total)
    moments: dict[str, pa.DataType] = {"of": pa.string(), "n": count}
    moments |= dict.fromkeys(("sum_w", "sum", "mean", "m2", "low", "high"), total)
    return [
        pa.field("resource", pa.string(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("res", pa.int64()),
        pa.field("segment", pa.map_(pa.string(), pa.string())),
        pa.field("segment_key", pa.string(), nullable=False),
        pa.field("window_start", pa.timestamp("us", tz="UTC")),
        pa.field("window_end", pa.timestamp("us", tz="UTC")),
        pa.field("part_id", pa.string()),
        pa.field("n", count, nullable=False),
        pa.field("sum_w", total),
        pa.field("excluded", rows_of(**excluded), nullable=False),
        pa.field("cells", pa.list_(rows_of(cell=pa.int64(), y=pa.int8(), n=count, sum_w=total))),
        pa.field("calib", pa.list_(rows_of(**calib))),
        pa.field("ties", pa.list_(rows_of(cell=pa.int64(), value=total))),
        pa.field("moments", pa.list_(rows_of(**moments))),
        pa.field("confusion", pa.list_(rows_of(truth=pa.string(), pred=pa.string(), n=count, sum_w=total))),
        pa.field("params", pa.string(), nullable=False),
    ]


def _predictions() -> list[pa.Field[Any]]:
    """One row a prediction that has a key: what late labels need, and nothing else.

    ``key`` is the canonical text of the key columns, ``spec`` the JSON of the call's options and column
    types. Labels are texts, numbers are numbers: one of ``prediction_text`` and ``prediction_number``.
    """
    import pyarrow as pa

    return [
        pa.field("resource", pa.string(), nullable=False),
        pa.field("part_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("prediction_text", pa.string()),
        pa.field("prediction_number", pa.float64()),
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("weight", pa.float64()),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("segment", pa.map_(pa.string(), pa.string())),
        pa.field("spec", pa.string(), nullable=False),
    ]


def _ground_truth() -> list[pa.Field[Any]]:
    """One row a label: of several labels of a key the newest counts."""
    import pyarrow as pa

    return [
        pa.field("resource", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("truth_text", pa.string()),
        pa.field("truth_number", pa.float64()),
        pa.field("spec", pa.string(), nullable=False),
    ]
