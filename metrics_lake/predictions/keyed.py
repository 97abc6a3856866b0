"""Predictions and labels as rows that wait for each other: one schema, whatever columns the user has.

A row has the canonical text of its key, JSON such as ``{"customer_id":7}``: two keys are equal where their
texts are. The options and column types of a call stand beside its rows as JSON (the *spec*), so that the
state can be built again, days later and in another process, as the first call built it. What becomes of the
labels is in ``late_labels.py``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute

from metrics_lake.errors import InvalidInputError, TaskAmbiguousError
from metrics_lake.predictions.inference import infer_task, label_kind
from metrics_lake.predictions.roles import Roles, resolve
from metrics_lake.predictions.slots import (
    collected,
    frame_of,
    key_kind,
    key_names,
    key_texts,
    slots,
    unslotted,
)
from metrics_lake.predictions.source import readable
from metrics_lake.predictions.state import long_state
from metrics_lake.predictions.tasks import TASKS, Task, as_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metrics_lake.predictions.late_labels import Labels
    from metrics_lake.predictions.long import Long

__all__ = ["keyed_rows", "keyed_state", "predictions_of", "state_options", "stored_columns"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no map_lookup


def keyed_rows(
    data: Any, *, key: str | Sequence[str], task: Task | str | None, **options: Any
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the rows that late labels need of predictions, and the spec of the call.

    Args:
        data: As for :func:`~metrics_lake.predictions.state.prediction_state`.
        key: The columns that name a prediction.
        task: As for ``prediction_state``.
        options: Its ``prediction``, ``score``, ``by``, ``time``, ``every``, ``weight``, ``storage_options``.

    Returns:
        A table with the columns ``key``, ``prediction_text``, ``prediction_number``, ``scores``, ``weight``,
        ``time``, ``segment``; and what :func:`predictions_of` and :func:`state_options` need.

    Raises:
        InvalidInputError: An argument is wrong, a key is NULL, of a type that cannot be a key, or doubled.
    """
    chosen = as_task(task)
    keys = key_names(key)
    roles = resolve(data, key=keys, task=chosen, **options)
    with readable():
        found = infer_task(roles, chosen)
        frame = collected(roles.source, list(dict.fromkeys([*keys, *roles.columns])))
    texts = key_texts(frame, keys, "predictions")
    doubled = texts.filter(texts.is_duplicated())
    if len(doubled):
        raise InvalidInputError(
            f"predictions: the key {doubled[0]} occurs more than once.",
            hint="A key names one prediction: add columns to key= until it does, or drop the doubles.",
            argument="key",
        )
    kind = None if roles.prediction is None else label_kind(frame.schema[roles.prediction])
    rows = pl.DataFrame(
        [
            texts.alias("key"),
            *slots(frame, roles.prediction, "prediction"),
            _scores(frame, roles.scores),
            _doubles(frame, roles.weight, "weight"),
            _times(frame, roles.time),
        ]
    )
    spec = {
        "key": {name: key_kind(frame.schema[name], name) for name in keys},
        "prediction": roles.prediction,
        "prediction_kind": kind,
        "scores": list(roles.scores),
        "score_labels": _plain(list(roles.score_labels)),
        "weight": roles.weight,
        "time": roles.time,
        "every": roles.every,
        "by": [list(group) for group in roles.by],
        "task": None if found is None else {"name": found.name, **_plain(asdict(found))},
    }
    table = rows.to_arrow()
    return table.append_column("segment", _segments(frame, roles)), spec


def stored_columns(spec: Mapping[str, Any]) -> list[str]:
    """Return which of the columns that ``keyed_rows`` made hold anything, for a call with this spec."""
    columns = ["key"]
    if spec["prediction"] is not None:
        columns.append("prediction_text" if spec["prediction_kind"] == "str" else "prediction_number")
    columns += ["scores"] if spec["scores"] else []
    columns += [role for role in ("weight", "time") if spec[role] is not None]
    return columns + (["segment"] if spec["by"] else [])


def keyed_state(
    rows: pa.Table,
    spec: Mapping[str, Any],
    labels: Labels | None,
    *,
    part: str,
    resource: str,
    task: str | None = None,
) -> tuple[Long, int]:
    """Return the state of stored predictions with the labels of their keys, and how many have one.

    It equals the state of one pass over predictions and truth side by side. Predictions none of which has a
    label have no truth.

    Args:
        rows: The columns ``stored_columns`` of predictions as ``keyed_rows`` made them.
        spec: The call's.
        labels: The newest label of each key; None for none.
        part: The part of the job.
        resource: The prediction job.
        task: What the job's other parts turned out to be, for rows that leave it open.

    Raises:
        InvalidInputError: The labels do not go with the predictions.
        TaskAmbiguousError: Whole numbers with whole numbers for labels: classes or quantities.
    """
    names = _names(spec)
    frame = predictions_of(rows, spec)
    options: dict[str, Any] = {**state_options(spec), "part": part, "resource": resource}
    # Labels all of which are NULL say nothing, not even of what type the truth is.
    truth = None if labels is None or labels.kind == "null" else labels.column(set(frame.columns))
    if labels is None or truth is None:
        return long_state(frame.drop(names["key"]), **options), 0
    mark = _unlike("known", {*frame.columns, truth})
    known = (
        labels.truths(truth).lazy().rename({"key": names["key"]}).with_columns(pl.lit(value=True).alias(mark))
    )
    matched = frame.lazy().join(known, on=names["key"], how="left").drop(names["key"])
    joined = matched.collect(engine="streaming")
    del frame
    found = joined.height - joined[mark].null_count()
    joined = joined.drop(mark)
    if not found:
        return long_state(joined.drop(truth), **options), 0
    try:
        return long_state(joined, truth=truth, **options), found
    except TaskAmbiguousError as error:
        if task not in TASKS:
            raise TaskAmbiguousError(
                error.message,
                hint="Log the predictions again with task='regression', 'binary' or 'multiclass'.",
                choices=error.choices,
            ) from error
    return long_state(joined, truth=truth, **{**options, "task": task}), found


def predictions_of(rows: pa.Table, spec: Mapping[str, Any]) -> pl.DataFrame:
    """Return stored predictions under the names and in the types that the call gave them."""
    names = _names(spec)
    frame = frame_of(rows.drop_columns([name for name in ("segment",) if name in rows.column_names]))
    columns = {names["key"]: pl.col("key")}
    if spec["prediction"] is not None:
        columns[names["prediction"]] = unslotted("prediction", spec["prediction_kind"])
    for i, name in enumerate(_score_names(spec)):
        columns.setdefault(name, pl.col("scores").list.get(i))
    for role in ("weight", "time"):
        if spec[role] is not None:
            columns.setdefault(names[role], pl.col(role))
    selected = frame.select(column.alias(name) for name, column in columns.items())
    segments = [
        _text_column(name, pc.map_lookup(rows.column("segment"), name, "first"))
        for name in _segment_names(spec)
    ]
    return selected.with_columns(segments)


def state_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``prediction_state`` that a call's spec stands for."""
    names, scores, labels = _names(spec), _score_names(spec), spec["score_labels"]
    score: Any = None
    if scores:
        score = dict(zip(labels, scores, strict=True)) if labels else scores[0]
    task = spec["task"]
    return {
        "prediction": None if spec["prediction"] is None else names["prediction"],
        "score": score,
        "weight": None if spec["weight"] is None else names["weight"],
        "time": None if spec["time"] is None else names["time"],
        "every": spec["every"],
        "by": spec["by"] or None,
        "task": None if task is None else _task(task),
        "exact": spec.get("exact", False),
    }


def _segment_names(spec: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for group in spec["by"] for name in group))


def _names(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of each role's column; a segment column has its name for itself, as text."""
    taken = set(_segment_names(spec))
    names: dict[str, str] = {}
    for role in ("prediction", "weight", "time", "key"):
        name = "key" if role == "key" else spec[role]
        if name is not None:
            names[role] = _unlike(name, taken | set(names.values()))
    return names


def _score_names(spec: Mapping[str, Any]) -> list[str]:
    taken = set(_segment_names(spec)) | set(_names(spec).values())
    return [_unlike(name, taken) for name in spec["scores"]]


def _unlike(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _text_column(name: str, column: Any) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)  # noqa: S101 -- from_arrow of a column: for the type checker
    return series.cast(pl.String).alias(name)


def _task(stored: Mapping[str, Any]) -> Task:
    kind = TASKS[stored["name"]]
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in stored.items() if name in known})


def _plain(options: Any) -> Any:
    """Return a task's options as JSON can hold them."""
    return json.loads(json.dumps(options, default=_item))


def _item(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise InvalidInputError(
        f"task holds {value!r}, which late labels cannot be compared with.",
        hint="Pass strings, integers, floats or booleans as labels.",
        argument="task",
    )


def _scores(frame: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    if not names:
        return pl.Series("scores", [None] * frame.height, pl.List(pl.Float64))
    return frame.select(pl.concat_list(pl.col(name).cast(pl.Float64) for name in names).alias("scores"))[
        "scores"
    ]


def _doubles(frame: pl.DataFrame, name: str | None, what: str) -> pl.Series:
    if name is None:
        return pl.Series(what, [None] * frame.height, pl.Float64)
    return frame[name].cast(pl.Float64).alias(what)


def _times(frame: pl.DataFrame, name: str | None) -> pl.Series:
    stored = pl.Datetime("us", "UTC")
    if name is None:
        return pl.Series("time", [None] * frame.height, stored)
    column = frame[name]
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return column.dt.convert_time_zone("UTC").cast(stored).alias("time")
    return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("time")


def _segments(frame: pl.DataFrame, roles: Roles) -> pa.Array[Any]:
    stored = pa.map_(pa.string(), pa.string())
    names = roles.segments
    if not names:
        return pa.nulls(frame.height, stored)
    columns = [frame[name].cast(pl.String).to_arrow().cast(pa.string()) for name in names]
    width = len(names)
    rows = frame.height
    # Value by value of one row behind another: take() interleaves the columns without a loop over rows.
    order = pl.int_range(0, rows * width, eager=True)
    picked = ((order % width) * rows + order // width).to_arrow()
    values = pa.concat_arrays(columns).take(picked)
    keys = pa.array(names, pa.string()).take((order % width).to_arrow())
    offsets = pl.int_range(0, (rows + 1) * width, width, dtype=pl.Int32, eager=True).to_arrow()
    maps: Any = pa.MapArray  # the stubs know no plain arrays here
    return maps.from_arrays(offsets, keys, values).cast(stored)  # type: ignore[no-any-return]
