"""Panels about the table itself: files, versions, writers, gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts import counted
from metrics_lake.panels.panel import Panel
from metrics_lake.schema import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.lake import MetricsLake

__all__ = ["health"]

_SHOWN: Final = 20


def health(lake: MetricsLake, table: str = METRICS) -> list[Panel]:
    """Return what a table is made of: its live files, last versions, last writers and gaps, in this order.

    Args:
        lake: The lake.
        table: The table.

    Raises:
        MetricsLakeError: As the verbs of ``lake.inspect``.

    >>> lake = MetricsLake(tmp / "lake")
    >>> lake.log_metric("digits/run-1", "acc", 0.9)
    >>> _ = lake.flush()
    >>> [panel.title for panel in health(lake)]
    ['Files', 'Versions', 'Writers', 'Gaps']
    """
    inspect = lake.inspect
    return [
        _files(inspect.files(table).arrow()),
        _last("Versions", "version", inspect.snapshots(table).arrow()),
        _last("Writers", "writer", inspect.writers(table).arrow()),
        _gaps(inspect.gaps(table).arrow()),
    ]


def _files(files: pa.Table) -> Panel:
    """Return a row a kind and month of live files."""
    sums = files.group_by(["kind", "month"]).aggregate(
        [("key", "count"), ("points", "sum"), ("size_bytes", "sum"), ("modified", "max")]
    )
    shown = sums.rename_columns(["kind", "month", "files", "points", "size_bytes", "last_modified"])
    total, points = _sum(files, "size_bytes"), _sum(files, "points")
    inbox = files.column("kind").to_pylist().count("inbox")
    caption = (
        f"{counted(points, 'point')} in {counted(files.num_rows, 'file')} of {_size(total)}, "
        f"{inbox:,} of them waiting in the inbox to be compacted."
    )
    keys: Any = [("kind", "ascending"), ("month", "ascending")]
    return Panel("Files", caption, shown.sort_by(keys))


def _last(title: str, noun: str, rows: pa.Table) -> Panel:
    """Return the last rows, the newest first."""
    last = rows.slice(max(0, rows.num_rows - _SHOWN))
    newest = last.take(list(range(last.num_rows - 1, -1, -1))) if last.num_rows else last
    told = f", the last {last.num_rows} shown" if last.num_rows < rows.num_rows else ""
    return Panel(title, f"{counted(rows.num_rows, noun)}{told}.", newest)


def _gaps(gaps: pa.Table) -> Panel:
    missing = _sum(gaps, "points")
    caption = (
        f"{counted(gaps.num_rows, 'gap')}: {counted(missing, 'point')} that no object holds."
        if gaps.num_rows
        else "No gaps: every published point is there."
    )
    return Panel("Gaps", caption, gaps)


def _sum(table: pa.Table, name: str) -> int:
    numbers: list[Any] = table.column(name).to_pylist()
    return sum(each or 0 for each in numbers)


def _size(size_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:,.0f} {unit}" if unit == "bytes" else f"{size_bytes:,.1f} {unit}"
