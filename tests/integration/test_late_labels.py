"""Late labels across processes and deaths: the job's numbers equal those of one pass over the joined data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sk

from metrics_lake import MetricsLake
from metrics_lake.errors import StorageError
from metrics_lake.lake.access import LakeAccess
from metrics_lake.predictions import finalize, prediction_state
from metrics_lake.storage import open_storage
from metrics_lake.testing import CrashError, Fault, FaultyStorage

ROWS = 300
PIECES = {"a": (0, 120), "b": (120, 300)}


def scored():
    rng = np.random.default_rng(11)
    scores = rng.random(ROWS).round(3)
    return pl.DataFrame(
        {
            "id": np.arange(ROWS),
            "p": scores,
            "country": rng.choice(["FR", "NO"], ROWS),
            "y": (rng.random(ROWS) < scores).astype(int),
        }
    )


FRAME = scored()
OPTIONS = {"score": "p", "by": "country"}
EXPECTED = finalize(prediction_state(FRAME.drop("id"), truth="y", **OPTIONS))


def values_of(table):
    return {
        (tuple(row["segment"] or ()), row["metric"], row["label"]): row["value"]
        for row in table.to_pylist()
        if row["metric"] not in ("num_unmatched", "num_relabelled")
    }


def assert_job_is_right(lake, found=None):
    """Compare what was returned, what is stored and what was logged with one pass and with scikit-learn."""
    expected = values_of(EXPECTED)
    tables = [lake.prediction_metrics("job", by="country").arrow()]
    tables += [] if found is None else [found.table]
    for table in tables:
        values = values_of(table)
        assert values.keys() == expected.keys()
        assert values == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)
    for (segment, metric, label), value in expected.items():
        tags = dict(segment) | ({} if label is None else {"label": label})
        if value is not None and metric not in ("class_distribution", "class_counts", "confusion"):
            assert lake.get_metric("job", metric, tags=tags) == pytest.approx(value, rel=1e-12), (
                metric,
                tags,
            )
    assert lake.get_metric("job", "brier") == pytest.approx(sk.brier_score_loss(FRAME["y"], FRAME["p"]))
    assert lake.get_metric("job", "roc_auc") == pytest.approx(
        sk.roc_auc_score(FRAME["y"], FRAME["p"]), abs=1e-4
    )
    assert lake.get_metric("job", "num_unmatched") == 0
    assert lake.get_metric("job", "num_predictions") == ROWS


def log_part(lake, part):
    first, end = PIECES[part]
    return lake.log_prediction_metrics("job", FRAME[first:end].drop("y"), key="id", part=part, **OPTIONS)


def log_whole(lake):
    return lake.log_prediction_metrics("job", FRAME.drop("y"), key="id", **OPTIONS)


def log_labels(lake, first=0, end=ROWS):
    return lake.log_ground_truth("job", FRAME[first:end].select("id", "y"), key="id")


# -- killed in this process -------------------------------------------------------------------------------


class Dying:
    """Dies right before, or right after, one of the writes of prediction jobs."""

    def __init__(self, monkeypatch):
        self.writes = 0
        self.dies_at = None
        for name in ("_publish_rows", "_log_rows"):
            monkeypatch.setattr(LakeAccess, name, self._counted(getattr(LakeAccess, name)))
        self.depth = 0

    def _counted(self, write):
        def counted(lake, *arguments, **options):
            if self.depth:
                return write(lake, *arguments, **options)
            self.writes += 1
            if self.dies_at == (self.writes, "before"):
                raise CrashError
            self.depth += 1
            try:
                done = write(lake, *arguments, **options)
            finally:
                self.depth -= 1
            if self.dies_at == (self.writes, "after"):
                raise CrashError
            return done

        return counted


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3])
@pytest.mark.parametrize("step", ["predictions", "first labels", "last labels", "part"])
def test_killed_between_any_two_writes_and_called_again(tmp_path, monkeypatch, step, write, moment):
    lake = MetricsLake(tmp_path / "lake", compaction="off")
    log = (lambda: [log_part(lake, part) for part in PIECES]) if step == "part" else (lambda: log_whole(lake))
    dying = Dying(monkeypatch)

    def killed(call):
        dying.writes, dying.dies_at = 0, (write, moment)
        with pytest.raises(CrashError):
            call()
        dying.dies_at = None

    if step in ("predictions", "part"):
        killed(log)
    log()
    if step == "first labels":
        killed(lambda: log_labels(lake, 0, 150))
    log_labels(lake, 0, 150)
    if step == "last labels":
        killed(lambda: log_labels(lake, 150))
    found = log_labels(lake, 150)
    assert_job_is_right(lake, found)
    lake.close()
    with MetricsLake(lake.url, read_only=True) as other:
        assert_job_is_right(other)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_next_call_on_the_job_finishes_a_killed_one(tmp_path, monkeypatch, write, moment):
    """Not the same call again: another part, after labels whose states were never made."""
    lake = MetricsLake(tmp_path / "lake", compaction="off")
    log_part(lake, "a")
    dying = Dying(monkeypatch)
    dying.writes, dying.dies_at = 0, (write, moment)
    with pytest.raises(CrashError):
        log_labels(lake)
    dying.dies_at = None
    found = log_part(lake, "b")
    if write == 1 and moment == "before":
        assert "brier" not in found
        found = log_labels(lake)
    assert_job_is_right(lake, found)
    lake.close()


def test_killed_part_is_finished_by_another_part(tmp_path, monkeypatch):
    lake = MetricsLake(tmp_path / "lake", compaction="off")
    dying = Dying(monkeypatch)
    dying.dies_at = (1, "after")
    with pytest.raises(CrashError):
        log_part(lake, "a")
    dying.dies_at = None
    assert log_part(lake, "b")["num_predictions"] == ROWS
    assert_job_is_right(lake, log_labels(lake))
    lake.close()


# -- the store fails ----------------------------------------------------------------------------------------


def open_faulty(url, storage, state_dir):
    lake = MetricsLake(url, compaction="off", state_dir=state_dir, flush_seconds=3600)
    lake._storage = storage
    lake._writer._storage = storage
    lake._writer._outbox._storage = storage
    return lake


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("verb", ["put_new", "list", "get"])
@pytest.mark.parametrize("table", ["ground_truth", "predictions", "prediction_states", "metrics"])
def test_store_that_fails_at_any_table_leaves_nothing_wrong(tmp_path, kind, verb, table):
    """Requests or answers are lost: an error that says so or none, and the same call again is right."""
    url = tmp_path / "lake"
    with MetricsLake(url, compaction="off") as first:
        log_whole(first)
        log_labels(first, 0, 10)
    storage = FaultyStorage(open_storage(url))
    lake = open_faulty(url, storage, tmp_path / "other-state")
    storage.inject(Fault(kind, verb, key=f"{table}/"))
    with contextlib.suppress(StorageError):
        log_labels(lake)
    storage.quiet()
    assert_job_is_right(lake, log_labels(lake))
    lake.close()
    with MetricsLake(url, read_only=True) as other:
        assert_job_is_right(other)


def test_store_that_is_down_says_so_and_nothing_is_written(tmp_path):
    url = tmp_path / "lake"
    with MetricsLake(url, compaction="off") as first:
        log_whole(first)
    storage = FaultyStorage(open_storage(url), rates={"before": 1.0}, seed=1)
    lake = open_faulty(url, storage, tmp_path / "other-state")
    for call in (lambda: log_labels(lake), lambda: log_whole(lake), lambda: log_part(lake, "a")):
        with pytest.raises(StorageError):
            call()
    assert lake.status().pending_points == 0
    storage.quiet()
    assert_job_is_right(lake, log_labels(lake))
    lake.close()


# -- other processes ---------------------------------------------------------------------------------------


SCRIPT = """
import os, signal, sys
import polars as pl
from metrics_lake import MetricsLake
from metrics_lake.lake.access import LakeAccess

url, verb, first, end, dies_at = sys.argv[1:6]
frame = pl.read_parquet(sys.argv[6])[int(first):int(end)]
writes = 0
for name in ("_publish_rows", "_log_rows"):
    def counted(lake, *arguments, inner=getattr(LakeAccess, name), **options):
        global writes
        writes += 1
        if writes == int(dies_at):
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(lake, *arguments, **options)
    setattr(LakeAccess, name, counted)
lake = MetricsLake(url, compaction="off")
if verb == "labels":
    lake.log_ground_truth("job", frame.select("id", "y"), key="id")
else:
    part = None if verb == "whole" else verb
    lake.log_prediction_metrics("job", frame.drop("y"), key="id", part=part, score="p", by="country")
if int(dies_at) == 99:
    os.kill(os.getpid(), signal.SIGKILL)
lake.close()
"""


@pytest.fixture
def other_process(tmp_path):
    script = tmp_path / "other.py"
    script.write_text(textwrap.dedent(SCRIPT))
    data = tmp_path / "frame.parquet"
    FRAME.write_parquet(data)

    def start(verb, first=0, end=ROWS, *, dies_at=0):
        return subprocess.Popen(
            [
                sys.executable,
                str(script),
                str(tmp_path / "lake"),
                verb,
                str(first),
                str(end),
                str(dies_at),
                str(data),
            ],
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )

    return start


def test_labels_in_pieces_from_processes_that_are_killed(tmp_path, other_process):
    """SIGKILL before each write, and after the last one before anything was closed."""
    assert other_process("whole").wait(120) == 0
    for number, dies_at in enumerate((1, 2, 3, 99)):
        process = other_process("labels", number * 75, number * 75 + 75, dies_at=dies_at)
        assert process.wait(120) == -signal.SIGKILL
    with MetricsLake(tmp_path / "lake", compaction="off") as lake:
        found = log_labels(lake, 0, 75)
        assert_job_is_right(lake, found)
    assert other_process("labels", 200).wait(120) == 0
    with MetricsLake(tmp_path / "lake", read_only=True) as lake:
        assert_job_is_right(lake)


def test_processes_that_work_on_a_job_at_once_lose_nothing(tmp_path, other_process):
    """Parts logged at once, then labels logged at once: the last to publish announces all."""
    MetricsLake(tmp_path / "lake").log_metric("x", "y", 1.0)
    processes = [other_process(part, *PIECES[part]) for part in PIECES]
    assert [process.wait(240) for process in processes] == [0, 0]
    with MetricsLake(tmp_path / "lake", read_only=True) as lake:
        assert lake.get_metric("job", "num_predictions") == ROWS
    processes = [other_process("labels", *piece) for piece in ((0, 100), (100, 200), (200, 300))]
    assert [process.wait(240) for process in processes] == [0, 0, 0]
    with MetricsLake(tmp_path / "lake", read_only=True) as lake:
        assert_job_is_right(lake)
