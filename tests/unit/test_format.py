"""FORMAT.md tells the truth: its examples run, and it names every column, key, footer and identifier."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from hashlib import blake2b
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from metrics_lake import MetricsLake, layout
from metrics_lake.commits import Intent, TableLog, bloom, commit, encode_rows
from metrics_lake.commits.actions import BLOOM_TAG, DIGEST_TAG, table_properties
from metrics_lake.commits.parquet import ROW_GROUP_ROWS
from metrics_lake.commits.watermarks import app_id, bulk_app_id, end_app_id
from metrics_lake.lakefile import LakeFile
from metrics_lake.layout import InboxName
from metrics_lake.schema import FORMAT_VERSION, TABLES, arrow_schema
from metrics_lake.series import MAX_TEXT_BYTES, POINTS, summary_schema
from metrics_lake.storage import open_storage

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "metrics_lake" / "FORMAT.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)

UUID = "0" * 32
MONTH, DAY = "2026-11", "2026-11-20"
KEYS = {
    "checkpoint_key": layout.checkpoint_key("metrics", 7),
    "claim_key": layout.claim_key("metrics", 7),
    "data_key": layout.data_key("metrics", MONTH, UUID),
    "inbox_prefix": InboxName(UUID, 3, 4, "metrics", DAY, False).key,
    "log_key": layout.log_key("metrics", 7),
    "log_prefix": f"{layout.log_prefix('metrics')}_last_checkpoint",
    "quarantine_key": layout.quarantine_key("metrics/x"),
    "sidecar_key": layout.sidecar_key("metrics", layout.data_key("metrics", MONTH, UUID)),
    "sidecar_prefix": layout.sidecar_key("metrics", layout.data_key("metrics", MONTH, UUID)),
    "table_prefix": layout.data_key("metrics", MONTH, UUID),
}
"""A key that every function of ``layout`` makes, or is a part of."""

STANDS_FOR = {
    "table": "[a-z_]+",
    "YYYY-MM-DD": r"\d{4}-\d\d-\d\d",
    "YYYY-MM": r"\d{4}-\d\d",
    "writer": "[0-9a-f]{32}",
    "first": r"\d+",
    "last": r"-1|\d+",
    "tag": "rows|end",
    "version": r"\d{20}",
    "name": "[0-9a-f]{32}",
    "uuid": "[0-9a-f]{32}",
    "key": ".+",
}


def patterns():
    """Return the page's key patterns as regular expressions."""
    table = PAGE.split("## Objects")[1].split("## Rows")[0]
    found = re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)
    parts = [re.split(r"\{([^}]+)\}", each) for each in found]
    return {
        text: "".join(
            f"(?:{STANDS_FOR[part]})" if at % 2 else re.escape(part) for at, part in enumerate(each)
        )
        for text, each in zip(found, parts, strict=True)
    }


def test_every_kind_of_key_is_described():
    makers = {
        name
        for name, function in inspect.getmembers(layout, inspect.isfunction)
        if name in layout.__all__ and name.endswith(("_key", "_prefix")) and not name.startswith("parse_")
    }
    assert KEYS.keys() == makers
    for name, key in {**KEYS, "lake": layout.LAKE_FILE}.items():
        assert any(re.fullmatch(each, key) for each in patterns().values()), name


def test_every_object_of_a_lake_is_described(tmp_path):
    for golden in (ROOT / "tests" / "data").glob("golden-v*"):
        for path in golden.rglob("*"):
            key = path.relative_to(golden).as_posix()
            foreign = "/part-" in key
            if path.is_file() and not foreign:
                assert any(re.fullmatch(each, key) for each in patterns().values()), key


def test_every_column_of_every_table_is_described():
    points, jobs = PAGE.split("## Rows\n")[1].split("## Parquet files")[0].split("## Rows of prediction jobs")
    for field in arrow_schema("metrics"):
        (row,) = re.findall(rf"^\| `{field.name}` \| ([^|]+) \|", points, flags=re.MULTILINE)
        assert ("required" in row) is not field.nullable, field.name
    for table in TABLES.keys() - {"metrics"}:
        row = re.findall(rf"^\| `{table}` \|.*$", jobs, flags=re.MULTILINE)[0] + jobs.split("\n\n")[1]
        for field in arrow_schema(table):
            assert f"`{field.name}`" in row, (table, field.name)


def test_every_column_of_a_sidecar_is_described():
    section = PAGE.split("## Series sidecars")[1].split("\n## ")[0]
    for field in summary_schema():
        assert re.search(rf"[` ]{field.name}[` ]", section), field.name
    point = summary_schema().field(POINTS[0]).type
    assert " ".join(field.name for field in point) in " ".join(section.split())
    assert f"{MAX_TEXT_BYTES:,} bytes" in " ".join(section.split())


def test_numbers_and_names_are_those_of_the_code():
    text = " ".join(PAGE.split())
    assert f"Format version {FORMAT_VERSION}." in text
    assert f"row groups of {ROW_GROUP_ROWS:,} rows" in text
    assert f"at most {bloom.MAX_BLOOM_BYTES:,}" in text
    for name in (DIGEST_TAG, BLOOM_TAG, *table_properties("metrics")):
        assert name in text
    for name in json.loads(LakeFile("x", 1, creates_exclusively=True).encode()):
        assert f"`{name}`" in text
    for made in (app_id("{writer}", 0), end_app_id("{writer}"), bulk_app_id("{key}")):
        assert f"`{made}`" in text
    for spec in TABLES.values():
        assert ", ".join(spec.sort_keys) in text
        assert " ".join(spec.stats_columns) in text
        assert " ".join(spec.delta_columns) in text
        assert " ".join(spec.dictionary_columns) in text


def test_every_footer_entry_is_described(tmp_path):
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_metric("a", "b", 1.0)
    for path in (tmp_path / "lake" / "inbox").rglob("*.parquet"):
        for entry in pq.read_metadata(path).metadata:
            if entry != b"ARROW:schema":
                assert f"`{entry.decode()}`" in PAGE


def test_every_operation_is_described():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "metrics_lake").rglob("*.py"))
    operations = re.findall(r'Intent\(\s*"([A-Z ]+)"', source)
    assert operations
    assert all(f"`{operation}`" in PAGE for operation in operations)


def test_the_bloom_filter_is_the_one_described():
    """Written from the page, not from the code."""
    names = ["a", "é", "runs/x", "\U0001f600"]
    made = bloom.make_bloom(names)
    assert made is not None
    for name in names:
        digest = blake2b(name.encode("utf-8"), digest_size=16).digest()
        a, b = (int.from_bytes(half, "little") for half in (digest[:8], digest[8:]))
        m = len(made) * 8
        for i in range(7):
            p = ((a + i * (b | 1)) % 2**64) % m
            assert made[p // 8] >> (p % 8) & 1


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Put the golden lake where the examples expect one."""
    (golden,) = (ROOT / "tests" / "data").glob(f"golden-v{FORMAT_VERSION}")
    shutil.copytree(golden, tmp_path / "metrics-lake")
    monkeypatch.chdir(tmp_path)


def test_the_examples_run_and_read_every_row(here, capsys):
    names = {}
    for code in BLOCKS:
        exec(compile(code, "FORMAT.md", "exec"), names)  # noqa: S102 -- the page is ours
    lake = names["lake"]
    expected = sorted(
        map(repr, lake.history(full=True).arrow().select(["resource", "writer", "seq"]).to_pylist())
    )

    def read(relation):
        return sorted(map(repr, relation.select("resource, writer, seq").to_arrow_table().to_pylist()))

    assert read(names["rows"]) == expected
    assert read(names["points"]) == expected
    assert names["fresh"].height == len(expected)
    kinds = [row["kind"] for row in names["files"]]
    compacted = sum(row["points"] for row in names["files"] if row["kind"] == "table")
    assert {"table", "inbox"} == set(kinds)
    assert names["compacted"].height == compacted < len(expected)
    assert (
        names["latest"].to_arrow_table().num_rows
        == lake.history(full=True).arrow().group_by(["resource", "metric", "tags_key"]).aggregate([]).num_rows
    )
    assert str(len(expected)) in capsys.readouterr().out
    assert names["as_arrow"].num_rows == compacted
    series = names["latest"].to_arrow_table().num_rows
    (panels,) = re.findall(r"^```sql\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    with duckdb.connect("metrics.duckdb", read_only=True) as database:
        assert database.sql("SELECT count(*) FROM points").fetchall() == [(len(expected),)]
        assert database.sql("SELECT count(*) FROM latest").fetchall() == [(series,)]
        over_time, runs = (
            database.sql(each).to_arrow_table() for each in panels.split(";\n") if each.strip()
        )
        ((untagged,),) = database.sql("SELECT count(*) FROM latest WHERE tags_key = ''").fetchall()
    assert over_time.num_rows > 0
    assert runs.num_rows == untagged
    asked = "SELECT resource, metric, value FROM latest WHERE tags_key = '' ORDER BY resource, metric"
    # DuckDB's max_by loses the sign of a zero.
    both = [
        [repr((row["resource"], row["metric"], row["value"])).replace("-0.0", "0.0") for row in rows]
        for rows in (runs.to_pylist(), lake.sql(asked).rows())
    ]
    assert both[0] == both[1]


def test_the_reader_of_the_page_agrees_on_overlaps_gaps_and_consumed_rows(tmp_path):
    """The hard cases: two cuts of one sequence, a gap that waits, consumed objects that are still there."""
    names = {}
    code = BLOCKS[0].replace('rows = read("metrics-lake")\nprint(rows.count("*").fetchall())\n', "")
    exec(compile(code, "FORMAT.md", "exec"), names)  # noqa: S102 -- the page is ours
    url = str(tmp_path / "lake")
    with MetricsLake(url, compaction="off") as lake:
        lake.log_series("run", "loss", [float(each) for each in range(20)])
        lake.maintenance.compact()
        lake.log_metric("run", "loss", 20.0)
    with MetricsLake(url, read_only=True) as lake:
        history = lake.history(full=True).arrow()
    rows = history.select(arrow_schema("metrics").names).cast(arrow_schema("metrics")).sort_by("seq")
    (known,) = set(rows["writer"].to_pylist())
    with open_storage(url) as storage:
        # of "d" a commit went on behind 2 to 9, of which 4 comes late; nothing went on behind 16 and 17
        log = TableLog(storage, "metrics")
        commit(log, log.refresh(), Intent("WRITE", consumed={"d" * 32: ((0, 1), (10, 12))}))
        cuts = [(known, 15, 20), ("e" * 32, 0, 4), ("e" * 32, 3, 8), ("e" * 32, 12, 14)]
        cuts += [("d" * 32, 1, 1), ("d" * 32, 4, 4), ("d" * 32, 11, 15), ("d" * 32, 18, 18)]
        for writer, first, last in cuts:
            part = rows.slice(first, last - first + 1)
            part = part.set_column(9, part.schema.field("writer"), [[writer] * part.num_rows])
            key = InboxName(writer, first, last, "metrics", DAY, False).key
            storage.put_new(key, encode_rows("metrics", part, metadata={}, presorted=False))
    with MetricsLake(url, read_only=True) as lake:
        expected = lake.history(full=True).arrow().select(["writer", "seq"]).to_pylist()
    found = names["read"](url).select("writer, seq").to_arrow_table().to_pylist()
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert len(found) == 21 + 9 + 1 + 3
