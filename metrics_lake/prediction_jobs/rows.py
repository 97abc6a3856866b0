"""States, predictions and labels as rows of the lake, and which states lie in a span of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake.predictions.long import Long

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["as_rows", "framed", "within"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_STAMP: Final = pa.timestamp("us", tz="UTC")


def framed(rows: pa.Table, job: str, stamp: int, **constants: str) -> pa.Table:
    """Return rows with what every table has, but for ``writer`` and ``seq``."""
    count = rows.num_rows
    for name, text in {"resource": job, **constants}.items():
        rows = rows.append_column(name, _repeated(text, count))
    times = pa.repeat(pa.scalar(stamp), count).cast(_STAMP)
    return rows.append_column("timestamp", times).append_column("origin", pa.nulls(count, pa.string()))


def _repeated(text: str, count: int) -> Any:
    """Return a text many times, held once."""
    zeros = pa.repeat(pa.scalar(0, pa.int32()), count)
    return pa.DictionaryArray.from_arrays(zeros, pa.array([text], pa.string()))


def as_rows(states: Mapping[str, Long], job: str, stamp: int) -> pa.Table:
    """Return the states of a job's parts as rows of the lake, without ``writer`` and ``seq``."""
    rows = Long.concat(states.values()).to_arrow().drop_columns(["created", "writer"])
    count = rows.num_rows
    place = rows.schema.get_field_index("resource")
    rows = rows.set_column(place, rows.schema.field(place), pa.repeat(pa.scalar(job), count))
    times = pa.repeat(pa.scalar(stamp), count).cast(_STAMP)
    return rows.append_column("timestamp", times).append_column("origin", pa.nulls(count, pa.string()))


def within(state: pa.Table, since: int | None, until: int | None) -> pa.Table:
    """Return states whose window, or where they have none whose time of logging, lies in the span."""
    for bound, column, keeps in (
        (since, "window_start", pc.greater_equal),
        (until, "window_end", pc.less_equal),
    ):
        if bound is not None:
            when = pc.coalesce(state.column(column), state.column("created")).cast(pa.int64())
            state = state.filter(keeps(when, pa.scalar(bound, pa.int64())))
    return state
