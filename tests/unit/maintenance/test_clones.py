"""Two live copies of one process, which give different rows the same writer and numbers."""

import pytest

from metrics_lake.commits import decode_rows, encode_rows
from metrics_lake.errors import MetricsLakeWarning
from metrics_lake.layout import InboxName
from metrics_lake.maintenance import clones
from metrics_lake.maintenance.collecting import collect_inbox
from metrics_lake.maintenance.compaction import compact_inbox, merge_files
from metrics_lake.maintenance.deleting import delete_rows
from metrics_lake.maintenance.selection import Condition
from metrics_lake.maintenance.vacuuming import vacuum

COPY = 1_000_000.0
"""What the copy's values have more than the original's."""


@pytest.fixture
def publish(lab, tools):
    def put(first, last, *, copy=False):
        writer = tools.writer(1)
        rows = tools.make_rows(
            writer, first, last, values=[seq + COPY * copy for seq in range(first, last + 1)]
        )
        name = InboxName(writer, first, last, "metrics", "2026-11-20", is_end=False)
        lab.storage.put_new(name.key, encode_rows("metrics", rows, metadata={}, presorted=False))
        return name.key

    return put


@pytest.fixture
def values(lab):
    def read():
        snapshot = lab.snapshot()
        tables = [decode_rows("metrics", lab.storage.get(each.key), key="") for each in snapshot.log.files]
        for live in snapshot.inbox:
            rows = decode_rows("metrics", lab.storage.get(live.name.key), key="")
            tables += [rows.slice(low - live.name.first, high - low + 1) for low, high in live.keep]
        return sorted(value for rows in tables for value in rows.column("value").to_pylist())

    return read


def compact(lab):
    compact_inbox(lab.storage, lab.log(), sleep=lambda seconds: None)


def collect(lab):
    lab.storage.now += 700
    collect_inbox(lab.storage, lab.log())


def expected(original, copy):
    return sorted([float(seq) for seq in original] + [seq + COPY for seq in copy])


def test_two_cuts_by_two_copies_keep_the_rows_of_both(lab, publish, values):
    publish(0, 9)
    publish(10, 19)
    publish(10, 14, copy=True)  # of these ten numbers only one row each can count
    publish(15, 24, copy=True)
    assert len(values()) == 25
    compact(lab)
    with pytest.warns(MetricsLakeWarning, match="two copies of one process"):
        collect(lab)
    assert values() == expected(range(20), range(10, 25))
    compact(lab)
    merge_files(lab.storage, lab.log(), sleep=lambda seconds: None)
    collect(lab)
    assert values() == expected(range(20), range(10, 25))
    assert not lab.storage.list("inbox/")


def test_a_copy_that_comes_back_hours_later_keeps_its_rows(lab, publish, values):
    publish(0, 9)
    publish(10, 19)
    compact(lab)
    collect(lab)
    lab.storage.now += 10_000
    publish(5, 9, copy=True)
    publish(10, 14, copy=True)
    assert values() == expected(range(20), ())
    with pytest.warns(MetricsLakeWarning, match="5 rows"):
        collect(lab)
    assert values() == expected(range(20), range(5, 15))
    compact(lab)
    collect(lab)
    assert values() == expected(range(20), range(5, 15))


def test_a_copy_that_goes_on_behind_the_table_keeps_its_first_rows_too(lab, publish, values):
    publish(0, 9)
    compact(lab)
    collect(lab)
    lab.storage.now += 10_000
    publish(5, 14, copy=True)
    compact(lab)
    with pytest.warns(MetricsLakeWarning, match="5 rows"):
        collect(lab)
    assert values() == expected(range(10), range(5, 15))


def test_the_same_rows_cut_twice_are_no_copies(lab, publish, values):
    publish(0, 9)
    publish(0, 4)
    compact(lab)
    collect(lab)
    lab.storage.now += 10_000
    publish(0, 9)  # an answer that was lost, a request that lingered
    publish(3, 6)
    collect(lab)
    assert values() == expected(range(10), ())
    assert not lab.storage.list("inbox/")


def test_no_object_goes_before_the_one_that_shares_its_numbers(lab, publish, values):
    publish(0, 9)
    compact(lab)
    lab.storage.now += 300
    publish(5, 14, copy=True)
    lab.storage.now += 301
    collect_inbox(lab.storage, lab.log())
    assert len(lab.storage.list("inbox/")) == 2
    compact(lab)
    with pytest.warns(MetricsLakeWarning):
        collect(lab)
    assert values() == expected(range(10), range(5, 15))


def test_a_collection_that_dies_on_the_way_repeats_nothing(lab, publish, values):
    publish(0, 9)
    publish(0, 4, copy=True)
    compact(lab)
    kept = dict(lab.storage.objects)
    with pytest.warns(MetricsLakeWarning):
        collect(lab)
    for key, content in kept.items():  # it died before its deletion, which happens after a later compaction
        lab.storage.objects.setdefault(key, content)
    compact(lab)
    with pytest.warns(MetricsLakeWarning):
        collect(lab)
    compact(lab)
    collect(lab)
    assert values() == expected(range(10), range(5))


def test_vacuum_keeps_the_rows_of_copies(lab, publish, values):
    publish(0, 9)
    publish(0, 4, copy=True)
    compact(lab)
    lab.storage.now += 700
    with pytest.warns(MetricsLakeWarning):
        vacuum(lab.storage, lab.log(), sleep=lambda seconds: None)
    assert values() == expected(range(10), range(5))


def test_deleted_rows_do_not_come_back_as_a_copys(lab, publish, values):
    publish(0, 9)
    publish(0, 4, copy=True)
    delete_rows(lab.storage, lab.log(), Condition(resources=("run",)), dry_run=False)
    collect(lab)
    compact(lab)
    assert values() == []


def test_planted_without_the_look_at_late_objects_a_copys_rows_are_lost(lab, publish, values, monkeypatch):
    monkeypatch.setattr(clones, "_late", lambda *_: set())
    publish(0, 9)
    compact(lab)
    collect(lab)
    lab.storage.now += 10_000
    publish(5, 9, copy=True)
    collect(lab)
    assert values() == expected(range(10), ())
