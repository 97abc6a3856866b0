"""Predicted labels, with or without a truth: counts of (true, predicted) pairs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import quoted
from metrics_lake.predictions.grouping import BAD, aggregate
from metrics_lake.predictions.inference import label_kind
from metrics_lake.predictions.tasks import Binary, Multiclass

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles

__all__ = ["build", "label_text", "label_value", "text_of"]

_MOST_LABELS: Final = 100_000


def build(frame: pl.LazyFrame, roles: Roles, task: Binary | Multiclass) -> Long:
    """Return the state ``labels``: how often each pair of true and predicted label occurs.

    Raises:
        InvalidInputError: There are labels outside ``labels``, or more than 100,000 of them (an id?).
    """
    assert roles.prediction is not None  # noqa: S101 -- the caller looked
    prediction = label_text(roles, roles.prediction)
    raw = pl.col(roles.prediction)
    kind = label_kind(roles.dtype(roles.prediction))
    key = pl.when(raw.is_null()).then(BAD).otherwise(0).cast(pl.Int64)
    if roles.dtype(roles.prediction).is_float():
        key = pl.when(raw.is_nan()).then(BAD + 1).when(raw.is_infinite()).then(BAD + 2).otherwise(key)
    extra = {"pred": prediction}
    lacking: dict[str, pl.Expr] = {}
    if roles.truth is not None:
        extra["truth"] = label_text(roles, roles.truth)
        lacking["null"] = pl.col("truth").is_null()
        if roles.dtype(roles.truth).is_float():
            # A NaN is no class: pandas writes a missing integer so.
            own = pl.col(roles.truth)
            extra["reason"] = pl.when(own.is_nan()).then(1).when(own.is_infinite()).then(2).otherwise(0)
            reason = pl.col("reason")
            lacking = {"null": lacking["null"] & (reason == 0), "nan": reason == 1, "inf": reason == 2}
    groups = aggregate(frame, roles, key, {}, [], extra_keys=extra)
    usable = groups.usable
    labels = sorted({*usable["pred"].to_list(), *(usable["truth"].drop_nulls() if roles.truth else ())})
    if len(labels) > _MOST_LABELS:
        raise InvalidInputError(
            f"prediction={roles.prediction!r} and its truth hold {len(labels):,} different labels.",
            hint="Pass the column of predicted classes; this one looks like ids or free text.",
            argument="prediction",
        )
    kinds = {kind, label_kind(roles.dtype(roles.truth))} if roles.truth else {kind}
    kinds.discard("null")
    params = label_params(task, labels, _joint_kind(kinds))
    return groups.states(
        groups.counts(lacking or None),
        column=roles.name,
        task=task.name,
        state="labels",
        params=json.dumps(params, sort_keys=True),
        confusion=_by_pair(usable) if "nan" in lacking else usable,
    )


def _by_pair(usable: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each pair of labels, whatever the reason is why a truth is missing."""
    weights = [pl.col("sum_w").sum()] if "sum_w" in usable.columns else []
    return usable.group_by("gid", "truth", "pred").agg(pl.col("n").sum(), *weights)


def _joint_kind(kinds: set[str]) -> str:
    if kinds == {"int", "float"}:
        return "int"
    return kinds.pop() if kinds else "null"


def label_text(roles: Roles, column: str) -> pl.Expr:
    """Return labels as text: ``true``/``false``, decimal integers, strings as they are.

    Whole floats are written as integers, so that 1.0 and 1 are one class. NaN and infinity are none: NULL.
    """
    raw = pl.col(column)
    kind = label_kind(roles.dtype(column))
    if kind == "float":
        value = raw.cast(pl.Float64)
        whole = value.is_finite() & (value == value.floor()) & (value.abs() < 2**63)
        return (
            pl.when(whole)
            .then(pl.when(whole).then(value).cast(pl.Int64).cast(pl.String))
            .when(value.is_finite())
            .then(value.cast(pl.String))
        )
    if kind == "bool":
        return pl.when(raw).then(pl.lit("true")).when(~raw).then(pl.lit("false"))
    return raw.cast(pl.String)


def text_of(label: Any) -> str:
    """Return the text by which a state names a label."""
    label = label.item() if hasattr(label, "item") else label
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)


def label_value(text: str, kind: str) -> Any:
    """Return the label that a text stands for, in its own type."""
    if kind in {"bool", "null"}:  # without any label the classes of scores are whether they are positive
        return text == "true"
    if kind in {"int", "float"}:  # whole floats have the texts of integers, and the kinds may mix
        return int(text) if text.removeprefix("-").isdigit() else float(text)
    return text


def label_params(task: Binary | Multiclass, seen: list[str], kind: str) -> dict[str, Any]:
    """Return the params of a state of labels, having checked the labels that the data hold.

    Raises:
        InvalidInputError: The data hold labels that were not declared.
    """
    declared = None if task.labels is None else [text_of(label) for label in task.labels]
    _check_types(task, kind)
    if isinstance(task, Binary) and declared is None and kind == "bool":
        declared = ["false", "true"]
    if declared is not None:
        strange = [label for label in seen if label not in declared]
        if strange:
            raise InvalidInputError(
                f"The data hold labels that are not in labels: {quoted(strange)}.",
                hint=f"labels is {declared!r}; pass all classes that can occur.",
                argument="labels",
                unknown=tuple(strange),
            )
    params: dict[str, Any] = {"label_kind": kind, "seen_labels": seen}
    if declared is not None:
        params["labels"] = declared
    if isinstance(task, Binary):
        params["pos_label"] = positive(task, kind)
        if len(seen) > 2:
            raise InvalidInputError(
                f"The task is binary and the data hold {len(seen)} labels: {quoted(seen)}.",
                hint="Pass task='multiclass', or the column with two classes.",
                argument="task",
            )
        if len({*seen, params["pos_label"]}) > 2:
            raise InvalidInputError(
                f"pos_label={task.pos_label!r} is none of the labels that the data hold: {quoted(seen)}.",
                hint="Pass one of them, in their own type.",
                argument="pos_label",
            )
    return params


def _check_types(task: Binary | Multiclass, kind: str) -> None:
    """Check that declared labels are none that labels of the data's type can never be.

    Raises:
        InvalidInputError: Text was declared, and the data hold numbers or booleans.
    """
    told = {"labels": () if task.labels is None else task.labels}
    if isinstance(task, Binary) and task.pos_label is not None:
        told["pos_label"] = (task.pos_label,)
    for argument, labels in told.items():
        for label in labels:
            if kind in {"bool", "int", "float"} and isinstance(label, str) and not _is_number(label):
                raise InvalidInputError(
                    f"{argument} has {label!r}, and the data hold labels of type {kind}.",
                    hint="Pass labels of the type that the data hold.",
                    argument=argument,
                )


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def positive(task: Binary, kind: str) -> str:
    """Return the text of the positive class.

    Raises:
        InvalidInputError: The labels are strings and nothing says which is positive.
    """
    if task.pos_label is not None:
        label = task.pos_label.item() if hasattr(task.pos_label, "item") else task.pos_label
        if kind == "bool" and label in (0, 1):
            label = bool(label)  # scikit-learn's 1 for True
        return text_of(int(label) if kind in {"int", "float"} and isinstance(label, bool) else label)
    if task.labels is not None:
        return text_of(task.labels[1])
    if kind == "bool":
        return "true"
    if kind in {"int", "float", "null"}:
        return "1"
    raise InvalidInputError(
        "The labels are strings, and nothing says which class is positive.",
        hint="Pass task=Binary(pos_label='…').",
        argument="pos_label",
    )
