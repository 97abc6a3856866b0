"""Compaction at scale: points a second, peak memory, bytes a point.

    python tests/benchmarks/test_compaction.py 10000000 [--url URL] [--objects 1000]

Builds a lake whose inbox holds that many points (runs x 20 metrics, in the order in which training logs
them), compacts it in a process of its own, and prints what that took.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake.commits import TableLog, encode_rows
from metrics_lake.layout import InboxName
from metrics_lake.maintenance.compaction import compact_inbox
from metrics_lake.schema import arrow_schema
from metrics_lake.storage import open_storage

METRICS = 20
START = 1_780_000_000_000_000


def fill(url: str, points: int, objects: int) -> int:
    """Put the inbox objects; return the zstd-compressed size of the raw values alone."""
    storage = open_storage(url)
    schema = arrow_schema("metrics")
    size = points // objects
    generator = random.Random(7)
    values_bytes = 0
    for index in range(objects):
        writer = f"{index:032x}"
        steps = pa.array(range(size), pa.int64())
        step = pc.divide(steps, METRICS)
        metric = pa.DictionaryArray.from_arrays(
            pc.subtract(steps, pc.multiply(step, METRICS)).cast(pa.int32()),
            pa.array([f"train/metric-{number:02d}" for number in range(METRICS)]),
        ).cast(pa.string())
        noise = pa.array([generator.getrandbits(20) / 2**20 for _ in range(size)])
        value = pc.add(pc.divide(1.0, pc.add(step.cast(pa.float64()), 1.0)), pc.round(noise, 4))
        order = generator.randrange(objects)
        constant = {
            "resource": f"project-{order % 7}/run-{order:05d}",
            "kind": "float",
            "tags_key": "",
            "writer": writer,
        }
        columns = {
            "metric": metric,
            "step": step,
            "timestamp": pc.add(pc.multiply(steps, 50_000 // METRICS * METRICS), START).cast(
                pa.timestamp("us", tz="UTC")
            ),
            "value": value,
            "seq": steps,
        }
        arrays = [
            columns[field.name].cast(field.type)
            if field.name in columns
            else pa.repeat(pa.scalar(constant[field.name], field.type), size)
            if field.name in constant
            else pa.nulls(size, field.type)
            for field in schema
        ]
        rows = pa.table(arrays, schema=schema)
        name = InboxName(writer, 0, size - 1, "metrics", "2026-11-20", False)
        storage.put_new(name.key, encode_rows("metrics", rows, metadata={}, presorted=False))
        values_bytes += len(pa.compress(value.buffers()[1], codec="zstd", asbytes=True))
    return values_bytes


def test_compaction(benchmark, tmp_path):
    """Time a small one, and see that it moves every point: ``pytest --benchmark-enable``."""

    def prepare():
        url = str(tmp_path / uuid.uuid4().hex)
        fill(url, 20_000, 20)
        return (TableLog(open_storage(url), "metrics"),), {}

    done = benchmark.pedantic(lambda log: compact_inbox(log.storage, log), setup=prepare, rounds=3)
    assert done.points == 20_000


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def peak_rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(url: str) -> None:
    log = TableLog(open_storage(url), "metrics")
    idle = peak_rss()
    before = time.process_time()
    done = compact_inbox(log.storage, log)
    state = log.refresh()
    say(
        f"{done.points:,} points in {done.seconds:.1f} s = {done.points / done.seconds / 1e6:.2f} M/s; "
        f"{(time.process_time() - before) / done.points * 1e6:.2f} CPU seconds a million; "
        f"peak memory {peak_rss():.0f} MB (idle {idle:.0f} MB), {len(state.files)} files, "
        f"{done.size_bytes / done.points:.2f} bytes a point"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("points", type=int)
    parser.add_argument("--url")
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    if options.measure:
        measure(options.url)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = f"{options.url}/{uuid.uuid4().hex}" if options.url else folder
        values = fill(url, options.points, options.objects)
        say(f"the zstd-compressed values alone: {values / options.points:.2f} bytes a point")
        subprocess.run([sys.executable, __file__, str(options.points), "--url", url, "--measure"], check=True)


if __name__ == "__main__":
    main()
