"""Which rows a request wants: the same condition for file statistics, for Arrow tables and for SQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute

from metrics_lake.commits.bloom import may_contain
from metrics_lake.errors import InvalidInputError
from metrics_lake.globs import Glob
from metrics_lake.points import checked_step, checked_timestamp
from metrics_lake.resources import check_id
from metrics_lake.tags import canonical_tags

if TYPE_CHECKING:
    from metrics_lake.commits import ColumnStats, DataFile

__all__ = ["Ids", "IdsLike", "Selection", "Steps", "StepsLike", "checked_steps"]

IdsLike: TypeAlias = str | Glob | Iterable[str | Glob] | None
StepsLike: TypeAlias = int | range | Iterable[int] | None

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_INLINE_NAMES: Final = 64
"""Up to here every name is a parameter of its own, which prunes row groups; more are joined."""

_FEW_NAMES: Final = 16

_LATEST: Final = 253_402_300_799_999_999
"""The last microsecond that a datetime can be; no point is later."""

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Ids:
    """A set of ids: literal ones, and all that patterns fit."""

    names: tuple[str, ...] = ()
    globs: tuple[Glob, ...] = ()

    @classmethod
    def of(cls, asked: IdsLike, what: str) -> Ids | None:
        """Return what the user asked for; None is all.

        Raises:
            InvalidInputError: It is no str, no pattern, and no list of these.
        """
        if asked is None:
            return None
        if isinstance(asked, str | Glob):
            asked = (asked,)
        elif isinstance(asked, bytes | Mapping) or not isinstance(asked, Iterable):
            raise InvalidInputError(
                f"A {type(asked).__qualname__} names no {what}s.",
                hint=f"Pass a {what}'s id, glob(pattern), or a list of these.",
            )
        given = list(asked)
        names = dict.fromkeys(check_id(each, what) for each in given if not isinstance(each, Glob))
        globs = dict.fromkeys(each for each in given if isinstance(each, Glob))
        return cls(tuple(names), tuple(globs))

    @property
    def only(self) -> str | None:
        """The one literal id that this is, or None."""
        return self.names[0] if len(self.names) == 1 and not self.globs else None

    def matches(self, name: str) -> bool:
        """Say whether an id is one of these."""
        return name in self.names or any(each.matches(name) for each in self.globs)

    def may_be_within(self, low: str | None, high: str | None) -> bool:
        """Say whether one of these ids may lie between two bounds, inclusive; None is no bound."""
        return any(
            (low is None or low <= name) and (high is None or name <= high) for name in self.names
        ) or any(
            # The bound cut to the prefix's length compares as the ids do.
            (low is None or low[: len(prefix)] <= prefix) and (high is None or prefix <= high)
            for prefix in (each.literal_prefix for each in self.globs)
        )

    def sql(self, column: str, bindings: dict[str, Any]) -> str:
        """Return a SQL condition on a column and add its parameters."""
        parts = []
        if len(self.names) <= _INLINE_NAMES:
            if self.names:
                names = [f"{column}_{number}" for number in range(len(self.names))]
                bindings.update(zip(names, self.names, strict=True))
                marks = ", ".join(f"${name}" for name in names)
                parts.append(f"{column} = {marks}" if len(names) == 1 else f"{column} IN ({marks})")
        else:
            bindings[f"{column}_names"] = list(self.names)
            parts.append(f"{column} IN (SELECT unnest(${column}_names))")
        for number, each in enumerate(self.globs):
            name = f"{column}_glob_{number}"
            conditions = []
            if each.literal_prefix:
                bindings[f"{name}_from"] = each.literal_prefix
                conditions += [f"{column} >= ${name}_from", f"starts_with({column}, ${name}_from)"]
            if not each.is_prefix:
                bindings[name] = each.regex
                conditions.append(f"regexp_full_match({column}, ${name})")
            parts.append(f"({' AND '.join(conditions) or 'true'})")
        return f"({' OR '.join(parts)})" if parts else "false"

    def mask(self, column: Any) -> Any:
        """Return which values of an Arrow column are among these, as an Arrow array of booleans.

        Of a column of dictionaries each text is looked at once.
        """
        if pa.types.is_dictionary(column.type):
            masks = [self.mask(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
            return pa.chunked_array(masks, pa.bool_())
        if self.only is not None:
            return pc.equal(column, self.only)
        found: Any = pc.is_in(column, value_set=pa.array(self.names, pa.string()))
        for each in self.globs:
            # A regular expression takes three times as long.
            fits: Any = (
                pc.starts_with(column, each.literal_prefix)
                if each.is_prefix
                else pc.match_substring_regex(column, f"^(?:{each.regex})$")
            )
            found = pc.or_(found, fits)
        return found


@dataclass(frozen=True, slots=True)
class Steps:
    """A set of steps between two bounds, inclusive; None is no bound.

    Attributes:
        first: The smallest.
        last: The largest.
        stride: Only steps at this distance from ``first``.
        chosen: Only these, or None.
    """

    first: int
    last: int
    stride: int = 1
    chosen: tuple[int, ...] | None = None


def checked_steps(steps: StepsLike) -> Steps | None:
    """Return the steps that the user asked for: an int, a ``range``, or several ints; None is all.

    Raises:
        InvalidInputError: It is something else.
    """
    if steps is None:
        return None
    if isinstance(steps, range):
        if not len(steps):
            return Steps(0, -1)
        low, high = min(steps[0], steps[-1]), max(steps[0], steps[-1])
        return Steps(max(low, -(2**63)), min(high, 2**63 - 1), abs(steps.step))
    is_text = isinstance(steps, str | bytes | Mapping)
    # A numpy array without dimensions is iterable by its type and a number by its value.
    if isinstance(steps, Iterable) and not is_text and getattr(steps, "ndim", 1) != 0:
        chosen = sorted({_step(each) for each in steps})
        return Steps(chosen[0], chosen[-1], chosen=tuple(chosen)) if chosen else Steps(0, -1)
    step = _step(steps)
    return Steps(step, step)


def _step(step: Any) -> int:
    checked = checked_step(step)
    if checked is None:
        raise InvalidInputError("steps holds None.", hint="Pass steps=None for all points.", argument="steps")
    return checked


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that a request wants.

    Attributes:
        resources: Of these; None = all.
        metrics: Of these; None = all.
        tags_key: Of exactly this series; None = of all.
        tags: Of series that have these pairs.
        steps: At these steps (rows without a step are at none); None = all rows.
        since: From this instant on, in microseconds since 1970; None = no bound.
        until: Before this instant, likewise.
    """

    resources: Ids | None = None
    metrics: Ids | None = None
    tags_key: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    steps: Steps | None = None
    since: int | None = None
    until: int | None = None

    @classmethod
    def of(
        cls,
        resources: IdsLike = None,
        metrics: IdsLike = None,
        *,
        steps: StepsLike = None,
        since: Any = None,
        until: Any = None,
        tags: Mapping[str, Any] | None = None,
    ) -> Selection:
        """Return what the user asked for.

        Raises:
            InvalidInputError: An argument is of the wrong type or out of range.
        """
        return cls(
            resources=Ids.of(resources, "resource"),
            metrics=Ids.of(metrics, "metric"),
            tags=canonical_tags(tags),
            steps=checked_steps(steps),
            since=None if since is None else checked_timestamp(since, "since"),
            until=None if until is None else checked_timestamp(until, "until"),
        )

    def up_to(self, at: int | None) -> Selection:
        """Return the part of this that had happened at an instant, inclusive; None = all of it."""
        if at is None:
            return self
        return replace(self, until=at + 1 if self.until is None else min(self.until, at + 1))

    @property
    def is_empty(self) -> bool:
        """Whether no row can fit."""
        return (
            self.resources == Ids()
            or self.metrics == Ids()
            or (self.steps is not None and self.steps.first > self.steps.last)
            or (self.since is not None and self.until is not None and self.since >= self.until)
        )

    @property
    def is_window(self) -> bool:
        """Whether of a series some rows may fit and others not."""
        return self.steps is not None or self.since is not None or self.until is not None

    @property
    def is_few(self) -> bool:
        """Whether only a few resources fit, each asked for by its id."""
        ids = self.resources
        return ids is not None and not ids.globs and len(ids.names) <= _FEW_NAMES

    # ---- against what the log says of a data file ----------------------------------------------------------

    def may_be_in(self, file: DataFile) -> bool:
        """Say whether a data file may hold a row of these, by its partition and statistics."""
        stats = file.stats
        if self.resources is not None:
            low, high = _bounds(stats.get("resource"))
            if not self.resources.may_be_within(low, high) or not self._passes(file.bloom):
                return False
        if self.metrics is not None:
            low, high = _bounds(stats.get("metric"))
            if not self.metrics.may_be_within(low, high):
                return False
        if self.steps is not None:
            low, high = _bounds(stats.get("step"))
            if (low is not None and self.steps.last < low) or (high is not None and self.steps.first > high):
                return False
        low, high = _bounds(stats.get("timestamp"))
        if self.since is not None and (
            (high is not None and high < self.since) or (file.month and file.month < _month(self.since))
        ):
            return False
        return self.until is None or not (
            (low is not None and low >= self.until) or (file.month and file.month > _month(self.until - 1))
        )

    def _passes(self, bloom: bytes | None) -> bool:
        """Say whether one of the resources may be in a file, by its bloom filter."""
        ids = self.resources
        if bloom is None or ids is None or ids.globs or len(ids.names) > _INLINE_NAMES:
            return True
        return any(may_contain(bloom, name) for name in ids.names)

    # ---- against rows --------------------------------------------------------------------------------------

    def sql(self, bindings: dict[str, Any]) -> str:
        """Return a SQL condition on the rows of a table and add its parameters."""
        parts = []
        if self.resources is not None:
            parts.append(self.resources.sql("resource", bindings))
        if self.metrics is not None:
            parts.append(self.metrics.sql("metric", bindings))
        if self.tags_key is not None:
            bindings["tags_key"] = self.tags_key
            parts.append("tags_key = $tags_key")
        for number, (key, value) in enumerate(self.tags):
            bindings[f"tag_key_{number}"] = key
            bindings[f"tag_value_{number}"] = value
            parts.append(f"list_extract(map_extract(tags, $tag_key_{number}), 1) = $tag_value_{number}")
        if self.steps is not None:
            parts.append(self._steps_sql(self.steps, bindings))
        for name, operator in (("since", ">="), ("until", "<")):
            instant = getattr(self, name)
            if instant is not None and instant <= _LATEST:
                bindings[name] = _EPOCH + dt.timedelta(microseconds=instant)
                parts.append(f"timestamp {operator} ${name}")
        return " AND ".join(parts) or "true"

    @staticmethod
    def _steps_sql(steps: Steps, bindings: dict[str, Any]) -> str:
        bindings["step_first"] = steps.first
        if steps.first == steps.last:
            return "step = $step_first"
        bindings["step_last"] = steps.last
        part = "step >= $step_first AND step <= $step_last"
        if steps.chosen is not None:
            bindings["step_chosen"] = list(steps.chosen)
            part += " AND step IN (SELECT unnest($step_chosen))"
        elif steps.stride != 1:
            bindings["step_stride"] = steps.stride
            # As huge integers: the difference of two 64-bit steps may not fit in 64 bits.
            part += " AND (step::HUGEINT - $step_first::HUGEINT) % $step_stride = 0"
        return part

    def series_of(self, summary: pa.Table) -> pa.Table:
        """Return the series of a summary that have these ids."""
        both = (("resource", self.resources), ("metric", self.metrics))
        asked = [(column, ids) for column, ids in both if ids is not None]
        # The fewest names first: they leave the fewest rows for the others, and rows are wide.
        for column, ids in sorted(asked, key=lambda each: len(each[1].names) + len(each[1].globs)):
            if summary.num_rows:
                summary = summary.filter(ids.mask(summary.column(column)))
        return summary

    def may_be_among(self, rows: pa.Table) -> bool:
        """Say whether an Arrow table may have one of these rows, by their resources."""
        if self.resources is None:
            return bool(rows.num_rows)
        return bool(pc.any(self.resources.mask(rows.column("resource"))).as_py())

    def rows_of(self, rows: pa.Table) -> pa.Table:
        """Return the rows of an Arrow table that may be among these: by ids and times only."""
        rows = self.series_of(rows)
        if self.tags_key is not None and rows.num_rows:
            keys: Any = rows.column("tags_key")
            rows = rows.filter(pc.equal(keys, self.tags_key))
        if self.steps is not None and rows.num_rows:
            step: Any = rows.column("step")
            inside: Any = pc.and_(
                pc.greater_equal(step, self.steps.first), pc.less_equal(step, self.steps.last)
            )
            rows = rows.filter(inside)
        for instant, compare in ((self.since, pc.greater_equal), (self.until, pc.less)):
            if instant is not None and rows.num_rows:
                bound: Any = pa.scalar(instant, pa.timestamp("us", tz="UTC"))
                rows = rows.filter(compare(rows.column("timestamp"), bound))
        return rows


def _bounds(stats: ColumnStats | None) -> tuple[Any, Any]:
    return (None, None) if stats is None else (stats.min, stats.max)


def _month(micros: int) -> str:
    instant = _EPOCH + dt.timedelta(microseconds=micros)
    return f"{instant.year:04d}-{instant.month:02d}"
