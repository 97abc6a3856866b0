"""What was read once: by name, because names are never reused, and within a byte limit."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

__all__ = ["ByteCache"]


class ByteCache:
    """Keeps the values used last, up to a sum of their sizes; thread-safe.

    Args:
        limit_bytes: How much it holds. A value that is larger by itself is not kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Any) -> Any:
        """Return what was kept under a key, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Any, value: Any, size_bytes: int) -> None:
        """Keep a value, and let those go that were not used for longest."""
        if size_bytes > self.limit_bytes:
            return
        with self._lock:
            previous = self._entries.pop(key, None)
            if previous is not None:
                self.size_bytes -= previous[1]
            self._entries[key] = (value, size_bytes)
            self.size_bytes += size_bytes
            while self.size_bytes > self.limit_bytes:
                self.size_bytes -= self._entries.popitem(last=False)[1][1]
