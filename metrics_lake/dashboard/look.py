"""How the page says things and shows panels."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from metrics_lake.dashboard.tables import shown
from metrics_lake.errors import MetricsLakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metrics_lake.panels import Panel

__all__ = ["careful", "note", "panel"]


def note(text: str) -> Any:
    """Return a quiet line of plain text."""
    import marimo as mo

    return mo.Html(f'<div style="color: var(--gray-11); font-size: 0.85rem">{html.escape(text)}</div>')


def careful(make: Callable[[], Any]) -> Any:
    """Return what a function makes; where the lake refuses, why, and what to do about it."""
    import marimo as mo

    try:
        return make()
    except MetricsLakeError as error:
        return mo.callout(mo.Html(f"<div>{html.escape(str(error))}</div>"), kind="warn")


def panel(panel: Panel, *, frozen: Sequence[str] = ()) -> Any:
    """Return a panel as the page shows it: what it is, its chart, its rows."""
    import marimo as mo

    parts = [mo.Html(f"<strong>{html.escape(panel.title)}</strong>"), note(panel.caption)]
    if panel.chart is not None:
        parts.append(panel.chart)
    if panel.table is not None and panel.table.num_rows:
        parts.append(shown(panel.table, frozen=frozen))
    return mo.vstack(parts)
