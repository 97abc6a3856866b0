"""Columns of many values: exact kinds, exact numbers, and no guess at what is no column."""

from __future__ import annotations

import collections
import datetime as dt
import math
import struct
from array import array

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from metrics_lake.errors import InvalidInputError
from metrics_lake.points import int64_column, numbers_of, timestamp_column, values_of
from metrics_lake.values import KINDS


def doubles(data):
    return list(struct.unpack(f"<{len(data) // 8}d", data))


def int64s(data):
    return list(struct.unpack(f"<{len(data) // 8}q", data))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.5, -0.0, math.inf], "float"),
        ((1, -(2**53), 2**53), "int"),
        ([True, False], "bool"),
        (np.array([1, 2], "int8"), "np.int8"),
        (np.array([1, 2], ">i8"), "np.int64"),
        (np.array([True, False]), "np.bool"),
        (np.array([0.1, -0.0], "float16"), "np.float16"),
        (np.array([0.1, 1e38], "float32"), "np.float32"),
        (np.array([0.1, 5e-324]), "np.float64"),
        (np.array([0.1, 2.0], ">f8"), "np.float64"),
        (np.arange(10)[::3], "np.int64"),
    ],
)
def test_numbers_of_one_kind(values, kind):
    found = numbers_of(values)
    assert KINDS[found.kind] == kind
    expected = [float(value) for value in values]
    assert doubles(found.data) == expected
    assert [math.copysign(1, value) for value in doubles(found.data)] == [
        math.copysign(1, v) for v in expected
    ]


def test_nan_is_a_number():
    assert math.isnan(doubles(numbers_of([math.nan]).data)[0])
    assert math.isnan(doubles(numbers_of(np.array([math.nan])).data)[0])


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1, 1.0],
        [True, 1],
        [1.0, None],
        [2**53 + 1],
        [-(2**53) - 1],
        ["a"],
        np.array([2**53 + 1]),
        np.array([2**64 - 1], "uint64"),
        np.array(["a"]),
        np.array([]),
        np.array(3.0),
        np.array([[1.0]]),
        np.array([1], "M8[s]"),
        np.array([1j]),
        np.array([1.0], np.longdouble),
        np.ma.array([1.0, 2.0], mask=[True, False]),
        np.float64(3.0),
        range(3),
    ],
)
def test_what_needs_to_be_looked_at_one_by_one(values):
    assert numbers_of(values) is None


class FloatChild(float):
    pass


def test_subclasses_are_not_taken_for_their_base():
    assert numbers_of([FloatChild(1.0)]) is None
    assert numbers_of([np.float64(1.0)]) is None


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        ((n for n in (1.5, None)), [1.5, None]),
        (pa.array([1, None]), [1, None]),
        (pa.chunked_array([[1], [2]]), [1, 2]),
        (pl.Series([1.5, None]), [1.5, None]),
        (pd.Series([1, 2]), [1, 2]),
        (array("d", [1.0]), [1.0]),
        (memoryview(b"ab"), [97, 98]),
        (collections.deque([1]), [1]),
        (np.ma.array([1.0, 2.0], mask=[True, False]), [None, 2.0]),
    ],
)
def test_columns_of_all_sorts(column, values):
    found = values_of(column, "values")
    assert list(found) == values
    assert [type(item) for item in found] == [type(item) for item in values]


@pytest.mark.parametrize(
    "column",
    [
        "ab",
        b"ba",
        {"a": 1},
        {1, 2},
        frozenset(),
        {}.keys(),
        1,
        None,
        np.float64(3.0),
        np.array(3.0),
        np.zeros((2, 2)),
    ],
)
def test_what_is_no_column_is_refused(column):
    with pytest.raises(InvalidInputError, match="values"):
        values_of(column, "values")


@pytest.mark.parametrize(
    "steps",
    [
        [3, -(2**63), 2**63 - 1],
        (3, -(2**63), 2**63 - 1),
        np.array([3, -(2**63), 2**63 - 1]),
        pa.array([3, -(2**63), 2**63 - 1]),
        [np.int64(3), np.int64(-(2**63)), 2**63 - 1],
    ],
)
def test_steps(steps):
    assert int64s(int64_column(steps, 3, "steps")) == [3, -(2**63), 2**63 - 1]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (range(2, 8, 3), [2, 5]),
        (np.array([1, 2], "uint64"), [1, 2]),
        (np.array([1, 2], ">i4"), [1, 2]),
        (np.array([1.0, 2.0]), [1, 2]),
        (pd.Series([1, 2]), [1, 2]),
    ],
)
def test_steps_of_other_types(steps, expected):
    assert int64s(int64_column(steps, 2, "steps")) == expected


@pytest.mark.parametrize(
    "steps",
    [
        [1, None],
        [1, True],
        [1, 2.0],
        [1, 2**63],
        [1, "2"],
        np.array([True, False]),
        np.array([1.0, 2.5]),
        np.array([1, 2**63], "uint64"),
        np.array([1, 2], "m8[s]"),
        np.array([1, 2], "M8[ns]"),
        range(2**63, 2**63 + 2),
        "12",
        5,
    ],
)
def test_what_are_no_steps_is_refused(steps):
    with pytest.raises(InvalidInputError):
        int64_column(steps, 2, "steps")


@pytest.mark.parametrize(
    "empty", [[], np.array([], "uint8"), np.array([]), range(0), pa.array([], pa.int64())]
)
def test_no_steps_for_no_values(empty):
    assert bytes(int64_column(empty, 0, "steps")) == b""
    assert bytes(timestamp_column(empty, 0)) == b""


@pytest.mark.parametrize("steps", [[1], range(3), np.arange(3), []])
def test_a_wrong_number_of_steps_is_refused(steps):
    with pytest.raises(InvalidInputError, match="2 values"):
        int64_column(steps, 2, "steps")
    with pytest.raises(InvalidInputError, match="2 values"):
        timestamp_column(steps, 2)


def test_timestamps():
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    expected = [1_767_225_600_000_000, 1_500_000]
    assert int64s(timestamp_column([now, 1.5], 2)) == expected
    assert int64s(timestamp_column(np.array([1.5, 2]), 2)) == [1_500_000, 2_000_000]
    assert int64s(timestamp_column(pd.Series([now, now]), 2)) == [expected[0]] * 2
    assert int64s(timestamp_column(pl.Series([now, now]), 2)) == [expected[0]] * 2


@pytest.mark.parametrize(
    "stamps", [[1.0, None], [1.0, 1e12], np.array(["2026-01-01"], "M8[s]").repeat(2), ["a", "b"]]
)
def test_what_are_no_instants_is_refused(stamps):
    with pytest.raises(InvalidInputError):
        timestamp_column(stamps, 2)
