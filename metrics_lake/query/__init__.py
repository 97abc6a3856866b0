"""The only user of DuckDB: our own queries, and users' SQL behind a wall.

``database`` runs SQL that we wrote, over Arrow tables and Parquet files, with bound parameters. ``sandbox``
runs SQL that somebody else wrote, on a connection that can reach nothing but what it is given. ``parsing``
looks at such SQL before it runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from metrics_lake.query.database import Bindings, Feed, Source, file_pattern, run, stream
    from metrics_lake.query.parsing import Condition, Statement, parse_condition, parse_select
    from metrics_lake.query.sandbox import Limits, Sources, ordinary_connection, run_guarded, stream_guarded

__all__ = [
    "Bindings",
    "Condition",
    "Feed",
    "Limits",
    "Source",
    "Sources",
    "Statement",
    "file_pattern",
    "ordinary_connection",
    "parse_condition",
    "parse_select",
    "run",
    "run_guarded",
    "stream",
    "stream_guarded",
]

_MODULES: Final = ("database", "parsing", "sandbox")


def __getattr__(name: str) -> Any:
    """Load DuckDB with the first question that needs it: few rows are copied and read without."""
    if name in __all__:
        for module in _MODULES:
            found = import_module(f"{__name__}.{module}")
            if name in found.__all__:
                return globals().setdefault(name, getattr(found, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
