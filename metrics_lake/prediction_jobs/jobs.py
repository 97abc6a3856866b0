"""The two verbs that write to prediction jobs: log predictions, log labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute

from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.prediction_jobs.answers import Answer, Coverage, Wanted, answer, checked_tags, point_rows
from metrics_lake.prediction_jobs.reference import reference_of
from metrics_lake.prediction_jobs.rows import as_rows, framed
from metrics_lake.prediction_jobs.stored import WHOLE, Hits, Stored, View, marked
from metrics_lake.predictions.keyed import keyed_rows, keyed_state, stored_columns
from metrics_lake.predictions.late_labels import Labels, label_rows
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.roles import every_text
from metrics_lake.predictions.state import long_state
from metrics_lake.progress import progress_bar
from metrics_lake.schema import GROUND_TRUTH, METRICS, PREDICTION_STATES, PREDICTIONS

if TYPE_CHECKING:
    from metrics_lake.predictions import PredictionMetrics
    from metrics_lake.reader import Reader
    from metrics_lake.writer import Durability, Writer

__all__ = ["PredictionJobs"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

Publish = Callable[[str, pa.Table], object]


class PredictionJobs:
    """The prediction jobs of one lake.

    Args:
        writer: Gives the time, and makes the lake.
        reading: Gives the lake's reader.
        publish: Publishes rows of a table, without ``writer`` and ``seq``, whole or not at all, under a
            writer id of their own.
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
        self._stored = Stored(reading)
        self._publish = publish
        self._log_rows = log_rows

    # -- predictions ---------------------------------------------------------------------------------------

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
        own = checked_tags(tags)
        if key is not None and truth is not None:
            raise InvalidInputError(
                "key= is for labels that come later, and truth= is given.",
                hint="Leave out one of them; corrections of a known truth need no key.",
                argument="key",
            )
        self._writer.connect()
        view = self._stored.view(job)
        name = view.part_id(job, part)
        rows: pa.Table | None = None
        labels: Labels | None = None
        spec: dict[str, Any] = {}
        fits: dict[str, int] = {}
        if key is None:
            every = None if options.get("every") is None else every_text(options["every"])
            state = long_state(data, truth=truth, task=task, exact=exact, part=name, resource=job, **options)
        else:
            rows, spec = keyed_rows(data, key=key, task=task, **options)
            every = spec["every"]
            chosen = metrics if isinstance(metrics, str) else list(metrics)
            spec |= {"exact": exact, "metrics": chosen, "tags": own, "step": step}
            _check_same_key(job, view, name, spec["key"])
            labels = self._stored.labels(job, view)
            fits = self._other_fits(job, view, name, rows, labels)
            state, fits[name] = keyed_state(
                rows.select(stored_columns(spec)), spec, labels, part=name, resource=job, task=self._task(job)
            )
        changed = {name: marked(state, is_keyed=rows is not None and rows.num_rows > 0, every=every)}
        against = (
            None if reference is None else reference_of(self._stored, reference, changed[name], task, options)
        )
        wanted = Wanted(metrics, own, step, timestamp, against)
        # What a killed call left undone is done in the same breath.
        waiting = [each for each in view.stale if each != name]
        if waiting and labels is None:
            labels = self._stored.labels(job, view)
            fits = self._fits(job, view, labels)
        changed |= self._rebuilt(job, view, waiting, labels)
        found = self._answer(job, view, changed, wanted, _coverage(labels, fits))
        stamp = self._after(view)
        if rows is not None and rows.num_rows:
            self._publish(PREDICTIONS, framed(rows, job, stamp, part_id=name, spec=json.dumps(spec)))
            seen, now = self._news(job)
            if seen.labels != view.labels or seen.calls[name].timestamp != stamp:
                view = seen
                labels = self._stored.labels(job, view)
                changed |= self._rebuilt(job, view, [name], labels)
                fits = self._fits(job, view, labels)
                found = self._answer(job, view, changed, wanted, _coverage(labels, fits))
            stamp = now
        is_shared = part is not None or key is not None
        return self._conclude(job, view, changed, found, wanted, stamp, is_shared=is_shared)

    # -- labels --------------------------------------------------------------------------------------------

    def log_truth(
        self, job: str, labels: Any, *, key: str | Sequence[str], truth: str | None, part: str | None
    ) -> PredictionMetrics:
        """Keep labels of a job's predictions and log its metrics over all labels so far."""
        view = self._stored.view(job)
        if not view.calls:
            raise self._no_keyed(job, view)
        if part is not None and part not in view.calls:
            raise NotFoundError(
                f"the job {job!r} has no part {part!r} with keys.",
                hint="It was logged whole: leave out part=."
                if WHOLE in view.calls
                else f"Those it has are {', '.join(map(repr, sorted(view.calls)[:5]))}.",
                resource=job,
            )
        spec = max(view.calls.values(), key=lambda call: (call.timestamp, call.writer)).spec
        rows, told = label_rows(labels, key=key, truth=truth, key_kinds=spec["key"])
        wanted = Wanted(spec["metrics"], spec["tags"], spec["step"])
        known, fresh = self._stored.labels(job, view).with_new(rows, told)
        sets = {"all": known.newest.to_arrow(), "given": rows, "fresh": fresh}
        hits = self._stored.hits(job, view.calls.values(), sets)
        self._check_some_fit(job, view, rows, hits, part)
        parts = {*view.stale, *(name for name, hit in hits.items() if hit.counts["fresh"])}
        changed = self._rebuilt(job, view, sorted(parts), known)
        fits = {name: hit.counts["all"] for name, hit in hits.items()}
        found = self._answer(job, view, changed, wanted, _coverage(known, fits))
        stamp = self._after(view)
        if fresh.num_rows:
            self._publish(GROUND_TRUTH, framed(fresh, job, stamp, spec=json.dumps(told)))
            seen, now = self._news(job)
            if len(seen.labels) != len(view.labels) + 1 or seen.calls != view.calls:
                # Somebody else's labels or predictions came in between: for which parts is not known.
                view = seen
                known = self._stored.labels(job, view)
                changed = self._rebuilt(job, view, list(view.calls), known)
                fits = self._fits(job, view, known)
                found = self._answer(job, view, changed, wanted, _coverage(known, fits))
            stamp = now
        return self._conclude(job, view, changed, found, wanted, stamp, is_shared=True)

    # -- steps ---------------------------------------------------------------------------------------------

    def _after(self, view: View) -> int:
        """Return a time later than all that a view knows of, whatever other machines' clocks say."""
        return max(self._writer.clock(), view.newest + 1)

    def _news(self, job: str) -> tuple[View, int]:
        """Return which calls count now, and the time for states that are made of them."""
        # The time from before the look: of two calls the one that looked later has the later state.
        clock = self._writer.clock()
        view = self._stored.view(job)
        return view, max(clock, view.newest + 1)

    def _rebuilt(self, job: str, view: View, parts: Sequence[str], labels: Labels | None) -> dict[str, Long]:
        """Return the states of parts, made of their stored predictions and the labels."""
        if not parts:
            return {}
        task = self._task(job)
        total = sum(view.calls[part].num_rows for part in parts)
        states, done = {}, 0
        with progress_bar("joining labels") as report:
            for part in parts:
                call = view.calls[part]
                rows = self._stored.keyed(job, call)
                state, _ = keyed_state(rows, call.spec, labels, part=part, resource=job, task=task)
                states[part] = marked(state, is_keyed=True, every=call.spec["every"])
                done += call.num_rows
                if report is not None:
                    report(done, total)
        return states

    def _fits(self, job: str, view: View, labels: Labels) -> dict[str, int]:
        """Return how many labels the predictions of each part have."""
        if not labels.newest.height:
            return {}
        hits = self._stored.hits(job, view.calls.values(), {"all": labels.newest.to_arrow()})
        return {name: hit.counts["all"] for name, hit in hits.items()}

    def _other_fits(self, job: str, view: View, part: str, rows: pa.Table, labels: Labels) -> dict[str, int]:
        """Return how many labels the other parts have, having checked that no key is theirs as well."""
        others = [call for name, call in view.calls.items() if name != part]
        sets = {"new": rows, "all": labels.newest.to_arrow()}
        hits = self._stored.hits(job, others, sets) if others else {}
        for name, hit in hits.items():
            if hit.counts["new"]:
                raise InvalidInputError(
                    f"predictions: {hit.counts['new']:,} keys are in the part {name!r} of {job!r} too, for "
                    f"example {hit.examples['new']}.",
                    hint="A key names one prediction of the job: add columns to key= until it does.",
                    argument="key",
                )
        return {name: hit.counts["all"] for name, hit in hits.items()}

    def _answer(
        self,
        job: str,
        view: View,
        changed: Mapping[str, Long],
        wanted: Wanted,
        coverage: Coverage | None,
    ) -> Answer:
        """Return the job's numbers with some parts as they are about to be stored."""
        states = list(changed.values())
        if set(view.states) - set(changed):
            stored = self._stored.states([job])
            ours = pc.is_in(stored.column("part_id"), value_set=pa.array(list(changed), pa.string()))
            states.append(Long.from_arrow(stored.filter(pc.invert(ours))))
        return answer(job, states, wanted, coverage)

    def _conclude(
        self,
        job: str,
        view: View,
        changed: Mapping[str, Long],
        found: Answer,
        wanted: Wanted,
        stamp: int,
        *,
        is_shared: bool,
    ) -> PredictionMetrics:
        """Store the states, then log the points.

        Args:
            job: The job.
            view: What the answer was made from.
            changed: The states to store, by part.
            found: The numbers.
            wanted: How the points look.
            stamp: The time of the states.
            is_shared: Other processes may work on the same job: publish the states, and look whether they
                did, before the job's numbers are announced.
        """
        if changed:
            states = as_rows(changed, job, stamp)
            # One batch for all parts: they become visible together.
            self._log_rows(PREDICTION_STATES, states, "published" if is_shared else None)
        clock = self._writer.clock()
        newest = stamp
        if is_shared:
            later = self._stored.view(job)
            newest = max(newest, later.newest)
            expected = {**view.states, **dict.fromkeys(changed, stamp)}
            if later.states != expected:
                coverage = None
                if later.labels:
                    labels = self._stored.labels(job, later)
                    coverage = _coverage(labels, self._fits(job, later, labels))
                found = self._answer(job, later, {}, wanted, coverage)
        if clock <= newest:
            # This machine's clock is behind another's: the job's points there are later than its states.
            clock = max(newest, self._stored.newest_point(job)) + 1
        self._log_rows(METRICS, point_rows(job, found, wanted, clock), None)
        return found.metrics

    def _task(self, job: str) -> str | None:
        """Return what the parts of a job that have labels turned out to be, or None."""
        tasks = set(self._stored.tasks(job)) - {"unknown"}
        return tasks.pop() if len(tasks) == 1 else None

    def _check_some_fit(
        self, job: str, view: View, rows: pa.Table, hits: Mapping[str, Hits], part: str | None
    ) -> None:
        chosen = hits.values() if part is None else [hits[part]]
        if not rows.num_rows or any(hit.counts["given"] for hit in chosen):
            return
        where = repr(job) if part is None else f"the part {part!r} of {job!r}"
        call = view.calls[part] if part is not None else next(iter(view.calls.values()))
        raise InvalidInputError(
            f"none of the {rows.num_rows:,} labels has the key of a prediction of {where}; nothing was kept.",
            hint=f"Compare {rows.column('key')[0].as_py()} of the labels with "
            f"{self._stored.one_key(job, call)} of the predictions.",
            argument="key",
        )

    # -- names ---------------------------------------------------------------------------------------------

    def _no_keyed(self, job: str, view: View) -> NotFoundError:
        if not view.states:
            return self._stored.no_job(job)
        return NotFoundError(
            f"{job!r} has no predictions with keys, so labels cannot find them.",
            hint="Log them again with key='…'.",
            resource=job,
        )


def _check_same_key(job: str, view: View, part: str, kinds: Mapping[str, str]) -> None:
    for name, call in view.calls.items():
        theirs = call.spec["key"]
        if name == part or "null" in (*kinds.values(), *theirs.values()):
            continue
        if list(theirs.items()) != list(kinds.items()):
            told = [
                ", ".join(f"{column!r} ({kind})" for column, kind in each.items()) for each in (kinds, theirs)
            ]
            raise InvalidInputError(
                f"key has the columns {told[0]}, and the part {name!r} of {job!r} has {told[1]}.",
                hint="All parts of a job have the same key: labels are looked up in all of them.",
                argument="key",
            )


def _coverage(labels: Labels | None, fits: Mapping[str, int]) -> Coverage | None:
    if labels is None or not labels.newest.height:
        return None
    num_labels = labels.newest.height
    return Coverage(num_labels, num_labels - sum(fits.values()), labels.num_relabelled)
