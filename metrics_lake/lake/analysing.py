"""The verbs that compare resources, and SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from metrics_lake.lake.access import LakeAccess
from metrics_lake.resources import resource_ids

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import IO

    import duckdb

    from metrics_lake.result import Result

__all__ = ["AnalysisVerbs"]


class AnalysisVerbs(LakeAccess):
    """Leaderboards, run tables, SQL."""

    def best(
        self,
        metric: str,
        *,
        mode: Literal["max", "min"],
        by: Literal["best", "last", "step"] = "best",
        step: int | None = None,
        resources: Any = None,
        where: str | None = None,
        tags: Mapping[str, Any] | None = None,
        top: int | None = 10,
        at: Any = None,
    ) -> Result:
        """Return the resources with the best values of a metric, the best first.

        Values are compared by their numeric view (a double). What has none, and NaN, never wins: such a
        resource is left out. Infinities may win. Answered from summaries, not from the points.

        Args:
            metric: The metric's id.
            mode: ``"max"``: more is better; ``"min"``: less is.
            by: Which point of a series counts: its ``"best"``; its ``"last"`` by time; ``"step"``: its last
                at ``step``, or without ``step`` the one with the greatest step.
            step: For ``by="step"``.
            resources: Resources, ``glob`` patterns, or a list of them; None: all.
            where: Only resources for which this SQL condition is true: over metric ids as columns, in double
                quotes, such as ``"params/lr" < 1e-3 and "params/optimizer" = 'adam'``. A column is the
                latest value: a boolean, a number, or else a text (where a metric has numbers and texts, the
                texts are NULL), and NULL for a resource that has none; with ``tags`` of exactly this series
                if there is one. ``resource`` is the resource's id. It holds no subqueries and reaches no
                files, network or settings.
            tags: Exactly this series; ``{}``: the untagged one; None: the untagged one, else the only one.
            top: How many rows at most; None: all.
            at: As in ``get_metric``.

        Returns:
            A Result with the columns ``rank`` (int64, from 1; equal values share it and the next one is
            skipped), ``resource metric tags step timestamp value``. Of equal values the one of the earlier
            step (none is earliest), then timestamp, comes first. Empty where nobody has the metric.

        Raises:
            AmbiguousSeriesError: A resource has several tagged series and no untagged one: of the metric,
                where ``tags`` is None, or of one in ``where``, where none has just these tags; when the
                result is first looked at.
            InvalidInputError: An argument is wrong, or ``where`` names a metric that nobody has (with near
                names; when the result is first looked at).
            LakeNotFoundError: There is no lake under the url.
            SnapshotExpired: What ``at`` names is gone.

        >>> lake = MetricsLake(tmp / "lake")
        >>> for run, lr, accs in [("digits/1", 1e-2, [0.5, 0.8]), ("digits/2", 1e-4, [0.9, 0.7])]:
        ...     lake.log_params(run, {"lr": lr})
        ...     lake.log_series(run, "acc", accs)
        >>> [(row["rank"], row["resource"], row["value"]) for row in lake.best("acc", mode="max")]
        [(1, 'digits/2', 0.9), (2, 'digits/1', 0.8)]
        >>> lake.best("acc", mode="max", by="last", where='"params/lr" > 1e-3').values("resource")
        ['digits/1']
        """
        from metrics_lake.reader import best

        return best(
            self._reading(),
            metric,
            mode=mode,
            by=by,
            step=step,
            resources=resource_ids(resources),
            where=where,
            tags=tags,
            top=top,
            at=at,
        )

    def compare(
        self,
        resources: Any,
        metrics: Any = None,
        *,
        stat: Literal["last", "first", "min", "max", "mean", "count"] = "last",
        where: str | None = None,
        tags: Mapping[str, Any] | None = None,
        at: Any = None,
    ) -> Result:
        """Return a run table: a row a resource, a column a metric. Answered from summaries.

        Args:
            resources: Resources, ``glob`` patterns, or a list of them; None: all.
            metrics: Metric ids, ``glob`` patterns, or a list of them; None: all that any of these resources
                has. Ids that are asked for by name are columns even where nobody has them.
            stat: What a cell shows of its series: the value of the ``"last"`` or ``"first"`` point by time or
                of the one with the least or greatest value (NaN never is), the ``"mean"`` of the finite
                values, or the ``"count"`` of all points.
            where: As in ``best``.
            tags: As in ``best``, for each cell.
            at: As in ``get_metric``.

        Returns:
            A Result with the column ``resource``, ascending, then the metrics: those asked for by id in their
            order, then the others ascending. A cell is NULL where the resource has no such series. In
            ``rows()`` cells are exactly what was logged; as columns they are bool, int64, double or text,
            whichever fits all of a column. A metric called ``resource`` is the column ``metrics/resource``.

        Raises:
            AmbiguousSeriesError: As in ``best``, for metrics that are asked for by their ids.
            InvalidInputError: As in ``best``.
            LakeNotFoundError: There is no lake under the url.
            SnapshotExpired: What ``at`` names is gone.

        Warns:
            MetricsLakeWarning: ``tags`` is None, and metrics that were not asked for by their ids are left
                out, because a resource has several tagged series of them and no untagged one; it names them.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_metrics("digits/1", {"acc": 0.9, "params": {"layers": [64, 64]}})
        >>> lake.log_metrics("digits/2", {"acc": 0.8, "params": {"layers": 32}})
        >>> lake.compare(None, ["params/layers", "acc"]).rows()
        [{'resource': 'digits/1', 'params/layers': [64, 64], 'acc': 0.9},
         {'resource': 'digits/2', 'params/layers': 32, 'acc': 0.8}]
        """
        from metrics_lake.reader import compare

        return compare(
            self._reading(),
            resource_ids(resources),
            metrics,
            stat=stat,
            where=where,
            tags=tags,
            at=at,
        )

    def sql(
        self,
        query: str,
        params: Mapping[str, Any] | None = None,
        *,
        frames: Mapping[str, Any] | None = None,
        at: Any = None,
        timeout_seconds: float | None = 60.0,
    ) -> Result:
        """Return the result of one read-only query in DuckDB's SQL over the lake.

        The views, all of one snapshot:

        * ``metrics``, every point: ``resource metric step timestamp value kind text tags tags_key writer seq
          origin``; ``value`` is the numeric view, ``text`` the exact form where a double is not enough.
        * ``latest``, the latest point of each series: the same columns without ``origin``.
        * ``series``, a row a series: ``resource metric tags tags_key count num_nan mean``; for its ``first``,
          ``last``, ``min`` and ``max`` point the value under this name, ``…_step`` and ``…_timestamp``.
          ``mean`` is of the finite values; NaN is neither minimum nor maximum.
        * ``params``, the latest value of each parameter: ``resource name value kind text timestamp``.

        ``latest``, ``series`` and ``params`` come from summaries, whatever the number of points.

        The query is exactly one SELECT, or EXPLAIN of one. It reaches no file, network, setting, secret or
        Python variable, may use a quarter of the memory (then a temporary folder) and is interrupted after
        its time. These two limits are for mistakes: one huge text (``repeat('x', 4000000000)``) is not
        counted and the call that makes it not interrupted, so run strangers' queries in a process that may be
        killed. ``duckdb`` is a connection without limits.

        Args:
            query: The query.
            params: The values of its ``$name`` parameters, exactly these.
            frames: Further tables by name: Arrow, Polars or pandas, or another Result.
            at: As in ``get_metric``.
            timeout_seconds: How long it may compute; None: as long as it takes.

        Returns:
            A Result with the query's columns, in Arrow as DuckDB gives them.

        Raises:
            InvalidInputError: The query is not valid, not one SELECT, or reaches for what it may not have;
                with DuckDB's message. What only running it shows is raised when the result is looked at.
            QueryError: It took too long or needs more memory than it may have.
            LakeNotFoundError: There is no lake under the url.
            SnapshotExpired: What ``at`` names is gone.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/1", "acc", [0.5, 0.75, 1.0])
        >>> lake.sql("select resource, avg(value) as mean from metrics where metric = $m group by all",
        ...          {"m": "acc"}).rows()
        [{'resource': 'digits/1', 'mean': 0.75}]
        >>> import pyarrow as pa
        >>> teams = pa.table({"resource": ["digits/1"], "team": ["vision"]})
        >>> query = "select team, max from series join teams using (resource)"
        >>> lake.sql(query, frames={"teams": teams}).one()
        {'team': 'vision', 'max': 1.0}
        """
        from metrics_lake.reader import sql

        return sql(self._reading(), query, params, frames=frames, at=at, timeout_seconds=timeout_seconds)

    def report(
        self,
        target: str | os.PathLike[str] | IO[Any],
        *,
        resources: Any = None,
        metrics: Any = None,
        title: str | None = None,
        best: str | None = None,
        mode: Literal["max", "min"] | None = None,
        x: Literal["step", "relative", "timestamp"] | None = None,
        smooth: float | None = None,
        at: Any = None,
    ) -> int:
        """Write one HTML file that shows the lake in any browser, without a network.

        It has a leaderboard, curves, parameters beside metrics and a run table that sorts and filters, all of
        one snapshot, which it names; predictions and the state of the table are those of now. What is too
        much for a page is cut, and the page says so. About 1 MB of it are the scripts that draw.

        Args:
            target: A path, whose file is replaced, or an open file.
            resources: Resources, ``glob`` patterns, or a list of them; None: all.
            metrics: Metric ids, ``glob`` patterns, or a list of them; None: all, of which the first 12 that
                are curves are drawn.
            title: Of the page.
            best: The metric of the leaderboard; None: the curve that most resources have.
            mode: Whether more (``"max"``) or less (``"min"``) of it is better; None: both orders.
            x: The x axis of curves, as in ``Result.plot``.
            smooth: As in ``history``.
            at: As in ``get_metric``; None: now, with what this handle has logged.

        Returns:
            The size of the file in bytes.

        Raises:
            InvalidInputError: Altair or vl-convert is not installed, or an argument is wrong.
            LakeNotFoundError: There is no lake under the url.
            NotPublishedError: What this handle has logged cannot be published, and so not be read as one
                snapshot.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> size_bytes = lake.report(tmp / "report.html", title="Digits")
        >>> "<title>Digits</title>" in (tmp / "report.html").read_text(encoding="utf-8")
        True
        """
        from metrics_lake.report import write_report

        if at is None and not self._read_only:
            self._writer.flush()
        return write_report(
            self,  # type: ignore[arg-type]  # the only class that has these verbs is MetricsLake
            target,
            resources=resources,
            metrics=metrics,
            title=title,
            best=best,
            mode=mode,
            x=x,
            smooth=smooth,
            at=at,
        )

    def duckdb(self, *, at: Any = None) -> duckdb.DuckDBPyConnection:
        """Return an ordinary DuckDB connection with the views of ``sql``: whatever DuckDB can do.

        The views show the snapshot of this call for as long as its files are there (vacuum keeps replaced
        ones for seven days); make another connection for newer points. Nothing limits it: it reads and
        writes files and loads extensions. Never run somebody else's SQL on it.

        Args:
            at: As in ``get_metric``.

        Raises:
            LakeNotFoundError: There is no lake under the url.
            SnapshotExpired: What ``at`` names is gone.

        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/1", "acc", [0.5, 0.75, 1.0])
        >>> with lake.duckdb() as connection:
        ...     connection.execute("create table top as select max(value) as acc from metrics")
        ...     connection.sql("select acc from top").fetchall()
        <...>
        [(1.0,)]
        """
        from metrics_lake.reader import connect

        return connect(self._reading(), at=at)
