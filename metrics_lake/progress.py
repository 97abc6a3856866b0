"""Progress of long work on standard error: where a terminal or a notebook shows it, and never in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["Progress", "progress_bar"]

Progress = Callable[[int, int], None]
"""Called with what is done and with all there is, in the same unit."""

_PATIENCE_SECONDS: Final = 0.5
_WIDTH: Final = 24


@contextmanager
def progress_bar(label: str, wanted: bool | Progress | None = None) -> Iterator[Progress | None]:
    """Yield what long work reports its progress to, or None where nobody looks.

    Nothing is shown of work that takes less than half a second.

    Args:
        label: What is being done.
        wanted: None: a bar where somebody can see it; True or False: always or never; a function: it is
            called instead.
    """
    if callable(wanted):
        yield wanted
        return
    stream = sys.stderr
    if wanted is False or (wanted is None and not _is_watched(stream)):
        yield None
        return
    begun = time.monotonic()
    shown = 0.0
    is_shown = False

    def report(done: int, total: int) -> None:
        nonlocal shown, is_shown
        now = time.monotonic()
        if now - begun < _PATIENCE_SECONDS or (now - shown < 0.1 and done < total):
            return
        shown, is_shown = now, True
        share = min(done / total, 1.0) if total else 1.0
        filled = round(share * _WIDTH)
        left = (now - begun) * (1 - share) / share if share else 0.0
        bar = "#" * filled + "." * (_WIDTH - filled)
        stream.write(f"\r{label} [{bar}] {share:4.0%}, {left:,.0f} s left ")
        stream.flush()

    try:
        yield report
    finally:
        if is_shown:
            stream.write("\r" + " " * (len(label) + _WIDTH + 24) + "\r")
            stream.flush()


def _is_watched(stream: Any) -> bool:
    if stream is None:
        return False
    if stream.isatty():
        return True
    # Jupyter's and marimo's streams are no terminals and show a carriage return as one.
    return type(stream).__module__.split(".")[0] in {"ipykernel", "marimo"}
