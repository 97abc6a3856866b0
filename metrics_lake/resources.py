"""Who a metric belongs to, and how it is sliced: ids, patterns and tags as plain text.

Nothing here ever falls back on ``repr`` or ``id()``: an object without an identity of its own is refused,
because it would be another resource in the next process.
"""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from metrics_lake.errors import CorruptObjectError, InvalidInputError

__all__ = [
    "MAX_ID_LENGTH",
    "MAX_TAGS",
    "Glob",
    "canonical_tags",
    "check_id",
    "glob",
    "nearest",
    "register_resource",
    "resource_ids",
    "resource_key",
    "tags_from_key",
    "tags_key",
]

MAX_ID_LENGTH: Final = 4096
"""Characters in a resource id, a metric id, a tag's key or its value."""

MAX_TAGS: Final = 32

_KEY_OF: dict[type, Callable[[Any], str]] = {}
_HINT: Final = (
    "Pass a str, or an object with an `id` attribute or a `__metrics_resource__()` method; "
    "for foreign classes call register_resource(cls, key_of)."
)
_TOKEN: Final = re.compile(r"\*+|\?|\[[*?\[]\]|\[|[^*?\[]+")
_RE2_SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def resource_key(obj: Any) -> str:
    """Return the id of a resource: the same text in every process, for the same thing.

    The first that fits counts: a str as it is; what ``obj.__metrics_resource__()`` returns; a type given to
    ``register_resource``, or its nearest base; a UUID's canonical text, a path's own text; the attribute
    ``resource_id``, then ``id`` (a str or UUID; an int becomes ``ClassName/1``); a tuple of such parts,
    joined by ``/`` with ``~`` in a part written ``~0`` and ``/`` written ``~1``: different parts never meet.

    Raises:
        InvalidInputError: There is no such identity, or it is no text of 1 to 4096 characters.

    >>> resource_key("digits/run-1"), resource_key(("digits", "a/b"))
    ('digits/run-1', 'digits/a~1b')
    """
    if type(obj) is str:
        return check_id(obj, "resource")
    return check_id(_identity(obj), "resource")


def resource_ids(asked: Any) -> Any:
    """Return what names several resources as ids and patterns.

    Args:
        asked: A resource, a ``glob``, or an iterable of these; None is all. A bare tuple is a list of
            resources here: put one that is a tuple of parts into a list.

    Raises:
        InvalidInputError: An object has no identity; ``resource_key`` says which have.

    >>> resource_ids([("digits", "a/b"), glob("digits/*")])
    ['digits/a~1b', glob('digits/*')]
    """
    if asked is None or isinstance(asked, str | Glob):
        return asked
    is_one = not isinstance(asked, tuple | list | set | frozenset) and _identity(asked) is not asked
    if is_one or not isinstance(asked, Iterable) or isinstance(asked, bytes | Mapping):
        return resource_key(asked)
    return [each if isinstance(each, Glob) else resource_key(each) for each in asked]


def register_resource(cls: type, key_of: Callable[[Any], str]) -> None:
    """Make instances of a class, and of classes derived from it, resources whose id is ``key_of(instance)``.

    Registering a class again replaces its function.

    Raises:
        InvalidInputError: ``cls`` is not a class or ``key_of`` cannot be called.
    """
    given: tuple[Any, Any] = (cls, key_of)
    if not isinstance(given[0], type) or not callable(given[1]):
        raise InvalidInputError(
            "register_resource takes a class and a function.", hint="register_resource(cls, key_of)"
        )
    _KEY_OF[cls] = key_of


def _identity(obj: Any) -> Any:
    kind = type(obj)
    if isinstance(obj, str):
        return str.__str__(obj)
    if isinstance(obj, type):
        raise InvalidInputError(
            f"The class {obj.__qualname__} is not a resource.", hint="Pass an instance, or a str."
        )
    own = getattr(kind, "__metrics_resource__", None)
    if own is not None:
        return _called(own, obj, "__metrics_resource__()")
    for base in kind.__mro__:
        if base in _KEY_OF:
            return _called(_KEY_OF[base], obj, "the function registered for it")
    if isinstance(obj, UUID):
        return str(obj)
    if isinstance(obj, os.PathLike):
        return os.fspath(obj)
    for name in ("resource_id", "id"):
        if (found := _attribute(obj, name)) is not None:
            return found
    if isinstance(obj, tuple) and obj:
        return "/".join(resource_key(part).replace("~", "~0").replace("/", "~1") for part in obj)
    return obj  # check_id says what is wrong with it


def _called(function: Callable[[Any], str], obj: Any, what: str) -> str:
    try:
        key = function(obj)
    except Exception as error:  # raised again: whatever the user's code raises gets its context
        raise InvalidInputError(
            f"The id of a {type(obj).__qualname__} cannot be had: "
            f"{what} raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(key, str):
        raise InvalidInputError(
            f"The id of a {type(obj).__qualname__} is no str: {what} returned a {type(key).__name__}.",
            hint="Return a str.",
        )
    return key


def _attribute(obj: Any, name: str) -> str | None:
    """Return the id that an attribute holds, or None where there is no such attribute."""
    kind = type(obj).__qualname__
    try:
        found = getattr(obj, name)
    except Exception as error:  # raised again, but for an attribute that is simply not there
        if isinstance(error, AttributeError) and not hasattr(type(obj), name):
            return None
        raise InvalidInputError(
            f"The id of a {kind} cannot be had: .{name} raised {type(error).__name__}: {error}"
        ) from error
    if isinstance(found, str) and found:
        return str.__str__(found)
    if isinstance(found, UUID):
        return str(found)
    if isinstance(found, int) and not isinstance(found, bool):
        return f"{type(obj).__name__}/{int(found)}"
    if callable(found):
        problem = f".{name} is a method"
    elif found is None or found == "":
        problem = f".{name} is {found!r}, so it has no id yet"
    else:
        problem = f".{name} is a {type(found).__name__}"
    raise InvalidInputError(
        f"The id of a {kind} cannot be had: {problem}.", hint="Pass the id itself, as a str."
    )


def check_id(text: Any, what: str) -> str:
    """Return an id if it is text of 1 to 4096 characters.

    Args:
        text: What the user gave.
        what: Which id it is, for the message: ``"resource"``, ``"metric"``.

    Raises:
        InvalidInputError: It is not.
    """
    if type(text) is str and 0 < len(text) <= MAX_ID_LENGTH and text.isascii():
        return text
    if isinstance(text, Glob):
        raise InvalidInputError(
            f"{text!r} is a pattern, and one {what} is wanted here.",
            hint="Pass its id as a str, or list what fits first.",
        )
    if not isinstance(text, str):
        raise InvalidInputError(
            f"A {type(text).__qualname__} is no {what} id.",
            hint=_HINT if what == "resource" else "Pass a str.",
        )
    return _checked_text(str.__str__(text), f"{what} id", "")


def _checked_text(text: str, what: str, where: str) -> str:
    if not text:
        raise InvalidInputError(f"The {what}{where} is empty.", hint="Use at least one character.")
    return _within_limits(text, what, where)


def _within_limits(text: str, what: str, where: str) -> str:
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
    text = _checked_text(str.__str__(pattern), "pattern", "")
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


def canonical_tags(tags: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Return tags as (key, value) pairs in UTF-8 byte order of their keys; () for none.

    Values are text; an int is written in decimal, a bool as ``true`` or ``false``, numpy's ints and bools
    alike. At most 32 pairs; a key has 1 to 4096 characters, a value 0 to 4096.

    Raises:
        InvalidInputError: Something else was given.

    >>> canonical_tags({"fold": 3, "country": "NO", "final": True})
    (('country', 'NO'), ('final', 'true'), ('fold', '3'))
    """
    if not tags:
        if tags is None or isinstance(tags, Mapping):
            return ()
        raise _no_mapping(tags)
    if not isinstance(tags, Mapping):
        raise _no_mapping(tags)
    if len(tags) > MAX_TAGS:
        raise InvalidInputError(
            f"There are {len(tags)} tags.",
            hint=f"At most {MAX_TAGS} are kept: tags are what one slices by; log the rest with log_params.",
        )
    # Python compares str by code point, which is the order of their UTF-8 bytes.
    return tuple(sorted((_tag_key(key), _tag_value(key, value)) for key, value in tags.items()))


def _no_mapping(tags: Any) -> InvalidInputError:
    return InvalidInputError(
        f"Tags are a mapping, not a {type(tags).__qualname__}.", hint='Pass a dict: tags={"country": "NO"}.'
    )


def _tag_key(key: Any) -> str:
    if not isinstance(key, str):
        raise InvalidInputError(f"The tag key {key!r} is no str.", hint="Pass a str.")
    return _checked_text(str.__str__(key), "key", " of a tag")


def _tag_value(key: str, value: Any) -> str:
    if isinstance(value, str):
        return _within_limits(str.__str__(value), "value", f" of the tag {key!r}")
    if isinstance(value, bool) or (
        type(value).__module__ == "numpy" and type(value).__name__ in _NUMPY_BOOLS
    ):
        return "true" if value else "false"
    try:
        number = operator.index(value)
    except TypeError as error:
        kind = type(value).__qualname__
        raise InvalidInputError(
            f"The tag {key!r} has a {kind} as its value.",
            hint="Leave the tag out." if value is None else "Pass a str, an int or a bool.",
        ) from error
    if number.bit_length() > 1024:  # far below any limit of Python's on decimal conversions
        raise InvalidInputError(f"The tag {key!r} has an int of more than 1,024 bits.", hint="Pass a str.")
    return str(number)


_NUMPY_BOOLS: Final = ("bool", "bool_")


def tags_key(pairs: Iterable[tuple[str, str]]) -> str:
    """Return what identifies a series' tags: a JSON object in the order of the pairs; '' when untagged.

    Without spaces; only what JSON must escape is escaped.

    >>> tags_key(canonical_tags({"b": 2, "a": "x"}))
    '{"a":"x","b":"2"}'
    """
    tags = dict(pairs)
    return _dumps(tags) if tags else ""


def tags_from_key(key: str) -> dict[str, str]:
    """Return the tags that ``tags_key`` was given.

    Raises:
        CorruptObjectError: The text is no such key.
    """
    if not key:
        return {}
    try:
        tags = json.loads(key)
    except (ValueError, RecursionError) as error:
        raise CorruptObjectError(f"{key!r} is no tags_key: {error}") from error
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise CorruptObjectError(f"{key!r} is no tags_key: it is not an object of strings.")
    return tags


def nearest(name: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """Return the candidates that a mistyped name may have meant, the likeliest first; at most ``limit``.

    Case and the parts before the last ``/`` are forgiven. Of very many candidates only the first 10,000 that
    differ little in length are compared.
    """
    from difflib import SequenceMatcher
    from itertools import islice

    wanted = name.casefold()
    tail = wanted.rpartition("/")[2]
    matcher = SequenceMatcher(b=wanted, autojunk=False)
    scored: list[tuple[float, str]] = []
    unique = dict.fromkeys(candidates)
    for candidate in islice((each for each in unique if each != name and len(each) < 200), 10_000):
        text = candidate.casefold()
        if text == wanted:
            score = 3.0
        elif tail and tail in {text, text.rpartition("/")[2]}:
            score = 2.0
        elif len(wanted) >= 3 and (text.startswith(wanted) or wanted.startswith(text + "/")):
            score = 1.0
        else:
            matcher.set_seq1(text)
            if matcher.real_quick_ratio() < 0.6 or matcher.quick_ratio() < 0.6:
                continue
            if (score := matcher.ratio()) < 0.6:
                continue
        scored.append((-score, candidate))
    return [candidate for _, candidate in sorted(scored)[:limit]]
