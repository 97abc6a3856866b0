"""From a url to a storage: no network, no disk."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from metrics_lake.errors import InvalidInputError
from metrics_lake.storage.local import LocalStorage
from metrics_lake.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metrics_lake.storage.base import Storage

__all__ = ["open_storage"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def open_storage(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Storage:
    """Return the storage under a url; nothing is read, written or looked up.

    Args:
        url: A path, ``file://``, ``memory://``, or any protocol that fsspec knows.
        storage_options: What the protocol's fsspec filesystem takes.

    Raises:
        InvalidInputError: The url is none, or its scheme is unknown.
        MissingDriverError: The scheme needs a package that is not installed.
    """
    text = os.fspath(url)
    found = _SCHEME.fullmatch(text)
    if found is None:
        return LocalStorage(_absolute(text))
    scheme, rest = found[1].lower(), found[2]
    if scheme in ("file", "local"):
        return LocalStorage(_absolute(unquote(rest)))
    if scheme == "memory":
        return MemoryStorage(f"memory://{rest.strip('/')}")
    raise InvalidInputError(f"{scheme}:// is not ready yet.", url=text)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 -- '..' is cut, links stay
