"""What each column is: the arguments resolved against the data's columns, before any row is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._arguments import listed
from metrics_lake.predictions._text import near, quoted
from metrics_lake.predictions.inputs import adapt, adapt_column
from metrics_lake.predictions.tasks import Binary, Task

if TYPE_CHECKING:
    from metrics_lake.predictions.source import Source

__all__ = ["RESERVED_SEGMENTS", "Roles", "every_text", "resolve"]

RESERVED_SEGMENTS: Final = ("label", "every")
"""Tags of our own on points: a segment column of that name could not be told apart."""

_PATTERN: Final = re.compile(r"\^.*\$|\*|\0.*", re.DOTALL)
"""Names that Polars takes for patterns, and those of our own columns beside the data's."""

_EVERY: Final = re.compile(r"([1-9][0-9]*(us|ms|s|m|h|d|w|mo|q|y))+")
"""Polars also takes nothing and 0 for a window, and counts nanoseconds and rows."""


@dataclass(frozen=True, slots=True)
class Roles:
    """The data and the role of each column.

    Attributes:
        source: The rows.
        prediction: The column of predicted labels or numbers.
        scores: The columns of scores: one for a binary task, one a class for several.
        score_labels: The classes of ``scores`` where they are several.
        truth: The column of true labels or numbers.
        weight: The column of weights.
        time: The column of times.
        every: The length of a window, in Polars' notation.
        by: The sets of segment columns, without the set of all rows.
    """

    source: Source
    prediction: str | None = None
    scores: tuple[str, ...] = ()
    score_labels: tuple[Any, ...] = ()
    truth: str | None = None
    weight: str | None = None
    time: str | None = None
    every: str | None = None
    by: tuple[tuple[str, ...], ...] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        """All segment columns."""
        return tuple(dict.fromkeys(name for group in self.by for name in group))

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        named = [self.prediction, *self.scores, self.truth, self.weight, self.time, *self.segments]
        return list(dict.fromkeys(name for name in named if name is not None))

    def dtype(self, column: str) -> pl.DataType:
        """Return a column's type; dictionary-encoded text is text."""
        dtype = self.source.schema[column]
        return pl.String() if isinstance(dtype, (pl.Categorical, pl.Enum)) else dtype

    @property
    def name(self) -> str:
        """The name of what is predicted, for the state's ``column``."""
        return self.prediction or (self.scores[0] if self.scores else "prediction")


def resolve(
    data: Any,
    *,
    prediction: str | None = None,
    truth: Any = None,
    score: Any = None,
    by: Any = None,
    time: Any = None,
    every: Any = None,
    weight: Any = None,
    key: Any = None,
    task: Task | None = None,
    storage_options: Mapping[str, Any] | None = None,
    open_file: Callable[[str], Any] | None = None,
) -> Roles:
    """Return the role of each column.

    Raises:
        InvalidInputError: A column is missing or has a type that its role does not allow, lengths differ,
            or it is not clear which column holds the predictions.
    """
    source = adapt(data, storage_options=storage_options, open_file=open_file)
    columns = _Columns(source)
    truth_name = columns.one(truth, "truth")
    weight_name = columns.one(weight, "weight")
    time_name = columns.one(time, "time")
    sets = _segment_sets(by)
    for name in dict.fromkeys(name for group in sets for name in group):
        columns.check(name, "by")
        if not name:
            raise InvalidInputError(
                "by: a segment column has no name.", hint="Rename the column.", argument="by"
            )
        if name in RESERVED_SEGMENTS:
            raise InvalidInputError(
                f"by: a segment column cannot be called {name!r}, which is a tag of the points.",
                hint=f"Rename the column, for example to '{name}_'.",
                argument="by",
            )
    keys = [] if key is None else listed(key)
    for name in keys:
        columns.check(name, "key")
    scores, labels = columns.scores(score)
    if source.is_matrix and score is None and prediction is None:
        scores = tuple(source.schema.names())
        labels = tuple(range(len(scores)))
    named = {*scores, *keys, *(name for group in sets for name in group)}
    named |= {name for name in (truth_name, weight_name, time_name) if name is not None}
    chosen = _prediction(prediction, columns, named, has_score=bool(scores))
    if (time_name is None) != (every is None):
        missing = "every" if every is None else "time"
        raise InvalidInputError(
            f"{missing} is missing: windows need both time= and every=.",
            hint="Pass both, as in time='scored_at', every='1d'.",
            argument=missing,
        )
    roles = Roles(
        source=columns.source,
        prediction=chosen,
        scores=scores,
        score_labels=labels,
        truth=truth_name,
        weight=weight_name,
        time=time_name,
        every=None if every is None else every_text(every),
        by=sets,
    )
    roles = _unlisted(roles)
    return _checked(_scores_for(roles, task))


class _Columns:
    """The data's columns and those that were passed as values beside them."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def check(self, name: Any, argument: str) -> str:
        if not isinstance(name, str):
            hint = f"Pass {str(name)!r}." if self._is_name(name) else "Pass a column's name as a str."
            raise InvalidInputError(
                f"{argument}={name!r} is not the name of a column.", hint=hint, argument=argument
            )
        if _PATTERN.fullmatch(name):
            raise InvalidInputError(
                f"{argument}={name!r} cannot be told from a pattern of columns' names.",
                hint="Rename the column.",
                argument=argument,
                column=name,
            )
        if name not in self.source.schema:
            known = self.source.schema.names()
            raise InvalidInputError(
                f"{argument}={name!r} is not a column of the predictions.{near(name, known)}",
                hint=f"The columns are {quoted(known)}.",
                argument=argument,
                column=name,
            )
        return name

    def _is_name(self, value: Any) -> bool:
        """Return whether a value is the label of a column, as pandas has them, before it became text."""
        return isinstance(value, (int, tuple)) and str(value) in self.source.schema

    def one(self, value: Any, argument: str) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) or self._is_name(value):
            return self.check(value, argument)
        return self._add(adapt_column(value, argument, argument), argument)

    def _add(self, column: pl.Series, argument: str) -> str:
        if self.source.frame is None or not self.source.is_local_memory:
            raise InvalidInputError(
                f"{argument} was passed as values, and the predictions are lazy or come from a reader.",
                hint=f"Put the values into the predictions as a column and pass its name as {argument}=.",
                argument=argument,
            )
        frame = self.source.frame.collect()
        if frame.height != len(column):
            raise InvalidInputError(
                f"{argument} has {len(column):,} values and the predictions have {frame.height:,} rows.",
                hint=f"Pass one value of {argument} for each prediction, in the same order.",
                argument=argument,
                lengths=(frame.height, len(column)),
            )
        name = column.name
        while name in frame.columns:
            name += "_"
        frame = frame.with_columns(column.alias(name))
        self.source = replace(self.source, frame=frame.lazy(), schema=frame.schema)
        return name

    def scores(self, score: Any) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Return the score columns and, where they are several, the classes they stand for."""
        if score is None:
            return (), ()
        if isinstance(score, str) or self._is_name(score):
            return (self.check(score, "score"),), ()
        if isinstance(score, Mapping):
            return self._different(score.values()), tuple(score)
        if isinstance(score, (list, tuple)) and score and all(isinstance(name, str) for name in score):
            names = self._different(score)
            return names, (names if len(names) > 1 else ())
        matrix = adapt(score, name="score", argument="score")
        if matrix.frame is None:
            raise InvalidInputError(
                "score was passed as a reader, which cannot be lined up with the predictions.",
                hint="Pass the name of the score's column, or an array.",
                argument="score",
            )
        frame = matrix.frame.collect()
        if frame.width == 1:
            return (self._add(frame.to_series().alias("score"), "score"),), ()
        names = tuple(self._add(column.alias(f"score_{column.name}"), "score") for column in frame)
        labels = tuple(range(frame.width)) if matrix.is_matrix else tuple(frame.columns)
        return names, labels

    def _different(self, score: Iterable[Any]) -> tuple[str, ...]:
        names = tuple(self.check(name, "score") for name in score)
        for place, name in enumerate(names):
            if name in names[:place]:
                raise InvalidInputError(
                    f"score names the column {name!r} twice.",
                    hint="Pass one column of scores for each class.",
                    argument="score",
                )
        return names


def _prediction(given: str | None, columns: _Columns, named: set[str], *, has_score: bool) -> str | None:
    if given is not None:
        return columns.check(given, "prediction")
    free = [name for name in columns.source.schema.names() if name not in named]
    if has_score:
        # Only by its name: any other column that is left over may be an id.
        return "prediction" if "prediction" in free else None
    if len(free) == 1:
        return columns.check(free[0], "prediction")
    if "prediction" in free:
        return "prediction"
    if not free:
        raise InvalidInputError(
            "The predictions have no column left for the predicted values.",
            hint="Pass prediction='…', or score='…' for a column of scores.",
            argument="prediction",
        )
    raise InvalidInputError(
        f"It is not clear which column holds the predictions: {quoted(free)}.",
        hint="Pass prediction='…', or score='…' for a column of scores.",
        argument="prediction",
        candidates=tuple(free),
    )


def _segment_sets(by: Any) -> tuple[tuple[str, ...], ...]:
    if by is None:
        return ()
    if isinstance(by, str):
        return ((by,),)
    sets = list(by) if isinstance(by, Iterable) else [by]
    if all(isinstance(item, str) for item in sets):
        return (tuple(dict.fromkeys(sets)),) if sets else ()
    if all(isinstance(item, (list, tuple)) for item in sets):
        return tuple(dict.fromkeys(tuple(dict.fromkeys(item)) for item in sets if item))
    raise InvalidInputError(
        f"by={by!r} is neither columns nor a list of lists of columns.",
        hint="Pass by='country', by=['country', 'device'] (each pair) or by=[['country'], ['device']].",
        argument="by",
    )


def every_text(every: Any) -> str:
    """Return the length of a window in Polars' notation, having checked it.

    Raises:
        InvalidInputError: It is none.
    """
    text = str(every)
    wrong = InvalidInputError(
        f"every={every!r} is not the length of a window.",
        hint="Pass a number and a unit, such as '1h', '1d', '1w' or '1mo'.",
        argument="every",
    )
    if not _EVERY.fullmatch(text):
        raise wrong
    try:
        pl.select(pl.lit(0).cast(pl.Datetime("us", "UTC")).dt.truncate(text))
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise wrong from error
    return text


def _unlisted(roles: Roles) -> Roles:
    """Return the roles with a list-typed score column taken apart into one column a class."""
    if len(roles.scores) != 1:
        return roles
    name = roles.scores[0]
    dtype = roles.source.schema[name]
    if not isinstance(dtype, pl.Array):
        if isinstance(dtype, pl.List):
            raise InvalidInputError(
                f"score={name!r} holds lists of no fixed length.",
                hint=f"Cast it to an array first: pl.col({name!r}).list.to_array(number_of_classes).",
                argument="score",
            )
        return roles
    width = dtype.size
    names = tuple(f"{name}[{i}]" for i in range(width))
    parts = [pl.col(name).arr.get(i).alias(part) for i, part in enumerate(names)]
    source = roles.source
    schema = pl.Schema({**source.schema, **dict.fromkeys(names, dtype.inner)})
    if source.frame is not None:
        source = replace(source, frame=source.frame.with_columns(parts), schema=schema)
    elif source.batches is not None:
        inner = source.batches

        def batches(columns: Sequence[str]) -> Any:
            plain = [column for column in columns if column not in names]
            for batch in inner(list(dict.fromkeys([*plain, name]))):
                yield batch.with_columns(parts).select(columns)

        source = replace(source, batches=batches, schema=schema)
    return replace(roles, source=source, scores=names, score_labels=tuple(range(width)))


def _scores_for(roles: Roles, task: Task | None) -> Roles:
    """Take a column of floats for the scores where the task is binary: labels are no fractions."""
    if isinstance(task, Binary) and not roles.scores and roles.prediction is not None:
        dtype = roles.dtype(roles.prediction)
        if dtype.is_float() or dtype.is_decimal():
            return replace(roles, prediction=None, scores=(roles.prediction,))
    return roles


def _checked(roles: Roles) -> Roles:
    for name in roles.scores:
        if not (roles.dtype(name).is_numeric() or roles.dtype(name) == pl.Null):
            raise InvalidInputError(
                f"score={name!r} holds {roles.dtype(name)}, not numbers.",
                hint="Pass the column of scores in [0, 1].",
                argument="score",
            )
    if roles.weight is not None and not roles.dtype(roles.weight).is_numeric():
        raise InvalidInputError(
            f"weight={roles.weight!r} holds {roles.dtype(roles.weight)}, not numbers.",
            hint="Pass a column of finite weights that are not negative.",
            argument="weight",
        )
    if roles.time is not None and not isinstance(roles.dtype(roles.time), (pl.Datetime, pl.Date)):
        raise InvalidInputError(
            f"time={roles.time!r} holds {roles.dtype(roles.time)}, not times.",
            hint="Pass a column of dates or datetimes; those without a time zone are taken for UTC.",
            argument="time",
        )
    for name in roles.segments:
        dtype = roles.dtype(name)
        if not (dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Date, pl.Null)):
            raise InvalidInputError(
                f"by={name!r} holds {dtype}, which has no small set of values.",
                hint="Cut the column into classes, or pass one of strings, integers, booleans or dates; "
                "whole numbers of pandas with gaps are .astype('Int64').",
                argument="by",
            )
    for column, argument in ((roles.prediction, "prediction"), (roles.truth, "truth")):
        if column is None:
            continue
        dtype = roles.dtype(column)
        if not (dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null)):
            is_vector = argument == "prediction" and isinstance(dtype, pl.Array | pl.List)
            raise InvalidInputError(
                f"{argument}={column!r} holds {dtype}, which is neither a class nor a number.",
                hint=f"Pass score={column!r} for one score a class."
                if is_vector
                else "Pass strings, booleans, integers or floats.",
                argument=argument,
            )
    return roles
