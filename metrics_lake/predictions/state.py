"""``prediction_state`` and ``merge_states``: data to states, and states to states."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions.batches import BATCH_ROWS, Parts, rebatch
from metrics_lake.predictions.exact import with_exact
from metrics_lake.predictions.families import labels, multiclass, numbers, regression, scores
from metrics_lake.predictions.inference import infer_task
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.roles import Roles, resolve
from metrics_lake.predictions.source import in_memory, readable
from metrics_lake.predictions.tasks import Binary, Multiclass, Task, as_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from metrics_lake.predictions.source import Source

__all__ = ["build_state", "long_state", "merge_long", "merge_states", "prediction_state"]

_HELD_STATES: Final = 8
_PILOT_ROWS: Final = 1001


def prediction_state(
    data: Any,
    *,
    prediction: str | None = None,
    truth: Any = None,
    score: Any = None,
    task: Task | str | None = None,
    by: Any = None,
    time: Any = None,
    every: Any = None,
    weight: Any = None,
    key: Any = None,
    exact: bool = False,
    part: str | None = None,
    resource: str = "",
    storage_options: Mapping[str, Any] | None = None,
    open_file: Callable[[str], Any] | None = None,
) -> pa.Table:
    """Return the mergeable state of predictions, from which every metric is computed later.

    One streaming pass for labels, for binary scores and for numbers; two more for numbers with a truth,
    one more for each class of a multiclass score. Readers and generators are read once, in bounded memory.

    Args:
        data: Anything that :func:`~metrics_lake.predictions.inputs.adapt` takes.
        prediction: The column of predicted labels or numbers. Default: the only column that no other
            argument names, else the one called ``prediction``; with ``score`` only the latter.
        truth: The column of true labels or numbers (or the values); NULL where not known yet.
        score: The column of scores in [0, 1], of several classes the list of their columns, or a mapping of
            class to column, or the values. The class of a mapping of one is the positive one.
        task: ``"binary"``, ``"multiclass"``, ``"regression"``, a task object, or None to infer it from the
            types and the content.
        by: Segment columns: ``"country"``, ``["country", "device"]`` (each pair that occurs) or a list of
            such lists. All rows together are always there.
        time: The column of times, with ``every``. Times without a zone are taken for UTC.
        every: The length of a window: ``"1h"``, ``"1d"``, ``"1w"``, ``"1mo"``.
        weight: The column of weights (or the values): finite, not negative.
        key: Columns that identify a row; they are only left out of the search for the prediction.
        exact: Also compute what no merged state can give exactly (ROC AUC, average precision, quantiles) by
            one sort. Exact values are lost when states are merged.
        part: Names the part of a job: merging states twice replaces a part instead of counting it twice.
        resource: The prediction job.
        storage_options: For Parquet urls, handed to Polars.
        open_file: For Parquet urls: returns a seekable binary file.

    Returns:
        A table of :data:`~metrics_lake.predictions.schema.STATE_SCHEMA`.

    Raises:
        InvalidInputError: An argument is wrong; the message says which and what to pass.
        TaskAmbiguousError: Whole numbers with a truth could be classes or quantities.
    """
    return long_state(
        data, prediction=prediction, truth=truth, score=score, task=task, by=by, time=time, every=every,
        weight=weight, key=key, exact=exact, part=part, resource=resource, storage_options=storage_options,
        open_file=open_file,
    ).to_arrow()  # fmt: skip


def long_state(
    data: Any,
    *,
    task: Task | str | None = None,
    exact: bool = False,
    part: str | None = None,
    resource: str = "",
    **columns: Any,
) -> Long:
    """Return what :func:`prediction_state` returns, in long form: for what is computed from it at once."""
    chosen = as_task(task)
    roles = resolve(data, task=chosen, **columns)
    with readable():
        state = build_state(roles, infer_task(roles, chosen), exact=exact)
    return state.with_head(pl.lit(resource).alias("resource"), pl.lit(part, dtype=pl.String).alias("part_id"))


def merge_states(*tables: pa.Table) -> pa.Table:
    """Return one state for each job, column, segment and window.

    A part (``part_id``) that several tables hold counts once: the rows with the newest ``created`` stand,
    and of equals those of the last table. Rows without a part always add. The order of the tables does not
    matter otherwise. States of different resolution are merged at the coarser one.

    The same merge in plain SQL, here of the cells (DuckDB's dialect), and ROC AUC from it::

        WITH cells AS (
            SELECT unnest(cells, recursive := true)
            FROM states WHERE state = 'scores' AND segment_key = ''
        ), merged AS (
            SELECT cell, sum(n) FILTER (y = 1) AS n1, sum(n) FILTER (y = 0) AS n0 FROM cells GROUP BY cell
        ), ranked AS (
            SELECT coalesce(n1, 0) AS n1, coalesce(n0, 0) AS n0,
                   sum(coalesce(n0, 0)) OVER (ORDER BY cell) - coalesce(n0, 0) AS below FROM merged
        )
        SELECT sum(n1 * (below + n0 / 2)) / (sum(n1) * sum(n0)) AS roc_auc FROM ranked

    Raises:
        InvalidInputError: Two states describe different things: other tasks, labels or thresholds; or one
            is already the merge of a part that another holds.
    """
    return merge_long(*map(Long.of, tables)).to_arrow()


def merge_long(*tables: Long) -> Long:
    """Return the merged states of tables, each part counted once."""
    states = Long.concat(tables)
    if states.head.height < 2:
        return states
    same = ("resource", "part_id", "column", "state", "segment_key", "window_start")
    has_part = pl.col("part_id").is_not_null()
    if states.head.filter(has_part).select(pl.struct(same).is_duplicated().any()).item():
        order = [i for i, table in enumerate(tables) for _ in range(table.head.height)]
        written = states.head.select(
            "gid",
            when=pl.struct(pl.col("created").dt.epoch("us").fill_null(0), pl.lit(pl.Series("order", order))),
        )
        # The part as a whole is what its newest writing says: segments that are gone are gone.
        newest = written["when"] == states.head.with_columns(written["when"]).select(
            pl.col("when").sort().last().over("resource", "part_id")
        ).to_series()  # fmt: skip
        states = states.filter(~has_part | pl.lit(newest))
        # Rows that one table holds twice: the last.
        states = states.filter(~has_part | (pl.col("gid") == pl.col("gid").max().over(same)))
    return states.merged()


def build_state(roles: Roles, task: Task | None, *, exact: bool = False) -> Long:
    """Return the states of data whose roles and task are known."""
    source = roles.source
    if source.frame is not None:
        is_of_classes = isinstance(task, (Binary, Multiclass))  # they have no mean to be near
        pilot = 0.0 if is_of_classes else _pilot(source, roles)
        state = _build(source.frame, roles, task, pilot=pilot)
        return with_exact(state, source.frame, roles, task) if exact else state
    if exact:
        raise InvalidInputError(
            "exact=True sorts the predictions, and they come from a reader, which is read only once.",
            hint="Pass a frame, a table or a Parquet file, or leave out exact=.",
            argument="exact",
        )
    assert source.batches is not None  # noqa: S101 -- a source has one or the other
    return _of_batches(rebatch(source.batches(roles.columns), BATCH_ROWS), roles, task)


def _of_batches(batches: Iterator[pl.DataFrame], roles: Roles, task: Task | None) -> Long:
    held = [*islice(batches, 2)]
    if len(held) == 1 or not (isinstance(task, Binary) and roles.scores):
        return _fold(_again(held, batches), roles, task)
    return scores.build(Parts(_again(held, batches)), roles, task)


def _again(held: list[pl.DataFrame], rest: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Give the frames that were taken to look, none of which is kept, and the rest."""
    while held:
        yield held.pop(0)
    yield from rest


def _fold(batches: Iterator[pl.DataFrame], roles: Roles, task: Task | None) -> Long:
    held: list[Long] = []
    pilot = None
    for batch in batches:
        if pilot is None:
            pilot = _near(batch, roles)
        held.append(_build(batch.lazy(), replace(roles, source=in_memory(batch)), task, pilot=pilot))
        if len(held) == _HELD_STATES:
            held = [Long.concat(held).merged()]
    return Long.concat(held).merged()


def _build(frame: pl.LazyFrame, roles: Roles, task: Task | None, *, pilot: float) -> Long:
    if isinstance(task, Binary) and roles.scores:
        return scores.build(frame, roles, task)
    if isinstance(task, Multiclass) and roles.scores:
        return multiclass.build(frame, roles, task)
    if isinstance(task, (Binary, Multiclass)):
        return labels.build(frame, roles, task)
    name = "unknown" if task is None else task.name
    if roles.truth is None:
        return numbers.build(frame, roles, task=name, pilot=pilot)
    residuals = regression.build(frame, roles, pilot=pilot)
    known = regression.moments_of_all(residuals)
    return Long.concat([numbers.build(frame, roles, task=name, pilot=pilot, known=known), residuals])


def _pilot(source: Source, roles: Roles) -> float:
    """Return a number near the data, where finding one costs no second run of a lazy plan."""
    if source.frame is None or not source.is_local_memory:
        return 0.0
    return _near(source.frame.head(_PILOT_ROWS).collect(), roles)


def _near(frame: pl.DataFrame, roles: Roles) -> float:
    name = roles.truth or roles.prediction
    if name is None or not roles.dtype(name).is_numeric():
        return 0.0
    values = frame[name].head(_PILOT_ROWS).cast(pl.Float64)
    middle = values.filter(values.is_finite()).median()
    return float(middle) if isinstance(middle, float) else 0.0
