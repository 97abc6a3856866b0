"""Other engines read the files that ``lake.inspect.files()`` names: fresh rows, exactly ours."""

import duckdb
import polars as pl
import pytest

from metrics_lake import MetricsLake

COLUMNS = ["resource", "metric", "step", "value", "kind", "text", "writer", "seq"]
ORDER = ["resource", "writer", "seq"]


@pytest.fixture
def lake(local_url):
    """A lake with rows in the table, in the inbox, and in an object of which only some rows count."""
    with MetricsLake(local_url, compaction="off") as lake:
        for run in range(3):
            lake.log_series(f"run/{run}", "loss", [0.5, float("nan"), -0.0, 1.5])
            lake.log_metric(f"run/{run}", "name", f"mlp-{run}")
        lake.maintenance.compact()
        lake.log_series("run/3", "loss", [1, 2**70, True], steps=[7, 8, 9])
        lake.flush()
        lake.copy_metrics("run/0", "model")
        yield lake


def ours(lake):
    frame = pl.DataFrame(lake.history(full=True).arrow().select(COLUMNS))
    return frame.sort(ORDER)


def test_whole_files_need_no_predicate(lake):
    files = lake.inspect.files().rows()
    assert {file["kind"] for file in files} == {"table", "inbox"}
    assert all(file["is_whole"] for file in files)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # what Daft says of Arrow is not ours
def test_daft_reads_them(lake):
    daft = pytest.importorskip("daft")
    paths = [file["path"] for file in lake.inspect.files().rows()]
    found = daft.read_parquet(paths).select(*COLUMNS).to_arrow()
    assert pl.DataFrame(found).sort(ORDER).equals(ours(lake))


def test_polars_reads_them(lake):
    paths = [file["path"] for file in lake.inspect.files().rows()]
    found = pl.scan_parquet(paths, hive_partitioning=False).select(COLUMNS).collect().sort(ORDER)
    assert found.equals(ours(lake))


def test_duckdb_reads_them(lake):
    paths = [file["path"] for file in lake.inspect.files().rows()]
    columns = ", ".join(COLUMNS)
    query = f"SELECT {columns} FROM read_parquet($paths, hive_partitioning = false)"
    found = duckdb.sql(query, params={"paths": paths}).to_arrow_table()
    assert pl.DataFrame(found).sort(ORDER).equals(ours(lake))
