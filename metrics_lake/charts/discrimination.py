"""ROC and precision-recall curves, with intervals and with what is not known between two points."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.looks import (
    NEAREST,
    colour_of,
    dash_of,
    legend_columns,
    nearest_point,
    told_of_nearest,
)
from metrics_lake.charts.segments import group_names
from metrics_lake.charts.theme import LEGEND_SERIES, NUM_COLOURS, themed

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["precision_recall", "roc"]

_MAX_CURVES: Final = LEGEND_SERIES
_INTERVALS: Final = 3
"""So many curves have a band of their interval; of more, bands would hide the curves."""
_VISIBLE: Final = 1 / 400
"""A bound below this is less than a pixel."""
_DRAWN: Final = 200


def roc(
    points: pa.Table,
    numbers: pa.Table | None = None,
    *,
    title: str | None = None,
    width: int | str = 360,
    height: int = 360,
    dark: bool = False,
) -> Chart:
    """Return ROC curves, one for each job, window, segment and class, beside the diagonal of no skill.

    A light band is the confidence interval of the true positive rate at each threshold (of up to three
    curves), a darker one encloses the curve of the rows where the state knows it less than to a pixel.

    Args:
        points: Points of the curve ``roc``, as ``lake.prediction_curves`` gives them.
        numbers: Prediction metrics of the same groups: their ``roc_auc`` stands beside each curve's name.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: In pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    picture = _Picture(points, numbers, "roc_auc", "AUC")
    diagonal = [{"x": 0.0, "y": 0.0}, {"x": 1.0, "y": 1.0}]
    return _chart(
        picture,
        ("false positive rate", "true positive rate"),
        diagonal,
        is_step=False,
        title="ROC curve" if title is None else title,
        size=(width, height),
        dark=dark,
    )


def precision_recall(
    points: pa.Table,
    numbers: pa.Table | None = None,
    *,
    title: str | None = None,
    width: int | str = 360,
    height: int = 360,
    dark: bool = False,
) -> Chart:
    """Return precision-recall curves as steps; of one curve a dashed line is the share of positives.

    Args:
        points: Points of the curve ``pr``, as ``lake.prediction_curves`` gives them.
        numbers: Prediction metrics of the same groups: their ``average_precision`` stands beside the names.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: In pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    picture = _Picture(points, numbers, "average_precision", "AP")
    base = []
    if len(picture.groups) == 1:
        share = picture.rows[-1]["y"]
        base = [{"x": 0.0, "y": share}, {"x": 1.0, "y": share}]
    return _chart(
        picture,
        ("recall", "precision"),
        base,
        is_step=True,
        title="Precision-recall curve" if title is None else title,
        size=(width, height),
        dark=dark,
    )


class _Picture:
    """Points by curve, the names of the curves, and what is said below the title."""

    def __init__(self, points: pa.Table, numbers: pa.Table | None, metric: str, short: str) -> None:
        rows = points.to_pylist()
        names = group_names(rows, with_windows=True)
        known = list(dict.fromkeys(names))
        self.num_curves = len(known)
        drawn = dict.fromkeys(known[:_MAX_CURVES])
        self.rows = [row | {"group": name} for row, name in zip(rows, names, strict=True) if name in drawn]
        values = {} if numbers is None else _values(numbers, metric)
        titles = {}
        for row in self.rows:
            value = values.get(_unit(row))
            titles[row["group"]] = row["group"] + (
                "" if value is None else f" · {short} {value['value']:.3f}"
            )
        self.groups = list(titles.values())
        for row in self.rows:
            row["group"] = titles[row["group"]]
        self.subtitle = self._told(values, short)

    def _told(self, values: dict[Any, dict[str, Any]], short: str) -> list[str]:
        if not self.rows:
            return ["no curve: a curve needs scores, and rows of both true classes"]
        bound = max(row["bound"] or 0.0 for row in self.rows)
        parts = [
            f"{len(self.groups):,} of {counted(self.num_curves, 'curve')}"
            if self.num_curves > len(self.groups)
            else None
        ]
        if len(self.groups) == 1:
            value = values.get(_unit(self.rows[0]))
            if value is not None:
                parts.append(_with_ends(short, value))
                parts.append(counted(value["n"], "labelled row"))
        parts.append(f"exact at its points, within {_rounded_up(bound)} between them" if bound else "exact")
        return subtitle(parts)


def _unit(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["resource"], row["window_start"], tuple(row["segment"] or ()), row["label"]


def _values(numbers: pa.Table, metric: str) -> dict[Any, dict[str, Any]]:
    rows = numbers.to_pylist()
    return {_unit(row): row for row in rows if row["metric"] == metric and row["value"] is not None}


def _with_ends(short: str, row: dict[str, Any]) -> str:
    text = f"{short} {row['value']:.4f}"
    if row["low"] is not None:
        text += f" [{row['low']:.4f}, {row['high']:.4f}]"
    return text


def _rounded_up(bound: float) -> str:
    """Return a bound in one digit, not below it."""
    text = f"{bound:.0e}"
    return f"{float(text if float(text) >= bound else f'{bound * 1.1:.0e}'):g}"


def _chart(
    picture: _Picture,
    axes: tuple[str, str],
    base_line: list[dict[str, float]],
    *,
    is_step: bool,
    title: str,
    size: tuple[int | str, int],
    dark: bool,
) -> Chart:
    import pyarrow as pa

    alt = altair_module()
    x = alt.X("x:Q", title=axes[0], scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("y:Q", title=axes[1], scale=alt.Scale(domain=[0, 1]))
    columns_of_legend = legend_columns(picture.groups, size[0])
    look = {"color": colour_of(alt, picture.groups, columns=columns_of_legend)}
    names = ("group", "x", "y", "low", "high", "n", "threshold")
    rows = [row | {"threshold": None if row["threshold"] == float("inf") else row["threshold"]}
            for row in picture.rows]  # fmt: skip
    columns = {
        name: pa.array([row[name] for row in rows], pa.string() if name == "group" else pa.float64())
        for name in names
    }
    columns["i"] = pa.array([float(i) for i in range(len(rows))], pa.float64())
    base = alt.Chart(inline(pa.table(columns))).encode(x=x)
    layers: list[Any] = []
    if base_line:
        rule = alt.Chart(alt.InlineData(values=base_line))
        layers.append(rule.mark_line(strokeDash=[4, 4], strokeWidth=1, color="#8a8a8a").encode(x=x, y=y))
    if len(picture.groups) <= _INTERVALS:
        interval = base.mark_area(opacity=0.13, interpolate="step-before" if is_step else "linear")
        low = alt.Y("low:Q", title=axes[1])
        layers.append(interval.transform_filter("isValid(datum.low)").encode(y=low, y2="high:Q", **look))
    between = _between(picture.rows, is_step=is_step)
    if between:
        shade = alt.Chart(alt.InlineData(values=between)).mark_area(opacity=0.3)
        layers.append(shade.encode(x=x, y=alt.Y("a:Q", title=axes[1]), y2="b:Q", detail="piece:N", **look))
    if len(picture.groups) > NUM_COLOURS:
        look["strokeDash"] = dash_of(alt, picture.groups, columns=columns_of_legend)
    line = base.mark_line(strokeWidth=1.8, interpolate="step-before" if is_step else "linear", clip=True)
    layers.append(line.encode(y=y, order="i:Q", **look))
    near = nearest_point(alt, f"hover_{'pr' if is_step else 'roc'}", empty=False)
    formats = {
        axes[0]: ("x", ".4f"),
        axes[1]: ("y", ".4f"),
        "low": ("low", ".4f"),
        "high": ("high", ".4f"),
        "score at least": ("threshold", ".4g"),
        "positives" if not is_step else "predicted positive": ("n", ",d"),
    }
    told = {
        label: f"isValid({NEAREST}.{name}) ? format({NEAREST}.{name}, '{form}') : ''"
        for label, (name, form) in formats.items()
    }
    tooltip = told_of_nearest(alt, {"curve": f"{NEAREST}.group", **told})
    dots = base.mark_point(filled=True, size=50).encode(
        y=y,
        color=look["color"],
        opacity=alt.condition(near, alt.value(1), alt.value(0)),
        tooltip=tooltip,
    )
    layers.append(dots.add_params(near))
    chart = alt.layer(*layers).properties(
        width=size[0],
        height=size[1],
        title=alt.Title(text=title, subtitle=picture.subtitle),
        description=f"{title}: {'; '.join([*picture.groups, *picture.subtitle])}.",
    )
    return themed(chart, dark=dark)


def _between(rows: list[dict[str, Any]], *, is_step: bool) -> list[dict[str, Any]]:
    """Return the corners of what encloses the curve of the rows, for pieces where one would see it."""
    corners: list[dict[str, Any]] = []
    for at, (one, other) in enumerate(pairwise(rows)):
        bound = other["bound"] or 0.0
        if one["group"] != other["group"] or bound < _VISIBLE or one["x"] == other["x"]:
            continue
        least, most = (0.0, 1.0) if is_step else sorted((one["y"], other["y"]))
        for end in (one, other):
            middle = other["y"] if is_step else end["y"]
            corners.append(
                {
                    "piece": at,
                    "group": other["group"],
                    "x": end["x"],
                    "a": max(least, middle - bound),
                    "b": min(most, middle + bound),
                }
            )
    return corners
