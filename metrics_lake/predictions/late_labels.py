"""The labels of a job: which is the newest of each key, and which predictions they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import near, quoted
from metrics_lake.predictions.inference import label_kind
from metrics_lake.predictions.inputs import adapt
from metrics_lake.predictions.slots import (
    collected,
    frame_of,
    key_kind,
    key_names,
    key_texts,
    slots,
    unslotted,
)
from metrics_lake.predictions.source import readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

__all__ = ["Labels", "joined_keys", "label_rows"]

_VALUES: Final = ("truth_text", "truth_number")


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of predictions, by the canonical text of their key.

    Attributes:
        history: Different labels of each key, oldest first: ``key truth_text truth_number``.
        newest: The label of each key that counts.
        kind: What they are: ``bool int float str``, or ``null`` where all are NULL.
        name: What the truth's column was called.
    """

    history: pl.DataFrame
    newest: pl.DataFrame
    kind: str
    name: str

    @classmethod
    def of(cls, rows: pa.Table, calls: Sequence[tuple[str, str, str]]) -> Labels:
        """Return stored labels.

        Args:
            rows: ``key truth_text truth_number writer seq``.
            calls: The writer of each call, the kind of its labels and their name, oldest first.
        """
        order = pl.DataFrame(
            {"writer": [writer for writer, _, _ in calls]}, schema={"writer": pl.String}
        ).with_row_index("call")
        frame = frame_of(rows).join(order, on="writer", how="left").sort("call", "seq")
        kind = _joint_kind({kind for _, kind, _ in calls})
        return cls._made(frame.select("key", *_VALUES), kind, calls[-1][2] if calls else "truth")

    @classmethod
    def _made(cls, rows: pl.DataFrame, kind: str, name: str) -> Labels:
        history = rows.unique(["key", *_VALUES], keep="last", maintain_order=True)
        return cls(history, history.unique("key", keep="last", maintain_order=True), kind, name)

    @property
    def num_relabelled(self) -> int:
        """How many keys had different labels."""
        several = self.history.group_by("key").len().filter(pl.col("len") > 1)
        return several.height

    def with_new(self, rows: pa.Table, spec: Mapping[str, Any]) -> tuple[Labels, pa.Table]:
        """Return these labels with newer ones, and those rows of the newer ones that say something new.

        Args:
            rows: What ``label_rows`` returned.
            spec: Likewise.

        Raises:
            InvalidInputError: They are of another type than the labels so far.
        """
        added = frame_of(rows)
        kind = _joint_kind({self.kind, spec["truth_kind"]}, spec["truth"])
        known = self.newest.with_columns(is_known=True)
        compared = added.join(known, on="key", how="left", suffix="_before", maintain_order="left")
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_before")) for name in _VALUES)
        fresh = compared.filter(~(pl.col("is_known").is_not_null() & same)).select(added.columns)
        labels = self._made(pl.concat([self.history, fresh]), kind, spec["truth"])
        return labels, fresh.to_arrow()

    def column(self, taken: set[str]) -> str:
        """Return the truth's name, made unlike the names that are taken."""
        name = self.name
        while name in taken:
            name += "_"
        return name

    def truths(self, name: str) -> pl.DataFrame:
        """Return the newest label of each key in its own type: ``key`` and the named column."""
        # A column named like the key would be in the way: the caller renames "key".
        return self.newest.select("key", unslotted("truth", self.kind).alias(name))


def label_rows(
    labels: Any, *, key: str | Sequence[str], truth: str | None, key_kinds: Mapping[str, str]
) -> tuple[pa.Table, dict[str, Any]]:
    """Return labels as rows, and the spec of the call.

    Args:
        labels: A table with the key columns and the truth.
        key: The key's columns, in the order in which the predictions named theirs.
        truth: The column of the truth; None: the only one that is left over, else the one called ``truth``.
        key_kinds: The key of the predictions: its columns and their types.

    Returns:
        A table with the columns ``key``, ``truth_text``, ``truth_number``, each key once.

    Raises:
        InvalidInputError: A column is missing or no label, a key is NULL or has two labels, or the key's
            types differ from the predictions'.
    """
    keys = key_names(key)
    source = adapt(labels, argument="labels")
    known = source.schema.names()
    for name in (*keys, *(() if truth is None else (truth,))):
        if name not in known:
            argument = "key" if name in keys else "truth"
            raise InvalidInputError(
                f"{argument}={name!r} is not a column of the labels.{near(str(name), known)}",
                hint=f"The columns are {quoted(known)}.",
                argument=argument,
            )
    if len(keys) != len(key_kinds):
        raise InvalidInputError(
            f"key has {len(keys)} columns, the predictions' key {len(key_kinds)}: {quoted(key_kinds)}.",
            hint="Pass the same columns in the same order.",
            argument="key",
        )
    chosen = truth or _only_truth(known, keys)
    dtype = source.schema[chosen]
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null, pl.Categorical, pl.Enum)):
        raise InvalidInputError(
            f"truth={chosen!r} holds {dtype}, which is neither a class nor a number.",
            hint="Pass strings, booleans, integers or floats.",
            argument="truth",
        )
    with readable("labels"):
        frame = collected(source, list(dict.fromkeys([*keys, chosen])))
    for name, (other, kind) in zip(keys, key_kinds.items(), strict=True):
        mine = key_kind(frame.schema[name], name)
        if mine != kind and "null" not in (mine, kind):
            raise InvalidInputError(
                f"key={name!r} holds {mine} in the labels and {other!r} holds {kind} in the predictions: "
                "they can never be equal.",
                hint="Cast one side: 7 is not '7'.",
                argument="key",
                types=(kind, mine),
            )
    # Apart from the truth, whose column may be called like a key of the predictions.
    own_keys = frame.select(pl.col(name).alias(other) for name, other in zip(keys, key_kinds, strict=True))
    texts = key_texts(own_keys, list(key_kinds), "labels")
    rows = pl.DataFrame([texts.alias("key"), *slots(frame, chosen, "truth")])
    single = rows.unique(maintain_order=True)
    doubled = single.filter(pl.col("key").is_duplicated())
    if doubled.height:
        raise InvalidInputError(
            f"labels: {doubled['key'].n_unique():,} keys have different labels in one call, for example "
            f"{doubled['key'][0]}.",
            hint="Pass the one label of each key that counts; a correction comes in a later call.",
            argument="labels",
        )
    return single.to_arrow(), {"truth": chosen, "truth_kind": label_kind(dtype)}


def joined_keys(sets: Mapping[str, pa.Table]) -> pa.Table:
    """Return the keys of several tables, each once, with ``sets``: bit i says that the i-th table has it.

    Args:
        sets: Tables with a column ``key``, whose keys are unique, by name.
    """
    keys = pl.concat(
        frame_of(table.select(["key"])).with_columns(sets=pl.lit(1 << bit, dtype=pl.UInt8))
        for bit, table in enumerate(sets.values())
    )
    if len(sets) > 1:
        keys = keys.group_by("key").agg(pl.col("sets").sum())
    return keys.to_arrow()


def _joint_kind(kinds: set[str], name: str | None = None) -> str:
    """Return the kind that labels of several calls share."""
    plain = kinds - {"null"}
    if "str" in plain and len(plain) > 1:
        numbers = " and ".join(sorted(plain - {"str"}))
        raise InvalidInputError(
            f"truth={name!r}: some labels of the job are text and others are {numbers}.",
            hint="Cast them: all labels of a job have one type.",
            argument="truth",
        )
    return next((kind for kind in ("str", "float", "int", "bool") if kind in plain), "null")


def _only_truth(known: Sequence[str], keys: Sequence[str]) -> str:
    free = [name for name in known if name not in keys]
    if len(free) == 1:
        return free[0]
    if "truth" in free:
        return "truth"
    if not free:
        raise InvalidInputError(
            "The labels have no column besides the key.",
            hint="Add the column of the truth.",
            argument="truth",
        )
    raise InvalidInputError(
        f"It is not clear which column of the labels holds the truth: {quoted(free)}.",
        hint="Pass truth='…'.",
        argument="truth",
    )
