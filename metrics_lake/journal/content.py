"""What a segment says of itself and what it holds: from bytes to frames, with no file in sight."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import CorruptObjectError, UnsupportedFormatError
from metrics_lake.points import (
    END,
    HEADER,
    Frame,
    decode_frames,
    end_frame,
    header_frame,
    is_torn,
    read_header,
    split_frames,
)
from metrics_lake.schema import SCHEMA_VERSION, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

__all__ = ["JOURNAL_VERSION", "SegmentContent", "SegmentHeader", "parse_segment", "utc_day"]

JOURNAL_VERSION: Final = 1
"""The version of the frames; a newer one is refused and left for a newer metrics_lake to publish."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself in its first frame.

    Attributes:
        writer: The writer's id.
        table: The table that the rows belong to.
        first: The ``seq`` of the first row.
        date: The UTC day on which the segment was opened, ``YYYY-MM-DD``: a part of its object's name.
        lake_id: The lake, or None where the journal was begun before the lake could be reached.
    """

    writer: str
    table: str
    first: int
    date: str
    lake_id: str | None

    def frame(self) -> bytes:
        """Return the header as a frame."""
        return header_frame(
            {
                "format": JOURNAL_VERSION,
                "schema": SCHEMA_VERSION,
                "writer": self.writer,
                "table": self.table,
                "first": self.first,
                "date": self.date,
                "lake": self.lake_id,
            }
        )

    @staticmethod
    def parse(fields: dict[str, Any], where: str) -> SegmentHeader:
        """Return the header of a frame's fields; refuse what a newer version wrote."""
        try:
            is_newer = fields["format"] > JOURNAL_VERSION or fields["schema"] > SCHEMA_VERSION
            if is_newer or fields["table"] not in TABLES:
                raise UnsupportedFormatError(
                    f"the journal segment {where} was written by a newer version of metrics_lake.",
                    hint="Upgrade metrics_lake on this machine; the segment is kept.",
                    path=where,
                )
            return SegmentHeader(
                writer=fields["writer"],
                table=fields["table"],
                first=fields["first"],
                date=fields["date"],
                lake_id=fields["lake"],
            )
        except (KeyError, TypeError) as error:
            raise CorruptObjectError(
                f"the journal segment {where} does not say what it is.", path=where
            ) from error


def utc_day(micros: int) -> str:
    """Return the UTC day of an instant (microseconds since 1970) as ``YYYY-MM-DD``."""
    return (dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)).date().isoformat()


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """What a sealed segment holds.

    Attributes:
        header: What it says of itself.
        frames: Its intact frames of rows, in order.
        is_end: True where the writer sealed it as its last.
        intact_bytes: The offset behind the last intact frame.
        size_bytes: The segment's size; greater than ``intact_bytes`` where its tail is torn.
        tail_is_damaged: True where what follows the intact frames is more than an interrupted write leaves.
    """

    header: SegmentHeader
    frames: tuple[Frame, ...]
    is_end: bool
    intact_bytes: int
    size_bytes: int
    tail_is_damaged: bool

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return sum(frame.rows for frame in self.frames)

    @property
    def digest(self) -> str:
        """A hash of the rows' frames: equal for every replay of the same segment."""
        digest = blake2b(digest_size=16)
        for frame in self.frames:
            digest.update(frame.body)
        return digest.hexdigest()

    def rows(self) -> pa.Table:
        """Return the rows in the table's schema."""
        return decode_frames(self.header.table, self.header.writer, self.header.first, self.frames)

    def bytes_as(self, header: SegmentHeader) -> Iterator[bytes]:
        """Yield the intact bytes of the segment under another header."""
        yield header.frame()
        for frame in self.frames:
            yield frame.bytes()
        if self.is_end:
            yield end_frame()


def parse_segment(data: bytes, where: str) -> SegmentContent | None:
    """Return what the bytes of a segment hold, or None where not even its header was written.

    Raises:
        UnsupportedFormatError: A newer version wrote it.
        CorruptObjectError: It does not begin with a header.
    """
    frames: list[Frame] = []
    end = 0
    for frame, behind in split_frames(data):
        frames.append(frame)
        end = behind
    damaged = not is_torn(memoryview(data)[end:])
    if not frames:
        if damaged:
            raise CorruptObjectError(f"the journal segment {where} is damaged at its start.", path=where)
        return None
    if frames[0].type != HEADER:
        raise CorruptObjectError(f"the journal segment {where} does not begin with a header.", path=where)
    return SegmentContent(
        header=SegmentHeader.parse(read_header(frames[0]), where),
        frames=tuple(frame for frame in frames[1:] if frame.type != END),
        is_end=frames[-1].type == END,
        intact_bytes=end,
        size_bytes=len(data),
        tail_is_damaged=damaged,
    )
