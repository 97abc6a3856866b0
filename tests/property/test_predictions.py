"""Every metric against an oracle that nobody here wrote, and states against their own parts."""

import math
import warnings

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import scipy.stats
import sklearn.metrics as sk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics_lake.predictions import (
    Binary,
    PredictionMetrics,
    finalize,
    merge_states,
    prediction_state,
)

SETTINGS = settings(max_examples=15, suppress_health_check=list(HealthCheck))
EXACT = 1e-9


def numbers(state, **options):
    """Return {metric: row} of the rows of all data."""
    rows = finalize(state, "all", **options).to_pylist()
    return {row["metric"]: row for row in rows if not row["segment"] and row["label"] is None}


def agrees(row, expected, *, slack=EXACT):
    """Return whether a row lies within its bound of the oracle's number."""
    if row["value"] is None:
        return expected is None or math.isnan(expected)
    if math.isinf(expected):
        return row["value"] == expected
    return abs(row["value"] - expected) <= row["bound"] * (1 + 1e-9) + slack * max(abs(expected), 1e-3)


def check(found, expected):
    wrong = {
        name: (found[name]["value"], value, found[name]["bound"])
        for name, value in expected.items()
        if not agrees(found[name], value)
    }
    assert not wrong


@st.composite
def scored(draw, *, weighted=False):
    """Scores with labels: continuous, tied, skewed, saturated, tiny or useless, of any prevalence."""
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.sampled_from([1, 2, 3, 10, 50, 400, 3000]))
    shape = draw(
        st.sampled_from(["uniform", "tied", "skewed", "saturated", "tiny", "near one", "constant", "float32"])
    )
    prevalence = draw(st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.97, 1.0]))
    rng = np.random.default_rng(seed)
    s = {
        "uniform": lambda: rng.random(size),
        "tied": lambda: rng.integers(0, 11, size) / 10,
        "skewed": lambda: rng.beta(0.05, 3, size),
        "saturated": lambda: np.clip(rng.normal(0.5, 0.8, size), 0, 1),
        "tiny": lambda: 10.0 ** -rng.integers(1, 320, size),
        "near one": lambda: 1 - 10.0 ** -rng.uniform(1, 17, size),
        "constant": lambda: np.full(size, rng.random()),
        "float32": lambda: rng.random(size).astype(np.float32).astype(float),
    }[shape]()
    skill = draw(st.sampled_from([0.0, 1.0]))
    y = rng.random(size) < (prevalence if not skill else np.clip(s * 2 * prevalence, 0, 1))
    w = rng.random(size) * draw(st.sampled_from([1.0, 1e-3, 1e6])) + 1e-9 if weighted else None
    return s, y, w


def binary_oracle(s, y, w=None, threshold=0.5):
    p = s >= threshold
    options = {"sample_weight": w}
    both = y.any() and not y.all()
    zero = {"zero_division": 0.0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": sk.accuracy_score(y, p, **options),
            "precision": sk.precision_score(y, p, **zero),
            "recall": sk.recall_score(y, p, **zero),
            "f1": sk.f1_score(y, p, **zero),
            "specificity": sk.recall_score(~y, ~p, **zero),
            "mcc": sk.matthews_corrcoef(y, p, **options),
            "log_loss": sk.log_loss(y, s, labels=[False, True], **options),
            "brier": sk.brier_score_loss(y, s, labels=[False, True], pos_label=True, **options),
            "average_precision": sk.average_precision_score(y, s, **options) if y.any() else math.nan,
            "roc_auc": sk.roc_auc_score(y, s, **options) if both else math.nan,
            "balanced_accuracy": sk.balanced_accuracy_score(y, p, **options) if both else math.nan,
        }
        if w is None and both:
            expected["ks"] = scipy.stats.ks_2samp(s[y], s[~y], method="asymp").statistic
    return expected


@SETTINGS
@given(scored())
def test_binary_scores(data):
    s, y, _ = data
    found = numbers(prediction_state({"s": s, "y": y}, score="s", truth="y"))
    check(found, binary_oracle(s, y))
    quantiles = {f"score_p{q:02d}": np.quantile(s, q / 100) for q in (1, 5, 25, 50, 75, 99)}
    check(found, quantiles)
    assert found["roc_auc"]["bound"] is None or found["roc_auc"]["bound"] <= 0.5
    if not y.any() or y.all():
        assert found["roc_auc"]["reason"] == "the truth has one class only"


@SETTINGS
@given(scored(weighted=True))
def test_weighted_binary_scores(data):
    s, y, w = data
    found = numbers(prediction_state({"s": s, "y": y, "w": w}, score="s", truth="y", weight="w"))
    check(found, binary_oracle(s, y, w))


@SETTINGS
@given(scored(), st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True))
def test_every_declared_threshold_is_exact(data, thresholds):
    s, y, _ = data
    task = Binary(threshold=thresholds)
    found = numbers(prediction_state({"s": s, "y": y}, score="s", truth="y", task=task))
    names = ("accuracy", "precision", "recall", "f1", "mcc")
    for i, threshold in enumerate(thresholds):
        expected = binary_oracle(s, y, threshold=threshold)
        short = f"{threshold:g}"
        told = short if float(short) == threshold else repr(threshold)
        suffix = f"@{told}" if len(thresholds) > 1 else ""
        check(found, {name + suffix: expected[name] for name in names})
        if i == 0:
            check(found, {name: expected[name] for name in names})


@SETTINGS
@given(scored(weighted=True), st.booleans())
def test_exact_values_are_exact(data, weighted):
    s, y, w = data
    frame = pl.DataFrame({"s": s, "y": y, "w": w})
    weight = "w" if weighted else None
    state = prediction_state(frame, score="s", truth="y", weight=weight, exact=True)
    found = numbers(state)
    expected = binary_oracle(s, y, w if weighted else None)
    for name in ("roc_auc", "average_precision"):
        assert agrees({**found[name], "bound": 0.0}, expected[name])
    if not weighted:
        assert found["score_p50"]["value"] == pytest.approx(np.quantile(s, 0.5), rel=1e-12)


@SETTINGS
@given(scored(), st.sampled_from([10, 12, 15, 20, 30, 60]))
def test_calibration_error(data, bins):
    s, y, _ = data
    found = numbers(prediction_state({"s": s, "y": y}, score="s", truth="y"), bins=bins)
    # Bins of equal width, closed below, the last closed above too.
    place = np.minimum(np.floor(s * 60).astype(int), 59) * bins // 60
    gaps = [abs(s[place == b].mean() - y[place == b].mean()) * (place == b).mean() for b in set(place)]
    assert agrees(found["ece"], sum(gaps))
    worst = max(abs(s[place == b].mean() - y[place == b].mean()) for b in set(place))
    assert agrees(found["mce"], worst)


@st.composite
def classified(draw):
    seed, size = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 5, 60, 900]))
    classes = draw(st.integers(2, 6))
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.full(classes, draw(st.sampled_from([0.1, 1.0]))), size)
    if draw(st.booleans()):
        truth = np.array([rng.choice(classes, p=row) for row in scores])
    else:
        truth = rng.integers(0, draw(st.integers(1, classes)), size)
    return scores, truth


def label_oracle(truth, decision):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": sk.accuracy_score(truth, decision),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, decision),
            "mcc": sk.matthews_corrcoef(truth, decision),
        }
        for name, function in (
            ("precision", sk.precision_score),
            ("recall", sk.recall_score),
            ("f1", sk.f1_score),
        ):
            for suffix in ("", "_weighted", "_micro"):
                average = suffix[1:] or "macro"
                expected[name + suffix] = function(truth, decision, average=average, zero_division=0.0)
    return expected


@SETTINGS
@given(classified())
def test_multiclass(data):
    scores, truth = data
    decision = scores.argmax(1)
    classes = list(range(scores.shape[1]))
    state = prediction_state(scores, truth=truth)
    found = numbers(state)
    check(found, label_oracle(truth, decision))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(found, {"log_loss": sk.log_loss(truth, scores, labels=classes)})
    one_hot = np.eye(len(classes))[truth]
    check(found, {"brier": ((scores - one_hot) ** 2).sum(1).mean()})
    per_class = {
        row["label"]: row
        for row in finalize(state).to_pylist()
        if row["metric"] == "roc_auc" and row["label"]
    }
    for c in classes:
        y = truth == c
        if y.any() and not y.all():
            assert agrees(per_class[str(c)], sk.roc_auc_score(y, scores[:, c]))
        else:
            assert per_class[str(c)]["value"] is None
    if len(classes) > 2 and len(set(truth)) == len(classes):
        check(
            found,
            {
                "roc_auc": sk.roc_auc_score(truth, scores, multi_class="ovr"),
                "roc_auc_weighted": sk.roc_auc_score(truth, scores, multi_class="ovr", average="weighted"),
            },
        )


@SETTINGS
@given(classified(), st.sampled_from(["str", "int", "bool"]))
def test_labels_alone(data, kind):
    scores, truth = data
    decision = scores.argmax(1)
    names = np.array(["a", "b\u00e9", "c c", "d", "e", "f"])
    if kind == "bool":
        found = numbers(prediction_state({"p": decision > 0, "t": truth > 0}, prediction="p", truth="t"))
        expected = binary_oracle(np.where(decision > 0, 1.0, 0.0), truth > 0)
        check(found, {name: expected[name] for name in ("accuracy", "precision", "recall", "f1", "mcc")})
        return
    p, t = (names[decision], names[truth]) if kind == "str" else (decision, truth)
    found = numbers(prediction_state({"p": p, "t": t}, prediction="p", truth="t", task="multiclass"))
    check(found, label_oracle(t, p))


@st.composite
def regressed(draw, *, weighted=False):
    seed, size = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 2, 3, 20, 400, 3000]))
    rng = np.random.default_rng(seed)
    offset = draw(st.sampled_from([0.0, 1.0, -3e3, 1e9]))
    scale = draw(st.sampled_from([1.0, 1e-6, 1e6, 1e150]))
    y = rng.normal(size=size) * scale + offset
    kind = draw(st.sampled_from(["noise", "constant", "tied", "heavy"]))
    if kind == "constant":
        # A power of two: of other numbers the oracle's own mean is off by a rounding.
        y = np.full(size, 2.0 ** round(math.log2(scale)))
    elif kind == "tied":
        y = np.round(y / scale) * scale
    elif kind == "heavy":
        y = offset + scale * rng.standard_cauchy(size)
    p = y + rng.normal(size=size) * scale * draw(st.sampled_from([0.0, 0.1, 3.0]))
    w = rng.random(size) + 0.1 if weighted else None
    return p, y, w


def regression_oracle(p, y, w=None):
    options = {"sample_weight": w}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        keep = np.abs(y) > 2.0**-52
        kept = None if w is None else w[keep]
        mass = np.ones(len(y)) if w is None else w
        total = np.abs(p) + np.abs(y)
        expected = {
            "mae": sk.mean_absolute_error(y, p, **options),
            "mse": sk.mean_squared_error(y, p, **options),
            "rmse": sk.root_mean_squared_error(y, p, **options),
            # Of shifted data: far from zero the oracle's own mean is rounded (ours agrees with fractions).
            "r2": sk.r2_score(y - y[0], p - y[0], **options) if len(y) > 1 else math.nan,
            "mean_error": np.average(p - y, weights=mass),
            "max_error": sk.max_error(y, p),
            "mape": sk.mean_absolute_percentage_error(y[keep], p[keep], sample_weight=kept)
            if keep.any()
            else math.nan,
            "smape": np.average(
                np.where(total > 0, 2 * np.abs(p - y) / np.where(total > 0, total, 1), 0), weights=mass
            ),
            "wape": (mass * np.abs(p - y)).sum() / (mass * np.abs(y)).sum()
            if (mass * np.abs(y)).any()
            else math.nan,
        }
        if w is None:
            expected["median_absolute_error"] = sk.median_absolute_error(y, p)
            expected["residual_p50"] = np.quantile(p - y, 0.5)
            expected["p95"] = np.quantile(p, 0.95)
            expected["std"] = (p - p[0]).std()
            expected["mean"] = p.mean()
    return expected


@SETTINGS
@given(regressed())
def test_regression(data):
    p, y, _ = data
    found = numbers(prediction_state({"p": p, "y": y}, prediction="p", truth="y", task="regression"))
    expected = regression_oracle(p, y)
    # What is lost in taking a difference of large numbers is lost by the oracle too.
    noise = 1e-14 * np.abs(y).max() + 1e-14 * np.abs(p).max()
    for name, value in expected.items():
        if name in {"mean_error", "residual_p50", "mean", "std"}:
            got, bound = found[name]["value"], found[name]["bound"]
            # Squares beyond the largest double are infinite in both.
            assert got == value or abs(got - value) <= bound + noise + EXACT * abs(value), name
        else:
            check(found, {name: value})


@SETTINGS
@given(regressed(weighted=True))
def test_weighted_regression(data):
    p, y, w = data
    state = prediction_state(
        {"p": p, "y": y, "w": w}, prediction="p", truth="y", weight="w", task="regression"
    )
    expected = regression_oracle(p, y, w)
    spread = np.average((y - np.average(y, weights=w)) ** 2, weights=w)
    if spread < 1e-6 * np.abs(y).max() ** 2:
        expected.pop("r2")  # the weighted spread is a difference of squares about a point near the data
    expected.pop("mean_error")
    check(numbers(state), expected)


MESSY = st.sampled_from([None, math.nan, math.inf, -math.inf, 0.0, 1.0, 0.25, 0.5, 1 - 2.0**-53, 5e-324])


@SETTINGS
@given(st.lists(st.tuples(MESSY, st.sampled_from([True, False, None])), max_size=40))
def test_unusable_rows_are_counted_and_change_nothing(rows):
    s = pl.Series("s", [row[0] for row in rows], dtype=pl.Float64)
    y = pl.Series("y", [row[1] for row in rows], dtype=pl.Boolean)
    frame = pl.DataFrame([s, y])
    state = prediction_state(frame, score="s", truth="y")
    found = PredictionMetrics(finalize(state), state)
    assert found.n == len(rows)
    assert found.excluded == {
        "null": s.null_count(),
        "nan": int(s.is_nan().sum()),
        "inf": int(s.is_infinite().sum()),
        "out_of_range": 0,
    }
    clean = frame.filter(pl.col("s").is_finite())
    alone = numbers(prediction_state(clean, score="s", truth="y"))
    for name, row in numbers(state).items():
        if not name.startswith("num_"):
            assert row["value"] == alone[name]["value"] or row["value"] == pytest.approx(alone[name]["value"])


# -- parts ------------------------------------------------------------------------------------------------

KINDS = {
    "binary": {"score": "s", "truth": "y", "by": [["c"], ["c", "d"]], "time": "t", "every": "1h"},
    "weighted": {"score": "s", "truth": "y", "by": "c", "weight": "w"},
    "multiclass": {"score": {"a": "s0", "b": "s1"}, "truth": "l", "by": "c"},
    "labels": {"prediction": "m", "truth": "l", "by": "c"},
    "regression": {"prediction": "x", "truth": "z", "by": "d", "task": "regression"},
    "numbers": {"prediction": "x", "by": "c"},
}


def table(seed, size):
    rng = np.random.default_rng(seed)
    s = rng.choice([rng.random(size), rng.integers(0, 5, size) / 4], axis=0)
    hour = rng.integers(0, 5, size) * 3_600_000_000 + rng.integers(0, 10**6, size)
    return pl.DataFrame(
        {
            "s": s, "y": rng.random(size) < s, "s0": s, "s1": 1 - s, "w": rng.random(size),
            "c": rng.choice(["x", "y", "z"], size), "d": rng.integers(0, 2, size),
            "l": rng.choice(["a", "b"], size), "m": rng.choice(["a", "b"], size),
            "x": rng.normal(size=size) * 3 + 7, "z": rng.normal(size=size) * 3 + 7,
            "t": pl.Series(hour).cast(pl.Datetime("us", "UTC")),
        }
    )  # fmt: skip


def assert_same_state(found: pa.Table, expected: pa.Table) -> None:
    """Compare two states: integers and texts equal, floats to 1e-12 relative."""
    for left, right in zip(found.to_pylist(), expected.to_pylist(), strict=True):
        for name in left:
            if name not in {"part_id", "params"}:
                assert_close(left[name], right[name], name)


def assert_close(left, right, name):
    if isinstance(left, float) and isinstance(right, float):
        assert left == pytest.approx(right, rel=1e-12, abs=1e-290), name
    elif isinstance(left, dict):
        for key in left:
            assert_close(left[key], right[key], f"{name}.{key}")
    elif isinstance(left, list):
        assert len(left) == len(right), name
        for one, other in zip(left, right, strict=True):
            assert_close(one, other, name)
    else:
        assert left == right, name


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 30, 700]),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_any_split_in_any_order_with_repeated_parts_gives_the_same_state(kind, seed, size, parts, random):
    data = table(seed, size)
    options = KINDS[kind]
    whole = prediction_state(data, **options)
    place = np.random.default_rng(seed + 1).integers(0, parts, size)
    states = [
        prediction_state(data.filter(place == part), part=str(part), **options)
        for part in range(parts)
        if (place == part).any()
    ]
    repeated = [*states, random.choice(states), random.choice(states)]
    random.shuffle(repeated)
    assert_same_state(merge_states(*repeated), whole)
    # A tree of merges instead of one.
    half = len(states) // 2
    if half:
        assert_same_state(merge_states(merge_states(*states[:half]), merge_states(*states[half:])), whole)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(1, 900))
def test_reader_gives_the_state_of_the_table(seed, batch):
    data = table(seed, 1000)
    options = {"score": "s", "truth": "y", "by": "c"}
    batches = (data.slice(start, batch) for start in range(0, 1000, batch))
    assert_same_state(prediction_state(batches, **options), prediction_state(data, **options))


# -- drift ------------------------------------------------------------------------------------------------


@SETTINGS
@given(regressed(), regressed())
def test_drift_of_numbers(left, right):
    a, b = left[0], right[0]
    found = numbers(prediction_state(a, task="regression"), reference=prediction_state(b, task="regression"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ks = scipy.stats.ks_2samp(a, b, method="asymp")
        assert agrees(found["drift/ks"], ks.statistic)
        distance = scipy.stats.wasserstein_distance(a, b)
    if math.isfinite(distance) and math.isfinite(found["drift/wasserstein"]["value"] or math.nan):
        assert agrees(found["drift/wasserstein"], distance)


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 400))
def test_drift_of_classes(seed, classes, size):
    rng = np.random.default_rng(seed)
    names = np.array([f"c{i}" for i in range(classes)])
    a, b = (
        names[rng.integers(0, classes, size)],
        names[rng.integers(0, rng.integers(1, classes + 1), 2 * size)],
    )
    found = numbers(prediction_state(a.tolist()), reference=prediction_state(b.tolist()))
    p = np.array([(a == name).mean() for name in names])
    q = np.array([(b == name).mean() for name in names])
    counts = np.array([[(side == name).sum() for name in names] for side in (a, b)])
    counts = counts[:, counts.sum(0) > 0]
    filled_p, filled_q = np.where(p > 0, p, 1e-4)[p + q > 0], np.where(q > 0, q, 1e-4)[p + q > 0]
    expected = {
        "drift/js": scipy.spatial.distance.jensenshannon(p, q, base=2),
        "drift/hellinger": math.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2),
        "drift/tvd": np.abs(p - q).sum() / 2,
        "drift/psi": ((filled_p - filled_q) * np.log(filled_p / filled_q)).sum(),
    }
    if counts.shape[1] > 1:
        chi2 = scipy.stats.chi2_contingency(counts, correction=False)
        expected |= {"drift/chi2": chi2.statistic, "drift/chi2_pvalue": chi2.pvalue}
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(
            value, rel=1e-9, abs=2e-8 if name == "drift/js" else 1e-12
        ), name
