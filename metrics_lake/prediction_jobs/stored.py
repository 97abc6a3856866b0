"""What a lake has stored of prediction jobs: which calls there were, and the rows of those that count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.predictions.keyed import stored_columns
from metrics_lake.predictions.late_labels import Labels, joined_keys
from metrics_lake.predictions.schema import LISTS, STATE_SCHEMA
from metrics_lake.reader import Ids, Selection
from metrics_lake.resources import nearest
from metrics_lake.schema import GROUND_TRUTH, METRICS, PREDICTION_STATES, PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metrics_lake.commits import Snapshot
    from metrics_lake.predictions.long import Long
    from metrics_lake.reader import Reader

__all__ = ["WHOLE", "Hits", "KeyedCall", "Stored", "View", "marked", "windows_of"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

WHOLE: Final = ""
"""The part of a job that was logged without parts."""

_CALL: Final = 'resource, part_id, "timestamp", writer'
"""What tells the calls apart that stored states: one call's rows share time and writer."""

_KEYED: Final = "keyed"
_EVERY: Final = "every"


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """One call that stored keyed predictions.

    Attributes:
        part: The part of the job.
        timestamp: When, in microseconds since 1970.
        writer: The writer id, which is of this call alone.
        num_rows: How many predictions.
        spec: The call's options and types; see ``predictions/keyed.py``.
    """

    part: str
    timestamp: int
    writer: str
    num_rows: int
    spec: dict[str, Any]


@dataclass(slots=True)
class Hits:
    """Which of some keys the predictions of one part have.

    Attributes:
        counts: How many of each set of keys.
        examples: One of them each.
    """

    counts: dict[str, int]
    examples: dict[str, str]


@dataclass(frozen=True, slots=True)
class View:
    """Which calls of one job count.

    Attributes:
        states: The timestamp of each part's state, in microseconds since 1970.
        keyed: The parts whose state was made of keyed rows.
        calls: The keyed rows of each part that count.
        labels: The calls that brought labels, oldest first: writer, kind, the truth's name.
        newest: The greatest timestamp of all.
        newest_label: That of the labels.
    """

    states: Mapping[str, int]
    keyed: frozenset[str]
    calls: Mapping[str, KeyedCall]
    labels: tuple[tuple[str, str, str], ...]
    newest: int
    newest_label: int

    @property
    def parts(self) -> list[str]:
        """All parts of the job."""
        return sorted({*self.states, *self.calls})

    @property
    def stale(self) -> list[str]:
        """The parts with keyed rows whose state lacks rows or labels: a call was killed."""
        labels_wait = bool(self.labels) and self.newest_label >= max(self.states.values(), default=-1)
        return [
            part
            for part, call in self.calls.items()
            if labels_wait or call.timestamp >= self.states.get(part, -1)
        ]

    def part_id(self, job: str, part: str | None) -> str:
        """Return the id of a part; a job is logged either whole or in parts.

        Raises:
            InvalidInputError: The other one was done before, or ``part`` is no name.
        """
        if part is not None and not (isinstance(part, str) and part):  # type: ignore[redundant-expr]  # a caller's value
            raise InvalidInputError(f"part is {part!r}.", hint="Pass a non-empty str.", argument="part")
        named = [name for name in self.parts if name != WHOLE]
        if part is None and named:
            raise InvalidInputError(
                f"the job {job!r} was logged in parts ({', '.join(map(repr, named[:5]))}).",
                hint="Pass part=, or use another job.",
                argument="part",
            )
        if part is not None and WHOLE in self.parts:
            raise InvalidInputError(
                f"the job {job!r} was logged whole, without part=.",
                hint="Leave part= out to replace it, or use another job.",
                argument="part",
            )
        return part or WHOLE


class Stored:
    """Reads what is stored of prediction jobs.

    Args:
        reading: Gives the lake's reader.
    """

    def __init__(self, reading: Callable[[], Reader]) -> None:
        self._reading = reading

    def view(self, job: str) -> View:
        """Return which calls of a job count."""
        # States first: a call's rows and labels are older than its state, so they are there too.
        states: dict[str, tuple[int, str]] = {}
        keyed: set[str] = set()
        sql = """SELECT part_id, epoch_us("timestamp") AS stamp, writer, any_value(params) AS params
                 FROM {points} GROUP BY part_id, "timestamp", writer ORDER BY stamp, writer"""
        for row in self._rows(PREDICTION_STATES, job, sql):
            states[row["part_id"]] = (row["stamp"], row["writer"])
            (keyed.add if json.loads(row["params"]).get(_KEYED) else keyed.discard)(row["part_id"])
        sql = """SELECT part_id, max(epoch_us("timestamp")) AS stamp, writer, any_value(spec) AS spec,
                        count(*) AS num_rows
                 FROM {points} GROUP BY part_id, writer ORDER BY stamp, writer"""
        calls = {}
        newest = max((stamp for stamp, _ in states.values()), default=0)
        for row in self._rows(PREDICTIONS, job, sql):
            part = row["part_id"]
            newest = max(newest, row["stamp"])
            # Rows that are older than a state without keys were replaced by it.
            if part in keyed or row["stamp"] > states.get(part, (-1, ""))[0]:
                spec = json.loads(row["spec"])
                calls[part] = KeyedCall(part, row["stamp"], row["writer"], row["num_rows"], spec)
        sql = """SELECT max(epoch_us("timestamp")) AS stamp, writer, any_value(spec) AS spec
                 FROM {points} GROUP BY writer ORDER BY stamp, writer"""
        labels, newest_label = [], 0
        for row in self._rows(GROUND_TRUTH, job, sql):
            told = json.loads(row["spec"])
            labels.append((row["writer"], told["truth_kind"], told["truth"]))
            newest_label = max(newest_label, row["stamp"])
        return View(
            states={part: stamp for part, (stamp, _) in states.items()},
            keyed=frozenset(keyed),
            calls=calls,
            labels=tuple(labels),
            newest=max(newest, newest_label),
            newest_label=newest_label,
        )

    def states(self, jobs: Sequence[str], *, whole: bool = False, lists: Sequence[str] = LISTS) -> pa.Table:
        """Return the stored states of jobs, each part as its newest call left it.

        Args:
            jobs: Their ids.
            whole: Without the states of segments; each call has some of all rows.
            lists: The list columns to read; the others are NULL. Cells and ties are nearly all of the bytes.
        """
        only = " WHERE segment_key = ''" if whole else ""
        left_out = ", ".join(name for name in LISTS if name not in lists)
        columns = f"* EXCLUDE ({left_out})" if left_out else "*"
        reader = self._reading().table(PREDICTION_STATES)
        selection = Selection(Ids(tuple(jobs)))

        def answer(snapshot: Snapshot) -> pa.Table:
            # Which calls count is asked first: the lists of those that were replaced are the bulk of a job
            # whose labels came in many pieces.
            calls = reader.run(snapshot, selection, f"SELECT DISTINCT {_CALL} FROM {{points}}")
            source = f"{{points}} SEMI JOIN newest USING ({_CALL})"
            sql = f"SELECT {columns} FROM {source}{only} ORDER BY writer, seq"
            return reader.run(snapshot, selection, sql, newest=_newest(calls))

        rows = reader.read(answer)
        rows = rows.rename_columns({"timestamp": "created"})
        for field in STATE_SCHEMA:
            if field.name not in rows.column_names:
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(STATE_SCHEMA.names).cast(STATE_SCHEMA)

    def keyed(self, job: str, call: KeyedCall) -> pa.Table:
        """Return the keyed rows of a call: the columns that hold anything."""
        columns = ", ".join(f'"{name}"' for name in stored_columns(call.spec))
        sql = f"SELECT {columns} FROM {{points}} WHERE writer = $call_writer"
        return self._query(PREDICTIONS, [job], sql, {"call_writer": call.writer})

    def labels(self, job: str, view: View) -> Labels:
        """Return the labels that a view knows."""
        writers = [writer for writer, _, _ in view.labels]
        sql = """SELECT "key", truth_text, truth_number, writer, seq FROM {points}
                 WHERE list_contains($call_writers, writer)"""
        if not writers:
            sql = 'SELECT "key", truth_text, truth_number, writer, seq FROM {points} WHERE false'
        rows = self._query(GROUND_TRUTH, [job], sql, {"call_writers": writers} if writers else {})
        return Labels.of(rows, view.labels)

    def hits(self, job: str, calls: Iterable[KeyedCall], sets: Mapping[str, pa.Table]) -> dict[str, Hits]:
        """Return how many keys of each set the predictions of some calls have, by part.

        Args:
            job: Its id.
            calls: The calls; keys are unique within each.
            sets: Tables with a column ``key``, whose keys are unique, by name.
        """
        calls = list(calls)
        found = {call.part: Hits(dict.fromkeys(sets, 0), {}) for call in calls}
        if not calls:
            return found
        sql = """SELECT part_id, sets, count(*) AS num_keys, any_value("key") AS example
                 FROM {points} JOIN asked USING ("key")
                 WHERE list_contains($call_writers, writer) GROUP BY ALL"""
        bindings = {"call_writers": [call.writer for call in calls]}
        rows = self._query(PREDICTIONS, [job], sql, bindings, asked=joined_keys(sets))
        for row in rows.to_pylist():
            for bit, name in enumerate(sets):
                if row["sets"] >> bit & 1:
                    hits = found[row["part_id"]]
                    hits.counts[name] += row["num_keys"]
                    hits.examples.setdefault(name, row["example"])
        return found

    def newest_point(self, job: str) -> int:
        """Return the timestamp of a job's newest points, but for windows', in microseconds since 1970."""
        sql = """SELECT coalesce(max(epoch_us("timestamp")), 0) AS stamp FROM {points}
                 WHERE metric = 'num_predictions' AND NOT contains(tags_key, '"every"')"""
        return int(self._query(METRICS, [job], sql).column("stamp")[0].as_py())

    def tasks(self, job: str) -> list[str]:
        """Return the tasks of a job's states."""
        found = self._query(PREDICTION_STATES, [job], "SELECT DISTINCT task FROM {points}")
        return [str(task) for task in found.column("task").to_pylist()]

    def one_key(self, job: str, call: KeyedCall) -> str:
        """Return one of the keys of a call's predictions."""
        sql = 'SELECT min("key") AS found FROM {points} WHERE writer = $call_writer'
        found = self._query(PREDICTIONS, [job], sql, {"call_writer": call.writer})
        return str(found.column("found")[0].as_py())

    def resources(self) -> list[str]:
        """Return which prediction jobs there are, ascending."""
        found = self._query(PREDICTION_STATES, None, "SELECT DISTINCT resource FROM {points}")
        return sorted(map(str, found.column("resource").to_pylist()))

    def no_job(self, job: str) -> NotFoundError:
        """Return the error that says that there is no such job."""
        near = nearest(job, self.resources())
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "resources() lists what is there."
        return NotFoundError(f"there is no prediction job {job!r}.", hint=hint, resource=job, near=near)

    def _rows(self, table: str, job: str, sql: str) -> list[dict[str, Any]]:
        """Return a query's rows, without running it where a job has nothing in the table."""
        reader = self._reading().table(table)
        selection = Selection(Ids((job,)))

        def answer(snapshot: Snapshot) -> list[dict[str, Any]]:
            if not reader.may_hold(snapshot, selection):
                return []
            return reader.run(snapshot, selection, sql).to_pylist()

        return reader.read(answer)

    def _query(
        self,
        table: str,
        jobs: Sequence[str] | None,
        sql: str,
        bindings: dict[str, Any] | None = None,
        **tables: pa.Table,
    ) -> pa.Table:
        reader = self._reading().table(table)
        selection = Selection() if jobs is None else Selection(Ids(tuple(jobs)))
        return reader.read(lambda snapshot: reader.run(snapshot, selection, sql, bindings, **tables))


def marked(state: Long, *, is_keyed: bool, every: str | None) -> Long:
    """Return a state that says, in its params, whether it was made of keyed rows, and its windows' length."""
    own = {_KEYED: True} if is_keyed else {}
    windowed = own if every is None else {**own, _EVERY: every}
    return state.with_params(lambda params, is_window: params | (windowed if is_window else own))


def windows_of(state: Long) -> tuple[Long, set[str]]:
    """Return a state without the marks of ``marked``, and the lengths of its windows."""
    lengths = set()

    def plain(params: dict[str, Any], is_window: bool) -> dict[str, Any]:
        if is_window and _EVERY in params:
            lengths.add(params[_EVERY])
        return {name: value for name, value in params.items() if name not in (_KEYED, _EVERY)}

    return state.with_params(plain), lengths


def _newest(calls: pa.Table) -> pa.Table:
    """Return the newest call of each part of each job."""
    ordered = calls.sort_by([("timestamp", "ascending"), ("writer", "ascending")])
    newest = {(row["resource"], row["part_id"]): row for row in ordered.to_pylist()}
    return pa.Table.from_pylist(list(newest.values()), schema=calls.schema)
