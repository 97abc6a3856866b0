"""The points of a history that a chart shows."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query
from metrics_lake.charts import MAX_PANELS, MAX_SERIES, MAX_SERIES_POINTS, Drawn
from metrics_lake.errors import InvalidInputError
from metrics_lake.reader.history import LAST_OF_STEP, ORDER
from metrics_lake.reader.overview import Overview
from metrics_lake.reader.selection import Ids, Selection
from metrics_lake.reader.smoothing import smoothed
from metrics_lake.reader.thinning import MARKS, candidates, ends, is_other, one_of_each, thinning
from metrics_lake.series import SERIES_KEYS, next_differs

if TYPE_CHECKING:
    from collections.abc import Callable

    from metrics_lake.commits import Snapshot
    from metrics_lake.reader.history import Run, Stream
    from metrics_lake.reader.table import TableReader

__all__ = ["Curves", "RecentCurves"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_AXES: Final = ("step", "relative", "timestamp")
_LEAST_POINTS: Final = 8
_KEPT_POINTS: Final = 250_000
"""Up to here points are read once and kept, 24 bytes each and their ids: other smoothing is no new question.
More are left to DuckDB, which can spill."""

_KEPT_CURVES: Final = 6
"""Of how many selections: a dashboard shows the same ones again with each of its controls."""

_KEYS: Final = ", ".join(SERIES_KEYS)
_SHOWN: Final = (*SERIES_KEYS, "step", "timestamp", "value")
_IN_ORDER: Final = f"SELECT {', '.join(_SHOWN)} FROM {{points}} ORDER BY {ORDER}"
# By a hash of the series in a third less time; that two of them share one only takes the longer way.
_REPEATED: Final = f"""
    SELECT 1 FROM {{points}} WHERE step IS NOT NULL GROUP BY hash({_KEYS}), step HAVING count(*) > 1 LIMIT 1
"""
_ONLY: Final = ", ".join(f"unnest($only_{name})" for name in SERIES_KEYS)
_OF_SOME: Final = f"(SELECT * FROM {{points}} WHERE ({_KEYS}) IN (SELECT ({_ONLY})))"
_IN_WINDOW: Final = f"""
    SELECT {_KEYS}, count(*) AS points, count(step) > 0 AS has_step, count(value) > 0 AS is_number
    FROM {{points}} GROUP BY {_KEYS}
"""
_PLACED: Final = {"step": "value IS NOT NULL AND step IS NOT NULL", "timestamp": "value IS NOT NULL"}
# So that finite extremes are kept beside an infinity, and gaps are where they were.
_APART: Final = "isfinite(value)"
_PLACES: Final = {"step": "step::DOUBLE", "timestamp": "epoch_us(timestamp)::DOUBLE"}


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many points can be drawn, how many of them are not finite, and how many cannot, and why."""

    num_points: int
    num_not_finite: int
    num_texts: int
    num_unplaced: int

    @staticmethod
    def sql(points: str, along: str) -> str:
        """Return the query that counts points."""
        return f"""
            SELECT count(*) FILTER ({_PLACED[along]}) AS num_points,
                count(*) FILTER ({_PLACED[along]} AND NOT isfinite(value)) AS num_not_finite,
                count(*) FILTER (value IS NULL) AS num_texts,
                count(*) FILTER (value IS NOT NULL AND NOT ({_PLACED[along]})) AS num_unplaced
            FROM {points}
        """

    @classmethod
    def of(cls, row: pa.Table) -> _Counts:
        """Return what the query gave."""
        return cls(**{each.name: row.column(each.name)[0].as_py() for each in fields(cls)})


class Curves:
    """The curves of a selection in one snapshot; thread-safe, survives fork.

    Of repeated steps the newest point counts. Where the points are few they are read once, or once a thread.

    Args:
        selection: Whose points are drawn.
        summarise: Gives the series summary, at least of the selection.
        over: Gives what runs queries over a selection's points.
        is_read_once: Whether each query fetches the points from afar.
    """

    def __init__(
        self,
        selection: Selection,
        summarise: Callable[[], pa.Table],
        over: Callable[[Selection], tuple[Run, Stream]],
        *,
        is_read_once: bool,
    ) -> None:
        self._selection = selection
        self._summarise = summarise
        self._over = over
        self._is_read_once = is_read_once
        self._found: pa.Table | None = None
        self._rows: pa.Table | None = None

    def draw(
        self, x: str | None, max_points: int, *, downsample: int | None = None, smooth: float | None = None
    ) -> Drawn:
        """Return the points of the first series, thinned out by the reader's own M4 to what can be drawn.

        Args:
            x: ``"step"``, ``"relative"`` or ``"timestamp"``; None: the step where a series has any.
            max_points: Of all series.
            downsample: What the history was thinned out to; not more than that, but eight at least.
            smooth: The weight of the past.

        Raises:
            InvalidInputError: ``x`` is none of these.
        """
        if x is not None and x not in _AXES:
            raise InvalidInputError(
                f"x is {x!r}.", hint=f"Pass {', '.join(map(repr, _AXES))}, or nothing.", argument="x"
            )
        every = self._series()
        found = every.filter(every.column("is_number"))
        chosen = found.filter(found.column("is_chosen"))
        if x is None:
            has_steps = chosen.num_rows == 0 or pc.any(chosen.column("has_step")).as_py()
            x = "step" if has_steps else "timestamp"
        along = "step" if x == "step" else "timestamp"
        most = min(MAX_SERIES_POINTS, max_points // max(1, chosen.num_rows), downsample or MAX_SERIES_POINTS)
        most = max(most, _LEAST_POINTS)
        is_cut = chosen.num_rows < found.num_rows
        part = self._narrowed(chosen) if is_cut else self._selection
        num_read = pc.sum(part.series_of(every).column("points")).as_py() or 0
        if smooth or num_read <= _KEPT_POINTS:
            points, counts = self._in_memory(part, along, only=chosen if is_cut else None)
            if smooth:
                points = smoothed(points, smooth)  # as the history's rows, in the order of their steps
            if along == "timestamp":
                points = _along_time(points)
            if (pc.max(chosen.column("points")).as_py() or 0) > most:
                points = _thinned(points, along, most)
        else:
            points, counts = self._thinned_by_scanning(part, along, most, only=chosen if is_cut else None)
        shown = points.select(list(SERIES_KEYS)).group_by(list(SERIES_KEYS)).aggregate([]).num_rows
        return Drawn(
            points,
            x,
            num_series=found.num_rows if is_cut else shown,
            smooth=smooth or None,
            **asdict(counts),
        )

    def _series(self) -> pa.Table:
        if self._found is None:
            found = _of_summary(self._summarise(), self._selection)
            left_out = pc.less(found.column("is_chosen"), found.column("is_number"))
            if self._selection.is_window and pc.any(left_out).as_py():
                # A summary is of all points: the first series may have none in the window.
                run, _ = self._over(self._selection)
                found = _chosen(run(_IN_WINDOW, {}))
            self._found = found
        return self._found

    def _narrowed(self, chosen: pa.Table) -> Selection:
        """Return a selection of the chosen series, and maybe of some others."""
        names = [pc.unique(chosen.column(name)).to_pylist() for name in ("resource", "metric")]
        return replace(self._selection, resources=Ids(tuple(names[0])), metrics=Ids(tuple(names[1])))

    def _in_memory(self, part: Selection, along: str, *, only: pa.Table | None) -> tuple[pa.Table, _Counts]:
        """Return all points of some series of a part, always the same, in the order of their steps."""
        rows = self._rows
        if rows is None:
            run, _ = self._over(part)
            rows = _last_of_steps(run(_IN_ORDER, {}))
            if only is not None:
                rows = _only(rows, only)
            if rows.num_rows <= _KEPT_POINTS:
                self._rows = rows
        return _placed(rows, along)

    def _thinned_by_scanning(
        self, part: Selection, along: str, most: int, *, only: pa.Table | None
    ) -> tuple[pa.Table, _Counts]:
        """Return the points of some series of a part along an axis, thinned out by DuckDB."""
        run, stream = self._over(part)
        is_kept = self._is_read_once or run(_REPEATED, {}).num_rows > 0
        every = LAST_OF_STEP if is_kept else "SELECT * FROM {points}"
        bindings: dict[str, Any] = {}
        if only is not None:
            every = every.replace("{points}", _OF_SOME)
            bindings = {f"only_{name}": only.column(name).to_pylist() for name in SERIES_KEYS}
        drawn = candidates(
            f"SELECT * FROM every WHERE {_PLACED[along]}", _PLACES[along], apart=_APART, is_kept=False
        )
        order = f"series_number, {along}, step NULLS FIRST, timestamp, writer, seq"
        sql = f"""
            WITH every AS {"MATERIALIZED" if is_kept else "NOT MATERIALIZED"} ({every}),
            counts AS ({_Counts.sql("every", along)})
            SELECT {", ".join((*_SHOWN, *MARKS))}, counts.* FROM ({drawn}), counts ORDER BY {order}
        """
        points = one_of_each(stream(sql, thinning(most) | bindings)).read_all()
        counts = _Counts.of(points if points.num_rows else run(_Counts.sql(f"({every})", along), bindings))
        points = points.select(list(_SHOWN))
        if counts.num_not_finite:  # which were thinned by themselves
            points = points.sort_by([(name, "ascending") for name in (*SERIES_KEYS, along)])  # a stable sort
        return points, counts


class RecentCurves:
    """The curves that were asked for last; thread-safe, survives fork."""

    def __init__(self) -> None:
        self._known: deque[tuple[Snapshot, Selection, int | None, Curves]] = deque(maxlen=_KEPT_CURVES)

    def of(self, table: TableReader, snapshot: Snapshot, selection: Selection, instant: int | None) -> Curves:
        """Return the curves of a selection up to an instant, known ones where no row can be another."""
        for known, *asked, curves in tuple(self._known):
            is_same = known.log is snapshot.log and known.inbox == snapshot.inbox and not snapshot.pending
            if is_same and asked == [selection, instant]:
                return curves

        def summarise() -> pa.Table:
            parts = tuple(table.summary_parts(snapshot, selection))
            overview = Overview(table, snapshot, parts, instant)
            return overview.series(selection.resources, selection.metrics)

        made = Curves(
            selection,
            summarise,
            lambda part: (partial(table.run, snapshot, part), partial(table.stream, snapshot, part)),
            is_read_once=not table.storage.is_local,
        )
        if not snapshot.pending:
            self._known.append((snapshot, selection, instant, made))
        return made


def _last_of_steps(rows: pa.Table) -> pa.Table:
    """Return rows, series by series and each in order, with the last one of each step; all without a step."""
    is_new = pc.or_(_begins(rows), is_other(rows.column("step").combine_chunks()))
    is_last = ends(is_new)
    return rows if pc.all(is_last).as_py() else rows.filter(is_last)


def _placed(rows: pa.Table, along: str) -> tuple[pa.Table, _Counts]:
    """Return the rows that have a place along an axis, as they are, and what is to be said of all."""
    points = _without_null(rows, "value")
    num_numbers = points.num_rows
    if along == "step":
        points = _without_null(points, "step")
    num_finite = pc.sum(pc.is_finite(points.column("value"))).as_py() or 0
    return points, _Counts(
        num_points=points.num_rows,
        num_not_finite=points.num_rows - num_finite,
        num_texts=rows.num_rows - num_numbers,
        num_unplaced=num_numbers - points.num_rows,
    )


def _without_null(rows: pa.Table, name: str) -> pa.Table:
    column = rows.column(name)
    return rows.filter(pc.is_valid(column)) if column.null_count else rows


def _along_time(points: pa.Table) -> pa.Table:
    """Return points, series by series, in the order of their timestamps, else as they are."""
    begins = _begins(points)
    time = points.column("timestamp").combine_chunks()
    is_earlier = pc.less(time.slice(1), time.slice(0, max(0, len(time) - 1)))
    is_back = pc.and_(is_earlier, pc.invert(begins.slice(1)))
    if not pc.any(is_back).as_py():
        return points
    by = pa.table({"series": _numbers(begins), "timestamp": time})
    # A stable sort.
    return points.take(pc.sort_indices(by, [("series", "ascending"), ("timestamp", "ascending")]))


def _thinned(points: pa.Table, along: str, most: int) -> pa.Table:
    """Return points, series by series and each in order, thinned out."""
    numbers = {"series": _numbers(_begins(points)), "nth": _numbers(pa.repeat(True, points.num_rows))}
    rows = pa.table({**numbers, along: points.column(along), "value": points.column("value")})
    drawn = candidates(
        "SELECT * FROM drawn_points", _PLACES[along], series="series", apart=_APART, is_kept=False
    )
    sql = f"SELECT nth, {', '.join(MARKS)} FROM ({drawn}) ORDER BY series_number, nth"
    kept = one_of_each(query.stream(sql, thinning(most), drawn_points=rows)).read_all()
    # Those that are not finite were thinned by themselves.
    return points.take(kept.column("nth").combine_chunks().sort())


def _only(points: pa.Table, chosen: pa.Table) -> pa.Table:
    """Return the points of some series."""
    begins = _begins(points)
    wanted = set(_keys(chosen))
    is_wanted = pa.array([key in wanted for key in _keys(points.filter(begins))], pa.bool_())
    return points.filter(is_wanted.take(_numbers(begins)))


def _keys(rows: pa.Table) -> Any:
    return zip(*(rows.column(name).to_pylist() for name in SERIES_KEYS), strict=True)


def _begins(rows: pa.Table) -> Any:
    """Say of each row whether it is of another series than the one before it."""
    if not rows.num_rows:
        return pa.array([], pa.bool_())
    return pa.concat_arrays([pa.array([True]), next_differs(rows)])


def _numbers(begins: Any) -> Any:
    """Return the number of each row's series, from 0 on."""
    return pc.subtract(pc.cumulative_sum(pc.cast(begins, pa.int64())), 1)


def _of_summary(summary: pa.Table, selection: Selection) -> pa.Table:
    """Return what ``_chosen`` does, from the summary of a selection's series and maybe of others."""
    bindings: dict[str, Any] = {}
    condition = Selection(selection.resources, selection.metrics, tags=selection.tags).sql(bindings)
    sql = f"""
        SELECT resource, metric, tags_key, "count" AS points,
            "last_step".step IS NOT NULL AS has_step, "min" IS NOT NULL OR n_nan > 0 AS is_number
        FROM summary WHERE {condition}
    """
    return _chosen(query.run(sql, bindings, summary=summary))


def _chosen(series: pa.Table) -> pa.Table:
    """Return ``resource metric tags_key points has_step is_number is_chosen`` of each series.

    Those of which no point has a number cannot be drawn. Of the others chosen are the first series of each of
    the first metrics, those with one point a series last.
    """
    return query.run(
        f"""
        WITH numbered AS (
            SELECT *, bool_or(points > 1) OVER (PARTITION BY is_number, metric) AS is_curve,
                row_number() OVER (PARTITION BY is_number, metric ORDER BY resource, tags_key) AS nth
            FROM found_series
        )
        SELECT * EXCLUDE (is_curve, nth),
            is_number AND nth <= {MAX_SERIES}
                AND dense_rank() OVER (PARTITION BY is_number ORDER BY is_curve DESC, metric) <= {MAX_PANELS}
                AS is_chosen
        FROM numbered
        """,
        found_series=series,
    )
