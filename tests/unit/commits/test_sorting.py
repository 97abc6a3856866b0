from __future__ import annotations

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_lake.commits import sort_rows, split_by_month
from metrics_lake.schema import TABLES, arrow_schema

text = st.text(max_size=4) | st.sampled_from(["a", "Z", "é", "\U0001f600", "\uffff", "run/1", "run/10"])
row = st.tuples(text, text, text, st.none() | st.integers(-3, 3), st.integers(0, 3), st.sampled_from("ab"))


def table_of(rows):
    n = len(rows)
    resource, metric, tags_key, step, time, writer = zip(*rows, strict=True) if rows else ((),) * 6
    columns = {
        "resource": resource, "metric": metric, "tags_key": tags_key, "step": step, "timestamp": time,
        "writer": writer, "seq": range(n), "kind": ["float"] * n, "value": [0.5] * n,
    }  # fmt: skip
    schema = arrow_schema("metrics")
    return pa.table(
        [pa.array(list(columns.get(field.name, [None] * n)), field.type) for field in schema], schema=schema
    )


@given(st.lists(row, max_size=40))
def test_rows_are_sorted_by_bytes_with_nulls_first(rows):
    table = table_of(rows)
    names = TABLES["metrics"].sort_keys

    def order(each):
        return [
            (value is not None, value.encode() if isinstance(value, str) else value or 0)
            for value in (each[name] if name != "timestamp" else each[name].timestamp() for name in names)
        ]

    expected = sorted(table.to_pylist(), key=order)
    assert sort_rows("metrics", table).to_pylist() == expected
    middle = len(rows) // 2
    chunked = pa.concat_tables([table.slice(0, middle), table.slice(middle)])
    assert sort_rows("metrics", chunked).to_pylist() == expected


def test_many_distinct_texts_do_not_overflow_the_combined_key():
    generator = random.Random(3)
    n = 3000
    texts = [[f"{generator.getrandbits(60)}" for _ in range(n)] for _ in range(6)]
    columns = {f"k{index}": values for index, values in enumerate(texts)}
    table = pa.table(columns)
    expected = sorted(zip(*texts, strict=True))
    assert (
        list(zip(*sort_rows("metrics", table, keys=list(columns)).to_pydict().values(), strict=True))
        == expected
    )


@pytest.mark.parametrize("year", [1900, 1969, 2026, 9999])
def test_rows_are_split_by_utc_month(year):
    import datetime as dt

    times = [dt.datetime(year, 1, 31, 23, 59, 59, 999999, dt.UTC), dt.datetime(year, 2, 1, tzinfo=dt.UTC)]
    table = table_of([("r", "m", "", None, time, "w") for time in (*times, times[0])])
    parts = split_by_month(table)
    assert {month: part["seq"].to_pylist() for month, part in parts.items()} == {
        f"{year}-01": [0, 2],
        f"{year}-02": [1],
    }
    assert split_by_month(table.slice(0, 0)) == {}
    assert list(split_by_month(table.slice(0, 1))) == [f"{year}-01"]


@given(st.lists(row, max_size=40), st.lists(st.integers(0, 39), max_size=3))
def test_rows_nearly_in_order_are_sorted_too(rows, moved):
    ordered = sort_rows("metrics", table_of(rows))
    assert sort_rows("metrics", ordered).equals(ordered)
    places = list(range(len(rows)))
    for place in moved:
        if place < len(places):
            places.append(places.pop(place))
    shuffled = ordered.take(pa.array(places, pa.int64()))
    assert sort_rows("metrics", shuffled).equals(ordered)
