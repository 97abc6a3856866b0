"""Numbers and curves of jobs from their stored states, a few jobs at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute

from metrics_lake.errors import NotFoundError
from metrics_lake.globs import Glob
from metrics_lake.points import checked_timestamp
from metrics_lake.prediction_jobs.reference import reference_of
from metrics_lake.prediction_jobs.rows import within
from metrics_lake.prediction_jobs.stored import Stored, windows_of
from metrics_lake.predictions import curve_points, finalize
from metrics_lake.predictions._arguments import listed
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.names import need_cells
from metrics_lake.predictions.rollup import by_part, in_windows, of_one_kind, one_job
from metrics_lake.predictions.schema import LISTS
from metrics_lake.resources import resource_key
from metrics_lake.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metrics_lake.reader import Reader

__all__ = ["Aggregates", "Span"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_MANY_CELLS: Final = 1 << 20
"""So many cells are worked on at a time: a year of 20 segments by day took 5 GB at once, and takes 1.2."""

_CELLS_OF_STATE: Final = 1 << 13
"""A state of many rows has about so many cells at most."""

_WITHOUT_CELLS: Final = tuple(name for name in LISTS if name not in ("cells", "ties"))


@dataclass(frozen=True, slots=True)
class Span:
    """What is wanted of the states of jobs.

    Attributes:
        by: The segment columns to keep; None: all rows only.
        every: The length of the windows, and several jobs become one series; None: no windows.
        since: Only windows that begin then or later.
        until: Only windows that end then or earlier.
    """

    by: Any = None
    every: Any = None
    since: Any = None
    until: Any = None


class Aggregates:
    """Re-aggregates what a lake has stored of prediction jobs.

    Args:
        reading: Gives the lake's reader.
    """

    def __init__(self, reading: Callable[[], Reader]) -> None:
        self._stored = Stored(reading)

    def numbers(
        self, jobs: Any, span: Span, *, metrics: str | Sequence[str], reference: Any, confidence: float
    ) -> Result:
        """Return the numbers of jobs."""
        lists = LISTS if reference is not None or need_cells(metrics) else _WITHOUT_CELLS
        heads, states = self._states(jobs, span, lists)
        against = None
        if reference is not None:
            against = reference_of(self._stored, reference, heads, None, {"by": span.by}, whole=not span.by)

        def of(state: Long) -> pa.Table:
            by = _by_of(state, span)
            return finalize(state, metrics, by=by, every=span.every, confidence=confidence, reference=against)

        numbers = pa.concat_tables(map(of, states))
        return Result(lambda: numbers)

    def curves(self, jobs: Any, curve: str | Sequence[str], span: Span, **options: Any) -> Result:
        """Return points of curves of jobs."""
        _, states = self._states(jobs, span, LISTS)
        found = pa.concat_tables(
            curve_points(state, curve, by=_by_of(state, span), every=span.every, **options)
            for state in states
        )
        # One curve of all jobs before the next, as of states that come together; equals keep their order.
        place = pc.index_in(found.column("curve"), value_set=pa.array(listed(curve)))
        points = found.take(pc.sort_indices(place))
        return Result(lambda: points)

    def _states(self, jobs: Any, span: Span, lists: Sequence[str]) -> tuple[Long, Iterator[Long]]:
        """Return states without their lists, and the states in pieces: other jobs or windows in each."""
        names = self._job_ids(jobs)
        series = _told(jobs) if span.every is not None and len(names) > 1 else None
        heads, groups = None, [names]
        if len(names) > 1 and "cells" in lists:
            heads = self._read(names, span, ())
            groups = _groups(names, heads)
        if heads is None or len(groups) == 1:
            whole = _chosen(self._read(names, span, lists), span, series, among=None)
            return whole, iter([whole])
        told = _chosen(heads, span, series, among=None)
        pieces = (_chosen(self._read(group, span, lists), span, series, among=heads) for group in groups)
        if span.every is None:
            return told, pieces
        rolled = Long.concat(in_windows(piece, span.every) for piece in pieces)
        return told, iter([in_windows(rolled, span.every)])

    def _read(self, names: Sequence[str], span: Span, lists: Sequence[str]) -> Long:
        """Return the stored states of jobs in a span of time; of all rows alone where no segment is kept."""
        stored = within(
            self._stored.states(names, whole=not span.by, lists=lists),
            None if span.since is None else checked_timestamp(span.since, "since"),
            None if span.until is None else checked_timestamp(span.until, "until"),
        )
        return windows_of(Long.from_arrow(stored))[0]

    def _job_ids(self, jobs: Any) -> list[str]:
        names: dict[str, None] = {}
        known = self._stored.resources()
        for each in _listed(jobs):
            if isinstance(each, Glob):
                names.update(dict.fromkeys(name for name in known if each.matches(name)))
                continue
            name = resource_key(each)
            if name not in known:
                raise self._stored.no_job(name)
            names[name] = None
        if not names:
            raise NotFoundError(f"no prediction job fits {jobs!r}.", hint="resources() lists what is there.")
        return sorted(names)


def _chosen(state: Long, span: Span, series: str | None, *, among: Long | None) -> Long:
    """Return the states as those of one series, if it has a name, by the segments that are wanted.

    Args:
        state: The states of some jobs.
        span: Names the segments.
        series: The name.
        among: The states of all jobs, of which these are some; None: these are all.
    """
    state = of_one_kind(state, among)
    if series is not None:
        state = of_one_kind(one_job(state, series), None if among is None else one_job(among, series))
    return by_part(state, span.by, may_lack=among is not None) if span.by else state


def _by_of(state: Long, span: Span) -> Any:
    """Return the segment columns that are wanted, or None where none of a piece's jobs has them."""
    return span.by if state.head.select((pl.col("segment_key") != "").any()).item() else None


def _groups(names: Sequence[str], heads: Long) -> list[list[str]]:
    """Return the jobs in groups that are worked on at a time, by the cells that they may have."""
    most = pl.col("n").clip(upper_bound=_CELLS_OF_STATE).sum()
    cells = dict(heads.head.group_by("resource").agg(most).iter_rows())
    groups: list[list[str]] = [[]]
    waiting = 0
    for name in names:
        waiting += cells.get(name, 0)
        if groups[-1] and waiting > _MANY_CELLS:
            groups.append([])
            waiting = cells.get(name, 0)
        groups[-1].append(name)
    return groups


def _listed(jobs: Any) -> list[Any]:
    return list(jobs) if isinstance(jobs, list | tuple | set | frozenset) else [jobs]


def _told(jobs: Any) -> str:
    return ", ".join(name.pattern if isinstance(name, Glob) else resource_key(name) for name in _listed(jobs))
