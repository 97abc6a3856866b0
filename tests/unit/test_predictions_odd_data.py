"""Predictions as they come from others: NaN for what is missing, odd types, odd names, broken plans."""

import datetime as dt
import decimal
import math
from io import StringIO

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn.metrics as sk
from rich.console import Console

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions import (
    Binary,
    PredictionMetrics,
    finalize,
    merge_states,
    metric_points,
    prediction_state,
)

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


# -- weights of 0 -----------------------------------------------------------------------------------------


WEIGHTLESS = {
    "regression": {"prediction": "p", "truth": "y", "task": "regression"},
    "numbers": {"prediction": "p", "task": "regression"},
    "labels": {"prediction": "a", "truth": "b"},
    "scores": {"score": "s", "truth": "c"},
}


@pytest.mark.parametrize("task", WEIGHTLESS)
def test_rows_without_weight_are_rows_in_whatever_part_they_are(task):
    frame = pl.DataFrame(
        {
            "p": [1.5, 2.5, 3.5, 9.5], "y": [1.0, 2.0, 4.0, 2.0], "w": [0, 0, 1, 2],
            "s": [0.1, 0.9, 0.2, 0.4], "a": ["u", "v", "v", "u"], "b": ["u", "u", "v", "v"],
            "c": [0, 1, 0, 1],
        }
    )  # fmt: skip
    options = {**WEIGHTLESS[task], "weight": "w"}
    whole = metrics(frame, **options)
    state = merge_states(*(prediction_state(part, **options) for part in (frame[:2], frame[2:])))
    merged = PredictionMetrics(finalize(state, "all"), state)
    assert list(merged) == list(whole)
    for name, value in whole.items():
        assert merged[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    if task == "regression":
        assert (whole["max_error"], whole["num_tiny_truth"], whole["max"]) == (7.5, 0, 9.5)


@pytest.mark.parametrize("task", WEIGHTLESS)
def test_without_any_weight_every_number_that_is_missing_says_why(task):
    frame = pl.DataFrame(
        {
            "p": [1.5, 2.5],
            "y": [1.0, 2.0],
            "w": [0, 0],
            "s": [0.1, 0.9],
            "a": ["u", "v"],
            "b": ["u", "u"],
            "c": [0, 1],
        }
    )
    found = metrics(frame, **WEIGHTLESS[task], weight="w")
    missing = [name for name, value in found.items() if value is None]
    assert missing
    assert all(found.reason(name) for name in missing)
    assert not {"r2", "explained_variance"} & {name for name, value in found.items() if value is not None}


# -- types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers", [[1e300, 2.0], [2.0**70, 1.0], np.array([2**64 - 1, 2], "u8"), [2**53 + 2, 1]]
)
def test_whole_numbers_beyond_doubles_integers_are_no_classes(numbers):
    found = metrics(numbers)
    assert found["max"] == float(numbers[0])
    assert "class_distribution" not in found


def test_integers_and_fractions_may_be_labels_side_by_side():
    found = metrics([1, 2, 2], truth=[1.0, 0.5, 1e300], task="multiclass")
    assert found["class_distribution"] == {1: 1 / 3, 2: 2 / 3}
    (point,) = (each for each in metric_points(found.table, found.state) if each.metric == "confusion")
    assert point.value == {
        "labels": [0.5, 1, 2, 1e300],
        "rows": [[0, 0, 1, 0], [0, 1, 0, 0], [0] * 4, [0, 0, 1, 0]],
    }


@pytest.mark.parametrize("by", ["g", ["g", "h"], [["g"], ["h"]]])
@pytest.mark.parametrize("form", ["frame", "lazy", "reader", "file"])
def test_no_rows_have_no_segments_whatever_they_come_in(tmp_path, form, by):
    frame = pl.DataFrame(schema={"p": pl.Float64, "y": pl.Int64, "g": pl.String, "h": pl.String})
    frame.write_parquet(tmp_path / "rows.parquet")
    for options in (
        {"score": "p", "truth": "y"},
        {"prediction": "p", "truth": "y", "task": "regression"},
        {"prediction": "y", "task": "multiclass"},
    ):
        data = {
            "frame": lambda: frame,
            "lazy": lambda: frame.lazy(),
            "reader": lambda: frame.to_arrow().to_reader(),
            "file": lambda: tmp_path / "rows.parquet",
        }[form]()
        found = metrics(data, by=by, **options)
        assert found["num_predictions"] == 0
        assert not any(found.table.column("segment").to_pylist())


def test_decimals_are_numbers_and_labels():
    labels = metrics(
        pl.Series([D("1.00"), D("2.00")]), truth=pl.Series([D("1.0"), D("3")]), task="multiclass"
    )
    assert labels["accuracy"] == 0.5
    assert metrics([D("1.5"), None, 2, 0.5])["mean"] == pytest.approx(4 / 3)
    assert metrics([D("1.5"), D("NaN")])["num_nan"] == 1
    assert metrics(pa.array([D("1.5"), None], pa.decimal256(60, 2)))["mean"] == 1.5


@pytest.mark.parametrize(
    "values",
    [[True, pd.NA, False], [True, np.nan, False], pd.Series([True, None, False], dtype=object).tolist()],
)
def test_missing_values_of_pandas_in_a_list_are_null(values):
    found = metrics(values)
    assert found["class_distribution"] == {False: 0.5, True: 0.5}
    assert found["num_null"] == 1


def test_sparse_columns_of_pandas_are_read():
    assert metrics(pd.Series(pd.arrays.SparseArray([0.5, 0, 0.25])))["mean"] == 0.25


def test_generator_of_mappings_gives_rows():
    rows = ({"p": i / 10, "y": i % 2} for i in range(10))
    frame = pl.DataFrame({"p": [i / 10 for i in range(10)], "y": [i % 2 for i in range(10)]})
    found, expected = metrics(rows, score="p", truth="y"), metrics(frame, score="p", truth="y")
    assert list(found) == list(expected)
    for name, value in expected.items():  # the order of a sum is nobody's
        assert found[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


def test_files_may_grow_columns_and_wider_types(tmp_path):
    frame = pl.DataFrame({"p": [0.1, 0.9], "y": [0, 1]})
    files = [
        frame,
        frame.with_columns(added=pl.lit("x")),
        frame.cast({"p": pl.Float32, "y": pl.Int8}),
    ]
    paths = [str(tmp_path / f"{number}.parquet") for number in range(len(files))]
    for file, path in zip(files, paths, strict=True):
        file.write_parquet(path)
    found = metrics(paths, score="p", truth="y")
    assert (found["num_predictions"], found["accuracy"]) == (6, 1.0)


# -- what cannot be read ----------------------------------------------------------------------------------


LATER = {
    "fractions after integers": ([1, 2], [1.5]),
    "doubles after floats": (np.array([0.5], "f4"), np.array([0.1])),
    "beyond the width": (np.array([1], "i1"), np.array([300])),
    "text after numbers": ([1], ["a"]),
    "booleans after integers": ([1], [True]),
}


@pytest.mark.parametrize("case", LATER)
def test_later_batches_are_not_changed_to_fit(case):
    batches = (pl.DataFrame({"p": values}) for values in LATER[case])
    with pytest.raises(InvalidInputError, match="in the column 'p', which does not fit the") as caught:
        metrics(batches, prediction="p", task="regression")
    assert caught.value.hint


def test_later_batches_that_fit_are_read():
    batches = (pl.DataFrame({"p": values}) for values in ([1.5, None], [2], np.array([3.5], "f4"), [None]))
    found = metrics(batches, prediction="p", task="regression")
    assert found["mean"] == pytest.approx(7 / 3)
    assert found["num_null"] == 2


def plan():
    return pl.LazyFrame({"p": ["x", "0.5"], "y": [0, 1]}).with_columns(pl.col("p").cast(pl.Float64))


BROKEN = {
    "a plan that fails": (plan, {"score": "p", "truth": "y"}, "conversion from `str`"),
    "a plan that fails where the task is looked for": (plan, {"prediction": "p", "truth": "y"}, "conversion"),
    "a plan without such a column": (lambda: pl.LazyFrame({"p": [1]}).select("zz"), {}, "zz"),
    "a missing file": (lambda: pl.scan_parquet("/no/such.parquet"), {}, "No such file"),
    "a type that is not known": (
        lambda: pa.RunEndEncodedArray.from_arrays([1, 3], ["a", "b"]), {}, "'prediction' of run_end_encoded",
    ),
    "two columns of one name": (
        lambda: pa.table([pa.array([0.1]), pa.array([0.2])], names=["p", "p"]), {}, "are called 'p'",
    ),
    "two columns of pandas": (lambda: pd.DataFrame([[0.1, 0]], columns=["p", "p"]), {}, "are called 'p'"),
    "columns 1 and '1'": (lambda: pd.DataFrame({1: [0.1], "1": [0]}), {}, "are called '1'"),
    "keys 1 and '1'": (lambda: {1: [0.1], "1": [0]}, {}, "are called '1'"),
    "a label for a name": (lambda: pd.DataFrame({0: [0.1], 1: [0]}), {"score": "0", "truth": 1}, "Pass '1'"),
    "a pair for a name": (
        lambda: pd.DataFrame([[0.1, 0]], columns=pd.MultiIndex.from_tuples([("a", "p"), ("a", "y")])),
        {"score": ("a", "p")}, r"""Pass "\('a', 'p'\)".""",
    ),
    "a pattern": (lambda: {"^p.*$": [0.1], "y": [1]}, {"score": "^p.*$"}, "told from a pattern"),
    "any column": (lambda: {"*": [0.1]}, {}, "told from a pattern"),
    "a segment without a name": (
        lambda: pl.DataFrame({"p": ["a"], "": ["b"]}), {"prediction": "p", "by": ""}, "has no name",
    ),
    "two columns of a binary task": (lambda: SCORES, {"task": "binary"}, r"predictions\[:, 1\]"),
    "vectors": (lambda: pl.Series([[0.1, 0.9]]), {}, "score='prediction'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_said_in_our_own_words(case):
    make, options, message = BROKEN[case]
    with pytest.raises(InvalidInputError, match=message) as caught:
        metrics(make(), **options)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_failures_of_the_callers_own_code_are_the_callers():
    with pytest.raises(ZeroDivisionError):
        metrics(1 / x for x in (1.5, 0))


# -- times ------------------------------------------------------------------------------------------------


def test_times_of_numpy_make_windows():
    times = np.array(["2026-01-01T10:00:00", "2026-01-02T10:00:00", "NaT"], "M8[s]")
    found = metrics({"p": [0.1, 0.2, 0.3], "at": times}, score="p", time="at", every="1d").to_frame()
    windows = found.filter(pl.col("metric") == "num_predictions").select("window_start", "value").rows()
    days = [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2)]
    assert windows == [(None, 3.0), (days[0], 1.0), (days[1], 1.0)]
    with pytest.raises(InvalidInputError, match="neither a class nor a number"):
        metrics(times)


@pytest.mark.parametrize(("year", "every"), [(1, "1d"), (9999, "1mo"), (9999, "1w")])
def test_dates_that_stand_for_none_are_told_of(year, every):
    times = [dt.datetime(2026, 1, 1), dt.datetime(year, 12, 31)]  # noqa: DTZ001 -- taken for UTC
    with pytest.raises(
        InvalidInputError, match=f"outside of 1900 to 9999, one about the year {year}"
    ) as caught:
        metrics({"p": [0.1, 0.2], "at": times}, score="p", time="at", every=every)
    assert caught.value.argument == "time"
    known = [times[0], None]
    assert metrics({"p": [0.1, 0.2], "at": known}, score="p", time="at", every=every)["num_predictions"] == 2


# -- what a notebook shows --------------------------------------------------------------------------------


def test_metrics_are_a_table_in_a_notebook():
    found = metrics({"p": [0.9, 0.2], "y": [1, 1]}, score="p", truth="y")
    page = found._repr_html_()
    assert "<caption>binary, 2 predictions</caption>" in page
    assert "<td>roc_auc</td><td></td><td></td><td></td><td>the truth has one class only</td>" in page
    low, high = found.to_frame().filter(pl.col("metric") == "accuracy").select("low", "high").row(0)
    assert f"<td>accuracy</td><td>0.5</td><td>{low:.6g}</td><td>{high:.6g}</td>" in page
    console = Console(file=StringIO(), width=200)
    console.print(found)
    assert "average_precision" in console.file.getvalue()
