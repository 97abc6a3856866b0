"""Prediction jobs on a lake: parts, late labels, and numbers from stored states.

What ``predictions`` computes is kept in three tables (``schema.py`` has their columns): ``predictions`` holds
the rows that wait for labels, ``ground_truth`` the labels, ``prediction_states`` the states. A call writes in
this order: rows, labels, state, points. Each is replaced by a repetition, so a call that was killed anywhere
is finished by the next one on the job.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.points import checked_timestamp, rows_of_points
from metrics_lake.predictions import (
    PredictionMetrics,
    finalize,
    labelled_state,
    merge_states,
    metric_points,
    prediction_state,
)
from metrics_lake.predictions.keyed import keyed_rows, label_rows, labels_of, predictions_of, state_options
from metrics_lake.predictions.schema import STATE_SCHEMA
from metrics_lake.reader import Ids, Selection
from metrics_lake.resources import Glob, canonical_tags, nearest, resource_key, tags_key
from metrics_lake.result import Result
from metrics_lake.schema import GROUND_TRUTH, METRICS, PREDICTION_STATES, PREDICTIONS

if TYPE_CHECKING:
    from metrics_lake.reader import Reader
    from metrics_lake.writer import Durability, Writer

__all__ = ["PredictionJobs"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

Publish = Callable[[str, pa.Table], object]

_WHOLE = ""
"""The part of a job that was logged without parts."""


class PredictionJobs:
    """The prediction jobs of one lake.

    Args:
        writer: Journals states and points.
        reading: Gives the lake's reader.
        publish: Publishes rows of a table, without ``writer`` and ``seq``, whole or not at all.
        log_rows: Journals rows of a table, or publishes them where they are many.
    """

    def __init__(
        self,
        writer: Writer,
        reading: Callable[[], Reader],
        publish: Publish,
        log_rows: Callable[[str, pa.Table, Durability | None], None],
    ) -> None:
        self._writer = writer
        self._reading = reading
        self._publish = publish
        self._log_rows = log_rows

    def log(
        self,
        job: str,
        data: Any,
        *,
        key: str | Sequence[str] | None,
        part: str | None,
        metrics: str | Sequence[str],
        reference: Any,
        exact: bool,
        truth: Any,
        task: Any,
        step: int | None,
        timestamp: int | None,
        tags: Mapping[str, Any] | None,
        **options: Any,
    ) -> PredictionMetrics:
        """Compute the metrics of a part of a job, and log those of the job so far."""
        name = self._checked_part(job, part)
        if key is None:
            state = prediction_state(
                data, truth=truth, task=task, exact=exact, part=name, resource=job, **options
            )
        else:
            if truth is not None:
                raise InvalidInputError(
                    "key= is for labels that come later, and truth= is given.",
                    hint="Leave out one of them; corrections of a known truth need no key.",
                    argument="key",
                )
            rows, spec = keyed_rows(data, key=key, task=task, **options)
            self._publish(PREDICTIONS, self._framed(rows, job, part_id=name, spec=json.dumps(spec)))
            state = self._joined(job, name)
        against = None if reference is None else self._reference(reference, task=task, **options)
        return self._log_state(
            job,
            state,
            name,
            metrics=metrics,
            reference=against,
            every=options.get("every"),
            step=step,
            timestamp=timestamp,
            tags=tags,
        )

    def log_truth(
        self, job: str, labels: Any, *, key: str | Sequence[str], truth: str | None, part: str | None
    ) -> PredictionMetrics:
        """Keep labels of a job's predictions and log its metrics over all labels so far."""
        stored = self._rows(PREDICTIONS, [job])
        if not stored.num_rows:
            raise self._no_keyed(job)
        spec = json.loads(stored.column("spec")[0].as_py())
        rows, told = label_rows(labels, key=key, truth=truth, key_kinds=spec["key"])
        known = pc.unique(stored.column("key"))
        if (
            rows.num_rows
            and not pc.any(pc.is_in(rows.column("key"), value_set=known.cast(pa.string()))).as_py()
        ):
            raise InvalidInputError(
                f"none of the {rows.num_rows:,} labels has the key of a prediction of {job!r}.",
                hint=f"Compare {rows.column('key')[0].as_py()} with {stored.column('key')[0].as_py()}.",
                argument="key",
            )
        self._publish(GROUND_TRUTH, self._framed(rows, job, spec=json.dumps(told)))
        parts = _texts(_newest_calls(stored), "part_id")
        if part is not None and part not in parts:
            raise NotFoundError(
                f"the job {job!r} has no part {part!r}.",
                hint=f"Its parts are {', '.join(map(repr, parts[:5]))}.",
                resource=job,
            )
        chosen = parts if part is None else [part]
        states = [self._joined(job, name) for name in chosen]
        for name, state in zip(chosen, states, strict=True):
            self._store(job, state, name)
        every = spec["every"]
        return self._log_points(
            job, merge_states(self._states([job])), metrics="default", every=every, extra=self._coverage(job)
        )

    def aggregate(
        self,
        jobs: Any,
        *,
        metrics: str | Sequence[str],
        by: Any,
        every: Any,
        since: Any,
        until: Any,
        reference: Any,
        confidence: float,
    ) -> Result:
        """Return numbers from the stored states of jobs, re-aggregated."""
        names = self._job_ids(jobs)
        state = _within(
            self._states(names),
            None if since is None else checked_timestamp(since),
            None if until is None else checked_timestamp(until),
        )
        against = None if reference is None else self._reference(reference, task=None)
        if every is not None and len(names) > 1:
            # Windows of many jobs are one series: the jobs' parts stay apart by their own names.
            parts = pc.binary_join_element_wise(state.column("resource"), state.column("part_id"), "\0")
            together = pa.repeat(pa.scalar(_asked(jobs)), state.num_rows)
            state = state.set_column(state.schema.get_field_index("part_id"), "part_id", parts)
            state = state.set_column(state.schema.get_field_index("resource"), "resource", together)
            state = state.cast(STATE_SCHEMA)
        numbers = finalize(
            merge_states(state), metrics, by=by, every=every, confidence=confidence, reference=against
        )
        return Result(lambda: numbers)

    # -- states ----------------------------------------

    def _checked_part(self, job: str, part: str | None) -> str:
        """Return the part's id; a job is logged either whole or in parts."""
        if part == "":
            raise InvalidInputError(f"part is {part!r}.", hint="Pass a non-empty str.", argument="part")
        self._writer.connect()
        stored = _texts(self._rows(PREDICTION_STATES, [job]), "part_id")
        if part is None and any(stored):
            raise InvalidInputError(
                f"the job {job!r} was logged in parts ({', '.join(map(repr, stored[:5]))}).",
                hint="Pass part=, or use another job.",
                argument="part",
            )
        if part is not None and _WHOLE in stored:
            raise InvalidInputError(
                f"the job {job!r} was logged whole, without part=.",
                hint="Leave part= out to replace it, or use another job.",
                argument="part",
            )
        return part or _WHOLE

    def _log_state(
        self,
        job: str,
        state: pa.Table,
        part: str,
        *,
        metrics: str | Sequence[str],
        reference: pa.Table | None,
        every: Any,
        step: int | None,
        timestamp: int | None,
        tags: Mapping[str, Any] | None,
    ) -> PredictionMetrics:
        self._store(job, state, part)
        merged = state if part == _WHOLE else merge_states(self._states([job]))
        return self._log_points(
            job,
            merged,
            metrics=metrics,
            reference=reference,
            every=every,
            step=step,
            timestamp=timestamp,
            tags=tags,
            extra=self._coverage(job),
        )

    def _store(self, job: str, state: pa.Table, part: str) -> None:
        rows = state.drop_columns(["created", "writer"])
        for name, text in (("resource", job), ("part_id", part)):
            column = pa.repeat(pa.scalar(text), rows.num_rows)
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
        clock = pa.repeat(pa.scalar(self._writer.clock()), rows.num_rows)
        rows = rows.append_column("timestamp", clock.cast(pa.timestamp("us", tz="UTC")))
        self._log_rows(
            PREDICTION_STATES, rows.append_column("origin", pa.nulls(rows.num_rows, pa.string())), None
        )

    def _log_points(
        self,
        job: str,
        merged: pa.Table,
        *,
        metrics: str | Sequence[str],
        every: Any = None,
        reference: pa.Table | None = None,
        step: int | None = None,
        timestamp: int | None = None,
        tags: Mapping[str, Any] | None = None,
        extra: Mapping[str, int] | None = None,
    ) -> PredictionMetrics:
        numbers = finalize(merged, metrics, reference=reference)
        found = PredictionMetrics(numbers, merged)
        clock = self._writer.clock() if timestamp is None else timestamp
        own = dict(canonical_tags(tags))
        points = []
        for point in metric_points(numbers, merged, every=every):
            if point.value is None:
                continue
            key = tags_key(canonical_tags({**own, **point.tags}))
            when = clock if point.timestamp is None else checked_timestamp(point.timestamp)
            points.append(((job, point.metric, key), point.value, when, step))
        for name, count in (extra or {}).items():
            points.append(((job, name, tags_key(canonical_tags(own))), count, clock, step))
        self._log_rows(METRICS, rows_of_points(points), None)
        return found

    def _states(self, jobs: Sequence[str]) -> pa.Table:
        """Return the stored states of jobs, each part as its newest call left it."""
        rows = _newest_calls(self._rows(PREDICTION_STATES, jobs))
        rows = rows.rename_columns(["created" if name == "timestamp" else name for name in rows.column_names])
        return rows.select(STATE_SCHEMA.names).cast(STATE_SCHEMA)

    def _reference(self, reference: Any, **options: Any) -> pa.Table:
        """Return the state to compare with: of another job, or of data."""
        if isinstance(reference, str) or hasattr(type(reference), "__metrics_resource__"):
            job = resource_key(reference)
            states = self._states([job])
            if not states.num_rows:
                raise self._no_job(job)
            return merge_states(states)
        return prediction_state(reference, **{**options, "by": None, "time": None, "every": None})

    # -- keyed rows ----------------------------------------

    def _joined(self, job: str, part: str) -> pa.Table:
        """Return the state of a part's stored predictions with all labels so far."""
        stored = _newest_calls(self._rows(PREDICTIONS, [job]))
        rows = stored.filter(pc.equal(stored.column("part_id"), part))
        spec = json.loads(rows.column("spec")[0].as_py())
        frame = predictions_of(rows, spec)
        options = state_options(spec)
        labels = self._rows(GROUND_TRUTH, [job])
        if not labels.num_rows:
            return prediction_state(frame, key="$key", part=part, resource=job, **options)
        kind = json.loads(labels.sort_by("timestamp").column("spec")[-1].as_py())["truth_kind"]
        return labelled_state(
            frame,
            labels_of(labels, kind),
            key="$key",
            truth="$truth",
            newest=["timestamp", "writer", "seq"],
            part=part,
            resource=job,
            **options,
        ).state

    def _coverage(self, job: str) -> dict[str, int]:
        """Return how the labels of a job fit its predictions; nothing where there are none."""
        labels = self._rows(GROUND_TRUTH, [job])
        if not labels.num_rows:
            return {}
        stored = _newest_calls(self._rows(PREDICTIONS, [job])).column("key")
        keys = pc.unique(labels.column("key"))
        matched = pc.sum(pc.is_in(keys, value_set=pc.unique(stored))).as_py() or 0
        different = labels.group_by(["key", "truth_text", "truth_number"]).aggregate([]).column("key")
        return {
            "num_unmatched": len(keys) - matched,
            "num_relabelled": pc.sum(
                pc.greater(pc.value_counts(different).field("counts"), 1).cast(pa.int64())
            ).as_py(),
        }

    def _framed(self, rows: pa.Table, job: str, **constants: str) -> pa.Table:
        """Return rows with what every table has, but for ``writer`` and ``seq``."""
        count = rows.num_rows
        stamp = pa.repeat(pa.scalar(self._writer.clock()), count).cast(pa.timestamp("us", tz="UTC"))
        for name, text in {"resource": job, **constants}.items():
            rows = rows.append_column(name, pa.repeat(pa.scalar(text), count))
        return rows.append_column("timestamp", stamp).append_column("origin", pa.nulls(count, pa.string()))

    def _rows(self, table: str, jobs: Sequence[str]) -> pa.Table:
        reader = self._reading().table(table)
        selection = Selection(Ids(tuple(jobs)))
        return reader.read(lambda snapshot: reader.run(snapshot, selection, "SELECT * FROM {points}"))

    # -- names ----------------------------------------

    def _job_ids(self, jobs: Any) -> list[str]:
        asked = list(jobs) if isinstance(jobs, list | tuple | set | frozenset) else [jobs]
        names: dict[str, None] = {}
        known: list[str] | None = None
        for each in asked:
            if isinstance(each, Glob):
                known = self._all_jobs() if known is None else known
                names.update(dict.fromkeys(name for name in known if each.matches(name)))
            else:
                names[resource_key(each)] = None
        found = (
            set(self._rows(PREDICTION_STATES, list(names)).column("resource").to_pylist()) if names else set()
        )
        for name in names:
            if name not in found:
                raise self._no_job(name)
        if not names:
            raise NotFoundError(f"no prediction job fits {jobs!r}.", hint="resources() lists what is there.")
        return sorted(names)

    def _all_jobs(self) -> list[str]:
        reader = self._reading().table(PREDICTION_STATES)
        sql = "SELECT DISTINCT resource FROM {points}"
        found = reader.read(lambda snapshot: reader.run(snapshot, Selection(), sql))
        return _texts(found, "resource")

    def _no_job(self, job: str) -> NotFoundError:
        near = nearest(job, self._all_jobs())
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "resources() lists what is there."
        return NotFoundError(f"there is no prediction job {job!r}.", hint=hint, resource=job)

    def _no_keyed(self, job: str) -> NotFoundError:
        if self._rows(PREDICTION_STATES, [job]).num_rows:
            return NotFoundError(
                f"the predictions of {job!r} were logged without keys, so labels cannot find them.",
                hint="Log them again with key='…'.",
                resource=job,
            )
        return self._no_job(job)


def _texts(rows: pa.Table, column: str) -> list[str]:
    """Return the distinct texts of a column, ascending."""
    return sorted(str(text) for text in pc.unique(rows.column(column)).to_pylist())


def _newest_calls(rows: pa.Table) -> pa.Table:
    """Return of each part of each job the rows of its newest call: one call's rows share time and writer."""
    if not rows.num_rows:
        return rows
    calls = rows.group_by(["resource", "part_id", "timestamp", "writer"]).aggregate([])
    calls = calls.sort_by([("timestamp", "ascending"), ("writer", "ascending")])
    newest = {
        (row["resource"], row["part_id"]): (row["timestamp"], row["writer"]) for row in calls.to_pylist()
    }
    wanted = pa.table(
        {
            "resource": pa.array([job for job, _ in newest], pa.string()),
            "part_id": pa.array([part for _, part in newest], pa.string()),
            "timestamp": pa.array(
                [stamp for stamp, _ in newest.values()], rows.schema.field("timestamp").type
            ),
            "writer": pa.array([writer for _, writer in newest.values()], pa.string()),
        }
    )
    numbered = rows.select(wanted.column_names).append_column(
        "row", pc.cumulative_sum(pa.repeat(pa.scalar(1), rows.num_rows), start=-1)
    )
    kept = numbered.join(wanted, wanted.column_names, join_type="left semi").column("row")
    return rows.take(pc.take(kept, pc.sort_indices(kept)))


def _within(state: pa.Table, since: int | None, until: int | None) -> pa.Table:
    """Return states whose window, or where they have none whose time of logging, lies in the span."""
    for bound, column, keeps in (
        (since, "window_start", pc.greater_equal),
        (until, "window_end", pc.less_equal),
    ):
        if bound is not None:
            when = pc.coalesce(state.column(column), state.column("created")).cast(pa.int64())
            state = state.filter(keeps(when, pa.scalar(bound, pa.int64())))
    return state


def _asked(jobs: Any) -> str:
    each = list(jobs) if isinstance(jobs, list | tuple | set | frozenset) else [jobs]
    return ", ".join(name.pattern if isinstance(name, Glob) else resource_key(name) for name in each)
