"""A writer's directory: whose it is, who may take it over, and what is left of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from metrics_lake.errors import JournalError, UnsupportedFormatError
from metrics_lake.journal import Identity, Journal, MemoryJournal, SegmentHeader, adopt_orphans
from metrics_lake.journal.locks import lock_file, unlock
from metrics_lake.points import header_frame


def name(number):
    return f"{number:032x}"


def header_of(writer, first=0):
    return SegmentHeader(writer=writer, table="metrics", first=first, date="2026-01-01", lake_id=None)


def log(segment, *values):
    for value in values:
        segment.append(segment.encoder.point(("r", "m", ""), 0, value, None, 1, None), 1)


def left_by_a_dead_process(root, number=1, segments=((0, (1.0, 2.0)),)):
    """Make a journal whose process is gone without having published."""
    journal = Journal(root, name(number))
    for first, values in segments:
        log(journal.open_segment(header_of(name(number), first)), *values)
    journal.close()
    return journal.directory


def values_of(orphan):
    return [
        value for segment in orphan.segments for value in segment.content().rows().column("value").to_pylist()
    ]


def test_a_living_journal_is_nobodys_orphan(tmp_path):
    journal = Journal(tmp_path, name(1))
    log(journal.open_segment(header_of(name(1))), 1.0)
    assert list(adopt_orphans([tmp_path])) == []
    journal.close()
    (orphan,) = adopt_orphans([tmp_path])
    assert values_of(orphan) == [1.0]
    assert list(adopt_orphans([tmp_path])) == [], "locked by whoever adopted it"
    orphan.close()


def test_an_empty_journal_removes_itself(tmp_path):
    journal = Journal(tmp_path, name(1))
    segment = journal.open_segment(header_of(name(1)))
    segment.discard()
    journal.close()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_segments_come_in_the_order_of_their_rows(tmp_path):
    left_by_a_dead_process(tmp_path, 1, [(10, (3.0,)), (0, (1.0,)), (9, (2.0,))])
    (orphan,) = adopt_orphans([tmp_path])
    assert values_of(orphan) == [1.0, 2.0, 3.0]
    orphan.close()


def test_what_holds_no_rows_is_tidied_up(tmp_path):
    directory = left_by_a_dead_process(tmp_path, 1, [(0, ())])
    (directory / "x.tmp").touch()
    assert list(adopt_orphans([tmp_path])) == []
    assert not directory.exists()


def test_absent_and_strange_places_are_fine(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "somebody's folder").mkdir()
    (tmp_path / name(7)).touch()
    assert list(adopt_orphans([tmp_path / "no", tmp_path / "file", tmp_path])) == []
    assert (tmp_path / "somebody's folder").exists()


def test_what_died_while_it_began_is_removed_later(tmp_path):
    fresh, old = tmp_path / f".new-{name(1)}", tmp_path / f".new-{name(2)}"
    for folder in (fresh, old):
        folder.mkdir()
        (folder / "lock").touch()
    os.utime(old, (time.time() - 7200,) * 2)
    assert list(adopt_orphans([tmp_path])) == []
    assert fresh.exists()
    assert not old.exists()


def test_damaged_and_newer_segments_do_not_hide_the_others(tmp_path):
    directory = left_by_a_dead_process(tmp_path, 1, [(0, (1.0,)), (1, (2.0,)), (2, (3.0,))])
    paths = sorted(directory.glob("*.seg"))
    paths[0].write_bytes(b"\xff" * 100)
    newer = header_frame({"format": 2, "schema": 1})
    paths[1].write_bytes(newer)
    (orphan,) = adopt_orphans([tmp_path])
    assert values_of(orphan) == [3.0]
    assert [type(error).__name__ for _, error in orphan.unreadable] == [
        "CorruptObjectError",
        "UnsupportedFormatError",
    ]
    assert paths[0].with_suffix(".damaged").read_bytes() == b"\xff" * 100
    assert paths[1].read_bytes() == newer
    orphan.segments[0].discard()
    orphan.close()
    # The damaged one was told of once; the newer one waits for its version.
    (orphan,) = adopt_orphans([tmp_path])
    assert [path for path, _ in orphan.unreadable] == [paths[1]]
    orphan.close()


def test_given_up_segments_stay_with_those_behind_them(tmp_path):
    left_by_a_dead_process(tmp_path, 1, [(0, (1.0,)), (1, (2.0,))])
    (orphan,) = adopt_orphans([tmp_path])
    orphan.give_up(orphan.segments[0], UnsupportedFormatError("newer"))
    assert orphan.segments == []
    assert len(orphan.unreadable) == 2
    orphan.close()
    (orphan,) = adopt_orphans([tmp_path])
    assert values_of(orphan) == [1.0, 2.0]
    orphan.close()


def test_a_new_identity_survives_a_death_in_its_middle(tmp_path):
    directory = left_by_a_dead_process(tmp_path, 1, [(5, (1.0, 2.0)), (7, (3.0,))])
    (orphan,) = adopt_orphans([tmp_path])
    identity = Identity(old=name(1), new=name(9), bases={"metrics": 5})
    segment = orphan.segments[0]
    # As ``restamp`` begins; then the process dies.
    (directory / "identity.json").write_text(
        json.dumps({"old": identity.old, "new": identity.new, "bases": identity.bases})
    )
    segment.restamp(identity.restamped(segment.header))
    orphan.close()
    (orphan,) = adopt_orphans([tmp_path])
    assert [(segment.header.writer, segment.header.first) for segment in orphan.segments] == [
        (name(9), 0),
        (name(9), 2),
    ]
    assert values_of(orphan) == [1.0, 2.0, 3.0]
    orphan.close()


def test_an_identity_that_cannot_be_read_leaves_all_as_it_is(tmp_path):
    directory = left_by_a_dead_process(tmp_path)
    (directory / "identity.json").write_text("{")
    (orphan,) = adopt_orphans([tmp_path])
    assert orphan.segments == []
    assert len(orphan.unreadable) == 1
    orphan.close()
    assert list(directory.glob("*.seg"))


def test_a_journal_moves_with_its_open_and_its_sealed_segments(tmp_path):
    journal = Journal(tmp_path / "unbound", name(1))
    sealed = journal.open_segment(header_of(name(1), 0))
    log(sealed, 1.0)
    sealed.seal()
    sealed.release()
    current = journal.open_segment(header_of(name(1), 1))
    log(current, 2.0)
    journal.move(tmp_path / "bound")
    log(current, 3.0)
    assert sealed.content().rows().column("value").to_pylist() == [1.0]
    assert current.content().rows().column("value").to_pylist() == [2.0, 3.0]
    assert list(adopt_orphans([tmp_path / "bound"])) == [], "still locked"
    journal.close()
    (orphan,) = adopt_orphans([tmp_path / "bound"])
    assert values_of(orphan) == [1.0, 2.0, 3.0]
    orphan.close()


def test_no_empty_folders_stay_and_nobody_elses_go(tmp_path):
    host, lake, unbound = "a" * 16, "b" * 32, f"unbound-{'c' * 16}"
    first = Journal(tmp_path / unbound / host, name(1))
    second = Journal(tmp_path / lake / host, name(2))
    first.move(tmp_path / lake / host)
    assert [path.name for path in tmp_path.iterdir()] == [lake]
    first.close()
    assert second.directory.exists()
    second.close()
    assert list(tmp_path.iterdir()) == []
    Journal(tmp_path / "own" / host, name(1)).close()
    assert (tmp_path / "own").exists()


def test_journals_are_made_while_others_remove_the_empty_folders(tmp_path):
    root = tmp_path / ("b" * 32) / ("a" * 16)

    def make_and_close(first):
        for number in range(first, first + 300):
            Journal(root, name(number)).close()

    threads = [threading.Thread(target=make_and_close, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_may_be_closed_while_it_is_synced(tmp_path):
    for number in range(300):
        journal = Journal(tmp_path / ("b" * 32) / ("a" * 16), name(number))
        syncing = threading.Thread(target=journal.sync)
        syncing.start()
        journal.close()
        syncing.join()


def test_a_removed_folder_is_made_anew_and_its_open_segments_are_read(tmp_path):
    journal = Journal(tmp_path / "a" / "b", name(1))
    first = journal.open_segment(header_of(name(1)))
    log(first, 1.0)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(JournalError, match="removed by somebody"):
        first.sync()
    assert first.needs_sync, "its descriptor is kept"
    assert first.content().rows().column("value").to_pylist() == [1.0]
    with pytest.raises(JournalError):
        journal.sync()
    second = journal.open_segment(header_of(name(1), 1))
    log(second, 2.0)
    second.sync()
    journal.sync()
    assert list(adopt_orphans([tmp_path / "a" / "b"])) == [], "locked again"
    first.discard()
    assert first.content() is None
    second.seal()
    journal.close()
    (orphan,) = adopt_orphans([tmp_path / "a" / "b"])
    assert values_of(orphan) == [2.0]
    orphan.close()


def test_a_removed_folder_is_an_error_of_the_call_and_not_of_the_close(tmp_path):
    journal = Journal(tmp_path / "a" / "b", name(1))
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").touch()
    with pytest.raises(JournalError):
        journal.open_segment(header_of(name(1)))
    with pytest.raises(JournalError):
        journal.sync()
    with pytest.raises(JournalError):
        journal.remember(Identity(old="a", new="b", bases={}))
    journal.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot be made.*METRICS_LAKE_STATE"):
        Journal(tmp_path / "file" / "x", name(1))
    Journal(tmp_path, name(1))
    with pytest.raises(JournalError):
        Journal(tmp_path, name(1))


@pytest.mark.skipif(os.getuid() != 0, reason="root may do everything: it must become somebody else")
def test_a_folder_without_rights_is_closed_as_it_is(tmp_path):
    (tmp_path / "state").mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    (tmp_path / "state").chmod(0o777)
    program = (
        "import fcntl, os, sys, pathlib\n"
        "from metrics_lake.journal import Journal\n"
        "os.setuid(65534)\n"
        "journal = Journal(pathlib.Path(sys.argv[1]), '1' * 32)\n"
        "journal.directory.chmod(0o555)\n"
        "journal.close()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "state")], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_belongs_to_somebody_else_is_left_alone(tmp_path):
    left_by_a_dead_process(tmp_path / "state", 1)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    program = (
        "import os, sys, pathlib\n"
        "from metrics_lake.journal import adopt_orphans\n"
        "os.setuid(65534)\n"
        "assert list(adopt_orphans([pathlib.Path(sys.argv[1])])) == []\n"
    )
    for mode in (0o700, 0o755):
        (tmp_path / "state").chmod(mode)
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "state")], check=True)
    (orphan,) = adopt_orphans([tmp_path / "state"])
    assert values_of(orphan) == [1.0, 2.0]
    orphan.close()


def test_a_memory_journal_needs_nothing():
    journal = MemoryJournal()
    segment = journal.open_segment(header_of(name(1)))
    log(segment, 1.0)
    journal.sync()
    journal.remember(Identity(old="a", new="b", bases={}))
    journal.abandon_in_child()
    journal.close()
    assert segment.content().row_count == 1


# -- locks ---------------------------------------------------------------------------------------------------


def test_a_lock_is_held_once(tmp_path):
    fd = lock_file(tmp_path / "lock")
    assert lock_file(tmp_path / "lock") is None
    unlock(fd)
    unlock(fd)
    again = lock_file(tmp_path / "lock")
    assert again is not None
    unlock(again)
    assert lock_file(tmp_path / "no" / "lock") is None


def fork_that_waits(stop_reading):
    """Fork a child that lives until its pipe is closed; return when it runs."""
    reading, writing = os.pipe()
    born, bear = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(bear, b"x")
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    os.read(born, 1)
    os.close(born)
    os.close(bear)
    stop_reading.append((pid, writing))
    return pid


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path):
    children = []
    fd = lock_file(tmp_path / "lock")
    fork_that_waits(children)
    unlock(fd)
    again = lock_file(tmp_path / "lock")
    assert again is not None, "the child holds its parent's lock"
    unlock(again)
    for pid, writing in children:
        os.close(writing)
        os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_no_fork_comes_between_opening_and_locking(tmp_path):
    children = []
    stop = threading.Event()
    locked = []

    def lock_and_unlock():
        number = 0
        while not stop.is_set():
            path = tmp_path / f"lock-{number}"
            number += 1
            fd = lock_file(path)
            unlock(fd)
            locked.append(path)

    worker = threading.Thread(target=lock_and_unlock)
    worker.start()
    for _ in range(20):
        fork_that_waits(children)
    stop.set()
    worker.join()
    held = [path for path in locked if (fd := lock_file(path)) is None or unlock(fd)]
    for pid, writing in children:
        os.kill(pid, signal.SIGKILL)
        os.close(writing)
        os.waitpid(pid, 0)
    assert held == [], "a child holds locks that its parent was just taking"


def test_the_names_of_all_new_folders_are_synced(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))
    )
    journal = Journal(tmp_path / "state" / "lake" / "host", name(1))
    journal.sync()
    assert synced == [str(path) for path in (journal.directory, *list(journal.directory.parents)[:4])]
    synced.clear()
    journal.sync()
    assert synced == [str(journal.directory)]
    journal.close()
