"""What a line of a prediction chart stands for: a job, a window, a segment, a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metrics_lake.charts.labels import QUOTES, short_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["group_names", "segment_texts", "window_name"]


def group_names(rows: Sequence[Mapping[str, Any]], *, with_windows: bool) -> list[str]:
    """Return the name of the group of each row: what differs between rows of job, window, segment and class.

    Args:
        rows: With ``resource window_start window_end segment label``.
        with_windows: Whether windows are groups; False where time is an axis.
    """
    jobs = list(dict.fromkeys(row["resource"] for row in rows))
    label_of = dict(zip(jobs, short_labels(jobs), strict=True))
    has_windows = with_windows and any(row["window_start"] is not None for row in rows)
    segments = [dict(row["segment"] or ()) for row in rows]
    has_segments = any(segments)
    has_labels = len({row["label"] for row in rows}) > 1
    names = []
    for row, segment in zip(rows, segments, strict=True):
        parts = [label_of[row["resource"]]] if len(jobs) > 1 else []
        if has_windows:
            parts.append(window_name(row["window_start"], row["window_end"]))
        if has_segments:
            parts += segment_texts(segment.items()) or ["all"]
        if row["label"] is not None and (has_labels or not parts):
            parts.append(str(row["label"]))
        names.append(" · ".join(parts) or "all")
    return names


def segment_texts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return the columns of a segment with their values, of which the empty one stands for NULL too.

    >>> segment_texts([("country", "FR"), ("os", "")])
    ['country=FR', "os=''"]
    """
    return [f"{name}={value or QUOTES}" for name, value in pairs]


def window_name(start: Any, end: Any) -> str:
    """Return a window as text: its first day or hour; whole where there is none."""
    if start is None:
        return "all windows"
    whole_days = start.time() == end.time() == start.time().min
    return str(start.strftime("%Y-%m-%d" if whole_days else "%Y-%m-%d %H:%M"))
