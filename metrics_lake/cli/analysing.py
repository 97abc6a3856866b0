"""The commands that answer questions over many resources: ``best compare sql``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from metrics_lake.cli.missing import metric_found_nowhere, require_some, say_nothing_fits
from metrics_lake.cli.output import Rows, note, note_full_inbox, write_rows
from metrics_lake.cli.parameters import (
    at_option,
    exact_option,
    format_option,
    limit_option,
    patterns,
    tags_of,
    tags_options,
    value_of,
)
from metrics_lake.cli.place import LakeCommand, Place
from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["COMMANDS"]


@click.command(cls=LakeCommand, short_help="Rank resources by a metric.")
@click.argument("metric")
@click.option("--mode", type=click.Choice(("min", "max")), required=True, help="What is better.")
@click.option(
    "--by",
    type=click.Choice(("best", "last", "step")),
    default="best",
    show_default=True,
    help="Which value of a series counts.",
)
@click.option("--step", type=int, help="With --by step: which.")
@click.option("--resources", multiple=True, metavar="PATTERN", help="Only these; repeatable.")
@click.option("--where", metavar="SQL", help="""Only where this holds: '"params/lr" < 1e-3'.""")
@tags_options("Exactly the series with these tags; repeatable.", untagged=True)
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
@exact_option
@at_option
@format_option
@click.pass_obj
def best(
    place: Place,
    metric: str,
    mode: Any,
    by: Any,
    step: int | None,
    resources: tuple[str, ...],
    where: str | None,
    tags: tuple[str, ...],
    untagged: bool,
    top: int,
    exact: bool,
    at: Any,
    form: str | None,
) -> None:
    """Rank resources by a METRIC, the best first."""
    asked = patterns(resources, exact)
    with place.reading() as lake:
        result = lake.best(
            metric,
            mode=mode,
            by=by,
            step=step,
            resources=asked,
            where=where,
            tags=tags_of(tags, untagged),
            top=top,
            at=at,
        )
        shown = ("rank", "resource", "value", "step", "tags", "timestamp")
        rows = Rows.of_result(result, logged_names=("value",), shown=shown)
        if not write_rows(rows, form, limit=0):
            require_some(lake, asked, [metric])
            if where is None and not len(lake.history(asked, metric)):
                raise metric_found_nowhere(lake, metric)
            note("No resource has such a value.")


@click.command(cls=LakeCommand, short_help="A row a resource, a column a metric.")
@click.argument("resource")
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@click.option("--resources", multiple=True, metavar="PATTERN", help="More resources; repeatable.")
@click.option(
    "--stat",
    type=click.Choice(("last", "first", "min", "max", "mean", "count")),
    default="last",
    show_default=True,
    help="What a cell shows of its series.",
)
@click.option("--where", metavar="SQL", help="""Only where this holds: '"params/lr" < 1e-3'.""")
@tags_options("Exactly the series with these tags; repeatable.", untagged=True)
@exact_option
@at_option
@limit_option
@format_option
@click.pass_obj
def compare(
    place: Place,
    resource: str,
    metrics: tuple[str, ...],
    resources: tuple[str, ...],
    stat: Any,
    where: str | None,
    tags: tuple[str, ...],
    untagged: bool,
    exact: bool,
    at: Any,
    limit: int | None,
    form: str | None,
) -> None:
    """Print a row for each resource that fits and a column for each metric."""
    asked = patterns((resource, *resources), exact)
    with place.reading() as lake:
        several = patterns(metrics, exact)
        result = lake.compare(asked, several, stat=stat, where=where, tags=tags_of(tags, untagged), at=at)
        cells = [name for name in result.columns if name != "resource"]
        if not write_rows(Rows.of_result(result, logged_names=cells), form, limit):
            require_some(lake, asked)
            say_nothing_fits(lake, (resource, *resources))
        for name in metrics:
            if name in cells and all(each is None for each in result.values(name)):
                note(f"None of these resources has a metric {name!r}.")


@click.command(cls=LakeCommand, short_help="Run a SELECT over all points.")
@click.argument("query")
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="What $NAME in the query is; repeatable."
)
@click.option(
    "--frame",
    "frames",
    multiple=True,
    metavar="NAME=FILE",
    help="A Parquet or CSV file that the query may join as NAME; repeatable.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds; 0 is no limit."
)
@at_option
@limit_option
@format_option
@click.pass_obj
def sql(
    place: Place,
    query: str,
    params: tuple[str, ...],
    frames: tuple[str, ...],
    timeout: float,
    at: Any,
    limit: int | None,
    form: str | None,
) -> None:
    """Run one SELECT over the views metrics, latest, series and params. A QUERY of - is read from stdin."""
    text = sys.stdin.read() if query == "-" else query
    bound = {name: value_of(value) for name, value in _pairs(params, "--param")}
    joined = {name: _frame(path) for name, path in _pairs(frames, "--frame")}
    with place.reading() as lake:
        result = lake.sql(text, bound or None, frames=joined or None, at=at, timeout_seconds=timeout or None)
        note_full_inbox(result)
        if not write_rows(Rows.of_reader(result.reader()), form, limit):
            note("No rows.")


def _pairs(given: Iterable[str], option: str) -> list[tuple[str, str]]:
    pairs = [each.partition("=") for each in given]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise click.BadParameter(f"{name!r} is not NAME=VALUE", param_hint=f"'{option}'")
    return [(name, value) for name, _, value in pairs]


def _frame(path: str) -> Any:
    import pyarrow as pa

    try:
        if path.endswith(".parquet"):
            import pyarrow.parquet as pq

            return pq.read_table(path)
        import pyarrow.csv

        return pyarrow.csv.read_csv(path)
    except pa.ArrowInvalid as error:
        raise InvalidInputError(
            f"{path} cannot be read: {error}.", hint="Give a .parquet or .csv file."
        ) from error


COMMANDS: Final = (best, compare, sql)
