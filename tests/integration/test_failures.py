"""What goes wrong around a writer: the store, the disk, copies of its state, another lake in its place."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import threading
import time
from pathlib import Path

import pytest

from metrics_lake import MetricsLake
from metrics_lake.errors import (
    ConflictError,
    JournalError,
    JournalFullError,
    LakeNotFoundError,
    MetricsLakeWarning,
    NotPublishedError,
    PermissionDeniedError,
    StorageError,
)
from metrics_lake.journal import adopt_orphans, host_id, unbound_name
from metrics_lake.layout import inbox_prefix, parse_inbox_key
from metrics_lake.points import Point, header_frame
from metrics_lake.reader import Reader
from metrics_lake.schema import METRICS
from metrics_lake.storage import open_storage
from metrics_lake.testing import CountingStorage, Fault, FaultyStorage, WrappedStorage
from metrics_lake.writer import Writer, WriterSettings, journaling, publishing


class Breakable(WrappedStorage):
    """A store that is down while ``is_down``: every request fails, or the one that ``error`` says."""

    is_down = False
    error: type[StorageError] = StorageError

    def _do(self, name, *arguments):
        if self.is_down:
            raise self.error(f"planted: {name}")
        return getattr(self.inner, name)(*arguments)

    def put_new(self, key, data):
        return self._do("put_new", key, data)

    def put(self, key, data):
        return self._do("put", key, data)

    def get(self, key, start=None, end=None):
        return self._do("get", key, start, end)

    def list(self, prefix):
        return self._do("list", prefix)


class Desk:
    """A store and writers on it, all of one machine."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        self.inner = open_storage(folder / "lake")
        self.storage = Breakable(self.inner, is_local=False)
        self._writers = []

    def writer(self, **settings):
        writer = Writer(
            self.storage, WriterSettings(**{"state_dir": self.state, "flush_seconds": 60.0, **settings})
        )
        self._writers.append(writer)
        return writer

    def values(self, writer=None):
        """Return what a new reader sees, or one that sees a writer's own points too, by seq."""
        reader = Reader(self.inner) if writer is None else Reader(self.storage, pending=writer.pending)
        rows = reader.history(full=True).arrow().sort_by([("timestamp", "ascending")])
        return rows.column("value").to_pylist()

    def names(self):
        names = [parse_inbox_key(info.key) for info in self.inner.list(inbox_prefix(METRICS))]
        return sorted(name for name in names if name is not None)

    def objects_with_rows(self):
        return [name for name in self.names() if name.last >= name.first]

    def journals(self):
        return [path for path in self.state.glob("*/*/*") if path.is_dir()]

    def close(self):
        self.storage.is_down = False
        for writer in self._writers:
            writer.close(5)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setattr("metrics_lake.writer.threads._FIRST_RETRY_SECONDS", 0.02)
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def log(writer, *values):
    for value in values:
        writer.log_point("r", "m", value, None, None, None, None)


def wait_until(is_so, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def die(writer):
    """Leave what a killed process leaves: its journal as it is, without its lock."""
    with writer._lock:
        writer._is_closing = True
        writer._segments.clear()
        writer._outbox.queue.clear()
    writer._publisher.stop()
    writer._syncer.stop()
    writer._let_go()


def not_published(action, *arguments):
    with pytest.raises(NotPublishedError) as caught:
        action(*arguments)
    return caught.value


# -- the store is down ---------------------------------------------------------------------------------------


def test_flush_and_close_say_what_is_left_and_where(desk):
    writer = desk.writer()
    log(writer, 1.0)
    writer.flush()
    desk.storage.is_down = True
    log(writer, 2.0, 3.0)
    with pytest.warns(MetricsLakeWarning, match="planted") as warned:
        errors = [
            not_published(*call) for call in ((writer.flush,), (writer.flush, 0.2), (writer.close, 0.2))
        ]
    assert len(warned) == 1, "once"
    error, later, last = errors
    assert error.points == later.points == last.points == 2
    assert Path(error.path).is_dir()
    assert error.path in str(error)
    assert "metrics-lake recover" in str(error)
    assert error.retryable
    with pytest.raises(NotPublishedError):
        writer.flush()  # closed, and it says so at once
    desk.storage.is_down = False
    heir = desk.writer()
    log(heir, 4.0)
    heir.flush()
    assert desk.values() == [1.0, 2.0, 3.0, 4.0]
    assert [name.is_end for name in desk.names() if name.writer != heir.status("off").writer][-1]


def test_publishing_goes_on_by_itself_when_the_store_is_back(desk):
    writer = desk.writer(flush_seconds=0.01)
    log(writer, 1.0)
    wait_until(lambda: desk.values() == [1.0])
    desk.storage.is_down = True
    log(writer, 2.0)
    with pytest.warns(MetricsLakeWarning, match="tried again"):
        wait_until(lambda: writer.status("off").problems)
    assert writer.status("off").pending_points == 1
    log(writer, 3.0)
    desk.storage.is_down = False
    wait_until(lambda: desk.values() == [1.0, 2.0, 3.0])
    wait_until(lambda: not writer.status("off").problems)
    assert writer.status("off").pending_bytes == 0


def test_attempts_become_rarer(desk, monkeypatch):
    monkeypatch.setattr("metrics_lake.writer.threads._LAST_RETRY_SECONDS", 0.16)
    writer = desk.writer(flush_seconds=0.0)
    log(writer, 1.0)
    wait_until(lambda: desk.values() == [1.0])
    attempts = []
    monkeypatch.setattr(desk.storage, "_do", lambda *_: attempts.append(time.monotonic()) or fail())

    def fail():
        raise StorageError("planted")

    log(writer, 2.0)
    with pytest.warns(MetricsLakeWarning):
        wait_until(lambda: len(attempts) >= 7)
    monkeypatch.undo()
    waits = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert waits[0] < waits[2] < waits[4]
    assert min(waits[4:]) > 0.1


def test_the_store_is_down_at_the_first_log(desk, monkeypatch):
    monkeypatch.setattr(journaling, "MAX_CALL_ROWS", 10)
    desk.storage.is_down = True
    writer = desk.writer(flush_seconds=0.01)

    def log_offline():
        log(writer, *map(float, range(35)))
        wait_until(lambda: writer._publisher.failed_rounds > 2)
        # All segments but the last are sealed, synced and closed: they must move as well.
        wait_until(lambda: len(writer._syncer._segments) <= 1)

    with pytest.warns(MetricsLakeWarning, match="cannot be reached") as warned:
        log_offline()
    assert len(warned) == 1
    (journal,) = desk.journals()
    assert journal.parent.parent.name.startswith("unbound-")
    assert [row for run in writer.pending(METRICS) for row in run.rows.column("value").to_pylist()] == list(
        map(float, range(35))
    )
    desk.storage.is_down = False
    log(writer, 35.0)
    writer.flush(20)
    assert desk.values() == list(map(float, range(36)))
    assert writer.status("off").problems == ()
    log(writer, 36.0)
    (journal,) = desk.journals()
    assert journal.parent.parent.name == writer.status("off").lake_id


def test_a_read_finds_own_points_of_a_lake_that_could_not_be_made_yet(tmp_path, s3_url, s3_server, s3_proxy):
    options = s3_server.options(endpoint_url=s3_proxy.url)
    with MetricsLake(s3_url, storage_options=options, state_dir=tmp_path, flush_seconds=60) as lake:
        s3_proxy.outage()
        with pytest.warns(MetricsLakeWarning, match="cannot be reached"):
            lake.log_metric("r", "m", 1.0)
        s3_proxy.heal()
        assert lake.get_metric("r", "m") == 1.0


def test_points_of_a_process_that_never_reached_the_store_are_adopted(desk):
    desk.storage.is_down = True
    writer = desk.writer()
    with pytest.warns(MetricsLakeWarning):
        log(writer, 1.0, 2.0)
    die(writer)
    desk.storage.is_down = False
    heir = desk.writer()
    log(heir, 3.0)
    heir.flush()
    assert desk.values() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("error", [PermissionDeniedError])
def test_a_misconfiguration_raises_at_the_first_log(desk, error):
    desk.storage.is_down = True
    desk.storage.error = error
    writer = desk.writer()
    with pytest.raises(error):
        log(writer, 1.0)
    assert desk.journals() == []
    desk.storage.is_down = False
    log(writer, 2.0)
    writer.flush()
    assert desk.values() == [2.0]


def test_at_exit_it_is_only_a_warning(desk):
    writer = desk.writer()
    log(writer, 1.0)
    desk.storage.is_down = True
    with pytest.warns(MetricsLakeWarning) as warned:
        writer.finish(is_last=True, timeout_seconds=0.1)
    assert str(warned[-1].message).startswith("metrics_lake at exit: 1 point is in the journal")
    desk.storage.is_down = False
    heir = desk.writer()
    log(heir, 2.0)
    heir.flush()
    assert desk.values() == [1.0, 2.0]


def test_leaving_a_with_block_keeps_its_own_exception(tmp_path):
    lake = MetricsLake(tmp_path / "lake", state_dir=tmp_path / "state")
    lake.log_metric("r", "m", 1.0)
    lake.flush()
    shutil.move(tmp_path / "lake" / "inbox", tmp_path / "away")
    (tmp_path / "lake" / "inbox").touch()
    lake.log_metric("r", "m", 2.0)
    with pytest.warns(MetricsLakeWarning), pytest.raises(ZeroDivisionError) as caught, lake.resource("r"):
        raise ZeroDivisionError
    assert any("point is in the journal" in note for note in caught.value.__notes__)
    with pytest.raises(NotPublishedError), lake.resource("r"):
        pass
    (tmp_path / "lake" / "inbox").unlink()
    shutil.move(tmp_path / "away", tmp_path / "lake" / "inbox")
    lake.close()


@pytest.mark.parametrize("kind", ["before", "after", "late", "duplicate"])
def test_a_lost_request_is_repeated_and_shows_once(desk, kind):
    desk.storage.inner = FaultyStorage(desk.inner, [Fault(kind, "put_new", "inbox/metrics/date=")])
    writer = desk.writer()
    log(writer, 1.0, 2.0)
    if kind == "duplicate":
        writer.flush(20)
    else:
        with pytest.warns(MetricsLakeWarning):
            writer.flush(20)
    desk.storage.inner.quiet()
    assert desk.values() == [1.0, 2.0]
    assert len(desk.objects_with_rows()) == 1


def test_memory_stays_flat_while_the_store_is_down(family, tmp_path):
    report = tmp_path / "report.json"
    pid = family.fork(
        "log_offline",
        url=str(tmp_path / "lake"),
        handle={"state_dir": str(tmp_path / "state"), "flush_seconds": 0.2},
        report=str(report),
        points=1_000_000,
        per_call=50,
    )
    assert family.wait(pid) == 0
    found = json.loads(report.read_text())
    assert found["pending"] == 1_000_000
    growth = found["used"][-1] - found["used"][2]
    assert growth < 24 << 20, f"{growth:,} bytes more for 700,000 points"
    # All of them are there for the next process.
    (tmp_path / "lake" / "inbox").unlink()
    (tmp_path / "lake" / "inbox-away").rename(tmp_path / "lake" / "inbox")
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "state") as lake:
        assert lake.get_metric("r", "m49") == 19_999.0
        assert len(lake.history("r", "m7")) == 20_000


# -- the journal is full -------------------------------------------------------------------------------------


def test_a_full_journal_raises_and_drops_nothing(desk):
    writer = desk.writer(journal_max_bytes=2000)
    log(writer, 0.0)
    writer.flush()
    desk.storage.is_down = True

    def fill():
        try:
            for number in range(1, 1000):
                log(writer, float(number))
        finally:
            wait_until(lambda: writer.status("off").problems)

    with (
        pytest.warns(MetricsLakeWarning),
        pytest.raises(JournalFullError, match="nothing of this call") as caught,
    ):
        fill()
    assert caught.value.retryable
    pending = writer.status("off").pending_points
    assert 10 < pending < 100
    with pytest.raises(JournalFullError):
        writer.log_points([], None, None, None)
    desk.storage.is_down = False
    writer.flush(20)
    log(writer, -1.0)
    writer.flush()
    assert desk.values() == [*map(float, range(pending + 1)), -1.0]


def test_a_full_journal_makes_room_by_itself(desk):
    # The cap is smaller than a segment, and the flush would come in a minute.
    writer = desk.writer(journal_max_bytes=2000)

    def log_all():
        for number in range(300):
            while True:
                try:
                    log(writer, float(number))
                    break
                except JournalFullError:
                    time.sleep(0.001)

    log_all()
    writer.flush()
    assert desk.values() == list(map(float, range(300)))


def test_a_full_journal_blocks_when_told_to(desk):
    writer = desk.writer(journal_max_bytes=2000, on_full="block")
    log(writer, 0.0)
    writer.flush()
    desk.storage.is_down = True
    done = threading.Event()

    def run():
        log(writer, *map(float, range(1, 200)))
        done.set()

    thread = threading.Thread(target=run)

    def block():
        thread.start()
        wait_until(lambda: writer._is_full())
        assert not done.wait(0.3)

    with pytest.warns(MetricsLakeWarning):
        block()
    desk.storage.is_down = False
    assert done.wait(20)
    writer.flush(20)
    assert desk.values() == list(map(float, range(200)))


def test_a_blocked_call_ends_when_the_handle_is_closed(desk):
    writer = desk.writer(journal_max_bytes=500, on_full="block")
    log(writer, 0.0)
    writer.flush()
    desk.storage.is_down = True
    ended = []

    def run():
        try:
            log(writer, *map(float, range(1, 200)))
        except StorageError as error:
            ended.append(error)

    thread = threading.Thread(target=run)

    def block_and_close():
        thread.start()
        wait_until(lambda: writer._is_full())
        not_published(writer.close, 0.1)
        thread.join(20)

    with pytest.warns(MetricsLakeWarning):
        block_and_close()
    assert len(ended) == 1


def test_a_full_disk_refuses_calls_whole_and_the_next_one_works(desk):
    writer = desk.writer()
    log(writer, 0.0)
    (file,) = desk.state.rglob("*.seg")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    logged = [0.0]
    refused = 0
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 1000, before[1]))
        for number in range(1, 60):
            try:
                if number % 3:
                    log(writer, float(number))
                else:
                    points = [Point(("r", f"new-{number}", ""), 0, float(number), None)] * 3
                    writer.log_points(points, None, None, None)
                    logged += [float(number)] * 2
                logged.append(float(number))
            except JournalFullError:
                refused += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused > 10
    log(writer, 100.0)
    writer.flush()
    assert desk.values() == [*logged, 100.0]


# -- no folder for the journal -------------------------------------------------------------------------------


def test_without_a_folder_the_journal_is_memory_and_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("METRICS_LAKE_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "home"))
    lake = MetricsLake(tmp_path / "lake")
    assert lake.status().durability == "logged"
    with pytest.warns(MetricsLakeWarning, match="METRICS_LAKE_STATE") as warned:
        lake.log_metric("r", "m", 1.0)
    assert len(warned) == 1
    assert lake.status().durability == "memory"
    assert lake.get_metric("r", "m") == 1.0
    lake.close()
    with MetricsLake(tmp_path / "lake", read_only=True) as reader:
        assert reader.get_metric("r", "m") == 1.0


def test_a_named_folder_that_cannot_be_written_is_an_error_of_the_log_only(tmp_path):
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "state") as lake:
        lake.log_metric("r", "m", 1.0)
    (tmp_path / "file").touch()
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "file") as lake:
        assert lake.get_metric("r", "m") == 1.0
        with pytest.raises(JournalError, match="cannot be used"):
            lake.log_metric("r", "m", 2.0)


# -- copies of a writer's state ------------------------------------------------------------------------------


def copy_of_state(desk, name="copy"):
    """Copy the state folder as a backup does, locks and all."""
    copy = desk.folder / name
    shutil.copytree(desk.state, copy)
    return copy


def test_a_copied_state_beside_the_living_original_repeats_nothing(desk):
    writer = desk.writer()
    log(writer, 1.0, 2.0, 3.0)
    copy = copy_of_state(desk)
    log(writer, 4.0)
    heir = desk.writer(state_dir=copy)
    log(heir, 10.0)
    heir.flush()
    assert sorted(desk.values()) == [1.0, 2.0, 3.0, 10.0], "the copy's rows, once"
    log(writer, 5.0)
    writer.flush()
    assert sorted(desk.values()) == [1.0, 2.0, 3.0, 4.0, 5.0, 10.0], "two cuts of one sequence"
    log(writer, 6.0)
    writer.close()
    assert sorted(desk.values()) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0]


def test_two_copies_that_are_adopted_repeat_nothing(desk):
    writer = desk.writer()
    log(writer, 1.0, 2.0)
    copies = [copy_of_state(desk, name) for name in ("one", "two")]
    die(writer)
    for state in (desk.state, *copies):
        heir = desk.writer(state_dir=state)
        heir.adopt(heir.connect())
    assert desk.values() == [1.0, 2.0]
    assert len(desk.objects_with_rows()) == 1
    assert desk.journals() == []


def same_identity(writer, other):
    """Make a second writer with the identity of the first, as a restored machine's process is."""
    other._id = writer._id
    other._journal.directory.rename(other._journal.directory.with_name(writer._id))
    other._journal.directory = other._journal.directory.with_name(writer._id)


def cloned_pair(desk):
    writer, clone = desk.writer(), desk.writer(state_dir=desk.folder / "clone")
    for each in (writer, clone):
        each._open()
    same_identity(writer, clone)
    return writer, clone


def test_other_rows_under_the_same_identity_go_on_under_a_new_one(desk):
    writer, clone = cloned_pair(desk)
    log(writer, 1.0, 2.0, 3.0)
    writer.flush()

    def log_others():
        # Cut like the other's: the same name, other rows; and more behind them.
        log(clone, 10.0, 20.0, 30.0)
        with clone._lock:
            clone._seal_all()
        log(clone, 40.0)
        clone.flush(20)

    with pytest.warns(MetricsLakeWarning, match="used by another process too"):
        log_others()
    log(writer, 4.0)
    writer.flush()
    everything = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]
    assert sorted(desk.values()) == everything
    assert clone.status("off").writer != writer.status("off").writer
    assert clone.status("off").pending_points == 0
    assert clone.status("off").pending_bytes == 0
    for each in (writer, clone):
        each.close()
    assert sorted(desk.values()) == everything
    ends = [name.writer for name in desk.names() if name.is_end]
    assert sorted(ends) == sorted({name.writer for name in desk.names()}), "each ends once"


def test_flush_waits_for_the_rows_under_their_new_identity(desk):
    writer, clone = cloned_pair(desk)
    log(writer, 1.0)
    writer.flush()
    log(clone, 10.0)
    with pytest.warns(MetricsLakeWarning, match="used by another"):
        receipt = clone.flush()
    assert receipt.points == 1
    assert sorted(desk.values()) == [1.0, 10.0]


def test_a_cloned_orphan_is_published_under_a_new_identity(desk):
    writer, clone = cloned_pair(desk)
    log(writer, 1.0)
    writer.flush()
    clone._publisher.stop()
    log(clone, 10.0)
    with clone._lock:
        clone._seal_all()
    log(clone, 20.0)
    die(clone)
    heir = desk.writer(state_dir=desk.folder / "clone")
    with pytest.warns(MetricsLakeWarning, match="used by another"):
        heir.adopt(heir.connect())
    assert sorted(desk.values()) == [1.0, 10.0, 20.0]
    log(writer, 2.0)
    writer.close()
    assert sorted(desk.values()) == [1.0, 2.0, 10.0, 20.0]


def test_another_hosts_journal_is_left_to_it(desk):
    writer = desk.writer()
    log(writer, 1.0)
    journal = Path(writer.status("off").journal)
    die(writer)
    other = journal.parent.with_name("0" * 16)
    journal.parent.rename(other)
    heir = desk.writer()
    log(heir, 2.0)
    heir.flush()
    assert desk.values() == [2.0]
    assert host_id() != "0" * 16
    (orphan,) = adopt_orphans([other])
    assert orphan.segments[0].row_count == 1
    orphan.close()


def test_another_lakes_journal_is_left_alone(desk, tmp_path):
    writer = desk.writer()
    log(writer, 1.0)
    die(writer)
    with MetricsLake(tmp_path / "other lake", state_dir=desk.state) as lake:
        lake.log_metric("r", "m", 5.0)
        assert lake.history("r").values("value") == [5.0]
    assert len(desk.journals()) == 1


def test_a_segment_that_names_another_lake_is_left_alone(desk):
    writer = desk.writer()
    log(writer, 1.0)
    (file,) = desk.state.rglob("*.seg")
    die(writer)
    # It lies where unbound journals of this url lie: the lake under the url was made anew.
    unbound = desk.state / unbound_name(desk.inner.url) / host_id()
    unbound.parent.mkdir()
    file.parent.parent.rename(unbound)
    shutil.rmtree(desk.folder / "lake")
    heir = desk.writer()
    with pytest.warns(MetricsLakeWarning, match="for another lake"):
        log(heir, 2.0)
    heir.flush()
    assert desk.values() == [2.0]
    assert list(unbound.rglob("*.seg"))


# -- a lake made anew ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_new", [True, False])
def test_a_lake_made_anew_is_never_mixed_with_the_old_one(desk, is_new):
    writer = desk.writer()
    log(writer, 1.0)
    writer.flush()
    log(writer, 2.0)
    shutil.rmtree(desk.folder / "lake")
    if is_new:
        with MetricsLake(desk.folder / "lake", state_dir=desk.folder / "another") as lake:
            lake.log_metric("r", "m", 100.0)
    with pytest.warns(MetricsLakeWarning, match="was deleted"):
        error = not_published(writer.flush)
    assert error.points == 1
    with pytest.raises(ConflictError, match="was deleted"):
        log(writer, 3.0)
    with pytest.raises(ConflictError, match="was deleted"):
        writer.log_points([], None, None, None)
    not_published(writer.close, 0.5)
    if is_new:
        assert desk.values() == [100.0]
        assert {name.writer for name in desk.names()} == {desk.objects_with_rows()[0].writer}
    else:
        with pytest.raises(LakeNotFoundError):
            MetricsLake(desk.folder / "lake", read_only=True).get_metric("r", "m")
    # The points of the old lake are kept, and no process mixes them in.
    heir = desk.writer()
    log(heir, 200.0)
    heir.flush()
    assert desk.values() == ([100.0, 200.0] if is_new else [200.0])
    assert len(desk.journals()) == 2


def test_a_reader_whose_lake_is_deleted_is_told_so(desk):
    writer = desk.writer()
    log(writer, 1.0)
    writer.flush()
    with MetricsLake(desk.folder / "lake", read_only=True) as lake:
        assert lake.get_metric("r", "m") == 1.0
        shutil.rmtree(desk.folder / "lake")
        for read in (lake.resources, lake.snapshot, lambda: lake.get_metric("r", "m")):
            with pytest.raises(LakeNotFoundError):
                len(str(read()))


def test_a_closed_writer_marks_no_end_in_a_lake_made_anew(desk):
    writer = desk.writer()
    log(writer, 1.0)
    writer.flush()
    shutil.rmtree(desk.folder / "lake")
    with MetricsLake(desk.folder / "lake", state_dir=desk.folder / "another") as lake:
        lake.log_metric("r", "m", 100.0)
    writer.close()
    assert len({name.writer for name in desk.names()}) == 1


# -- damage --------------------------------------------------------------------------------------------------


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def test_the_intact_beginning_of_a_damaged_segment_is_published(desk):
    writer = desk.writer()
    log(writer, *map(float, range(10)))
    (file,) = desk.state.rglob("*.seg")
    die(writer)
    flip(file, file.stat().st_size - 200)
    heir = desk.writer()
    with pytest.warns(MetricsLakeWarning, match="damaged behind its first 6 points"):
        heir.adopt(heir.connect())
    assert desk.values() == list(map(float, range(6)))
    assert [path.suffix for path in file.parent.iterdir() if path.name != "lock"] == [".damaged"]
    assert any("set aside" in problem for problem in heir.status("off").problems)
    log(heir, 100.0)
    heir.flush()  # of its own points nothing is missing
    assert 100.0 in desk.values()


def test_damage_to_ones_own_segment_is_raised_once(desk):
    writer = desk.writer()
    log(writer, *map(float, range(10)))
    (file,) = desk.state.rglob("*.seg")
    flip(file, file.stat().st_size - 1)
    with pytest.warns(MetricsLakeWarning, match="damaged"):
        error = not_published(writer.flush)
    assert "1 of its points" in str(error)
    log(writer, 20.0)
    writer.flush()
    assert writer.status("off").pending_points == 0


def test_a_state_folder_that_is_removed_under_a_writer_loses_nothing(desk):
    writer = desk.writer()
    log(writer, 1.0)
    shutil.rmtree(desk.state)
    log(writer, 2.0)
    with pytest.warns(MetricsLakeWarning, match="removed by somebody"):
        wait_until(lambda: writer.status("off").problems)
    assert desk.values(writer) == [1.0, 2.0]
    writer.flush()
    log(writer, 3.0)
    wait_until(lambda: not writer.status("off").problems)
    assert [journal.name for journal in desk.journals()] == [writer.status("off").writer]
    writer.flush()
    assert desk.values() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("how", ["cut", "gone", "garbage"])
def test_a_segment_that_somebody_else_touched_stops_nothing(desk, how):
    writer = desk.writer()
    log(writer, 1.0, 2.0)
    (file,) = desk.state.rglob("*.seg")
    if how == "cut":
        os.truncate(file, file.stat().st_size - 70)
    elif how == "gone":
        writer._segments[METRICS].release()  # nothing holds it any more
        file.unlink()
    else:
        file.write_bytes(b"\xff" * 500)
    with pytest.warns(MetricsLakeWarning):
        not_published(writer.flush)
    assert writer.status("off").pending_points == 0
    assert writer.status("off").pending_bytes == 0
    log(writer, 3.0)
    writer.flush()
    assert len(writer.status("off").problems) == 1


def test_a_newer_versions_segment_waits_for_it(desk):
    writer = desk.writer()
    log(writer, 1.0)
    (file,) = desk.state.rglob("*.seg")
    die(writer)
    newer = header_frame({"format": 2, "what": "ever"}) + b"x" * 50
    file.with_name("metrics.newer.seg").write_bytes(newer)
    heir = desk.writer()
    with pytest.warns(MetricsLakeWarning, match="newer version"):
        log(heir, 2.0)
    heir.flush()
    assert desk.values() == [1.0, 2.0]
    heir.close()
    assert file.with_name("metrics.newer.seg").read_bytes() == newer


# -- adoption ------------------------------------------------------------------------------------------------


def left_behind(desk, *values):
    writer = desk.writer()
    log(writer, *values)
    die(writer)


def test_a_first_read_adopts(desk):
    left_behind(desk, 1.0, 2.0)
    with MetricsLake(desk.folder / "lake", state_dir=desk.state) as lake:
        assert lake.history("r").values("value") == [1.0, 2.0]
    assert desk.journals() == []
    assert len(desk.objects_with_rows()) == 1


def test_a_read_only_handle_adopts_nothing(desk):
    left_behind(desk, 1.0)
    before = sorted(path for path in desk.folder.rglob("*"))
    with MetricsLake(desk.folder / "lake", state_dir=desk.state, read_only=True) as lake:
        assert lake.history("r").values("value") == []
    assert sorted(path for path in desk.folder.rglob("*")) == before


def test_a_read_makes_no_folder(desk):
    with MetricsLake(desk.folder / "lake", state_dir=desk.state) as lake:
        lake.log_metric("r", "m", 1.0)
    shutil.rmtree(desk.state)
    with MetricsLake(desk.folder / "lake", state_dir=desk.state) as lake:
        assert lake.get_metric("r", "m") == 1.0
    assert not desk.state.exists()


def test_what_cannot_be_published_now_is_read_from_the_journal(desk):
    left_behind(desk, 1.0, 2.0)
    heir = desk.writer()
    lake = heir.connect()
    put_new, desk.storage.put_new = desk.storage.put_new, planted_failure
    with pytest.warns(MetricsLakeWarning, match="wait in the journal"):
        heir.adopt(lake)
    assert desk.values(heir) == [1.0, 2.0]
    assert not_published(heir.flush).points == 2
    desk.storage.put_new = put_new
    assert heir.flush(20).points == 2
    assert desk.values(heir) == [1.0, 2.0]
    assert desk.journals() == []


def planted_failure(*_):
    raise StorageError("planted")


def test_a_closed_handle_leaves_what_it_adopted_to_others(desk):
    left_behind(desk, 1.0)
    heir = desk.writer()
    lake = heir.connect()
    desk.storage.put_new, put_new = planted_failure, desk.storage.put_new
    with pytest.warns(MetricsLakeWarning):
        heir.adopt(lake)
    not_published(heir.close, 0.1)
    desk.storage.put_new = put_new
    other = desk.writer()
    other.adopt(other.connect())
    assert desk.values() == [1.0]


def test_an_orphan_that_cannot_be_decoded_does_not_stop_the_living(desk, monkeypatch):
    monkeypatch.setattr("metrics_lake.points.decoding.KINDS", ("float",))
    left_behind(desk, 1.0, True)
    heir = desk.writer()
    with pytest.warns(MetricsLakeWarning, match="kind"):
        heir.adopt(heir.connect())
    log(heir, 2.0)
    heir.flush()
    assert desk.values() == [2.0]
    heir.close()
    monkeypatch.undo()
    other = desk.writer()
    other.adopt(other.connect())
    assert sorted(desk.values()) == [1.0, 1.0, 2.0]


def test_adopted_rows_cost_one_object_and_an_end(desk):
    left_behind(desk, 1.0)
    heir = desk.writer()
    counting = CountingStorage(desk.inner)
    desk.storage.inner = counting
    heir.adopt(heir.connect())
    assert counting.requests["PUT"] == 2
    assert [(name.first, name.last, name.is_end) for name in desk.names()] == [(0, 0, False), (1, 0, True)]


# -- planted defects: the tests see what they are for --------------------------------------------------------


def test_planted_a_replay_with_another_cut_still_shows_each_row_once(desk):
    # Two processes publish the same journal, one of them a longer cut: each row once all the same.
    left_behind(desk, 1.0, 2.0, 3.0)
    copy = copy_of_state(desk)
    (file,) = copy.rglob("*.seg")
    os.truncate(file, file.stat().st_size - 60)  # the copy was made in the middle of the last write
    for state in (copy, desk.state):
        heir = desk.writer(state_dir=state)
        heir.adopt(heir.connect())
    assert [(name.first, name.last) for name in desk.objects_with_rows()] == [(0, 1), (0, 2)]
    assert desk.values() == [1.0, 2.0, 3.0]


def test_planted_without_the_digest_a_clone_loses_its_rows(desk, monkeypatch):
    writer, clone = cloned_pair(desk)
    log(writer, 1.0)
    writer.flush()
    log(clone, 10.0)
    monkeypatch.setattr(
        publishing, "_digest_of", lambda storage, key: clone._outbox.queue[0].content().digest
    )
    clone.flush()
    monkeypatch.undo()
    assert desk.values() == [1.0], "the defect is seen"


def test_planted_a_segment_that_is_published_unsealed_takes_no_more_points(desk, monkeypatch):
    writer = desk.writer()
    log(writer, 1.0)
    segment = writer._segments[METRICS]
    # Queued while calls still append to it: those behind the cut would go with the file.
    monkeypatch.setattr(writer._publisher, "_seal_all", lambda: None)
    monkeypatch.setattr(writer, "_seal_all", lambda: writer._outbox.queue.append(segment))
    writer.flush()
    with pytest.raises(JournalError):
        log(writer, 2.0)
    monkeypatch.undo()
    with pytest.warns(MetricsLakeWarning, match="removed by somebody"):
        not_published(writer.flush)
    assert desk.values() == [1.0]
