"""Everything at once: writers that deliver twice, compactors, merges, deletes, bulk commits and vacuums that
die at any operation, requests that linger, and readers that check every single read."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

import pyarrow as pa
import pytest

from metrics_lake.commits import TableLog, encode_rows
from metrics_lake.errors import CommitUnknownError, StorageError
from metrics_lake.layout import InboxName
from metrics_lake.maintenance.bulk import publish_bulk
from metrics_lake.maintenance.collecting import collect_inbox
from metrics_lake.maintenance.compaction import compact_inbox, merge_files
from metrics_lake.maintenance.deleting import delete_rows
from metrics_lake.maintenance.selection import Condition
from metrics_lake.maintenance.vacuuming import vacuum
from metrics_lake.storage import open_storage
from metrics_lake.testing import CrashError, FaultyStorage

TABLE = "metrics"
MINUTE, DAY = 60.0, 86_400.0


class Truth:
    """What was acknowledged and deleted, under one lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.offered: set[tuple[str, str, int]] = set()
        self.acknowledged: set[tuple[str, str, int]] = set()
        self.closed: list[str] = []  # resources that nobody writes to any more
        self.doomed: set[str] = set()  # resources whose delete has begun
        self.deleted: set[str] = set()  # resources whose delete has returned
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.stop = threading.Event()

    def has_seen_everything(self):
        done = ("Compactor done", "Reader done", "FreshReader done", "Cleaner done", "Writer done")
        crashed = any(name.endswith("crashed") for name in list(self.counts))
        return crashed and all(self.counts[name] for name in done)

    def fail(self, message):
        with self.lock:
            self.failures.append(message)
        self.stop.set()


class Actor(threading.Thread):
    """One process: it acts, dies, and starts again."""

    crashes = True

    def __init__(self, truth, storage, tools, seed) -> None:
        super().__init__(daemon=True)
        self.truth, self.shared, self.tools = truth, storage, tools
        self.random = random.Random(seed)
        self.restart()

    def restart(self):
        if hasattr(self, "storage"):
            self.storage.deliver()  # what was under way when the process died arrives after all
        self.storage = FaultyStorage(
            self.shared,
            rates={"after": 0.02, "before": 0.02, "late": 0.02, "duplicate": 0.05},
            seed=self.random.random(),
            crash_at=self.random.randrange(3, 150) if self.crashes else None,
        )
        self.log = self.open_log()

    def open_log(self):
        """Return the log as a new process has it: the months that pass at the store pass for it too."""
        return TableLog(self.storage, TABLE, boot_clock=lambda: self.shared.now)

    def run(self):
        try:
            while not self.truth.stop.is_set():
                try:
                    self.act()
                    self.truth.counts[f"{type(self).__name__} done"] += 1
                except CrashError:
                    self.truth.counts[f"{type(self).__name__} crashed"] += 1
                    self.restart()
                except StorageError as error:
                    self.truth.counts[f"{type(self).__name__} {type(error).__name__}"] += 1
                    self.storage.deliver()
        except BaseException as error:  # noqa: BLE001 -- a test reports whatever went wrong
            self.truth.fail(f"{type(self).__name__}: {error!r}")

    def until_done(self, call):
        """Repeat an idempotent call through failures and deaths."""
        while not self.truth.stop.is_set():
            try:
                call()
            except CrashError:
                self.restart()
            except CommitUnknownError:
                self.storage.deliver()
            except StorageError:
                continue
            else:
                return True
        return False


class Writer(Actor):
    def __init__(self, truth, storage, tools, seed) -> None:
        super().__init__(truth, storage, tools, seed)
        self.writer = tools.writer(seed + 1)
        self.next = 0
        self.segments = []

    def act(self):
        if len(self.segments) > 60:
            time.sleep(0.01)
            return
        resource = f"{self.writer[-2:]}/{len(self.segments) // 6}"
        first, last = self.next, self.next + self.random.randrange(8)
        rows = self.tools.make_rows(self.writer, first, last, resource=resource)
        identities = {(resource, self.writer, seq) for seq in range(first, last + 1)}
        with self.truth.lock:
            self.truth.offered |= identities
        if not self.until_done(lambda: self.put(first, last, rows)):
            return
        self.segments.append((first, last, rows))
        self.next = last + 1
        with self.truth.lock:
            self.truth.acknowledged |= identities
            if len(self.segments) % 6 == 0:
                self.truth.closed.append(resource)
        if self.random.random() < 0.2:
            self.put(*self.random.choice(self.segments))  # delivered again, perhaps long collected
        if self.random.random() < 0.1 and len(self.segments) > 1:
            (start, _, one), (_, end, two) = self.segments[-2:]
            self.put(start, end, pa.concat_tables([one, two]))  # another cut of the same sequence
        time.sleep(self.random.random() * 0.03)

    def put(self, first, last, rows):
        name = InboxName(self.writer, first, last, TABLE, "2026-11-20", False)
        self.storage.put_new(name.key, encode_rows(TABLE, rows, metadata={}, presorted=False))


class Compactor(Actor):
    def act(self):
        budget = self.random.choice([None, None, 30_000])
        compact_inbox(self.storage, self.log, budget_bytes=budget, sleep=pause)
        if self.random.random() < 0.7:
            merge_files(self.storage, self.log, sleep=pause)
        if self.random.random() < 0.3:
            collect_inbox(self.storage, self.log)


class Deleter(Actor):
    def act(self):
        with self.truth.lock:
            candidates = [each for each in self.truth.closed if each not in self.truth.doomed]
            if len(candidates) < 3:
                candidates = []
            resource = self.random.choice(candidates) if candidates else None
            if resource is not None:
                self.truth.doomed.add(resource)
        if resource is None:
            time.sleep(0.02)
            return
        condition = Condition(resources=(resource,))
        if self.until_done(lambda: delete_rows(self.storage, self.log, condition, sleep=pause)):
            with self.truth.lock:
                self.truth.deleted.add(resource)


class Importer(Actor):
    number = 0

    def act(self):
        self.number += 1
        writer = self.tools.writer(10_000 + self.number)
        rows = self.tools.make_rows(writer, 0, 4, resource=f"bulk/{self.number}")
        identities = {(f"bulk/{self.number}", writer, seq) for seq in range(5)}
        with self.truth.lock:
            self.truth.offered |= identities
        key = f"import {self.number}"
        if self.until_done(lambda: publish_bulk(self.storage, self.log, rows, key=key, sleep=pause)):
            with self.truth.lock:
                self.truth.acknowledged |= identities
        time.sleep(0.1)


class Cleaner(Actor):
    def act(self):
        self.shared.now += self.random.choice([MINUTE, 11 * MINUTE, 11 * MINUTE, 8 * DAY])
        vacuum(self.storage, self.log, sleep=pause)
        time.sleep(0.05)


class Reader(Actor):
    crashes = False
    fresh = False

    def restart(self):
        self.storage = self.shared
        self.log = self.open_log()

    def act(self):
        if self.fresh:
            self.restart()
        with self.truth.lock:
            before = set(self.truth.acknowledged)
            gone = set(self.truth.deleted)
        found = self.tools.Lab(self.shared).read(self.log)
        with self.truth.lock:
            doomed, offered = set(self.truth.doomed), set(self.truth.offered)
        rows = set(found)
        if len(rows) != len(found):
            self.truth.fail(f"twice: {[row for row, n in Counter(found).items() if n > 1][:3]}")
        if missing := {row for row in before - rows if row[0] not in doomed}:
            self.truth.fail(f"missing: {sorted(missing)[:3]}, {len(missing)} in all")
        if undead := {row for row in rows if row[0] in gone}:
            self.truth.fail(f"deleted and there: {sorted(undead)[:3]}")
        if invented := rows - offered:
            self.truth.fail(f"never written: {sorted(invented)[:3]}")


class FreshReader(Reader):
    fresh = True


def pause(seconds):
    time.sleep(min(seconds, 0.01))


def stress(storage, tools, seconds, seed):
    truth = Truth()
    shared = tools.ClockedStorage(storage)
    actors = [Writer(truth, shared, tools, seed * 100 + index) for index in range(4)]
    kinds = [Compactor, Compactor, Deleter, Importer, Cleaner, Reader, FreshReader]
    actors += [kind(truth, shared, tools, seed * 100 + 50 + index) for index, kind in enumerate(kinds)]
    for actor in actors:
        actor.start()
    truth.stop.wait(seconds)
    end = time.monotonic() + 60  # a busy machine gets the time it needs
    while time.monotonic() < end and not truth.failures and not truth.has_seen_everything():
        truth.stop.wait(0.2)
    truth.stop.set()
    for actor in actors:
        actor.join(60)
        assert not actor.is_alive()
    for actor in actors:
        if isinstance(actor.storage, FaultyStorage):
            actor.storage.deliver()
    assert truth.failures == []
    # and in the end, by a handle that opens the lake anew
    lab = tools.Lab(shared)
    found = lab.read()
    assert len(found) == len(set(found))
    expected = {row for row in truth.acknowledged if row[0] not in truth.doomed}
    assert expected <= set(found) <= truth.offered
    assert not [row for row in found if row[0] in truth.deleted]
    compact_inbox(shared, lab.log(), sleep=pause)
    merge_files(shared, lab.log(), sleep=pause)
    shared.now += 9 * DAY
    vacuum(shared, lab.log(), sleep=pause)
    assert sorted(lab.read()) == sorted(found)
    state = lab.log().refresh()
    data = {info.key for info in shared.list("metrics/month=")}
    assert data == set(state.entries)
    return truth.counts


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["dict", "memory", "local"])
def test_nothing_is_ever_lost_doubled_or_undead(kind, tools, memory_url, local_url):
    storage = {
        "dict": tools.DictStorage,
        "memory": lambda: open_storage(memory_url),
        "local": lambda: open_storage(local_url),
    }[kind]()
    counts = stress(storage, tools, 5.0, seed=random.randrange(10**6))
    assert counts["Compactor done"]
    assert counts["Reader done"]
    assert sum(number for name, number in counts.items() if name.endswith("crashed"))


@pytest.mark.timeout(240)
def test_nothing_is_ever_lost_doubled_or_undead_on_s3(tools, s3_url, s3_options):
    with open_storage(s3_url, s3_options) as storage:
        counts = stress(storage, tools, 8.0, seed=random.randrange(10**6))
    assert counts["Reader done"]


# -- planted defects: the stress must find each of them ---------------------------------------------------


def without_watermark_rule(monkeypatch):
    from dataclasses import replace

    from metrics_lake.commits import transaction

    rule = transaction.conflict_of
    monkeypatch.setattr(
        transaction, "conflict_of", lambda mine, won, table: rule(replace(mine, consumed={}), won, table)
    )


def without_remove_rule(monkeypatch):
    from dataclasses import replace

    from metrics_lake.commits import transaction

    rule = transaction.conflict_of
    monkeypatch.setattr(
        transaction, "conflict_of", lambda mine, won, table: rule(replace(mine, removes=()), won, table)
    )


def without_recognising_own_commits(monkeypatch):
    from dataclasses import replace

    from metrics_lake.commits import TableLog

    read = TableLog.read_commit

    def blind(self, version):
        found = read(self, version)
        return None if found is None else replace(found, info={**found.info, "txnId": "somebody"})

    monkeypatch.setattr(TableLog, "read_commit", blind)


@pytest.mark.timeout(280)
@pytest.mark.parametrize(
    "plant", [without_watermark_rule, without_remove_rule, without_recognising_own_commits]
)
def test_the_stress_finds_planted_defects(plant, tools, monkeypatch):
    plant(monkeypatch)
    for attempt in range(25):  # one of the first finds it, unless the machine has better things to do
        try:
            stress(tools.DictStorage(), tools, 8.0, seed=attempt)
        except AssertionError:
            return
    raise AssertionError("the defect was not noticed")
