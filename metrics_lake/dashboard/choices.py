"""What somebody chose in the page, kept in its address: who opens the address sees the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Choices"]


class _Address(Protocol):
    """The query of the page's address, as marimo gives it."""

    def get_all(self, key: str) -> list[str]:
        """Return all values of a name."""

    def set(self, key: str, value: str) -> None:
        """Set the value of a name."""

    def remove(self, key: str) -> None:
        """Forget a name."""


class Choices:
    """The choices of one page; an address that names what is not there counts as if it named nothing.

    Only what differs from the page's own first choice stands in the address.

    Args:
        address: The address' query.
    """

    def __init__(self, address: _Address) -> None:
        self._address = address
        self._firsts: dict[str, str] = {}

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        given = self._address.get_all(name)
        return given[0] if given else default

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number between two bounds."""
        try:
            found = float(self.text(name))
        except ValueError:
            return default
        return found if low <= found <= high else default

    def flag(self, name: str, default: bool = False) -> bool:
        """Return whether something is on."""
        return {"1": True, "0": False}.get(self.text(name), default)

    def one_of(self, name: str, options: Sequence[str], default: str | None = None) -> str | None:
        """Return one of some options."""
        given = self.text(name)
        return given if given in options else default

    def some_of(self, name: str, options: Sequence[str], default: Sequence[str] = ()) -> list[str]:
        """Return some of some options: the address has one as it is and several as a JSON list."""
        known = set(options)
        text = self.text(name)
        given = [text] if text in known else [each for each in _items(text) if each in known]
        return given or [each for each in default if each in known]

    def first(self, name: str, options: Sequence[str]) -> str | None:
        """Return what the page shows before anything is chosen: the first option, for as long as it is there.

        Options that come later do not take its place: what somebody looks at does not change by itself.
        """
        if self._firsts.get(name) not in options:
            self._firsts.pop(name, None)
        return self._firsts.setdefault(name, options[0]) if options else None

    def part(self, name: str) -> tuple[float, float] | None:
        """Return the two ends of a part of an axis, ascending; the address has them as a JSON list."""
        match _items(self.text(name)):
            case [int() | float() as low, int() | float() as high] if low < high:
                return float(low), float(high)
        return None

    def keeper(self, name: str, default: Any = None, forgetting: Sequence[str] = ()) -> Callable[[Any], None]:
        """Return what keeps a control's new value under a name, or forgets it where it is the default.

        Args:
            name: In the address.
            default: The value that needs no mention.
            forgetting: Other names that mean nothing any more when this one changes.
        """

        def keep(value: Any) -> None:
            for each in forgetting:
                self._address.remove(each)
            if value is None or value == default or value in ("", []):
                self._address.remove(name)
            else:
                self._address.set(name, _text(value))

        return keep


def _items(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        # marimo's pages hand on one value a name.
        return str(value[0]) if len(value) == 1 else json.dumps(value)
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)
