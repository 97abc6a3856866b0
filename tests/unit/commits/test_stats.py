from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_lake.commits import make_bloom, may_contain
from metrics_lake.commits.bloom import MAX_BLOOM_BYTES
from metrics_lake.commits.stats import StatsBuilder, _round_up, parse_stats


def stats_of(rows):
    builder = StatsBuilder("metrics")
    builder.add(rows.slice(0, 3))
    builder.add(rows.slice(3))
    return builder.to_json()


def replace(rows, name, values):
    field = rows.schema.field(name)
    return rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))


def test_bounds_enclose_all_rows_and_timestamps_are_rounded_outwards(make):
    rows = make.rows(make.writer(1), 0, 9)
    text = json.loads(stats_of(rows))
    assert text["numRecords"] == 10
    assert text["minValues"]["timestamp"] == "2023-11-14T22:13:20.000Z"
    assert text["maxValues"]["timestamp"] == "2023-11-14T22:13:20.001Z"
    assert text["nullCount"]["step"] == 0
    num_records, stats = parse_stats("metrics", json.dumps(text))
    assert num_records == 10
    assert (stats["step"].min, stats["step"].max) == (0, 9)
    assert stats["timestamp"].min <= 1_700_000_000_000_000
    assert stats["timestamp"].max >= 1_700_000_000_000_009


def test_early_years_have_four_digits(make):
    year = datetime(1900, 1, 1, tzinfo=UTC)
    rows = replace(make.rows(make.writer(1), 0, 0), "timestamp", [year])
    assert json.loads(stats_of(rows))["minValues"]["timestamp"] == "1900-01-01T00:00:00.000Z"


def test_a_column_of_nulls_has_a_null_count_and_no_bounds(make):
    rows = replace(make.rows(make.writer(1), 0, 9), "step", [None] * 10)
    text = json.loads(stats_of(rows))
    assert text["nullCount"]["step"] == 10
    assert "step" not in text["minValues"]
    assert "step" not in text["maxValues"]


def test_where_a_bound_cannot_be_given_there_are_none_at_all(make):
    rows = make.rows(make.writer(1), 0, 0)
    assert json.loads(stats_of(replace(rows, "resource", ["\U0010ffff" * 40]))) == {"numRecords": 1}
    end = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert json.loads(stats_of(replace(rows, "timestamp", [end]))) == {"numRecords": 1}


@given(st.text(max_size=80))
def test_a_cut_maximum_sorts_at_or_behind_its_text(text):
    bound = _round_up(text)
    if bound is None:
        assert set(text[:32]) == {"\U0010ffff"}
    else:
        assert len(bound) <= 32 or bound == text
        assert bound.encode() >= text.encode()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"numRecords": null}',
        '{"minValues": 3}',
        '{"minValues": {"timestamp": 5}}',
    ],
)
def test_what_cannot_be_read_is_unknown(text):
    num_records, stats = parse_stats("metrics", text)
    assert num_records is None
    assert all((each.min, each.max) == (None, None) for each in stats.values())


def test_foreign_maxima_of_timestamps_are_widened_by_a_millisecond():
    text = json.dumps({"numRecords": 1, "maxValues": {"timestamp": "2026-01-01T00:00:00.123Z"}})
    _, stats = parse_stats("metrics", text)
    exact = datetime(2026, 1, 1, 0, 0, 0, 123_999, tzinfo=UTC)
    assert stats["timestamp"].max >= exact.timestamp() * 1e6
    assert stats["timestamp"].min is None


@given(st.sets(st.text(min_size=1), max_size=60))
def test_a_bloom_filter_holds_all_it_was_given(resources):
    bloom = make_bloom(resources)
    assert all(may_contain(bloom, resource) for resource in resources)


def test_bloom_filters_are_small_and_exclude_most_others():
    for count in (1, 100, 9000):
        bloom = make_bloom([f"run-{number}" for number in range(count)])
        assert len(bloom) <= MAX_BLOOM_BYTES
        passed = sum(may_contain(bloom, f"other-{number}") for number in range(2000))
        assert passed < 60
    assert make_bloom([f"run-{number}" for number in range(60_000)]) is None
    assert may_contain(None, "anything")


def test_the_layout_of_bloom_filters_does_not_change():
    assert make_bloom(["run"]).hex() == "0800440022001100"
