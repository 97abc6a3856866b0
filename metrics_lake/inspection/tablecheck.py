"""The verification of one table: every object that it consists of is read, and what is wrong is named."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from metrics_lake.commits import Snapshot, TableLog, decode_rows, digest_of, open_rows, take_snapshot
from metrics_lake.commits.intervals import contains
from metrics_lake.errors import (
    CorruptObjectError,
    FormatError,
    GapWarning,
    MetricsLakeError,
    MetricsLakeWarning,
    ObjectNotFoundError,
    UnsupportedFormatError,
)
from metrics_lake.inspection.consistency import (
    KNOWN_PLACES,
    check_duplicates,
    check_gaps,
    check_orphans,
    check_watermarks,
)
from metrics_lake.inspection.duplicates import Duplicates
from metrics_lake.inspection.fetching import fetched, is_there
from metrics_lake.inspection.logchecks import LogChecks, check_log
from metrics_lake.inspection.objects import (
    Checked,
    check_data_file,
    check_inbox_object,
    check_sidecar,
    footers,
)
from metrics_lake.inspection.report import RESTORE, Findings
from metrics_lake.layout import (
    inbox_prefix,
    log_key,
    log_prefix,
    parse_inbox_key,
    sidecar_key,
    sidecar_prefix,
    table_prefix,
)
from metrics_lake.schema import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metrics_lake.commits import DataFile, TableSnapshot
    from metrics_lake.progress import Progress
    from metrics_lake.storage import ObjectInfo, Storage

__all__ = ["TableCheck", "Totals"]

_OUR_FILE: Final = re.compile(r"month=\d{4}-(?:0[1-9]|1[0-2])/[0-9a-f]{32}\.parquet")


@dataclass(slots=True)
class Totals:
    """How much was read."""

    points: int = 0
    objects: int = 1  # the lake's own file
    size_bytes: int = 0


class TableCheck:
    """Verifies one table.

    Args:
        storage: The lake's objects.
        table: The table's name.
        lake_id: The id of the lake that its objects should be of; None where nobody knows.
        findings: Gets what is wrong.
        totals: Is added to.
        progress: Called with the bytes done and the bytes in all.
    """

    def __init__(
        self,
        storage: Storage,
        table: str,
        lake_id: str | None,
        findings: Findings,
        totals: Totals,
        progress: Progress | None,
    ) -> None:
        self._storage = storage
        self._table = table
        self._lake_id = lake_id
        self._findings = findings
        self._totals = totals
        self._progress = progress
        self._done_bytes = 0
        self._all_bytes = 0
        self._greatest: dict[str, int] = {}

    def run(self) -> None:
        """Read the table.

        Raises:
            StorageError: The store failed.
        """
        # The objects before the log: then whatever the log names was listed, unless it is newer or missing.
        table_infos = {info.key: info for info in self._storage.list(table_prefix(self._table))}
        sidecars = {info.key: info for info in self._storage.list(sidecar_prefix(self._table))}
        inbox = self._storage.list(inbox_prefix(self._table))
        self._check_names(inbox, table_infos)
        log_infos = [info for key, info in table_infos.items() if key.startswith(log_prefix(self._table))]
        checked_log = check_log(self._storage, self._table, log_infos, self._findings)
        self._totals.objects += checked_log.objects
        self._totals.size_bytes += checked_log.size_bytes
        snapshot = self._snapshot()
        if snapshot is None:
            self._check_without_log(inbox, table_infos)
            return
        self._all_bytes = sum(each.size_bytes for each in (*snapshot.log.files, *snapshot.listed))
        rows = sum(file.num_records or 0 for file in snapshot.log.files) + snapshot.num_inbox_rows
        with Duplicates(rows) as duplicates:
            self._check_files(snapshot, checked_log, sidecars, duplicates)
            self._check_inbox(snapshot, duplicates)
            check_duplicates(self._storage, snapshot, duplicates, self._findings)
        check_watermarks(snapshot, self._greatest, self._findings)
        check_gaps(snapshot, self._findings)
        check_orphans(self._storage, snapshot, table_infos, sidecars, self._findings)

    def _report(self, severity: Any, code: str, what: str, *, key: str | None = None, hint: str = "") -> None:
        self._findings.add(severity, code, what, table=self._table, key=key, hint=hint)

    def _take(self, size_bytes: int) -> None:
        self._totals.objects += 1
        self._totals.size_bytes += size_bytes
        self._done_bytes += size_bytes
        if self._progress is not None:
            self._progress(self._done_bytes, max(self._all_bytes, self._done_bytes))

    # ---- what is there ---------------------------------------------------------------------------------

    def _check_names(self, inbox: Sequence[ObjectInfo], table_infos: dict[str, ObjectInfo]) -> None:
        for info in inbox:
            name = parse_inbox_key(info.key)
            if info.key == f"{inbox_prefix(self._table)}_inbox":
                continue
            if name is None or name.table != self._table:
                self._report(
                    "error" if info.key.endswith(".parquet") else "warning",
                    "name",
                    "This is no name of an inbox object, so readers pass it over."
                    + _true_name(self._storage, info.key),
                    key=info.key,
                    hint="Give it its right name back, or move it out of the inbox.",
                )
            elif name.key != info.key:
                self._report("error", "name", f"Its name should be written {name.key!r}.", key=info.key)
        prefix = table_prefix(self._table)
        for key in table_infos:
            rest = key.removeprefix(prefix)
            if rest.startswith(KNOWN_PLACES) or key.endswith(".parquet"):
                continue
            self._report("note", "unknown", "Nothing of this kind belongs to a table.", key=key)

    def _snapshot(self) -> Snapshot | None:
        log = TableLog(self._storage, self._table)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", GapWarning)  # gaps are findings here
                warnings.simplefilter("ignore", MetricsLakeWarning)
                return take_snapshot(self._storage, log, tuple)
        except UnsupportedFormatError as error:
            self._report("error", "log", error.message, key=log_prefix(self._table), hint=error.hint or "")
        except FormatError as error:
            # check_log has named the object; here is what follows from it
            self._report(
                "error",
                "log",
                f"The table cannot be read at all: {error.message}",
                key=error.context.get("key") or log_prefix(self._table),
                hint="Restore the log's damaged objects from a backup.",
            )
        except MetricsLakeError as error:
            if error.retryable:
                raise
            self._report(
                "error",
                "log",
                f"The table cannot be read at all: {error.message}",
                key=log_prefix(self._table),
                hint="Restore the missing versions from a backup.",
            )
        return None

    def _check_without_log(self, inbox: Sequence[ObjectInfo], table_infos: dict[str, ObjectInfo]) -> None:
        """Check what can be checked where the log cannot be read: each object alone."""
        for info in inbox:
            name = parse_inbox_key(info.key)
            if name is None:
                continue
            try:
                data = self._storage.get(info.key)
            except ObjectNotFoundError:
                continue
            self._take(len(data))
            self._name_problems(info.key, check_inbox_object(name, data, self._lake_id, _ignore), RESTORE)
        for key in table_infos:
            if not _OUR_FILE.fullmatch(key.removeprefix(table_prefix(self._table))):
                continue
            try:
                data = self._storage.get(key)
                self._take(len(data))
                decode_rows(self._table, data, key=key, columns=["seq"])
            except ObjectNotFoundError:
                continue
            except CorruptObjectError as error:
                self._report("error", "checksum", error.message, key=key, hint=RESTORE)

    # ---- objects ---------------------------------------------------------------------------------------

    def _check_files(
        self,
        snapshot: Snapshot,
        checked_log: LogChecks,
        sidecars: dict[str, ObjectInfo],
        duplicates: Duplicates,
    ) -> None:
        files: tuple[DataFile, ...] = snapshot.log.files
        holders = {file.digest: file.key for file in files if file.digest is not None}
        wanted = [(file, file.key, file.size_bytes) for file in files]
        for file, _, data in fetched(self._storage, wanted):
            if data is None:
                self._name_missing_file(file)
                continue
            self._take(len(data))
            has_sidecar = file.is_ours and self._table == METRICS
            checked = check_data_file(file, data, duplicates.add, summarised=has_sidecar)
            self._totals.points += checked.num_rows
            self._remember(checked)
            self._name_file_problems(file, data, checked, holders, checked_log)
            if not file.is_ours:
                self._report(
                    "note",
                    "unprotected",
                    "Another engine wrote this file: it has no digest, and a flipped bit in it may stay "
                    "unseen.",
                    key=file.key,
                    hint="maintenance.compact() rewrites it.",
                )
            if has_sidecar and checked.summary is not None:
                self._check_sidecar(file, checked.summary, sidecars)

    def _name_file_problems(
        self,
        file: DataFile,
        data: bytes,
        checked: Checked,
        holders: dict[str, str],
        checked_log: LogChecks,
    ) -> None:
        version = checked_log.added_by.get(file.key)
        entry = log_key(self._table, version) if version is not None else None
        for problem in checked.problems:
            if problem.code == "log":
                self._report(
                    problem.severity,
                    "log",
                    f"{file.key}: {problem.what}",
                    key=entry or file.key,
                    hint="Restore this version, and the checkpoints after it, from a backup.",
                )
                continue
            what = problem.what
            if problem.code == "digest":
                other = holders.get(digest_of(data))
                if other is not None:
                    what = f"It holds the bytes of {other!r}: names were swapped."
                elif not any(each.code != "digest" for each in checked.problems):
                    what += (
                        f" Its pages' own checksums hold, so the entry in {entry or 'the log'} may be wrong."
                    )
            hint = RESTORE if problem.severity == "error" else "Upgrade: pip install --upgrade metrics-lake"
            self._report(problem.severity, problem.code, what, key=file.key, hint=hint)

    def _name_missing_file(self, file: DataFile) -> None:
        log = TableLog(self._storage, self._table)
        try:
            is_live = file.key in log.reopen().entries
        except FormatError:
            is_live = True
        if is_live and not is_there(self._storage, file.key):
            count = "" if file.num_records is None else f" of {file.num_records} points"
            self._report(
                "error",
                "missing",
                f"The log names this file{count} and it is not in the store: reads that need it fail.",
                key=file.key,
                hint="Restore it from a backup; inspect.quarantine(key) gives its points up.",
            )

    def _check_sidecar(self, file: DataFile, summary: pa.Table, sidecars: dict[str, ObjectInfo]) -> None:
        key = sidecar_key(self._table, file.key)
        try:
            data = self._storage.get(key)
        except ObjectNotFoundError:
            if is_there(self._storage, file.key):
                self._report(
                    "warning",
                    "sidecar",
                    f"It is missing: reads of series scan {file.key!r} instead.",
                    key=key,
                    hint="Nothing is lost; the next merge of this file writes one.",
                )
            return
        sidecars.pop(key, None)
        self._take(len(data))
        problem = check_sidecar(data, key, summary)
        if problem is not None:
            self._report(
                "error",
                "sidecar",
                f"{problem} Reads of single values and of series may be wrong.",
                key=key,
                hint="Delete this object: the data file says the same, and is scanned then.",
            )

    def _check_inbox(self, snapshot: Snapshot, duplicates: Duplicates) -> None:
        keep = {live.name: live.keep for live in snapshot.inbox}
        wanted = [(file, file.name.key, file.size_bytes) for file in snapshot.listed]
        for file, _, data in fetched(self._storage, wanted):
            name = file.name
            if data is None:
                self._name_missing_object(snapshot, file)
                continue
            self._take(len(data))
            runs = keep.get(name, ())

            def on_rows(
                rows: pa.Table, runs: Iterable[tuple[int, int]] = runs, first: int = name.first
            ) -> None:
                for low, high in runs:
                    duplicates.add(rows.slice(low - first, high - low + 1))

            # A bulk object may have several pieces; rows that count are cut from the whole.
            pieces: list[pa.Table] = []
            checked = check_inbox_object(name, data, self._lake_id, pieces.append)
            if pieces and checked.is_readable:
                on_rows(pa.concat_tables(pieces))
            self._totals.points += sum(high - low + 1 for low, high in runs) if checked.is_readable else 0
            is_consumed = contains(snapshot.log.consumed(name.writer), name.first, name.last)
            if is_consumed and name.last >= name.first:
                hint = "Its rows are in the table already: delete it, or let maintenance.vacuum() do so."
                self._name_problems(name.key, checked, hint, severity="warning")
            else:
                self._name_problems(name.key, checked, RESTORE)

    def _name_problems(self, key: str, checked: Checked, hint: str, *, severity: str | None = None) -> None:
        for problem in checked.problems:
            advice = hint if problem.code != "kind" else "Upgrade: pip install --upgrade metrics-lake"
            self._report(severity or problem.severity, problem.code, problem.what, key=key, hint=advice)

    def _name_missing_object(self, snapshot: Snapshot, file: Any) -> None:
        name = file.name
        if is_there(self._storage, name.key):
            return
        try:
            state: TableSnapshot = TableLog(self._storage, self._table).reopen()
        except FormatError:
            state = snapshot.log
        if not contains(state.consumed(name.writer), name.first, name.last):
            self._report(
                "error",
                "missing",
                "The store lists this object, does not have it, and the table has not taken its rows over.",
                key=name.key,
                hint="List again; if it stays so, restore it from a backup.",
            )

    def _remember(self, checked: Checked) -> None:
        for writer, seq in checked.greatest.items():
            self._greatest[writer] = max(seq, self._greatest.get(writer, -1))


def _ignore(rows: pa.Table) -> None:
    del rows


def _true_name(storage: Storage, key: str) -> str:
    """Return what an object's own footer says its name is."""
    try:
        with open_rows(storage.get(key), key=key) as opened:
            found = footers(opened)
    except (MetricsLakeError, pa.ArrowException, OSError, ValueError):
        return ""
    if not {"writer", "first", "last", "table"} <= found.keys():
        return ""
    return (
        f" Its footer says: table {found['table']}, writer {found['writer']}, rows {found['first']} to "
        f"{found['last']}."
    )
