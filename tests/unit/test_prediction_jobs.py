"""Prediction jobs on a lake: parts, late labels, points, errors."""

from __future__ import annotations

import datetime as dt

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal
from sklearn import metrics as sk

from metrics_lake import MetricsLake, glob
from metrics_lake.errors import InvalidInputError, NotFoundError, TaskAmbiguousError
from metrics_lake.predictions import (
    STATE_SCHEMA,
    Binary,
    Multiclass,
    PredictionMetrics,
    Regression,
    finalize,
    merge_states,
    prediction_state,
)
from metrics_lake.predictions.long import Long
from metrics_lake.reader import Reader
from metrics_lake.schema import arrow_schema

DAY = dt.timedelta(days=1)
START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@pytest.fixture
def lake(tmp_path):
    lake = MetricsLake(tmp_path / "lake", compaction="off")
    yield lake
    lake.close()


def scored(rows=400, seed=7, first=0):
    """Return binary scores with a key, segments, times, weights and the truth."""
    rng = np.random.default_rng(seed)
    scores = rng.random(rows).round(3)
    return pl.DataFrame(
        {
            "id": np.arange(first, first + rows),
            "p": scores,
            "country": rng.choice(["FR", "NO", "DE"], rows),
            "at": [START + dt.timedelta(hours=int(h)) for h in rng.integers(0, 24 * 9, rows)],
            "w": rng.random(rows) + 0.5,
            "y": (rng.random(rows) < scores).astype(int),
        }
    )


def numbers_of(table):
    """Return a table of numbers as ``{(window, segment, metric, label): value}``."""
    rows = table.to_pylist()
    return {
        (row["window_start"], tuple(sorted(row["segment"] or ())), row["metric"], row["label"]): row["value"]
        for row in rows
        if row["metric"] not in ("num_unmatched", "num_relabelled")
    }


def assert_same_numbers(found, expected):
    """Compare two tables of numbers to 1e-12."""
    mine, theirs = numbers_of(found), numbers_of(expected)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        if value is None or mine[name] is None:
            assert mine[name] is None, name
            assert value is None, name
        else:
            assert mine[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name


def one_pass(frame, **options):
    """Return the numbers of one pass over joined data."""
    return finalize(prediction_state(frame, **options))


# -- inputs -----------------------------------------------------------------------------------------------


LABELS = [3, 1, 3, 3, 2, 1]
SHARES = {1: 2 / 6, 2: 1 / 6, 3: 3 / 6}


def _parquet(tmp_path):
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"prediction": LABELS}), path)
    return path


INPUTS = {
    "list": lambda _: LABELS,
    "generator": lambda _: (label for label in LABELS),
    "numpy": lambda _: np.array(LABELS),
    "pandas series": lambda _: pd.Series(LABELS),
    "pandas frame": lambda _: pd.DataFrame({"label": LABELS}),
    "polars series": lambda _: pl.Series(LABELS),
    "polars frame": lambda _: pl.DataFrame({"label": LABELS}),
    "polars lazy": lambda _: pl.LazyFrame({"label": LABELS}),
    "arrow array": lambda _: pa.array(LABELS),
    "arrow chunked": lambda _: pa.chunked_array([LABELS[:2], LABELS[2:]]),
    "arrow table": lambda _: pa.table({"label": LABELS}),
    "arrow reader": lambda _: pa.table({"label": LABELS}).to_reader(max_chunksize=2),
    "arrow dataset": lambda tmp_path: pa.dataset.dataset(_parquet(tmp_path)),
    "parquet path": _parquet,
    "parquet text": lambda tmp_path: str(_parquet(tmp_path)),
    "torch": lambda _: pytest.importorskip("torch").tensor(LABELS),
}


TORCH = pytest.param("torch", marks=pytest.mark.oracle)


@pytest.mark.parametrize("kind", [*(kind for kind in INPUTS if kind != "torch"), TORCH])
def test_one_argument_is_enough(lake, tmp_path, kind):
    found = lake.log_prediction_metrics("job", INPUTS[kind](tmp_path))
    assert found["num_predictions"] == 6
    shares = lake.get_metric("job", "class_distribution")
    assert isinstance(shares, dict)
    assert shares == pytest.approx(SHARES)
    assert {type(label) for label in shares} == {int}
    assert lake.get_metric("job", "num_predictions") == 6


@pytest.mark.parametrize(
    ("labels", "shares"),
    [
        (["a", "b", "a", None], {"a": 2 / 3, "b": 1 / 3}),
        ([True, False, True, True], {True: 0.75, False: 0.25}),
        ([0, 1, 1, 1], {0: 0.25, 1: 0.75}),
        ([-1, 2**52], {-1: 0.5, 2**52: 0.5}),
    ],
)
def test_classes_come_back_in_their_own_type(lake, labels, shares):
    lake.log_prediction_metrics("job", labels)
    found = lake.get_metric("job", "class_distribution")
    assert found == pytest.approx(shares)
    assert [type(label) for label in found] == [type(label) for label in sorted(shares)]


@pytest.mark.parametrize("kind", ["list", "numpy", "pandas series", "polars series", TORCH])
def test_numbers_with_one_argument(lake, kind):
    values = [0.5, 2.25, -1.0, 8.125]
    data = {
        "list": lambda: values,
        "numpy": lambda: np.array(values),
        "pandas series": lambda: pd.Series(values),
        "polars series": lambda: pl.Series(values),
        "torch": lambda: pytest.importorskip("torch").tensor(values),
    }[kind]()
    lake.log_prediction_metrics("job", data)
    assert lake.get_metric("job", "mean") == pytest.approx(np.mean(values))
    assert lake.get_metric("job", "min") == -1.0


def test_keyed_predictions_may_come_from_a_reader(lake):
    frame = scored()
    reader = frame.select("id", "p").to_arrow().to_reader(max_chunksize=37)
    lake.log_prediction_metrics("job", reader, score="p", key="id")
    lake.log_ground_truth("job", frame.select("id", "y").to_arrow().to_reader(), key="id")
    assert lake.get_metric("job", "brier") == pytest.approx(sk.brier_score_loss(frame["y"], frame["p"]))


# -- points -----------------------------------------------------------------------------------------------


def test_points_carry_segments_windows_and_labels(lake):
    frame = scored().with_columns(prediction=pl.col("y").replace_strict({0: "no", 1: "yes"}))
    lake.log_prediction_metrics(
        "job", frame.select("prediction", "country", "at"), by="country", time="at", every="1d",
        tags={"model": "v2"}, step=4,
    )  # fmt: skip
    rows = lake.history("job", full=True).rows()
    tags = {tuple(sorted(dict(row["tags"]).items())) for row in rows if row["metric"] == "num_predictions"}
    own = ("model", "v2")
    assert (own,) in tags
    assert (("country", "FR"), own) in tags
    assert (("every", "1d"), own) in tags
    assert (("country", "NO"), ("every", "1d"), own) in tags
    assert {row["step"] for row in rows} == {4}
    windows = [
        row
        for row in rows
        if row["metric"] == "num_predictions" and dict(row["tags"]) == {"every": "1d", "model": "v2"}
    ]
    per_day = frame.group_by(pl.col("at").dt.truncate("1d") + DAY).len().sort("at")
    assert [(row["timestamp"], row["value"]) for row in windows] == list(per_day.iter_rows())
    assert (
        lake.get_metric("job", "num_predictions", tags={"model": "v2", "country": "FR"})
        == (frame["country"] == "FR").sum()
    )


def test_values_of_one_class_are_tagged_with_the_class(lake):
    truth = ["a", "b", "c", "a", "b", "c"]
    found = lake.log_prediction_metrics(
        "job", {"prediction": ["a", "b", "a", "a", "c", "c"], "truth": truth}, truth="truth"
    )
    precision = sk.precision_score(truth, ["a", "b", "a", "a", "c", "c"], labels=["a"], average="macro")
    assert lake.get_metric("job", "precision", tags={"label": "a"}) == pytest.approx(precision)
    assert lake.get_metric("job", "precision") == pytest.approx(found["precision"])


def test_metric_without_a_value_is_not_logged_and_says_why(lake):
    found = lake.log_prediction_metrics("job", {"p": [0.1, 0.7], "y": [1, 1]}, score="p", truth="y")
    assert found["roc_auc"] is None
    assert found.reason("roc_auc")
    rows = found.to_frame().filter(pl.col("metric") == "roc_auc")
    assert rows["reason"].to_list() == [found.reason("roc_auc")]
    assert "roc_auc" not in lake.metric_ids("job")


def test_timestamp_is_given_or_the_calls(lake):
    lake.log_prediction_metrics("job", [1, 2], timestamp=START)
    assert {row["timestamp"] for row in lake.history("job").rows()} == {START}
    before = dt.datetime.now(dt.UTC)
    lake.log_prediction_metrics("other", [1, 2])
    assert all(row["timestamp"] >= before for row in lake.history("other").rows())


def test_another_handle_sees_states_and_points_after_flush(lake):
    lake.log_prediction_metrics("job", scored().select("p"), score="p")
    lake.flush()
    with MetricsLake(lake.url, read_only=True) as other:
        assert other.get_metric("job", "num_predictions") == 400
        assert other.prediction_metrics("job", metrics=["num_predictions"]).values("value") == [400.0]


@pytest.mark.parametrize("tag", ["label", "every", "country"])
def test_tag_that_clashes_is_refused(lake, tag):
    with pytest.raises(InvalidInputError, match="tags has") as caught:
        lake.log_prediction_metrics(
            "job", scored().select("p", "country"), score="p", by="country", tags={tag: "x"}
        )
    assert caught.value.argument == "tags"
    assert_nothing_stored(lake, "job")


def test_handle_logs_its_own_job_with_its_tags(lake):
    frame = scored()
    with lake.resource("job", tags={"model": "v2"}) as job:
        job.log_prediction_metrics(frame.select("id", "p"), score="p", key="id")
        job.log_ground_truth(frame.select("id", "y"), key="id")
    assert lake.get_metric("job", "accuracy", tags={"model": "v2"}) == pytest.approx(
        sk.accuracy_score(frame["y"], frame["p"] >= 0.5)
    )


# -- parts ------------------------------------------------------------------------------------------------


def test_parts_add_in_any_order_and_replace_themselves(lake):
    frame = scored().drop("id", "w", "at")
    pieces = {"a": frame[:100], "b": frame[100:250], "c": frame[250:]}
    options = {"score": "p", "truth": "y", "by": "country"}
    expected = one_pass(frame, **options)
    for number, order in enumerate(["abc", "cab", "bcab"]):
        for name in order:
            found = lake.log_prediction_metrics(f"job{number}", pieces[name], part=name, **options)
        assert_same_numbers(found.table, expected)
    wrong = lake.log_prediction_metrics("job9", frame[:7], part="a", **options)
    assert wrong["num_predictions"] == 7
    for name in "abc":
        found = lake.log_prediction_metrics("job9", pieces[name], part=name, **options)
    assert_same_numbers(found.table, expected)
    assert lake.get_metric("job9", "roc_auc") == pytest.approx(found["roc_auc"])


def test_whole_job_is_replaced_by_logging_it_again(lake):
    lake.log_prediction_metrics("job", ["a", "b"])
    lake.log_prediction_metrics("job", ["c"])
    assert lake.get_metric("job", "class_distribution") == {"c": 1.0}
    assert lake.prediction_metrics("job", metrics=["num_predictions"]).values("value") == [1.0]
    assert len(lake.history("job", "num_predictions")) == 2


def test_segment_that_is_gone_from_a_replaced_part_is_gone(lake):
    lake.log_prediction_metrics(
        "job", {"p": ["x", "y"], "country": ["FR", "NO"]}, by="country", prediction="p"
    )
    lake.log_prediction_metrics("job", {"p": ["x"], "country": ["FR"]}, by="country", prediction="p")
    rows = lake.prediction_metrics("job", by="country", metrics=["num_predictions"]).rows()
    assert [dict(row["segment"]) for row in rows] == [{}, {"country": "FR"}]


@pytest.mark.parametrize("is_keyed", [False, True])
def test_whole_and_parts_do_not_mix(lake, is_keyed):
    data = scored().select("id", "p")
    options = {"score": "p", "key": "id"} if is_keyed else {"score": "p"}
    lake.log_prediction_metrics("whole", data, **options)
    with pytest.raises(InvalidInputError, match="was logged whole") as caught:
        lake.log_prediction_metrics("whole", data, part="a", **options)
    assert caught.value.argument == "part"
    lake.log_prediction_metrics("parts", data, part="a", **options)
    with pytest.raises(InvalidInputError, match="was logged in parts"):
        lake.log_prediction_metrics("parts", data, **options)


def test_part_that_does_not_fit_the_others_leaves_the_job_as_it_was(lake):
    frame = scored()
    lake.log_prediction_metrics("job", frame.select("p", "y"), score="p", truth="y", part="a")
    before = lake.prediction_metrics("job").arrow()
    with pytest.raises(InvalidInputError, match="cannot be merged"):
        lake.log_prediction_metrics(
            "job", frame.select("p", "y"), score="p", truth="y", part="b", task=Binary(threshold=0.3)
        )
    windows = {"score": "p", "time": "at"}
    lake.log_prediction_metrics("windows", frame.select("p", "at"), part="c", every="1d", **windows)
    with pytest.raises(InvalidInputError, match="windows of '1d' and '1h'"):
        lake.log_prediction_metrics("windows", frame.select("p", "at"), part="d", every="1h", **windows)
    assert lake.prediction_metrics("job").arrow().equals(before)
    lake.log_prediction_metrics("job", frame.select("p", "y"), score="p", truth="y", part="b")
    assert lake.get_metric("job", "num_predictions") == 800


# -- aggregation ------------------------------------------------------------------------------------------


def test_days_become_weeks_and_segments_totals(lake):
    frame = scored().drop("id", "w")
    options = {"score": "p", "truth": "y", "by": "country", "time": "at"}
    lake.log_prediction_metrics("job", frame, every="1d", **options)
    for every in ("1d", "1w", "3d"):
        found = lake.prediction_metrics("job", by="country", every=every).arrow()
        assert_same_numbers(found, one_pass(frame, every=every, **options))
    total = lake.prediction_metrics("job").arrow()
    assert_same_numbers(total, one_pass(frame.drop("country", "at"), score="p", truth="y"))


def test_many_jobs_become_one_series(lake):
    frame = scored(900).drop("id", "w", "country").sort("at")
    for day in range(9):
        begin = START + day * DAY
        rows = frame.filter(pl.col("at").is_between(begin, begin + DAY, closed="left"))
        lake.log_prediction_metrics(f"churn/{day}", rows, score="p", truth="y", time="at", every="1d")
    found = lake.prediction_metrics(glob("churn/*"), every="1w").arrow()
    assert set(found.column("resource").to_pylist()) == {"churn/*"}
    assert_same_numbers(found, one_pass(frame, score="p", truth="y", time="at", every="1w"))
    each = lake.prediction_metrics(["churn/3", "churn/1"], metrics=["num_predictions"])
    assert each.values("resource") == ["churn/1", "churn/3"]


def frame_of(points):
    """Return points of curves as a frame."""
    segments = points.column("segment").cast(
        pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
    )
    return pl.from_arrow(points.set_column(points.column_names.index("segment"), "segment", segments))


@pytest.mark.parametrize("every", [None, "1d", "3d"])
@pytest.mark.parametrize("by", [None, "country"])
@pytest.mark.parametrize("against", [None, "job", "data"])
def test_many_jobs_are_worked_on_a_few_at_a_time(lake, monkeypatch, every, by, against):
    frame = scored(900).sort("at")
    options = {"score": "p", "truth": "y", "time": "at", "every": "1d"}
    for number, rows in enumerate(frame.iter_slices(180)):
        kept = rows.drop("id", "w", "country") if number == 1 else rows.drop("id", "w")
        own = {} if number == 1 else {"by": "country"}
        lake.log_prediction_metrics(f"churn/{number}", kept, part="a", **options, **own)
    lake.log_prediction_metrics("churn/2", frame[:0].select("p", "y"), prediction="p", truth="y", part="none")
    lake.log_prediction_metrics("churn/3", frame[360:540].drop("id", "w"), part="a", **options)
    asked = {"by": by, "every": every, "since": START + DAY}
    reference = {None: None, "job": "churn/0", "data": frame[:200].select("p", "y")}[against]
    drawn = ["roc", "calibration", "scores"]

    def found():
        numbers = lake.prediction_metrics(glob("churn/*"), metrics="all", reference=reference, **asked)
        return numbers.arrow(), lake.prediction_curves(glob("churn/*"), drawn, **asked).arrow()

    at_once, curves = found()
    monkeypatch.setattr("metrics_lake.prediction_jobs.aggregates._MANY_CELLS", 300)
    in_groups, curves_in_groups = found()
    assert in_groups.num_rows > 100
    assert in_groups.column("resource").equals(at_once.column("resource"))
    assert_same_numbers(in_groups, at_once)
    assert_frame_equal(frame_of(curves_in_groups), frame_of(curves), rel_tol=1e-9)


@pytest.mark.parametrize("many", [1, 1 << 20])
def test_jobs_that_predict_different_things_are_no_series(lake, monkeypatch, many):
    monkeypatch.setattr("metrics_lake.prediction_jobs.aggregates._MANY_CELLS", many)
    for day in range(2):
        rows = {"p": [0.1, 0.9], "q": [1.5, 2.5], "at": [START + day * DAY] * 2}
        own = {"prediction": "q"} if day else {"score": "p"}
        lake.log_prediction_metrics(f"job/{day}", pl.DataFrame(rows), time="at", every="1d", **own)
    assert len(lake.prediction_metrics(glob("job/*"), metrics=["num_predictions"])) == 2
    with pytest.raises(InvalidInputError, match="predict different things: 'job/0' has scores"):
        lake.prediction_metrics(glob("job/*"), every="1w")
    with pytest.raises(NotFoundError, match="no stored segments"):
        lake.prediction_metrics(glob("job/*"), by="country")


@pytest.mark.parametrize("url", ["{folder}/lake", "memory://{folder}/lake"])
def test_jobs_too_large_to_keep_in_memory_are_read_again(tmp_path, monkeypatch, url):
    monkeypatch.setitem(Reader.__init__.__kwdefaults__, "recent_bytes", 1000)
    frame = scored(600)
    with MetricsLake(url.format(folder=tmp_path), compaction="off") as lake:
        for number, rows in enumerate(frame.iter_slices(200)):
            part = {"key": "id", "part": str(number)}
            lake.log_prediction_metrics("job", rows.drop("y"), score="p", by="country", **part)
            lake.flush()
        for labels in frame.select("id", "y").iter_slices(350):
            lake.log_ground_truth("job", labels, key="id")
        found = lake.prediction_metrics("job", by="country").arrow()
        expected = one_pass(frame, score="p", truth="y", by="country", key="id")
        assert_same_numbers(found, expected)


def test_span_keeps_whole_windows(lake):
    frame = scored().select("p", "at")
    lake.log_prediction_metrics("job", frame, score="p", time="at", every="1d")
    found = lake.prediction_metrics(
        "job", since=START + DAY, until=START + 3 * DAY, metrics=["num_predictions"]
    )
    inside = frame.filter(pl.col("at").is_between(START + DAY, START + 3 * DAY, closed="left"))
    assert found.values("value") == [inside.height]
    assert lake.prediction_metrics("job", since=START + 99 * DAY).values("value") == []


def test_unknown_jobs_and_segments_are_named(lake):
    lake.log_prediction_metrics("churn/1", ["a"])
    with pytest.raises(NotFoundError, match="Did you mean 'churn/1'"):
        lake.prediction_metrics("chrun/1")
    with pytest.raises(NotFoundError, match="no prediction job fits"):
        lake.prediction_metrics(glob("x*"))
    with pytest.raises(NotFoundError, match="no stored segments"):
        lake.prediction_metrics("churn/1", by="country")


# -- reference --------------------------------------------------------------------------------------------


def test_reference_is_a_job_or_data(lake, tmp_path):
    frame = scored(2000)
    other = scored(2000, seed=8).with_columns(pl.col("p") ** 2)
    lake.log_prediction_metrics("before", other.select("p"), score="p")
    by_job = lake.log_prediction_metrics("a", frame.select("p"), score="p", reference="before")
    by_frame = lake.log_prediction_metrics("b", frame.select("p"), score="p", reference=other)
    by_series = lake.log_prediction_metrics("c", frame.select("p"), score="p", reference=other["p"])
    path = tmp_path / "reference.parquet"
    other.write_parquet(path)
    by_path = lake.log_prediction_metrics("d", frame.select("p"), score="p", reference=str(path))
    by_reader = lake.log_prediction_metrics(
        "e", frame.select("p"), score="p", reference=other.to_arrow().to_reader()
    )
    stored = lake.prediction_metrics("a", reference="before")
    later = lake.prediction_metrics("a", reference=other)
    assert by_job["drift/psi"] > 0.1
    assert lake.get_metric("a", "drift/psi") == by_job["drift/psi"]
    for found in (by_frame, by_series, by_path, by_reader):
        assert found["drift/psi"] == pytest.approx(by_job["drift/psi"], rel=1e-12)
    for result in (stored, later):
        values = {row["metric"]: row["value"] for row in result.rows()}
        assert values["drift/psi"] == pytest.approx(by_job["drift/psi"], rel=1e-12)


def test_reference_frame_may_have_keys_truths_and_segments(lake):
    frame, other = scored(1000), scored(1000, seed=8)
    found = lake.log_prediction_metrics(
        "job", frame.drop("y", "at"), score="p", key="id", by="country", weight="w", reference=other
    )
    drift = found.to_frame().filter(pl.col("metric") == "drift/psi")
    assert drift["value"].null_count() == 0
    assert drift.height == 4
    classes = lake.log_prediction_metrics(
        "classes", {"id": [1, 2], "label": ["a", "b"]}, key="id",
        reference={"id": [1, 2, 3], "label": ["a", "b", "b"], "truth": ["a", "a", "a"]},
    )  # fmt: skip
    assert classes["drift/psi"] > 0


def test_reference_that_lacks_a_column_says_so(lake):
    with pytest.raises(InvalidInputError, match=r"^reference: .*'p' is not a column") as caught:
        lake.log_prediction_metrics("job", scored().select("p"), score="p", reference={"q": [0.1]})
    assert caught.value.argument == "reference"
    with pytest.raises(NotFoundError, match="no prediction job 'nowhere'"):
        lake.log_prediction_metrics("job", scored().select("p"), score="p", reference="nowhere")
    assert_nothing_stored(lake, "job")


# -- late labels ------------------------------------------------------------------------------------------


def test_labels_in_pieces_equal_one_pass(lake):
    frame = scored()
    options = {"score": "p", "by": [["country"]], "time": "at", "every": "1d", "weight": "w"}
    lake.log_prediction_metrics("job", frame.drop("y"), key="id", **options)
    shuffled = frame.select("id", "y").sample(fraction=1.0, shuffle=True, seed=3)
    for start in (0, 150, 300):
        found = lake.log_ground_truth("job", shuffled[start : start + 150], key="id")
        known = frame.join(shuffled[: start + 150], on="id", how="left", suffix="_known").drop("y", "id")
        assert_same_numbers(found.table, one_pass(known, truth="y_known", **options))
    assert found["num_unmatched"] == 0
    assert found["coverage"] == 1.0
    assert found["roc_auc"] == pytest.approx(
        sk.roc_auc_score(frame["y"], frame["p"], sample_weight=frame["w"]), abs=1e-4
    )
    assert found["log_loss"] == pytest.approx(
        sk.log_loss(frame["y"], frame["p"], sample_weight=frame["w"]), rel=1e-9
    )
    assert lake.get_metric("job", "brier", tags={"country": "NO"}) is not None


def test_newest_label_of_a_key_wins(lake, monkeypatch):
    frame = scored(50)
    lake.log_prediction_metrics("job", frame.select("id", "p"), score="p", key="id")
    lake.log_ground_truth("job", frame.select("id", "y"), key="id")
    flipped = frame[:10].select("id", 1 - pl.col("y"))
    two_days_later = lake._writer.clock() + 2 * 86_400_000_000
    monkeypatch.setattr("time.time_ns", lambda: two_days_later * 1000)
    found = lake.log_ground_truth("job", flipped, key="id")
    truth = np.r_[1 - frame["y"].to_numpy()[:10], frame["y"].to_numpy()[10:]]
    assert found["brier"] == pytest.approx(sk.brier_score_loss(truth, frame["p"]))
    assert found["num_relabelled"] == 10
    assert found["num_ground_truth_observations"] == 50
    # back again, and the same once more: nothing new is stored
    lake.log_ground_truth("job", frame[:10].select("id", "y"), key="id")
    stored = count_rows(lake, "ground_truth")
    found = lake.log_ground_truth("job", frame.select("id", "y"), key="id")
    assert count_rows(lake, "ground_truth") == stored == 70
    assert found["brier"] == pytest.approx(sk.brier_score_loss(frame["y"], frame["p"]))
    assert found["num_relabelled"] == 10


def test_labels_from_a_slow_clock_count_as_they_were_published(lake, monkeypatch):
    frame = scored(50)
    lake.log_prediction_metrics("job", frame.select("id", "p"), score="p", key="id")
    lake.log_ground_truth("job", frame.select("id", 1 - pl.col("y")), key="id")
    lake.flush()
    behind = lake._writer.clock() - 3_600_000_000
    monkeypatch.setattr("time.time_ns", lambda: behind * 1000)
    with MetricsLake(lake.url) as other:
        found = other.log_ground_truth("job", frame.select("id", "y"), key="id")
        assert found["brier"] == pytest.approx(sk.brier_score_loss(frame["y"], frame["p"]))
        assert other.get_metric("job", "brier") == found["brier"]
    assert lake.get_metric("job", "brier") == found["brier"]
    again = lake.log_prediction_metrics("job", frame.select("id", "p"), score="p", key="id")
    assert again["brier"] == found["brier"]


def test_null_label_takes_a_label_back(lake):
    lake.log_prediction_metrics("job", {"id": [1, 2, 3], "p": [0.1, 0.6, 0.9]}, score="p", key="id")
    lake.log_ground_truth("job", {"id": [1, 2, 3], "y": [0, 1, 1]}, key="id")
    found = lake.log_ground_truth("job", pl.DataFrame({"id": [2], "y": [None]}), key="id")
    assert found["num_ground_truth_observations"] == 2


def test_unmatched_labels_are_counted_and_wait_for_their_predictions(lake):
    frame = scored(100)
    lake.log_prediction_metrics("job", frame[:60].select("id", "p"), score="p", key="id", part="a")
    found = lake.log_ground_truth("job", frame.select("id", "y"), key="id")
    assert found["num_unmatched"] == lake.get_metric("job", "num_unmatched") == 40
    assert found["num_ground_truth_observations"] == 60
    found = lake.log_prediction_metrics("job", frame[60:].select("id", "p"), score="p", key="id", part="b")
    assert found["num_unmatched"] == 0
    assert found["brier"] == pytest.approx(sk.brier_score_loss(frame["y"], frame["p"]))


def test_labels_of_one_part_leave_the_others_unlabelled(lake):
    frame = scored(90)
    for name, rows in (("a", frame[:30]), ("b", frame[30:60]), ("c", frame[60:])):
        lake.log_prediction_metrics("job", rows.select("id", "p"), score="p", key="id", part=name)
    found = lake.log_ground_truth("job", frame[30:60].select("id", "y"), key="id", part="b")
    assert found["num_predictions"] == 90
    assert found["coverage"] == pytest.approx(1 / 3)
    assert found["brier"] == pytest.approx(sk.brier_score_loss(frame["y"][30:60], frame["p"][30:60]))
    with pytest.raises(InvalidInputError, match="of the part 'c'"):
        lake.log_ground_truth("job", frame[:30].select("id", "y"), key="id", part="c")
    with pytest.raises(NotFoundError, match="no part 'z'"):
        lake.log_ground_truth("job", frame[:30].select("id", "y"), key="id", part="z")
    found = lake.log_ground_truth("job", frame.select("id", "y"), key="id")
    assert_same_numbers(found.table, one_pass(frame.select("p", "y"), score="p", truth="y"))


def test_predictions_that_are_logged_again_keep_their_labels(lake):
    frame = scored(100)
    lake.log_prediction_metrics("job", frame.select("id", "p"), score="p", key="id")
    lake.log_ground_truth("job", frame.select("id", "y"), key="id")
    better = frame.with_columns(p=(pl.col("p") + pl.col("y")) / 2)
    found = lake.log_prediction_metrics("job", better.select("id", "p"), score="p", key="id")
    assert found["brier"] == pytest.approx(sk.brier_score_loss(better["y"], better["p"]))
    elsewhere = frame.with_columns(id=pl.col("id") + 1000)
    found = lake.log_prediction_metrics("job", elsewhere.select("id", "p"), score="p", key="id")
    assert "brier" not in found
    assert found["num_unmatched"] == 100


def test_job_that_is_logged_again_without_keys_has_none(lake):
    frame = scored(100)
    lake.log_prediction_metrics("job", frame.select("id", "p"), score="p", key="id")
    lake.log_prediction_metrics("job", frame.select("p", "y"), score="p", truth="y")
    with pytest.raises(NotFoundError, match="no predictions with keys"):
        lake.log_ground_truth("job", frame.select("id", "y"), key="id")
    lake.log_prediction_metrics("job", frame.select("id", "p"), score="p", key="id")
    assert lake.log_ground_truth("job", frame.select("id", "y"), key="id")["coverage"] == 1.0


def test_choices_of_the_predictions_hold_for_the_labels(lake):
    frame = scored(100)
    lake.log_prediction_metrics(
        "job", frame.select("id", "p"), score="p", key="id", metrics=["f1", "roc_auc"], exact=True, step=3,
        tags={"model": "v2"}, task=Binary(threshold=0.3),
    )  # fmt: skip
    found = lake.log_ground_truth("job", frame.select("id", "y"), key="id")
    assert set(found) == {"f1", "roc_auc", "num_unmatched", "num_relabelled"}
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(frame["y"], frame["p"]), rel=1e-12)
    row = lake.history("job", "f1", tags={"model": "v2"}).rows()[-1]
    assert row["step"] == 3
    assert row["value"] == pytest.approx(sk.f1_score(frame["y"], frame["p"] >= 0.3))


@pytest.mark.parametrize("is_scored", [False, True])
def test_multiclass_labels_come_late(lake, is_scored):
    rng = np.random.default_rng(5)
    rows = 300
    raw = rng.random((rows, 3)) + 0.05
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    classes = np.array(["cat", "dog", "fox"])
    truth = classes[(probabilities + rng.random((rows, 3))).argmax(axis=1)]
    guess = classes[probabilities.argmax(axis=1)]
    frame = pl.DataFrame(
        {"id": [f"k{i}" for i in range(rows)], "guess": guess}
        | {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    )
    options = {"prediction": "guess"}
    if is_scored:
        options = {"score": {name: f"p_{name}" for name in classes}}
    lake.log_prediction_metrics("job", frame, key="id", **options)
    labels = pl.DataFrame({"id": frame["id"], "y": truth})
    lake.log_ground_truth("job", labels[:100], key="id")
    found = lake.log_ground_truth("job", labels[100:], key="id")
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    assert_same_numbers(
        found.table, one_pass(frame.with_columns(y=pl.Series(truth)).drop("id"), truth="y", **options)
    )


def test_regression_labels_come_late(lake):
    rng = np.random.default_rng(5)
    frame = pl.DataFrame({"id": np.arange(300), "y_hat": rng.normal(size=300)})
    truth = frame["y_hat"] + rng.normal(size=300) / 4
    labels = pl.DataFrame({"id": frame["id"], "y": truth})
    lake.log_prediction_metrics("job", frame, prediction="y_hat", key="id")
    lake.log_ground_truth("job", labels[:120], key="id")
    found = lake.log_ground_truth("job", labels[120:], key="id")
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, frame["y_hat"]))
    assert found["r2"] == pytest.approx(sk.r2_score(truth, frame["y_hat"]))


def test_whole_numbers_need_a_task_before_labels_come(lake):
    data = {"id": [1, 2, 3], "guess": [3, 4, 5]}
    lake.log_prediction_metrics("job", data, prediction="guess", key="id")
    with pytest.raises(TaskAmbiguousError, match="Log the predictions again with task="):
        lake.log_ground_truth("job", {"id": [1, 2, 3], "y": [3, 4, 4]}, key="id")
    assert count_rows(lake, "ground_truth") == 0
    for task in (Regression(), Multiclass()):
        lake.log_prediction_metrics("job", data, prediction="guess", key="id", task=task)
        found = lake.log_ground_truth("job", {"id": [1, 2, 3], "y": [3, 4, 4]}, key="id")
        assert found.task == task.name


def test_whole_numbers_follow_the_jobs_other_parts(lake):
    for part, values in (("a", [0.5, 1.5]), ("b", [2.0, 3.0])):
        first = 0 if part == "a" else 10
        lake.log_prediction_metrics(
            "job", {"id": [first, first + 1], "v": values}, prediction="v", key="id", part=part
        )
    lake.log_ground_truth("job", {"id": [0, 1], "y": [0.25, 1.5]}, key="id")
    found = lake.log_ground_truth("job", {"id": [10, 11], "y": [2.0, 4.0]}, key="id")
    assert found["mae"] == pytest.approx(sk.mean_absolute_error([0.25, 1.5, 2, 4], [0.5, 1.5, 2, 3]))


KEYS = {
    "int": [1, 2, 3, 4],
    "text": ["a", 'b"\\', "ü\n", ""],
    "bool": [True, False],
    "date": [dt.date(2026, 1, day) for day in range(1, 5)],
    "datetime": [dt.datetime(2026, 1, 1, 0, 0, 0, i) for i in range(4)],  # noqa: DTZ001 -- no zone is the case
    "datetime with a time zone": [START + i * DAY for i in range(4)],
    "negative": [-(2**62), 2**62, 0, -1],
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_any_type(lake, kind):
    keys = KEYS[kind]
    scores, truth = [0.1, 0.6, 0.7, 0.3][: len(keys)], [0, 1, 0, 1][: len(keys)]
    lake.log_prediction_metrics("job", {"k": keys, "p": scores}, score="p", key="k")
    other = pl.DataFrame({"name": keys[::-1], "y": truth[::-1]})
    found = lake.log_ground_truth("job", other, key="name")
    assert found["brier"] == pytest.approx(sk.brier_score_loss(truth, scores))
    assert found["num_unmatched"] == 0


def test_key_texts_never_change(lake):
    """They are stored: what another version writes must be equal."""
    frame = pl.DataFrame(
        {
            "n": [-7],
            "t": ['a"\\/\né\u2028'],
            "b": [True],
            "d": [dt.date(2026, 1, 2)],
            "z": [START.astimezone(dt.timezone(dt.timedelta(hours=2)))],
            "p": [0.5],
        },
        schema_overrides={"n": pl.Int8},
    )
    lake.log_prediction_metrics("job", frame, score="p", key=["n", "t", "b", "d", "z"])
    assert stored_rows(lake, "predictions").column("key").to_pylist() == [
        '{"n":-7,"t":"a\\"\\\\/\\né\u2028","b":true,"d":"2026-01-02","z":"2026-03-01T00:00:00.000000Z"}'
    ]


def test_times_of_any_zone_and_precision_are_one_key(lake):
    ours = START.astimezone(dt.timezone(dt.timedelta(hours=-5)))
    lake.log_prediction_metrics("job", {"k": [ours], "p": [0.5]}, score="p", key="k")
    labels = pl.DataFrame({"k": pl.Series([START]).dt.cast_time_unit("ns"), "y": [1]})
    assert lake.log_ground_truth("job", labels, key="k")["num_unmatched"] == 0


def test_several_key_columns_with_other_names(lake):
    frame = pl.DataFrame({"user": [1, 1, 2], "day": ["a", "b", "a"], "p": [0.1, 0.6, 0.8]})
    lake.log_prediction_metrics("job", frame, score="p", key=["user", "day"])
    labels = pd.DataFrame({"d": ["a", "b", "a"], "who": [2, 1, 1], "bought": [True, True, False]})
    found = lake.log_ground_truth("job", labels, key=["who", "d"])
    assert found["num_ground_truth_observations"] == 3
    assert found["brier"] == pytest.approx(sk.brier_score_loss([0, 1, 1], [0.1, 0.6, 0.8]))


def test_narrow_and_coded_keys_are_the_same_keys(lake):
    lake.log_prediction_metrics(
        "a",
        pl.DataFrame({"k": [1, 2], "p": [0.1, 0.6]}, schema_overrides={"k": pl.UInt8}),
        score="p",
        key="k",
    )
    assert lake.log_ground_truth("a", {"k": [1, 2], "y": [0, 1]}, key="k")["coverage"] == 1
    frame = pl.DataFrame({"k": ["x", "y"], "p": [0.1, 0.6]}, schema_overrides={"k": pl.Categorical})
    lake.log_prediction_metrics("b", frame, score="p", key="k")
    assert lake.log_ground_truth("b", {"k": ["x", "y"], "y": [0, 1]}, key="k")["coverage"] == 1


@pytest.mark.parametrize(
    "pieces",
    [
        ([True, False], [0, 1]),
        ([0, 1], [True, False]),
        ([0.0, 1.0], [True, False]),
        ([1, 0], [0.0, 1.0]),
        ([None, None], [0, 1]),
        ([True, False], [None, 1]),
    ],
)
def test_labels_of_the_same_meaning_mix(lake, pieces):
    scores = [0.1, 0.6, 0.7, 0.3]
    lake.log_prediction_metrics("job", {"k": [0, 1, 2, 3], "p": scores}, score="p", key="k")
    for number, piece in enumerate(pieces):
        labels = pl.DataFrame({"k": [2 * number, 2 * number + 1], "y": piece})
        found = lake.log_ground_truth("job", labels, key="k")
    known = [
        (s, int(y))
        for s, y in zip(scores, [y for each in pieces for y in each], strict=True)
        if y is not None
    ]
    assert found["num_ground_truth_observations"] == len(known)
    assert found["brier"] == pytest.approx(sum((s - y) ** 2 for s, y in known) / len(known))


def test_labels_of_another_type_than_before_are_refused(lake):
    lake.log_prediction_metrics(
        "job",
        {"k": [0, 1, 2, 3], "p": [0.1, 0.6, 0.7, 0.3]},
        score="p",
        key="k",
        task=Binary(pos_label="yes"),
    )
    lake.log_ground_truth("job", {"k": [0, 1], "y": ["no", "yes"]}, key="k")
    with pytest.raises(
        InvalidInputError, match="some labels of the job are text and others are int"
    ) as caught:
        lake.log_ground_truth("job", {"k": [2, 3], "y": [0, 1]}, key="k")
    assert caught.value.argument == "truth"
    assert count_rows(lake, "ground_truth") == 2
    found = lake.log_ground_truth("job", {"k": [2, 3], "y": ["no", "yes"]}, key="k")
    assert found["coverage"] == 1


def test_columns_may_have_two_roles_and_awkward_names(lake):
    frame = pl.DataFrame(
        {
            "key": [1, 2, 3, 4],
            "label 1": ["a", "b", "a", "b"],
            "day": [dt.date(2026, 1, 1), dt.date(2026, 1, 1), dt.date(2026, 1, 2), dt.date(2026, 1, 2)],
        }
    )
    options = {"prediction": "label 1", "by": [["label 1"], ["day"]], "time": "day", "every": "1d"}
    lake.log_prediction_metrics("job", frame, key="key", **options)
    labels = pl.DataFrame({"key": [1, 2, 3, 4], "label 1": ["a", "a", "a", "b"]})
    found = lake.log_ground_truth("job", labels, key="key", truth="label 1")
    expected = one_pass(frame.with_columns(y=labels["label 1"]).drop("key"), truth="y", **options)
    assert_same_numbers(found.table, expected)


def test_null_segments_and_segments_of_any_type(lake):
    frame = pl.DataFrame(
        {
            "id": range(6),
            "p": [0.1, 0.9, 0.4, 0.6, 0.8, 0.2],
            "n": [1, None, 2, 1, None, 2],
            "b": [True, False, None, True, False, None],
            "d": [dt.date(2026, 1, 1), None] * 3,
        }
    )
    options = {"score": "p", "by": [["n"], ["b", "d"], ["n", "b"]]}
    lake.log_prediction_metrics("job", frame, key="id", **options)
    truth = [0, 1, 0, 1, 0, 1]
    found = lake.log_ground_truth("job", {"id": list(range(6)), "y": truth}, key="id")
    expected = one_pass(frame.with_columns(y=pl.Series(truth)).drop("id"), truth="y", **options)
    assert_same_numbers(found.table, expected)


def test_empty_predictions_and_empty_labels(lake):
    found = lake.log_prediction_metrics("empty", {"id": [], "p": []}, score="p", key="id")
    assert found["num_predictions"] == lake.get_metric("empty", "num_predictions") == 0
    with pytest.raises(NotFoundError, match="no predictions with keys"):
        lake.log_ground_truth("empty", {"id": [1], "y": [1]}, key="id")
    assert lake.log_prediction_metrics("bare", [])["num_predictions"] == 0
    lake.log_prediction_metrics("job", {"id": [1, 2], "p": [0.1, 0.8]}, score="p", key="id")
    found = lake.log_ground_truth("job", {"id": [], "y": []}, key="id")
    assert found["num_predictions"] == 2
    assert count_rows(lake, "ground_truth") == 0
    # what was there before an empty call is gone
    lake.log_prediction_metrics(
        "job", pl.DataFrame(schema={"id": pl.Int64, "p": pl.Float64}), score="p", key="id"
    )
    with pytest.raises(NotFoundError, match="no predictions with keys"):
        lake.log_ground_truth("job", {"id": [1], "y": [1]}, key="id")


# -- wrong input ------------------------------------------------------------------------------------------


WRONG_LABELS = {
    "int for text": (
        {"id": ["1"], "y": [1]},
        {"key": "id"},
        "'id' holds str in the labels and 'id' holds int",
        "key",
    ),
    "float key": ({"id": [1.0], "y": [1]}, {"key": "id"}, "cannot name a row", "key"),
    "no such key": ({"id": [1], "y": [1]}, {"key": "ids"}, "Did you mean 'id'", "key"),
    "too many keys": ({"id": [1], "b": [1], "y": [1]}, {"key": ["id", "b"]}, "key has 2 columns", "key"),
    "key twice": ({"id": [1], "y": [1]}, {"key": ["id", "id"]}, "no list of different columns", "key"),
    "no key": ({"id": [1], "y": [1]}, {"key": []}, "key is empty", "key"),
    "null key": ({"id": [1, None], "y": [1, 0]}, {"key": "id"}, "1 rows have no 'id'", "key"),
    "no such truth": (
        {"id": [1], "y": [1]},
        {"key": "id", "truth": "z"},
        "truth='z' is not a column",
        "truth",
    ),
    "two truths": ({"id": [1], "y": [1], "z": [1]}, {"key": "id"}, "not clear which column", "truth"),
    "dates": (
        {"id": [1], "y": [dt.date(2026, 1, 1)]},
        {"key": "id"},
        "neither a class nor a number",
        "truth",
    ),
    "two labels": ({"id": [1, 1], "y": [1, 0]}, {"key": "id"}, "different labels in one call", "labels"),
    "nothing fits": ({"id": [91], "y": [1]}, {"key": "id"}, 'Compare {"id":91} of the labels with', "key"),
    "three classes": ({"id": [1, 2, 3], "y": [0, 1, 2]}, {"key": "id"}, "", None),
    "no table": (7, {"key": "id"}, "labels is a int", "labels"),
    "lengths": ({"id": [1, 2], "y": [1]}, {"key": "id"}, "different lengths", "labels"),
    "mixed": ({"id": [1, 2], "y": [1, "b"]}, {"key": "id"}, "mixes values", None),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_wrong_labels_are_refused_and_not_kept(lake, case):
    labels, options, message, argument = WRONG_LABELS[case]
    lake.log_prediction_metrics("job", {"id": [1, 2, 3], "p": [0.1, 0.8, 0.4]}, score="p", key="id")
    with pytest.raises(InvalidInputError) as caught:
        lake.log_ground_truth("job", labels, **options)
    assert message in str(caught.value)
    if argument is not None:
        assert caught.value.argument == argument
    assert count_rows(lake, "ground_truth") == 0
    assert lake.log_ground_truth("job", {"id": [1, 2, 3], "y": [0, 1, 0]}, key="id")["coverage"] == 1


FINE = {"id": [1, 2], "p": [0.1, 0.8], "g": ["a", "b"], "y": [0, 1]}
WRONG_PREDICTIONS = {
    "doubled key": ({"id": [1, 1], "p": [0.1, 0.2]}, {"score": "p", "key": "id"}, 'key {"id":1} o', "key"),
    "null key": ({"id": [1, None], "p": [0.1, 0.2]}, {"score": "p", "key": "id"}, "have no 'id'", "key"),
    "float key": ({"id": [1.5, 2.0], "p": [0.1, 0.2]}, {"score": "p", "key": "id"}, "cannot name", "key"),
    "no such key": (FINE, {"score": "p", "key": "idd"}, "Did you mean 'id'", "key"),
    "key and truth": (FINE, {"score": "p", "key": "id", "truth": "y"}, "truth= is given", "key"),
    "score range": ({"id": [1, 2], "p": [0.1, 1.2]}, {"score": "p", "key": "id"}, "[0, 1]", None),
    "weight": (
        {"id": [1, 2], "p": [0.1, 0.2], "w": [1.0, -1.0]},
        {"score": "p", "key": "id", "weight": "w"}, "negative", "weight",
    ),
    "metric": (FINE, {"score": "p", "key": "id", "metrics": ["rocauc"]}, "'rocauc' is not known", "metrics"),
    "reserved": (
        {"id": [1, 2], "p": [0.1, 0.2], "label": ["a", "b"]},
        {"score": "p", "key": "id", "by": "label"}, "tag of the points", "by",
    ),
    "no column": (FINE, {"key": "id"}, "not clear which column", "prediction"),
    "window": (FINE, {"score": "p", "every": "1d"}, "time is missing", "time"),
    "window size": (FINE | {"t": [START, START]}, {"score": "p", "time": "t", "every": "3x"}, "3x", "every"),
    "lengths": ([0.1, 0.2, 0.3], {"truth": [0, 1], "task": "regression"}, "2 values", "truth"),
    "ambiguous": ([1, 2, 3], {"truth": [1, 2, 2]}, "whole numbers", None),
    "mixed": ([1, "a"], {}, "mixes values", None),
    "unknown label": (["a", "z"], {"task": Multiclass(labels=["a", "b"])}, "z", None),
    "task": ([1, 2], {"task": "rank"}, "task='rank' is not known", "task"),
    "part": ([1, 2], {"part": ""}, "part is ''", "part"),
    "part type": ([1, 2], {"part": 7}, "part is 7", "part"),
    "tags": ([1, 2], {"tags": {"every": "x"}}, "tags has 'every'", "tags"),
    "object": (7, {}, "predictions is a int", "predictions"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_PREDICTIONS)
def test_wrong_predictions_are_refused_and_nothing_is_kept(lake, case):
    data, options, message, argument = WRONG_PREDICTIONS[case]
    with pytest.raises(InvalidInputError) as caught:
        lake.log_prediction_metrics("job", data, **options)
    assert message in str(caught.value)
    if argument is not None:
        assert caught.value.argument == argument
    assert_nothing_stored(lake, "job")


def test_parts_share_one_key_and_no_keys(lake):
    lake.log_prediction_metrics("job", {"id": [1, 2], "p": [0.1, 0.2]}, score="p", key="id", part="a")
    with pytest.raises(InvalidInputError, match="2 keys are in the part 'a'"):
        lake.log_prediction_metrics("job", {"id": [3, 2, 1], "p": [0.1] * 3}, score="p", key="id", part="b")
    with pytest.raises(InvalidInputError, match=r"'id' \(str\), and the part 'a' of 'job' has 'id' \(int\)"):
        lake.log_prediction_metrics("job", {"id": ["x"], "p": [0.1]}, score="p", key="id", part="b")
    assert lake.get_metric("job", "num_predictions") == 2
    lake.log_prediction_metrics("job", {"id": [3, 2, 1], "p": [0.1] * 3}, score="p", key="id", part="a")
    assert lake.get_metric("job", "num_predictions") == 3


def test_labels_for_what_is_not_there(lake):
    labels = {"id": [1], "y": [1]}
    lake.log_metric("run", "loss", 1.0)
    with pytest.raises(NotFoundError, match="there is no prediction job 'job'"):
        lake.log_ground_truth("job", labels, key="id")
    lake.log_prediction_metrics("job", ["a"])
    with pytest.raises(NotFoundError, match="Log them again with key"):
        lake.log_ground_truth("job", labels, key="id")
    with pytest.raises(NotFoundError, match="Did you mean 'job'"):
        lake.log_ground_truth("jobb", labels, key="id")


def test_read_only_handle_refuses(lake):
    lake.log_prediction_metrics("job", {"id": [1], "p": [0.1]}, score="p", key="id")
    lake.flush()
    with MetricsLake(lake.url, read_only=True) as reader:
        with pytest.raises(InvalidInputError, match="read-only"):
            reader.log_prediction_metrics("job", ["a"])
        with pytest.raises(InvalidInputError, match="read-only"):
            reader.log_ground_truth("job", {"id": [1], "y": [1]}, key="id")


# -- the state of the lake --------------------------------------------------------------------------------


def stored_rows(lake, table):
    lake.flush()
    reader = lake._reading().table(table)
    from metrics_lake.reader import Selection

    return reader.read(lambda snapshot: reader.run(snapshot, Selection(), "SELECT * FROM {points}"))


def count_rows(lake, table):
    return stored_rows(lake, table).num_rows


def assert_nothing_stored(lake, job):
    lake.log_metric("another", "x", 1.0)  # makes the lake
    for table in ("predictions", "ground_truth", "prediction_states"):
        assert count_rows(lake, table) == 0, table
    assert lake.metric_ids(job) == []


def test_numbers_are_the_same_before_and_after_compaction(lake):
    frame = scored()
    lake.log_prediction_metrics("job", frame.select("id", "p", "country"), score="p", key="id", by="country")
    lake.log_ground_truth("job", frame[:200].select("id", "y"), key="id")
    before = lake.prediction_metrics("job", by="country").arrow()
    for _ in range(8):  # to the last digit: sums do not depend on how threads share the work
        assert lake.prediction_metrics("job", by="country").arrow().equals(before)
    lake.flush()
    lake.maintenance.compact()
    assert lake.prediction_metrics("job", by="country").arrow().equals(before)
    with MetricsLake(lake.url) as other:
        assert other.prediction_metrics("job", by="country").arrow().equals(before)
        found = other.log_ground_truth("job", frame[200:].select("id", "y"), key="id")
    expected = one_pass(frame.select("p", "country", "y"), score="p", truth="y", by="country")
    assert_same_numbers(found.table, expected)


def test_sql_of_the_docstring_merges_states_of_the_lakes_files(lake):
    frame = scored(2000)
    for number, rows in enumerate((frame[:700], frame[700:])):
        lake.log_prediction_metrics(f"job/{number}", rows.select("p", "y"), score="p", truth="y")
    lake.flush()
    lake.maintenance.compact()
    text = merge_states.__doc__
    sql = text[text.index("WITH cells") : text.index("Raises:")]
    files = f"{lake.url}/prediction_states/month=*/*.parquet"
    found = duckdb.sql(sql.replace("FROM states", f"FROM read_parquet('{files}')")).fetchall()[0][0]
    assert found == pytest.approx(sk.roc_auc_score(frame["y"], frame["p"]), abs=1e-4)
    merged = lake.prediction_metrics(glob("job/*"), metrics=["roc_auc"]).values("n")
    assert merged == [700, 1300]


def test_other_engines_read_the_states(lake):
    deltalake = pytest.importorskip("deltalake")
    frame = scored(500).select("p", "y", "country")
    lake.log_prediction_metrics("job", frame, score="p", truth="y", by="country")
    lake.flush()
    lake.maintenance.compact()
    table = deltalake.DeltaTable(f"{lake.url}/prediction_states")
    expected = one_pass(frame, score="p", truth="y", by="country")
    names = {"timestamp": "created"}
    for rows in (
        pa.table(table.to_pyarrow_dataset().to_table()),
        pl.scan_delta(f"{lake.url}/prediction_states").collect().to_arrow(),
    ):
        renamed = rows.rename_columns([names.get(name, name) for name in rows.column_names])
        assert_same_numbers(finalize(renamed), expected)


def test_lake_and_engine_have_one_state_schema(lake):
    lake.log_prediction_metrics("job", ["a", "b"])
    stored = stored_rows(lake, "prediction_states").schema
    own = {"created", "writer"}
    for field in (field for field in STATE_SCHEMA if field.name not in own):
        assert arrow_schema("prediction_states").field(field.name).equals(field)
        assert stored.field(field.name).type == field.type
    counts = list(STATE_SCHEMA.field("excluded").type.fields)
    counts += [STATE_SCHEMA.field("n")]
    lists = ("cells", "calib", "moments", "confusion")
    counts += [STATE_SCHEMA.field(name).type.value_type.field("n") for name in lists]
    assert {field.type for field in counts} == {pa.int64()}


def test_marks_of_a_job_stay_out_of_merged_states(lake):
    frame = scored().select("id", "p", "at")
    lake.log_prediction_metrics("job", frame, score="p", key="id", time="at", every="1d")
    rows = stored_rows(lake, "prediction_states")
    assert all('"keyed": true' in text for text in rows.column("params").to_pylist())
    found = lake.log_prediction_metrics("job", frame, score="p", key="id", time="at", every="1d")
    assert not any("keyed" in text for text in found.state.column("params").to_pylist())
    assert isinstance(found, PredictionMetrics)
    assert Long.from_arrow(found.state).head.height > 5
