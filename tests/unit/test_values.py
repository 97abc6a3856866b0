"""Values of every kind come back with their exact type, or are refused with a hint."""

import collections
import dataclasses
import enum
import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from metrics_lake.errors import CorruptObjectError, InvalidInputError, UnsupportedFormatError
from metrics_lake.values import KINDS, MAX_DEPTH, decode, decode_columns, encode

NAN = float("nan")
NAIVE = datetime(2026, 10, 25, 2, 30, 0, 1, tzinfo=UTC).replace(tzinfo=None)


def same(left, right):
    """Say whether two values are equal with equal types at every depth, NaN and zeros' signs included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            same(a, c) and same(b, d) for (a, b), (c, d) in zip(left.items(), right.items(), strict=True)
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and np.array_equal(left, right, equal_nan=left.dtype.kind in "fcmM")
        )
    if isinstance(left, (np.datetime64, np.timedelta64)):
        return left.dtype == right.dtype and left.view("i8") == right.view("i8")
    if isinstance(left, (float, complex, np.inexact, Decimal)):
        return str(left) == str(right)
    if isinstance(left, (datetime, time)):
        return left == right and left.fold == right.fold and str(left.tzinfo) == str(right.tzinfo)
    return left == right


def numbered(values):
    return [f"{index}-{type(value).__name__}" for index, value in enumerate(values)]


HARD = [
    0.0, -0.0, 1.5, NAN, math.inf, -math.inf, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1,
    0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63, 2**64, 10**400, -(10**400), 10**5000, -(10**5000),
    True, False, None,
    "", "text", "nul\x00inside", "…😀", "\u2028", '"quoted"', "nan", "0x1", " ",
    b"", b"\x00\xff", b"text",
    datetime(1, 1, 1, tzinfo=UTC).replace(tzinfo=None),
    NAIVE,
    NAIVE.replace(fold=1),
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=timezone(timedelta(hours=-3, seconds=1))),
    datetime(2026, 11, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 11, 1, tzinfo=ZoneInfo("UTC")),
    date(2026, 11, 1),
    time(12, 30, 0, 1), time(12, tzinfo=UTC), time(2, fold=1),
    time(3, tzinfo=ZoneInfo("Europe/Berlin")),
    timedelta(0), timedelta(microseconds=-1), timedelta.max, timedelta.min,
    timedelta(days=1, microseconds=7),
    Decimal("1.500"), Decimal("-0"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"),
    Decimal("1e999999"),
    Decimal("0.1000000000000000055511151231257827021181583404541015625"),
    1 + 2j, complex(-0.0, -0.0), complex(0.0, -0.0), complex(NAN, math.inf), 1e-300j,
    UUID("018f0000-0000-7000-8000-000000000000"),
    np.bool_(True), np.bool_(False),
    *(np.dtype(code).type(7) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")),
    np.longlong(2**62 + 1),
    np.ulonglong(2**64 - 1), np.int64(-(2**63)), np.uint64(2**64 - 1),
    np.float16("nan"),
    np.float32(0.1), np.float32("inf"), np.float64(-0.0), np.float64(NAN), np.float32(-0.0),
    np.longdouble(1) / 3, np.longdouble("nan"), np.finfo(np.longdouble).max, np.finfo(np.longdouble).tiny,
    np.complex64(1 + 0.1j), np.complex128(complex(-0.0, NAN)), np.clongdouble(1) / 3,
    np.str_("text"), np.bytes_(b"\xff"),
    np.datetime64("2026-11-01T12:00:00.000000001"), np.datetime64("NaT"), np.datetime64("12345-01-01"),
    np.datetime64(3, "25s"), np.datetime64("2026", "W"), np.datetime64("NaT", "ns"),
    np.timedelta64(5, "ns"), np.timedelta64(5), np.timedelta64("NaT", "D"),
    np.arange(6).reshape(2, 3), np.zeros((0, 3)), np.array([NAN, -0.0, math.inf]),
    np.array([0.1], np.float32),
    np.array([[True], [False]]), np.array([2**64 - 1], np.uint64), np.array([1, 2], ">i4"),
    np.array(["a", "bc"]),
    np.array([b"a\x00b"]), np.array(["2026-11-01", "NaT"], "M8[ns]"),
    np.array([1 + 2j]), np.array([], "m8[s]"),
    np.array([np.longdouble(1) / 3]), np.asfortranarray(np.arange(4.0).reshape(2, 2)),
    [], {}, (), set(), frozenset(), [None, True, 1, 0.5, "x"], {"a": {"b": [1, {"c": -0.0}]}},
    [NAN, math.inf, -math.inf, -0.0, 5e-324, 10**400, 10**5000, 2**53 + 1],
    (1, (2, [3, (4,)])), {1, 2.5, "x", (1, frozenset({2}))}, frozenset({None, b"x"}),
    {1: "a", "1": "b", None: "c", (1, 2): "d", 2.5: "e", NAN: "f", frozenset({1}): "g"},
    {"$kind": 1}, {"$kind": ["float", "nan"]}, {"$kind": {"$kind": ("$kind",)}},
    {"a": {"$kind": None, "b": 1}},
    {"when": datetime(2026, 11, 1, tzinfo=UTC), "how": np.float32(0.1), "what": np.arange(3), "raw": b"\x00"},
    [np.float64(NAN), np.float16(2), np.int8(3), np.uint64(2**64 - 1), np.bool_(True), np.float32("-inf")],
    [Decimal("1.0"), Decimal("sNaN"), 1j, UUID(int=1), timedelta(1), date(1, 2, 3), np.datetime64("NaT")],
    {np.int64(1): 1, np.str_("k"): np.str_("v")}, {"": 0, "a.b": 1, "a/b": 2, "nul\x00": 3},
    {True: 1, "True": 2},
]  # fmt: skip


@pytest.mark.parametrize("value", HARD, ids=numbered(HARD))
def test_hard_values_come_back_with_their_exact_type(value):
    kind, number, text = encode(value)
    assert kind in KINDS
    assert number is None or type(number) is float
    assert text is None or (type(text) is str and isinstance(text.encode(), bytes))
    assert same(decode(kind, number, text), value)
    assert same(decode_columns([kind, kind], [number, number], [text, text]), [value, value])


@pytest.mark.parametrize("value", HARD, ids=numbered(HARD))
def test_hard_values_come_back_from_inside_containers(value):
    for holder in ([value], {"k": value}, (value,), {1: value}, {"$kind": [value]}):
        kind, number, text = encode(holder)
        assert (kind, number) == ("json", None)
        json.loads(text, parse_constant=pytest.fail)
        assert same(decode(kind, number, text), holder)


def test_codes_of_kinds_never_change():
    assert KINDS[:14] == (
        *("float", "int", "bool", "null", "str", "json"),
        *("bytes", "datetime", "date", "time", "timedelta", "decimal", "complex", "uuid"),
    )
    assert KINDS[14:] == (
        *("np.bool", "np.int8", "np.int16", "np.int32", "np.int64"),
        *("np.uint8", "np.uint16", "np.uint32", "np.uint64", "np.longlong", "np.ulonglong"),
        *("np.float16", "np.float32", "np.float64", "np.longdouble"),
        *("np.complex64", "np.complex128", "np.clongdouble"),
        *("np.str", "np.bytes", "np.datetime64", "np.timedelta64", "np.ndarray"),
    )
    assert len(set(KINDS)) == len(KINDS) <= 256


@pytest.mark.parametrize(
    ("value", "columns"),
    [
        (0.5, ("float", 0.5, None)),
        (3, ("int", 3.0, None)),
        (2**53, ("int", 2.0**53, None)),
        (2**53 + 1, ("int", 2.0**53, "9007199254740993")),
        (2**1024, ("int", None, str(2**1024))),
        (2**2048, ("int", None, hex(2**2048))),
        (True, ("bool", 1.0, None)),
        (None, ("null", None, None)),
        ("x", ("str", None, "x")),
        (b"x", ("bytes", None, "eA==")),
        (Decimal("0.10"), ("decimal", 0.1, "0.10")),
        (Decimal("1e400"), ("decimal", None, "1E+400")),
        (Decimal("-Infinity"), ("decimal", -math.inf, "-Infinity")),
        (Decimal("sNaN"), ("decimal", None, "sNaN")),
        (datetime(2026, 11, 1, tzinfo=UTC), ("datetime", None, "2026-11-01T00:00:00+00:00")),
        (timedelta(1, 3, 1), ("timedelta", None, "1 days 3.000001 seconds")),
        (np.float32(0.1), ("np.float32", 0.10000000149011612, None)),
        (np.int64(3), ("np.int64", 3.0, None)),
        (np.int64(2**53 + 1), ("np.int64", 2.0**53, "9007199254740993")),
        (np.bool_(True), ("np.bool", 1.0, None)),
        (1j, ("complex", None, "1j")),
        ({"a": [1, 0.1, None, True, "é"]}, ("json", None, '{"a":[1,0.1,null,true,"é"]}')),
        ((1, NAN), ("json", None, '{"$kind":["tuple",[1,{"$kind":["float","nan"]}]]}')),
        ({3, 1, 2}, ("json", None, '{"$kind":["set",[1,2,3]]}')),
        ({1: np.int8(2)}, ("json", None, '{"$kind":["dict",[[1,{"$kind":["np.int8",2]}]]]}')),
        (np.array([[0.5]]), ("np.ndarray", None, '{"dtype":"<f8","shape":[1,1],"values":[[0.5]]}')),
    ],
)
def test_the_stored_form_is_the_documented_one(value, columns):
    assert encode(value) == columns


@pytest.mark.parametrize(
    ("array", "scalar"),
    [
        (np.array(0.1, np.float32), float(np.float32(0.1))),
        (np.array(3), 3),
        (np.array(True), True),
        (np.array("x"), "x"),
        (np.array(1 + 2j), 1 + 2j),
        (np.array([1, 2], object)[1:].reshape(()), 2),
        (np.array("2026-11-01", "M8[ns]"), np.datetime64("2026-11-01", "ns")),
        (np.array(np.longdouble(1) / 3), np.longdouble(1) / 3),
    ],
)
def test_an_array_without_dimensions_becomes_a_scalar(array, scalar):
    assert same(decode(*encode(array)), scalar)
    assert same(decode(*encode({"nested": array})), {"nested": scalar})


class Tensor:
    """What torch, jax and the like offer: nothing here may import them."""

    def __init__(self, value, ndim=0):
        self.value, self.ndim = value, ndim

    def item(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_a_tensor_without_dimensions_becomes_a_scalar():
    assert encode(Tensor(0.5)) == ("float", 0.5, None)
    assert encode([Tensor(True)]) == ("json", None, "[true]")


def test_a_tensor_with_dimensions_is_refused_with_a_hint():
    with pytest.raises(InvalidInputError, match=r"item\(\) for a single element"):
        encode(Tensor(0.5, ndim=1))


def test_an_item_that_fails_or_gives_no_scalar_is_refused():
    with pytest.raises(InvalidInputError, match="no data"):
        encode(Tensor(RuntimeError("no data")))
    with pytest.raises(InvalidInputError):
        encode(Tensor(Tensor(0.5)))
    loop = Tensor(None)
    loop.value = loop
    with pytest.raises(InvalidInputError):
        encode(loop)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    A = "a"


class Text(str):
    __slots__ = ()


class Real(float):
    pass


@dataclasses.dataclass
class Config:
    lr: float = 0.1


Pair = collections.namedtuple("Pair", "a b")


REFUSED = [
    (Colour.RED, "value.value"),
    (Level.LOW, "value.value"),
    (Name.A, "value.value"),
    (Text("a"), "str(value)"),
    (Real(1), "float(value)"),
    (type("Int", (int,), {})(1), "int(value)"),
    (Config(), "asdict"),
    (Config, "instance"),
    (Pair(1, 2), "_asdict"),
    (collections.OrderedDict(a=1), "dict(value)"),
    (collections.defaultdict(int), "dict(value)"),
    (collections.Counter("a"), "dict(value)"),
    (collections.deque(), "Pass a number"),
    (range(3), "list(value)"),
    (bytearray(b"x"), "bytes(value)"),
    (memoryview(b"x"), "bytes(value)"),
    (Fraction(1, 3), "float(value)"),
    (Path("a"), "str(value)"),
    (object(), "Pass a number"),
    ((each for each in "a"), "Pass a number"),
    (len, "Pass a number"),
    (np.ma.masked, "tolist"),
    (np.ma.array([1.0]), "tolist"),
    (np.array([object()]), "tolist"),
    (np.array([(1, 2.0)], "i4,f4"), "tolist"),
    (np.array([(1, 2.0)], "i4,f4")[0], "tolist"),
    (np.array((1, 2.0), "i4,f4"), "tolist"),
    (np.array([(1, 2.0)], "i4,f4").view(np.recarray), "tolist"),
    (np.float64, "instance"),
    (np, "Pass a number"),
    (type("Sub", (np.float64,), {})(1.0), "float(value)"),
    (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")), "astimezone"),
    (datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1))), "astimezone"),
    (type("When", (datetime,), {})(2026, 1, 1), "Pass a number"),
    ("\ud800", "replace"),
    ({"a": {"b": ["\udfff"]}}, "replace"),
    ({"\ud800": 1}, "replace"),
    ({Level.LOW: 1}, "value.value"),
    ({Tensor(1)}, "Pass a number"),
    ({Tensor(1): 1}, "Pass a number"),
]


@pytest.mark.parametrize(("value", "hint"), REFUSED, ids=numbered(REFUSED))
def test_what_would_not_come_back_is_refused_with_a_hint(value, hint):
    with pytest.raises(InvalidInputError) as caught:
        encode(value)
    assert hint in str(caught.value)
    with pytest.raises(InvalidInputError, match=r"^At \['deep'\]\[1\]"):
        encode({"deep": [0, value]})


def test_pandas_values_are_refused_with_a_hint():
    pd = pytest.importorskip("pandas")
    for value in (pd.NA, pd.NaT, pd.Timestamp(0), pd.Timedelta(0), pd.Series([1.0]), pd.DataFrame()):
        with pytest.raises(InvalidInputError, match=r"None for a missing value"):
            encode(value)


def test_values_that_contain_themselves_are_refused():
    loop = []
    loop.append({"again": loop})
    with pytest.raises(InvalidInputError, match="contains itself"):
        encode(loop)
    shared = [1]
    assert decode(*encode([shared, shared])) == [[1], [1]]


@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {1: v}],
    ids=["list", "tuple", "dict", "pairs"],
)
def test_nesting_is_limited(wrap):
    value = 0.5
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    assert decode(*encode(value)) == value
    with pytest.raises(InvalidInputError, match="nests deeper"):
        encode(wrap(value))


def test_an_unknown_kind_is_an_error_of_its_own():
    with pytest.raises(UnsupportedFormatError, match="Upgrade") as caught:
        decode("quaternion", 1.0, "1")
    assert caught.value.kind == "quaternion"
    with pytest.raises(UnsupportedFormatError):
        decode("json", None, '{"$kind":["quaternion","1"]}')


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        *(("float", None, None), ("int", None, None), ("int", None, "x"), ("int", NAN, None)),
        *(("str", None, None), ("json", None, "{"), ("json", None, "NaN"), ("json", None, '{"$kind":1}')),
        *(("json", None, "[" * 100_000), ("json", None, '{"$kind":["set",[[]]]}'), ("bytes", None, "*")),
        *(
            ("datetime", None, "x"),
            ("timedelta", None, "1 day"),
            ("decimal", None, "x"),
            ("complex", None, "x"),
        ),
        *(
            ("uuid", None, "x"),
            ("np.int8", 1e9, None),
            ("np.datetime64", None, "x"),
            ("np.float32", None, None),
        ),
        *(("np.ndarray", None, "{}"), ("np.ndarray", None, "[]"), ("np.clongdouble", None, "1")),
        ("np.ndarray", None, '{"dtype":"<f8","shape":[2],"values":[1]}'),
        ("np.ndarray", None, '{"dtype":"?!","shape":[1],"values":[1]}'),
    ],
)
def test_columns_that_do_not_belong_together_are_corrupt(kind, value, text):
    with pytest.raises(CorruptObjectError, match="cannot be read"):
        decode(kind, value, text)


def test_an_unknown_time_zone_names_the_package_that_has_it():
    with pytest.raises(UnsupportedFormatError, match="tzdata"):
        decode("datetime", None, "2026-11-01T00:00:00+01:00[Nowhere/Atall]")


def test_decoded_arrays_can_be_changed():
    for array in (np.array([1.0]), np.array(["a"])):
        decode(*encode(array))[0] = 0


def test_whole_columns_decode_at_once():
    assert decode_columns(["float", "float"], [1.0, -0.0], [None, None]) == [1.0, -0.0]
    assert decode_columns(["float", "str", "null"], [1.0, None, None], [None, "x", None]) == [1.0, "x", None]
    assert decode_columns([], [], []) == []
    with pytest.raises(CorruptObjectError):
        decode_columns(["float"], [None], [None])


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from metrics_lake.values import *; import metrics_lake.resources; "
        "encode({'a': [1, None, (2,), b'']}); decode('json', None, '[1]'); "
        "assert not {'numpy', 'pandas', 'pyarrow', 'duckdb', 'polars', 'fsspec'} "
        "& set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
