"""Checks over all objects: rows that are there twice, watermarks, gaps, files that nothing names."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake.commits import Snapshot, decode_rows
from metrics_lake.errors import CorruptObjectError, ObjectNotFoundError
from metrics_lake.inspection.fetching import fetched
from metrics_lake.inspection.listing import holes_of
from metrics_lake.layout import log_prefix, sidecar_key, table_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metrics_lake.commits import TableSnapshot
    from metrics_lake.inspection.duplicates import Duplicates
    from metrics_lake.inspection.report import Findings
    from metrics_lake.storage import Storage

__all__ = ["KNOWN_PLACES", "check_duplicates", "check_gaps", "check_orphans", "check_watermarks"]

KNOWN_PLACES: Final = ("_delta_log/", "_claims/", "_change_data/")
"""Folders of a table that hold no data files of ours."""


def check_duplicates(
    storage: Storage, snapshot: Snapshot, duplicates: Duplicates, findings: Findings
) -> None:
    """Report rows that are there twice: read again what has suspects, and only then accuse."""
    report = partial(findings.add, table=snapshot.table)
    suspects = duplicates.suspects()
    if not len(suspects):
        return
    columns = ["resource", "writer", "seq"]
    wanted: list[tuple[Any, str, int]] = [(None, file.key, file.size_bytes) for file in snapshot.log.files]
    wanted += [(live, live.name.key, live.size_bytes) for live in snapshot.inbox]
    for live, key, data in fetched(storage, wanted):
        if data is None:
            continue
        try:
            rows = decode_rows(snapshot.table, data, key=key, columns=columns)
        except CorruptObjectError:
            continue  # named already
        if live is None:
            suspects.add(key, rows)
        else:
            for low, high in live.keep:
                suspects.add(key, rows.slice(low - live.name.first, high - low + 1))
    for keys, count, (resource, writer, seq) in suspects.convicted():
        places = f"in {keys[0]!r}" if len(keys) == 1 else f"in {' and '.join(map(repr, keys))}"
        report(
            "error",
            "duplicate",
            f"{count} rows are there twice {places}, such as row {seq} of writer {writer} of resource "
            f"{resource!r}.",
            key=keys[0],
            hint="Another engine inserted copies, or a watermark was lost: maintenance.recover().",
        )


def check_watermarks(snapshot: Snapshot, greatest_seqs: Mapping[str, int], findings: Findings) -> None:
    """Report watermarks that end before rows that the table holds.

    Args:
        snapshot: The snapshot.
        greatest_seqs: By writer the greatest ``seq`` of the table's rows that were not copied.
        findings: Takes what is wrong.
    """
    report = partial(findings.add, table=snapshot.table)
    state: TableSnapshot = snapshot.log
    listed = {file.name.writer for file in snapshot.listed if file.name.last >= file.name.first}
    for writer, greatest in sorted(greatest_seqs.items()):
        consumed = state.consumed(writer)
        if consumed and greatest > consumed[-1][1]:
            report(
                "error",
                "watermark",
                f"The table holds row {greatest} of writer {writer}, and its watermark ends at "
                f"{consumed[-1][1]}: the rows behind it would be read twice.",
                key=log_prefix(snapshot.table),
                hint="Restore the log from a backup, or run maintenance.recover().",
            )
        elif not consumed and writer in listed:
            report(
                "error",
                "watermark",
                f"The table holds rows of writer {writer} up to {greatest}, the inbox has objects of it, "
                "and its watermark is missing: rows may be read twice.",
                key=log_prefix(snapshot.table),
                hint="Run maintenance.recover().",
            )


def check_gaps(snapshot: Snapshot, findings: Findings) -> None:
    """Report rows that no object holds."""
    report = partial(findings.add, table=snapshot.table)
    for hole in holes_of(snapshot):
        what = f"Rows {hole.first} to {hole.last} of writer {hole.writer} are missing. "
        if hole.is_settled:
            what += "An earlier commit read on behind them."
        elif hole.is_skipped:
            what += "Readers read on behind them."
        else:
            what += "Readers stop in front of them until they are 15 minutes late."
        report(
            "error" if hole.is_skipped and not hole.is_settled else "warning",
            "gap",
            what,
            hint="Their object was lost, quarantined or is late: put it back under its name.",
        )


def check_orphans(
    storage: Storage,
    snapshot: Snapshot,
    table_keys: Iterable[str],
    sidecar_keys: Iterable[str],
    findings: Findings,
) -> None:
    """Report data files and sidecars that nothing names, and those that show that the log lost its end.

    Args:
        storage: The lake's objects.
        snapshot: A snapshot that was taken after the listings.
        table_keys: The keys under the table's prefix.
        sidecar_keys: The keys of its sidecars.
        findings: Takes what is wrong.
    """
    report = partial(findings.add, table=snapshot.table)
    state: TableSnapshot = snapshot.log
    prefix = table_prefix(snapshot.table)
    for key in table_keys:
        rest = key.removeprefix(prefix)
        if not key.endswith(".parquet") or rest.startswith(KNOWN_PLACES):
            continue
        if key not in state.entries and key not in state.tombstones:
            _check_orphan(storage, snapshot, key, findings)
    files = {sidecar_key(snapshot.table, key) for key in (*table_keys, *state.entries)}
    for key in sidecar_keys:
        if key not in files:
            report(
                "note",
                "sidecar",
                "Its data file is not there (any more).",
                key=key,
                hint="maintenance.vacuum() deletes it in time.",
            )


def _check_orphan(storage: Storage, snapshot: Snapshot, key: str, findings: Findings) -> None:
    report = partial(findings.add, table=snapshot.table)
    try:
        rows = decode_rows(snapshot.table, storage.get(key), key=key, columns=["writer", "seq", "origin"])
    except (ObjectNotFoundError, CorruptObjectError):
        rows = None
    lost = 0 if rows is None else _writers_lost(snapshot, rows)
    if lost:
        report(
            "error",
            "orphan",
            f"No version names this file, and it holds rows of {lost} writers that are nowhere else: the "
            "end of the log was lost.",
            key=key,
            hint=f"Restore the end of {log_prefix(snapshot.table)} from a backup, and vacuum nothing.",
        )
    else:
        report(
            "warning",
            "orphan",
            "No version names this file: a compaction is running, or ended in the middle.",
            key=key,
            hint="maintenance.vacuum() deletes it after a week.",
        )


def _writers_lost(snapshot: Snapshot, rows: pa.Table) -> int:
    """Return how many writers have rows here behind everything that the log and the inbox know of them."""
    known: dict[str, int] = {}
    for file in snapshot.listed:
        known[file.name.writer] = max(file.name.last, known.get(file.name.writer, -1))
    own = rows.filter(pc.is_null(rows.column("origin"))).group_by("writer").aggregate([("seq", "max")])
    found: Any = zip(own.column("writer").to_pylist(), own.column("seq_max").to_pylist(), strict=True)
    lost = 0
    for writer, greatest in found:
        consumed = snapshot.log.consumed(writer)
        horizon = max(consumed[-1][1] if consumed else -1, known.get(writer, -1))
        lost += 0 <= horizon < greatest
    return lost
