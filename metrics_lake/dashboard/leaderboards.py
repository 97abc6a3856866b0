"""The page about leaderboards: the series to choose among, and how its panels stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake.dashboard.look import careful, panel, stack
from metrics_lake.panels import leaderboard, parameters

if TYPE_CHECKING:
    from metrics_lake import MetricsLake

__all__ = ["page", "slices"]

MAX_SLICES: Final = 200
_ROWS: Final = 200

_SLICES: Final = f"""
    SELECT tags_key, any_value(tags) AS tags FROM series
    WHERE metric = $metric GROUP BY tags_key ORDER BY tags_key LIMIT {MAX_SLICES}
"""


def slices(lake: MetricsLake, metric: str) -> dict[str, dict[str, str]]:
    """Return the series among which a leaderboard of a metric has to choose, by what they are called.

    Raises:
        MetricsLakeError: The lake cannot be read.
    """
    rows = lake.sql(_SLICES, {"metric": metric}).rows()
    return {_called(row["tags"] or {}): row["tags"] or {} for row in rows}


def page(
    lake: MetricsLake,
    metric: str,
    *,
    mode: Literal["max", "min"],
    by: Literal["best", "last"],
    resources: Any,
    where: str | None,
    tags: dict[str, str] | None,
    dark: bool,
) -> Any:
    """Return the leaderboard of a metric, and the parameters beside it below, or why there are none.

    Raises:
        MetricsLakeError: There is no leaderboard.
    """
    asked: dict[str, Any] = {"resources": resources, "where": where, "tags": tags, "dark": dark}
    asked["width"] = "container"
    stat = "last" if by == "last" else mode
    board = leaderboard(lake, metric, mode=mode, by=by, top=_ROWS, **asked)
    return stack(
        [
            panel(board, frozen=["rank", "resource"]),
            careful(lambda: panel(parameters(lake, metric, stat=stat, **asked), frozen=["resource"])),
        ]
    )


def _called(tags: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in tags.items()) or "untagged"
