"""How far two states are apart: numbers from cells, classes from their counts.

``psi js hellinger tvd chi2`` compare shares of bins. For classes a bin is a class; for numbers and scores the
bins are quantiles of the reference, cut at the edges of cells, so that the shares are exact. ``ks`` and
``wasserstein`` use every cell and carry the bound of what is not known inside one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import polars as pl

from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.predictions.curves import cell_edges
from metrics_lake.predictions.rollup import rolled_up
from metrics_lake.predictions.rows import out
from metrics_lake.predictions.runs import mass
from metrics_lake.predictions.state import merge_long

if TYPE_CHECKING:
    from metrics_lake.predictions.long import Long
    from metrics_lake.predictions.rows import Measure

__all__ = ["EMPTY_SHARE", "chi2_sf", "drift_rows", "kolmogorov_sf"]

EMPTY_SHARE: Final = 1e-4
"""What an empty bin's share is taken for in the PSI, which has its logarithm."""

_NUMERIC: Final = {"scores": True, "class_scores": True, "numbers": False}  # state: is it of scores


def drift_rows(state: Long, reference: Long, bins: int = 10) -> list[Measure]:
    """Return the drift of every state against the reference's state of the same kind and segment.

    Args:
        state: Merged states.
        reference: States of another job or frame; their windows are merged.
        bins: Quantile bins of the reference, at least 2.

    Raises:
        InvalidInputError: ``bins`` is below 2, or the reference holds several jobs.
        NotFoundError: The reference has no state of the kind that is compared.
    """
    if not isinstance(bins, int) or bins < 2:  # type: ignore[redundant-expr]  # a caller's value
        raise InvalidInputError(
            f"drift_bins={bins!r} is no number of bins, 2 or more.",
            hint="Pass drift_bins=10.",
            argument="drift_bins",
        )
    reference = rolled_up(merge_long(reference), every=None)
    if reference.head["resource"].n_unique() > 1:
        raise InvalidInputError(
            "The reference holds the states of several jobs.",
            hint="Pass the state of one job, or merge them under one name first.",
            argument="reference",
        )
    kinds = ["labels", *_NUMERIC]
    told = {*state.head.filter(pl.col("n") > 0)["state"], *reference.head["state"]}
    # Of no rows it is not known what they would have been: a reference of another kind is none for them.
    state = state.filter(pl.col("state").is_in([kind for kind in kinds if kind in told]))
    pairs = _pairs(state, reference)
    rows: list[Measure] = []
    for kind, is_score in _NUMERIC.items():
        own = pairs.filter(pl.col("state") == kind)
        if own.height:
            suffix = "/column" if kind == "class_scores" else ""
            rows += _numeric(state, reference, own, bins, is_score=is_score, suffix=suffix)
    own = pairs.filter(pl.col("state") == "labels")
    if own.height:
        rows += _classes(state, reference, own)
    return rows


def _pairs(state: Long, reference: Long) -> pl.DataFrame:
    """Return which state is compared with which: ``gid ref state column``; ``ref`` is NULL for none."""
    ours = state.head.select("gid", "state", "column", "segment_key", "task")
    theirs = reference.head.select("state", "column", "segment_key", ref="gid")
    for kind in ours["state"].unique():
        columns = theirs.filter(pl.col("state") == kind)["column"].unique()
        if not len(columns):
            raise NotFoundError(
                f"The reference has no state of {kind!r} to compare with.",
                hint="Build it with the same columns and task as the predictions.",
                argument="reference",
            )
        mine = ours.filter(pl.col("state") == kind)["column"].unique()
        if len(columns) == 1 and len(mine) == 1:
            # One column on either side: they are compared whatever their names.
            theirs = theirs.with_columns(
                column=pl.when(pl.col("state") == kind).then(pl.lit(mine[0])).otherwise("column")
            )
    return ours.join(theirs, on=["state", "column", "segment_key"], how="left")


# -- numbers ----------------------------------------------------------------------------------------------


def _numeric(
    state: Long, reference: Long, pairs: pl.DataFrame, bins: int, *, is_score: bool, suffix: str
) -> list[Measure]:
    cells = _joint(state, reference, pairs, is_score=is_score)
    # By the middle of what the reference has in the cell: where one cell is much of the reference, other
    # values on either side of it are not in its bin.
    middle = (pl.col("before_b") + pl.col("b") / 2) / pl.col("b_all")
    binned = cells.with_columns(bin=(middle * bins + 1e-9).floor().clip(0, bins - 1))
    shares = binned.group_by("gid", "bin", maintain_order=True).agg(
        pl.col("a", "b", "na", "nb").sum(), pl.col("a_all", "b_all").first()
    )
    name = _names(state, suffix)
    return [
        *_share_rows(shares, f"{bins} quantile bins of the reference", name),
        *_distance_rows(cells, name),
        *_missing(pairs, ("psi", "js", "hellinger", "tvd", "chi2", "ks", "wasserstein"), name),
    ]


def _names(state: Long, suffix: str) -> pl.DataFrame:
    """Return what stands behind the names of each ``gid``'s metrics."""
    column = pl.lit("/") + pl.col("column") if suffix else pl.lit("")
    return state.head.select("gid", behind=column)


def _joint(state: Long, reference: Long, pairs: pl.DataFrame, *, is_score: bool) -> pl.DataFrame:
    """Return the cells that either side has: ``gid cell lower upper a b na nb`` and the running masses."""
    ids = pairs.filter(pl.col("ref").is_not_null()).select("gid", "ref")
    res = (
        ids.join(state.head.select("gid", mine="res"), on="gid")
        .join(reference.head.select(ref="gid", theirs="res"), on="ref")
        .with_columns(common=pl.min_horizontal("mine", "theirs"))
    )
    sides = []
    for side, own, key in (("a", state, "gid"), ("b", reference, "ref")):
        found = cell_edges(own, is_score=is_score).rename({"gid": key})
        width = pl.col("mine" if side == "a" else "theirs")
        found = found.join(res, on=key).with_columns(
            cell=pl.col("cell").floordiv(pl.lit(2, dtype=pl.Int64).pow(width - pl.col("common"))),
            tied=pl.col("lower") == pl.col("upper"),
        )
        sides.append(
            found.group_by("gid", "cell").agg(
                pl.col("mass").sum().alias(side),
                pl.col("n").sum().alias(f"n{side}"),
                pl.col("lower").min().alias(f"lower_{side}"),
                pl.col("upper").max().alias(f"upper_{side}"),
            )
        )
    cells = sides[0].join(sides[1], on=["gid", "cell"], how="full", coalesce=True).sort("gid", "cell")
    cells = cells.with_columns(
        pl.col("a", "b").fill_null(0.0),
        pl.col("na", "nb").fill_null(0),
        lower=pl.min_horizontal("lower_a", "lower_b"),
        upper=pl.max_horizontal("upper_a", "upper_b"),
    )
    cells = cells.with_columns(
        a_all=pl.col("a").sum().over("gid"),
        b_all=pl.col("b").sum().over("gid"),
        before_a=(pl.col("a").cum_sum() - pl.col("a")).over("gid"),
        before_b=(pl.col("b").cum_sum() - pl.col("b")).over("gid"),
        na_all=pl.col("na").sum().over("gid"),
        nb_all=pl.col("nb").sum().over("gid"),
    )
    # A side without usable rows has no distribution.
    return cells.filter((pl.col("a_all") > 0) & (pl.col("b_all") > 0))


def _distance_rows(cells: pl.DataFrame, names: pl.DataFrame) -> list[Measure]:
    before = pl.col("before_a") / pl.col("a_all") - pl.col("before_b") / pl.col("b_all")
    step_a, step_b = pl.col("a") / pl.col("a_all"), pl.col("b") / pl.col("b_all")
    cells = cells.with_columns(
        before=before, after=before + step_a - step_b, most=before + step_a, least=before - step_b,
        width=pl.col("upper") - pl.col("lower"),
        gap=(pl.col("lower").shift(-1) - pl.col("upper")).over("gid").fill_null(0.0),
    )  # fmt: skip
    edge = pl.max_horizontal(pl.col("before").abs(), pl.col("after").abs())
    inside = pl.when(pl.col("width") > 0).then(
        pl.max_horizontal(edge, pl.col("most").abs(), pl.col("least").abs())
    ).otherwise(edge)  # fmt: skip
    # Between the ends of a cell the difference is taken to run straight.
    straight = pl.when(pl.col("before") * pl.col("after") >= 0).then(
        (pl.col("before").abs() + pl.col("after").abs()) / 2
    ).otherwise(
        (pl.col("before") ** 2 + pl.col("after") ** 2) / (2 * (pl.col("before") - pl.col("after")).abs())
    )  # fmt: skip
    nearest = pl.when((pl.col("least") <= 0) & (pl.col("most") >= 0)).then(0.0).otherwise(
        pl.min_horizontal(pl.col("least").abs(), pl.col("most").abs())
    )  # fmt: skip
    farthest = pl.max_horizontal(pl.col("least").abs(), pl.col("most").abs())
    found = cells.group_by("gid").agg(
        ks=edge.max(),
        ks_most=inside.max(),
        w=(straight * pl.col("width") + pl.col("after").abs() * pl.col("gap")).sum(),
        w_bound=(pl.max_horizontal(farthest - straight, straight - nearest) * pl.col("width")).sum(),
        na=pl.col("na_all").first(),
        nb=pl.col("nb_all").first(),
    ).join(names, on="gid")  # fmt: skip
    effective = (pl.col("na") * pl.col("nb") / (pl.col("na") + pl.col("nb"))).sqrt()
    p_values = pl.Series(
        "p", [kolmogorov_sf(x) for x in found.select(effective * pl.col("ks")).to_series()], dtype=pl.Float64
    )
    found = found.with_columns(p_values)
    behind = pl.col("behind")
    return [
        out(
            found, pl.lit("drift/ks") + behind, "ks", n="na", bound=pl.col("ks_most") - pl.col("ks"),
            method="cells",
        ),
        out(
            found, pl.lit("drift/ks_pvalue") + behind, "p", n="na", bound=None,
            method="asymptotic, two-sided",
        ),
        out(
            found, pl.lit("drift/wasserstein") + behind, "w", n="na", bound="w_bound",
            method="cells, first order",
        ),
    ]  # fmt: skip


# -- classes ----------------------------------------------------------------------------------------------


def _classes(state: Long, reference: Long, pairs: pl.DataFrame) -> list[Measure]:
    ids = pairs.filter(pl.col("ref").is_not_null()).select("gid", "ref")
    ours = state.confusion.join(ids.select("gid"), on="gid", how="semi")
    ours = ours.group_by("gid", "pred", maintain_order=True).agg(a=mass().sum(), na=pl.col("n").sum())
    theirs = reference.confusion.rename({"gid": "ref"}).join(ids, on="ref")
    theirs = theirs.group_by("gid", "pred", maintain_order=True).agg(b=mass().sum(), nb=pl.col("n").sum())
    both = ours.join(theirs, on=["gid", "pred"], how="full", coalesce=True).sort("gid", "pred")
    both = both.with_columns(pl.col("a", "b").fill_null(0.0), pl.col("na", "nb").fill_null(0))
    both = both.with_columns(a_all=pl.col("a").sum().over("gid"), b_all=pl.col("b").sum().over("gid"))
    both = both.filter((pl.col("a_all") > 0) & (pl.col("b_all") > 0))
    names = _names(state, "")
    return [
        *_share_rows(both, "classes", names),
        *_missing(pairs, ("psi", "js", "hellinger", "tvd", "chi2"), names),
    ]


def _share_rows(shares: pl.DataFrame, bins: str, names: pl.DataFrame) -> list[Measure]:
    """Return the measures of shares, from ``gid a b na nb a_all b_all``: one row a bin."""
    p, q = pl.col("a") / pl.col("a_all"), pl.col("b") / pl.col("b_all")
    middle = (p + q) / 2
    filled_p = pl.when(p > 0).then(p).otherwise(EMPTY_SHARE)
    filled_q = pl.when(q > 0).then(q).otherwise(EMPTY_SHARE)
    na, nb = pl.col("na"), pl.col("nb")
    expected = (na + nb) / (na.sum() + nb.sum())
    present = (na + nb) > 0

    def divergence(share: pl.Expr) -> pl.Expr:
        return pl.when(share > 0).then(share * (share / middle).log(2)).otherwise(0.0).sum()

    found = shares.filter(present).group_by("gid").agg(
        psi=((filled_p - filled_q) * (filled_p / filled_q).log()).sum(),
        js=((divergence(p) + divergence(q)) / 2).clip(0.0).sqrt(),
        hellinger=(((p.sqrt() - q.sqrt()) ** 2).sum() / 2).sqrt(),
        tvd=(p - q).abs().sum() / 2,
        chi2=((na - expected * na.sum()) ** 2 / (expected * na.sum())).sum()
        + ((nb - expected * nb.sum()) ** 2 / (expected * nb.sum())).sum(),
        freedom=pl.len().cast(pl.Int64) - 1,
        n=na.sum(),
    ).join(names, on="gid")  # fmt: skip
    p_values = [chi2_sf(value, freedom) for value, freedom in found.select("chi2", "freedom").iter_rows()]
    found = found.with_columns(pl.Series("chi2_pvalue", p_values, dtype=pl.Float64))
    methods = {
        "psi": f"{bins}; an empty share counts as {EMPTY_SHARE:g}",
        "js": f"{bins}; distance, base 2",
        "hellinger": bins,
        "tvd": bins,
        "chi2": bins,
        "chi2_pvalue": bins,
    }
    return [
        out(
            found, pl.lit(f"drift/{name}") + pl.col("behind"), pl.col(name), n="n", method=method,
            reason="all rows are in one bin",
        )
        for name, method in methods.items()
    ]  # fmt: skip


def _missing(pairs: pl.DataFrame, measures: tuple[str, ...], names: pl.DataFrame) -> list[Measure]:
    without = pairs.filter(pl.col("ref").is_null()).join(names, on="gid")
    return [
        out(
            without,
            pl.lit(f"drift/{name}") + pl.col("behind"),
            pl.lit(None, dtype=pl.Float64),
            reason="the reference has no such segment",
        )
        for name in measures
    ]


# -- distributions ----------------------------------------------------------------------------------------


def kolmogorov_sf(x: float | None) -> float | None:
    """Return the probability that the Kolmogorov distribution exceeds ``x``."""
    if x is None:
        return None
    if x < 0.2:
        return 1.0  # below 1e-12 from it
    if x < 1.18:
        # The series of the theta function converges here where the other one does not.
        y = math.exp(-math.pi * math.pi / (8 * x * x))
        return 1.0 - math.sqrt(2 * math.pi) / x * (y + y**9 + y**25 + y**49)
    y = math.exp(-2 * x * x)
    return 2 * (y - y**4 + y**9 - y**16)


def chi2_sf(value: float | None, freedom: int) -> float | None:
    """Return the probability that chi-squared with so many degrees of freedom exceeds ``value``.

    The regularised upper incomplete gamma function: its series below, its continued fraction (Lentz) above.
    """
    if value is None or freedom < 1:
        return None
    a, x = freedom / 2, value / 2
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        k = a
        while abs(term) > abs(total) * 1e-16:
            k += 1
            term *= x / k
            total += term
        return max(0.0, 1 - scale * total)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    fraction = d
    for i in range(1, 10_000):
        step = -i * (i - a)
        b += 2
        d = 1 / _nonzero(step * d + b, tiny)
        c = _nonzero(b + step / c, tiny)
        fraction *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return scale * fraction


def _nonzero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
