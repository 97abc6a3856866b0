"""Copying a whole run: ``copy_metrics`` beside pyarrow, which reads, renames and writes the same rows.

    python tests/benchmarks/test_copying.py [--points 1_000_000]

The other side is the least that any copy does: decode the rows, replace one column, encode them with the
lake's own settings, bring one file to the disk. It looks for no duplicates and commits nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from metrics_lake import MetricsLake
from metrics_lake.commits.parquet import decode_rows, encode_rows
from metrics_lake.schema import METRICS

RUN = "project/run-00000"
METRIC_IDS = 20


def fill(url: Path, points: int) -> MetricsLake:
    """Return a lake with one compacted run of so many points."""
    lake = MetricsLake(url, state_dir=url.with_name("state"), compaction="off")
    number = pa.array(range(points), pa.int64())
    step = pc.divide(number, METRIC_IDS)
    names = pa.array([f"metric/{each:02d}" for each in range(METRIC_IDS)])
    metric = names.take(pc.subtract(number, pc.multiply(step, METRIC_IDS)))
    lake.append(
        pa.table(
            {
                "resource": pa.repeat(RUN, points),
                "metric": metric,
                "step": step,
                "timestamp": pc.add(step, 1_790_000_000_000_000).cast(pa.timestamp("us", tz="UTC")),
                "value": pc.random(points),
            }
        )
    )
    return lake


def copy_by_hand(lake: MetricsLake, target: Path) -> None:
    """Copy the run's rows into one Parquet file."""
    paths = lake.inspect.files().values("path")
    rows = pa.concat_tables(decode_rows(METRICS, path, key=path) for path in paths)
    rows = rows.set_column(0, rows.schema.field(0), pa.repeat("copy", rows.num_rows))
    with target.open("wb") as file:
        file.write(encode_rows(METRICS, rows, metadata={}, presorted=True))
        file.flush()
        os.fsync(file.fileno())


@pytest.fixture
def lake(tmp_path):
    with fill(tmp_path / "lake", 20_000) as lake:
        yield lake


def test_copy_metrics(benchmark, lake):
    numbers = iter(range(1000))
    added = benchmark.pedantic(lambda: lake.copy_metrics(RUN, f"copy-{next(numbers)}"), rounds=3)
    assert added == 20_000


def test_copy_metrics_again(benchmark, lake):
    lake.copy_metrics(RUN, "copy")
    assert benchmark(lake.copy_metrics, RUN, "copy") == 0


def seconds(action) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with fill(folder / "lake", options.points) as lake:
            first, again, floor = [], [], []
            for number in range(3):
                floor.append(seconds(lambda: copy_by_hand(lake, folder / "copied.parquet")))
                first.append(seconds(lambda number=number: lake.copy_metrics(RUN, f"copy-{number}")))
                again.append(seconds(lambda number=number: lake.copy_metrics(RUN, f"copy-{number}")))
        sys.stdout.write(
            f"copy_metrics of {options.points:,} points: {min(first):.2f} s, "
            f"{min(first) / min(floor):.2f} x pyarrow's read, rename and write ({min(floor):.2f} s); "
            f"again, adding nothing: {min(again):.2f} s, {min(again) / min(floor):.2f} x\n"
        )


if __name__ == "__main__":
    main()
