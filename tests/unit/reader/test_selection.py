"""Pruning never loses a row."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_lake import query
from metrics_lake.commits import ColumnStats, DataFile
from metrics_lake.commits.bloom import make_bloom
from metrics_lake.globs import Glob
from metrics_lake.reader.selection import Ids, Selection

TEXT = st.text(st.sampled_from("ab*?/é￿\U00010000"), min_size=1, max_size=4)
FILE = DataFile("metrics/month=2026-09/x.parquet", 1, 1, "2026-09", {}, True, None, "d")


@given(
    st.lists(TEXT, min_size=1),
    st.lists(TEXT, max_size=3),
    st.lists(st.text("ab*?/é", min_size=1), max_size=2),
)
def test_bounds_and_blooms_never_exclude_a_file_with_the_row(stored, names, patterns):
    ids = Ids(tuple(names), tuple(map(Glob, patterns)))
    stats = {"resource": ColumnStats(min(stored)[:2], max(stored), 0)}
    file = replace(FILE, stats=stats, bloom=make_bloom(stored))
    if any(map(ids.matches, stored)):
        assert Selection(resources=ids).may_be_in(file)
        assert Selection(metrics=ids).may_be_in(replace(FILE, stats={"metric": stats["resource"]}))


@given(
    st.lists(st.text("ab*?/é\x00\n\U00010000", min_size=1, max_size=4), min_size=1),
    st.lists(TEXT, max_size=3),
    st.lists(st.text("ab*?/é\x00", min_size=1, max_size=3), max_size=2),
)
def test_sql_and_arrow_find_the_rows_that_python_does(stored, names, patterns):
    ids = Ids(tuple(names), tuple(map(Glob, patterns)))
    rows = pa.table({"resource": pa.array(stored, pa.string())})
    expected = [each for each in stored if ids.matches(each)]
    assert rows.filter(ids.mask(rows.column("resource"))).column("resource").to_pylist() == expected
    bindings = {}
    sql = f"SELECT resource FROM rows WHERE {ids.sql('resource', bindings)}"
    assert query.run(sql, bindings, rows=rows).column("resource").to_pylist() == expected


def test_what_cannot_be_there_is_pruned():
    file = replace(
        FILE,
        stats={
            "resource": ColumnStats("b", "d", 0),
            "metric": ColumnStats("m", "n", 0),
            "step": ColumnStats(10, 20, None),
            "timestamp": ColumnStats(1_789_000_000_000_000, 1_789_100_000_000_000, 0),
        },
        bloom=make_bloom(["b", "d"]),
    )
    assert Selection.of("b", "m", steps=15).may_be_in(file)
    for gone in (
        Selection.of("a"),
        Selection.of("c"),
        Selection.of("e"),
        Selection.of(Glob("e*")),
        Selection.of(None, "z"),
        Selection.of(steps=range(10)),
        Selection.of(steps=21),
        Selection.of(since=1_790_000_000),
        Selection.of(until=1_788_000_000),
    ):
        assert not gone.may_be_in(file)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"since": 1_790_812_800}, False),  # 2026-10-01
        ({"since": 1_790_812_799}, True),
        ({"until": 1_788_220_800}, False),  # 2026-09-01
        ({"until": 1_788_220_801}, True),
    ],
)
def test_the_month_prunes_without_statistics(bounds, expected):
    assert Selection.of(**bounds).may_be_in(FILE) is expected


def test_unknown_months_and_statistics_prune_nothing():
    file = replace(FILE, month="", stats={"step": ColumnStats(None, None, None)})
    assert Selection.of("a", "b", steps=3, since=0, until=9e9).may_be_in(file)
