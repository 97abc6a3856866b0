"""Predictions and labels as rows that wait for each other: one schema, whatever columns the user has.

A row has the canonical text of its key, JSON such as ``{"customer_id":7}``: two keys are equal where their
texts are. The options and column types of a call stand beside its rows as JSON (the *spec*), so that the
state can be built again, days later and in another process, as the first call built it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import near, quoted
from metrics_lake.predictions.inputs import Source, adapt
from metrics_lake.predictions.roles import Roles, infer_task, label_kind, resolve
from metrics_lake.predictions.tasks import TASKS, Task, as_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["keyed_rows", "label_rows", "labels_of", "predictions_of", "state_options"]

_EXACT_INT: Final = 2**53
_KEY_KINDS: Final = "integers, text, booleans, dates and times"


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
    keys = _key_names(key)
    roles = resolve(data, key=keys, task=chosen, **options)
    found = infer_task(roles, chosen)
    frame = _collected(roles.source, list(dict.fromkeys([*keys, *roles.columns])))
    texts = _key_texts(frame, keys, "predictions")
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
            *_slots(frame, roles.prediction, "prediction"),
            _scores(frame, roles.scores),
            _doubles(frame, roles.weight, "weight"),
            _times(frame, roles.time),
        ]
    )
    spec = {
        "key": {name: _key_kind(frame.schema[name], name) for name in keys},
        "prediction": roles.prediction,
        "prediction_kind": kind,
        "scores": list(roles.scores),
        "score_labels": list(roles.score_labels),
        "weight": roles.weight,
        "time": roles.time,
        "every": roles.every,
        "by": [list(group) for group in roles.by],
        "task": None if found is None else {"name": found.name, **_plain(asdict(found))},
    }
    table = rows.to_arrow()
    return table.append_column("segment", _segments(frame, roles)), spec


def label_rows(
    labels: Any, *, key: str | Sequence[str], truth: str | None, key_kinds: Mapping[str, str]
) -> tuple[pa.Table, dict[str, Any]]:
    """Return labels as rows, and the spec of the call.

    Args:
        labels: A table with the key columns and the truth.
        key: The key's columns, in the order in which the predictions named theirs.
        truth: The column of the truth; None: the only one that is left over, else the one called ``truth``.
        key_kinds: The key of the predictions: its columns and their types.

    Returns:
        A table with the columns ``key``, ``truth_text``, ``truth_number``.

    Raises:
        InvalidInputError: A column is missing, a key is NULL, or the key's types differ from the
            predictions'.
    """
    keys = _key_names(key)
    source = adapt(labels, argument="labels")
    known = source.schema.names()
    for name in (*keys, *(() if truth is None else (truth,))):
        if name not in known:
            argument = "truth" if name == truth else "key"
            raise InvalidInputError(
                f"{argument}={name!r} is not a column of the labels.{near(name, known)}",
                hint=f"The columns are {quoted(known)}.",
                argument=argument,
            )
    if len(keys) != len(key_kinds):
        raise InvalidInputError(
            f"key has {len(keys)} columns, the predictions' key {len(key_kinds)}: {quoted(key_kinds)}.",
            hint="Pass the same columns in the same order.",
            argument="key",
        )
    chosen = truth or _only_truth(known, keys)
    frame = _collected(source, [*keys, chosen])
    for name, (other, kind) in zip(keys, key_kinds.items(), strict=True):
        mine = _key_kind(frame.schema[name], name)
        if mine != kind:
            raise InvalidInputError(
                f"key={name!r} holds {mine} in the labels and {other!r} holds {kind} in the predictions: "
                "they can never be equal.",
                hint="Cast one side: 7 is not '7'.",
                argument="key",
                types=(kind, mine),
            )
    renamed = frame.rename(dict(zip(keys, key_kinds, strict=True))) if keys != list(key_kinds) else frame
    texts = _key_texts(renamed, list(key_kinds), "labels")
    rows = pl.DataFrame([texts.alias("key"), *_slots(frame, chosen, "truth")])
    return rows.to_arrow(), {"truth": chosen, "truth_kind": label_kind(frame.schema[chosen])}


def predictions_of(rows: pa.Table, spec: Mapping[str, Any]) -> pl.DataFrame:
    """Return stored predictions under the names and in the types that the call gave them."""
    frame = _frame(rows.drop_columns(["segment"]))
    columns = [pl.col("key").alias("$key")]
    if spec["prediction"] is not None:
        columns.append(_unslotted("prediction", spec["prediction_kind"]).alias(spec["prediction"]))
    columns += [pl.col("scores").list.get(i).alias(name) for i, name in enumerate(spec["scores"])]
    for role in ("weight", "time"):
        if spec[role] is not None:
            columns.append(pl.col(role).alias(spec[role]))
    selected = frame.select(columns)
    names = list(dict.fromkeys(name for group in spec["by"] for name in group))
    if not names:
        return selected
    segments: list[list[tuple[str, str | None]] | None] = rows.column("segment").to_pylist()
    values = [dict(segment or ()) for segment in segments]
    return selected.with_columns(
        pl.Series(name, [value.get(name) for value in values], pl.String) for name in names
    )


def labels_of(rows: pa.Table, kind: str) -> pl.DataFrame:
    """Return stored labels: ``$key``, ``$truth`` in its own type, and what orders them.

    Of equal labels of one key only the newest is there.
    """
    frame = _frame(rows).select(
        pl.col("key").alias("$key"),
        _unslotted("truth", kind).alias("$truth"),
        pl.col("timestamp"),
        pl.col("writer"),
        pl.col("seq"),
    )
    return frame.sort("timestamp", "writer", "seq").unique(
        ["$key", "$truth"], keep="last", maintain_order=True
    )


def state_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``prediction_state`` that a call's spec stands for."""
    scores, labels = spec["scores"], spec["score_labels"]
    score: Any = None
    if scores:
        score = dict(zip(labels, scores, strict=True)) if labels else scores[0]
    task = spec["task"]
    return {
        "prediction": spec["prediction"],
        "score": score,
        "weight": spec["weight"],
        "time": spec["time"],
        "every": spec["every"],
        "by": spec["by"] or None,
        "task": None if task is None else _task(task),
    }


def _task(stored: Mapping[str, Any]) -> Task:
    kind = TASKS[stored["name"]]
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in stored.items() if name in known})


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return a task's options as JSON can hold them."""
    return json.loads(json.dumps(options, default=lambda value: value.item()))  # type: ignore[no-any-return]


def _key_names(key: str | Sequence[str]) -> list[str]:
    keys = [key] if isinstance(key, str) else list(key)
    if not keys:
        raise InvalidInputError("key is empty.", hint="Pass key='…'.", argument="key")
    return keys


def _only_truth(known: Sequence[str], keys: Sequence[str]) -> str:
    free = [name for name in known if name not in keys]
    if len(free) == 1:
        return free[0]
    if "truth" in free:
        return "truth"
    raise InvalidInputError(
        f"It is not clear which column of the labels holds the truth: {quoted(free)}.",
        hint="Pass truth='…'.",
        argument="truth",
    )


def _collected(source: Source, columns: list[str]) -> pl.DataFrame:
    if source.frame is not None:
        return source.frame.select(columns).collect(engine="streaming")
    assert source.batches is not None  # noqa: S101 -- a source has one or the other
    return pl.concat(source.batches(columns))


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 -- from_arrow of a table: for the type checker
    return frame


def _key_kind(dtype: pl.DataType, name: str) -> str:
    if isinstance(dtype, pl.Categorical | pl.Enum) or dtype == pl.String:
        return "str"
    if dtype.is_integer():
        return "int"
    if dtype == pl.Boolean:
        return "bool"
    if dtype == pl.Date:
        return "date"
    if isinstance(dtype, pl.Datetime):
        return "datetime" if dtype.time_zone is None else "datetime with a time zone"
    raise InvalidInputError(
        f"key={name!r} holds {dtype}, which cannot name a row.",
        hint=f"Keys are {_KEY_KINDS}.",
        argument="key",
    )


def _key_texts(frame: pl.DataFrame, keys: Sequence[str], argument: str) -> pl.Series:
    columns = []
    for name in keys:
        column = pl.col(name)
        kind = _key_kind(frame.schema[name], name)
        if frame[name].null_count():
            raise InvalidInputError(
                f"{argument}: {frame[name].null_count():,} rows have no {name!r}.",
                hint="Drop them: a key names one prediction.",
                argument="key",
            )
        if kind == "str":
            column = column.cast(pl.String)
        elif kind == "datetime with a time zone":
            column = column.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC")).cast(pl.String)
        elif kind == "datetime":
            column = column.cast(pl.Datetime("us")).cast(pl.String)
        elif kind == "date":
            column = column.cast(pl.String)
        columns.append(column.alias(name))
    return frame.select(pl.struct(columns).struct.json_encode().alias("key"))["key"]


def _slots(frame: pl.DataFrame, name: str | None, what: str) -> list[pl.Series]:
    """Return labels or numbers as the two columns ``{what}_text`` and ``{what}_number``."""
    rows = frame.height
    text = pl.Series(f"{what}_text", [None] * rows if rows else [], pl.String)
    number = pl.Series(f"{what}_number", [None] * rows if rows else [], pl.Float64)
    if name is None:
        return [text, number]
    column = frame[name]
    kind = label_kind(column.dtype)
    if kind == "str":
        return [column.cast(pl.String).alias(f"{what}_text"), number]
    if kind == "int" and rows and column.len() - column.null_count():
        low, high = column.min(), column.max()
        if not (isinstance(low, int) and isinstance(high, int) and -_EXACT_INT <= low <= high <= _EXACT_INT):
            raise InvalidInputError(
                f"{name!r} holds integers beyond 2**53.", hint="Cast them to strings.", argument=what
            )
    return [text, column.cast(pl.Float64).alias(f"{what}_number")]


def _unslotted(what: str, kind: str) -> pl.Expr:
    number = pl.col(f"{what}_number")
    if kind == "str":
        return pl.col(f"{what}_text")
    if kind == "int":
        return number.cast(pl.Int64)
    if kind == "bool":
        return number.cast(pl.Boolean)
    return number


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
