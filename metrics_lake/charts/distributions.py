"""Distributions of scores, predictions and residuals, as densities in bins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.looks import colour_of, dash_of, legend_columns
from metrics_lake.charts.segments import group_names
from metrics_lake.charts.theme import LEGEND_SERIES, NUM_COLOURS, themed

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["distribution"]

_FILLED: Final = 3
"""So many densities are filled; of more, one could not see through."""
_TITLES: Final = {"scores": "Scores", "predictions": "Predictions", "residuals": "Residuals"}
_AXES: Final = {"scores": "score", "predictions": "prediction", "residuals": "prediction less truth"}


def distribution(
    points: pa.Table,
    *,
    reference: str | None = None,
    title: str | None = None,
    width: int | str = 480,
    height: int = 240,
    dark: bool = False,
) -> Chart:
    """Return densities as steps, each with an area of 1: by true class, or by job, window and segment.

    The rows of one group are shown by true class where the truth is known; several groups are shown whole.

    Args:
        points: Points of one of the curves ``scores``, ``predictions`` and ``residuals``.
        reference: The job among them to compare with: it stands behind the others, in grey.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        height: In pixels.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    import pyarrow as pa

    alt = altair_module()
    found = points.to_pylist()
    curve = found[0]["curve"] if found else "scores"
    rows = _chosen(found)
    names = group_names(rows, with_windows=True)
    rows = [row | {"group": name} for row, name in zip(rows, names, strict=True)]
    known = list(dict.fromkeys(names))
    behind = {row["group"] for row in rows if row["resource"] == reference}
    groups = [name for name in known if name not in behind][:LEGEND_SERIES]
    inner: list[dict[str, Any]] = []
    beyond = 0
    for group in (*sorted(behind), *groups):  # each has bins of its own width
        own, outside = _inner([row for row in rows if row["group"] == group])
        inner += own
        beyond += outside
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["group"]] = sizes.get(row["group"], 0) + row["n"]
    drawn = [_corners(inner, group) for group in (*sorted(behind), *groups)]
    names_of = {group: f"{group} ({sizes[group]:,})" for group in sizes}
    shown = [names_of[group] for group in groups]
    lines = subtitle(
        [
            f"{len(groups)} of {counted(len(known), 'group')}"
            if len(known) > len(groups) + len(behind)
            else None,
            counted(sum(sizes.values()), "row") if len(known) == 1 else None,
            f"{counted(beyond, 'row')} beyond the ends" if beyond else None,
            f"grey: {', '.join(sorted(behind))}, {counted(sum(sizes[b] for b in behind), 'row')}"
            if behind
            else None,
            None if rows else "no distribution: there are no such values",
        ]
    )
    corners = [corner | {"group": names_of[corner["group"]]} for part in drawn for corner in part]
    texts = {"group"}
    columns = {
        name: pa.array([corner[name] for corner in corners], pa.string() if name in texts else pa.float64())
        for name in ("group", "x", "x2", "y", "n", "i")
    }
    base = alt.Chart(inline(pa.table(columns)))
    x = alt.X("x:Q", title=_AXES[curve], scale=alt.Scale(nice=False, domain=[0, 1]) if curve == "scores" else
              alt.Scale(zero=False, nice=False))  # fmt: skip
    y = alt.Y("y:Q", title="density", scale=alt.Scale(zero=True))
    columns_of_legend = legend_columns(shown, width)
    colour = colour_of(alt, shown, columns=columns_of_legend)
    layers: list[Any] = []
    if behind:
        old = [names_of[group] for group in behind]
        grey = base.transform_filter(alt.FieldOneOfPredicate("group", old))
        layers.append(
            grey.mark_area(interpolate="step-after", color="#8a8a8a", opacity=0.35).encode(
                x=x, y=y, detail="group:N"
            )
        )
    front = base.transform_filter(alt.FieldOneOfPredicate("group", shown)) if behind else base
    if len(shown) <= _FILLED:
        layers.append(
            front.mark_area(interpolate="step-after", opacity=0.25).encode(
                x=x, y=alt.Y("y:Q", title="density", stack=None), color=colour
            )
        )
    outline = front.mark_line(interpolate="step-after", strokeWidth=1.6).encode(
        x=x, y=y, color=colour, order="i:Q"
    )
    if len(shown) > NUM_COLOURS:
        outline = outline.encode(strokeDash=dash_of(alt, shown, columns=columns_of_legend))
    tooltip = [
        alt.Tooltip("group:N"),
        alt.Tooltip("x:Q", title="from", format=".4~g"),
        alt.Tooltip("x2:Q", title="to", format=".4~g"),
        alt.Tooltip("y:Q", title="density", format=".4~g"),
        alt.Tooltip("n:Q", title="rows", format=",d"),
    ]
    hover = front.transform_filter("isValid(datum.x2)").mark_bar(opacity=0).encode(
        x=x, x2="x2:Q", y=alt.Y("y:Q", title="density", stack=None), y2=alt.datum(0), tooltip=tooltip,
        detail="group:N",
    )  # fmt: skip
    heading = _TITLES[curve] if title is None else title
    chart = alt.layer(*layers, outline, hover).properties(
        width=width,
        height=height,
        title=alt.Title(text=heading, subtitle=lines),
        description=f"Distribution of {heading.lower()}: {'; '.join([*shown, *lines])}.",
    )
    return themed(chart, dark=dark)


def _chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that are drawn: of a single group the true classes, else whole groups."""
    units = {(row["resource"], row["window_start"], tuple(row["segment"] or ())) for row in rows}
    has_both = any(row["label"] is None for row in rows) and any(row["label"] is not None for row in rows)
    if not has_both:
        return rows
    if len(units) > 1:
        return [row for row in rows if row["label"] is None]
    return [row | {"label": f"true {row['label']}"} for row in rows if row["label"] is not None]


def _inner(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the bins of equal width of one group, and how many rows are in the wider ones at the ends."""
    widths = sorted(row["bin_end"] - row["bin_start"] for row in rows)
    if not widths:
        return [], 0
    width = widths[len(widths) // 2]
    inner = [row for row in rows if abs(row["bin_end"] - row["bin_start"] - width) <= 1e-6 * width]
    return inner, sum(row["n"] for row in rows) - sum(row["n"] for row in inner)


def _corners(rows: list[dict[str, Any]], group: str) -> list[dict[str, Any]]:
    """Return a point at the start of each bin of a group, and what brings the last step down to 0."""
    own = [row for row in rows if row["group"] == group]
    points = [
        {"group": group, "x": row["bin_start"], "x2": row["bin_end"], "y": row["y"], "n": row["n"], "i": at}
        for at, row in enumerate(own)
    ]
    if own:
        end = {"group": group, "x": own[-1]["bin_end"], "x2": None, "n": None}
        points += [end | {"y": own[-1]["y"], "i": len(own)}, end | {"y": 0.0, "i": len(own) + 1}]
    return points
