"""The groups behind every state: an integer key, the segments and the window, and what is counted of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.points.arguments import EARLIEST_MICROS, LATEST_MICROS
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.passes import BAD, Pass, grouped, packed, selected
from metrics_lake.tags import canonical_tags, tags_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metrics_lake.predictions.batches import Parts
    from metrics_lake.predictions.roles import Roles

__all__ = [
    "BAD",
    "COUNT",
    "Groups",
    "aggregate",
    "aggregate_all",
    "group_columns",
    "number",
    "segment_key",
    "weighted",
]

_YEAR_MICROS: Final = 31_556_952_000_000

COUNT: Final = pl.len().cast(pl.Int64).alias("n")
"""Rows of a group; ``pl.len()`` alone is UInt32, and its sums wrap silently."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of one pass.

    Attributes:
        rows: One row for each key in each segment and window: ``gid``, ``k`` (Int64) and the aggregates.
        keys: One row for each segment and window: ``gid``, ``by_0`` … and, where there are some, ``window``.
        roles: What was aggregated.
    """

    rows: pl.DataFrame
    keys: pl.DataFrame
    roles: Roles

    @property
    def usable(self) -> pl.DataFrame:
        """The rows whose key is a usable one."""
        greatest = self.rows["k"].max()
        is_all = greatest is None or (isinstance(greatest, int) and greatest < BAD)
        return self.rows if is_all else self.rows.filter(pl.col("k") < BAD)

    def counts(self, truth: Mapping[str, pl.Expr] | None = None) -> pl.DataFrame:
        """Return for each ``gid`` the rows, the weights of the usable ones and the excluded ones.

        Args:
            truth: Where there is a truth: which usable rows lack one, by ``null``, ``nan`` and ``inf``.
        """
        key = pl.col("k")
        rows = self.rows
        sums = [pl.col("n").sum()]
        if "sum_w" in rows.columns:
            sums.append(pl.col("sum_w").filter(key < BAD).sum())
        for code, name in enumerate(("null", "nan", "inf", "range")):
            sums.append(pl.col("n").filter(key == BAD + code).sum().alias(name))
        if truth is not None:
            for name in ("null", "nan", "inf"):
                count = pl.lit(0, dtype=pl.Int64)
                if name in truth:
                    count = pl.col("n").filter((key < BAD) & truth[name]).sum()
                sums.append(count.alias(f"truth_{name}"))
        found = rows.group_by("gid").agg(sums)
        if self.rows.height:
            return found
        # No rows at all: one state that says so.
        zeros = {name: 0 for name in found.columns if name != "sum_w"}
        return pl.DataFrame([zeros], schema=found.schema)

    def states(
        self,
        head: pl.DataFrame,
        *,
        column: str,
        task: str,
        state: str,
        params: str,
        res: int | None = None,
        **tables: pl.DataFrame,
    ) -> Long:
        """Return the states of this pass: one for all rows and one for each set of segments, by window."""
        fixed = {"column": column, "task": task, "state": state, "params": params}
        given = {name: pl.lit(value) for name, value in {**fixed, "resource": "", "segment_key": ""}.items()}
        if res is not None:
            given["res"] = pl.lit(res, dtype=pl.Int64)
        if self.roles.every is not None:
            head = head.join(self.keys.select("gid", "window"), on="gid", how="left")
            window = pl.col("window")
            given |= {"window_start": window, "window_end": window.dt.offset_by(self.roles.every)}
        finest = Long.build(head.sort("gid"), given, **tables)
        total = finest.merged(_first)
        segments = [
            finest.with_head(pl.lit(self._segment_keys(finest.head["gid"], names))).merged(_first)
            for names in (self.roles.by if self.rows.height else ())
        ]
        return Long.concat([total, *segments])

    def _segment_keys(self, gids: pl.Series, names: Sequence[str]) -> pl.Series:
        """Return the canonical key of each group's segment, in the order of ``gids``."""
        columns = [f"by_{self.roles.segments.index(name)}" for name in names]
        distinct = self.keys.select(columns).unique()
        texts = [segment_key(dict(zip(names, row, strict=True))) for row in distinct.iter_rows()]
        keyed = distinct.with_columns(pl.Series("segment_key", texts, dtype=pl.String))
        per_gid = self.keys.join(keyed, on=columns, how="left", nulls_equal=True)
        return (
            gids.to_frame()
            .join(per_gid.select("gid", "segment_key"), on="gid", how="left", maintain_order="left")
            .to_series(1)
        )


def _first(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return dict(sources[0]["params"])


def number(roles: Roles, column: str) -> pl.Expr:
    """Return a column as Float64."""
    return pl.col(column).cast(pl.Float64)


def weighted(roles: Roles, values: Iterable[pl.Expr]) -> list[pl.Expr]:
    """Return value expressions times the weight, where there is one."""
    if roles.weight is None:
        return list(values)
    weight = number(roles, roles.weight)
    return [value * weight for value in values]


def aggregate(
    frame: pl.LazyFrame,
    roles: Roles,
    key: pl.Expr,
    values: Mapping[str, pl.Expr],
    aggregates: Sequence[pl.Expr],
    *,
    extra_keys: Mapping[str, pl.Expr] | None = None,
    codes: Sequence[int] = (),
) -> Groups:
    """Run one pass: group by key, segments and window, and aggregate.

    Args:
        frame: The rows.
        roles: Names the segments, the window and the weight.
        key: The packed integer key; :data:`BAD` and above for rows that cannot be used.
        values: Columns for the aggregates to use.
        aggregates: What to compute besides the count ``n`` (and ``sum_w`` where rows are weighted).
        extra_keys: Further columns to group by.
        codes: The few keys there are, where they are few; the aggregates are wanted of the first only.

    Raises:
        InvalidInputError: A weight is null, negative, NaN or infinite.
    """
    one = Pass({"k": key, **(extra_keys or {})}, values, aggregates)
    if codes and not group_columns(roles):
        one = _counted(one, roles)
        return _groups(selected(frame, key, codes, one.values, one.aggregates), roles)
    return aggregate_all(frame, roles, [one])[0]


def aggregate_all(rows: pl.LazyFrame | Parts, roles: Roles, passes: Sequence[Pass]) -> list[Groups]:
    """Run several passes over the same rows, which give the segments and windows the same ``gid``.

    Raises:
        InvalidInputError: A weight is null, negative, NaN or infinite.
    """
    counted = [_counted(one, roles) for one in passes]
    grouping = group_columns(roles)
    found = packed(rows, roles, counted, grouping)
    if found is None:
        plain = [replace(one, keys={**one.keys, **grouping}, cells=None) for one in counted]
        found = grouped(rows, roles, plain)
    return [_groups(each, roles) for each in found]


def _counted(one: Pass, roles: Roles) -> Pass:
    """Return the pass with the count of rows and, where there are weights, their sum."""
    if roles.weight is None:
        return replace(one, aggregates=[COUNT, *one.aggregates])
    weight = pl.col("w")
    sums = [
        COUNT,
        weight.sum().alias("sum_w"),
        (weight.is_null() | ~weight.is_finite() | (weight < 0)).sum().cast(pl.Int64).alias("bad_w"),
    ]
    values = {"w": number(roles, roles.weight), **one.values}
    return replace(one, values=values, aggregates=[*sums, *one.aggregates])


def _groups(rows: pl.DataFrame, roles: Roles) -> Groups:
    if "bad_w" in rows.columns and (bad := rows["bad_w"].sum()):
        raise InvalidInputError(
            f"weight={roles.weight!r}: {bad:,} weights are null, NaN, infinite or negative.",
            hint="Pass a finite weight that is not negative for every row, or filter those rows.",
            argument="weight",
            count=bad,
        )
    grouping = list(group_columns(roles))
    if not grouping:
        rows = rows.with_columns(pl.col("k").cast(pl.Int64), gid=pl.lit(0, dtype=pl.Int64))
        return Groups(rows, pl.DataFrame({"gid": [0]}), roles)
    rows = rows.with_columns(pl.col("k").cast(pl.Int64))
    found = rows.select(grouping).unique().sort(grouping).with_row_index("gid").cast({"gid": pl.Int64})
    if "window" in found.columns:
        _check_times(found["window"], roles)
    if rows.height == 0:
        found = pl.DataFrame([[0], *[[None]] * len(grouping)], schema=found.schema)
    rows = rows.join(found, on=grouping, how="left", nulls_equal=True).drop(grouping)
    return Groups(rows, found, roles)


def _check_times(windows: pl.Series, roles: Roles) -> None:
    """Refuse windows that no point of a lake can stand for.

    Raises:
        InvalidInputError: One begins before 1900 or ends after 9999, as of dates that stand for none.
    """
    assert roles.every is not None  # noqa: S101 -- resolve() demands it with a time
    ends = windows.dt.offset_by(roles.every)
    micros = windows.dt.epoch("us")
    is_off = (micros < EARLIEST_MICROS) | (ends.dt.epoch("us") > LATEST_MICROS) | (ends < windows)
    off = micros.filter(is_off)
    if len(off):
        year = 1970 + int(off[0]) // _YEAR_MICROS
        raise InvalidInputError(
            f"time={roles.time!r} holds times in windows outside of 1900 to 9999, one about the year {year}.",
            hint="Set times that stand for none to NULL: such rows count in the total only.",
            argument="time",
        )


def group_columns(roles: Roles) -> dict[str, pl.Expr]:
    """Return the columns that make a group: ``by_0`` … and ``window``."""
    columns = {f"by_{i}": _segment(roles, name) for i, name in enumerate(roles.segments)}
    return columns if roles.time is None else {**columns, "window": _window(roles)}


def segment_key(values: Mapping[str, Any]) -> str:
    """Return the canonical key of a segment; a NULL value is the empty text."""
    return tags_key(canonical_tags({name: "" if value is None else value for name, value in values.items()}))


def _segment(roles: Roles, name: str) -> pl.Expr:
    column = pl.col(name)
    dtype = roles.source.schema[name]
    if dtype == pl.Date or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return column.cast(pl.String)
    return column


def _window(roles: Roles) -> pl.Expr:
    assert roles.time is not None  # noqa: S101 -- the caller looked
    assert roles.every is not None  # noqa: S101 -- resolve() demands both
    column = pl.col(roles.time)
    dtype = roles.source.schema[roles.time]
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    else:
        column = column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return column.dt.truncate(roles.every)
