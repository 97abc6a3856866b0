"""Our maintenance racing another engine's on the same table."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from metrics_lake.commits import TableLog, decode_rows, encode_rows, take_snapshot
from metrics_lake.layout import InboxName
from metrics_lake.maintenance.compaction import compact_inbox, merge_files
from metrics_lake.maintenance.deleting import delete_rows
from metrics_lake.maintenance.selection import Condition
from metrics_lake.maintenance.vacuuming import vacuum
from metrics_lake.schema import arrow_schema
from metrics_lake.storage import open_storage
from metrics_lake.testing import FaultyStorage


def rows_of(number, first, last, resource):
    n = last - first + 1
    columns = {
        "resource": [resource] * n,
        "metric": [f"m{seq % 3}" for seq in range(first, last + 1)],
        "step": range(first, last + 1),
        "timestamp": [1_700_000_000_000_000 + seq for seq in range(first, last + 1)],
        "value": [float(seq) for seq in range(first, last + 1)],
        "kind": ["float"] * n,
        "tags_key": [""] * n,
        "writer": [f"{number:032x}"] * n,
        "seq": range(first, last + 1),
    }
    schema = arrow_schema("metrics")
    return pa.table(
        [pa.array(list(columns.get(field.name, [None] * n)), field.type) for field in schema], schema=schema
    )


class Lake:
    def __init__(self, path):
        self.path = path
        self.storage = open_storage(str(path))
        self.expected = set()

    @property
    def uri(self):
        return str(self.path / "metrics")

    def log(self, storage=None):
        return TableLog(storage or self.storage, "metrics")

    def publish(self, number, first, last, resource):
        name = InboxName(f"{number:032x}", first, last, "metrics", "2026-11-20", False)
        rows = rows_of(number, first, last, resource)
        self.storage.put_new(name.key, encode_rows("metrics", rows, metadata={}, presorted=False))
        self.expected |= {(resource, name.writer, seq) for seq in range(first, last + 1)}

    def compact(self):
        compact_inbox(self.storage, self.log())

    def check(self):
        snapshot = take_snapshot(self.storage, self.log(), tuple)
        found = []
        for file in snapshot.log.files:
            rows = decode_rows("metrics", self.storage.get(file.key), key=file.key)
            found += zip(*(rows[name].to_pylist() for name in ("resource", "writer", "seq")), strict=True)
        assert snapshot.inbox == ()
        assert len(found) == len(set(found))
        assert set(found) == self.expected
        theirs = DeltaTable(self.uri).to_pyarrow_table(columns=["resource", "writer", "seq"])
        assert theirs.num_rows == len(found)
        lazy = pl.scan_delta(self.uri).select("resource", "writer", "seq").collect()
        assert set(lazy.iter_rows()) == self.expected


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path)
    for number in range(6):
        lake.publish(number, 0, 99, f"run-{number % 2}")
        lake.compact()
    return lake


def racing(lake, act):
    """Return a storage under which something happens once, right before the first PUT of a commit."""

    class Racing(FaultyStorage):
        done = False

        def put_new(self, key, data):
            if "_delta_log" in key and not self.done:
                self.done = True
                act()
            return super().put_new(key, data)

    return Racing(lake.storage)


def test_a_merge_that_races_their_optimize_starts_over(lake):
    storage = racing(lake, lambda: DeltaTable(lake.uri).optimize.compact())
    merge_files(storage, lake.log(storage))
    lake.check()


def test_a_merge_that_races_their_delete_does_not_bring_rows_back(lake):
    storage = racing(lake, lambda: DeltaTable(lake.uri).delete("resource = 'run-1'"))
    merge_files(storage, lake.log(storage))
    lake.expected = {row for row in lake.expected if row[0] != "run-1"}
    lake.check()


def test_a_delete_that_races_their_optimize_takes_all_of_its_rows(lake):
    storage = racing(lake, lambda: DeltaTable(lake.uri).optimize.compact())
    delete_rows(storage, lake.log(storage), Condition(resources=("run-1",)))
    lake.expected = {row for row in lake.expected if row[0] != "run-1"}
    lake.check()


def test_a_compaction_that_races_their_optimize_goes_on(lake):
    lake.publish(9, 0, 49, "run-9")
    storage = racing(lake, lambda: DeltaTable(lake.uri).optimize.compact())
    assert compact_inbox(storage, lake.log(storage)).points == 50
    lake.check()


def test_their_rewritten_files_become_ours_with_the_next_merge(lake):
    DeltaTable(lake.uri).optimize.compact()
    assert not any(file.is_ours for file in lake.log().refresh().files)
    lake.check()
    merge_files(lake.storage, lake.log())
    state = lake.log().refresh()
    assert all(file.is_ours and file.digest for file in state.files)
    rows = decode_rows("metrics", lake.storage.get(state.files[0].key), key="k")
    assert pc.all(pc.equal(rows["kind"], "float")).as_py()
    lake.check()


def test_their_whole_toolbox_and_ours_take_turns(lake):
    for turn in range(3):
        lake.publish(20 + turn, 0, 49, f"turn-{turn}")
        lake.compact()
        table = DeltaTable(lake.uri)
        table.optimize.compact() if turn % 2 else table.optimize.z_order(["metric"])
        DeltaTable(lake.uri).create_checkpoint()
        DeltaTable(lake.uri).cleanup_metadata()
        DeltaTable(lake.uri).vacuum(dry_run=False)
        DeltaTable(lake.uri).vacuum(dry_run=False, full=True)
        lake.check()
        merge_files(lake.storage, lake.log())
        vacuum(lake.storage, lake.log())
        lake.check()


def test_their_rows_are_read_like_ours(lake):
    schema = pa.schema([*arrow_schema("metrics"), pa.field("month", pa.string())])
    rows = rows_of(50, 0, 9, "theirs")
    rows = rows.append_column("month", pa.array(["2023-11"] * 10)).cast(schema)
    from deltalake import write_deltalake

    write_deltalake(lake.uri, rows, mode="append")
    lake.expected |= {("theirs", f"{50:032x}", seq) for seq in range(10)}
    lake.check()
    merge_files(lake.storage, lake.log())
    lake.check()
