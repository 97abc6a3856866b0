"""What no merged state can give exactly: ROC AUC, average precision and quantiles, by one sort."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from metrics_lake.predictions.families.labels import label_text, text_of
from metrics_lake.predictions.families.scores import TRUTH, coded
from metrics_lake.predictions.grouping import group_columns, number, segment_key
from metrics_lake.predictions.names import QUANTILES, quantile_name
from metrics_lake.predictions.rows import Values
from metrics_lake.predictions.tasks import Binary, Multiclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.roles import Roles
    from metrics_lake.predictions.tasks import Task

__all__ = ["exact_quantiles", "exact_ranking", "exact_values", "with_exact"]


_NONE: Final = Values(pl.DataFrame(schema=Values.SCHEMA))


def with_exact(state: Long, frame: pl.LazyFrame, roles: Roles, task: Task | None) -> Long:
    """Return the states with exact values in their params, under ``exact``; a merge drops them."""
    found: dict[tuple[str, str, str, Any], dict[str, float]] = {}
    columns = group_columns(roles)
    for names in [(), *roles.by]:
        places = [f"by_{roles.segments.index(name)}" for name in names]
        chosen = {name: columns[name] for name in (*places, "window") if name in columns}
        for kind, column, values in _measured(frame, roles, task, chosen):
            for row in values.iter_rows(named=True):
                segment = segment_key(dict(zip(names, (row[place] for place in places), strict=True)))
                own = {name: value for name, value in row.items() if name not in chosen and value is not None}
                found.setdefault((kind, column, segment, row.get("window")), {}).update(own)
    params = []
    groups = state.head.select("state", "column", "segment_key", "window_start", "params")
    for kind, column, key, window, text in groups.iter_rows():
        exact = found.get((kind, column, key, window))
        loaded = json.loads(text)
        params.append(json.dumps(loaded if exact is None else loaded | {"exact": exact}, sort_keys=True))
    return state.with_head(pl.lit(pl.Series("params", params, dtype=pl.String)))


def exact_values(state: Long) -> Values:
    """Return the exact values that the states carry."""
    rows = [
        (gid, name, value)
        for gid, text in zip(state.head["gid"].to_list(), state.head["params"].to_list(), strict=True)
        for name, value in json.loads(text).get("exact", {}).items()
    ]
    return Values(pl.DataFrame(rows, schema=Values.SCHEMA, orient="row")) if rows else _NONE


def _measured(
    frame: pl.LazyFrame, roles: Roles, task: Task | None, groups: dict[str, pl.Expr]
) -> list[tuple[str, str, pl.DataFrame]]:
    """Return the exact values of each kind of state: its name, its column, a row for each group."""
    names, is_weighted = list(groups), roles.weight is not None
    weights = {} if roles.weight is None else {"w": number(roles, roles.weight)}
    found = []
    if roles.scores:
        scores = {name: number(roles, name) for name in roles.scores}
        usable = pl.all_horizontal(score.is_between(0.0, 1.0) for score in scores.values())
        if roles.prediction is not None:
            usable &= label_text(roles, roles.prediction).is_not_null()
        kind = "scores" if isinstance(task, Binary) else "class_scores"
        for name, score in scores.items():
            rows = frame.filter(usable)
            if not is_weighted and not names and kind == "scores":
                found.append((kind, name, _one_sort(rows, score, roles, task)))
                continue
            if not is_weighted and kind == "scores":
                plain = exact_quantiles(rows.select(**groups, s=score), names, "s", "score_")
                found.append((kind, name, plain))
            if roles.truth is None:
                continue
            y = _is_positive(roles, task, name)
            known = rows.select(**groups, **weights, s=score, y=y).filter(pl.col("y").is_not_null())
            found.append((kind, name, exact_ranking(known, names, is_weighted=is_weighted)))
    elif roles.prediction is not None and not is_weighted and (task is None or task.name == "regression"):
        predicted = number(roles, roles.prediction)
        rows = frame.filter(predicted.is_finite())
        found.append(
            ("numbers", roles.name, exact_quantiles(rows.select(**groups, v=predicted), names, "v", ""))
        )
        if roles.truth is not None:
            truth = number(roles, roles.truth)
            both = rows.filter(truth.is_finite()).select(**groups, r=predicted - truth)
            found.append(("residuals", roles.name, exact_quantiles(both, names, "r", "residual_")))
            middle = {"median_absolute_error": pl.col("r").abs().quantile(0.5, interpolation="linear")}
            medians = both.group_by(names).agg(**middle) if names else both.select(**middle)
            found.append(("residuals", roles.name, medians.collect()))
    return found


def _is_positive(roles: Roles, task: Task | None, score: str) -> pl.Expr:
    """Return 1 for the class of the score, 0 for others, NULL without a usable truth."""
    assert roles.truth is not None  # noqa: S101 -- the caller looked
    if isinstance(task, Binary):
        code = coded(roles, roles.truth, task).code
        return pl.when(code <= TRUTH["positive"]).then(code)
    labels = task.labels if isinstance(task, Multiclass) and task.labels is not None else roles.score_labels
    label = labels[roles.scores.index(score)]
    return (label_text(roles, roles.truth) == text_of(label)).cast(pl.UInt8)


def _one_sort(rows: pl.LazyFrame, score: pl.Expr, roles: Roles, task: Task | None) -> pl.DataFrame:
    """Return the quantiles, ROC AUC and average precision of all rows from one sort of one integer column.

    The bits of doubles in [0, 1] sort as the doubles do, and leave room for the label: 0, 1, or 2 for none.
    """
    y = pl.lit(2) if roles.truth is None else _is_positive(roles, task, roles.scores[0]).fill_null(2)
    key = score.abs().reinterpret(dtype=pl.UInt64) * 4 + y.cast(pl.UInt64)
    ordered = rows.select(k=key).sort("k").collect(engine="streaming").to_series()
    if ordered.is_empty():
        return pl.DataFrame()
    exact: dict[str, float | None] = {}
    for q in QUANTILES:
        place = q * (len(ordered) - 1)
        low, high = (
            (ordered.slice(int(rank), 1) // 4).reinterpret(dtype=pl.Float64).item()
            for rank in (math.floor(place), math.ceil(place))
        )
        share = place - math.floor(place)
        exact["score_" + quantile_name(q)] = low if low == high else low * (1 - share) + high * share
    if roles.truth is not None:
        exact |= _ranking_of(ordered)
    return pl.DataFrame({name: [value] for name, value in exact.items() if value is not None})


def _ranking_of(ordered: pl.Series) -> dict[str, float | None]:
    """Return ``roc_auc`` and ``average_precision`` of sorted keys ``score bits * 4 + label``."""
    known = ordered.alias("k").to_frame().lazy().filter(pl.col("k") % 4 < 2)
    # At the last row of each score: the positives and negatives up to it.
    score = pl.col("k") // 4
    steps = (
        known.with_columns(
            up=(pl.col("k") % 2).cast(pl.Int64).cum_sum(),
            rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
            is_last=(score != score.shift(-1)).fill_null(value=True),
        )
        .filter("is_last")
        .select("up", down=pl.col("rank") - pl.col("up"))
        .with_columns(up0=pl.col("up").shift(1, fill_value=0), down0=pl.col("down").shift(1, fill_value=0))
    )
    p, q = pl.col("up").last(), pl.col("down").last()
    gained = (pl.col("up") - pl.col("up0")).cast(pl.Float64)
    at, all_at = p - pl.col("up0"), p + q - pl.col("up0") - pl.col("down0")
    found = steps.select(
        p=p, q=q,
        area=(gained * (pl.col("down0") + pl.col("down")).cast(pl.Float64)).sum() / 2,
        precision=(gained * at.cast(pl.Float64) / all_at.cast(pl.Float64)).sum(),
    ).collect()  # fmt: skip
    positives, negatives, area, precision = found.row(0)
    if not positives:
        return {}
    both = float(positives) * negatives if negatives else 0.0
    return {"roc_auc": area / both if both else None, "average_precision": precision / positives}


def exact_ranking(rows: pl.LazyFrame, groups: Sequence[str], *, is_weighted: bool) -> pl.DataFrame:
    """Return ``roc_auc`` and ``average_precision`` of each group, one row a group.

    Args:
        rows: ``groups``, ``s`` (Float64 in [0, 1]), ``y`` (0 or 1) and, where weighted, ``w``.
        groups: The columns that make a group; none for all rows.
        is_weighted: Whether there is ``w``.
    """
    # The bits of doubles in [0, 1] sort as the doubles do; negated, greatest first. The label rides along.
    bits = pl.col("s").abs().reinterpret(dtype=pl.Int64)
    weights = ["w"] if is_weighted else []
    packed = rows.select(*groups, *weights, k=-(bits * 2) - pl.col("y").cast(pl.Int64))
    # Weights and groups are carried beside the key; without them one column is sorted, the fastest there is.
    ordered = packed.sort([*groups, "k"]).collect(engine="streaming").lazy()
    y = (pl.col("k") % 2 != 0).cast(pl.Float64)
    score = pl.col("k") + (pl.col("k") % 2 != 0).cast(pl.Int64)
    weight = pl.col("w") if is_weighted else pl.lit(1.0)

    def per_group(expr: pl.Expr) -> pl.Expr:
        return expr.over(groups) if groups else expr

    running = ordered.with_columns(score=score, up=y * weight, down=(1.0 - y) * weight).with_columns(
        tp=per_group(pl.col("up").cum_sum()),
        fp=per_group(pl.col("down").cum_sum()),
        is_last=per_group((pl.col("score") != pl.col("score").shift(-1)).fill_null(value=True)),
    )
    steps = running.filter("is_last").with_columns(
        tp0=per_group(pl.col("tp").shift(1, fill_value=0.0)),
        fp0=per_group(pl.col("fp").shift(1, fill_value=0.0)),
    )
    p, q = pl.col("tp").last(), pl.col("fp").last()
    tp, fp = pl.col("tp"), pl.col("fp")
    area = ((fp - pl.col("fp0")) * (tp + pl.col("tp0")) / 2).sum()
    precision = pl.when(tp + fp > 0).then((tp - pl.col("tp0")) * tp / (tp + fp)).otherwise(0.0).sum()
    measures = {
        "roc_auc": pl.when((p > 0) & (q > 0)).then(area / (p * q)),
        "average_precision": pl.when(p > 0).then(precision / p),
    }
    if groups:
        return steps.group_by(groups).agg(**measures).collect()
    return steps.select(**measures).collect()


def exact_quantiles(rows: pl.LazyFrame, groups: Sequence[str], column: str, prefix: str) -> pl.DataFrame:
    """Return the quantiles of a column in each group, one row a group, named ``<prefix>p50`` and so on."""
    measures = {
        prefix + quantile_name(q): pl.col(column).quantile(q, interpolation="linear") for q in QUANTILES
    }
    if groups:
        return rows.group_by(groups).agg(**measures).collect()
    return rows.select(**measures).collect()
