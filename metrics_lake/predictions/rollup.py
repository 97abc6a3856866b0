"""Stored states at a coarser grain: fewer segment columns, longer windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.predictions._arguments import listed
from metrics_lake.predictions._text import quoted
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.params import merge_params
from metrics_lake.predictions.roles import every_text
from metrics_lake.tags import tags_from_key, tags_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["by_part", "in_windows", "of_one_kind", "one_job", "rolled_up"]

_ONE_OF: Final = ("numbers", "labels", "scores")
"""The kinds of states of which every part has one."""

_BEHIND_JOB: Final = "\0"


def rolled_up(state: Long, *, by: Any = "stored", every: Any = "stored") -> Long:
    """Return the states by the segment columns and windows that are wanted; see ``finalize``.

    Raises:
        InvalidInputError: ``by`` is no column or list of columns, or the stored windows do not fit into
            windows of ``every``.
        NotFoundError: No stored segments have the columns of ``by``.
    """
    if by != "stored":
        state = _segmented(state, by)
    if every != "stored":
        state = _windowed(state, every)
    elif state.head["window_start"].null_count() < state.head.height:
        state = Long.concat([_total(state), state.filter(pl.col("window_start").is_not_null())])
    return state


def one_job(state: Long, name: str) -> Long:
    """Return the states of several jobs as those of one: the parts stay apart by their jobs' names."""
    part = pl.concat_str("resource", "part_id", separator=_BEHIND_JOB)
    return state.with_head(part.alias("part_id"), pl.lit(name).alias("resource"))


def of_one_kind(states: Long, among: Long | None = None) -> Long:
    """Return the states of jobs without those of no rows that are of another kind than the job's others.

    Args:
        states: The states.
        among: All states of the jobs, of which these are some; their heads are enough. None: these are all.

    Raises:
        InvalidInputError: Two parts of a job predict different things, whose numbers would stand side by
            side.
    """
    head = states.head if among is None else among.head
    if head.select(pl.struct("resource", "part_id").n_unique()).item() < 2:
        return states
    pair = ["resource", "state", "column"]
    filled = head.filter(pl.col("n") > 0).unique(pair, maintain_order=True)
    kinds = filled.filter(pl.col("state").is_in(_ONE_OF)).sort("resource", "part_id")
    for (job,), several in kinds.group_by("resource", maintain_order=True):
        if several.height > 1:
            told = [
                f"{(part or '').partition(_BEHIND_JOB)[0]!r} has {state} in the column {column!r}"
                for part, state, column in several.select("part_id", "state", "column").head(2).iter_rows()
            ]
            raise InvalidInputError(
                f"the parts of {job!r} predict different things: {told[0]}, {told[1]}.",
                hint="Pass the same columns and the same task= for every part, or use another job.",
                argument="part",
            )
    if not kinds.height or (states.head["n"] > 0).all():
        return states
    # Of a job without any rows all stands.
    empty = pl.col("resource").is_in(kinds["resource"].unique().to_list()).not_()
    kept = states.head.join(filled, on=pair, how="semi")["gid"].to_list()
    return states.filter(empty | pl.col("gid").is_in(kept))


def by_part(state: Long, by: Any, *, may_lack: bool = False) -> Long:
    """Return stored states by the segments that are wanted, of each part those that it has.

    Args:
        state: The states.
        by: The segment columns.
        may_lack: Whether no state need have segments with these columns.

    Raises:
        InvalidInputError: ``by`` is no column or list of columns.
        NotFoundError: No stored segments have these columns.
    """
    if state.head.is_empty():
        return _segmented(state, by)  # of a span of time without any
    units = pl.concat_str("resource", pl.col("part_id").fill_null(""), separator=_BEHIND_JOB)
    jobs = dict(state.head.select(units.alias("unit"), "resource").iter_rows())
    parts = _segmented(state.with_head(units.alias("resource")), by, may_lack=may_lack)
    return parts.with_head(pl.col("resource").replace_strict(jobs, return_dtype=pl.String))


def in_windows(state: Long, every: Any) -> Long:
    """Return the states of windows merged into longer ones; those of no window stay what they are.

    Raises:
        InvalidInputError: A stored window does not fit into one of ``every``.
    """
    text = every_text(every)
    start = pl.col("window_start").dt.truncate(text)
    end = start.dt.offset_by(text)
    crossing = state.head.filter(pl.col("window_end") > end)
    if crossing.height:
        raise InvalidInputError(
            f"every={every!r}: a stored window of {crossing['window_start'][0]} to "
            f"{crossing['window_end'][0]} does not fit into one window.",
            hint="Pass a multiple of the stored windows, or every='stored'.",
            argument="every",
        )
    return state.with_head(start.alias("window_start"), end.alias("window_end")).merged(_same_parts)


def _total(state: Long) -> Long:
    """Return the states with all windows merged."""
    none = pl.lit(None, dtype=pl.Datetime("us", "UTC"))
    return state.with_head(none.alias("window_start"), none.alias("window_end")).merged(_same_parts)


def _windowed(state: Long, every: Any) -> Long:
    total = _total(state)
    if every is None:
        return total
    return Long.concat([total, in_windows(state.filter(pl.col("window_start").is_not_null()), every)])


def _segmented(state: Long, by: Any, *, may_lack: bool = False) -> Long:
    total = state.filter(pl.col("segment_key") == "")
    columns = [] if by is None else listed(by)
    if not all(isinstance(name, str) for name in columns):
        raise InvalidInputError(
            f"by={by!r} is no column or list of columns.",
            hint="Pass by='country', or by=['country', 'device'] for each pair.",
            argument="by",
        )
    if not columns or state.head.is_empty():
        return total
    keys = {key: tags_from_key(key) for key in state.head["segment_key"].unique()}
    rows = state.head.group_by("resource", "segment_key").agg(pl.col("n").sum())
    having: dict[str, dict[frozenset[str], int]] = {}
    for job, key, count in rows.iter_rows():
        names = frozenset(keys[key])
        if names.issuperset(columns):
            of_job = having.setdefault(job, {})
            of_job[names] = of_job.get(names, 0) + count
    if not having and may_lack:
        return total
    if not having:
        known = sorted({name for tags in keys.values() for name in tags})
        raise NotFoundError(
            f"by={by!r}: no stored segments have these columns.",
            hint=f"Stored are {quoted(known)}." if known else "The states were stored without by=.",
            argument="by",
        )
    # Of each job one set of segments tells all: that of the most rows, which not every part need have, and of
    # those the one with the fewest columns.
    best = {
        job: min(sets, key=lambda names: (-sets[names], len(names), sorted(names)))
        for job, sets in having.items()
    }
    chosen = [(job, key) for job, key, _ in rows.iter_rows() if best.get(job) == frozenset(keys[key])]
    renamed = {key: tags_key(sorted((name, keys[key][name]) for name in columns)) for _, key in chosen}
    pairs = pl.DataFrame(chosen, schema=["resource", "segment_key"], orient="row")
    kept = state.head.join(pairs, on=["resource", "segment_key"], how="semi")["gid"].to_list()
    coarse = state.filter(pl.col("gid").is_in(kept)).with_head(
        pl.col("segment_key").replace_strict(renamed, default=None, return_dtype=pl.String)
    )
    return Long.concat([total, coarse.merged(_same_parts)])


def _same_parts(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge params of states that share their parts, as segments and windows of one job do."""
    parts = {part for source in sources for part in source["params"].get("parts", [])}
    parts |= {source["part_id"] for source in sources if source["part_id"] is not None}
    plain = [
        {"params": {k: v for k, v in s["params"].items() if k != "parts"}, "part_id": None} for s in sources
    ]
    merged = merge_params(plain)
    return merged | ({"parts": sorted(parts)} if parts else {})
