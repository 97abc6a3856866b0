"""What ``metrics-lake doctor`` looks at; each probe yields what it found."""

from __future__ import annotations

import importlib.metadata
import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from metrics_lake.charts import counted
from metrics_lake.cli.machine import DRIVERS, Found, state_of, versions
from metrics_lake.cli.output import FULL_INBOX
from metrics_lake.errors import (
    BucketNotFoundError,
    MetricsLakeError,
    PermissionDeniedError,
)
from metrics_lake.lakefile import read_lake
from metrics_lake.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metrics_lake.cli.place import Place
    from metrics_lake.lakefile import LakeFile
    from metrics_lake.storage import Storage

__all__ = ["examine"]

_PREFIX: Final = "_doctor/"
_LEFT_SECONDS: Final = 3600.0
_SKEW_SECONDS: Final = 5.0
"""Stores keep whole seconds, and a request takes its time: less is no skew."""


def examine(place: Place, *, with_writes: bool) -> Iterator[Found]:
    """Yield what is found at a place, one thing after the other.

    Args:
        place: The lake.
        with_writes: Put a throwaway object, and delete it.
    """
    yield from versions()
    url = place.url if place.url is not None else os.environ.get("METRICS_LAKE_URL") or "metrics-lake"
    source = (
        "--url"
        if place.url is not None
        else ("$METRICS_LAKE_URL" if os.environ.get("METRICS_LAKE_URL") else "the default")
    )
    try:
        storage = open_storage(url, place.storage_options)
    except MetricsLakeError as error:
        yield Found("url", "fail", error.message, error.hint or "Write a folder, s3://…, gs://… or az://….")
        return
    driver = DRIVERS.get(storage.url.partition("://")[0])
    yield Found("url", "ok", f"{storage.url} (from {source})")
    if driver is not None:
        yield Found("driver", "ok", f"{driver} {importlib.metadata.version(driver)}")
    with storage:
        lake, problem = _read_lake(storage)
        yield problem
        if problem.status != "fail":
            yield from _rights(storage, lake, with_writes=with_writes)
        if lake is not None:
            yield from _contents(place)
        yield from state_of(storage, lake)


# ---- the store --------------------------------------------------------------------------------------------


def _read_lake(storage: Storage) -> tuple[LakeFile | None, Found]:
    try:
        lake = read_lake(storage)
    except PermissionDeniedError as error:
        return None, Found("credentials", "fail", error.message, _credentials_hint(storage, error))
    except BucketNotFoundError as error:
        return None, Found("lake", "fail", error.message, error.hint or "Make the bucket, or mend the url.")
    except MetricsLakeError as error:
        hint = error.hint or "Check the network, the endpoint and the store; then run doctor again."
        return None, Found("lake", "fail", error.message, hint)
    if lake is None:
        return None, Found(
            "lake",
            "warn",
            "there is no lake yet",
            "The first write makes one; if there should be one, check the url.",
        )
    if not lake.creates_exclusively:
        return lake, Found(
            "lake",
            "warn",
            f"lake {lake.lake_id}, on a store without exclusive creation: it appends and never compacts",
            "Move it to a local disk, S3, GCS or Azure, or upgrade the store.",
        )
    return lake, Found("lake", "ok", f"lake {lake.lake_id}, format {lake.format_version}")


def _credentials_hint(storage: Storage, error: MetricsLakeError) -> str:
    scheme = storage.url.partition("://")[0]
    hints = {
        "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or the storage options key "
        "and secret.",
        "gs": "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
        "file": "Give this user the right to read the folder.",
    }
    return error.hint or hints.get(scheme, hints["file"] if storage.is_local else "Check the credentials.")


def _rights(storage: Storage, lake: LakeFile | None, *, with_writes: bool) -> Iterator[Found]:
    try:
        storage.list(_PREFIX)
    except MetricsLakeError as error:
        yield Found(
            "list", "fail", error.message, "Readers and writers need GET and LIST: grant LIST on the prefix."
        )
    else:
        yield Found("list", "ok", "allowed")
    if not with_writes:
        return
    if storage.is_local and not Path(storage.url).is_dir():
        yield _parent(Path(storage.url))
        return
    yield from _writes(storage, lake)


def _parent(folder: Path) -> Found:
    """Say whether a folder could be made; doctor makes none."""
    parent = next(each for each in folder.parents if each.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return Found("put", "ok", f"{folder} does not exist yet and can be made")
    return Found(
        "put", "fail", f"{folder} cannot be made in {parent}", "Choose a folder that this user may write."
    )


def _writes(storage: Storage, lake: LakeFile | None) -> Iterator[Found]:
    key = f"{_PREFIX}{uuid.uuid4().hex}"
    before = time.time()
    try:
        is_new = storage.put_new(key, b"first")
    except PermissionDeniedError as error:
        yield Found(
            "put",
            "warn",
            f"refused: these credentials can only read ({error.message})",
            "Writers need PUT and GET; for reading this is as it should be.",
        )
        return
    except MetricsLakeError as error:
        yield Found("put", "fail", error.message, error.hint or "Check the disk or the store.")
        return
    after = time.time()
    try:
        yield Found("put", "ok", "allowed")
        yield from _exclusive(storage, key, lake, is_new=is_new)
        yield from _clock(storage, key, before, after)
    finally:
        deleted = _delete(storage, key)
    yield deleted


def _exclusive(storage: Storage, key: str, lake: LakeFile | None, *, is_new: bool) -> Iterator[Found]:
    try:
        is_twice = storage.put_new(key, b"second")
        is_kept = storage.get(key) == b"first"
    except MetricsLakeError as error:
        yield Found("get", "fail", error.message, "Writers and readers need GET.")
        return
    yield Found("get", "ok", "allowed")
    if is_new and is_kept and not is_twice and storage.honours_exclusive_create is not False:
        yield Found("exclusive create", "ok", "a second creation of the same object is refused")
    elif lake is not None and lake.creates_exclusively:
        yield Found(
            "exclusive create",
            "fail",
            "the store lets one object be created twice, and the lake was made where it did not",
            "Stop compacting here; use the store that the lake was made on.",
        )
    else:
        yield Found(
            "exclusive create",
            "warn",
            "the store lets one object be created twice: a lake can append here and never compact",
            "Use a local disk with hard links, S3, GCS, Azure, or a store that honours If-None-Match.",
        )


def _clock(storage: Storage, key: str, before: float, after: float) -> Iterator[Found]:
    try:
        found = next((each.modified for each in storage.list(_PREFIX) if each.key == key), 0.0)
    except MetricsLakeError:
        return  # told by the probe of LIST
    if not found:
        yield Found("clock", "ok", "the store keeps no times")
        return
    skew = max(before - found, found - after, 0.0)
    if skew <= _SKEW_SECONDS:
        yield Found("clock", "ok", "agrees with the store's")
    else:
        which = "ahead of" if before > found else "behind"
        yield Found(
            "clock",
            "warn",
            f"this machine's clock is {skew:,.0f} s {which} the store's",
            "Set the clocks of the machines that log (NTP): the latest value is the one with the greatest "
            "timestamp.",
        )


def _delete(storage: Storage, key: str) -> Found:
    try:
        storage.delete([key, *_left_behind(storage, key)])
    except PermissionDeniedError:
        return Found(
            "delete",
            "warn",
            f"refused: {key} stays. Logging needs no DELETE; compact, vacuum and delete do",
            "Let somebody with that right run `metrics-lake compact` and `vacuum`.",
        )
    except MetricsLakeError as error:
        return Found("delete", "fail", error.message, f"Delete {key} by hand.")
    return Found("delete", "ok", "allowed")


def _left_behind(storage: Storage, key: str) -> list[str]:
    """Return what examinations that were killed, or had no right to delete, left long before this one."""
    try:
        found = {each.key: each.modified for each in storage.list(_PREFIX)}
    except MetricsLakeError:
        return []  # told by the probe of LIST
    return [each for each, modified in found.items() if modified < found.get(key, 0.0) - _LEFT_SECONDS]


# ---- the lake ---------------------------------------------------------------------------------------------


def _contents(place: Place) -> Iterator[Found]:
    try:
        with place.reading(adopting=False) as lake:
            waiting = lake.inspect.files().values("kind").count("inbox")
            gaps = lake.inspect.gaps()
            missing = sum(each or 0 for each in gaps.values("points"))
    except MetricsLakeError as error:
        yield Found("points", "fail", error.message, error.hint or "`metrics-lake verify` says more.")
        return
    if waiting > FULL_INBOX:
        yield Found(
            "inbox",
            "warn",
            f"{waiting:,} objects wait to be compacted, which makes reads slower",
            "metrics-lake compact",
        )
    else:
        yield Found("inbox", "ok", f"{counted(waiting, 'object')} to compact")
    if missing:
        yield Found(
            "gaps",
            "warn",
            f"{missing:,} points were published, or should have been, and no object holds them",
            "metrics-lake verify; `metrics-lake recover` on the machine that logged them.",
        )
