"""DuckDB behind one door."""

import os
import signal
import subprocess
import sys
import threading

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics_lake import query
from metrics_lake.errors import (
    CorruptObjectError,
    InvalidInputError,
    MetricsLakeError,
    ObjectNotFoundError,
    QueryError,
)
from metrics_lake.query import sandbox
from metrics_lake.storage import open_storage
from metrics_lake.storage.exposed import ExposedObjects


def test_values_are_bound():
    table = query.run("SELECT $text AS x", {"text": "'; DROP TABLE y; --"})
    assert table.to_pylist() == [{"x": "'; DROP TABLE y; --"}]


def test_tables_are_seen_by_their_own_query_only():
    rows = pa.table({"a": pa.array([1, 2], pa.int64())})
    assert query.run("SELECT sum(a)::BIGINT AS s FROM rows", rows=rows)["s"].to_pylist() == [3]
    with pytest.raises(InvalidInputError, match="rows"):
        query.run("SELECT * FROM rows")


def test_python_variables_are_no_tables():
    outside = pa.table({"a": pa.array([1], pa.int64())})
    with pytest.raises(InvalidInputError, match="outside"):
        query.run("SELECT * FROM outside")
    assert outside.num_rows == 1


def test_strings_are_ordered_by_their_utf8_bytes():
    names = ["\U00010000", "￿", "z", "é", "a", "A", ""]
    rows = pa.table({"name": pa.array(names)})
    found = query.run("SELECT name FROM rows ORDER BY name", rows=rows)["name"].to_pylist()
    assert found == sorted(names, key=str.encode)
    assert found == sorted(names)


def test_timestamps_come_back_in_utc():
    rows = pa.table({"t": pa.array([0], pa.timestamp("us", tz="UTC"))})
    assert query.run("SELECT t FROM rows", rows=rows).schema.field("t").type == pa.timestamp("us", tz="UTC")


def test_order_survives_large_results():
    rows = pa.table({"a": pa.array(range(300_000), pa.int64())})
    found = query.run("SELECT a FROM rows ORDER BY a DESC", rows=rows)["a"]
    assert found.combine_chunks().equals(pa.array(range(299_999, -1, -1), pa.int64()))


def test_streams_come_in_batches_and_can_be_dropped():
    reader = query.stream("SELECT range AS a FROM range($n)", {"n": 1_000_000})
    assert 0 < reader.read_next_batch().num_rows < 1_000_000
    del reader
    assert query.stream("SELECT 1 AS a").read_all().num_rows == 1


def test_what_does_not_fit_in_memory_goes_to_disk_and_leaves_nothing(tmp_path):
    script = (
        "import os, sys\n"
        "from metrics_lake import query\n"
        "query.run('SELECT 1')\n"
        "query.database._databases[os.getpid()].execute(\"SET memory_limit = '200MB'\")\n"
        "sql = 'SELECT range AS a, hash(range)::VARCHAR AS h FROM range(3000000) ORDER BY h'\n"
        "assert sum(batch.num_rows for batch in query.stream(sql)) == 3000000\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=120, capture_output=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_feed_is_a_source():
    batch = pa.record_batch({"a": pa.array([1, 2, 3], pa.int64())})
    feed = query.Feed(batch.schema, iter([batch, batch]))
    assert query.run("SELECT count(*) AS n FROM rows", rows=feed)["n"].to_pylist() == [6]


@pytest.mark.parametrize("ask", [query.run, lambda *a, **k: query.stream(*a, **k).read_all()])
def test_what_a_feed_raises_is_raised(ask):
    def batches():
        yield pa.record_batch({"a": pa.array([1], pa.int64())})
        raise ObjectNotFoundError("gone", key="k")

    with pytest.raises(ObjectNotFoundError) as caught:
        ask("SELECT * FROM rows", rows=query.Feed(pa.schema([("a", pa.int64())]), batches()))
    assert caught.value.key == "k"


@pytest.mark.parametrize("ask", [query.run, lambda *a, **k: query.stream(*a, **k).read_all()])
def test_ctrl_c_while_python_gives_the_rows_is_no_error_of_the_query(ask):
    def batches():
        signal.raise_signal(signal.SIGINT)
        yield pa.record_batch({"a": pa.array([1], pa.int64())})

    with pytest.raises(KeyboardInterrupt):
        ask("SELECT * FROM rows", rows=query.Feed(pa.schema([("a", pa.int64())]), batches()))


def test_ctrl_c_while_duckdb_opens_an_object_is_no_damaged_object():
    storage = open_storage("memory://interrupted", None)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": pa.array([1], pa.int64())}), sink)
    data = sink.getvalue().to_pybytes()
    storage.put_new("a.parquet", data)

    def tails(key, fetch):
        signal.raise_signal(signal.SIGINT)
        return fetch()

    files = ExposedObjects(storage, [("a.parquet", len(data))], tails)
    sources = query.Sources(file_system=files, paths=files.paths, key=files.key)
    with pytest.raises(KeyboardInterrupt):
        query.run_guarded(f"SELECT * FROM read_parquet('{files.paths[0]}')", {}, sources, query.Limits())


@pytest.mark.parametrize("ask", ["query.run(sql)", "query.stream(sql).read_all()"])
def test_ctrl_c_ends_a_query_that_computes_and_the_next_one_answers(ask):
    # With one thread it is always the main one that computes. DuckDB 2.0 looks for signals between two tasks
    # of the main thread, and not while that waits for the others'.
    script = f"""
import os, signal, threading
from metrics_lake import query
from metrics_lake.query import database

database.new_cursor().execute("SET threads = 1")
sql = "SELECT count(*) AS n FROM range(1000000000000) WHERE hash(range) % 7 = 1"
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {ask}
except KeyboardInterrupt:
    sql = "SELECT 7 AS n"
    assert {ask}["n"].to_pylist() == [7]
    print("stopped")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.stdout == "stopped\n", done.stderr


def test_a_clock_that_ctrl_c_kept_going_ends_in_silence():
    connection = duckdb.connect()
    running = sandbox._Clock(connection, 0.01).running()
    before = set(threading.enumerate())
    running.__enter__()  # and never left
    connection.close()
    for timer in set(threading.enumerate()) - before:
        timer.join()  # what a thread raises is an error of the test


def test_paths_with_glob_characters_name_one_file(tmp_path):
    folder = tmp_path / "we[i]rd *?'x"
    folder.mkdir()
    pq.write_table(pa.table({"a": pa.array([1], pa.int64())}), folder / "a.parquet")
    files = [query.file_pattern(str(folder / "a.parquet"))]
    sql = "SELECT a FROM read_parquet($files, hive_partitioning = false)"
    assert query.run(sql, {"files": files}).num_rows == 1


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ObjectNotFoundError, match=r"gone\.parquet"):
        query.run("SELECT * FROM read_parquet($f)", {"f": [str(tmp_path / "gone.parquet")]})


@pytest.mark.parametrize("content", [b"", b"PA", b"PAR1 nothing of the kind PAR1"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "bad.parquet"
    path.write_bytes(content)
    with pytest.raises(CorruptObjectError, match=r"bad\.parquet"):
        query.run("SELECT * FROM read_parquet($f)", {"f": [str(path)]})


def test_a_file_that_is_damaged_inside_gives_no_rows(tmp_path):
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"a": [str(i) for i in range(50_000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)  # page headers too; what hits data only is for checksums to see
    path.write_bytes(data)
    with pytest.raises((CorruptObjectError, QueryError)):  # DuckDB does not always say which file
        query.run("SELECT sum(length(a)) FROM read_parquet($f)", {"f": [str(path)]})


def test_wrong_sql_is_the_callers_error():
    with pytest.raises(InvalidInputError, match="selec"):
        query.run("selec 1")


def test_errors_inside_a_stream_are_translated():
    reader = query.stream("SELECT if(range > 900000, 'x', '1')::INT AS a FROM range(1000000)")
    with pytest.raises(MetricsLakeError, match="Conversion"):
        reader.read_all()


def test_threads_query_at_once():
    found: list[int] = []

    def work(number: int) -> None:
        rows = pa.table({"a": pa.array([number] * 1000, pa.int64())})
        for _ in range(10):
            found.append(query.run("SELECT max(a) AS m FROM rows", rows=rows)["m"][0].as_py())  # noqa: PERF401

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([*range(4)] * 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a thing of POSIX")
def test_a_forked_child_queries_and_exits_without_waiting_for_its_parents_threads():
    script = (
        "import os, sys\n"
        "from metrics_lake import query\n"
        "query.run('SELECT sum(hash(range)) FROM range(1000000)')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    query.run('SELECT sum(hash(range)) FROM range(1000000)')\n"
        "    sys.exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, check=False)
    assert done.returncode == 7


def test_few_points_are_copied_and_read_without_duckdb(tmp_path):
    script = f"""
import sys
from metrics_lake import MetricsLake

with MetricsLake({str(tmp_path / "lake")!r}, state_dir={str(tmp_path / "state")!r}) as lake:
    lake.log_metrics("run", {{"loss": 0.5, "acc": 0.9}})
    assert lake.copy_metrics("run", "model") == 2
    assert lake.get_metric("run", "loss") == lake.get_metric("model", "loss") == 0.5
    assert "duckdb" not in sys.modules
    assert lake.sql("SELECT count(*) FROM metrics").values() == [4]
    assert "duckdb" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_what_the_package_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        query.nothing  # noqa: B018


def test_where_there_is_no_temporary_folder_queries_stay_in_memory(tmp_path):
    program = (
        "import os, tempfile\n"
        "def nowhere(): raise FileNotFoundError('No usable temporary directory found')\n"
        "tempfile.gettempdir = nowhere\n"
        "from metrics_lake import MetricsLake\n"
        "with MetricsLake('lake', state_dir='state') as lake:\n"
        "    lake.log_metric('r', 'm', 1.0)\n"
        "    assert lake.sql('SELECT value FROM metrics').values() == [1.0]\n"
        "    assert lake.best('m', mode='max').values('value') == [1.0]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
