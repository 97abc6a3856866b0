"""What text an id, a pattern or a tag may be."""

from __future__ import annotations

from typing import Final

from metrics_lake.errors import InvalidInputError

__all__ = ["MAX_ID_LENGTH", "checked_text", "within_limits"]

MAX_ID_LENGTH: Final = 4096
"""Characters in a resource id, a metric id, a tag's key or its value."""


def checked_text(text: str, what: str, where: str = "") -> str:
    """Return a text that has at least one character and keeps ``within_limits``.

    Args:
        text: What the user gave.
        what: What it is, for the message: ``"pattern"``.
        where: Of what, for the message: ``" of a tag"``.

    Raises:
        InvalidInputError: It has none, or keeps no limit.
    """
    if not text:
        raise InvalidInputError(f"The {what}{where} is empty.", hint="Use at least one character.")
    return within_limits(text, what, where)


def within_limits(text: str, what: str, where: str = "") -> str:
    """Return a text of at most 4096 characters that UTF-8 can carry.

    Raises:
        InvalidInputError: It is longer, or holds a lone surrogate.
    """
    if len(text) > MAX_ID_LENGTH:
        raise InvalidInputError(
            f"The {what}{where} has {len(text):,} characters.", hint=f"Use at most {MAX_ID_LENGTH:,}."
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"The {what}{where} holds a lone surrogate at position {error.start}, "
                "which UTF-8 cannot carry.",
                hint='Pass text.encode("utf-8", "replace").decode().',
            ) from error
    return text
