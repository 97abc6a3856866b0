"""The commands that read points: ``get ls history export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from metrics_lake.charts import counted
from metrics_lake.cli.cells import json_cell, logged
from metrics_lake.cli.missing import (
    metric_not_found,
    require_some,
    resource_not_found,
    say_nothing_fits,
)
from metrics_lake.cli.output import Rows, chosen_format, note, note_full_inbox, write, write_rows
from metrics_lake.cli.parameters import (
    FORMATS,
    STEPS,
    at_option,
    exact_option,
    format_option,
    instants_options,
    limit_option,
    pattern,
    patterns,
    tags_of,
    tags_options,
)
from metrics_lake.cli.place import LakeCommand, Place
from metrics_lake.printing import printable
from metrics_lake.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["COMMANDS"]

_HISTORY: Final = ("resource", "metric", "tags", "step", "timestamp", "value")
_SHOWN: Final = ("resource", "metric", "tags", "step", "value", "timestamp")
"""In a table the timestamp goes below, if anything must."""
_FULL: Final = ("kind", "text", "tags_key", "writer", "seq", "origin")
_EXPORTED: Final = (
    "resource",
    "metric",
    "tags",
    "step",
    "timestamp",
    "value",
    "kind",
    "writer",
    "seq",
    "origin",
)
_SUFFIXES: Final = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}
_ABSENT: Final = object()


@click.command(cls=LakeCommand, short_help="Print latest values.")
@click.argument("resource")
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@click.option("--step", type=int, help="Only points of this step.")
@tags_options("Exactly the series with these tags; repeatable.", untagged=True)
@click.option(
    "--order-by",
    type=click.Choice(("timestamp", "step")),
    default="timestamp",
    show_default=True,
    help="What latest means.",
)
@at_option
@format_option
@click.option("--raw", is_flag=True, help="Print one value with no quotes around a text.")
@click.pass_obj
def get(
    place: Place,
    resource: str,
    metrics: tuple[str, ...],
    step: int | None,
    tags: tuple[str, ...],
    untagged: bool,
    order_by: Any,
    at: Any,
    form: str | None,
    raw: bool,
) -> None:
    """Print the latest value of METRIC, or of all metrics of RESOURCE.

    One value is printed as it is, exactly: as JSON, or as a row in CSV and Parquet.
    """
    chosen = tags_of(tags, untagged)
    if not metrics and (step is not None or order_by != "timestamp"):
        raise click.UsageError("--step and --order-by need a METRIC")
    with place.reading() as lake:
        if metrics:
            found = {
                id: lake.get_metric(
                    resource, id, default=_ABSENT, step=step, tags=chosen, order_by=order_by, at=at
                )
                for id in dict.fromkeys(metrics)
            }
            for id, value in found.items():
                if value is _ABSENT:
                    raise metric_not_found(lake, resource, id)
        else:
            found = lake.latest_metrics(resource, tags=chosen, at=at)
            if not found:
                raise resource_not_found(lake, resource)
    asked = chosen_format(form)
    if len(metrics) == 1 and asked not in {"csv", "parquet"}:
        (value,) = found.values()
        if isinstance(value, str) and (raw or asked == "table"):
            click.echo(value if raw else printable(value))
        else:
            click.echo(json_cell(logged(value)))
        return
    rows = [{"resource": resource, "metric": id, "value": logged(value)} for id, value in found.items()]
    write_rows(Rows.of_dicts(rows, ("resource", "metric", "value"), shown=("metric", "value")), form, limit=0)


@click.command(cls=LakeCommand, short_help="List resources.")
@click.argument("resources", nargs=-1, metavar="[RESOURCE]...")
@exact_option
@limit_option
@format_option
@click.pass_obj
def ls(place: Place, resources: tuple[str, ...], exact: bool, limit: int | None, form: str | None) -> None:
    """List the resources, or those that fit, with counts and times."""
    asked = patterns(resources, exact)
    with place.reading() as lake:
        shown = ("resource", "metrics", "points", "last_step", "last_timestamp")
        rows = Rows.of_result(lake.resources(asked), shown=shown)
        if not write_rows(rows, form, limit):
            require_some(lake, asked)
            say_nothing_fits(lake, resources)


@click.command(cls=LakeCommand, short_help="Print every point, in order.")
@click.argument("resource")
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@exact_option
@click.option("--steps", type=STEPS, help="A step, or steps as in Python: 7, 0:100, 100:, 0:100:10.")
@instants_options
@tags_options("Only series with these tags among theirs; repeatable.")
@click.option(
    "--repeats",
    type=click.Choice(("all", "last")),
    default="all",
    show_default=True,
    help="last: only the newest point of each step, as after a resumed run.",
)
@click.option("--smooth", type=float, help="Weight of the past in a moving average, 0 to below 1.")
@click.option("--downsample", type=int, help="At most so many points a series, shape kept (M4).")
@click.option("--full", is_flag=True, help="With kind, text, tags_key, writer, seq and origin.")
@at_option
@limit_option
@format_option
@click.pass_obj
def history(
    place: Place,
    resource: str,
    metrics: tuple[str, ...],
    exact: bool,
    steps: Any,
    since: Any,
    until: Any,
    tags: tuple[str, ...],
    repeats: Any,
    smooth: float | None,
    downsample: int | None,
    full: bool,
    at: Any,
    limit: int | None,
    form: str | None,
) -> None:
    """Print every point of the resources and metrics that fit, in order."""
    with place.reading() as lake:
        one, several = pattern(resource, exact), patterns(metrics, exact)
        result = lake.history(
            one,
            several,
            steps=steps,
            since=since,
            until=until,
            tags=tags_of(tags),
            repeats=repeats,
            smooth=smooth,
            downsample=downsample,
            full=True,
            at=at,
        )
        total = result.notes.get("total_points") if downsample else None
        more = _FULL if full else ()
        rows = Rows.of_points(result.reader(), _HISTORY + more, shown=_SHOWN + more)
        note_full_inbox(result)
        count = write_rows(rows, form, limit)
        if not count:
            require_some(lake, [one], several)
            say_nothing_fits(lake, (resource, *metrics))
        elif total:
            note(f"{counted(count, 'point')} stand for {total:,}.")


@click.command(cls=LakeCommand, short_help="Write points to a Parquet, CSV or JSONL file.")
@click.argument("resource")
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@exact_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; else stdout."
)
@click.option("--steps", type=STEPS, help="A step, or steps as in Python: 0:100.")
@instants_options
@tags_options("Only series with these tags among theirs; repeatable.")
@at_option
@click.option(
    "--format",
    "form",
    type=click.Choice([each for each in FORMATS if each != "table"]),
    help="The format; else the file's ending says it, else jsonl.",
)
@click.pass_obj
def export(
    place: Place,
    resource: str,
    metrics: tuple[str, ...],
    exact: bool,
    output: Path | None,
    steps: Any,
    since: Any,
    until: Any,
    tags: tuple[str, ...],
    at: Any,
    form: str | None,
) -> None:
    """Write all points that fit, with all that the lake knows of them: kind, writer, seq, origin.

    The values are exact in Parquet and JSON. Where nothing fits or something fails there is no file.
    """
    chosen = form or _format_of(output)
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal: name a file with --output")
    with place.reading() as lake:
        one, several = pattern(resource, exact), patterns(metrics, exact)
        result = lake.history(
            one, several, steps=steps, since=since, until=until, tags=tags_of(tags), full=True, at=at
        )
        # An estimate for the bar: what the resources have in all.
        total = sum(lake.resources(one).values("points")) if sys.stderr.isatty() else 0
        rows = Rows.of_points(result.reader(), _EXPORTED)
        with progress_bar("exporting") as report:

            def told(done: int) -> None:
                if report is not None:
                    report(done, max(total, done))

            if output is None:
                count = write(rows, chosen, sys.stdout.buffer, told)
                sys.stdout.buffer.flush()
            else:
                count = _write_file(rows, chosen, output, told)
        if not count:
            require_some(lake, [one], several)
            say_nothing_fits(lake, (resource, *metrics))
        elif output is not None:
            note(f"{counted(count, 'point')} in {output} ({output.stat().st_size:,} bytes).")


# -----------------------------------------------------------------------------------------------------------


def _write_file(rows: Rows, form: str, output: Path, progress: Callable[[int], object]) -> int:
    temporary = output.with_name(f".{output.name}.part")
    try:
        with temporary.open("wb") as stream:
            count = write(rows, form, stream, progress)
        if count:
            temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _format_of(output: Path | None) -> str:
    if output is None:
        return "jsonl"
    found = _SUFFIXES.get(output.suffix.lower())
    if found is None:
        raise click.UsageError(
            f"the ending of {output.name!r} says no format: "
            "end it in .parquet, .csv or .jsonl, or use --format"
        )
    return found


COMMANDS: Final = (get, ls, history, export)
