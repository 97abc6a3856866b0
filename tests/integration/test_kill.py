"""Processes that are killed while they log, seal and publish lose nothing that was acknowledged."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from metrics_lake import MetricsLake

_spec = importlib.util.spec_from_file_location("children", Path(__file__).with_name("children.py"))
children = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(children)

KILLS = int(os.environ.get("METRICS_LAKE_KILLS", "12"))
KILLS_PER_LAKE = 4
THREADS = 3


def wait_for_calls(acknowledged, calls, timeout=30.0):
    deadline = time.monotonic() + timeout
    while sum(acknowledged.counts()) < calls:
        assert time.monotonic() < deadline, "the child does not log"
        time.sleep(0.0005)


def check(lake, resource, acknowledged):
    """Check that a resource holds each acknowledged call once and whole, and at most one more a thread."""
    rows = lake.history(resource, full=True).arrow()
    found = {}
    for metric, step, value, text in zip(
        *(rows.column(name).to_pylist() for name in ("metric", "step", "value", "text")), strict=True
    ):
        found.setdefault((metric, step), []).append(value if text is None else text)
    expected = 0
    for thread, calls in enumerate(acknowledged.counts()):
        for number in range(calls):
            for metric, step, value in children.points_of_call(thread, number):
                assert found.pop((metric, step)) == [value], (resource, metric, step)
                expected += 1
        # The call that the kill interrupted: all of it or nothing.
        points = children.points_of_call(thread, calls)
        present = [found.pop((metric, step), None) for metric, step, _ in points]
        assert present in ([None] * len(points), [[value] for _, _, value in points]), (resource, thread)
    assert not found, f"{resource} holds what was never logged"
    seqs = {}
    for writer, seq in zip(rows.column("writer").to_pylist(), rows.column("seq").to_pylist(), strict=True):
        seqs.setdefault(writer, []).append(seq)
    # Without holes, and in the order of the calls' times.
    for numbers in seqs.values():
        assert sorted(numbers) == list(range(len(numbers)))
    by_seq = rows.sort_by([("writer", "ascending"), ("seq", "ascending")])
    assert by_seq.equals(
        rows.sort_by([("writer", "ascending"), ("timestamp", "ascending"), ("seq", "ascending")])
    )
    return expected


def kill_some(family, folder, url, options, state_dir, kills, rng, most_calls):
    """Kill children of one lake, each of which first adopts what the one before left; check them all."""
    handle = {"state_dir": str(state_dir), "flush_seconds": 0.02}
    logs = []
    for number in range(kills):
        file = folder / f"acknowledged-{state_dir.name}-{number}"
        acknowledged = children.Acknowledged(file, THREADS)
        pid = family.fork(
            "log_by_plan",
            url=url,
            options=options,
            handle=handle,
            resource=f"run-{number}",
            threads=THREADS,
            acknowledged=str(file),
        )
        wait_for_calls(acknowledged, rng.choice([1, 50, rng.randrange(1, most_calls)]))
        time.sleep(rng.random() * 0.03)
        os.kill(pid, signal.SIGKILL)
        assert family.wait(pid) == -signal.SIGKILL
        logs.append(acknowledged)
    with MetricsLake(url, storage_options=options, state_dir=state_dir) as lake:
        total = sum(check(lake, f"run-{number}", log) for number, log in enumerate(logs))
        assert lake.status().problems == ()
    with MetricsLake(url, storage_options=options, read_only=True) as lake:
        assert sum(check(lake, f"run-{number}", log) for number, log in enumerate(logs)) == total
    return total


@pytest.mark.timeout(60 + 3 * KILLS)
def test_killed_processes_lose_no_acknowledged_point(family, tmp_path):
    rng = random.Random(random.randrange(2**32))
    total = 0
    for begun in range(0, KILLS, KILLS_PER_LAKE):
        kills = min(KILLS_PER_LAKE, KILLS - begun)
        state = tmp_path / f"state-{begun}"
        total += kill_some(family, tmp_path, str(tmp_path / f"lake-{begun}"), {}, state, kills, rng, 20_000)
    sys.stdout.write(f"{KILLS} kills, {total:,} acknowledged points, 0 lost, 0 twice\n")


def test_killed_processes_lose_no_acknowledged_point_on_an_object_store(family, tmp_path, s3_url, s3_options):
    rng = random.Random()
    assert kill_some(family, tmp_path, s3_url, s3_options, tmp_path / "state", 3, rng, 5_000)
