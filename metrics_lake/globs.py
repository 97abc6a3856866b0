"""Patterns over ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import InvalidInputError
from metrics_lake.texts import checked_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Glob", "glob"]

_TOKEN: Final = re.compile(r"\*+|\?|\[[*?\[]\]|\[|[^*?\[]+")
_RE2_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern over ids; made by ``glob``."""

    pattern: str

    def __repr__(self) -> str:
        return f"glob({self.pattern!r})"

    def matches(self, text: str) -> bool:
        """Say whether the pattern fits the whole text."""
        return _compiled(self.pattern)(text) is not None

    @property
    def regex(self) -> str:
        """The pattern as an RE2 expression over the whole text, for ``regexp_full_match``."""
        return "(?s)" + "".join(map(_re2, _TOKEN.findall(self.pattern)))

    @property
    def literal_prefix(self) -> str:
        """What every text that fits begins with; may be empty."""
        prefix = ""
        for token in _TOKEN.findall(self.pattern):
            if token[0] in "*?":
                break
            prefix += _literal(token)
        return prefix

    @property
    def is_prefix(self) -> bool:
        """Whether every text with the literal prefix fits: the only wildcard is one star at the end."""
        *others, last = _TOKEN.findall(self.pattern)
        return last == "*" and not any(token[0] in "*?" for token in others)


def glob(pattern: str | Glob) -> Glob:
    """Return a pattern: ``*`` is any text (``/`` too), ``?`` one character, ``[*] [?] [[]`` are literal.

    Raises:
        InvalidInputError: It is empty, too long, no str, or has another ``[``.

    >>> glob("digits/*").matches("digits/mlp/1"), glob("what[?]").matches("whats")
    (True, False)
    """
    if isinstance(pattern, Glob):
        return pattern
    given: Any = pattern
    if not isinstance(given, str):
        raise InvalidInputError(
            f"A {type(given).__qualname__} is no pattern.", hint='Pass a str: glob("a/*").'
        )
    text = checked_text(str.__str__(pattern), "pattern")
    if "[" in _TOKEN.findall(text):
        raise InvalidInputError(
            f"The pattern {text!r} has a [ that opens no [*], [?] or [[].",
            hint="Write [[] for the character [; there are no character classes.",
        )
    return Glob(text)


def _re2(token: str) -> str:
    if token[0] == "*":
        return ".*"
    return "." if token[0] == "?" else _RE2_SPECIAL.sub(r"\\\g<0>", _literal(token))


def _literal(token: str) -> str:
    return token[1] if token[0] == "[" else token


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Callable[[str], object | None]:
    # fnmatch reads the same three bracket forms, and makes every star atomic: no exponential backtracking.
    return re.compile(translate(pattern)).match
