"""The names of the objects under a lake's url: pure functions from values to keys and back.

A key is a ``/``-separated path relative to the url that uses only ``[a-z0-9/_=.-]``, so that every store
accepts it and no engine percent-encodes it. Users' ids never enter a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "LAKE_FILE",
    "InboxName",
    "checkpoint_key",
    "claim_key",
    "data_key",
    "inbox_prefix",
    "log_key",
    "log_prefix",
    "log_version",
    "parse_inbox_key",
    "quarantine_key",
    "sidecar_key",
    "sidecar_prefix",
    "table_prefix",
]

LAKE_FILE: Final = "_lake.json"

_INBOX_KEY: Final = re.compile(
    r"inbox/(?P<table>[a-z_]+)/date=(?P<date>\d{4}-\d\d-\d\d)/"
    r"(?P<writer>[0-9a-f]{32})\.(?P<first>\d+)\.(?P<last>-1|\d+)\.(?P<tag>rows|end)\.parquet"
)
_LOG_KEY: Final = re.compile(r"(?P<table>[a-z_]+)/_delta_log/(?P<version>\d{20})\.json")


@dataclass(frozen=True, slots=True, order=True)
class InboxName:
    """What the name of an inbox object says.

    Attributes:
        writer: The writer's id, 32 hexadecimal digits (a uuid7).
        first: The ``seq`` of the object's first row.
        last: The ``seq`` of its last row; ``first - 1`` for an object without rows.
        table: The table that the rows belong to.
        date: The UTC day on which the rows were sealed, ``YYYY-MM-DD``.
        is_end: True where the writer will never publish anything behind this object.
    """

    writer: str
    first: int
    last: int
    table: str
    date: str
    is_end: bool

    @property
    def key(self) -> str:
        """The object's key under the url."""
        tag = "end" if self.is_end else "rows"
        name = f"{self.writer}.{self.first}.{self.last}.{tag}.parquet"
        return f"{inbox_prefix(self.table)}date={self.date}/{name}"


def inbox_prefix(table: str) -> str:
    """Return the prefix of a table's inbox, with a trailing slash."""
    return f"inbox/{table}/"


def parse_inbox_key(key: str) -> InboxName | None:
    """Return what an inbox key says, or None if it is not the name of an inbox object."""
    found = _INBOX_KEY.fullmatch(key)
    if found is None:
        return None
    return InboxName(
        writer=found["writer"],
        first=int(found["first"]),
        last=int(found["last"]),
        table=found["table"],
        date=found["date"],
        is_end=found["tag"] == "end",
    )


def table_prefix(table: str) -> str:
    """Return the prefix of a table, with a trailing slash; data keys in its log are relative to it."""
    return f"{table}/"


def log_prefix(table: str) -> str:
    """Return the prefix of a table's log, with a trailing slash."""
    return f"{table}/_delta_log/"


def log_key(table: str, version: int) -> str:
    """Return the key of one commit."""
    return f"{log_prefix(table)}{version:020d}.json"


def log_version(key: str) -> int | None:
    """Return the version that a commit's key names, or None if the key is not a commit's."""
    found = _LOG_KEY.fullmatch(key)
    return None if found is None else int(found["version"])


def checkpoint_key(table: str, version: int) -> str:
    """Return the key of our own (single-part) checkpoint of a version."""
    return f"{log_prefix(table)}{version:020d}.checkpoint.parquet"


def claim_key(table: str, version: int) -> str:
    """Return the key of the advisory claim on committing a version."""
    return f"{table}/_claims/{version:020d}"


def data_key(table: str, month: str, name: str) -> str:
    """Return the key of a data file: ``month`` is ``YYYY-MM``, ``name`` a uuid in hexadecimal digits."""
    return f"{table}/month={month}/{name}.parquet"


def sidecar_key(table: str, data_key: str) -> str:
    """Return the key of the series sidecar of a data file."""
    return f"{sidecar_prefix(table)}{data_key.removeprefix(table_prefix(table))}"


def sidecar_prefix(table: str) -> str:
    """Return the prefix of a table's series sidecars, with a trailing slash."""
    return f"_derived/series/{table}/"


def quarantine_key(key: str) -> str:
    """Return the key under which a damaged object's bytes are kept.

    Other engines' names may have characters that are not written here; each becomes ``-``.
    """
    return "_quarantine/" + re.sub(r"[^a-z0-9/_=.-]", "-", key)
