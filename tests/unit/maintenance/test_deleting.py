from __future__ import annotations

import datetime as dt
import re
from functools import partial

import pytest

from metrics_lake import MetricsLake, glob
from metrics_lake.commits import decode_rows
from metrics_lake.errors import CorruptObjectError, NotFoundError
from metrics_lake.maintenance.bulk import publish_bulk, publish_copy
from metrics_lake.maintenance.compaction import compact_inbox, merge_files
from metrics_lake.maintenance.deleting import delete_rows
from metrics_lake.maintenance.recovery import recover_watermarks
from metrics_lake.maintenance.selection import Condition
from metrics_lake.testing import CrashError, FaultyStorage

DAY_US = 86_400_000_000
START_US = 1_700_000_000_000_000


def compact(lab):
    return compact_inbox(lab.storage, lab.log(), sleep=lambda seconds: None)


def delete(lab, condition, storage=None, **settings):
    storage = lab.storage if storage is None else storage
    return delete_rows(storage, lab.log(storage), condition, sleep=lambda seconds: None, **settings)


def forget(lab, resource):
    lab.deleted |= {row for row in lab.acknowledged if row[0] == resource}


def of(resource):
    return Condition(resources=(resource,))


@pytest.fixture
def filled(lab):
    """Return a lab whose resources ``a`` and ``b`` are in the table and in the inbox, in every mixture."""
    lab.publish(1, 0, 9, resource="a")
    lab.publish(2, 0, 9, resource="b")
    compact(lab)
    lab.publish(3, 0, 9, resource="a")
    compact(lab)
    lab.publish(1, 10, 14, resource="a")
    lab.publish(1, 15, 19, resource="b")
    lab.publish(4, 0, 9, resource="b")
    lab.publish(5, 0, 9, resource="c")
    return lab


def test_a_dry_run_says_what_would_go_and_changes_nothing(filled):
    before = dict(filled.storage.objects)
    found = delete(filled, of("a"), dry_run=True)
    assert (found.points, found.resources, found.dry_run) == (25, ("a",), True)
    assert len(found.files) == 2
    assert len(found.objects) == 2
    assert filled.storage.objects == before


def test_a_delete_takes_exactly_its_rows_by_one_commit(filled):
    version = filled.snapshot().log.version
    found = delete(filled, of("a"))
    assert (found.points, found.version) == (25, version + 1)
    forget(filled, "a")
    filled.check()
    # writers without such rows are left alone
    assert {live.name.writer for live in filled.snapshot().inbox} == {f"{4:032x}", f"{5:032x}"}
    assert delete(filled, of("a")).points == 0
    assert filled.snapshot().log.version == version + 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_names_of_which_there_is_nothing_are_not_found_with_near_names(tmp_path, dry_run):
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "state") as lake:
        lake.log_metric("digits/1", "loss", 0.5)
        delete = partial(lake.maintenance.delete, dry_run=dry_run)
        for resources in ("digits/11", ["digits/11"], [glob("x*"), "digits/11"]):
            with pytest.raises(NotFoundError, match=r"no resource 'digits/11'\. Did you mean 'digits/1'"):
                delete(resources)
        with pytest.raises(NotFoundError, match=r"no metric 'los'\. Did you mean 'loss'"):
            delete("digits/1", "los")
        future = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
        assert delete("digits/1", since=future).points == delete(glob("x*")).points == 0
        assert delete(["digits/1", "digits/11"]).points == 1


def test_nothing_brings_deleted_rows_back(filled):
    log = filled.log()
    delete(filled, of("a"))
    forget(filled, "a")
    name = filled.publish(1, 10, 14, resource="a", date="2026-11-21")  # the same rows, delivered again
    forget(filled, "a")
    assert name.first == 10
    compact(filled)
    merge_files(filled.storage, filled.log(), sleep=lambda seconds: None)
    filled.check(log)


def test_what_is_published_later_under_the_same_resource_stays(filled):
    delete(filled, of("a"))
    forget(filled, "a")
    filled.publish(1, 20, 24, resource="a")
    filled.publish(9, 0, 4, resource="a")
    filled.check()
    compact(filled)
    filled.check()


def meanwhile(lab, act):
    """Return a storage that does something once, right before the first PUT of a commit."""

    class Racing(FaultyStorage):
        done = False

        def put_new(self, key, data):
            if "_delta_log" in key and not self.done:
                self.done = True
                act()
            return super().put_new(key, data)

    return Racing(lab.storage)


def test_rows_published_during_a_delete_are_new_data_even_where_it_starts_over(filled):
    def race():
        forget(filled, "a")
        filled.publish(1, 20, 24, resource="a")
        filled.publish(9, 0, 4, resource="a")
        compact(filled)
        compact(filled)

    delete(filled, of("a"), meanwhile(filled, race))
    filled.check()


@pytest.mark.parametrize("act", ["merge", "delete", "bulk"])
def test_a_delete_that_races_others_takes_exactly_its_rows(filled, tools, act):
    for number in range(20, 24):
        filled.publish(number, 0, 3, resource="a")
        compact(filled)

    def race():
        forget(filled, "a")
        if act == "merge":
            merge_files(filled.storage, filled.log(), sleep=lambda seconds: None)
        elif act == "delete":
            delete(filled, of("a"))
        else:
            rows = tools.make_rows(tools.writer(77), 0, 9, resource="a")
            publish_bulk(filled.storage, filled.log(), rows, sleep=lambda seconds: None)
            filled.acknowledged |= {("a", tools.writer(77), seq) for seq in range(10)}

    delete(filled, of("a"), meanwhile(filled, race))
    filled.check()


def test_a_rule_that_does_not_look_at_added_files_would_leave_rows(filled, monkeypatch):
    """The planted defect: a delete that ignores which files its winners added."""
    from metrics_lake.commits import transaction

    rule = transaction.conflict_of

    def blind(intent, winner, table):
        from dataclasses import replace

        return rule(replace(intent, may_match=None), winner, table)

    monkeypatch.setattr(transaction, "conflict_of", blind)
    filled.publish(6, 0, 9, resource="b")
    race = meanwhile(filled, lambda: compact(filled))
    delete(filled, Condition(resources=("c",), metrics=("m0", "m1", "m2")), race)
    forget(filled, "c")
    # here the rule still holds by the watermark; a copy into c has none
    filled.check()


def test_patterns_metrics_and_times_select_rows(lab):
    for number, resource in enumerate(["x/1", "x/2", "y"]):
        lab.publish(number, 0, 9, resource=resource, days=number * 40)
    lab.publish(5, 0, 9, resource="x/1")
    compact(lab)
    pattern = re.compile(r"x/.*", re.DOTALL)
    assert delete(lab, Condition(resources=(pattern,)), dry_run=True).points == 30
    assert delete(lab, Condition(resources=(pattern, "y")), dry_run=True).points == 40
    assert delete(lab, Condition(metrics=("m0",)), dry_run=True).points == 16
    late = Condition(since_us=START_US + 40 * DAY_US)
    assert delete(lab, late, dry_run=True).points == 20
    early = Condition(until_us=START_US + 5)
    assert delete(lab, early, dry_run=True).points == 10
    assert delete(lab, Condition(tags_keys=("x",)), dry_run=True).points == 0
    assert delete(lab, Condition(resources=("nothing",)), dry_run=True).points == 0
    assert delete(lab, Condition(), dry_run=True).points == 40


def test_files_that_certainly_hold_nothing_are_not_read(lab):
    for number in range(3):
        lab.publish(number, 0, 9, resource=f"run-{number}")
        compact(lab)
    faulty = FaultyStorage(lab.storage)
    delete(lab, of("run-1"), faulty)
    read = {key for _, verb, key, _ in faulty.log if verb == "get" and key.startswith("metrics/month=")}
    assert len(read) == 1


def test_whole_months_go_without_being_read(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.publish(2, 0, 9, days=100)
    compact(lab)
    faulty = FaultyStorage(lab.storage)
    found = delete(lab, Condition(until_us=START_US + 50 * DAY_US), faulty)
    assert found.points == 10
    assert not [key for _, verb, key, _ in faulty.log if verb == "get" and key.startswith("metrics/month=")]
    forget(lab, "run-1")
    lab.check()


def test_the_boundary_month_is_rewritten(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    found = delete(lab, Condition(until_us=START_US + 5))
    assert found.points == 5
    lab.deleted |= {row for row in lab.acknowledged if row[2] < 5}
    lab.check()


def test_retention_can_keep_the_latest_point_of_every_series(lab):
    lab.publish(1, 0, 9)
    compact(lab)
    lab.publish(1, 10, 14)
    lab.publish(2, 0, 4)
    found = delete(lab, Condition(until_us=START_US + 10 * DAY_US), keep_last=True)
    assert (found.points, found.kept) == (14, 6)
    newest = {}
    for row in sorted(lab.acknowledged, key=lambda row: row[2]):
        newest[row[0], row[2] % 3] = row
    lab.deleted = lab.acknowledged - set(newest.values())
    lab.check()
    assert delete(lab, Condition(until_us=START_US + 10 * DAY_US), keep_last=True).points == 0


def test_a_damaged_object_stops_a_delete(filled):
    key = filled.snapshot().inbox[0].name.key
    data, when = filled.storage.objects[key]
    filled.storage.objects[key] = (data[:200], when)
    with pytest.raises(CorruptObjectError):
        delete(filled, of("a"))
    filled.storage.objects[key] = (data, when)
    filled.check()


def test_a_crash_at_every_operation_of_a_delete_leaves_all_or_nothing(filled):
    for crash_at in range(1, 100):
        twin = filled.copy()
        faulty = FaultyStorage(twin.storage, crash_at=crash_at)
        try:
            delete(twin, of("a"), faulty)
        except CrashError:
            found = {row for row in twin.read() if row[0] == "a"}
            assert len(found) in (0, 25)
            delete(twin, of("a"))
        else:
            break
        forget(twin, "a")
        twin.check()
    assert crash_at > 10


# -- bulk commits and copies -----------------------------------------------------------------------------


def bulk(lab, rows, storage=None, **settings):
    storage = lab.storage if storage is None else storage
    return publish_bulk(storage, lab.log(storage), rows, sleep=lambda seconds: None, **settings)


def test_a_bulk_commit_is_visible_when_it_returns_and_happens_once_a_key(lab, tools):
    rows = tools.make_rows(tools.writer(1), 0, 99)
    done = bulk(lab, rows, key="import of May")
    assert (done.version, done.points, done.files) == (0, 100, 1)
    again = bulk(lab, rows, key="import of May")
    assert (again.points, again.version) == (0, 0)
    assert bulk(lab, rows.slice(0, 0)).points == 0
    assert bulk(lab, lambda: iter([tools.make_rows(tools.writer(2), 0, 9)])).points == 10
    assert len(lab.read()) == 110


def test_two_bulk_commits_of_one_key_at_once_are_one(lab, tools):
    rows = tools.make_rows(tools.writer(1), 0, 9)
    bulk(lab, tools.make_rows(tools.writer(5), 0, 0))
    racing = meanwhile(lab, lambda: bulk(lab, rows, key="k"))
    assert bulk(lab, rows, racing, key="k").points == 0
    assert len(lab.read()) == 11


def test_a_crash_at_every_operation_of_a_bulk_commit_is_repaired_by_the_next_call(lab, tools):
    rows = tools.make_rows(tools.writer(1), 0, 9)
    for crash_at in range(1, 50):
        twin = lab.copy()
        faulty = FaultyStorage(twin.storage, crash_at=crash_at)
        try:
            bulk(twin, rows, faulty, key="k")
        except CrashError:
            assert len(twin.read()) in (0, 10)
            bulk(twin, rows, key="k")
        else:
            break
        assert len(twin.read()) == 10


def all_rows(lab, snapshot):
    for file in snapshot.log.files:
        yield decode_rows("metrics", lab.storage.get(file.key), key=file.key)
    for live in snapshot.inbox:
        rows = decode_rows("metrics", lab.storage.get(live.name.key), key=live.name.key)
        for first, last in live.keep:
            yield rows.slice(first - live.name.first, last - first + 1)


def copy(lab, source, to, storage=None):
    """Copy as the lake does: rows of the source whose (writer, seq) the target does not have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def select(snapshot):
        rows = pa.concat_tables(list(all_rows(lab, snapshot)))
        there = rows.filter(pc.equal(rows["resource"], to))
        have = set(zip(there["writer"].to_pylist(), there["seq"].to_pylist(), strict=True))
        from_source = rows.filter(pc.equal(rows["resource"], source))
        new = [
            pair not in have
            for pair in zip(from_source["writer"].to_pylist(), from_source["seq"].to_pylist(), strict=True)
        ]
        chosen = from_source.filter(pa.array(new, pa.bool_()))
        if not chosen.num_rows:
            return []
        n = chosen.num_rows
        schema = chosen.schema
        chosen = chosen.set_column(0, schema.field("resource"), pa.array([to] * n))
        origin = schema.get_field_index("origin")
        return [chosen.set_column(origin, schema.field("origin"), pa.array([source] * n))]

    storage = lab.storage if storage is None else storage
    return publish_copy(storage, lab.log(storage), to, select, sleep=lambda seconds: None).points


def counts(lab):
    found = lab.read()
    assert len(found) == len(set(found))
    return {resource: sum(row[0] == resource for row in found) for resource in {row[0] for row in found}}


def test_copies_repeat_chain_and_return_without_adding_anything(lab):
    lab.publish(1, 0, 9, resource="a")
    assert copy(lab, "a", "b") == 10
    assert copy(lab, "a", "b") == 0
    assert copy(lab, "b", "a") == 0
    assert copy(lab, "b", "c") == 10
    assert copy(lab, "a", "c") == 0
    assert copy(lab, "c", "a") == 0
    compact(lab)
    assert copy(lab, "c", "a") == 0
    lab.publish(1, 10, 14, resource="a")
    assert copy(lab, "a", "b") == 5
    assert counts(lab) == {"a": 15, "b": 15, "c": 10}


def test_two_copies_at_once_add_every_row_once(lab):
    lab.publish(1, 0, 9, resource="a")
    copy(lab, "a", "z")
    racing = meanwhile(lab, lambda: copy(lab, "a", "b"))
    assert copy(lab, "a", "b", racing) == 0
    assert counts(lab) == {"a": 10, "b": 10, "z": 10}


def test_without_its_application_id_a_second_copy_would_add_rows_twice(lab, monkeypatch):
    """The planted defect: copies that do not notice each other."""
    from metrics_lake.commits import transaction

    lab.publish(1, 0, 9, resource="a")
    copy(lab, "a", "z")
    rule = transaction.conflict_of

    def blind(intent, winner, table):
        from dataclasses import replace

        return rule(replace(intent, txns={}, may_match=None), winner, table)

    monkeypatch.setattr(transaction, "conflict_of", blind)
    assert copy(lab, "a", "b", meanwhile(lab, lambda: copy(lab, "a", "b"))) == 10
    with pytest.raises(AssertionError):
        counts(lab)


# -- lost watermarks -------------------------------------------------------------------------------------


def test_watermarks_that_were_dropped_are_recovered_from_the_table(lab):
    from metrics_lake.commits import write_checkpoint

    lab.publish(1, 0, 9)
    lab.publish(2, 0, 9)
    compact(lab)
    log = lab.log()
    state = log.refresh()
    write_checkpoint(log, state, forget=frozenset(state.transactions))
    with pytest.raises(AssertionError, match="twice"):
        lab.check()
    found = recover_watermarks(lab.storage, lab.log(), sleep=lambda seconds: None)
    assert found == {f"{number:032x}": ((0, 9),) for number in (1, 2)}
    lab.check()
    assert recover_watermarks(lab.storage, lab.log()) == {}
