"""What a report shows, and where it goes."""

from __future__ import annotations

import datetime as dt
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake import panels
from metrics_lake.charts import MAX_POINTS, counted
from metrics_lake.errors import InvalidInputError
from metrics_lake.report.page import Page, require_packages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from metrics_lake.lake import MetricsLake
    from metrics_lake.panels import Panel

__all__ = ["write_report"]

_MAX_CURVES: Final = 12
_MAX_ROWS: Final = 1_000
_MAX_CELLS: Final = 30_000
_PAGE_POINTS: Final = 60_000
"""Points of all curves of a page: some 2 MB of it."""

_LEAST_POINTS: Final = 4_000
_TOP: Final = 20
_MAX_JOBS: Final = 3
_MODES: Final = {"max": "Greatest first", "min": "Least first"}


def write_report(
    lake: MetricsLake,
    target: Any,
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
    """Write the report that ``MetricsLake.report`` describes; return its size in bytes."""
    if mode is not None and mode not in _MODES:
        raise InvalidInputError(f"mode is {mode!r}.", hint="Pass 'max' or 'min'.", argument="mode")
    require_packages()
    write = _writer(target)
    pinned = lake.snapshot() if at is None else at
    page = Page(title or "Metrics report", _facts(lake, pinned, resources), str(pinned))
    overview = panels.metric_overview(lake, resources, at=pinned)
    if metrics is not None:
        overview = _asked(overview, metrics)
    rows = overview.to_pylist()
    if not rows:
        page.add("Nothing to show", page.caption("No resource of this lake has such metrics."))
    else:
        selection = {"resources": resources, "at": pinned}
        curved = [row["metric"] for row in rows if row["is_curve"]]
        ranked = _ranked(rows, best)
        if ranked is not None:
            _add_leaderboard(page, lake, ranked, mode, selection)
        _add_curves(page, lake, curved, {**selection, "x": x, "smooth": smooth})
        if ranked is not None:
            _add_parameters(page, lake, ranked, selection)
        if any(row["metric"] == "num_predictions" for row in rows):
            _add_predictions(page, lake, resources)
        _add_runs(page, lake, None if metrics is None else [row["metric"] for row in rows], selection)
    _add_health(page, lake)
    data = page.html().encode()
    write(data)
    return len(data)


# ---- sections ----------------------------------------------------------------------------------------------


def _facts(lake: MetricsLake, pinned: Any, resources: Any) -> dict[str, str]:
    version, *objects = str(pinned).split(";")
    told = f"{version} and {counted(len(objects), 'object')} of the inbox" if objects else version
    facts = {"lake": lake.url, "snapshot": told}
    if resources is not None:
        listed = resources if isinstance(resources, list | tuple) else [resources]
        facts["resources"] = ", ".join(map(str, listed[:5])) + (" …" if len(listed) > 5 else "")
    return facts | {"made": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")}


def _asked(overview: pa.Table, metrics: Any) -> pa.Table:
    """Return the metrics that were asked for, those asked for by id in their order."""
    import pyarrow as pa

    from metrics_lake.globs import Glob

    wanted = [metrics] if isinstance(metrics, str | Glob) else list(metrics)
    names: list[Any] = overview.column("metric").to_pylist()
    order = [
        at
        for each in wanted
        for at, name in enumerate(names)
        if (each.matches(name) if isinstance(each, Glob) else name == each)
    ]
    return overview.take(pa.array(list(dict.fromkeys(order)), pa.int64()))


def _ranked(rows: Sequence[Mapping[str, Any]], best: str | None) -> str | None:
    """Return the metric of the leaderboard: the one asked for, else the curve that most resources have."""
    if best is not None:
        return best
    able = [row for row in rows if row["is_number"] and not row["is_ambiguous"]]
    able = [row for row in able if not row["metric"].startswith("params/")]
    chosen = max(able, key=lambda row: (row["is_curve"], row["resources"]), default=None)
    return None if chosen is None else chosen["metric"]


def _add_leaderboard(
    page: Page, lake: MetricsLake, metric: str, mode: str | None, selection: Mapping[str, Any]
) -> None:
    boards: dict[str, Panel] = {
        label: panels.leaderboard(lake, metric, mode=each, top=_TOP, width="container", **selection)  # type: ignore[arg-type]  # the keys of _MODES
        for each, label in _MODES.items()
        if mode in (None, each)
    }
    pieces = {label: _board(page, board) for label, board in boards.items()}
    body = next(iter(pieces.values())) if len(pieces) == 1 else page.choice("Order", pieces)
    page.add(f"Leaderboard: {metric}", body)


def _board(page: Page, board: Panel) -> str:
    if board.chart is None:
        return page.caption(f"{board.caption} Nothing can be ranked.")
    return page.caption(board.caption) + page.chart(board.chart) + page.table(_telling(board))


def _add_curves(page: Page, lake: MetricsLake, metrics: Sequence[str], options: Mapping[str, Any]) -> None:
    if not metrics:
        return
    drawn = list(metrics[:_MAX_CURVES])
    budget = min(MAX_POINTS, max(_LEAST_POINTS, _PAGE_POINTS // len(drawn)))
    asked = dict(options)
    resources = asked.pop("resources")
    found = [
        panels.curves(lake, resources, each, width="container", height=260, max_points=budget, **asked)
        for each in drawn
    ]
    more = (
        f" The first {len(drawn)} of {counted(len(metrics), 'metric')}." if len(metrics) > len(drawn) else ""
    )
    page.add(
        "Curves",
        page.caption(f"Each line is a series; where a step was logged twice, its newest point.{more}"),
        page.charts([each.chart for each in found if each.chart is not None]),
    )


def _add_parameters(page: Page, lake: MetricsLake, metric: str, selection: Mapping[str, Any]) -> None:
    panel = panels.parameters(lake, metric, width="container", **selection)
    if panel.table is None or panel.table.num_columns < 3:
        return
    pieces = [page.caption(panel.caption)]
    if panel.chart is not None:
        pieces.append(page.chart(panel.chart, is_wide=True))
    page.add("Parameters", *pieces, page.table(_cut(panel), filter_label="Filter"))


def _add_predictions(page: Page, lake: MetricsLake, resources: Any) -> None:
    jobs = panels.prediction_jobs(lake).sort_by([("last_timestamp", "descending")]).to_pylist()
    if resources is not None:
        chosen = set(lake.resources(resources).values("resource"))
        jobs = [job for job in jobs if job["resource"] in chosen]
    if not jobs:
        return
    more = f", the last {_MAX_JOBS} of {len(jobs):,} shown" if len(jobs) > _MAX_JOBS else ""
    pieces = [page.caption(f"{counted(len(jobs), 'prediction job')}{more}.")]
    for job in jobs[:_MAX_JOBS]:
        found = panels.predictions(lake, job["resource"], width="container")
        if job["every"] is not None:
            found += panels.prediction_windows(lake, job["resource"], every=job["every"], width="container")
        pieces += [
            page.heading(job["resource"]),
            page.caption(found[0].caption),
            page.charts([panel.chart for panel in found if panel.chart is not None]),
            page.table(found[0], filter_label="Filter"),
        ]
    page.add("Predictions", *pieces)


def _add_runs(page: Page, lake: MetricsLake, metrics: Any, selection: Mapping[str, Any]) -> None:
    panel = _cut(panels.run_table(lake, metrics=metrics, **selection))
    page.add("Runs", page.caption(panel.caption), page.table(panel, filter_label="Filter"))


def _add_health(page: Page, lake: MetricsLake) -> None:
    pieces = []
    for panel in panels.health(lake):
        pieces += [page.heading(panel.title), page.caption(panel.caption), page.table(panel)]
    page.add("Table health", *pieces)


def _telling(panel: Panel) -> Panel:
    """Return a leaderboard without the columns that say the same, or nothing, in all rows."""
    table = panel.table
    if table is None:
        return panel
    silent = [name for name in ("tags", "step") if table.column(name).null_count == table.num_rows]
    return panels.Panel(panel.title, panel.caption, table.drop_columns(["metric", *silent]), panel.chart)


def _cut(panel: Panel) -> Panel:
    """Return a panel of no more rows than a browser shows at once, and say so."""
    table = panel.table
    if table is None:
        return panel
    most = min(_MAX_ROWS, max(50, _MAX_CELLS // table.num_columns))
    if table.num_rows <= most:
        return panel
    caption = f"{panel.caption} The first {most:,} rows are shown."
    return panels.Panel(panel.title, caption, table.slice(0, most), panel.chart)


# ---- where it goes -----------------------------------------------------------------------------------------


def _writer(target: Any) -> Any:
    """Return what writes the page to a path or an open file.

    Raises:
        InvalidInputError: It is neither, or no file can be there.
    """
    if isinstance(target, io.TextIOBase):
        return lambda data: target.write(data.decode())
    if hasattr(target, "write"):
        return target.write
    if not isinstance(target, str | os.PathLike):
        raise InvalidInputError(
            f"a {type(target).__name__} is no place for a report.", hint="Pass a path or an open file."
        )
    if "://" in os.fspath(target):
        raise InvalidInputError(
            f"{os.fspath(target)!r} is no local file.", hint="Pass a file opened with fsspec.open(…, 'wb')."
        )
    path = Path(target)
    if not path.parent.is_dir():
        raise InvalidInputError(f"there is no folder {str(path.parent)!r}.", argument="target")
    return lambda data: _replace(path, data)


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    made = Path(name)
    try:
        with open(number, "wb") as file:  # noqa: PTH123 -- a descriptor, not a path
            file.write(data)
        made.chmod(0o644)
        made.replace(path)
    except OSError:
        made.unlink(missing_ok=True)
        raise
