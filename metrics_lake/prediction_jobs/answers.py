"""The numbers of a job, and the points that announce them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from metrics_lake.errors import InvalidInputError
from metrics_lake.points import checked_timestamp, rows_of_points
from metrics_lake.prediction_jobs.stored import windows_of
from metrics_lake.predictions import FINAL_SCHEMA, PredictionMetrics, finalize, metric_points
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.roles import RESERVED_SEGMENTS
from metrics_lake.predictions.rollup import of_one_kind
from metrics_lake.predictions.state import merge_long
from metrics_lake.tags import canonical_tags, tags_from_key, tags_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metrics_lake.predictions import MetricPoint

__all__ = ["Answer", "Coverage", "Wanted", "answer", "checked_tags", "point_rows"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How labels fit the predictions of a job.

    Attributes:
        num_labels: Keys that have a label.
        num_unmatched: Those that no prediction has.
        num_relabelled: Those that had different labels, of which the newest counts.
    """

    num_labels: int
    num_unmatched: int
    num_relabelled: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call wants to know and how its points look.

    Attributes:
        metrics: ``"default"``, ``"all"`` or names.
        tags: Of all points.
        step: Of all points.
        timestamp: Of all points but windows', in microseconds since 1970; None: when they are logged.
        reference: The state to compare with.
    """

    metrics: str | Sequence[str]
    tags: Mapping[str, str]
    step: int | None = None
    timestamp: int | None = None
    reference: Long | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The numbers of a job, and its points."""

    metrics: PredictionMetrics
    points: list[MetricPoint]


def checked_tags(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """Return a caller's tags as text.

    Raises:
        InvalidInputError: They are no tags, or have the name of one of ours.
    """
    own = dict(canonical_tags(tags))
    _refuse_clash(own, RESERVED_SEGMENTS, "which the points of classes and windows have")
    return own


def answer(job: str, states: Sequence[Long], wanted: Wanted, coverage: Coverage | None) -> Answer:
    """Return the numbers of a job from the states of its parts.

    Raises:
        InvalidInputError: The states do not fit together, a metric's name is not known, or tags clash.
    """
    columns = {name for state in states for name in _segment_columns(state)}
    _refuse_clash(wanted.tags, columns, "which is a segment's column")
    plain, lengths = windows_of(Long.concat(states))
    if len(lengths) > 1:
        told = " and ".join(map(repr, sorted(lengths)))
        raise InvalidInputError(
            f"the parts of {job!r} have windows of {told}.",
            hint="Pass the same every= for all parts of a job.",
            argument="every",
        )
    merged = merge_long(of_one_kind(plain))
    numbers = finalize(merged, wanted.metrics, reference=wanted.reference)
    if coverage is not None:
        numbers = pa.concat_tables([numbers, _coverage_rows(job, coverage)])
    points = metric_points(numbers, merged, every=next(iter(lengths), None))
    return Answer(PredictionMetrics(numbers, merged), points)


def point_rows(job: str, answer: Answer, wanted: Wanted, clock: int) -> pa.Table:
    """Return the points that have a value as rows of the metrics, without ``writer`` and ``seq``."""
    stamp = clock if wanted.timestamp is None else wanted.timestamp
    rows = []
    keys: dict[tuple[tuple[str, str], ...], str] = {}  # the points of a segment have the same tags
    for point in answer.points:
        if point.value is None:
            continue
        own = tuple(point.tags.items())
        if own not in keys:
            keys[own] = tags_key(canonical_tags({**wanted.tags, **point.tags}))
        key = keys[own]
        when = stamp if point.timestamp is None else checked_timestamp(point.timestamp)
        rows.append(((job, point.metric, key), point.value, when, wanted.step))
    return rows_of_points(rows)


_COVERAGE = ("num_unmatched", "num_relabelled")


def _coverage_rows(job: str, coverage: Coverage) -> pa.Table:
    rows = [
        {
            "resource": job,
            "segment": [],
            "metric": name,
            "value": float(getattr(coverage, name)),
            "n": coverage.num_labels,
            "bound": 0.0,
        }
        for name in _COVERAGE
    ]
    return pa.Table.from_pylist(rows, schema=FINAL_SCHEMA)


def _segment_columns(state: Long) -> set[str]:
    return {name for key in set(state.head["segment_key"]) for name in tags_from_key(key)}


def _refuse_clash(tags: Mapping[str, str], taken: Sequence[str] | set[str], why: str) -> None:
    for name in tags:
        if name in taken:
            raise InvalidInputError(
                f"tags has {name!r}, {why}.", hint="Give the tag another name.", argument="tags"
            )
