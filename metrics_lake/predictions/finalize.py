"""``finalize``: states to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute

from metrics_lake.predictions.exact import exact_values
from metrics_lake.predictions.families import (
    labels_final,
    numbers_final,
    regression_final,
    scores_final,
)
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.names import need_cells, wanted
from metrics_lake.predictions.options import Options
from metrics_lake.predictions.rollup import rolled_up
from metrics_lake.predictions.rows import OUT, measured
from metrics_lake.predictions.schema import FINAL_SCHEMA
from metrics_lake.predictions.state import merge_long
from metrics_lake.tags import tags_from_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metrics_lake.predictions.rows import Measure

__all__ = ["finalize"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_FAMILIES: Final[dict[str, Callable[[Long, Options], list[Measure]]]] = {
    "numbers": numbers_final.finalise,
    "scores": scores_final.finalise,
    "labels": labels_final.finalise,
    "class_scores": labels_final.finalise_classes,
    "residuals": regression_final.finalise,
}
"""The finaliser of each kind of state; a family adds its own."""

_UNIT: Final = ["resource", "window_start", "segment_key"]


def finalize(
    state: pa.Table | Long,
    metrics: str | Sequence[str] = "default",
    *,
    by: Any = "stored",
    every: Any = "stored",
    confidence: float = 0.95,
    bins: int = 15,
    zero_division: float | None = 0.0,
    reference: pa.Table | Long | None = None,
    drift_bins: int = 10,
) -> pa.Table:
    """Return the numbers that states give, with their error bounds and intervals.

    States of the same job, segment and window are merged first, so that the parts of a job, or the days of a
    week, can simply be passed together.

    Args:
        state: What :func:`prediction_state` or :func:`merge_states` returned, or rows of a lake's
            ``prediction_states``.
        metrics: ``"default"``, ``"all"``, or names such as ``["roc_auc", "f1@0.3"]``.
        by: ``"stored"`` for the segments as they are stored; else the segment columns to keep, from which
            the stored segments are merged (None: all rows only).
        every: ``"stored"`` for the windows as they are stored, None to merge them all, or the length of
            longer windows, such as ``"7d"``. The windows of all rows together (a NULL window) stand besides.
        confidence: Of the intervals.
        bins: Equal bins of the calibration error, a divisor of 60.
        zero_division: The value of a ratio whose denominator is 0; None gives NULL with the reason.
        reference: A state to compare with: adds ``drift/psi`` and its kin, and where
            it has a truth and scores of two classes ``estimated/roc_auc`` and its kin.
        drift_bins: Bins of the drift measures that need some: quantiles of the reference.

    Returns:
        A table of :data:`~metrics_lake.predictions.schema.FINAL_SCHEMA`. A value that does not exist is
        NULL, and ``reason`` says why.

    Raises:
        InvalidInputError: A metric's name is not known, an option is out of its range, or states do not fit
            together.
        NotFoundError: No stored segments have the columns of ``by``.
    """
    from metrics_lake.predictions.drift import drift_rows
    from metrics_lake.predictions.estimated import estimated_rows

    keep = wanted(metrics)
    options = Options(confidence=confidence, bins=bins, zero_division=zero_division, keep=keep)
    states = Long.of(state)
    if reference is None and not need_cells(metrics):
        states = states.without_cells()
    merged = rolled_up(merge_long(states), by=by, every=every)
    rows = _family_rows(merged, options)
    if reference is not None:
        against = Long.of(reference)
        rows += [*drift_rows(merged, against, drift_bins), *estimated_rows(merged, against, options)]
    return _to_table(merged, exact_values(merged).replace(measured(rows, keep)))


def _family_rows(state: Long, options: Options) -> list[Measure]:
    """Return what there is to compute of merged states."""
    rows: list[Measure] = []
    kinds = set(state.head["state"].unique())
    for name, family in _FAMILIES.items():
        if name in kinds:
            rows += family(state.filter(pl.col("state") == name) if len(kinds) > 1 else state, options)
    return rows


def _to_table(state: Long, numbers: pa.Table) -> pa.Table:
    """Return rows of ``OUT`` as a table of ``FINAL_SCHEMA``, sorted by job, window and segment."""
    head = state.head
    place = pc.index_in(numbers.column("gid"), value_set=head["gid"].to_arrow())
    if head.height > 1:
        units = head.select(_UNIT).unique().sort(_UNIT, nulls_last=False).with_row_index("rank")
        ranks = head.join(units, on=_UNIT, how="left", nulls_equal=True, maintain_order="left")["rank"]
        order = pc.sort_indices(ranks.to_arrow().take(place))  # keeps the order of equals
        numbers, place = numbers.take(order), place.take(order)
    kind = FINAL_SCHEMA.field("segment").type
    segments = pa.array([list(tags_from_key(key).items()) for key in head["segment_key"].to_list()], kind)
    columns = []
    for field in FINAL_SCHEMA:
        if field.name in OUT.names:
            columns.append(numbers.column(field.name))
        else:
            told: Any = segments if field.name == "segment" else head[field.name].to_arrow().cast(field.type)
            columns.append(told.take(place))
    return pa.Table.from_arrays(columns, schema=FINAL_SCHEMA)
