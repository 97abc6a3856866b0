"""From a sealed segment to one immutable inbox object, exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import ConflictError, CorruptObjectError
from metrics_lake.layout import InboxName
from metrics_lake.schema import FORMAT_VERSION, SCHEMA_VERSION, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from metrics_lake.journal import SegmentContent
    from metrics_lake.storage import Storage

__all__ = ["ClonedIdentityError", "Published", "publish_end", "publish_rows", "publish_segment"]

_FOOTER_BYTES: Final = 65_536


class ClonedIdentityError(ConflictError):
    """Somebody else published other rows under this writer's id: its state was copied or restored."""

    code = "cloned_identity"


@dataclass(frozen=True, slots=True)
class Published:
    """What became visible: points, objects and their size."""

    points: int
    objects: int
    size_bytes: int


def publish_segment(
    storage: Storage, lake_id: str, content: SegmentContent, keep: Callable[[str, pa.Table], None]
) -> Published:
    """Publish a sealed segment as one object; repeating it changes nothing.

    Args:
        storage: The store.
        lake_id: The lake.
        content: What the segment holds.
        keep: Given the object's key and rows, once the store has them.

    Raises:
        ClonedIdentityError: The object is there and holds other rows.
        StorageError: The store failed.
    """
    header = content.header
    name = InboxName(
        writer=header.writer,
        first=header.first,
        last=header.first + content.row_count - 1,
        table=header.table,
        date=header.date,
        is_end=content.is_end,
    )
    rows = content.rows()
    published = publish_rows(storage, lake_id, name, rows, content.digest)
    keep(name.key, rows)
    return published


def publish_end(storage: Storage, lake_id: str, table: str, writer: str, end: int, date: str) -> Published:
    """Publish the mark that a writer's sequence ends in front of ``end``; it has no rows."""
    name = InboxName(writer=writer, first=end, last=end - 1, table=table, date=date, is_end=True)
    return publish_rows(storage, lake_id, name, arrow_schema(table).empty_table(), "")


def publish_rows(storage: Storage, lake_id: str, name: InboxName, rows: pa.Table, digest: str) -> Published:
    """Publish rows as one object under an exclusive name.

    Args:
        storage: The store.
        lake_id: The lake that the rows belong to.
        name: The object's name; it is fixed before the first attempt.
        rows: The rows in the table's schema, ascending by ``seq``.
        digest: What identifies the rows, for telling one's own object from somebody else's.

    Raises:
        ClonedIdentityError: The object is there with another digest.
        StorageError: The store failed.
    """
    from metrics_lake.commits.parquet import encode_rows

    metadata = {
        "metrics_lake.format": str(FORMAT_VERSION),
        "metrics_lake.lake_id": lake_id,
        "metrics_lake.table": name.table,
        "metrics_lake.writer": name.writer,
        "metrics_lake.first": str(name.first),
        "metrics_lake.last": str(name.last),
        "metrics_lake.digest": digest,
        "metrics_lake.schema_version": str(SCHEMA_VERSION),
    }
    data = encode_rows(name.table, rows, metadata=metadata, presorted=False)
    if not storage.put_new(name.key, data):
        found = _digest_of(storage, name.key)
        if found != digest:
            raise ClonedIdentityError(
                f"the object {name.key} holds other rows than this writer's.",
                key=name.key,
                writer=name.writer,
            )
    return Published(points=rows.num_rows, objects=1, size_bytes=len(data))


def _digest_of(storage: Storage, key: str) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tail = storage.get(key, start=-_FOOTER_BYTES)
    size = int.from_bytes(tail[-8:-4], "little") + 8
    if size > len(tail):
        tail = storage.get(key, start=-size)
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail)).metadata or {}
    except pa.ArrowException as error:
        raise CorruptObjectError(f"the object {key} is no Parquet file.", key=key) from error
    found = metadata.get(b"metrics_lake.digest")
    return None if found is None else found.decode()
