"""Binary scores: cells, calibration bins, decisions and truth in one packed key, one ``group_by``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._text import quoted
from metrics_lake.predictions.batches import Parts
from metrics_lake.predictions.cells import (
    SCORE_CODES,
    SCORE_MIDDLE,
    SCORE_RESOLUTION,
    score_cell,
    score_code,
    step,
)
from metrics_lake.predictions.counting import CODES, Cells
from metrics_lake.predictions.families.labels import label_params, label_text, positive
from metrics_lake.predictions.grouping import BAD, aggregate_all, number, weighted
from metrics_lake.predictions.inference import label_kind
from metrics_lake.predictions.passes import Pass, has_many_groups
from metrics_lake.predictions.runs import cell_table, merged_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake.predictions.grouping import Groups
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles
    from metrics_lake.predictions.tasks import Binary

__all__ = ["BINS", "TRUTH", "Coded", "build", "check_range", "coded", "log_loss_of"]

BINS: Final = 60
"""Calibration bins of equal width: 10, 12, 15, 20 and 30 bins are sums of these."""

TRUTH: Final = {"negative": 0, "positive": 1, "null": 2, "unknown": 3, "nan": 4, "inf": 5}
"""The codes of the truth in the packed key."""

_EPSILON: Final = 2.0**-52
_SPREAD: Final = 8  # room for the codes of the truth
_UNUSABLE: Final = SCORE_CODES * _SPREAD * _SPREAD  # keys from here on are scores outside [0, 1]
_NULL: Final = 2 * _UNUSABLE
_COUNTED: Final = 3  # the first truths are counted: negative, positive, null


@dataclass(frozen=True, slots=True)
class Coded:
    """Labels as a small integer, and the text to group by where the integer does not tell them apart."""

    code: pl.Expr
    text: pl.Expr | None
    kind: str


def build(rows: pl.LazyFrame | Parts, roles: Roles, task: Binary) -> Long:
    """Return the state ``scores`` of a column of scores of the positive class.

    Raises:
        InvalidInputError: Scores are outside [0, 1] (unless they are to be excluded), or labels are unknown.
    """
    score = number(roles, roles.scores[0])
    thresholds = sorted(set(task.thresholds))
    truth = coded(roles, roles.truth, task)
    decision = coded(roles, roles.prediction, task)
    cuts = thresholds if roles.prediction is None else []

    def key(code: pl.Expr) -> pl.Expr:
        packed = code * _SPREAD + truth.code
        if roles.prediction is not None:
            packed = packed * _SPREAD + decision.code
        key = pl.when(score.is_between(0.0, 1.0)).then(packed).otherwise(_unusable(score)).fill_null(_NULL)
        # A row without a decision cannot be judged by it.
        has_none = decision.code == TRUTH["null"]
        return key if roles.prediction is None else pl.when(has_none).then(_NULL).otherwise(key)

    # The distance to the nearer end is exact, and so nothing of a small error is lost in a difference.
    near = pl.min_horizontal(score, 1.0 - score)
    made = {"near": near, "near_sq": near * near}
    if roles.truth is not None:
        share = pl.when(truth.code == TRUTH["positive"]).then(score).otherwise(1.0 - score)
        made["ll"] = _clipped(share).log()
    values = {"s": score, **dict(zip(made, weighted(roles, made.values()), strict=True))}
    ends = [pl.col("s").min().alias("low"), pl.col("s").max().alias("high")]
    totals = [pl.col(name).sum() for name in made]
    texts = {"truth": truth.text, "pred": decision.text}
    extra = {name: text for name, text in texts.items() if text is not None}
    bins = step(score * float(BINS))
    if has_many_groups(rows, roles):
        # Sums by bin, and by cell only what needs it: rows of rare groups wait with all that is summed.
        passes = [
            Pass({"k": key(_above(score, cuts, bins)), **extra}, values, [*ends, *totals]),
            Pass({"k": key(score_code(score)), **extra}, {"s": score}, ends, _cells(score, truth, roles)),
        ]
    else:
        # Cells have an edge at most thresholds already, such as 0.5.
        cuts = [value for value in cuts if not _is_edge(value)]
        code = score_code(score, _above(score, cuts, bins))
        passes = [Pass({"k": key(code), **extra}, values, [*ends, *totals])]
    found = [_decoded(groups, roles, thresholds) for groups in aggregate_all(rows, roles, passes)]
    groups = _summed(found[0], roles)
    sums = ("sum_s", "sum_se", "sum_ll") if roles.truth is not None else ("sum_s",)
    check_range(groups.rows, roles.scores[0], task.out_of_range)
    usable = groups.usable
    _check_known(usable, rows, roles)
    counts = groups.counts(
        None
        if roles.truth is None
        else {name: pl.col("code") == TRUTH[name] for name in ("null", "nan", "inf")}
    )
    is_weighted = [pl.col("sum_w").sum()] if roles.weight is not None else []
    cells = found[-1].usable
    return groups.states(
        counts,
        column=roles.scores[0],
        task=task.name,
        state="scores",
        res=SCORE_RESOLUTION,
        params=json.dumps(_params(roles, task, usable, thresholds, truth, decision), sort_keys=True),
        cells=merged_cells(cells),
        ties=cell_table(cells),
        calib=usable.group_by("gid", "bin", "yhat", "y").agg(
            pl.col("n").sum(), *is_weighted, pl.col(sums).sum()
        ),
        moments=usable.group_by("gid").agg(
            pl.col("n").sum(), *is_weighted, pl.col("sum_s").sum().alias("sum"),
            pl.col("low").min(), pl.col("high").max(),
        ).with_columns(of=pl.lit("score")),
    )  # fmt: skip


def _cells(score: pl.Expr, truth: Coded, roles: Roles) -> Cells | None:
    """Return how cells are counted; None where there is more to a row than its score and its truth.

    Cells nearer than 2^-30 to 0 or 1 are too many to be counted.
    """
    if roles.weight is not None or roles.prediction is not None:
        return None
    first = SCORE_MIDDLE - CODES // _COUNTED // 2
    return Cells(
        is_counted=score.is_between(0.0, 1.0),
        cell=score_code(score) - first,
        kind=truth.code,
        kinds=_COUNTED,
        value=score,
        key=lambda cell, kind: (cell + first) * _SPREAD + kind,
    )


def _above(score: pl.Expr, cuts: Sequence[float], code: pl.Expr) -> pl.Expr:
    """Return a code (UInt32) that grows with the score, and also at each of the cuts."""
    for value in cuts:
        code += (score >= value).cast(pl.UInt32)
    return code


def _is_edge(value: float) -> bool:
    """Return whether a score at least this is in another cell than one below."""
    return 0.0625 <= value < 0.9375 and (value * 4096.0).is_integer()


def _unusable(score: pl.Expr) -> pl.Expr:
    """Return the key of a score outside [0, 1]: its leading bits, which tell NaN and infinity apart."""
    return (score.reinterpret(dtype=pl.UInt64) // (1 << 45)).cast(pl.UInt32, wrap_numerical=True) + _UNUSABLE


def _clipped(share: pl.Expr) -> pl.Expr:
    return pl.max_horizontal(pl.min_horizontal(share, pl.lit(1.0 - _EPSILON)), pl.lit(_EPSILON))


def _decoded(groups: Groups, roles: Roles, thresholds: list[float]) -> Groups:
    """Return the groups with what their keys stand for: ``cell bin yhat code y``."""
    key, low = pl.col("k"), pl.col("low")
    score = pl.when(key < _UNUSABLE).then(low)
    rows = groups.rows.with_columns(
        k=pl.when(key < _UNUSABLE)
        .then(key)
        .when(key == _NULL)
        .then(BAD)
        .when(low.is_nan())
        .then(BAD + 1)
        .when(low.is_infinite())
        .then(BAD + 2)
        .otherwise(BAD + 3)
    )
    if roles.prediction is None:
        yhat, code = pl.sum_horizontal((low >= value).cast(pl.Int64) for value in thresholds), key % _SPREAD
    else:
        yhat, code = key % _SPREAD, key // _SPREAD % _SPREAD
    rows = rows.with_columns(cell=score_cell(score).cast(pl.Int64), bin=_bin(score), yhat=yhat, code=code)
    known = pl.col("code") <= TRUTH["positive"]
    return replace(groups, rows=rows.with_columns(y=pl.when(known).then("code")))


def _summed(groups: Groups, roles: Roles) -> Groups:
    """Return the decoded groups with the sums of a state."""
    low = pl.col("low")
    weight = pl.col("n" if roles.weight is None else "sum_w").cast(pl.Float64)
    is_low, is_positive = low < 0.5, pl.col("code") == TRUTH["positive"]
    near, near_sq = pl.col("near"), pl.col("near_sq")
    known = pl.col("code") <= TRUTH["positive"]
    sums = {"sum_s": pl.when(is_low).then(near).otherwise(weight - near)}
    if roles.truth is not None:
        far_sq = weight - 2.0 * near + near_sq
        squares = pl.when(is_low == is_positive).then(far_sq).otherwise(near_sq)
        sums["sum_se"] = pl.when(known).then(squares).otherwise(0.0)
        sums["sum_ll"] = pl.when(known).then(-pl.col("ll")).otherwise(0.0)
    return replace(groups, rows=groups.rows.with_columns(**sums))


def log_loss_of(share: pl.Expr) -> pl.Expr:
    """Return the log loss of the score given to the true class, clipped at the epsilon of float64."""
    return -_clipped(share).log()


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
    return step(score * float(BINS)).cast(pl.Int64).clip(0, BINS - 1)


def coded(roles: Roles, column: str | None, task: Binary) -> Coded:
    """Return a column of labels as codes of ``TRUTH``."""
    if column is None:
        return Coded(pl.lit(TRUTH["null"], dtype=pl.UInt32), None, "null")
    kind = label_kind(roles.dtype(column))
    raw = pl.col(column)
    is_plain = task.labels is None and task.pos_label is None
    if (
        kind == "bool"
        and (is_plain or task.pos_label in (None, True))
        and task.labels in (None, [False, True])
    ):
        return Coded(raw.cast(pl.UInt8).fill_null(TRUTH["null"]).cast(pl.UInt32), None, kind)
    if kind in {"int", "float"} and is_plain:
        code = pl.when(raw == 0).then(TRUTH["negative"]).when(raw == 1).then(TRUTH["positive"])
        code = code.when(raw.is_null()).then(TRUTH["null"])
        if roles.dtype(column).is_float():
            code = code.when(raw.is_nan()).then(TRUTH["nan"]).when(raw.is_infinite()).then(TRUTH["inf"])
        return Coded(code.otherwise(TRUTH["unknown"]).cast(pl.UInt32), None, kind)
    text = label_text(roles, column)
    is_positive = text == positive(task, kind)
    code = pl.when(is_positive).then(TRUTH["positive"]).when(raw.is_null()).then(TRUTH["null"])
    if roles.dtype(column).is_float():
        code = code.when(raw.is_nan()).then(TRUTH["nan"]).when(raw.is_infinite()).then(TRUTH["inf"])
    return Coded(code.otherwise(TRUTH["negative"]).cast(pl.UInt32), text, kind)


def _check_known(usable: pl.DataFrame, rows: pl.LazyFrame | Parts, roles: Roles) -> None:
    strange = usable["code"] == TRUTH["unknown"]
    if roles.prediction is not None:
        strange |= usable["yhat"] >= TRUTH["unknown"]
    if not strange.any():
        return
    is_truth = (usable["code"] == TRUTH["unknown"]).any()
    column = roles.truth if is_truth else roles.prediction
    argument = "truth" if is_truth else "prediction"
    told = f"{argument}={column!r} holds labels besides 0 and 1"
    if not isinstance(rows, Parts):  # which cannot be read again
        is_other = ~number(roles, str(column)).is_in([0.0, 1.0])
        found = rows.filter(is_other).select(str(column)).unique().head(9).collect().to_series()
        told += f": {quoted(sorted(found))}"
    raise InvalidInputError(
        f"{told}.",
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
    named = [
        label
        for label in (task.pos_label, *(() if task.labels is None else task.labels))
        if label is not None
    ]
    if not coded and named and all(isinstance(label, str) for label in named):
        return params | label_params(task, [], "str")
    params["label_kind"] = "null" if not coded else ("bool" if coded[0].kind == "bool" else "int")
    if coded:
        params["labels"] = ["false", "true"] if coded[0].kind == "bool" else ["0", "1"]
        params["pos_label"] = params["labels"][1]
    return params
