"""Charts: their real data, marks, counts and words."""

import csv
import io
import math

import pyarrow as pa
import pytest

from metrics_lake import MetricsLake
from metrics_lake.charts import Drawn, curves, short_labels


def points_of(spec):
    """Return the rows of the CSV that a chart carries."""
    (text,) = [each for each in spec["datasets"].values() if isinstance(each, str)]
    return list(csv.DictReader(io.StringIO(text)))


def marks_of(spec):
    return {layer["mark"]["type"] for layer in spec.get("spec", spec)["layer"]}


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake") as made:
        yield made


def test_a_history_is_a_line_with_its_points(lake):
    lake.log_series("digits/1", "loss", [0.9, 0.5, 0.25], steps=[0, 5, 10])
    spec = lake.history("digits/1", "loss").plot().to_dict()
    assert [(row["x"], row["y"]) for row in points_of(spec)] == [("0", "0.9"), ("5", "0.5"), ("10", "0.25")]
    assert {"line", "point"} <= marks_of(spec)
    assert spec["title"]["text"] == "loss"
    assert spec["title"]["subtitle"] == ["1 series · 3 points"]


def test_thinning_for_drawing_keeps_extremes_and_says_so(lake):
    values = [math.sin(at / 50) for at in range(50_000)]
    values[12_345], values[23_456] = 7.0, -7.0
    lake.log_series("run", "m", values, steps=range(50_000))
    spec = lake.history("run", "m").plot().to_dict()
    drawn = [(int(row["x"]), float(row["y"])) for row in points_of(spec)]
    assert len(drawn) <= 2000
    assert {(12_345, 7.0), (23_456, -7.0), (0, values[0]), (49_999, values[-1])} <= set(drawn)
    assert spec["title"]["subtitle"] == [f"1 series · {len(drawn):,} of 50,000 points shown, extremes kept"]


def test_what_is_no_number_is_counted(lake):
    lake.log_series("run", "m", [1.0, math.nan, 2.0, math.inf, -math.inf, 3.0], steps=range(6))
    lake.log_metric("run", "m", "diverged", step=6)
    lake.log_metric("run", "m", 4.0)
    spec = lake.history("run", "m").plot().to_dict()
    assert [row["y"] for row in points_of(spec)] == ["1", "", "2", "", "", "3"]
    assert [row["mark"] for row in points_of(spec)] == ["", "NaN", "", "inf", "-inf", ""]
    told = " ".join(spec["title"]["subtitle"])
    assert "3 NaN or infinite, marked at the edge" in told
    assert "left out: 1 non-numeric value" in told
    assert "left out: 1 point without a step" in told


def test_short_labels_stay_different():
    ids = [f"a/{'x' * 50}{at}{'y' * 50}" for at in range(30)]
    labels = short_labels(ids, 20)
    assert len(set(labels)) == 30
    assert all(len(label) <= 20 for label in labels)


def test_no_points_are_an_empty_chart():
    empty = pa.table(
        {
            "resource": pa.array([], pa.string()),
            "metric": pa.array([], pa.string()),
            "tags_key": pa.array([], pa.string()),
            "step": pa.array([], pa.int64()),
            "timestamp": pa.array([], pa.timestamp("us", tz="UTC")),
            "value": pa.array([], pa.float64()),
        }
    )
    for x in ("step", "relative", "timestamp"):
        spec = curves(Drawn(empty, x, 0, 0)).to_dict()
        assert points_of(spec) == []
        assert spec["title"]["subtitle"] == ["0 series · 0 points"]
