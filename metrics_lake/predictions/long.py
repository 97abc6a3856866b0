"""States in long form: one frame for the rows and one for each list column, joined by ``gid``.

Building, merging, rolling up and finalising all work on it; the nested Arrow table is for storage only.
Merging is a ``group_by`` with sums everywhere, but for two things: a cell is a *tie* only where every part
that has it saw the same single value, and means and squared deviations merge by Chan's formula.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from metrics_lake.errors import InvalidInputError, UnsupportedFormatError
from metrics_lake.predictions._text import near, quoted
from metrics_lake.predictions.cells import coarsen
from metrics_lake.predictions.long_tables import EXCLUDED, HEAD, NO_ROWS, SCHEMAS, shaped
from metrics_lake.predictions.nested import from_lists, to_lists
from metrics_lake.predictions.params import merge_params
from metrics_lake.predictions.runs import (
    mass,
    merged_cells,
    merged_ties,
    order,
    place,
    summed,
    weight_sum,
    with_ties,
)
from metrics_lake.predictions.schema import LISTS, STATE_SCHEMA, STATE_VERSION
from metrics_lake.tags import tags_from_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["GROUP", "Long"]

_KEYS: Final = {
    "cells": ["cell", "y"],
    "calib": ["bin", "yhat", "y"],
    "ties": ["cell"],
    "moments": ["of"],
    "confusion": ["truth", "pred"],
}

_ORDERS: Final[dict[str, list[pl.Expr]]] = {
    **{name: [pl.col(key) for key in ("gid", *keys)] for name, keys in _KEYS.items()},
    "cells": [order()],
    "ties": [place()],
}

GROUP: Final = ("resource", "column", "state", "segment_key", "window_start", "window_end")
"""What two rows must share to be merged."""


@dataclass(frozen=True, slots=True)
class Long:
    """States in long form; ``head`` has a row for each ``gid``."""

    head: pl.DataFrame
    cells: pl.DataFrame
    calib: pl.DataFrame
    ties: pl.DataFrame
    moments: pl.DataFrame
    confusion: pl.DataFrame

    @classmethod
    def build(
        cls, head: pl.DataFrame, given: Mapping[str, pl.Expr] | None = None, /, **tables: pl.DataFrame
    ) -> Long:
        """Return states from frames that may lack columns; a table that is not named is empty.

        Args:
            head: The columns of :data:`HEAD`, or some of them.
            given: Columns of :data:`HEAD` to take instead of the frame's.
            tables: The long tables.
        """
        made = {name: shaped(tables[name], SCHEMAS[name]) for name in tables}
        return cls(head=shaped(head, HEAD, given), **{**NO_ROWS, **made})

    @classmethod
    def concat(cls, states: Iterable[Long]) -> Long:
        """Return all states side by side, with new ``gid`` in the same order."""
        states = list(states)
        if len(states) == 1:
            return states[0]
        offset, moved = 0, []
        for state in states:
            if state.head.height:
                moved.append(state._moved(offset))
                offset += 1 + int(state.head.select(pl.col("gid").max()).item())
        if len(moved) < 2:
            return moved[0] if moved else cls.build(pl.DataFrame(schema=HEAD))
        return cls(*(pl.concat([getattr(state, name) for state in moved]) for name in ("head", *LISTS)))

    def _moved(self, offset: int) -> Long:
        """Return the states with ``offset`` added to their ids."""
        if not offset:
            return self
        tables: dict[str, pl.DataFrame] = {name: getattr(self, name) for name in ("head", *LISTS)}
        moved = pl.col("gid") + offset
        return Long(
            **{name: table.with_columns(moved) if len(table) else table for name, table in tables.items()}
        )

    def filter(self, predicate: pl.Expr) -> Long:
        """Return the states whose ``head`` fulfils the predicate."""
        head = self.head.filter(predicate)
        if head.height == self.head.height:
            return self
        kept = head.select("gid")
        tables: dict[str, pl.DataFrame] = {name: getattr(self, name) for name in LISTS}
        chosen = {
            name: table.join(kept, on="gid", how="semi") for name, table in tables.items() if len(table)
        }
        return replace(self, head=head, **chosen)

    def without_cells(self) -> Long:
        """Return the states without cells, for what needs none."""
        return replace(self, cells=NO_ROWS["cells"], ties=NO_ROWS["ties"])

    def with_head(self, *columns: pl.Expr) -> Long:
        """Return the states with columns of ``head`` replaced."""
        return replace(self, head=shaped(self.head.with_columns(*columns), HEAD))

    def with_params(self, change: Callable[[dict[str, Any], bool], dict[str, Any]]) -> Long:
        """Return the states with ``change(params, is_window)`` for params: a few different ones, mostly."""
        texts = self.head["params"].to_list()
        rows = list(zip(texts, self.head["window_start"].is_not_null().to_list(), strict=True))
        changed = {
            (text, is_window): json.dumps(change(json.loads(text), is_window), sort_keys=True)
            for text, is_window in set(rows)
        }
        params = [changed[row] for row in rows]
        if params == texts:
            return self
        return replace(self, head=self.head.with_columns(pl.Series("params", params, dtype=pl.String)))

    # -- merging ------------------------------------------------------------------------------------------

    def merged(self, fold: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]] | None = None) -> Long:
        """Return one state for each distinct :data:`GROUP`.

        Args:
            fold: Merges the params of the rows of a group; default :func:`merge_params`.

        Raises:
            InvalidInputError: Two states describe different things (other labels, thresholds, tasks) or
                contain the same part.
        """
        if self.head.height < 2:
            return self
        fold = merge_params if fold is None else fold
        groups = self.head.select(GROUP).unique(maintain_order=True).sort(GROUP, nulls_last=False)
        groups = groups.with_row_index("to").cast({"to": pl.Int64})
        head = self.head.join(groups, on=list(GROUP), how="left", nulls_equal=True)
        if groups.height == head.height:
            return self
        # Bits by which a state is finer than its group.
        head = head.with_columns(drop=(pl.col("res") - pl.col("res").min().over("to")).fill_null(0))
        to, drop = _by_gid(head, "to"), _by_gid(head, "drop") if (head["drop"] > 0).any() else None
        new_head = head.group_by("to", maintain_order=True).agg(
            pl.col(GROUP).first(),
            # A part of whole numbers only is "unknown" where another part has shown fractions.
            pl.col("task").filter(pl.col("task") != "unknown").unique().alias("tasks"),
            pl.col("res").min(),
            pl.when(pl.len() == 1).then(pl.col("part_id").first()).alias("part_id"),
            pl.col("n").sum(),
            weight_sum(pl.col("n") - pl.sum_horizontal(EXCLUDED[:4])),
            pl.col(EXCLUDED[:4]).sum(),
            *_truth_counts(),
            pl.struct("params", "part_id").alias("sources"),
            pl.col("created").max(),
            pl.when(pl.col("writer").n_unique() == 1).then(pl.col("writer").first()).alias("writer"),
        )
        params, tasks = [], []
        for row in new_head.select("column", "tasks", "sources").iter_rows(named=True):
            if len(row["tasks"]) > 1:
                raise InvalidInputError(
                    f"States of column {row['column']!r} have different tasks: {quoted(row['tasks'])}.",
                    hint="Merge states of one task, or pass the same task= for every part.",
                )
            tasks.append(row["tasks"][0] if row["tasks"] else "unknown")
            params.append(json.dumps(fold(_loaded(row["sources"])), sort_keys=True))
        new_head = new_head.with_columns(
            pl.Series("task", tasks, dtype=pl.String), pl.Series("params", params, dtype=pl.String)
        ).rename({"to": "gid"})
        return Long.build(
            new_head,
            cells=merged_cells(_renumbered(self.cells, to, drop)),
            calib=_summed(_renumbered(self.calib, to), "calib"),
            ties=merged_ties(_renumbered(self.ties, to, drop)),
            moments=_chan(_renumbered(self.moments, to)),
            confusion=_summed(_renumbered(self.confusion, to), "confusion"),
        )

    # -- Arrow --------------------------------------------------------------------------------------------

    def to_arrow(self) -> pa.Table:
        """Return the states as a table of :data:`STATE_SCHEMA`, sorted by :data:`GROUP`."""
        head = self.head
        if head.height > 1:
            head = head.sort("resource", "column", "state", "segment_key", "window_start", "part_id")
        plain = head.to_arrow()
        columns: dict[str, Any] = {
            "segment": [list(tags_from_key(key).items()) for key in head["segment_key"].to_list()],
            "version": pa.repeat(pa.scalar(STATE_VERSION), head.height),
        }
        arrays: list[Any] = []
        for field in STATE_SCHEMA:
            if field.name in LISTS:
                rows: pl.DataFrame = getattr(self, field.name)
                if field.name == "ties" and len(rows):
                    rows = rows.drop_nulls("value")
                arrays.append(to_lists(rows, head["gid"], _ORDERS[field.name], field.type))
            elif field.name == "excluded":
                counts = [plain.column(name).combine_chunks() for name in EXCLUDED]
                arrays.append(pa.StructArray.from_arrays(counts, fields=list(field.type.fields)))
            elif field.name in columns:
                arrays.append(pa.array(columns[field.name], field.type))
            else:
                arrays.append(plain.column(field.name).cast(field.type))
        return pa.Table.from_arrays(arrays, schema=STATE_SCHEMA)

    @classmethod
    def of(cls, state: Any) -> Long:
        """Return states in long form, whichever form they have.

        Raises:
            MetricsLakeError: As for :meth:`from_arrow`.
        """
        if isinstance(state, Long):
            return state
        if not isinstance(state, pa.Table):
            if not hasattr(state, "__arrow_c_stream__"):
                raise InvalidInputError(
                    f"A {type(state).__qualname__} is no prediction state.",
                    hint="Pass what prediction_state() or merge_states() returned.",
                    argument="state",
                )
            state = pa.table(state)
        return cls.from_arrow(state)

    @classmethod
    def from_arrow(cls, *tables: pa.Table) -> Long:
        """Return the states of tables that have the columns of :data:`STATE_SCHEMA`; others are ignored.

        Raises:
            InvalidInputError: A table lacks a column.
            UnsupportedFormatError: A state was written by a newer version.
        """
        return cls.concat(cls._from_one(table) for table in tables)

    @classmethod
    def _from_one(cls, table: pa.Table) -> Long:
        missing = [
            name for name in STATE_SCHEMA.names if name not in table.column_names and name != "segment"
        ]
        if missing:
            raise InvalidInputError(
                f"The table is no prediction state: it lacks the column {missing[0]!r}."
                f"{near(missing[0], table.column_names)}",
                hint="Pass what prediction_state() or merge_states() returned.",
                argument="state",
            )
        plain = [name for name in STATE_SCHEMA.names if name not in ("segment", *LISTS)]
        head = pl.from_arrow(table.select(plain))
        assert isinstance(head, pl.DataFrame)  # noqa: S101 -- from_arrow of a table: for the type checker
        newest = head["version"].max()
        if isinstance(newest, int) and newest > STATE_VERSION:
            raise UnsupportedFormatError(
                f"A prediction state has version {newest}; this package reads up to {STATE_VERSION}.",
                hint="Upgrade metrics-lake.",
            )
        parts = {name: from_lists(table.column(name), SCHEMAS[name]) for name in LISTS}
        if not parts["cells"].is_empty():
            cells = summed(shaped(parts["cells"], SCHEMAS["cells"]), by_truth=False)
            parts["ties"] = with_ties(cells, shaped(parts["ties"], SCHEMAS["ties"]))
        return cls.build(head.with_row_index("gid").unnest("excluded"), **parts)


def _truth_counts() -> list[pl.Expr]:
    """Return the sums of the rows without a usable truth: NULL where no part has a truth at all."""
    usable = pl.col("n") - pl.sum_horizontal(EXCLUDED[:4])
    has_truth = pl.col("truth_null").is_not_null()
    filled = [
        pl.coalesce(name, usable if name == "truth_null" else pl.lit(0, dtype=pl.Int64)).sum()
        for name in EXCLUDED[4:]
    ]
    return [
        pl.when(has_truth.any()).then(total).alias(name)
        for name, total in zip(EXCLUDED[4:], filled, strict=True)
    ]


def _loaded(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"params": json.loads(source["params"]), "part_id": source["part_id"]} for source in sources]


def _by_gid(head: pl.DataFrame, column: str) -> pl.Series:
    """Return a column of ``head`` as a series in which a ``gid`` is the place of its value."""
    gid = head["gid"]
    size = int(head.select(pl.col("gid").max()).item()) + 1
    return pl.zeros(size, pl.Int64, eager=True).scatter(gid, head[column])


def _renumbered(frame: pl.DataFrame, to: pl.Series, drop: pl.Series | None = None) -> pl.DataFrame:
    """Return the frame with other ``gid``, and on request with coarser cells.

    Args:
        frame: Has ``gid``.
        to: By ``gid``, the new one.
        drop: By ``gid``, how many bits finer the ``cell`` is than wanted.
    """
    if frame.is_empty():
        return frame
    columns = {"gid": to.gather(frame["gid"])}
    if drop is not None:
        bits = drop.gather(frame["gid"])
        columns["cell"] = frame.select(coarsen(pl.col("cell"), pl.lit(bits))).to_series()
    return frame.with_columns(**columns)


def _summed(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    sums = [column for column in SCHEMAS[name] if column.startswith("sum_") and column != "sum_w"]
    return frame.group_by("gid", *_KEYS[name], maintain_order=True).agg(
        pl.col("n").sum(), weight_sum(pl.col("n")), pl.col(sums).sum()
    )


def _chan(frame: pl.DataFrame) -> pl.DataFrame:
    """Merge (n, mean, M2) by Chan, Golub and LeVeque (1979); sums and ranges as they are."""
    weight = mass()
    of = ["gid", "of"]
    mean = pl.col("mean")
    # From differences to one of the means: a plain weighted mean loses digits where the means are large.
    pivot = mean.drop_nulls().first().over(of)
    total = weight.filter(mean.is_not_null()).sum().over(of)
    frame = frame.with_columns(common=pivot + (weight * (mean - pivot)).sum().over(of) / total)
    deviation = pl.col("mean") - pl.col("common")
    present = pl.col("mean").is_not_null().any()
    summed = pl.col("sum").is_not_null().any()
    return frame.group_by(of, maintain_order=True).agg(
        pl.col("n").sum(),
        weight_sum(pl.col("n")),
        pl.when(summed).then(pl.col("sum").sum()).alias("sum"),
        pl.when(present).then(pl.col("common").first()).alias("mean"),
        pl.when(present).then((pl.col("m2") + weight * deviation * deviation).sum()).alias("m2"),
        pl.col("low").min(),
        pl.col("high").max(),
    )
