"""Run tables, leaderboards, histories and SQL; against plain DuckDB on one sorted file in the same run.

    python tests/benchmarks/test_analysis.py [--points 10_000_000] [--inbox 100]

As tests the same functions run on little data with timing off. Ratios count, not milliseconds. The floor of
each line is what DuckDB takes to answer the same from one optimally sorted Parquet file of the same points;
for run tables and leaderboards the lake reads summaries in place of the points.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pytest

from metrics_lake.reader import Reader, best, compare, sql
from metrics_lake.storage import open_storage

_spec = importlib.util.spec_from_file_location("lake_of_runs", Path(__file__).with_name("test_reading.py"))
lake_of_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lake_of_runs)

GROUP = "SELECT metric, count(*) AS n, avg(value) AS mean, max(value) AS top FROM metrics GROUP BY metric"
ONE_RUN = "SELECT step, value FROM metrics WHERE resource = $r AND metric = 'metric/07' ORDER BY step"
ALL_RUNS = "SELECT resource, max(value) AS top FROM metrics WHERE metric = 'metric/07' GROUP BY resource"
EVERY_SERIES = "SELECT resource, metric, avg(value) AS mean FROM metrics GROUP BY ALL"
LIKE = (
    "SELECT metric, avg(value) AS mean FROM metrics WHERE resource LIKE 'project/run-0000%' GROUP BY metric"
)
RUN_TABLE = """
    PIVOT (SELECT resource, metric, arg_max(value, timestamp) AS last FROM metrics GROUP BY ALL)
    ON metric IN ({metrics}) USING first(last) GROUP BY resource ORDER BY resource
"""
BOARD = """
    SELECT resource, max(value) AS value, arg_max(step, value) AS step FROM metrics
    WHERE metric = 'metric/07' GROUP BY resource ORDER BY value DESC LIMIT 10
"""
BOARD_WHERE = """
    SELECT resource, max(value) AS value FROM metrics
    WHERE metric = 'metric/07' AND resource IN (
        SELECT resource FROM metrics WHERE metric = 'metric/03' GROUP BY resource
        HAVING arg_max(value, timestamp) < 0.5
    ) GROUP BY resource ORDER BY value DESC LIMIT 10
"""


def connection(path: str) -> duckdb.DuckDBPyConnection:
    """Return plain DuckDB on one sorted file."""
    plain = duckdb.connect(":memory:")
    plain.execute("SET parquet_metadata_cache = true")
    escaped = path.replace("'", "''")
    plain.execute(f"CREATE VIEW metrics AS FROM read_parquet('{escaped}', hive_partitioning = false)")
    return plain


def cases(reader: Reader, plain: duckdb.DuckDBPyConnection, name: str):
    """Return (what, ours, the floor) of every question."""
    metrics = ", ".join(f"'metric/{number:02d}'" for number in range(lake_of_runs.SERIES))
    run_table = RUN_TABLE.format(metrics=metrics)
    history = lake_of_runs.HISTORY.replace("read_parquet($files, hive_partitioning = false)", "metrics")
    one = history.replace("resource = $resource", f"resource = '{name}' AND metric = 'metric/07'")

    def floor(text, params=None):
        return lambda: plain.sql(text, params=params).to_arrow_table()

    def ours(text, params=None):
        return lambda: sql(reader, text, params).arrow()

    def board(**options):
        return best(reader, "metric/07", mode="max", **options).arrow()

    return [
        ("run table, all metrics", lambda: compare(reader, None).arrow(), floor(run_table)),
        ("leaderboard", board, floor(BOARD)),
        ("leaderboard where", lambda: board(where='"metric/03" < 0.5'), floor(BOARD_WHERE)),
        ("history of a series", lambda: reader.history(name, "metric/07").arrow(), floor(one)),
        ("SQL: group by metric", ours(GROUP), floor(GROUP)),
        ("SQL: group by series", ours(EVERY_SERIES), floor(EVERY_SERIES)),
        ("SQL: one metric, all runs", ours(ALL_RUNS), floor(ALL_RUNS)),
        ("SQL: one series", ours(ONE_RUN, {"r": name}), floor(ONE_RUN, {"r": name})),
        ("SQL: runs by prefix", ours(LIKE), floor(LIKE)),
        (
            "SQL: the series view",
            ours("SELECT metric, max(max) AS top FROM series GROUP BY metric"),
            floor(GROUP),
        ),
    ]


@pytest.fixture
def filled(tmp_path):
    storage = open_storage(str(tmp_path / "lake"))
    path = str(tmp_path / "sorted.parquet")
    runs = lake_of_runs.fill_table(storage, path, 40_000)
    return storage, path, runs


@pytest.mark.parametrize("number", range(10))
def test_question(benchmark, filled, number):
    storage, path, _ = filled
    with connection(path) as plain:
        what, ours, floor = cases(Reader(storage), plain, "project/run-00001")[number]
        found = benchmark(ours)
        expected = floor()
    assert found.num_rows == expected.num_rows, what
    if what.startswith("SQL") and "view" not in what:
        keys = [(name, "ascending") for name in found.column_names]
        rounded = [
            [
                tuple(round(x, 9) if isinstance(x, float) else x for x in row.values())
                for row in each.to_pylist()
            ]
            for each in (found.sort_by(keys), expected.sort_by(keys))
        ]
        assert sorted(rounded[0]) == sorted(rounded[1])


def test_recent_rows_beside_the_table(benchmark, filled):
    storage, _, runs = filled
    lake_of_runs.fill_inbox(storage, 20)
    reader = Reader(storage)
    assert len(benchmark(lambda: compare(reader, None).arrow())) == runs + 10


# ---- the script --------------------------------------------------------------------------------------------


def paired_ms(ours, floor, repeats: int) -> tuple[float, float, float]:
    """Return our first and our median time and the floor's, measured in turns."""
    begun = time.perf_counter()
    ours()
    first = (time.perf_counter() - begun) * 1e3
    floor()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for action, into in zip((ours, floor), times, strict=True):
            begun = time.perf_counter()
            action()
            into.append((time.perf_counter() - begun) * 1e3)
    return first, statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--inbox", type=int, default=0, help="how many inbox objects of 100 rows lie beside")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(str(Path(folder, "lake")))
        path = str(Path(folder, "sorted.parquet"))
        runs = lake_of_runs.fill_table(storage, path, options.points)
        if options.inbox:
            lake_of_runs.fill_inbox(storage, options.inbox)
        reader = Reader(storage)
        lake_of_runs.say(
            f"{options.points:,} points, {runs:,} runs", "first ms", "warm ms", "DuckDB", "ratio"
        )
        with connection(path) as plain:
            for what, ours, floor in cases(reader, plain, f"project/run-{runs // 3:05d}"):
                first, mine, theirs = paired_ms(ours, floor, options.repeats)
                lake_of_runs.say(what, first, mine, theirs, mine / theirs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        sys.stdout.write(f"peak memory of the process: {peak:.0f} MB\n")


if __name__ == "__main__":
    main()
