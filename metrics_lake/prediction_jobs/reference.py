"""What predictions are compared with: the state of another job, or of data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metrics_lake.errors import InvalidInputError
from metrics_lake.prediction_jobs.stored import windows_of
from metrics_lake.predictions.inputs import adapt, is_path
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.state import long_state
from metrics_lake.resources import resource_key

if TYPE_CHECKING:
    from metrics_lake.prediction_jobs.stored import Stored

__all__ = ["reference_of"]


def reference_of(
    stored: Stored, reference: Any, state: Long, task: Any, options: Mapping[str, Any], *, whole: bool = False
) -> Long:
    """Return the state to compare with: of another job, or of data.

    Args:
        stored: Has the job's states.
        reference: A job, or data: the column that the predictions have, or a bare one of the same kind.
        state: The predictions' state, which tells what is missing in ``options``; its head is enough.
        task: As of the predictions.
        options: ``prediction score weight by`` of the predictions, so far as they are known.
        whole: Without the segments of a job.

    Raises:
        NotFoundError: There is no such job.
        InvalidInputError: The data lack a column, or are of another kind.
    """
    if isinstance(reference, str) or hasattr(type(reference), "__metrics_resource__"):
        job = resource_key(reference)
        states = stored.states([job], whole=whole)
        if states.num_rows:
            return windows_of(Long.from_arrow(states))[0]
        if not (isinstance(reference, str) and is_path(reference)):
            raise stored.no_job(job)
    return _data_state(reference, state, task, options)


def _data_state(reference: Any, state: Long, task: Any, options: Mapping[str, Any]) -> Long:
    """Return the state of data, read as the predictions were."""
    names, is_bare = _columns(reference)
    kinds = dict(state.head.select("state", "column").iter_rows())
    found: dict[str, Any] = {}
    if is_bare and names is not None and len(names) == 1:
        found["score" if "scores" in kinds else "prediction"] = names[0]
    else:
        prediction, score = options.get("prediction"), options.get("score")
        if prediction is None and not _is_named(score) and "scores" not in kinds:
            prediction = _one(kinds.get("labels") or kinds.get("numbers"), names)
        if prediction is None and score is None and "scores" in kinds:
            score = _one(kinds["scores"], names)
        if score is None and "class_scores" in kinds:
            score = list(state.head.filter(state="class_scores")["column"].unique(maintain_order=True))
        found["prediction"] = prediction
        found["score"] = score if _is_named(score) else None
        if isinstance(weight := options.get("weight"), str) and names is not None and weight in names:
            found["weight"] = weight
        by = options.get("by")
        if by is not None and names is not None and set(_flat(by)) <= set(names):
            found["by"] = by
    tasks = set(state.head["task"]) - {"unknown"}
    if task is None and len(tasks) == 1:
        task = tasks.pop()
    try:
        return long_state(reference, task=task, **found)
    except InvalidInputError as error:
        raise type(error)(
            f"reference: {error.message}", hint=error.hint, **{**error.context, "argument": "reference"}
        ) from error


def _columns(reference: Any) -> tuple[list[str] | None, bool]:
    """Return the columns of data, None where only reading tells, and whether they have names of their own."""
    names = getattr(getattr(reference, "schema", None), "names", None)
    if isinstance(names, list):
        return names, False  # Arrow's, a reader's too: reading it would use it up
    if isinstance(reference, Iterator):
        return None, False
    source = adapt(reference, argument="reference")
    return source.schema.names(), source.is_bare


def _one(column: Any, names: Sequence[str] | None) -> str | None:
    return column if names is None or column in names else None


def _is_named(score: Any) -> bool:
    """Return whether scores were given by the names of their columns."""
    if isinstance(score, Mapping):
        score = list(score.values())
    return isinstance(score, str) or (
        isinstance(score, list | tuple) and bool(score) and all(isinstance(name, str) for name in score)
    )


def _flat(by: Any) -> list[str]:
    if isinstance(by, str):
        return [by]
    return [name for item in by for name in _flat(item)]
