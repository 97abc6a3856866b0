"""The binary frames of the journal: one call is one frame, and a segment decodes into Arrow without a loop.

A frame is ``u32 length, u32 ~length, u32 crc32, body`` (little endian). The length stands there twice so that
a damaged one is never taken for the torn tail of a write that a kill interrupted, which is not an error. The
first byte of the body says what it holds:

====================  ================================================================================
``HEADER`` (0)        JSON: what the segment is (journal.py writes and reads it); always the first
``POINTS`` (1)        u8 type, u8 0, u16 0, u32 points, u32 definitions; the definitions; 36 bytes a point;
                      the points' texts behind one another
``SERIES`` (2)        many numbers of one series: u8 type, u8 flags, u16 0, u32 points, u32 definitions; the
                      definitions; u32 series, u8 kind, 3 zero bytes, i64 timestamp or one a point,
                      steps where there are any (i64 a point), values (f64 a point)
``ROWS`` (3)          u8 type, 3 zero bytes, u32 rows, u32 0; an Arrow IPC stream of the table's columns
                      without ``writer`` and ``seq``
``END`` (4)           the writer publishes nothing behind this segment
====================  ================================================================================

A definition (u32 lengths, then UTF-8 of resource, metric, ``tags_key``) gives a series its number: the
first in a segment is 0, the next 1, … A frame defines what it is the first to use, so every prefix of a
segment is complete in itself. Points have a fixed width, so a segment's columns are cut out of its bytes by
Arrow kernels at the speed of memory.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

from metrics_lake.errors import InvalidInputError
from metrics_lake.resources import check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

__all__ = [
    "END",
    "HEADER",
    "Frame",
    "Point",
    "SeriesEncoder",
    "SeriesKey",
    "end_frame",
    "header_frame",
    "is_torn",
    "read_header",
    "rows_frame",
    "split_frames",
]

HEADER: Final = 0
POINTS: Final = 1
SERIES: Final = 2
ROWS: Final = 3
END: Final = 4

_HEAD = struct.Struct("<III")
START = struct.Struct("<BBHII")
_LENGTH = struct.Struct("<II")
DEFINITION = struct.Struct("<III")
POINT = struct.Struct("<IBBHqqdI")
_ONE_POINT = struct.Struct("<BBHIIIBBHqqdI")
SERIES_PART = struct.Struct("<IBBH")
_ONE_SIZE: Final = _ONE_POINT.size

_ALL_ONES: Final = 0xFFFFFFFF
MAX_BODY_BYTES: Final = 1 << 30
"""A column of texts cannot hold more than 2 GiB, and one ``write`` not either."""

HAS_STEP: Final = 1
HAS_VALUE: Final = 2
HAS_TEXT: Final = 4
MANY_TIMESTAMPS: Final = 1
MANY_STEPS: Final = 2

SeriesKey = tuple[str, str, str]
"""(resource, metric, tags_key): what identifies a series."""


class Point(NamedTuple):
    """One value on its way into a frame: the code of its kind, its numeric view and its exact text."""

    series: SeriesKey
    kind: int
    value: float | None
    text: str | None


PointFields = tuple[SeriesKey, int, float | None, str | None]
"""A ``Point`` or a bare tuple like one, which is made five times as fast."""


class Frame(NamedTuple):
    """One intact frame of a segment: its type, how many rows it holds and its body."""

    type: int
    rows: int
    body: memoryview

    def bytes(self) -> bytes:
        """Return the frame as it stands in a segment."""
        return _frame(bytes(self.body))


def _frame(body: bytes) -> bytes:
    size = len(body)
    if size > MAX_BODY_BYTES:
        raise InvalidInputError(
            f"the points of one call take {size:,} bytes; at most {MAX_BODY_BYTES:,} fit in a frame.",
            hint="Store large artifacts elsewhere and log where they are.",
        )
    return _HEAD.pack(size, size ^ _ALL_ONES, crc32(body)) + body


def header_frame(fields: dict[str, Any]) -> bytes:
    """Return the frame that opens a segment."""
    return _frame(bytes([HEADER]) + json.dumps(fields, sort_keys=True).encode())


def read_header(frame: Frame) -> dict[str, Any]:
    """Return the fields of a segment's first frame."""
    fields: dict[str, Any] = json.loads(bytes(frame.body[1:]))
    return fields


def end_frame() -> bytes:
    """Return the frame that says: this writer publishes nothing behind this segment."""
    return _frame(bytes([END]) + b"end")


def rows_frame(batch: pa.RecordBatch | pa.Table) -> bytes:
    """Return the frame of rows that come as Arrow, without the columns ``writer`` and ``seq``."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write(batch)
    return _frame(START.pack(ROWS, 0, 0, batch.num_rows, 0) + sink.getvalue().to_pybytes())


class SeriesEncoder:
    """Numbers the series of one segment and makes its frames of points.

    A frame is made before it is written, and whatever interrupts the caller in between (a full disk, Ctrl-C)
    must not leave a number that no frame defines. So whoever has written a frame empties ``unconfirmed``;
    otherwise the next frame defines those series again.

    Args:
        settle: Called before series are defined again: finds out whether the frame was written after all, and
            then empties ``unconfirmed``.

    Attributes:
        frame: The last frame that defined a series.
        unconfirmed: The series that it defined, as long as nobody said that it was written.
    """

    __slots__ = ("_numbers", "_settle", "frame", "unconfirmed")

    def __init__(self, settle: Callable[[], None] | None = None) -> None:
        self._settle = settle
        self._numbers: dict[SeriesKey, int] = {}
        self.frame = b""
        self.unconfirmed: list[SeriesKey] = []

    def point(
        self,
        series: SeriesKey,
        kind: int,
        value: float | None,
        text: str | None,
        timestamp: int,
        step: int | None,
    ) -> bytes:
        """Return the frame of one point; the hot path of ``log_metric``.

        Args:
            series: The series; it is validated when it is new to this segment.
            kind: The code of the value's kind.
            value: The numeric view, or None.
            text: The exact text, or None.
            timestamp: Microseconds since 1970 UTC.
            step: The step, or None.
        """
        if self.unconfirmed:
            self._undo()
        number = self._numbers.get(series)
        if number is None or text is not None:
            return self.points([Point(series, kind, value, text)], timestamp, step)
        flags = 0
        if value is None:
            value = 0.0
        else:
            flags = HAS_VALUE
        if step is None:
            step = 0
        else:
            flags |= HAS_STEP
        body = _ONE_POINT.pack(POINTS, 0, 0, 1, 0, number, kind, flags, 0, timestamp, step, value, 0)
        return _HEAD.pack(_ONE_SIZE, _ONE_SIZE ^ _ALL_ONES, crc32(body)) + body

    def points(self, points: Sequence[PointFields], timestamp: int, step: int | None) -> bytes:
        """Return the frame of the points of one call, which share its time and step."""
        self._undo()
        definitions: list[bytes] = []
        records: list[bytes] = []
        texts: list[bytes] = []
        base = 0 if step is None else HAS_STEP
        stored_step = step or 0
        numbers = self._numbers
        pack = POINT.pack
        for series, kind, value, text in points:
            number = numbers.get(series)
            if number is None:
                number = self._define(series, definitions)
            flags = base
            size = 0
            if value is None:
                value = 0.0
            else:
                flags |= HAS_VALUE
            if text is not None:
                flags |= HAS_TEXT
                encoded = text.encode()
                size = len(encoded)
                texts.append(encoded)
            records.append(pack(number, kind, flags, 0, timestamp, stored_step, value, size))
        start = START.pack(POINTS, 0, 0, len(records), len(definitions))
        frame = _frame(b"".join((start, *definitions, *records, *texts)))
        self.frame = frame if definitions else b""
        return frame

    def numbers(
        self,
        series: SeriesKey,
        kind: int,
        values: bytes | memoryview,
        timestamps: int | bytes | memoryview,
        steps: bytes | memoryview | None,
    ) -> bytes:
        """Return the frame of many numbers of one series.

        Args:
            series: The series; it is validated when it is new to this segment.
            kind: The code of the values' kind, one for all.
            values: Float64 numbers, little endian.
            timestamps: Microseconds since 1970 UTC: one for all, or int64 numbers, one a value.
            steps: Int64 numbers, one a value, or None.
        """
        self._undo()
        definitions: list[bytes] = []
        number = self._numbers.get(series)
        if number is None:
            number = self._define(series, definitions)
        flags = 0 if steps is None else MANY_STEPS
        if isinstance(timestamps, int):
            stamps: bytes | memoryview = timestamps.to_bytes(8, "little", signed=True)
        else:
            stamps = timestamps
            flags |= MANY_TIMESTAMPS
        start = START.pack(SERIES, flags, 0, len(values) // 8, len(definitions))
        series_part = SERIES_PART.pack(number, kind, 0, 0)
        frame = _frame(b"".join((start, *definitions, series_part, stamps, steps or b"", values)))
        self.frame = frame if definitions else b""
        return frame

    def _undo(self) -> None:
        """Take back what a frame defined that was never written."""
        if self.unconfirmed and self._settle is not None:
            self._settle()
        for series in self.unconfirmed:
            self._numbers.pop(series, None)
        self.unconfirmed = []

    def _define(self, series: SeriesKey, definitions: list[bytes]) -> int:
        check_id(series[0], "resource")
        check_id(series[1], "metric")
        texts = [part.encode() for part in series]
        definitions.append(DEFINITION.pack(*map(len, texts)) + b"".join(texts))
        number = len(self._numbers)
        self.unconfirmed.append(series)
        self._numbers[series] = number
        return number


def split_frames(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[Frame, int]]:
    """Yield the intact frames from ``start`` on, each with the offset behind it.

    The iteration ends at the first frame that is not whole. Whoever needs to know compares the last offset
    with the length of the data, and asks ``is_torn`` about what is left.
    """
    view = memoryview(data)
    size = len(view)
    head_size = _HEAD.size
    unpack_head = _HEAD.unpack_from
    unpack_start = START.unpack_from
    while start + head_size < size:
        length, complement, checksum = unpack_head(view, start)
        begin = start + head_size
        end = begin + length
        if end > size or length ^ complement != _ALL_ONES:
            return
        body = view[begin:end]
        if crc32(body) != checksum or not length:
            return
        kind = body[0]
        rows = unpack_start(body)[3] if POINTS <= kind <= ROWS else 0
        start = end
        yield Frame(kind, rows, body), end


def is_torn(tail: bytes | memoryview) -> bool:
    """Tell what an interrupted write leaves behind the last whole frame from damage.

    A write that was cut off leaves the beginning of a frame, and a power loss zeroes in place of pages that
    never reached the disk; nobody was told that such a frame is kept. Anything else was whole once.
    """
    tail = memoryview(tail)
    if len(tail) < _HEAD.size:
        # A whole frame is longer; of a shorter rest the length may be all there is.
        return len(tail) < 8 or not any(tail) or _is_length(*_LENGTH.unpack_from(tail))
    length, complement, _ = _HEAD.unpack_from(tail)
    body = tail[_HEAD.size :]
    if _is_length(length, complement):
        return length > len(body) or not any(body)
    return not any(tail)


def _is_length(length: int, complement: int) -> bool:
    return length ^ complement == _ALL_ONES
