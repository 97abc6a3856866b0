"""A store in a dict whose clock the test turns, and the rows and objects that the tests of commits use."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from metrics_lake.commits.actions import new_table_actions
from metrics_lake.errors import ObjectNotFoundError
from metrics_lake.layout import InboxName, log_key, parse_inbox_key
from metrics_lake.schema import arrow_schema
from metrics_lake.storage import ObjectInfo, Storage


class DictStorage(Storage):
    """Objects in a dict; ``now`` is the store's clock, ``hook(when, operation, key)`` sees every call."""

    def __init__(self) -> None:
        self.url = "dict://lake"
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.now = 1_000_000.0
        self.calls: list[tuple[str, str]] = []
        self.hook = lambda when, operation, key: None

    def _call(self, operation, key, act):
        self.calls.append((operation, key))
        self.hook("before", operation, key)
        result = act()
        self.hook("after", operation, key)
        return result

    def put_new(self, key, data):
        def act():
            if key in self.objects:
                return False
            self.objects[key] = (bytes(data), self.now)
            return True

        return self._call("put_new", key, act)

    def put(self, key, data):
        self._call("put", key, lambda: self.objects.__setitem__(key, (bytes(data), self.now)))

    def get(self, key, start=None, end=None):
        def act():
            if key not in self.objects:
                raise ObjectNotFoundError(f"There is no object {key!r}.", key=key)
            return self.objects[key][0][start:end]

        return self._call("get", key, act)

    def get_many(self, ranges):
        return [self.get(*each) for each in ranges]

    def list(self, prefix):
        def act():
            return [
                ObjectInfo(key, len(data), modified)
                for key, (data, modified) in sorted(self.objects.items())
                if key.startswith(prefix)
            ]

        return self._call("list", prefix, act)

    def delete(self, keys):
        for key in keys:
            self._call("delete", key, lambda key=key: self.objects.pop(key, None))


def writer_id(number: int) -> str:
    return f"{number:032x}"


def make_rows(writer: str, first: int, last: int, *, resource: str = "run", month: int = 1) -> pa.Table:
    """Return one row a sequence number; the value is the sequence number."""
    seqs = list(range(first, last + 1))
    n = len(seqs)
    start = 1_700_000_000_000_000 + (month - 1) * 31 * 86_400_000_000
    columns = {
        "resource": [resource] * n,
        "metric": ["loss"] * n,
        "step": seqs,
        "timestamp": pa.array([start + seq for seq in seqs], pa.timestamp("us", tz="UTC")),
        "value": [float(seq) for seq in seqs],
        "kind": ["float"] * n,
        "text": [None] * n,
        "tags": [None] * n,
        "tags_key": [""] * n,
        "writer": [writer] * n,
        "seq": seqs,
        "origin": [None] * n,
    }
    schema = arrow_schema("metrics")
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema)


def inbox_name(writer: str, first: int, last: int, *, is_end: bool = False) -> InboxName:
    return InboxName(writer, first, last, "metrics", "2026-11-20", is_end)


class World:
    """A lake that is changed by hand."""

    def __init__(self) -> None:
        self.storage = DictStorage()

    def publish(self, writer, first, last, *, is_end=False, data=b"x"):
        name = inbox_name(writer, first, last, is_end=is_end)
        self.storage.put_new(name.key, data)
        return name

    def commit(self, version, *watermarks):
        """Commit bare watermarks: ``(writer, first, last)`` each."""
        lines = []
        if version == 0:
            lines = [json.dumps(action) for action in new_table_actions("metrics", "table-id", 0)]
        for writer, first, last in watermarks:
            app = f"ml:{writer}" if first == 0 else f"ml:{writer}@{first}"
            lines.append(json.dumps({"txn": {"appId": app, "version": last}}))
        self.storage.put_new(log_key("metrics", version), "\n".join(lines).encode())

    def collect(self, *names):
        self.storage.delete([name.key for name in names])

    @staticmethod
    def rows_of(snapshot):
        """Return every (writer, seq) that the inbox and pending rows of a snapshot give, in order."""
        found = [
            (live.name.writer, seq)
            for live in snapshot.inbox
            for first, last in live.keep
            for seq in range(first, last + 1)
        ]
        for run in snapshot.pending:
            assert run.rows.num_rows == run.last - run.first + 1
            found.extend((run.writer, seq) for seq in run.rows["seq"].to_pylist())
        return found


@pytest.fixture
def world():
    return World()


@pytest.fixture
def make():
    """Return the makers of ids, rows and names."""

    class Make:
        writer = staticmethod(writer_id)
        rows = staticmethod(make_rows)
        name = staticmethod(inbox_name)
        parse = staticmethod(parse_inbox_key)

    return Make
