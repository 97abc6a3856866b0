"""The wrappers of ``metrics_lake.testing`` do what they say: the tests of the tests."""

import threading
import time

import pytest

from metrics_lake.errors import InvalidInputError, StorageError
from metrics_lake.storage import Creation, open_storage
from metrics_lake.testing import CountingStorage, CrashError, Fault, FaultyStorage, LatencyStorage


@pytest.fixture
def inner(memory_url):
    return open_storage(memory_url)


def keys(storage):
    return [info.key for info in storage.list("")]


def test_counts_are_those_of_an_object_store(inner):
    storage = CountingStorage(inner)
    for number in range(1500):
        inner.put_new(f"a/{number}", b"12345")
    storage.put_new("b", b"123")
    storage.put("b", b"1234")
    storage.get("b")
    storage.get_many([("a/1", 0, 2), ("a/2", 0, 3)])
    storage.list("a/")
    storage.list("nothing/")
    storage.delete([f"a/{number}" for number in range(1500)])
    assert storage.requests == {"PUT": 2, "GET": 3, "LIST": 3, "DELETE": 2}
    assert (storage.bytes_read, storage.bytes_written) == (9, 7)
    assert storage.calls[:5] == [("put_new", "b"), ("put", "b"), ("get", "b"), ("get", "a/1"), ("get", "a/2")]
    storage.reset()
    assert storage.create_exclusively_or_mark("c", b"yes", b"no") is Creation.EXCLUSIVE
    assert storage.requests == {"PUT": 2}


def test_wrapper_can_hide_the_files(local_url):
    storage = CountingStorage(open_storage(local_url))
    storage.put_new("a", b"x")
    assert storage.is_local is True
    assert storage.local_path("a") == f"{local_url}/a"
    hidden = CountingStorage(open_storage(local_url), is_local=False)
    with pytest.raises(InvalidInputError):
        hidden.local_path("a")
    assert hidden.get("a") == b"x"


def test_latency_is_per_request_and_parallel_ranges_travel_together(inner):
    inner.put_new("a", b"x")
    slow = LatencyStorage(inner, {"get": 0.05}, parallel=10)
    begun = time.monotonic()
    slow.list("")
    assert time.monotonic() - begun < 0.04
    slow.get_many([("a", 0, 1)] * 20)
    assert time.monotonic() - begun >= 0.1


def test_lost_request_did_nothing_and_lost_answer_did(inner):
    storage = FaultyStorage(inner, [Fault("before", "put_new"), Fault("after", "put_new", key="b")])
    for key in ("a", "b"):
        with pytest.raises(StorageError, match="Planted") as caught:
            storage.put_new(key, b"x")
        assert caught.value.retryable is True
    assert keys(storage) == ["b"]
    assert [storage.put_new("a", b"x"), storage.put_new("b", b"x")] == [True, False]


def test_faults_wait_for_an_operation_that_they_fit(inner):
    storage = FaultyStorage(inner, [Fault("before", "list", key="inbox/"), Fault("before", "get")])
    storage.put_new("inbox/a", b"x")
    storage.list("")
    with pytest.raises(StorageError):
        storage.get("inbox/a")
    with pytest.raises(StorageError):
        storage.list("inbox/")
    assert storage.get("inbox/a") == b"x"
    assert [fault for *_, fault in storage.log] == ["", "", "before", "before", ""]


def test_late_request_arrives_after_a_later_operation_began(inner):
    storage = FaultyStorage(
        inner, [Fault("late", "put_new", operations=2), Fault("late", "delete", operations=9)]
    )
    with pytest.raises(StorageError):
        storage.put_new("a", b"old")
    assert keys(storage) == []
    assert keys(storage) == ["a"]
    with pytest.raises(StorageError):
        storage.delete(["a"])
    assert keys(storage) == ["a"]
    storage.deliver()
    assert keys(storage) == []


def test_duplicate_gives_the_second_answer(inner):
    storage = FaultyStorage(inner, [Fault("duplicate")])
    storage.list("")
    assert storage.put_new("a", b"x") is False
    assert storage.get("a") == b"x"


def test_stale_listing_is_the_last_one(inner):
    storage = FaultyStorage(inner)
    storage.inject(Fault("stale"))
    inner.put_new("a", b"x")
    assert keys(storage) == []
    assert keys(storage) == ["a"]
    inner.put_new("b", b"x")
    storage.inject(Fault("stale"))
    assert keys(storage) == ["a"]
    assert keys(storage) == ["a", "b"]


@pytest.mark.parametrize(("kind", "left"), [("crash", []), ("crash_after", ["a"])])
def test_dead_process_does_nothing_more(inner, kind, left):
    storage = FaultyStorage(inner, [Fault(kind, "put_new")])
    with pytest.raises(CrashError):
        storage.put_new("a", b"x")
    with pytest.raises(CrashError):
        storage.list("")
    assert not issubclass(CrashError, Exception)
    storage.revive()
    assert keys(storage) == left


def test_crash_at_an_operation(inner):
    storage = FaultyStorage(inner, crash_at=3)
    storage.put_new("a", b"x")
    storage.put_new("b", b"x")
    with pytest.raises(CrashError):
        storage.put_new("c", b"x")
    storage.revive()
    assert keys(storage) == ["a", "b"]


def test_random_faults_are_the_same_for_a_seed_and_as_frequent_as_told(inner):
    def run(seed):
        storage = FaultyStorage(inner, rates={"before": 0.2, "delay": 0.0}, seed=seed)
        for _ in range(500):
            try:
                storage.list("")
            except StorageError:
                continue
        return storage.log

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 60 < sum(kind == "before" for *_, kind in run(3)) < 140


def test_quiet_ends_everything(inner):
    storage = FaultyStorage(inner, [Fault("late")], rates={"before": 1.0})
    with pytest.raises(StorageError):
        storage.put_new("a", b"x")
    with pytest.raises(StorageError):
        storage.put_new("b", b"x")
    storage.quiet()
    assert keys(storage) == ["a"]


def test_delay_holds_one_thread_only(inner):
    storage = FaultyStorage(inner, [Fault("delay", seconds=0.3)])
    slow = threading.Thread(target=storage.list, args=("",))
    slow.start()
    time.sleep(0.05)
    begun = time.monotonic()
    storage.list("")
    assert time.monotonic() - begun < 0.2
    slow.join()
