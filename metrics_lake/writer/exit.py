"""Writers at the edges of a process's life: forks and the interpreter's exit."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 -- registers its own exit hook, which must come before ours
import os
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from metrics_lake.writer.core import Writer

__all__ = ["close_at_exit", "import_for_publishing"]

_writers: Final[weakref.WeakSet[Writer]] = weakref.WeakSet()
_importing: Final = threading.RLock()


def close_at_exit(writer: Writer) -> None:
    """Close the writer when the interpreter exits, and make it anew in forked children."""
    _writers.add(writer)


def import_for_publishing() -> None:
    """Import what publishing needs, while no other thread can fork.

    A child that is forked in the middle of another thread's import waits for ever when it imports the same.
    """
    with _importing:
        import pyarrow as pa

        import metrics_lake.commits.parquet  # noqa: F401 -- with all that it needs

        pa.array([0.0])  # looks for pandas, and imports it where it is installed


def _finish_all(*, is_last: bool) -> None:
    with ExitStack() as stack:  # each of them, whatever another one raises
        for writer in list(_writers):
            stack.callback(writer.finish, is_last=is_last)


def _when_main_thread_ends() -> None:
    # Threads that are no daemons and the hooks of atexit are still to come, and may log.
    _finish_all(is_last=False)


def _when_all_threads_ended() -> None:
    _finish_all(is_last=True)


def _begin_in_child() -> None:
    for writer in list(_writers):
        writer.begin_in_child()


def _register() -> None:
    atexit.register(_when_all_threads_ended)
    # Mostly that comes too late: by then thread pools, which object stores' drivers need, refuse new work.
    # The threading module's own hooks run first, newest first; concurrent.futures registers with them too.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_when_main_thread_ends)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_importing.acquire,
            after_in_parent=_importing.release,
            after_in_child=_importing.release,
        )
        os.register_at_fork(after_in_child=_begin_in_child)


_register()
