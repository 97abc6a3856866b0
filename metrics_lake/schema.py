"""The tables of a lake and their columns: pure declarations.

pyarrow is imported on first use, so that importing the package stays cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT_VERSION", "METRICS", "SCHEMA_VERSION", "TABLES", "TableSpec", "arrow_schema"]

FORMAT_VERSION: Final = 1
"""The layout and protocol under a url; a reader refuses a greater one."""

SCHEMA_VERSION: Final = 1
"""The columns of the tables; written into every journal segment and inbox object."""

METRICS: Final = "metrics"


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
    METRICS: TableSpec(
        name=METRICS,
        sort_keys=("resource", "metric", "tags_key", "step", "timestamp", "writer", "seq"),
        stats_columns=("resource", "metric", "step", "timestamp", "writer"),
        dictionary_columns=("resource", "metric", "kind", "tags_key", "writer", "origin"),
        delta_columns=("step", "timestamp", "seq"),
    ),
}
"""Every table by name. All tables have ``resource``, ``timestamp``, ``writer`` and ``seq``."""


@cache
def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table, in the order in which the columns are stored."""
    import pyarrow as pa

    if table != METRICS:
        raise KeyError(table)
    return pa.schema(
        [
            pa.field("resource", pa.string(), nullable=False),
            pa.field("metric", pa.string(), nullable=False),
            pa.field("step", pa.int64()),
            pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("value", pa.float64()),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("text", pa.string()),
            pa.field("tags", pa.map_(pa.string(), pa.string())),
            pa.field("tags_key", pa.string(), nullable=False),
            pa.field("writer", pa.string(), nullable=False),
            pa.field("seq", pa.int64(), nullable=False),
            pa.field("origin", pa.string()),
        ]
    )
