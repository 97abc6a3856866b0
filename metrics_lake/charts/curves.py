"""Histories as curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.theme import DASHES, LEGEND_SERIES, NUM_COLOURS, themed
from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart
    from metrics_lake.charts.counts import Drawn

__all__ = ["curves"]

_DOTTED_POINTS: Final = 40
_UNITS: Final = ((86_400.0 * 3, "days", 86_400.0), (3_600.0 * 3, "hours", 3_600.0), (180.0, "minutes", 60.0))


def curves(
    drawn: Drawn,
    *,
    log: bool = False,
    color: str | None = None,
    title: str | None = None,
    width: int | str = 640,
    height: int = 300,
    dark: bool = False,
) -> Chart:
    """Return curves of a history: a line a series, a panel a metric.

    Gaps are where a value is NaN or infinite; a mark says so at the edge. Hovering names the nearest point
    and lifts its line out; dragging moves and the wheel with shift zooms.

    Args:
        drawn: The points.
        log: Draw values on a logarithmic axis.
        color: What lines of the same colour share: ``"resource"``, ``"metric"`` or the name of a tag; None:
            each series has its own.
        title: Above the chart; None: the metric.
        width: In pixels, or ``"container"``.
        height: Of one panel, in pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed, or there is no such tag.
    """
    alt = altair_module()
    picture = _Picture.of(drawn, log=log, color=color)
    lines = _layers(alt, picture, log=log)
    metrics = picture.metrics
    shown_title = title if title is not None else (metrics[0] if len(metrics) == 1 else "")
    heading = alt.Title(text=_one_line(shown_title), subtitle=picture.subtitle)
    data = inline(picture.points)
    if len(metrics) > 1:
        panel = min(width, 420) if isinstance(width, int) else 420
        columns = max(1, (width if isinstance(width, int) else 840) // 380)
        chart = (
            lines.properties(width=panel, height=min(height, 220))
            .facet(data=data, facet=alt.Facet("metric:N", title=None, sort=list(metrics)), columns=columns)
            .resolve_scale(y="independent")
        )
    else:
        chart = lines.properties(data=data, width=width, height=height)
    chart = chart.transform_lookup(
        lookup="s",
        from_=alt.LookupData(
            data=alt.InlineData(values=picture.series or [{}]),
            key="s",
            fields=["series", "resource", "metric", "tags", "group"],
        ),
    )
    chart = chart.properties(title=heading, description=_told(shown_title, picture.subtitle))
    return themed(chart, dark=dark)


@dataclass(frozen=True, slots=True)
class _Picture:
    """What is drawn: points by number of series, and what there is to know of each series."""

    points: pa.Table
    series: list[dict[str, Any]]
    metrics: tuple[str, ...]
    x_title: str
    is_time: bool
    colour_title: str | None
    subtitle: list[str]

    @classmethod
    def of(cls, drawn: Drawn, *, log: bool, color: str | None) -> _Picture:
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
        is_thinned = drawn.num_points > drawn.points.num_rows
        told = [
            counted(drawn.num_series, "series") if drawn.num_series == len(series)
            else f"{len(series):,} of {drawn.num_series:,} series",
            f"{drawn.points.num_rows:,} of {drawn.num_points:,} points shown, extremes kept"
            if is_thinned else counted(drawn.num_points, "point"),
            f"smoothed {drawn.smooth:g}" if drawn.smooth else None,
            f"{counted(drawn.num_not_finite, 'point')} NaN or infinite" if drawn.num_not_finite else None,
            f"{counted(drawn.num_texts, 'value')} no number, left out" if drawn.num_texts else None,
            f"{counted(drawn.num_unplaced, 'point')} without a step left out" if drawn.num_unplaced else None,
            f"{counted(too_low, 'point')} not above 0 left out" if too_low else None,
        ]  # fmt: skip
        return cls(
            points=points,
            series=series,
            metrics=metrics,
            x_title=x_title,
            is_time=drawn.x == "timestamp",
            colour_title=colour_title,
            subtitle=subtitle(told),
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
    import json

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
        return pc.divide(pc.cast(micros, pa.float64()), 1000.0), "time (UTC)"
    starts = pa.table({"resource": table.column("resource"), "t": micros}).group_by("resource")
    first = starts.aggregate([("t", "min")])
    at = pc.index_in(table.column("resource").combine_chunks(), value_set=first.column("resource"))
    passed = pc.subtract(micros, pc.take(first.column("t_min").combine_chunks(), at))
    seconds = pc.divide(pc.cast(passed, pa.float64()), 1e6)
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


def _layers(alt: Any, picture: _Picture, *, log: bool) -> Any:
    base = alt.Chart().encode(
        x=alt.X("x:T" if picture.is_time else "x:Q", title=picture.x_title, scale=_x_scale(alt, picture)),
        y=alt.Y("y:Q", title=None, scale=alt.Scale(type="log" if log else "linear", zero=False)),
        detail="s:N",
    )
    hover = alt.selection_point(
        name="hover", fields=["s"], nearest=True, on="pointerover", clear="pointerout", empty=True
    )
    zoom = alt.selection_interval(
        name="zoom",
        bind="scales",
        zoom="wheel![event.shiftKey]",
    )
    groups = list(dict.fromkeys(each["group"] for each in picture.series))
    colour = _colour(alt, groups, picture.colour_title)
    faded = alt.condition(hover, alt.value(0.95 if len(groups) <= LEGEND_SERIES else 0.6), alt.value(0.1))
    line = base.mark_line(strokeWidth=1.6 if len(groups) <= LEGEND_SERIES else 1.1).encode(
        color=colour, opacity=faded
    )
    if NUM_COLOURS < len(groups) <= LEGEND_SERIES:
        line = line.encode(strokeDash=_dash(alt, groups, picture.colour_title))
    dots = (
        base.transform_filter("datum.dot == 1")
        .mark_point(filled=True, size=22)
        .encode(color=colour, opacity=faded)
    )
    near = (
        base.transform_filter("isValid(datum.y)")
        .mark_point(filled=True, size=50)
        .encode(
            color=colour,
            opacity=alt.value(0),
            tooltip=_tooltip(alt, picture),
        )
        .add_params(hover)
    )
    layers = [line, dots, near]
    if picture.points.num_rows and any(picture.points.column("mark").to_pylist()):
        layers += _marks(alt, base, picture, colour)
    return alt.layer(*layers).add_params(zoom)


def _marks(alt: Any, base: Any, picture: _Picture, colour: Any) -> list[Any]:
    """Return marks at the edges for what has no place on the axis: infinities, and below NaN."""
    edges = (
        ("datum.mark == 'inf'", alt.YValue(6), "'▲'"),
        ("datum.mark == 'NaN'", alt.YValue("height"), "'\N{MULTIPLICATION SIGN}'"),
        ("datum.mark == '-inf'", alt.YValue("height"), "'▼'"),
    )
    return [
        base.transform_filter(condition)
        .transform_calculate(glyph=glyph)
        .mark_text(fontSize=12, fontWeight="bold", baseline="middle")
        .encode(y=place, text="glyph:N", color=colour, tooltip=_tooltip(alt, picture))
        for condition, place, glyph in edges
    ]


def _tooltip(alt: Any, picture: _Picture) -> list[Any]:
    x = (
        alt.Tooltip("x:T", title="time", timeUnit="utcyearmonthdatehoursminutesseconds")
        if picture.is_time
        else alt.Tooltip("x:Q", title=picture.x_title, format="~r" if picture.x_title != "step" else ",d")
    )
    has_tags = any(each["tags"] for each in picture.series)
    return [
        alt.Tooltip("resource:N"),
        alt.Tooltip("metric:N"),
        *([alt.Tooltip("tags:N")] if has_tags else []),
        x,
        alt.Tooltip("y:Q", title="value"),
    ]


def _x_scale(alt: Any, picture: _Picture) -> Any:
    if picture.is_time:
        return alt.Scale(type="utc")
    return alt.Scale(zero=False, nice=False)


def _colour(alt: Any, groups: list[str], title: str | None) -> Any:
    if len(groups) <= 1:
        return alt.Color("group:N", legend=None)
    if len(groups) > LEGEND_SERIES:
        scale = alt.Scale(domain=groups, scheme=alt.SchemeParams(name="viridis", extent=[0.1, 0.9]))
        return alt.Color("group:O", scale=scale, legend=None)
    legend = alt.Legend(title=title, orient="bottom", columns=4, symbolType="stroke")
    return alt.Color("group:N", sort=groups, legend=legend)


def _dash(alt: Any, groups: list[str], title: str | None) -> Any:
    patterns = [list(DASHES[at // NUM_COLOURS]) for at in range(len(groups))]
    legend = alt.Legend(title=title, orient="bottom", columns=4, symbolType="stroke")
    return alt.StrokeDash("group:N", scale=alt.Scale(domain=groups, range=patterns), legend=legend)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _told(title: str, lines: list[str]) -> str:
    return f"Curves of {title or 'several metrics'}: {'; '.join(lines)}."
