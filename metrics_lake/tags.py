"""How a resource's metric is sliced: tags as plain text."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping
from typing import Any, Final

from metrics_lake.errors import CorruptObjectError, InvalidInputError
from metrics_lake.texts import checked_text, within_limits

__all__ = ["MAX_TAGS", "canonical_tags", "tags_from_key", "tags_key"]

MAX_TAGS: Final = 32

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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
    return checked_text(str.__str__(key), "key", " of a tag")


def _tag_value(key: str, value: Any) -> str:
    if isinstance(value, str):
        return within_limits(str.__str__(value), "value", f" of the tag {key!r}")
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
