"""Leaderboards and run tables: ``best`` and ``compare`` over series summaries, never over the points."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query, series
from metrics_lake.errors import InvalidInputError, MetricsLakeWarning
from metrics_lake.points import checked_step
from metrics_lake.reader.cells import cell_column, is_exact, numbers_column
from metrics_lake.reader.overview import (
    EXACT_COLUMNS,
    Overview,
    check_unambiguous,
    one_series,
    without_ambiguous,
    without_ambiguous_warning,
)
from metrics_lake.reader.selection import Ids, IdsLike, Selection, Steps
from metrics_lake.resources import check_id, nearest
from metrics_lake.result import Exact, Result
from metrics_lake.schema import METRICS
from metrics_lake.tags import canonical_tags, tags_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metrics_lake.reader.reader import Reader

__all__ = ["STATS", "best", "compare"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

STATS: Final = ("last", "first", "min", "max", "mean", "count")
"""What ``compare`` can show of a series."""

_POINT: Final = ("step", "timestamp", "value", "kind", "text", "is_cut", "writer", "seq")
_BEST: Final = ("rank", "resource", "metric", "tags", "step", "timestamp", "value", "kind", "text")
_RESOURCE: Final = "resource"


def best(
    reader: Reader,
    metric: str,
    *,
    mode: str,
    by: str = "best",
    step: Any = None,
    resources: IdsLike = None,
    where: str | None = None,
    tags: Mapping[str, Any] | None = None,
    top: int | None = 10,
    at: Any = None,
) -> Result:
    """Return the resources with the best values of a metric; ``MetricsLake.best`` says how.

    Raises:
        InvalidInputError: An argument is wrong.
        SnapshotExpired: What ``at`` names is gone.
    """
    _check_choice("mode", mode, ("max", "min"))
    _check_choice("by", by, ("best", "last", "step"))
    at_step = checked_step(step)
    if at_step is not None and by != "step":
        raise InvalidInputError(
            f"step is {step!r} and by is {by!r}.", hint="Pass by='step'.", argument="step"
        )
    limit: Any = 2**62 if top is None else top
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidInputError(f"top is {top!r}.", hint="Pass 1 or more; None: all.", argument="top")
    metric = check_id(metric, "metric")
    wanted = Ids.of(resources, "resource")
    key = None if tags is None else tags_key(canonical_tags(tags))
    condition = None if where is None else query.parse_condition(where)
    column = {"best": mode, "last": "last", "step": "last_step"}[by]
    pinned, instant = reader.moment(METRICS, at)
    table = reader.table()
    snapshot = pinned or table.snapshot()

    def run() -> pa.Table:
        overview = Overview.of(table, snapshot, instant)
        names = _passing(overview, wanted, condition, key)
        among = wanted if names is None else Ids(tuple(names))
        summary = overview.series(among, Ids((metric,)))
        chosen = one_series(summary, key)
        check_unambiguous(chosen, summary)
        if at_step is None:
            points = _points(chosen, column)
        else:
            points = _points_at(
                overview, chosen, Selection(among, Ids((metric,)), steps=Steps(at_step, at_step))
            )
        return overview.exact(_ranked(points, mode, limit)).select(list(_BEST))

    return Result(lambda: reader.pinned(table, snapshot, run), hidden=("kind", "text"), snapshot=snapshot)


def compare(
    reader: Reader,
    resources: IdsLike,
    metrics: IdsLike = None,
    *,
    stat: str = "last",
    where: str | None = None,
    tags: Mapping[str, Any] | None = None,
    at: Any = None,
) -> Result:
    """Return a row a resource and a column a metric; ``MetricsLake.compare`` says how.

    Raises:
        InvalidInputError: An argument is wrong.
        SnapshotExpired: What ``at`` names is gone.
    """
    _check_choice("stat", stat, STATS)
    wanted = Ids.of(resources, "resource")
    asked = Ids.of(metrics, "metric")
    key = None if tags is None else tags_key(canonical_tags(tags))
    condition = None if where is None else query.parse_condition(where)
    pinned, instant = reader.moment(METRICS, at)
    table = reader.table()
    snapshot = pinned or table.snapshot()

    def run() -> Exact:
        overview = Overview.of(table, snapshot, instant)
        names = _passing(overview, wanted, condition, key)
        if names is None:
            names = overview.resource_ids(wanted)
        summary = overview.series(Ids(tuple(names)) if wanted or condition else None, asked)
        literal = () if asked is None else asked.names
        chosen, left_out = without_ambiguous(one_series(summary, key), literal)
        check_unambiguous(chosen, summary)
        if left_out:
            warnings.warn(without_ambiguous_warning(left_out), MetricsLakeWarning, stacklevel=2)
        present = sorted(pc.unique(chosen.column("metric")).to_pylist())
        columns = list(literal)
        columns += [each for each in present if each not in columns]
        return _wide(names, columns, _cells(overview, chosen, stat))

    return Result(lambda: reader.pinned(table, snapshot, run), snapshot=snapshot, is_plain=True)


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        shown = " or ".join(map(repr, choices))
        raise InvalidInputError(f"{name} is {value!r}.", hint=f"Pass {shown}.", argument=name)


# ---- leaderboards ------------------------------------------------------------------------------------------


def _points(chosen: pa.Table, column: str) -> pa.Table:
    """Return one point of each series as columns; series that have none are left out."""
    ids = [_RESOURCE, "metric", "tags"]
    chosen = chosen.select([*ids, column])
    there: Any = pc.is_valid(chosen.column(column))
    chosen = chosen.filter(there)
    fields = {name: pc.struct_field(chosen.column(column), name) for name in _POINT}
    return pa.table({name: chosen.column(name) for name in ids} | fields)


def _points_at(overview: Overview, chosen: pa.Table, at_step: Selection) -> pa.Table:
    """Return the latest point at a step of each series that has one."""
    sql = f"SELECT resource, tags_key, {series.point_sql('last')} FROM {{points}} GROUP BY resource, tags_key"
    found = overview.table.run(overview.snapshot, at_step.up_to(overview.instant), sql)
    joined = query.run(
        "SELECT chosen.resource, metric, tags, found.last FROM chosen JOIN found USING (resource, tags_key)",
        chosen=chosen.select([_RESOURCE, "metric", "tags", "tags_key"]),
        found=found,
    )
    return _points(joined, "last")


def _ranked(points: pa.Table, mode: str, limit: int) -> pa.Table:
    # + 0.0 makes one zero of the two. NaN is greatest to DuckDB, and NULL is somewhere: neither may win.
    goodness = f"value + 0.0 {'DESC' if mode == 'max' else 'ASC'}"
    return query.run(
        f"""
        SELECT rank() OVER (ORDER BY {goodness}) AS rank, *
        FROM points WHERE value IS NOT NULL AND NOT isnan(value)
        ORDER BY {goodness}, step NULLS FIRST, timestamp, writer, seq, resource
        LIMIT {limit}
        """,
        points=points,
    )


# ---- tables ------------------------------------------------------------------------------------------------


def _cells(overview: Overview, chosen: pa.Table, stat: str) -> pa.Table:
    """Return ``resource metric kind value text`` of what a table shows of each series."""
    names = [_RESOURCE, "metric", *EXACT_COLUMNS]
    if stat in ("mean", "count"):
        kind = "float" if stat == "mean" else "int"
        return query.run(
            f"SELECT resource, metric, '{kind}' AS kind, \"{stat}\"::DOUBLE AS value, NULL::VARCHAR AS text "
            f'FROM chosen WHERE "{stat}" IS NOT NULL',
            chosen=chosen.select([_RESOURCE, "metric", stat]),
        )
    return overview.exact(_points(chosen, stat)).select(names)


def _grid(resources: Sequence[str], metrics: Sequence[str], cells: pa.Table) -> list[pa.Table]:
    """Return for each metric a table ``kind value text``, a row a resource; NULL where there is no cell."""
    height = len(resources)
    row = pc.index_in(cells.column(_RESOURCE), value_set=pa.array(resources, pa.string()))
    col = pc.index_in(cells.column("metric"), value_set=pa.array(metrics, pa.string()))
    place = pc.add(pc.multiply(col.cast(pa.int64()), height), row.cast(pa.int64())).combine_chunks()
    # Which cell is at each place: taking what is nowhere gives NULL.
    places: Any = pa.arange(0, height * len(metrics))  # type: ignore[attr-defined]  # not in the stubs yet
    at = pc.index_in(places, value_set=place)
    whole = cells.select(list(EXACT_COLUMNS)).take(at)
    return [whole.slice(start * height, height) for start in range(len(metrics))]


def _wide(resources: Sequence[str], metrics: Sequence[str], cells: pa.Table) -> Exact:
    arrays: dict[str, Any] = {_RESOURCE: pa.array(resources, pa.string())}
    exact = {}
    for metric, column in zip(metrics, _grid(resources, metrics, cells), strict=True):
        name = metric
        while name in arrays or (name != metric and name in metrics):
            name = f"metrics/{name}"  # a metric called "resource"
        arrays[name] = cell_column(column)
        if not is_exact(column):
            exact[name] = column
    return Exact(pa.table(arrays), exact)


# ---- conditions --------------------------------------------------------------------------------------------


def _passing(
    overview: Overview, wanted: Ids | None, condition: query.Condition | None, key: str | None
) -> list[str] | None:
    """Return the ids of the wanted resources for which a condition is true; None where there is none."""
    if condition is None:
        return None
    known = overview.metric_ids()
    if not known:
        return []
    meant = {column: _meant(column, known) for column in condition.columns}
    metrics = [each for each in dict.fromkeys(meant.values()) if each is not None]
    resources = overview.resource_ids(wanted)
    summary = overview.series(wanted, Ids(tuple(metrics)))
    chosen = one_series(summary, key, is_strict=False)
    check_unambiguous(chosen, summary)
    columns = _grid(resources, metrics, _cells(overview, chosen, "last"))
    candidates: dict[str, Any] = {_RESOURCE: pa.array(resources, pa.string())}
    candidates |= {f"metric_{at}": numbers_column(each) for at, each in enumerate(columns)}
    names = {metric: f"metric_{at}" for at, metric in enumerate(metrics)}
    renamed = {column: _RESOURCE if metric is None else names[metric] for column, metric in meant.items()}
    try:
        found = query.run_guarded(
            condition.select(_RESOURCE, "candidates", renamed),
            {},
            query.Sources(tables={"candidates": pa.table(candidates)}),
            query.Limits(),
        )
    except InvalidInputError as error:
        said = error.message
        for column, name in renamed.items():
            said = said.replace(name, column)
        raise InvalidInputError(f"where cannot be evaluated: {said}", argument="where") from error
    passing: list[Any] = found.column(_RESOURCE).to_pylist()
    return sorted(passing)


def _meant(column: str, known: Sequence[str]) -> str | None:
    """Return the metric that a column of a condition names; None is the resource's id.

    Raises:
        InvalidInputError: No resource has such a metric.
    """
    if column in known:
        return column
    if column.lower() == _RESOURCE:
        return None
    folded = [each for each in known if each.casefold() == column.casefold()]
    if len(folded) == 1:
        return folded[0]
    near = folded or nearest(column, known) or [each for each in known if each.startswith(f"{column}/")][:3]
    raise InvalidInputError(
        f"where names the column {column!r}, and no resource has such a metric.",
        hint=f"Did you mean {' or '.join(_quoted(each) for each in near)}?" if near else
        "Metric ids stand in double quotes, texts in single ones.",
        argument="where",
        column=column,
        near=near,
    )  # fmt: skip


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
