"""Locks on files that tell a living process from a dead one, and that no forked child keeps alive.

``flock`` belongs to the open file, which a forked child shares: as long as any copy of the descriptor is
open, the lock is held. So a child closes all of them at once, those included that another thread of the
parent was just opening.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["lock_file", "unlock"]


class _Held:
    """The descriptors of the locks that this process holds."""

    def __init__(self) -> None:
        self.descriptors: set[int] = set()
        # Held across a fork, so that no lock is half-opened in the child.
        self.opening = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self.opening.acquire,
                after_in_parent=self.opening.release,
                after_in_child=self._abandon,
            )

    def _abandon(self) -> None:
        for fd in self.descriptors:
            with suppress(OSError):  # a program that makes itself a daemon may have closed it
                os.close(fd)
        self.descriptors.clear()
        self.opening.release()


_HELD = _Held()


def lock_file(path: Path) -> int | None:
    """Open and lock a file; None where a living process holds it or has just removed it.

    Raises:
        OSError: The file cannot be opened.
    """
    with _HELD.opening:
        try:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            return None
        _HELD.descriptors.add(fd)
        try:
            # The name may belong to another file by now: its owner published everything and removed it.
            is_ours = _lock(fd) and os.fstat(fd).st_ino == path.stat().st_ino
        except FileNotFoundError:
            is_ours = False
        except OSError:
            _close(fd)
            raise
        if is_ours:
            return fd
        _close(fd)
        return None


def unlock(fd: int) -> None:
    """Give a lock back; in a forked child, and a second time, there is nothing to do."""
    with _HELD.opening:
        if fd in _HELD.descriptors:
            _close(fd)


def _close(fd: int) -> None:
    _HELD.descriptors.discard(fd)
    os.close(fd)


def _lock(fd: int) -> bool:
    """Lock an open file until its descriptor is closed; False where another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
