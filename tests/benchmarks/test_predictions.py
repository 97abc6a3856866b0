"""The benchmark's contestants on little data: each runs, and those that compute the same agree with ours.

``python tests/benchmarks/predictions.py`` times them.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).with_name("predictions.py")
_SPEC = importlib.util.spec_from_file_location("predictions_benchmark", _PATH)
bench = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = bench
_SPEC.loader.exec_module(bench)

ROWS = 20_000
SAME = {
    "binary": ("ours, exact", "scikit-learn", "numpy floor", "DuckDB", "DuckDB, exact"),
    "regression": ("scikit-learn", "numpy"),
}
SIZES = {bench.DAYS: 2}
BOUNDED = ("roc_auc", "average_precision", "median_absolute_error", "score_p", "residual_p", "p0", "p1", "p2",
           "p5", "p7", "p9")  # fmt: skip


@pytest.mark.parametrize(("case", "rival"), [(case, rival) for case in SAME for rival in SAME[case]])
def test_contestants_compute_the_same(case, rival):
    make, rivals = bench.CASES[case]
    data = make(ROWS)
    mine, theirs = rivals["ours"](data), rivals[rival](data)
    shared = [name for name in theirs if isinstance(mine.get(name), float)]
    assert len(shared) >= 10
    for name in shared:
        slack = 2e-3 if name.startswith(BOUNDED) else 1e-9
        assert theirs[name] == pytest.approx(mine[name], rel=slack, abs=slack), name


@pytest.mark.parametrize("case", list(SAME))
def test_sql_computes_all_that_ours_does(case):
    make, rivals = bench.CASES[case]
    data = make(ROWS)
    mine, theirs = rivals["ours"](data), rivals["DuckDB"](data)
    assert {name for name, value in mine.items() if isinstance(value, float)} - {"coverage"} <= set(theirs)


TIMED = [
    (case, rival)
    for case, (_, rivals) in bench.CASES.items()
    for rival in rivals
    if rival.startswith(("ours", "Duck"))
]


@pytest.mark.parametrize(("case", "rival"), TIMED)
def test_contestant(benchmark, case, rival):
    make, rivals = bench.CASES[case]
    data = make(SIZES.get(case, ROWS))
    found = benchmark(rivals[rival], data)
    mine = rivals["ours"](data)
    for name in ("log_loss", "brier", "mae", "r2", "sum_of_areas"):
        if name in found:
            assert found[name] == pytest.approx(mine[name], rel=1e-9)


def test_parquet_is_scanned(tmp_path):
    path = tmp_path / "rows.parquet"
    bench.write_parquet(path, ROWS, batch=7_000)
    for case in bench.SCANS:
        assert bench.scan_parquet(path, case)["wall"] > 0
