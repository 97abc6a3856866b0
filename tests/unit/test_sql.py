"""``lake.sql``: what it shows, and what it cannot be made to do."""

import datetime as dt
import os
import re
import sys
import threading
import time
from contextlib import closing

import pyarrow as pa
import pytest

from metrics_lake import MetricsLake, query
from metrics_lake.errors import (
    CorruptObjectError,
    InvalidInputError,
    MetricsLakeError,
    ObjectNotFoundError,
    QueryError,
    SnapshotExpired,
)
from metrics_lake.query import sandbox
from metrics_lake.reader import Reader, connect, sql
from metrics_lake.storage import open_storage
from metrics_lake.storage.exposed import ExposedObjects


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake") as lake:
        yield lake


@pytest.fixture
def compacted(lake):
    """A lake with points in the table, in the inbox and in the journal."""
    lake.log_series("digits/1", "acc", [0.25, 0.5, 0.75])
    lake.log_params("digits/1", {"lr": 0.5, "optimizer": "adam"})
    lake.flush()
    lake.maintenance.compact()
    lake.log_series("digits/2", "acc", [1.0, float("nan")])
    lake.flush()
    lake.log_metric("digits/2", "acc", 3.0, step=7, tags={"fold": 1})
    return lake


# ---- what it shows -----------------------------------------------------------------------------------------


def test_metrics_are_all_points_wherever_they_are(compacted):
    rows = compacted.sql("from metrics order by resource, metric, tags_key, step")
    assert rows.columns == [
        *("resource", "metric", "step", "timestamp", "value", "kind", "text", "tags", "tags_key"),
        *("writer", "seq", "origin"),
    ]
    assert len(rows) == 8
    found = compacted.sql("select sum(value) as s from metrics where metric = 'acc' and not isnan(value)")
    assert found.values() == [5.5]
    assert found.reader().read_all().equals(found.arrow())


def test_latest_series_and_params_come_from_summaries(compacted):
    latest = compacted.sql("select resource, metric, tags_key, step, value from latest order by all").rows()
    assert [(row["resource"], row["metric"], row["step"]) for row in latest] == [
        ("digits/1", "acc", 2),
        ("digits/1", "params/lr", None),
        ("digits/1", "params/optimizer", None),
        ("digits/2", "acc", 1),
        ("digits/2", "acc", 7),
    ]
    (one,) = compacted.sql("from series where resource = 'digits/1' and metric = 'acc'").rows()
    assert (one["count"], one["num_nan"], one["mean"]) == (3, 0, 0.5)
    assert (one["first"], one["first_step"], one["last"], one["last_step"]) == (0.25, 0, 0.75, 2)
    assert (one["min"], one["min_step"], one["max"], one["max_step"]) == (0.25, 0, 0.75, 2)
    assert one["last_timestamp"] == one["max_timestamp"]
    (nan,) = compacted.sql("from series where resource = 'digits/2' and tags is null").rows()
    assert (nan["count"], nan["num_nan"], nan["mean"], nan["max"]) == (2, 1, 1.0, 1.0)
    params = compacted.sql("select resource, name, value, text from params order by all").rows()
    assert [tuple(row.values()) for row in params] == [
        ("digits/1", "lr", 0.5, None),
        ("digits/1", "optimizer", None, "adam"),
    ]


def test_latest_has_long_texts_and_the_sign_of_zero(lake):
    lake.log_metric("run", "params/text", "x" * 5000)
    lake.log_metric("run", "zero", -0.0)
    assert lake.sql("select strlen(text) as n from params").values() == [5000]
    assert repr(lake.sql("select value from latest where metric = 'zero'").values()[0]) == "-0.0"


def test_parameters_are_bound_and_must_be_exactly_those_of_the_query(compacted):
    found = compacted.sql("select count(*) as n from metrics where resource = $r", {"r": "' or true --"})
    assert found.values() == [0]
    when = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert compacted.sql("select count(*) n from metrics where timestamp > $t", {"t": when}).values() == [8]
    for params in (None, {}, {"other": 1}, {"r": 1, "s": 2}, [1]):
        with pytest.raises(InvalidInputError, match=r"params|\$r|\$s|\$other|type list"):
            compacted.sql("select $r", params)


def test_parameters_may_be_numpys_scalars(compacted):
    import numpy as np

    values = {
        "a": np.int64(3),
        "b": np.float32(0.5),
        "c": np.bool_(True),
        "d": np.array(2.0),
        "e": np.array([1]),
    }
    values |= {"f": np.datetime64("2026-11-28T01:02:03", "us")}
    (row,) = compacted.sql("select $a a, $b b, $c c, $d d, $e e, $f f", values).rows()
    assert row == {"a": 3, "b": 0.5, "c": True, "d": 2.0, "e": [1], "f": dt.datetime(2026, 11, 28, 1, 2, 3)}  # noqa: DTZ001
    with pytest.raises(InvalidInputError, match="object"):
        compacted.sql("select $a", {"a": object()}).rows()


def test_tables_that_there_are_not_are_told_with_those_that_there_are(compacted):
    labels = pa.table({"x": [1]})
    with pytest.raises(InvalidInputError, match=r"'labels': there is none.*metrics, latest.*\{\"labels\": …"):
        compacted.sql("select * from labels").rows()
    assert compacted.sql("select * from labels", frames={"labels": labels}).values() == [1]


def test_a_pivot_that_names_its_columns_is_one_statement(compacted):
    points = "(select resource, metric, value from metrics)"
    with pytest.raises(InvalidInputError, match="Name the columns"):
        compacted.sql(f"pivot {points} on metric using max(value)")
    found = compacted.sql(f"from (pivot {points} on metric in ('acc') using min(value)) order by resource")
    assert found.rows()[0] == {"resource": "digits/1", "acc": 0.25}


def test_frames_of_all_kinds_join(compacted):
    import pandas as pd
    import polars as pl

    data = {"resource": ["digits/1", "digits/2"], "team": ["vision", "text"]}
    text = "select team, count(*) as n from metrics join labels using (resource) group by team order by team"
    frames = [
        pa.table(data),
        pa.RecordBatch.from_pydict(data),
        pa.table(data).to_reader(),
        pl.DataFrame(data),
        pl.LazyFrame(data),
        pd.DataFrame(data),
        data,
    ]
    for frame in frames:
        found = compacted.sql(text, frames={"labels": frame})
        assert [tuple(row.values()) for row in found] == [("text", 3), ("vision", 5)]
    board = compacted.compare(None, "acc", tags={})
    assert compacted.sql("select min(acc) as m from board", frames={"board": board}).one()["m"] == 0.75
    for name in ("metrics", "LATEST", "no_rows", "a-b", "", 7):
        with pytest.raises(InvalidInputError, match="frames"):
            compacted.sql("select 1", frames={name: data})
    for wrong in (7, [1, 2], {"a": [1], "b": [1, 2]}):
        with pytest.raises(InvalidInputError, match="frames"):
            compacted.sql("select 1", frames={"labels": wrong})
    with pytest.raises(InvalidInputError, match="frames"):
        compacted.sql("select 1", frames=[data])


def test_at_an_instant_and_at_a_snapshot(compacted):
    first = compacted.history("digits/1", "acc").values("timestamp")[0]
    for view, count in [("metrics", 3), ("series", 1), ("latest", 1)]:
        assert compacted.sql(f"select count(*) as n from {view}", at=first).values() == [count]
    pinned = compacted.snapshot()
    compacted.log_metric("digits/3", "acc", 1.0)
    compacted.flush()
    assert compacted.sql("select count(*) as n from metrics", at=pinned).values() == [7]
    assert compacted.sql("select count(*) as n from metrics", at=str(pinned)).values() == [7]


def test_what_reads_only_is_allowed(compacted):
    for text in [
        "explain select * from metrics",
        "explain analyze select count(*) from series",
        "/* a */ explain -- b\n select 1 as x",
        "describe metrics",
        "summarize series",
        "from metrics limit 1",
        "values (1), (2)",
        "with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) from t",
        "select unnest([1, 2]) union all select range from range(3)",
        "pivot (select resource, value from metrics) on resource in ('digits/1') using avg(value)",
        "select 'a;b' as c;",
        "select json_extract_string('[1]', '$[0]') from latest",
    ]:
        assert compacted.sql(text).arrow().num_rows >= 0, text


def test_the_catalog_shows_the_views(compacted):
    for text in ("show tables", "select view_name as name from duckdb_views() where not internal"):
        assert {"latest", "metrics", "params", "series"} <= set(compacted.sql(text).values("name")), text


def test_integer_sums_are_ints(compacted):
    assert compacted.sql("select sum(count) as n from series").values() == [8]
    assert type(compacted.sql("select sum(count) as n from series").values()[0]) is int


def test_a_column_called_value_means_nothing_of_its_own(lake):
    lake.log_metric("run", "m", "text")
    found = lake.sql("select kind, 2.5::DOUBLE as value from metrics")
    assert found.rows() == [{"kind": "str", "value": 2.5}]


def test_errors_carry_duckdbs_message(compacted):
    with pytest.raises(InvalidInputError, match="syntax error"):
        compacted.sql("selct 1")
    with pytest.raises(InvalidInputError, match="metricz"):
        compacted.sql("from metricz").arrow()
    with pytest.raises(InvalidInputError, match="nothing"):
        compacted.sql("select nothing from metrics").rows()
    with pytest.raises(InvalidInputError, match="Conversion"):
        compacted.sql("select resource::INT from metrics").arrow()
    with pytest.raises(InvalidInputError, match="type int"):
        compacted.sql(7)


# ---- attacks -----------------------------------------------------------------------------------------------

WRITES = [
    "copy (select 1) to '{out}'",
    "copy metrics to '{out}' (format parquet)",
    "attach '{out}' as other",
    "install httpfs",
    "load httpfs",
    "set memory_limit = '100GB'",
    "set global threads = 1",
    "reset memory_limit",
    "pragma enable_profiling",
    "pragma version",
    "call pragma_version()",
    "export database '{out}'",
    "import database '{out}'",
    "create table t as select 1",
    "create temp table t (a int)",
    "create macro f(x) as x",
    "create view v as select 1",
    "create secret s (type s3, key_id 'a', secret 'b')",
    "drop view metrics",
    "insert into metrics select * from metrics",
    "delete from metrics",
    "update metrics set value = 0",
    "with t as (insert into metrics select * from metrics returning *) from t",
    "checkpoint",
    "vacuum",
    "use memory",
    "prepare p as select 1",
    "execute p",
    "begin",
    "select 1; select 2",
    "select 1; copy (select 1) to '{out}'",
    "explain copy (select 1) to '{out}'",
    "explain analyze copy (select 1) to '{out}'",
    "explain analyze insert into metrics select * from metrics",
    "pivot metrics on metric using avg(value)",
    "merge into metrics using metrics as m on true when matched then delete",
    "truncate metrics",
    "alter view metrics rename to others",
    "comment on view metrics is 'x'",
    "create sequence s",
    "create schema s",
    "create type t as enum ('a')",
    "set variable a = 1",
    "detach memory",
    "copy from database memory to other",
    "copy metrics from '{out}'",
    "force install httpfs from 'http://127.0.0.1:9'",
    "update extensions",
    "force checkpoint",
    "analyze",
    "deallocate p",
    "commit",
    "call enable_logging()",
    "explain analyze delete from metrics",
    "explain analyze create table t as select 1",
    "explain (analyze) copy (select 1) to '{out}'",
    "with t as materialized (delete from metrics returning *) from t",
    "select * from (insert into metrics select * from metrics returning *)",
    "/* /* */ explain select 1 /* */ */ copy (select 1) to '{out}'",
    "explain select 1; copy (select 1) to '{out}'",
    "",
    "-- nothing",
]
READS = [
    "from read_csv('/etc/passwd')",
    "from read_text('/etc/passwd')",
    "from read_blob('/etc/passwd')",
    "from read_parquet('{inside}')",
    "from read_json('/etc/passwd')",
    "from '/etc/passwd'",
    "from '{inside}'",
    "from glob('/etc/*')",
    "from sniff_csv('/etc/passwd')",
    "from parquet_metadata('{inside}')",
    "from read_csv('http://127.0.0.1:9/x.csv')",
    "from 'https://127.0.0.1:9/x.parquet'",
    "from read_parquet('s3://bucket/x.parquet')",
    "from duckdb_secrets()",
    "from which_secret('s3://x', 's3')",
    "from duckdb_settings()",
    "from query('from read_text(''/etc/passwd'')')",
    "from query_table('metrics')",
    "from json_execute_serialized_sql(json_serialize_sql('from read_text(''/etc/passwd'')'))",
    "select (select content from read_text('/etc/passwd'))",
    "with t as (from read_text('/etc/passwd')) from t",
    "select * from metrics where resource in (select content from read_text('/etc/passwd'))",
    "from enable_logging()",
    "from enable_profiling(save_location := '{out}')",
    "from create_external_resource('x')",
    "from arrow_scan(1, 2, 3)",
    "from pandas_scan(1)",
    "from python_map_function(1)",
    "select getenv('HOME')",
    "select sleep_ms(100000)",
    "select write_log('x')",
    "select pg_sleep(100)",
    "select main.sleep_ms(100000)",
    "select (100000).sleep_ms()",
    """select "SLEEP_MS"(100000)""",
    "select list_transform([100000], lambda x: sleep_ms(x))",
    "select columns(lambda c: write_log(c)) from metrics",
    "select sum(value) filter (write_log('x') is null) from metrics",
    "from metrics qualify write_log('x') is null",
    "from metrics order by write_log('x')",
    "explain analyze select sleep_ms(100000)",
    "select current_setting('temp_directory')",
    "select json_serialize_plan('from duckdb_secrets()')",
    "select json_serialize_plan('create table t as select 1')",
    """from "/etc/passwd\"""",
    "from 'file:///etc/passwd'",
    "from 'metricslake://0.parquet'",
    "from 'metricslake://../lake/_lake.json'",
    "from (values ('/etc/passwd')) as t(x), lateral (select * from read_text(x))",
    "from metrics positional join read_text('/etc/passwd')",
    "select exists (from read_text('/etc/passwd'))",
    "select glob('/etc/*')",
    "select x.read_text() from (values ('/etc/passwd')) as t(x)",
    "from read_duckdb('{inside}')",
    "from parquet_bloom_probe('{inside}', 'resource', 'a')",
    "from duckdb_extensions()",
    "from duckdb_logs()",
    "from duckdb_variables()",
    "from duckdb_temporary_files()",
    "from sql_auto_complete('x')",
    "from test_all_types()",
    "pivot read_text('/etc/passwd') on filename in ('a') using count(*)",
    "with recursive t(x) as (select 1 union all select x from t, read_text('/etc/passwd')) from t",
    "summarize read_text('/etc/passwd')",
    "describe from read_text('/etc/passwd')",
]


@pytest.mark.parametrize("attack", WRITES + READS)
def test_an_attack_is_refused_and_does_nothing(compacted, tmp_path, attack):
    out = tmp_path / "out"
    inside = next((tmp_path / "lake").glob("metrics/*/*.parquet"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "lake").rglob("*")}
    with pytest.raises(MetricsLakeError) as caught:
        compacted.sql(attack.format(out=out, inside=inside)).arrow()
    assert isinstance(caught.value, InvalidInputError)
    assert not out.exists()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "lake").rglob("*")}
    assert compacted.sql("select count(*) as n from metrics").values() == [8]


@pytest.mark.parametrize("attack", [each for each in WRITES + READS if "{" in each or "passwd" in each])
def test_the_connection_alone_refuses_what_parsing_would_have(tmp_path, attack):
    """Two walls: without the first the second still holds."""
    out, inside = tmp_path / "out", tmp_path / "in.parquet"
    query.run("SELECT 1").to_pylist()
    inside.write_bytes(b"PAR1")
    text = attack.format(out=out, inside=inside)
    with pytest.raises(MetricsLakeError):
        query.run_guarded(text, {}, query.Sources(), query.Limits())
    assert not out.exists()


def test_python_variables_are_no_tables(compacted):
    secret = pa.table({"a": [1]})
    with pytest.raises(InvalidInputError, match="secret"):
        compacted.sql("from secret").arrow()
    assert secret.num_rows == 1


def test_the_configuration_is_locked():
    with closing(sandbox._locked_connection(query.Sources(), query.Limits())) as connection:
        for setting in (
            "enable_external_access = true",
            "lock_configuration = false",
            "memory_limit = '1TB'",
            "allowed_paths = ['/etc/passwd']",
            "allowed_directories = ['/']",
            "autoload_known_extensions = true",
            "temp_directory = '/tmp'",
        ):
            with pytest.raises(Exception, match=r"lock|Cannot"):
                connection.execute(f"SET {setting}")


def test_queries_leave_nothing_to_each_other(compacted):
    frame = pa.table({"a": [1]})
    assert compacted.sql("select a from mine", frames={"mine": frame}).values() == [1]
    with pytest.raises(InvalidInputError, match="mine"):
        compacted.sql("from mine").arrow()


@pytest.mark.parametrize("how", ["arrow", "reader"])
def test_a_huge_cross_join_ends_with_its_time(compacted, how):
    text = "select max(a.range * b.range) from range(10000000) a, range(10000000) b"
    begun = time.monotonic()
    result = compacted.sql(text, timeout_seconds=0.3)
    with pytest.raises(QueryError, match=r"longer than 0\.3 seconds"):
        result.arrow() if how == "arrow" else result.reader().read_all()
    assert time.monotonic() - begun < 60
    assert compacted.sql("select 1 as a", timeout_seconds=None).values() == [1]
    for wrong in (0, -1, float("nan")):
        with pytest.raises(InvalidInputError, match="timeout_seconds"):
            compacted.sql("select 1", timeout_seconds=wrong)


def test_the_clock_stands_still_between_batches(compacted):
    before = threading.active_count()
    result = compacted.sql("select range as a from range(1000000)", timeout_seconds=20)
    rows = 0
    for batch in result.reader():
        rows += batch.num_rows
    assert rows == 1_000_000
    # One timer a batch would be hundreds; other tests' threads may come and go.
    assert threading.active_count() < before + 40


def test_memory_is_limited():
    limits = query.Limits(memory="64MB")
    text = "select list(range) from range(200000000)"
    with pytest.raises(QueryError):
        query.run_guarded(text, {}, query.Sources(), limits)


CONDITIONS = [
    "sleep_ms(100000) is null",
    "write_log('x') is null",
    "current_setting('temp_directory') <> ''",
    "exists (from read_text('/etc/passwd'))",
    "acc in (select 1)",
    "acc > 0) union select content from read_text('/etc/passwd') where (true",
    "true); copy (select 1) to '{out}'; select 1 where (true",
    "acc > 0) order by (acc",
    "acc > 0 -- ",
    "acc > $x",
    "acc > ?",
    "count(*) > 0",
    "row_number() over () > 0",
    "* is null",
    "columns(*) > 0",
    "candidates.acc > 0",
    "metric_0 > 0",
    "rowid >= 0",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_is_an_expression_over_metrics_and_nothing_else(compacted, tmp_path, condition):
    out = tmp_path / "out"
    where = condition.format(out=out)
    if condition == "acc > 0 -- ":  # a comment is no harm: it ends where the condition does
        assert compacted.compare(None, "acc", tags={}, where=where).values("resource") == [
            "digits/1",
            "digits/2",
        ]
        return
    for ask in (
        lambda: compacted.best("acc", mode="max", tags={}, where=where).arrow(),
        lambda: compacted.compare(None, "acc", tags={}, where=where).arrow(),
    ):
        with pytest.raises(InvalidInputError):
            ask()
    assert not out.exists()


def test_deep_and_long_queries_are_refused_and_not_a_crash(compacted):
    for text in ("(" * 5000 + "1" + ")" * 5000, "1" + "+1" * 5000, "not " * 5000 + "true", "[" * 3000):
        with pytest.raises(InvalidInputError):
            compacted.sql(f"select {text}").arrow()
        with pytest.raises(InvalidInputError):
            compacted.best("acc", mode="max", tags={}, where=f"{text} is null").arrow()
    wide = ", ".join(f"{at} as c{at}" for at in range(2000))
    assert len(compacted.sql(f"select {wide}").columns) == 2000


def test_a_frame_cannot_stand_for_what_the_views_read(compacted):
    fake = pa.table({"resource": ["x"], "metric": ["acc"], "value": [9.0]})
    for name in ("recent_rows", "Series_Summary", "latest_points", "params", "data_files; drop", "a.b"):
        with pytest.raises(InvalidInputError, match="frames"):
            compacted.sql("select count(*) as n from metrics", frames={name: fake})
    assert compacted.sql("select count(*)::INT as n from metrics", frames={"read_text": fake}).values() == [8]


# ---- files -------------------------------------------------------------------------------------------------


def test_exposed_objects_are_these_and_can_only_be_read(any_storage):
    any_storage.put_new("a/one.parquet", bytes(range(256)) * 8)
    any_storage.put_new("a/two.parquet", b"two")
    files = ExposedObjects(any_storage, [("a/one.parquet", 2048)])
    (path,) = files.paths
    with files.open(path) as handle:
        assert handle.read(3) == b"\x00\x01\x02"
        assert handle.seek(-2, 2) == 2046
        assert handle.read(100) == b"\xfe\xff"
        assert handle.seek(300) == handle.tell() == 300
        assert handle.read() == (bytes(range(256)) * 8)[300:]
    assert files.size(path) == files.info(path)["size"] == 2048
    assert files.glob(path) == ["0.parquet"]
    assert not files.exists(ExposedObjects.path_of(1))
    assert files.glob("metricslake://*") == []
    for mode in ("wb", "r+b", "ab"):
        with pytest.raises(PermissionError):
            files.open(path, mode)
    with pytest.raises(FileNotFoundError):
        files.open("metricslake://a/two.parquet")
    assert files == ExposedObjects(any_storage, [("a/one.parquet", 2048)]) or files.key


def test_reads_that_follow_on_each_other_fetch_ahead(tmp_path):
    from metrics_lake.testing import CountingStorage

    storage = CountingStorage(open_storage(f"memory://{tmp_path.name}"))
    data = os.urandom(4 << 20)
    storage.put_new("big.parquet", data)
    files = ExposedObjects(storage, [("big.parquet", len(data))])
    storage.reset()
    with files.open(files.paths[0]) as handle:
        read = b"".join(handle.read(50_000) for _ in range(80))
    assert read == data[: 80 * 50_000]
    assert sum(storage.requests.values()) <= 5


def test_a_file_that_is_gone_is_said(compacted, tmp_path):
    pinned = compacted.sql("select max(value) from metrics where resource = 'digits/1'")
    for path in (tmp_path / "lake").glob("metrics/*/*.parquet"):
        path.unlink()
    with pytest.raises((SnapshotExpired, ObjectNotFoundError)):
        pinned.arrow()


def test_a_damaged_file_is_named(compacted, tmp_path):
    (path,) = (tmp_path / "lake").glob("metrics/*/*.parquet")
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    with pytest.raises((CorruptObjectError, QueryError, InvalidInputError)) as caught:
        compacted.sql("select * from metrics").arrow()
    if isinstance(caught.value, CorruptObjectError):
        assert path.name in str(caught.value)


def test_every_store_answers_the_same(any_url, any_options):
    with MetricsLake(any_url, storage_options=any_options, compaction="off") as lake:
        lake.log_series("a", "m", [float(at) for at in range(100)])
        lake.flush()
        lake.maintenance.compact()
        lake.log_series("b", "m", [1.0, 2.0])
        lake.flush()
        lake.log_metric("c", "m", 5.0)
        text = "select resource, sum(value) as s from metrics group by resource order by resource"
        expected = [("a", 4950.0), ("b", 3.0), ("c", 5.0)]
        assert [tuple(row.values()) for row in lake.sql(text)] == expected
        with closing(lake.duckdb()) as connection:
            assert connection.sql(text).fetchall() == expected


def test_large_inboxes_are_read_from_their_objects(tmp_path):
    with MetricsLake(tmp_path / "lake", compaction="off") as lake:
        for number in range(4):
            lake.log_series(f"run/{number}", "m", [1.0] * 50)
            lake.flush()
        reader = Reader(open_storage(str(tmp_path / "lake")), recent_bytes=0)
        assert sql(reader, "select count(*)::INT as n from metrics").values() == [200]
        with closing(connect(reader)) as connection:
            assert connection.sql("select count(*) from metrics").fetchall() == [(200,)]


# ---- the escape hatch --------------------------------------------------------------------------------------


def test_the_escape_hatch_is_an_ordinary_connection(compacted, tmp_path):
    with closing(compacted.duckdb()) as connection:
        connection.execute(f"copy (select * from metrics) to '{tmp_path / 'out.parquet'}'")
        assert connection.sql(f"select count(*) from '{tmp_path / 'out.parquet'}'").fetchall() == [(8,)]
        for view in ("metrics", "latest", "series", "params"):
            assert connection.sql(f"select count(*) > 0 from {view}").fetchall() == [(True,)]
    first = compacted.history("digits/1", "acc").values("timestamp")[0]
    with closing(compacted.duckdb(at=first)) as connection:
        assert connection.sql("select count(*) from metrics").fetchall() == [(3,)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_queries_too(compacted):
    assert compacted.sql("select 1 as a").values() == [1]
    compacted.flush()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            found = compacted.sql("select count(*)::INT as n from metrics where step is not null").values()
            os._exit(0 if found == [6] else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_views_are_found_in_the_text_whatever_their_case(compacted):
    assert compacted.sql('select count(*)::INT as n from "METRICS"').values() == [8]
    assert re.search("n", repr(compacted.sql("select count(*) as n from Series")))
