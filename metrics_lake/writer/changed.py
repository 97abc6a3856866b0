"""The condition that guards a writer's state, with its lock where Ctrl-C cannot tear it from its holder."""

from __future__ import annotations

import threading

__all__ = ["Changed"]


class Changed(threading.Condition):
    """A condition to wait on and to notify, entered by ``with changed.lock``.

    Never ``with changed``: that is a Python function, and a signal's handler that raises between its taking
    of the lock and its return leaves the lock held by nobody, for ever. ``with`` on the lock itself has no
    such place. Interrupted at random moments, one close in fifty hung (November 2026).

    Attributes:
        lock: The lock.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        super().__init__(self.lock)
