"""Many rows at once, where a store cannot take commits: one inbox object under a writer id of its own."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING

from metrics_lake.journal import utc_day
from metrics_lake.layout import InboxName, inbox_prefix, parse_inbox_key
from metrics_lake.schema import arrow_schema
from metrics_lake.writer.identity import new_writer_id
from metrics_lake.writer.publishing import ClonedIdentityError, Published, publish_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.storage import Storage

__all__ = ["append_object", "bulk_writer_id"]


def bulk_writer_id(key: str | None) -> str:
    """Return the writer id of a bulk call: the same for the same key, a new one without a key."""
    if key is None:
        return new_writer_id()
    return blake2b(key.encode(), digest_size=16, person=b"ml-bulk").hexdigest()


def append_object(
    storage: Storage, lake_id: str, table: str, rows: pa.Table, writer: str, *, is_keyed: bool
) -> Published:
    """Publish rows as one object, whole or not at all.

    Args:
        storage: The store.
        lake_id: The lake.
        table: The table.
        rows: The rows in the table's schema.
        writer: The writer id of this call.
        is_keyed: The id was made of a key: rows that an earlier call published under it stay, and these are
            not published.

    Raises:
        StorageError: The store failed; repeating the call with a key is safe.
    """
    if is_keyed and _is_there(storage, table, writer):
        return Published(0, 0, 0)
    date = utc_day(time.time_ns() // 1000)
    name = InboxName(writer=writer, first=0, last=rows.num_rows - 1, table=table, date=date, is_end=True)
    # Unlike a segment's, this digest need not be equal in another process: with a key, the first one wins.
    try:
        return publish_rows(storage, lake_id, name, rows.cast(arrow_schema(table)), new_writer_id())
    except ClonedIdentityError:
        if not is_keyed:
            raise
        return Published(0, 0, 0)


def _is_there(storage: Storage, table: str, writer: str) -> bool:
    names = (parse_inbox_key(info.key) for info in storage.list(inbox_prefix(table)))
    return any(name is not None and name.writer == writer for name in names)
