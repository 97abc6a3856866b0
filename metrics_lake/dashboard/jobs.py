"""The page about prediction jobs: what there is to choose from, and how its panels stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.dashboard.look import beside, panel, stack
from metrics_lake.panels import prediction_jobs, prediction_windows, predictions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metrics_lake import MetricsLake

__all__ = ["TOGETHER", "job_choices", "lengths", "page", "segments"]

TOGETHER: Final = "nothing"
"""By what predictions are divided where they are not."""

_MULTIPLES: Final = (1, 7, 28)
_SIDE_BY_SIDE: Final = ("ROC curve", "Precision-recall curve", "Calibration", "Confusion matrix")


def job_choices(lake: MetricsLake) -> list[dict[str, Any]]:
    """Return ``resource``, ``segments`` and ``every`` of the prediction jobs, the newest first.

    Raises:
        MetricsLakeError: The lake cannot be read.
    """
    rows = sorted(prediction_jobs(lake).to_pylist(), key=lambda row: row["last_timestamp"], reverse=True)
    return [{name: row[name] for name in ("resource", "segments", "every")} for row in rows]


def segments(jobs: Sequence[dict[str, Any]], chosen: Sequence[str]) -> list[str]:
    """Return by what the predictions of chosen jobs can be divided, ``TOGETHER`` first."""
    own = [set(job["segments"]) for job in jobs if job["resource"] in chosen]
    return [TOGETHER, *sorted(set.intersection(*own))] if own else [TOGETHER]


def lengths(jobs: Sequence[dict[str, Any]], chosen: Sequence[str]) -> list[str]:
    """Return the lengths of windows that chosen jobs have, and some multiples.

    >>> lengths([{"resource": "churn/1", "every": "1d"}], ["churn/1"])
    ['1d', '7d', '28d']
    """
    for job in jobs:
        if job["resource"] in chosen and (found := re.fullmatch(r"(\d+)(\D+)", job["every"] or "")):
            return [f"{int(found[1]) * each}{found[2]}" for each in _MULTIPLES]
    return []


def page(
    lake: MetricsLake, chosen: Sequence[str], *, by: str, every: str | None, reference: str | None, dark: bool
) -> Any:
    """Return the panels of chosen jobs: squares beside one another, what is wide below.

    Raises:
        MetricsLakeError: The lake cannot be read, or the jobs cannot be put together.
    """
    asked: dict[str, Any] = {"by": None if by == TOGETHER else by, "reference": reference, "dark": dark}
    found = predictions(lake, list(chosen), width="container", **asked)
    squares = [each for each in found if each.title in _SIDE_BY_SIDE]
    wide = [each for each in found if each.title not in _SIDE_BY_SIDE]
    if every is not None:
        wide[1:1] = prediction_windows(lake, list(chosen), every=every, width="container", **asked)
    return stack(
        [
            *(panel(each) for each in wide[:1]),
            beside([panel(each) for each in squares], gap=2, align="start"),
            *(panel(each) for each in wide[1:]),
        ],
        gap=1.5,
    )
