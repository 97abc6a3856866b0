from __future__ import annotations

import time
import warnings
from itertools import permutations

import pytest

from metrics_lake.commits import STEPS, PendingRun, TableLog, take_snapshot
from metrics_lake.commits.inbox import Inbox
from metrics_lake.commits.upkeep import write_checkpoint
from metrics_lake.errors import GapWarning
from metrics_lake.layout import log_key


def take(world, log, pending=(), steps=STEPS):
    return take_snapshot(world.storage, log, lambda: pending, steps=steps)


def seqs(world, snapshot):
    return [seq for _, seq in world.rows_of(snapshot)]


@pytest.fixture
def clock():
    class Clock:
        now = 5000.0

        def __call__(self):
            return self.now

    return Clock()


@pytest.fixture
def log(world, clock):
    return TableLog(world.storage, "metrics", boot_clock=clock)


def test_a_lake_without_anything_gives_an_empty_snapshot(world, log):
    snapshot = take(world, log)
    assert snapshot.log.version == -1
    assert (snapshot.inbox, snapshot.pending, snapshot.gaps, snapshot.num_listed) == ((), (), (), 0)


def test_rows_come_from_the_inbox_until_a_commit_consumes_them(world, log, make):
    world.publish(make.writer(1), 0, 4)
    world.publish(make.writer(1), 5, 9)
    assert seqs(world, take(world, log)) == list(range(10))
    world.commit(0, (make.writer(1), 0, 4))
    snapshot = take(world, log)
    assert snapshot.log.version == 0
    assert seqs(world, snapshot) == list(range(5, 10))
    assert snapshot.num_listed == 2


def test_marker_objects_in_the_inbox_are_ignored(world, log, make):
    world.storage.put_new("inbox/metrics/_keep", b"")
    world.publish(make.writer(1), 0, 0)
    assert seqs(world, take(world, log)) == [0]


def test_pending_rows_are_cut_where_the_inbox_or_the_table_gives_them(world, log, make):
    writer = make.writer(1)
    run = PendingRun(writer, 3, 12, make.rows(writer, 3, 12))
    world.commit(0, (writer, 0, 4))
    world.publish(writer, 5, 9)
    snapshot = take(world, log, [run])
    assert seqs(world, snapshot) == [5, 6, 7, 8, 9, 10, 11, 12]
    assert [(each.first, each.last) for each in snapshot.pending] == [(10, 12)]


def test_pending_rows_may_start_behind_what_is_published(world, log, make):
    writer = make.writer(1)
    world.publish(writer, 0, 4)
    runs = [
        PendingRun(writer, 3, 4, make.rows(writer, 3, 4)),
        PendingRun(writer, 5, 6, make.rows(writer, 5, 6)),
    ]
    assert seqs(world, take(world, log, runs)) == [0, 1, 2, 3, 4, 5, 6]


def test_pending_rows_stay_on_both_sides_of_a_published_piece(world, log, make):
    writer = make.writer(1)
    world.commit(0, (writer, 4, 5))
    snapshot = take(world, log, [PendingRun(writer, 2, 8, make.rows(writer, 2, 8))])
    assert seqs(world, snapshot) == [2, 3, 6, 7, 8]


# -- the order of the steps ------------------------------------------------------------------------------


def read_with_changes_between(world, log, make, steps, change_at):
    """Read while, between two steps, one row is published and then compacted and collected at once."""
    writer = make.writer(1)
    pending = [PendingRun(writer, 0, 0, make.rows(writer, 0, 0))]
    names = []

    def publish():
        names.append(world.publish(writer, 0, 0))
        pending.clear()

    def compact():
        world.commit(0, (writer, 0, 0))
        world.collect(*names)

    changes = {index: [] for index in range(len(steps) + 1)}
    for index, change in zip(change_at, (publish, compact), strict=True):
        changes[index].append(change)

    def interleaved():
        for index, step in enumerate(steps):
            for change in changes[index]:
                yield lambda reading, change=change: change()
            yield step

    snapshot = take_snapshot(world.storage, log, lambda: list(pending), steps=interleaved())
    for change in changes[len(steps)]:
        change()
    in_table = [0] if snapshot.log.consumed(writer) else []
    return in_table + seqs(world, snapshot)


def orders_that_lose_rows(world_type, make):
    losing = set()
    for order in permutations(range(3)):
        for publish_at in range(4):
            for compact_at in range(publish_at, 4):
                world = world_type()
                log = TableLog(world.storage, "metrics")
                steps = [STEPS[index] for index in order]
                got = read_with_changes_between(world, log, make, steps, (publish_at, compact_at))
                assert got.count(0) <= 1, (order, publish_at, compact_at)
                if got != [0]:
                    losing.add(order)
    return losing


def test_only_pending_list_log_never_loses_a_row(world, make):
    assert orders_that_lose_rows(type(world), make) == set(permutations(range(3))) - {(0, 1, 2)}


# -- gaps ------------------------------------------------------------------------------------------------


def open_gap(world, make):
    writer = make.writer(1)
    world.publish(writer, 0, 4)
    world.publish(writer, 10, 14)
    return writer


def test_reading_stops_at_a_young_gap(world, log, make):
    open_gap(world, make)
    snapshot = take(world, log)
    assert seqs(world, snapshot) == [0, 1, 2, 3, 4]
    assert [(gap.first, gap.last, gap.is_skipped) for gap in snapshot.gaps] == [(5, 9, False)]


def test_a_gap_is_skipped_once_it_is_old_by_the_stores_clock_and_a_second_list_shows_it(world, log, make):
    open_gap(world, make)
    world.storage.now += 899
    world.publish(make.writer(2), 0, 0)
    assert seqs(world, take(world, log)) == [0, 1, 2, 3, 4, 0]
    world.storage.now += 2
    world.publish(make.writer(2), 1, 1)
    world.storage.calls.clear()
    with pytest.warns(GapWarning, match="Rows 5 to 9"):
        snapshot = take(world, log)
    lists = [key for operation, key in world.storage.calls if operation == "list"]
    assert lists == ["inbox/metrics/", "inbox/metrics/", "metrics/_delta_log/"]
    assert seqs(world, snapshot) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 0, 1]
    assert [(gap.first, gap.last, gap.is_skipped) for gap in snapshot.gaps] == [(5, 9, True)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a process warns once of a gap
        world.storage.calls.clear()
        assert seqs(world, take(world, log)) == seqs(world, snapshot)
        assert [operation for operation, _ in world.storage.calls].count("list") == 1


def test_a_gap_grows_old_in_a_process_that_keeps_watching_although_nothing_is_published(
    world, log, clock, make
):
    open_gap(world, make)
    take(world, log)
    clock.now += 901
    with pytest.warns(GapWarning):
        assert 14 in seqs(world, take(world, log))


def test_an_object_that_only_the_second_list_shows_closes_the_gap_without_a_warning(world, log, make):
    writer = open_gap(world, make)
    world.storage.now += 901
    world.publish(make.writer(2), 0, 0)
    lists = []

    def hook(when, operation, key):
        if operation == "list" and when == "after":
            lists.append(key)
            if len(lists) == 1:
                world.publish(writer, 5, 9)

    world.storage.hook = hook
    snapshot = take(world, log)
    assert seqs(world, snapshot)[:15] == list(range(15))
    assert snapshot.gaps == ()


def test_a_handle_whose_clock_stood_still_while_its_version_was_cleaned_up_sees_no_gap(world, log, make):
    writer = make.writer(1)
    world.commit(0, (writer, 0, 4))
    world.publish(writer, 10, 14)
    assert take(world, log).log.version == 0
    # a month passes at the store, none of it for this process: the machine was paused
    world.commit(1, (writer, 0, 9))
    write_checkpoint(log, TableLog(world.storage, "metrics").refresh())
    world.commit(2)
    world.storage.delete([log_key("metrics", 0), log_key("metrics", 1)])
    world.storage.now += 31 * 86_400
    world.publish(make.writer(2), 0, 0)
    snapshot = take(world, log)
    assert snapshot.log.version == 2
    assert (seqs(world, snapshot), snapshot.gaps) == ([10, 11, 12, 13, 14, 0], ())


def test_a_late_object_behind_a_skipped_and_compacted_gap_is_still_read(world, log, make):
    writer = open_gap(world, make)
    world.commit(0, (writer, 0, 4), (writer, 10, 14))
    assert seqs(world, take(world, log)) == []
    world.publish(writer, 5, 9)
    assert seqs(world, take(world, log)) == [5, 6, 7, 8, 9]
    world.publish(writer, 15, 19)
    assert seqs(world, take(world, log)) == [5, 6, 7, 8, 9, 15, 16, 17, 18, 19]


def test_a_settled_gap_neither_waits_nor_warns(world, log, make):
    writer = make.writer(1)
    world.commit(0, (writer, 0, 4), (writer, 10, 14))
    world.publish(writer, 15, 19)
    snapshot = take(world, log)
    assert seqs(world, snapshot) == [15, 16, 17, 18, 19]
    assert [(gap.first, gap.last, gap.is_settled) for gap in snapshot.gaps] == [(5, 9, True)]


# -- cost ------------------------------------------------------------------------------------------------


def test_nothing_new_reuses_the_last_verdict(world, log, make):
    for number in range(20):
        world.publish(make.writer(number), 0, 9)
    first = take(world, log)
    second = take(world, log)
    assert second.inbox is first.inbox


def test_a_refresh_over_a_thousand_objects_with_nothing_new_is_much_cheaper_than_the_first(world, log, make):
    for number in range(1000):
        world.publish(make.writer(number // 50), number % 50 * 10, number % 50 * 10 + 9)
    infos = world.storage.list("inbox/metrics/")

    class Frozen:
        def list(self, prefix):
            return infos

    def judge(inbox):
        start = time.perf_counter()
        inbox.judge(inbox.list(Frozen()), view)
        return time.perf_counter() - start

    view = log.refresh()
    first = min(judge(Inbox("metrics")) for _ in range(3))
    warm = Inbox("metrics")
    judge(warm)
    assert min(judge(warm) for _ in range(5)) < first / 5
