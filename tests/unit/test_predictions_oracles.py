"""Certified data sets, published definitions and other libraries, each against the finalised numbers."""

import math
import sys

import numpy as np
import polars as pl
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from metrics_lake.predictions import finalize, prediction_state
from metrics_lake.predictions.curves_binary import _digamma_difference
from metrics_lake.predictions.drift import chi2_sf, kolmogorov_sf

# Michelson's 100 measurements of the speed of light in air less 299,000 km/s; NIST StRD "Michelso".
MICHELSON = [
    850, 740, 900, 1070, 930, 850, 950, 980, 980, 880, 1000, 980, 930, 650, 760, 810, 1000, 1000, 960, 960,
    960, 940, 960, 940, 880, 800, 850, 880, 900, 840, 830, 790, 810, 880, 880, 830, 800, 790, 760, 800,
    880, 880, 880, 860, 720, 720, 620, 860, 970, 950, 880, 910, 850, 870, 840, 840, 850, 840, 840, 840,
    890, 810, 810, 820, 800, 770, 760, 740, 750, 760, 910, 920, 890, 860, 880, 720, 840, 850, 850, 780,
    890, 840, 780, 810, 760, 810, 790, 810, 820, 850, 870, 870, 810, 740, 810, 940, 950, 800, 810, 870,
]  # fmt: skip


def numbers(state, **options):
    rows = finalize(state, "all", **options).to_pylist()
    return {row["metric"]: row for row in rows if not row["segment"] and row["label"] is None}


# NIST StRD, univariate summary statistics: data, certified mean, certified standard deviation (n - 1).
NIST = {
    "Michelso": ([299 + value / 1000 for value in MICHELSON], 299.852400000000, 0.0790105478190518),
    "NumAcc1": ([10000001, 10000003, 10000002], 10000002.0, 1.0),
    "NumAcc2": ([1.2, *([1.1, 1.3] * 500)], 1.2, 0.1),
    "NumAcc3": ([1000000.2, *([1000000.1, 1000000.3] * 500)], 1000000.2, 0.1),
    "NumAcc4": ([10000000.2, *([10000000.1, 10000000.3] * 500)], 10000000.2, 0.1),
}


@pytest.mark.parametrize("name", NIST)
def test_certified_mean_and_standard_deviation(name):
    data, mean, deviation = NIST[name]
    found = numbers(prediction_state([float(value) for value in data], task="regression"))
    n = len(data)
    assert found["mean"]["value"] == pytest.approx(mean, rel=1e-15)
    # The data themselves are rounded to doubles: 1e-9 of the deviation of NumAcc3, 1e-8 of NumAcc4.
    rounding = 2.0**-52 * mean / deviation
    assert found["std"]["value"] * math.sqrt(n / (n - 1)) == pytest.approx(
        deviation, rel=max(1e-13, rounding)
    )


def test_moments_keep_their_digits_far_from_zero():
    rng = np.random.default_rng(0)
    y = 1e15 + rng.integers(-1000, 1000, 5000).astype(float)
    p = y + rng.integers(-3, 4, 5000)
    state = prediction_state({"p": p, "y": y}, prediction="p", truth="y", task="regression")
    expected = 1 - ((p - y) ** 2).sum() / ((y - 1e15) - (y - 1e15).mean()).__pow__(2).sum()
    assert numbers(state)["r2"]["value"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_interval(confidence):
    rng = np.random.default_rng(1)
    y, s = rng.random(137) < 0.4, rng.random(137)
    found = numbers(prediction_state({"s": s, "y": y}, score="s", truth="y"), confidence=confidence)
    p = s >= 0.5
    for name, hits, size in (
        ("accuracy", (p == y).sum(), 137),
        ("precision", (p & y).sum(), p.sum()),
        ("recall", (p & y).sum(), y.sum()),
    ):
        low, high = proportion_confint(hits, size, alpha=1 - confidence, method="wilson")
        assert found[name]["low"] == pytest.approx(low, rel=1e-12)
        assert found[name]["high"] == pytest.approx(high, rel=1e-12)


def delong(s, y):
    """DeLong's variance by its definition: every positive against every negative."""
    positive, negative = s[y], s[~y]
    wins = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
    return wins.mean(), wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative)


@pytest.mark.parametrize("size", [40, 113, 2000])
@pytest.mark.parametrize("shape", ["tied", "continuous"])
def test_delong_interval(shape, size):
    rng = np.random.default_rng(size)
    s = rng.integers(0, 30, size) / 30 if shape == "tied" else rng.random(size)
    y = rng.random(size) < 0.2 + 0.6 * s
    auc, variance = delong(s, y)
    row = numbers(prediction_state({"s": s, "y": y}, score="s", truth="y"))["roc_auc"]
    half = scipy.stats.norm.ppf(0.975) * math.sqrt(variance)
    # Inside a cell the order is not known: with ties alone, everything is exact.
    slack = 1e-12 if shape == "tied" else 5e-4
    assert row["value"] == pytest.approx(auc, abs=row["bound"] + 1e-12)
    assert row["low"] == pytest.approx(max(auc - half, 0), abs=slack)
    assert row["high"] == pytest.approx(min(auc + half, 1), abs=slack)


def test_special_functions():
    for freedom in (1, 2, 5, 40, 999):
        for x in (1e-3, 0.5, 1.0, 4.0, 39.0, 200.0, 1200.0):
            assert chi2_sf(x, freedom) == pytest.approx(scipy.stats.chi2.sf(x, freedom), rel=1e-9, abs=1e-14)
    for x in (0.01, 0.19, 0.21, 0.5, 1.0, 1.17, 1.19, 2.0, 5.0):
        assert kolmogorov_sf(x) == pytest.approx(scipy.special.kolmogorov(x), rel=1e-9, abs=1e-12)
    frame = pl.DataFrame({"x": [1.0, 1.5, 3.0, 250.0, 1e7] * 4, "n": [1.0, 9.0, 10.0, 11.0, 1e6] * 4})
    frame = frame.with_columns(n=pl.col("n").reverse())
    found = frame.select(_digamma_difference(pl.col("x"), pl.col("n"))).to_series()
    expected = [scipy.special.digamma(x + n) - scipy.special.digamma(x) for x, n in frame.iter_rows()]
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    exact = [math.fsum(1 / (x + k) for k in range(int(n))) for x, n in frame.head(5).iter_rows()]
    np.testing.assert_allclose(found.head(5), exact, rtol=1e-13)


def psi_by_quantiles(a, b, edges):
    """The population stability index over given edges, an empty share taken for 1e-4."""
    p = np.histogram(a, edges)[0] / len(a)
    q = np.histogram(b, edges)[0] / len(b)
    p, q = (np.where(share == 0, 1e-4, share) for share in (p, q))
    return float(((p - q) * np.log(p / q)).sum())


def test_psi_of_few_values_by_its_definition():
    # Ten values, evenly frequent in the reference: the quantile bins are the values.
    rng = np.random.default_rng(3)
    b = np.repeat(np.arange(10) / 16, 100)
    a = rng.choice(np.arange(8) / 16, 700)
    found = numbers(prediction_state(a, task="regression"), reference=prediction_state(b, task="regression"))
    expected = psi_by_quantiles(a, b, np.append(np.arange(10) / 16 - 1 / 32, 1.0))
    assert found["drift/psi"]["value"] == pytest.approx(expected, rel=1e-12)
    shares = [
        np.histogram(side, np.append(np.arange(10) / 16 - 1 / 32, 1.0))[0] / len(side) for side in (a, b)
    ]
    assert found["drift/js"]["value"] == pytest.approx(
        scipy.spatial.distance.jensenshannon(*shares, base=2), rel=1e-12
    )


def test_psi_of_a_shift_is_near_that_of_exact_deciles():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.2, 1.1, 50_000), rng.normal(size=50_000)
    found = numbers(prediction_state(a), reference=prediction_state(b))
    edges = np.quantile(b, np.linspace(0, 1, 11))
    edges[0], edges[-1] = -np.inf, np.inf
    assert found["drift/psi"]["value"] == pytest.approx(psi_by_quantiles(a, b, edges), rel=0.05)


def test_segment_without_a_reference_says_so():
    state = prediction_state({"p": [1.5, 2.5], "c": ["a", "b"]}, prediction="p", by="c")
    reference = prediction_state({"p": [1.5], "c": ["a"]}, prediction="p", by="c")
    rows = [row for row in finalize(state, reference=reference).to_pylist() if row["metric"] == "drift/psi"]
    reasons = {dict(row["segment"]).get("c"): row["reason"] for row in rows}
    assert reasons == {None: None, "a": None, "b": "the reference has no such segment"}


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # what torch and torchmetrics say of each other is not ours
def test_torchmetrics_agree():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional")
    rng = np.random.default_rng(5)
    s = rng.random(5000).astype(np.float32)
    y = rng.random(5000) < s
    found = numbers(prediction_state({"s": torch.tensor(s), "y": torch.tensor(y)}, score="s", truth="y"))
    preds, target = torch.tensor(s), torch.tensor(y.astype(int))
    expected = {
        "roc_auc": functional.auroc(preds, target, task="binary"),
        "average_precision": functional.average_precision(preds, target, task="binary"),
        "ece": functional.calibration_error(preds, target, task="binary", n_bins=15, norm="l1"),
        "mce": functional.calibration_error(preds, target, task="binary", n_bins=15, norm="max"),
        "f1": functional.f1_score(preds, target, task="binary"),
        "mcc": functional.matthews_corrcoef(preds, target, task="binary"),
        "kappa": functional.cohen_kappa(preds, target, task="binary"),
    }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(float(value), abs=1e-6 + found[name]["bound"]), name


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_torch_give_what_arrays_give():
    torch = pytest.importorskip("torch")
    big = 2**53 + 1
    for tensor, plain in (
        (torch.tensor([0.5, 1.25], requires_grad=True), [0.5, 1.25]),
        (torch.tensor([0.5, 1.25], dtype=torch.bfloat16), [0.5, 1.25]),
        (torch.tensor([big, 1]), [big, 1]),
        (torch.tensor([True, False]), [True, False]),
    ):
        assert numbers(prediction_state(tensor)) == numbers(prediction_state(plain))


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # its imports are of numpy's former names
def test_evidently_psi_of_classes():
    """Evidently's own function where it is installed."""
    utils = pytest.importorskip("evidently.legacy.calculations.stattests.psi")
    pandas = sys.modules["pandas"]
    rng = np.random.default_rng(6)
    a, b = (rng.choice(list("abcd"), 3000, p=p) for p in ([0.1, 0.2, 0.3, 0.4], [0.25] * 4))
    value, _ = utils._psi(pandas.Series(b), pandas.Series(a), "cat", 0.1)
    found = numbers(prediction_state(a.tolist()), reference=prediction_state(b.tolist()))
    assert found["drift/psi"]["value"] == pytest.approx(value, rel=1e-9)
