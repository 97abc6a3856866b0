from __future__ import annotations

import os
import threading

import pytest

from metrics_lake.errors import PermissionDeniedError
from metrics_lake.layout import claim_key
from metrics_lake.maintenance import background
from metrics_lake.maintenance.background import BackgroundCompaction, claim
from metrics_lake.maintenance.compaction import compact_inbox
from metrics_lake.testing import FaultyStorage


@pytest.fixture(autouse=True)
def _few_objects_are_many(monkeypatch):
    monkeypatch.setattr(background, "LIVE_OBJECTS", 3)


@pytest.fixture
def full(lab):
    for first in range(0, 50, 10):
        lab.publish(1, first, first + 9)
    return lab


def make(lab, storage=None, **settings):
    storage = lab.storage if storage is None else storage
    return BackgroundCompaction(storage, lab.log(storage), **settings)


def test_a_full_inbox_is_compacted_on_the_side(full):
    worker = make(full)
    assert worker.notice(full.snapshot())
    worker.wait(30)
    assert full.snapshot().inbox == ()
    full.check()
    assert worker.state == "auto"
    assert not worker.notice(full.snapshot())


def test_a_small_inbox_is_left_alone(lab):
    lab.publish(1, 0, 9)
    assert not make(lab).notice(lab.snapshot())
    assert not [key for key in lab.storage.objects if "_claims" in key]


def test_it_can_be_off_and_takes_a_part_at_a_time(full, monkeypatch):
    off = make(full, enabled=False)
    assert not off.notice(full.snapshot())
    assert off.state == "off"
    monkeypatch.setattr(background, "BUDGET_BYTES", 1)
    worker = make(full)
    worker.notice(full.snapshot())
    worker.wait(30)
    assert len(full.snapshot().inbox) == 4
    full.check()


def test_a_claim_is_respected_for_ten_minutes(full):
    snapshot = full.snapshot()
    assert claim(full.storage, "metrics", snapshot)
    assert not claim(full.storage, "metrics", snapshot)
    full.storage.now += 601
    full.publish(2, 0, 0)
    assert claim(full.storage, "metrics", full.snapshot())
    assert not claim(full.storage, "metrics", full.snapshot())
    compact_inbox(full.storage, full.log())
    assert claim(full.storage, "metrics", full.snapshot())


def test_somebody_elses_claim_means_no_work(full):
    full.storage.put_new(claim_key("metrics", 0), b"")
    worker = make(full)
    worker.notice(full.snapshot())
    worker.wait(30)
    assert len(full.snapshot().inbox) == 5


def test_one_compaction_runs_at_a_time(full):
    gate = threading.Event()

    class Slow(FaultyStorage):
        def put_new(self, key, data):
            gate.wait(30)
            return super().put_new(key, data)

    worker = make(full, Slow(full.storage))
    assert worker.notice(full.snapshot())
    assert not worker.notice(full.snapshot())
    gate.set()
    worker.wait(30)
    full.check()


def test_a_token_that_expired_stops_it_for_a_while_only(full, monkeypatch):
    class Expired(FaultyStorage):
        is_expired = True

        def put_new(self, key, data):
            if self.is_expired:
                raise PermissionDeniedError("ExpiredToken")
            return super().put_new(key, data)

    storage = Expired(full.storage)
    monkeypatch.setattr(background, "REFUSED_SECONDS", 0.0)
    worker = make(full, storage)
    assert worker.notice(full.snapshot())
    worker.wait(30)
    assert worker.state.startswith("off: ")
    storage.is_expired = False
    assert worker.notice(full.snapshot())
    worker.wait(30)
    assert worker.state == "auto"
    full.check()


def test_without_the_rights_it_turns_itself_off_and_says_so(full):
    class ReadOnly(FaultyStorage):
        def put_new(self, key, data):
            raise PermissionDeniedError("You may only read.")

    worker = make(full, ReadOnly(full.storage))
    assert worker.notice(full.snapshot())
    worker.wait(30)
    assert worker.state.startswith("off: ")
    assert "You may only read" in worker.state
    assert not worker.notice(full.snapshot())


def test_a_failure_is_kept_and_the_next_reader_tries_again(full):
    faulty = FaultyStorage(full.storage, rates={"before": 1.0})
    worker = make(full, faulty)
    worker.notice(full.snapshot())
    worker.wait(30)
    assert worker.last_error is not None
    assert worker.state == "auto"
    faulty.quiet()
    worker.notice(full.snapshot())
    worker.wait(30)
    full.check()
    assert full.snapshot().inbox == ()


def test_a_forked_child_never_compacts(full):
    worker = make(full)
    worker._pid = os.getpid() + 1
    assert not worker.notice(full.snapshot())
