"""What logging costs: µs a call, points a second to published Parquet, import time.

Run ``python tests/benchmarks/bench_logging.py [folder]``. Trust ratios: both sides of one are measured in the
same run, in turns, and the best of several counts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

from metrics_lake import MetricsLake

CALLS = 100_000
POINTS = 1_000_000
ROUNDS = 5


def timed_calls(lake, calls, **more):
    """Return the nanoseconds of each of many calls of ``log_metric``, sorted."""
    log = lake.log_metric
    clock = time.perf_counter_ns
    took = array("q", bytes(8 * calls))
    for number in range(calls):
        begun = clock()
        log("digits/run-1", "loss", 0.5, step=number, **more)
        took[number] = clock() - begun
    return sorted(took)


def percentile(sorted_values, percent):
    """Return a percentile in microseconds."""
    return sorted_values[min(int(len(sorted_values) * percent / 100), len(sorted_values) - 1)] / 1000


def seconds(action):
    """Return how long an action takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def write_raw(folder, table):
    """Write a table as pyarrow does by itself, and bring it to the disk as a lake would."""
    import os

    import pyarrow.parquet as pq

    path = folder / "raw.parquet"
    pq.write_table(table, path)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    path.unlink()


def write_like_the_lake(folder, table):
    """Write a table with the lake's own settings of Parquet."""
    from metrics_lake.commits.parquet import encode_rows

    (folder / "raw.parquet").write_bytes(encode_rows("metrics", table, metadata={}, presorted=False))


def published_rows(url):
    """Return all rows of a fresh lake as one table."""
    import pyarrow as pa

    from metrics_lake.commits.parquet import decode_rows

    files = [path for path in Path(url).rglob("*.parquet") if "_derived" not in path.parts]
    return pa.concat_tables(
        decode_rows("metrics", str(path), key=path.name) for path in files
    ).combine_chunks()


def log_by_metrics(lake, points):
    """Log points by ``log_metrics``, 1,000 a call, and publish them."""
    metrics = {f"m{number}": number / 7 for number in range(1000)}
    for step in range(points // 1000):
        lake.log_metrics("digits/run-1", metrics, step=step)
    lake.flush()


def log_by_series(lake, points):
    """Log points by ``log_series``, 50,000 a call, and publish them."""
    values = [number / 7 for number in range(50_000)]
    for number in range(points // 50_000):
        lake.log_series("digits/run-1", f"m{number}", values)
    lake.flush()


def log_one_series(lake, points):
    """Log points by one call of ``log_series``, which publishes them."""
    lake.log_series("digits/run-1", "m", [number / 7 for number in range(points)])


def main():
    """Print the report."""
    say = sys.stdout.write
    base = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    with MetricsLake(base / "calls", state_dir=base / "state") as lake:
        timed_calls(lake, 1000)
        for name, more in {"log_metric": {}, "with tags": {"tags": {"fold": 3}}}.items():
            best = min(
                (timed_calls(lake, CALLS, **more) for _ in range(3)), key=lambda took: took[CALLS // 2]
            )
            say(
                f"{name:<12} p50 {percentile(best, 50):5.1f} µs  p90 {percentile(best, 90):5.1f}  "
                f"p99 {percentile(best, 99):5.1f}  p99.9 {percentile(best, 99.9):6.1f}\n"
            )
    for action in (log_by_metrics, log_by_series, log_one_series):
        best, raw, alike, table = [], [], [], None
        for number in range(ROUNDS):
            folder = base / f"{action.__name__}-{number}"
            lake = MetricsLake(folder / "lake", state_dir=base / "state", flush_seconds=0.5)
            best.append(seconds(lambda lake=lake, action=action: action(lake, POINTS)))
            lake.close()
            table = table or published_rows(str(folder / "lake"))
            raw.append(seconds(lambda table=table, folder=folder: write_raw(folder, table)))
            alike.append(seconds(lambda table=table, folder=folder: write_like_the_lake(folder, table)))
        say(
            f"{action.__name__:<14} {POINTS / min(best):>10,.0f} points/s to published Parquet, "
            f"{min(best) / min(raw):.2f} x pyarrow.parquet.write_table ({POINTS / min(raw):,.0f}/s), "
            f"{min(best) / min(alike):.2f} x its encoding with the lake's settings\n"
        )
    program = "import time; b = time.perf_counter(); import metrics_lake; print(time.perf_counter() - b)"
    took = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
        for _ in range(7)
    ]
    say(f"import metrics_lake: {min(took):.3f} s\n")


if __name__ == "__main__":
    main()
