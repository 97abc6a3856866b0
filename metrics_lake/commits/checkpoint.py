"""Checkpoints of a table's log: one Parquet file that says what all commits up to a version add up to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from metrics_lake.commits.actions import entry_of, key_of
from metrics_lake.commits.state import TableSnapshot
from metrics_lake.commits.watermarks import Transactions
from metrics_lake.errors import CorruptObjectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metrics_lake.storage import ObjectInfo

__all__ = ["LogListing", "decode_checkpoint", "encode_checkpoint", "parse_log_listing"]

_TEXTS: Final = pa.map_(pa.string(), pa.string())
_ADD: Final = pa.struct(
    [
        ("path", pa.string()),
        ("partitionValues", _TEXTS),
        ("size", pa.int64()),
        ("modificationTime", pa.int64()),
        ("dataChange", pa.bool_()),
        ("stats", pa.string()),
        ("tags", _TEXTS),
    ]
)
_REMOVE: Final = pa.struct(
    [
        ("path", pa.string()),
        ("deletionTimestamp", pa.int64()),
        ("dataChange", pa.bool_()),
        ("extendedFileMetadata", pa.bool_()),
        ("partitionValues", _TEXTS),
        ("size", pa.int64()),
    ]
)
_METADATA: Final = pa.struct(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("description", pa.string()),
        ("format", pa.struct([("provider", pa.string()), ("options", _TEXTS)])),
        ("schemaString", pa.string()),
        ("partitionColumns", pa.list_(pa.string())),
        ("createdTime", pa.int64()),
        ("configuration", _TEXTS),
    ]
)
_PROTOCOL: Final = pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])
_TXN: Final = pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())])
_COLUMNS: Final[dict[str, pa.StructType]] = {
    "txn": _TXN,
    "add": _ADD,
    "remove": _REMOVE,
    "metaData": _METADATA,
    "protocol": _PROTOCOL,
}

_NAME: Final = re.compile(
    r"(?P<version>\d{20})\.(?:(?P<json>json)|checkpoint(?:\.(?P<part>\d{10})\.(?P<parts>\d{10}))?\.parquet)"
)


@dataclass(frozen=True, slots=True)
class LogListing:
    """What a LIST of ``_delta_log`` holds.

    Attributes:
        commits: The commits by version.
        checkpoints: The complete checkpoints: their parts in order, by version.
    """

    commits: Mapping[int, ObjectInfo]
    checkpoints: Mapping[int, tuple[ObjectInfo, ...]]

    @property
    def newest(self) -> int:
        """The newest version, -1 where there is none."""
        return max((*self.commits, *self.checkpoints), default=-1)


def parse_log_listing(infos: Iterable[ObjectInfo]) -> LogListing:
    """Return the commits and the complete checkpoints of a listing; other objects are ignored."""
    commits: dict[int, ObjectInfo] = {}
    whole: dict[int, ObjectInfo] = {}
    parts: dict[tuple[int, int], dict[int, ObjectInfo]] = {}
    for info in infos:
        found = _NAME.fullmatch(info.key.rpartition("/")[2])
        if found is None:
            continue
        version = int(found["version"])
        if found["json"]:
            commits[version] = info
        elif found["part"]:
            parts.setdefault((version, int(found["parts"])), {})[int(found["part"])] = info
        else:
            whole[version] = info
    checkpoints: dict[int, tuple[ObjectInfo, ...]] = {version: (info,) for version, info in whole.items()}
    for (version, count), found_parts in parts.items():
        if version not in checkpoints and found_parts.keys() == set(range(1, count + 1)):
            checkpoints[version] = tuple(found_parts[number] for number in range(1, count + 1))
    return LogListing(commits, checkpoints)


def encode_checkpoint(state: TableSnapshot, *, forget_removed_before_ms: int) -> tuple[bytes, int]:
    """Return a version as one Parquet file, and its number of actions.

    Args:
        state: The version.
        forget_removed_before_ms: Tombstones older than this (milliseconds since 1970) are left out.
    """
    txns = state.transactions.table().combine_chunks()
    pieces = [
        _rows("protocol", pa.array([dict(state.protocol)], _PROTOCOL)),
        _rows("metaData", pa.array([dict(state.metadata)], _METADATA)),
    ]
    if txns.num_rows:
        columns = [txns.column(name).combine_chunks() for name in ("appId", "version", "lastUpdated")]
        pieces.append(_rows("txn", pa.StructArray.from_arrays(columns, fields=list(_TXN.fields))))
    adds = [{**entry.add, "dataChange": False} for entry in state.entries.values()]
    removes = [
        {**remove, "dataChange": False}
        for remove in state.tombstones.values()
        if (remove.get("deletionTimestamp") or 0) >= forget_removed_before_ms
    ]
    if adds:
        pieces.append(_rows("add", pa.array(adds, _ADD)))
    if removes:
        pieces.append(_rows("remove", pa.array(removes, _REMOVE)))
    table = pa.concat_tables(pieces)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, use_dictionary=False)
    return sink.getvalue().to_pybytes(), table.num_rows


def _rows(name: str, values: pa.Array[Any]) -> pa.Table:
    columns = [values if each == name else pa.nulls(len(values), kind) for each, kind in _COLUMNS.items()]
    return pa.table(columns, names=list(_COLUMNS))


def decode_checkpoint(table: str, version: int, parts: Sequence[tuple[str, bytes]]) -> TableSnapshot:
    """Return the version that a checkpoint holds.

    Args:
        table: The table's name.
        version: The checkpoint's version.
        parts: Key and bytes of each part.

    Raises:
        CorruptObjectError: It cannot be decoded.
        UnsupportedFormatError: It holds what we cannot read.
    """
    entries, tombstones, txns = {}, {}, []
    metadata: Mapping[str, Any] = {}
    protocol: Mapping[str, Any] = {}
    for key, data in parts:
        try:
            rows = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
            for add in _actions(rows, "add"):
                entry = entry_of(table, add)
                entries[entry.file.key] = entry
            for remove in _actions(rows, "remove"):
                tombstones[key_of(table, remove["path"])] = remove
            txns.append(_txn_columns(rows))
            metadata = next(iter(_actions(rows, "metaData")), metadata)
            protocol = next(iter(_actions(rows, "protocol")), protocol)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise CorruptObjectError(
                f"The checkpoint {key!r} cannot be decoded: {error}.",
                hint="Delete it if an older checkpoint or all versions since 0 are there.",
                key=key,
            ) from error
    if not metadata or not protocol:
        raise CorruptObjectError(
            f"The checkpoint of version {version} of table {table!r} lacks metaData or protocol.",
            key=parts[0][0],
        )
    return TableSnapshot(
        table=table,
        version=version,
        entries=entries,
        tombstones=tombstones,
        transactions=Transactions(pa.concat_tables(txns)),
        metadata=metadata,
        protocol=protocol,
    )


def _actions(rows: pa.Table, name: str) -> list[dict[str, Any]]:
    if name not in rows.column_names:
        return []
    column = rows.column(name)
    actions: list[Any] = column.filter(column.is_valid()).to_pylist(maps_as_pydicts="strict")
    return [_plain(action) for action in actions]


def _plain(action: dict[str, Any]) -> dict[str, Any]:
    """Return an action as a commit's JSON would say it: without the fields that are NULL."""
    return {name: value for name, value in action.items() if value is not None}


def _txn_columns(rows: pa.Table) -> pa.Table:
    empty = Transactions().table()
    if "txn" not in rows.column_names:
        return empty
    column: Any = rows.column("txn").combine_chunks()
    column = column.filter(column.is_valid())
    names = {field.name for field in column.type}
    columns = [
        column.field(field.name).cast(field.type)
        if field.name in names
        else pa.nulls(len(column), field.type)
        for field in empty.schema
    ]
    return pa.table(columns, schema=empty.schema)
