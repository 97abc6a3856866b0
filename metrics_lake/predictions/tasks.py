"""What the predictions are: the task, given or inferred from the data's types and content only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set, Sized
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import near

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TASKS", "Binary", "Multiclass", "Regression", "Task", "as_task"]

OutOfRange = Literal["raise", "exclude"]


@dataclass(frozen=True, slots=True)
class Task:
    """The root of the task classes: options that hold for one task only live in its object."""

    name: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class Binary(Task):
    """Two classes, one of them positive.

    Args:
        pos_label: The positive class, in the truth's own type. Default: ``True`` for booleans, 1 for the
            integers 0 and 1, the last of ``labels``; strings have no default.
        threshold: A score at or above it predicts the positive class. Of several, the first names the bare
            metrics, and each has metrics of its own such as ``f1@0.3``.
        labels: Both classes, negative first. Other labels are refused.
        out_of_range: Scores outside [0, 1] are an error (``"raise"``), or are left out and counted
            (``"exclude"``). They are never clipped, and no sigmoid is ever applied.

    Raises:
        InvalidInputError: An option is out of its range.
    """

    pos_label: Any = None
    threshold: float | Sequence[float] = 0.5
    labels: Sequence[Any] | None = None
    out_of_range: OutOfRange = "raise"
    name: ClassVar[str] = "binary"

    def __post_init__(self) -> None:
        given: Any = self.threshold
        for value in given if isinstance(given, Iterable) and not isinstance(given, str) else (given,):
            if not (_is_number(value) and 0 <= value <= 1):
                raise InvalidInputError(
                    f"threshold={value!r} is not a number in [0, 1].",
                    hint="Pass threshold=0.5, or a list such as [0.3, 0.5].",
                    argument="threshold",
                )
        if not self.thresholds:
            raise InvalidInputError(
                "threshold is empty.", hint="Pass one threshold or more.", argument="threshold"
            )
        _check_labels(self.labels)
        if self.labels is not None and len(self.labels) != 2:
            raise InvalidInputError(
                f"labels has {len(self.labels)} classes and Binary has two.",
                hint="Pass labels=[negative, positive], or task=Multiclass(labels=…).",
                argument="labels",
            )
        if self.labels is not None and self.pos_label is not None and self.pos_label not in self.labels:
            raise InvalidInputError(
                f"pos_label={self.pos_label!r} is not one of labels={list(self.labels)!r}.",
                hint="Pass one of them.",
                argument="pos_label",
            )
        _check_out_of_range(self.out_of_range)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds in the order given, the one of the bare metrics first."""
        given = self.threshold
        return tuple(map(float, given)) if isinstance(given, Iterable) else (float(given),)


@dataclass(frozen=True, slots=True)
class Multiclass(Task):
    """One of several classes for each row.

    Args:
        labels: The classes. With scores: in the order of the score columns. Other labels are refused.
            Default: the score columns' names, or whatever labels the data hold.
        out_of_range: As for :class:`Binary`.
    """

    labels: Sequence[Any] | None = None
    out_of_range: OutOfRange = "raise"
    name: ClassVar[str] = "multiclass"

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        _check_out_of_range(self.out_of_range)


@dataclass(frozen=True, slots=True)
class Regression(Task):
    """A real number for each row."""

    name: ClassVar[str] = "regression"


TASKS: Final[dict[str, type[Task]]] = {kind.name: kind for kind in (Binary, Multiclass, Regression)}
"""The task classes by name; a family of metrics adds its own."""


def as_task(task: Task | str | None) -> Task | None:
    """Return the task object that a name stands for.

    Raises:
        InvalidInputError: There is no task of that name.
    """
    if task is None or isinstance(task, Task):
        return task
    if isinstance(task, str) and task in TASKS:  # type: ignore[redundant-expr]  # a caller's value
        return TASKS[task]()
    raise InvalidInputError(
        f"task={task!r} is not known.{near(str(task), TASKS)}",
        hint=f"Pass one of {', '.join(map(repr, TASKS))}, or a task object such as Binary(pos_label='yes').",
        argument="task",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_labels(labels: Sequence[Any] | None) -> None:
    if labels is None:
        return
    is_list = isinstance(labels, Sized) and isinstance(labels, Iterable)  # type: ignore[redundant-expr]  # a caller's value
    if not is_list or isinstance(labels, (str, Mapping, Set)) or len(set(map(repr, labels))) != len(labels):
        raise InvalidInputError(
            f"labels={labels!r} is not a list of different classes.",
            hint="Pass each class once, as in labels=['cat', 'dog'].",
            argument="labels",
        )
    if len({type(label) for label in labels}) > 1:
        raise InvalidInputError(
            f"labels={list(labels)!r} mixes types.",
            hint="Pass labels of the type that the data hold.",
            argument="labels",
        )


def _check_out_of_range(value: str) -> None:
    if value not in {"raise", "exclude"}:
        raise InvalidInputError(
            f"out_of_range={value!r} is not known.",
            hint="Pass 'raise' or 'exclude'.",
            argument="out_of_range",
        )
