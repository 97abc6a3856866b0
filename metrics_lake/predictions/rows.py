"""Rows of the table of numbers, and what every kind of state has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import polars as pl
import pyarrow as pa

from metrics_lake.resources import tags_from_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metrics_lake.predictions.long import Long

__all__ = ["OUT", "Values", "counted", "distribution", "labelled", "out", "outs", "with_segments"]

OUT: Final[dict[str, Any]] = {
    "gid": pl.Int64,
    "metric": pl.String,
    "label": pl.String,
    "value": pl.Float64,
    "n": pl.Int64,
    "low": pl.Float64,
    "high": pl.Float64,
    "bound": pl.Float64,
    "method": pl.String,
    "reason": pl.String,
}
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
        ).drop("exact")

    def replace(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows of ``OUT`` with the exact values in place of the bounded ones."""
        known = self.frame.rename({"value": "exact"})
        joined = rows.join(known, on=["gid", "metric"], how="left", maintain_order="left")
        is_exact = pl.col("exact").is_not_null() & pl.col("label").is_null()
        return joined.with_columns(
            value=pl.when(is_exact).then("exact").otherwise("value"),
            bound=pl.when(is_exact).then(0.0).otherwise("bound"),
            method=pl.when(is_exact).then(pl.lit("exact")).otherwise("method"),
        ).drop("exact")


_EXCLUDED_NAMES: Final = {
    "null": "num_null",
    "nan": "num_nan",
    "inf": "num_inf",
    "range": "num_out_of_range",
}

_TRUTH_NAMES: Final = {"truth_nan": "num_truth_nan", "truth_inf": "num_truth_inf"}

MOST_CLASSES: Final = 1000


def out(
    frame: pl.DataFrame | pl.LazyFrame, metric: str | pl.Expr, value: pl.Expr, **columns: Any
) -> pl.LazyFrame:
    """Return rows of :data:`OUT` from a frame with a row for each number.

    Args:
        frame: Has ``gid``.
        metric: The name, or an expression that gives it.
        value: The number; NaN becomes NULL.
        columns: ``n low high bound method reason label``: a column's name or expression, or for ``method``
            and ``reason`` a plain text. ``bound`` is 0 by default, which says that the value is exact.
    """
    number = value.cast(pl.Float64).fill_nan(None)
    given: dict[str, Any] = {"bound": _ZERO, **columns}
    made: dict[str, pl.Expr] = {
        "gid": _GID,
        "metric": pl.lit(metric) if isinstance(metric, str) else metric,
        "value": number,
    }
    for name, column in given.items():
        if name in {"method", "reason"} and isinstance(column, str):
            made[name] = pl.lit(column)
        else:
            made[name] = pl.col(column) if isinstance(column, str) else column
    made["bound"] = pl.when(number.is_not_null()).then(made["bound"])
    if "reason" in made:
        made["reason"] = pl.when(number.is_null()).then(made["reason"])
    # Lazy: the dozens of small selections are run together in the end.
    return frame.lazy().select(
        made[name].cast(dtype).alias(name) if name in made else _ABSENT[name] for name, dtype in OUT.items()
    )


def outs(frame: pl.DataFrame, values: Mapping[str, pl.Expr], **columns: Any) -> pl.LazyFrame:
    """Return what :func:`out` gives for several metrics of which everything but the value is the same.

    Args:
        frame: As for ``out``.
        values: The number of each metric.
        columns: ``n`` and ``label``: a column's name.
    """
    plain = frame.lazy().select(
        "gid",
        **{name: pl.col(column) for name, column in columns.items()},
        **{name: value.cast(pl.Float64) for name, value in values.items()},
    )
    rows = plain.unpivot(list(values), index=["gid", *columns], variable_name="metric", value_name="value")
    return out(rows, pl.col("metric"), pl.col("value"), **{name: name for name in columns})


# Made once: of a small state, making expressions takes longer than running them.
_GID: Final = pl.col("gid")
_ZERO: Final = pl.lit(0.0)
_ABSENT: Final = {name: pl.lit(None, dtype).alias(name) for name, dtype in OUT.items()}


def counted(state: Long) -> list[pl.LazyFrame]:
    """Return how many predictions there are and how many of them could not be used, for what reason."""
    excluded = {name: pl.col(code) for code, name in _EXCLUDED_NAMES.items()}
    return [outs(state.head, {"num_predictions": pl.col("n"), **excluded}, n="n")]


def labelled(state: Long) -> list[pl.LazyFrame]:
    """Return how many predictions have a truth; nothing for states without one."""
    head = state.head.filter(pl.col("truth_null").is_not_null())
    if head.is_empty():
        return []
    usable = pl.col("n") - pl.sum_horizontal("null", "nan", "inf", "range")
    known = usable - pl.sum_horizontal("truth_null", "truth_nan", "truth_inf")
    return [
        out(head, "num_ground_truth_observations", known, n="n"),
        out(head, "coverage", known / usable, n=usable, reason="no prediction can be used"),
        outs(head, {name: pl.col(code) for code, name in _TRUTH_NAMES.items()}, n="n").filter(
            pl.col("value") > 0
        ),
    ]


def distribution(shares: pl.DataFrame) -> list[pl.LazyFrame]:
    """Return the class distribution, its entropy and its size, from ``gid pred n mass``.

    Of more than 1,000 classes the most frequent stand (ties in the order of their text); the shares remain
    those of all predictions.
    """
    total = pl.col("mass").sum().over("gid")
    frame = shares.filter(pl.col("n") > 0).with_columns(
        share=pl.col("mass") / total, size=pl.col("n").sum().over("gid")
    )
    rank = pl.struct(-pl.col("mass"), "pred").rank("ordinal").over("gid")
    top = frame.filter(rank <= MOST_CLASSES).sort("gid", "pred")
    entropy = frame.filter(pl.col("share") > 0).group_by("gid").agg(
        entropy=-(pl.col("share") * pl.col("share").log()).sum() + 0.0,
        classes=pl.len().cast(pl.Int64),
        n=pl.col("n").sum(),
    )  # fmt: skip
    return [
        outs(
            top, {"class_distribution": pl.col("share"), "class_counts": pl.col("n")}, label="pred", n="size"
        ),
        out(entropy, "entropy", pl.col("entropy"), n="n", method="nats, of class_distribution"),
        out(entropy, "num_classes", pl.col("classes"), n="n"),
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
