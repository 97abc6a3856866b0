"""``_lake.json``: one lake per url, whoever makes it, and nothing else is taken for one."""

from __future__ import annotations

import json
import threading

import pytest

from metrics_lake.errors import CorruptObjectError, LakeNotFoundError, StorageError, UnsupportedFormatError
from metrics_lake.lakefile import create_lake, read_lake, require_lake
from metrics_lake.layout import LAKE_FILE
from metrics_lake.storage import open_storage
from metrics_lake.testing import CountingStorage, Fault, FaultyStorage, WrappedStorage

GOOD = {"format": 1, "lake_id": "a" * 32, "creates_exclusively": True}


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "lake")


def test_there_is_no_lake_until_one_is_made(storage):
    assert read_lake(storage) is None
    with pytest.raises(LakeNotFoundError, match="there is no lake at"):
        require_lake(storage)
    lake = create_lake(storage)
    assert lake == create_lake(storage) == read_lake(storage) == require_lake(storage)
    assert lake.creates_exclusively
    assert len(lake.lake_id) == 32


def test_all_who_make_it_at_once_get_the_same_lake(storage):
    found = []
    barrier = threading.Barrier(8)

    def make():
        barrier.wait()
        found.append(create_lake(open_storage(storage.url)))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8


def test_an_existing_lake_costs_one_request(storage):
    create_lake(storage)
    counting = CountingStorage(storage)
    create_lake(counting)
    assert dict(counting.requests) == {"GET": 1}


class Overwriting(WrappedStorage):
    """A store that ignores that a creation shall be exclusive."""

    def put_new(self, key, data):
        self.inner.put(key, data)
        return True


def test_a_store_that_overwrites_is_marked_in_the_lake(storage):
    lake = create_lake(Overwriting(storage))
    assert not lake.creates_exclusively
    assert read_lake(storage) == lake


@pytest.mark.parametrize("kind", ["before", "after", "late"])
def test_a_lost_request_can_be_repeated(storage, kind):
    faulty = FaultyStorage(storage, [Fault(kind, "put_new", LAKE_FILE)])
    with pytest.raises(StorageError):
        create_lake(faulty)
    lake = create_lake(faulty)
    faulty.quiet()
    assert read_lake(storage) == lake


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        *(
            json.dumps({**GOOD, **wrong}).encode()
            for wrong in (
                {"lake_id": "../../etc"},
                {"lake_id": 5},
                {"lake_id": "A" * 32},
                {"format": 0},
                {"format": True},
                {"format": "1"},
                {"format": None},
                {"creates_exclusively": "false"},
            )
        ),
        json.dumps({"format": 1}).encode(),
    ],
)
def test_what_is_no_lake_is_not_taken_for_one(storage, content):
    storage.put(LAKE_FILE, content)
    for read in (read_lake, require_lake, create_lake):
        with pytest.raises(CorruptObjectError, match="not the file of a lake"):
            read(storage)
    assert storage.get(LAKE_FILE) == content


@pytest.mark.parametrize("rest", [{}, {"lake_id": "in another way"}])
def test_a_newer_lake_asks_for_a_newer_version(storage, rest):
    storage.put(LAKE_FILE, json.dumps({"format": 2, **rest}).encode())
    with pytest.raises(UnsupportedFormatError, match=r"format 2.*pip install --upgrade"):
        create_lake(storage)


def test_unknown_fields_are_fine(storage):
    storage.put(LAKE_FILE, json.dumps({**GOOD, "more": [1]}).encode())
    assert read_lake(storage).lake_id == "a" * 32
