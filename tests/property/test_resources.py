"""Texts of identity are injective, and patterns mean the same in Python and in RE2."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_lake.globs import glob
from metrics_lake.resources import nearest, resource_key
from metrics_lake.tags import canonical_tags, tags_from_key, tags_key

PARTS = st.lists(
    st.text("ab/~01\\", min_size=1, max_size=6) | st.text(min_size=1, max_size=6), min_size=1
).map(tuple)
TAGS = st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=8)


@given(PARTS, PARTS)
def test_different_parts_never_meet(left, right):
    assert (resource_key(left) == resource_key(right)) == (left == right)


@given(TAGS, TAGS)
def test_a_tags_key_identifies_its_tags(left, right):
    keys = [tags_key(canonical_tags(tags)) for tags in (left, right)]
    assert (keys[0] == keys[1]) == (left == right)
    assert [tags_from_key(key) for key in keys] == [left, right]
    assert tags_key(canonical_tags(dict(reversed(left.items())))) == keys[0]
    pairs = [key.encode() for key, _ in canonical_tags(left)]
    assert pairs == sorted(pairs)


@pytest.fixture(scope="module")
def full_match():
    with duckdb.connect() as connection:
        yield lambda text, regex: connection.execute(
            "SELECT regexp_full_match(?, ?)", [text, regex]
        ).fetchone()[0]


def simple_match(tokens, text):
    """Say whether a pattern fits, by the plainest recursion."""
    if not tokens:
        return not text
    if tokens[0] == "*":
        return any(simple_match(tokens[1:], text[cut:]) for cut in range(len(text) + 1))
    wanted = tokens[0][1:2] or tokens[0]
    return bool(text) and (tokens[0] == "?" or text[0] == wanted) and simple_match(tokens[1:], text[1:])


@given(
    st.lists(
        st.sampled_from(["*", "?", "[*]", "[?]", "[[]", "a", "b", ".", "/", "\n", "]"]),
        min_size=1,
        max_size=6,
    ),
    st.text("ab*?[]./\n", max_size=7),
)
def test_a_pattern_fits_what_its_characters_say(full_match, tokens, text):
    made = glob("".join(tokens))
    expected = simple_match(tokens, text)
    assert made.matches(text) == expected
    assert full_match(text, made.regex) == expected
    assert not expected or text.startswith(made.literal_prefix)
    if made.is_prefix:
        assert expected == text.startswith(made.literal_prefix)


@given(st.text(min_size=1, max_size=20).filter(lambda text: not set(text) & set("*?[")), st.text(max_size=20))
def test_a_pattern_without_wildcards_fits_only_itself(full_match, pattern, text):
    made = glob(pattern)
    assert made.literal_prefix == pattern
    for each in (pattern, text):
        assert made.matches(each) == full_match(each, made.regex) == (each == pattern)


@given(st.text(), st.lists(st.text()))
def test_near_names_are_some_of_the_candidates(name, candidates):
    found = nearest(name, candidates)
    assert len(found) <= 3
    assert set(found) <= set(candidates) - {name}
