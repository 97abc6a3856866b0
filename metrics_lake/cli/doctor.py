"""``metrics-lake doctor``: whether everything that a lake needs is there."""

from __future__ import annotations

import shutil
import textwrap
from typing import Final

import click

from metrics_lake.cli.codes import FAILURE
from metrics_lake.cli.output import Rows, chosen_format, write_rows
from metrics_lake.cli.parameters import format_option
from metrics_lake.cli.place import LakeCommand, Place
from metrics_lake.printing import printable

__all__ = ["doctor"]

_INDENT: Final = 24
_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(cls=LakeCommand, short_help="Check the set-up; say what to do.")
@click.option("--no-write", is_flag=True, help="Put no throwaway object under the url.")
@format_option
@click.pass_obj
def doctor(place: Place, no_write: bool, form: str | None) -> int:
    """Check url, credentials, rights, clock, exclusive creation, journals and versions, and say what to do.

    Writes one throwaway object below _doctor/ and deletes it. Exit code 1 if something does not work.
    """
    from metrics_lake.cli.probes import examine

    found = []
    is_table = chosen_format(form) == "table"
    for each in examine(place, with_writes=not no_write):
        found.append(each)
        if is_table:
            status = click.style(f"{each.status:<4}", fg=_COLOURS[each.status])
            first, *more = [*_lines(each.what), *_lines(each.hint)]
            click.echo(f"{status}  {each.check:<16}  {first}")
            for line in more:
                click.echo(" " * _INDENT + line)
    if not is_table:
        names = ("check", "status", "what", "hint")
        rows = [{name: getattr(each, name) for name in names} for each in found]
        write_rows(Rows.of_dicts(rows, names), form, limit=0)
    return FAILURE if any(each.status == "fail" for each in found) else 0


def _lines(text: str) -> list[str]:
    width = max(shutil.get_terminal_size().columns - _INDENT, 30)
    return textwrap.wrap(printable(text), width, break_long_words=False, break_on_hyphens=False)
