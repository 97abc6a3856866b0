from __future__ import annotations

import random

import pyarrow as pa
import pytest

from metrics_lake import series
from metrics_lake.commits import decode_rows, encode_rows, open_rows, sort_rows
from metrics_lake.commits.parquet import conform
from metrics_lake.errors import CommitConflictError, MetricsLakeWarning, ObjectNotFoundError
from metrics_lake.layout import sidecar_key
from metrics_lake.maintenance.compaction import compact_inbox, merge_files, worth_merging
from metrics_lake.maintenance.files import write_files
from metrics_lake.maintenance.sorting import RowSorter
from metrics_lake.schema import arrow_schema
from metrics_lake.testing import CrashError, Fault, FaultyStorage

HOUR = 3600.0


def compact(lab, **settings):
    return compact_inbox(lab.storage, lab.log(), sleep=lambda seconds: None, **settings)


def merge(lab, **settings):
    return merge_files(lab.storage, lab.log(), sleep=lambda seconds: None, **settings)


def test_an_empty_inbox_makes_no_commit(lab):
    done = compact(lab)
    assert (done.version, done.points, done.files) == (-1, 0, 0)
    assert not lab.storage.objects


def test_rows_move_from_the_inbox_into_one_sorted_file(lab):
    for number in (3, 1, 2):
        lab.publish(number, 0, 9)
        lab.publish(number, 10, 14)
    steps = []
    done = compact(lab, progress=lambda done, total: steps.append((done, total)))
    assert (done.version, done.points, done.objects, done.files) == (0, 45, 6, 1)
    assert steps[-1] == (90, 90)
    assert steps == sorted(steps)
    snapshot = lab.snapshot()
    assert snapshot.inbox == ()
    assert snapshot.num_listed == 6
    lab.check()
    file = snapshot.log.files[0]
    rows = decode_rows("metrics", lab.storage.get(file.key), key=file.key)
    assert rows.equals(sort_rows("metrics", rows))
    summary = series.decode(lab.storage.get(sidecar_key("metrics", file.key)), key="k")
    assert summary.equals(series.summarise(rows))
    assert compact(lab).points == 0
    assert lab.snapshot().log.version == 0


def test_each_month_has_files_of_its_own(lab):
    lab.publish(1, 0, 9)
    lab.publish(2, 0, 9, days=40)
    compact(lab)
    assert sorted(file.month for file in lab.snapshot().log.files) == ["2023-11", "2023-12"]
    lab.check()


def test_a_budget_takes_a_prefix_of_each_writers_run(lab):
    for first in range(0, 50, 10):
        lab.publish(1, first, first + 9)
        lab.publish(2, first, first + 9)
    size = lab.snapshot().inbox[0].size_bytes
    done = compact(lab, budget_bytes=7 * size)
    assert 0 < done.objects <= 7
    lab.check()
    while compact(lab, budget_bytes=1).points:
        lab.check()
    assert lab.snapshot().inbox == ()


def test_a_damaged_object_stays_with_what_is_behind_it_and_others_go_on(lab):
    for first in range(0, 40, 10):
        lab.publish(1, first, first + 9)
        lab.publish(2, first, first + 9)
    key = lab.snapshot().inbox[1].name.key
    data, time = lab.storage.objects[key]
    lab.storage.objects[key] = (data[:100] + bytes([data[100] ^ 1]) + data[101:], time)
    with pytest.warns(MetricsLakeWarning, match="damaged"):
        done = compact(lab)
    assert done.damaged == (key,)
    state = lab.snapshot().log
    assert [state.consumed(f"{number:032x}") for number in (1, 2)] == [((0, 9),), ((0, 39),)]
    lab.storage.objects[key] = (data, time)
    compact(lab)
    lab.check()


def test_an_object_whose_rows_are_not_what_its_name_says_is_damaged(lab, tools):
    name = lab.publish(1, 0, 9)
    rows = tools.make_rows(tools.writer(1), 5, 14)
    lab.storage.objects[name.key] = (encode_rows("metrics", rows, metadata={}, presorted=False), 0.0)
    with pytest.warns(MetricsLakeWarning, match="damaged"):
        assert compact(lab).points == 0


def test_the_end_of_a_writer_is_noted_with_its_last_rows(lab):
    lab.publish(1, 0, 9)
    lab.end(1, 10)
    lab.publish(2, 0, 9, is_end=True)
    lab.publish(3, 0, 9)
    lab.end(4, 0)
    compact(lab)
    assert lab.snapshot().log.transactions.ended_writers() == [f"{number:032x}" for number in (1, 2, 4)]
    lab.end(3, 10)
    compact(lab)
    assert len(lab.snapshot().log.transactions.ended_writers()) == 4
    lab.check()


def test_an_end_behind_a_gap_is_not_noted(lab):
    lab.publish(1, 0, 9)
    lab.end(1, 20)
    compact(lab)
    assert lab.snapshot().log.transactions.ended_writers() == []


# -- merges ----------------------------------------------------------------------------------------------


def test_small_files_become_one_and_rows_and_watermarks_stay(lab):
    for first in range(0, 60, 10):
        lab.publish(1, first, first + 9)
        compact(lab)
    assert len(lab.snapshot().log.files) == 6
    done = merge(lab)
    assert (done.objects, done.files, done.points) == (6, 1, 60)
    lab.check()
    assert lab.snapshot().log.consumed(f"{1:032x}") == ((0, 59),)
    assert merge(lab).points == 0
    removed = list(lab.snapshot().log.tombstones.values())
    assert all(remove["dataChange"] is False for remove in removed)


def test_a_row_is_rewritten_a_logarithmic_number_of_times(lab):
    written = 0
    for first in range(0, 320, 10):
        lab.publish(1, first, first + 9)
        compact(lab)
        written += merge(lab).points
    assert written / 320 < 6
    assert len(lab.snapshot().log.files) < 12
    lab.check()


def test_only_files_of_one_month_are_merged(lab):
    for index in range(8):
        lab.publish(index, 0, 9, days=40 * (index % 2))
        compact(lab)
    groups = worth_merging(lab.snapshot().log.files)
    assert [{file.month for file in group} for group in groups] == [{"2023-11"}, {"2023-12"}]
    merge(lab)
    assert len(lab.snapshot().log.files) == 2
    lab.check()


# -- races -----------------------------------------------------------------------------------------------


class Racing(FaultyStorage):
    """Calls ``meanwhile`` once, right before the first PUT of a commit."""

    def __init__(self, inner, meanwhile):
        super().__init__(inner)
        self.meanwhile = meanwhile

    def put_new(self, key, data):
        if "_delta_log" in key and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().put_new(key, data)


def test_two_compactors_of_the_same_rows_move_them_once(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.publish(1, 10, 19)
    lab.publish(2, 0, 9)
    racing = Racing(lab.storage, lambda: compact(lab))
    done = compact_inbox(racing, lab.log(racing), sleep=lambda seconds: None)
    assert done.points == 0
    lab.check()
    data = [key for key in lab.storage.objects if key.startswith("metrics/month=")]
    assert len(data) == len(lab.snapshot().log.files)  # a proven loss leaves nothing behind


def test_a_merge_that_races_a_merge_starts_over(lab):
    for number in range(5):
        lab.publish(number, 0, 9)
        compact(lab)
    racing = Racing(lab.storage, lambda: merge(lab))
    assert merge_files(racing, lab.log(racing), sleep=lambda seconds: None).points == 0
    lab.check()


def test_a_compaction_and_a_merge_at_once_both_succeed(lab):
    for number in range(5):
        lab.publish(number, 0, 9)
        compact(lab)
    lab.publish(9, 0, 9)
    racing = Racing(lab.storage, lambda: compact(lab))
    assert merge_files(racing, lab.log(racing), sleep=lambda seconds: None).points == 50
    lab.check()


def test_a_compactor_whose_objects_were_collected_meanwhile_takes_a_new_snapshot(lab):
    lab.publish(1, 0, 9)
    log = lab.log()

    def decide_late():
        compact(lab)
        lab.storage.delete([info.key for info in lab.storage.list("inbox/")])

    class Late(FaultyStorage):
        done = False

        def get_many(self, ranges):
            if not self.done and ranges[0][0].startswith("inbox/"):
                self.done = True
                decide_late()
            return super().get_many(ranges)

    late = Late(lab.storage)
    assert compact_inbox(late, lab.log(late), sleep=lambda seconds: None).points == 0
    lab.check(log)


def test_a_data_file_that_is_lost_is_said_soon(lab):
    for number in range(4):
        lab.publish(number, 0, 9)
        compact(lab)
    lost = lab.snapshot().log.files[0].key
    del lab.storage.objects[lost]
    with pytest.raises(ObjectNotFoundError) as caught:
        merge(lab)
    assert caught.value.key == lost


@pytest.mark.parametrize("kind", ["after", "late", "duplicate", "before"])
def test_a_commit_whose_put_misbehaves_moves_rows_once(lab, kind):
    lab.publish(1, 0, 9)
    faulty = FaultyStorage(lab.storage, [Fault(kind, "put_new", "_delta_log", operations=2)])
    done = compact_inbox(faulty, lab.log(faulty), sleep=lambda seconds: None)
    faulty.quiet()
    assert done.points == 10
    assert lab.snapshot().log.version == 0
    lab.check()


def test_too_many_conflicts_are_said_and_leave_nothing(lab, monkeypatch):
    monkeypatch.setattr("metrics_lake.maintenance.attempts._MOST_ATTEMPTS", 5)
    lab.publish(1, 0, 9)
    compact(lab)

    class Hostile(FaultyStorage):
        def put_new(self, key, data):
            if "_delta_log" in key:
                metadata = self.inner.get("metrics/_delta_log/00000000000000000000.json").splitlines()[2]
                self.inner.put_new(key, metadata)
            return super().put_new(key, data)

    lab.publish(1, 10, 19)
    hostile = Hostile(lab.storage)
    with pytest.raises(CommitConflictError):
        compact_inbox(hostile, lab.log(hostile), sleep=lambda seconds: None)
    assert len([key for key in lab.storage.objects if key.startswith("metrics/month=")]) == 1
    lab.check()


def test_a_crash_at_every_operation_loses_nothing_and_the_next_run_finishes(lab):
    for number in range(3):
        lab.publish(number, 0, 9)
        lab.publish(number, 10, 14)
    lab.end(1, 15)
    for crash_at in range(1, 100):
        for kind in ("crash", "crash_after"):
            twin = lab.copy()
            faulty = FaultyStorage(twin.storage)
            faulty.crash_at = crash_at if kind == "crash" else None
            if kind == "crash_after":
                faulty = CrashAfter(twin.storage, crash_at)
            try:
                compact_inbox(faulty, twin.log(faulty), sleep=lambda seconds: None)
            except CrashError:
                crashed = True
            else:
                crashed = False
            twin.check()
            compact(twin)
            twin.check()
            assert twin.snapshot().inbox == ()
        if not crashed:
            break
    assert crash_at >= 8


class CrashAfter(FaultyStorage):
    """Dies once an operation, counted from 1, has happened."""

    def __init__(self, inner, number):
        super().__init__(inner)
        self.number = number

    def _choose(self, verb, key):
        return Fault("crash_after") if self.operations == self.number else None


# -- sorting any number of rows --------------------------------------------------------------------------


@pytest.mark.parametrize("spread", ["resources", "one resource", "one series", "equal keys but seq"])
def test_rows_beyond_memory_are_sorted_like_rows_within(tools, tmp_path, spread, monkeypatch):
    from metrics_lake.maintenance import sorting

    generator = random.Random(5)
    monkeypatch.setattr(sorting, "PIECE_BYTES", 60_000)
    tables = []
    for number in range(40):
        resource = f"run-{generator.randrange(9)}" if spread == "resources" else "run"
        rows = tools.make_rows(tools.writer(number), 0, 99, resource=resource, days=30 * (number % 3))
        if spread == "equal keys but seq":
            for name in ("metric", "step", "timestamp", "writer"):
                index = rows.schema.get_field_index(name)
                rows = rows.set_column(index, rows.schema.field(index), pa.repeat(rows[name][0], 100))
        if spread == "one series":
            rows = rows.set_column(1, rows.schema.field(1), pa.array(["m"] * 100))
        order = list(range(100))
        generator.shuffle(order)
        tables.append(rows.take(pa.array(order)))
    generator.shuffle(tables)
    with RowSorter("metrics", work_dir=str(tmp_path), run_rows=300) as sorter:
        for rows in tables:
            sorter.add(rows)
        pieces = list(sorter.pieces())
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    with RowSorter("metrics", run_rows=10**6) as whole:
        for rows in tables:
            whole.add(rows)
        expected = pa.concat_tables(whole.pieces())
    assert len(pieces) > 3
    found, expected = (
        conform(each, arrow_schema("metrics")) for each in (pa.concat_tables(pieces), expected)
    )
    columns = ["resource", "metric", "tags_key", "step", "timestamp", "writer", "seq"]
    assert found.num_rows == 4000
    assert found.select(columns).combine_chunks().equals(expected.select(columns).combine_chunks())


def test_rows_with_long_texts_make_smaller_row_groups_and_runs(lab, tools, tmp_path, monkeypatch):
    from metrics_lake.maintenance import files, sorting

    monkeypatch.setattr(files, "_WAITING_BYTES", 500_000)
    monkeypatch.setattr(sorting, "RUN_BYTES", 300_000)
    monkeypatch.setattr(sorting, "PIECE_BYTES", 200_000)
    rows = tools.make_rows(tools.writer(1), 0, 499)
    texts = pa.array([f"{seq} " * 2000 for seq in range(500)])
    rows = rows.set_column(rows.schema.get_field_index("text"), rows.schema.field("text"), texts)
    with RowSorter("metrics", work_dir=str(tmp_path)) as sorter:
        sorter.add(rows)  # in one piece, as an import hands it over
        written = write_files(lab.storage, "metrics", sorter.pieces(), with_float_stats=True)
    (new,) = written
    data = lab.storage.get(new.file.key)
    assert open_rows(data, key="k").num_row_groups >= 3
    assert decode_rows("metrics", data, key="k").equals(sort_rows("metrics", rows))


def test_files_are_cut_at_their_limit_and_summaries_follow(lab, tools):
    rows = tools.make_rows(tools.writer(1), 0, 99_999, resource="run")
    with RowSorter("metrics") as sorter:
        sorter.add(rows)
        files = write_files(lab.storage, "metrics", sorter.pieces(), with_float_stats=True, max_rows=40_000)
    assert [new.file.num_records for new in files] == [40_000, 40_000, 20_000]
    parts = [series.decode(lab.storage.get(sidecar_key("metrics", new.file.key)), key="k") for new in files]
    merged = series.merge(parts)
    assert merged["count"].to_pylist() == series.summarise(rows)["count"].to_pylist()


def test_a_full_temporary_disk_is_said_and_changes_nothing(lab, tmp_path, monkeypatch):
    from metrics_lake.errors import StorageError
    from metrics_lake.maintenance import sorting

    monkeypatch.setattr(sorting, "RUN_BYTES", 1000)
    lab.publish(1, 0, 99)
    before = dict(lab.storage.objects)
    gone = tmp_path / "gone"
    with pytest.raises(StorageError, match="temporary"):
        compact(lab, work_dir=str(gone))
    assert lab.storage.objects == before
