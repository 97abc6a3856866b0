"""Pending points, sealing and publishing: from a call to the journal, from the journal to the store."""

from metrics_lake.writer.bulk import append_object, bulk_writer_id
from metrics_lake.writer.core import Writer
from metrics_lake.writer.identity import new_writer_id
from metrics_lake.writer.journaling import (
    KIND_CODES,
    MAX_CALL_BYTES,
    MAX_CALL_ROWS,
    Durability,
    WriterSettings,
)
from metrics_lake.writer.publishing import Published
from metrics_lake.writer.receipts import Receipt, Status
from metrics_lake.writer.recovery import recover_journals

__all__ = [
    "KIND_CODES",
    "MAX_CALL_BYTES",
    "MAX_CALL_ROWS",
    "Durability",
    "Published",
    "Receipt",
    "Status",
    "Writer",
    "WriterSettings",
    "append_object",
    "bulk_writer_id",
    "new_writer_id",
    "recover_journals",
]
