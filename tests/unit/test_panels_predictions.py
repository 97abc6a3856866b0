"""Panels about prediction jobs: which there are, what they count, what they say."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from metrics_lake import MetricsLake, panels
from metrics_lake.errors import NotFoundError

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def scored(rows=3000, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    p = np.clip(rng.beta(2, 3, rows) + shift, 0, 1)
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "p": p,
            "y": (rng.random(rows) < p),
            "country": rng.choice(["FR", "NO"], rows),
            "at": [START + dt.timedelta(days=int(d)) for d in rng.integers(0, 5, rows)],
        }
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = MetricsLake(tmp_path_factory.mktemp("panels") / "lake", state_dir=tmp_path_factory.mktemp("state"))
    lake.log_prediction_metrics("churn/validation", scored(seed=1), score="p", truth="y", by="country")
    live = scored(shift=0.1).with_columns(p=pl.when(pl.col("id") < 4).then(None).otherwise("p"))
    lake.log_prediction_metrics(
        "churn/live", live.drop("y"), score="p", key="id", by="country", time="at", every="1d",
        tags={"env": "prod"},
    )  # fmt: skip
    lake.log_ground_truth("churn/live", live.head(2000).select("id", "y"), key="id")
    lake.log_prediction_metrics("prices/1", [1.5, 2.5, 9.0], truth=[1.0, 2.0, 8.5])
    lake.log_prediction_metrics("labels/1", ["a", "b", "a"])
    yield lake
    lake.close()


def test_jobs_say_what_can_be_asked_of_them(lake):
    rows = {row["resource"]: row for row in panels.prediction_jobs(lake).to_pylist()}
    assert list(rows) == ["churn/live", "churn/validation", "labels/1", "prices/1"]
    live = rows["churn/live"]
    assert (live["predictions"], live["segments"], live["every"]) == (3000, ["country"], "1d")
    assert (rows["prices/1"]["segments"], rows["prices/1"]["every"]) == ([], None)


@pytest.mark.parametrize("by", [None, "country"])
def test_a_job_is_counted_and_drawn(lake, by):
    found = {panel.title: panel for panel in panels.predictions(lake, "churn/live", by=by)}
    assert list(found) == [
        "Metrics", "ROC curve", "Precision-recall curve", "Calibration", "Scores", "Confusion matrix",
    ]  # fmt: skip
    assert found["Metrics"].caption == "3,000 predictions, 1,996 with a label; left out: 4 NULL."
    table = found["Metrics"].table
    assert {"metric", "value", "n", "low", "high", "bound", "method"} <= set(table.column_names)
    assert ("segment" in table.column_names) == (by is not None)
    auc = lake.prediction_metrics("churn/live", metrics="roc_auc").one()
    told = [row["value"] for row in table.to_pylist() if row["metric"] == "roc_auc"]
    assert auc["value"] in told
    if by is None:
        assert f"AUC {auc['value']:.4f}" in found["ROC curve"].caption
        assert "1,996 labelled rows" in found["Confusion matrix"].caption
    assert all(panel.chart is not None for panel in found.values())


def test_a_reference_adds_drift_estimates_and_a_background(lake):
    found = {
        panel.title: panel for panel in panels.predictions(lake, "churn/live", reference="churn/validation")
    }
    metrics = set(found["Metrics"].table.column("metric").to_pylist())
    assert {"drift/psi", "estimated/roc_auc"} <= metrics
    assert "Grey: validation, 3,000 rows" in found["Scores"].caption
    over_time = panels.prediction_windows(lake, "churn/live", every="1d", reference="churn/validation")
    assert [panel.title for panel in over_time] == [
        "Performance over time",
        "Drift over time",
        "Predictions over time",
    ]
    shown = over_time[0].table
    assert {"roc_auc", "estimated/roc_auc", "ece"} <= set(shown.column("metric").to_pylist())
    assert over_time[1].caption.startswith("Windows of 1d, against churn/validation.")


def test_without_labels_the_picture_is_of_estimates_and_drift(tmp_path):
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_prediction_metrics("churn/then", scored(seed=1), score="p", truth="y")
        lake.log_prediction_metrics("churn/new", scored(shift=0.1).drop("y"), score="p", key="id")
        (metrics, *_) = panels.predictions(lake, "churn/new", reference="churn/then")
    assert metrics.caption == "3,000 predictions, none with a label."
    drawn = {row["metric"]: row["text"] for row in rows_of(metrics.chart)}
    assert {"estimated/roc_auc", "drift/psi", "drift/ks"} <= set(drawn)
    (psi,) = [row["value"] for row in metrics.table.to_pylist() if row["metric"] == "drift/psi"]
    assert drawn["drift/psi"].startswith(f"{psi:.4g}")


def test_a_segment_without_a_value_is_seen(tmp_path):
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_prediction_metrics(
            "churn/1", {"p": ["stay", "leave"], "country": ["FR", None]}, prediction="p", by="country"
        )
        metrics, classes = panels.predictions(lake, "churn/1", by="country")
    assert set(metrics.table.column("segment").to_pylist()) == {None, "country=FR", "country=''"}
    assert {row["group"] for row in rows_of(classes.chart)} == {"all", "country=FR", "country=''"}


def test_metrics_that_no_axis_shares_have_their_numbers(tmp_path):
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_prediction_metrics("prices/2", [15.5, 25.5, 90.5], truth=[10.5, 20.5, 85.5])
        (metrics, *_) = panels.predictions(lake, "prices/2")
    drawn = {row["metric"]: (row["value"], row["text"]) for row in rows_of(metrics.chart)}
    assert drawn["rmse"] == (None, "5")
    assert drawn["mae"][1].startswith("5")
    assert drawn["r2"][0] is not None
    assert "2 in numbers alone: not between 0 and 1" in " ".join(metrics.chart.title.subtitle)


def rows_of(chart):
    """Return what a chart draws."""
    (rows,) = chart.to_dict()["datasets"].values()
    return rows


def test_windows_can_be_longer_and_of_one_metric(lake):
    (performance, volume) = panels.prediction_windows(
        lake, "churn/live", every="7d", metrics="brier", by="country"
    )
    assert performance.table.column("metric").unique().to_pylist() == ["brier"]
    windows = {row["window_start"] for row in performance.table.to_pylist()} - {None}
    assert len(windows) < 5
    assert volume.title == "Predictions over time"


def test_several_jobs_are_drawn_beside_one_another(lake):
    found = {panel.title: panel for panel in panels.predictions(lake, ["churn/live", "churn/validation"])}
    assert "6,000 predictions" in found["Metrics"].caption
    assert found["ROC curve"].chart.to_dict()["description"].count("AUC") == 2


def test_what_does_not_exist_has_no_panel(lake):
    assert [panel.title for panel in panels.predictions(lake, "prices/1")] == [
        "Metrics",
        "Predictions",
        "Residuals",
    ]
    labels = panels.predictions(lake, "labels/1")
    assert [panel.title for panel in labels] == ["Metrics", "Predicted classes"]
    assert labels[0].caption == "3 predictions, none with a label."
    assert labels[0].chart is None
    assert panels.prediction_windows(lake, "labels/1", every="1d") == []


def test_names_that_are_not_there_are_named(lake):
    with pytest.raises(NotFoundError, match="Did you mean 'churn/live'"):
        panels.predictions(lake, "churn/lived")
    with pytest.raises(NotFoundError, match="Stored are 'country'"):
        panels.predictions(lake, "churn/live", by="device")
