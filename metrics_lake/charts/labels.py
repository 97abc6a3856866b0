"""Short names for long ids, of which no two become the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["QUOTES", "short_labels"]

QUOTES: Final = "''"
"""How an empty text is shown."""

_WIDTH: Final = 32
_SEPARATOR: Final = "/"


def short_labels(ids: Sequence[str], width: int = _WIDTH) -> list[str]:
    """Return a label for each id, of at most ``width`` characters, in which different ids stay different.

    Left out is the folder that all share, then the middle of what is still too long, around the place where
    the ids differ. What cannot be told apart so gets a number.

    >>> short_labels(["digits/mlp/1", "digits/mlp/2"])
    ['1', '2']
    >>> short_labels(["vision/resnet-50-with-augmentation-lr-0.01-seed-1", "vision/vit"], width=24)
    ['resnet-50-w…-0.01-seed-1', 'vit']
    """
    unique = list(dict.fromkeys(ids))
    shared = _shared_folder(unique)
    labels = {each: _printable(each[shared:]) for each in unique}
    if any(len(label) > width for label in labels.values()):
        at = _shared(list(labels.values()))
        labels = {each: _elided(label, width, at) for each, label in labels.items()}
    taken: set[str] = set()
    for each, label in labels.items():
        number, candidate = 1, label
        while candidate in taken:
            number += 1
            ending = f" #{number}"
            candidate = label[: width - len(ending)] + ending
        taken.add(candidate)
        labels[each] = candidate
    return [labels[each] for each in ids]


def _shared_folder(ids: Sequence[str]) -> int:
    """Return how many characters of all ids are the folders that they share."""
    if len(ids) < 2:
        return 0
    return ids[0][: _shared(ids)].rfind(_SEPARATOR) + 1


def _shared(texts: Sequence[str]) -> int:
    """Return how many characters all texts begin with."""
    least, greatest = min(texts), max(texts)
    same = (at for at, (one, other) in enumerate(zip(least, greatest, strict=False)) if one != other)
    return next(same, min(len(least), len(greatest)))


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text) or QUOTES


def _elided(label: str, width: int, differs_at: int) -> str:
    if len(label) <= width:
        return label
    head = (width - 1) // 2
    tail = width - 1 - head
    if head <= differs_at < len(label) - tail:
        # The middle is what tells them apart.
        start = max(0, differs_at - width // 4)
        middle = label[start : start + width - 2]
        return f"…{middle}…" if start + width - 2 < len(label) else f"…{label[-(width - 1) :]}"
    return f"{label[:head]}…{label[-tail:]}"
