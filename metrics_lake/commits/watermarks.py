"""The transaction identifiers of a table's log: watermarks of writers, keys of bulk commits, foreign ones.

Consumed rows are intervals: ``ml:{writer}`` holds the last row of ``[0..last]`` and ``ml:{writer}@{first}``
that of one more run behind a gap. A million writers are a million of them, so what a checkpoint gave stays in
Arrow, sorted, and only what later commits changed is a dict.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake.commits.intervals import union

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from metrics_lake.commits.intervals import Intervals

__all__ = ["END", "Transactions", "app_id", "bulk_app_id", "end_app_id", "watermark_txns"]

END: Final = "end"
_WATERMARK: Final = re.compile(r"ml:(?P<writer>[0-9a-f]{32})(?:@(?P<first>\d+))?")
_TYPES: Final[list[tuple[str, pa.DataType]]] = [
    ("appId", pa.string()),
    ("version", pa.int64()),
    ("lastUpdated", pa.int64()),
]
_SCHEMA: Final = pa.schema(_TYPES)


def app_id(writer: str, first: int) -> str:
    """Return the identifier under which a consumed run of a writer stands in the log."""
    return f"ml:{writer}" if first == 0 else f"ml:{writer}@{first}"


def end_app_id(writer: str) -> str:
    """Return the identifier that says that a writer has ended.

    Its version is 0 from the commit that consumed the writer's end on, and 1 from the commit that saw all
    its inbox objects gone.
    """
    return f"ml:{writer}@{END}"


def bulk_app_id(key: str) -> str:
    """Return the identifier that makes a bulk commit happen once."""
    return f"ml:bulk:{key}"


def watermark_txns(writer: str, known: Intervals, added: Intervals) -> dict[str, int]:
    """Return the identifiers to set so that ``added`` counts as consumed as well."""
    wanted = union((*known, *added))
    have = set(known)
    return {app_id(writer, first): last for first, last in wanted if (first, last) not in have}


class _Texts:
    """A sorted Arrow string column as a sequence for bisection, without turning it into Python objects."""

    def __init__(self, column: pa.Array[pa.StringScalar]) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: int) -> str:
        text: str = self._column[index].as_py()
        return text


def _array(column: Any) -> Any:
    """Return a column as one array."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


class Transactions:
    """The ``txn`` state of one version: an immutable mapping from application id to version.

    Args:
        base: The columns ``appId``, ``version``, ``lastUpdated`` of a checkpoint, in any order.
    """

    __slots__ = ("_by_writer", "_changes", "_memo", "_table", "_texts")

    def __init__(self, base: pa.Table | None = None) -> None:
        table = _SCHEMA.empty_table() if base is None else base.cast(_SCHEMA).sort_by("appId")
        self._table = table.combine_chunks()
        self._texts = _Texts(_array(self._table.column("appId")))
        self._changes: dict[str, tuple[int, int | None]] = {}
        self._by_writer: dict[str, tuple[str, ...]] = {}
        self._memo: dict[str, Intervals] = {}

    def __len__(self) -> int:
        return self._table.num_rows + sum(self._find(text) is None for text in self._changes)

    def __iter__(self) -> Iterator[str]:
        yield from self._changes
        for index in range(len(self._texts)):
            if (text := self._texts[index]) not in self._changes:
                yield text

    def get(self, text: str) -> int | None:
        """Return the version under an application id, or None."""
        if text in self._changes:
            return self._changes[text][0]
        index = self._find(text)
        return None if index is None else int(self._table.column("version")[index].as_py())

    def last_updated(self, text: str) -> int | None:
        """Return when an application id was set, in milliseconds since 1970, or None."""
        if text in self._changes:
            return self._changes[text][1]
        index = self._find(text)
        return None if index is None else self._table.column("lastUpdated")[index].as_py()

    def consumed(self, writer: str) -> Intervals:
        """Return the ``seq`` intervals of a writer whose rows the table has taken over."""
        known = self._memo.get(writer)
        if known is None:
            known = self._memo[writer] = self._intervals(writer)
        return known

    def with_changes(self, changes: Mapping[str, tuple[int, int | None]]) -> Transactions:
        """Return these identifiers with some set anew: ``{appId: (version, lastUpdated)}``."""
        if not changes:
            return self
        new = object.__new__(Transactions)
        new._table, new._texts = self._table, self._texts
        new._changes = {**self._changes, **changes}
        new._by_writer = dict(self._by_writer)
        touched = set()
        for text in changes:
            found = _WATERMARK.fullmatch(text)
            if found is not None:
                writer = found["writer"]
                touched.add(writer)
                new._by_writer[writer] = (*new._by_writer.get(writer, ()), text)
        new._memo = {writer: known for writer, known in self._memo.items() if writer not in touched}
        return new

    def table(self) -> pa.Table:
        """Return all identifiers as the columns ``appId``, ``version``, ``lastUpdated``, sorted."""
        if not self._changes:
            return self._table
        texts = pa.array(list(self._changes), pa.string())
        changed = pa.table(
            [
                texts,
                pa.array([version for version, _ in self._changes.values()], pa.int64()),
                pa.array([updated for _, updated in self._changes.values()], pa.int64()),
            ],
            schema=_SCHEMA,
        )
        kept = self._table.filter(pc.invert(pc.is_in(self._table.column("appId"), value_set=texts)))
        return pa.concat_tables([kept, changed]).sort_by("appId")

    def without(self, texts: Collection[str]) -> Transactions:
        """Return these identifiers without some of them: for a checkpoint that forgets."""
        table = self.table()
        drop = pc.is_in(table.column("appId"), value_set=pa.array(sorted(texts), pa.string()))
        return Transactions(table.filter(pc.invert(drop)))

    def of_writer(self, writer: str) -> list[str]:
        """Return every identifier that belongs to a writer."""
        index = bisect_left(self._texts, f"ml:{writer}")
        found = []
        while index < len(self._texts) and (text := self._texts[index]).startswith(f"ml:{writer}"):
            found.append(text)
            index += 1
        return sorted({*found, *(text for text in self._changes if text.startswith(f"ml:{writer}"))})

    def ended_writers(self) -> list[str]:
        """Return the writers that have ended and whose watermarks are still kept."""
        table = self.table()
        mask = pc.match_substring_regex(table.column("appId"), f"^ml:[0-9a-f]{{32}}@{END}$")
        texts: list[Any] = table.column("appId").filter(mask).to_pylist()
        return [text[3:35] for text in texts]

    def writers(self) -> list[str]:
        """Return every writer of which rows were consumed, ascending."""
        table = self.table()
        mask = pc.match_substring_regex(table.column("appId"), r"^ml:[0-9a-f]{32}(@[0-9]+)?$")
        texts = pc.utf8_slice_codeunits(table.column("appId").filter(mask), 3, 35)
        writers: list[Any] = texts.unique().to_pylist()
        return sorted(writers)

    def _find(self, text: str) -> int | None:
        index = bisect_left(self._texts, text)
        return index if index < len(self._texts) and self._texts[index] == text else None

    def _intervals(self, writer: str) -> Intervals:
        runs: dict[str, int] = {}
        index = bisect_left(self._texts, f"ml:{writer}")
        versions = self._table.column("version")
        while index < len(self._texts) and (text := self._texts[index]).startswith(f"ml:{writer}"):
            runs[text] = versions[index].as_py()
            index += 1
        for text in self._by_writer.get(writer, ()):
            runs[text] = self._changes[text][0]
        intervals = []
        for text, last in runs.items():
            found = _WATERMARK.fullmatch(text)
            if found is not None:
                intervals.append((int(found["first"] or 0), last))
        return union(intervals)


def writer_of(text: str) -> str | None:
    """Return the writer whose watermark an application id is, or None."""
    found = _WATERMARK.fullmatch(text)
    return None if found is None else found["writer"]
