"""Which inbox rows count: a pure function of the inbox's names and the log's watermarks.

Per writer the objects are walked in (first, last) order. ``next`` is the first sequence number that is
neither consumed by the table nor taken from an object before. An object is taken while
``first <= next <= last``, and only its rows from ``next`` on outside the consumed intervals count. So
duplicate deliveries, two cuts of one sequence, and objects that a commit has consumed but nobody has
collected yet never give a row twice, whatever was listed.
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from metrics_lake.commits.intervals import first_missing, subtract
from metrics_lake.commits.model import Gap, LiveFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metrics_lake.commits.intervals import Intervals
    from metrics_lake.commits.model import InboxFile

__all__ = ["find_live"]


def find_live(
    files: Iterable[InboxFile],
    consumed: Callable[[str], Intervals],
    may_skip: Callable[[Gap], bool],
) -> tuple[list[LiveFile], list[Gap]]:
    """Return the objects of which rows count, and the gaps in front of published rows.

    Args:
        files: The complete listing, ascending by (writer, first, last).
        consumed: The intervals of a writer that the table holds.
        may_skip: Decides whether to read on behind a gap that no commit has settled.
    """
    live: list[LiveFile] = []
    gaps: list[Gap] = []
    for writer, run in groupby(files, key=attrgetter("name.writer")):
        _walk(writer, list(run), consumed(writer), may_skip, live, gaps)
    return live, gaps


def _walk(
    writer: str,
    files: Sequence[InboxFile],
    consumed: Intervals,
    may_skip: Callable[[Gap], bool],
    live: list[LiveFile],
    gaps: list[Gap],
) -> None:
    position = first_missing(consumed)
    for file in files:
        first, last = file.name.first, file.name.last
        if first > position:
            position = _cross(writer, position, file, consumed, may_skip, gaps)
            if position < first:
                return
        if first <= position <= last:
            keep = subtract(position, last, consumed)
            if keep:
                live.append(LiveFile(file.name, file.size_bytes, file.modified, keep))
            position = first_missing(consumed, last + 1)


def _cross(
    writer: str,
    position: int,
    file: InboxFile,
    consumed: Intervals,
    may_skip: Callable[[Gap], bool],
    gaps: list[Gap],
) -> int:
    """Return the position from which to read on, which is still in front of the file where it must wait."""
    horizon = consumed[-1][1] if consumed else -1
    for missing_first, missing_last in subtract(position, file.name.first - 1, consumed):
        settled = missing_last < horizon
        gap = Gap(writer, missing_first, missing_last, file.modified, is_skipped=True, is_settled=settled)
        if settled or may_skip(gap):
            gaps.append(gap)
        else:
            gaps.append(
                Gap(writer, missing_first, missing_last, file.modified, is_skipped=False, is_settled=False)
            )
            return missing_first
    return first_missing(consumed, file.name.first)
