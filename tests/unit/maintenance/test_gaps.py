"""Gaps through compaction: skipped, consumed behind, and filled late."""

from __future__ import annotations

import warnings

import pytest

from metrics_lake.errors import GapWarning
from metrics_lake.maintenance.collecting import collect_inbox
from metrics_lake.maintenance.compaction import compact_inbox, merge_files
from metrics_lake.maintenance.deleting import delete_rows
from metrics_lake.maintenance.selection import Condition
from metrics_lake.maintenance.vacuuming import vacuum

W = f"{1:032x}"


def compact(lab):
    return compact_inbox(lab.storage, lab.log(), sleep=lambda seconds: None)


@pytest.fixture
def gapped(lab):
    """Return a lab where rows 10..19 of a writer are late, old enough to be read behind."""
    lab.publish(1, 0, 9)
    lab.publish(1, 20, 29)
    lab.storage.now += 901
    lab.publish(2, 0, 0)
    return lab


def test_a_compaction_stops_at_a_young_gap(lab):
    lab.publish(1, 0, 9)
    lab.publish(1, 20, 29)
    compact(lab)
    state = lab.snapshot().log
    assert state.consumed(W) == ((0, 9),)
    assert sum(file.num_records for file in state.files) == 10


def test_rows_behind_an_old_gap_are_consumed_as_an_interval_of_their_own(gapped):
    with pytest.warns(GapWarning, match="Rows 10 to 19"):
        compact(gapped)
    assert gapped.snapshot().log.consumed(W) == ((0, 9), (20, 29))
    gapped.check()


def test_a_late_object_fills_its_gap_whenever_it_comes(gapped):
    with pytest.warns(GapWarning):
        compact(gapped)
    gapped.storage.now += 700
    collect_inbox(gapped.storage, gapped.log())
    gapped.publish(1, 30, 39)
    gapped.publish(1, 10, 19)
    gapped.check()
    compact(gapped)
    gapped.check()
    assert gapped.snapshot().log.consumed(W) == ((0, 39),)
    gapped.publish(1, 10, 19)  # and once more
    gapped.check()
    gapped.storage.now += 8 * 86_400
    merge_files(gapped.storage, gapped.log(), sleep=lambda seconds: None)
    vacuum(gapped.storage, gapped.log(), sleep=lambda seconds: None)
    gapped.check()


def test_a_gap_that_a_commit_settled_neither_waits_nor_warns_again(gapped):
    with pytest.warns(GapWarning):
        compact(gapped)
    gapped.publish(1, 30, 34)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snapshot = gapped.snapshot()
        gapped.check()
    assert [(gap.first, gap.last, gap.is_settled) for gap in snapshot.gaps] == [(10, 19, True)]
    compact(gapped)
    assert gapped.snapshot().log.consumed(W) == ((0, 9), (20, 34))


def test_a_late_object_is_kept_by_a_delete_that_did_not_see_it(gapped):
    with pytest.warns(GapWarning):
        found = delete_rows(
            gapped.storage, gapped.log(), Condition(resources=("run-1",)), sleep=lambda seconds: None
        )
    assert found.points == 20
    gapped.deleted |= {row for row in gapped.acknowledged if row[0] == "run-1"}
    gapped.publish(1, 10, 19)
    late = {("run-1", W, seq) for seq in range(10, 20)}
    gapped.deleted -= late
    gapped.check()
    compact(gapped)
    gapped.check()


def test_the_end_of_a_writer_with_a_gap_is_noted_once_the_gap_is_filled(gapped):
    gapped.end(1, 30)
    with pytest.warns(GapWarning):
        compact(gapped)
    assert gapped.snapshot().log.transactions.ended_writers() == []
    gapped.publish(1, 10, 19)
    compact(gapped)
    assert gapped.snapshot().log.transactions.ended_writers() == [W]


def test_two_cuts_of_one_sequence_are_compacted_once(lab):
    lab.publish(1, 0, 9)
    lab.publish(1, 0, 4)
    lab.publish(1, 5, 14)
    lab.check()
    compact(lab)
    lab.check()
    assert sum(file.num_records for file in lab.snapshot().log.files) == 15
    lab.publish(1, 3, 17)
    lab.check()
    compact(lab)
    lab.check()
