"""Panels about resources: the run table, curves, the leaderboard, parameters beside metrics."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake.charts import MAX_POINTS, counted, differing_columns, is_number, parallel
from metrics_lake.panels.panel import Panel

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from metrics_lake.lake import MetricsLake

__all__ = ["curves", "leaderboard", "metric_overview", "parameters", "run_table"]

_PARAMS: Final = "params/"
_MAX_COLUMNS: Final = 60
_STATS: Final = {
    "last": "latest values",
    "first": "first values",
    "min": "least values",
    "max": "greatest values",
    "mean": "means",
    "count": "numbers of points",
}

_METRICS: Final = """
    WITH own AS (
        SELECT metric, resource, count(*) AS series, sum("count")::BIGINT AS points,
            bool_or(min IS NOT NULL OR num_nan > 0) AS is_number,
            bool_or((min IS NOT NULL OR num_nan > 0) AND "count" > 1) AS is_curve,
            bool_or(coalesce(first_step, last_step, min_step, max_step) IS NOT NULL) AS has_steps,
            count(*) > 1 AND NOT bool_or(tags_key = '') AS is_ambiguous
        FROM series {joined} GROUP BY metric, resource
    )
    SELECT metric, count(*) AS resources, sum(series)::BIGINT AS series, sum(points)::BIGINT AS points,
        bool_or(is_number) AS is_number, bool_or(is_curve) AS is_curve, bool_or(has_steps) AS has_steps,
        bool_or(is_ambiguous) AS is_ambiguous
    FROM own GROUP BY metric ORDER BY metric
"""


def metric_overview(lake: MetricsLake, resources: Any = None, *, at: Any = None) -> pa.Table:
    """Return a row a metric of some resources, by id, from summaries.

    Args:
        lake: The lake.
        resources: Resources, patterns, or a list of them; None: all.
        at: As in ``lake.history``.

    Returns:
        ``metric``, ``resources series points`` (counts), ``is_number`` (any point has a number: it can be
        ranked), ``is_curve`` (a series of numbers has more than one point: it can be drawn), ``has_steps``
        (a series' first, last, least or greatest point has a step),
        ``is_ambiguous`` (a resource has several tagged series of it and no untagged one).

    >>> lake = MetricsLake(tmp / "lake")
    >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5])
    >>> metric_overview(lake).to_pylist()[0]
    {'metric': 'loss', 'resources': 1, 'series': 1, 'points': 2,
     'is_number': True, 'is_curve': True, 'has_steps': True, 'is_ambiguous': False}
    """
    if resources is None:
        return lake.sql(_METRICS.format(joined=""), at=at).arrow()
    wanted = lake.resources(resources, at=at).arrow().select(["resource"])
    return lake.sql(
        _METRICS.format(joined="SEMI JOIN wanted USING (resource)"), frames={"wanted": wanted}, at=at
    ).arrow()


def run_table(
    lake: MetricsLake,
    resources: Any = None,
    metrics: Any = None,
    *,
    stat: Literal["last", "first", "min", "max", "mean", "count"] = "last",
    where: str | None = None,
    tags: Mapping[str, Any] | None = None,
    at: Any = None,
) -> Panel:
    """Return a row a resource: its points, its last time, and a value of each metric.

    Args:
        lake: The lake.
        resources: Resources, patterns, or a list of them; None: all.
        metrics: Metric ids, patterns, or a list of them; None: all, but at most 60, parameters first, without
            those of which a resource has several tagged series and no untagged one.
        stat: Which value, as in ``lake.compare``.
        where: As in ``lake.compare``.
        tags: As in ``lake.compare``.
        at: As in ``lake.history``.

    Raises:
        MetricsLakeError: As ``lake.compare``.

    >>> lake = MetricsLake(tmp / "lake")
    >>> lake.log_metrics("digits/run-1", {"acc": 0.9, "params": {"lr": 0.1}})
    >>> run_table(lake).table.drop_columns(["last_timestamp"]).to_pylist()
    [{'resource': 'digits/run-1', 'points': 2, 'params/lr': 0.1, 'acc': 0.9}]
    """
    overview = lake.resources(resources, at=at).arrow()
    left_out = ""
    if metrics is None:
        metrics, left_out = _columns(metric_overview(lake, resources, at=at), has_tags=tags is not None)
    cells = lake.compare(resources, metrics, stat=stat, where=where, tags=tags, at=at).arrow()
    known = overview.select(["resource", "points", "last_timestamp"])
    names = [name for name in cells.column_names if name not in known.column_names]
    table = (
        cells.select(["resource", *names]).join(known, "resource", join_type="left outer").sort_by("resource")
    )
    caption = f"{counted(table.num_rows, 'resource')}, {_STATS[stat]}{left_out}."
    return Panel("Runs", caption, table.select(["resource", "points", "last_timestamp", *names]))


def _columns(overview: pa.Table, *, has_tags: bool) -> tuple[list[str], str]:
    """Return the metrics that a run table shows, and what is said of the others."""
    rows = overview.to_pylist()
    ambiguous = [row["metric"] for row in rows if row["is_ambiguous"] and not has_tags]
    names = [row["metric"] for row in rows if row["metric"] not in ambiguous]
    names.sort(key=lambda name: not name.startswith(_PARAMS))
    shown = names[:_MAX_COLUMNS]
    told = f"; {len(shown)} of {counted(len(names), 'metric')}" if len(shown) < len(names) else ""
    if ambiguous:
        more = f" and {len(ambiguous) - 3} more" if len(ambiguous) > 3 else ""
        told += f"; without {', '.join(ambiguous[:3])}{more}, of which there are several series by tags"
    return shown, told


def curves(
    lake: MetricsLake,
    resources: Any,
    metrics: Any,
    *,
    x: Literal["step", "relative", "timestamp"] | None = None,
    smooth: float | None = None,
    log: bool = False,
    color: str | None = None,
    steps: Any = None,
    since: Any = None,
    until: Any = None,
    tags: Mapping[str, Any] | None = None,
    title: str | None = None,
    width: int | Literal["container"] = 640,
    height: int = 300,
    dark: bool = False,
    max_points: int = MAX_POINTS,
    at: Any = None,
) -> Panel:
    """Return the curves of some metrics, a panel a metric; a zoom asks again with ``steps`` or ``since``.

    Args:
        lake: The lake.
        resources: As in ``lake.history``.
        metrics: As in ``lake.history``.
        x: As in ``Result.plot``, like all that is about the picture.
        smooth: As in ``lake.history``.
        log: Draw y on a logarithmic axis.
        color: What lines of one colour share: ``"resource"``, ``"metric"`` or a tag's name.
        steps: As in ``lake.history``.
        since: As in ``lake.history``.
        until: As in ``lake.history``.
        tags: As in ``lake.history``.
        title: Above the chart; None: the metric.
        width: In pixels, or ``"container"``.
        height: Of one panel, in pixels.
        dark: For a dark background.
        max_points: Of all series together.
        at: As in ``lake.history``.

    Raises:
        MetricsLakeError: As ``lake.history`` and ``Result.plot``.

    >>> lake = MetricsLake(tmp / "lake")
    >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5])
    >>> curves(lake, None, "loss").caption
    '1 series · 2 points'
    """
    found = lake.history(
        resources, metrics, steps=steps, since=since, until=until, tags=tags, smooth=smooth, at=at
    )
    heading = metrics if title is None and isinstance(metrics, str) else title
    chart = found.plot(
        x, color=color, log=log, title=heading, width=width, height=height, dark=dark, max_points=max_points
    )
    return Panel(heading or "Curves", _subtitle(chart), None, chart)


def leaderboard(
    lake: MetricsLake,
    metric: str,
    *,
    mode: Literal["max", "min"],
    by: Literal["best", "last", "step"] = "best",
    resources: Any = None,
    where: str | None = None,
    tags: Mapping[str, Any] | None = None,
    top: int | None = 20,
    width: int | Literal["container"] = 640,
    dark: bool = False,
    at: Any = None,
) -> Panel:
    """Return the best resources by a metric, as rows and as bars.

    Args:
        lake: The lake.
        metric: The metric's id.
        mode: Whether more (``"max"``) or less (``"min"``) is better.
        by: As in ``lake.best``, like all that follows.
        resources: As in ``lake.best``.
        where: As in ``lake.best``.
        tags: As in ``lake.best``.
        top: As in ``lake.best``.
        width: In pixels, or ``"container"``.
        dark: For a dark background.
        at: As in ``lake.history``.

    Raises:
        MetricsLakeError: As ``lake.best`` and ``Result.plot``.

    >>> lake = MetricsLake(tmp / "lake")
    >>> lake.log_metric("digits/run-1", "acc", 0.9)
    >>> leaderboard(lake, "acc", mode="max").table.column("rank").to_pylist()
    [1]
    """
    found = lake.best(metric, mode=mode, by=by, resources=resources, where=where, tags=tags, top=top, at=at)
    table = found.arrow()
    chart = found.plot(width=width, dark=dark) if table.num_rows else None
    which = {"best": "best value ever", "last": "latest value", "step": "value at the last step"}[by]
    order = "greatest" if mode == "max" else "least"
    caption = f"{counted(table.num_rows, 'resource')} by {which} of {metric}, {order} first."
    return Panel(f"Leaderboard: {metric}", caption, table, chart)


def parameters(
    lake: MetricsLake,
    metric: str,
    *,
    resources: Any = None,
    stat: Literal["last", "first", "min", "max", "mean", "count"] = "last",
    where: str | None = None,
    tags: Mapping[str, Any] | None = None,
    width: int | Literal["container"] = 640,
    height: int = 300,
    dark: bool = False,
    at: Any = None,
) -> Panel:
    """Return the parameters of each resource beside a metric: rows, and parallel axes where they differ.

    Args:
        lake: The lake.
        metric: The metric's id.
        resources: As in ``lake.compare``.
        stat: What is shown of the metric, as in ``lake.compare``.
        where: As in ``lake.compare``.
        tags: Of the metric, as in ``lake.compare``; parameters have none.
        width: In pixels, or ``"container"``.
        height: In pixels.
        dark: For a dark background.
        at: As in ``lake.history``.

    Raises:
        MetricsLakeError: As ``lake.compare``.

    >>> lake = MetricsLake(tmp / "lake")
    >>> lake.log_metrics("digits/run-1", {"acc": 0.9, "params": {"lr": 0.1}})
    >>> parameters(lake, "acc").table.to_pylist()
    [{'resource': 'digits/run-1', 'params/lr': 0.1, 'acc': 0.9}]
    """
    from metrics_lake.globs import glob

    values = lake.compare(resources, [metric], stat=stat, where=where, tags=tags, at=at).arrow()
    given = lake.compare(resources, glob(f"{_PARAMS}*"), where=where, at=at).arrow()
    table = given.join(values, "resource", join_type="full outer").sort_by("resource")
    if metric in given.column_names:
        table = given
    table = _with_any(table)
    has_metric = table.filter(table.column(metric).is_valid())
    chart = None
    if _differing(has_metric) >= 2 and is_number(has_metric.schema.field(metric).type):
        told = f"Parameters and {metric}"
        chart = parallel(has_metric, color=metric, title=told, width=width, height=height, dark=dark)
    names = [name for name in given.column_names if name not in ("resource", metric)]
    caption = f"{counted(len(names), 'parameter')} of {counted(table.num_rows, 'resource')} beside {metric}."
    return Panel("Parameters", caption, table.select(["resource", *names, metric]), chart)


def _with_any(table: pa.Table) -> pa.Table:
    """Return the rows in which anything stands beside the id."""
    import pyarrow.compute

    either: Any = pyarrow.compute.or_
    columns = [table.column(name).is_valid() for name in table.column_names if name != "resource"]
    return table.filter(reduce(either, columns)) if columns else table


def _differing(table: pa.Table) -> int:
    """Return of how many columns, other than the id, rows differ."""
    return len(differing_columns(table))


def _subtitle(chart: Any) -> str:
    lines: list[str] = chart.title.subtitle
    return " · ".join(lines)
