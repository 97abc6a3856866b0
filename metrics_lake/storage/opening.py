"""From a url to a storage: no network, no disk."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import InvalidInputError, MissingDriverError
from metrics_lake.storage.local import LocalStorage
from metrics_lake.storage.memory import MemoryStorage
from metrics_lake.storage.urls import parse_url

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from metrics_lake.storage.base import Storage
    from metrics_lake.storage.drivers import Driver

__all__ = ["open_storage"]

_EXTRAS: Final = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
}
"""Scheme to the driver's package and the extra that installs it."""


def open_storage(url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Storage:
    """Return the storage under a url; nothing is read, written or asked.

    Args:
        url: A path (``~`` and relative ones too), ``file://``, ``memory://``, ``s3://``, ``gs://``,
            ``az://``, ``abfs://``, or any other protocol that fsspec knows. What stands behind a ``?`` is
            taken as storage options (``s3://bucket/lake?endpoint_url=http://127.0.0.1:9000``), and so is
            ``user:password@``; neither is in the storage's ``url``.
        storage_options: What the protocol's fsspec filesystem takes; these come before what the url says.
            Secrets among them are left out of pickles: a receiving process takes its own from its
            environment, or gets a ``PermissionDeniedError`` that says so.

    Returns:
        The storage. It connects at its first request.

    Raises:
        InvalidInputError: The url is none, names no bucket, or its scheme is unknown.
        MissingDriverError: The scheme needs a package that is not installed.
    """
    place = parse_url(url)
    options = {**place.options, **(storage_options or {})}
    if place.scheme == "file":
        return LocalStorage(place.url)
    if place.scheme == "memory":
        return MemoryStorage(place.url)
    driver = _driver(place.scheme)
    from metrics_lake.storage.remote import RemoteStorage

    return RemoteStorage(place.url, place.bucket, driver, options)


def _driver(scheme: str) -> Driver:
    if scheme in _EXTRAS:
        package, extra = _EXTRAS[scheme]
        if importlib.util.find_spec(package) is None:
            raise MissingDriverError(
                f"{scheme}:// needs the package {package}, which is not installed.",
                hint=f'Install it: pip install "metrics-lake[{extra}]"',
                scheme=scheme,
                package=package,
            )
        from metrics_lake.storage import drivers

        kinds = {"s3": drivers.S3Driver, "gs": drivers.GcsDriver}
        return kinds.get(scheme, drivers.AzureDriver)()
    return _other_driver(scheme)


def _other_driver(scheme: str) -> Driver:
    import difflib

    import fsspec
    from fsspec.registry import known_implementations, registry

    if scheme not in known_implementations and scheme not in registry:
        known = sorted({*known_implementations, *registry, *_EXTRAS, "s3a", "gcs"})
        near = difflib.get_close_matches(scheme, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(f'{name}://' for name in near)}?" if near else None
        raise InvalidInputError(f"{scheme}:// is no known protocol.", hint=hint, scheme=scheme)
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise MissingDriverError(
            f"{scheme}:// needs a package that is not installed: {error}.",
            hint=known_implementations.get(scheme, {}).get("err"),
            scheme=scheme,
        ) from error
    from metrics_lake.storage.drivers import Driver

    return Driver()
