"""``finalize``: states to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa

from metrics_lake.predictions.families import labels_final, numbers_final
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.rows import OUT
from metrics_lake.predictions.schema import FINAL_SCHEMA
from metrics_lake.resources import tags_from_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["finalise_long", "finalize"]

_FAMILIES: Final[dict[str, Callable[[Long], list[pl.DataFrame]]]] = {
    "numbers": numbers_final.finalise,
    "labels": labels_final.finalise,
}


def finalize(state: pa.Table, metrics: str | Sequence[str] = "default") -> pa.Table:
    """Return the numbers that states give.

    Args:
        state: What :func:`prediction_state` or :func:`merge_states` returned. States of the same job,
            segment and window are merged first.
        metrics: ``"default"``, or the names that are wanted.

    Returns:
        A table of :data:`~metrics_lake.predictions.schema.FINAL_SCHEMA`.

    Raises:
        InvalidInputError: A metric's name is not known.
    """
    from metrics_lake.predictions.state import merge_long

    merged = merge_long(Long.from_arrow(state))
    return to_table(merged, finalise_long(merged))


def finalise_long(state: Long) -> pl.DataFrame:
    """Return the numbers of merged states as rows of ``OUT``."""
    rows = [pl.DataFrame(schema=OUT)]
    for name, family in _FAMILIES.items():
        chosen = state.filter(pl.col("state") == name)
        if chosen.head.height:
            rows += family(chosen)
    return pl.concat(rows)


def to_table(state: Long, rows: pl.DataFrame) -> pa.Table:
    """Return rows of ``OUT`` as a table of ``FINAL_SCHEMA``, sorted by job, window, segment and metric."""
    head = state.head.select("gid", "resource", "window_start", "window_end", "segment_key")
    frame = rows.join(head, on="gid", how="left").with_row_index("order")
    frame = frame.sort("resource", "window_start", "segment_key", "order")
    segments = pa.array(
        [list(tags_from_key(key).items()) for key in frame["segment_key"].to_list()],
        FINAL_SCHEMA.field("segment").type,
    )
    plain = frame.select(name for name in FINAL_SCHEMA.names if name != "segment").to_arrow()
    return pa.Table.from_arrays(
        [
            segments if field.name == "segment" else plain.column(field.name).cast(field.type)
            for field in FINAL_SCHEMA
        ],
        schema=FINAL_SCHEMA,
    )
