"""Points of curves read off states: ROC, precision and recall, calibration.

A point at the edge of a cell is exact: which rows lie above it is known. Between two points the curve of the
rows themselves is within ``bound`` of what is drawn: a straight line for ROC, as in scikit-learn; for
precision and recall a step that has the precision of the point at its end (straight lines would promise too
much: Davis and Goadrich, 2006, ICML).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._arguments import listed
from metrics_lake.predictions._text import near
from metrics_lake.predictions.curves import cell_edges
from metrics_lake.predictions.curves_binary import by_cell
from metrics_lake.predictions.families.scores import BINS
from metrics_lake.predictions.histograms import number_histogram, score_histogram
from metrics_lake.predictions.intervals import wilson
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.options import Options
from metrics_lake.predictions.rollup import rolled_up
from metrics_lake.predictions.rows import with_segments
from metrics_lake.predictions.runs import mass
from metrics_lake.predictions.state import merge_long

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CURVES", "CURVE_SCHEMA", "curve_points"]

_CURVE_FIELDS: list[Any] = [
    pa.field("resource", pa.string(), nullable=False),
    pa.field("window_start", pa.timestamp("us", tz="UTC")),
    pa.field("window_end", pa.timestamp("us", tz="UTC")),
    pa.field("segment", pa.map_(pa.string(), pa.string())),
    pa.field("curve", pa.string(), nullable=False),
    pa.field("label", pa.string()),
    pa.field("x", pa.float64()),
    pa.field("y", pa.float64()),
    pa.field("low", pa.float64()),
    pa.field("high", pa.float64()),
    pa.field("bound", pa.float64()),
    pa.field("n", pa.int64()),
    pa.field("threshold", pa.float64()),
    pa.field("bin_start", pa.float64()),
    pa.field("bin_end", pa.float64()),
]

CURVE_SCHEMA: Final = pa.schema(_CURVE_FIELDS)
"""The table of points, in the order in which a curve is drawn. ``low`` and ``high`` are the confidence
interval of ``y`` at this point (Wilson's, NULL where rows are weighted).

================  ==========================  ===============================  ===============================
curve             ``x``                       ``y``                            ``n``
================  ==========================  ===============================  ===============================
``roc``           false positive rate         true positive rate               positives
``pr``            recall                      precision                        rows predicted positive
``calibration``   mean score of the bin       share of positives (binary) or   rows of the bin
                                              of right decisions (several
                                              classes)
``scores``        middle of the bin           density                          rows of the bin
``predictions``   middle of the bin           density                          rows of the bin
``residuals``     middle of the bin           density                          rows of the bin
================  ==========================  ===============================  ===============================

``label`` is, for ``roc`` and ``pr``, the class against the rest where there are several; for ``scores`` the
*true* class of a binary task (NULL: all rows), or the class whose scores they are. ``threshold``: a row whose
score is at least this is predicted positive; infinity where none is.
"""

CURVES: Final = ("roc", "pr", "calibration", "scores", "predictions", "residuals")
"""The curves there are."""

_OUT: Final[dict[str, Any]] = {
    "gid": pl.Int64, "label": pl.String, "x": pl.Float64, "y": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "bound": pl.Float64, "n": pl.Int64, "threshold": pl.Float64,
    "bin_start": pl.Float64, "bin_end": pl.Float64,
}  # fmt: skip


def curve_points(
    state: pa.Table | Long,
    curve: str | Sequence[str] = "roc",
    *,
    by: Any = "stored",
    every: Any = "stored",
    points: int | None = None,
    confidence: float = 0.95,
    bins: int = 15,
) -> pa.Table:
    """Return the points of curves of each job, window, segment and class that states hold.

    Args:
        state: What :func:`~metrics_lake.predictions.state.prediction_state` or ``merge_states`` returned, or
            rows of a lake's ``prediction_states``; those of one job, segment and window are merged first.
        curve: One or several of :data:`CURVES`.
        by: As for :func:`~metrics_lake.predictions.finalize.finalize`.
        every: As for ``finalize``.
        points: Keep about so many points of each ROC or precision-recall curve, all of them exact, and say in
            ``bound`` what was left out; None: every point that the state knows.
        confidence: Of the intervals.
        bins: Equal bins of ``calibration``, a divisor of 60.

    Returns:
        A table of :data:`CURVE_SCHEMA`; no rows for a curve that does not exist, such as the ROC curve of
        a truth that has one class only.

    Raises:
        InvalidInputError: There is no such curve, an option is out of its range, or states do not fit
            together.
        NotFoundError: No stored segments have the columns of ``by``.
    """
    curves = listed(curve)
    for name in curves:
        if name not in _MAKERS:
            raise InvalidInputError(
                f"curve={name!r} is not known.{near(str(name), CURVES)}",
                hint=f"Pass one or several of {', '.join(map(repr, CURVES))}.",
                argument="curve",
            )
    if points is not None and not (isinstance(points, int) and points >= 2):  # type: ignore[redundant-expr]  # a caller's value
        raise InvalidInputError(
            f"points={points!r} is no whole number, 2 or more.", hint="Pass points=200.", argument="points"
        )
    options = Options(confidence=confidence, bins=bins)
    merged = rolled_up(merge_long(Long.of(state)), by=by, every=every)
    found = [_to_table(merged, _MAKERS[name](merged, options, points), name) for name in curves]
    return pa.concat_tables([CURVE_SCHEMA.empty_table(), *found])


def _roc(state: Long, options: Options, points: int | None) -> pl.DataFrame:
    cells = _ranked(state).filter(pl.col("p") > 0, pl.col("q") > 0)
    # A cell of one class is a straight piece, whatever the order of its rows.
    is_straight = pl.col("tied") | (pl.col("w1") == 0) | (pl.col("w0") == 0)
    frame = cells.select(
        "gid", "label", "threshold", "weighted",
        x=pl.col("fp") / pl.col("q"),
        y=pl.col("tp") / pl.col("p"),
        bound=pl.when(is_straight).then(0.0).otherwise(pl.col("w1") / pl.col("p")),
        n=pl.col("n1"),
    )  # fmt: skip
    start = frame.group_by("gid", maintain_order=True).agg(
        pl.col("label", "weighted", "n").first(), x=0.0, y=0.0, bound=0.0, threshold=float("inf")
    )
    return _with_interval(_thinned(_started(frame, start), points, is_step=False), options)


def _pr(state: Long, options: Options, points: int | None) -> pl.DataFrame:
    cells = _ranked(state).filter(pl.col("p") > 0)
    tp, fp, w1, w0 = (pl.col(name) for name in ("tp", "fp", "w1", "w0"))
    before_tp, before_fp = tp - w1, fp - w0
    y = tp / (tp + fp)
    # The least precision at a positive of the cell: all its negatives came before its first positive.
    one = pl.when("weighted").then(0.0).otherwise(1.0)
    least = (before_tp + one) / (before_tp + before_fp + w0 + one)
    least = pl.when(least.is_nan()).then(1.0).otherwise(least)
    most = tp / (tp + before_fp)
    frame = cells.select(
        "gid", "label", "threshold", "weighted",
        x=tp / pl.col("p"),
        y=y,
        bound=pl.when(pl.col("tied") | (w1 == 0)).then(0.0).otherwise(
            pl.max_horizontal(y - least, most - y, 0.0)
        ),
        n=pl.col("above"),
    )  # fmt: skip
    start = frame.group_by("gid", maintain_order=True).agg(
        pl.col("label", "weighted").first(), n=0, x=0.0, y=1.0, bound=0.0, threshold=float("inf")
    )
    return _with_interval(_thinned(_started(frame, start), points, is_step=True), options)


def _ranked(state: Long) -> pl.DataFrame:
    """Return the cells of scores with a truth from the greatest score down, and what lies above each end.

    ``tp`` and ``fp`` are the masses of positives and negatives that score at least ``threshold``, ``above``
    their number.
    """
    frames = []
    for kind in ("scores", "class_scores"):
        own = state.filter(pl.col("state") == kind)
        if own.head.height:
            lower = cell_edges(own, is_score=True).select("place", "lower")
            frames.append(by_cell(own).join(lower, on="place").join(_labels(own), on="gid"))
    if not frames:
        return pl.DataFrame(schema=_RANKED)
    frame = pl.concat(frames).sort("gid", "cell", descending=[False, True])
    return frame.with_columns(
        tp=pl.col("w1").cum_sum().over("gid"),
        fp=pl.col("w0").cum_sum().over("gid"),
        above=(pl.col("c1") + pl.col("c0")).cum_sum().over("gid"),
        # Above 15/16 a cell is open below: the least score that belongs to it is the next double.
        threshold=pl.when(pl.col("tied") | (pl.col("lower") < _OPEN_BELOW)).then("lower").otherwise(
            (pl.col("lower").reinterpret(dtype=pl.Int64) + 1).reinterpret(dtype=pl.Float64)
        ),
    )  # fmt: skip


_OPEN_BELOW: Final = 15 / 16

_RANKED: Final[dict[str, Any]] = {
    "gid": pl.Int64, "label": pl.String, "threshold": pl.Float64, "weighted": pl.Boolean,
    "tied": pl.Boolean, "above": pl.Int64, "n1": pl.Int64,
    **dict.fromkeys(("tp", "fp", "w1", "w0", "p", "q"), pl.Float64),
}  # fmt: skip


def _labels(state: Long) -> pl.DataFrame:
    """Return ``gid label``: the class that a state of class scores is about, else NULL."""
    texts = [json.loads(text).get("label") for text in state.head["params"]]
    return state.head.select("gid", pl.Series("label", texts, dtype=pl.String))


def _started(frame: pl.DataFrame, start: pl.DataFrame) -> pl.DataFrame:
    """Return the curves with a first point, at which no row is predicted positive."""
    columns = ("gid", "label", "threshold", "weighted", "x", "y", "bound", "n")
    both = [each.select(pl.col(name).cast(_POINT[name]) for name in columns) for each in (start, frame)]
    return pl.concat(both).sort("gid", maintain_order=True)


_POINT: Final = _OUT | {"weighted": pl.Boolean}


def _thinned(frame: pl.DataFrame, points: int | None, *, is_step: bool) -> pl.DataFrame:
    """Return fewer points of each curve, with the bound of the longer pieces between them.

    Of the points that fall into one cell of a grid the last one stays, and the ends of a curve.
    """
    if points is None or frame.height <= points:
        return frame
    is_end = (pl.int_range(pl.len()) == 0) | (pl.int_range(pl.len(), 0, -1) == 1)
    if is_step:
        # A point that adds no recall only says how deep the step before it falls.
        frame = frame.filter((pl.col("x") > pl.col("x").shift(1)).over("gid") | is_end.over("gid"))
    steps = max(points // 2, 1)
    x_place, y_place = (pl.col("x") * steps).floor(), (pl.col("y") * steps).floor()
    changes = (x_place != x_place.shift(-1)) | (y_place != y_place.shift(-1))
    frame = frame.with_columns(is_kept=(changes.fill_null(value=True) | is_end).over("gid"))
    x, y = (pl.when("is_kept").then(name) for name in ("x", "y"))
    frame = frame.with_columns(
        x0=x.shift(1).forward_fill().over("gid"),
        y0=y.shift(1).forward_fill().over("gid"),
        x1=x.backward_fill().over("gid"),
        y1=y.backward_fill().over("gid"),
        piece=pl.col("is_kept").cum_sum(reverse=True).over("gid"),
    )
    if is_step:
        drawn = pl.col("y1")
    else:
        share = (pl.col("x") - pl.col("x0")) / (pl.col("x1") - pl.col("x0"))
        line = pl.col("y0") + (pl.col("y1") - pl.col("y0")) * share
        drawn = pl.when(pl.col("x1") > pl.col("x0")).then(line).otherwise("y")
    frame = frame.with_columns(off=(pl.col("y") - drawn).abs().fill_null(0.0))
    worst = pl.col("off").max() + pl.col("bound").max()
    frame = frame.with_columns(bound=worst.over("gid", "piece"))
    return frame.filter("is_kept").select(_POINT_COLUMNS)


_POINT_COLUMNS: Final = ("gid", "label", "threshold", "weighted", "x", "y", "bound", "n")


def _with_interval(frame: pl.DataFrame, options: Options) -> pl.DataFrame:
    low, high = wilson(pl.col("y"), pl.col("n"), options.confidence)
    plain = ~pl.col("weighted") & (pl.col("n") > 0)
    return frame.with_columns(low=pl.when(plain).then(low), high=pl.when(plain).then(high))


def _calibration(state: Long, options: Options, points: int | None) -> pl.DataFrame:
    own = state.filter(pl.col("state").is_in(["scores", "labels"]))
    wide = pl.col("bin").cast(pl.Int64) * options.bins // BINS
    known = own.calib.filter(pl.col("y").is_not_null()).with_columns(mass=mass(), wide=wide)
    frame = known.group_by("gid", "wide").agg(
        x=pl.col("sum_s").sum() / pl.col("mass").sum(),
        y=pl.col("mass").filter(pl.col("y") == 1).sum() / pl.col("mass").sum(),
        n=pl.col("n").sum(),
        weighted=pl.col("sum_w").is_not_null().any(),
        bound=0.0,
    ).sort("gid", "wide")  # fmt: skip
    frame = frame.filter(pl.col("x").is_not_nan()).with_columns(
        bin_start=pl.col("wide") / options.bins, bin_end=(pl.col("wide") + 1) / options.bins
    )
    return _with_interval(frame, options)


def _scores(state: Long, options: Options, points: int | None) -> pl.DataFrame:
    return score_histogram(state, options.confidence)


def _predictions(state: Long, options: Options, points: int | None) -> pl.DataFrame:
    return number_histogram(state, "numbers", options.confidence)


def _residuals(state: Long, options: Options, points: int | None) -> pl.DataFrame:
    return number_histogram(state, "residuals", options.confidence)


_MAKERS: Final[dict[str, Callable[[Long, Options, int | None], pl.DataFrame]]] = {
    "roc": _roc,
    "pr": _pr,
    "calibration": _calibration,
    "scores": _scores,
    "predictions": _predictions,
    "residuals": _residuals,
}


def _to_table(state: Long, points: pl.DataFrame, curve: str) -> pa.Table:
    """Return points as a table of :data:`CURVE_SCHEMA`, sorted by job, window, segment and class."""
    head = state.head.select("gid", "resource", "window_start", "window_end", "segment_key")
    frame = points.select(
        pl.col(name).cast(dtype) if name in points.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in _OUT.items()
    ).join(head, on="gid", how="left", maintain_order="left")  # fmt: skip
    order = ["resource", "window_start", "segment_key", "label"]
    frame = frame.sort(order, maintain_order=True).with_columns(curve=pl.lit(curve))
    return with_segments(frame, CURVE_SCHEMA)
