"""Confusion matrices as heat maps: how the rows of each true class were predicted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts._altair import altair_module, inline
from metrics_lake.charts.counts import counted, subtitle
from metrics_lake.charts.segments import group_names
from metrics_lake.charts.theme import themed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from metrics_lake.charts._altair import Chart

__all__ = ["confusion_matrix"]

_MAX_CLASSES: Final = 100
_NUMBERED: Final = 12
"""Up to so many classes each cell has its number in it."""
_MAX_PANELS: Final = 6
_OTHER: Final = "(other classes)"


def confusion_matrix(
    numbers: pa.Table,
    *,
    title: str | None = None,
    size: int | None = None,
    dark: bool = False,
) -> Chart:
    """Return the confusion matrix as a heat map, of several jobs, windows or segments a panel each.

    A row is a true class; the shade is the share of its rows, so that rare classes are seen as well as
    frequent ones. Of more than 100 classes the most frequent are drawn, the others as one.

    Args:
        numbers: Prediction metrics; the rows of ``confusion`` count.
        title: Above the chart.
        size: Of one panel, in pixels; None: by the number of classes.
        dark: For a dark background.

    Raises:
        InvalidInputError: Altair is not installed.
    """
    import pyarrow as pa

    alt = altair_module()
    rows = [row for row in numbers.to_pylist() if row["metric"] == "confusion" and row["value"] is not None]
    names = group_names([row | {"label": None} for row in rows], with_windows=True)
    panels = list(dict.fromkeys(names))
    counts: dict[str, dict[tuple[str, str], float]] = {name: {} for name in panels[:_MAX_PANELS]}
    for row, name in zip(rows, names, strict=True):
        if name in counts:
            truth, pred = json.loads(row["label"])
            counts[name][truth, pred] = row["value"]
    classes, num_classes = _classes(counts.values())
    cells = [cell for name, pairs in counts.items() for cell in _cells(name, pairs, classes)]
    total = sum(sum(pairs.values()) for pairs in counts.values())
    side = size or max(120, min(480, 60 * len(classes) + 40))
    lines = subtitle(
        [
            counted(round(total), "labelled row") if len(counts) == 1 else None,
            f"{len(counts)} of {len(panels)} matrices" if len(panels) > len(counts) else None,
            f"the {len(classes) - 1} most frequent of {num_classes:,} classes"
            if num_classes > len(classes)
            else None,
            "shade: share of the true class" if cells else "no row has a label yet",
        ]
    )
    texts = ("panel", "truth", "pred")
    columns: dict[str, Any] = {name: pa.array([cell[name] for cell in cells], pa.string()) for name in texts}
    columns |= {name: pa.array([cell[name] for cell in cells], pa.float64()) for name in ("rows", "share")}
    data = inline(pa.table(columns))
    chart = _panel(alt, cells, classes, side, dark=dark)
    if len(counts) > 1:
        chart = chart.properties(width=min(side, 240), height=min(side, 240)).facet(
            data=data,
            facet=alt.Facet("panel:N", title=None, sort=list(counts)),
            columns=3,
        )
    else:
        chart = chart.properties(data=data, width=side, height=side)
    shown = "Confusion matrix" if title is None else title
    chart = chart.properties(
        title=alt.Title(text=shown, subtitle=lines),
        description=f"{shown}, number of classes: {num_classes:,}; {'; '.join(lines)}.",
    )
    return themed(chart, dark=dark)


def _classes(matrices: Any) -> tuple[list[str], int]:
    """Return the classes that are drawn, in their order, and how many there are."""
    sizes: dict[str, float] = {}
    for pairs in matrices:
        for (truth, pred), value in pairs.items():
            sizes[truth] = sizes.get(truth, 0.0) + value
            sizes.setdefault(pred, 0.0)
    found = sorted(sizes, key=_order_of(sizes))
    if len(found) <= _MAX_CLASSES:
        return found, len(found)
    top = set(sorted(found, key=lambda name: -sizes[name])[: _MAX_CLASSES - 1])
    return [*(name for name in found if name in top), _OTHER], len(found)


def _order_of(names: Any) -> Any:
    """Return the key that sorts classes: as numbers where all are some."""
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        return str
    return values.__getitem__


def _cells(panel: str, pairs: dict[tuple[str, str], float], classes: Sequence[str]) -> list[dict[str, Any]]:
    known = set(classes)
    counts: dict[tuple[str, str], float] = {}
    sums: dict[str, float] = {}
    for (truth, pred), value in pairs.items():
        place = (truth if truth in known else _OTHER, pred if pred in known else _OTHER)
        counts[place] = counts.get(place, 0.0) + value
        sums[place[0]] = sums.get(place[0], 0.0) + value
    # A class without a true row has no shares; nothing is drawn for it.
    return [
        {
            "panel": panel,
            "truth": truth,
            "pred": pred,
            "rows": counts.get((truth, pred), 0.0),
            "share": counts.get((truth, pred), 0.0) / sums[truth],
        }
        for truth in classes
        if sums.get(truth)
        for pred in classes
        if len(classes) <= _NUMBERED or (truth, pred) in counts
    ]


def _panel(alt: Any, cells: list[dict[str, Any]], classes: list[str], side: int, *, dark: bool) -> Any:
    axis = {"title": None, "scale": alt.Scale(domain=classes, paddingInner=0.02 if len(classes) < 30 else 0)}
    is_wide = sum(map(len, classes)) * 7 > side
    labels = alt.Axis(labelLimit=120, labelOverlap="greedy", labelAngle=-45 if is_wide else 0)
    base = alt.Chart().encode(
        x=alt.X("pred:N", **(axis | {"title": "predicted", "axis": labels})),
        y=alt.Y("truth:N", **(axis | {"title": "true", "axis": alt.Axis(labelLimit=160, labelOverlap=True)})),
        tooltip=[
            alt.Tooltip("truth:N", title="true"),
            alt.Tooltip("pred:N", title="predicted"),
            alt.Tooltip("rows:Q", format=",.6~g"),
            alt.Tooltip("share:Q", title="share of the true class", format=".1%"),
        ],
    )
    # More is farther from the background.
    ends = ["#1d2b38", "#8fd3ff"] if dark else ["#edf3f9", "#0b4f8a"]
    legend = alt.Legend(title=None, format=".0%", gradientLength=min(side, 200))
    shade = alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], range=ends), legend=legend)
    squares = base.mark_rect().encode(color=shade)
    if len(classes) > _NUMBERED:
        return alt.layer(squares)
    ink = alt.condition("datum.share > 0.55", alt.value("#101418" if dark else "white"),
                        alt.value("#e6e6e6" if dark else "#24292f"))  # fmt: skip
    count = base.mark_text(fontSize=12, dy=-6 if len(classes) <= 6 else 0).encode(
        text=alt.Text("rows:Q", format=",.7~g"), color=ink
    )
    share = base.mark_text(fontSize=10, dy=9).encode(text=alt.Text("share:Q", format=".1%"), color=ink)
    return alt.layer(squares, count, *([share] if len(classes) <= 6 else []))
