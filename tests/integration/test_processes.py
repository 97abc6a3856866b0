"""Processes that log at once, fork, and end in every way: each point is there, exact, once."""

from __future__ import annotations

import importlib.util
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from metrics_lake import MetricsLake

_spec = importlib.util.spec_from_file_location("children", Path(__file__).with_name("children.py"))
children = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(children)

PROCESSES = 64
CALLS = 40


def points_of(lake, resource):
    rows = lake.history(resource, full=True).arrow()
    found = {}
    for metric, step, value, text in zip(
        *(rows.column(name).to_pylist() for name in ("metric", "step", "value", "text")), strict=True
    ):
        found.setdefault((metric, step), []).append(value if text is None else text)
    return found


@pytest.fixture
def handle(state_dir):
    return {"state_dir": str(state_dir)}


@pytest.mark.parametrize("store", ["local", "s3"])
def test_64_processes_log_to_one_resource(family, request, tmp_path, handle, store):
    url = request.getfixturevalue(f"{store}_url")
    options = {} if store == "local" else request.getfixturevalue("s3_options")
    pids = [
        family.fork(
            "log_by_plan",
            url=url,
            options=options,
            handle={**handle, "flush_seconds": 0.2},
            resource="shared",
            threads=1,
            acknowledged=str(tmp_path / f"acknowledged-{number}"),
            calls=CALLS,
            end="leave" if number % 2 else "close",
        )
        for number in range(PROCESSES)
    ]
    assert [family.wait(pid) for pid in pids] == [0] * PROCESSES
    expected = {
        (metric, step): [value] * PROCESSES
        for number in range(CALLS)
        for metric, step, value in children.points_of_call(0, number)
    }
    # A reader without a state folder: everything is in the store, nothing in a journal.
    with MetricsLake(url, storage_options=options, read_only=True) as lake:
        assert points_of(lake, "shared") == expected
        rows = lake.history("shared", full=True).arrow()
    identities = set(zip(rows.column("writer").to_pylist(), rows.column("seq").to_pylist(), strict=True))
    assert len(identities) == rows.num_rows
    assert len(set(rows.column("writer").to_pylist())) == PROCESSES
    assert not list(Path(handle["state_dir"]).glob("*/*/*"))


def test_a_process_forks_while_it_logs(family, local_url, handle):
    pid = family.fork(
        "fork_while_logging", url=local_url, handle={**handle, "flush_seconds": 0.05}, calls=5000, forks=12
    )
    assert family.wait(pid) == 0
    with MetricsLake(local_url, read_only=True) as lake:
        assert points_of(lake, "parent") == {("m", step): [float(step)] for step in range(5001)}
        for child in range(0, 12, 2):
            assert points_of(lake, f"child-{child}") == {("m", step): [float(step)] for step in range(10)}
        assert len(lake.resources()) == 7


PUBLISHED = {
    "end": 0,
    "sys.exit": 3,
    "exception": 1,
    "thread goes on": 0,
    "pool goes on": 0,
    "atexit logs": 0,
}
ADOPTED = {"SIGTERM": -signal.SIGTERM, "os._exit": 0, "abort": -signal.SIGABRT, "child outlives": 0}


@pytest.mark.parametrize("how", PUBLISHED)
def test_what_was_logged_is_published_when_the_interpreter_ends(family, local_url, handle, how):
    pid = family.fork("end_somehow", url=local_url, handle={**handle, "flush_seconds": 60}, how=how)
    assert family.wait(pid) == PUBLISHED[how]
    with MetricsLake(local_url, read_only=True) as lake:
        found = points_of(lake, "r")
    assert found == {("m", step): [float(step)] for step in range(5)}


@pytest.mark.parametrize("how", ADOPTED)
def test_what_a_dead_process_left_is_adopted(family, local_url, handle, tmp_path, how):
    gate = tmp_path / "gate"
    pid = family.fork(
        "end_somehow", url=local_url, handle={**handle, "flush_seconds": 60}, how=how, wait_for=str(gate)
    )
    try:
        assert family.wait(pid) == ADOPTED[how]
        with MetricsLake(local_url, read_only=True) as lake:
            assert points_of(lake, "r") == {}
        with MetricsLake(local_url, **handle) as lake:
            # Before the first read returns.
            assert lake.get_metric("r", "m") == 4
            assert points_of(lake, "r") == {("m", step): [float(step)] for step in range(5)}
        with MetricsLake(local_url, read_only=True) as lake:
            assert points_of(lake, "r") == {("m", step): [float(step)] for step in range(5)}
    finally:
        gate.touch()


PROGRAM = """
import multiprocessing, sys
from metrics_lake import MetricsLake

def child(lake, number):
    lake.log_metric(f"child-{number}", "m", number)

if __name__ == "__main__":
    url, state, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    lake = MetricsLake(url, state_dir=state)
    lake.log_metric("parent", "m", 0)
    processes = [context.Process(target=child, args=(lake, number)) for number in range(3)]
    for process in processes:
        process.start()
    lake.log_metric("parent", "m", 1)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with context.Pool(2) as pool:
        pool.starmap(child, [(lake, 10), (lake, 11)])
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(local_url, handle, tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            str(program),
            local_url,
            handle["state_dir"],
            method,
        ],
        check=True,
        timeout=120,
    )
    # Every child has published by itself: none hangs in an import that its parent's thread was just doing.
    assert not list(Path(handle["state_dir"]).glob("*/*/*"))
    with MetricsLake(local_url, read_only=True) as lake:
        assert lake.history("parent").values("value") == [0.0, 1.0]
        for number in (0, 1, 2, 10, 11):
            assert lake.get_metric(f"child-{number}", "m") == number


def test_a_pickled_handle_is_a_handle_of_its_own(local_url, handle):
    with MetricsLake(local_url, **handle) as lake:
        lake.log_metric("r", "m", 1)
        with pickle.loads(pickle.dumps(lake)) as copy:  # noqa: S301 -- our own
            copy.log_metric("r", "m", 2)
            assert copy.status().writer != lake.status().writer
            copy.flush()
        assert lake.get_metric("r", "m") == 2
        assert lake.history("r", "m").values("value") == [1.0, 2.0]


def test_threads_share_a_handle(local_url, handle):
    with MetricsLake(local_url, **handle, flush_seconds=0.02) as lake:
        done = children.Acknowledged(Path(handle["state_dir"] + "-acknowledged"), 8)

        def run(thread):
            for number in range(200):
                children.make_call(lake, "shared", thread, number)
                done.set(thread, number + 1)
                if number % 50 == 0:
                    assert lake.get_metric("shared", f"t{thread}") is not None

        workers = [threading.Thread(target=run, args=(thread,)) for thread in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert done.counts() == [200] * 8
        expected = {
            (metric, step): [value]
            for thread in range(8)
            for number in range(200)
            for metric, step, value in children.points_of_call(thread, number)
        }
        assert points_of(lake, "shared") == expected


def test_ctrl_c_at_any_moment_of_a_close_wedges_nothing_and_loses_nothing(tmp_path):
    url, state = str(tmp_path / "lake"), str(tmp_path / "state")
    script = f"""
import signal
from metrics_lake import MetricsLake

signal.signal(signal.SIGALRM, signal.default_int_handler)
for number in range(150):
    try:
        with MetricsLake({url!r}, state_dir={state!r}, compaction="off") as lake:
            lake.log_metric("run", "m", number)
            print(number, flush=True)
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + number % 97 * 0.0002)
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    logged = list(map(float, done.stdout.split()))
    assert len(logged) == 150
    with MetricsLake(url, state_dir=state) as lake:
        assert sorted(lake.history("run", "m").values()) == logged
