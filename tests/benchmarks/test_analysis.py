"""Run tables, leaderboards, histories and SQL; against plain DuckDB on one sorted file in the same run.

    python tests/benchmarks/test_analysis.py [--points 10_000_000] [--inbox 100] [--folder KEPT]

As tests the same functions run on little data with timing off. Ratios count, not milliseconds. The floor of
each line is what DuckDB takes to answer the same from one optimally sorted Parquet file of the same points;
for run tables and leaderboards the lake reads summaries in place of the points. The points are those of runs
of 20 metrics and 500 steps; beside them lie 200 runs of one metric and 10,000 steps and one of 100,000.
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

from metrics_lake import glob
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
RUNS = """
    SELECT resource, count(DISTINCT metric) AS metrics, count(*) AS points, min(timestamp) AS first_timestamp,
        max(timestamp) AS last_timestamp, max(step) AS last_step
    FROM metrics GROUP BY resource ORDER BY resource
"""
BOARD = """
    SELECT resource, max(value) AS value, arg_max(step, value) AS step FROM metrics
    WHERE metric = 'metric/07' AND resource LIKE '{runs}' GROUP BY resource ORDER BY value DESC LIMIT 10
"""
BOARD_WHERE = """
    SELECT resource, max(value) AS value FROM metrics
    WHERE metric = 'metric/07' AND resource IN (
        SELECT resource FROM metrics WHERE metric = 'metric/03' GROUP BY resource
        HAVING arg_max(value, timestamp) < 0.5
    ) GROUP BY resource ORDER BY value DESC LIMIT 10
"""

M4 = """
    WITH bounds AS (
        SELECT resource, min(step) AS lower, max(step) AS upper FROM metrics WHERE {runs} GROUP BY resource
    ), points AS (
        SELECT resource, metric, tags, step, timestamp, value,
            least(floor((step - lower) / (upper - lower) * {intervals}), {intervals} - 1) AS part
        FROM metrics JOIN bounds USING (resource) WHERE {runs}
    ), kept AS (
        SELECT DISTINCT resource, unnest(
            [min(step), max(step), arg_min(step, value), arg_max(step, value)]
        ) AS step
        FROM points GROUP BY resource, part
    )
    SELECT resource, metric, tags, step, timestamp, value FROM points JOIN kept USING (resource, step)
    ORDER BY resource, step
"""
DRAWN_POINTS = 2_000
"""What the dashboard draws of a series at most."""


def connection(path: str) -> duckdb.DuckDBPyConnection:
    """Return plain DuckDB on one sorted file."""
    plain = duckdb.connect(":memory:")
    plain.execute("SET TimeZone = 'UTC'")
    plain.execute("SET parquet_metadata_cache = true")
    escaped = path.replace("'", "''")
    plain.execute(f"CREATE VIEW metrics AS FROM read_parquet('{escaped}', hive_partitioning = false)")
    return plain


def cases(reader: Reader, plain: duckdb.DuckDBPyConnection, name: str):
    """Return (what, ours, the floor) of every question."""
    metrics = ", ".join(f"'metric/{number:02d}'" for number in range(lake_of_runs.SERIES))
    history = lake_of_runs.HISTORY.replace("read_parquet($files, hive_partitioning = false)", "metrics")
    longest = "longest/run-00000"

    def floor(text, params=None):
        return lambda: plain.sql(text, params=params).to_arrow_table()

    def ours(text, params=None):
        return lambda: sql(reader, text, params).arrow()

    def board(**options):
        return lambda: best(reader, "metric/07", mode="max", **options).arrow()

    def one(resource, metric):
        condition = f"resource = '{resource}' AND metric = '{metric}'"
        return floor(history.replace("resource = $resource", condition))

    def thinned(condition):
        return floor(M4.format(runs=condition, intervals=DRAWN_POINTS // 4))

    def drawn(resources):
        return lambda: reader.history(resources, downsample=DRAWN_POINTS).arrow()

    eight = [f"long/run-{number:05d}" for number in range(8)]
    return [
        (
            "run table, all metrics",
            lambda: compare(reader, None).arrow(),
            floor(RUN_TABLE.format(metrics=metrics)),
        ),
        ("list of runs", lambda: reader.resources().arrow(), floor(RUNS)),
        ("leaderboard, all runs", board(), floor(BOARD.format(runs="%"))),
        (
            "leaderboard, up to 1,000 runs",
            board(resources=glob("project/run-00*")),
            floor(BOARD.format(runs="project/run-00%")),
        ),
        ("leaderboard where", board(where='"metric/03" < 0.5'), floor(BOARD_WHERE)),
        ("history of 500 points", lambda: reader.history(name, "metric/07").arrow(), one(name, "metric/07")),
        (
            "history of 100k points",
            lambda: reader.history(longest, "metric/00").arrow(),
            one(longest, "metric/00"),
        ),
        (
            "M4 of 8 runs of 10k points",
            drawn(eight),
            thinned("resource BETWEEN 'long/' AND 'long/run-00007'"),
        ),
        ("M4 of 200 runs of 10k points", drawn(glob("long/*")), thinned("starts_with(resource, 'long/')")),
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
    runs = lake_of_runs.fill_table(storage, path, 40_000, long_runs=20)
    return storage, path, runs


@pytest.mark.parametrize("number", range(15))
def test_question(benchmark, filled, number):
    storage, path, _ = filled
    with connection(path) as plain:
        what, ours, floor = cases(Reader(storage), plain, "project/run-00001")[number]
        found = benchmark(ours)
        expected = floor()
    shared = [column for column in expected.column_names if column in found.column_names]
    assert shared, what
    assert in_order(found.select(shared)) == in_order(expected.select(shared)), what


def in_order(rows):
    return sorted(
        repr([round(cell, 9) if isinstance(cell, float) else cell for cell in row.values()])
        for row in rows.to_pylist()
    )


def test_recent_rows_beside_the_table(benchmark, filled):
    storage, _, runs = filled
    lake_of_runs.fill_inbox(storage, 20)
    reader = Reader(storage)
    assert len(benchmark(lambda: compare(reader, None).arrow())) == runs + 21 + 10


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
    parser.add_argument("--folder", type=Path, help="keep the data here, and take what is there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        storage = open_storage(str(folder / "lake"))
        path = folder / "sorted.parquet"
        runs = lake_of_runs.runs_of(options.points)
        if not path.exists():
            lake_of_runs.fill_table(storage, str(path), options.points, long_runs=200)
        if options.inbox:
            lake_of_runs.fill_inbox(storage, options.inbox)
        reader = Reader(storage)
        lake_of_runs.say(
            f"{options.points:,} points, {runs:,} runs", "first ms", "warm ms", "DuckDB", "ratio"
        )
        with connection(str(path)) as plain:
            for what, ours, floor in cases(reader, plain, f"project/run-{runs // 3:05d}"):
                first, mine, theirs = paired_ms(ours, floor, options.repeats)
                lake_of_runs.say(what, first, mine, theirs, mine / theirs)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        sys.stdout.write(f"peak memory of the process: {peak:.0f} MB\n")


if __name__ == "__main__":
    main()
