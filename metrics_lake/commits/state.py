"""One version of a table: what all commits up to it add up to, and whether we may read it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.commits.actions import PARTITION, delta_type
from metrics_lake.commits.watermarks import Transactions
from metrics_lake.errors import MetricsLakeWarning, UnsupportedFormatError
from metrics_lake.schema import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metrics_lake.commits.actions import Commit, Entry
    from metrics_lake.commits.intervals import Intervals
    from metrics_lake.commits.model import DataFile

__all__ = ["TableSnapshot", "check_supported"]

MAX_READER_VERSION: Final = 1
MAX_WRITER_VERSION: Final = 2


@dataclass(frozen=True)
class TableSnapshot:
    """The compacted table at one version of its log; immutable.

    Attributes:
        table: The table's name.
        version: The version; -1 where there is no log yet.
        entries: The live files by key.
        tombstones: The ``remove`` actions of files that are not live, by key, as far as the log keeps them.
        transactions: Watermarks and keys of bulk commits.
        metadata: The table's ``metaData`` action; empty at version -1.
        protocol: Its ``protocol`` action; empty at version -1.
    """

    table: str
    version: int = -1
    entries: Mapping[str, Entry] = field(default_factory=dict)
    tombstones: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    transactions: Transactions = field(default_factory=Transactions)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def files(self) -> tuple[DataFile, ...]:
        """The live files."""
        return tuple(entry.file for entry in self.entries.values())

    def consumed(self, writer: str) -> Intervals:
        """Return the ``seq`` intervals of a writer whose rows the table has taken over."""
        return self.transactions.consumed(writer)

    def after(self, commit: Commit) -> TableSnapshot:
        """Return the table one commit later."""
        entries = dict(self.entries)
        tombstones = dict(self.tombstones)
        for key, remove in commit.removes.items():
            entries.pop(key, None)
            tombstones[key] = remove
        for entry in commit.adds:
            entries[entry.file.key] = entry
            tombstones.pop(entry.file.key, None)
        return TableSnapshot(
            table=self.table,
            version=commit.version,
            entries=entries,
            tombstones=tombstones,
            transactions=self.transactions.with_changes(commit.txns),
            metadata=self.metadata if commit.metadata is None else commit.metadata,
            protocol=self.protocol if commit.protocol is None else commit.protocol,
        )

    def forgetting(self, app_ids: frozenset[str]) -> TableSnapshot:
        """Return this version without some application ids."""
        return replace(self, transactions=self.transactions.without(app_ids))


def check_supported(state: TableSnapshot) -> None:
    """Refuse a table whose log asks for something that this version cannot give.

    Raises:
        UnsupportedFormatError: It names the property in ``property``.

    Warns:
        MetricsLakeWarning: The table has columns that are not ours; they are ignored.
    """
    if state.version < 0:
        return
    reader = state.protocol.get("minReaderVersion", 1)
    writer = state.protocol.get("minWriterVersion", 1)
    if reader > MAX_READER_VERSION or writer > MAX_WRITER_VERSION:
        features = sorted(
            {*(state.protocol.get("readerFeatures") or ()), *(state.protocol.get("writerFeatures") or ())}
        )
        name = "minReaderVersion" if reader > MAX_READER_VERSION else "minWriterVersion"
        raise _refused(
            state, name, f"protocol reader {reader}, writer {writer}, features {features or 'none'}"
        )
    configuration = state.metadata.get("configuration") or {}
    if str(configuration.get("delta.appendOnly", "false")).lower() == "true":
        raise _refused(state, "delta.appendOnly", "compaction and deletes must remove files")
    if "delta.setTransactionRetentionDuration" in configuration:
        raise _refused(
            state, "delta.setTransactionRetentionDuration", "it drops watermarks, so rows would appear twice"
        )
    columns = list(state.metadata.get("partitionColumns") or [])
    if columns != [PARTITION]:
        raise _refused(state, "partitionColumns", f"it is {columns}, not ['{PARTITION}']")
    _check_columns(state)


def _check_columns(state: TableSnapshot) -> None:
    schema = json.loads(state.metadata["schemaString"])
    found = {column["name"]: column["type"] for column in schema["fields"]}
    expected = {column.name: delta_type(column.type) for column in arrow_schema(state.table)}
    expected[PARTITION] = "string"
    for name, kind in expected.items():
        if not _same_type(found.get(name), kind):
            raise _refused(
                state,
                "schemaString",
                f"column {name!r} is {json.dumps(found.get(name))}, not {json.dumps(kind)}",
            )
    if foreign := sorted(found.keys() - expected.keys()):
        warnings.warn(
            f"Table {state.table!r} has columns that are not ours: {', '.join(foreign)}. They are ignored, "
            "and the next merge of their files drops their values.",
            MetricsLakeWarning,
            stacklevel=2,
        )


def _same_type(found: Any, expected: Any) -> bool:
    """Compare two Delta types; whether elements may be NULL does not matter."""
    if isinstance(found, dict) and isinstance(expected, dict):
        if found.get("type") == "struct" and expected.get("type") == "struct":
            names = {column["name"]: column["type"] for column in found["fields"]}
            return all(_same_type(names.get(each["name"]), each["type"]) for each in expected["fields"])
        keys = expected.keys() - {"valueContainsNull", "containsNull"}
        return all(_same_type(found.get(key), expected[key]) for key in keys)
    return bool(found == expected)


def _refused(state: TableSnapshot, name: str, reason: str) -> UnsupportedFormatError:
    return UnsupportedFormatError(
        f"Table {state.table!r} cannot be read or compacted: {name} was set by another engine or a newer "
        f"version ({reason}).",
        hint="Set it back with the engine that changed it, or upgrade. Logging goes on meanwhile.",
        property=name,
        table=state.table,
        version=state.version,
    )
