"""The binary frames of the journal: one call is one frame, and a segment decodes into Arrow without a loop.

A frame is ``u32 length, u32 crc32, body`` (little endian); its first body byte says what it holds:

====================  ================================================================================
``HEADER`` (0)        JSON: what the segment is (journal.py writes and reads it); always the first
``POINTS`` (1)        u8 type, u8 0, u16 definitions, u32 points; the definitions; 36 bytes a point;
                      the points' texts behind one another
``SERIES`` (2)        many numbers of one series: u8 type, u8 flags, u16 definitions, u32 points; the
                      definitions; u32 series, u8 kind, 3 zero bytes, i64 timestamp or one a point,
                      steps where there are any (i64 a point), values (f64 a point)
``ROWS`` (3)          u8 type, 3 zero bytes, u32 rows; an Arrow IPC stream of the table's columns without
                      ``writer`` and ``seq``
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

from metrics_lake.errors import CorruptObjectError
from metrics_lake.resources import check_id, tags_from_key
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.values import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

__all__ = [
    "END",
    "HEADER",
    "Frame",
    "Point",
    "SeriesEncoder",
    "SeriesKey",
    "decode_frames",
    "end_frame",
    "header_frame",
    "read_header",
    "rows_frame",
    "split_frames",
]

HEADER: Final = 0
POINTS: Final = 1
SERIES: Final = 2
ROWS: Final = 3
END: Final = 4

_HEAD = struct.Struct("<II")
_START = struct.Struct("<BBHI")
_DEFINITION = struct.Struct("<III")
_POINT = struct.Struct("<IBBHqqdI")
_ONE_POINT = struct.Struct("<BBHIIBBHqqdI")
_SERIES = struct.Struct("<IBBH")

_HAS_STEP: Final = 1
_HAS_VALUE: Final = 2
_HAS_TEXT: Final = 4
_MANY_TIMESTAMPS: Final = 1
_MANY_STEPS: Final = 2

SeriesKey = tuple[str, str, str]
"""(resource, metric, tags_key): what identifies a series."""


class Point(NamedTuple):
    """One value on its way into a frame: the code of its kind, its numeric view and its exact text."""

    series: SeriesKey
    kind: int
    value: float | None
    text: str | None


class Frame(NamedTuple):
    """One intact frame of a segment: its type, how many rows it holds and its body."""

    type: int
    rows: int
    body: memoryview

    def bytes(self) -> bytes:
        """Return the frame as it stands in a segment."""
        return _frame(bytes(self.body))


def _frame(body: bytes) -> bytes:
    return _HEAD.pack(len(body), crc32(body)) + body


def header_frame(fields: dict[str, Any]) -> bytes:
    """Return the frame that opens a segment."""
    return _frame(bytes([HEADER]) + json.dumps(fields, sort_keys=True).encode())


def read_header(frame: Frame) -> dict[str, Any]:
    """Return the fields of a segment's first frame."""
    fields: dict[str, Any] = json.loads(bytes(frame.body[1:]))
    return fields


def end_frame() -> bytes:
    """Return the frame that says: this writer publishes nothing behind this segment."""
    return _frame(bytes([END]))


def rows_frame(batch: pa.RecordBatch | pa.Table) -> bytes:
    """Return the frame of rows that come as Arrow, without the columns ``writer`` and ``seq``."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write(batch)
    return _frame(_START.pack(ROWS, 0, 0, batch.num_rows) + sink.getvalue().to_pybytes())


class SeriesEncoder:
    """Numbers the series of one segment and makes its frames of points.

    A frame is made before it is written: ``undo`` takes back the numbers that a frame defined when the write
    failed, so that the next frame defines them again.
    """

    __slots__ = ("_defined", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[SeriesKey, int] = {}
        self._defined: list[SeriesKey] = []

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
        number = self._numbers.get(series)
        if number is None or text is not None:
            return self.points([Point(series, kind, value, text)], timestamp, step)
        if self._defined:
            self._defined = []
        flags = 0
        if value is None:
            value = 0.0
        else:
            flags = _HAS_VALUE
        if step is None:
            step = 0
        else:
            flags |= _HAS_STEP
        body = _ONE_POINT.pack(POINTS, 0, 0, 1, number, kind, flags, 0, timestamp, step, value, 0)
        return _HEAD.pack(len(body), crc32(body)) + body

    def points(self, points: Sequence[Point], timestamp: int, step: int | None) -> bytes:
        """Return the frame of the points of one call, which share its time and step."""
        self._defined = []
        definitions: list[bytes] = []
        records: list[bytes] = []
        texts: list[bytes] = []
        base = 0 if step is None else _HAS_STEP
        stored_step = step or 0
        numbers = self._numbers
        pack = _POINT.pack
        try:
            for series, kind, value, text in points:
                number = numbers.get(series)
                if number is None:
                    number = self._define(series, definitions)
                flags = base
                size = 0
                if value is not None:
                    flags |= _HAS_VALUE
                if text is not None:
                    flags |= _HAS_TEXT
                    encoded = text.encode()
                    size = len(encoded)
                    texts.append(encoded)
                records.append(pack(number, kind, flags, 0, timestamp, stored_step, value or 0.0, size))
                if value is not None and not value:
                    # `value or 0.0` would lose the sign of -0.0.
                    records[-1] = pack(number, kind, flags, 0, timestamp, stored_step, value, size)
        except BaseException:
            self.undo()
            raise
        start = _START.pack(POINTS, 0, len(definitions), len(points))
        return _frame(b"".join((start, *definitions, *records, *texts)))

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
        self._defined = []
        definitions: list[bytes] = []
        number = self._numbers.get(series)
        if number is None:
            number = self._define(series, definitions)
        flags = 0 if steps is None else _MANY_STEPS
        if isinstance(timestamps, int):
            stamps: bytes | memoryview = timestamps.to_bytes(8, "little", signed=True)
        else:
            stamps = timestamps
            flags |= _MANY_TIMESTAMPS
        start = _START.pack(SERIES, flags, len(definitions), len(values) // 8)
        series_part = _SERIES.pack(number, kind, 0, 0)
        return _frame(b"".join((start, *definitions, series_part, stamps, steps or b"", values)))

    def undo(self) -> None:
        """Take back what the last frame defined: it was not written."""
        for series in self._defined:
            del self._numbers[series]
        self._defined = []

    def _define(self, series: SeriesKey, definitions: list[bytes]) -> int:
        check_id(series[0], "resource")
        check_id(series[1], "metric")
        texts = [part.encode() for part in series]
        definitions.append(_DEFINITION.pack(*map(len, texts)) + b"".join(texts))
        number = len(self._numbers)
        self._numbers[series] = number
        self._defined.append(series)
        return number


def split_frames(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[Frame, int]]:
    """Yield the intact frames from ``start`` on, each with the offset behind it.

    The iteration ends at the first frame that is not whole: a frame that reaches beyond the data, zeroes (a
    file system's tail after a power loss) or a checksum that does not match. Whoever needs to know compares
    the last offset with the length of the data.
    """
    view = memoryview(data)
    size = len(view)
    unpack_head = _HEAD.unpack_from
    unpack_start = _START.unpack_from
    while start + 8 <= size:
        length, checksum = unpack_head(view, start)
        end = start + 8 + length
        if length == 0 or end > size:
            return
        body = view[start + 8 : end]
        if crc32(body) != checksum:
            return
        kind = body[0]
        rows = unpack_start(body)[3] if kind in {POINTS, SERIES, ROWS} else 0
        start = end
        yield Frame(kind, rows, body), end


class _Definitions:
    """The series that the frames read so far have defined, column by column."""

    def __init__(self) -> None:
        self.resources: list[str] = []
        self.metrics: list[str] = []
        self.tags_keys: list[str] = []

    def read(self, body: memoryview, count: int, offset: int) -> int:
        for _ in range(count):
            lengths = _DEFINITION.unpack_from(body, offset)
            offset += _DEFINITION.size
            for column, length in zip((self.resources, self.metrics, self.tags_keys), lengths, strict=True):
                column.append(str(body[offset : offset + length], "utf-8"))
                offset += length
        return offset


class FrameDecoder:
    """Turns the frames of one segment into rows, a few at a time: it remembers the series defined so far.

    Args:
        table: The table that the segment belongs to.
        writer: The writer's id.
        first: The ``seq`` of the segment's first row.
    """

    def __init__(self, table: str, writer: str, first: int) -> None:
        self._table = table
        self._writer = writer
        self._next = first
        self._definitions = _Definitions()

    def decode(self, frames: Sequence[Frame]) -> pa.Table:
        """Return the rows of the frames, in order, in the table's schema."""
        import pyarrow as pa

        chunks: list[pa.Table] = []
        records: list[memoryview] = []
        texts: list[memoryview] = []
        rows = 0

        def close_run() -> None:
            nonlocal records, texts, rows
            if rows:
                chunks.append(self._points(b"".join(records), b"".join(texts), rows))
                records, texts, rows = [], [], 0

        for frame in frames:
            if frame.type == POINTS:
                body = frame.body
                definitions = body[2] | body[3] << 8
                offset = self._definitions.read(body, definitions, 8) if definitions else 8
                end = offset + _POINT.size * frame.rows
                records.append(body[offset:end])
                if end < len(body):
                    texts.append(body[end:])
                rows += frame.rows
            elif frame.type == SERIES:
                close_run()
                chunks.append(self._numbers(frame))
            elif frame.type == ROWS:
                close_run()
                chunks.append(self._rows(frame))
        close_run()
        if not chunks:
            return arrow_schema(self._table).empty_table()
        return pa.concat_tables(chunks)

    def _points(self, records: bytes, texts: bytes, rows: int) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        width = _POINT.size
        packed = pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(records)])

        def column(kind: pa.DataType, start: int) -> pa.Array:
            cut = pc.binary_slice(packed, start, start + kind.bit_width // 8)
            return pa.Array.from_buffers(kind, rows, [None, cut.buffers()[1]])

        flags = column(pa.uint8(), 5)
        no_nulls = pa.scalar(None)

        def where(flag: int, values: pa.Array) -> pa.Array:
            has = pc.not_equal(pc.bit_wise_and(flags, pa.scalar(flag, pa.uint8())), pa.scalar(0, pa.uint8()))
            return pc.if_else(has, values, no_nulls.cast(values.type))

        if texts:
            lengths = column(pa.uint32(), 32).cast(pa.int64())
            ends = pc.cumulative_sum(lengths)
            offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
            text = pa.Array.from_buffers(
                pa.large_string(), rows, [None, offsets.buffers()[1], pa.py_buffer(texts)]
            ).cast(pa.string())
            text = where(_HAS_TEXT, text)
        else:
            text = pa.nulls(rows, pa.string())
        return self._assemble(
            rows,
            series=column(pa.uint32(), 0),
            kind=column(pa.uint8(), 4),
            timestamp=column(pa.int64(), 8),
            step=where(_HAS_STEP, column(pa.int64(), 16)),
            value=where(_HAS_VALUE, column(pa.float64(), 24)),
            text=text,
        )

    def _numbers(self, frame: Frame) -> pa.Table:
        import pyarrow as pa

        rows = frame.rows
        _, flags, definitions, _ = _START.unpack_from(frame.body)
        offset = self._definitions.read(frame.body, definitions, _START.size)
        series, kind, _, _ = _SERIES.unpack_from(frame.body, offset)
        offset += _SERIES.size

        def column(kind: pa.DataType) -> pa.Array:
            nonlocal offset
            end = offset + 8 * rows
            # Copied: Arrow wants aligned memory, and the segment's bytes can then be let go.
            values = pa.py_buffer(bytes(frame.body[offset:end]))
            offset = end
            return pa.Array.from_buffers(kind, rows, [None, values])

        if flags & _MANY_TIMESTAMPS:
            timestamp = column(pa.int64())
        else:
            stamp = int.from_bytes(frame.body[offset : offset + 8], "little", signed=True)
            timestamp = pa.repeat(pa.scalar(stamp, pa.int64()), rows)
            offset += 8
        return self._assemble(
            rows,
            series=pa.repeat(pa.scalar(series, pa.uint32()), rows),
            kind=pa.repeat(pa.scalar(kind, pa.uint8()), rows),
            timestamp=timestamp,
            step=column(pa.int64()) if flags & _MANY_STEPS else pa.nulls(rows, pa.int64()),
            value=column(pa.float64()),
            text=pa.nulls(rows, pa.string()),
        )

    def _rows(self, frame: Frame) -> pa.Table:
        import pyarrow as pa

        with pa.ipc.open_stream(pa.py_buffer(bytes(frame.body[_START.size :]))) as stream:
            table = stream.read_all()
        return self._stamped(table)

    def _assemble(
        self,
        rows: int,
        *,
        series: pa.Array,
        kind: pa.Array,
        timestamp: pa.Array,
        step: pa.Array,
        value: pa.Array,
        text: pa.Array,
    ) -> pa.Table:
        import pyarrow as pa

        if self._table != METRICS:
            raise CorruptObjectError(
                f"a journal segment of table {self._table!r} holds metric points", table=self._table
            )
        known = self._definitions
        tags = [tuple(tags_from_key(key).items()) if key else None for key in known.tags_keys]
        map_type = pa.map_(pa.string(), pa.string())
        columns = {
            "resource": pa.array(known.resources, pa.string()).take(series),
            "metric": pa.array(known.metrics, pa.string()).take(series),
            "step": step,
            "timestamp": timestamp.cast(pa.timestamp("us", tz="UTC")),
            "value": value,
            "kind": pa.array(KINDS, pa.string()).take(kind),
            "text": text,
            "tags": pa.array(tags, map_type).take(series) if any(tags) else pa.nulls(rows, map_type),
            "tags_key": pa.array(known.tags_keys, pa.string()).take(series),
            "origin": pa.nulls(rows, pa.string()),
        }
        return self._stamped(pa.table(columns))

    def _stamped(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = table.num_rows
        ones = pa.repeat(pa.scalar(1, pa.int64()), rows)
        seq = pc.cumulative_sum(ones, start=self._next - 1)
        self._next += rows
        schema = arrow_schema(self._table)
        stamped = {"writer": pa.repeat(pa.scalar(self._writer), rows), "seq": seq}
        columns = [
            stamped.get(name, table.column(name) if name in table.column_names else None)
            for name in schema.names
        ]
        return pa.table(columns, schema=schema)


def decode_frames(table: str, writer: str, first: int, frames: Sequence[Frame]) -> pa.Table:
    """Return the rows of a whole segment's frames in the table's schema."""
    return FrameDecoder(table, writer, first).decode(frames)
