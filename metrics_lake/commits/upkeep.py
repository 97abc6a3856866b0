"""Checkpoints written and old versions of the log taken away."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from metrics_lake.commits.checkpoint import encode_checkpoint
from metrics_lake.layout import checkpoint_key, log_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from metrics_lake.commits.log import TableLog
    from metrics_lake.commits.state import TableSnapshot

__all__ = ["CHECKPOINT_INTERVAL", "LOG_RETENTION_SECONDS", "clean_log", "write_checkpoint"]

CHECKPOINT_INTERVAL: Final = 10
"""A checkpoint is written at every version that this divides."""

LOG_RETENTION_SECONDS: Final = 30 * 86_400.0
TOMBSTONE_SECONDS: Final = 7 * 86_400.0


def write_checkpoint(
    log: TableLog,
    state: TableSnapshot,
    *,
    forget: frozenset[str] = frozenset(),
    wall_clock: Callable[[], float] = time.time,
) -> bool:
    """Write the checkpoint of a version and return whether it was new.

    Args:
        log: The table's log.
        state: The version, from 0 on.
        forget: Application ids to leave out: from here on, handles that open the log cold do not know them.
        wall_clock: POSIX seconds; tombstones older than a week are left out, as other engines do.

    Raises:
        StorageError: The store could not be written. The log is whole without the checkpoint.
    """
    if forget:
        state = state.forgetting(forget)
    before_ms = int((wall_clock() - TOMBSTONE_SECONDS) * 1000)
    data, num_actions = encode_checkpoint(state, forget_removed_before_ms=before_ms)
    if not log.storage.put_new(checkpoint_key(log.table, state.version), data):
        return False
    hint = {"version": state.version, "size": num_actions, "sizeInBytes": len(data)}
    log.storage.put(f"{log_prefix(log.table)}_last_checkpoint", json.dumps(hint).encode())
    return True


def clean_log(log: TableLog, *, now: float) -> list[str]:
    """Delete the versions that no read needs any more, ascending, and return their keys.

    The newest checkpoint that is 30 days old stays, with the version's own object (other engines look for it)
    and everything behind it, so every version of the last 30 days can still be read.

    Args:
        log: The table's log.
        now: The store's clock, POSIX seconds.

    Raises:
        StorageError: The store could not be changed; what is left is whole.
    """
    listing = log.list_log()
    old = [
        version
        for version, parts in listing.checkpoints.items()
        if max(info.modified for info in parts) <= now - LOG_RETENTION_SECONDS and version in listing.commits
    ]
    if not old:
        return []
    kept = max(old)
    keys = []
    for version in sorted({*listing.commits, *listing.checkpoints}):
        if version >= kept:
            break
        infos = [*listing.checkpoints.get(version, ())]
        if version in listing.commits:
            infos.append(listing.commits[version])
        if any(info.modified > now - LOG_RETENTION_SECONDS for info in infos):
            break
        # One by one and ascending: where a version is there, so is its successor.
        log.storage.delete([info.key for info in infos])
        keys += [info.key for info in infos]
    return keys
