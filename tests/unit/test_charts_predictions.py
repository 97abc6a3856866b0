"""Charts of predictions: what they draw, what they say, and that nothing breaks where there is nothing."""

import csv
import datetime as dt
import io
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import vl_convert

from metrics_lake import MetricsLake, charts
from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.predictions import curve_points, finalize, prediction_state
from metrics_lake.predictions.pictures import KINDS

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def scored(rows=2000, segments=1, seed=0, resource=""):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 3, rows)
    frame = pl.DataFrame(
        {
            "p": p,
            "y": (rng.random(rows) < p).astype(int),
            "country": rng.choice([f"c{i}" for i in range(segments)], rows),
        }
    )
    return prediction_state(frame, score="p", truth="y", by="country", resource=resource)


def svg_of(chart):
    """Return the picture, having checked that no text in it is a slip."""
    svg = vl_convert.vegalite_to_svg(chart.to_json())
    for slip in (">NaN<", ">undefined<", ">null<", ">Infinity<"):
        assert slip not in svg
    return svg


def rows_of(chart):
    """Return all rows that a chart carries."""
    spec = chart.to_dict()
    rows = []
    for each in spec.get("datasets", {}).values():
        rows += map(_decoded, csv.DictReader(io.StringIO(each))) if isinstance(each, str) else each
    rows += [row for row in spec.get("data", {}).get("values", []) if isinstance(row, dict)]
    return rows


def _decoded(row):
    """Return a row of CSV with its numbers as numbers; only ids and names of classes are texts."""
    texts = ("group", "metric", "kind", "job", "reason", "panel", "truth", "pred")
    return {name: text if name in texts else float(text) if text else None for name, text in row.items()}


def told(chart):
    return " ".join(chart.title.subtitle)


@pytest.mark.parametrize("segments", [1, 3, 20, 40])
@pytest.mark.parametrize("curve", ["roc", "pr", "calibration", "scores"])
def test_curves_of_few_and_many_segments(curve, segments):
    by = None if segments == 1 else "country"
    state = scored(4000, segments)
    points = curve_points(state, curve, by=by, points=100)
    chart = charts.curve_chart(points, finalize(state, "all", by=by))
    svg = svg_of(chart)
    groups = {row["group"] for row in rows_of(chart) if "group" in row}
    if segments == 40:
        assert len(groups) == 21  # so many can be told apart
        assert "21 of 41" in told(chart)
    elif segments > 1:
        assert len(groups) == segments + 1
        assert all(f"country=c{i}" in svg for i in range(segments))
    assert chart.to_dict()["description"]


def test_roc_says_its_area_its_interval_and_its_bound():
    state = scored()
    numbers = finalize(state, "all", by=None)
    row = next(each for each in numbers.to_pylist() if each["metric"] == "roc_auc")
    chart = charts.roc(curve_points(state, "roc", by=None, points=50), numbers)
    assert f"AUC {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]" in told(chart)
    assert "2,000 labelled rows" in told(chart)
    assert "exact at its points, within 0.0" in told(chart)
    exact = charts.roc(
        curve_points(prediction_state({"p": [0.1, 0.9], "y": [0, 1]}, score="p", truth="y"), "roc")
    )
    assert told(exact) == "exact"


def test_what_lies_between_points_is_shaded_where_one_would_see_it():
    points = curve_points(scored(), "roc", by=None, points=4)
    wide = [row for row in rows_of(charts.roc(points)) if "piece" in row]
    assert wide
    assert all(0 <= float(row["a"]) <= float(row["b"]) <= 1 for row in wide)
    tied = prediction_state({"p": [0.1, 0.2, 0.2, 0.7], "y": [0, 1, 0, 1]}, score="p", truth="y")
    narrow = rows_of(charts.roc(curve_points(tied, "roc")))
    assert not [row for row in narrow if "piece" in row]


def test_calibration_counts_its_rows():
    state = scored()
    chart = charts.calibration(curve_points(state, "calibration", by=None), finalize(state, "all", by=None))
    assert sum(row["n"] for row in rows_of(chart) if "n" in row) == 2000
    assert told(chart).startswith("2,000 labelled rows · ece ")
    assert "fewer than 10 rows" in told(chart)


def test_scores_stand_before_those_of_the_reference():
    tables = [curve_points(scored(seed=i, resource=name), "scores", by=None)
              for i, name in enumerate(("churn/then", "churn/now"))]  # fmt: skip
    chart = charts.distribution(pa.concat_tables(tables), reference="churn/then")
    assert "grey: then, 2,000 rows" in told(chart)
    svg_of(chart)
    by_class = charts.distribution(tables[0])
    assert {row["group"].split(" (")[0] for row in rows_of(by_class)} == {"true 0", "true 1"}


def test_a_histogram_of_numbers_counts_what_is_beyond_its_ends():
    values = np.concatenate([np.random.default_rng(0).normal(size=3000), [1e6]])
    points = curve_points(prediction_state(values, task="regression"), "predictions")
    chart = charts.distribution(points)
    assert "beyond the ends" in told(chart)
    assert max(float(row["x"]) for row in rows_of(chart)) < 10
    svg_of(chart)


@pytest.mark.parametrize("reference", [None, "houses/then"])
def test_distributions_of_jobs_whose_bins_differ_are_all_drawn(reference):
    rng = np.random.default_rng(0)
    spreads = {"houses/then": 1.0, "houses/now": 3.0}
    states = [prediction_state(rng.normal(0, spread, 3000), task="regression") for spread in spreads.values()]
    tables = [
        points.set_column(0, "resource", pa.array([job] * points.num_rows, pa.string()))
        for job, points in zip(spreads, (curve_points(each, "predictions") for each in states), strict=True)
    ]
    chart = charts.distribution(pa.concat_tables(tables), reference=reference)
    areas = {}
    for row in rows_of(chart):
        if row["x2"]:
            width = float(row["x2"]) - float(row["x"])
            areas[row["group"]] = areas.get(row["group"], 0.0) + float(row["y"]) * width
    assert areas == {"then (3,000)": pytest.approx(1, abs=0.03), "now (3,000)": pytest.approx(1, abs=0.03)}
    assert int(told(chart).split(" rows beyond")[0]) < 200


@pytest.mark.parametrize("num_classes", [2, 10, 100, 300])
def test_confusion_matrices_of_any_size(num_classes):
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.arange(num_classes), rng.integers(0, num_classes, 5000)])
    pred = np.where(rng.random(truth.size) < 0.8, truth, 0)
    state = prediction_state(pred, truth=truth, task="multiclass")
    chart = charts.confusion_matrix(finalize(state, ["confusion"]))
    rows = rows_of(chart)
    assert sum(row["rows"] for row in rows) == truth.size
    sums = {}
    for row in rows:
        sums[row["truth"]] = sums.get(row["truth"], 0) + row["share"]
    assert list(sums.values()) == pytest.approx([1.0] * len(sums))
    order = list(dict.fromkeys(row["truth"] for row in rows))
    assert [name for name in order if name.isdigit()] == sorted(
        order[: len(order) - (num_classes > 100)], key=int
    )
    assert ("the 99 most frequent of 300 classes" in told(chart)) == (num_classes == 300)
    svg = svg_of(chart)
    assert (">1<" in svg or ">5,002<" in svg) or num_classes > 12


def test_confusion_of_segments_is_a_panel_each():
    chart = charts.confusion_matrix(finalize(scored(3000, 8), ["confusion"]))
    assert {row["panel"] for row in rows_of(chart)} == {"all", *(f"country=c{i}" for i in range(5))}
    assert "6 of 9 matrices" in told(chart)
    svg_of(chart)


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_to_draw_is_said(dark):
    empty = prediction_state({"p": [0.2, 0.4], "y": [1, 1]}, score="p", truth="y")
    no_curve = charts.roc(curve_points(empty, "roc"), dark=dark)
    assert told(no_curve) == "no curve: a curve needs scores, and rows of both true classes"
    nothing = curve_points(empty, "residuals")
    assert "no curve" in told(charts.calibration(nothing, dark=dark))
    assert "no distribution" in told(charts.distribution(nothing, dark=dark))
    assert "no row has a label yet" in told(charts.confusion_matrix(finalize(empty, ["mae"]), dark=dark))
    for chart in (
        no_curve,
        charts.precision_recall(curve_points(empty, "pr"), dark=dark),
        charts.precision_recall(nothing, dark=dark),
        charts.calibration(nothing, dark=dark),
        charts.calibration(curve_points(empty, "calibration"), dark=dark),
        charts.distribution(nothing, dark=dark),
        charts.confusion_matrix(finalize(empty, ["mae"]), dark=dark),
        charts.windows(finalize(empty, ["mae"]), dark=dark),
        charts.intervals(finalize(empty, ["mae"]), dark=dark),
        charts.class_distribution(finalize(empty, ["mae"]), dark=dark),
        charts.metrics_chart(finalize(prediction_state([])), dark=dark),
    ):
        svg_of(chart)


def windowed(segments=1):
    rng = np.random.default_rng(3)
    rows = 3000
    day = rng.integers(0, 8, rows)
    p = rng.beta(2, 3, rows)
    y = np.where(day == 6, 1, rng.random(rows) < p).astype(int)
    frame = pl.DataFrame(
        {
            "p": p,
            "y": pl.Series(y).cast(pl.Int64),
            "country": rng.choice([f"c{i}" for i in range(segments)], rows),
            "at": [START + dt.timedelta(days=int(d)) for d in day],
        }
    ).filter(pl.col("at") != START + dt.timedelta(days=3))
    return prediction_state(frame, score="p", truth="y", by="country", time="at", every="1d", task="binary")


@pytest.mark.parametrize("segments", [1, 3, 20])
def test_a_line_breaks_where_there_is_no_window_and_no_value(segments):
    state = windowed(segments)
    chart = charts.windows(finalize(state, ["roc_auc"], by=None if segments == 1 else "country"))
    rows = [row for row in rows_of(chart) if row["group"] == "all"]
    assert [row["value"] is None for row in rows] == [False] * 3 + [True] + [False] * 2 + [True, False]
    (why,) = [row["reason"] for row in rows if row.get("reason")]
    assert why == "the truth has one class only"
    assert "without one (crosses say why)" in told(chart)
    assert ("bands" in told(chart)) == (segments <= 3)
    crosses = svg_of(chart).count("\N{MULTIPLICATION SIGN}")
    assert crosses == (1 if segments == 1 else segments + 1)


def test_estimates_are_dashed_in_the_panel_of_what_they_estimate():
    names = ["roc_auc", "estimated/roc_auc", "drift/psi"]
    numbers = finalize(windowed(), names, by=None, reference=scored())
    chart = charts.windows(numbers)
    rows = rows_of(chart)
    assert {(row["metric"], row.get("kind")) for row in rows} == {
        ("roc_auc", "measured"),
        ("roc_auc", "estimated"),
        ("drift/psi", "measured"),
        ("drift/psi", ""),
    }
    assert 'stroke-dasharray="5,3"' in svg_of(chart)


def test_too_many_metrics_show_the_telling_ones():
    chart = charts.windows(finalize(windowed(), "all", by=None))
    metrics = list(dict.fromkeys(row["metric"] for row in rows_of(chart)))
    assert "12 of " in told(chart)
    assert {"roc_auc", "log_loss", "accuracy"} <= set(metrics)
    assert "score_p01" not in metrics
    svg_of(chart)


def test_metrics_of_one_job_stand_with_their_intervals():
    state = scored(3000, 3)
    whole = charts.metrics_chart(finalize(state, by=None))
    svg = svg_of(whole)
    row = next(each for each in finalize(state, by=None).to_pylist() if each["metric"] == "roc_auc")
    assert f"{row['value']:.4g}  [{row['low']:.4g}, {row['high']:.4g}]" in svg
    split = charts.metrics_chart(finalize(state, ["roc_auc", "ece"]))
    assert {each["group"] for each in rows_of(split)} == {"all", "country=c0", "country=c1", "country=c2"}
    svg_of(split)


def test_a_result_of_a_lake_is_drawn_as_what_it_is(tmp_path):
    lake = MetricsLake(tmp_path / "lake")
    rng = np.random.default_rng(0)
    p = rng.random(500)
    data = pl.DataFrame({"p": p, "y": rng.random(500) < p, "country": rng.choice(["FR", "NO"], 500)})
    for job in ("churn/1", "churn/2"):
        found = lake.log_prediction_metrics(job, data, score="p", truth="y", by="country")
    titles = {
        "ROC curve": lake.prediction_curves("churn/1").plot(),
        "Calibration": lake.prediction_curves("churn/1", "calibration", by="country").plot(dark=True),
        "Confusion matrix": lake.prediction_metrics("churn/1", metrics="confusion").plot(),
        "Predicted classes": lake.prediction_metrics("churn/1", metrics="class_distribution").plot(),
        "roc_auc": lake.prediction_metrics(["churn/1", "churn/2"], metrics="roc_auc").plot(),
        "Prediction metrics": lake.prediction_metrics("churn/1", by="country").plot(width="container"),
        "mine": found.plot("pr", title="mine"),
    }
    for title, chart in titles.items():
        assert chart.title.text == title
        svg_of(chart)
    lake.close()


def test_metrics_of_a_call_are_a_page_of_all_there_is():
    from metrics_lake.predictions import PredictionMetrics

    def page(*data, **options):
        state = prediction_state(*data, **options)
        chart = PredictionMetrics(finalize(state, "all"), state).plot()
        svg_of(chart)
        parts = chart.to_dict().get("concat", [chart.to_dict()])
        return [part["title"]["text"] for part in parts]

    rng = np.random.default_rng(0)
    p = rng.random(300)
    assert page({"p": p, "y": rng.random(300) < p}, score="p", truth="y") == [
        "ROC curve",
        "Precision-recall curve",
        "Calibration",
        "Scores",
        "Confusion matrix",
        "Predicted classes",
    ]
    assert page({"p": p}, score="p") == ["Scores", "Predicted classes"]
    assert page(p * 7.5, truth=p * 7.7) == ["Residuals", "Predictions"]
    assert page(["a", "b"], truth=["a", "a"]) == ["Confusion matrix", "Predicted classes"]
    assert page(["a", "b"]) == ["Predicted classes"]
    assert page([]) == ["Prediction metrics"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_asked_for(kind):
    from metrics_lake.predictions import PredictionMetrics

    for state in (scored(), prediction_state([1.5, 2.5], truth=[1.0, 2.0]), prediction_state(["a"])):
        svg_of(PredictionMetrics(finalize(state, "all"), state).plot(kind))


def test_wrong_kinds_are_named():
    from metrics_lake.predictions import PredictionMetrics

    state = scored()
    found = PredictionMetrics(finalize(state, "all"), state)
    with pytest.raises(InvalidInputError, match="Did you mean 'confusion'"):
        found.plot("confusoin")
    with pytest.raises(NotFoundError, match="no stored segments"):
        found.plot("roc", by="device")


def test_the_page_has_one_look_and_no_clashing_names():
    state = scored()
    from metrics_lake.predictions import PredictionMetrics

    spec = json.loads(PredictionMetrics(finalize(state, "all"), state).plot(dark=True).to_json())
    assert spec["config"]["background"] == "#16191d"
    assert not [part for part in spec["concat"] if "config" in part]


def test_thousands_of_values_are_cut_by_whole_metrics_and_segments():
    def rows(num_segments, metrics):
        return pa.Table.from_pylist(
            [
                {
                    "resource": "job",
                    "window_start": START + dt.timedelta(days=day),
                    "window_end": START + dt.timedelta(days=day + 1),
                    "segment": [("country", f"c{i}")],
                    "metric": metric,
                    "value": 0.5,
                }
                for metric in metrics
                for day in range(300)
                for i in range(num_segments)
            ],
            schema=finalize(scored(10), ["mae"]).schema,
        )

    few = charts.windows(rows(20, ["brier", "accuracy", "f1"]))
    assert "1 of 3 metrics" in told(few)
    assert {row["metric"] for row in rows_of(few)} == {"accuracy"}
    many = charts.windows(rows(40, ["brier"]))
    assert "33 of 40 segments" in told(many)
    assert len(rows_of(many)) == 33 * 300
