"""Calls that a user would get wrong, and calls that look wrong and are right."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest

from metrics_lake import MetricsLake
from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.predictions import (
    Binary,
    Multiclass,
    PredictionMetrics,
    finalize,
    merge_states,
    prediction_state,
)

FRAME = pl.DataFrame({"p": [0.1, 0.9, 0.3], "y": [0, 1, 0], "g": ["a", "b", "a"]})


@pytest.fixture
def lake(tmp_path):
    lake = MetricsLake(tmp_path / "lake", compaction="off")
    yield lake
    lake.close()


def metrics(data, **options):
    state = prediction_state(data, **options)
    return PredictionMetrics(finalize(state, "all"), state)


def scored(**options):
    return lambda: metrics(FRAME, **{"score": "p", "truth": "y", **options})


def windowed(every):
    times = FRAME.with_columns(at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    return lambda: metrics(times, score="p", time="at", every=every)


def final(*names, **options):
    return lambda: finalize(prediction_state([1.5]), *names, **options)


WRONG = {
    "threshold of text": (lambda: Binary(threshold="0.5"), "threshold='0.5' is not a number", "threshold"),
    "no threshold": (lambda: Binary(threshold=None), "threshold=None is not a number", "threshold"),
    "empty thresholds": (lambda: Binary(threshold=[]), "threshold is empty", "threshold"),
    "labels in no order": (lambda: Multiclass(labels={"a", "b"}), "not a list of different", "labels"),
    "labels read once": (lambda: Multiclass(labels=iter("ab")), "not a list of different", "labels"),
    "number of labels": (lambda: Multiclass(labels=3), "not a list of different", "labels"),
    "positive class that is not there": (
        scored(task=Binary(pos_label="c"), truth=["a", "b", "a"]), "pos_label='c' is none of", "pos_label",
    ),
    "scores of the other class": (
        scored(score={0: "p"}, task=Binary(pos_label=1)), "holds the scores of 0 and .* class is 1", "score",
    ),
    "one column of two classes": (scored(score=["p", "p"]), "names the column 'p' twice", "score"),
    "text for numbers": (
        scored(task=Binary(labels=["a", "b"]), truth=[None, None, math.nan]),
        "labels has 'a', .* type float", "labels",
    ),
    "text for booleans": (
        scored(task=Binary(pos_label="yes"), truth=[True, None, False]), "pos_label has 'yes'", "pos_label",
    ),
    "tasks": (scored(task=["binary"]), "task=.'binary'. is not known", "task"),
    "number for segments": (scored(by=5), "by=5 is neither columns", "by"),
    "expression for segments": (scored(by=pl.col("g")), "is neither columns", "by"),
    "number for a key": (scored(key=5), "key=5 is not the name of a column", "key"),
    "empty window": (windowed(""), "every='' is not the length", "every"),
    "window of nothing": (windowed("0d"), "every='0d' is not the length", "every"),
    "window of rows": (windowed("1i"), "every='1i' is not the length", "every"),
    "no metrics": (final(None), "metrics: None is not known", "metrics"),
    "number for metrics": (final(5), "metrics: 5 is not known", "metrics"),
    "quantile that is not kept": (final(["p42"]), "'p42' is not known", "metrics"),
    "threshold that is no number": (final(["f1@best"]), "'f1@best' is not known", "metrics"),
    "confidence of text": (final(confidence="0.9"), "confidence='0.9' is not in", "confidence"),
    "zero_division of scikit-learn": (final(zero_division="warn"), "'warn' is no number", "zero_division"),
    "drift bins of text": (
        final(reference=prediction_state([1.5]), drift_bins="x"), "drift_bins='x' is no number", "drift_bins",
    ),
    "no state": (lambda: finalize(None), "A NoneType is no prediction state", "state"),
    "list of states": (lambda: merge_states([prediction_state([1.5])]), "A list is no prediction", "state"),
    "data for a state": (final(reference=[1.5]), "A list is no prediction state", "state"),
    "rows of two kinds": (lambda: metrics([{"p": 1}, 3]), "mixes values of several types", None),
    "rows and none": (lambda: metrics([None, (0.1, 0.9)]), "mixes values", None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_argument_is_named(case):
    call, message, argument = WRONG[case]
    with pytest.raises(InvalidInputError, match=message) as caught:
        call()
    assert caught.value.hint
    if argument is not None:
        assert caught.value.argument == argument


def read(**options):
    return lambda lake: lake.prediction_metrics("job", **options)


def told(labels):
    return lambda lake: lake.log_ground_truth("job", labels, key="id")


OF_A_JOB = {
    "number for segments": (read(by=5), "by=5 is no column", "by"),
    "sets of segments": (read(by=[["g"]]), "is no column or list", "by"),
    "day as text": (read(since="2026-01-02"), "^since is '2026", "since"),
    "time without a zone": (
        read(until=dt.datetime(2026, 1, 2)), "^until .* no time zone", "until",  # noqa: DTZ001 -- the mistake
    ),
    "keys alone": (told({"id": [1]}), "no column besides the key", "truth"),
    "third label": (told({"id": [1], "y": [5.0]}), "besides 0 and 1: 5.0", "truth"),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_A_JOB)
def test_wrong_argument_of_a_stored_job_is_named(lake, case):
    call, message, argument = OF_A_JOB[case]
    lake.log_prediction_metrics("job", FRAME.with_row_index("id"), score="p", key="id", by="g")
    with pytest.raises(InvalidInputError, match=message) as caught:
        call(lake)
    assert caught.value.argument == argument
    assert caught.value.hint


def test_a_job_that_was_logged_whole_has_no_parts(lake):
    lake.log_prediction_metrics("job", {"id": [1], "p": [0.5]}, score="p", key="id")
    with pytest.raises(NotFoundError, match=r"no part 'a' with keys. It was logged whole: leave out part=."):
        lake.log_ground_truth("job", {"id": [1], "y": [1]}, key="id", part="a")


# -- right after all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, False, np.int64(0)])
def test_scores_of_a_named_class_are_that_classes(label):
    found = metrics(FRAME, score={label: "p"}, truth="y")
    assert found["roc_auc"] == 0.0
    assert found["class_distribution"] == {0: 1 / 3, 1: 2 / 3}
    assert dict(found) == dict(metrics(FRAME, score="p", truth="y", task=Binary(pos_label=0)))


def test_labels_that_come_late_keep_the_named_class(lake):
    keyed = FRAME.with_row_index("id")
    lake.log_prediction_metrics("job", keyed.drop("y"), score={0: "p"}, key="id")
    assert lake.log_ground_truth("job", keyed.select("id", "y"), key="id")["roc_auc"] == 0.0


@pytest.mark.parametrize(("truth", "label"), [([0, 1, 0], True), ([False, True, False], 1)])
def test_true_and_one_are_the_same_positive_class(truth, label):
    found = metrics(FRAME, score="p", truth=truth, task=Binary(pos_label=label))
    assert found["accuracy"] == 1.0
    assert set(found["class_distribution"]) == set(truth)


def test_thresholds_of_numpy_are_numbers():
    assert metrics(FRAME, score="p", truth="y", task=Binary(threshold=np.float32(0.5)))["accuracy"] == 1.0
    several = metrics(FRAME, score="p", truth="y", task=Binary(threshold=np.array([0.5, 0.95])))
    assert (several["recall@0.5"], several["recall@0.95"]) == (1.0, 0.0)


def test_near_thresholds_have_names_of_their_own():
    found = metrics(FRAME, score="p", truth="y", task=Binary(threshold=[0.8999999, 0.9000001, 0.3]))
    assert found["recall@0.8999999"] == 1.0
    assert found["recall@0.9000001"] == 0.0
    assert found["recall@0.3"] == 1.0


def test_what_overflows_says_so():
    numbers = np.array([1.0, -2.0, 3.0]) * 1e300
    found = metrics(numbers, truth=numbers / 2, task="regression")
    assert found["r2"] is None
    assert found.reason("r2") == "the weights sum to 0, or a sum overflows"
    ends = found.to_frame().select("low", "high")
    assert not any(math.isnan(end) for row in ends.rows() for end in row if end is not None)


# -- classes that nobody has seen yet -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "labels", "classes"),
    [
        (None, [False, True, False], [False, True]),
        (Binary(labels=["stay", "leave"]), ["stay", "leave", "stay"], ["stay", "leave"]),
        (Binary(pos_label="leave"), ["stay", "leave", "stay"], ["not leave", "leave"]),
    ],
)
def test_classes_have_their_names_before_there_are_labels(lake, task, labels, classes):
    keyed = FRAME.select("p").with_row_index("id")
    before = lake.log_prediction_metrics("job", keyed, score="p", key="id", task=task)
    assert before["class_distribution"] == {classes[0]: 2 / 3, classes[1]: 1 / 3}
    lake.flush()
    assert lake.get_metric("job", "class_distribution") == before["class_distribution"]
    after = lake.log_ground_truth("job", {"id": [0, 1, 2], "y": labels}, key="id")
    assert after["class_distribution"] == {labels[0]: 2 / 3, labels[1]: 1 / 3}
    assert after["roc_auc"] == 1.0


# -- drift ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "reference"),
    [
        ([1.5] * 50, [2.5] * 60),
        ([2.5] * 50, [1.5] * 60),
        (np.linspace(-3, 3, 99), np.linspace(-3, 3, 99) + 1e6),
    ],
)
def test_values_beside_a_reference_of_one_cell_have_drifted(values, reference):
    state, other = prediction_state(values), prediction_state(reference)
    found = {row["metric"]: row["value"] for row in finalize(state, "all", reference=other).to_pylist()}
    assert found["drift/psi"] > 1
    assert found["drift/tvd"] == pytest.approx(1)
    assert found["drift/js"] == pytest.approx(1)
    assert found["drift/chi2_pvalue"] < 1e-10


def test_drift_warns_of_nothing(recwarn):
    finalize(
        prediction_state([0.1, 0.2], task="binary"), reference=prediction_state([0.3, 0.4], task="binary")
    )
    assert [str(warning.message) for warning in recwarn] == []


def test_one_bin_has_no_p_value_and_says_why():
    rows = finalize(prediction_state([1.5] * 5), "all", reference=prediction_state([1.5] * 6)).to_pylist()
    (row,) = (row for row in rows if row["metric"] == "drift/chi2_pvalue")
    assert (row["value"], row["reason"]) == (None, "all rows are in one bin")


def alike(value):
    """Return what equals a metric whose sums were taken in another order."""
    return pytest.approx(value) if isinstance(value, float) else value


# -- parts ------------------------------------------------------------------------------------------------


def test_a_part_of_no_rows_changes_no_number(lake):
    empty = FRAME.clear()
    for number, (data, options) in enumerate(
        [
            (FRAME, {"score": "p", "truth": "y"}),
            (["a", "b"], {}),
            (FRAME.select(p=pl.col("p") * 9, y="y"), {"prediction": "p", "truth": "y"}),
        ]
    ):
        job = f"job{number}"
        whole = lake.log_prediction_metrics(job, data, part="monday", **options)
        found = lake.log_prediction_metrics(job, [], part="tuesday")
        assert dict(found) == {name: alike(value) for name, value in whole.items()}
        assert found.task == whole.task
        if options:
            found = lake.log_prediction_metrics(job, empty, part="wednesday", **options)
            assert found["num_predictions"] == 3
            assert found.task == whole.task


def test_a_day_without_predictions_has_no_drift(lake):
    lake.log_prediction_metrics("before", ["a", "b", "a"])
    found = lake.log_prediction_metrics("today", [], reference="before")
    assert found["num_predictions"] == 0
    assert not any(name.startswith("drift") for name in found)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([1.5, 2.5], {}, "'a' has labels in the column 'prediction', 'b' has numbers in the column"),
        ([0.5], {"task": "binary"}, "'b' has scores in the column 'prediction'"),
        ({"animal": ["cat"]}, {}, "'b' has labels in the column 'animal'"),
    ],
)
def test_parts_that_predict_different_things_are_refused(lake, data, options, message):
    before = dict(lake.log_prediction_metrics("job", ["cat", "dog"], part="a"))
    with pytest.raises(InvalidInputError, match=message) as caught:
        lake.log_prediction_metrics("job", data, part="b", **options)
    assert caught.value.hint
    assert dict(lake.log_prediction_metrics("job", ["cat", "dog"], part="a")) == before


def test_what_a_part_of_no_rows_would_have_been_is_not_read_back(lake):
    lake.log_prediction_metrics("job", ["cat", "dog"], part="monday")
    lake.log_prediction_metrics("job", [], part="tuesday")
    lake.log_prediction_metrics("none", [])
    read = lake.prediction_metrics(["job", "none"], metrics=["num_predictions"])
    assert [(row["resource"], row["value"]) for row in read] == [("job", 2.0), ("none", 0.0)]


def test_jobs_that_predict_different_things_are_no_series(lake):
    times = {"at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 3}
    lake.log_prediction_metrics(
        "scores", FRAME.with_columns(pl.Series("at", times["at"])), score="p", time="at", every="1d"
    )
    lake.log_prediction_metrics("numbers", {"p": [1.5, 2.5, 3.5], **times}, time="at", every="1d")
    with pytest.raises(InvalidInputError, match=r"'numbers' has numbers in .*, 'scores' has scores in"):
        lake.prediction_metrics(["scores", "numbers"], every="1d")
    assert len(lake.prediction_metrics(["scores", "numbers"], metrics=["num_predictions"])) == 2


def test_each_job_is_read_by_the_segments_that_it_has(lake):
    frame = FRAME.with_columns(h=pl.Series(["u", "u", "v"]))
    lake.log_prediction_metrics("both", frame, score="p", by=["g", "h"])
    lake.log_prediction_metrics("one", frame, score="p", by="g")
    lake.log_prediction_metrics("none", frame, score="p")
    read = lake.prediction_metrics(["both", "one", "none"], metrics=["num_predictions"], by="g")
    found = [(row["resource"], row["segment"].get("g"), row["value"]) for row in read]
    assert found == [
        ("both", None, 3.0), ("both", "a", 2.0), ("both", "b", 1.0),
        ("none", None, 3.0),
        ("one", None, 3.0), ("one", "a", 2.0), ("one", "b", 1.0),
    ]  # fmt: skip


def test_each_part_is_read_by_the_segments_that_it_has(lake):
    frame = FRAME.with_columns(h=pl.Series(["u", "u", "v"]))
    lake.log_prediction_metrics("job", frame, score="p", truth="y", by="g", part="a")
    lake.log_prediction_metrics("job", frame, score="p", truth="y", by=["g", "h"], part="b")
    lake.log_prediction_metrics("job", frame, score="p", truth="y", part="c")
    lake.log_prediction_metrics("whole", pl.concat([frame, frame]), score="p", truth="y", by="g")
    for verb in (lake.prediction_metrics, lake.prediction_curves):
        rows = [[row for row in verb(job, by="g") if row["segment"]] for job in ("job", "whole")]
        assert [row | {"resource": ""} for row in rows[0]] == [row | {"resource": ""} for row in rows[1]]
    series = lake.prediction_metrics(["job", "whole"], by="g", every="1d", metrics=["num_predictions"])
    assert [(row["segment"], row["value"]) for row in series] == [
        ({}, 15.0),
        ({"g": "a"}, 8.0),
        ({"g": "b"}, 4.0),
    ]


def test_a_span_without_windows_has_no_segments_either(lake):
    lake.log_prediction_metrics("job", FRAME, score="p", by="g")
    later = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    assert lake.prediction_metrics("job", by="g", since=later).rows() == []
    assert lake.prediction_curves("job", by="g", since=later).rows() == []
    with pytest.raises(InvalidInputError, match="by=5"):
        lake.prediction_metrics("job", by=5, since=later)


def test_counts_of_late_labels_may_be_asked_for_before_there_are_some(lake):
    keyed = FRAME.with_row_index("id")
    names = ["coverage", "num_unmatched", "num_relabelled"]
    lake.log_prediction_metrics("job", keyed.drop("y"), score="p", key="id", metrics=names)
    found = lake.log_ground_truth("job", {"id": [0, 1, 2, 7], "y": [0, 1, 0, 0]}, key="id")
    assert dict(found) == {"coverage": 1.0, "num_unmatched": 1, "num_relabelled": 0}


def test_parts_with_labels_of_different_types_are_told_so(lake):
    lake.log_prediction_metrics("job", [0.1, 0.9], task="binary", truth=[0, 1], part="a")
    with pytest.raises(InvalidInputError, match="labels are of type bool in one, int in another"):
        lake.log_prediction_metrics("job", [0.1, 0.9], task="binary", truth=[False, True], part="b")
