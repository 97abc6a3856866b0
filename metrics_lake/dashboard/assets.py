"""The scripts and styles of marimo's page, from memory, and to be kept by browsers for good.

A page loads some 300 of them. For each, marimo has threads look for the file, open it and read it, and tells
browsers nothing about how long they may keep it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from pathlib import Path

__all__ = ["KeptAssets"]

_PATH: Final = "/assets/"
_TYPES: Final = {".js": b"text/javascript; charset=utf-8", ".css": b"text/css; charset=utf-8"}
# Such a name changes with what is in the file.
_NAMED_BY_CONTENT: Final = re.compile(r".+-[\w-]{8}\.(js|css)")


class KeptAssets:
    """Answers requests for the scripts and styles of one folder; all others are the application's.

    Args:
        app: Answers everything else.
        folder: What is below ``/assets/``; it may be missing.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], folder: Path) -> None:
        self._app = app
        names = folder.iterdir() if folder.is_dir() else ()
        self._files = {each.name: each for each in names if _NAMED_BY_CONTENT.fullmatch(each.name)}
        self._contents: dict[str, bytes] = {}

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Any, send: Callable[..., Awaitable[None]]
    ) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        name = path.removeprefix(_PATH)
        is_ours = scope["type"] == "http" and scope["method"] in {"GET", "HEAD"} and path.startswith(_PATH)
        if not is_ours or name not in self._files:
            await self._app(scope, receive, send)
            return
        if name not in self._contents:
            self._contents[name] = self._files[name].read_bytes()
        content = self._contents[name]
        headers = [
            (b"content-type", _TYPES[self._files[name].suffix]),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", b"public, max-age=31536000, immutable"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = content if scope["method"] == "GET" else b""
        await send({"type": "http.response.body", "body": body})
