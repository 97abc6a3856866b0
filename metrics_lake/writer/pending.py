"""Rows that are in the journal or were just published, decoded for this process's own reads.

A segment's bytes are the only copy that is kept for certain. Decoded rows are remembered up to a limit and
extended by what was appended since; beyond the limit they are decoded again at each read, so that memory
stays flat however long the store is down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final

from metrics_lake.points import END, HEADER, FrameDecoder, split_frames

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from metrics_lake.commits import PendingRun
    from metrics_lake.journal import SealedSegment

__all__ = ["PendingRows", "PublishedRows"]

MAX_DECODED_BYTES: Final = 64 << 20
_MAX_CHUNKS: Final = 16
_KEPT_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _Decoded:
    """How far a segment was decoded, and what came out."""

    decoder: FrameDecoder
    read_bytes: int = 0
    chunks: list[pa.Table] = field(default_factory=list)

    def extend(self, data: bytes) -> None:
        frames = []
        start = self.read_bytes
        for frame, end in split_frames(data):
            if frame.type not in {HEADER, END}:
                frames.append(frame)
            self.read_bytes = start + end
        if frames:
            self.chunks.append(self.decoder.decode(frames))

    def rows(self) -> pa.Table:
        import pyarrow as pa

        rows = pa.concat_tables(self.chunks)
        if len(self.chunks) > _MAX_CHUNKS:
            self.chunks = [rows.combine_chunks()]
        return rows


class PendingRows:
    """Decodes the segments of one table. Not thread-safe: its owner serialises calls."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Decoded] = {}

    def runs(self, segments: Iterable[tuple[SealedSegment, int]]) -> list[PendingRun]:
        """Return each segment's rows as a run, in the order given.

        Args:
            segments: Segments of one table, each with the size up to which it counts. One that is discarded
                meanwhile is left out: its rows were published before.
        """
        from metrics_lake.commits import PendingRun

        runs: list[PendingRun] = []
        remembered: dict[tuple[str, str], _Decoded] = {}
        budget = MAX_DECODED_BYTES
        for segment, size in segments:
            header = segment.header
            key = (segment.where, header.writer)
            known = self._known.get(key) or _Decoded(FrameDecoder(header.table, header.writer, header.first))
            if known.read_bytes < size:
                data = segment.read(known.read_bytes, size)
                if data is None:
                    continue
                known.extend(data)
            if not known.chunks:
                continue
            rows = known.rows()
            runs.append(PendingRun(header.writer, header.first, header.first + rows.num_rows - 1, rows))
            budget -= rows.nbytes
            if budget >= 0:
                remembered[key] = known
        self._known = remembered
        return runs


class PublishedRows:
    """Rows of the objects that this process published last, up to 1 MiB; thread-safe.

    They spare its next read a request and the decoding of each: whoever copies what was just logged, or
    reads it back, needs them.
    """

    def __init__(self) -> None:
        self._rows: dict[str, pa.Table] = {}
        self._size_bytes = 0
        self._lock = Lock()

    def keep(self, key: str, rows: pa.Table) -> None:
        """Keep the rows of an object; the oldest ones make room."""
        with self._lock:
            self._let_go(key)  # published again, when it was not known to be
            self._rows[key] = rows
            self._size_bytes += rows.nbytes
            while self._size_bytes > _KEPT_BYTES:
                self._let_go(next(iter(self._rows)))

    def take(self, key: str) -> pa.Table | None:
        """Return the rows of an object, and keep them no longer; None where they are not here."""
        with self._lock:
            return self._let_go(key)

    def _let_go(self, key: str) -> pa.Table | None:
        rows = self._rows.pop(key, None)
        if rows is not None:
            self._size_bytes -= rows.nbytes
        return rows
