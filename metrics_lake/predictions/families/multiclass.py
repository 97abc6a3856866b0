"""Scores of several classes: the decision against the truth, and one state of cells for each class."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import quoted
from metrics_lake.predictions.cells import SCORE_RESOLUTION, score_cell, score_code
from metrics_lake.predictions.families.labels import label_text, text_of
from metrics_lake.predictions.families.scores import BINS, check_range, log_loss_of
from metrics_lake.predictions.grouping import BAD, aggregate, number, weighted
from metrics_lake.predictions.inference import label_kind
from metrics_lake.predictions.long import Long
from metrics_lake.predictions.runs import cell_table, merged_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake.predictions.roles import Roles
    from metrics_lake.predictions.tasks import Multiclass

__all__ = ["build"]

_ROOM: Final = 1 << 16  # classes in the packed key
_NOT_NORMALISED: Final = 1e-6
_TRUTH: Final = "\0truth"  # a column beside the data's own


def build(frame: pl.LazyFrame, roles: Roles, task: Multiclass) -> Long:
    """Return the states of class scores: ``labels`` for all classes, ``class_scores`` for each.

    Raises:
        InvalidInputError: Scores are outside [0, 1], labels are unknown, or ``labels`` and the score columns
            differ in number.
    """
    labels, kind = _labels(roles, task)
    texts = [text_of(label) for label in labels]
    scores = [number(roles, name) for name in roles.scores]
    return Long.concat(
        [
            _together(frame, roles, task, texts, kind, scores),
            *(
                _one_class(frame, roles, task, name, text)
                for name, text in zip(roles.scores, texts, strict=True)
            ),
        ]
    )


def _labels(roles: Roles, task: Multiclass) -> tuple[Sequence[Any], str]:
    labels = roles.score_labels if task.labels is None else task.labels
    if len(labels) != len(roles.scores):
        raise InvalidInputError(
            f"labels has {len(labels)} classes and there are {len(roles.scores)} score columns.",
            hint="Pass one label for each score column, in their order.",
            argument="labels",
        )
    kinds = {
        "bool" if isinstance(label, bool) else "int" if isinstance(label, int) else "str" for label in labels
    }
    kind = kinds.pop() if len(kinds) == 1 else "str"
    for column, argument in ((roles.truth, "truth"), (roles.prediction, "prediction")):
        if column is None:
            continue
        own = label_kind(roles.dtype(column))
        if own not in {kind, "null"} and {own, kind} != {"int", "float"}:
            raise InvalidInputError(
                f"{argument}={column!r} holds {roles.dtype(column)}, and the classes of the scores are "
                f"{quoted(labels)}.",
                hint="Pass score={label: column, …} or task=Multiclass(labels=[…]), with labels of the "
                "truth's type in the order of the score columns.",
                argument=argument,
            )
    return labels, kind


def _reasons(scores: Sequence[pl.Expr], packed: pl.Expr) -> pl.Expr:
    """Return the packed key where all scores are in [0, 1], else the first reason why the row is unusable."""
    return (
        pl.when(pl.all_horizontal(score.is_between(0.0, 1.0) for score in scores).fill_null(value=False))
        .then(packed)
        .when(pl.any_horizontal(score.is_null() for score in scores))
        .then(BAD)
        .when(pl.any_horizontal(score.is_nan() for score in scores))
        .then(BAD + 1)
        .when(pl.any_horizontal(score.is_infinite() for score in scores))
        .then(BAD + 2)
        .otherwise(BAD + 3)
    )


def _class_code(roles: Roles, column: str, texts: Sequence[str]) -> pl.Expr:
    """Return the position of a label.

    The number of labels stands for NULL, and what follows for an unknown label, for NaN and for infinity.
    """
    size, raw, text = len(texts), pl.col(column), label_text(roles, column)
    code = text.cast(pl.Enum(texts), strict=False).to_physical().cast(pl.Int64)
    known = pl.when(raw.is_null()).then(size).when(code.is_not_null()).then(code)
    if roles.dtype(column).is_float():
        known = known.when(raw.is_nan()).then(size + 2).when(raw.is_infinite()).then(size + 3)
    return known.otherwise(size + 1)


def _together(
    frame: pl.LazyFrame,
    roles: Roles,
    task: Multiclass,
    texts: list[str],
    kind: str,
    scores: list[pl.Expr],
) -> Long:
    size = len(texts)
    top = pl.max_horizontal(scores)
    if roles.prediction is None:
        # Of equal scores the first class, as argmax has it.
        decision = pl.coalesce(*(pl.when(score == top).then(i) for i, score in enumerate(scores)))
    else:
        decision = _class_code(roles, roles.prediction, texts)
    # A column, for the engine would compute it anew for each class that it is compared with.
    own = pl.lit(size) if roles.truth is None else _class_code(roles, roles.truth, texts)
    frame, truth = frame.with_columns(own.alias(_TRUTH)), pl.col(_TRUTH)
    bins = (top * float(BINS)).cast(pl.Int64, strict=False).clip(0, BINS - 1)
    key = _reasons(scores, (decision.cast(pl.Int64) * _ROOM + truth) * (BINS + 4) + bins)
    if roles.prediction is not None:
        # A row without a decision cannot be judged by it.
        codes = {size: BAD, size + 2: BAD + 1, size + 3: BAD + 2}
        key = decision.replace_strict(codes, default=key, return_dtype=pl.Int64)
    made = {"sum_s": top}
    if roles.truth is not None:
        share = pl.coalesce(*(pl.when(truth == i).then(score) for i, score in enumerate(scores)))
        squares = pl.sum_horizontal(score * score for score in scores)
        made |= {"sum_se": squares - 2.0 * share + 1.0, "sum_ll": log_loss_of(share)}
    values = dict(zip(made, weighted(roles, made.values()), strict=True))
    total = pl.sum_horizontal(scores)
    groups = aggregate(
        frame,
        roles,
        key,
        {
            "s": top,
            "off": (total - 1.0).abs() > _NOT_NORMALISED,
            "least": pl.min_horizontal(scores),
            **values,
        },
        [
            pl.col("least").min().alias("low"),
            pl.col("s").max().alias("high"),
            pl.col("off").sum().cast(pl.Int64),
            *(pl.col(name).sum() for name in made),
        ],
    )
    check_range(groups.rows, ", ".join(roles.scores), task.out_of_range)
    usable = groups.usable.with_columns(
        bin=pl.col("k") % (BINS + 4),
        t=pl.col("k") // (BINS + 4) % _ROOM,
        p=pl.col("k") // ((BINS + 4) * _ROOM),
    )
    _check_known(usable, frame, roles, texts)
    usable = usable.with_columns(
        truth=pl.col("t").replace_strict(list(range(size)), texts, default=None, return_dtype=pl.String),
        pred=pl.col("p").replace_strict(list(range(size)), texts, default=None, return_dtype=pl.String),
        y=pl.when(pl.col("t") < size).then((pl.col("t") == pl.col("p")).cast(pl.Int8)),
        yhat=pl.lit(1),
    )
    weights = [pl.col("sum_w").sum()] if roles.weight is not None else []
    sums = [pl.col("n").sum(), *weights]
    own = pl.col("k") // (BINS + 4) % _ROOM
    lacking = {name: own == code for name, code in (("null", size), ("nan", size + 2), ("inf", size + 3))}
    counts = groups.counts(None if roles.truth is None else lacking)
    score_moments = usable.group_by("gid").agg(
        *sums, pl.col("sum_s").sum().alias("sum"), pl.col("high").max()
    ).with_columns(of=pl.lit("confidence"))  # fmt: skip
    off = usable.group_by("gid").agg(pl.col("off").sum().alias("n")).with_columns(of=pl.lit("not_normalised"))
    return groups.states(
        counts,
        column=roles.prediction or "prediction",
        task=task.name,
        state="labels",
        params=json.dumps({"label_kind": kind, "labels": texts, "has_scores": True}, sort_keys=True),
        confusion=usable.group_by("gid", "truth", "pred").agg(sums),
        calib=usable.group_by("gid", "bin", "yhat", "y").agg(*sums, pl.col(list(made)).sum()),
        moments=pl.concat([score_moments, off], how="diagonal"),
    )


def _check_known(usable: pl.DataFrame, frame: pl.LazyFrame, roles: Roles, texts: list[str]) -> None:
    size = len(texts)
    for code, column, argument in (("t", roles.truth, "truth"), ("p", roles.prediction, "prediction")):
        if column is None or not (usable[code] == size + 1).any():
            continue
        text = label_text(roles, column)
        found = frame.select(label=text).filter(~pl.col("label").is_in(texts)).unique().head(9).collect()
        raise InvalidInputError(
            f"{argument}={column!r} holds labels that no score column stands for: "
            f"{quoted(sorted(found.to_series()))}.",
            hint=f"The classes of the scores are {quoted(texts)}; pass task=Multiclass(labels=[…]) or "
            "score={label: column, …} with every class that occurs.",
            argument=argument,
            unknown=tuple(found.to_series()),
        )


def _one_class(frame: pl.LazyFrame, roles: Roles, task: Multiclass, name: str, text: str) -> Long:
    score = number(roles, name)
    scores = [number(roles, other) for other in roles.scores]
    if roles.truth is None:
        truth = pl.lit(2, dtype=pl.UInt32)
    else:
        truth = (label_text(roles, roles.truth) == text).cast(pl.UInt8).fill_null(2).cast(pl.UInt32)
    # The same rows as in the state of all classes: a row is usable where all its scores are.
    usable_row = pl.all_horizontal(other.is_between(0.0, 1.0) for other in scores).fill_null(value=False)
    if roles.prediction is not None:
        usable_row &= label_text(roles, roles.prediction).is_not_null()
    key = pl.when(usable_row).then(score_code(score) * 4 + truth).otherwise(BAD)
    groups = aggregate(
        frame, roles, key, {"s": score}, [pl.col("s").min().alias("low"), pl.col("s").max().alias("high")]
    )
    usable = groups.usable.with_columns(cell=score_cell(pl.col("low")), code=pl.col("k") % 4)
    usable = usable.with_columns(y=pl.when(pl.col("code") < 2).then("code"))
    return groups.states(
        groups.counts(None if roles.truth is None else {"null": pl.col("k") % 4 == 2}),
        column=name,
        task=task.name,
        state="class_scores",
        res=SCORE_RESOLUTION,
        params=json.dumps({"label": text}, sort_keys=True),
        cells=merged_cells(usable),
        ties=cell_table(usable),
    )
