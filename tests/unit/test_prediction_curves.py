"""Points of curves from states, against scikit-learn's on the rows."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from metrics_lake import MetricsLake, glob
from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.predictions import (
    CURVE_SCHEMA,
    CURVES,
    Binary,
    PredictionMetrics,
    curve_points,
    finalize,
    merge_states,
    prediction_state,
)
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.state import merge_long


def scored(rows=3000, seed=3, *, digits=None):
    rng = np.random.default_rng(seed)
    p = rng.beta(1.5, 4, rows)
    p = p if digits is None else p.round(digits)
    return pl.DataFrame(
        {
            "p": p,
            "y": (rng.random(rows) < p).astype(int),
            "country": rng.choice(["FR", "NO"], rows),
            "at": [dt.datetime(2026, 3, 1 + int(d), tzinfo=dt.UTC) for d in rng.integers(0, 6, rows)],
        }
    )


def points_of(state, curve, **options):
    table = curve_points(state, curve, **options)
    assert table.schema == CURVE_SCHEMA
    return pl.from_arrow(table.drop_columns(["segment"]))


def coarse(state, bits):
    """Return a state at a lower resolution, as merging with a coarser one makes it."""
    long = Long.from_arrow(state)
    low = long.with_head((pl.col("res") - bits).alias("res"), pl.lit("other").alias("part_id"))
    cells = pl.col("cell").floordiv(2**bits)
    empty = low.__class__.build(
        low.head.with_columns(n=0, null=0, nan=0, inf=0, range=0, truth_null=0, truth_nan=0, truth_inf=0),
        cells=low.cells.with_columns(cell=cells).group_by("gid", "cell", "y").agg(n=pl.lit(0, pl.Int64)),
    )
    return merge_long(long, empty).to_arrow()


def assert_near_line(points, x, y):
    """Every (x, y) is within the bound of the straight pieces between points."""
    xs, ys, bounds = (points[name].to_numpy() for name in ("x", "y", "bound"))
    for fpr, tpr in zip(x, y, strict=True):
        near = False
        for i in range(1, len(xs)):
            if not xs[i - 1] - 1e-12 <= fpr <= xs[i] + 1e-12:
                continue
            width = xs[i] - xs[i - 1]
            at = ys[i - 1] if width == 0 else ys[i - 1] + (ys[i] - ys[i - 1]) * (fpr - xs[i - 1]) / width
            low, high = (ys[i - 1], ys[i]) if width == 0 else (at - bounds[i], at + bounds[i])
            near = near or low - 1e-12 <= tpr <= high + 1e-12
        assert near, (fpr, tpr)


@pytest.mark.parametrize("digits", [None, 2])
def test_roc_points_are_those_of_the_rows(digits):
    frame = scored(digits=digits)
    points = points_of(prediction_state(frame, score="p", truth="y"), "roc")
    p, y = frame["p"].to_numpy(), frame["y"].to_numpy()
    for x, tpr, threshold in points.select("x", "y", "threshold").iter_rows():
        assert x == pytest.approx((p[y == 0] >= threshold).mean(), abs=1e-12)
        assert tpr == pytest.approx((p[y == 1] >= threshold).mean(), abs=1e-12)
    fpr, tpr, thresholds = sk.roc_curve(y, p, drop_intermediate=False)
    assert_near_line(points, fpr[::7], tpr[::7])
    if digits == 2:  # each score has a cell of its own: the same points, exactly
        np.testing.assert_allclose(points["x"], fpr)
        np.testing.assert_allclose(points["y"], tpr)
        np.testing.assert_array_equal(points["threshold"], thresholds)
        assert points["bound"].sum() == 0


@pytest.mark.parametrize("bits", [4, 6])
def test_coarse_roc_encloses_that_of_the_rows(bits):
    frame = scored()
    state = coarse(prediction_state(frame, score="p", truth="y"), bits)
    points = points_of(state, "roc")
    assert points["bound"].max() > 0.01
    fpr, tpr, _ = sk.roc_curve(frame["y"], frame["p"], drop_intermediate=False)
    assert_near_line(points, fpr[::3], tpr[::3])
    area = np.trapezoid(points["y"], points["x"])
    row = next(r for r in finalize(state).to_pylist() if r["metric"] == "roc_auc")
    assert area == pytest.approx(row["value"], abs=1e-12)


@pytest.mark.parametrize("points", [20, 100])
def test_fewer_points_are_exact_and_say_what_was_left_out(points):
    frame = scored()
    state = prediction_state(frame, score="p", truth="y")
    for curve in ("roc", "pr"):
        every, few = points_of(state, curve), points_of(state, curve, points=points)
        assert 5 < few.height <= 2 * points
        kept = few.select("x", "y", "threshold", "n")
        assert kept.join(every, on=["x", "y", "threshold", "n"], how="semi").height == few.height
        assert few.head(1).select("x", "threshold").rows() == [(0.0, math.inf)]
        assert few["x"].max() == 1.0
    fpr, tpr, _ = sk.roc_curve(frame["y"], frame["p"], drop_intermediate=False)
    assert_near_line(points_of(state, "roc", points=points), fpr[::5], tpr[::5])


def assert_near_step(points, y, p):
    """Between two recalls of the rows the step is within its bound of scikit-learn's."""
    precision, recall, _ = sk.precision_recall_curve(y, p)
    precision, recall = precision[::-1], recall[::-1]
    xs, ys, bounds = (points[name].to_numpy() for name in ("x", "y", "bound"))
    changes = np.flatnonzero(np.diff(recall) > 0)
    for i in changes:
        middle = (recall[i] + recall[i + 1]) / 2
        ours = np.searchsorted(xs, middle)  # the first point whose recall reaches it
        assert abs(ys[ours] - precision[i + 1]) <= bounds[ours] + 1e-12, middle


@pytest.mark.parametrize("digits", [None, 2])
def test_pr_points_are_those_of_the_rows(digits):
    frame = scored(digits=digits)
    p, y = frame["p"].to_numpy(), frame["y"].to_numpy()
    state = prediction_state(frame, score="p", truth="y")
    points = points_of(state, "pr")
    for x, precision, threshold, n in points[1:].select("x", "y", "threshold", "n").iter_rows():
        chosen = p >= threshold
        assert n == chosen.sum()
        assert precision == pytest.approx(y[chosen].mean(), abs=1e-12)
        assert x == pytest.approx((chosen & (y == 1)).sum() / y.sum(), abs=1e-12)
    assert points.head(1).select("x", "y", "n").rows() == [(0.0, 1.0, 0)]
    assert_near_step(points, y, p)
    assert_near_step(points_of(state, "pr", points=30), y, p)


@pytest.mark.parametrize("bits", [4, 6])
def test_coarse_pr_encloses_that_of_the_rows(bits):
    frame = scored()
    state = coarse(prediction_state(frame, score="p", truth="y"), bits)
    assert_near_step(points_of(state, "pr"), frame["y"].to_numpy(), frame["p"].to_numpy())


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(0, 1, allow_subnormal=False), st.booleans()),
        min_size=2,
        max_size=40,
    ),
    st.sampled_from([None, 4]),
)
def test_any_scores_lie_within_the_bounds(rows, points):
    p, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    state = prediction_state(
        {"p": p, "y": y}, score="p", truth="y", task=Binary(pos_label=True, labels=[False, True])
    )
    roc = points_of(state, "roc", points=points)
    if y.all() or not y.any():
        assert not roc.height
    else:
        fpr, tpr, _ = sk.roc_curve(y, p, drop_intermediate=False)
        assert_near_line(roc, fpr, tpr)
    if y.any():
        assert_near_step(points_of(state, "pr", points=points), y, p)
    else:
        assert not points_of(state, "pr").height


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_calibration_is_scikit_learns(bins):
    frame = scored()
    points = points_of(prediction_state(frame, score="p", truth="y"), "calibration", bins=bins)
    observed, predicted = calibration_curve(frame["y"], frame["p"], n_bins=bins)
    np.testing.assert_allclose(points["x"], predicted)
    np.testing.assert_allclose(points["y"], observed)
    counts = np.histogram(frame["p"], bins, (0, 1))[0]
    np.testing.assert_array_equal(points["n"], counts[counts > 0])
    assert (points["low"] < points["y"]).sum() + (points["y"] == 0).sum() == points.height
    np.testing.assert_allclose(points["bin_start"], np.flatnonzero(counts) / bins)


def test_intervals_are_wilsons():
    from statsmodels.stats.proportion import proportion_confint

    points = points_of(
        prediction_state(scored(), score="p", truth="y"), "calibration", bins=10, confidence=0.9
    )
    hits = (points["y"] * points["n"]).round()
    low, high = proportion_confint(hits, points["n"].to_numpy(), alpha=0.1, method="wilson")
    np.testing.assert_allclose(points["low"], low, atol=1e-9)
    np.testing.assert_allclose(points["high"], high, atol=1e-9)


def test_scores_by_true_class_are_numpys_histogram():
    frame = scored()
    points = points_of(prediction_state(frame, score="p", truth="y"), "scores")
    for label, rows in ((None, frame), ("1", frame.filter(y=1)), ("0", frame.filter(y=0))):
        own = points.filter(pl.col("label").eq_missing(label))
        counts, _ = np.histogram(rows["p"], 32, (0, 1))
        density, _ = np.histogram(rows["p"], 32, (0, 1), density=True)
        np.testing.assert_array_equal(own["n"], counts)
        np.testing.assert_allclose(own["y"], density)
    without = points_of(prediction_state(frame.select("p"), score="p"), "scores")
    assert without["label"].to_list() == [None] * 32


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(10, 3, 5000),
        np.random.default_rng(0).normal(1e4, 20, 5000),
        np.random.default_rng(0).standard_cauchy(5000),
        np.random.default_rng(0).integers(0, 9, 5000) + 0.5,
        np.full(10, 3.25),
        np.array([-2.5]),
    ],
    ids=["normal", "far from zero", "heavy tails", "few values", "constant", "one row"],
)
def test_histogram_of_numbers_is_numpys_within_the_bound(values):
    points = points_of(prediction_state(values, task="regression"), "predictions")
    assert points["n"].sum() == values.size
    width = points["bin_end"] - points["bin_start"]
    assert (points["y"] * width).sum() == pytest.approx(1)
    assert points["bin_start"][1:].to_list() == points["bin_end"][:-1].to_list()
    edges = [*points["bin_start"], points["bin_end"][-1]]
    shares = np.histogram(values, edges)[0] / values.size
    assert (abs(points["y"] * width - shares) <= points["bound"] * width + 1e-9).all()


def test_residuals_and_predictions_of_a_regression():
    rng = np.random.default_rng(1)
    truth = rng.normal(50, 10, 2000)
    state = prediction_state(truth + rng.normal(0, 2, 2000), truth=truth)
    residuals = points_of(state, "residuals")
    inner = residuals.filter(pl.col("n") > 20)
    assert -12 < inner["x"].min() < -3
    assert 3 < inner["x"].max() < 12
    assert 30 < points_of(state, "predictions")["x"].median() < 70


def test_class_scores_have_a_curve_for_each_class():
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(900, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in shares])
    state = prediction_state(shares, truth=truth)
    roc = points_of(state, "roc")
    for label in range(3):
        own = roc.filter(label=str(label))
        fpr, tpr, _ = sk.roc_curve(truth == label, shares[:, label], drop_intermediate=False)
        assert_near_line(own, fpr[::5], tpr[::5])
    calibration = points_of(state, "calibration", bins=10)
    hit, confidence = truth == shares.argmax(axis=1), shares.max(axis=1)
    observed, predicted = calibration_curve(hit, confidence, n_bins=10)
    np.testing.assert_allclose(calibration["x"], predicted)
    np.testing.assert_allclose(calibration["y"], observed)
    assert points_of(state, "scores")["label"].unique().sort().to_list() == ["0", "1", "2"]


@pytest.mark.parametrize("curve", CURVES)
def test_no_curve_is_no_rows(curve):
    for state in (
        prediction_state([]),
        prediction_state(["a", "b"], truth=["a", "a"]),
        prediction_state({"p": [0.5, None], "y": [None, True]}, score="p", truth="y"),
    ):
        assert points_of(state, curve)["y"].is_nan().sum() == 0
    assert not points_of(prediction_state(["a", "b"]), curve).height


def test_weights_count():
    rng = np.random.default_rng(2)
    frame = scored(digits=2).with_columns(w=pl.Series(rng.random(3000)))
    points = points_of(prediction_state(frame, score="p", truth="y", weight="w"), "roc")
    fpr, tpr, _ = sk.roc_curve(
        frame["y"], frame["p"], sample_weight=frame["w"].to_numpy(), drop_intermediate=False
    )
    np.testing.assert_allclose(points["x"], fpr, atol=1e-12)
    np.testing.assert_allclose(points["y"], tpr, atol=1e-12)
    assert points["low"].null_count() == points.height


@pytest.mark.parametrize("curve", CURVES[:4])
def test_merged_parts_give_the_curve_of_all_rows(curve):
    frame = scored()
    options = {"score": "p", "truth": "y", "by": "country"}
    parts = [prediction_state(frame[i::3], part=str(i), **options) for i in range(3)]
    whole = curve_points(prediction_state(frame, **options), curve)
    merged = curve_points(merge_states(*parts), curve)
    names = ["x", "y", "bound", "threshold"]
    for name in names:
        ours, theirs = (table.column(name).to_numpy() for table in (merged, whole))
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert merged.column("n").equals(whole.column("n"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curve": "rok"}, "curve='rok' is not known. Did you mean 'roc'?"),
        ({"points": 1}, "points=1 is no whole number, 2 or more"),
        ({"points": 2.5}, "points=2.5 is no whole number"),
        ({"curve": 5}, "curve=5 is not known"),
        ({"curve": "calibration", "bins": 7}, "bins=7 does not divide"),
        ({"confidence": 95}, "confidence=95 is not in"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InvalidInputError) as caught:
        curve_points(prediction_state(scored(), score="p", truth="y"), **options)
    assert message in str(caught.value)


def test_several_curves_at_once_are_those_of_each():
    state = prediction_state(scored(), score="p", truth="y", by="country")
    together = curve_points(state, ["roc", "calibration", "residuals"], points=30)
    each = [curve_points(state, curve, points=30) for curve in ("roc", "calibration")]
    assert together.equals(pa.concat_tables(each))


def test_curves_of_a_lake(tmp_path):
    lake = MetricsLake(tmp_path / "lake")
    options = {"score": "p", "truth": "y", "by": "country", "time": "at", "every": "1d"}
    for part in range(2):
        found = lake.log_prediction_metrics(f"churn/{part}", scored(seed=part), **options)
        assert isinstance(found, PredictionMetrics)
        own = lake.prediction_curves(f"churn/{part}").arrow()
        assert own.equals(found.curve("roc").arrow().set_column(0, own.schema.field(0), own.column(0)))
    both = lake.prediction_curves(glob("churn/*"), "calibration", by="country", every="2d", bins=10).pl()
    assert both["resource"].unique().to_list() == ["churn/*"]
    rows = pl.concat([scored(seed=0), scored(seed=1)])
    first = both.filter(pl.col("window_start") == dt.datetime(2026, 3, 2, tzinfo=dt.UTC))
    assert both["n"].sum() == 4 * rows.height  # all and by country; the total and by window
    assert first.height
    handle = lake.resource("churn/1").prediction_curves("pr", points=50)
    assert handle.arrow().equals(lake.prediction_curves("churn/1", "pr", points=50).arrow())
    late = lake.prediction_curves("churn/1", "scores", since=dt.datetime(2026, 3, 4, tzinfo=dt.UTC)).pl()
    expected = scored(seed=1).filter(pl.col("at") >= dt.datetime(2026, 3, 4, tzinfo=dt.UTC)).height
    assert late.filter(pl.col("label").is_null())["n"].sum() == expected
    with pytest.raises(NotFoundError, match="Did you mean 'churn/1'"):
        lake.prediction_curves("churn/11")
    with pytest.raises(NotFoundError, match="no stored segments"):
        lake.prediction_curves("churn/1", by="device")
    lake.close()
