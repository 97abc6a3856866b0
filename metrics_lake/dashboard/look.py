"""How the page says things and shows panels."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from metrics_lake.charts import vega_lite_version
from metrics_lake.dashboard.tables import shown
from metrics_lake.errors import MetricsLakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metrics_lake.charts import Chart
    from metrics_lake.panels import Panel

__all__ = ["ACTIONS", "attempt", "beside", "careful", "note", "panel", "picture", "stack", "warning"]

ACTIONS: Final = {"export": True, "source": False, "compiled": False, "editor": False}
"""What a chart's menu offers: to save it. Vega's editor is a page of others, to which the data would go."""

_Made = TypeVar("_Made")


class _Picture:
    """A chart in the form in which the page draws it."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self._specification = specification

    def _mime_(self) -> tuple[str, str]:
        major = vega_lite_version().partition(".")[0]
        return f"application/vnd.vegalite.v{major}+json", json.dumps(self._specification, allow_nan=False)


def picture(chart: Chart) -> Any:
    """Return a chart as the page draws it.

    marimo itself would check an Altair chart against its schema and write it as HTML first, before it takes
    the same specification: for 5,000 points 25 ms instead of 6 (November 2026). What a cell shows alone, the
    page redraws where it stands; what is inside of something else it makes anew, which takes 0.3 s more.
    """
    specification = chart.to_dict(validate=False)
    meta = specification.get("usermeta", {})
    embedded = {**meta.get("embedOptions", {}), "actions": ACTIONS}
    return _Picture({**specification, "usermeta": {**meta, "embedOptions": embedded}})


def note(text: str) -> Any:
    """Return a quiet line of plain text."""
    import marimo as mo

    return mo.Html(f'<div style="color: var(--gray-11); font-size: 0.85rem">{html.escape(text)}</div>')


def careful(make: Callable[[], Any]) -> Any:
    """Return what a function makes; where the lake refuses, why, and what to do about it."""
    try:
        return make()
    except MetricsLakeError as error:
        return warning(str(error))


def attempt(make: Callable[[], _Made], *, otherwise: _Made) -> _Made:
    """Return what a function makes; where the lake refuses, which a panel tells beside it, another thing."""
    try:
        return make()
    except MetricsLakeError:
        return otherwise


def warning(text: str) -> Any:
    """Return plain text that stands out."""
    import marimo as mo

    return mo.callout(mo.Html(f"<div>{html.escape(text)}</div>"), kind="warn")


def stack(parts: Sequence[Any], *, gap: float = 0.5) -> Any:
    """Return what stands one below the other."""
    import marimo as mo

    return _holding(mo.vstack(parts, gap=gap), parts)


def beside(parts: Sequence[Any], *, gap: float = 1.5, align: Literal["start", "center"] = "center") -> Any:
    """Return what stands beside one another, as far as there is room."""
    import marimo as mo

    return _holding(mo.hstack(parts, justify="start", align=align, wrap=True, gap=gap), parts)


def panel(panel: Panel, *, frozen: Sequence[str] = ()) -> Any:
    """Return a panel as the page shows it: its chart with its rows folded away, or its rows."""
    import marimo as mo

    rows = shown(panel.table, frozen=frozen) if panel.table is not None and panel.table.num_rows else None
    if panel.chart is None:
        title = mo.Html(f"<strong>{html.escape(panel.title)}</strong>")
        return stack([title, note(panel.caption), *([rows] if rows is not None else [])])
    parts = [picture(panel.chart), note(panel.caption)]
    if rows is not None:
        parts.append(_holding(mo.accordion({"Rows": rows}), [rows]))
    return stack(parts)


def _holding(made: Any, parts: Sequence[Any]) -> Any:
    """Return HTML that holds its parts: an element that nothing holds falls silent."""
    made.parts = parts
    return made
