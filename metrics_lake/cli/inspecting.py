"""The commands that look at what lies under the url: ``files verify``."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import click

from metrics_lake.cli.codes import INTEGRITY
from metrics_lake.cli.output import Rows, chosen_format, note, write_rows
from metrics_lake.cli.parameters import format_option, table_option
from metrics_lake.cli.place import LakeCommand, Place
from metrics_lake.cli.words import in_shell

__all__ = ["COMMANDS"]


@click.command(cls=LakeCommand, short_help="List the objects that hold the points.")
@table_option
@click.option(
    "--limit", type=click.IntRange(min=0), help="At most so many rows; 0 is all. A table shows 200."
)
@format_option
@click.pass_obj
def files(place: Place, table: str | None, limit: int | None, form: str | None) -> None:
    """List the objects that hold the points that count: what any engine reads for an exact answer."""
    with place.reading() as lake:
        result = lake.inspect.files(table or "metrics")
        shown = ("kind", "points", "size_bytes", "modified", "key")
        if not write_rows(Rows.of_result(result, shown=shown), form, limit):
            note(f"{lake.url} holds no such objects yet.")


@click.command(cls=LakeCommand, short_help="Read everything; name what is damaged.")
@table_option
@format_option
@click.pass_obj
def verify(place: Place, table: str | None, form: str | None) -> int:
    """Read everything and name what is wrong, with what to do; exit code 4 if anything is damaged."""
    with place.reading() as lake:
        report = lake.inspect.verify(table)
    findings = tuple(replace(each, hint=in_shell(each.hint)) for each in report.findings)
    report = replace(report, findings=findings)
    lines = str(report).splitlines()
    if chosen_format(form) == "table":
        for line in lines[1:]:
            click.echo(line)
    else:
        write_rows(Rows.of_result(report.result()), form, limit=0)
    note(lines[0])
    return 0 if report.is_clean else INTEGRITY


COMMANDS: Final = (files, verify)
