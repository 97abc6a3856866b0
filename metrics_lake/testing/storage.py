"""What every storage must do, as tests: subclass ``StorageSuite`` and give it a ``storage`` fixture."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from metrics_lake.errors import InvalidInputError, ObjectNotFoundError
from metrics_lake.storage import Creation, Storage

__all__ = ["StorageSuite"]

_ABC = bytes(range(26))


class StorageSuite:
    """Conformance tests of one storage.

    A subclass named ``Test…`` defines a fixture ``storage`` that returns an empty ``Storage`` of its own for
    each test::

        class TestMyStore(StorageSuite):
            @pytest.fixture
            def storage(self, tmp_path):
                return open_storage(tmp_path / "lake")

    Attributes:
        num_listed: How many objects the test of a long listing makes; above 1,000 is more than a page.
        num_racers: How many threads race for one key.
    """

    num_listed: ClassVar[int] = 1_100
    num_racers: ClassVar[int] = 12

    def test_url_is_absolute_and_has_no_trailing_slash(self, storage: Storage) -> None:
        """The url reads back in its one form."""
        assert "://" in storage.url or Path(storage.url).is_absolute()
        assert not storage.url.endswith("/")

    @pytest.mark.parametrize("data", [b"", b"x", b"\0\r\n\xff" * 1000, bytes(5 << 20)], ids=len)
    def test_bytes_come_back_as_they_were(self, storage: Storage, data: bytes) -> None:
        """Any bytes, none at all and some megabytes of them."""
        assert storage.put_new("inbox/metrics/a.parquet", data) is True
        assert storage.get("inbox/metrics/a.parquet") == data
        assert [info.size_bytes for info in storage.list("")] == [len(data)]

    def test_views_are_written_like_bytes(self, storage: Storage) -> None:
        """A memoryview, as Arrow's buffers give it, is data too."""
        assert storage.put_new("a", memoryview(b"0123456789")[2:5]) is True
        storage.put("b", memoryview(b"0123456789")[5:])
        assert (storage.get("a"), storage.get("b")) == (b"234", b"56789")

    def test_put_new_keeps_what_was_there(self, storage: Storage) -> None:
        """A second creation is refused, with the same bytes as with others."""
        assert storage.put_new("a/b", b"first") is True
        assert storage.put_new("a/b", b"first") is False
        assert storage.put_new("a/b", b"second, longer") is False
        assert storage.get("a/b") == b"first"

    def test_put_new_has_one_winner(self, storage: Storage) -> None:
        """Of many threads exactly one creates the object, and it is that one's whole."""
        start = threading.Barrier(self.num_racers)

        def race(number: int) -> bool:
            start.wait()
            return storage.put_new("race/one", bytes([number]) * 50_000)

        with ThreadPoolExecutor(self.num_racers) as pool:
            won = list(pool.map(race, range(self.num_racers)))
        assert won.count(True) == 1
        assert storage.get("race/one") == bytes([won.index(True)]) * 50_000

    def test_put_new_after_delete_creates(self, storage: Storage) -> None:
        """A deleted key is free again."""
        storage.put_new("a", b"1")
        storage.delete(["a"])
        assert storage.put_new("a", b"2") is True
        assert storage.get("a") == b"2"

    def test_put_replaces(self, storage: Storage) -> None:
        """Hints are overwritten, by longer and by shorter ones."""
        for data in (b"one", b"three", b"2"):
            storage.put("metrics/_delta_log/_last_checkpoint", data)
            assert storage.get("metrics/_delta_log/_last_checkpoint") == data

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            "a/./b",
            ".a",
            "a/.b",
            "A",
            "a b",
            "a%20b",
            "a\\b",
            "ä",
            "a\n",
        ],
    )
    def test_keys_that_stores_disagree_on_are_refused(self, storage: Storage, key: str) -> None:
        """Only ``[a-z0-9/_=.-]`` is written, and nothing leads out of the url."""
        with pytest.raises(InvalidInputError):
            storage.put_new(key, b"x")
        with pytest.raises(InvalidInputError):
            storage.put(key, b"x")
        assert storage.list("") == []

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../../b", "a\0b"])
    def test_reading_never_leaves_the_url(self, storage: Storage, key: str) -> None:
        """Foreign names may have any characters, but no way up."""
        with pytest.raises(InvalidInputError):
            storage.get(key)
        with pytest.raises(InvalidInputError):
            storage.delete([key])

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            *[(None, None), (0, None), (None, 5), (0, 26), (3, 9), (25, 26), (20, 99), (26, 30), (99, 100)],
            *[(7, 7), (26, None), (99, None), (-1, None), (-26, None), (-99, None)],
        ],
    )
    def test_ranges_are_those_of_a_slice(self, storage: Storage, start: int | None, end: int | None) -> None:
        """A range is clipped to the object; a negative start counts from its end."""
        storage.put_new("a", _ABC)
        assert storage.get("a", start, end) == _ABC[start:end]

    @pytest.mark.parametrize(("start", "end"), [(None, None), (0, 10), (5, None), (-5, None)])
    def test_ranges_of_nothing_are_empty(self, storage: Storage, start: int | None, end: int | None) -> None:
        """An empty object has every range, and it is empty."""
        storage.put_new("a", b"")
        assert storage.get("a", start, end) == b""

    @pytest.mark.parametrize(("start", "end"), [(5, 4), (-5, 3), (0, -1)])
    def test_ranges_that_are_none_are_refused(self, storage: Storage, start: int, end: int) -> None:
        """An end before the start, or counted from the end."""
        storage.put_new("a", _ABC)
        with pytest.raises(InvalidInputError):
            storage.get("a", start, end)

    @pytest.mark.parametrize(
        "key", ["nothing", "inbox", "inbox/metrics", "inbox/metrics/a/b", "inbox/metrics/"]
    )
    def test_absent_object_says_which(self, storage: Storage, key: str) -> None:
        """Neither a folder nor what would lie below a file is an object."""
        storage.put_new("inbox/metrics/a", b"x")
        if key.endswith("/"):
            key = key.rstrip("/")
        with pytest.raises(ObjectNotFoundError) as caught:
            storage.get(key)
        assert caught.value.key == key
        assert caught.value.retryable is False

    def test_get_many_keeps_the_order(self, storage: Storage) -> None:
        """Ranges of several objects, repeated and overlapping, in the order asked."""
        keys = [f"month=2026-0{number}/{number}.parquet" for number in range(1, 4)]
        for number, key in enumerate(keys):
            storage.put_new(key, bytes([number]) + _ABC)
        ranges = [(keys[2], 0, 1), (keys[0], 1, 27), (keys[2], 0, 2), (keys[1], 20, 99), (keys[0], 5, 5)]
        assert storage.get_many(ranges) == [b"\2", _ABC, b"\2\0", _ABC[19:], b""]
        assert storage.get_many([]) == []
        assert storage.get_many([(keys[1], 0, 3)] * 100) == [b"\1\0\1"] * 100

    def test_get_many_says_which_object_is_absent(self, storage: Storage) -> None:
        """One absent object fails the call, by name."""
        storage.put_new("a", _ABC)
        with pytest.raises(ObjectNotFoundError) as caught:
            storage.get_many([("a", 0, 5), ("b", 0, 5), ("a", 5, 9)])
        assert caught.value.key == "b"

    def test_list_of_nothing_is_empty(self, storage: Storage) -> None:
        """Neither an absent url nor an absent prefix is an error."""
        assert storage.list("") == []
        assert storage.list("inbox/metrics/") == []
        storage.put_new("inbox/other/a", b"x")
        assert storage.list("inbox/metrics/") == []
        assert storage.list("inbox/other/a/") == []

    def test_list_is_sorted_by_bytes(self, storage: Storage) -> None:
        """By the keys' bytes: ``-`` and ``.`` come before ``/``, which stores of folders do not do."""
        keys = ["a-b", "a.b", "a/b", "a/b.c/d", "a/b=c", "a/c/d", "a=b", "a_b", "ab", "b/0", "b/10", "b/9"]
        for key in reversed(keys):
            storage.put_new(key, key.encode())
        found = storage.list("")
        assert [info.key for info in found] == sorted(keys, key=str.encode)
        assert [info.size_bytes for info in found] == [len(info.key) for info in found]

    def test_list_takes_any_beginning(self, storage: Storage) -> None:
        """A prefix is a beginning of the key, not a folder: neighbours stay out, parts of names are in."""
        for key in ("inbox/m/1", "inbox/m/d=1/2", "inbox/m2/3", "inbox/n/4", "inboxes/5"):
            storage.put_new(key, b"x")

        def keys(prefix: str) -> list[str]:
            return [info.key for info in storage.list(prefix)]

        assert keys("inbox/m/") == ["inbox/m/1", "inbox/m/d=1/2"]
        assert keys("inbox/m") == ["inbox/m/1", "inbox/m/d=1/2", "inbox/m2/3"]
        assert keys("inbox/m/d=") == ["inbox/m/d=1/2"]
        assert keys("inbox/m/1") == ["inbox/m/1"]
        assert len(keys("in")) == 5

    def test_list_is_complete_beyond_a_page(self, storage: Storage) -> None:
        """Stores answer a thousand keys at a time."""
        keys = [
            f"inbox/metrics/date=2026-01-{number % 28 + 1:02d}/{number:06d}"
            for number in range(self.num_listed)
        ]
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda key: storage.put_new(key, b"x"), keys))
        assert [info.key for info in storage.list("inbox/")] == sorted(keys)
        storage.delete(keys)
        assert storage.list("inbox/") == []

    def test_list_is_fresh(self, storage: Storage) -> None:
        """What was just put is there, what was just deleted is not; nothing is cached."""
        for number in range(5):
            storage.put_new(f"a/{number}", b"x")
            assert len(storage.list("a/")) == number + 1
        for number in range(5):
            storage.delete([f"a/{number}"])
            assert len(storage.list("a/")) == 4 - number

    def test_times_never_go_back(self, storage: Storage) -> None:
        """An object that was put later is not older, by the store's clock."""
        for number in range(3):
            storage.put_new(f"a/{number}", b"x")
        times = [info.modified for info in storage.list("a/")]
        assert times == sorted(times)
        assert times[-1] - times[0] < 60
        assert times[0] > 1_600_000_000

    def test_delete_takes_absent_keys(self, storage: Storage) -> None:
        """Deleting is idempotent, and only what was named goes."""
        for key in ("a/1", "a/2", "a/3"):
            storage.put_new(key, b"x")
        storage.delete(["a/1", "a/absent", "nowhere/else"])
        storage.delete(["a/1", "a/3"])
        storage.delete(["a/1"])
        storage.delete([])
        assert [info.key for info in storage.list("")] == ["a/2"]

    def test_exclusive_creation_is_proved_and_written_down(self, storage: Storage) -> None:
        """The probe's object says what it found, and is there once."""
        assert storage.create_exclusively_or_mark("_lake.json", b"yes", b"no") is Creation.EXCLUSIVE
        assert storage.honours_exclusive_create is True
        assert storage.get("_lake.json") == b"yes"
        assert storage.create_exclusively_or_mark("_lake.json", b"other", b"no") is Creation.EXISTS
        assert storage.get("_lake.json") == b"yes"

    def test_local_paths_are_files(self, storage: Storage) -> None:
        """A local storage shows its files; others say that they have none."""
        storage.put_new("a/b=c/d.parquet", b"x")
        if storage.is_local:
            assert Path(storage.local_path("a/b=c/d.parquet")).read_bytes() == b"x"
        else:
            with pytest.raises(InvalidInputError):
                storage.local_path("a/b=c/d.parquet")
        assert not (storage.is_local and storage.is_remote)

    def test_pickle_keeps_the_place(self, storage: Storage) -> None:
        """A storage that was used travels to other processes."""
        storage.put_new("a", b"x")
        assert pickle.loads(pickle.dumps(storage)).url == storage.url  # noqa: S301 -- our own

    def test_closed_storage_opens_again(self, storage: Storage) -> None:
        """Closing lets connections go, twice too, and a later call has new ones."""
        with storage:
            storage.put_new("a", b"x")
        storage.close()
        assert storage.get("a") == b"x"

    def test_threads_share_one_storage(self, storage: Storage) -> None:
        """Many threads put, list and get at once; each sees its own."""

        def work(number: int) -> bool:
            key = f"t/{number}"
            storage.put_new(key, key.encode())
            listed = any(info.key == key for info in storage.list("t/"))
            return listed and storage.get(key) == key.encode()

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(40)))
