"""Checks of a table's log: every version, every checkpoint, and that they say the same."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.commits.actions import parse_commit
from metrics_lake.commits.checkpoint import decode_checkpoint, parse_log_listing
from metrics_lake.commits.watermarks import end_app_id
from metrics_lake.errors import CorruptObjectError, ObjectNotFoundError, UnsupportedFormatError
from metrics_lake.layout import checkpoint_key, log_key, log_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake.commits import TableSnapshot
    from metrics_lake.commits.actions import Commit
    from metrics_lake.commits.checkpoint import LogListing
    from metrics_lake.inspection.report import Findings
    from metrics_lake.storage import ObjectInfo, Storage

__all__ = ["LogChecks", "check_log"]

_VERSIONS_AT_ONCE: Final = 64
_WRITER_APP: Final = re.compile(r"ml:(?P<writer>[0-9a-f]{32})(?:@\d+|@end)?")


@dataclass(slots=True)
class LogChecks:
    """What the check of a log found beside its findings.

    Attributes:
        added_by: The version that added each file, as far as the log's own objects tell.
        objects: The objects that were read.
        size_bytes: Their size.
    """

    added_by: dict[str, int] = field(default_factory=dict)
    objects: int = 0
    size_bytes: int = 0


def check_log(storage: Storage, table: str, infos: Sequence[ObjectInfo], findings: Findings) -> LogChecks:
    """Read every version and every checkpoint of a table and compare them with each other.

    Args:
        storage: The lake's objects.
        table: The table.
        infos: The listing of its log.
        findings: Takes what is wrong.

    Raises:
        StorageError: The store failed.
    """
    done = LogChecks()
    listing = parse_log_listing(infos)
    _check_versions_present(table, listing, findings)
    _check_last_checkpoint(storage, table, infos, listing, findings)
    state = _empty(table) if 0 in listing.commits else None
    versions = sorted({*listing.commits, *listing.checkpoints})
    for start in range(0, len(versions), _VERSIONS_AT_ONCE):
        chunk = versions[start : start + _VERSIONS_AT_ONCE]
        bodies = _bodies(storage, [listing.commits[each] for each in chunk if each in listing.commits])
        for version in chunk:
            if version in listing.commits:
                key = log_key(table, version)
                commit = _commit_of(table, version, key, bodies.get(key), findings)
                done.objects += 1
                done.size_bytes += listing.commits[version].size_bytes
                follows = state is not None and state.version == version - 1
                if commit is None:
                    state = None
                else:
                    for entry in commit.adds:
                        done.added_by[entry.file.key] = version
                    if state is not None and follows:
                        _check_commit(table, key, commit, state, findings)
                        state = state.after(commit)
                    else:
                        state = None
            elif state is not None and state.version != version - 1:
                state = None
            if version in listing.checkpoints:
                parts = listing.checkpoints[version]
                done.objects += len(parts)
                done.size_bytes += sum(info.size_bytes for info in parts)
                found = _checkpoint_of(storage, table, version, parts, findings)
                if found is not None and state is not None and state.version == version:
                    _compare(table, parts[0].key, found, state, findings)
                if found is not None and (state is None or state.version != version):
                    state = found
    return done


def _empty(table: str) -> TableSnapshot:
    from metrics_lake.commits import TableSnapshot

    return TableSnapshot(table)


def _bodies(storage: Storage, infos: Sequence[ObjectInfo]) -> dict[str, bytes]:
    try:
        bodies = storage.get_many([(info.key, 0, info.size_bytes) for info in infos])
        return {info.key: body for info, body in zip(infos, bodies, strict=True)}
    except ObjectNotFoundError:
        found = {}
        for info in infos:
            try:
                found[info.key] = storage.get(info.key)
            except ObjectNotFoundError:
                continue  # cleaned up since the listing
        return found


def _commit_of(table: str, version: int, key: str, data: bytes | None, findings: Findings) -> Commit | None:
    if data is None:
        return None
    try:
        data.decode("utf-8")
        return parse_commit(table, version, data, key=key)
    except (CorruptObjectError, UnicodeDecodeError) as error:
        findings.add(
            "error",
            "log",
            f"This version cannot be read: {error}",
            table=table,
            key=key,
            hint="Restore this object from a backup. A newer checkpoint makes the table readable without it.",
        )
    except UnsupportedFormatError as error:
        findings.add("error", "log", error.message, table=table, key=key, hint=error.hint or "")
    return None


def _check_commit(table: str, key: str, commit: Commit, before: TableSnapshot, findings: Findings) -> None:
    def report(what: str) -> None:
        findings.add("error", "log", what, table=table, key=key, hint="Restore this object from a backup.")

    if commit.version == 0 and (commit.metadata is None or commit.protocol is None):
        report("The first version lacks metaData or protocol.")
    for each in commit.removes:
        if each not in before.entries and each not in before.tombstones:
            report(f"It removes {each!r}, which no version in front of it added.")
    for entry in commit.adds:
        file = entry.file
        if file.is_ours and (file.num_records is None or file.size_bytes <= 0):
            report(f"It adds {file.key!r} without a number of rows or a size.")
        if f"month={file.month}" not in file.key.split("/") and file.is_ours:
            report(f"It adds {file.key!r} to the partition {file.month!r}.")
        known = before.entries.get(file.key)
        if known is not None and (known.file.digest, known.file.size_bytes) != (file.digest, file.size_bytes):
            report(f"It adds {file.key!r} again with another digest or size.")
    for text, (version, _) in commit.txns.items():
        known_version = before.transactions.get(text)
        is_watermark = _WRITER_APP.fullmatch(text) is not None and not text.endswith("@end")
        if is_watermark and known_version is not None and version < known_version:
            report(f"It sets the watermark {text!r} back from {known_version} to {version}.")


def _checkpoint_of(
    storage: Storage, table: str, version: int, parts: Sequence[ObjectInfo], findings: Findings
) -> TableSnapshot | None:
    try:
        bodies = [(info.key, storage.get(info.key)) for info in parts]
    except ObjectNotFoundError:
        return None  # cleaned up since the listing
    try:
        return decode_checkpoint(table, version, bodies)
    except CorruptObjectError as error:
        what, key = f"This checkpoint cannot be read: {error.message}", error.key
    except UnsupportedFormatError as error:
        what, key = error.message, parts[0].key
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        what, key = f"This checkpoint cannot be read: {error!r}", parts[0].key
    findings.add(
        "error",
        "checkpoint",
        what,
        table=table,
        key=key,
        hint="Delete it if all versions since an older checkpoint, or since 0, are there; else restore it.",
    )
    return None


def _compare(table: str, key: str, found: TableSnapshot, replayed: TableSnapshot, findings: Findings) -> None:
    """Report where a checkpoint says something else than the versions in front of it."""

    def report(what: str) -> None:
        findings.add(
            "error",
            "checkpoint",
            f"It does not say what the versions up to it add up to: {what}",
            table=table,
            key=key,
            hint="One of them is damaged: compare them with a backup. Readers believe the newest checkpoint.",
        )

    ours, theirs = _described(replayed), _described(found)
    if different := sorted(
        each for each in ours.keys() | theirs.keys() if ours.get(each) != theirs.get(each)
    ):
        report(f"the file {different[0]!r} and {len(different) - 1} others differ.")
    txns, kept = _txns(replayed), _txns(found)
    ended = set(replayed.transactions.ended_writers())
    for text in sorted(txns.keys() | kept.keys()):
        if txns.get(text) == kept.get(text):
            continue
        matched = _WRITER_APP.fullmatch(text)
        was_forgotten = (
            text not in kept
            and matched is not None
            and matched["writer"] in ended
            and replayed.transactions.get(end_app_id(matched["writer"])) == 1
        )
        if not was_forgotten:
            report(f"the identifier {text!r} is {kept.get(text)}, not {txns.get(text)}.")
            break
    if found.metadata.get("schemaString") != replayed.metadata.get("schemaString") or found.metadata.get(
        "id"
    ) != replayed.metadata.get("id"):
        report("the table's metadata differ.")


def _described(state: TableSnapshot) -> dict[str, tuple[Any, ...]]:
    return {
        key: (
            entry.file.size_bytes,
            entry.file.digest,
            entry.file.month,
            entry.file.num_records,
            entry.file.bloom,
        )
        for key, entry in state.entries.items()
    }


def _txns(state: TableSnapshot) -> dict[str, int]:
    columns = state.transactions.table()
    found: Any = zip(columns.column("appId").to_pylist(), columns.column("version").to_pylist(), strict=True)
    return dict(found)


def _check_versions_present(table: str, listing: LogListing, findings: Findings) -> None:
    if not listing.commits and not listing.checkpoints:
        return
    newest_checkpoint = max(listing.checkpoints, default=-1)
    lowest = min(listing.commits, default=newest_checkpoint)
    first_needed = max(newest_checkpoint, 0)
    for version in range(min(lowest, first_needed), listing.newest + 1):
        if version in listing.commits:
            continue
        if version > newest_checkpoint:
            findings.add(
                "error",
                "log",
                f"Version {version} is missing: the table cannot be read beyond it.",
                table=table,
                key=log_key(table, version),
                hint="Restore this object from a backup.",
            )
        elif version == newest_checkpoint:
            findings.add(
                "warning",
                "log",
                f"The object of version {version} is missing. Its checkpoint is there; engines may need it.",
                table=table,
                key=log_key(table, version),
                hint="Restore this object from a backup.",
            )
        else:
            findings.add(
                "warning",
                "log",
                f"Version {version} is missing: some older versions cannot be read any more.",
                table=table,
                key=log_key(table, version),
            )


def _check_last_checkpoint(
    storage: Storage, table: str, infos: Sequence[ObjectInfo], listing: LogListing, findings: Findings
) -> None:
    key = f"{log_prefix(table)}_last_checkpoint"
    if all(info.key != key for info in infos):
        return
    try:
        named = json.loads(storage.get(key))["version"]
    except ObjectNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        findings.add(
            "warning",
            "checkpoint",
            "It cannot be read. It is a hint: we list the log, other engines may fail.",
            table=table,
            key=key,
            hint="Delete it.",
        )
        return
    if named not in listing.checkpoints:
        findings.add(
            "warning",
            "checkpoint",
            f"It names the checkpoint {named}, which is missing. We list the log, other engines may fail.",
            table=table,
            key=checkpoint_key(table, named) if isinstance(named, int) else key,
            hint=f"Delete {key}, or restore the checkpoint from a backup.",
        )
