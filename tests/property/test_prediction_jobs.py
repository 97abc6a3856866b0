"""Jobs against a plain model: whatever is logged in whatever order, the numbers are those of one pass."""

from __future__ import annotations

import json
import tempfile

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics_lake import MetricsLake
from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.predictions import finalize, prediction_state

PARTS = ("a", "b", "c")
SCHEMA = {"id": pl.Int64, "g": pl.String, "p": pl.Float64}
OPTIONS = {"score": "p", "by": "g"}

scores = st.integers(0, 1000).map(lambda number: number / 1000)
predictions = st.tuples(
    st.just("predictions"),
    st.integers(0, 2),
    st.dictionaries(st.integers(0, 9), st.tuples(st.sampled_from(["x", "y", None]), scores), max_size=6),
)
labels = st.tuples(
    st.just("labels"),
    st.sampled_from(["int", "bool", "float"]),
    st.dictionaries(st.integers(0, 34), st.sampled_from([0, 1, 1, None]), max_size=8),
)
steps = st.one_of(predictions, labels, st.just(("compact",)), st.just(("reopen",)))


class Model:
    """What a job should be: the predictions of each part, the newest label of each key."""

    def __init__(self):
        self.parts = {}
        self.labels = {}
        self.different = {}

    def predict(self, part, rows):
        # Keys of different parts never meet: a job refuses that.
        self.parts[PARTS[part]] = {10 * part + key: row for key, row in rows.items()}

    @property
    def rows(self):
        return {key: row for part in self.parts.values() for key, row in part.items()}

    def label(self, given):
        for key, label in given.items():
            if key not in self.labels or self.labels[key] != label:
                self.different.setdefault(key, set()).add(label)
            self.labels[key] = label

    def numbers(self):
        rows = [
            {"id": key, "g": group, "p": score, "y": self.labels.get(key)}
            for key, (group, score) in self.rows.items()
        ]
        frame = pl.DataFrame(rows, schema=SCHEMA | {"y": pl.Int64}).drop("id")
        if frame["y"].null_count() == frame.height:
            return finalize(prediction_state(frame.drop("y"), **OPTIONS))
        return finalize(prediction_state(frame, truth="y", **OPTIONS))


def plain(table):
    return {
        (
            tuple(row["segment"] or ()),
            row["metric"],
            None if row["label"] is None else _label(row["label"]),
        ): row["value"]
        for row in table.to_pylist()
        if row["metric"] not in ("num_unmatched", "num_relabelled")
    }


def _label(text):
    if text.startswith("["):  # of the confusion matrix: the true class and the predicted one
        return tuple(map(_label, json.loads(text)))
    return {"false": "0", "true": "1", "0.0": "0", "1.0": "1"}.get(text, text)


def assert_same(found, expected):
    mine, theirs = plain(found), plain(expected)
    has_truth = any(name == "num_ground_truth_observations" for _, name, _ in theirs)
    if not has_truth:
        # Labels that were taken back again, or are of replaced predictions: a truth that nobody has.
        mine = {key: value for key, value in mine.items() if key in theirs}
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert mine[key] == (None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)), key


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(steps, min_size=2, max_size=7))
def test_job_is_one_pass_over_what_was_logged(plan):
    with tempfile.TemporaryDirectory() as folder:
        lake = MetricsLake(f"{folder}/lake", compaction="off", state_dir=f"{folder}/state")
        model = Model()
        for kind, *arguments in plan:
            found = None
            if kind == "predictions":
                part, rows = arguments
                model.predict(part, rows)
                data = [(key, *row) for key, row in model.parts[PARTS[part]].items()]
                frame = pl.DataFrame(data, schema=SCHEMA, orient="row")
                found = lake.log_prediction_metrics("job", frame, key="id", part=PARTS[part], **OPTIONS)
            elif kind == "labels":
                dtype, given_labels = arguments
                types = {"int": pl.Int64, "bool": pl.Boolean, "float": pl.Float64}
                frame = pl.DataFrame(
                    {"id": list(given_labels), "y": list(given_labels.values())},
                    schema={"id": pl.Int64, "y": pl.Int64},
                ).with_columns(pl.col("y").cast(types[dtype]))
                if not model.rows:
                    with pytest.raises(NotFoundError):
                        lake.log_ground_truth("job", frame, key="id")
                elif given_labels and not set(given_labels) & set(model.rows):
                    with pytest.raises(InvalidInputError, match="none of the"):
                        lake.log_ground_truth("job", frame, key="id")
                else:
                    model.label(given_labels)
                    found = lake.log_ground_truth("job", frame, key="id")
            elif kind == "compact" and model.parts:
                lake.flush()
                lake.maintenance.compact()
            elif kind == "reopen":
                lake.close()
                lake = MetricsLake(f"{folder}/lake", compaction="off", state_dir=f"{folder}/state")
            if found is None:
                continue
            assert_same(found.table, model.numbers())
            if model.rows:
                assert_same(lake.prediction_metrics("job", by="g").arrow(), model.numbers())
            assert lake.get_metric("job", "num_predictions") == len(model.rows)
            if model.labels:
                assert found["num_unmatched"] == len(set(model.labels) - set(model.rows))
                assert found["num_relabelled"] == sum(len(each) > 1 for each in model.different.values())
        lake.close()
