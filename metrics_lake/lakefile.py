"""``_lake.json``: what makes a folder or a prefix a lake. Created once, exclusively; never changed."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import (
    CorruptObjectError,
    LakeNotFoundError,
    ObjectNotFoundError,
    UnsupportedFormatError,
)
from metrics_lake.layout import LAKE_FILE, inbox_prefix
from metrics_lake.schema import FORMAT_VERSION, METRICS
from metrics_lake.storage import Creation

if TYPE_CHECKING:
    from metrics_lake.storage import Storage

__all__ = ["LakeFile", "create_lake", "read_lake", "require_lake"]

_LAKE_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class LakeFile:
    """What ``_lake.json`` says.

    Attributes:
        lake_id: The lake's id, 32 hexadecimal digits; a lake made anew under the same url has another.
        format_version: The version of layout and protocol.
        creates_exclusively: True where the store was seen to honour exclusive creation. Without it the lake
            takes appends and cannot be compacted.
    """

    lake_id: str
    format_version: int
    creates_exclusively: bool

    def encode(self) -> bytes:
        """Return the file's bytes."""
        fields = {
            "format": self.format_version,
            "lake_id": self.lake_id,
            "creates_exclusively": self.creates_exclusively,
            "about": "ML metrics as Parquet; FORMAT.md of the Python package metrics-lake describes it.",
        }
        return json.dumps(fields, indent=1).encode()


def read_lake(storage: Storage) -> LakeFile | None:
    """Return what the lake says of itself, or None where there is no lake.

    Raises:
        UnsupportedFormatError: A newer version of metrics_lake made it.
        CorruptObjectError: The file is not what metrics_lake writes.
        StorageError: The store cannot be read.
    """
    try:
        data = storage.get(LAKE_FILE)
    except ObjectNotFoundError:
        return None
    try:
        fields = json.loads(data)
        version = fields["format"]
        # A newer version may say the rest in another way.
        lake = None if _is_number(version) and version > FORMAT_VERSION else _parse(fields)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptObjectError(
            f"{storage.url}/{LAKE_FILE} is not the file of a lake.",
            hint="If another program owns this place, choose another url.",
            key=LAKE_FILE,
        ) from error
    if lake is None:
        raise UnsupportedFormatError(
            f"the lake {storage.url} has format {version}; this version of metrics_lake knows "
            f"formats up to {FORMAT_VERSION}.",
            hint="Upgrade it: pip install --upgrade metrics-lake",
            url=storage.url,
        )
    return lake


def _is_number(version: Any) -> bool:
    return isinstance(version, int) and not isinstance(version, bool)


def _parse(fields: dict[str, Any]) -> LakeFile:
    lake_id, version, exclusive = fields["lake_id"], fields["format"], fields["creates_exclusively"]
    # The id becomes the name of a folder on this machine.
    if not isinstance(lake_id, str) or _LAKE_ID.fullmatch(lake_id) is None:
        raise ValueError("lake_id")
    if not _is_number(version) or version < 1 or not isinstance(exclusive, bool):
        raise ValueError("format")
    return LakeFile(lake_id=lake_id, format_version=version, creates_exclusively=exclusive)


def require_lake(storage: Storage) -> LakeFile:
    """Return what the lake says of itself.

    Raises:
        LakeNotFoundError: There is no lake: most often the url has a typing error.
    """
    lake = read_lake(storage)
    if lake is None:
        raise LakeNotFoundError(
            f"there is no lake at {storage.url}.",
            hint="Check the url; the first write makes a lake.",
            url=storage.url,
        )
    return lake


def create_lake(storage: Storage) -> LakeFile:
    """Return the lake under the url; make it if there is none.

    Two processes that make it at once end up with the same lake. A second exclusive creation of the same key
    proves what the store does with it: where it overwrites, the file now says so.

    Raises:
        StorageError: The store cannot be written.
    """
    found = read_lake(storage)
    if found is not None:
        return found
    lake_id = uuid.uuid4().hex
    proven = LakeFile(lake_id, FORMAT_VERSION, creates_exclusively=True).encode()
    overwritten = LakeFile(lake_id, FORMAT_VERSION, creates_exclusively=False).encode()
    if storage.create_exclusively_or_mark(LAKE_FILE, proven, overwritten) is not Creation.EXISTS:
        # gcsfs asks a second time about a prefix under which nothing lies, at every read of an empty inbox.
        storage.put_new(f"{inbox_prefix(METRICS)}_inbox", b"")
    return require_lake(storage)
