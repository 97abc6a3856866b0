"""Reading at scale: one value, one run, all runs; against plain DuckDB on one sorted file in the same run.

    python tests/benchmarks/test_reading.py [--points 10_000_000] [--files 1 100 1000] [--s3] [--folder KEPT]

As tests the same functions run on little data with timing off. Ratios count, not milliseconds. On S3 the
other side is pyarrow's own dataset reader and S3 client over the same sorted file, and a counting proxy says
how many requests each read takes on the wire. ``--folder`` keeps the table for the next call: 100 M points
take minutes to make.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from metrics_lake import query, series
from metrics_lake.commits import TableLog, encode_rows
from metrics_lake.commits.parquet import RowEncoder
from metrics_lake.lakefile import create_lake
from metrics_lake.layout import InboxName
from metrics_lake.maintenance.bulk import publish_bulk
from metrics_lake.reader import Reader
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.storage import open_storage
from metrics_lake.testing import CountingStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 500
SERIES = 20
LONG_STEPS = 10_000
LONGEST_STEPS = 100_000
PLAIN_ROWS = 122_880
"""Rows in a row group of the one sorted file: DuckDB's own number, by which it does best at 100 M points."""
START = 1_790_000_000_000_000
LATEST = """
    SELECT arg_max(value, timestamp) AS value FROM read_parquet($files, hive_partitioning = false)
    WHERE resource = $resource AND metric = $metric
"""
HISTORY = """
    SELECT resource, metric, tags, step, timestamp, value FROM read_parquet($files, hive_partitioning = false)
    WHERE resource = $resource ORDER BY resource, metric, tags_key, step NULLS FIRST, timestamp, writer, seq
"""


def run_rows(
    first: int, last: int, steps: int = STEPS, series: int = SERIES, project: str = "project"
) -> pa.Table:
    """Return the rows of some runs in the order of the table's sort keys, the same at every call."""
    names = [f"{project}/run-{number:05d}" for number in range(first, last)]
    count = len(names) * series * steps
    index = pa.array(range(count), pa.int64())
    step = pc.subtract(index, pc.multiply(pc.divide(index, steps), steps))
    cell = pc.divide(index, steps)
    run = pc.divide(cell, series)
    metric = pc.subtract(cell, pc.multiply(run, series))

    def named(codes, names):
        return pa.DictionaryArray.from_arrays(codes.cast(pa.int32()), pa.array(names)).cast(pa.string())

    columns = {
        "resource": named(run, names),
        "metric": named(metric, [f"metric/{number:02d}" for number in range(series)]),
        "step": step,
        "timestamp": pc.add(pc.multiply(step, 1_000_000), START).cast(pa.timestamp("us", tz="UTC")),
        "value": pc.random(count, initializer=first),
        "kind": pa.repeat("float", count),
        "tags_key": pa.repeat("", count),
        "writer": named(run, [blake2b(name.encode(), digest_size=16).hexdigest() for name in names]),
        "seq": pc.add(pc.multiply(step, series), metric),
    }
    schema = arrow_schema(METRICS)
    return pa.table([columns.get(each.name, pa.nulls(count, each.type)) for each in schema], schema=schema)


def runs_of(points: int) -> int:
    """Return how many runs so many points are."""
    return max(4, points // (SERIES * STEPS))


def all_rows(runs: int, long_runs: int = 0) -> Iterator[pa.Table]:
    """Yield the rows of a table piece by piece, in the order of its sort keys.

    Args:
        runs: How many runs of 20 metrics and 500 steps.
        long_runs: How many of one metric and 10,000 steps stand beside them, and then one of 100,000.
    """
    if long_runs:
        yield run_rows(0, long_runs, LONG_STEPS, 1, "long")
        yield run_rows(0, 1, LONGEST_STEPS, 1, "longest")
    for first in range(0, runs, 100):
        yield run_rows(first, min(first + 100, runs))


def fill_table(storage, sorted_file: str, points: int, long_runs: int = 0) -> int:
    """Publish runs in bulk, and write the same rows into one sorted file; return how many runs they are."""
    runs = runs_of(points)
    create_lake(storage)
    publish_bulk(storage, TableLog(storage, METRICS), lambda: all_rows(runs, long_runs))
    with RowEncoder(
        METRICS, sorted_file, metadata={}, presorted=True, with_float_stats=True, row_group_rows=PLAIN_ROWS
    ) as whole:
        for rows in all_rows(runs, long_runs):
            whole.write(rows)
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


def median_ms(action, repeats: int = 30, *, warm_up: bool = True) -> float:
    if warm_up:
        action()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def say(*cells: object) -> None:
    widths = (44, 10, 10, 10, 8, 14, 14, 10, 10)
    texts = (f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells)
    sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=False)) + "\n")
    sys.stdout.flush()


class Place:
    """Where a lake is read: a folder, or an S3 server with a counting proxy before it for one more look.

    Args:
        storage: The lake's objects.
        counted: The same objects on the counted way.
        proxy: What counts on the wire; None = ``counted`` itself does.
    """

    def __init__(self, name: str, storage, counted: CountingStorage, proxy=None) -> None:
        self.name = name
        self.storage = storage
        self.counted = counted
        self.proxy = proxy

    def cost(self, action) -> tuple[str, float]:
        """Return the requests of one action as text, and the kB that it read."""
        self.counted.reset()
        if self.proxy is not None:
            self.proxy.reset()
        action()
        requests = self.counted.requests if self.proxy is None else self.proxy.count()
        text = " ".join(f"{requests[verb]} {verb}" for verb in sorted(requests) if requests[verb])
        return text, self.counted.bytes_read / 1e3

    def measure(self, label: str, read, floor=None, repeats: int = 20) -> None:
        """Print what one kind of read takes: by a new reader, then warm.

        Args:
            label: What is read.
            read: The read, given a reader.
            floor: The other side of the ratio.
            repeats: How often to read.
        """
        cold = median_ms(lambda: read(Reader(self.storage)), min(repeats, 3), warm_up=False)
        warm_reader, counting_reader = Reader(self.storage), Reader(self.counted)
        warm = median_ms(lambda: read(warm_reader), repeats)
        first, first_kb = self.cost(lambda: read(counting_reader))
        later, later_kb = self.cost(lambda: read(counting_reader))
        theirs = None if floor is None else median_ms(floor, min(repeats, 5))
        say(
            f"{label}, {self.name}", cold, warm, "" if theirs is None else theirs,
            "" if theirs is None else warm / theirs, first, later, first_kb, later_kb,
        )  # fmt: skip


def measure_inbox(place: Place, files: int) -> None:
    fill_inbox(place.storage, files)
    place.measure(f"latest, {files} inbox files", lambda reader: reader.latest("fresh/run-0", "metric/07"))


def measure_table(place: Place, points: int, floors, only: str) -> None:
    """Print what each read of a table takes beside ``floors``: what gives the same from one sorted file."""
    runs = runs_of(points)
    name = f"project/run-{runs // 3:05d}"
    reads = {
        "latest": lambda reader: reader.latest(name, "metric/07"),
        "value at a step": lambda reader: reader.latest(name, "metric/07", step=250),
        "latest of each metric of a run": lambda reader: reader.latest_metrics(name),
        "history of a run": lambda reader: reader.history(name).arrow(),
        "history of a metric, all runs": lambda reader: reader.history(None, "metric/07").arrow(),
        "run table": lambda reader: reader.resources().arrow(),
    }
    for label, read in reads.items():
        if only not in label:
            continue
        repeats = (
            1
            if "all runs" in label and points > 10**7
            else 3
            if "all runs" in label or "table" in label
            else 20
        )
        place.measure(f"{label}, {points:,} points", read, floors(name).get(label), repeats)


def duckdb_floors(path: str):
    """Return what plain DuckDB does with one sorted file."""
    files = [query.file_pattern(path)]

    def floors(name: str):
        plain = {"files": files, "resource": name}
        one = {**plain, "metric": "metric/07"}
        each = "SELECT metric, arg_max(value, timestamp) FROM read_parquet($files) WHERE resource = $resource"
        table = (
            "SELECT resource, count(DISTINCT metric), count(*), min(timestamp), max(timestamp), max(step) "
            "FROM read_parquet($files) GROUP BY resource ORDER BY resource"
        )
        every = HISTORY.replace("resource = $resource", "metric = 'metric/07'")
        return {
            "latest": lambda: query.run(LATEST, one),
            "value at a step": lambda: query.run(LATEST + " AND step = 250", one),
            "latest of each metric of a run": lambda: query.run(f"{each} GROUP BY metric", plain),
            "history of a run": lambda: query.run(HISTORY, plain),
            "history of a metric, all runs": lambda: query.run(every, {"files": files}),
            "run table": lambda: query.run(table, {"files": files}),
        }

    return floors


def pyarrow_floors(server, key: str):
    """Return what pyarrow's dataset reader does with one sorted object, its metadata being known."""
    from pyarrow import dataset, fs

    options = server.options()
    bucket = fs.S3FileSystem(
        access_key=options["key"],
        secret_key=options["secret"],
        endpoint_override=server.endpoint_url.partition("://")[2],
        scheme="http",
        region="us-east-1",
    )
    scanned = dataset.dataset(key, filesystem=bucket, format="parquet")
    columns = ["resource", "metric", "tags", "step", "timestamp", "value"]

    def floors(name: str):
        of_run, of_metric = pc.field("resource") == name, pc.field("metric") == "metric/07"
        at_step = of_run & of_metric & (pc.field("step") == 250)
        return {
            "latest": lambda: scanned.to_table(columns, filter=of_run & of_metric),
            "value at a step": lambda: scanned.to_table(columns, filter=at_step),
            "latest of each metric of a run": lambda: scanned.to_table(columns, filter=of_run),
            "history of a run": lambda: scanned.to_table(columns, filter=of_run),
            "history of a metric, all runs": lambda: scanned.to_table(columns, filter=of_metric),
        }

    return floors


def upload(source, target) -> None:
    """Put every object of one storage into another; the log last, its versions in order."""
    for info in sorted(source.list(""), key=lambda info: ("_delta_log" in info.key, info.key)):
        target.put_new(info.key, source.get(info.key, 0, info.size_bytes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--s3", action="store_true", help="on a real S3 server instead of a folder")
    parser.add_argument("--folder", type=Path, help="keeps the table for the next call")
    parser.add_argument("--only", default="", help="only reads with this in their names")
    options = parser.parse_args()
    say("what", "cold ms", "warm ms", "other", "ratio", "cold", "warm", "cold kB", "warm kB")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder = options.folder or work
        table = open_storage(str(folder / f"table-{options.points}"))
        path = folder / f"sorted-{options.points}.parquet"
        if options.points and not path.exists():
            fill_table(table, str(path), options.points)
        if not options.s3:
            for files in options.files:
                inbox = open_storage(str(work / f"inbox-{files}"))
                measure_inbox(Place("local", inbox, CountingStorage(inbox)), files)
            if options.points:
                place = Place("local", table, CountingStorage(table))
                measure_table(place, options.points, duckdb_floors(str(path)), options.only)
            return
        from metrics_lake.testing.proxy import StoreProxy
        from metrics_lake.testing.servers import S3Server

        server = stack.enter_context(S3Server(work / "s3"))
        proxy = stack.enter_context(StoreProxy(server.endpoint_url))

        def place_at(url: str) -> Place:
            counted = CountingStorage(open_storage(url, server.options(endpoint_url=proxy.url)))
            return Place("S3", open_storage(url, server.options()), counted, proxy)

        for files in options.files:
            measure_inbox(place_at(server.url()), files)
        if options.points:
            url = server.url()
            place = place_at(url)
            upload(table, place.storage)
            place.storage.put_new("sorted.parquet", path.read_bytes())
            key = f"{url.partition('://')[2]}/sorted.parquet"
            measure_table(place, options.points, pyarrow_floors(server, key), options.only)


if __name__ == "__main__":
    main()
