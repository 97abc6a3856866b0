"""Writers at the edges of a process's life: forks and the interpreter's exit."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 -- registers its own exit hook, which must come before ours
import os
import threading
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from metrics_lake.writer.core import Writer

__all__ = ["close_at_exit"]

_writers: Final[weakref.WeakSet[Writer]] = weakref.WeakSet()


def close_at_exit(writer: Writer) -> None:
    """Close the writer when the interpreter exits, and make it anew in forked children."""
    _writers.add(writer)


def _close_all() -> None:
    for writer in list(_writers):
        writer.close_at_exit()


def _begin_in_child() -> None:
    for writer in list(_writers):
        writer.begin_in_child()


def _register() -> None:
    # atexit comes too late: by then thread pools, which object stores' drivers need, refuse new work. The
    # threading module's own hooks run first, newest first; concurrent.futures registers with them as well.
    register = getattr(threading, "_register_atexit", None)
    if register is None:
        import atexit

        register = atexit.register
    register(_close_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_begin_in_child)


_register()
