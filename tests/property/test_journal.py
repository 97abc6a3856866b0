"""Random calls come back from the journal exactly; a damaged or cut journal never gives anything else."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_lake.errors import CorruptObjectError
from metrics_lake.journal import SegmentHeader
from metrics_lake.journal.content import parse_segment
from metrics_lake.journal.segments import MemorySegment
from metrics_lake.points import Point, point_rows, rows_frame
from metrics_lake.tags import canonical_tags, tags_key
from metrics_lake.values import KINDS, decode, encode

HEADER = SegmentHeader(writer="0" * 32, table="metrics", first=3, date="2026-01-01", lake_id=None)

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
tags = st.dictionaries(ids, st.text(st.characters(codec="utf-8"), max_size=4), max_size=2)
series = st.tuples(ids, ids, tags.map(canonical_tags).map(tags_key))
values = st.one_of(
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.binary(max_size=5),
    st.lists(st.one_of(st.floats(), st.text(st.characters(codec="utf-8"), max_size=3)), max_size=3),
)
steps = st.none() | st.integers(-(2**63), 2**63 - 1)
times = st.integers(-2_208_988_800_000_000, 253_402_300_799_999_999)

points_calls = st.tuples(
    st.just("points"), st.lists(st.tuples(series, values), min_size=1, max_size=4), steps, times
)
single_calls = st.tuples(st.just("point"), st.tuples(series, values), steps, times)
numbers_calls = st.integers(1, 5).flatmap(
    lambda rows: st.tuples(
        st.just("numbers"),
        st.tuples(
            series,
            st.lists(st.floats(), min_size=rows, max_size=rows),
            st.none() | st.lists(times, min_size=rows, max_size=rows),
        ),
        st.none() | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows),
        times,
    )
)
rows_calls = st.tuples(
    st.just("rows"), st.lists(st.tuples(ids, ids, values), min_size=1, max_size=3), steps, times
)
calls = st.lists(st.one_of(single_calls, points_calls, numbers_calls, rows_calls), max_size=12)


def same(left, right):
    """Equal, of one type, and NaN is NaN, -0.0 is -0.0."""
    return type(left) is type(right) and repr(left) == repr(right)


def journal(all_calls, fails=()):
    """Return a segment of the calls and the rows that it must hold; some calls' frames are never written."""
    segment = MemorySegment(HEADER)
    expected = []
    for number, (kind, content, step, time) in enumerate(all_calls):
        encoder = segment.encoder
        rows = []
        if kind in {"point", "points"}:
            pairs = [content] if kind == "point" else content
            points = []
            for key, value in pairs:
                name, view, text = encode(value)
                points.append(Point(key, KINDS.index(name), view, text))
                rows.append((*key, step, time, value))
            if kind == "point":
                frame = encoder.point(*points[0], time, step)
            else:
                frame = encoder.points(points, time, step)
        elif kind == "numbers":
            key, floats, own_times = content
            count = len(floats)
            packed = None if step is None else struct.pack(f"<{count}q", *step)
            stamps = time if own_times is None else struct.pack(f"<{count}q", *own_times)
            frame = encoder.numbers(key, 0, struct.pack(f"<{count}d", *floats), stamps, packed)
            for index, value in enumerate(floats):
                at = None if step is None else step[index]
                rows.append((*key, at, time if own_times is None else own_times[index], value))
        else:
            encoded = [encode(value) for _, _, value in content]
            table = point_rows(
                {
                    "resource": [resource for resource, _, _ in content],
                    "metric": [metric for _, metric, _ in content],
                    "value": [math.nan if view is None else view for _, view, _ in encoded],
                    "kind": [name for name, _, _ in encoded],
                    "text": [text for _, _, text in encoded],
                    "step": [step] * len(content),
                },
                time,
            )
            views = [view for _, view, _ in encoded]
            table = table.set_column(table.column_names.index("value"), "value", [views])
            frame = rows_frame(table)
            rows = [(resource, metric, "", step, time, value) for resource, metric, value in content]
        if number not in fails:
            segment.append(frame, len(rows))
            expected += rows
    return segment, expected


def check(found, expected):
    assert len(found) == len(expected)
    for number, (row, (resource, metric, key, step, time, value)) in enumerate(
        zip(found, expected, strict=True)
    ):
        assert (row["resource"], row["metric"], row["tags_key"]) == (resource, metric, key)
        assert (row["step"], row["timestamp"], row["seq"]) == (step, time, 3 + number)
        assert same(decode(row["kind"], row["value"], row["text"]), value)


def rows_of(content):
    import pyarrow as pa

    table = content.rows()
    stamps = table.column("timestamp").cast(pa.int64())
    return table.set_column(table.column_names.index("timestamp"), "timestamp", stamps).to_pylist()


@given(calls)
def test_calls_come_back_exactly(all_calls):
    segment, expected = journal(all_calls)
    assert segment.row_count == len(expected)
    if expected:
        check(rows_of(segment.content()), expected)


@given(calls, st.sets(st.integers(0, 11)))
def test_calls_whose_write_failed_leave_no_trace(all_calls, fails):
    segment, expected = journal(all_calls, fails)
    if expected:
        check(rows_of(segment.content()), expected)


@given(calls, st.data())
def test_a_cut_keeps_the_calls_in_front_of_it(all_calls, data):
    segment, expected = journal(all_calls)
    whole = segment.read(0, segment.size_bytes)
    cut = data.draw(st.integers(0, len(whole)))
    content = parse_segment(whole[:cut], "here")
    if content is None:
        assert cut < len(HEADER.frame())
        return
    assert not content.tail_is_damaged
    check(rows_of(content) if content.row_count else [], expected[: content.row_count])
    if cut == len(whole):
        assert content.row_count == len(expected)


@settings(max_examples=200)
@given(calls.filter(bool), st.data())
def test_damage_is_told_and_gives_nothing_else(all_calls, data):
    segment, expected = journal(all_calls)
    whole = bytearray(segment.read(0, segment.size_bytes))
    how = data.draw(st.sampled_from(["flip", "zeroes", "garbage"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    before = bytes(whole)
    if how == "flip":
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        length = data.draw(st.integers(1, 40))
        fill = bytes(length) if how == "zeroes" else data.draw(st.binary(min_size=length, max_size=length))
        whole[at : at + length] = fill[: len(whole) - at]
    try:
        content = parse_segment(bytes(whole), "here")
    except CorruptObjectError:
        return
    found = 0 if content is None else content.row_count
    if found:
        check(rows_of(content), expected[:found])
    if bytes(whole) != before and found < len(expected) and how == "flip":
        assert content is not None
        assert content.tail_is_damaged


def test_the_strategies_reach_what_they_are_for():
    segment, expected = journal([("point", (("r", "m", ""), -0.0), None, 0)])
    check(rows_of(segment.content()), expected)
    with pytest.raises(AssertionError):
        check(rows_of(segment.content()), [("r", "m", "", None, 0, 0.0)])
