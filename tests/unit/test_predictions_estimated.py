"""Performance estimated without labels, against what the labels say and against the estimate row by row."""

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk
from sklearn.isotonic import IsotonicRegression

from metrics_lake import MetricsLake
from metrics_lake.predictions import Binary, finalize, merge_states, prediction_state
from metrics_lake.predictions.estimated import ESTIMATED, _calibration
from metrics_lake.predictions.long import Long


def scored(rows, a, b, seed, *, bias=0.0):
    """Return scores that are too bold: the positive class is nearer to 0.5 than they say."""
    rng = np.random.default_rng(seed)
    p = rng.beta(a, b, rows)
    return pl.DataFrame({"p": p, "y": rng.random(rows) < np.clip(0.15 + 0.7 * p + bias, 0, 1)})


def numbers(table):
    return {
        row["metric"]: row for row in table.to_pylist() if not row["segment"] and row["window_start"] is None
    }


@pytest.fixture(scope="module")
def reference():
    return scored(60_000, 2, 2, 1)


@pytest.mark.parametrize("shape", [(2, 2), (1.2, 3), (4, 1.5)], ids=["as before", "low", "high"])
def test_estimates_are_near_what_the_labels_say(reference, shape):
    current = scored(60_000, *shape, 2)
    task = Binary(threshold=[0.4, 0.6])
    options = {"score": "p", "task": task}
    state = prediction_state(current, truth="y", **options)
    against = prediction_state(reference, truth="y", **options)
    found = numbers(finalize(state, "all", reference=against))
    unlabelled = numbers(finalize(prediction_state(current.select("p"), **options), "all", reference=against))
    for name in ESTIMATED:
        estimate = found[f"estimated/{name}"]
        assert estimate["value"] == pytest.approx(found[name]["value"], abs=0.012), name
        # The labels of the estimated rows are not looked at.
        assert unlabelled[f"estimated/{name}"]["value"] == pytest.approx(estimate["value"], abs=1e-12)
        assert estimate["n"] == current.height
        assert estimate["low"] is estimate["high"] is estimate["bound"] is None


def test_estimates_are_those_of_expected_rows(reference):
    current = scored(4_000, 1.5, 3, 3)
    options = {"score": "p", "truth": "y", "task": "binary"}
    against = prediction_state(reference, **options)
    found = numbers(finalize(prediction_state(current, **options), "all", reference=against))
    knots = _calibration(Long.from_arrow(against))
    p = current["p"].to_numpy()
    likely = np.interp(p, knots["at"], knots["share"])
    both = np.concatenate([p, p])
    truth = np.repeat([1, 0], p.size)
    weight = np.concatenate([likely, 1 - likely])
    chosen = both >= 0.5
    expected = {
        "accuracy": sk.accuracy_score(truth, chosen, sample_weight=weight),
        "precision": sk.precision_score(truth, chosen, sample_weight=weight),
        "recall": sk.recall_score(truth, chosen, sample_weight=weight),
        "f1": sk.f1_score(truth, chosen, sample_weight=weight),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, chosen, sample_weight=weight),
        "mcc": sk.matthews_corrcoef(truth, chosen, sample_weight=weight),
        "roc_auc": sk.roc_auc_score(truth, both, sample_weight=weight),
        "average_precision": sk.average_precision_score(truth, both, sample_weight=weight),
        "log_loss": sk.log_loss(truth, both, sample_weight=weight),
        "brier": sk.brier_score_loss(truth, both, sample_weight=weight),
    }
    for name, value in expected.items():
        assert found[f"estimated/{name}"]["value"] == pytest.approx(value, abs=3e-4), name


def test_calibration_is_isotonic_regression(reference):
    rng = np.random.default_rng(8)
    noisy = pl.DataFrame({"p": rng.random(300), "y": rng.random(300) < 0.5})
    for frame in (reference, noisy):
        state = Long.from_arrow(prediction_state(frame, score="p", truth="y"))
        knots = _calibration(state)
        bins = frame.group_by((pl.col("p") * 60).floor()).agg(
            pl.col("p").mean().alias("at"), pl.col("y").mean().alias("share"), pl.len().alias("n")
        )
        bins = bins.sort("at")
        fitted = IsotonicRegression().fit(bins["at"], bins["share"], bins["n"]).predict(bins["at"])
        np.testing.assert_allclose(knots["at"], bins["at"])
        np.testing.assert_allclose(knots["share"], fitted, atol=1e-12)


def test_a_change_of_meaning_is_not_seen(reference):
    """The estimate is about the scores; this is its limit, and the docstring says so."""
    current = scored(60_000, 2, 2, 4, bias=-0.25)
    options = {"score": "p", "truth": "y", "task": "binary"}
    state, against = prediction_state(current, **options), prediction_state(reference, **options)
    found = numbers(finalize(state, ["precision", "estimated/precision"], reference=against))
    assert found["precision"]["value"] < found["estimated/precision"]["value"] - 0.1


def test_decisions_of_the_job_are_judged_if_it_has_some(reference):
    frame = reference.with_columns(decision=pl.col("p") > 0.7)
    options = {"score": "p", "truth": "y", "prediction": "decision"}
    state = prediction_state(frame, **options)
    found = numbers(finalize(state, "all", reference=state))
    assert found["estimated/recall"]["value"] == pytest.approx(found["recall"]["value"], abs=0.01)
    assert found["estimated/recall"]["value"] < 0.5


def test_weights_count(reference):
    frame = reference[:5000].with_columns(w=pl.col("p"))
    state = prediction_state(frame, score="p", truth="y", weight="w")
    against = prediction_state(reference, score="p", truth="y")
    found = numbers(finalize(state, "all", reference=against))
    for name in ("accuracy", "roc_auc", "log_loss"):
        assert found[f"estimated/{name}"]["value"] == pytest.approx(found[name]["value"], abs=0.02)


def test_without_anything_to_learn_from_the_reason_is_told(reference):
    state = prediction_state(reference.head(100), score="p", truth="y")
    against = prediction_state(reference.select("p"), score="p")
    row = numbers(finalize(state, reference=against))["estimated/roc_auc"]
    assert row["value"] is None
    assert row["reason"] == "the reference has no truth"
    numbers_only = prediction_state(["a", "b"], truth=["a", "a"])
    assert not [
        name for name in numbers(finalize(numbers_only, reference=numbers_only)) if "estimated" in name
    ]


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_one_class_is_no_error(truth):
    state = prediction_state({"p": [0.2, 0.8], "y": truth}, score="p", truth="y")
    found = numbers(finalize(state, "all", reference=state))
    assert found["estimated/roc_auc"]["value"] is None
    assert found["estimated/roc_auc"]["reason"] == "one class only is expected"
    assert found["estimated/accuracy"]["value"] == 0.5


def test_empty_states_have_no_estimates(reference):
    against = prediction_state(reference, score="p", truth="y")
    empty = prediction_state(reference.clear(), score="p", truth="y", task="binary")
    found = numbers(finalize(empty, "all", reference=against))
    assert all(row["value"] is None for name, row in found.items() if name.startswith("estimated/"))


def test_windows_of_a_lake_are_estimated_before_their_labels_come(tmp_path, reference):
    import datetime as dt

    lake = MetricsLake(tmp_path / "lake")
    lake.log_prediction_metrics("churn/validation", reference, score="p", truth="y")
    start = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    days = [
        scored(3000, 2, 2 + day, day).with_columns(
            at=pl.lit(start + dt.timedelta(days=day)), id=pl.int_range(day * 3000, day * 3000 + 3000)
        )
        for day in range(3)
    ]
    current = pl.concat(days)
    lake.log_prediction_metrics(
        "churn/live", current.drop("y"), score="p", key="id", time="at", every="1d",
        reference="churn/validation",
    )  # fmt: skip
    assert lake.get_metric("churn/live", "estimated/roc_auc") > 0.5
    asked = {"metrics": ["accuracy", "estimated/accuracy"], "every": "1d", "reference": "churn/validation"}
    before = lake.prediction_metrics("churn/live", **asked).pl()
    assert before["metric"].unique().to_list() == ["estimated/accuracy"]
    lake.log_ground_truth("churn/live", current.select("id", "y"), key="id")
    after = lake.prediction_metrics("churn/live", **asked).pl().drop("segment")
    wide = after.pivot("metric", index="window_start", values="value")
    assert wide.height == 4
    assert (wide["accuracy"] - wide["estimated/accuracy"]).abs().max() < 0.03
    same = before.drop("segment")["value"]
    assert after.filter(metric="estimated/accuracy")["value"].to_list() == pytest.approx(same.to_list())
    lake.close()


def test_parts_are_estimated_as_all_rows(reference):
    options = {"score": "p", "task": "binary"}
    against = prediction_state(reference, score="p", truth="y")
    current = scored(3000, 2, 3, 5).select("p")
    parts = [prediction_state(current[i::3], part=str(i), **options) for i in range(3)]
    merged = numbers(finalize(merge_states(*parts), "all", reference=against))
    whole = numbers(finalize(prediction_state(current, **options), "all", reference=against))
    for name in ESTIMATED:
        value = whole[f"estimated/{name}"]["value"]
        assert merged[f"estimated/{name}"]["value"] == pytest.approx(value, abs=1e-12)
