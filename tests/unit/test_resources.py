"""Identity, tags and patterns: what counts, in which order, and what is refused."""

import enum
import pickle
import time
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import duckdb
import numpy as np
import pytest

from metrics_lake import resources
from metrics_lake.errors import CorruptObjectError, InvalidInputError
from metrics_lake.globs import Glob, glob
from metrics_lake.resources import check_id, nearest, register_resource, resource_key
from metrics_lake.tags import canonical_tags, tags_from_key, tags_key

HOSTILE = [
    *(
        ".",
        "..",
        "../../etc/passwd",
        "/",
        "//",
        "a//b",
        "/absolute",
        "trailing/",
        "a=b",
        "month=2026-01",
        "%2F",
    ),
    *("nul\x00inside", "new\nline", "tab\t", " ", " lead", "trail ", "'; DROP TABLE metrics; --", '"quoted"'),
    *("back\\slash", "__HIVE_DEFAULT_PARTITION__", "null", "NULL", "None", "nan", "007", "1e5", "true", "-"),
    *("😀", "é", "e\u0301", "\u202eright", "\ufeff", "\U0010ffff", "x" * 300, "$kind", "~0~1", "*", "[a]?"),
]


@dataclass
class Run:
    id: object


class WithBoth:
    resource_id = "by-resource-id"
    id = "by-id"


class Special(WithBoth):
    def __metrics_resource__(self):
        return "by-method"


class Point(NamedTuple):
    id: str
    other: str


class Stage(enum.StrEnum):
    PROD = "prod"


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(resources, "_KEY_OF", {})


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_ids_are_just_text(text):
    assert resource_key(text) == text
    assert resource_key(Run(text)) == text
    assert check_id(text, "metric") == text


@pytest.mark.parametrize(
    ("obj", "key"),
    [
        ("run-1", "run-1"),
        (np.str_("run-1"), "run-1"),
        (Stage.PROD, "prod"),
        (Special(), "by-method"),
        (WithBoth(), "by-resource-id"),
        (Run("x"), "x"),
        (Run(7), "Run/7"),
        (Run(-(2**70)), f"Run/{-(2**70)}"),
        (Run(uuid.UUID(int=1)), "00000000-0000-0000-0000-000000000001"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("models/digits.pt"), "models/digits.pt"),
        (("project", "run"), "project/run"),
        (("only",), "only"),
        (("a/b", "c"), "a~1b/c"),
        (("a", "b/c"), "a/b~1c"),
        (("a~1b", "c"), "a~01b/c"),
        ((("a", "b"), "c"), "a~1b/c"),
        (("models", Run(3), Stage.PROD), "models/Run~13/prod"),
        (Point("by-id", "x"), "by-id"),
    ],
    ids=range(19),
)
def test_identity(obj, key):
    found = resource_key(obj)
    assert found == key
    assert type(found) is str


class Raises:
    @property
    def id(self):
        raise RuntimeError("no database")


class LacksInside:
    @property
    def id(self):
        return self.nothing


class Method:
    def id(self):
        return "x"


class BadMethod:
    def __metrics_resource__(self):
        raise RuntimeError("no database")


class NoText:
    def __metrics_resource__(self):
        return 3


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ("", "is empty"),
        ("x" * 4097, "4,097 characters"),
        ("lone \ud800", "lone surrogate at position 5"),
        (None, "NoneType is no resource id"),
        (3, "int is no resource id.*`id` attribute"),
        (True, "bool is no resource id"),
        (0.5, "float is no resource id"),
        (b"run", "bytes is no resource id"),
        (object(), "object is no resource id"),
        (["a", "b"], "list is no resource id"),
        ({"id": "a"}, "dict is no resource id"),
        ((), "tuple is no resource id"),
        (("a", 3), "int is no resource id"),
        (("a", ""), "is empty"),
        (("x" * 3000, "x" * 3000), "6,001 characters"),
        (Run(True), r"\.id is a bool"),
        (Run(""), r"\.id is ''"),
        (Run(None), "has no id yet"),
        (Run(0.5), r"\.id is a float"),
        (Run("\ud800"), "lone surrogate"),
        (Raises(), r"\.id raised RuntimeError: no database"),
        (LacksInside(), r"\.id raised AttributeError"),
        (Method(), r"\.id is a method"),
        (BadMethod(), r"__metrics_resource__\(\) raised RuntimeError: no database"),
        (NoText(), "returned a int"),
        (WithBoth, "class WithBoth is not a resource"),
        (glob("digits/*"), r"glob\('digits/\*'\) is a pattern"),
    ],
    ids=range(27),
)
def test_what_has_no_identity_is_refused(obj, message):
    with pytest.raises(InvalidInputError, match=message):
        resource_key(obj)


def test_the_longest_id_is_4096_characters():
    assert resource_key("é" * 4096) == "é" * 4096


@pytest.mark.usefixtures("registry")
def test_registered_types_count_for_their_subclasses_and_the_nearest_base_wins():
    class Base(Run):
        pass

    class Derived(Base):
        pass

    register_resource(Run, lambda run: f"run:{run.id}")
    assert resource_key(Derived("x")) == "run:x"
    register_resource(Base, lambda run: f"base:{run.id}")
    assert resource_key(Derived("x")) == "base:x"
    assert resource_key(Run("x")) == "run:x"
    register_resource(Base, lambda run: f"again:{run.id}")
    assert resource_key(Derived("x")) == "again:x"


@pytest.mark.usefixtures("registry")
def test_a_registration_counts_before_paths_and_attributes_but_not_before_the_own_method():
    register_resource(object, lambda _: "registered")
    assert resource_key(Path("x")) == "registered"
    assert resource_key(WithBoth()) == "registered"
    assert resource_key(3) == "registered"
    assert resource_key(Special()) == "by-method"
    assert resource_key("text") == "text"


@pytest.mark.usefixtures("registry")
def test_a_registered_function_that_fails_is_a_clear_error():
    register_resource(Run, lambda run: run.missing)
    with pytest.raises(InvalidInputError, match="function registered for it raised AttributeError"):
        resource_key(Run("x"))
    for cls, key_of in (("Run", str), (Run, "id")):
        with pytest.raises(InvalidInputError, match="takes a class and a function"):
            register_resource(cls, key_of)


def test_metric_ids_are_plain_text():
    with pytest.raises(InvalidInputError, match="A int is no metric id"):
        check_id(3, "metric")
    with pytest.raises(InvalidInputError, match="metric id is empty"):
        check_id("", "metric")
    assert type(check_id(Stage.PROD, "metric")) is str


@pytest.mark.parametrize(
    ("tags", "pairs"),
    [
        (None, ()),
        ({}, ()),
        ({"b": "2", "a": "1"}, (("a", "1"), ("b", "2"))),
        ({"fold": 3, "big": -(2**64)}, (("big", str(-(2**64))), ("fold", "3"))),
        ({"t": True, "f": False, "n": np.True_}, (("f", "false"), ("n", "true"), ("t", "true"))),
        ({"rank": np.int64(3), "u": np.uint8(255)}, (("rank", "3"), ("u", "255"))),
        ({Stage.PROD: Stage.PROD}, (("prod", "prod"),)),
        ({"empty": ""}, (("empty", ""),)),
        ({"\uffff": "1", "\U00010000": "2", "z": "3", "é": "4"}, None),
    ],
    ids=range(9),
)
def test_tags_are_sorted_text(tags, pairs):
    found = canonical_tags(tags)
    assert found == (
        pairs if pairs is not None else tuple(sorted(tags.items(), key=lambda each: each[0].encode()))
    )
    assert all(type(text) is str for pair in found for text in pair)
    assert tags_from_key(tags_key(found)) == dict(found)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"a": 0.5}, "'a' has a float.*Pass a str"),
        ({"a": None}, "'a' has a NoneType.*Leave the tag out"),
        ({"a": b"x"}, "has a bytes"),
        ({"a": [1]}, "has a list"),
        ({"a": np.float32(1)}, "has a float32"),
        ({"a": 2**2000}, "1,024 bits"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"a": "x" * 4097}, "4,097 characters"),
        ({"\ud800": "a"}, "lone surrogate"),
        ({"": "a"}, "key of a tag is empty"),
        ({1: "a"}, "tag key 1 is no str"),
        ({f"k{n}": n for n in range(33)}, "33 tags.*At most 32"),
        ([("a", "b")], "mapping, not a list"),
        ("", "mapping, not a str"),
        (0, "mapping, not a int"),
    ],
    ids=range(15),
)
def test_other_tags_are_refused(tags, message):
    with pytest.raises(InvalidInputError, match=message):
        canonical_tags(tags)


def test_32_tags_are_kept():
    assert len(canonical_tags({f"k{n}": n for n in range(32)})) == 32


def test_the_tags_key_is_compact_json():
    assert tags_key(()) == ""
    assert tags_key(canonical_tags({"b": "é", "a": 'x"\n'})) == '{"a":"x\\"\\n","b":"é"}'


@pytest.mark.parametrize("key", ["x", "[]", "1", '{"a":1}', "{", "[" * 100_000], ids=range(6))
def test_a_text_that_is_no_tags_key_is_corrupt(key):
    with pytest.raises(CorruptObjectError, match="no tags_key"):
        tags_from_key(key)


@pytest.mark.parametrize(
    ("pattern", "prefix", "fits", "differs"),
    [
        (
            "digits/*",
            "digits/",
            ["digits/", "digits/a/b", "digits/\n", "digits/\x00"],
            ["digits", "xdigits/a"],
        ),
        ("*", "", ["a", "\n", "a/b"], []),
        ("a?c", "a", ["abc", "a\nc", "a/c", "a😀c"], ["ac", "abbc"]),
        ("[*]", "*", ["*"], ["a"]),
        ("what[?]*", "what?", ["what?", "what? no"], ["whats"]),
        ("run[[]1]", "run[1]", ["run[1]"], ["run1"]),
        ("a.b+(c)|{1}^$\\ #&~-", "a.b+(c)|{1}^$\\ #&~-", ["a.b+(c)|{1}^$\\ #&~-"], ["axb+(c)|{1}^$\\ #&~-"]),
        ("**a**", "", ["a", "bab"], ["b"]),
        ("*.loss", "", ["train.loss"], ["trainxloss", "train.loss\n"]),
        ("literal", "literal", ["literal"], ["literal2", "Literal"]),
        ("nul\x00*", "nul\x00", ["nul\x00x"], ["nulx"]),
        ("é*\n", "é", ["éx\n"], ["éx"]),
    ],
    ids=range(12),
)
def test_patterns_fit_alike_in_python_and_in_duckdb(pattern, prefix, fits, differs):
    made = glob(pattern)
    assert made.literal_prefix == prefix
    for text in fits + differs:
        assert made.matches(text) is (text in fits)
        query = "SELECT regexp_full_match(?, ?)"
        # A connection of its own: an unfinished result on the shared one stops every later query there.
        with duckdb.connect() as connection:
            assert connection.execute(query, [text, made.regex]).fetchall() == [(text in fits,)]


def test_one_star_at_the_end_makes_a_pattern_a_prefix():
    for pattern in ("*", "a*", "a/b*", "what[?]*", "[*]*"):
        assert glob(pattern).is_prefix, pattern
    for pattern in ("a", "a?", "*a", "a**", "a?*", "a[*]"):
        assert not glob(pattern).is_prefix, pattern


def test_patterns_are_values():
    assert glob("a*") == glob("a*") == Glob("a*") != glob("a")
    assert len({glob("a*"), glob("a*")}) == 1
    assert glob(glob("a*")) == glob("a*")
    assert repr(glob("a*")) == "glob('a*')"
    assert pickle.loads(pickle.dumps(glob("a*"))) == glob("a*")  # noqa: S301 -- our own bytes
    assert glob("a*") != "a*"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "empty"),
        (3, "int is no pattern"),
        ("a[bc]", "opens no"),
        ("[", "opens no"),
        ("[]", "opens no"),
        ("a\ud800", "surrogate"),
        ("x" * 4097, "4,097"),
    ],
    ids=range(7),
)
def test_other_patterns_are_refused(pattern, message):
    with pytest.raises(InvalidInputError, match=message):
        glob(pattern)


def test_many_stars_do_not_backtrack_for_ever():
    begun = time.monotonic()
    assert not glob("*a" * 60 + "b").matches("a" * 4000)
    assert time.monotonic() - begun < 5


def test_near_names():
    names = [
        "digits/mlp",
        "digits/sgd",
        "breast_cancer/mlp",
        "diabetes/ridge",
        "Accuracy",
        "val_loss",
        "val/loss",
    ]
    assert nearest("digits/mpl", names)[0] == "digits/mlp"
    assert nearest("accuracy", names) == ["Accuracy"]
    assert nearest("loss", names)[0] == "val/loss"
    assert nearest("digits", names) == ["digits/mlp", "digits/sgd"]
    assert nearest("zzz", names) == []
    assert nearest("digits/mlp", ["digits/mlp"]) == []
    assert nearest("", names) == []
    assert len(nearest("run-1", [f"run-{n}" for n in range(100)])) == 3


def test_near_names_among_very_many_are_found_quickly():
    begun = time.monotonic()
    assert nearest("run-000001x", (f"run-{n:06d}" for n in range(1_000_000)))[0] == "run-000001"
    assert time.monotonic() - begun < 10
