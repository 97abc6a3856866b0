"""Arguments that callers give alone or several of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["listed"]


def listed(given: Any) -> list[Any]:
    """Return several things that were given, or one by itself, such as a name, as a list."""
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
