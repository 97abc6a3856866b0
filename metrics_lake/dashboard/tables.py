"""Which runs the page is about, and tables to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.globs import Glob, glob

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    import pyarrow as pa

    from metrics_lake import MetricsLake

__all__ = ["runs_like", "runs_where", "shown"]

_PAGE_ROWS: Final = 20


def runs_like(text: str) -> Glob | None:
    """Return the pattern that a search field's text means: a part of an id, or a pattern of whole ids.

    >>> runs_like("mlp"), runs_like("digits/*"), runs_like(" ")
    (glob('*mlp*'), glob('digits/*'), None)
    """
    asked = text.strip()
    if not asked:
        return None
    return glob(asked if any(sign in asked for sign in "*?[") else f"*{asked}*")


def runs_where(lake: MetricsLake, runs: Glob | None, where: str | None) -> Any:
    """Return the runs for which a condition is true, as read verbs take them.

    Raises:
        MetricsLakeError: The lake cannot be read, or the condition is wrong.
    """
    if where is None:
        return runs
    return lake.compare(runs, [], where=where).values("resource")


def shown(table: pa.Table, *, frozen: Sequence[str] = ()) -> Any:
    """Return a table to look at: sorted by its head, in pages, the first columns always in sight."""
    import marimo as mo
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(table))
    plain = frame.select(_plain(frame))
    return mo.ui.table(
        plain,
        selection=None,
        page_size=_PAGE_ROWS,
        show_search=False,
        show_column_summaries=False,
        show_data_types=False,
        freeze_columns_left=[name for name in frozen if name in frame.columns],
        format_mapping={name: _short if kind.is_float() else _text for name, kind in plain.schema.items()},
        max_columns=None,
    )


def _plain(frame: pl.DataFrame) -> list[pl.Expr]:
    """Return the columns in forms that a table shows well: times to the second, tags as text."""
    import polars as pl

    made = []
    for name, kind in frame.schema.items():
        column = pl.col(name)
        if kind == pl.Datetime:
            column = column.dt.strftime("%Y-%m-%d %H:%M:%S UTC")
        elif isinstance(kind, pl.List):
            column = column.list.eval(_pair(pl.element(), kind)).list.join(", ")
        # As a name "__proto__" takes a row's object apart in the browser; the space before it has no width.
        made.append(column.alias("\N{ZERO WIDTH SPACE}" * (name == "__proto__") + name))
    return made


def _pair(element: pl.Expr, kind: pl.List) -> pl.Expr:
    import polars as pl

    if isinstance(kind.inner, pl.Struct):
        return pl.format("{}={}", element.struct.field("key"), element.struct.field("value"))
    return element.cast(pl.String)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _text(value: object) -> str:
    return "" if value is None else str(value)
