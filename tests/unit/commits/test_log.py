from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics_lake.commits import (
    DataFileBuilder,
    Intent,
    TableLog,
    clean_log,
    commit,
    write_checkpoint,
)
from metrics_lake.commits.log import ANCHOR_SECONDS
from metrics_lake.errors import (
    ConflictError,
    CorruptObjectError,
    MetricsLakeWarning,
    NotFoundError,
    SnapshotExpired,
    UnsupportedFormatError,
)
from metrics_lake.layout import checkpoint_key, log_key

DAY = 86_400.0


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(world, clock):
    return TableLog(world.storage, "metrics", boot_clock=clock)


@pytest.fixture
def write(world, log, make):
    """Commit one file of ten rows of writer ``number`` and return its key."""

    def write(number, **settings):
        writer = make.writer(number)
        builder = DataFileBuilder("metrics", "2023-11", with_float_stats=True)
        builder.add(make.rows(writer, 0, 9, resource=f"run-{number}"))
        data, new = builder.finish()
        world.storage.put_new(new.file.key, data)
        intent = Intent("WRITE", adds=(new,), consumed={writer: ((0, 9),)}, **settings)
        commit(log, log.refresh(), intent, sleep=lambda seconds: None)
        return new.file.key

    return write


def same(left, right):
    assert left.version == right.version
    assert left.entries.keys() == right.entries.keys()
    assert sorted(left.files, key=str) == sorted(right.files, key=str)
    assert left.tombstones.keys() == right.tombstones.keys()
    assert left.transactions.table().equals(right.transactions.table())
    assert dict(left.metadata) == dict(right.metadata)
    assert dict(left.protocol) == dict(right.protocol)


def test_a_table_without_a_log_is_at_version_minus_one(log):
    state = log.refresh()
    assert (state.version, state.files, state.consumed("a" * 32)) == (-1, (), ())


def test_nothing_new_costs_one_get_that_finds_nothing(world, log, write):
    write(1)
    state = log.refresh()
    world.storage.calls.clear()
    assert all(log.refresh() is state for _ in range(10))
    assert world.storage.calls == [("get", log_key("metrics", 1))] * 10


def test_every_way_to_open_a_log_gives_the_same_table(world, log, write):
    keys = [write(number) for number in range(5)]
    write_checkpoint(log, log.refresh())
    base = log.refresh()
    commit(log, base, Intent("DELETE", removes=(keys[0],)), sleep=lambda seconds: None)
    write(7)
    followed = log.refresh()
    assert followed.version == 6
    assert keys[0] in followed.tombstones
    same(TableLog(world.storage, "metrics").refresh(), followed)  # checkpoint and commits
    world.storage.delete([checkpoint_key("metrics", 4)])
    same(TableLog(world.storage, "metrics").refresh(), followed)  # commits alone
    assert write_checkpoint(log, followed)
    assert not write_checkpoint(log, followed)
    world.storage.delete([log_key("metrics", version) for version in range(7)])
    same(TableLog(world.storage, "metrics").refresh(), followed)  # the checkpoint alone


def test_a_checkpoint_in_parts_counts_once_all_parts_are_there(world, log, write):
    for number in range(4):
        write(number)
    state = log.refresh()
    write_checkpoint(log, state)
    rows = pq.read_table(pa.BufferReader(world.storage.get(checkpoint_key("metrics", 3))))
    world.storage.delete([checkpoint_key("metrics", 3)])
    parts = []
    for number in range(3):
        sink = pa.BufferOutputStream()
        pq.write_table(rows.slice(number * 4, 4 if number < 2 else None), sink)
        parts.append((f"metrics/_delta_log/{3:020d}.checkpoint.{number + 1:010d}.{3:010d}.parquet", sink))
    for key, sink in parts[:2]:
        world.storage.put(key, sink.getvalue().to_pybytes())
    same(TableLog(world.storage, "metrics").refresh(), state)  # from the commits
    world.storage.delete([log_key("metrics", version) for version in range(3)])
    with pytest.raises(SnapshotExpired):
        TableLog(world.storage, "metrics").refresh()
    world.storage.put(parts[2][0], parts[2][1].getvalue().to_pybytes())
    same(TableLog(world.storage, "metrics").refresh(), state)


def test_a_damaged_checkpoint_does_not_matter_while_the_commits_are_there(world, log, write):
    write(1)
    write_checkpoint(log, log.refresh())
    world.storage.put(checkpoint_key("metrics", 0), b"damaged")
    same(TableLog(world.storage, "metrics").refresh(), log.refresh())
    world.storage.delete([log_key("metrics", 0)])
    with pytest.raises(CorruptObjectError, match="checkpoint"):
        TableLog(world.storage, "metrics").refresh()


def test_a_damaged_commit_is_named(world, log, write):
    write(1)
    world.storage.put(log_key("metrics", 1), b'{"add": {"path')
    with pytest.raises(CorruptObjectError) as caught:
        log.refresh()
    assert caught.value.key == log_key("metrics", 1)


def test_percent_encoded_paths_are_the_same_file_as_decoded_ones(world, log, write):
    key = write(1)
    write(2)
    add = {"path": "month%3D2023-11/other%20name.parquet", "size": 5, "partitionValues": {"month": "2023-11"}}
    remove = {"path": key.removeprefix("metrics/").replace("=", "%3D")}
    world.storage.put_new(
        log_key("metrics", 2),
        "\n".join(json.dumps(each) for each in ({"add": add}, {"remove": remove})).encode(),
    )
    state = log.refresh()
    assert key not in state.entries
    assert "metrics/month=2023-11/other name.parquet" in state.entries
    commit(log, state, Intent("DELETE", removes=("metrics/month=2023-11/other name.parquet",)))
    assert (
        '"path":"month%3D2023-11/other%20name.parquet"' in world.storage.get(log_key("metrics", 3)).decode()
    )
    assert len(log.refresh().files) == 1


@pytest.mark.parametrize("path", ["s3://elsewhere/x.parquet", "/abs/x.parquet"])
def test_files_outside_of_the_table_are_refused(world, log, write, path):
    write(1)
    world.storage.put_new(log_key("metrics", 1), json.dumps({"add": {"path": path}}).encode())
    with pytest.raises(UnsupportedFormatError, match="outside"):
        log.refresh()


def test_past_versions_can_be_read_as_long_as_the_log_goes_back(world, log, write):
    for number in range(6):
        write(number)
    write_checkpoint(log, log.at_version(3))
    assert [len(log.at_version(version).files) for version in range(6)] == [1, 2, 3, 4, 5, 6]
    world.storage.delete([log_key("metrics", version) for version in range(3)])
    assert len(log.at_version(4).files) == 5
    with pytest.raises(SnapshotExpired, match="Version 2"):
        log.at_version(2)
    with pytest.raises(NotFoundError):
        log.at_version(6)
    with pytest.raises(NotFoundError):
        log.at_version(-1)


def test_a_handle_that_is_far_behind_lists_the_log_instead_of_following_it(world, log, write):
    write(0)
    far_behind = TableLog(world.storage, "metrics")
    far_behind.refresh()
    for number in range(1, 30):
        write(number)
    world.storage.calls.clear()
    same(far_behind.refresh(), log.refresh())
    assert ("list", "metrics/_delta_log/") in world.storage.calls


# -- the anchor ------------------------------------------------------------------------------------------


def foreign_cleanup(world, log, write):
    """Let another handle go on, checkpoint, and lose every version below, as another engine may do it."""
    other = TableLog(world.storage, "metrics")
    stale = log.refresh()
    log._known, kept = None, log._known
    for number in range(50, 55):
        write(number)
    write_checkpoint(other, other.refresh())
    write(55)
    log._known = kept
    newest = other.refresh()
    world.storage.delete([log_key("metrics", version) for version in range(newest.version - 1)])
    return stale, newest


def test_a_handle_that_has_not_looked_for_long_notices_that_its_version_is_gone(world, log, clock, write):
    write(1)
    stale, newest = foreign_cleanup(world, log, write)
    assert log.refresh() is stale  # its successor's absence is no news, for ten minutes at most
    clock.now += ANCHOR_SECONDS + 1
    same(log.refresh(), newest)


def test_a_process_that_is_stopped_while_it_reads_a_version_does_not_trust_it_afterwards(
    world, log, clock, write
):
    write(1)
    log.refresh()
    kept, log._known = log._known, None
    write(2)
    log._known = kept

    def stop(when, operation, key):
        if (when, operation, key) == ("after", "get", log_key("metrics", 1)):
            world.storage.hook = lambda *call: None
            clock.now += 31 * DAY
            foreign_cleanup(world, TableLog(world.storage, "metrics"), write)

    world.storage.hook = stop
    same(log.refresh(), TableLog(world.storage, "metrics").refresh())


def test_without_a_log_the_absence_of_version_zero_is_proven_by_a_list(world, log, clock, write):
    log.refresh()
    stale, newest = foreign_cleanup(world, log, write)
    assert stale.version == -1
    clock.now += ANCHOR_SECONDS + 1
    same(log.refresh(), newest)


def test_a_table_that_was_made_anew_is_noticed(world, log, clock, write):
    write(1)
    write(2)
    log.refresh()
    world.storage.objects.clear()
    log._known, kept = None, log._known
    write(3)
    log._known = kept
    clock.now += ANCHOR_SECONDS + 1
    with pytest.raises(ConflictError, match="made anew"):
        log.refresh()


# -- what is refused -------------------------------------------------------------------------------------


def set_metadata(world, log, version, change):
    metadata = json.loads(json.dumps(dict(log.refresh().metadata)))
    change(metadata)
    world.storage.put_new(log_key("metrics", version), json.dumps({"metaData": metadata}).encode())


def with_property(name, value):
    return lambda metadata: metadata["configuration"].__setitem__(name, value)


def retyped(metadata):
    schema = json.loads(metadata["schemaString"])
    schema["fields"][2]["type"] = "string"
    metadata["schemaString"] = json.dumps(schema)


def without_column(metadata):
    schema = json.loads(metadata["schemaString"])
    del schema["fields"][4]
    metadata["schemaString"] = json.dumps(schema)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (with_property("delta.appendOnly", "true"), "delta.appendOnly"),
        (
            with_property("delta.setTransactionRetentionDuration", "7 days"),
            "delta.setTransactionRetentionDuration",
        ),
        (lambda metadata: metadata.__setitem__("partitionColumns", ["day"]), "partitionColumns"),
        (retyped, "schemaString"),
        (without_column, "schemaString"),
    ],
)
def test_what_we_cannot_give_is_refused_by_its_name_and_works_again_once_set_back(
    world, log, write, change, name
):
    write(1)
    original = dict(log.refresh().metadata)
    set_metadata(world, log, 1, change)
    for handle in (log, TableLog(world.storage, "metrics"), log):
        with pytest.raises(UnsupportedFormatError) as caught:
            handle.refresh()
        assert caught.value.property == name
        assert name in str(caught.value)
    world.storage.put_new(log_key("metrics", 2), json.dumps({"metaData": original}).encode())
    assert log.refresh().version == 2


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        (
            {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"]},
            "minReaderVersion",
        ),
        ({"minReaderVersion": 1, "minWriterVersion": 4}, "minWriterVersion"),
    ],
)
def test_newer_protocols_are_refused(world, log, write, protocol, name):
    write(1)
    world.storage.put_new(log_key("metrics", 1), json.dumps({"protocol": protocol}).encode())
    with pytest.raises(UnsupportedFormatError) as caught:
        log.refresh()
    assert caught.value.property == name


def test_foreign_columns_are_ignored_with_one_warning(world, log, write):
    write(1)

    def add_column(metadata):
        schema = json.loads(metadata["schemaString"])
        schema["fields"].append({"name": "note", "type": "string", "nullable": True, "metadata": {}})
        metadata["schemaString"] = json.dumps(schema)

    set_metadata(world, log, 1, add_column)
    with pytest.warns(MetricsLakeWarning, match="note"):
        log.refresh()
    log.refresh()
    write(2)
    assert log.refresh().version == 2


# -- cleaning up -----------------------------------------------------------------------------------------


def test_own_cleanup_keeps_thirty_days_readable_and_takes_versions_in_ascending_order(world, log, write):
    for number in range(8):
        write(number)
        world.storage.now += 10 * DAY
        if number in (2, 5):
            write_checkpoint(log, log.refresh())
    # versions are 80, 70 ... 10 days old; the checkpoints of 2 and 5 are 50 and 20 days old
    world.storage.calls.clear()
    gone = clean_log(log, now=world.storage.now)
    assert gone == [log_key("metrics", 0), log_key("metrics", 1)]
    assert [key for operation, key in world.storage.calls if operation == "delete"] == gone
    assert len(TableLog(world.storage, "metrics").at_version(2).files) == 3
    assert len(log.at_version(4).files) == 5
    assert clean_log(log, now=world.storage.now) == []


def test_cleanup_without_an_old_checkpoint_takes_nothing(world, log, write):
    write(1)
    assert clean_log(log, now=world.storage.now + 400 * DAY) == []


def test_checkpoints_forget_what_they_are_told_and_old_tombstones(world, log, write, make):
    keys = [write(number) for number in range(3)]
    commit(log, log.refresh(), Intent("DELETE", removes=tuple(keys[:1])), wall_clock=lambda: 100 * DAY)
    commit(log, log.refresh(), Intent("DELETE", removes=tuple(keys[1:2])), wall_clock=lambda: 110 * DAY)
    forget = frozenset({f"ml:{make.writer(1)}"})
    write_checkpoint(log, log.refresh(), forget=forget, wall_clock=lambda: 112 * DAY)
    cold = TableLog(world.storage, "metrics").refresh()
    assert list(cold.tombstones) == keys[1:2]
    assert cold.consumed(make.writer(1)) == ()
    assert cold.consumed(make.writer(2)) == ((0, 9),)
    assert log.refresh().consumed(make.writer(1)) == ((0, 9),)
