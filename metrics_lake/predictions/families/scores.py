"""Binary scores: cells, calibration bins, decisions and truth in one packed key, one ``group_by``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import quoted
from metrics_lake.predictions.cells import SCORE_RESOLUTION, score_cell
from metrics_lake.predictions.families.labels import label_params, label_text, positive
from metrics_lake.predictions.families.numbers import cell_tables
from metrics_lake.predictions.grouping import BAD, aggregate, number, weighted
from metrics_lake.predictions.roles import label_kind

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles
    from metrics_lake.predictions.tasks import Binary

__all__ = ["BINS", "TRUTH", "Coded", "build", "check_range", "coded", "log_loss_of", "score_key"]

BINS: Final = 60
"""Calibration bins of equal width: 10, 12, 15, 20 and 30 bins are sums of these."""

TRUTH: Final = {"negative": 0, "positive": 1, "null": 2, "unknown": 3, "nan": 4, "inf": 5}
"""The codes of the truth in the packed key."""

_EPSILON: Final = 2.0**-52
_SPREAD: Final = 8  # room for the codes of the truth
_BIN_ROOM: Final = 64


@dataclass(frozen=True, slots=True)
class Coded:
    """Labels as a small integer, and the text to group by where the integer does not tell them apart."""

    code: pl.Expr
    text: pl.Expr | None
    kind: str


def build(frame: pl.LazyFrame, roles: Roles, task: Binary) -> Long:
    """Return the state ``scores`` of a column of scores of the positive class.

    Raises:
        InvalidInputError: Scores are outside [0, 1] (unless they are to be excluded), or labels are unknown.
    """
    score = number(roles, roles.scores[0])
    thresholds = sorted(set(task.thresholds))
    truth = coded(roles, roles.truth, task)
    decision = coded(roles, roles.prediction, task)
    if roles.prediction is None:
        width = len(thresholds) + 1
        yhat = pl.sum_horizontal((score >= value).cast(pl.UInt64) for value in thresholds)
    else:
        width = _SPREAD
        yhat = decision.code
    packed = ((score_cell(score) * _BIN_ROOM + _bin(score)) * width + yhat) * _SPREAD + truth.code
    key = score_key(score, packed)
    if roles.prediction is not None:
        # A row without a decision cannot be judged by it.
        key = pl.when(decision.code == TRUTH["null"]).then(BAD).otherwise(key)
    is_positive = truth.code == TRUTH["positive"]
    of_truth = pl.when(is_positive).then(score).otherwise(1.0 - score)
    sums = ("sum_s", "sum_se", "sum_ll") if roles.truth is not None else ("sum_s",)
    made = {"sum_s": score}
    if roles.truth is not None:
        error = score - is_positive.cast(pl.Float64)
        made |= {"sum_se": error * error, "sum_ll": log_loss_of(of_truth)}
    values = dict(zip(sums, weighted(roles, made.values()), strict=True))
    extra = {"truth": truth.text, "pred": decision.text}
    groups = aggregate(
        frame,
        roles,
        key,
        {"s": score, **values},
        [
            pl.col("s").min().alias("low"),
            pl.col("s").max().alias("high"),
            *(pl.col(name).sum() for name in sums),
        ],
        extra_keys={name: text for name, text in extra.items() if text is not None},
    )
    check_range(groups.rows, roles.scores[0], task.out_of_range)
    usable = groups.usable.with_columns(
        code=pl.col("k") % _SPREAD,
        yhat=pl.col("k") // _SPREAD % width,
        bin=(pl.col("k") // (_SPREAD * width) % _BIN_ROOM).clip(0, BINS - 1),
        cell=pl.col("k") // (_SPREAD * width * _BIN_ROOM),
    )
    _check_known(usable, frame, roles)
    usable = usable.with_columns(y=pl.when(pl.col("code") < 2).then("code"))
    has_truth = pl.col("y").is_not_null()
    usable = usable.with_columns(
        pl.when(has_truth).then(name).otherwise(0.0) for name in sums if name != "sum_s"
    )
    counts = groups.counts(
        None
        if roles.truth is None
        else {name: pl.col("k") % _SPREAD == TRUTH[name] for name in ("null", "nan", "inf")}
    )
    is_weighted = [pl.col("sum_w").sum()] if roles.weight is not None else []
    _, ties = cell_tables(usable)
    return groups.states(
        counts,
        column=roles.scores[0],
        task=task.name,
        state="scores",
        res=SCORE_RESOLUTION,
        params=json.dumps(_params(roles, task, usable, thresholds, truth, decision), sort_keys=True),
        cells=usable.group_by("gid", "cell", "y").agg(pl.col("n").sum(), *is_weighted),
        ties=ties,
        calib=usable.group_by("gid", "bin", "yhat", "y").agg(
            pl.col("n").sum(), *is_weighted, pl.col(sums).sum()
        ),
        moments=usable.group_by("gid").agg(
            pl.col("n").sum(), *is_weighted, pl.col("sum_s").sum().alias("sum"),
            pl.col("low").min(), pl.col("high").max(),
        ).with_columns(of=pl.lit("score")),
    )  # fmt: skip


def score_key(score: pl.Expr, packed: pl.Expr) -> pl.Expr:
    """Return the packed key where the score is in [0, 1], else the code of why it cannot be used."""
    return (
        pl.when(score.is_between(0.0, 1.0))
        .then(packed)
        .when(score.is_null())
        .then(BAD)
        .when(score.is_nan())
        .then(BAD + 1)
        .when(score.is_infinite())
        .then(BAD + 2)
        .otherwise(BAD + 3)
    )


def log_loss_of(share: pl.Expr) -> pl.Expr:
    """Return the log loss of the score given to the true class, clipped at the epsilon of float64."""
    return -share.clip(_EPSILON, 1.0 - _EPSILON).log()


def check_range(rows: pl.DataFrame, column: str, out_of_range: str) -> None:
    """Refuse scores outside [0, 1] unless they are to be left out.

    Raises:
        InvalidInputError: There are some.
    """
    beyond = rows.filter(pl.col("k") == BAD + 3)
    if beyond.height == 0 or out_of_range == "exclude":
        return
    raise InvalidInputError(
        f"score={column!r} holds {beyond['n'].sum():,} values outside [0, 1]: from "
        f"{beyond['low'].min()!r} to {beyond['high'].max()!r}.",
        hint="Pass probabilities (a sigmoid of logits is yours to apply), or "
        "task=Binary(out_of_range='exclude') to leave such rows out and count them.",
        argument="score",
        count=beyond["n"].sum(),
    )


def _bin(score: pl.Expr) -> pl.Expr:
    return (score * float(BINS)).cast(pl.UInt8, strict=False).cast(pl.UInt64)


def coded(roles: Roles, column: str | None, task: Binary) -> Coded:
    """Return a column of labels as codes of ``TRUTH``."""
    if column is None:
        return Coded(pl.lit(TRUTH["null"], dtype=pl.UInt64), None, "null")
    kind = label_kind(roles.dtype(column))
    raw = pl.col(column)
    is_plain = task.labels is None and task.pos_label is None
    if (
        kind == "bool"
        and (is_plain or task.pos_label in (None, True))
        and task.labels in (None, [False, True])
    ):
        return Coded(raw.cast(pl.UInt8).fill_null(TRUTH["null"]).cast(pl.UInt64), None, kind)
    if kind in {"int", "float"} and is_plain:
        code = pl.when(raw == 0).then(TRUTH["negative"]).when(raw == 1).then(TRUTH["positive"])
        code = code.when(raw.is_null()).then(TRUTH["null"])
        if kind == "float":
            code = code.when(raw.is_nan()).then(TRUTH["nan"]).when(raw.is_infinite()).then(TRUTH["inf"])
        return Coded(code.otherwise(TRUTH["unknown"]).cast(pl.UInt64), None, kind)
    text = label_text(roles, column)
    is_positive = text == positive(task, kind)
    code = pl.when(is_positive).then(TRUTH["positive"]).when(text.is_null()).then(TRUTH["null"])
    return Coded(code.otherwise(TRUTH["negative"]).cast(pl.UInt64), text, kind)


def _check_known(usable: pl.DataFrame, frame: pl.LazyFrame, roles: Roles) -> None:
    strange = usable["code"] == TRUTH["unknown"]
    if roles.prediction is not None:
        strange |= usable["yhat"] >= TRUTH["unknown"]
    if not strange.any():
        return
    is_truth = (usable["code"] == TRUTH["unknown"]).any()
    column = roles.truth if is_truth else roles.prediction
    found = frame.filter(~pl.col(str(column)).is_in([0, 1])).select(str(column)).unique().head(9).collect()
    argument = "truth" if is_truth else "prediction"
    raise InvalidInputError(
        f"{argument}={column!r} holds labels besides 0 and 1: {quoted(sorted(found.to_series()))}.",
        hint="Pass task=Binary(labels=[negative, positive]) for other labels.",
        argument=argument,
    )


def _params(
    roles: Roles, task: Binary, usable: pl.DataFrame, thresholds: list[float], truth: Coded, decision: Coded
) -> dict[str, Any]:
    params: dict[str, Any] = {"decision": "threshold" if roles.prediction is None else "prediction"}
    if roles.prediction is None:
        params["thresholds"] = thresholds
        params["threshold"] = task.thresholds[0]
    coded = [item for item in (truth, decision) if item.kind != "null"]
    texts = [name for name, item in (("truth", truth), ("pred", decision)) if item.text is not None]
    if texts and coded:
        seen = sorted({label for name in texts for label in usable[name].drop_nulls().unique()})
        return params | label_params(task, seen, coded[0].kind)
    params["label_kind"] = "null" if not coded else ("bool" if coded[0].kind == "bool" else "int")
    if coded:
        params["labels"] = ["false", "true"] if coded[0].kind == "bool" else ["0", "1"]
        params["pos_label"] = params["labels"][1]
    return params
