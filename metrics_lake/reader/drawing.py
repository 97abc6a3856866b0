"""The points of a history that a chart shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute

from metrics_lake import query
from metrics_lake.charts import MAX_PANELS, MAX_SERIES, MAX_SERIES_POINTS, Drawn
from metrics_lake.errors import InvalidInputError
from metrics_lake.reader.history import drawing_query
from metrics_lake.reader.selection import Ids, Selection
from metrics_lake.reader.thinning import TOTAL
from metrics_lake.series import SERIES_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from metrics_lake.reader.history import Run, Stream

__all__ = ["draw"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_LEAST_POINTS: Final = 8
# The counts stand beside points: where none can be drawn, they are asked for alone.
_OF_NOTHING: Final = f"""
    SELECT 0 AS {TOTAL}, 0 AS num_not_finite, sum((value IS NULL)::BIGINT)::BIGINT AS num_texts,
        sum((value IS NOT NULL)::BIGINT)::BIGINT AS num_unplaced
    FROM {{points}}
"""
_AXES: Final = ("step", "relative", "timestamp")


def draw(
    summary: pa.Table,
    selection: Selection,
    over: Callable[[Selection], tuple[Run, Stream]],
    *,
    x: str | None,
    max_points: int,
    downsample: int | None = None,
    smooth: float | None = None,
) -> Drawn:
    """Return the points of the first series, thinned out by the reader's own M4 to what can be drawn.

    Args:
        summary: The series summary of the snapshot, at least of the selection.
        selection: Whose points are drawn.
        over: Gives what runs queries over a selection's points.
        x: ``"step"``, ``"relative"`` or ``"timestamp"``; None: the step where a series has any.
        max_points: Of all series.
        downsample: What the history was thinned out to; never more than that.
        smooth: The weight of the past.

    Raises:
        InvalidInputError: ``x`` is none of these.
    """
    if x is not None and x not in _AXES:
        raise InvalidInputError(
            f"x is {x!r}.", hint=f"Pass {', '.join(map(repr, _AXES))}, or nothing.", argument="x"
        )
    found = _with_numbers(summary, selection)
    chosen = found.filter(found.column("is_chosen"))
    if x is None:
        has_steps = chosen.num_rows == 0 or pc.any(chosen.column("has_step")).as_py()
        x = "step" if has_steps else "timestamp"
    is_cut = chosen.num_rows < found.num_rows
    if is_cut:
        names = [pc.unique(chosen.column(name)).to_pylist() for name in ("resource", "metric")]
        selection = replace(selection, resources=Ids(tuple(names[0])), metrics=Ids(tuple(names[1])))
    most = min(MAX_SERIES_POINTS, max_points // max(1, chosen.num_rows), downsample or MAX_SERIES_POINTS)
    most = max(most, _LEAST_POINTS)
    is_thinned = (pc.max(chosen.column("points")).as_py() or 0) > most
    asked = drawing_query(x, most=most if is_thinned else None, smooth=smooth)
    run, stream = over(selection)
    points = asked.run(run, stream)
    counted = points if points.num_rows else run(_OF_NOTHING, {})
    counts = {name: counted.column(name)[0].as_py() or 0 for name in asked.hidden}
    points = points.drop_columns(list(asked.hidden))
    if counts["num_not_finite"]:  # which were thinned by themselves
        along = "step" if x == "step" else "timestamp"
        points = points.sort_by([(name, "ascending") for name in (*SERIES_KEYS, along)])  # a stable sort
    if is_cut:
        points = points.join(chosen.select(list(SERIES_KEYS)), list(SERIES_KEYS), join_type="left semi")
    shown = points.select(list(SERIES_KEYS)).group_by(list(SERIES_KEYS)).aggregate([]).num_rows
    return Drawn(
        points,
        x,
        num_points=counts[TOTAL],
        num_series=found.num_rows if is_cut else shown,
        num_not_finite=counts["num_not_finite"],
        num_texts=counts["num_texts"],
        num_unplaced=counts["num_unplaced"],
        smooth=smooth or None,
    )


def _with_numbers(summary: pa.Table, selection: Selection) -> pa.Table:
    """Return ``resource metric tags_key points has_step is_chosen`` of the series that have any number.

    Chosen are the first series of each of the first metrics, those with one point a series last.
    """
    bindings: dict[str, Any] = {}
    ids = Selection(selection.resources, selection.metrics, tags=selection.tags)
    condition = ids.sql(bindings)
    return query.run(
        f"""
        WITH series AS (
            SELECT resource, metric, tags_key, "count" AS points,
                "last_step".step IS NOT NULL AS has_step,
                bool_or("count" > 1) OVER (PARTITION BY metric) AS is_curve,
                row_number() OVER (PARTITION BY metric ORDER BY resource, tags_key) AS nth
            FROM summary WHERE {condition} AND ("min" IS NOT NULL OR n_nan > 0)
        )
        SELECT * EXCLUDE (is_curve, nth),
            nth <= {MAX_SERIES}
                AND dense_rank() OVER (ORDER BY is_curve DESC, metric) <= {MAX_PANELS} AS is_chosen
        FROM series
        """,
        bindings,
        summary=summary,
    )
