"""The reader against plain Python over the same points, however they are spread over the lake."""

import datetime as dt
import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metrics_lake.errors import AmbiguousSeriesError
from metrics_lake.globs import Glob
from metrics_lake.storage import open_storage
from metrics_lake.tags import canonical_tags, tags_from_key, tags_key
from metrics_lake.values import decode

RESOURCES = ["a", "a/b", "é", "￿", "\U00010000", "a*"]
METRICS = ["m", "m/n", "M"]
TAGS = [{}, {"k": "v"}, {"k": "w"}, {"k": "v", "z": "ä"}]
MONTHS = [1_790_000_000_000_000, 1_793_000_000_000_000, -3_000_000]
VALUES = st.sampled_from(
    [0.5, -1.0, math.nan, math.inf, -math.inf, -0.0, 3, 2**60 + 1, True, None, "text", [1, 2], "x" * 2000]
)

numbers = itertools.count()


@st.composite
def rows_of_writer(draw, row_type, number):
    count = draw(st.integers(0, 14))
    fields = st.tuples(
        st.sampled_from(RESOURCES),
        st.sampled_from(METRICS),
        VALUES,
        st.sampled_from([None, 0, 1, 2, -5, 2**63 - 1, -(2**63)]),
        st.builds(int.__add__, st.sampled_from(MONTHS), st.integers(0, 3)),
        st.sampled_from(TAGS),
    )
    return [
        row_type(resource, metric, value, step, time, canonical_tags(tags), f"{number:032x}", seq)
        for seq, (resource, metric, value, step, time, tags) in enumerate(
            draw(st.lists(fields, min_size=count, max_size=count))
        )
    ]


@st.composite
def intervals(draw, count):
    """Some cuts of 0 … count - 1: ascending, overlapping, with holes."""
    cuts = []
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.integers(0, max(count - 1, 0)))
        cuts.append((first, draw(st.integers(first, max(count - 1, first)))))
    return sorted(set(cuts)) if count else []


def build(data, support, storage):
    """Spread random points over a lake; return it and the rows that count."""
    lake = support.Lake(storage)
    visible = []
    table = []
    consumed = {}
    for number in (1, 2):
        rows = data.draw(rows_of_writer(support.Row, number))
        taken = data.draw(st.integers(0, len(rows)))
        table += rows[:taken]
        if taken:
            consumed[rows[0].writer] = ((0, taken - 1),)
        position = taken
        for first, last in data.draw(intervals(len(rows))):
            lake.publish(rows[first : last + 1])
            if first <= position <= last:
                visible += rows[position : last + 1]
                position = last + 1
        start = data.draw(st.integers(0, len(rows)))
        if start < len(rows):
            lake.hold(rows[start:])
            visible += rows[max(start, position) :]
    copies = [
        replace(row, resource=target, origin=row.resource)
        for row in table
        if (target := data.draw(st.sampled_from([None, None, "copy"]))) is not None
    ]
    pieces = [[] for _ in range(3)]
    for row in table + copies:
        pieces[data.draw(st.integers(0, 2))].append(row)
    for piece in pieces:
        if piece:
            lake.compact(piece, sidecars=data.draw(st.booleans()))
    if consumed:
        lake.compact([], consumed)
    return lake, visible + table + copies


def same(left, right):
    return repr(left) == repr(right)


def check_latest(reader, rows, resource, metric, *, tags, step, by, at):
    moment = None if at is None else dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=at)
    found = [
        row
        for row in rows
        if row.resource == resource and row.metric == metric and (at is None or row.timestamp <= at)
    ]
    keys = {row.tags_key for row in found}
    key = tags_key(canonical_tags(tags)) if tags is not None else ""
    options = {"tags": tags, "step": step, "order_by": by, "at": moment}
    if tags is None and "" not in keys:
        if len(keys) > 1:
            with pytest.raises(AmbiguousSeriesError):
                reader.latest(resource, metric, **options)
            return
        key = next(iter(keys), "")
    found = [row for row in found if row.tags_key == key and (step is None or row.step == step)]
    point = reader.latest(resource, metric, **options)
    if not found:
        assert point is None
        return
    expected = max(found, key=lambda row: row.by_time if by == "timestamp" else row.by_step)
    assert (point.writer, point.seq, point.timestamp) == (expected.writer, expected.seq, expected.timestamp)
    assert point.step == expected.step
    assert same(decode(point.kind, point.value, point.text), expected.value)


def check_history(reader, rows, ids, options, accepts):
    result = reader.history(*ids, full=True, **options)
    expected = sorted(filter(accepts, rows), key=lambda row: row.place)
    if options.get("repeats") == "last":
        newest = {}
        for row in expected:
            newest[row.resource, row.metric, row.tags_key, row.step, row.seq if row.step is None else 0] = row
        keep = set(map(id, newest.values()))
        if all(row.step is not None for row in expected):
            expected = [row for row in expected if id(row) in keep]
        else:
            expected = [row for row in expected if row.step is None or id(row) in keep]
    found = result.rows()
    assert [(row["resource"], row["writer"], row["seq"]) for row in found] == [
        (row.resource, row.writer, row.seq) for row in expected
    ]
    for row, wanted in zip(found, expected, strict=True):
        assert same(row["value"], wanted.value)
        assert (row["tags"] or {}) == tags_from_key(wanted.tags_key)
        assert (row["step"], row["origin"]) == (wanted.step, wanted.origin)
    streamed = reader.history(*ids, full=True, **options).reader().read_all()
    assert streamed["seq"].to_pylist() == [row.seq for row in expected]


def check_all(data, reader, rows):
    for _ in range(3):
        check_latest(
            reader,
            rows,
            data.draw(st.sampled_from([*RESOURCES, "copy", "nobody"])),
            data.draw(st.sampled_from(METRICS)),
            tags=data.draw(st.sampled_from([None, None, *TAGS])),
            step=data.draw(st.sampled_from([None, None, 0, 1, 2**63 - 1])),
            by=data.draw(st.sampled_from(["timestamp", "step"])),
            at=data.draw(st.sampled_from([None, None, *(month + 1 for month in MONTHS)])),
        )
    names = data.draw(st.sampled_from([None, "a", ["a", "copy"], Glob("a*"), [Glob("?"), "a/b"]]))
    metrics = data.draw(st.sampled_from([None, "m", [Glob("m*")]]))
    since = data.draw(st.sampled_from([None, *MONTHS]))
    until = data.draw(st.sampled_from([None, MONTHS[0] + 2]))
    tags = data.draw(st.sampled_from([None, {"k": "v"}]))
    steps = data.draw(st.sampled_from([None, 0, range(-5, 3, 2), [1, 2**63 - 1]]))
    options = {"repeats": data.draw(st.sampled_from(["all", "last"])), "tags": tags, "steps": steps}
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    for name, micros in (("since", since), ("until", until)):
        options[name] = None if micros is None else epoch + dt.timedelta(microseconds=micros)

    def among(asked, name):
        several = asked if isinstance(asked, list) else [asked]
        return asked is None or any(
            each.matches(name) if isinstance(each, Glob) else each == name for each in several
        )

    def accepts(row):
        at = [steps] if isinstance(steps, int) else steps
        return (
            among(names, row.resource)
            and among(metrics, row.metric)
            and (since is None or row.timestamp >= since)
            and (until is None or row.timestamp < until)
            and (tags is None or ("k", "v") in row.tags)
            and (at is None or row.step in at)
        )

    check_history(reader, rows, (names, metrics), options, accepts)
    expected = {}
    for row in rows:
        if among(names, row.resource):
            expected.setdefault(row.resource, []).append(row)
    found = {row["resource"]: row for row in reader.resources(names)}
    assert list(found) == sorted(expected, key=str.encode)
    for name, own in expected.items():
        assert found[name]["points"] == len(own)
        assert found[name]["metrics"] == len({row.metric for row in own})
        assert found[name]["series"] == len({(row.metric, row.tags_key) for row in own})
        assert found[name]["last_step"] == max(
            (row.step for row in own if row.step is not None), default=None
        )
        assert reader.metric_ids(name) == sorted({row.metric for row in own}, key=str.encode)
    source = data.draw(st.sampled_from(sorted(expected))) if expected else None
    if source is not None and source != "copy":
        there = {(row.writer, row.seq) for row in rows if row.resource == "copy"}
        new = {(row.writer, row.seq) for row in rows if row.resource == source} - there
        copied = reader.rows_of(source, to="copy").read_all().select(["writer", "seq"]).to_pylist()
        assert sorted((row["writer"], row["seq"]) for row in copied) == sorted(new)


OPTIONS = pytest.mark.parametrize(
    "options", [{}, {"scan_rows": 0}, {"recent_bytes": 0}], ids=["rows", "summaries", "unkept"]
)
# Shrinking takes minutes (an example is a hundred reads) and says little that the first example does not.
QUICK = settings(
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@OPTIONS
@settings(QUICK, max_examples=8)
@given(data=st.data())
def test_answers_in_memory(data, options, support):
    check(data, support, open_storage(f"memory://model-{next(numbers)}"), options)


@OPTIONS
@settings(QUICK, max_examples=5)
@given(data=st.data())
def test_answers_in_a_folder(data, options, support, tmp_path_factory):
    check(data, support, open_storage(str(tmp_path_factory.mktemp("lake"))), options)


def check(data, support, storage, options):
    lake, rows = build(data, support, storage)
    reader = lake.reader(**options)
    check_all(data, reader, rows)
    # The same reader after news: what it cached must not show.
    more = lake.log_rows("a", "m", [1.5, 2.5], writer=3, steps=[0, None])
    name = lake.publish(more)
    check_all(data, reader, rows + more)
    lake.compact(more, {more[0].writer: ((0, 1),)})
    if data.draw(st.booleans()):
        lake.storage.delete([name.key])
    check_all(data, reader, rows + more)
