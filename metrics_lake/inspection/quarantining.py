"""One damaged object out of the way: readers go on, and its bytes are kept."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from metrics_lake.commits import Intent, TableLog, commit, take_snapshot
from metrics_lake.errors import (
    CommitConflictError,
    GapWarning,
    InvalidInputError,
    NotFoundError,
    ObjectNotFoundError,
    StorageError,
)
from metrics_lake.inspection.objects import Checked, check_data_file, check_inbox_object
from metrics_lake.inspection.report import Finding, Quarantine
from metrics_lake.jitter import jitter
from metrics_lake.layout import parse_inbox_key, quarantine_key
from metrics_lake.resources import nearest
from metrics_lake.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from metrics_lake.commits import DataFile, Snapshot
    from metrics_lake.layout import InboxName
    from metrics_lake.storage import Storage

__all__ = ["quarantine_object"]

_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class _Target:
    """The object, and what quarantining it means."""

    points: int | None
    data: bytes | None
    findings: tuple[Finding, ...]


def quarantine_object(
    storage: Storage,
    key: str,
    *,
    lake_id: str | None,
    dry_run: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> Quarantine:
    """Move a damaged object out of the way; see ``Inspection.quarantine``.

    Raises:
        NotFoundError: There is no such inbox object, and no version has such a data file.
        InvalidInputError: Nothing is wrong with the object, or it is of another kind.
        StorageError: The store failed; repeating the call is safe.
    """
    name = parse_inbox_key(key)
    if name is not None and name.table in TABLES:
        return _quarantine_inbox_object(storage, name, lake_id, dry_run=dry_run)
    table = key.partition("/")[0]
    if table not in TABLES or "/_" in key:
        raise InvalidInputError(
            f"{key!r} is neither an inbox object nor a data file.",
            hint="Pass the key of a finding of inspect.verify(). Damaged sidecars may simply be deleted.",
            key=key,
        )
    return _quarantine_data_file(storage, TableLog(storage, table), key, dry_run=dry_run, sleep=sleep)


def _quarantine_inbox_object(
    storage: Storage, name: InboxName, lake_id: str | None, *, dry_run: bool
) -> Quarantine:
    key = name.key
    snapshot = _snapshot(storage, TableLog(storage, name.table))
    try:
        data = storage.get(key)
    except ObjectNotFoundError as error:
        near = nearest(key, [file.name.key for file in snapshot.listed])
        raise NotFoundError(
            f"There is no object {key!r}.", hint=f"Near: {', '.join(near)}" if near else None, key=key
        ) from error
    checked = check_inbox_object(name, data, lake_id, _ignore)
    findings = _damage(name.table, key, checked)
    keep = next((live.keep for live in snapshot.inbox if live.name == name), ())
    if not dry_run:
        _keep_bytes(storage, key, data)
        storage.delete([key])
    return Quarantine(
        key=key,
        table=name.table,
        kind="inbox",
        moved_to=quarantine_key(key),
        points=sum(last - first + 1 for first, last in keep),
        version=None,
        findings=findings,
        dry_run=dry_run,
    )


def _quarantine_data_file(
    storage: Storage, log: TableLog, key: str, *, dry_run: bool, sleep: Callable[[float], None]
) -> Quarantine:
    target: _Target | None = None
    for attempt in range(_ATTEMPTS):
        state = log.reopen()
        entry = state.entries.get(key)
        if entry is None:
            near = nearest(key, state.entries)
            raise NotFoundError(
                f"The table {log.table!r} has no live file {key!r}.",
                hint=f"Near: {', '.join(near)}" if near else None,
                key=key,
            )
        if target is None:
            target = _examine(storage, log.table, key, state.entries[key].file)
        version = None
        if not dry_run:
            if target.data is not None:
                _keep_bytes(storage, key, target.data)
            try:
                # The rows are given up, not their numbers: the watermarks stay, so nothing comes back twice.
                version = commit(log, state, Intent("QUARANTINE", removes=(key,)), sleep=sleep)
            except CommitConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
                sleep(jitter(0, 0.1 * 2**attempt))
                continue
        return Quarantine(
            key=key,
            table=log.table,
            kind="table",
            moved_to=None if target.data is None else quarantine_key(key),
            points=target.points,
            version=version,
            findings=target.findings,
            dry_run=dry_run,
        )
    raise AssertionError  # pragma: no cover -- the loop returns or raises


def _examine(storage: Storage, table: str, key: str, file: DataFile) -> _Target:
    try:
        data = storage.get(key)
    except ObjectNotFoundError:
        missing = Finding("error", "missing", table, key, "The log names this file and it is not there.", "")
        return _Target(file.num_records, None, (missing,))
    checked = check_data_file(file, data, _ignore)
    return _Target(file.num_records, data, _damage(table, key, checked))


def _damage(table: str, key: str, checked: Checked) -> tuple[Finding, ...]:
    found = tuple(
        Finding(each.severity, each.code, table, key, each.what, "")
        for each in checked.problems
        if each.severity == "error" and each.code != "log"
    )
    if not found:
        raise InvalidInputError(
            f"Nothing is wrong with {key!r}.",
            hint="Quarantine is for damaged objects; maintenance.delete() deletes points.",
            key=key,
        )
    return found


def _keep_bytes(storage: Storage, key: str, data: bytes) -> None:
    kept = quarantine_key(key)
    if not storage.put_new(kept, data) and storage.get(kept) != data:
        raise StorageError(
            f"{kept!r} holds other bytes already.", hint="Move it elsewhere and try again.", key=kept
        )


def _snapshot(storage: Storage, log: TableLog) -> Snapshot:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapWarning)
        return take_snapshot(storage, log, tuple)


def _ignore(rows: pa.Table) -> None:
    del rows
