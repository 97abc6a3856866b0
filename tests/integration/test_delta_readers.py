"""Other engines beside our log: they read what we commit, and we read what they leave."""

from __future__ import annotations

import json
import random

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from metrics_lake.commits import (
    DataFileBuilder,
    Intent,
    TableLog,
    commit,
    decode_rows,
    sort_rows,
    split_by_month,
    write_checkpoint,
)
from metrics_lake.layout import log_key
from metrics_lake.schema import arrow_schema
from metrics_lake.storage import open_storage

COLUMNS = [field.name for field in arrow_schema("metrics")]
HOSTILE = [
    "..", "a=b", "nul\0byte", "it's; DROP TABLE x; --", "\U0001f600" * 40, "x" * 300,
    "__HIVE_DEFAULT_PARTITION__", "007", "\U0010ffff" * 3, "%2F", 'quote"\\', "line\nbreak", "é/ü?*[]{}",
]  # fmt: skip


def make_rows(writer, count, *, seed):
    generator = random.Random(seed)
    start = 1_700_000_000_000_000
    values = [generator.random() for _ in range(count)]
    columns = {
        "resource": [HOSTILE[generator.randrange(len(HOSTILE))] for _ in range(count)],
        "metric": [f"metric-{generator.randrange(3)}" for _ in range(count)],
        "step": [generator.choice([None, generator.randrange(1000)]) for _ in range(count)],
        "timestamp": [start + generator.randrange(80 * 86_400_000_000) for _ in range(count)],
        "value": [generator.choice([value, None, 0.0, -0.0, 1e308]) for value in values],
        "kind": ["float"] * count,
        "text": [generator.choice([None, "text \0 é"]) for _ in range(count)],
        "tags": [generator.choice([None, [("country", "de"), ("fold", "1")]]) for _ in range(count)],
        "tags_key": ["" for _ in range(count)],
        "writer": [writer] * count,
        "seq": list(range(count)),
        "origin": [generator.choice([None, "from"]) for _ in range(count)],
    }
    schema = arrow_schema("metrics")
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


class Lake:
    def __init__(self, url, options=None, their_options=None):
        self.storage = open_storage(str(url), options)
        self.uri = f"{url}/metrics"
        self.theirs = their_options
        self.log = TableLog(self.storage, "metrics")
        self.rows = []
        self.writers = {}

    def add(self, number, count=200):
        writer = f"{number:032x}"
        rows = make_rows(writer, count, seed=number)
        new = []
        for month, part in split_by_month(sort_rows("metrics", rows)).items():
            builder = DataFileBuilder("metrics", month, with_float_stats=True)
            builder.add(part)
            data, file = builder.finish()
            self.storage.put_new(file.file.key, data)
            new.append(file)
        commit(
            self.log,
            self.log.refresh(),
            Intent("WRITE", adds=tuple(new), consumed={writer: ((0, count - 1),)}),
        )
        self.rows.append(rows)
        self.writers[writer] = ((0, count - 1),)

    def expected(self):
        return canonical(pa.concat_tables(self.rows))

    def ours(self):
        """Return the rows as a handle sees them that opens the lake now; the open one must agree."""
        state = TableLog(self.storage, "metrics").refresh()
        assert sorted(self.log.refresh().entries) == sorted(state.entries)
        parts = [decode_rows("metrics", self.storage.get(file.key), key=file.key) for file in state.files]
        return canonical(pa.concat_tables(parts))

    def check(self):
        expected = self.expected()
        assert self.ours() == expected
        assert canonical(DeltaTable(self.uri, storage_options=self.theirs).to_pyarrow_table()) == expected
        lazy = pl.scan_delta(self.uri, storage_options=self.theirs)
        assert canonical(lazy.collect().to_arrow()) == expected
        state = TableLog(self.storage, "metrics").refresh()
        assert {writer: state.consumed(writer) for writer in self.writers} == self.writers


def canonical(rows):
    """Return rows as Python values in one order; what engines call the same map or text becomes the same."""
    found = []
    for row in rows.select(COLUMNS).to_pylist():
        tags = row["tags"]
        if tags is not None:
            pairs = [(pair["key"], pair["value"]) if isinstance(pair, dict) else tuple(pair) for pair in tags]
            row["tags"] = tuple(sorted(pairs))
        row["value"] = None if row["value"] is None else row["value"].hex()
        found.append(tuple(row[name] for name in COLUMNS))
    return sorted(found, key=repr)


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path)
    for number in range(4):
        lake.add(number)
    return lake


def test_other_engines_read_what_we_commit(lake):
    lake.check()
    write_checkpoint(lake.log, lake.log.refresh())
    lake.check()
    lake.add(9)
    lake.check()


def test_they_read_from_our_checkpoint_alone(lake):
    write_checkpoint(lake.log, lake.log.refresh())
    lake.storage.delete([log_key("metrics", version) for version in range(3)])
    lake.check()


def test_their_skipping_by_our_statistics_loses_no_row(lake):
    dataset = DeltaTable(lake.uri).to_pyarrow_dataset()
    everything = pa.concat_tables(lake.rows)
    schema = arrow_schema("metrics")
    probes = [("resource", each) for each in HOSTILE] + [("metric", "metric-1")]
    for name in ("step", "timestamp", "seq"):
        column = everything[name].drop_null()
        probes += [(name, column[index].as_py()) for index in range(0, len(column), 37)]
    for name, value in probes:
        scalar = pa.scalar(value, schema.field(name).type)
        expected = everything.filter(pc.equal(everything[name], scalar)).num_rows
        assert expected
        assert dataset.to_table(filter=pc.field(name) == scalar).num_rows == expected, (name, value)
    for name, value in probes[len(HOSTILE) + 1 :: 5]:
        scanned = pl.scan_delta(lake.uri).filter(pl.col(name) >= pl.lit(value)).collect().height
        scalar = pa.scalar(value, schema.field(name).type)
        assert scanned == everything.filter(pc.greater_equal(everything[name], scalar)).num_rows
    nulls = everything["step"].null_count
    assert dataset.to_table(filter=pc.field("step").is_null()).num_rows == nulls


@pytest.mark.parametrize("checkpoint_first", [False, True])
def test_their_maintenance_leaves_rows_and_watermarks_complete(lake, checkpoint_first):
    if checkpoint_first:
        write_checkpoint(lake.log, lake.log.refresh())
    table = DeltaTable(lake.uri)
    table.optimize.compact()
    lake.check()
    assert any(not file.is_ours for file in lake.log.refresh().files)
    lake.add(10)
    table = DeltaTable(lake.uri)
    table.create_checkpoint()
    lake.check()
    table.optimize.z_order(["metric", "step"])
    lake.check()
    table = DeltaTable(lake.uri)
    table.create_checkpoint()
    table.cleanup_metadata()
    table.vacuum(dry_run=False)
    lake.check()
    lake.add(11)
    write_checkpoint(lake.log, lake.log.refresh())
    lake.check()


def test_their_delete_takes_exactly_its_rows_and_no_watermark(lake):
    DeltaTable(lake.uri).delete("metric = 'metric-1'")
    lake.rows = [rows.filter(pc.not_equal(rows["metric"], "metric-1")) for rows in lake.rows]
    lake.check()


def test_they_rewrite_files_after_our_merges_and_keep_what_we_removed_removed(lake):
    state = lake.log.refresh()
    removed = state.files[0]
    gone = decode_rows("metrics", lake.storage.local_path(removed.key), key=removed.key)
    commit(lake.log, state, Intent("DELETE", removes=(removed.key,)))
    identities = {(row["writer"], row["seq"]) for row in gone.select(["writer", "seq"]).to_pylist()}
    kept = []
    for rows in lake.rows:
        mask = [
            pair not in identities
            for pair in zip(rows["writer"].to_pylist(), rows["seq"].to_pylist(), strict=True)
        ]
        kept.append(rows.filter(pa.array(mask)))
    lake.rows = kept
    lake.check()
    DeltaTable(lake.uri).optimize.compact()
    lake.check()


# -- object stores ---------------------------------------------------------------------------------------


@pytest.fixture
def s3_lake(s3_server, s3_url, s3_options):
    theirs = {
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3_options["key"],
        "AWS_SECRET_ACCESS_KEY": s3_options["secret"],
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    lake = Lake(s3_url, s3_options, theirs)
    yield lake
    lake.storage.close()


@pytest.fixture
def gcs_lake(gcs_server, gcs_url, gcs_options):
    account = {
        "gcs_base_url": gcs_server.endpoint_url,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    theirs = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_ALLOW_HTTP": "true"}
    lake = Lake(gcs_url, gcs_options, {**theirs, "allow_http": "true"})
    yield lake
    lake.storage.close()


@pytest.mark.parametrize("store", ["s3_lake", "gcs_lake"])
def test_other_engines_read_object_stores(store, request):
    lake = request.getfixturevalue(store)
    for number in range(3):
        lake.add(number, count=60)
    lake.check()
    write_checkpoint(lake.log, lake.log.refresh())
    lake.add(9, count=60)
    lake.check()


def test_they_maintain_a_table_on_s3(s3_lake):
    for number in range(3):
        s3_lake.add(number, count=60)
    DeltaTable(s3_lake.uri, storage_options=s3_lake.theirs).optimize.compact()
    s3_lake.check()
    table = DeltaTable(s3_lake.uri, storage_options=s3_lake.theirs)
    table.create_checkpoint()
    table.vacuum(dry_run=False)
    s3_lake.add(9, count=60)
    s3_lake.check()
