import datetime as dt
import json
import math

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from metrics_lake.errors import (
    InvalidInputError,
    NotFoundError,
    TaskAmbiguousError,
    UnsupportedFormatError,
)
from metrics_lake.predictions import (
    STATE_SCHEMA,
    Binary,
    Multiclass,
    PredictionMetrics,
    Regression,
    counting,
    finalize,
    merge_states,
    metric_points,
    passes,
    prediction_state,
    runs,
)
from metrics_lake.predictions import state as states
from metrics_lake.predictions.cells import (
    SCORE_CELLS,
    SCORE_CODES,
    cell_of_key,
    coarsen,
    edges,
    is_infinite_key,
    is_nan_key,
    number_key,
    score_cell,
    score_code,
    step,
)
from metrics_lake.predictions.grouping import aggregate
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.long_tables import SCHEMAS
from metrics_lake.predictions.names import METRICS, base_name
from metrics_lake.predictions.roles import resolve
from metrics_lake.predictions.state import merge_states as merge


def sample(size=2000, seed=0):
    rng = np.random.default_rng(seed)
    s = rng.random(size)
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return pl.DataFrame(
        {
            "s": s,
            "y": rng.random(size) < s,
            "country": rng.choice(["FR", "NO", "JP"], size),
            "device": rng.choice(["phone", "desk"], size),
            "at": pl.Series([start + dt.timedelta(hours=int(h)) for h in rng.integers(0, 24 * 14, size)]),
            "w": rng.random(size),
        }
    )


def value(state, metric, *, segment=None, **options):
    rows = finalize(state, "all", **options).to_pylist()
    found = [
        row["value"]
        for row in rows
        if row["metric"] == metric and dict(row["segment"]) == (segment or {}) and row["window_start"] is None
    ]
    assert len(found) == 1, metric
    return found[0]


# -- schema -----------------------------------------------------------------------------------------------


def integers(dtype):
    if pa.types.is_struct(dtype):
        for field in dtype:
            yield from integers(field)
    elif pa.types.is_list(dtype):
        yield from integers(dtype.value_type)


def count_fields(schema):
    """Give every field called ``n`` and every excluded count, at any depth."""
    for field in schema:
        if field.name in {"n", "null", "nan", "inf", "range", "truth_null", "truth_nan", "truth_inf"}:
            yield field
        inner = field.type
        if pa.types.is_list(inner):
            inner = inner.value_type
        if pa.types.is_struct(inner):
            yield from count_fields(list(inner))


def test_every_count_is_int64():
    counts = list(count_fields(STATE_SCHEMA))
    assert len(counts) == 12
    assert {field.type for field in counts} == {pa.int64()}
    assert {schema["n"] for name, schema in SCHEMAS.items() if name != "ties"} == {pl.Int64}


def test_counts_of_a_pass_are_int64_from_birth():
    roles = resolve(sample(10), score="s")
    groups = aggregate(sample(10).lazy(), roles, pl.lit(1, dtype=pl.Int64), {}, [])
    assert groups.rows.schema["n"] == pl.Int64


def rows_of(state, table, keys):
    """Return a list column of a state as rows, in an order of their own."""
    frame = pl.from_arrow(state).sort("state", "segment_key", "window_start")
    return frame.select("segment_key", "window_start", table).explode(table).unnest(table).sort(
        "segment_key", "window_start", *keys, nulls_last=True
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"by": "country"},
        {"by": [["country", "device"], ["device"]]},
        {"time": "at", "every": "1w", "by": "device"},
        {"by": "country", "weight": "w"},
        {"by": "country", "prediction": "said"},
        {"by": "country", "task": Binary(threshold=[0.3, 0.5, 0.77], out_of_range="exclude")},
        {"by": "country", "truth": None},
        {"by": "country", "truth": "label", "task": Binary(labels=["no", "yes"], out_of_range="exclude")},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "form", [pl.DataFrame, pl.DataFrame.lazy, lambda data: data.to_arrow().to_reader(50)]
)
def test_parts_give_the_state_of_all_rows_at_once(form, options, monkeypatch):
    data = sample(3000).with_columns(
        pl.col("s").round(3),
        said=pl.col("s") > 0.4,
        label=pl.when("y").then(pl.lit("yes")).otherwise(pl.lit("no")),
    )
    row = pl.int_range(pl.len())
    data = data.with_columns(
        s=pl.when(row % 97 == 0).then(None).when(row % 89 == 0).then(float("nan")).otherwise("s"),
        y=pl.when(row % 83 != 0).then("y"),
        country=pl.when(row % 79 != 0).then("country"),
    )
    options = {"score": "s", "truth": "y", **options}
    if "task" in options:
        data = data.with_columns(s=pl.when(row % 73 == 0).then(1.5).otherwise("s"))
    whole = prediction_state(data, **options)
    monkeypatch.setattr(passes, "SLICE_ROWS", 170)
    monkeypatch.setattr(states, "BATCH_ROWS", 170)
    monkeypatch.setattr(counting, "_AT_ONCE", 70)
    assert_same_states(prediction_state(form(data), **options), whole)


def test_what_comes_once_tells_what_is_wrong_without_being_read_again(monkeypatch):
    monkeypatch.setattr(states, "BATCH_ROWS", 10)
    data = pl.DataFrame({"s": [0.5] * 40, "y": [0, 1] * 15 + [0, 2] * 5, "country": map(str, range(40))})
    with pytest.raises(InvalidInputError, match="truth='y' holds labels besides 0 and 1"):
        prediction_state(data.to_arrow().to_reader(5), score="s", truth="y", by="country")
    with pytest.raises(InvalidInputError, match="besides 0 and 1: 2"):
        prediction_state(data.lazy(), score="s", truth="y", by="country")


def test_ids_as_segments_are_refused_where_rows_come_once(monkeypatch):
    data = pl.DataFrame({"s": [0.5] * 70_000, "id": map(str, range(70_000))})
    monkeypatch.setattr(states, "BATCH_ROWS", 40_000)
    with pytest.raises(InvalidInputError, match="by: 'id' holds more than 65,535 values"):
        prediction_state(data.to_arrow().to_reader(), score="s", by="id")


SPREADS = {
    "continuous": pl.col("s"),
    "few values": (pl.col("s") * 20).round() / 20,
    "two values in a cell": pl.when("y").then(0.3).otherwise(0.3 + 2**-20),
    "a value, then another": pl.when(pl.col("row") < 1500).then(0.3).otherwise(0.3 + 2**-20),
    "at the ends": pl.when(pl.col("s") > 0.5).then(1 - pl.col("s") ** 60).otherwise(pl.col("s") ** 60),
    "0, -0 and 1": pl.when(pl.col("s") > 0.6).then(1.0).when(pl.col("s") > 0.3).then(0.0).otherwise(-0.0),
}


@pytest.mark.parametrize("groups", [2, 64])
@pytest.mark.parametrize("spread", SPREADS)
def test_counting_cells_gives_what_hashing_them_does(spread, groups, monkeypatch):
    row = pl.int_range(pl.len())
    data = sample(3000).with_columns(row=row).with_columns(s=SPREADS[spread])
    data = data.with_columns(
        s=pl.when(row % 97 == 0).then(None).otherwise("s"),
        y=pl.when(row % 71 == 0).then(float("nan")).when(row % 83 != 0).then(pl.col("y").cast(pl.Float64)),
        country=pl.when(row % 79 != 0).then("country"),
    )
    options = {"score": "s", "truth": "y", "by": "country"}
    whole = prediction_state(data, **options)
    monkeypatch.setattr(passes, "SLICE_ROWS", 800)
    limits = {"_AT_ONCE": 150, "_WAITING": 90, "_LEARNT": 60, "GROUPS": groups}
    for name, limit in limits.items():
        monkeypatch.setattr(counting, name, limit)
    assert_same_states(prediction_state(data, **options), whole)


def assert_same_states(found, expected):
    """Check that two states hold the same, floats to 1e-12."""
    plain = ["segment_key", "window_start", "n", "excluded", "params", "sum_w"]
    order = [(name, "ascending") for name in plain[:2]]
    heads = [pl.from_arrow(state.sort_by(order).select(plain)) for state in (found, expected)]
    assert_frame_equal(*heads, rel_tol=1e-12, abs_tol=0)
    for table, keys in (
        ("cells", ["cell", "y"]),
        ("ties", ["cell"]),
        ("calib", ["bin", "yhat", "y"]),
        ("moments", ["of"]),
    ):
        rows = [rows_of(state, table, keys) for state in (found, expected)]
        assert_frame_equal(*rows, rel_tol=1e-12, abs_tol=0)


def test_state_has_the_declared_columns_whatever_the_task():
    for data, options in (
        (sample(), {"score": "s", "truth": "y", "by": "country"}),
        ([1.5, 2.5], {"truth": [1.0, 2.0]}),
        (["a"], {"truth": ["b"]}),
        (np.full((3, 3), 1 / 3), {"truth": [0, 1, 2]}),
        ([], {}),
    ):
        assert prediction_state(data, **options).schema == STATE_SCHEMA


def test_state_survives_parquet(tmp_path):
    state = prediction_state(sample(), score="s", truth="y", by="country")
    pq.write_table(state, tmp_path / "state.parquet")
    back = pq.read_table(tmp_path / "state.parquet")
    assert finalize(back).equals(finalize(state))


def test_newer_state_is_refused_and_foreign_table_explained():
    state = prediction_state([1.5])
    newer = state.set_column(state.column_names.index("version"), "version", pa.array([99], pa.int64()))
    with pytest.raises(UnsupportedFormatError, match="version 99"):
        finalize(newer)
    with pytest.raises(InvalidInputError, match="lacks the column 'resource'"):
        finalize(pa.table({"x": [1]}))


# -- plain SQL --------------------------------------------------------------------------------------------


def test_duckdb_merges_states_and_finalises_roc_auc():
    data = sample()
    parts = [prediction_state(data[start::3], score="s", truth="y", by="country") for start in range(3)]
    states = pa.concat_tables(parts)
    sql = merge.__doc__.split("::", 1)[1].split("Raises:")[0]
    with duckdb.connect() as con:
        con.register("states", states)
        found = con.execute(sql).fetchall()[0][0]
    assert found == pytest.approx(value(merge_states(states), "roc_auc"), rel=1e-14)
    assert found == pytest.approx(sk.roc_auc_score(data["y"], data["s"]), abs=1e-4)


# -- cells ------------------------------------------------------------------------------------------------

SCORES = [0.0, 5e-324, 1e-300, 2.0**-1022, 1 / 16 - 2**-60, 1 / 16, 0.1, 0.5, 0.5 - 2**-54, 15 / 16, 0.95,
          1 - 1e-9, 1 - 2**-53, 1.0]  # fmt: skip
NUMBERS = [
    -1.7e308,
    -1e9,
    -1.0,
    -1e-300,
    -5e-324,
    -0.0,
    0.0,
    5e-324,
    1e-9,
    1.0,
    1.0078125,
    127.0,
    1e300,
    1.7e308,
]


@pytest.mark.parametrize("dropped", [0, 1, 4, 7])
@pytest.mark.parametrize("is_score", [True, False])
def test_edges_enclose_the_cell_at_every_resolution(is_score, dropped):
    values = pl.Series("v", SCORES if is_score else NUMBERS)
    cell = score_cell(pl.col("v")).cast(pl.Int64) if is_score else cell_of_key(number_key(pl.col("v")))
    low, high = edges(pl.col("c"), pl.lit(dropped, dtype=pl.Int64), is_score=is_score)
    frame = values.to_frame().with_columns(c=coarsen(cell, pl.lit(dropped, dtype=pl.Int64)))
    frame = frame.with_columns(low=low, high=high)
    assert frame.filter((pl.col("v") < pl.col("low")) | (pl.col("v") > pl.col("high"))).is_empty()
    assert frame.sort("v")["c"].is_sorted()
    if is_score and dropped == 0:
        assert frame["c"].is_between(0, SCORE_CELLS - 1).all()


def test_codes_of_scores_differ_wherever_cells_or_steps_do():
    edge = pl.Series("s", SCORES + [k / 4096 for k in range(4097)] + [k / 60 for k in range(61)])
    near = pl.concat([edge, edge - edge.abs() * 2.0**-53, edge + edge.abs() * 2.0**-52])
    s = pl.col("s")
    bins = step(s * 60.0)
    scores = near.filter(near.is_between(0, 1)).to_frame()
    found = scores.select(code=score_code(s, bins), cell=score_cell(s), bin=bins)
    assert found.group_by("code").agg(pl.col("cell", "bin").n_unique()).select(pl.all().max()).row(0)[1:] == (
        1,
        1,
    )
    assert found["code"].max() < SCORE_CODES


def test_negative_zero_is_a_score_of_zero():
    state = prediction_state([-0.0, 0.0, 1.0], truth=[False, False, True], task="binary")
    assert [(cell["cell"], cell["n"]) for cell in state["cells"][0].as_py()] == [(0, 2), (SCORE_CELLS - 1, 1)]
    assert value(state, "brier") == 0.0


def test_squared_errors_keep_their_digits_at_both_ends():
    small = [1e-12, 3e-9, 2e-5]
    scores, truth = [*small, *(1 - s for s in small)], [False] * 3 + [True] * 3
    errors = [s if not y else 1 - s for s, y in zip(scores, truth, strict=True)]
    found = value(prediction_state(scores, truth=truth, task="binary"), "brier")
    assert found == pytest.approx(math.fsum(e * e for e in errors) / 6, rel=1e-14)
    wrong = prediction_state(scores, truth=[not y for y in truth], task="binary")
    assert value(wrong, "brier") == pytest.approx(math.fsum((1 - e) ** 2 for e in errors) / 6, rel=1e-14)


def test_keys_of_numbers_tell_zeros_together_and_nan_and_infinity_apart():
    values = pl.Series("v", [-0.0, 0.0, math.nan, -math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, None])
    key = number_key(pl.col("v"))
    found = values.to_frame().select(
        cell_of_key(key).alias("c"), nan=is_nan_key(key), inf=is_infinite_key(key)
    )
    assert found["c"].head(2).to_list() == [0, 0]
    assert found["nan"].to_list() == [False] * 2 + [True] * 2 + [False] * 4 + [None]
    assert found["inf"].to_list() == [False] * 4 + [True] * 2 + [False] * 2 + [None]


def test_residual_of_finite_numbers_may_overflow():
    state = prediction_state([1.5e308, 2.0, math.inf], truth=[-1.5e308, 1.5, 0.5])
    assert value(state, "max_error") == math.inf
    assert value(state, "num_ground_truth_observations") == 2
    assert value(state, "residual_p99") == math.inf


def test_states_of_different_resolution_merge_at_the_coarser():
    data = sample()
    fine = [Long.from_arrow(prediction_state(data[start::2], score="s", truth="y")) for start in range(2)]
    coarse = fine[0].with_head(pl.lit(9, dtype=pl.Int64).alias("res"))
    zero = pl.lit(3, dtype=pl.Int64)
    cells = coarse.cells.with_columns(cell=coarsen(pl.col("cell"), zero))
    ties = coarse.ties.with_columns(
        cell=coarsen(pl.col("cell"), zero), value=pl.lit(None, dtype=pl.Float64)
    ).unique()
    coarse = Long.build(
        coarse.head,
        cells=cells.group_by("gid", "cell", "y").agg(pl.col("n").sum()),
        ties=ties,
        calib=coarse.calib,
        moments=coarse.moments,
    )
    merged = merge_states(coarse.to_arrow(), fine[1].to_arrow())
    assert merged.column("res").to_pylist() == [9]
    rows = {row["metric"]: row for row in finalize(merged).to_pylist() if row["label"] is None}
    truth = sk.roc_auc_score(data["y"], data["s"])
    assert abs(rows["roc_auc"]["value"] - truth) <= rows["roc_auc"]["bound"] < 2e-3
    assert rows["log_loss"]["value"] == pytest.approx(sk.log_loss(data["y"], data["s"]), rel=1e-12)


# -- segments and windows ---------------------------------------------------------------------------------


def test_segments_are_those_of_the_filtered_data_and_the_total_is_there():
    data = sample()
    state = prediction_state(data, score="s", truth="y", by=[["country"], ["country", "device"]])
    assert state.num_rows == 1 + 3 + 6
    for country in ("FR", "NO", "JP"):
        own = prediction_state(data.filter(country=country), score="s", truth="y")
        assert value(state, "roc_auc", segment={"country": country}) == value(own, "roc_auc")
    assert value(state, "num_predictions") == 2000


def test_stored_segments_roll_up_to_fewer_columns():
    data = sample()
    fine = prediction_state(data, score="s", truth="y", by=["country", "device"])
    coarse = prediction_state(data, score="s", truth="y", by="device")
    for device in ("phone", "desk"):
        segment = {"device": device}
        found = value(fine, "log_loss", segment=segment, by="device")
        assert found == pytest.approx(value(coarse, "log_loss", segment=segment), rel=1e-12)
    assert finalize(fine, by=None).column("segment").to_pylist()[0] == []
    with pytest.raises(NotFoundError, match="Stored are 'country', 'device'"):
        finalize(fine, by="browser")


def test_days_roll_up_to_weeks_and_to_the_total():
    data = sample()
    days = prediction_state(data, score="s", truth="y", time="at", every="1d")
    weeks = prediction_state(data, score="s", truth="y", time="at", every="1w")
    assert days.num_rows == 14

    def auc(table):
        return [
            (row["window_start"], row["window_end"], row["value"])
            for row in table.to_pylist()
            if row["metric"] == "log_loss"
        ]

    found, expected = auc(finalize(days, every="1w")), auc(finalize(weeks))
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], rel=1e-12)
    total = auc(finalize(days, every=None))
    assert total[0][:2] == (None, None)
    assert total[0][2] == pytest.approx(sk.log_loss(data["y"], data["s"]), rel=1e-12)
    with pytest.raises(InvalidInputError, match="does not fit"):
        finalize(weeks, every="3d")


def test_naive_times_are_utc_and_rows_without_a_time_count_in_the_total_only():
    data = pl.DataFrame(
        {"p": ["a", "b", "a"], "t": [dt.datetime(2026, 1, 1, 23), None, dt.datetime(2026, 1, 2)]}  # noqa: DTZ001 -- naive
    )
    state = prediction_state(data, prediction="p", time="t", every="1d")
    rows = [row for row in finalize(state).to_pylist() if row["metric"] == "num_predictions"]
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert [(row["window_start"], row["value"]) for row in rows] == [
        (None, 3.0),
        (day, 1.0),
        (day + dt.timedelta(days=1), 1.0),
    ]


def test_segment_values_of_any_type_are_text():
    data = {"p": ["a"] * 4, "i": [1, 2, 2, None], "b": [True, False, None, True]}
    state = prediction_state(data, prediction="p", by=[["i"], ["b"]])
    keys = sorted(state.column("segment_key").to_pylist())
    assert keys == ["", '{"b":""}', '{"b":"false"}', '{"b":"true"}', '{"i":""}', '{"i":"1"}', '{"i":"2"}']


def test_many_segments_beyond_16_bits():
    size = 70_000
    state = prediction_state(
        {"s": np.full(size, 0.5), "g": [f"g{i}" for i in range(size)]}, score="s", by="g"
    )
    assert state.num_rows == size + 1


# -- parts ------------------------------------------------------------------------------------------------


def test_same_part_replaces_as_a_whole_and_parts_add():
    first = prediction_state({"p": ["a", "b"], "c": ["x", "y"]}, prediction="p", by="c", part="1")
    again = prediction_state({"p": ["a"], "c": ["x"]}, prediction="p", by="c", part="1")
    other = prediction_state({"p": ["b"], "c": ["x"]}, prediction="p", by="c", part="2")
    merged = merge_states(first, other, again)
    assert value(merged, "num_predictions") == 2
    assert sorted(merged.column("segment_key").to_pylist()) == ["", '{"c":"x"}']
    assert json.loads(merged.column("params")[0].as_py())["parts"] == ["1", "2"]
    with pytest.raises(InvalidInputError, match="part '2' is in two"):
        merge_states(merged, other)


def test_newest_writing_of_a_part_stands_whatever_the_order():
    def at(table, second):
        stamp = pa.array([dt.datetime(2026, 1, 1, 0, 0, second, tzinfo=dt.UTC)] * table.num_rows)
        return table.set_column(
            table.column_names.index("created"), "created", stamp.cast(pa.timestamp("us", "UTC"))
        )

    old = at(prediction_state(["a", "a"], part="1"), 1)
    new = at(prediction_state(["a"], part="1"), 2)
    for tables in ((old, new), (new, old)):
        assert value(merge_states(*tables), "num_predictions") == 1


def test_what_does_not_fit_together_is_not_merged():
    data = sample(100)
    one = prediction_state(data, score="s", truth="y")
    with pytest.raises(InvalidInputError, match="threshold"):
        merge_states(one, prediction_state(data, score="s", truth="y", task=Binary(threshold=0.3)))
    whole = prediction_state([1, 2])
    fractions = prediction_state([1.5, 2.0])
    assert merge_states(whole, fractions).column("task").to_pylist() == ["regression"]


def test_weighted_and_unweighted_states_merge():
    data = sample(500)
    left = prediction_state(data[:200], score="s", truth="y")
    right = prediction_state(data[200:], score="s", truth="y", weight="w")
    weights = np.r_[np.ones(200), data["w"][200:].to_numpy()]
    expected = sk.log_loss(data["y"], data["s"], sample_weight=weights)
    assert value(merge_states(left, right), "log_loss") == pytest.approx(expected, rel=1e-12)


def test_exact_values_do_not_survive_a_merge():
    data = sample(300)
    parts = [prediction_state(data[i::2], score="s", truth="y", by="country", exact=True) for i in range(2)]
    rows = {row["metric"]: row for row in finalize(parts[0]).to_pylist() if not row["segment"]}
    assert rows["roc_auc"]["method"] == "exact"
    assert rows["roc_auc"]["bound"] == 0
    rows = {row["metric"]: row for row in finalize(merge_states(*parts)).to_pylist() if not row["segment"]}
    assert rows["roc_auc"]["method"] == "cells, DeLong"
    with pytest.raises(InvalidInputError, match="read only once"):
        prediction_state(data.to_arrow().to_reader(), score="s", truth="y", exact=True)


# -- which column is what ---------------------------------------------------------------------------------


def test_prediction_column_is_found():
    frame = pl.DataFrame({"p": ["a"], "t": ["a"]})
    assert prediction_state(frame, truth="t").column("column").to_pylist() == ["p"]
    frame = pl.DataFrame({"prediction": ["a"], "other": ["a"]})
    assert prediction_state(frame).column("column").to_pylist() == ["prediction"]
    frame = pl.DataFrame({"s": [0.5], "id": [7]})
    assert prediction_state(frame, score="s").column("column").to_pylist() == ["s"]


def test_floats_of_a_binary_task_are_scores():
    rows = value(prediction_state([0.2, 0.9], task="binary", truth=[False, True]), "roc_auc")
    assert rows == 1.0


def test_labels_decide_where_scores_and_labels_are_given():
    data = {"s": [0.9, 0.9, 0.1], "prediction": [False, True, True], "y": [False, True, True]}
    state = prediction_state(data, score="s", truth="y")
    assert value(state, "accuracy") == 1.0
    assert value(state, "roc_auc") == 0.25


def test_string_labels_with_a_positive_class():
    data = {"s": [0.9, 0.2, 0.6], "y": ["yes", "no", "no"]}
    state = prediction_state(data, score="s", truth="y", task=Binary(pos_label="yes"))
    found = PredictionMetrics(finalize(state), state)
    assert found["roc_auc"] == 1.0
    assert found["class_distribution"] == {"no": pytest.approx(1 / 3), "yes": pytest.approx(2 / 3)}
    assert found["precision"] == 0.5


def test_integer_and_float_labels_of_a_binary_score():
    for truth in ([1, 0, 1], [1.0, 0.0, 1.0], [True, False, True]):
        assert value(prediction_state([0.9, 0.2, 0.6], task="binary", truth=truth), "f1") == 1.0


def test_array_column_of_scores():
    frame = pl.DataFrame(
        {"s": [[0.9, 0.1], [0.2, 0.8]], "y": [0, 1]}, schema_overrides={"s": pl.Array(pl.Float64, 2)}
    )
    assert value(prediction_state(frame, score="s", truth="y"), "accuracy") == 1.0


@pytest.mark.parametrize("weight", [{}, {"weight": "w"}])
def test_errors_relative_to_truths_that_are_all_0_are_null_and_say_why(weight):
    frame = pl.DataFrame({"p": [0.5, -0.25], "y": [0.0, -0.0], "w": [1.0, 2.0]})
    found = finalize(prediction_state(frame, prediction="p", truth="y", task="regression", **weight))
    told = {row["metric"]: row for row in found.to_pylist()}
    for name in ("mape", "wape"):
        assert (told[name]["value"], told[name]["reason"]) == (None, "every truth is 0")
    assert told["smape"]["value"] == 2.0


def test_fractions_mean_regression_and_may_come_late():
    assert value(prediction_state([1.5, 2.0], truth=[1.0, 2.0]), "mae") == 0.25
    late = pl.Series([float(i) for i in range(20_000)] + [0.5])
    assert prediction_state(late, truth=late).column("task").to_pylist() == ["regression", "regression"]


def test_class_scores_of_named_columns():
    frame = pl.DataFrame({"p_cat": [0.9, 0.2], "p_dog": [0.1, 0.8], "y": ["cat", "dog"]})
    state = prediction_state(frame, score={"cat": "p_cat", "dog": "p_dog"}, truth="y")
    found = PredictionMetrics(finalize(state), state)
    assert found["class_distribution"] == {"cat": 0.5, "dog": 0.5}
    assert found["accuracy"] == 1.0


ERRORS = {
    "no such column": (lambda: prediction_state(sample(5), score="score_"), "Did you mean|columns are 's'"),
    "near name": (lambda: prediction_state(sample(5), score="s", by="contry"), "Did you mean 'country'"),
    "no column left": (lambda: prediction_state({"y": [1]}, truth="y"), "no column left"),
    "not clear": (lambda: prediction_state({"a": [1], "b": [2]}), "not clear which column"),
    "lengths": (lambda: prediction_state(["a"], truth=["a", "b"]), r"truth has 2 values .* 1 rows"),
    "range": (
        lambda: prediction_state([0.5, 1.5], task="binary"),
        r"1 values outside \[0, 1\]: from 1.5 to 1.5",
    ),
    "unknown labels": (
        lambda: prediction_state(["a", "x"], task=Multiclass(labels=["a", "b"])),
        "not in labels: 'x'",
    ),
    "unknown binary labels": (
        lambda: prediction_state([0.5], task="binary", truth=[2]),
        "besides 0 and 1: 2",
    ),
    "third label": (
        lambda: prediction_state([0.5] * 3, task=Binary(pos_label="a"), truth=["a", "b", "c"]),
        "binary and the data hold 3 labels",
    ),
    "no positive class": (lambda: prediction_state([0.5], task="binary", truth=["a"]), r"Binary\(pos_label="),
    "unknown class": (
        lambda: prediction_state(np.array([[0.5, 0.5]]), truth=[2]),
        "no score column stands for: '2'",
    ),
    "number of labels": (
        lambda: prediction_state(np.array([[0.5, 0.5]]), task=Multiclass(labels=[1, 2, 3])),
        "3 classes and there are 2 score columns",
    ),
    "types": (lambda: prediction_state([1, 2], truth=["1", "2"], task="multiclass"), "never be equal"),
    "numbers and strings": (lambda: prediction_state([0.1], truth=["a"]), "holds numbers and truth"),
    "task": (lambda: prediction_state([1], task="regresion"), "Did you mean 'regression'"),
    "regression of strings": (lambda: prediction_state(["a"], task="regression"), "needs numbers"),
    "regression of scores": (
        lambda: prediction_state({"s": [0.5]}, score="s", task=Regression()),
        "task='regression'",
    ),
    "threshold": (lambda: Binary(threshold=1.5), r"threshold=1.5 is not a number in \[0, 1\]"),
    "labels of binary": (lambda: Binary(labels=["a"]), "1 classes and Binary has two"),
    "pos_label": (lambda: Binary(labels=["a", "b"], pos_label="c"), "not one of labels"),
    "every alone": (lambda: prediction_state(sample(5), score="s", every="1d"), "time is missing"),
    "every": (lambda: prediction_state(sample(5), score="s", time="at", every="daily"), "not the length"),
    "time": (lambda: prediction_state(sample(5), score="s", time="w", every="1d"), "not times"),
    "segment name": (
        lambda: prediction_state({"p": ["a"], "label": ["b"]}, prediction="p", by="label"),
        "tag of the points",
    ),
    "segment type": (lambda: prediction_state(sample(5), score="s", by="w"), "no small set"),
    "weights": (
        lambda: prediction_state({"p": ["a"], "w": [-1.0]}, prediction="p", weight="w"),
        "1 weights are null",
    ),
    "truth of lazy": (
        lambda: prediction_state(pl.LazyFrame({"p": ["a"]}), truth=["a"]),
        "lazy or come from a reader",
    ),
    "metric name": (lambda: finalize(prediction_state([1.5]), ["roc_auk"]), "Did you mean 'roc_auc'"),
    "bins": (lambda: finalize(prediction_state([1.5]), bins=7), "does not divide"),
    "confidence": (lambda: finalize(prediction_state([1.5]), confidence=95), "confidence=95"),
    "reference": (
        lambda: finalize(prediction_state([1.5]), reference=prediction_state(["a"])),
        "no state of 'numbers'",
    ),
    "id as label": (lambda: prediction_state([f"{i}" for i in range(100_001)]), "looks like ids"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_says_which_argument_and_what_to_pass(case):
    call, message = ERRORS[case]
    with pytest.raises((InvalidInputError, NotFoundError), match=message) as caught:
        call()
    assert caught.value.hint


def test_whole_numbers_with_a_truth_are_ambiguous():
    for data, truth in (([1, 2], [1, 2]), ([1.0, 2.0], [1, 2])):
        with pytest.raises(TaskAmbiguousError) as caught:
            prediction_state(data, truth=truth)
        assert caught.value.choices == ("regression", "binary", "multiclass")
    with pytest.raises(TaskAmbiguousError, match="reader"):
        prediction_state(pa.table({"p": [1.0], "t": [1.0]}).to_reader(), truth="t")


def test_scores_outside_the_range_can_be_left_out_and_counted():
    state = prediction_state([0.5, 1.5, -0.1], task=Binary(out_of_range="exclude"))
    found = PredictionMetrics(finalize(state), state)
    assert found.excluded["out_of_range"] == 2
    assert found["score_mean"] == 0.5


def test_zero_division_is_shown_or_refused():
    state = prediction_state([0.1, 0.2], task="binary", truth=[False, False])
    rows = {row["metric"]: row for row in finalize(state).to_pylist() if row["label"] is None}
    assert (rows["precision"]["value"], rows["precision"]["method"]) == (0.0, "zero_division")
    rows = {
        row["metric"]: row for row in finalize(state, zero_division=None).to_pylist() if row["label"] is None
    }
    assert (rows["precision"]["value"], rows["precision"]["reason"]) == (None, "its denominator is 0")


def test_every_metric_is_in_the_table_of_names():
    data = sample(100)
    reference = prediction_state(data, score="s")
    found = set()
    for state, ref in (
        (prediction_state(data, score="s", truth="y", task=Binary(threshold=[0.3, 0.5])), reference),
        (prediction_state([1.5, 2], truth=[1.0, 2]), None),
        (prediction_state(np.full((3, 3), 1 / 3), truth=[0, 1, 2]), None),
    ):
        found |= set(finalize(state, "all", reference=ref).column("metric").to_pylist())
    assert {name for name in found if base_name(name) not in METRICS} == set()


def test_chosen_metrics_only():
    state = prediction_state(sample(100), score="s", truth="y", task=Binary(threshold=[0.3, 0.5]))
    names = set(finalize(state, ["roc_auc", "f1@0.5", "score_p"]).column("metric").to_pylist())
    assert {"roc_auc", "f1@0.5", "score_p50"} <= names
    assert "f1" not in names
    assert "log_loss" not in names


# -- points -----------------------------------------------------------------------------------------------


def points_of(state, **options):
    return metric_points(finalize(state, options.pop("metrics", "default")), state, **options)


def test_points_carry_segments_labels_and_windows():
    data = sample(300)
    state = prediction_state(data, score="s", truth="y", by="country", time="at", every="1w")
    points = points_of(state, every="1w")
    total = {point.metric: point for point in points if not point.tags}
    assert total["num_predictions"].value == 300
    assert isinstance(total["num_predictions"].value, int)
    assert total["roc_auc"].timestamp is None
    assert set(total["class_distribution"].value) == {True, False}
    table = total["confusion"].value
    assert table["labels"] == [False, True]
    assert table["rows"] == sk.confusion_matrix(data["y"], data["s"] >= 0.5).tolist()
    tags = {tuple(sorted(point.tags.items())) for point in points}
    assert (("country", "FR"),) in tags
    assert (("country", "FR"), ("every", "1w")) in tags
    windowed = [point for point in points if "every" in point.tags]
    assert {point.timestamp.weekday() for point in windowed} == {0}


def test_points_of_several_classes_carry_the_label():
    state = prediction_state(
        np.array([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7]]), truth=[0, 1, 1], task="multiclass"
    )
    points = points_of(state)
    recall = {point.tags.get("label"): point.value for point in points if point.metric == "recall"}
    assert recall == {None: 1.0, "0": 1.0, "1": 1.0}


def test_points_of_nothing_are_one():
    assert [(point.metric, point.value) for point in points_of(prediction_state([]))] == [
        ("num_predictions", 0)
    ]


def test_metric_without_a_value_is_none_and_says_why():
    state = prediction_state([0.5, 0.6], task="binary", truth=[True, True])
    found = PredictionMetrics(finalize(state), state)
    assert found["roc_auc"] is None
    assert found.reason("roc_auc") == "the truth has one class only"
    assert {point.metric: point.value for point in points_of(state)}["roc_auc"] is None


def test_prediction_metrics_is_a_mapping_with_a_frame():
    state = prediction_state([0.5, 0.6], task="binary", truth=[True, False])
    found = PredictionMetrics(finalize(state), state)
    assert dict(found)["num_predictions"] == 2
    assert "roc_auc" in found
    assert (found.task, found.n) == ("binary", 2)
    assert found.to_frame().height == found.table.num_rows
    assert "roc_auc=0" in repr(found)
    with pytest.raises(KeyError, match="Did you mean 'roc_auc'"):
        found["roc_auk"]


def test_a_truth_without_any_label_is_one_that_is_not_known_yet():
    state = prediction_state({"p": [0.1, 0.9], "y": [None, None]}, score="p", truth="y")
    found = {row["metric"]: row for row in finalize(state).to_pylist()}
    assert found["num_predictions"]["value"] == 2
    assert found["num_ground_truth_observations"]["value"] == 0
    known = prediction_state({"p": [0.2, 0.8], "y": [False, True]}, score="p", truth="y")
    merged = {row["metric"]: row["value"] for row in finalize(merge_states(state, known)).to_pylist()}
    assert merged["num_ground_truth_observations"] == 2
    assert merged["roc_auc"] == 1.0


# -- runs of places ---------------------------------------------------------------------------------------


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([-(1 << 18), -2, 0, 1, 264_447]),
            st.sampled_from([None, 0, 1]),
            st.integers(1, 1 << 40),
            st.sampled_from([None, 0.5, 3.0]),
            st.sampled_from([None, -1.5, 0.25]),
        )
    )
)
def test_runs_merge_cells_as_groups_of_their_columns_do(rows):
    kinds = {"gid": pl.Int64, "cell": pl.Int64, "y": pl.Int8, "n": pl.Int64, "sum_w": pl.Float64}
    frame = pl.DataFrame(rows, schema={**kinds, "value": pl.Float64}, orient="row")
    for cells in (frame, frame.with_columns(sum_w=pl.lit(None, dtype=pl.Float64))):
        keys = ["gid", "cell", "y"]
        grouped = cells.group_by(keys).agg(pl.col("n").sum(), runs.weight_sum(pl.col("n")))
        expected = grouped.select(*kinds).sort(keys, nulls_last=False)
        assert_frame_equal(runs.merged_cells(cells.select(*kinds)), expected)
    value = pl.col("value")
    ties = frame.group_by("gid", "cell").agg(
        value=pl.when(value.null_count() == 0, value.n_unique() == 1).then(value.first())
    )
    assert_frame_equal(runs.merged_ties(frame.select(ties.columns)), ties.sort("gid", "cell"))


NUMBERS_OF_EVERY_KIND = {
    "scores": (sample(600), {"score": "s", "truth": "y", "by": "country", "time": "at", "every": "1w"}),
    "weighted scores": (sample(600), {"score": "s", "truth": "y", "weight": "w", "by": "country"}),
    "labels": (["a", "b", "a", "c"], {"truth": ["a", "b", "b", "c"]}),
    "classes": (np.eye(3)[[0, 1, 2, 2]] * 0.7 + 0.1, {"truth": [0, 1, 2, 0]}),
    "numbers": ([1, 2, 2, 5], {}),
    "residuals": ([1.5, 2.5, 4.0, 0.5], {"truth": [1.0, 2.0, 5.0, 0.0]}),
}


@pytest.mark.parametrize("kind", NUMBERS_OF_EVERY_KIND)
def test_a_metric_asked_for_alone_is_what_it_is_among_all(kind):
    data, options = NUMBERS_OF_EVERY_KIND[kind]
    state = prediction_state(data, **options)
    together = finalize(state, "all")
    for name in together["metric"].unique().to_pylist():
        alone = finalize(state, [name])
        expected = together.filter(pc.equal(together["metric"], name))
        assert_frame_equal(pl.from_arrow(alone), pl.from_arrow(expected), rel_tol=1e-12, abs_tol=0)
