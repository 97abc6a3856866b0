"""Cells counted by direct address: where many rows share few cells, in a third of the time of hashing.

A counting sort brings the rows of each group together, and Arrow counts the codes of a group in an array.
Which values a cell holds is looked at only until it has shown two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CODES", "GROUPS", "Cells", "Counts"]

pc: Any = pyarrow.compute  # pyarrow-stubs does not know all of it

CODES: Final = 1 << 15
"""Codes are below this: whole numbers in a wider range are sorted by Arrow in order to count them."""

GROUPS: Final = 64
"""Groups are below this: each cell of each has a place in a table, of 9 bytes."""

_AT_ONCE: Final = 1 << 19  # rows that are sorted at once
_WAITING: Final = 1 << 19  # rows of a group that are counted at once: there are thousands of counts
_LEARNT: Final = 1 << 18  # rows whose values are learnt at once
_UNSEEN: Final = float("inf")
_COUNTS: Final = {"g": pl.UInt16, "code": pl.UInt32, "n": pl.Int64}
_ENDS: Final = {"place": pl.UInt32, "low": pl.Float64, "high": pl.Float64}
_LOW_HIGH: Final = (pl.col("low").min(), pl.col("high").max())


@dataclass(frozen=True, slots=True)
class Cells:
    """What is counted: the rows of each kind in each cell, and the values of a cell.

    Attributes:
        is_counted: Whether a row can be counted; of others, what follows need make no sense.
        cell: UInt32; rows in cells from ``CODES // kinds`` on are not counted.
        kind: UInt32; rows of kinds from ``kinds`` on are not counted.
        kinds: How many kinds are counted.
        value: Float64, finite.
        key: Gives the key of rows of a cell and a kind.
        group: UInt16, the group of a row, where there are groups; those from ``GROUPS`` on are not counted.
    """

    is_counted: pl.Expr
    cell: pl.Expr
    kind: pl.Expr
    kinds: int
    value: pl.Expr
    key: Callable[[pl.Expr, pl.Expr], pl.Expr]
    group: pl.Expr | None = None


class Counts:
    """The counts of rows that are added part by part."""

    def __init__(self, of: Cells) -> None:
        self._of = of
        self._size = CODES // of.kinds
        self._is_worthwhile = True
        self._waiting: dict[int, list[Any]] = {}
        self._counts: dict[int, pl.Series] = {}  # of each group, by code
        self._strange: list[tuple[Any, Any]] = []
        self._ends = [pl.DataFrame(schema=_ENDS)]
        # By place: whether the cell has yet to show two values, and one that it has shown.
        self._is_open: Any = pa.repeat(pa.scalar(1, pa.uint8()), GROUPS * self._size)
        self._values: Any = pa.repeat(_UNSEEN, GROUPS * self._size)

    def add(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add rows, and return those that were not counted: all of few, or once they were the most."""
        if not self._is_worthwhile or rows.height < _AT_ONCE:
            return rows
        left = [rows.clear()]
        for part in rows.iter_slices(_AT_ONCE):
            made = self._placed(part)
            is_counted = made["is_counted"].fill_null(value=False)
            if not is_counted.all():
                left.append(part.filter(~is_counted))
                made = made.filter(is_counted)
            self._deal(made["group"].to_arrow(), made["code"].to_arrow())
            self._look(made["place"].to_arrow(), made["value"].to_arrow())
        uncounted = pl.concat(left)
        self._is_worthwhile = 2 * uncounted.height <= rows.height
        return uncounted

    def finish(self) -> pl.DataFrame:
        """Return ``g k n low high``: the group, the key and how many rows have it.

        ``low`` and ``high`` are values of the cell, whatever the kind of row: equal if it has no two, and
        else not always the least and the greatest.
        """
        for group in list(self._waiting):
            self._count(group)
        self._learn()
        cell, kind = pl.col("code") // self._of.kinds, pl.col("code") % self._of.kinds
        counts = pl.concat([pl.DataFrame(schema=_COUNTS), *map(self._of_group, self._counts)])
        counts = counts.with_columns(
            place=pl.col("g").cast(pl.UInt32) * self._size + cell, k=self._of.key(cell, kind)
        )
        ends = pl.concat(self._ends).group_by("place").agg(_LOW_HIGH)
        return counts.join(ends, on="place", how="left").select("g", "k", "n", "low", "high")

    def _placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        of = self._of
        cell, kind, group = pl.col("cell"), pl.col("kind"), pl.col("group")
        columns = {"cell": of.cell, "kind": of.kind, "value": of.value, "is_counted": of.is_counted}
        no_group = pl.lit(0, dtype=pl.UInt16)
        placed = rows.lazy().select(**columns, group=no_group if of.group is None else of.group).select(
            "group",
            "value",
            code=(cell * of.kinds + kind).cast(pl.UInt16, wrap_numerical=True),
            place=group.cast(pl.UInt32) * self._size + cell,
            is_counted=pl.col("is_counted") & (cell < self._size) & (kind < of.kinds) & (group < GROUPS),
        )  # fmt: skip
        return placed.collect(engine="streaming")

    # -- how many -----------------------------------------------------------------------------------------

    def _deal(self, groups: Any, codes: Any) -> None:
        codes = codes.take(pc.array_sort_indices(groups))
        start = 0
        for group, rows in sorted(_counted(groups).iter_rows()):
            piece = codes.slice(start, rows)
            start += rows
            # A copy: the piece itself would keep the codes of all groups.
            self._waiting.setdefault(group, []).append(pa.concat_arrays([piece, piece.slice(0, 0)]))
            if sum(map(len, self._waiting[group])) >= _WAITING:
                self._count(group)

    def _count(self, group: int) -> None:
        found = _counted(pa.chunked_array(self._waiting.pop(group)))
        counts = pl.zeros(CODES, pl.Int64, eager=True).scatter(found["code"], found["n"])
        self._counts[group] = self._counts[group] + counts if group in self._counts else counts

    def _of_group(self, group: int) -> pl.DataFrame:
        rows = pl.DataFrame({"n": self._counts[group]}).with_row_index("code").filter(pl.col("n") > 0)
        return rows.select(pl.lit(group, pl.UInt16).alias("g"), "code", "n")

    # -- which values -------------------------------------------------------------------------------------

    def _look(self, places: Any, values: Any) -> None:
        """Keep the rows that tell something new of their cell."""
        places, values = self._news(places, values)
        while len(places):
            self._strange.append((places.slice(0, _LEARNT), values.slice(0, _LEARNT)))
            if sum(len(held) for held, _ in self._strange) < _LEARNT:
                return
            self._learn()
            places, values = self._news(places.slice(_LEARNT), values.slice(_LEARNT))

    def _news(self, places: Any, values: Any) -> tuple[Any, Any]:
        is_open = self._is_open.take(places).cast(pa.bool_())
        places, values = places.filter(is_open), values.filter(is_open)
        is_new = pc.not_equal(self._values.take(places), values)
        return places.filter(is_new), values.filter(is_new)

    def _learn(self) -> None:
        if not self._strange:
            return
        places, values = (pl.Series(pa.chunked_array(held)) for held in zip(*self._strange, strict=True))
        self._strange.clear()
        seen = pl.DataFrame({"place": places, "low": values, "high": values})
        ends = seen.group_by("place").agg(_LOW_HIGH)
        self._ends.append(ends)
        is_one = (ends["low"] == ends["high"]).cast(pl.UInt8)
        self._values = pl.Series(self._values).scatter(ends["place"], ends["low"]).to_arrow()
        self._is_open = pl.Series(self._is_open).scatter(ends["place"], is_one).to_arrow()


def _counted(codes: Any) -> pl.DataFrame:
    """Return the different ones of UInt16 ``code``, and ``n`` of each."""
    found = pc.mode(codes, n=CODES)
    return pl.DataFrame([pl.Series("code", found.field(0)), pl.Series("n", found.field(1))])
