"""Run tables as pictures: parameters against metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import MAX_POINTS, counted, subtitle
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.looks import NEAREST, nearest_point, told_of_nearest
from metrics_lake.charts.theme import HALO_STYLE, LEGEND_SERIES, TEXT_STYLE, themed
from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["differing_columns", "is_number", "parallel", "scatter"]

_MAX_AXES: Final = 8
_MAX_RUNS: Final = 500


def is_number(kind: pa.DataType) -> bool:
    """Return whether a column can stand on an axis of numbers."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def scatter(
    rows: pa.Table,
    x: str,
    y: str,
    *,
    color: str | None = None,
    log: bool = False,
    title: str | None = None,
    width: int | str = 640,
    height: int = 300,
    dark: bool = False,
) -> Chart:
    """Return a point a row: one column against another.

    Args:
        rows: Any table.
        x: A column: numbers, times or texts.
        y: A column of numbers.
        color: A column; None: all points have one colour.
        log: Draw ``y`` on a logarithmic axis.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: In pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed, there are too many rows, or ``y`` has no numbers.
    """
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    alt = altair_module()
    if rows.num_rows > MAX_POINTS:
        raise InvalidInputError(
            f"the result has {rows.num_rows:,} rows, and a chart draws at most {MAX_POINTS:,}.",
            hint="Aggregate in the query, or draw a history: it is thinned out by itself.",
        )
    if not is_number(rows.schema.field(y).type):
        raise InvalidInputError(
            f"the column {y!r} has no numbers but {rows.schema.field(y).type}.", argument="y"
        )
    value = pc.cast(rows.column(y), pa.float64(), safe=False)
    finite = pc.fill_null(pc.is_finite(value), False)
    if log:
        finite = pc.and_(finite, pc.fill_null(pc.greater(value, 0.0), False))
    kept = rows.filter(finite)
    columns: dict[str, Any] = {"y": value.filter(finite)}
    columns["x"], x_type = _axis(kept.column(x))
    tooltip = [alt.Tooltip(f"x:{x_type}", title=x), alt.Tooltip("y:Q", title=y)]
    encoding: dict[str, Any] = {}
    if color is not None:
        columns["c"], c_type = _axis(kept.column(color))
        encoding["color"] = alt.Color(f"c:{c_type}", title=color)
        tooltip.append(alt.Tooltip(f"c:{c_type}", title=color))
    if "resource" in kept.column_names and "resource" not in (x, y, color):
        columns["r"] = kept.column("resource")
        tooltip.insert(0, alt.Tooltip("r:N", title="resource"))
    lost = rows.num_rows - kept.num_rows
    lines = subtitle([counted(kept.num_rows, "row"), f"{counted(lost, 'row')} left out" if lost else None])
    chart = (
        alt.Chart(inline(pa.table(columns)))
        .mark_point(filled=True, size=45, opacity=0.8)
        .encode(
            x=alt.X(f"x:{x_type}", title=x, scale=_scale(alt, x_type)),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False, type="log" if log else "linear")),
            tooltip=tooltip,
            **encoding,
        )
        .properties(
            width=width,
            height=height,
            title=alt.Title(text=title or "", subtitle=lines),
            description=f"{y} against {x}: {'; '.join(lines)}.",
        )
    )
    return themed(chart, dark=dark)


def parallel(
    rows: pa.Table,
    *,
    columns: list[str] | None = None,
    color: str | None = None,
    title: str | None = None,
    width: int | str = 640,
    height: int = 300,
    dark: bool = False,
) -> Chart:
    """Return parallel axes: a line a row, an axis a column, from its least value to its greatest.

    Args:
        rows: A run table: ``resource`` and columns of numbers or texts.
        columns: The axes; None: those that differ, parameters first, at most eight.
        color: The column of numbers that colours lines; None: the last axis of numbers.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: In pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed, or no two columns differ between rows.
    """
    alt = altair_module()
    axes = columns if columns is not None else differing_columns(rows)
    if len(axes) < 2:
        raise InvalidInputError(
            "the result has fewer than two columns of which the rows differ.",
            hint="Pass x= and y=, or compare more metrics.",
        )
    drawn = rows.slice(0, _MAX_RUNS)
    scales = [_Axis.of(drawn, name) for name in axes]
    numeric = [each.name for each in scales if not each.texts]
    coloured = color or (numeric or axes)[-1]
    by = next((each for each in scales if each.name == coloured), None) or _Axis.of(drawn, coloured)
    told = subtitle(
        [
            counted(rows.num_rows, "resource")
            if rows.num_rows == drawn.num_rows
            else f"{drawn.num_rows:,} of {rows.num_rows:,} resources",
            f"coloured by {coloured}",
            "each axis from its least value to its greatest",
        ]
    )
    chart = _axes(alt, drawn, scales, by).properties(
        width=width,
        height=height,
        title=alt.Title(text=title or "Parameters and metrics", subtitle=told),
        description=f"Parallel axes of {', '.join(axes)}: {'; '.join(told)}.",
    )
    return themed(chart, dark=dark)


def _axes(alt: Any, rows: pa.Table, scales: list[_Axis], by: _Axis) -> Any:
    labels = short_labels([axis.name for axis in scales], 100 // len(scales))
    ids: list[Any] = (
        rows.column("resource").to_pylist()
        if "resource" in rows.column_names
        else [f"row {at}" for at in range(rows.num_rows)]
    )
    values = [
        {"r": at, "axis": label, "y": axis.places[at], "v": axis.shown[at], "c": by.places[at]}
        for axis, label in zip(scales, labels, strict=True)
        for at in range(rows.num_rows)
        if axis.places[at] is not None
    ]
    ticks = [
        {"axis": label, **tick} for axis, label in zip(scales, labels, strict=True) for tick in axis.ticks()
    ]
    hover = nearest_point(alt, fields=["r"])
    x = alt.X(
        "axis:N",
        sort=labels,
        title=None,
        scale=alt.Scale(padding=0.5),
        axis=alt.Axis(labelAngle=0, orient="top", domain=False, ticks=False, labelPadding=14),
    )
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    who = alt.LookupData(
        alt.InlineData(values=[{"r": at, "resource": each} for at, each in enumerate(ids)]), "r", ["resource"]
    )
    runs = (
        alt.Chart(alt.InlineData(values=values or [{}]))
        .transform_lookup(lookup="r", from_=who)
        .encode(x=x, y=y, detail="r:N")
    )
    opacity = alt.condition(hover, alt.value(0.75 if rows.num_rows <= 50 else 0.4), alt.value(0.05))
    colour = alt.Color("c:Q", legend=None, scale=alt.Scale(scheme="viridis", domain=[0, 1]))
    lines = runs.mark_line(strokeWidth=1.4).encode(color=colour, opacity=opacity)
    parts = {"resource": "resource", "column": "axis", "value": "v"}
    tooltip = told_of_nearest(alt, {label: f"{NEAREST}.{name}" for label, name in parts.items()})
    near = runs.mark_point(filled=True, size=60, opacity=0).encode(tooltip=tooltip).add_params(hover)
    rules = alt.Chart(alt.InlineData(values=[{"axis": label} for label in labels])).mark_rule().encode(x=x)
    words = alt.Chart(alt.InlineData(values=ticks)).encode(x=x, y=y, text="text:N")
    texts = [
        words.mark_text(align="left", dx=5, fontSize=10, style=style) for style in (HALO_STYLE, TEXT_STYLE)
    ]
    return alt.layer(rules, lines, near, *texts)


class _Axis:
    """One column on an axis from 0 to 1."""

    __slots__ = ("_high", "_low", "is_log", "name", "places", "shown", "texts")

    def __init__(self, name: str, values: list[Any], *, is_number: bool) -> None:
        self.name = name
        self.texts: list[str] = []
        self.is_log = False
        self.shown = ["" if each is None else f"{each:.6g}" if is_number else str(each) for each in values]
        self._low = self._high = 0.0
        if not is_number:
            self.texts = sorted({str(each) for each in values if each is not None})
            last = max(1, len(self.texts) - 1)
            place = {text: at / last for at, text in enumerate(self.texts)}
            self.places = [None if each is None else place[str(each)] for each in values]
            return
        finite = [float(each) for each in values if each is not None and math.isfinite(each)]
        if finite:
            self._low, self._high = min(finite), max(finite)
        # Learning rates and the like: on a linear axis all but the greatest would be in one place.
        self.is_log = self._low > 0 and self._high >= 50 * self._low
        low, high = self._scaled(self._low), self._scaled(self._high)
        self.places = [
            None
            if each is None or not math.isfinite(each)
            else (self._scaled(float(each)) - low) / (high - low)
            if high > low
            else 0.5
            for each in values
        ]

    @classmethod
    def of(cls, rows: pa.Table, name: str) -> _Axis:
        column = rows.column(name)
        return cls(name, column.to_pylist(), is_number=is_number(column.type))

    def ticks(self) -> list[dict[str, Any]]:
        """Return the texts beside the axis."""
        if self.texts:
            last = max(1, len(self.texts) - 1)
            shown = short_labels(self.texts, 18)
            every = max(1, len(shown) // 8)
            return [
                {"y": at / last if len(shown) > 1 else 0.0, "text": text}
                for at, text in enumerate(shown)
                if at % every == 0
            ]
        if self._high <= self._low:
            return [{"y": 0.5, "text": f"{self._low:.4g}"}]
        middle = math.sqrt(self._low * self._high) if self.is_log else (self._low + self._high) / 2
        ends = ((0.0, self._low), (0.5, middle), (1.0, self._high))
        return [{"y": y, "text": f"{value:.4g}"} for y, value in ends]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value


def differing_columns(rows: pa.Table) -> list[str]:
    """Return the columns of which rows differ, parameters first, metrics last."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    found = []
    for field in rows.schema:
        is_text = pa.types.is_string(field.type) or pa.types.is_boolean(field.type)
        if field.name == "resource" or not (is_text or is_number(field.type)):
            continue
        distinct = pc.count_distinct(rows.column(field.name)).as_py()
        if distinct > 1 and not (is_text and distinct > LEGEND_SERIES):
            found.append(field.name)
    parameters = [name for name in found if name.startswith("params/")]
    others = [name for name in found if not name.startswith("params/")]
    kept = parameters[: _MAX_AXES - min(len(others), 3)]
    return kept + others[: _MAX_AXES - len(kept)]


def _axis(column: Any) -> tuple[Any, str]:
    """Return a column as Vega can have it, and its Vega-Lite type."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    if is_number(column.type):
        return pc.cast(column, pa.float64(), safe=False), "Q"
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micros = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
        return pc.divide(pc.cast(micros, pa.float64(), safe=False), 1000.0), "T"
    if pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
        return pc.cast(column, pa.string()), "N"
    return pa.array([None if each is None else str(each) for each in column.to_pylist()], pa.string()), "N"


def _scale(alt: Any, kind: str) -> Any:
    if kind == "T":
        return alt.Scale(type="utc")
    return alt.Scale(zero=False) if kind == "Q" else alt.Undefined
