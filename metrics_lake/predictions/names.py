"""The names of all metrics, each with what it is: the one table of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions._arguments import listed
from metrics_lake.predictions._text import near

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["METRICS", "base_name", "need_cells", "wanted"]

METRICS: Final[dict[str, str]] = {
    "num_predictions": "all rows, unusable ones included",
    "num_null": "predictions that are NULL",
    "num_nan": "predictions that are NaN",
    "num_inf": "predictions that are infinite",
    "num_out_of_range": "scores outside [0, 1]",
    "num_ground_truth_observations": "usable predictions that have a usable truth",
    "num_truth_nan": "usable predictions whose truth is NaN",
    "num_truth_inf": "usable predictions whose truth is infinite",
    "num_unmatched": "late labels whose key no prediction has",
    "num_relabelled": "keys that had different late labels",
    "num_tiny_truth": "rows that mape leaves out",
    "num_not_normalised": "rows whose class scores do not sum to 1",
    "num_classes": "how many classes are predicted",
    "coverage": "share of the usable predictions that have a truth",
    "class_distribution": "share of each predicted class",
    "class_counts": "rows of each predicted class",
    "entropy": "of class_distribution, in nats",
    "mean_confidence": "mean score of the more likely class",
    "score_mean": "mean score of the positive class",
    "score_min": "least score",
    "score_max": "greatest score",
    "score_p": "quantiles of the score",
    "accuracy": "share of right decisions",
    "balanced_accuracy": "mean recall of the classes",
    "precision": "right among those predicted positive",
    "recall": "found among the positives",
    "specificity": "found among the negatives",
    "f1": "harmonic mean of precision and recall",
    "precision_weighted": "precision, weighted by true class",
    "recall_weighted": "recall, weighted by true class",
    "f1_weighted": "f1, weighted by true class",
    "precision_micro": "precision over all classes together",
    "recall_micro": "recall over all classes together",
    "f1_micro": "f1 over all classes together",
    "mcc": "Matthews' correlation of truth and decision",
    "kappa": "Cohen's kappa",
    "confusion": "rows for each pair of true and predicted class",
    "roc_auc": "area under the ROC curve; of several classes the macro mean of one versus rest",
    "roc_auc_weighted": "the same, weighted by true class",
    "gini": "2 roc_auc - 1",
    "ks": "greatest distance of the two classes' score distributions",
    "average_precision": "mean precision over the recall",
    "average_precision_weighted": "the same, weighted by true class",
    "log_loss": "mean negative log of the true class's score",
    "brier": "mean squared error of the score",
    "ece": "expected calibration error",
    "mce": "maximum calibration error",
    "mean": "mean prediction",
    "std": "standard deviation of the predictions",
    "min": "least prediction",
    "max": "greatest prediction",
    "p": "quantiles of the predictions",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "rmse": "root of mse",
    "r2": "share of the truth's variance that is explained",
    "explained_variance": "the same, any constant error aside",
    "pearson": "correlation of truth and prediction",
    "mean_error": "mean of prediction less truth",
    "max_error": "greatest absolute error",
    "median_absolute_error": "median absolute error",
    "mape": "mean error relative to the truth",
    "smape": "mean error relative to the mean magnitude of both",
    "wape": "sum of absolute errors relative to the sum of the truths' magnitudes",
    "residual_p": "quantiles of prediction less truth",
    "estimated/accuracy": "accuracy expected from the scores, which the reference's truth calibrates",
    "estimated/balanced_accuracy": "the same for balanced_accuracy",
    "estimated/precision": "the same for precision",
    "estimated/recall": "the same for recall",
    "estimated/specificity": "the same for specificity",
    "estimated/f1": "the same for f1",
    "estimated/mcc": "the same for mcc",
    "estimated/roc_auc": "the same for roc_auc",
    "estimated/average_precision": "the same for average_precision",
    "estimated/log_loss": "the same for log_loss",
    "estimated/brier": "the same for brier",
    "drift/psi": "population stability index",
    "drift/ks": "greatest distance of the two distributions",
    "drift/ks_pvalue": "asymptotic p-value of drift/ks",
    "drift/js": "Jensen-Shannon distance",
    "drift/hellinger": "Hellinger distance",
    "drift/wasserstein": "first Wasserstein distance",
    "drift/chi2": "chi-squared statistic of homogeneity",
    "drift/chi2_pvalue": "its p-value",
    "drift/tvd": "total variation distance",
}
"""Every metric by name. ``p`` stands for ``p01`` to ``p99``; ``@threshold`` and ``/column`` may follow."""

_EXTRA: Final = ("mce", "gini", "ks", "kappa", "mse", "explained_variance", "class_counts",
                 "drift/hellinger", "drift/tvd", "precision_micro", "recall_micro")  # fmt: skip
"""Not in the default set."""


_FROM_CELLS: Final = frozenset({
    "score_p", "p", "residual_p", "median_absolute_error", "roc_auc", "roc_auc_weighted", "gini", "ks",
    "average_precision", "average_precision_weighted", "log_loss",
    # Of whole numbers that could be classes.
    "class_distribution", "class_counts", "entropy", "num_classes",
})  # fmt: skip
"""What cannot be computed without the cells of a state: nearly all of its bytes."""


QUANTILES: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def quantile_name(q: float) -> str:
    """Return ``p50`` for 0.5, ``p99.9`` for 0.999."""
    return f"p{q * 100:04.1f}".replace(".0", "") if q < 1 else "p100"


_QUANTILE_NAMES: Final = frozenset(map(quantile_name, QUANTILES))


def base_name(name: str) -> str:
    """Return the name in the table for a name with parameters: ``f1`` for ``f1@0.3``."""
    base, at, threshold = name.partition("@")
    if at and not _is_number(threshold):
        return name
    if base.startswith("drift/"):
        return "/".join(base.split("/")[:2])
    stem = base.rstrip("0123456789.")
    return (
        stem if stem in {"p", "score_p", "residual_p"} and base[len(stem) - 1 :] in _QUANTILE_NAMES else base
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def wanted(metrics: str | Sequence[str]) -> Callable[[str], bool]:
    """Return what tells by its name whether a metric is wanted.

    Raises:
        InvalidInputError: A name is not known.
    """
    if metrics == "all":
        return lambda name: True
    if metrics == "default":
        return lambda name: base_name(name) not in _EXTRA
    names = _known(metrics)
    # A stem asks for all of its kind: "p" for every quantile, "drift/psi" for every column.
    stems = {name for name in names if name in METRICS}
    return lambda name: (
        name in names or (base_name(name) in stems and "@" not in name and base_name(name) != name)
    )


def need_cells(metrics: str | Sequence[str]) -> bool:
    """Return whether any of the wanted metrics is computed from the cells of states.

    Raises:
        InvalidInputError: A name is not known.
    """
    if metrics in ("all", "default"):
        return True
    return any("/" in name or base_name(name) in _FROM_CELLS for name in _known(metrics))


def _known(metrics: str | Sequence[str]) -> list[str]:
    names = listed(metrics)
    for name in names:
        if not isinstance(name, str) or base_name(name) not in METRICS:
            raise InvalidInputError(
                f"metrics: {name!r} is not known.{near(str(name), METRICS)}",
                hint="Pass 'default', 'all' or names of metrics.",
                argument="metrics",
            )
    return names
