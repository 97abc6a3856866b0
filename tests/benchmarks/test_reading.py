"""Reading at scale: one value, one run, all runs; against plain DuckDB on one sorted file in the same run.

    python tests/benchmarks/test_reading.py [--points 10_000_000] [--files 1 100 1000] [--s3]

As tests the same functions run on little data with timing off. Ratios count, not milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from metrics_lake import query, series
from metrics_lake.commits import DataFileBuilder, Intent, TableLog, commit, encode_rows
from metrics_lake.commits.parquet import RowEncoder
from metrics_lake.layout import InboxName, sidecar_key
from metrics_lake.reader import Reader
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.storage import open_storage
from metrics_lake.testing import CountingStorage

STEPS = 500
SERIES = 20
START = 1_790_000_000_000_000
LATEST = """
    SELECT arg_max(value, timestamp) AS value FROM read_parquet($files, hive_partitioning = false)
    WHERE resource = $resource AND metric = $metric
"""
HISTORY = """
    SELECT resource, metric, tags, step, timestamp, value FROM read_parquet($files, hive_partitioning = false)
    WHERE resource = $resource ORDER BY resource, metric, tags_key, step NULLS FIRST, timestamp, writer, seq
"""


def run_rows(first: int, last: int, steps: int = STEPS) -> pa.Table:
    """Return the rows of some runs in the order of the table's sort keys."""
    runs = last - first
    count = runs * SERIES * steps
    index = pa.array(range(count), pa.int64())
    step = pc.subtract(index, pc.multiply(pc.divide(index, steps), steps))
    cell = pc.divide(index, steps)
    run = pc.divide(cell, SERIES)
    metric = pc.subtract(cell, pc.multiply(run, SERIES))

    def named(codes, names):
        return pa.DictionaryArray.from_arrays(codes.cast(pa.int32()), pa.array(names)).cast(pa.string())

    columns = {
        "resource": named(run, [f"project/run-{number:05d}" for number in range(first, last)]),
        "metric": named(metric, [f"metric/{number:02d}" for number in range(SERIES)]),
        "step": step,
        "timestamp": pc.add(pc.multiply(step, 1_000_000), START).cast(pa.timestamp("us", tz="UTC")),
        "value": pc.random(count),
        "kind": pa.repeat("float", count),
        "tags_key": pa.repeat("", count),
        "writer": named(run, [f"{number:032x}" for number in range(first, last)]),
        "seq": pc.add(pc.multiply(step, SERIES), metric),
    }
    schema = arrow_schema(METRICS)
    return pa.table([columns.get(each.name, pa.nulls(count, each.type)) for each in schema], schema=schema)


def fill_table(storage, sorted_file: str, points: int) -> int:
    """Commit a table of runs, four data files, and write the same rows into one sorted file."""
    runs = max(4, points // (SERIES * STEPS))
    log = TableLog(storage, METRICS)
    log.refresh()
    with RowEncoder(METRICS, sorted_file, metadata={}, presorted=True, with_float_stats=True) as whole:
        for part in range(4):
            rows = run_rows(runs * part // 4, runs * (part + 1) // 4)
            whole.write(rows)
            builder = DataFileBuilder(METRICS, "2026-09", with_float_stats=True)
            builder.add(rows)
            data, new = builder.finish()
            storage.put_new(new.file.key, data)
            summary = series.encode(series.summarise(rows))
            storage.put_new(sidecar_key(METRICS, new.file.key), summary)
            commit(log, log.refresh(), Intent("APPEND", adds=(new,)))
    return runs


def fill_inbox(storage, files: int, rows_each: int = 100) -> None:
    """Put inbox objects of ten runs by one writer each."""
    rows = run_rows(0, 1, steps=max(1, rows_each // SERIES))
    schema = arrow_schema(METRICS)
    for number in range(files):
        writer, first = f"{number % 10:032x}", number // 10 * rows.num_rows
        fresh = rows.set_column(
            schema.get_field_index("resource"), schema.field("resource"),
            pa.repeat(f"fresh/run-{number % 10}", rows.num_rows),
        )  # fmt: skip
        fresh = fresh.set_column(
            schema.get_field_index("writer"), schema.field("writer"), pa.repeat(writer, rows.num_rows)
        )
        seq = pa.array(range(first, first + rows.num_rows), pa.int64())
        fresh = fresh.set_column(schema.get_field_index("seq"), schema.field("seq"), seq)
        name = InboxName(writer, first, first + rows.num_rows - 1, METRICS, "2026-09-21", is_end=False)
        storage.put_new(name.key, encode_rows(METRICS, fresh, metadata={}, presorted=False))


@pytest.fixture
def storage(tmp_path):
    return CountingStorage(open_storage(str(tmp_path / "lake")))


@pytest.mark.parametrize("files", [1, 100])
def test_latest_value_warm(benchmark, storage, files):
    fill_inbox(storage, files)
    reader = Reader(storage)
    assert benchmark(reader.latest, "fresh/run-0", "metric/07") is not None


def test_latest_value_of_the_table_warm(benchmark, storage, tmp_path):
    fill_table(storage, str(tmp_path / "sorted.parquet"), 40_000)
    reader = Reader(storage)
    assert benchmark(reader.latest, "project/run-00001", "metric/07") is not None


def test_whole_run_history(benchmark, storage, tmp_path):
    path = str(tmp_path / "sorted.parquet")
    fill_table(storage, path, 40_000)
    reader = Reader(storage)
    ours = benchmark(lambda: reader.history("project/run-00001").arrow())
    plain = query.run(HISTORY, {"files": [query.file_pattern(path)], "resource": "project/run-00001"})
    assert ours.equals(plain.cast(ours.schema))


def test_run_table(benchmark, storage, tmp_path):
    runs = fill_table(storage, str(tmp_path / "sorted.parquet"), 40_000)
    reader = Reader(storage)
    assert len(benchmark(lambda: reader.resources().arrow())) == runs


def test_summarise(benchmark):
    assert benchmark(series.summarise, run_rows(0, 4)).num_rows == 4 * SERIES


# ---- the script -------------------------------------------------------------------------------------


def median_ms(action, repeats: int = 30) -> float:
    action()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def once_ms(action) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1e3


def say(*cells: object) -> None:
    widths = (44, 12, 12, 9, 10, 12)
    texts = (f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells)
    sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=False)) + "\n")


def measure_inbox(storage, files: int, where: str) -> None:
    fill_inbox(storage, files)
    cold = once_ms(lambda: Reader(storage).latest("fresh/run-0", "metric/07"))
    reader = Reader(storage)
    reader.latest("fresh/run-0", "metric/07")
    storage.reset()
    reader.latest("fresh/run-0", "metric/07")
    requests = sum(storage.requests.values())
    warm = median_ms(lambda: reader.latest("fresh/run-0", "metric/07"), 50)
    say(f"latest, {files} inbox files, {where}", cold, warm, "", requests)


def measure_table(folder: Path, points: int) -> None:
    storage = CountingStorage(open_storage(str(folder / "table")))
    path = str(folder / "sorted.parquet")
    runs = fill_table(storage, path, points)
    name = f"project/run-{runs // 3:05d}"
    plain = {"files": [query.file_pattern(path)], "resource": name}
    one = {**plain, "metric": "metric/07"}
    cold = once_ms(lambda: Reader(storage).latest(name, "metric/07"))
    reader = Reader(storage)
    rows = [
        (
            "latest",
            cold,
            lambda: reader.latest(name, "metric/07"),
            lambda: query.run(LATEST, one),
        ),
        (
            "value at a step",
            "",
            lambda: reader.latest(name, "metric/07", step=250),
            lambda: query.run(LATEST + " AND step = 250", one),
        ),
        (
            "latest of each metric of a run",
            "",
            lambda: reader.latest_metrics(name),
            lambda: query.run(
                "SELECT metric, arg_max(value, timestamp) FROM read_parquet($files) "
                "WHERE resource = $resource GROUP BY metric",
                plain,
            ),
        ),
        (
            "history of a run",
            "",
            lambda: reader.history(name).arrow(),
            lambda: query.run(HISTORY, plain),
        ),
        (
            "history of a metric, all runs",
            "",
            lambda: reader.history(None, "metric/07").arrow(),
            lambda: query.run(
                HISTORY.replace("resource = $resource", "metric = 'metric/07'"), {"files": plain["files"]}
            ),
        ),
        (
            "run table",
            "",
            lambda: reader.resources().arrow(),
            lambda: query.run(
                "SELECT resource, count(DISTINCT metric), count(*), min(timestamp), max(timestamp), "
                "max(step) FROM read_parquet($files) GROUP BY resource ORDER BY resource",
                {"files": plain["files"]},
            ),
        ),
    ]
    for label, first, ours, floor in rows:
        repeats = 3 if "all runs" in label or "table" in label else 20
        mine, theirs = median_ms(ours, repeats), median_ms(floor, repeats)
        say(f"{label}, {points:,} points", first, mine, theirs, "", mine / theirs)
    part = run_rows(0, max(1, min(250, runs)))
    say(f"summarise {part.num_rows:,} rows", "", median_ms(lambda: series.summarise(part), 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--s3", action="store_true", help="also against a real S3 server")
    options = parser.parse_args()
    say("what", "cold ms", "warm ms", "DuckDB", "requests", "ratio")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for files in options.files:
            measure_inbox(CountingStorage(open_storage(str(folder / f"inbox-{files}"))), files, "local")
        if options.s3:
            from metrics_lake.testing.servers import S3Server

            server = stack.enter_context(S3Server(folder / "s3"))
            for files in options.files:
                url = server.url()
                measure_inbox(CountingStorage(open_storage(url, server.options())), files, "S3")
        measure_table(folder, options.points)


if __name__ == "__main__":
    main()
