"""Which chart a table is drawn as: by what its columns are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts.comparing import is_number, parallel, scatter
from metrics_lake.charts.predictions import curve_chart, metrics_chart
from metrics_lake.charts.ranking import ranking
from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["plot"]

_NEEDED: Final = (
    "A chart needs two columns, of which one is of numbers: pass x= and y=, or name them so in the query."
)


def plot(
    rows: pa.Table,
    x: str | None = None,
    *,
    y: str | None = None,
    color: str | None = None,
    log: bool = False,
    title: str | None = None,
    width: int | str = 640,
    height: int = 300,
    dark: bool = False,
) -> Chart:
    """Return the chart that suits a table: a leaderboard, prediction metrics, a run table, two columns.

    Raises:
        InvalidInputError: Altair is not installed, or no columns can be drawn; it names those there are.
    """
    names = set(rows.column_names)
    look: dict[str, Any] = {"title": title, "width": width, "dark": dark}
    for argument, column in (("x", x), ("y", y), ("color", color)):
        if column is not None and column not in names:
            raise InvalidInputError(
                f"there is no column {column!r} for {argument}=.",
                hint=f"There are: {', '.join(rows.column_names)}.",
                argument=argument,
            )
    if log and x is None and y is None and names & {"rank", "curve", "window_start"}:
        raise InvalidInputError(
            "this chart has no axis that can be logarithmic.",
            hint="Pass x= and y= to draw one column against another.",
            argument="log",
        )
    if x is None and y is None and color is None:
        if {"rank", "resource", "metric", "value"} <= names:
            return ranking(rows, **look)
        if {"curve", "x", "y", "bin_start"} <= names:
            return curve_chart(rows, **look)
        if {"window_start", "segment", "metric", "value", "low", "high"} <= names:
            return metrics_chart(rows, **look)
    look["height"] = height
    if x is None and y is None and rows.column_names[:1] == ["resource"]:
        telling = [field.name for field in rows.schema if is_number(field.type)]
        if len(rows.column_names) > 2 and telling:
            return parallel(rows, color=color, **look)
    numbers = [field.name for field in rows.schema if is_number(field.type)]
    if y is None:
        y = next((name for name in ("y", "value", *reversed(numbers)) if name in numbers and name != x), None)
    if x is None:
        x = next(
            (name for name in ("x", "step", "timestamp", *rows.column_names) if name in names and name != y),
            None,
        )
    if x is None or y is None:
        raise InvalidInputError(
            f"these columns cannot be drawn: {', '.join(rows.column_names)}.", hint=_NEEDED
        )
    return scatter(rows, x, y, color=color, log=log, **look)
