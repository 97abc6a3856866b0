"""A lake whose objects the test places one by one, and the plain Python answer to every question."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from metrics_lake import series
from metrics_lake.commits import DataFileBuilder, Intent, PendingRun, TableLog, commit
from metrics_lake.commits.datafile import split_by_month
from metrics_lake.commits.parquet import encode_rows
from metrics_lake.commits.sorting import sort_rows
from metrics_lake.layout import InboxName, sidecar_key
from metrics_lake.reader import Reader
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.storage import open_storage
from metrics_lake.tags import canonical_tags, tags_key
from metrics_lake.testing import CountingStorage
from metrics_lake.values import encode

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Row:
    """One stored point; ``timestamp`` in microseconds since 1970."""

    resource: str
    metric: str
    value: Any
    step: int | None = None
    timestamp: int = 1_790_000_000_000_000
    tags: tuple[tuple[str, str], ...] = ()
    writer: str = f"{1:032x}"
    seq: int = 0
    origin: str | None = None

    @property
    def tags_key(self):
        return tags_key(self.tags)

    @property
    def by_time(self):
        return (self.timestamp, self.writer.encode(), self.seq)

    @property
    def by_step(self):
        return (self.step is not None, self.step or 0, *self.by_time)

    @property
    def place(self):
        return (*(each.encode() for each in (self.resource, self.metric, self.tags_key)), *self.by_step)


def to_arrow(rows) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in arrow_schema(METRICS).names}
    for row in rows:
        kind, value, text = encode(row.value)
        for name in ("resource", "metric", "step", "timestamp", "tags_key", "writer", "seq", "origin"):
            columns[name].append(getattr(row, name))
        columns["value"].append(value)
        columns["kind"].append(kind)
        columns["text"].append(text)
        columns["tags"].append(list(row.tags) or None)
    return pa.table(columns, schema=arrow_schema(METRICS))


class Lake:
    """Objects under a storage, placed by hand."""

    def __init__(self, storage):
        self.storage = CountingStorage(storage)
        self.log = TableLog(storage, METRICS)
        self.pending: list[PendingRun] = []
        self.written: dict[str, int] = {}

    def reader(self, **options) -> Reader:
        return Reader(self.storage, pending=lambda table: list(self.pending), **options)

    def publish(self, rows) -> InboxName:
        """Put one inbox object with these rows of one writer, whose ``seq`` have no holes."""
        rows = list(rows)
        name = InboxName(rows[0].writer, rows[0].seq, rows[-1].seq, METRICS, "2026-11-01", is_end=False)
        data = encode_rows(METRICS, to_arrow(rows), metadata={}, presorted=False)
        self.storage.put_new(name.key, data)
        return name

    def hold(self, rows) -> None:
        """Add pending rows of one writer."""
        rows = list(rows)
        self.pending.append(PendingRun(rows[0].writer, rows[0].seq, rows[-1].seq, to_arrow(rows)))

    def compact(self, rows, consumed=None, *, sidecars=True, removes=(), foreign=None) -> list[str]:
        """Commit rows as data files, one a month, and return their keys; ``foreign`` encodes them."""
        files = []
        for month, part in split_by_month(to_arrow(rows)).items():
            part = sort_rows(METRICS, part)
            builder = DataFileBuilder(METRICS, month, with_float_stats=False)
            builder.add(part)
            data, new = builder.finish()
            if foreign is not None:
                data = foreign(part)
                file = replace(new.file, digest=None, bloom=None, is_ours=False, size_bytes=len(data))
                new = replace(new, file=file)
            elif sidecars:
                summary = series.encode(series.summarise(part))
                self.storage.put_new(sidecar_key(METRICS, new.file.key), summary)
            self.storage.put_new(new.file.key, data)
            files.append(new)
        intent = Intent("COMPACT", adds=tuple(files), consumed=consumed or {}, removes=tuple(removes))
        commit(self.log, self.log.refresh(), intent)
        return [new.file.key for new in files]

    def log_rows(self, resource, metric, values, *, writer=1, **fields) -> list[Row]:
        """Return rows of a writer that follow on its earlier ones; values are per row, fields shared."""
        name = f"{writer:032x}"
        first = self.written.get(name, 0)
        tags = canonical_tags(fields.pop("tags", None))
        steps = fields.pop("steps", [None] * len(values))
        start = fields.pop("timestamp", 1_790_000_000_000_000 + first * 1_000_000)
        rows = [
            Row(
                resource,
                metric,
                value,
                step=step,
                timestamp=start + 1_000_000 * at,
                tags=tags,
                writer=name,
                seq=first + at,
                **fields,
            )
            for at, (value, step) in enumerate(zip(values, steps, strict=True))
        ]
        self.written[name] = first + len(rows)
        return rows


@pytest.fixture(scope="session")
def support():
    """What tests build lakes with."""
    return SimpleNamespace(Lake=Lake, Row=Row, to_arrow=to_arrow, EPOCH=EPOCH)


@pytest.fixture(params=["local", "memory"])
def lake(request, tmp_path):
    """A new lake, local and in memory: the two ways in which rows are read."""
    url = str(tmp_path / "lake") if request.param == "local" else f"memory://{tmp_path.name}"
    return Lake(open_storage(url))
