"""From the frames of a segment to Arrow rows, column by column: no loop over points."""

from __future__ import annotations

from array import array
from itertools import groupby
from typing import TYPE_CHECKING, Any

from metrics_lake.errors import CorruptObjectError, UnsupportedFormatError
from metrics_lake.points.frames import (
    DEFINITION,
    HAS_STEP,
    HAS_TEXT,
    HAS_VALUE,
    MANY_STEPS,
    MANY_TIMESTAMPS,
    POINT,
    POINTS,
    ROWS,
    SERIES,
    SERIES_PART,
    START,
)
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.tags import tags_from_key
from metrics_lake.values import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from metrics_lake.points.frames import Frame, SeriesKey

__all__ = ["FrameDecoder", "decode_frames"]


class _Series:
    """The series that the frames read so far have defined, by number."""

    def __init__(self) -> None:
        self._keys: list[SeriesKey] = []

    def read(self, body: memoryview, count: int, offset: int) -> int:
        """Take the definitions of one frame; return the offset behind them."""
        keys = self._keys
        for _ in range(count):
            resource, metric, tags = DEFINITION.unpack_from(body, offset)
            start = offset + DEFINITION.size
            middle = start + resource
            last = middle + metric
            offset = last + tags
            keys.append(
                (
                    str(body[start:middle], "utf-8"),
                    str(body[middle:last], "utf-8"),
                    str(body[last:offset], "utf-8"),
                )
            )
        return offset

    def columns(self, numbers: pa.Array[Any]) -> dict[str, pa.Array[Any]]:
        """Return the columns that the rows' series give: at the price of the rows' own series, not of all."""
        import pyarrow as pa
        import pyarrow.compute as pc

        present = numbers.unique()
        numbers_present: list[Any] = present.to_pylist()
        keys = [self._keys[number] for number in numbers_present]
        at = pc.index_in(numbers, present)
        tags_of = {"": None} | {key: tuple(tags_from_key(key).items()) for _, _, key in keys if key}
        tags_type = pa.map_(pa.string(), pa.string())
        tags = [tags_of[key] for _, _, key in keys]

        def column(values: list[Any], kind: pa.DataType) -> pa.Array[Any]:
            return pa.array(values, kind).take(at)

        return {
            "resource": column([resource for resource, _, _ in keys], pa.string()),
            "metric": column([metric for _, metric, _ in keys], pa.string()),
            "tags": column(tags, tags_type) if len(tags_of) > 1 else pa.nulls(len(numbers), tags_type),
            "tags_key": column([key for _, _, key in keys], pa.string()),
        }


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
        self._series = _Series()

    def decode(self, frames: Sequence[Frame]) -> pa.Table:
        """Return the rows of the frames, in order, in the table's schema.

        Raises:
            UnsupportedFormatError: A newer version wrote a value of a kind that this one does not know.
        """
        import pyarrow as pa

        if self._table != METRICS and any(frame.type in {POINTS, SERIES} for frame in frames):
            raise CorruptObjectError(
                f"a journal segment of table {self._table!r} holds metric points", table=self._table
            )
        chunks: list[pa.Table] = []
        for is_points, run in groupby(frames, key=_holds_points):
            if is_points:
                chunks.append(self._stamped(self._points(run)))
            else:
                chunks.extend(self._stamped(_rows(frame)) for frame in run if frame.type == ROWS)
        if not chunks:
            return arrow_schema(self._table).empty_table()
        return pa.concat_tables(chunks)

    def _points(self, frames: Iterable[Frame]) -> pa.Table:
        """Return the columns of consecutive frames of points, without ``writer`` and ``seq``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = self._columns(frames)
        kinds = columns.pop("kind")
        greatest = pc.max(kinds).as_py()
        if greatest is not None and greatest >= len(KINDS):
            raise UnsupportedFormatError(
                "the journal holds values of a kind that this version of metrics_lake does not know.",
                hint="Upgrade metrics_lake on this machine; the points are kept.",
            )
        series = columns.pop("series")
        return pa.table(
            {
                **columns,
                **self._series.columns(series),
                "timestamp": columns["timestamp"].cast(pa.timestamp("us", tz="UTC")),
                "kind": pa.array(KINDS, pa.string()).take(kinds),
                "origin": pa.nulls(len(kinds), pa.string()),
            }
        )

    def _columns(self, frames: Iterable[Frame]) -> dict[str, pa.Array[Any]]:
        """Return the columns that stand in the frames, in the frames' order."""
        import pyarrow as pa

        # Each frame with the offset behind its definitions, and which rows of its type's columns are its own.
        records: list[tuple[Frame, int]] = []
        runs: list[tuple[Frame, int]] = []
        places: list[tuple[bool, range]] = []
        counts = [0, 0]
        for frame in frames:
            is_run = frame.type == SERIES
            definitions = START.unpack_from(frame.body)[4]
            offset = self._series.read(frame.body, definitions, START.size) if definitions else START.size
            (runs if is_run else records).append((frame, offset))
            places.append((is_run, range(counts[is_run], counts[is_run] + frame.rows)))
            counts[is_run] += frame.rows
        if not runs:
            return _records(records, counts[False])
        if not records:
            return _runs(runs, counts[True])
        parts = (_records(records, counts[False]), _runs(runs, counts[True]))
        order = array("q")
        for is_run, rows in places:
            order.extend(rows if not is_run else range(rows.start + counts[False], rows.stop + counts[False]))
        at = pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(order)])
        return {name: pa.concat_arrays([part[name] for part in parts]).take(at) for name in parts[0]}

    def _stamped(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = table.num_rows
        ones = pa.repeat(pa.scalar(1, pa.int64()), rows)
        seq = pc.cumulative_sum(ones, start=pa.scalar(self._next - 1, pa.int64()))
        self._next += rows
        schema = arrow_schema(self._table)
        stamped = {"writer": pa.repeat(pa.scalar(self._writer), rows), "seq": seq}
        columns = [
            stamped.get(name, table.column(name) if name in table.column_names else None)
            for name in schema.names
        ]
        return pa.table(columns, schema=schema)


def _holds_points(frame: Frame) -> bool:
    return frame.type in {POINTS, SERIES}


def _rows(frame: Frame) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(bytes(frame.body[START.size :]))) as stream:
        return stream.read_all()


def _records(frames: Sequence[tuple[Frame, int]], rows: int) -> dict[str, pa.Array[Any]]:
    """Cut the columns of ``POINTS`` frames out of their records, which have a fixed width."""
    import pyarrow as pa
    import pyarrow.compute as pc

    width = POINT.size
    records: list[memoryview] = []
    texts: list[memoryview] = []
    for frame, offset in frames:
        body = frame.body
        end = offset + width * frame.rows
        records.append(body[offset:end])
        if end < len(body):
            texts.append(body[end:])
    packed = pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(b"".join(records))])

    def column(kind: pa.DataType, start: int) -> pa.Array[Any]:
        cut = pc.binary_slice(packed, start, start + kind.bit_width // 8)
        return pa.Array.from_buffers(kind, rows, [None, cut.buffers()[1]])

    flags = column(pa.uint8(), 5)
    text: pa.Array[Any] = pa.nulls(rows, pa.string())
    if pc.any(_is_set(flags, HAS_TEXT)).as_py():
        lengths = column(pa.uint32(), 32).cast(pa.int64())
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
        buffers = [None, offsets.buffers()[1], pa.py_buffer(b"".join(texts))]
        text = pa.Array.from_buffers(pa.large_string(), rows, buffers).cast(pa.string())
        text = _where(flags, HAS_TEXT, text)
    return {
        "series": column(pa.uint32(), 0),
        "kind": column(pa.uint8(), 4),
        "timestamp": column(pa.int64(), 8),
        "step": _where(flags, HAS_STEP, column(pa.int64(), 16)),
        "value": _where(flags, HAS_VALUE, column(pa.float64(), 24)),
        "text": text,
    }


def _runs(frames: Sequence[tuple[Frame, int]], rows: int) -> dict[str, pa.Array[Any]]:
    """Put the columns of ``SERIES`` frames behind one another."""
    import pyarrow as pa

    series: list[bytes] = []
    kinds: list[bytes] = []
    flags: list[bytes] = []
    stamps: list[bytes | memoryview] = []
    steps: list[bytes | memoryview] = []
    values: list[memoryview] = []
    for frame, begin in frames:
        body, count = frame.body, frame.rows
        width = 8 * count
        flag = body[1]
        offset = begin + SERIES_PART.size
        series.append(bytes(body[begin : begin + 4]) * count)
        kinds.append(bytes(body[begin + 4 : begin + 5]) * count)
        flags.append(bytes((flag,)) * count)
        if flag & MANY_TIMESTAMPS:
            stamps.append(body[offset : offset + width])
            offset += width
        else:
            stamps.append(bytes(body[offset : offset + 8]) * count)
            offset += 8
        if flag & MANY_STEPS:
            steps.append(body[offset : offset + width])
            offset += width
        else:
            steps.append(bytes(width))
        values.append(body[offset : offset + width])

    def column(kind: pa.DataType, parts: Sequence[bytes | memoryview]) -> pa.Array[Any]:
        return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(b"".join(parts))])

    return {
        "series": column(pa.uint32(), series),
        "kind": column(pa.uint8(), kinds),
        "timestamp": column(pa.int64(), stamps),
        "step": _where(column(pa.uint8(), flags), MANY_STEPS, column(pa.int64(), steps)),
        "value": column(pa.float64(), values),
        "text": pa.nulls(rows, pa.string()),
    }


def _is_set(flags: pa.Array[Any], flag: int) -> pa.Array[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.not_equal(pc.bit_wise_and(flags, pa.scalar(flag, pa.uint8())), pa.scalar(0, pa.uint8()))


def _where(flags: pa.Array[Any], flag: int, values: pa.Array[Any]) -> pa.Array[Any]:
    """Return the values, null where the flag is not set."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chosen: pa.Array[Any] = pc.if_else(_is_set(flags, flag), values, pa.scalar(None, values.type))
    return chosen


def decode_frames(table: str, writer: str, first: int, frames: Sequence[Frame]) -> pa.Table:
    """Return the rows of a whole segment's frames in the table's schema."""
    return FrameDecoder(table, writer, first).decode(frames)
