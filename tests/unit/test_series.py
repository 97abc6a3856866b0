"""Series summaries against plain Python, whole and merged."""

import math
import statistics

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics_lake import series
from metrics_lake.commits import sort_rows
from metrics_lake.errors import CorruptObjectError
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.values import encode

VALUES = st.one_of(
    st.floats(-1e6, 1e6),
    st.sampled_from([math.nan, math.inf, -math.inf, None, "text", "x" * 1025, "é" * 600, 2**60, True]),
)
ROW = st.tuples(
    st.sampled_from(["a", "￿", "\U00010000"]),
    st.sampled_from(["m", "n"]),
    st.sampled_from([(), (("k", "v"),)]),
    st.sampled_from([None, 0, 1, -(2**63), 2**63 - 1]),
    st.integers(0, 3),
    VALUES,
    st.sampled_from(["w1", "w2"]),
)


def to_arrow(rows):
    columns = {name: [] for name in arrow_schema(METRICS).names}
    for seq, (resource, metric, tags, step, time, value, writer) in enumerate(rows):
        kind, number, text = encode(value)
        row = {
            "resource": resource,
            "metric": metric,
            "step": step,
            "timestamp": time,
            "value": number,
            "kind": kind,
            "text": text,
            "tags": list(tags) or None,
            "tags_key": str(dict(tags)) if tags else "",
            "writer": writer,
            "seq": seq,
            "origin": None,
        }
        for name, each in row.items():
            columns[name].append(each)
    return pa.table(columns, schema=arrow_schema(METRICS))


def by_time(row):
    return row["timestamp"], row["writer"], row["seq"]


def by_step(row):
    return row["step"] is not None, row["step"] or 0, *by_time(row)


def check(summary, rows):
    groups = {}
    for row in rows.to_pylist():
        groups.setdefault((row["resource"], row["metric"], row["tags_key"]), []).append(row)
    found = summary.to_pylist()
    keys = [tuple(row[name] for name in series.SERIES_KEYS) for row in found]
    assert keys == sorted(groups, key=lambda key: [part.encode() for part in key])
    for row, key in zip(found, keys, strict=True):
        own = groups[key]
        numbers = [each for each in own if each["value"] is not None and not math.isnan(each["value"])]
        finite = [each["value"] for each in numbers if math.isfinite(each["value"])]
        assert row["count"] == len(own)
        assert row["n_nan"] == sum(each["value"] is not None and math.isnan(each["value"]) for each in own)
        assert row["n_finite"] == len(finite)
        if finite:
            assert row["mean"] == pytest.approx(statistics.fmean(finite), rel=1e-9, abs=1e-6)
            spread = sum((each - statistics.fmean(finite)) ** 2 for each in finite)
            assert row["m2"] == pytest.approx(spread, rel=1e-6, abs=1e-3)
        else:
            assert row["mean"] is None
        expected = {
            "first": min(own, key=by_time),
            "last": max(own, key=by_time),
            "last_step": max(own, key=by_step),
            "min": min(numbers, key=lambda each: (each["value"], by_step(each)), default=None),
            "max": min(numbers, key=lambda each: (-each["value"], by_step(each)), default=None),
        }
        for name, point in expected.items():
            check_point(row[name], point)


def check_point(found, row):
    if row is None:
        assert found is None
        return
    for name in ("timestamp", "step", "kind", "writer", "seq"):
        assert found[name] == row[name]
    assert found["value"] == row["value"] or math.isnan(row["value"])
    too_long = row["text"] is not None and len(row["text"].encode()) > series.MAX_TEXT_BYTES
    minus_zero = row["value"] is not None and str(row["value"]) == "-0.0"
    assert found["text"] == (None if too_long else row["text"])
    assert found["is_cut"] == (too_long or minus_zero)


@pytest.fixture(params=["by SQL", "few rows"])
def few_rows(request, monkeypatch):
    """Both ways in which rows are summarised."""
    monkeypatch.setattr("metrics_lake.series.summary.FEW_ROWS", 0 if request.param == "by SQL" else 1000)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=30))
def test_a_summary_says_what_the_points_say(few_rows, rows):
    table = to_arrow(rows)
    summary = series.summarise(table)
    assert summary.schema == series.summary_schema()
    check(summary, table)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=30), as_dictionaries=st.booleans())
def test_sorted_rows_are_summarised_alike(few_rows, rows, as_dictionaries):
    table = sort_rows(METRICS, to_arrow(rows))
    check(series.summarise_sorted(table), table)
    if as_dictionaries:
        for name in series.SERIES_KEYS:
            column = table.column(name).dictionary_encode()
            table = table.set_column(table.schema.get_field_index(name), name, column)
    assert series.summarise_sorted(table).num_rows == series.summarise(table).num_rows


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=30), places=st.lists(st.integers(0, 2), min_size=30, max_size=30))
def test_summaries_merge_however_the_points_were_split(few_rows, rows, places):
    table = to_arrow(rows)
    parts = [
        series.summarise(
            table.take(pa.array([at for at in range(len(rows)) if places[at] == place], pa.int64()))
        )
        for place in range(3)
    ]
    merged = series.merge(parts)
    assert merged.schema == series.summary_schema()
    check(merged, table)
    check(series.merge([parts[2], series.merge(parts[:2])]), table)


def test_means_far_from_zero_keep_their_spread(few_rows):
    rows = [("a", "m", (), None, at, 1e9 + at % 2, "w") for at in range(1000)]
    table = to_arrow(rows)
    merged = series.merge([series.summarise(table.slice(start, 100)) for start in range(0, 1000, 100)])
    assert merged["m2"].to_pylist() == [pytest.approx(250.0, rel=1e-9)]


def test_nothing_summarises_to_nothing():
    empty = series.summarise(arrow_schema(METRICS).empty_table())
    assert empty.num_rows == 0
    assert series.merge([]).num_rows == 0
    assert series.merge([empty, empty]).schema == series.summary_schema()


def test_sidecars_round_trip_and_notice_damage():
    summary = series.summarise(
        to_arrow([("a", "m", (("k", "v"),), 1, 2, 0.5, "w"), ("b", "m", (), 1, 2, "t", "w")])
    )
    data = series.encode(summary)
    assert series.decode(data, key="k").equals(summary)
    for damaged in (b"", data[:-9], data[: len(data) // 2], data[:30] + bytes(60) + data[90:]):
        with pytest.raises(CorruptObjectError, match="some/key"):
            series.decode(damaged, key="some/key")


@pytest.mark.parametrize("values", [[0.0, 1.9e154], [1e308, 1e308, -1e308], [1.7e308, 1.7e308]])
def test_sums_beyond_a_double_are_no_error(few_rows, values):
    table = to_arrow([("a", "m", (), at, at, value, "w") for at, value in enumerate(values)])
    for summary in (
        series.summarise(table),
        series.summarise_sorted(table),
        series.merge([series.summarise(table.slice(0, 1)), series.summarise(table.slice(1))]),
    ):
        assert summary["count"].to_pylist() == [len(values)]
        assert [row["value"] for row in summary["max"].to_pylist()] == [max(values)]
