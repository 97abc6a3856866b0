"""Which chart prediction metrics, or points of their curves, are drawn as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module
from metrics_lake.charts.calibration import calibration
from metrics_lake.charts.classes import class_distribution
from metrics_lake.charts.confusion import confusion_matrix
from metrics_lake.charts.discrimination import precision_recall, roc
from metrics_lake.charts.distributions import distribution
from metrics_lake.charts.intervals import intervals
from metrics_lake.charts.theme import themed
from metrics_lake.charts.windows import windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["beside", "curve_chart", "metrics_chart"]

_WITH_NUMBERS: Final[dict[str, Callable[..., Chart]]] = {
    "roc": roc,
    "pr": precision_recall,
    "calibration": calibration,
}


def curve_chart(
    points: pa.Table,
    numbers: pa.Table | None = None,
    *,
    title: str | None = None,
    width: int | str = 480,
    dark: bool = False,
) -> Chart:
    """Return the chart of a curve's points: ROC, precision-recall, calibration or a distribution.

    Args:
        points: As ``lake.prediction_curves`` gives them, of one curve.
        numbers: Prediction metrics of the same groups, to be told beside the curves.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    names: list[Any] = points.column("curve").slice(0, 1).to_pylist()
    curve = names[0] if names else "scores"
    # Rates and shares are compared with the diagonal: such charts are square.
    side = min(width, 480) if isinstance(width, int) else 480
    if curve in _WITH_NUMBERS:
        return _WITH_NUMBERS[curve](points, numbers, title=title, width=side, height=side * 4 // 5, dark=dark)
    return distribution(points, title=title, width=width, dark=dark)


def metrics_chart(
    rows: pa.Table, *, title: str | None = None, width: int | str = 640, dark: bool = False
) -> Chart:
    """Return the chart that suits prediction metrics: over windows or jobs, by segment, or of classes.

    Args:
        rows: As ``lake.prediction_metrics`` gives them.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    metrics = set(rows.column("metric").to_pylist())
    if metrics == {"confusion"}:
        return confusion_matrix(rows, title=title, dark=dark)
    if metrics == {"class_distribution"} and not _has_windows(rows):
        return class_distribution(rows, title=title, width=width, dark=dark)
    if _has_windows(rows) or len(set(rows.column("resource").to_pylist())) > 1:
        return windows(rows, title=title, width=width, dark=dark)
    return intervals(rows, title=title, width=width, dark=dark)


def _has_windows(rows: pa.Table) -> bool:
    return bool(rows.column("window_start").null_count < rows.num_rows)


def beside(charts: Sequence[Chart], *, columns: int = 2, title: str = "", dark: bool = False) -> Chart:
    """Return charts beside and below one another as one chart.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    alt = altair_module()
    plain = []
    for chart in charts:
        bare = chart.copy(deep=False)
        bare.config = alt.Undefined  # Vega-Lite has one configuration, that of the whole
        plain.append(bare)
    together = alt.concat(*plain, columns=columns, spacing=28).resolve_scale(color="independent")
    together = together.resolve_scale(strokeDash="independent")
    return themed(together.properties(title=title) if title else together, dark=dark)
