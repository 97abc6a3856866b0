"""``append``: a table of points in, the lake's columns out, exactly; wrong tables are refused whole."""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from metrics_lake.errors import InvalidInputError
from metrics_lake.points import Numbers, Point, point_rows, points_table, series_rows, stamped_rows
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.values import decode

CLOCK = 1_767_225_600_000_000
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def rows_of(**columns):
    return point_rows({"resource": ["r"], "metric": ["m"], "value": [1.0], **columns}, CLOCK).to_pylist()


def value_of(column):
    (row,) = rows_of(value=column)
    return decode(row["kind"], row["value"], row["text"])


def test_the_smallest_table():
    assert rows_of() == [
        {
            "resource": "r",
            "metric": "m",
            "step": None,
            "timestamp": NOW,
            "value": 1.0,
            "kind": "float",
            "text": None,
            "tags": None,
            "tags_key": "",
            "origin": None,
        }
    ]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, id=f"{number}-{value.type}")
        for number, value in enumerate(
            (
                pa.array([-0.0]),
                pa.array([math.inf]),
                pa.array([0.5], pa.float32()),
                pa.array([0.5], pa.float16()),
                pa.array([7], pa.int8()),
                pa.array([2**53 + 1]),
                pa.array([2**64 - 1], pa.uint64()),
                pa.array([True]),
                pa.array([None], pa.null()),
                pa.array([None], pa.float64()),
                pa.array([None], pa.string()),
                pa.array(["é\0"]),
                pa.array([""]),
                pa.array(["x"], pa.large_string()),
                pa.array(["x"], pa.string_view()),
                pa.array([b"\xff"]),
                pa.array([Decimal("1.50")]),
                pa.array([[1, None]]),
                pa.array([{"a": 1.5}]),
                pa.array([NOW]),
            )
        )
    ],
)
def test_values_come_back_with_their_type(value):
    expected = value[0].as_py()
    found = value_of(value)
    assert type(found) is type(expected)
    assert found == expected
    if isinstance(expected, float):
        assert math.copysign(1, found) == math.copysign(1, expected)


def test_nulls_stand_beside_values():
    rows = point_rows(
        {"resource": ["r"] * 3, "metric": ["m"] * 3, "value": [1, None, 2**60]}, CLOCK
    ).to_pylist()
    assert [decode(row["kind"], row["value"], row["text"]) for row in rows] == [1, None, 2**60]


def test_kind_and_text_as_another_lake_stored_them():
    (row,) = rows_of(value=pa.array([9.007199254740992e15]), kind=["int"], text=["9007199254740993"])
    assert decode(row["kind"], row["value"], row["text"]) == 2**53 + 1


@pytest.mark.parametrize(
    "make",
    [
        lambda columns: pa.table(columns),
        lambda columns: pa.RecordBatch.from_pydict(columns),
        lambda columns: pa.table(columns).to_reader(),
        pl.DataFrame,
        lambda columns: pl.DataFrame(columns).lazy(),
        pd.DataFrame,
        dict,
    ],
    ids=["table", "batch", "reader", "polars", "lazy", "pandas", "dict"],
)
def test_tables_of_all_sorts(make):
    table = point_rows(
        make({"resource": ["a", "b"], "metric": ["x", "y"], "value": [1.5, 2.5], "step": [1, 2]}), CLOCK
    )
    assert table.column("value").to_pylist() == [1.5, 2.5]
    assert table.column("resource").to_pylist() == ["a", "b"]
    assert table.column("step").to_pylist() == [1, 2]
    schema = arrow_schema(METRICS)
    assert all(table.schema.field(name).type == schema.field(name).type for name in table.schema.names)


def test_tags_are_canonical():
    maps = pa.array([[("b", "2"), ("a", "x")]], pa.map_(pa.string(), pa.string()))
    assert rows_of(tags=maps)[0]["tags"] == [("a", "x"), ("b", "2")]
    assert rows_of(tags=maps)[0]["tags_key"] == '{"a":"x","b":"2"}'
    (row,) = rows_of(tags=[{"fold": 3, "final": True, "absent": None}])
    assert row["tags"] == [("final", "true"), ("fold", "3")]
    assert rows_of(tags=[{}])[0]["tags"] is None
    assert rows_of(tags=pa.array([None], pa.map_(pa.string(), pa.string())))[0]["tags_key"] == ""


def test_times():
    assert rows_of(timestamp=[NOW])[0]["timestamp"] == NOW
    assert rows_of(timestamp=[1.5])[0]["timestamp"] == dt.datetime(1970, 1, 1, 0, 0, 1, 500_000, dt.UTC)
    assert rows_of(timestamp=[2])[0]["timestamp"] == dt.datetime(1970, 1, 1, 0, 0, 2, tzinfo=dt.UTC)
    assert rows_of(timestamp=pa.array([None], pa.float64()))[0]["timestamp"] == NOW
    assert rows_of(timestamp=pa.array([None], pa.timestamp("ns", "UTC")))[0]["timestamp"] == NOW
    nanos = pa.array([1_999], pa.timestamp("ns", "Europe/Oslo"))
    assert rows_of(timestamp=nanos)[0]["timestamp"] == dt.datetime(1970, 1, 1, microsecond=1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"resource": ["r", None], "metric": ["m"] * 2, "value": [1.0] * 2}, "nulls"),
        ({"resource": [1]}, "'resource' is int64"),
        ({"resource": [""]}, "empty"),
        ({"metric": ["x" * 4097]}, "4,097"),
        ({"metric": ["x\ud800"]}, "Arrow"),
        ({"step": [1.5]}, "step"),
        ({"step": [True]}, "step"),
        ({"step": ["1"]}, "step"),
        ({"step": [math.nan]}, "step"),
        ({"step": pa.array([2**63], pa.uint64())}, "step"),
        ({"timestamp": [dt.datetime(2026, 1, 1)]}, "no time zone"),  # noqa: DTZ001 -- the mistake
        ({"timestamp": ["2026-01-01"]}, "timestamp"),
        ({"timestamp": [dt.date(2026, 1, 1)]}, "timestamp"),
        ({"timestamp": [1_700_000_000_000]}, "1900 to 9999"),
        ({"timestamp": [2**62]}, "1900 to 9999"),
        ({"timestamp": [1e300]}, "1900 to 9999"),
        ({"timestamp": [-1e300]}, "1900 to 9999"),
        ({"timestamp": [math.nan]}, "NaN"),
        ({"timestamp": [-math.inf]}, "NaN or inf"),
        ({"tags": ["a"]}, "tags"),
        ({"tags": [{"a": 1.5}]}, "tag"),
        ({"tags": [{"a": [1]}]}, "tags"),
        ({"tags": pa.array([[("a", None)]], pa.map_(pa.string(), pa.string()))}, "tag"),
        ({"tags": pa.array([[("a", "1"), ("a", "2")]], pa.map_(pa.string(), pa.string()))}, "twice"),
        ({"value": [2**70]}, "Arrow"),
        ({"value": [1, "a"]}, "Arrow"),
        ({"value": [object()]}, "Arrow"),
        ({"valeu": [1.0]}, "Did you mean 'value'"),
        ({"kind": ["float"]}, "come together"),
        ({"kind": ["no such kind"], "text": ["x"]}, "no stored type"),
        ({"kind": ["float"], "text": ["x"], "value": ["1"]}, "beside 'kind'"),
    ],
)
def test_a_wrong_column_is_refused(columns, says):
    with pytest.raises(InvalidInputError, match=says):
        rows_of(**columns)


@pytest.mark.parametrize("table", [None, 1, "a", [1], range(3), {"resource": ["r"], "value": [1.0]}])
def test_what_is_no_table_of_points_is_refused(table):
    with pytest.raises(InvalidInputError):
        point_rows(table, CLOCK)


def test_two_columns_of_one_name_are_refused():
    table = pa.table([["r"], ["m"], [1.0], [2.0]], names=["resource", "metric", "value", "value"])
    with pytest.raises(InvalidInputError, match="two columns"):
        point_rows(table, CLOCK)


def test_no_rows():
    empty = pa.table(
        {"resource": pa.array([], pa.string()), "metric": pa.array([], pa.string()), "value": []}
    )
    assert point_rows(empty, CLOCK).num_rows == 0
    assert stamped_rows(METRICS, point_rows(empty, CLOCK), "w").schema.equals(arrow_schema(METRICS))


def test_points_of_one_call():
    table = points_table(
        [Point(("r", "a", ""), 0, -0.0, None), Point(("r", "b", ""), 3, None, None)], CLOCK, 4
    )
    assert [repr(value) for value in table.column("value").to_pylist()] == ["-0.0", "None"]
    assert table.column("kind").to_pylist() == ["float", "null"]
    assert table.column("step").to_pylist() == [4, 4]
    assert "writer" not in table.column_names


def test_a_series_of_anything():
    steps = struct.pack("<3q", 2, 1, 0)
    table = series_rows(("r", "m", ""), [1, "a", None], steps, None, CLOCK)
    rows = table.to_pylist()
    assert [decode(row["kind"], row["value"], row["text"]) for row in rows] == [1, "a", None]
    assert [row["step"] for row in rows] == [2, 1, 0]
    numbers = series_rows(
        ("r", "m", ""), Numbers(0, struct.pack("<d", -0.0)), steps[:8], struct.pack("<q", 9), CLOCK
    )
    assert repr(numbers.column("value")[0].as_py()) == "-0.0"
    assert numbers.column("timestamp").cast(pa.int64())[0].as_py() == 9


def test_stamped_rows_are_the_observations_of_their_writer():
    table = stamped_rows(METRICS, points_table([Point(("r", "a", ""), 0, 1.0, None)] * 3, CLOCK, None), "w")
    assert table.schema.equals(arrow_schema(METRICS))
    assert table.column("seq").to_pylist() == [0, 1, 2]
    assert set(table.column("writer").to_pylist()) == {"w"}


def test_all_columns_that_an_export_has_beside_are_named_at_once():
    with pytest.raises(InvalidInputError, match=r"'writer', 'seq', 'origin'\. Drop them"):
        rows_of(writer=["w"], seq=[0], origin=[None])
    with pytest.raises(InvalidInputError, match=r"'tags_key'\. Drop them"):
        rows_of(tags_key=[""])
    with pytest.raises(InvalidInputError, match=r"'stp', 'foo'\. Did you mean 'step'"):
        rows_of(stp=[1], foo=[2])
