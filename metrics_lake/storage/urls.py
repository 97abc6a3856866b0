"""From a user's text to a place: pure, nothing is looked up."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from metrics_lake.errors import InvalidInputError

__all__ = ["Location", "parse_url"]

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_ONE_SLASH: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)(.*)")
_ALIASES: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "local": "file", "abfs": "abfs", "abfss": "abfs"}
_BUCKET_SCHEMES: Final = frozenset({"s3", "gs", "az", "abfs"})
_AT_IS_ACCOUNT: Final = frozenset({"az", "abfs"})
"""``abfs://container@account.dfs.core.windows.net``: no user stands there."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a storage is.

    Attributes:
        scheme: ``file``, ``memory``, ``s3``, ``gs`` or the fsspec protocol as given.
        url: Absolute, without credentials, query or trailing slash; a plain path for ``file``.
        bucket: The bucket, container or host; empty for ``file`` and ``memory``.
        options: Storage options that stood in the url itself.
    """

    scheme: str
    url: str
    bucket: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)


def parse_url(url: str | os.PathLike[str]) -> Location:
    """Return the place that a url names.

    Raises:
        InvalidInputError: It names none.
    """
    text = _text(url)
    found = _URL.fullmatch(text)
    if found is None:
        return Location("file", _absolute(_checked_path(text)))
    scheme = found[1].lower()
    scheme, rest = _ALIASES.get(scheme, scheme), found[2]
    if scheme == "file":
        return Location("file", _absolute(_file_path(rest, text)))
    if scheme in ("http", "https"):
        raise InvalidInputError(
            f"{scheme}:// cannot hold a lake.",
            hint='For an S3 service use s3://bucket/path with storage_options={"endpoint_url": "https://…"}.',
            url=text,
        )
    rest, _, query = rest.partition("?")
    options: dict[str, Any] = {name: _option(value) for name, value in parse_qsl(query)}
    rest = _without_user(scheme, rest, options)
    path = rest.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise InvalidInputError(f"'//', '/./' and '/../' cannot stand in {scheme}://{path}.", url=path)
    if scheme == "memory":
        return Location("memory", f"memory://{path}")
    bucket = "" if scheme in _BUCKET_SCHEMES and rest.startswith("/") else path.partition("/")[0]
    if not bucket or bucket.isspace():
        raise InvalidInputError(
            f"{scheme}:// names no bucket.", hint=f"Write {scheme}://bucket/path.", url=f"{scheme}://{path}"
        )
    if scheme in _BUCKET_SCHEMES and re.search(r"\s", bucket):
        raise InvalidInputError(f"{bucket!r} is no bucket's name.", url=f"{scheme}://{path}")
    return Location(scheme, f"{scheme}://{path}", bucket, options)


def _text(url: str | os.PathLike[str]) -> str:
    try:
        text: Any = os.fspath(url)
    except TypeError as error:
        raise InvalidInputError(f"A url is a str or a path, not {type(url).__name__}.", url=url) from error
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise InvalidInputError(f"{text!r} is neither a path nor a url.", url=text)
    return text


def _checked_path(text: str) -> str:
    if "://" in text and "::" in text:
        raise InvalidInputError(
            f"Chained urls cannot hold a lake: {text!r}.", hint="Give the last part alone.", url=text
        )
    slip = _ONE_SLASH.fullmatch(text)
    if slip is not None:
        slashes = "///" if slip[1].lower() == "file" else "//"
        raise InvalidInputError(
            f"{text!r} is neither a path nor a url.",
            hint=f"Did you mean {slip[1]}:{slashes}{slip[2]}?",
            url=text,
        )
    return text


def _file_path(rest: str, text: str) -> str:
    path = unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)
    if not path.startswith(("/", "~")):
        raise InvalidInputError(
            f"{text!r} is not an absolute file url.",
            hint=f"Did you mean file:///{rest} or the path {rest}?",
            url=text,
        )
    return path


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 -- '..' is cut, links stay
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"{path!r} is relative to the working directory, which was deleted.",
            hint="Name an absolute path, or go to a directory that exists.",
            url=path,
        ) from error


def _without_user(scheme: str, rest: str, options: dict[str, Any]) -> str:
    """Move ``user:password@`` from the url into the options."""
    host, slash, path = rest.partition("/")
    user, at, bare = host.rpartition("@")
    if not at or scheme in _AT_IS_ACCOUNT:
        return rest
    name, _, password = user.partition(":")
    names = ("key", "secret") if scheme == "s3" else ("username", "password")
    for option, value in zip(names, (name, password), strict=True):
        if value:
            options.setdefault(option, unquote(value))
    return f"{bare}{slash}{path}"


def _option(value: str) -> str | bool:
    return {"true": True, "false": False}.get(value.lower(), value)
