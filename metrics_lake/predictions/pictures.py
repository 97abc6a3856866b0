"""Charts of the metrics of one call, or of one job: which there are, and a page of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import near
from metrics_lake.predictions.curve_points import CURVES, curve_points
from metrics_lake.predictions.finalize import finalize

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts import Chart

__all__ = ["DRAWN_POINTS", "KINDS", "picture"]

KINDS: Final = ("metrics", "confusion", "classes", *CURVES)
"""What can be drawn."""

DRAWN_POINTS: Final = 400
"""Points of a ROC or precision-recall curve: one or two for each pixel of a chart's side."""

_OVERVIEW: Final = ("roc", "pr", "calibration", "scores", "confusion", "classes", "residuals", "predictions")
_TABLES: Final = {"confusion": "confusion", "classes": "class_distribution"}
_SIDE: Final = 340


def picture(
    state: pa.Table, kind: str | None, *, by: Any = None, title: str | None = None, dark: bool = False
) -> Chart:
    """Return a chart of a state; ``kind`` None draws all that it knows on one page.

    Raises:
        InvalidInputError: There is no such kind, the state knows nothing of it, or Altair is not installed.
        NotFoundError: No stored segments have the columns of ``by``.
    """
    from metrics_lake import charts

    if kind is not None and kind not in KINDS:
        raise InvalidInputError(
            f"kind={kind!r} is not known.{near(str(kind), KINDS)}",
            hint=f"Pass one of {', '.join(map(repr, KINDS))}, or nothing for all that there is.",
            argument="kind",
        )
    if kind == "metrics":
        return charts.metrics_chart(finalize(state, by=by, every=None), title=title, dark=dark)
    numbers = finalize(state, "all", by=by, every=None)
    look: dict[str, Any] = {"title": title if kind else None, "dark": dark}
    made = []
    for name in _OVERVIEW if kind is None else (kind,):
        if name in _TABLES:
            table = _of_metric(numbers, _TABLES[name])
            draw = charts.confusion_matrix if name == "confusion" else charts.class_distribution
        else:
            table = curve_points(state, name, by=by, every=None, points=DRAWN_POINTS)
            draw = partial(charts.curve_chart, numbers=numbers, width=_SIDE)
        if table.num_rows or name == kind:
            made.append(draw(table, **look))
    if kind is not None:
        return made[0]
    if not made:
        return charts.metrics_chart(numbers, title=title, dark=dark)
    return charts.beside(made, title=title or "", dark=dark)


def _of_metric(numbers: pa.Table, metric: str) -> pa.Table:
    import pyarrow as pa

    wanted = [name == metric for name in numbers.column("metric").to_pylist()]
    return numbers.filter(pa.array(wanted, pa.bool_()))
