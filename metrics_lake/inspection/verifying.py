"""Verification: everything is read, and whatever is not as it should be is named. Nothing is ever changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from metrics_lake.errors import FormatError
from metrics_lake.inspection.report import Findings, Report
from metrics_lake.inspection.tablecheck import TableCheck, Totals
from metrics_lake.lakefile import read_lake
from metrics_lake.layout import LAKE_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake.lakefile import LakeFile
    from metrics_lake.progress import Progress
    from metrics_lake.storage import Storage

__all__ = ["verify_lake"]


def verify_lake(
    storage: Storage, lake: LakeFile | None, tables: Sequence[str], progress: Progress | None = None
) -> Report:
    """Read everything that tables of a lake consist of and say what is wrong.

    Args:
        storage: The lake's objects.
        lake: What ``_lake.json`` said when the lake was opened; None = it is not compared.
        tables: The tables' names.
        progress: Called with the bytes done and the bytes in all, table by table.

    Raises:
        StorageError: The store failed.
    """
    begun = time.monotonic()
    findings = Findings()
    lake_id = _check_lake_file(storage, lake, findings)
    totals = Totals()
    for table in tables:
        TableCheck(storage, table, lake_id, findings, totals, progress).run()
    return Report(
        findings=findings.sorted(),
        points=totals.points,
        objects=totals.objects,
        size_bytes=totals.size_bytes,
        seconds=time.monotonic() - begun,
    )


def _check_lake_file(storage: Storage, lake: LakeFile | None, findings: Findings) -> str | None:
    def report(what: str, hint: str) -> None:
        findings.add("error", "lake_file", what, key=LAKE_FILE, hint=hint)

    try:
        found = read_lake(storage)
    except FormatError as error:
        report(error.message, "Restore this object from a backup.")
        return None if lake is None else lake.lake_id
    if found is None:
        report("It is missing: nobody can open this lake.", "Restore this object from a backup.")
        return None if lake is None else lake.lake_id
    if lake is not None and found.lake_id != lake.lake_id:
        report(
            f"The lake's id is {found.lake_id}, and was {lake.lake_id} when this handle opened it.",
            "Open the lake again if it was made anew; else restore this object from a backup.",
        )
    if not found.creates_exclusively:
        findings.add(
            "note",
            "lake_file",
            "The store does not honour exclusive creation: the lake takes appends and cannot be compacted.",
            key=LAKE_FILE,
        )
    return found.lake_id
