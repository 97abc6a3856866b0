"""Who a metric belongs to: ids as plain text.

Nothing here ever falls back on ``repr`` or ``id()``: an object without an identity of its own is refused,
because it would be another resource in the next process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from metrics_lake.errors import InvalidInputError
from metrics_lake.globs import Glob
from metrics_lake.texts import MAX_ID_LENGTH, checked_text

__all__ = ["check_id", "nearest", "register_resource", "resource_ids", "resource_key"]

_KEY_OF: dict[type, Callable[[Any], str]] = {}
_HINT: Final = (
    "Pass a str, or an object with an `id` attribute or a `__metrics_resource__()` method; "
    "for foreign classes call register_resource(cls, key_of)."
)


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

    >>> from metrics_lake.globs import glob
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
    return checked_text(str.__str__(text), f"{what} id")


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
