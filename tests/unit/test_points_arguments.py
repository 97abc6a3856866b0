"""Steps, times and nested dicts: what is taken, exactly how, and what is refused with which hint."""

from __future__ import annotations

import datetime as dt
import enum
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from metrics_lake.errors import InvalidInputError
from metrics_lake.points import checked_step, checked_timestamp, flattened

UTC = dt.UTC


class Epoch(enum.IntEnum):
    TWO = 2


@pytest.mark.parametrize(
    ("given", "step"),
    [
        (None, None),
        (0, 0),
        (-5, -5),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (np.int8(3), 3),
        (np.uint64(7), 7),
        (np.array(4), 4),
        (np.float32(2.0), 2),
        (np.array(3.0), 3),
        (Epoch.TWO, 2),
    ],
)
def test_steps(given, step):
    found = checked_step(given)
    assert found == step
    assert type(found) in {int, type(None)}


@pytest.mark.parametrize(
    "step",
    [
        True,
        np.True_,
        2.0,
        2.5,
        np.float64(3.5),
        np.float64("nan"),
        np.float64("inf"),
        "3",
        b"4",
        Decimal(3),
        Fraction(3),
        2**63,
        -(2**63) - 1,
        pytest.param(10**5000, id="huge"),
        np.array([3]),
        np.array([1, 2]),
        np.datetime64(3, "ns"),
        np.timedelta64(3, "ns"),
        [1],
        object(),
        1j,
    ],
)
def test_what_is_no_step_is_refused(step):
    with pytest.raises(InvalidInputError) as caught:
        checked_step(step)
    assert caught.value.argument == "step"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("given", "micros"),
    [
        (0, 0),
        (1, 1_000_000),
        (-1.5, -1_500_000),
        (1_700_000_000.123456, 1_700_000_000_123_456),
        (np.float64(2.5), 2_500_000),
        (np.int32(7), 7_000_000),
        (np.array(1.5), 1_500_000),
        (dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), 0),
        (dt.datetime(1900, 1, 1, tzinfo=UTC), -2_208_988_800_000_000),
        (dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), 253_402_300_799_999_999),
        (pd.Timestamp("2026-01-01T00:00:00.000001999Z"), 1_767_225_600_000_001),
    ],
)
def test_timestamps(given, micros):
    found = checked_timestamp(given)
    assert found == micros
    assert type(found) is int


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (dt.datetime(2026, 1, 1), "no time zone"),  # noqa: DTZ001 -- the mistake that is tested
        (pd.Timestamp("2026-01-01"), "no time zone"),
        (np.datetime64("2026-01-01"), "no time zone"),
        (np.datetime64("2026-01-01T00:00:00", "ns"), "no time zone"),
        (pd.NaT, "NaT"),
        (1_700_000_000_000, "milliseconds"),
        (1_700_000_000_000.0, "milliseconds"),
        (float("nan"), "out of range"),
        (float("inf"), "out of range"),
        pytest.param(10**5000, "out of range", id="huge"),
        (-(10**30), "out of range"),
        (dt.datetime(1899, 12, 31, tzinfo=UTC), "out of range"),
        (-2_208_988_801, "out of range"),
        (True, "of type bool"),
        ("2026-01-01", "of type str"),
        (Decimal(5), "of type Decimal"),
        (dt.date(2026, 1, 1), "of type date"),
        (None, "of type NoneType"),
        (np.array([1.0]), "of type ndarray"),
    ],
)
def test_what_is_no_instant_is_refused(given, says):
    with pytest.raises(InvalidInputError, match=says) as caught:
        checked_timestamp(given)
    assert len(str(caught.value)) < 400


def test_nested_mappings_become_paths():
    nested = {
        "a": 1,
        "b": {"c": 2, "d": {"e": 3}},
        "empty": {},
        "f": OrderedDict(g=MappingProxyType({"h": 4})),
    }
    assert flattened(nested, "/") == {"a": 1, "b/c": 2, "b/d/e": 3, "f/g/h": 4}
    assert flattened(nested, "::")["b::d::e"] == 3
    assert list(flattened(nested, "/")) == ["a", "b/c", "b/d/e", "f/g/h"]
    assert flattened({}, "/") == {}


def test_without_a_separator_a_mapping_is_a_value():
    inner = {"c": 2}
    assert flattened({"b": inner, "/": 1}, None) == {"b": inner, "/": 1}


def test_the_same_mapping_may_stand_in_two_places():
    shared = {"x": 1}
    assert flattened({"a": shared, "b": shared}, "/") == {"a/x": 1, "b/x": 1}


@pytest.mark.parametrize(
    "metrics", [{"a/b": 1, "a": {"b": 2}}, {"a": {"b/c": 1, "b": {"c": 2}}}], ids=["levels", "inside"]
)
def test_two_paths_that_meet_are_refused(metrics):
    with pytest.raises(InvalidInputError, match="two entries"):
        flattened(metrics, "/")


@pytest.mark.parametrize("key", ["", 1, None, b"a", ("a",), pytest.param(10**5000, id="huge")])
@pytest.mark.parametrize("separator", ["/", None])
def test_keys_are_texts(key, separator):
    with pytest.raises(InvalidInputError, match="a key of metrics"):
        flattened({key: 1}, separator)
    with pytest.raises(InvalidInputError, match="under 'up'"):
        flattened({"up": {key: 1}}, "/")


@pytest.mark.parametrize("metrics", [None, 1, [("a", 1)], "a", {1, 2}])
def test_metrics_are_a_mapping(metrics):
    with pytest.raises(InvalidInputError, match="metrics is of type"):
        flattened(metrics, "/")


@pytest.mark.parametrize("separator", ["", 1, b"/", False])
def test_a_separator_is_text(separator):
    with pytest.raises(InvalidInputError, match="separator"):
        flattened({"a": 1}, separator)


def test_a_mapping_that_contains_itself_is_refused():
    ring = {}
    ring["a"] = {"b": ring}
    with pytest.raises(InvalidInputError, match="contains itself"):
        flattened(ring, "/")


def test_depth_has_a_limit_of_ids_and_not_of_python():
    deep = value = {}
    for _ in range(2000):
        value["k"] = {}
        value = value["k"]
    value["end"] = 1
    assert flattened(deep, "/") == {"k/" * 2000 + "end": 1}
    for _ in range(10_000):
        deep = {"k": deep}
    with pytest.raises(InvalidInputError, match="levels"):
        flattened(deep, "/")
