"""The actions of one commit of a Delta log (protocol reader 1, writer 2), to bytes and back.

Written after the Delta transaction log protocol: one JSON object a line, each with one action. Keys that we
do not know are kept where an action is written again (checkpoints, merges) and otherwise ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow as pa

from metrics_lake.commits.model import DataFile
from metrics_lake.commits.stats import parse_stats
from metrics_lake.errors import CorruptObjectError, UnsupportedFormatError
from metrics_lake.layout import table_prefix
from metrics_lake.schema import TABLES, arrow_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "BLOOM_TAG",
    "DIGEST_TAG",
    "PARTITION",
    "Commit",
    "Entry",
    "add_action",
    "encode_commit",
    "entry_of",
    "key_of",
    "new_table_actions",
    "parse_commit",
    "remove_action",
]

PARTITION: Final = "month"
DIGEST_TAG: Final = "metrics_lake.digest"
BLOOM_TAG: Final = "metrics_lake.bloom"


def table_properties(table: str) -> dict[str, str]:
    """Return the properties of a new table.

    Other engines' checkpoints must not clean up the log by themselves: a cleanup can race a handle that has
    not looked for a while.
    """
    return {
        "delta.dataSkippingStatsColumns": ",".join(TABLES[table].stats_columns),
        "delta.enableExpiredLogCleanup": "false",
    }


@dataclass(frozen=True, slots=True)
class Entry:
    """A live file: what we make of it, and the ``add`` action as it stands in the log."""

    file: DataFile
    add: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Commit:
    """What one version did.

    Attributes:
        version: The version.
        adds: The added files.
        removes: The removed files' ``remove`` actions by key.
        txns: ``(version, lastUpdated)`` by application id.
        metadata: The table's new metadata, or None.
        protocol: The table's new protocol, or None.
        info: The ``commitInfo``; empty where there is none.
    """

    version: int
    adds: tuple[Entry, ...]
    removes: Mapping[str, Mapping[str, Any]]
    txns: Mapping[str, tuple[int, int | None]]
    metadata: Mapping[str, Any] | None
    protocol: Mapping[str, Any] | None
    info: Mapping[str, Any]

    def fences(self, table: str) -> frozenset[str]:
        """Return the keys that this commit forbids all later ones to add."""
        fenced = self.info.get("fenced")
        return frozenset(key_of(table, path) for path in fenced) if isinstance(fenced, list) else frozenset()


def key_of(table: str, path: str) -> str:
    """Return the key under the lake's url of a path in a table's log.

    Raises:
        UnsupportedFormatError: The path leads out of the table.
    """
    decoded = unquote(path)
    if "://" in decoded or decoded.startswith("/"):
        raise UnsupportedFormatError(
            f"The log of table {table!r} names a file outside of the table: {path!r}.",
            hint="Shallow clones cannot be read; copy the data into the table.",
            table=table,
            path=path,
        )
    return table_prefix(table) + decoded


def add_action(
    file: DataFile, table: str, *, stats: str, modification_time_ms: int, data_change: bool
) -> dict[str, Any]:
    """Return the ``add`` action of a file that we wrote. Its key needs no percent-encoding."""
    tags = {DIGEST_TAG: file.digest}
    if file.bloom is not None:
        tags[BLOOM_TAG] = base64.b64encode(file.bloom).decode("ascii")
    return {
        "path": file.key.removeprefix(table_prefix(table)),
        "partitionValues": {PARTITION: file.month},
        "size": file.size_bytes,
        "modificationTime": modification_time_ms,
        "dataChange": data_change,
        "stats": stats,
        "tags": tags,
    }


def remove_action(add: Mapping[str, Any], *, deletion_time_ms: int, data_change: bool) -> dict[str, Any]:
    """Return the ``remove`` action for a file, its path spelled exactly as it was added."""
    return {
        "path": add["path"],
        "deletionTimestamp": deletion_time_ms,
        "dataChange": data_change,
        "extendedFileMetadata": True,
        "partitionValues": add.get("partitionValues") or {},
        "size": add.get("size", 0),
    }


def entry_of(table: str, add: Mapping[str, Any]) -> Entry:
    """Return what we make of an ``add`` action.

    Raises:
        UnsupportedFormatError: The file lies outside of the table or needs a deletion vector.
    """
    if add.get("deletionVector"):
        raise UnsupportedFormatError(
            f"The file {add['path']!r} of table {table!r} has a deletion vector.",
            hint="Rewrite the table without deletion vectors (delta.enableDeletionVectors).",
            table=table,
        )
    tags = add.get("tags") or {}
    digest = tags.get(DIGEST_TAG)
    bloom = None
    if digest is not None and tags.get(BLOOM_TAG):
        try:
            bloom = base64.b64decode(tags[BLOOM_TAG], validate=True)
        except binascii.Error:
            bloom = None  # it only prunes
    num_records, stats = parse_stats(table, add.get("stats"))
    file = DataFile(
        key=key_of(table, add["path"]),
        size_bytes=int(add.get("size") or 0),
        num_records=num_records,
        month=(add.get("partitionValues") or {}).get(PARTITION) or "",
        stats=stats,
        is_ours=digest is not None,
        bloom=bloom,
        digest=digest,
    )
    return Entry(file, add)


def encode_commit(actions: Iterable[Mapping[str, Any]]) -> bytes:
    """Return actions as the bytes of one version."""
    lines = [
        json.dumps(action, allow_nan=False, ensure_ascii=False, separators=(",", ":")) for action in actions
    ]
    return ("\n".join(lines) + "\n").encode()


def parse_commit(table: str, version: int, data: bytes, *, key: str) -> Commit:
    """Return what the bytes of one version say.

    Raises:
        CorruptObjectError: They are not a commit.
        UnsupportedFormatError: They ask for what we cannot give.
    """
    adds: list[Entry] = []
    removes: dict[str, Mapping[str, Any]] = {}
    txns: dict[str, tuple[int, int | None]] = {}
    metadata = protocol = None
    info: Mapping[str, Any] = {}
    try:
        for line in data.splitlines():
            if not line.strip():
                continue
            for name, body in json.loads(line).items():
                if body is None:
                    continue
                if name == "add":
                    adds.append(entry_of(table, body))
                elif name == "remove":
                    removes[key_of(table, body["path"])] = body
                elif name == "txn":
                    txns[body["appId"]] = (int(body["version"]), body.get("lastUpdated"))
                elif name == "metaData":
                    metadata = body
                elif name == "protocol":
                    protocol = body
                elif name == "commitInfo":
                    info = body
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(
            f"Version {version} of table {table!r} cannot be read: {error!r}.",
            hint="Restore this object from a backup; `metrics-lake verify` names all that is damaged.",
            key=key,
        ) from error
    return Commit(version, tuple(adds), removes, txns, metadata, protocol, info)


_DELTA_TYPES: Final[dict[pa.DataType, str]] = {
    pa.string(): "string",
    pa.int64(): "long",
    pa.int32(): "integer",
    pa.int16(): "short",
    pa.int8(): "byte",
    pa.float64(): "double",
    pa.float32(): "float",
    pa.bool_(): "boolean",
    pa.binary(): "binary",
    pa.timestamp("us", tz="UTC"): "timestamp",
}


def delta_type(kind: pa.DataType) -> Any:
    """Return how Delta's schema spells an Arrow type."""
    if isinstance(kind, pa.MapType):
        return {
            "type": "map",
            "keyType": delta_type(kind.key_type),
            "valueType": delta_type(kind.item_type),
            "valueContainsNull": True,
        }
    if isinstance(kind, pa.ListType):
        return {"type": "array", "elementType": delta_type(kind.value_type), "containsNull": True}
    if isinstance(kind, pa.StructType):
        return {"type": "struct", "fields": [delta_field(field) for field in kind.fields]}
    return _DELTA_TYPES[kind]


def delta_field(field: pa.Field[Any]) -> dict[str, Any]:
    """Return how Delta's schema spells an Arrow field.

    All are nullable: then a file in which another engine lost a constraint is still a valid one.
    """
    return {"name": field.name, "type": delta_type(field.type), "nullable": True, "metadata": {}}


def new_table_actions(table: str, table_id: str, created_ms: int) -> list[dict[str, Any]]:
    """Return the ``protocol`` and ``metaData`` actions of version 0."""
    fields = [delta_field(field) for field in arrow_schema(table)]
    fields.append({"name": PARTITION, "type": "string", "nullable": True, "metadata": {}})
    return [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": table_id,
                "name": table,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": [PARTITION],
                "configuration": table_properties(table),
                "createdTime": created_ms,
            }
        },
    ]
