"""Rows of the table of numbers, and what every kind of state has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute

from metrics_lake.tags import tags_from_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metrics_lake.predictions.long import Long

__all__ = [
    "OUT",
    "Measure",
    "Values",
    "counted",
    "distribution",
    "labelled",
    "measured",
    "out",
    "with_segments",
]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_OUT_FIELDS: Final[dict[str, Any]] = {
    "gid": pa.int64(), "metric": pa.string(), "label": pa.string(), "value": pa.float64(), "n": pa.int64(),
    "low": pa.float64(), "high": pa.float64(), "bound": pa.float64(), "method": pa.string(),
    "reason": pa.string(),
}  # fmt: skip

OUT: Final = pa.schema(list(_OUT_FIELDS.items()))
"""A finalised number of one state."""


@dataclass(frozen=True, slots=True)
class Values:
    """Exact values that states carry: ``gid metric value``."""

    frame: pl.DataFrame
    SCHEMA: ClassVar[pl.Schema] = pl.Schema({"gid": pl.Int64, "metric": pl.String, "value": pl.Float64})

    def into(self, found: pl.DataFrame, metric: str) -> pl.DataFrame:
        """Return the frame with exact values, whose ``bound`` is 0, where there are some of the metric."""
        if self.frame.is_empty():
            return found
        known = self.frame.filter(pl.col("metric") == metric).select("gid", exact="value")
        joined = found.join(known, on="gid", how="left", maintain_order="left")
        return joined.with_columns(
            value=pl.coalesce("exact", "value"),
            bound=pl.when(pl.col("exact").is_not_null()).then(0.0).otherwise("bound"),
            is_exact=pl.col("exact").is_not_null(),
        ).drop("exact")

    def method(self, otherwise: pl.Expr) -> pl.Expr:
        """Return how values were found that ``into`` may have made exact."""
        if self.frame.is_empty():
            return otherwise
        return pl.when("is_exact").then(pl.lit("exact")).otherwise(otherwise)

    def replace(self, numbers: pa.Table) -> pa.Table:
        """Return rows of ``OUT`` with the exact quantiles in place of the bounded ones.

        Measures of a ranking are exact already, by ``into``: those of all classes stand beside one class's.
        """
        known = self.frame.filter(~pl.col("metric").is_in(_OF_RANKING)).rename({"value": "exact"})
        if known.is_empty():
            return numbers
        rows = pl.from_arrow(numbers)
        assert isinstance(rows, pl.DataFrame)  # noqa: S101 -- from_arrow of a table: for the type checker
        joined = rows.join(known, on=["gid", "metric"], how="left", maintain_order="left")
        is_exact = pl.col("exact").is_not_null() & pl.col("label").is_null()
        replaced = joined.with_columns(
            value=pl.when(is_exact).then("exact").otherwise("value"),
            bound=pl.when(is_exact).then(0.0).otherwise("bound"),
            method=pl.when(is_exact).then(pl.lit("exact")).otherwise("method"),
        )
        return replaced.select(OUT.names).to_arrow().cast(OUT)


_UNDEFINED: Final = "the weights sum to 0, or a sum overflows"

_OF_RANKING: Final = ("roc_auc", "average_precision")

_EXCLUDED_NAMES: Final = {
    "null": "num_null",
    "nan": "num_nan",
    "inf": "num_inf",
    "range": "num_out_of_range",
}

_TRUTH_NAMES: Final = {"truth_nan": "num_truth_nan", "truth_inf": "num_truth_inf"}

MOST_CLASSES: Final = 1000


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of each row of a frame, still to be computed.

    Attributes:
        frame: Has ``gid``.
        columns: Columns of :data:`OUT`: an expression over the frame, one of its columns, or a constant.
            Others are NULL.
    """

    frame: pl.DataFrame
    columns: Mapping[str, pl.Expr | pl.Series | str | float | None]


def out(
    frame: pl.DataFrame,
    metric: str | pl.Expr | pl.Series,
    value: str | pl.Expr | None,
    **columns: Any,
) -> Measure:
    """Return a metric of each row of a frame.

    Args:
        frame: Has ``gid``.
        metric: The name, or an expression or a column that gives it.
        value: The number: a column's name or expression; NaN becomes NULL.
        columns: ``n low high bound method reason label``: a column's name or expression, or for ``method``
            and ``reason`` a plain text. ``bound`` is 0 by default, which says that the value is exact.
    """
    given: dict[str, Any] = {"gid": "gid", "metric": metric, "value": value, "bound": 0.0, **columns}
    for name, column in given.items():
        if isinstance(column, str) and name not in _TEXTS:
            given[name] = frame.get_column(column)
    return Measure(frame, given)


_TEXTS: Final = ("metric", "method", "reason")


def measured(measures: Sequence[Measure], keep: Callable[[str], bool]) -> pa.Table:
    """Compute metrics and return their rows of :data:`OUT`, in order.

    All that is asked of one frame is computed in one selection: of a small state the steps themselves cost
    more than what they compute.

    Args:
        measures: What :func:`out` returned.
        keep: Tells by its name whether a metric is wanted.
    """
    named = [(each, each.columns["metric"]) for each in measures]
    measures = [each for each, name in named if not isinstance(name, str) or keep(name)]
    asked: dict[int, dict[str, pl.Expr]] = {}
    for number, measure in enumerate(measures):
        for name, column in measure.columns.items():
            if isinstance(column, pl.Expr):
                asked.setdefault(id(measure.frame), {})[f"{number} {name}"] = column
    frames = {id(measure.frame): measure.frame for measure in measures}
    # With the frame's own gid, so that constants are as long as the frame.
    found = {key: frames[key].select("gid", **columns).to_arrow() for key, columns in asked.items()}
    numbers = _stacked(measures, found)
    if not all(isinstance(measure.columns["metric"], str) for measure in measures):
        kept = [name for name in pc.unique(numbers.column("metric")).to_pylist() if keep(name)]
        numbers = numbers.filter(pc.is_in(numbers.column("metric"), value_set=pa.array(kept, pa.string())))
    return _without_nan(numbers)


def _stacked(measures: Sequence[Measure], found: Mapping[int, pa.Table]) -> pa.Table:
    """Return the columns of all measures, one below the other; equal constants as one run."""
    columns = []
    for name, kind in _OUT_FIELDS.items():
        pieces: list[Any] = []
        constant, length = None, 0
        for number, measure in enumerate(measures):
            column: Any = measure.columns.get(name)
            if isinstance(column, pl.Expr):
                column = found[id(measure.frame)].column(f"{number} {name}").combine_chunks()
            elif isinstance(column, pl.Series):
                column = column.to_arrow()
            is_constant = not isinstance(column, pa.Array)
            if length and not (is_constant and column == constant):
                pieces.append(_repeated(constant, length, kind))
                length = 0
            if is_constant:
                constant, length = column, length + measure.frame.height
            else:
                pieces.append(column if column.type == kind else column.cast(kind, safe=False))
        pieces.append(_repeated(constant, length, kind))
        columns.append(pa.concat_arrays(pieces))
    return pa.Table.from_arrays(columns, schema=OUT)


def _repeated(value: Any, length: int, kind: Any) -> Any:
    return pa.nulls(length, kind) if value is None else pa.repeat(pa.scalar(value, kind), length)


def _without_nan(numbers: pa.Table) -> pa.Table:
    """Return rows with NULL for NaN, bounds only where there is a value, and reasons where there is none."""
    none = pa.scalar(None, pa.float64())
    value, low, high = (
        pc.if_else(pc.is_nan(numbers.column(name)), none, numbers.column(name))
        for name in ("value", "low", "high")
    )
    is_there = pc.is_valid(value)
    changed = {
        "value": value,
        "low": low,
        "high": high,
        "bound": pc.if_else(is_there, numbers.column("bound"), none),
        "reason": pc.if_else(
            is_there, pa.scalar(None, pa.string()), pc.coalesce(numbers.column("reason"), _UNDEFINED)
        ),
    }
    return pa.Table.from_arrays([changed.get(name, numbers.column(name)) for name in OUT.names], schema=OUT)


def counted(state: Long) -> list[Measure]:
    """Return how many predictions there are and how many of them could not be used, for what reason."""
    counts = {"n": "num_predictions", **_EXCLUDED_NAMES}
    return [out(state.head, name, code, n="n") for code, name in counts.items()]


def labelled(state: Long) -> list[Measure]:
    """Return how many predictions have a truth; nothing for states without one."""
    head = state.head
    if head["truth_null"].null_count() == head.height:
        return []
    head = head.filter(pl.col("truth_null").is_not_null())
    usable = pl.col("n") - pl.sum_horizontal("null", "nan", "inf", "range")
    known = usable - pl.sum_horizontal("truth_null", "truth_nan", "truth_inf")
    return [
        out(head, "num_ground_truth_observations", known, n="n"),
        out(head, "coverage", known / usable, n=usable, reason="no prediction can be used"),
        *(
            out(head.filter(pl.col(code) > 0), name, code, n="n")
            for code, name in _TRUTH_NAMES.items()
            if head[code].sum()
        ),
    ]


def distribution(shares: pl.DataFrame) -> list[Measure]:
    """Return the class distribution, its entropy and its size, from ``gid pred n mass``.

    Of more than 1,000 classes the most frequent stand (ties in the order of their text); the shares remain
    those of all predictions.
    """
    total = pl.col("mass").sum().over("gid")
    frame = shares.filter(pl.col("n") > 0).with_columns(
        share=pl.col("mass") / total, size=pl.col("n").sum().over("gid")
    )
    top = frame.sort("gid", "pred")
    if frame.height > MOST_CLASSES:
        rank = pl.struct(-pl.col("mass"), "pred").rank("ordinal").over("gid")
        top = frame.filter(rank <= MOST_CLASSES).sort("gid", "pred")
    share = pl.col("share").filter(pl.col("share") > 0)
    entropy = frame.group_by("gid").agg(
        entropy=-(share * share.log()).sum() + 0.0,
        classes=share.len().cast(pl.Int64),
        n=pl.col("n").filter(pl.col("share") > 0).sum(),
    )
    return [
        out(top, "class_distribution", "share", label="pred", n="size"),
        out(top, "class_counts", "n", label="pred", n="size"),
        out(entropy, "entropy", "entropy", n="n", method="nats, of class_distribution"),
        out(entropy, "num_classes", "classes", n="n"),
    ]


def with_segments(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return a frame as a table of a schema whose ``segment`` is read from the frame's ``segment_key``."""
    segments = pa.array(
        [list(tags_from_key(key).items()) for key in frame["segment_key"].to_list()],
        schema.field("segment").type,
    )
    plain = frame.select(name for name in schema.names if name != "segment").to_arrow()
    arrays = [
        segments if field.name == "segment" else plain.column(field.name).cast(field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
