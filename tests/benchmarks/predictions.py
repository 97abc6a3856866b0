"""Prediction metrics against what else computes them, side by side in one run.

    python tests/benchmarks/predictions.py [--rows 1_000_000 10_000_000] [--repeats 3]
    python tests/benchmarks/predictions.py --parquet 100_000_000 [--folder /tmp/predictions-benchmark]
    python tests/benchmarks/predictions.py --days 30

Prints seconds of wall and CPU time, the peak memory of a process of its own, and each one's time as a
multiple of ours. What each side computes:

* *Ours*: rows that are NULL, NaN, infinite or out of range and rows without a truth, counted apart and left
  out. For scores mean, ends, nine quantiles, class shares and entropy; confusion, accuracy, precision,
  recall, specificity (Wilson's intervals), F1, balanced accuracy, MCC, kappa; ROC AUC with DeLong's interval,
  Gini, KS, average precision; log loss with an interval, Brier score, mean and greatest calibration error of
  15 bins.
  For numbers mean, deviation, ends and nine quantiles; MAE, RMSE, R², Pearson, MAPE, sMAPE, WAPE, bias,
  greatest and median error, nine quantiles of the residuals. A proved error bound of everything that is not
  exact, and the state to merge. ``exact`` sorts, and has no bounds to need.
* *DuckDB*: the same set from the same kind of histogram, in SQL. Not the bounds of average precision, KS and
  quantiles; its cells have edges by ``log2`` in place of the bits, which SQL does not show. Quantiles of
  numbers are t-digests without any bound. *Exact*: as one would write it without cells, sorted, the numbers
  of the scikit-learn set and Gini, KS, specificity; no counts of what was left out, no intervals.
* *scikit-learn* and *numpy*: exact values of what the functions below name; no row is looked at for NULL, NaN
  or range (scikit-learn checks and refuses NaN), no intervals, KS or Gini.
* *whylogs*, *Evidently*: their own sets.

``--days`` merges stored states instead, one a day with 20 segments of 50,000 rows, to ROC AUC of each segment
over all days; *DuckDB* does so in the SQL of ``merge_states``' docstring, without bounds and intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SEGMENTS = 20
DAYS = "days of states"


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def scored(rows: int, seed: int = 0) -> pl.DataFrame:
    """Scores of a fair model, their labels and one of 20 segments, in no order."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=rows) * 1.5 - 1
    segment = pl.Series(rng.integers(0, SEGMENTS, rows, dtype=np.uint8)).cast(pl.String)
    return pl.DataFrame(
        {
            "s": 1 / (1 + np.exp(-z - 0.5 * rng.normal(size=rows))),
            "y": rng.random(rows) < 1 / (1 + np.exp(-z)),
            "segment": "s" + segment,
        }
    )


def regressed(rows: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    p = rng.normal(size=rows) * 10 + 50
    return pl.DataFrame({"p": p, "t": p + rng.normal(size=rows)})


# -- ours -------------------------------------------------------------------------------------------------


def ours(data: Any, **options: Any) -> dict[str, float]:
    from metrics_lake.predictions import PredictionMetrics, finalize, prediction_state

    state = prediction_state(data, **options)
    return dict(PredictionMetrics(finalize(state), state))


def ours_binary(data: Any) -> dict[str, float]:
    return ours(data, score="s", truth="y")


def ours_exact(data: Any) -> dict[str, float]:
    return ours(data, score="s", truth="y", exact=True)


def ours_segments(data: Any) -> dict[str, float]:
    return ours(data, score="s", truth="y", by="segment")


def ours_regression(data: Any) -> dict[str, float]:
    return ours(data, prediction="p", truth="t", task="regression")


# -- scikit-learn -----------------------------------------------------------------------------------------


def sklearn_binary(data: pl.DataFrame) -> dict[str, float]:
    from sklearn import metrics as sk

    s, y = data["s"].to_numpy(), data["y"].to_numpy()
    decision = s >= 0.5
    found = {
        "roc_auc": sk.roc_auc_score(y, s),
        "average_precision": sk.average_precision_score(y, s),
        "log_loss": sk.log_loss(y, s),
        "brier": sk.brier_score_loss(y, s),
        "accuracy": sk.accuracy_score(y, decision),
        "balanced_accuracy": sk.balanced_accuracy_score(y, decision),
        "precision": sk.precision_score(y, decision),
        "recall": sk.recall_score(y, decision),
        "f1": sk.f1_score(y, decision),
        "mcc": sk.matthews_corrcoef(y, decision),
        "kappa": sk.cohen_kappa_score(y, decision),
    }
    sk.confusion_matrix(y, decision)
    place = np.minimum((s * 15).astype(int), 14)
    gap = np.abs(np.bincount(place, s, 15) - np.bincount(place, y, 15))
    found["ece"] = gap.sum() / len(s)
    return found | _numpy_quantiles(s, "score_")


def sklearn_regression(data: pl.DataFrame) -> dict[str, float]:
    from sklearn import metrics as sk

    p, t = data["p"].to_numpy(), data["t"].to_numpy()
    total = np.abs(p) + np.abs(t)
    return {
        "mae": sk.mean_absolute_error(t, p),
        "rmse": sk.root_mean_squared_error(t, p),
        "r2": sk.r2_score(t, p),
        "explained_variance": sk.explained_variance_score(t, p),
        "mape": sk.mean_absolute_percentage_error(t, p),
        "max_error": sk.max_error(t, p),
        "median_absolute_error": sk.median_absolute_error(t, p),
        "smape": float((2 * np.abs(p - t) / total).mean()),
        "mean": float(p.mean()),
        **_numpy_quantiles(p, ""),
        **_numpy_quantiles(p - t, "residual_"),
    }


# -- a numpy floor ----------------------------------------------------------------------------------------


def numpy_binary(data: pl.DataFrame) -> dict[str, float]:
    """Everything from one argsort, which no exact ranking measure can do without."""
    s, y = data["s"].to_numpy(), data["y"].to_numpy()
    order = np.argsort(s)
    s, y = s[order], y[order].astype(np.int64)
    ends = np.flatnonzero(np.append(np.diff(s) != 0, True))
    up = np.cumsum(y)[ends]
    down = ends + 1 - up
    up0, down0 = np.append(0, up[:-1]), np.append(0, down[:-1])
    p, q = up[-1], down[-1]
    at, everything = p - up0, p + q - up0 - down0
    first = np.searchsorted(s, 0.5)
    fn, tn = y[:first].sum(), first - y[:first].sum()
    tp, fp = p - fn, q - tn
    share = np.clip(np.where(y == 1, s, 1 - s), 2.0**-52, 1 - 2.0**-52)
    place = np.minimum((s * 15).astype(int), 14)
    gap = np.abs(np.bincount(place, s, 15) - np.bincount(place, y, 15))
    found = {
        "roc_auc": float(((up - up0) * (down0 + down)).sum() / 2 / (p * q)),
        "average_precision": float(((up - up0) * at / everything).sum() / p),
        "log_loss": float(-np.log(share).mean()),
        "brier": float(((s - y) ** 2).mean()),
        "accuracy": float((tp + tn) / len(s)),
        "precision": float(tp / (tp + fp)),
        "recall": float(tp / p),
        "f1": float(2 * tp / (2 * tp + fp + fn)),
        "ece": float(gap.sum() / len(s)),
    }
    place_of = np.array(QUANTILES) * (len(s) - 1)
    low = place_of.astype(int)
    values = s[low] + (s[np.minimum(low + 1, len(s) - 1)] - s[low]) * (place_of - low)
    return found | {f"score_p{int(q * 100):02d}": float(v) for q, v in zip(QUANTILES, values, strict=True)}


def numpy_regression(data: pl.DataFrame) -> dict[str, float]:
    p, t = data["p"].to_numpy(), data["t"].to_numpy()
    r = p - t
    size, magnitude = np.abs(r), np.abs(t)
    spread = t - t.mean()
    return {
        "mae": float(size.mean()),
        "rmse": float(np.sqrt((r * r).mean())),
        "r2": float(1 - (r * r).sum() / (spread * spread).sum()),
        "mape": float((size / magnitude).mean()),
        "smape": float((2 * size / (np.abs(p) + magnitude)).mean()),
        "wape": float(size.sum() / magnitude.sum()),
        "mean_error": float(r.mean()),
        "max_error": float(size.max()),
        "median_absolute_error": float(np.median(size)),
        "mean": float(p.mean()),
        "std": float(p.std()),
        **_numpy_quantiles(p, ""),
        **_numpy_quantiles(r, "residual_"),
    }


def _numpy_quantiles(values: np.ndarray, prefix: str) -> dict[str, float]:
    found = np.quantile(values, QUANTILES)
    return {f"{prefix}p{int(q * 100):02d}": float(v) for q, v in zip(QUANTILES, found, strict=True)}


# -- DuckDB -----------------------------------------------------------------------------------------------


def _spread(found: str, prefix: str) -> str:
    """Return the SQL that names each of a list of quantiles."""
    return ", ".join(f"{found}[{i + 1}] AS {prefix}p{int(q * 100):02d}" for i, q in enumerate(QUANTILES))


_DUCKDB_CELLS = """
    SELECT {keys} CASE WHEN s BETWEEN 0 AND 1 THEN 0 WHEN s IS NULL THEN 1 WHEN isnan(s) THEN 2
                       WHEN isinf(s) THEN 3 ELSE 4 END AS status,
           CASE WHEN s < 0.0625 THEN floor(log2(greatest(s, 1e-300)) * 128)
                WHEN s < 0.9375 THEN 1e6 + floor(s * 4096)
                ELSE 2e6 - floor(log2(greatest(1 - s, 1e-300)) * 128) END AS cell,
           least(floor(s * 60), 59) AS bin, s >= 0.5 AS yhat, y, count(*) AS n, sum(s) AS s,
           sum((s - y::INT) * (s - y::INT)) AS se,
           sum(-ln(least(greatest(CASE WHEN y THEN s ELSE 1 - s END, 2.2e-16), 1 - 2.2e-16))) AS ll,
           min(s) AS low, max(s) AS high
    FROM data GROUP BY ALL
"""

_DUCKDB_BINARY = f"""
WITH parts AS MATERIALIZED ({_DUCKDB_CELLS.format(keys="")}),
usable AS MATERIALIZED (FROM parts WHERE status = 0),
known AS MATERIALIZED (FROM usable WHERE y IS NOT NULL),
counts AS (
    SELECT sum(n) AS num_predictions, coalesce(sum(n) FILTER (status = 1), 0) AS num_null,
           coalesce(sum(n) FILTER (status = 2), 0) AS num_nan,
           coalesce(sum(n) FILTER (status = 3), 0) AS num_inf,
           coalesce(sum(n) FILTER (status = 4), 0) AS num_out_of_range,
           sum(n) FILTER (status = 0 AND y IS NOT NULL) AS num_ground_truth_observations FROM parts
), distribution AS (
    SELECT sum(s) / sum(n) AS score_mean, min(low) AS score_min, max(high) AS score_max,
           sum(CASE WHEN bin >= 30 THEN s ELSE n - s END) / sum(n) AS mean_confidence,
           coalesce(sum(n) FILTER (yhat), 0) / sum(n) AS share,
           -(share * ln(share) + (1 - share) * ln(1 - share)) AS entropy FROM usable
), cells AS (
    SELECT cell, coalesce(sum(n) FILTER (y), 0) AS n1, coalesce(sum(n) FILTER (NOT y), 0) AS n0, sum(n) AS n,
           min(low) AS low, max(high) AS high FROM usable GROUP BY cell
), ranked AS (
    SELECT *, sum(n) OVER w - n AS below, sum(n0) OVER w - n0 AS below0, sum(n1) OVER w - n1 AS below1,
           sum(n1) OVER () AS all1, sum(n0) OVER () AS all0, (below0 + n0 / 2) / all0 AS v10,
           (all1 - below1 - n1 / 2) / all1 AS v01, ln(greatest((low + high) / 2, 2.2e-16)) AS ln1,
           ln(greatest(1 - (low + high) / 2, 2.2e-16)) AS ln0 FROM cells WINDOW w AS (ORDER BY cell)
), curves AS (
    SELECT any_value(all1) AS p, any_value(all0) AS q, sum(n1 * v10) / p AS roc_auc,
           1.96 * sqrt((sum(n1 * v10 * v10) - p * roc_auc * roc_auc) / (p - 1) / p
                       + (sum(n0 * v01 * v01) - q * roc_auc * roc_auc) / (q - 1) / q) AS roc_auc_delong,
           coalesce(sum(n0 * n1) FILTER (low < high), 0) / 2 / (p * q) AS roc_auc_bound,
           2 * roc_auc - 1 AS gini,
           sum(n1 * (all1 - below1 - n1 / 2) / (all1 + all0 - below1 - below0 - (n0 + n1) / 2)) / p
               AS average_precision,
           max(abs((below1 + n1) / all1 - (below0 + n0) / all0)) AS ks,
           1.96 * sqrt(((sum(n1 * ln1 * ln1) + sum(n0 * ln0 * ln0)) / (p + q)
                        - power((sum(n1 * ln1) + sum(n0 * ln0)) / (p + q), 2)) / (p + q)) AS log_loss_half
    FROM ranked
), places AS (
    SELECT list(low + (high - low) * (place - below) / n ORDER BY place) AS found,
           {_spread("found", "score_")}
    FROM ranked, (SELECT unnest({list(QUANTILES)}) * (SELECT sum(n) - 1 FROM usable) AS place)
    WHERE place >= below AND place < below + n
), bins AS (
    SELECT floor(bin / 4) AS bin, sum(n) AS n, abs(sum(s) - coalesce(sum(n) FILTER (y), 0)) AS gap
    FROM known GROUP BY ALL
), calibration AS (SELECT sum(gap) / sum(n) AS ece, max(gap / n) AS mce FROM bins),
four AS (
    SELECT coalesce(sum(n) FILTER (y AND yhat), 0)::DOUBLE AS tp, sum(n)::DOUBLE AS total,
           coalesce(sum(n) FILTER (NOT y AND yhat), 0)::DOUBLE AS fp,
           coalesce(sum(n) FILTER (y AND NOT yhat), 0)::DOUBLE AS fn, total - tp - fp - fn AS tn,
           sum(ll) / total AS log_loss, sum(se) / total AS brier FROM known
), decisions AS (
    SELECT *, (tp + tn) / total AS accuracy, tp / (tp + fp) AS precision, tp / (tp + fn) AS recall,
           tn / (tn + fp) AS specificity, 2 * tp / (2 * tp + fp + fn) AS f1,
           (recall + specificity) / 2 AS balanced_accuracy,
           (tp * tn - fp * fn) / sqrt((tp + fp) * (tp + fn)) / sqrt((tn + fp) * (tn + fn)) AS mcc,
           ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / total AS chance,
           (tp + tn - chance) / (total - chance) AS kappa,
           list_transform(
               [[accuracy, total], [precision, tp + fp], [recall, tp + fn], [specificity, tn + fp]],
               lambda x: list_transform(
                   [-1.96, 1.96],
                   lambda z: (x[1] + 1.92 / x[2] + z * sqrt((x[1] * (1 - x[1]) + 0.96 / x[2]) / x[2]))
                             / (1 + 3.84 / x[2])
               )
           ) AS intervals
    FROM four
)
FROM counts, distribution, curves, places, calibration, decisions
"""

_DUCKDB_EXACT = f"""
WITH known AS MATERIALIZED (SELECT s, y FROM data WHERE s BETWEEN 0 AND 1 AND y IS NOT NULL),
ranked AS (
    SELECT n1, n0, sum(n1) OVER () AS p, sum(n0) OVER () AS q,
           sum(n1) OVER w - n1 AS below1, sum(n0) OVER w - n0 AS below0
    FROM (SELECT s, count_if(y) AS n1, count_if(NOT y) AS n0 FROM known GROUP BY s) WINDOW w AS (ORDER BY s)
), curves AS (
    SELECT sum(n1 * (below0 + n0 / 2)) / any_value(p * q) AS roc_auc, 2 * roc_auc - 1 AS gini,
           sum(n1 * (p - below1) / (p + q - below1 - below0)) / any_value(p) AS average_precision,
           max(abs((below1 + n1) / p - (below0 + n0) / q)) AS ks
    FROM ranked
), bins AS (
    SELECT sum(s) - count_if(y) AS gap, count(*) AS n FROM known GROUP BY least(floor(s * 15), 14)
), calibration AS (SELECT sum(abs(gap)) / sum(n) AS ece, max(abs(gap) / n) AS mce FROM bins),
four AS (
    SELECT count_if(y AND s >= 0.5)::DOUBLE AS tp, count_if(NOT y AND s >= 0.5)::DOUBLE AS fp,
           count_if(y AND s < 0.5)::DOUBLE AS fn, count_if(NOT y AND s < 0.5)::DOUBLE AS tn,
           avg((s - y::INT) ** 2) AS brier, avg(s) AS score_mean, min(s) AS score_min, max(s) AS score_max,
           -avg(ln(least(greatest(CASE WHEN y THEN s ELSE 1 - s END, 2.2e-16), 1 - 2.2e-16))) AS log_loss,
           quantile_cont(s, {list(QUANTILES)}) AS found FROM known
)
SELECT *, {_spread("found", "score_")},
       (tp + tn) / (tp + fp + fn + tn) AS accuracy, tp / (tp + fp) AS precision, tp / (tp + fn) AS recall,
       tn / (tn + fp) AS specificity, 2 * tp / (2 * tp + fp + fn) AS f1,
       (recall + specificity) / 2 AS balanced_accuracy,
       (tp * tn - fp * fn) / sqrt((tp + fp) * (tp + fn)) / sqrt((tn + fp) * (tn + fn)) AS mcc
FROM curves, calibration, four
"""

_DUCKDB_REGRESSION = f"""
WITH found AS (
    SELECT count(*) AS num_predictions, count(*) FILTER (p IS NULL) AS num_null,
           count(*) FILTER (isnan(p)) AS num_nan, count(*) FILTER (isinf(p)) AS num_inf,
           count(*) FILTER (t IS NULL OR NOT isfinite(t)) AS num_without_truth,
           avg(p) FILTER (isfinite(p)) AS mean, stddev_pop(p) FILTER (isfinite(p)) AS std,
           min(p) FILTER (isfinite(p)) AS min, max(p) FILTER (isfinite(p)) AS max,
           avg(abs(r)) AS mae, sqrt(avg(r * r)) AS rmse, avg(r) AS mean_error, max(abs(r)) AS max_error,
           1 - sum(r * r) / (var_pop(t) FILTER (r IS NOT NULL) * count(r)) AS r2,
           corr(p, t) FILTER (r IS NOT NULL) AS pearson,
           avg(abs(r) / abs(t)) FILTER (abs(t) > 2.2e-16) AS mape,
           count(*) FILTER (abs(t) <= 2.2e-16) AS num_tiny_truth,
           avg(2 * abs(r) / (abs(p) + abs(t))) FILTER (abs(p) + abs(t) > 0) AS smape,
           sum(abs(r)) / sum(abs(t)) FILTER (r IS NOT NULL) AS wape,
           approx_quantile(abs(r), 0.5) AS median_absolute_error,
           approx_quantile(p, {list(QUANTILES)}) FILTER (isfinite(p)) AS quantiles,
           approx_quantile(r, {list(QUANTILES)}) AS residual_quantiles
    FROM (SELECT p, t, CASE WHEN isfinite(p) AND isfinite(t) THEN p - t END AS r FROM data)
)
SELECT *, {_spread("quantiles", "")}, {_spread("residual_quantiles", "residual_")} FROM found
"""


def _duckdb(data: pl.DataFrame | pa.Table, sql: str) -> dict[str, float]:
    table = data if isinstance(data, pa.Table) else data.to_arrow()
    with duckdb.connect() as con:
        con.register("data", table)
        row = con.sql(sql).to_arrow_table().to_pylist()[0]
    return {name: float(value) for name, value in row.items() if isinstance(value, (float, int, Decimal))}


def duckdb_binary(data: pl.DataFrame) -> dict[str, float]:
    return _duckdb(data, _DUCKDB_BINARY)


def duckdb_exact(data: pl.DataFrame) -> dict[str, float]:
    return _duckdb(data, _DUCKDB_EXACT)


def duckdb_segments(data: pl.DataFrame) -> dict[str, float]:
    """The state alone, summed up so that no column is pruned."""
    cells = _DUCKDB_CELLS.format(keys="segment,")
    return _duckdb(data, f"SELECT sum(n + s + se + ll + low + high + bin) AS all_of_it FROM ({cells})")


def duckdb_regression(data: pl.DataFrame) -> dict[str, float]:
    return _duckdb(data, _DUCKDB_REGRESSION)


# -- whylogs, Evidently -----------------------------------------------------------------------------------


def whylogs_profile(data: pl.DataFrame) -> dict[str, float]:
    import whylogs

    view = whylogs.log(pandas=data.select(pl.col(pl.Float64)).to_pandas()).view()
    return {"n": float(view.to_pandas()["counts/n"].iloc[0])}


def evidently_binary(data: pl.DataFrame) -> dict[str, float]:
    from evidently import BinaryClassification, DataDefinition, Dataset, Report
    from evidently.presets import ClassificationPreset

    frame = data.select(target=pl.col("y").cast(pl.Int8), prediction_probas="s").to_pandas()
    definition = DataDefinition(
        classification=[BinaryClassification(target="target", prediction_probas="prediction_probas")]
    )
    result = Report([ClassificationPreset()]).run(
        Dataset.from_pandas(frame, data_definition=definition), None
    )
    return {"metrics": float(len(result.dict()["metrics"]))}


# -- stored states ----------------------------------------------------------------------------------------

_DUCKDB_MERGED = """
WITH cells AS (
    SELECT segment_key, unnest(cells, recursive := true) FROM data WHERE state = 'scores'
), merged AS (
    SELECT segment_key, cell, coalesce(sum(n) FILTER (y = 1), 0) AS n1,
           coalesce(sum(n) FILTER (y = 0), 0) AS n0 FROM cells GROUP BY ALL
), ranked AS (
    SELECT *, sum(n0) OVER (PARTITION BY segment_key ORDER BY cell) - n0 AS below FROM merged
)
SELECT sum(roc_auc) AS sum_of_areas FROM (
    SELECT segment_key, sum(n1 * (below + n0 / 2)) / (sum(n1) * sum(n0)) AS roc_auc FROM ranked GROUP BY ALL
)
"""


def stored(days: int) -> pa.Table:
    """Return the states of that many days."""
    from metrics_lake.predictions import prediction_state

    states = [
        prediction_state(scored(50_000, seed=day), score="s", truth="y", by="segment", part=str(day))
        for day in range(days)
    ]
    return pa.concat_tables(states)


def ours_merged(states: pa.Table) -> dict[str, float]:
    from metrics_lake.predictions import finalize

    found = finalize(states, ["roc_auc"], by="segment")
    return {"sum_of_areas": sum(found.column("value").to_pylist())}


def duckdb_merged(states: pa.Table) -> dict[str, float]:
    return _duckdb(states, _DUCKDB_MERGED)


CASES: dict[str, tuple[Callable[[int], Any], dict[str, Callable[[Any], dict[str, float]]]]] = {
    "binary": (
        scored,
        {
            "ours": ours_binary,
            "ours, exact": ours_exact,
            "scikit-learn": sklearn_binary,
            "numpy floor": numpy_binary,
            "DuckDB": duckdb_binary,
            "DuckDB, exact": duckdb_exact,
            "whylogs (profile only)": whylogs_profile,
            "Evidently": evidently_binary,
        },
    ),
    "20 segments": (scored, {"ours": ours_segments, "DuckDB (state only)": duckdb_segments}),
    "regression": (
        regressed,
        {
            "ours": ours_regression,
            "scikit-learn": sklearn_regression,
            "numpy": numpy_regression,
            "DuckDB": duckdb_regression,
            "whylogs (profile only)": whylogs_profile,
        },
    ),
    DAYS: (stored, {"ours": ours_merged, "DuckDB": duckdb_merged}),
}


def measured(case: str, rival: str, rows: int, repeats: int) -> dict[str, float]:
    """Return the least wall and CPU seconds of some repeats, and the peak memory with the data, in MB."""
    make, rivals = CASES[case]
    data = make(rows)
    rivals[rival](data[:1000])  # imports, caches
    _forget_peak()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        rivals[rival](data)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": min(walls), "cpu": min(cpus), "peak": _peak_mb()}


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, in which Linux counts what the parent held when it started this process.
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / (1 << 10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _forget_peak() -> None:
    """Let the peak start at what the process holds now, where the system can: making data takes more."""
    marks = Path("/proc/self/clear_refs")
    if marks.exists():
        marks.write_text("5")


def _in_a_process(arguments: list[str]) -> dict[str, float] | str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(rows: list[int], cases: list[str], rivals: list[str] | None, repeats: int) -> None:
    for size in rows:
        for case in cases:
            what = f"{size:,} {case}" if case == DAYS else f"{case}, {size:,} rows"
            tell(f"\n{what}: wall s, CPU s, peak MB, times ours")
            base = None
            for rival in CASES[case][1]:
                if rivals and rival != "ours" and not any(name in rival for name in rivals):
                    continue
                found = _in_a_process(["--one", case, rival, str(size), str(repeats)])
                if isinstance(found, str):
                    tell(f"  {rival:24} does not run: {found[:90]}")
                    continue
                base = base or found
                tell(
                    f"  {rival:24} {found['wall']:8.3f} {found['cpu']:8.3f} {found['peak']:8.0f} "
                    f"{found['wall'] / base['wall']:8.1f}"
                )


def write_parquet(path: Path, rows: int, batch: int = 5_000_000) -> None:
    writer = None
    for start in range(0, rows, batch):
        table = scored(min(batch, rows - start), seed=start).to_arrow()
        table = table.cast(pa.schema([("s", pa.float64()), ("y", pa.bool_()), ("segment", pa.string())]))
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=500_000)
    if writer is not None:
        writer.close()


def _reader(path: Path) -> pa.RecordBatchReader:
    file = pq.ParquetFile(path, pre_buffer=False)
    return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(1 << 18))


SCANS: dict[str, tuple[Callable[[Any], dict[str, float]], Callable[[Path], Any]]] = {
    "binary": (ours_binary, Path),
    "20 segments": (ours_segments, Path),
    "20 segments, lazy frame": (ours_segments, pl.scan_parquet),
    "20 segments, reader": (ours_segments, _reader),
}


def scan_parquet(path: Path, case: str) -> dict[str, float]:
    """Return what one pass over a file takes, in this process: by its path, or as what reads it."""
    wall, cpu = time.perf_counter(), time.process_time()
    compute, source = SCANS[case]
    compute(source(path))
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": _peak_mb()}


def stream(folder: Path, rows: int) -> None:
    path = folder / f"{rows}.parquet"
    if not path.exists():
        write_parquet(path, rows)
    tell(
        f"\nParquet, {rows:,} rows, {path.stat().st_size / 1e9:.2f} GB: wall s, CPU s, peak MB of the process"
    )
    for case in SCANS:
        found = _in_a_process(["--scan", str(path), case])
        if isinstance(found, str):
            tell(f"  {case:24} {found}")
        else:
            tell(f"  {case:24} {found['wall']:8.2f} {found['cpu']:8.2f} {found['peak']:8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--cases", nargs="*", default=[case for case in CASES if case != DAYS])
    parser.add_argument("--days", type=int)
    parser.add_argument("--rivals", nargs="*")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parquet", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--scan", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case, rival, rows, repeats = options.one
        tell(json.dumps(measured(case, rival, int(rows), int(repeats))))
    elif options.scan:
        tell(json.dumps(scan_parquet(Path(options.scan[0]), options.scan[1])))
    elif options.days:
        compare([options.days], [DAYS], None, options.repeats)
    elif options.parquet:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            stream(folder, options.parquet)
    else:
        tell(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        compare(options.rows, options.cases, options.rivals, options.repeats)


if __name__ == "__main__":
    main()
