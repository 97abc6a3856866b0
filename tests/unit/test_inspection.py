"""What ``lake.inspect`` says of whole and of damaged lakes: verify names the culprit of any damage."""

from __future__ import annotations

import json
import random
import uuid
import warnings

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics_lake import MetricsLake
from metrics_lake.commits import (
    DataFileBuilder,
    Intent,
    TableLog,
    commit,
    decode_rows,
    sort_rows,
    split_by_month,
)
from metrics_lake.errors import CorruptObjectError, InvalidInputError, LakeNotFoundError, NotFoundError
from metrics_lake.inspection import Inspection
from metrics_lake.inspection.duplicates import Duplicates
from metrics_lake.inspection.objects import check_inbox_object
from metrics_lake.inspection.rowchecks import first_disorder
from metrics_lake.lakefile import read_lake
from metrics_lake.layout import InboxName, parse_inbox_key, sidecar_key
from metrics_lake.reader import Reader
from metrics_lake.schema import TABLES, arrow_schema
from metrics_lake.storage import open_storage
from metrics_lake.testing import WrappedStorage
from metrics_lake.writer.publishing import publish_rows

LOG = "metrics/_delta_log/"
DAY = 86_400


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Return the objects of a small lake by key: table, inbox, sidecars, checkpoint, copies, tags."""
    home = tmp_path_factory.mktemp("image")
    lake = MetricsLake(home / "lake", state_dir=home / "state", compaction="off")
    start = 1_790_000_000
    for number in range(11):
        run = f"run-{number % 4}"
        lake.log_series(run, "loss", [1 / (step + 1) for step in range(20)], timestamps=[start] * 20)
        lake.log_metric(
            run, "acc", number / 10, tags={"fold": number, "country": "NO"}, timestamp=start + DAY * 20
        )
        lake.log_metrics(run, {"text": "relu" * 400, "list": [1, 2], "nan": float("nan"), "zero": -0.0})
        lake.maintenance.compact()
    lake.copy_metrics("run-1", "copies/1")
    for number in range(3):
        lake.log_metric("late", "x", number)
        lake.flush()
    lake.close()
    with open_storage(str(home / "lake")) as storage:
        return {info.key: storage.get(info.key) for info in storage.list("")}


def last_of_a_page(data):
    """Return the place of a byte that belongs to the values of a Parquet file."""
    group = pq.read_metadata(pa.BufferReader(bytes(data))).row_group(0)
    return max(
        (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1
        for column in map(group.column, range(group.num_columns))
    )


class Lab:
    """A lake of its own that a test may damage."""

    def __init__(self, image, url, options=None):
        self.url, self.options = url, options
        self.storage = open_storage(url, options)
        for key, data in image.items():
            self.storage.put_new(key, data)
        self.lake_id = read_lake(self.storage).lake_id

    @property
    def inspect(self):
        return Inspection(self.storage, Reader(self.storage), read_lake(self.storage))

    def verify(self):
        return self.inspect.verify()

    def keys(self, part):
        return [info.key for info in self.storage.list("") if part in info.key]

    def live_files(self):
        return sorted(TableLog(self.storage, "metrics").refresh().entries)

    def live_inbox(self):
        return self.inspect.files().arrow().filter(pa.compute.field("kind") == "inbox")["key"].to_pylist()

    def flip(self, key, at=None):
        data = bytearray(self.storage.get(key))
        data[last_of_a_page(data) if at is None else at] ^= 0x10
        self.storage.put(key, bytes(data))

    def swap(self, one, other):
        first, second = self.storage.get(one), self.storage.get(other)
        self.storage.put(one, second)
        self.storage.put(other, first)

    def edit(self, key, change):
        """Change the actions of one version."""
        actions = [json.loads(line) for line in self.storage.get(key).splitlines()]
        changed = change(actions) or actions
        self.storage.put(key, "\n".join(map(json.dumps, changed)).encode() + b"\n")

    def publish(self, rows, *, writer=None, first=0, is_end=False, lake_id=None, date="2026-11-20"):
        writer = uuid.uuid4().hex if writer is None else writer
        name = InboxName(writer, first, first + rows.num_rows - 1, "metrics", date, is_end)
        publish_rows(self.storage, lake_id or self.lake_id, name, rows, "digest")
        return name

    def insert(self, rows, *, change=None, **intent):
        """Commit rows as data files, as another engine or a faulty version of ours might."""
        log = TableLog(self.storage, "metrics")
        new = []
        for month, part in split_by_month(rows).items():
            builder = DataFileBuilder("metrics", month, with_float_stats=True)
            builder.add(part)
            data, file = builder.finish()
            self.storage.put_new(file.file.key, data)
            new.append(file if change is None else change(file))
        commit(log, log.refresh(), Intent("WRITE", adds=tuple(new), **intent))
        return new[0].file.key


def make_rows(writer, first, last, **columns):
    seqs = list(range(first, last + 1))
    n = len(seqs)
    values = {
        "resource": ["made"] * n, "metric": ["m"] * n, "step": seqs,
        "timestamp": [1_790_000_000_000_000 + seq for seq in seqs], "value": [float(seq) for seq in seqs],
        "kind": ["float"] * n, "tags_key": [""] * n, "writer": [writer] * n, "seq": seqs, **columns,
    }  # fmt: skip
    schema = arrow_schema("metrics")
    return pa.table(
        [pa.array(values.get(each.name, [None] * n), each.type) for each in schema], schema=schema
    )


@pytest.fixture(params=["local", "memory"])
def lab(request, image):
    return Lab(image, request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def local(image, local_url):
    return Lab(image, local_url)


def named(report, severity="error"):
    return {(each.code, each.key) for each in report if each.severity == severity}


def only_writer(lab):
    return parse_inbox_key(lab.keys("inbox/metrics/date")[0]).writer


# ---- a whole lake ---------------------------------------------------------------------------------------


def test_a_whole_lake_is_clean_and_all_of_it_is_read(lab):
    report = lab.verify()
    assert (str(report), report.is_clean, len(report.findings)) == (str(report), True, 0), str(report)
    lake = MetricsLake(lab.url, read_only=True)
    assert report.points == len(lake.history())
    sidecars = [sidecar_key("metrics", key) for key in lab.live_files()]
    read = {"_lake.json", *sidecars, *lab.live_files(), *lab.keys(".rows.parquet"), *lab.keys(".end.parquet")}
    read |= {key for key in lab.keys(LOG) if key.endswith((".json", ".checkpoint.parquet"))}
    assert report.objects == len(read)


def test_verify_never_writes(image, memory_url):
    lab = Lab(image, memory_url)

    class ReadOnly(WrappedStorage):
        def put_new(self, key, data):
            raise AssertionError(key)

        put = delete = put_new

    storage = ReadOnly(lab.storage)
    lab.flip(lab.live_files()[0])
    report = Inspection(storage, Reader(storage), None).verify()
    assert not report.is_clean


def test_report_is_rows_and_text(lab):
    key = lab.live_files()[0]
    lab.flip(key)
    report = lab.verify()
    rows = report.result().rows()
    assert rows[0]["key"] == key
    assert list(rows[0]) == ["severity", "code", "table", "key", "what", "hint"]
    assert key in str(report)
    assert "quarantine" in str(report)


def test_progress_ends_with_everything_done(lab):
    seen = []
    lab.inspect.verify(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] >= sum(len(lab.storage.get(key)) for key in lab.live_files())
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_unknown_table_is_refused(lab):
    with pytest.raises(InvalidInputError, match="no table 'metric'"):
        lab.inspect.verify("metric")
    with pytest.raises(InvalidInputError, match="no table"):
        lab.inspect.files("x")


# ---- what is there --------------------------------------------------------------------------------------


def test_files_are_what_another_engine_reads_exactly(local):
    lake = MetricsLake(local.url, read_only=True)
    files = lake.inspect.files()
    assert all(files.values("is_whole"))
    assert files.values("predicate") == [None] * len(files)
    paths = files.values("path")
    found = duckdb.sql(
        "SELECT resource, writer, seq, value FROM read_parquet($paths, hive_partitioning=false)",
        params={"paths": paths},
    ).to_arrow_table()
    expected = lake.history(full=True).arrow().select(["resource", "writer", "seq", "value"])

    def texts(table):
        return sorted(map(repr, table.to_pylist()))

    assert texts(found) == texts(expected)
    assert sum(files.values("points")) == found.num_rows
    rows = {row["key"]: row for row in files}
    for key, row in rows.items():
        assert row["size_bytes"] == len(local.storage.get(key))
        assert row["is_ours"] is True
        assert (row["kind"] == "table") == (row["month"] is not None) == (row["digest"] is not None)
        assert (row["kind"] == "inbox") == (row["date"] is not None) == (row["writer"] is not None)
        if row["kind"] == "table":
            stored = pq.read_table(row["path"], columns=["resource"], partitioning=None)[
                "resource"
            ].to_pylist()
            assert row["resource_min"] <= min(stored)
            assert max(stored) <= row["resource_max"]


def test_files_show_objects_of_which_some_rows_count(lab):
    writer = uuid.uuid4().hex
    lab.publish(make_rows(writer, 0, 4), writer=writer)
    whole = make_rows(writer, 3, 9)
    name = lab.publish(whole, writer=writer, first=3)
    (row,) = [row for row in lab.inspect.files() if row["key"] == name.key]
    assert (row["is_whole"], row["points"], row["first_seq"], row["last_seq"]) == (False, 5, 3, 9)
    assert (row["predicate"], row["keep"]) == ("seq BETWEEN 5 AND 9", [{"first": 5, "last": 9}])
    counted = duckdb.sql(f"SELECT count(*) FROM whole WHERE {row['predicate']}").fetchall()
    assert counted == [(5,)]
    assert lab.verify().is_clean


def test_snapshots_add_up_to_the_table(lab):
    rows = lab.inspect.snapshots().rows()
    assert [row["version"] for row in rows] == list(range(len(rows)))
    assert {row["engine"] for row in rows} == {"metrics_lake"}
    live = TableLog(lab.storage, "metrics").refresh()
    assert sum(row["points_added"] - row["points_removed"] for row in rows) == sum(
        file.num_records for file in live.files
    )
    assert sum(row["files_added"] - row["files_removed"] for row in rows) == len(live.files)
    assert [row["version"] for row in rows if row["has_checkpoint"]] == [10]
    merges = [row for row in rows if row["operation"] == "OPTIMIZE"]
    assert merges
    assert not any(row["data_change"] for row in merges)
    assert all(row["points_added"] == row["points_removed"] for row in merges)


def test_snapshots_count_removed_points_behind_a_cleanup(lab):
    whole = lab.inspect.snapshots().rows()
    lab.storage.delete([f"{LOG}{version:020d}.json" for version in range(10)])
    assert lab.inspect.snapshots().rows() == whole[10:]


def test_writers_tell_where_each_stands(lab):
    (writer,) = lab.inspect.writers().rows()
    last = max(parse_inbox_key(key).last for key in lab.keys("inbox/metrics/date"))
    live = sum(parse_inbox_key(key).last - parse_inbox_key(key).first + 1 for key in lab.live_inbox())
    assert (writer["next_seq"], writer["points_in_inbox"]) == (last + 1, live)
    assert writer["points_in_table"] == writer["consumed_to"] + 1 == last + 1 - live
    assert (writer["is_ended"], writer["missing"]) == (True, 0)
    assert writer["started"].year >= 2026
    assert writer["last_object"] is not None
    name = lab.publish(make_rows("f" * 32, 0, 3), writer="f" * 32)
    lab.publish(make_rows("f" * 32, 9, 9), writer="f" * 32, first=9)
    (made,) = [row for row in lab.inspect.writers() if row["writer"] == name.writer]
    assert (made["consumed_to"], made["next_seq"], made["missing"], made["is_ended"]) == (-1, 4, 5, False)
    assert (made["started"], made["objects"]) == (None, 2)


def test_gaps_are_listed_while_they_wait_and_after_a_commit_went_on(lab):
    assert lab.inspect.gaps().rows() == []
    writer = "e" * 32
    lab.publish(make_rows(writer, 0, 3), writer=writer)
    lab.publish(make_rows(writer, 9, 9), writer=writer, first=9)
    (gap,) = lab.inspect.gaps().rows()
    assert (gap["writer"], gap["first_seq"], gap["last_seq"], gap["points"]) == (writer, 4, 8, 5)
    assert (gap["is_skipped"], gap["is_settled"]) == (False, False)
    assert gap["since"] is not None
    assert ("gap", None) in named(lab.verify(), "warning")
    other = "d" * 32
    lab.insert(make_rows(other, 20, 29), consumed={other: ((0, 9), (20, 29))})
    settled = [row for row in lab.inspect.gaps() if row["writer"] == other]
    assert [(row["first_seq"], row["last_seq"], row["is_settled"]) for row in settled] == [(10, 19, True)]
    assert settled[0]["since"] is None
    assert lab.verify().is_clean


# ---- damage to one object -------------------------------------------------------------------------------


def test_a_flipped_byte_of_a_data_file_is_named(lab):
    key = lab.live_files()[0]
    lab.flip(key)
    codes = {code for code, blamed in named(lab.verify()) if blamed == key}
    assert "digest" in codes


def test_a_flipped_byte_of_an_inbox_object_is_named(lab):
    key = lab.live_inbox()[0]
    lab.flip(key)
    assert {blamed for _, blamed in named(lab.verify())} == {key}


def test_a_flipped_byte_of_a_consumed_object_is_a_warning(lab):
    key = min(set(lab.keys(".rows.parquet")) - set(lab.live_inbox()))
    lab.flip(key)
    report = lab.verify()
    assert report.is_clean
    assert {blamed for _, blamed in named(report, "warning")} == {key}


def test_a_flipped_byte_of_a_sidecar_is_named(lab):
    key = sidecar_key("metrics", lab.live_files()[0])
    lab.flip(key)
    assert named(lab.verify()) == {("sidecar", key)}


def test_a_flipped_byte_of_a_checkpoint_is_named(lab):
    key = f"{LOG}{10:020d}.checkpoint.parquet"
    lab.flip(key)
    assert named(lab.verify()) == {("checkpoint", key)}


def test_a_cut_object_is_named(lab):
    for key in (lab.live_files()[0], lab.live_inbox()[0], sidecar_key("metrics", lab.live_files()[1])):
        data = lab.storage.get(key)
        lab.storage.put(key, data[: len(data) // 2])
        assert key in {blamed for _, blamed in named(lab.verify())}


def test_an_object_that_grew_is_named(lab):
    for key in (lab.live_files()[0],):
        lab.storage.put(key, lab.storage.get(key) + b"x")
        assert {("size", key), ("digest", key)} <= named(lab.verify())


def test_any_flipped_bit_of_an_inbox_object_is_named_or_harmless(image, memory_url):
    """The footer carries no checksum: whatever is not noticed must leave rows and statistics as they are."""
    lab = Lab(image, memory_url)
    key = lab.live_inbox()[0]
    data = lab.storage.get(key)
    whole = decode_rows("metrics", data, key=key)
    name = parse_inbox_key(key)
    generator = random.Random(20261122)
    silent = 0
    for at in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[at] ^= 1 << generator.randrange(8)
        checked = check_inbox_object(name, bytes(damaged), lab.lake_id, lambda rows: None)
        if not checked.is_damaged:
            silent += 1
            assert decode_rows("metrics", bytes(damaged), key=key).equals(whole), at
    assert 0 < silent < len(data) / 10


# ---- objects that are gone, or in each other's place ----------------------------------------------------


def test_a_missing_data_file_is_named(lab):
    key = lab.live_files()[0]
    lab.storage.delete([key])
    assert named(lab.verify()) == {("missing", key)}


def test_a_missing_inbox_object_is_a_gap_in_front_of_the_next(lab):
    keys = lab.live_inbox()
    lost = parse_inbox_key(keys[0])
    lab.storage.delete([keys[0]])
    (gap,) = [each for each in lab.verify() if each.code == "gap"]
    assert f"Rows {lost.first} to {lost.last} of writer {lost.writer}" in gap.what


def test_a_missing_sidecar_is_a_warning(lab):
    key = sidecar_key("metrics", lab.live_files()[0])
    lab.storage.delete([key])
    report = lab.verify()
    assert report.is_clean
    assert named(report, "warning") == {("sidecar", key)}


def test_a_missing_checkpoint_is_a_warning(lab):
    key = f"{LOG}{10:020d}.checkpoint.parquet"
    lab.storage.delete([key])
    report = lab.verify()
    assert report.is_clean
    assert named(report, "warning") == {("checkpoint", key)}


def test_a_missing_version_is_named(lab):
    newest = max(lab.keys(".json")[:-1])
    middle = f"{LOG}{11:020d}.json"
    assert newest > middle
    lab.storage.delete([middle])
    assert ("log", middle) in named(lab.verify())


def test_an_older_missing_version_is_a_warning(lab):
    key = f"{LOG}{4:020d}.json"
    lab.storage.delete([key])
    report = lab.verify()
    assert report.is_clean
    assert ("log", key) in named(report, "warning")


def test_the_lost_end_of_a_log_shows_by_its_files(lab):
    writer = "c" * 32
    lab.insert(make_rows(writer, 0, 9), consumed={writer: ((0, 9),)})
    key = lab.insert(make_rows(writer, 10, 19), consumed={writer: ((10, 19),)})
    newest = max(each for each in lab.keys(LOG) if each.endswith(".json"))
    lab.storage.delete([newest])
    assert named(lab.verify()) == {("orphan", key)}


def test_a_file_that_no_version_names_is_a_warning(lab):
    rows = sort_rows("metrics", make_rows("b" * 32, 0, 9))
    builder = DataFileBuilder("metrics", "2026-09", with_float_stats=True)
    builder.add(rows)
    data, new = builder.finish()
    lab.storage.put_new(new.file.key, data)
    report = lab.verify()
    assert report.is_clean
    assert named(report, "warning") == {("orphan", new.file.key)}


def test_swapped_data_files_are_named_and_each_others(lab):
    one, other = lab.live_files()[:2]
    lab.swap(one, other)
    report = lab.verify()
    found = {each.key: each.what for each in report if each.code == "digest"}
    assert other in found[one]
    assert one in found[other]


def test_swapped_inbox_objects_are_named(lab):
    one, other = lab.live_inbox()[:2]
    lab.swap(one, other)
    assert {("footer", one), ("footer", other)} <= named(lab.verify())


def test_swapped_sidecars_are_named(lab):
    one, other = (sidecar_key("metrics", key) for key in lab.live_files()[:2])
    lab.swap(one, other)
    assert named(lab.verify()) == {("sidecar", one), ("sidecar", other)}


def test_an_object_of_another_lake_is_named(lab):
    name = lab.publish(make_rows("a" * 32, 0, 2), writer="a" * 32, lake_id="0" * 32)
    assert named(lab.verify()) == {("footer", name.key)}


def test_a_renamed_inbox_object_is_named_with_its_true_name(lab):
    key = lab.live_inbox()[0]
    renamed = f"{key.rpartition('/')[0]}/copy.parquet"
    lab.storage.put_new(renamed, lab.storage.get(key))
    lab.storage.delete([key])
    (found,) = [each for each in lab.verify() if each.key == renamed]
    assert (found.severity, found.code) == ("error", "name")
    assert parse_inbox_key(key).writer in found.what


def test_a_damaged_lake_file_is_named(lab):
    inspect = lab.inspect
    lab.storage.put("_lake.json", b"{}")
    assert named(inspect.verify()) == {("lake_file", "_lake.json")}
    with pytest.raises(CorruptObjectError):
        MetricsLake(lab.url, read_only=True).inspect.verify()
    lab.storage.delete(["_lake.json"])
    assert named(inspect.verify()) == {("lake_file", "_lake.json")}
    with pytest.raises(LakeNotFoundError):
        MetricsLake(lab.url, read_only=True).inspect.verify()


# ---- a log that says something else ---------------------------------------------------------------------


def newest_add(lab):
    """Return the version that added a file which is live, and the file."""
    report = lab.inspect.snapshots().rows()
    live = set(lab.live_files())
    for row in reversed(report):
        key = f"{LOG}{row['version']:020d}.json"
        for line in lab.storage.get(key).splitlines():
            add = json.loads(line).get("add")
            if add and f"metrics/{add['path']}" in live and row["version"] > 10:
                return key, f"metrics/{add['path']}"
    raise AssertionError


def change_add(file, change):
    def edit(actions):
        for action in actions:
            if action.get("add") and f"metrics/{action['add']['path']}" == file:
                change(action["add"])

    return edit


def change_stats(change):
    def edit(add):
        stats = json.loads(add["stats"])
        change(stats)
        add["stats"] = json.dumps(stats)

    return edit


@pytest.mark.parametrize(
    "change",
    [
        change_stats(lambda stats: stats.update(numRecords=1)),
        change_stats(lambda stats: stats["maxValues"].update(resource="a")),
        change_stats(lambda stats: stats["minValues"].update(timestamp="2030-01-01T00:00:00.000Z")),
        change_stats(lambda stats: stats["nullCount"].update(step=1000)),
        lambda add: add["tags"].update({"metrics_lake.bloom": "AAAAAAAAAAA="}),
        lambda add: add.update(size=add["size"] + 7),
    ],
    ids=["rows", "resource", "timestamp", "nulls", "bloom", "size"],
)
def test_an_edited_version_is_named_although_the_file_is_right(lab, change):
    key, file = newest_add(lab)
    lab.edit(key, change_add(file, change))
    report = lab.verify()
    assert named(report) == {("log", key)}, str(report)
    assert file in report.errors[0].what


def test_an_edited_digest_is_told_from_a_damaged_file(lab):
    key, file = newest_add(lab)
    lab.edit(key, change_add(file, lambda add: add["tags"].update({"metrics_lake.digest": "0" * 32})))
    (found,) = lab.verify().errors
    assert (found.code, found.key) == ("digest", file)
    assert key in found.what


def test_a_version_that_is_no_json_is_named(lab):
    for version in (4, 11):
        key = f"{LOG}{version:020d}.json"
        lab.flip(key, at=0)
        assert ("log", key) in named(lab.verify())


def test_a_watermark_that_was_set_back_is_named(lab):
    newest = max(each for each in lab.keys(LOG) if each.endswith(".json"))
    writer = only_writer(lab)
    lab.edit(newest, lambda actions: [*actions, {"txn": {"appId": f"ml:{writer}", "version": 3}}])
    report = lab.verify()
    assert ("log", newest) in named(report)
    assert ("watermark", LOG) in named(report)


def test_a_watermark_that_is_missing_is_named(lab):
    writer = "9" * 32
    lab.publish(make_rows(writer, 0, 4), writer=writer)
    lab.insert(make_rows(writer, 0, 4))
    codes = {code for code, _ in named(lab.verify())}
    assert codes == {"watermark", "duplicate"}


def test_a_file_taken_out_of_an_old_version_contradicts_the_checkpoint(lab):
    checkpoint = f"{LOG}{10:020d}.checkpoint.parquet"
    state = TableLog(lab.storage, "metrics").at_version(10)
    for version in range(10, -1, -1):
        key = f"{LOG}{version:020d}.json"
        actions = [json.loads(line) for line in lab.storage.get(key).splitlines()]
        kept = [
            each
            for each in actions
            if "add" not in each or f"metrics/{each['add']['path']}" not in state.entries
        ]
        if len(kept) < len(actions):
            lab.edit(key, lambda _, kept=kept: kept)
            break
    assert ("checkpoint", checkpoint) in named(lab.verify())


def test_a_table_that_asks_for_more_is_named_and_the_objects_still_checked(lab):
    newest = max(each for each in lab.keys(LOG) if each.endswith(".json"))
    lab.edit(newest, lambda actions: [*actions, {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7}}])
    damaged = lab.keys(".rows.parquet")[0]
    lab.flip(damaged)
    report = lab.verify()
    assert ("log", LOG) in named(report)
    assert damaged in {key for _, key in named(report)}


# ---- rows that are wrong --------------------------------------------------------------------------------


def test_rows_that_are_there_twice_are_named(lab):
    rows = make_rows("8" * 32, 0, 9)
    one, other = lab.insert(rows), lab.insert(rows.slice(4, 3))
    (found,) = lab.verify().errors
    assert found.code == "duplicate"
    assert one in found.what
    assert other in found.what
    assert found.what.startswith("3 rows")
    twice = lab.insert(sort_rows("metrics", pa.concat_tables([make_rows("7" * 32, 0, 1)] * 2)))
    assert [each.key for each in lab.verify().errors if "7777" in each.what] == [twice]


def test_copied_rows_are_no_duplicates(lab):
    rows = make_rows("8" * 32, 0, 9)
    lab.insert(rows)
    lab.insert(make_rows("8" * 32, 0, 9, resource=["copied"] * 10, origin=["made"] * 10))
    assert lab.verify().is_clean


@pytest.mark.parametrize("part_rows", [7, 100, 10_000])
def test_duplicates_are_found_however_many_parts_there_are(part_rows):
    rows = make_rows("8" * 32, 0, 999)
    with Duplicates(1000, part_rows=part_rows) as duplicates:
        for start in range(0, 1000, 90):
            duplicates.add(rows.slice(start, 90))
        duplicates.add(rows.slice(500, 2))
        suspects = duplicates.suspects()
    assert len(suspects) == 2
    suspects.add("a", rows)
    suspects.add("b", rows.slice(500, 2))
    assert list(suspects.convicted()) == [(("a", "b"), 2, ("made", "8" * 32, 500))]


def test_large_parts_go_to_disk(monkeypatch):
    monkeypatch.setattr("metrics_lake.inspection.duplicates._FLUSH_BYTES", 64)
    rows = make_rows("8" * 32, 0, 999)
    with Duplicates(1000, part_rows=100) as duplicates:
        duplicates.add(rows)
        duplicates.add(rows.slice(10, 5))
        assert len(duplicates.suspects()) == 5
        assert duplicates._folder is not None


def test_rows_out_of_order_are_named(lab):
    key = lab.insert(make_rows("6" * 32, 0, 9, metric=list("abcdefghji")))
    assert named(lab.verify()) == {("order", key)}


def test_order_is_that_of_the_sort_keys():
    rows = make_rows(
        "6" * 32, 0, 5, metric=["é", "a", "a", "a", "\U0001f600", "\uffff"], step=[None, 2, None, 1, 5, None]
    )
    keys = TABLES["metrics"].sort_keys
    assert first_disorder(rows, keys) == 1
    ordered = sort_rows("metrics", rows)
    assert first_disorder(ordered, keys) is None
    assert (
        first_disorder(pa.concat_tables([ordered.slice(0, 3), ordered.slice(4), ordered.slice(3, 1)]), keys)
        == 5
    )
    assert first_disorder(rows.slice(0, 1), keys) is None


@pytest.mark.parametrize(
    ("tags", "key", "words"),
    [
        ([("a", "1")], "", "not those"),
        (None, '{"a":"1"}', "not those"),
        ([("a", "1"), ("b", "2")], '{"b":"2","a":"1"}', "not canonical"),
        ([("a", "1")], '{"a": "1"}', "not canonical"),
        ([("a", "1")], "[1]", "cannot be read"),
        ([], "", "empty map"),
    ],
)
def test_tags_that_are_not_those_of_their_key_are_named(lab, tags, key, words):
    name = lab.publish(make_rows("5" * 32, 0, 1, tags=[tags, tags], tags_key=[key, key]), writer="5" * 32)
    (found,) = lab.verify().errors
    assert (found.code, found.key) == ("tags", name.key)
    assert words in found.what


def test_values_of_a_newer_kind_are_a_warning(lab):
    name = lab.publish(make_rows("5" * 32, 0, 0, kind=["np.float8"]), writer="5" * 32)
    report = lab.verify()
    assert report.is_clean
    assert named(report, "warning") == {("kind", name.key)}


def test_rows_that_are_not_those_of_the_name_are_named(lab):
    writer = "5" * 32
    moved = lab.publish(make_rows(writer, 1, 4), writer=writer, first=0)
    alien = lab.publish(make_rows("4" * 32, 0, 4), writer="3" * 32)
    assert named(lab.verify()) == {("count", moved.key), ("writer", alien.key)}


def test_files_of_another_engine_are_unprotected_and_read_right(local):
    from deltalake import DeltaTable

    table = DeltaTable(str(local.storage.local_path("metrics")))
    table.optimize.compact()
    table.create_checkpoint()
    report = local.verify()
    assert report.is_clean, str(report)
    assert {code for code, _ in named(report, "note")} >= {"unprotected"}
    assert {key for code, key in named(report, "note") if code == "unprotected"} == {
        row["key"] for row in local.inspect.files() if not row["is_ours"]
    }
    assert local.inspect.snapshots().rows()[-1]["engine"].startswith("delta-rs")


# ---- while others work ----------------------------------------------------------------------------------


def test_what_is_compacted_and_collected_meanwhile_is_not_held_against_the_lake(image, memory_url, tmp_path):
    lab = Lab(image, memory_url)
    other = MetricsLake(memory_url, state_dir=tmp_path / "other", compaction="off")
    from metrics_lake.maintenance.collecting import collect_inbox
    from metrics_lake.maintenance.vacuuming import vacuum

    class Busy(WrappedStorage):
        is_done = False

        def get_many(self, ranges):
            if not self.is_done and any("month=" in key for key, _, _ in ranges):
                self.is_done = True
                other.maintenance.compact()
                log = TableLog(lab.storage, "metrics")
                collect_inbox(lab.storage, log, min_age_seconds=-1.0)
                vacuum(lab.storage, log, retention_seconds=-1.0)
            return self.inner.get_many(ranges)

    storage = Busy(lab.storage)
    report = Inspection(storage, Reader(storage), read_lake(storage)).verify()
    assert storage.is_done
    assert report.is_clean, str(report)
    assert lab.verify().is_clean


# ---- quarantine -----------------------------------------------------------------------------------------


def test_a_damaged_inbox_object_goes_out_of_the_way_and_can_come_back(lab):
    key = lab.live_inbox()[0]
    whole = lab.storage.get(key)
    lab.flip(key)
    damaged = lab.storage.get(key)
    planned = lab.inspect.quarantine(key)
    assert (planned.dry_run, planned.kind, planned.points) == (True, "inbox", 1)
    assert lab.storage.get(key) == damaged
    assert not lab.keys("_quarantine/")
    done = lab.inspect.quarantine(key, dry_run=False)
    assert (done.moved_to, done.findings, done.version) == (f"_quarantine/{key}", planned.findings, None)
    assert lab.storage.get(done.moved_to) == damaged
    assert key not in lab.keys("inbox/")
    assert {code for code, _ in named(lab.verify(), "warning")} == {"gap"}
    lab.storage.put_new(key, whole)
    assert lab.verify().is_clean
    assert not lab.inspect.gaps()


def test_a_damaged_data_file_is_removed_by_a_commit_and_its_bytes_are_kept(lab):
    before = MetricsLake(lab.url, read_only=True).history(full=True).arrow()
    key = lab.live_files()[0]
    lab.flip(key)
    damaged = lab.storage.get(key)
    planned = lab.inspect.quarantine(key)
    assert (planned.dry_run, planned.kind, planned.version) == (True, "table", None)
    assert key in lab.live_files()
    done = lab.inspect.quarantine(key, dry_run=False)
    assert lab.storage.get(done.moved_to) == damaged
    assert key not in lab.live_files()
    assert lab.inspect.snapshots().rows()[-1]["operation"] == "QUARANTINE"
    assert lab.inspect.snapshots().rows()[-1]["version"] == done.version
    report = lab.verify()
    assert report.is_clean, str(report)
    after = MetricsLake(lab.url, read_only=True).history(full=True)
    assert len(after) == before.num_rows - done.points


def test_a_missing_data_file_can_be_given_up(lab):
    key = lab.live_files()[0]
    lab.storage.delete([key])
    done = lab.inspect.quarantine(key, dry_run=False)
    assert done.moved_to is None
    assert done.points > 0
    assert lab.verify().is_clean


def test_quarantine_repeated_after_a_crash_goes_on(lab):
    key = lab.live_inbox()[0]
    lab.flip(key)
    lab.storage.put_new(f"_quarantine/{key}", lab.storage.get(key))
    lab.inspect.quarantine(key, dry_run=False)
    assert key not in lab.keys("inbox/")


def test_quarantine_refuses_what_is_whole_absent_or_something_else(lab):
    whole = [lab.live_files()[0], lab.live_inbox()[0]]
    for key in whole:
        with pytest.raises(InvalidInputError, match="Nothing is wrong"):
            lab.inspect.quarantine(key, dry_run=False)
    for key in (
        f"metrics/month=2026-09/{'0' * 32}.parquet",
        InboxName("0" * 32, 0, 1, "metrics", "2026-11-20", False).key,
    ):
        with pytest.raises(NotFoundError):
            lab.inspect.quarantine(key)
    for key in ("_lake.json", sidecar_key("metrics", whole[0]), f"{LOG}{0:020d}.json", "x/y"):
        with pytest.raises(InvalidInputError, match="neither"):
            lab.inspect.quarantine(key)
    assert lab.verify().is_clean


# ---- an object store ------------------------------------------------------------------------------------


def test_damage_on_an_object_store_is_named(image, s3_url, s3_options):
    lab = Lab(image, s3_url, s3_options)
    assert lab.verify().is_clean
    assert all(path.startswith("s3://") for path in lab.inspect.files().values("path"))
    flipped, missing = lab.live_files()[:2]
    lost = lab.live_inbox()[0]
    sidecar = sidecar_key("metrics", lab.live_files()[2])
    lab.flip(flipped)
    lab.flip(sidecar)
    lab.storage.delete([missing, lost])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = lab.verify()
    assert {("digest", flipped), ("missing", missing), ("sidecar", sidecar)} <= named(report)
    assert ("gap", None) in named(report, "warning")
    assert lab.inspect.quarantine(missing, dry_run=False).version is not None


# ---- the other tables -----------------------------------------------------------------------------------


def test_tables_of_prediction_jobs_are_read_and_their_damage_is_named(tmp_path):
    lake = MetricsLake(tmp_path / "lake", compaction="off")
    predictions = pa.table({"id": [1, 2, 3, 4], "p": [0.1, 0.8, 0.4, 0.9], "country": list("abab")})
    lake.log_prediction_metrics("job", predictions, key="id", score="p", task="binary", by=["country"])
    lake.flush()
    assert len(lake.inspect.verify().findings) == 0
    lake.maintenance.compact()
    report = lake.inspect.verify()
    assert len(report.findings) == 0, str(report)
    assert report.points == sum(sum(lake.inspect.files(table).values("points")) for table in TABLES)
    with open_storage(lake.url) as storage:
        for table in ("prediction_states", "predictions"):
            (file,) = lake.inspect.files(table).rows()
            data = bytearray(storage.get(file["key"]))
            data[last_of_a_page(data)] ^= 1
            storage.put(file["key"], bytes(data))
            found = named(lake.inspect.verify(table))
            assert {key for _, key in found} == {file["key"]}
    assert lake.inspect.verify("metrics").is_clean
    lake.close()
