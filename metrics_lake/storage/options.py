"""Which storage options are secrets: those never leave the process and never stand in a message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["redacted", "without_secrets"]

_SECRET: Final = re.compile(
    r"key$|secret|passw|token|sas|credential|connection_string|^auth$|authorization", re.IGNORECASE
)
_PUBLIC_TOKENS: Final = frozenset({"anon", "browser", "cache", "cloud", "google_default"})
"""What gcsfs takes for ``token`` beside a secret; so is the path of a key file."""

_PLAIN: Final = (str, bytes, int, float, bool, type(None))


def without_secrets(options: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options that may be pickled, and the names of those that stay behind.

    Secrets stay behind, and what is no plain value: sessions, credential objects, event loops.
    """
    kept: dict[str, Any] = {}
    lost: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping) and not _is_secret(name, value):
            inner, inner_lost = without_secrets(value)
            kept[name] = inner
            lost += [f"{name}.{one}" for one in inner_lost]
        elif _is_secret(name, value) or not _is_plain(value):
            lost.append(name)
        else:
            kept[name] = value
    return kept, tuple(lost)


def redacted(text: str, options: Mapping[str, Any]) -> str:
    """Return a text with the options' secret values blotted out, and tokens in addresses too."""
    for secret in sorted(set(_secrets(options)), key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"((?:token|sig|signature|password)=)[^&\s)'\"]+", r"\1***", text, flags=re.IGNORECASE)


def _is_secret(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return False
    if name == "token" and isinstance(value, str):
        return value not in _PUBLIC_TOKENS and not value.endswith(".json")
    return _SECRET.search(name) is not None


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_plain(one) for one in value)
    return isinstance(value, _PLAIN)


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        # Short ones would blot out ordinary words.
        if isinstance(value, str) and len(value) >= 6 and _is_secret(name, value):
            yield value
        elif isinstance(value, Mapping):
            yield from _secrets(value)
