"""What the Python API calls by its own words, in those of the command line."""

from __future__ import annotations

from typing import Final

__all__ = ["in_shell"]

_WORDS: Final = {
    "tags={…}": "--tag KEY=VALUE",
    "history()": "`metrics-lake history`",
    "resources()": "`metrics-lake ls`",
    "metric_ids()": "`metrics-lake get RESOURCE`",
    "inspect.verify()": "`metrics-lake verify`",
    "maintenance.compact()": "`metrics-lake compact`",
    "maintenance.delete()": "`metrics-lake delete`",
    "maintenance.recover()": "`metrics-lake recover`",
    "maintenance.vacuum()": "`metrics-lake vacuum`",
}


def in_shell(hint: str) -> str:
    """Return a hint of the API as one for a shell; what has no command stays as it is."""
    for word, command in _WORDS.items():
        hint = hint.replace(word, command)
    return hint
