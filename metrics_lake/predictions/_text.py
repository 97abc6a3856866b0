"""Small texts for messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["near", "quoted"]


def near(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean …?`` for the known names that resemble ``name``, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def quoted(names: Iterable[object], limit: int = 8) -> str:
    """Return the names for a message, at most ``limit`` of them."""
    listed = list(names)
    told = ", ".join(map(repr, listed[:limit]))
    return told if len(listed) <= limit else f"{told}, … ({len(listed):,} in all)"
