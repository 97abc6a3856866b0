"""The whole lake against a plain model: any order of calls, crashes and maintenance."""

import datetime as dt
import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from metrics_lake import MetricsLake
from metrics_lake.journal import Journal
from metrics_lake.journal.locks import unlock

RESOURCES = st.sampled_from(["a", "b/1", "c=ü"])
METRICS = st.sampled_from(["loss", "acc"])
VALUES = st.one_of(
    st.floats(allow_nan=False), st.integers(-(2**70), 2**70), st.booleans(), st.text(max_size=5), st.none()
)
HANDLES = st.integers(0, 2)


@dataclass
class Row:
    """One row of the model; ``owner`` is the handle that alone sees it, None once it is published."""

    resource: str
    metric: str
    value: object
    owner: int | None
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)


class LakeMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.url = str(Path(self.folder.name) / "lake")
        self.state = str(Path(self.folder.name) / "state")
        self.rows: list[Row] = []
        self.lakes = [self.open() for _ in range(3)]
        self.log(0, "a", "loss", 0.5)  # the first write makes the lake

    def open(self):
        return MetricsLake(self.url, state_dir=self.state, flush_seconds=3600, compaction="off")

    def teardown(self):
        for lake in getattr(self, "lakes", []):
            lake.close()
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def publish(self, handle):
        for row in self.rows:
            if row.owner == handle:
                row.owner = None

    @rule(handle=HANDLES, resource=RESOURCES, metric=METRICS, value=VALUES)
    def log(self, handle, resource, metric, value):
        self.lakes[handle].log_metric(resource, metric, value)
        self.rows.append(Row(resource, metric, value, handle))

    @rule(handle=HANDLES, resource=RESOURCES, values=st.lists(st.floats(allow_nan=False), max_size=20))
    def log_series(self, handle, resource, values):
        self.lakes[handle].log_series(resource, "series", values)
        self.rows += [Row(resource, "series", value, handle) for value in values]

    @rule(handle=HANDLES)
    def flush(self, handle):
        self.lakes[handle].flush()
        self.publish(handle)

    @rule(handle=HANDLES)
    def reopen(self, handle):
        self.lakes[handle].close()
        self.publish(handle)
        self.lakes[handle] = self.open()

    @rule(handle=HANDLES)
    def die(self, handle):
        """As a killed process: locks go, nothing is published; the next handle adopts the journal."""
        writer = self.lakes[handle]._writer
        if isinstance(writer._journal, Journal):
            unlock(writer._journal._lock_fd)
            writer.begin_in_child()
        self.lakes[handle].close()
        self.lakes[handle] = self.open()
        self.lakes[handle].metric_ids("a")  # a first read adopts what the dead left
        self.publish(handle)

    @rule(handle=HANDLES)
    def compact(self, handle):
        self.lakes[handle].maintenance.compact()
        self.publish(handle)

    @rule(handle=HANDLES)
    def vacuum(self, handle):
        self.lakes[handle].maintenance.vacuum(retention=dt.timedelta(0))

    @rule(handle=HANDLES, resource=RESOURCES, purge=st.booleans())
    def delete(self, handle, resource, purge):
        self.publish(handle)
        gone = [row for row in self.rows if row.resource == resource and row.owner is None]
        if not gone:
            with pytest.raises(KeyError):
                self.lakes[handle].maintenance.delete(resource, dry_run=False, purge=purge)
            return
        done = self.lakes[handle].maintenance.delete(resource, dry_run=False, purge=purge)
        assert done.points == len(gone)
        self.rows = [row for row in self.rows if row not in gone]

    @rule(handle=HANDLES, source=RESOURCES, to=RESOURCES)
    def copy(self, handle, source, to):
        if source == to:
            return
        self.lakes[handle].flush()
        self.publish(handle)
        there = [row for row in self.rows if row.resource == source and row.owner is None]
        if not there:
            with pytest.raises(KeyError):
                self.lakes[handle].copy_metrics(source, to)
            return
        had = {row.identity for row in self.rows if row.resource == to}
        new = [Row(to, row.metric, row.value, None, row.identity) for row in there if row.identity not in had]
        assert self.lakes[handle].copy_metrics(source, to) == len(new)
        self.rows += new

    @invariant()
    def every_handle_sees_each_row_once(self):
        for handle, lake in enumerate(getattr(self, "lakes", [])):
            found = lake.history(full=True).rows()
            seen = [row for row in self.rows if row.owner in (None, handle)]
            assert Counter(map(_key, found)) == Counter((r.resource, r.metric, repr(r.value)) for r in seen)
            assert len({(row["resource"], row["writer"], row["seq"]) for row in found}) == len(found)
            for (resource, metric), newest in _latest(found).items():
                assert repr(lake.get_metric(resource, metric)) == repr(newest["value"])


def _key(row):
    return row["resource"], row["metric"], repr(row["value"])


def _latest(found):
    newest = {}
    for row in found:
        series = row["resource"], row["metric"]
        order = (row["timestamp"], row["writer"], row["seq"])
        if series not in newest or order > newest[series][0]:
            newest[series] = order, row
    return {series: row for series, (_, row) in newest.items()}


LakeMachine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLake = LakeMachine.TestCase
