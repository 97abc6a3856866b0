"""A lake under a clock of its own, changed by writers and maintainers, and read with every row checked."""

from __future__ import annotations

import threading
from collections import Counter

import pyarrow as pa
import pytest

from metrics_lake.commits import TableLog, decode_rows, encode_rows, take_snapshot
from metrics_lake.errors import ObjectNotFoundError
from metrics_lake.layout import InboxName
from metrics_lake.schema import arrow_schema
from metrics_lake.storage import ObjectInfo, Storage
from metrics_lake.testing import WrappedStorage

TABLE = "metrics"


class DictStorage(Storage):
    """Objects in a dict; the quickest store there is, and one that can be copied."""

    def __init__(self, objects=None) -> None:
        self.url = "dict://lake"
        self.objects: dict[str, tuple[bytes, float]] = dict(objects or {})
        self.now = 1_000_000.0
        self._lock = threading.Lock()

    def put_new(self, key, data):
        with self._lock:
            if key in self.objects:
                return False
            self.objects[key] = (bytes(data), self.now)
            return True

    def put(self, key, data):
        self.objects[key] = (bytes(data), self.now)

    def get(self, key, start=None, end=None):
        found = self.objects.get(key)
        if found is None:
            raise ObjectNotFoundError(f"There is no object {key!r}.", key=key)
        return found[0][start:end]

    def get_many(self, ranges):
        return [self.get(*each) for each in ranges]

    def list(self, prefix):
        with self._lock:
            items = sorted(self.objects.items())
        return [ObjectInfo(key, len(data), time) for key, (data, time) in items if key.startswith(prefix)]

    def delete(self, keys):
        for key in keys:
            self.objects.pop(key, None)


class ClockedStorage(WrappedStorage):
    """Any storage, under a clock that the test turns."""

    def __init__(self, inner) -> None:
        super().__init__(inner, is_local=False)
        self.now = 1_000_000.0
        self._times: dict[str, float] = {}

    def put_new(self, key, data):
        created = self.inner.put_new(key, data)
        if created:
            self._times[key] = self.now
        return created

    def put(self, key, data):
        self.inner.put(key, data)
        self._times[key] = self.now

    def list(self, prefix):
        return [
            ObjectInfo(info.key, info.size_bytes, self._times.get(info.key, self.now))
            for info in self.inner.list(prefix)
        ]


def writer_id(number: int) -> str:
    return f"{number:032x}"


def make_rows(writer, first, last, *, resource="run", origin=None, days=0, values=None):
    """Return one row a sequence number; the value says which row it is."""
    seqs = list(range(first, last + 1))
    n = len(seqs)
    start = 1_700_000_000_000_000 + days * 86_400_000_000
    columns = {
        "resource": [resource] * n,
        "metric": [f"m{seq % 3}" for seq in seqs],
        "step": seqs,
        "timestamp": [start + seq for seq in seqs],
        "value": [int(writer, 16) * 1e6 + seq for seq in seqs] if values is None else values,
        "kind": ["float"] * n,
        "tags_key": [""] * n,
        "writer": [writer] * n,
        "seq": seqs,
        "origin": [origin] * n,
    }
    schema = arrow_schema(TABLE)
    return pa.table(
        [pa.array(columns.get(field.name, [None] * n), field.type) for field in schema], schema=schema
    )


def no_sleep(seconds):
    pass


class Lab:
    """A lake, what was acknowledged, and what was deleted."""

    def __init__(self, storage=None) -> None:
        self.storage = DictStorage() if storage is None else storage
        self.acknowledged: set[tuple[str, str, int]] = set()
        self.deleted: set[tuple[str, str, int]] = set()

    def copy(self):
        """Return the same lake, to be changed apart from this one."""
        twin = Lab(DictStorage(self.storage.objects))
        twin.storage.now = self.storage.now
        twin.acknowledged = set(self.acknowledged)
        twin.deleted = set(self.deleted)
        return twin

    def log(self, storage=None):
        """Return a log as a new process has it."""
        return TableLog(self.storage if storage is None else storage, TABLE)

    def publish(
        self, number, first, last, *, storage=None, resource=None, is_end=False, days=0, date="2026-11-20"
    ):
        writer = writer_id(number)
        resource = f"run-{number}" if resource is None else resource
        name = InboxName(writer, first, last, TABLE, date, is_end)
        rows = make_rows(writer, first, last, resource=resource, days=days)
        data = encode_rows(TABLE, rows, metadata={}, presorted=False)
        (self.storage if storage is None else storage).put_new(name.key, data)
        self.acknowledged |= {(resource, writer, seq) for seq in range(first, last + 1)}
        return name

    def end(self, number, first, **settings):
        return self.publish(number, first, first - 1, is_end=True, **settings)

    def snapshot(self, log=None):
        return take_snapshot(self.storage, self.log() if log is None else log, tuple)

    def read(self, log=None, storage=None):
        """Return every row of one snapshot as (resource, writer, seq); what is gone means a new snapshot."""
        storage = self.storage if storage is None else storage
        log = self.log(storage) if log is None else log
        for _ in range(100):
            snapshot = take_snapshot(storage, log, tuple)
            try:
                return self.rows_of(snapshot, storage)
            except ObjectNotFoundError:
                continue
        raise AssertionError("no snapshot could be read")

    def rows_of(self, snapshot, storage=None):
        storage = self.storage if storage is None else storage
        tables = [
            decode_rows(TABLE, storage.get(file.key), key=file.key, columns=["resource", "writer", "seq"])
            for file in snapshot.log.files
        ]
        for live in snapshot.inbox:
            rows = decode_rows(
                TABLE, storage.get(live.name.key), key=live.name.key, columns=["resource", "writer", "seq"]
            )
            tables += [rows.slice(first - live.name.first, last - first + 1) for first, last in live.keep]
        found = []
        for rows in tables:
            found += zip(*(rows[name].to_pylist() for name in ("resource", "writer", "seq")), strict=True)
        return found

    def check(self, log=None):
        """Read all rows and compare them with what was acknowledged and not deleted."""
        found = self.read(log)
        repeated = [row for row, times in Counter(found).items() if times > 1]
        assert not repeated, f"{len(repeated)} rows twice, such as {repeated[0]}"
        expected = self.acknowledged - self.deleted
        assert set(found) == expected, (
            f"missing {sorted(expected - set(found))[:3]}, too many {sorted(set(found) - expected)[:3]}"
        )


@pytest.fixture
def lab():
    return Lab()


@pytest.fixture
def tools():
    class Tools:
        Lab = Lab
        ClockedStorage = ClockedStorage
        DictStorage = DictStorage
        make_rows = staticmethod(make_rows)
        writer = staticmethod(writer_id)
        no_sleep = staticmethod(no_sleep)

    return Tools
