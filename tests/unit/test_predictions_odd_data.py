"""Predictions as they come from others: NaN for what is missing, odd types, odd names, broken plans."""

import decimal
import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn.metrics as sk

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions import Binary, PredictionMetrics, finalize, prediction_state

NAN, INF = math.nan, math.inf
D = decimal.Decimal


def metrics(data, **options):
    state = prediction_state(data, **options)
    return PredictionMetrics(finalize(state, "all"), state)


# -- truths that are no class -----------------------------------------------------------------------------


SCORES = np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
TRUTH = [NAN, 1.0, 0.0, -INF, None]

WITHOUT_CLASS = {
    "labels": ([1.0, 1.0, 0.0, 1.0, 0.0], {"task": "multiclass"}),
    "class scores": (SCORES, {}),
    "class scores, exactly": (SCORES, {"exact": True}),
    "scores": (SCORES[:, 1], {"task": "binary"}),
    "scores with a positive class": (SCORES[:, 1], {"task": Binary(pos_label=1)}),
    "scores with classes": (SCORES[:, 1], {"task": Binary(labels=[0, 1])}),
}


@pytest.mark.parametrize("case", WITHOUT_CLASS)
def test_truths_that_are_nan_or_infinite_are_counted_and_no_class(case):
    data, options = WITHOUT_CLASS[case]
    found = metrics(data, truth=pl.Series(TRUTH, dtype=pl.Float64), **options)
    assert found["num_predictions"] == 5
    assert found["num_ground_truth_observations"] == 2
    assert (found["num_truth_nan"], found["num_truth_inf"]) == (1, 1)
    assert found["accuracy"] == 1.0
    assert found.get("roc_auc", 1.0) == 1.0
    pairs = found.to_frame().filter(pl.col("metric") == "confusion")["label"]
    assert set(pairs) == {'["0", "0"]', '["1", "1"]'}


def test_missing_labels_of_pandas_do_not_lower_the_accuracy():
    frame = pd.DataFrame({"predicted": [1, 2, 2, 1], "actual": [1, 2, np.nan, np.nan], "n": [1.0, 2, 3, 4]})
    found = metrics(frame, prediction="predicted", truth="actual", weight="n", task="multiclass")
    assert found["accuracy"] == 1.0
    assert found["num_truth_nan"] == 2
    assert found["coverage"] == 0.5


def test_rows_without_a_decision_are_in_no_measure_of_their_scores():
    frame = pl.DataFrame(
        {"a": SCORES[:, 0], "b": SCORES[:, 1], "d": [1.0, NAN, 0.0, None, 0.0], "y": [1, 0, 0, 0, 1]}
    )
    options = {"score": {0: "a", 1: "b"}, "prediction": "d", "truth": "y"}
    found, exact = metrics(frame, **options), metrics(frame, exact=True, **options)
    kept = metrics(frame.filter(pl.col("d").is_finite()), **options)
    assert (found["num_nan"], found["num_null"]) == (1, 1)
    for name in ("accuracy", "roc_auc", "average_precision", "log_loss"):
        assert found[name] == kept[name]
        assert exact[name] == pytest.approx(kept[name], abs=1e-4)


@pytest.mark.parametrize("by", [None, "g"])
def test_exact_values_of_all_classes_are_means_of_the_classes(by):
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 900)
    scores = rng.random((900, 3)) + np.eye(3)[truth] * [0.1, 0.5, 1.5]
    scores /= scores.sum(1, keepdims=True)
    frame = pl.DataFrame({"0": scores[:, 0], "1": scores[:, 1], "2": scores[:, 2], "y": truth, "g": "one"})
    found = metrics(frame, score={0: "0", 1: "1", 2: "2"}, truth="y", by=by, exact=True)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, scores, multi_class="ovr"), rel=1e-12)
    expected = sk.average_precision_score(np.eye(3)[truth], scores, average="macro")
    assert found["average_precision"] == pytest.approx(expected, rel=1e-12)
    rows = found.to_frame().filter(pl.col("metric") == "roc_auc", pl.col("label") == "1")
    assert set(rows["method"]) == {"exact"}
    assert rows["value"][0] == pytest.approx(sk.roc_auc_score(truth == 1, scores[:, 1]), rel=1e-12)
