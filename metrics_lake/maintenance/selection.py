"""Which rows a delete takes: a condition on rows, and what it says of whole files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from metrics_lake.commits import may_contain

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Sequence

    from metrics_lake.commits import DataFile

__all__ = ["Condition"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Rows that fulfil every part that is given; a condition without parts is fulfilled by all rows.

    Attributes:
        resources: Literal ids and compiled patterns, any of which the resource must match whole; None = all.
        metrics: Likewise for the metric id.
        since_us: The least timestamp, microseconds since 1970.
        until_us: The timestamp that is already too late.
        tags_keys: The canonical texts of the tags, one of which the row must carry; None = all.
    """

    resources: tuple[str | re.Pattern[str], ...] | None = None
    metrics: tuple[str | re.Pattern[str], ...] | None = None
    since_us: int | None = None
    until_us: int | None = None
    tags_keys: tuple[str, ...] | None = None

    def mask(self, rows: pa.Table) -> Any:
        """Return for each row whether it fulfils the condition."""
        mask: Any = pa.repeat(pa.scalar(True), rows.num_rows)
        for name, wanted in (("resource", self.resources), ("metric", self.metrics)):
            if wanted is not None:
                mask = pc.and_(mask, _matches(rows.column(name), wanted))
        if self.tags_keys is not None:
            keys = pa.array(self.tags_keys, pa.string())
            mask = pc.and_(mask, pc.is_in(rows.column("tags_key"), value_set=keys))
        times: Any = rows.column("timestamp").cast(pa.int64())
        if self.since_us is not None:
            mask = pc.and_(mask, pc.greater_equal(times, pa.scalar(self.since_us, pa.int64())))
        if self.until_us is not None:
            mask = pc.and_(mask, pc.less(times, pa.scalar(self.until_us, pa.int64())))
        return mask

    def must_match(self, file: DataFile) -> bool:
        """Return True only where certainly every row of a data file fulfils the condition."""
        if self.resources is not None or self.metrics is not None or self.tags_keys is not None:
            return False
        times = file.stats.get("timestamp")
        if times is None or times.min is None or times.max is None:
            return self.since_us is None and self.until_us is None
        return (self.since_us is None or times.min >= self.since_us) and (
            self.until_us is None or times.max < self.until_us
        )

    def may_match(self, file: DataFile) -> bool:
        """Return False only where certainly no row of a data file fulfils the condition."""
        times = file.stats.get("timestamp")
        if times is not None:
            if self.since_us is not None and times.max is not None and times.max < self.since_us:
                return False
            if self.until_us is not None and times.min is not None and times.min >= self.until_us:
                return False
        for name, wanted in (("resource", self.resources), ("metric", self.metrics)):
            if wanted is None:
                continue
            literals = [each for each in wanted if isinstance(each, str)]
            if len(literals) < len(wanted):
                continue  # a pattern may match anything
            bounds = file.stats.get(name)
            if bounds is not None and bounds.min is not None and bounds.max is not None:
                literals = [each for each in literals if bounds.min <= each <= bounds.max]
            if name == "resource":
                literals = [each for each in literals if may_contain(file.bloom, each)]
            if not literals:
                return False
        return True


def _matches(column: Any, wanted: Sequence[str | re.Pattern[str]]) -> Any:
    """Return for each text whether it is wanted: decided once for each distinct text."""
    distinct = pc.unique(column)
    texts: list[Any] = distinct.to_pylist()
    found = _wanted_of(texts, wanted)
    return pc.is_in(column, value_set=pa.array(found, pa.string()))


def _wanted_of(texts: Collection[str], wanted: Sequence[str | re.Pattern[str]]) -> list[str]:
    literals = {each for each in wanted if isinstance(each, str)}
    patterns = [each for each in wanted if not isinstance(each, str)]
    return [text for text in texts if text in literals or any(each.fullmatch(text) for each in patterns)]
