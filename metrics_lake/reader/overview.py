"""Series summaries as the run table, leaderboards and comparisons read them: one look at all series.

What is logged for a resource is asked for by metric id here, so each metric has to be one series of it: the
one with exactly the tags asked for; else the untagged one; else the only one there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake import query, series
from metrics_lake.errors import AmbiguousSeriesError
from metrics_lake.reader.selection import Ids, Selection
from metrics_lake.reader.table import has_later
from metrics_lake.tags import tags_from_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from metrics_lake.commits import Snapshot
    from metrics_lake.reader.table import TableReader

__all__ = [
    "EXACT_COLUMNS",
    "Overview",
    "ambiguous_series",
    "check_unambiguous",
    "one_series",
    "without_ambiguous",
    "without_ambiguous_warning",
]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

EXACT_COLUMNS: Final = ("kind", "value", "text")

_ONE_SERIES: Final = """
    SELECT *, count(*) OVER own > 1 AND NOT bool_or(tags_key = '') OVER own {unless} AS is_ambiguous
    FROM summary
    WINDOW own AS (PARTITION BY resource, metric)
    QUALIFY row_number() OVER (
        PARTITION BY resource, metric ORDER BY {preferred} tags_key = '' DESC, tags_key
    ) = 1
    ORDER BY resource, metric
"""


@dataclass(frozen=True, slots=True)
class Overview:
    """The series of one snapshot.

    Attributes:
        table: Reads them.
        snapshot: What is read.
        parts: Summaries of disjoint rows.
        instant: Only what had happened then, in microseconds since 1970; None = everything.
    """

    table: TableReader
    snapshot: Snapshot
    parts: tuple[pa.Table, ...]
    instant: int | None

    @classmethod
    def of(cls, table: TableReader, snapshot: Snapshot, instant: int | None) -> Overview:
        """Return the overview of a snapshot."""
        return cls(table, snapshot, tuple(table.summary_parts(snapshot, Selection())), instant)

    def metric_ids(self) -> list[str]:
        """Return the ids of all metrics that any resource has, in order."""
        return self._ids(self.parts, "metric")

    def resource_ids(self, wanted: Ids | None) -> list[str]:
        """Return the ids of the resources that have any point, in order."""
        parts = [Selection(wanted).series_of(part.select(["resource", "first"])) for part in self.parts]
        if self.instant is not None:
            bound = pa.scalar(self.instant, pa.timestamp("us", tz="UTC"))
            parts = [
                part.filter(pc.less_equal(pc.struct_field(part.column("first"), "timestamp"), bound))
                for part in parts
            ]
        return self._ids(parts, "resource")

    def series(self, resources: Ids | None, metrics: Ids | None) -> pa.Table:
        """Return the merged summary of some metrics of some resources."""
        selection = Selection(resources, metrics)
        parts = [selection.series_of(part) for part in self.parts]
        merged = series.merge(parts, in_order=False)
        if self.instant is None or not has_later(merged, self.instant):
            return merged
        return self.table.summarised_until(self.snapshot, selection, self.instant)

    def exact(self, points: pa.Table) -> pa.Table:
        """Return points with the exact ``kind``, ``value`` and ``text`` of those whose summary is cut.

        Args:
            points: With the columns ``resource metric timestamp writer seq is_cut kind value text``.
        """
        cut = points.filter(points.column("is_cut"))
        if not cut.num_rows:
            return points
        whole = self.table.exact(self.snapshot, cut)
        names = [name for name in points.column_names if name not in EXACT_COLUMNS]
        shown = ", ".join(f"points.{name}" for name in names)
        exact = ", ".join(
            f"CASE WHEN is_cut THEN whole.{name} ELSE points.{name} END AS {name}" for name in EXACT_COLUMNS
        )
        sql = f"""
            SELECT {shown}, {exact}
            FROM (SELECT *, row_number() OVER () AS place FROM points) AS points
            LEFT JOIN whole USING (resource, writer, seq) ORDER BY place
        """
        return query.run(sql, points=points, whole=whole)

    @staticmethod
    def _ids(parts: Iterable[pa.Table], column: str) -> list[str]:
        found: set[Any] = set()
        for part in parts:
            found.update(pc.unique(part.column(column)).to_pylist())
        return sorted(found)


def one_series(summary: pa.Table, key: str | None, *, is_strict: bool = True) -> pa.Table:
    """Return the one series of each metric of each resource, with a column ``is_ambiguous``.

    Args:
        summary: A series summary.
        key: The ``tags_key`` that it must have; None = any, by the rule.
        is_strict: False where a resource that has no such series falls back on the rule.
    """
    if key is not None and is_strict:
        of_key: Any = pc.equal(summary.column("tags_key"), key)
        summary = summary.filter(of_key)
    if key is None or is_strict:
        untagged: Any = pc.equal(summary.column("tags_key"), key or "")
        if pc.all(untagged).as_py() is not False:
            return summary.append_column("is_ambiguous", pa.repeat(False, summary.num_rows))
        return query.run(_ONE_SERIES.format(preferred="", unless=""), summary=summary)
    sql = _ONE_SERIES.format(
        preferred="tags_key = $key DESC,", unless="AND NOT bool_or(tags_key = $key) OVER own"
    )
    return query.run(sql, {"key": key}, summary=summary)


def check_unambiguous(chosen: pa.Table, summary: pa.Table) -> None:
    """Raise where a metric of a resource has several tagged series and no untagged one.

    Args:
        chosen: What ``one_series`` returned, or some rows of it.
        summary: What it was given.

    Raises:
        AmbiguousSeriesError: It names the first such, and its series.
    """
    ambiguous = chosen.filter(chosen.column("is_ambiguous"))
    if not ambiguous.num_rows:
        return
    resource: Any = ambiguous.column("resource")[0].as_py()
    metric: Any = ambiguous.column("metric")[0].as_py()
    own = Selection(Ids((resource,)), Ids((metric,))).series_of(summary)
    raise ambiguous_series(resource, metric, own.column("tags_key").to_pylist())


def without_ambiguous(chosen: pa.Table, named: Collection[str]) -> tuple[pa.Table, list[str]]:
    """Return series without the metrics that are ambiguous anywhere, and which these are, but for named ones.

    Args:
        chosen: What ``one_series`` returned.
        named: The metrics that were asked for by their ids.
    """
    ambiguous: list[Any] = chosen.filter(chosen.column("is_ambiguous")).column("metric").to_pylist()
    left_out = sorted(set(ambiguous).difference(named))
    if not left_out:
        return chosen, []
    is_left_out = pc.is_in(chosen.column("metric"), value_set=pa.array(left_out, pa.string()))
    return chosen.filter(pc.invert(is_left_out)), left_out


def without_ambiguous_warning(metrics: Sequence[str]) -> str:
    """Return the text that says which metrics were left out by ``without_ambiguous``."""
    shown = ", ".join(map(repr, metrics[:5])) + (f" and {len(metrics) - 5} more" if len(metrics) > 5 else "")
    return (
        f"Left out: {shown}, of which a resource has several tagged series and no untagged one. "
        "Say which with tags={…}, or take all with history()."
    )


def ambiguous_series(resource: str, metric: str, keys: Iterable[Any]) -> AmbiguousSeriesError:
    """Return the error that one value is asked for and there are several series."""
    series_tags = [tags_from_key(key) for key in sorted(keys)]
    shown = ", ".join(map(str, series_tags[:5]))
    more = f" and {len(series_tags) - 5} more" if len(series_tags) > 5 else ""
    return AmbiguousSeriesError(
        f"{metric!r} of {resource!r} has {len(series_tags)} series: {shown}{more}.",
        hint="Say which with tags={…}, or take all with history().",
        resource=resource,
        metric=metric,
        series=series_tags,
    )
