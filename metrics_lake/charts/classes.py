"""How often each class is predicted, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from metrics_lake.charts._altair import altair_module
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.looks import colour_of, legend_columns
from metrics_lake.charts.segments import group_names
from metrics_lake.charts.theme import LEGEND_SERIES, themed

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["class_distribution"]

_MAX_CLASSES: Final = 30


def class_distribution(
    numbers: pa.Table, *, title: str | None = None, width: int | str = 480, dark: bool = False
) -> Chart:
    """Return the share of each predicted class as bars, the most frequent on top; a colour a segment.

    Args:
        numbers: Prediction metrics; the rows of ``class_distribution`` count.
        title: Above the chart.
        width: In pixels, or ``"container"``.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    alt = altair_module()
    rows = [row for row in numbers.to_pylist() if row["metric"] == "class_distribution"]
    names = group_names([row | {"label": None} for row in rows], with_windows=True)
    groups = list(dict.fromkeys(names))[:LEGEND_SERIES]
    sums: dict[str, float] = {}
    for row in rows:
        sums[row["label"]] = sums.get(row["label"], 0.0) + row["value"]
    classes = sorted(sums, key=lambda label: -sums[label])
    values = [
        {"label": row["label"], "group": name, "share": row["value"], "n": row["n"]}
        for row, name in zip(rows, names, strict=True)
        if row["label"] in classes[:_MAX_CLASSES] and name in groups
    ]
    lines = subtitle(
        [
            counted(max((row["n"] for row in rows), default=0), "prediction"),
            f"the {_MAX_CLASSES} most frequent of {len(classes):,} classes"
            if len(classes) > _MAX_CLASSES
            else None,
        ]
    )
    shown = "Predicted classes" if title is None else title
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar()
        .encode(
            y=alt.Y("label:N", title=None, sort=classes),
            x=alt.X("share:Q", title="share of the predictions", axis=alt.Axis(format="%")),
            color=colour_of(alt, groups, columns=legend_columns(groups, width)),
            yOffset=alt.YOffset("group:N", sort=groups),
            tooltip=[
                alt.Tooltip("group:N"),
                alt.Tooltip("label:N", title="class"),
                alt.Tooltip("share:Q", format=".2%"),
                alt.Tooltip("n:Q", title="predictions", format=",d"),
            ],
        )
        .properties(
            width=width,
            height=alt.Step(max(4, 20 // max(len(groups), 1)), **{"for": "position"})
            if len(groups) == 1
            else alt.Step(6, **{"for": "offset"}),
            title=alt.Title(text=shown, subtitle=lines),
            description=f"{shown}: {'; '.join(lines)}.",
        )
    )
    return themed(chart, dark=dark)
