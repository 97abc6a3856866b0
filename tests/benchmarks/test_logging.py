"""What logging costs, a verb at a time; run with ``--benchmark-enable``. The report: ``bench_logging.py``."""

from __future__ import annotations

import subprocess
import sys
from itertools import count

import pytest

from metrics_lake import MetricsLake


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "state") as lake:
        lake.log_metric("digits/run-1", "loss", 0.5)
        yield lake


def test_log_metric(lake, benchmark):
    steps = count()
    benchmark(lambda: lake.log_metric("digits/run-1", "loss", 0.5, step=next(steps)))
    assert lake.get_metric("digits/run-1", "loss") == 0.5


def test_log_metric_with_tags(lake, benchmark):
    benchmark(lake.log_metric, "digits/run-1", "loss", 0.5, step=1, tags={"fold": 3})
    assert lake.get_metric("digits/run-1", "loss", tags={"fold": 3}) == 0.5


def test_log_metrics_of_20(lake, benchmark):
    metrics = {f"train/m{number}": number / 7 for number in range(20)}
    benchmark(lake.log_metrics, "digits/run-1", metrics, step=1)
    assert lake.get_metric("digits/run-1", "train/m19") == 19 / 7


def test_log_series_of_50000_published(lake, benchmark):
    values = [number / 7 for number in range(50_000)]

    def log():
        lake.log_series("digits/run-1", "curve", values)
        return lake.flush()

    assert benchmark.pedantic(log, rounds=3).points >= 50_000


def test_import(benchmark):
    heavy = ("pyarrow", "duckdb", "polars", "fsspec")
    program = f"import metrics_lake, sys; print(any(name in sys.modules for name in {heavy}))"
    answer = benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout,
        rounds=3,
    )
    assert answer.strip() == b"False"
