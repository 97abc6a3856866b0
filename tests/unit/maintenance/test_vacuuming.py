from __future__ import annotations

import json

import pytest

from metrics_lake.commits import Intent, TableLog, commit, write_checkpoint
from metrics_lake.commits.datafile import DataFileBuilder
from metrics_lake.errors import CommitConflictError, CorruptObjectError
from metrics_lake.layout import checkpoint_key, claim_key, log_key, sidecar_key
from metrics_lake.maintenance.collecting import collect_inbox
from metrics_lake.maintenance.compaction import compact_inbox, merge_files
from metrics_lake.maintenance.vacuuming import vacuum
from metrics_lake.testing import CrashError, FaultyStorage

HOUR = 3600.0
DAY = 24 * HOUR


def compact(lab):
    return compact_inbox(lab.storage, lab.log(), sleep=lambda seconds: None)


def run_vacuum(lab, **settings):
    return vacuum(lab.storage, lab.log(), sleep=lambda seconds: None, **settings)


def data_keys(lab):
    return {key for key in lab.storage.objects if key.startswith("metrics/month=")}


def inbox_keys(lab):
    return {key for key in lab.storage.objects if key.startswith("inbox/")}


def merged(lab):
    """Return a lab with one live file and four removed ones."""
    for number in range(4):
        lab.publish(number, 0, 9)
        compact(lab)
    merge_files(lab.storage, lab.log(), sleep=lambda seconds: None)
    return data_keys(lab) - lab.snapshot().log.entries.keys()


# -- inbox objects ---------------------------------------------------------------------------------------


def test_consumed_objects_stay_ten_minutes_after_their_commit(lab):
    lab.publish(1, 0, 9)
    lab.storage.now += DAY
    compact(lab)
    lab.publish(2, 0, 9)
    lab.storage.now += 599
    assert collect_inbox(lab.storage, lab.log()) == []
    lab.storage.now += 2
    assert [info.key.rpartition("/")[2][:32] for info in collect_inbox(lab.storage, lab.log())] == [
        f"{1:032x}"
    ]
    lab.check()


def test_of_over_a_thousand_objects_a_minute_is_enough(lab, monkeypatch):
    monkeypatch.setattr("metrics_lake.maintenance.collecting.INBOX_HURRY_OBJECTS", 5)
    for first in range(6):
        lab.publish(1, first, first)
    compact(lab)
    lab.storage.now += 59
    assert collect_inbox(lab.storage, lab.log()) == []
    lab.storage.now += 2
    assert len(collect_inbox(lab.storage, lab.log())) == 6
    lab.check()


def test_what_was_consumed_just_now_waits_although_older_objects_go(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.storage.now += 700
    young = lab.publish(1, 10, 19)
    compact(lab)
    assert len(collect_inbox(lab.storage, lab.log())) == 1
    assert inbox_keys(lab) == {young.key}
    lab.check()


def test_partly_consumed_objects_stay(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.publish(1, 5, 14)
    lab.publish(2, 0, 9)
    lab.storage.now += DAY
    collect_inbox(lab.storage, lab.log())
    assert len(inbox_keys(lab)) == 3, "and what shares numbers with one that stays"
    lab.check()
    compact(lab)
    lab.storage.now += DAY
    collect_inbox(lab.storage, lab.log())
    assert not inbox_keys(lab)
    lab.check()


def test_nothing_leaves_the_inbox_while_a_data_file_is_missing(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.storage.now += DAY
    lost = lab.snapshot().log.files[0].key
    del lab.storage.objects[lost]
    for act in (lambda: collect_inbox(lab.storage, lab.log()), lambda: run_vacuum(lab)):
        with pytest.raises(CorruptObjectError) as caught:
            act()
        assert caught.value.keys == (lost,)
    assert len(inbox_keys(lab)) == 1


# -- data files ------------------------------------------------------------------------------------------


def test_removed_files_and_their_sidecars_stay_for_a_week(lab):
    lab.storage.now += DAY
    removed = merged(lab)
    assert len(removed) == 4
    lab.storage.now += 7 * DAY - 60
    assert run_vacuum(lab).files == []
    lab.storage.now += 120
    found = run_vacuum(lab, dry_run=True)
    assert set(found.files) == removed
    assert removed < data_keys(lab)
    found = run_vacuum(lab)
    assert set(found.files) == removed
    assert data_keys(lab) == set(lab.snapshot().log.entries)
    assert {key for key in lab.storage.objects if key.startswith("_derived")} == {
        sidecar_key("metrics", key) for key in data_keys(lab)
    }
    lab.check()


def test_an_old_file_that_was_removed_lately_stays_for_a_week(lab):
    for number in range(4):
        lab.publish(number, 0, 9)
        compact(lab)
    lab.storage.now += 30 * DAY
    log = lab.log()
    write_checkpoint(log, log.refresh())
    merge_files(lab.storage, lab.log(), sleep=lambda seconds: None)
    lab.storage.now += DAY
    assert run_vacuum(lab).files == []
    assert len(data_keys(lab)) == 5
    lab.storage.now += 7 * DAY
    assert len(run_vacuum(lab).files) == 4
    lab.check()


def test_orphans_are_fenced_before_they_go(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    orphan = "metrics/month=2023-11/0123.parquet"
    lab.storage.put_new(orphan, b"an unfinished commit")
    lab.storage.now += DAY
    assert run_vacuum(lab).files == []
    lab.storage.now += 7 * DAY
    assert run_vacuum(lab).files == [orphan]
    last = lab.snapshot().log.version
    info = json.loads(lab.storage.get(log_key("metrics", last)).splitlines()[0])["commitInfo"]
    assert info["fenced"] == ["month=2023-11/0123.parquet"]
    lab.check()


def pausing(storage, pause):
    """Return a storage whose first PUT of a commit happens after ``pause``: a compactor that was stopped."""

    class Paused(FaultyStorage):
        paused = False

        def put_new(self, key, data):
            if "_delta_log" in key and not self.paused:
                self.paused = True
                pause()
            return super().put_new(key, data)

    return Paused(storage)


def test_a_compactor_that_was_stopped_across_a_vacuum_does_not_commit_what_vacuum_took(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.publish(1, 10, 19)

    def vacuum_a_month_later():
        lab.storage.now += 30 * DAY
        taken.extend(run_vacuum(lab).files)

    taken = []
    paused = pausing(lab.storage, vacuum_a_month_later)
    done = compact_inbox(paused, lab.log(paused), sleep=lambda seconds: None)
    assert len(taken) == 1
    assert done.points == 10
    assert not set(taken) & lab.snapshot().log.entries.keys()
    lab.check()


def test_without_fences_that_compactor_would_commit_a_file_that_is_gone(lab, monkeypatch):
    """The planted defect: a vacuum that deletes orphans without fencing them first."""
    monkeypatch.setattr("metrics_lake.maintenance.vacuuming._fence", lambda log, keys, sleep: None)
    lab.publish(1, 0, 9)
    compact(lab)
    lab.publish(1, 10, 19)

    def vacuum_a_month_later():
        lab.storage.now += 30 * DAY
        run_vacuum(lab)

    paused = pausing(lab.storage, vacuum_a_month_later)
    compact_inbox(paused, lab.log(paused), sleep=lambda seconds: None)
    assert not lab.snapshot().log.entries.keys() <= lab.storage.objects.keys()


def test_a_file_that_is_committed_between_scan_and_fence_stays(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    builder = DataFileBuilder("metrics", "2023-11", with_float_stats=True)
    from_lab = lab.snapshot().log.files[0]
    data, new = builder.finish()
    lab.storage.put_new(new.file.key, data)
    lab.storage.now += 8 * DAY
    log = lab.log()

    class Meanwhile(FaultyStorage):
        done = False

        def put_new(self, key, data):
            if "_delta_log" in key and not self.done:
                self.done = True
                commit(log, log.refresh(), Intent("WRITE", adds=(new,)), sleep=lambda seconds: None)
            return super().put_new(key, data)

    storage = Meanwhile(lab.storage)
    found = vacuum(storage, lab.log(storage), sleep=lambda seconds: None)
    assert found.files == []
    assert {from_lab.key, new.file.key} <= data_keys(lab)


def test_purged_files_go_at_once_and_live_ones_never(lab):
    removed = merged(lab)
    live = set(lab.snapshot().log.entries)
    found = run_vacuum(lab, purge=removed | live)
    assert set(found.files) == removed
    lab.check()


def test_sidecars_without_a_file_go_after_a_week_and_claims_after_a_day(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    stray = sidecar_key("metrics", "metrics/month=2023-11/gone.parquet")
    lab.storage.put_new(stray, b"x")
    lab.storage.put_new(claim_key("metrics", 1), b"")
    lab.storage.now += DAY + 1
    found = run_vacuum(lab)
    assert (found.sidecars, found.claims) == ([], [claim_key("metrics", 1)])
    lab.storage.now += 7 * DAY
    assert run_vacuum(lab).sidecars == [stray]
    assert not [key for key in lab.storage.objects if "_claims" in key]
    lab.check()


# -- watermarks ------------------------------------------------------------------------------------------


def checkpointed(lab):
    """Return the table as a cold handle sees it that has no commits but the newest checkpoint's."""
    return TableLog(lab.storage, "metrics").refresh()


def test_the_watermark_of_an_ended_writer_goes_a_day_after_its_last_object(lab):
    writer = f"{1:032x}"
    lab.publish(1, 0, 9)
    lab.end(1, 10)
    lab.publish(2, 0, 9)
    compact(lab)
    assert checkpointed(lab).consumed(writer) == ((0, 9),)
    lab.storage.now += 700
    run_vacuum(lab)  # the objects go
    assert inbox_keys(lab) == set()
    run_vacuum(lab)  # their absence is noted
    lab.storage.now += DAY - 60
    run_vacuum(lab)
    assert checkpointed(lab).consumed(writer) == ((0, 9),)
    lab.storage.now += 120
    run_vacuum(lab)
    cold = checkpointed(lab)
    assert cold.consumed(writer) == ()
    assert cold.transactions.ended_writers() == []
    assert cold.consumed(f"{2:032x}") == ((0, 9),)
    lab.check()


def test_a_consumed_object_that_is_still_there_keeps_its_writers_watermark(lab):
    """The trap: drop the watermark while an object is left, and its rows are read again."""
    name = lab.publish(1, 0, 9)
    lab.end(1, 10)
    compact(lab)
    original = lab.storage.objects[name.key]
    lab.storage.now += 700
    run_vacuum(lab)
    lab.storage.objects[name.key] = original  # a delivery that lingered
    for _ in range(4):
        lab.storage.now += 2 * DAY
        lab.check()
        run_vacuum(lab)
        lab.check()
        lab.storage.objects.setdefault(name.key, original)
    assert checkpointed(lab).consumed(f"{1:032x}") == ((0, 9),)


def test_an_object_that_shows_up_again_starts_the_day_anew(lab):
    name = lab.publish(1, 0, 9)
    lab.end(1, 10)
    compact(lab)
    original = lab.storage.objects[name.key]
    lab.storage.now += 700
    run_vacuum(lab)
    run_vacuum(lab)
    lab.storage.now += DAY - 60
    lab.storage.objects[name.key] = original
    run_vacuum(lab)
    lab.storage.now += 120
    run_vacuum(lab)
    assert checkpointed(lab).consumed(f"{1:032x}") == ((0, 9),)
    lab.storage.now += DAY + 60
    run_vacuum(lab)
    assert checkpointed(lab).consumed(f"{1:032x}") == ()
    lab.check()


def test_forgetting_without_looking_into_the_inbox_would_read_rows_twice(lab):
    """The planted defect behind the test before this one."""
    lab.publish(1, 0, 9)
    lab.end(1, 10)
    compact(lab)
    state = lab.log().refresh()
    forget = frozenset(state.transactions.of_writer(f"{1:032x}"))
    write_checkpoint(lab.log(), state, forget=forget)
    with pytest.raises(AssertionError, match="twice"):
        lab.check()


# -- the log ---------------------------------------------------------------------------------------------


def test_vacuum_cleans_the_log_up_once_it_is_old(lab):
    for first in range(0, 120, 10):
        lab.publish(1, first, first + 9)
        compact(lab)
    assert checkpoint_key("metrics", 10) in lab.storage.objects
    lab.storage.now += 31 * DAY
    found = run_vacuum(lab)
    assert found.log == [log_key("metrics", version) for version in range(10)]
    lab.check()
    assert run_vacuum(lab).log == []


def test_a_crash_at_every_operation_of_a_vacuum_loses_nothing(lab):
    merged(lab)
    lab.publish(7, 0, 9)
    lab.end(7, 10)
    compact(lab)
    lab.publish(8, 0, 9)
    lab.storage.put_new("metrics/month=2023-11/orphan.parquet", b"x")
    lab.storage.now += 8 * DAY
    for crash_at in range(1, 200):
        twin = lab.copy()
        faulty = FaultyStorage(twin.storage, crash_at=crash_at)
        try:
            vacuum(faulty, twin.log(faulty), sleep=lambda seconds: None)
        except CrashError:
            twin.check()
            run_vacuum(twin)
            twin.check()
            assert data_keys(twin) == set(twin.snapshot().log.entries)
        else:
            break
    assert crash_at > 20


def test_two_vacuums_at_once_and_a_commit_in_between_agree(lab):
    merged(lab)
    lab.storage.put_new("metrics/month=2023-11/orphan.parquet", b"x")
    lab.storage.now += 8 * DAY
    lab.publish(5, 0, 9)

    def others():
        run_vacuum(lab)
        compact(lab)

    storage = pausing(lab.storage, others)
    vacuum(storage, lab.log(storage), sleep=lambda seconds: None)
    lab.check()
    assert data_keys(lab) == set(lab.snapshot().log.entries)


def test_a_fence_that_keeps_losing_is_said(lab, monkeypatch):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.storage.put_new("metrics/month=2023-11/orphan.parquet", b"x")
    lab.storage.now += 8 * DAY

    def losing(*args, **settings):
        raise CommitConflictError("lost")

    monkeypatch.setattr("metrics_lake.maintenance.vacuuming.commit", losing)
    with pytest.raises(CommitConflictError):
        run_vacuum(lab)
    assert "metrics/month=2023-11/orphan.parquet" in lab.storage.objects
