"""Other engines read the files that ``lake.inspect.files()`` names: fresh rows, exactly ours."""

import re
from pathlib import Path

import duckdb
import polars as pl
import pytest

from metrics_lake import MetricsLake

PAGE = (Path(__file__).parents[2] / "metrics_lake" / "FORMAT.md").read_text(encoding="utf-8")
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


def by_the_page(engine, lake):
    """Run the example of FORMAT.md that imports an engine, and return its names."""
    (code,) = [
        block
        for block in re.findall(r"^```py\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
        if re.search(rf"^(import|from) {engine}\b", block, flags=re.MULTILINE)
    ]
    names = {"paths": [file["path"] for file in lake.inspect.files().rows()]}
    exec(compile(code, "FORMAT.md", "exec"), names)  # noqa: S102 -- the page is ours
    return names


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # what Daft says of Arrow is not ours
def test_daft_reads_them(lake):
    pytest.importorskip("daft")
    found = by_the_page("daft", lake)["in_daft"].select(*COLUMNS).to_arrow()
    assert pl.DataFrame(found).sort(ORDER).equals(ours(lake))


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # what Spark does with sockets and modules is not ours
def test_spark_reads_them(lake):
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    for name in ("bindAddress", "host"):
        session = session.config(f"spark.driver.{name}", "127.0.0.1")
    running = session.getOrCreate()
    try:
        found = by_the_page("pyspark", lake)["in_spark"].select(*COLUMNS)
        rows = [row.asDict() for row in found.collect()]
    finally:
        running.stop()
    expected = ours(lake)
    assert pl.DataFrame(rows, schema=expected.schema).sort(ORDER).equals(expected)


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
