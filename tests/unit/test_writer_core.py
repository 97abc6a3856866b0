"""The writer: order, durability levels, sealing, and what this process sees of its own points."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress

import pyarrow as pa
import pytest

from metrics_lake.commits.parquet import decode_rows
from metrics_lake.errors import ClosedError, InvalidInputError, JournalError, NotPublishedError
from metrics_lake.layout import inbox_prefix, parse_inbox_key
from metrics_lake.points import Point
from metrics_lake.schema import METRICS
from metrics_lake.storage import open_storage
from metrics_lake.testing import CountingStorage, FaultyStorage
from metrics_lake.writer import MAX_CALL_BYTES, Writer, WriterSettings, journaling
from metrics_lake.writer.pending import PublishedRows


@pytest.fixture
def storage(tmp_path):
    return CountingStorage(open_storage(tmp_path / "lake"))


@pytest.fixture
def make(storage, tmp_path):
    writers = []

    def make(**settings):
        writer = Writer(
            storage, WriterSettings(**{"state_dir": tmp_path / "state", "flush_seconds": 60.0, **settings})
        )
        writers.append(writer)
        return writer

    yield make
    for writer in writers:
        writer.close()


def log(writer, value, metric="m", resource="r", durability=None, **more):
    arguments = {"step": None, "timestamp": None, "tags": None, **more}
    writer.log_point(
        resource, metric, value, arguments["step"], arguments["timestamp"], arguments["tags"], durability
    )


def inbox(storage):
    names = [parse_inbox_key(info.key) for info in storage.inner.list(inbox_prefix(METRICS))]
    return sorted(name for name in names if name is not None)


def published(storage):
    """Return the inbox's rows, each writer's in order; overlapping objects would show rows twice."""
    return [
        row
        for name in inbox(storage)
        for row in decode_rows(METRICS, storage.inner.get(name.key), key=name.key).to_pylist()
    ]


def test_rows_that_were_just_published_are_at_hand_once(make, storage):
    writer = make()
    for value in (1.0, "text", None, float("nan")):
        log(writer, value, step=3, tags={"fold": 1})
    writer.flush()
    (name,) = inbox(storage)
    rows = writer.take_published(name.key)
    stored = decode_rows(METRICS, storage.inner.get(name.key), key=name.key)
    assert rows.schema == stored.schema
    assert repr(rows.to_pylist()) == repr(stored.to_pylist())
    assert writer.take_published(name.key) is None


def test_few_published_rows_are_kept(make, storage):
    writer = make()
    for number in range(4):
        log(writer, str(number) * 400_000)
        writer.flush()
    kept = [writer.take_published(name.key) is not None for name in inbox(storage)]
    assert kept == [False, False, True, True]
    log(writer, "x" * 2_000_000)
    writer.flush()
    assert writer.take_published(inbox(storage)[-1].key) is None


def test_rows_that_are_published_again_are_counted_once():
    rows = pa.table({"x": ["x" * 300_000]})
    kept = PublishedRows()
    kept.keep("other", rows)
    for _ in range(9):
        kept.keep("again", rows)
    assert kept.take("other") is rows
    assert kept.take("again") is rows
    assert kept.take("again") is None


def wait_until(is_so, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def pending(writer):
    return [row for run in writer.pending(METRICS) for row in run.rows.to_pylist()]


def test_nothing_happens_before_the_first_point(storage, make, tmp_path):
    before = threading.active_count()
    writer = make()
    assert writer.flush().points == 0
    assert writer.pending(METRICS) == []
    assert threading.active_count() == before
    assert not storage.requests
    assert not (tmp_path / "state").exists()


def test_points_are_seen_before_and_after_they_are_published(storage, make):
    writer = make()
    log(writer, 1.0)
    assert [row["value"] for row in pending(writer)] == [1.0]
    log(writer, 2.0)
    assert [row["value"] for row in pending(writer)] == [1.0, 2.0]
    assert published(storage) == []
    receipt = writer.flush()
    assert (receipt.points, receipt.objects) == (2, 1)
    assert pending(writer) == []
    assert [row["value"] for row in published(storage)] == [1.0, 2.0]
    log(writer, 3.0)
    assert [row["seq"] for row in pending(writer)] == [2]


def test_one_object_costs_one_put(storage, make):
    writer = make()
    log(writer, 1.0)
    writer.flush()
    storage.reset()
    log(writer, 2.0)
    writer.flush()
    assert dict(storage.requests) == {"PUT": 1, "GET": 1}, "one GET sees that the lake is still the same"
    storage.reset()
    writer.flush()
    assert not storage.requests


def test_the_end_is_in_the_last_object_or_an_object_of_its_own(storage, make):
    writer = make()
    log(writer, 1.0)
    writer.close()
    (name,) = inbox(storage)
    assert name.is_end
    assert (name.first, name.last) == (0, 0)
    other = make()
    log(other, 1.0)
    other.flush()
    other.close()
    names = [name for name in inbox(storage) if name.writer == other.status("off").writer]
    assert [(name.first, name.last, name.is_end) for name in names] == [(0, 0, False), (1, 0, True)]


def test_a_closed_writer_refuses(make):
    writer = make()
    log(writer, 1.0)
    writer.close()
    writer.close()
    with pytest.raises(ClosedError):
        log(writer, 2.0)
    with pytest.raises(ClosedError):
        writer.log_points([Point(("r", "m", ""), 0, 1.0, None)], None, None, None)
    assert writer.flush().points == 0


def test_clock_and_sequence_have_one_order_over_threads(storage, make):
    writer = make()
    threads, each = 8, 500
    barrier = threading.Barrier(threads)

    def run(thread):
        barrier.wait()
        for number in range(each):
            if number % 5 == 0:
                writer.log_points(
                    [Point(("r", f"t{thread}", ""), 0, float(number), None)] * 2, None, None, None
                )
            else:
                log(writer, float(number), f"t{thread}")
            if number == 100:
                writer.flush()

    workers = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    writer.close()
    rows = published(storage)
    total = threads * (each + each // 5)
    assert [row["seq"] for row in rows] == list(range(total))
    stamps = [row["timestamp"] for row in rows]
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == threads * each, "one time a call"
    for thread in range(threads):
        values = [row["value"] for row in rows if row["metric"] == f"t{thread}"]
        assert values == sorted(values), "the order of a thread's own calls"


def test_the_clock_never_goes_back(make, monkeypatch):
    writer = make()
    now = iter([5_000_000, 4_000_000, 4_000_000, 9_000_000])
    log(writer, 0.0)  # opens the journal, which looks at the clock as well
    base = pending(writer)[0]["timestamp"]
    start = time.time_ns() + 10**12
    monkeypatch.setattr(journaling.time, "time_ns", lambda: start + next(now))
    for value in (1.0, 2.0, 3.0, 4.0):
        log(writer, value)
    monkeypatch.undo()
    stamps = [row["timestamp"] for row in pending(writer)]
    micros = [(stamp - base).total_seconds() * 1e6 for stamp in stamps[1:]]
    assert [round(later - micros[0]) for later in micros] == [0, 1, 2, 4000]


def test_a_given_time_leaves_the_clock_alone(make):
    writer = make()
    log(writer, 1.0, timestamp=4_000_000_000)
    log(writer, 2.0)
    first, second = pending(writer)
    assert second["timestamp"] < first["timestamp"]


@pytest.mark.parametrize("tags", [[], "", 0, [("a", 1)], "a"])
def test_tags_are_a_mapping(make, tags):
    with pytest.raises(InvalidInputError):
        log(make(), 1.0, tags=tags)


def test_a_refused_call_writes_nothing(make):
    writer = make()
    for wrong in (
        {"resource": ""},
        {"metric": "x" * 5000},
        {"metric": 5},
        {"step": 1.5},
        {"durability": "safe"},
    ):
        with pytest.raises(InvalidInputError):
            log(writer, 1.0, **wrong)
    with pytest.raises(InvalidInputError):
        log(writer, object())
    assert pending(writer) == []
    log(writer, 1.0)
    assert len(pending(writer)) == 1


def test_segments_are_sealed_by_rows(storage, make, monkeypatch):
    monkeypatch.setattr(journaling, "MAX_CALL_ROWS", 10)
    writer = make()
    for number in range(25):
        log(writer, float(number))
    writer.close()
    assert [(name.first, name.last) for name in inbox(storage)] == [(0, 9), (10, 19), (20, 24)]


def test_segments_are_sealed_by_bytes(storage, make):
    writer = make()
    text = "x" * (MAX_CALL_BYTES // 4)
    for _ in range(12):
        log(writer, text)
    writer.close()
    sizes = [name.last - name.first + 1 for name in inbox(storage)]
    assert sum(sizes) == 12
    assert max(sizes) <= 5


def test_a_call_is_never_parted(storage, make, monkeypatch):
    monkeypatch.setattr(journaling, "MAX_CALL_ROWS", 10)
    writer = make()
    for _ in range(3):
        writer.log_points([Point(("r", "m", ""), 0, 1.0, None)] * 7, None, None, None)
    writer.close()
    assert [(name.first, name.last) for name in inbox(storage)] == [(0, 6), (7, 13), (14, 20)]


# -- durability ----------------------------------------------------------------------------------------------


@pytest.fixture
def syncs(monkeypatch):
    """Counts what the operating system was asked to bring to the disk: {file: size at the time}."""
    seen = {}
    fdatasync = os.fdatasync

    def counting(fd):
        size = os.fstat(fd).st_size
        fdatasync(fd)
        seen.setdefault(os.readlink(f"/proc/self/fd/{fd}"), []).append(size)  # noqa: PTH115 -- as it stands

    monkeypatch.setattr(os, "fdatasync", counting)
    return seen


def test_synced_is_on_the_disk_when_the_call_returns(make, syncs):
    writer = make(durability="synced")
    for number in range(5):
        log(writer, float(number))
        (file,) = syncs
        assert syncs[file][-1] == os.stat(file).st_size, "the whole segment was synced"  # noqa: PTH116


def test_synced_of_one_call(make, syncs):
    writer = make()
    log(writer, 1.0)
    log(writer, 2.0, durability="synced")
    (file,) = syncs
    assert syncs[file][-1] == os.stat(file).st_size  # noqa: PTH116


def test_synced_waits_for_a_sync_that_is_under_way(make, monkeypatch):
    # The syncer has taken what there is and is not done: a second call must not return before it is.
    writer = make()
    under_way, go_on = threading.Event(), threading.Event()
    fdatasync = os.fdatasync
    order = []

    def slow(fd):
        under_way.set()
        assert go_on.wait(20)
        fdatasync(fd)
        order.append("synced")

    monkeypatch.setattr(os, "fdatasync", slow)
    log(writer, 1.0)
    assert under_way.wait(20)

    def second():
        writer._syncer.sync()
        order.append("returned")

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.2)
    assert order == []
    go_on.set()
    thread.join(20)
    assert order[0] == "synced"
    assert order[-1] == "returned"


def test_many_calls_share_a_sync(make, syncs):
    writer = make()
    calls = 0
    begun = time.monotonic()
    while time.monotonic() - begun < 0.4:
        log(writer, 1.0)
        calls += 1
    count = sum(map(len, syncs.values()))
    assert calls > 20 * count
    assert count <= 0.4 / 0.05 + 3 + len(syncs)


def test_everything_is_synced_in_a_while(make, syncs):
    writer = make()
    log(writer, 1.0)
    wait_until(lambda: any(sizes[-1] == os.stat(file).st_size for file, sizes in syncs.items()))  # noqa: PTH116


def test_a_disk_that_cannot_sync_is_told(make, monkeypatch):
    writer = make()
    log(writer, 1.0)

    def fail(fd):
        raise OSError(5, "planted")

    monkeypatch.setattr(os, "fdatasync", fail)

    def fail_twice():
        with pytest.raises(JournalError):
            log(writer, 2.0, durability="synced")
        wait_until(lambda: writer.status("off").problems)

    with pytest.warns(UserWarning, match="stable storage"):
        fail_twice()
    monkeypatch.undo()
    log(writer, 3.0, durability="synced")
    wait_until(lambda: not writer.status("off").problems)


def test_published_is_in_the_store_when_the_call_returns(storage, make):
    writer = make(durability="published")
    for number in range(3):
        log(writer, float(number))
        assert [row["value"] for row in published(storage)] == [float(each) for each in range(number + 1)]
    writer.log_points([Point(("r", "m", ""), 0, 9.0, None)], None, None, "logged")
    assert len(published(storage)) == 3


def test_memory_cannot_be_synced_and_nothing_is_logged(storage, tmp_path, monkeypatch):
    monkeypatch.setattr("metrics_lake.writer.core.find_state_directory", lambda _: None)
    writer = Writer(storage, WriterSettings(flush_seconds=60.0))
    with (
        pytest.warns(UserWarning, match="die with this process"),
        pytest.raises(JournalError, match="synced"),
    ):
        log(writer, 1.0, durability="synced")
    assert pending(writer) == []
    log(writer, 2.0)
    assert writer.status("off").durability == "memory"
    assert [row["value"] for row in pending(writer)] == [2.0]
    writer.close()
    assert [row["value"] for row in published(storage)] == [2.0]


# -- reading one's own points --------------------------------------------------------------------------------


def test_readers_in_many_threads_see_each_own_point_once(make):
    writer = make()
    stop = threading.Event()
    wrong = []

    def read():
        while not stop.is_set():
            values = [row["value"] for row in pending(writer)]
            if values != [float(number) for number in range(len(values))]:
                wrong.append(values)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(600):
        log(writer, float(number))
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(pending(writer)) == 600


def test_beyond_the_memory_limit_rows_are_read_again(storage, make, monkeypatch):
    monkeypatch.setattr("metrics_lake.writer.pending.MAX_DECODED_BYTES", 1000)
    monkeypatch.setattr(journaling, "MAX_CALL_ROWS", 10)
    writer = make()
    log(writer, 0.0)
    storage.inner = FaultyStorage(storage.inner, rates={"before": 1.0})

    def log_offline():
        for number in range(1, 95):
            log(writer, float(number))
        with pytest.raises(NotPublishedError):
            writer.flush()

    with pytest.warns(UserWarning, match="publishing failed"):
        log_offline()
    for _ in range(3):
        assert [row["value"] for row in pending(writer)] == [float(number) for number in range(95)]
    assert len(writer._pending[METRICS]._known) < 5
    storage.inner = storage.inner.inner
    assert writer.flush(20).points == 95


# -- threads -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_publisher_that_dies_has_a_successor(storage, make, monkeypatch):
    monkeypatch.setattr("metrics_lake.writer.threads._FIRST_RETRY_SECONDS", 0.01)
    writer = make()
    log(writer, 1.0)
    publish = writer._outbox.publish_all
    died = threading.Event()

    def fail(lake):
        died.set()
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr(writer._outbox, "publish_all", fail)
    with (
        pytest.warns(UserWarning, match="nobody foresaw it"),
        pytest.raises(Exception, match="1 point is in"),
    ):
        writer.flush()
    assert died.is_set()
    monkeypatch.setattr(writer._outbox, "publish_all", publish)
    assert writer.flush(20).points == 1
    assert [row["value"] for row in published(storage)] == [1.0]


def test_without_threads_flush_publishes_by_itself(storage, make, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer = make()
    log(writer, 1.0)
    log(writer, 2.0, durability="synced")
    assert writer.flush().points == 2
    assert writer.flush(1.0).points == 0
    log(writer, 3.0)
    writer.close()
    assert [row["value"] for row in published(storage)] == [1.0, 2.0, 3.0]


def test_a_due_flush_comes_by_itself(storage, make):
    writer = make(flush_seconds=0.01)
    for number in range(1, 4):
        log(writer, float(number))
        wait_until(lambda number=number: len(published(storage)) == number)
        # The publisher is idle again: it waits, without a limit, for the next point.
        wait_until(lambda: not writer.status("off").pending_points)
        time.sleep(0.05)


def test_flushes_of_many_threads_all_return(storage, make):
    writer = make()
    threads = 8
    seen = []

    def run(thread):
        for number in range(20):
            log(writer, float(number), f"t{thread}")
            writer.flush()
            seen.append(thread)

    workers = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(seen) == threads * 20
    assert len(published(storage)) == threads * 20


@pytest.mark.parametrize("verb", ["flush", "close"])
def test_a_signals_handler_that_raises_leaves_the_lock_to_others(make, verb):
    writer = make()
    log(writer, 1.0)
    interrupted = (
        threading.Condition.__enter__.__code__
    )  # Python, so a handler may raise when it has the lock

    def interrupt(frame, event, _):
        if event == "return" and frame.f_code is interrupted and frame.f_locals["self"] is writer._changed:
            raise KeyboardInterrupt

    def work():
        sys.setprofile(interrupt)
        try:
            with suppress(KeyboardInterrupt):
                getattr(writer, verb)()
        finally:
            sys.setprofile(None)
        writer.status("auto")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()
