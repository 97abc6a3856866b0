"""Segments: one frame whole or not at all, whatever the disk or a signal does."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys

import pytest

from metrics_lake.errors import CorruptObjectError, JournalError, JournalFullError, UnsupportedFormatError
from metrics_lake.journal import SegmentHeader, segments, utc_day
from metrics_lake.journal.content import parse_segment
from metrics_lake.journal.sealed import SealedFile, load_sealed
from metrics_lake.journal.segments import FileSegment, MemorySegment
from metrics_lake.points import Point, end_frame, frames, header_frame

WRITER = "0" * 31 + "1"
HEADER = SegmentHeader(writer=WRITER, table="metrics", first=5, date="2026-01-01", lake_id="f" * 32)


class Home:
    def __init__(self, directory):
        self.directory = directory


def segment_in(folder):
    return FileSegment(HEADER, Home(folder))


def log(segment, value, metric="m"):
    segment.append(segment.encoder.point(("r", metric, ""), 0, value, None, 1, None), 1)


def values_in(segment):
    return segment.content().rows().column("value").to_pylist()


@pytest.fixture(params=["file", "memory"])
def segment(request, tmp_path):
    made = segment_in(tmp_path) if request.param == "file" else MemorySegment(HEADER)
    yield made
    made.release()


def test_a_segment_holds_what_was_appended(segment):
    log(segment, 1.0)
    segment.append(segment.encoder.points([Point(("r", "a", ""), 0, 2.0, None)] * 3, 1, None), 3)
    assert segment.row_count == 4
    assert segment.end == 9
    content = segment.content()
    assert content.header == HEADER
    assert content.row_count == 4
    assert not content.is_end
    assert not content.tail_is_damaged
    rows = content.rows()
    assert rows.column("seq").to_pylist() == [5, 6, 7, 8]
    assert set(rows.column("writer").to_pylist()) == {WRITER}


def test_an_end_is_marked_and_nothing_else_changes(segment):
    log(segment, 1.0)
    digest = segment.content().digest
    segment.seal(is_end=True)
    assert segment.content().is_end
    assert segment.content().digest == digest
    assert segment.row_count == 1


def test_a_sealed_segment_forgets_its_series(segment):
    for number in range(100):
        log(segment, 1.0, f"m{number}")
    segment.seal()
    assert not segment.encoder._numbers


def test_restamping_keeps_the_rows_and_their_digest(segment):
    log(segment, 1.0)
    log(segment, -0.0)
    segment.seal(is_end=True)
    digest = segment.content().digest
    other = SegmentHeader(writer="2" * 32, table="metrics", first=0, date=HEADER.date, lake_id=HEADER.lake_id)
    new = segment.restamp(other)
    content = new.content()
    assert content.header == other
    assert content.digest == digest
    assert content.is_end
    assert content.rows().column("seq").to_pylist() == [0, 1]
    assert set(content.rows().column("writer").to_pylist()) == {"2" * 32}
    assert new.size_bytes == len(new.read(0, 1 << 20))


def test_a_discarded_segment_is_gone(segment):
    log(segment, 1.0)
    segment.discard()
    segment.discard()
    assert segment.read(0, 100) is None
    assert segment.content() is None


def test_a_file_segment_is_named_after_its_header(tmp_path):
    segment = segment_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"metrics.{WRITER}.{5:020d}.seg"]
    assert segment.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(JournalError, match="cannot be written"):
        _with_rows(tmp_path)
    segment.release()


def _with_rows(folder):
    FileSegment(HEADER, Home(folder)).discard()
    holder = segment_in(folder)
    log(holder, 1.0)
    holder.release()
    segment_in(folder)


def test_a_file_that_an_interrupted_opening_left_is_replaced(tmp_path):
    left = segment_in(tmp_path)
    left.release()
    segment = segment_in(tmp_path)
    log(segment, 1.0)
    assert values_in(segment) == [1.0]
    segment.release()


def test_a_segment_follows_its_home(tmp_path):
    home = Home(tmp_path / "a")
    home.directory.mkdir()
    segment = FileSegment(HEADER, home)
    log(segment, 1.0)
    segment.release()
    home.directory = home.directory.rename(tmp_path / "b")
    assert values_in(segment) == [1.0]
    segment.discard()
    assert not list((tmp_path / "b").iterdir())


def test_a_memory_segment_cannot_be_synced():
    with pytest.raises(JournalError, match="METRICS_LAKE_STATE"):
        MemorySegment(HEADER).sync()


def test_descriptors_are_given_back_once(tmp_path):
    segment = segment_in(tmp_path)
    assert segment.is_held
    segment.release()
    segment.release()
    assert not segment.is_held
    segment.sync()  # nothing to sync, nothing to fail


# -- full disks ----------------------------------------------------------------------------------------------


@pytest.fixture
def file_limit():
    """Sets how long a file may become: beyond it a write is short, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))

    yield limit
    limit(None)


@pytest.mark.parametrize("room", [0, 1, 11, 12, 40, 59])
def test_a_full_disk_leaves_nothing_of_the_call(tmp_path, file_limit, room):
    segment = segment_in(tmp_path)
    log(segment, 1.0)
    size = segment.size_bytes
    file_limit(size + room)
    with pytest.raises(JournalFullError, match="nothing of this call was logged") as caught:
        log(segment, 2.0, "new")
    assert caught.value.retryable
    assert segment.size_bytes == segment.path.stat().st_size == size
    assert segment.row_count == 1
    file_limit(None)
    log(segment, 3.0, "new")  # its series is defined again
    log(segment, 4.0)
    rows = segment.content().rows()
    assert rows.column("value").to_pylist() == [1.0, 3.0, 4.0]
    assert rows.column("metric").to_pylist() == ["m", "new", "m"]
    segment.release()


def test_a_full_disk_makes_no_segment(tmp_path, file_limit):
    file_limit(10)
    with pytest.raises(JournalFullError):
        segment_in(tmp_path)
    file_limit(None)
    assert not list(tmp_path.iterdir())
    segment_in(tmp_path).release()


def test_a_full_disk_only_loses_the_end_mark(tmp_path, file_limit):
    segment = segment_in(tmp_path)
    log(segment, 1.0)
    file_limit(segment.size_bytes + 3)
    segment.seal(is_end=True)
    file_limit(None)
    assert segment.is_sealed
    assert not segment.content().is_end
    assert values_in(segment) == [1.0]
    segment.release()


def test_a_frame_that_cannot_be_taken_back_seals(tmp_path, file_limit, monkeypatch):
    segment = segment_in(tmp_path)
    log(segment, 1.0)
    file_limit(segment.size_bytes + 20)

    def fail(*_):
        raise OSError(errno.EIO, "planted")

    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(JournalError):
        log(segment, 2.0)
    file_limit(None)
    assert segment.is_sealed
    assert values_in(segment) == [1.0]
    segment.release()


# -- signals -------------------------------------------------------------------------------------------------


class Interrupted(Exception):  # noqa: N818 -- what a handler raises: KeyboardInterrupt, a test's timeout
    pass


@pytest.mark.parametrize("error", [Interrupted, TimeoutError, KeyboardInterrupt])
def test_a_signal_never_parts_the_counters_from_the_file(tmp_path, error):
    segment = segment_in(tmp_path)
    attempts = 30_000
    told = []

    fired = []

    def handler(*_):
        # Only inside the journal: what is tested is not this test's own loop.
        frame = sys._getframe(1)
        if frame.f_code.co_filename in {segments.__file__, frames.__file__} and len(fired) < 400:
            fired.append(frame.f_lineno)
            raise error

    before = signal.signal(signal.SIGALRM, handler)
    number = 0
    interrupted = 0
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    while number < attempts:
        try:
            while number < attempts:
                number += 1
                log(segment, float(number), f"m{number % 1000}")
                told.append(float(number))
        except (error, JournalError):
            interrupted += 1
        except BaseException:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            raise
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert interrupted > 10
    content = segment.content()
    assert content.row_count == segment.row_count
    assert segment.size_bytes == segment.path.stat().st_size
    rows = content.rows()
    found = rows.column("value").to_pylist()
    assert sorted(set(found)) == found, "in order, none twice"
    assert set(told) <= set(found)
    # Each value under its own series: no number of a series was ever given twice.
    assert rows.column("metric").to_pylist() == [f"m{int(value) % 1000}" for value in found]
    segment.release()


# -- what replay makes of a file -----------------------------------------------------------------------------


def sealed_bytes(folder, values=(1.0, 2.0, 3.0)):
    segment = segment_in(folder)
    for value in values:
        log(segment, value)
    segment.release()
    return segment.path, segment.path.read_bytes()


def test_every_cut_keeps_what_was_whole(tmp_path):
    path, data = sealed_bytes(tmp_path)
    seen = set()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        segment = load_sealed(path)
        found = [] if segment is None else values_in(segment)
        assert found == [1.0, 2.0, 3.0][: len(found)]
        assert segment is None or not segment.content().tail_is_damaged
        seen.add(len(found))
    assert seen == {0, 1, 2}


def test_every_flipped_bit_is_told(tmp_path):
    path, data = sealed_bytes(tmp_path)
    whole = [frame.bytes() for frame in parse_segment(data, str(path)).frames]
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        try:
            content = parse_segment(bytes(flipped), str(path))
        except CorruptObjectError:
            continue
        assert content.tail_is_damaged
        assert content.row_count < 3
        assert [frame.bytes() for frame in content.frames] == whole[: content.row_count]


def test_a_segment_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "x.seg"
    fields = {
        "format": 1,
        "schema": 1,
        "writer": WRITER,
        "table": "metrics",
        "first": 0,
        "date": "",
        "lake": None,
    }
    for newer in (
        {"format": 2},
        {"schema": 99},
        {"table": "table_of_tomorrow"},
        {"format": 2, "first": None},
    ):
        path.write_bytes(header_frame({**fields, **newer}))
        with pytest.raises(UnsupportedFormatError, match="newer version"):
            load_sealed(path)
    path.write_bytes(header_frame({"format": 1, "schema": 1}))
    with pytest.raises(CorruptObjectError):
        load_sealed(path)
    path.write_bytes(end_frame())
    with pytest.raises(CorruptObjectError, match="header"):
        load_sealed(path)


def test_what_is_damaged_does_not_go_along_to_a_new_identity(tmp_path):
    path, data = sealed_bytes(tmp_path)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    segment = load_sealed(path)
    other = SegmentHeader(writer="2" * 32, table="metrics", first=0, date="2026-01-01", lake_id=None)
    assert isinstance(segment, SealedFile)
    assert values_in(segment.restamp(other)) == [1.0, 2.0]
    assert [entry.suffix for entry in tmp_path.iterdir() if entry.suffix != ".seg"] == [".damaged"]


def test_days():
    assert utc_day(0) == "1970-01-01"
    assert utc_day(-1) == "1969-12-31"
    assert utc_day(1_767_225_599_999_999) == "2025-12-31"
