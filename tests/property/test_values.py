"""encode and decode are inverse for everything that hypothesis can think of."""

import json
import zoneinfo
from datetime import timedelta, timezone
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metrics_lake.values import KINDS, decode, decode_columns, encode

FIXED_ZONES = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
ZONES = (
    st.none()
    | FIXED_ZONES
    | st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]).map(zoneinfo.ZoneInfo)
)
TEXT = st.text() | st.sampled_from(["$kind", "nan", "inf", "0x1", ""])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.integers(min_value=0, max_value=20_000).map(lambda bits: -(1 << bits) + 1),
    st.floats(),
    TEXT,
    st.binary(),
    st.complex_numbers(allow_nan=True, allow_infinity=True),
    st.decimals(),
    st.decimals(allow_nan=False, places=30),
    st.uuids(),
    st.dates(),
    st.timedeltas(),
    st.datetimes(timezones=ZONES),
    st.builds(lambda when, fold: when.replace(fold=fold), st.datetimes(timezones=ZONES), st.integers(0, 1)),
    st.times(timezones=ZONES),
)
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.floating_dtypes(endianness="="),
    hnp.complex_number_dtypes(endianness="="),
    hnp.datetime64_dtypes(endianness="="),
    hnp.timedelta64_dtypes(endianness="="),
    hnp.unicode_string_dtypes(endianness="="),
    hnp.byte_string_dtypes(endianness="="),
)
NUMPY_SCALARS = (
    DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, (1,)))
    .map(lambda array: array[0])
    .filter(
        lambda scalar: str(scalar).encode("utf-8", "ignore").decode() == str(scalar)
    )  # no lone surrogates
)
ARRAYS = hnp.arrays(
    hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.datetime64_dtypes() | DTYPES,
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
)
HASHABLE = st.recursive(
    SCALARS.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
VALUES = st.recursive(
    SCALARS | NUMPY_SCALARS | ARRAYS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXT, inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
    ),
    max_leaves=12,
)


def form(value):
    """Return a text that differs wherever type or value differ; NaN's bits and sets' order are forgotten."""
    kind = type(value)
    if kind is dict:
        return "{" + ",".join(f"{form(key)}:{form(item)}" for key, item in value.items()) + "}"
    if kind in (list, tuple):
        return kind.__name__ + "(" + ",".join(map(form, value)) + ")"
    if kind in (set, frozenset):
        return kind.__name__ + "(" + ",".join(sorted(map(form, value))) + ")"
    if kind is int:
        return hex(value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return f"{value.dtype.str}{value.view('i8')}"
    if kind is np.ndarray:
        items = [form(item) for item in value.ravel()]
        return f"{value.dtype.str}{value.shape}{items}"
    if hasattr(value, "fold"):
        return f"{value!r}{value.fold}"
    return f"{kind.__name__} {value!r}"


@given(VALUES)
def test_every_value_comes_back_with_its_exact_type(value):
    kind, number, text = encode(value)
    assert kind in KINDS
    assert form(decode(kind, number, text)) == form(value)
    assert encode(decode(kind, number, text))[0] == kind
    if text is not None:
        text.encode()


@given(st.lists(VALUES, max_size=5))
def test_columns_decode_like_their_rows(values):
    columns = list(zip(*map(encode, values), strict=True)) or [(), (), ()]
    assert form(decode_columns(*columns)) == form(values)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.integers(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner).filter(lambda each: "$kind" not in each)
    ),
)


@given(st.lists(JSON) | st.dictionaries(st.text(), JSON).filter(lambda each: "$kind" not in each))
def test_what_json_can_say_is_plain_json(value):
    kind, number, text = encode(value)
    assert (kind, number) == ("json", None)
    assert form(json.loads(text)) == form(value)


@given(st.integers())
def test_the_numeric_view_of_an_int_is_its_nearest_double(value):
    _, number, text = encode(value)
    assert number == float(value)
    assert (text is None) == (abs(value) <= 2**53)


@given(st.sets(HASHABLE.filter(lambda value: value == value), max_size=6))
def test_equal_sets_have_equal_text(value):
    again = set()
    again.update(sorted(value, key=hash, reverse=True))
    assert encode(again)[2] == encode(value)[2]
