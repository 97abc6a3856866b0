"""The command that writes a report: ``report``."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from metrics_lake.cli.missing import require_some
from metrics_lake.cli.output import note
from metrics_lake.cli.parameters import at_option, exact_option, patterns
from metrics_lake.cli.place import LakeCommand, Place

__all__ = ["report"]


@click.command(cls=LakeCommand, short_help="Write one HTML file that shows the lake.")
@click.argument("resources", nargs=-1, metavar="[RESOURCE]...")
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="The file, which is replaced; - is standard output."
)
@click.option("--metric", "metrics", multiple=True, metavar="PATTERN", help="Only these; repeatable.")
@click.option("--best", metavar="METRIC", help="What the leaderboard ranks by; literal.")
@click.option("--mode", type=click.Choice(("min", "max")), help="What is better; else both orders are shown.")
@click.option("-x", type=click.Choice(("step", "relative", "timestamp")), help="The x axis of curves.")
@click.option(
    "--smooth", type=click.FloatRange(0, 1, max_open=True), help="How much the past weighs in curves."
)
@click.option("--title", help="The page's title.")
@exact_option
@at_option
@click.pass_obj
def report(
    place: Place,
    resources: tuple[str, ...],
    output: str,
    metrics: tuple[str, ...],
    best: str | None,
    mode: Any,
    x: Any,
    smooth: float | None,
    title: str | None,
    exact: bool,
    at: Any,
) -> None:
    """Write one HTML file about all resources, or those that fit, which any browser shows without a network.

    It needs metrics-lake[report]. Runs, curves, a leaderboard, parameters, predictions, the table's state.
    """
    asked = patterns(resources, exact)
    is_stream = output == "-"
    begun = time.monotonic()
    with place.reading() as lake:
        require_some(lake, asked)
        size_bytes = lake.report(
            sys.stdout.buffer if is_stream else output,
            resources=asked,
            metrics=patterns(metrics, exact),
            title=title,
            best=best,
            mode=mode,
            x=x,
            smooth=smooth,
            at=at,
        )
    if not is_stream:
        note(f"Wrote {output}: {size_bytes / 1000:,.0f} kB in {time.monotonic() - begun:.1f} s.")
