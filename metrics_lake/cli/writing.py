"""The commands that write points: ``log copy``."""

from __future__ import annotations

from typing import Any, Final

import click

from metrics_lake.charts import counted
from metrics_lake.cli.output import write_report
from metrics_lake.cli.parameters import INSTANT, format_option, tags_of, tags_options, value_of
from metrics_lake.cli.place import LakeCommand, Place

__all__ = ["COMMANDS"]


_EXAMPLES: Final = """\
\b
metrics-lake log digits/mlp-3 valid/acc 0.98 valid/loss 0.05 --step 12
metrics-lake log digits/mlp-3 confusion '[[50, 2], [1, 47]]' --json
"""


@click.command(cls=LakeCommand, epilog=_EXAMPLES, short_help="Log values of a resource.")
@click.argument("resource")
@click.argument("pairs", nargs=-1, required=True, metavar="METRIC VALUE...")
@click.option("--step", type=int, help="Where on the x axis.")
@click.option("--timestamp", type=INSTANT, help="When: 2026-11-22T08:30 (UTC), POSIX seconds or an age. Now.")
@tags_options("A tag of the points; repeatable.")
@click.option("--string", is_flag=True, help="Every VALUE is a text, whatever it looks like.")
@click.option("--json", "is_json", is_flag=True, help="Every VALUE is JSON: lists and objects too.")
@click.pass_obj
def log(
    place: Place,
    resource: str,
    pairs: tuple[str, ...],
    step: int | None,
    timestamp: Any,
    tags: tuple[str, ...],
    string: bool,
    is_json: bool,
) -> None:
    """Log one or more values of RESOURCE at one time, all or none, and publish them.

    A VALUE is a JSON scalar (0.25, 3, true, null, "text"), also nan and inf, else the text itself. If the
    store is down the points are kept in the journal, and the next command publishes them.
    """
    if len(pairs) % 2:
        raise click.UsageError(f"METRIC {pairs[-1]!r} has no VALUE")
    if string and is_json:
        raise click.UsageError("--string and --json exclude each other")
    metrics: dict[str, Any] = {}
    for id, text in zip(pairs[::2], pairs[1::2], strict=True):
        if id in metrics:
            raise click.UsageError(f"METRIC {id!r} is given twice")
        metrics[id] = value_of(text, is_string=string, is_json=is_json)
    with place.writing() as lake:
        lake.log_metrics(
            resource, metrics, step=step, timestamp=timestamp, tags=tags_of(tags), separator=None
        )


@click.command(cls=LakeCommand, short_help="Copy whole histories to another resource.")
@click.argument("from_resource", metavar="FROM")
@click.argument("to_resource", metavar="TO")
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@format_option
@click.pass_obj
def copy(
    place: Place, from_resource: str, to_resource: str, metrics: tuple[str, ...], form: str | None
) -> None:
    """Copy the points of FROM, whole histories, to TO; repeating it adds nothing."""
    with place.writing() as lake:
        points = lake.copy_metrics(from_resource, to_resource, metrics=list(metrics) or None)
    added = f"{counted(points, 'point')} added to {to_resource}."
    write_report(
        {"from": from_resource, "to": to_resource, "points": points},
        form,
        added if points else f"{to_resource} has them already.",
    )


COMMANDS: Final = (log, copy)
