"""What a call that computes prediction metrics returns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from metrics_lake.predictions._text import near
from metrics_lake.predictions.families.labels import label_value
from metrics_lake.predictions.long import Long
from metrics_lake.printing import as_html, as_rich, cell
from metrics_lake.result import Result

if TYPE_CHECKING:
    from metrics_lake.charts import Chart

__all__ = ["PER_LABEL_DICTS", "PredictionMetrics", "label_kind_of"]

PER_LABEL_DICTS: Final = ("class_distribution", "class_counts")
"""Metrics whose value is one dict of all classes, not a value for each class."""


class PredictionMetrics(Mapping[str, Any]):
    """The metrics of all rows, by name: a mapping.

    Values are floats or ints; a metric that has no value (one class only, …) is None, and ``reason(name)``
    says why. ``class_distribution`` is a dict whose keys are the classes in their own type. Segments,
    windows and per-class values are in :meth:`to_frame`.

    Args:
        table: The numbers, of :data:`~metrics_lake.predictions.schema.FINAL_SCHEMA`.
        state: The state that they were computed from.
    """

    __slots__ = ("_reasons", "_state", "_values", "table")

    def __init__(self, table: pa.Table, state: pa.Table | Long) -> None:
        self.table = table
        self._state = state
        kind = label_kind_of(state)
        rows = table.select(["window_start", "segment", "metric", "label", "value", "reason"]).to_pylist()
        total = [row for row in rows if not row["segment"] and row["window_start"] is None]
        self._values: dict[str, Any] = {}
        self._reasons: dict[str, str] = {}
        for row in total:
            name, value = row["metric"], row["value"]
            if name in PER_LABEL_DICTS:
                plain = int(value) if name == "class_counts" else value
                self._values.setdefault(name, {})[label_value(row["label"], kind)] = plain
            elif row["label"] is None:
                self._values[name] = int(value) if value is not None and is_count(name) else value
                if row["reason"] is not None:
                    self._reasons[name] = row["reason"]

    @property
    def state(self) -> pa.Table:
        """The state that the metrics were computed from."""
        if isinstance(self._state, Long):
            self._state = self._state.to_arrow()
        return self._state

    @property
    def task(self) -> str:
        """``binary``, ``multiclass``, ``regression``, or ``unknown`` for whole numbers without a truth."""
        tasks = [task for task in _texts(self._state, "task") if task is not None]
        return str(tasks[0]) if tasks else "unknown"

    @property
    def n(self) -> int:
        """How many predictions there are, unusable ones included."""
        return int(self._values.get("num_predictions", 0))

    @property
    def excluded(self) -> dict[str, int]:
        """How many predictions could not be used, by reason: ``null nan inf out_of_range``."""
        return {
            name: int(self._values.get(f"num_{name}", 0)) for name in ("null", "nan", "inf", "out_of_range")
        }

    def reason(self, name: str) -> str | None:
        """Return why a metric has no value, or None where it has one."""
        return self._reasons.get(name)

    def to_frame(self) -> pl.DataFrame:
        """Return all numbers with their windows, segments, labels, error bounds and intervals.

        The columns are those of :data:`~metrics_lake.predictions.schema.FINAL_SCHEMA`; ``segment`` is a list
        of key and value. ``table`` is the same as Arrow.
        """
        position = self.table.column_names.index("segment")
        segment = self.table.column("segment").cast(
            pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
        )
        frame = pl.from_arrow(self.table.set_column(position, "segment", segment))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 -- from_arrow of a table: for the type checker
        return frame

    def curve(
        self,
        curve: str = "roc",
        *,
        by: Any = None,
        points: int | None = None,
        bins: int = 15,
        confidence: float = 0.95,
    ) -> Result:
        """Return the points of a curve of all rows, or of each segment.

        Args:
            curve: ``"roc" "pr" "calibration"`` or the distributions ``"scores" "predictions" "residuals"``.
            by: The segment columns; None: all rows together.
            points: Keep about so many points of each ``roc`` or ``pr`` curve, all of them exact; None: all.
            bins: Equal bins of ``calibration``, a divisor of 60.
            confidence: Of the intervals.

        Returns:
            A Result with the columns of :data:`~metrics_lake.predictions.curve_points.CURVE_SCHEMA`.

        Raises:
            InvalidInputError: There is no such curve, or an option is out of its range.
            NotFoundError: The predictions were not segmented by these columns.
        """
        from metrics_lake.predictions.curve_points import curve_points

        found = curve_points(
            self.state, curve, by=by, every=None, points=points, bins=bins, confidence=confidence
        )
        return Result(lambda: found)

    def plot(
        self, kind: str | None = None, *, by: Any = None, title: str | None = None, dark: bool = False
    ) -> Chart:
        """Return an Altair chart of the metrics; without a kind a page of all that there is to see.

        Args:
            kind: ``"metrics"`` (values with their intervals), ``"confusion"``, ``"classes"``, or a curve:
                ``"roc" "pr" "calibration" "scores" "predictions" "residuals"``.
            by: The segment columns; None: all rows together.
            title: Above the chart.
            dark: For a dark background.

        Raises:
            InvalidInputError: There is no such kind, or Altair is not installed.
            NotFoundError: The predictions were not segmented by these columns.
        """
        from metrics_lake.predictions.pictures import picture

        return picture(self.state, kind, by=by, title=title, dark=dark)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise KeyError(f"{name!r} is not among the metrics.{near(name, self._values)}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in self._values.items())
        return f"PredictionMetrics(task={self.task!r}, {shown})"

    def _repr_html_(self) -> str:
        return as_html(*self._shown())

    def __rich__(self) -> Any:
        return as_rich(*self._shown())

    def _shown(self) -> tuple[tuple[str, ...], list[list[str]], str, int]:
        """Return what stands in a notebook: a line for each metric of all rows."""
        rows = self.table.select(["window_start", "segment", "metric", "label", "low", "high"]).to_pylist()
        ends = {
            row["metric"]: (row["low"], row["high"])
            for row in rows
            if not row["segment"] and row["window_start"] is None and row["label"] is None
        }
        lines = [
            [cell(each) for each in (name, value, *ends.get(name, (None, None)), self._reasons.get(name))]
            for name, value in self._values.items()
        ]
        caption = f"{self.task}, {self.n:,} predictions"
        return ("metric", "value", "low", "high", "reason"), lines, caption, len(lines)


def is_count(name: str) -> bool:
    """Return whether a metric is a number of rows or classes, that is an int."""
    return name.startswith("num_")


def label_kind_of(state: pa.Table | Long) -> str:
    """Return the type of the labels of a state: ``bool int float str``."""
    for text in _texts(state, "params"):
        kind = json.loads(str(text)).get("label_kind")
        if kind is not None:
            return str(kind)
    return "int"


def _texts(state: pa.Table | Long, name: str) -> list[Any]:
    texts: list[Any] = (
        state.head[name].to_list() if isinstance(state, Long) else state.column(name).to_pylist()
    )
    return texts


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and len(value) > 4:
        return f"<{len(value)} classes>"
    return repr(value)
