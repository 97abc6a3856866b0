from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metrics_lake.commits.intervals import contains, first_missing, subtract, union
from metrics_lake.commits.liveness import find_live
from metrics_lake.commits.model import InboxFile
from metrics_lake.layout import InboxName

W = "a" * 32


def file(first, last, *, writer=W, is_end=False, modified=0.0):
    return InboxFile(InboxName(writer, first, last, "metrics", "2026-11-20", is_end), 10, modified)


def live_of(files, consumed=(), *, skip=False):
    files = sorted(files, key=lambda each: (each.name.writer, each.name.first, each.name.last))
    live, gaps = find_live(files, lambda writer: union(consumed), lambda gap: skip)
    return [(each.name.first, each.name.last, each.keep) for each in live], [
        (gap.first, gap.last, gap.is_skipped, gap.is_settled) for gap in gaps
    ]


def test_contiguous_objects_count_whole():
    assert live_of([file(0, 4), file(5, 9)]) == ([(0, 4, ((0, 4),)), (5, 9, ((5, 9),))], [])


def test_consumed_objects_do_not_count():
    assert live_of([file(0, 4), file(5, 9)], [(0, 9)]) == ([], [])
    assert live_of([file(0, 4), file(5, 9)], [(0, 6)]) == ([(5, 9, ((7, 9),))], [])


def test_two_cuts_of_one_sequence_count_once():
    assert live_of([file(0, 9), file(0, 4), file(5, 14)])[0] == [
        (0, 4, ((0, 4),)),
        (0, 9, ((5, 9),)),
        (5, 14, ((10, 14),)),
    ]


def test_reading_stops_at_a_gap_until_it_may_be_skipped():
    files = [file(0, 4), file(10, 14), file(15, 19)]
    assert live_of(files) == ([(0, 4, ((0, 4),))], [(5, 9, False, False)])
    live, gaps = live_of(files, skip=True)
    assert [keep for _, _, keep in live] == [((0, 4),), ((10, 14),), ((15, 19),)]
    assert gaps == [(5, 9, True, False)]


def test_a_gap_that_a_commit_read_on_behind_is_settled():
    live, gaps = live_of([file(15, 19)], [(0, 4), (10, 14)])
    # the hole 5..9 lies in front of a consumed run, so nobody waits for it again
    assert gaps == [(5, 9, True, True)]
    assert [keep for _, _, keep in live] == [((15, 19),)]


def test_a_late_object_fills_its_gap_behind_and_around_consumed_rows():
    assert live_of([file(5, 9)], [(0, 4), (10, 14)]) == ([(5, 9, ((5, 9),))], [])
    assert live_of([file(3, 20)], [(0, 4), (10, 14)])[0] == [(3, 20, ((5, 9), (15, 20)))]
    # only a part of the gap arrived
    assert live_of([file(7, 8)], [(0, 4), (10, 14)]) == ([(7, 8, ((7, 8),))], [(5, 6, True, True)])


def test_an_end_without_rows_counts_nothing_and_shows_what_is_missing():
    assert live_of([file(0, 4), file(5, 4, is_end=True)]) == ([(0, 4, ((0, 4),))], [])
    assert live_of([file(0, -1, is_end=True)]) == ([], [])
    assert live_of([file(0, 4), file(8, 7, is_end=True)])[1] == [(5, 7, False, False)]


def test_writers_do_not_wait_for_each_other():
    other = "b" * 32
    live, gaps = live_of([file(5, 9), file(0, 3, writer=other)])
    assert live == [(0, 3, ((0, 3),))]
    assert gaps == [(0, 4, False, False)]


small = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(small, max_size=6), st.lists(small, max_size=4))
def test_each_published_row_counts_exactly_once_and_a_consumed_one_never(files, consumed):
    taken = {n for first, last in consumed for n in range(first, last + 1)}
    live, gaps = live_of([file(*each) for each in dict.fromkeys(files)], consumed, skip=True)
    counted = [n for _, _, keep in live for first, last in keep for n in range(first, last + 1)]
    assert len(counted) == len(set(counted))
    assert set(counted) == {n for first, last in files for n in range(first, last + 1)} - taken
    missing = {n for first, last, _, _ in gaps for n in range(first, last + 1)}
    assert not missing & (set(counted) | taken)


@given(st.lists(small, max_size=6), st.lists(small, max_size=4))
def test_without_skipping_no_writer_shows_a_row_behind_a_hole(files, consumed):
    live, _ = live_of([file(*each) for each in dict.fromkeys(files)], consumed)
    known = {n for first, last in consumed for n in range(first, last + 1)}
    horizon = max(known, default=-1)
    known |= {n for _, _, keep in live for first, last in keep for n in range(first, last + 1)}
    beyond = range(horizon + 1, 60)
    stop = next(n for n in beyond if n not in known)
    assert not any(n in known for n in range(stop, 60))


@given(st.lists(small, max_size=6), small)
def test_interval_arithmetic_agrees_with_sets(intervals, asked):
    merged = union(intervals)
    numbers = {n for first, last in intervals for n in range(first, last + 1)}
    assert {n for first, last in merged for n in range(first, last + 1)} == numbers
    wanted = set(range(asked[0], asked[1] + 1))
    left = {n for first, last in subtract(*asked, merged) for n in range(first, last + 1)}
    assert left == wanted - numbers
    assert contains(merged, *asked) == (wanted <= numbers)
    assert first_missing(merged, asked[0]) == next(n for n in range(asked[0], 99) if n not in numbers)
