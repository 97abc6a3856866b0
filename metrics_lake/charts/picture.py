"""What the points of a history become before they are drawn."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.theme import LEGEND_SERIES
from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts.counts import Drawn

__all__ = ["Picture"]

_DOTTED_POINTS: Final = 40
_UNITS: Final = ((86_400.0 * 3, "days", 86_400.0), (3_600.0 * 3, "hours", 3_600.0), (180.0, "minutes", 60.0))


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn.

    Attributes:
        points: ``s`` (number of the series), ``x``, ``y`` (NULL where there is a gap), ``dot`` (1: a line
            alone would not show the point), ``mark`` (``NaN``, ``inf`` or ``-inf`` where there is a gap).
        series: A row a series: ``s series resource metric tags group``.
        metrics: Their metrics, a panel each.
        groups: What colours stand for, in the order of the legend.
        x_title: What x is.
        is_time: Whether x is milliseconds since 1970.
        colour_title: What the groups are; None: series.
        subtitle: What is drawn and what is not.
        is_flat: Whether all values of a metric are the same.
        has_dots: Whether any point has a ``dot``.
        marks: Which of the marks there are.
        ends: The least and the greatest x; None where there is no point.
    """

    points: pa.Table
    series: list[dict[str, Any]]
    metrics: tuple[str, ...]
    groups: tuple[str, ...]
    x_title: str
    is_time: bool
    colour_title: str | None
    subtitle: list[str]
    is_flat: bool
    has_dots: bool
    marks: frozenset[str]
    ends: tuple[float | None, float | None]

    @classmethod
    def of(cls, drawn: Drawn, *, log: bool, color: str | None) -> Picture:
        """Return the picture of a history.

        Raises:
            InvalidInputError: No series has the tag that ``color`` names.
        """
        import pyarrow as pa
        import pyarrow.compute

        pc: Any = pyarrow.compute
        table = drawn.points
        number, keys = _numbered(table)
        series, colour_title = _described(keys, color)
        metrics = tuple(dict.fromkeys(each["metric"] for each in series))
        x, x_title = _along(table, drawn.x)
        value = table.column("value").combine_chunks()
        finite = pc.fill_null(pc.is_finite(value), False)
        too_low = 0
        shown = pc.if_else(finite, value, None)
        if log:
            is_low = pc.fill_null(pc.less_equal(shown, 0.0), False)
            too_low = pc.sum(is_low).as_py() or 0
            shown = pc.if_else(is_low, None, shown)
        mark = pc.if_else(pc.is_nan(value), "NaN", pc.if_else(pc.equal(value, float("inf")), "inf", "-inf"))
        mark = pc.if_else(finite, "", mark)
        points = pa.table({"s": number, "x": x, "y": shown, "dot": _dots(number, shown), "mark": mark})
        no_step = drawn.num_unplaced
        is_thinned = drawn.num_points > drawn.points.num_rows
        told = [
            counted(drawn.num_series, "series") if drawn.num_series == len(series)
            else f"{len(series):,} of {drawn.num_series:,} series",
            f"{drawn.points.num_rows:,} of {drawn.num_points:,} points shown, extremes kept"
            if is_thinned else counted(drawn.num_points, "point"),
            f"smoothed {drawn.smooth:g}" if drawn.smooth else None,
            f"{drawn.num_not_finite:,} NaN or infinite, marked at the edge" if drawn.num_not_finite else None,
            f"left out: {counted(drawn.num_texts, 'non-numeric value')}" if drawn.num_texts else None,
            f"left out: {counted(no_step, 'point')} without a step" if no_step else None,
            f"left out: {counted(too_low, 'point')} not above 0" if too_low else None,
        ]  # fmt: skip
        return cls(
            points=points,
            series=series,
            metrics=metrics,
            groups=tuple(sorted({each["group"] for each in series}, key=_natural)),
            x_title=x_title,
            is_time=drawn.x == "timestamp",
            colour_title=colour_title,
            subtitle=subtitle(told),
            is_flat=_is_flat(points, series),
            has_dots=1 in points.column("dot").unique().to_pylist(),
            ends=tuple(pc.min_max(x).as_py().values()),
            marks=frozenset(pc.unique(mark).to_pylist()) - {""},
        )


def _numbered(table: pa.Table) -> tuple[Any, pa.Table]:
    """Return the number of each point's series, and the series in the order of their first points."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    names = ("resource", "metric", "tags_key")
    codes = pa.array([0] * table.num_rows, pa.int64())
    for name in names:
        encoded = pc.dictionary_encode(table.column(name).combine_chunks())
        codes = pc.add(pc.multiply(codes, len(encoded.dictionary) + 1), pc.cast(encoded.indices, pa.int64()))
    numbers = pc.dictionary_encode(codes)
    first = pc.index_in(numbers.dictionary, value_set=codes)
    return pc.cast(numbers.indices, pa.int64()), table.select(list(names)).take(first)


def _described(keys: pa.Table, color: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """Return a row a series: its number, label, ids, and what its colour stands for."""
    resources: list[Any] = keys.column("resource").to_pylist()
    metrics: list[Any] = keys.column("metric").to_pylist()
    tags = [dict(json.loads(key)) if key else {} for key in keys.column("tags_key").to_pylist()]
    shorts = short_labels(resources)
    is_one = len(set(resources)) == 1
    texts = [", ".join(f"{name}={value}" for name, value in each.items()) for each in tags]
    labels = [
        (text or short) if is_one and any(texts) else f"{short} {text}".rstrip()
        for short, text in zip(shorts, texts, strict=True)
    ]
    groups: list[str]
    has_many = len(set(labels)) > LEGEND_SERIES >= len(set(shorts))
    if color is None and has_many and len(set(shorts)) > 1:
        color = "resource"
    if color is None:
        groups, title = labels, None
    elif color == "resource":
        groups, title = shorts, "resource"
    elif color == "metric":
        groups, title = list(metrics), "metric"
    else:
        known = sorted({name for each in tags for name in each})
        if color not in known:
            raise InvalidInputError(
                f"no drawn series has the tag {color!r}.",
                hint=f"There are: {', '.join(['resource', 'metric', *known])}.",
                argument="color",
            )
        groups, title = [each.get(color, "(none)") for each in tags], color
    rows = zip(labels, resources, metrics, texts, groups, strict=True)
    return [
        {"s": at, "series": label, "resource": resource, "metric": metric, "tags": text, "group": group}
        for at, (label, resource, metric, text, group) in enumerate(rows)
    ], title


def _along(table: pa.Table, x: str) -> tuple[Any, str]:
    """Return the points' places on the x axis and its title."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    if x == "step":
        return table.column("step").combine_chunks(), "step"
    micros = pc.cast(table.column("timestamp"), pa.int64()).combine_chunks()
    if x == "timestamp":
        return pc.divide(pc.cast(micros, pa.float64(), safe=False), 1000.0), "time (UTC)"
    starts = pa.table({"resource": table.column("resource"), "t": micros}).group_by("resource")
    first = starts.aggregate([("t", "min")])
    at = pc.index_in(table.column("resource").combine_chunks(), value_set=first.column("resource"))
    passed = pc.subtract(micros, pc.take(first.column("t_min").combine_chunks(), at))
    seconds = pc.divide(pc.cast(passed, pa.float64(), safe=False), 1e6)
    longest = (pc.max(seconds).as_py() or 0.0) if len(seconds) else 0.0
    for least, unit, length in _UNITS:
        if longest >= least:
            return pc.divide(seconds, length), f"{unit} since the start"
    return seconds, "seconds since the start"


def _dots(number: Any, shown: Any) -> Any:
    """Return 1 for points that a line alone would not show: those without a neighbour, and those of few."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    if not len(number):
        return pa.array([], pa.int8())
    there = pc.is_valid(shown)
    nothing = pa.array([None], pa.int64())
    own = pc.if_else(there, number, None)
    before = pa.concat_arrays([nothing, own.slice(0, len(own) - 1)])
    after = pa.concat_arrays([own.slice(1), nothing])
    lonely = pc.invert(
        pc.or_(pc.fill_null(pc.equal(before, number), False), pc.fill_null(pc.equal(after, number), False))
    )
    sizes = pc.value_counts(number)
    few = pc.filter(sizes.field("values"), pc.less_equal(sizes.field("counts"), _DOTTED_POINTS))
    if len(number) <= _DOTTED_POINTS * LEGEND_SERIES:
        lonely = pc.or_(lonely, pc.is_in(number, value_set=few))
    return pc.cast(pc.and_(there, lonely), pa.int8())


def _is_flat(points: pa.Table, series: list[dict[str, Any]]) -> bool:
    ends: Any = points.group_by("s").aggregate([("y", "min"), ("y", "max")]).to_pylist()
    values: dict[str, set[float]] = {}
    for each in ends:
        if each["y_min"] is not None:
            values.setdefault(series[each["s"]]["metric"], set()).update((each["y_min"], each["y_max"]))
    return any(len(own) == 1 for own in values.values())


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """Return the key by which run-2 comes before run-10."""
    parts = re.split(r"([0-9]+)", text)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
