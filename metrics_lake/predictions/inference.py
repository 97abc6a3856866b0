"""Which task data are of: from the types of the columns and, for numbers, from their values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from metrics_lake.errors import InvalidInputError, TaskAmbiguousError
from metrics_lake.predictions.tasks import Binary, Multiclass, Regression, Task

if TYPE_CHECKING:
    from metrics_lake.predictions.roles import Roles

__all__ = ["infer_task", "label_kind"]


def label_kind(dtype: pl.DataType) -> str:
    """Return what labels of a type are: ``bool int float str``, or ``null`` where there are none."""
    if dtype == pl.Boolean:
        return "bool"
    if dtype.is_integer():
        return "int"
    if dtype.is_float() or dtype.is_decimal():
        return "float"
    return "null" if dtype == pl.Null else "str"


def infer_task(roles: Roles, task: Task | None) -> Task | None:
    """Return the task, or None where the data are numbers and nothing says more.

    Raises:
        TaskAmbiguousError: The numbers could be classes, and with a truth that changes the result.
        InvalidInputError: The types of predictions and truth do not go together.
    """
    if task is None:
        task = _inferred(roles)
    if task is None:
        return None
    if isinstance(task, Regression):
        if roles.scores:
            raise InvalidInputError(
                "score= was given with task='regression'.",
                hint="Pass the predicted numbers as prediction=, or leave out task=.",
                argument="score",
            )
        for name, argument in ((roles.prediction, "prediction"), (roles.truth, "truth")):
            if name is not None and label_kind(roles.dtype(name)) in {"str", "bool"}:
                raise InvalidInputError(
                    f"{argument}={name!r} holds {roles.dtype(name)}, and a regression needs numbers.",
                    hint="Cast the column to numbers, or leave out task=.",
                    argument=argument,
                )
        return task
    if isinstance(task, Binary) and len(roles.scores) > 1:
        raise InvalidInputError(
            f"there are {len(roles.scores)} columns of scores and the task is binary.",
            hint="Pass the positive class's scores alone, as in predictions[:, 1], or task='multiclass'.",
            argument="score",
        )
    if isinstance(task, Multiclass) and len(roles.scores) == 1:
        raise InvalidInputError(
            f"score={roles.scores[0]!r} is one column and the task is multiclass.",
            hint="Pass one score column for each class: score=['p_cat', 'p_dog', 'p_bird'].",
            argument="score",
        )
    _check_kinds(roles)
    return _of_scored_class(task, roles) if isinstance(task, Binary) and roles.score_labels else task


def _of_scored_class(task: Binary, roles: Roles) -> Binary:
    """Return the task whose positive class is the one that the scores are of: ``score={class: column}``."""
    (label,) = roles.score_labels
    said = task.pos_label if task.labels is None or task.pos_label is not None else task.labels[1]
    if said is not None and said != label:
        raise InvalidInputError(
            f"score= holds the scores of {label!r} and the task's positive class is {said!r}.",
            hint=f"Pass score={roles.scores[0]!r} where they are its scores, or the other class in the task.",
            argument="score",
        )
    return replace(task, pos_label=label)


def _check_kinds(roles: Roles) -> None:
    if roles.prediction is None or roles.truth is None:
        return
    kinds = [label_kind(roles.dtype(name)) for name in (roles.prediction, roles.truth)]
    # Labels written as 1.0 and as 1 are the same class; 7 and "7" are not.
    plain = {"int" if kind == "float" else kind for kind in kinds if kind != "null"}
    if len(plain) > 1:
        raise InvalidInputError(
            f"prediction={roles.prediction!r} holds {roles.dtype(roles.prediction)} and "
            f"truth={roles.truth!r} holds {roles.dtype(roles.truth)}: their labels can never be equal.",
            hint="Cast one of them, so that both have the same type.",
            argument="truth",
        )


def _inferred(roles: Roles) -> Task | None:
    if len(roles.scores) > 1:
        return Multiclass()
    if roles.scores:
        return Binary()
    assert roles.prediction is not None  # noqa: S101 -- resolve() found one where there are no scores
    kind = label_kind(roles.dtype(roles.prediction))
    truth = None if roles.truth is None else label_kind(roles.dtype(roles.truth))
    if kind == "bool" or (kind == "null" and truth == "bool"):
        return Binary()
    if kind == "str" or (kind == "null" and truth == "str"):
        return Multiclass()
    source = roles.source
    if truth is None:
        return None
    if truth in {"str", "bool"}:
        raise InvalidInputError(
            f"prediction={roles.prediction!r} holds numbers and truth={roles.truth!r} holds "
            f"{roles.dtype(str(roles.truth))}.",
            hint=f"Pass score={roles.prediction!r} where they are scores in [0, 1], or cast one of them.",
            argument="prediction",
        )
    if _has_fractions(roles):
        return Regression()
    if source.frame is not None and source.frame.head(1).collect().is_empty():
        return None  # no rows are of any task
    raise TaskAmbiguousError(
        f"prediction={roles.prediction!r} and truth={roles.truth!r} are whole numbers, which could be "
        "classes or quantities.",
        hint="Pass task='regression', task='binary' or task='multiclass'.",
        choices=("regression", "binary", "multiclass"),
    )


def _has_fractions(roles: Roles) -> bool:
    """Return whether a float column holds a fraction; the first rows nearly always tell."""
    names = [
        name
        for name in (roles.prediction, roles.truth)
        if name is not None and label_kind(roles.dtype(name)) == "float"
    ]
    source = roles.source
    if not names:
        return False
    if source.frame is None:
        raise TaskAmbiguousError(
            "The predictions come from a reader, which is read only once: numbers could be classes or "
            "quantities.",
            hint="Pass task='regression', task='binary' or task='multiclass'.",
            choices=("regression", "binary", "multiclass"),
        )
    numbers = [pl.col(name).cast(pl.Float64) for name in names]
    test = pl.any_horizontal((x.is_finite() & (x != x.floor())).any() for x in numbers)
    if source.frame.head(10_000).select(test).collect().item():
        return True
    return bool(source.frame.select(test).collect(engine="streaming").item())
