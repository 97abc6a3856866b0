"""Arithmetic on sets of sequence numbers: sorted tuples of inclusive ``(first, last)`` pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Interval", "Intervals", "contains", "first_missing", "subtract", "union"]

Interval: TypeAlias = tuple[int, int]
Intervals: TypeAlias = tuple[Interval, ...]


def union(intervals: Iterable[Interval]) -> Intervals:
    """Return the same numbers as disjoint, ascending intervals that do not touch each other."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if last < first:
            continue
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def subtract(first: int, last: int, taken: Intervals) -> Intervals:
    """Return the numbers of ``first..last`` that are not in ``taken`` (a result of :func:`union`)."""
    left: list[Interval] = []
    for taken_first, taken_last in taken:
        if taken_last < first:
            continue
        if taken_first > last:
            break
        if taken_first > first:
            left.append((first, taken_first - 1))
        first = taken_last + 1
    if first <= last:
        left.append((first, last))
    return tuple(left)


def contains(intervals: Intervals, first: int, last: int) -> bool:
    """Return whether every number of ``first..last`` is in ``intervals`` (a result of :func:`union`)."""
    return not subtract(first, last, intervals)


def first_missing(intervals: Intervals, start: int = 0) -> int:
    """Return the smallest number from ``start`` on that is not in ``intervals``."""
    for first, last in intervals:
        if first > start:
            break
        start = max(start, last + 1)
    return start
