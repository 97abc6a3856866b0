"""Late labels: stored predictions joined with their truth by key, one to one, straight into the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import near, quoted
from metrics_lake.predictions.inputs import Source, adapt
from metrics_lake.predictions.roles import label_kind
from metrics_lake.predictions.state import prediction_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

__all__ = ["LabelledState", "join_labels", "labelled_state"]


@dataclass(frozen=True, slots=True)
class LabelledState:
    """The state of predictions with the labels that are known so far.

    Attributes:
        state: The states.
        num_labels: Different keys that have a label.
        num_unmatched: Those whose key is no prediction's.
        num_relabelled: Those with more than one label, of which the newest counts.
    """

    state: pa.Table
    num_labels: int
    num_unmatched: int
    num_relabelled: int


def labelled_state(
    predictions: Any,
    labels: Any,
    *,
    key: str | Sequence[str],
    truth: str | None = None,
    newest: str | Sequence[str] = (),
    storage_options: Mapping[str, Any] | None = None,
    open_file: Callable[[str], Any] | None = None,
    **options: Any,
) -> LabelledState:
    """Return the state of all predictions, joined with the newest label of each key.

    Args:
        predictions: Rows with the key columns and whatever the state needs; keys are unique.
        labels: Rows with the key columns and the truth.
        key: The key's columns, of the same types on both sides.
        truth: The column of ``labels`` with the truth. Default: the only one that is left over.
        newest: Columns of ``labels`` that order them, such as ``["created", "writer", "seq"]``: the
            greatest counts. Without them a key may have one label only.
        storage_options: For Parquet urls.
        open_file: For Parquet urls.
        options: As of :func:`~metrics_lake.predictions.state.prediction_state`.

    Raises:
        InvalidInputError: Key types differ, keys are doubled, or no label matches a prediction.
    """
    keys = [key] if isinstance(key, str) else list(key)
    left = _lazy(adapt(predictions, storage_options=storage_options, open_file=open_file))
    right = _lazy(adapt(labels, argument="labels", storage_options=storage_options, open_file=open_file))
    order = [newest] if isinstance(newest, str) else list(newest)
    truth = _truth(right, keys, order, truth)
    _check_keys(left, right, keys)
    single, num_labels, num_relabelled = _newest(right.frame, keys, truth, order)
    matched = _matched(left.frame, single, keys)
    if num_labels and not matched:
        raise InvalidInputError(
            f"None of the {num_labels:,} labels has the key of a prediction.",
            hint=f"Compare {quoted(keys)} of both sides: {_examples(left.frame, right.frame, keys)}.",
            argument="key",
        )
    name = truth
    while name in left.schema:
        name += "_"
    joined = join_labels(left.frame, single.rename({truth: name}), keys)
    state = prediction_state(joined, truth=name, key=keys, **options)
    return LabelledState(state, num_labels, num_labels - matched, num_relabelled)


def join_labels(predictions: pl.LazyFrame, labels: pl.LazyFrame, key: Sequence[str]) -> pl.LazyFrame:
    """Return the predictions with their labels, lazily; NULL where there is none. Keys must be unique."""
    return predictions.join(labels, on=list(key), how="left")


@dataclass(frozen=True, slots=True)
class _Side:
    frame: pl.LazyFrame
    schema: pl.Schema


def _lazy(source: Source) -> _Side:
    if source.frame is not None:
        return _Side(source.frame, source.schema)
    assert source.batches is not None  # noqa: S101 -- a source has one or the other
    # A join needs to see its sides more than once.
    frame = pl.concat(source.batches(source.schema.names()))
    return _Side(frame.lazy(), frame.schema)


def _truth(side: _Side, keys: Sequence[str], order: Sequence[str], truth: str | None) -> str:
    known = side.schema.names()
    for name, argument in (*((k, "key") for k in keys), *((o, "newest") for o in order), (truth, "truth")):
        if name is not None and name not in side.schema:
            raise InvalidInputError(
                f"{argument}={name!r} is not a column of the labels.{near(name, known)}",
                hint=f"The columns are {quoted(known)}.",
                argument=argument,
                column=name,
            )
    if truth is not None:
        return truth
    free = [name for name in known if name not in {*keys, *order}]
    if len(free) == 1:
        return free[0]
    if "truth" in free:
        return "truth"
    raise InvalidInputError(
        f"It is not clear which column of the labels holds the truth: {quoted(free)}.",
        hint="Pass truth='…'.",
        argument="truth",
    )


def _check_keys(left: _Side, right: _Side, keys: Sequence[str]) -> None:
    if not keys:
        raise InvalidInputError("key is empty.", hint="Pass key='…'.", argument="key")
    for name in keys:
        if name not in left.schema:
            raise InvalidInputError(
                f"key={name!r} is not a column of the predictions.{near(name, left.schema.names())}",
                hint=f"The columns are {quoted(left.schema.names())}.",
                argument="key",
                column=name,
            )
        kinds = [_key_kind(side.schema[name]) for side in (left, right)]
        if kinds[0] != kinds[1] and "null" not in kinds:
            raise InvalidInputError(
                f"key={name!r} holds {left.schema[name]} in the predictions and {right.schema[name]} in the "
                "labels: they can never be equal.",
                hint="Cast one side: 7 is not '7'.",
                argument="key",
                types=(str(left.schema[name]), str(right.schema[name])),
            )


def _key_kind(dtype: pl.DataType) -> str:
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return "str"
    if dtype == pl.String or dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return label_kind(dtype)
    return str(dtype)


def _newest(
    labels: pl.LazyFrame, keys: Sequence[str], truth: str, order: Sequence[str]
) -> tuple[pl.LazyFrame, int, int]:
    """Return one label a key, how many keys there are, and how many had several labels."""
    known = labels.filter(pl.all_horizontal(pl.col(keys).is_not_null()))
    value = pl.col(truth).sort_by(order).last() if order else pl.col(truth).last()
    single = (
        known.group_by(keys).agg(value, pl.len().cast(pl.Int64).alias("_labels")).collect(engine="streaming")
    )
    several = single.filter(pl.col("_labels") > 1)
    if several.height and not order:
        raise InvalidInputError(
            f"labels: {several.height:,} keys have several labels, for example "
            f"{several.select(keys).row(0, named=True)}.",
            hint="Pass one label for each key, or newest= with the columns that order them.",
            argument="key",
            count=several.height,
        )
    return single.drop("_labels").lazy(), single.height, several.height


def _matched(predictions: pl.LazyFrame, labels: pl.LazyFrame, keys: Sequence[str]) -> int:
    """Return how many labels have a prediction, having checked that no two predictions share a key."""
    found = predictions.select(keys).join(labels.select(keys), on=keys, how="semi")
    counts = predictions.select(keys).group_by(keys).len().filter(pl.col("len") > 1).head(1)
    doubled = counts.collect(engine="streaming")
    if doubled.height:
        raise InvalidInputError(
            "predictions: a key occurs more than once, for example "
            f"{doubled.select(keys).row(0, named=True)}.",
            hint="A key names one prediction: add columns to key= until it does, or drop the doubles.",
            argument="key",
        )
    return int(found.select(pl.len()).collect(engine="streaming").item())


def _examples(left: pl.LazyFrame, right: pl.LazyFrame, keys: Sequence[str]) -> str:
    told = [side.select(keys).head(1).collect().rows(named=True) for side in (left, right)]
    return " and ".join(str(rows[0]) if rows else "none" for rows in told)
