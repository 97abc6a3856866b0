"""Charts: their real data, marks, counts and words."""

import csv
import datetime as dt
import io
import json
import math
import sys

import pyarrow as pa
import pytest
import vl_convert

from metrics_lake import InvalidInputError, MetricsLake, glob
from metrics_lake.charts import MAX_POINTS, Drawn, curves, parallel, ranking, scatter, short_labels, themed

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def points_of(spec):
    """Return the rows of the CSV that a chart carries."""
    (text,) = [each for each in spec["datasets"].values() if isinstance(each, str)]
    return list(csv.DictReader(io.StringIO(text)))


def values_of(spec):
    """Return all rows that a chart carries as JSON."""
    return [row for each in spec["datasets"].values() if isinstance(each, list) for row in each]


def layers_of(spec):
    return spec.get("spec", spec)["layer"]


def marks_of(spec):
    return [layer["mark"]["type"] for layer in layers_of(spec)]


def told(spec):
    return " · ".join(spec["title"]["subtitle"])


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake") as made:
        yield made


# ---- histories ---------------------------------------------------------------------------------------------


def test_a_history_is_a_line_with_its_points(lake):
    lake.log_series("digits/1", "loss", [0.9, 0.5, 0.25], steps=[0, 5, 10])
    spec = lake.history("digits/1", "loss").plot().to_dict()
    assert [(row["x"], row["y"]) for row in points_of(spec)] == [("0", "0.9"), ("5", "0.5"), ("10", "0.25")]
    assert marks_of(spec) == ["line", "point"]
    assert spec["title"] == {"text": "loss", "subtitle": ["1 series · 3 points"]}
    assert "1 series" in spec["description"]


def test_thinning_for_drawing_keeps_extremes_and_says_so(lake):
    values = [math.sin(at / 50) for at in range(50_000)]
    values[12_345], values[23_456] = 7.0, -7.0
    lake.log_series("run", "m", values, steps=range(50_000))
    spec = lake.history("run", "m").plot().to_dict()
    drawn = [(int(row["x"]), float(row["y"])) for row in points_of(spec)]
    assert len(drawn) <= 2000
    assert {(12_345, 7.0), (23_456, -7.0), (0, values[0]), (49_999, values[-1])} <= set(drawn)
    assert told(spec) == f"1 series · {len(drawn):,} of 50,000 points shown, extremes kept"
    thin = lake.history("run", "m", downsample=2000).rows()
    assert drawn == [(row["step"], row["value"]) for row in thin]


def test_an_infinity_hides_no_finite_extreme(lake):
    values = [0.0] * 10_000
    values[5_000:5_004] = [math.inf, 9.0, -9.0, -math.inf]
    lake.log_series("run", "m", values, steps=range(10_000))
    found = {row["x"]: row["y"] or row["mark"] for row in points_of(lake.history().plot().to_dict())}
    assert [found[str(at)] for at in range(5_000, 5_004)] == ["inf", "9", "-9", "-inf"]


def test_what_is_no_number_is_counted(lake):
    lake.log_series("run", "m", [1.0, math.nan, 2.0, math.inf, -math.inf, 3.0], steps=range(6))
    lake.log_metric("run", "m", "diverged", step=6)
    lake.log_metric("run", "m", 4.0)
    spec = lake.history("run", "m").plot().to_dict()
    assert [row["y"] for row in points_of(spec)] == ["1", "", "2", "", "", "3"]
    assert [row["mark"] for row in points_of(spec)] == ["", "NaN", "", "inf", "-inf", ""]
    assert "3 NaN or infinite, marked at the edge" in told(spec)
    assert "left out: 1 non-numeric value" in told(spec)
    assert "left out: 1 point without a step" in told(spec)


def svg_of(chart):
    return vl_convert.vegalite_to_svg(chart.to_json())


@pytest.mark.parametrize("metrics", ["m", ["m", "other"]])
def test_an_axis_of_one_value_names_it(lake, metrics):
    lake.log_series("run", "m", [0.125] * 5)
    lake.log_series("run", "other", [0.25, 0.5, math.nan])
    assert ">0.125</text>" in svg_of(lake.history("run", metrics).plot())
    assert ">0.125</text>" in svg_of(lake.history("run", metrics, steps=range(1)).plot())


def test_only_texts_are_an_empty_chart(lake):
    lake.log_metric("run", "m", "relu")
    spec = lake.history("run", "m").plot().to_dict()
    assert points_of(spec) == []
    assert told(spec) == "0 series · 0 points · left out: 1 non-numeric value"


@pytest.mark.parametrize("smooth", [None, 0.5])
def test_a_chart_that_has_no_place_for_its_points_counts_them(lake, smooth):
    for value in (1.0, 2.0, "diverged"):
        lake.log_metric("run", "m", value)
    chart = lake.history("run", "m", smooth=smooth).plot("step")
    left_out = "left out: 1 non-numeric value · left out: 2 points without a step"
    assert left_out in told(chart.to_dict())
    assert "2 points" in told(lake.history("run", "m", smooth=smooth).plot().to_dict())


def test_a_repeated_step_shows_its_newest_point(lake):
    lake.log_series("run", "m", [1.0, 2.0, 3.0], steps=[0, 1, 2])
    lake.log_series("run", "m", [20.0, 30.0], steps=[1, 2])
    spec = lake.history("run", "m").plot().to_dict()
    assert [row["y"] for row in points_of(spec)] == ["1", "20", "30"]
    assert lake.history("run", "m").values() == [1.0, 2.0, 20.0, 3.0, 30.0]


def test_the_picture_is_of_the_snapshot_of_the_result(lake):
    lake.log_series("run", "m", [1.0, 2.0], steps=[0, 1])
    result = lake.history("run", "m")
    lake.log_metric("run", "m", 3.0, step=2)
    lake.flush()
    assert len(points_of(result.plot().to_dict())) == 2


def test_x_is_a_step_a_time_or_the_time_since_the_start(lake):
    for at, run in enumerate(["a", "b"]):
        times = [START + dt.timedelta(days=at, minutes=minute) for minute in (0, 30, 60)]
        lake.log_series(run, "m", [1.0, 2.0, 3.0], steps=[0, 1, 2], timestamps=times)
    result = lake.history(None, "m")
    assert [row["x"] for row in points_of(result.plot("relative").to_dict())] == ["0", "30", "60"] * 2
    timed = result.plot("timestamp").to_dict()
    assert float(points_of(timed)[3]["x"]) == (START + dt.timedelta(days=1)).timestamp() * 1000
    assert layers_of(timed)[0]["encoding"]["x"]["type"] == "temporal"
    lake.log_metric("c", "n", 1.0)
    assert layers_of(lake.history("c", "n").plot().to_dict())[0]["encoding"]["x"]["title"] == "time (UTC)"
    with pytest.raises(InvalidInputError, match=r"'epoch'.*'relative'"):
        result.plot("epoch")
    with pytest.raises(InvalidInputError, match="y"):
        result.plot(y="m")


def test_a_logarithmic_axis_counts_what_it_cannot_show(lake):
    lake.log_series("run", "m", [1.0, 0.0, -1.0, 10.0], steps=range(4))
    spec = lake.history("run", "m").plot(log=True).to_dict()
    assert layers_of(spec)[0]["encoding"]["y"]["scale"]["type"] == "log"
    assert [row["y"] for row in points_of(spec)] == ["1", "", "", "10"]
    assert "left out: 2 points not above 0" in told(spec)


def test_smoothing_is_said(lake):
    lake.log_series("run", "m", [float(at % 2) for at in range(100)], steps=range(100))
    spec = lake.history("run", "m", smooth=0.9).plot().to_dict()
    assert "smoothed 0.9" in told(spec)
    smooth = lake.history("run", "m", smooth=0.9).values()
    assert [float(row["y"]) for row in points_of(spec)] == pytest.approx(smooth)


def test_several_metrics_are_panels(lake):
    for run in ("a", "b"):
        lake.log_series(run, "loss", [3.0, 2.0])
        lake.log_series(run, "acc", [0.5, 0.6])
    spec = lake.history().plot("timestamp").to_dict()
    assert spec["facet"]["field"] == "metric"
    assert spec["resolve"]["scale"]["y"] == "independent"
    assert spec["title"]["text"] == "2 metrics"


@pytest.mark.parametrize(
    ("runs", "has_legend", "has_dashes"),
    [(1, False, False), (5, True, False), (12, True, True), (200, False, False)],
)
def test_few_lines_have_a_legend_and_many_have_none(runs, has_legend, has_dashes):
    drawn = Drawn(history(runs), "step", runs * 2, runs)
    spec = curves(drawn).to_dict()
    encoding = layers_of(spec)[0]["encoding"]
    assert bool(encoding["color"]["legend"]) == has_legend
    assert ("strokeDash" in encoding) == has_dashes
    if has_legend:
        assert encoding["color"]["scale"]["domain"] == [str(at) for at in range(runs)]
        shades = spec["config"]["range"]["category"][:runs]
        assert len(set(shades)) == runs


def test_many_points_are_not_dashed_and_draw_nothing_to_hover_over():
    (line,) = layers_of(curves(Drawn(history(12, 1_000), "step", 12_000, 12)).to_dict())
    assert "strokeDash" not in line["encoding"]


def test_in_panels_of_many_points_the_nearest_is_sought_among_some():
    two = pa.concat_tables([history(5, 1_000), history(5, 1_000, metric="n")])
    _, near = layers_of(curves(Drawn(two, "step", 10_000, 10)).to_dict())
    assert {"sample": 8_000} in near["transform"]


def test_of_very_many_series_the_first_are_drawn(lake):
    lake.append(history(250).drop_columns(["tags_key"]))
    spec = lake.history(None, "m").plot().to_dict()
    assert told(spec) == "200 of 250 series · 400 points"
    assert len({row["s"] for row in points_of(spec)}) == 200


def test_a_tag_can_be_what_colours_stand_for(lake):
    for fold in range(3):
        for run in ("a", "b"):
            lake.log_series(run, "acc", [0.1, 0.2], steps=[0, 1], tags={"fold": fold})
    spec = lake.history(None, "acc").plot(color="fold").to_dict()
    assert layers_of(spec)[0]["encoding"]["color"]["scale"]["domain"] == ["0", "1", "2"]
    assert {row["series"] for row in values_of(spec)} >= {"a fold=0", "b fold=2"}
    with pytest.raises(InvalidInputError, match=r"'epoch'.*fold"):
        lake.history(None, "acc").plot(color="epoch")


def test_hostile_ids_are_data_and_nothing_else(lake):
    name = "</script><script>'\"\n,;\\ \x1b[31m"
    lake.log_series(name, "m", [1.0, 2.0], steps=[0, 1])
    lake.log_series("other", "m", [1.0, 2.0], steps=[0, 1])
    spec = lake.history(None, "m").plot().to_dict()
    assert name in {row.get("resource") for row in values_of(spec)}
    assert json.loads(json.dumps(spec)) == spec
    assert all(row["series"].isprintable() for row in values_of(spec))


def test_no_points_are_an_empty_chart():
    for x in ("step", "relative", "timestamp"):
        spec = curves(Drawn(history(0), x, 0, 0)).to_dict()
        assert points_of(spec) == []
        assert told(spec) == "0 series · 0 points"


def history(runs, points=2, metric="m"):
    """Return some points of each run."""
    number = runs * points
    return pa.table(
        {
            "resource": pa.array([f"digits/{at}" for at in range(runs) for _ in range(points)], pa.string()),
            "metric": pa.array([metric] * number, pa.string()),
            "tags_key": pa.array([""] * number, pa.string()),
            "step": pa.array([*range(points)] * runs, pa.int64()),
            "timestamp": pa.array([START] * number, pa.timestamp("us", tz="UTC")),
            "value": pa.array([float(at) for at in range(number)], pa.float64()),
        }
    )


# ---- leaderboards, run tables, queries ---------------------------------------------------------------------


def test_a_leaderboard_is_bars_in_order(lake):
    for run, value in (("a", 0.5), ("b", math.inf), ("c", 0.9)):
        lake.log_metric(f"digits/{run}", "acc", value)
    spec = lake.best("acc", mode="max").plot().to_dict()
    assert [layer["mark"]["type"] for layer in spec["layer"]] == ["bar", "text"]
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["1.  b", "2.  c", "3.  a"]
    assert [(row["value"], row["text"]) for row in values_of(spec)] == [
        (None, "inf"),
        (0.9, "0.9"),
        (0.5, "0.5"),
    ]


def test_the_number_of_a_negative_bar_stands_beside_it(lake):
    for run, value in (("a", -0.5), ("b", 0.25), ("c", -math.inf)):
        lake.log_metric(f"digits/{run}", "neg_loss", value)
    spec = lake.best("neg_loss", mode="max").plot().to_dict()
    assert spec["layer"][1]["encoding"]["x"]["field"] == "end"
    assert [(row["text"], row["end"]) for row in values_of(spec)] == [
        ("0.25", 0.25),
        ("-0.5", 0.0),
        ("-inf", 0.0),
    ]


def test_bars_have_no_logarithmic_axis(lake):
    lake.log_metric("a", "acc", 0.5)
    with pytest.raises(InvalidInputError, match="no axis that can be logarithmic"):
        lake.best("acc", mode="max").plot(log=True)


def test_a_long_leaderboard_says_what_it_leaves_out():
    rows = pa.table(
        {
            "rank": range(1, 101),
            "resource": [f"r{at}" for at in range(100)],
            "metric": ["m"] * 100,
            "value": [float(100 - at) for at in range(100)],
        }
    )
    spec = ranking(rows).to_dict()
    assert len(values_of(spec)) == 50
    assert told(spec) == "the first 50 of 100 resources"


def test_a_run_table_is_parallel_axes(lake):
    for at in range(4):
        lake.log_params(f"run/{at}", {"lr": 10.0**-at, "optimizer": ["adam", "sgd"][at % 2], "same": 1})
        lake.log_metric(f"run/{at}", "acc", at / 4)
    spec = lake.compare(glob("run/*")).plot().to_dict()
    rows = [row for row in values_of(spec) if "c" in row]
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    assert axes == ["params/lr", "params/optimizer", "acc"]
    # A learning rate over decades stands on a logarithmic axis; the colour is the last metric.
    assert [row["y"] for row in rows if row["axis"] == axes[0]] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [row["c"] for row in rows if row["axis"] == axes[0]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert "coloured by acc" in told(spec)
    scattered = lake.compare(glob("run/*")).plot(x="params/lr", y="acc").to_dict()
    assert [(row["x"], row["y"]) for row in points_of(scattered)][:2] == [("1", "0"), ("0.1", "0.25")]


def test_parallel_axes_need_something_that_differs():
    rows = pa.table({"resource": ["a", "b"], "x": [1, 1], "y": [1, 2]})
    with pytest.raises(InvalidInputError, match="fewer than two columns"):
        parallel(rows)


def test_a_query_is_drawn_by_its_columns(lake):
    lake.log_series("run", "m", [1.0, 2.0, 3.0], steps=[0, 1, 2])
    result = lake.sql("select step as x, value as y, metric as kind from metrics order by step")
    spec = result.plot(color="kind").to_dict()
    assert [(row["x"], row["y"], row["c"]) for row in points_of(spec)] == [
        ("0", "1", "m"),
        ("1", "2", "m"),
        ("2", "3", "m"),
    ]
    with pytest.raises(InvalidInputError, match=r"no column 'nothing'.*x, y, kind"):
        result.plot(x="nothing")
    with pytest.raises(InvalidInputError, match=r"cannot be drawn.*two columns"):
        lake.sql("select resource from metrics").plot()
    with pytest.raises(InvalidInputError, match="no numbers"):
        lake.sql("select resource, metric from metrics").plot(x="resource", y="metric")


def test_a_scatter_counts_what_it_cannot_show():
    rows = pa.table({"x": [1, 2, 3, 4], "y": [1.0, math.nan, None, 0.0]})
    assert told(scatter(rows, "x", "y").to_dict()) == "2 rows · 2 rows left out"
    assert told(scatter(rows, "x", "y", log=True).to_dict()) == "1 row · 3 rows left out"
    many = pa.table({"x": range(MAX_POINTS + 1), "y": range(MAX_POINTS + 1)})
    with pytest.raises(InvalidInputError, match="at most 40,000"):
        scatter(many, "x", "y")


# ---- looks -------------------------------------------------------------------------------------------------


def test_a_chart_can_be_dark(lake):
    lake.log_series("run", "m", [1.0, 2.0])
    light = lake.history().plot()
    dark = lake.history().plot(dark=True)
    assert light.to_dict()["config"]["background"] == "#ffffff"
    assert themed(light, dark=True).to_dict()["config"] == dark.to_dict()["config"]
    assert light.to_dict()["config"]["background"] == "#ffffff"


def test_short_labels_stay_different():
    ids = [f"a/{'x' * 50}{at}{'y' * 50}" for at in range(30)]
    labels = short_labels(ids, 20)
    assert len(set(labels)) == 30
    assert all(len(label) <= 20 for label in labels)
    assert short_labels(["same", "same"]) == ["same", "same"]
    assert short_labels(["a/b", "a/b/c"]) == ["b", "b/c"]
    assert short_labels([]) == []
    assert len(set(short_labels(["x\n", "x\t", "x\r"]))) == 3


def test_a_missing_altair_is_told(lake, monkeypatch):
    lake.log_series("run", "m", [1.0, 2.0])
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(InvalidInputError, match=r'pip install "metrics-lake\[plot\]"'):
        lake.history().plot()


def test_a_time_axis_holds_points_between_its_milliseconds(lake):
    for at, run in enumerate(("a", "b", "c")):
        lake.log_series(run, "m", [0.5, 0.75], timestamps=[START + dt.timedelta(microseconds=400 * at)] * 2)
    chart = lake.history(metrics="m").plot(x="timestamp")
    spec = chart.to_dict()
    low, high = spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert (low, high) == (START.timestamp() * 1e3, START.timestamp() * 1e3 + 1)
    places = [float(row["x"]) for row in points_of(spec)]
    assert len(set(places)) == 3
    assert low <= min(places) <= max(places) <= high


def test_a_legend_as_wide_as_its_place_has_as_many_columns_as_fit(lake):
    for run in ("a", "b"):
        lake.log_series(run, "m", [0.5, 0.75])

    def columns(width):
        spec = lake.history(metrics="m").plot(width=width).to_dict()
        return spec["layer"][0]["encoding"]["color"]["legend"]["columns"]

    assert columns("container") == {"expr": "max(1, floor(width / 56.5))"}
    assert columns(600) == 10


def test_times_of_any_year_have_a_place(lake):
    years = [dt.datetime(year, 12, 31, 12, tzinfo=dt.UTC) for year in (1900, 9999)]
    lake.log_series("run", "m", [0.5, 0.75], timestamps=years)
    millis = [each.timestamp() * 1e3 for each in years]
    spec = lake.history("run").plot(x="timestamp").to_dict()
    assert [float(row["x"]) for row in points_of(spec)] == millis
    spec = lake.history("run").plot(x="relative").to_dict()
    assert [float(row["x"]) for row in points_of(spec)] == [0, (years[1] - years[0]).days]
    spec = lake.sql("SELECT timestamp, value FROM metrics ORDER BY value").plot().to_dict()
    assert [float(row["x"]) for row in points_of(spec)] == millis
