"""Whoever has just listed a full inbox compacts a part of it, and says so where it may not."""

import multiprocessing
import subprocess
import sys
import time

import pytest

from metrics_lake import MetricsLake
from metrics_lake.maintenance import background
from metrics_lake.schema import PREDICTION_STATES

OBJECTS = 30


@pytest.fixture
def full(local_url, monkeypatch):
    monkeypatch.setattr(background, "LIVE_OBJECTS", OBJECTS - 2)
    with MetricsLake(local_url, flush_seconds=60) as lake:
        for step in range(OBJECTS):
            lake.log_metric("run", "loss", step / OBJECTS, step=step)
            lake.flush()
    return local_url


def wait_until(check, seconds=30.0):
    limit = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.02)


def test_a_read_compacts_a_full_inbox_and_loses_nothing(full):
    with MetricsLake(full) as lake:
        assert lake.get_metric("run", "loss") == (OBJECTS - 1) / OBJECTS
        wait_until(lambda: lake.snapshot().log.version >= 0)
        assert not lake.snapshot().inbox
        assert lake.history("run", "loss").values("step") == list(range(OBJECTS))
        assert lake.status().compaction == "auto"


@pytest.mark.parametrize("options", [{"compaction": "off"}, {"read_only": True}])
def test_a_handle_that_shall_not_compact_does_not(full, options):
    with MetricsLake(full, **options) as lake:
        assert lake.get_metric("run", "loss") is not None
        assert lake._compactor is None
        assert len(lake.snapshot().inbox) == OBJECTS


def test_a_process_ends_well_while_it_compacts(full):
    program = (
        "from metrics_lake import MetricsLake\n"
        "from metrics_lake.maintenance import background\n"
        f"background.LIVE_OBJECTS = {OBJECTS - 2}\n"
        f"assert MetricsLake({str(full)!r}).get_metric('run', 'loss') is not None\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    with MetricsLake(full, compaction="off") as lake:
        assert lake.history("run", "loss").values("step") == list(range(OBJECTS))


def _read(lake, queue):
    lake.get_metric("run", "loss")
    queue.put((lake._compactor is None, len(lake.snapshot().inbox)))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_does_not(full):
    with MetricsLake(full) as lake:
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        worker = context.Process(target=_read, args=(lake, queue))
        worker.start()
        assert queue.get(timeout=60) == (True, OBJECTS)
        worker.join(60)


def test_a_process_that_only_writes_compacts_too(full, monkeypatch):
    with MetricsLake(full, flush_seconds=0.01) as lake:
        lake.log_metric("other", "x", 1.0)
        lake.flush()  # the first look is a minute away
        lake._next_look = -1.0
        lake.log_metric("other", "x", 2.0)
        lake.flush()
        reader = MetricsLake(full, read_only=True)
        wait_until(lambda: reader.snapshot().log.version >= 0)
        assert reader.history("run", "loss").values("step") == list(range(OBJECTS))


def test_a_writer_whose_token_expires_when_it_looks_looks_again(s3_url, s3_server, s3_proxy):
    options = s3_server.options(endpoint_url=s3_proxy.url)
    with MetricsLake(s3_url, storage_options=options, flush_seconds=60) as lake:
        lake.log_metric("run", "loss", 1.0)
        lake.flush()
        s3_proxy.inject("answer", "LIST", status=400)
        for step, state in ((2, "off: these credentials may not list"), (3, "auto")):
            lake._next_look = -1.0
            lake.log_metric("run", "loss", 2.0, step=step)
            lake.flush()
            wait_until(lambda expected=state: lake.status().compaction.startswith(expected))
            assert lake.status().problems == ()


@pytest.mark.parametrize(("limit", "most"), [("LIVE_OBJECTS", 8), ("BUDGET_BYTES", 20_000)])
def test_states_of_prediction_jobs_are_compacted_too(local_url, monkeypatch, limit, most):
    monkeypatch.setattr(background, limit, most)
    with MetricsLake(local_url, flush_seconds=60) as lake:
        for part in range(10):
            scores = [0.1, 0.4, 0.8, part / 10]
            truth = [False, False, True, True]
            lake.log_prediction_metrics("job", {"s": scores}, score="s", truth=truth, part=str(part))
            lake.flush()
        before = lake.prediction_metrics("job").rows()
        states = lake._reading().table(PREDICTION_STATES)
        wait_until(lambda: states.snapshot().log.version >= 0)
        assert len(states.snapshot().inbox) < 10
        assert lake.prediction_metrics("job").rows() == before


def test_a_handle_that_closes_when_it_should_look_says_nothing(local_url):
    lake = MetricsLake(local_url, flush_seconds=60)
    lake.log_metric("run", "loss", 1.0)
    lake.flush()
    lake._next_look = -1.0
    lake.log_metric("run", "loss", 2.0)
    lake.close()
    assert lake.status().problems == ()
