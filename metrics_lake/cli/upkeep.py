"""The commands that maintain a lake: ``compact vacuum delete retention recover``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import click

from metrics_lake.charts import counted
from metrics_lake.cli.output import Rows, note, write_report, write_rows
from metrics_lake.cli.parameters import (
    AGE,
    INSTANT,
    format_option,
    instants_options,
    patterns,
    table_option,
    tags_of,
    tags_options,
    yes_option,
)
from metrics_lake.cli.place import LakeCommand, Place
from metrics_lake.errors import CorruptObjectError, NotFoundError

if TYPE_CHECKING:
    from metrics_lake.maintenance import Deletion

__all__ = ["COMMANDS"]

_WEEK: Final = dt.timedelta(days=7)


@click.command(cls=LakeCommand, short_help="Sort what was published into the table.")
@table_option
@format_option
@click.pass_obj
def compact(place: Place, table: str | None, form: str | None) -> None:
    """Move published points into the sorted table and merge small files. Readers see the same points."""
    with place.reading() as lake:
        done = lake.maintenance.compact(table)
    names = ("table", "version", "points", "objects", "files", "size_bytes", "seconds")
    rows = [
        {"table": name}
        | {each: getattr(one, each) for each in names[1:]}
        | {"seconds": round(one.seconds, 3)}
        for name, one in done.items()
    ]
    write_rows(Rows.of_dicts(rows, names), form, limit=0)
    damaged = [key for one in done.values() for key in one.damaged]
    if damaged:
        raise CorruptObjectError(
            f"{len(damaged)} objects cannot be read and stay where they are: {', '.join(damaged[:3])}.",
            hint="`metrics-lake verify` says more.",
        )


@click.command(cls=LakeCommand, short_help="Delete bytes that nobody needs any more.")
@table_option
@click.option(
    "--retention",
    type=AGE,
    default=_WEEK,
    show_default="7d",
    help="How long replaced files stay for readers of older versions; less needs --yes.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would leave.")
@yes_option
@format_option
@click.pass_obj
def vacuum(
    place: Place, table: str | None, retention: dt.timedelta, dry_run: bool, yes: bool, form: str | None
) -> None:
    """Delete bytes that no reader can need any more; no point of the lake is lost.

    With a --retention below the usual 7 days it can end a read of an older version that is under way: then
    it only says what it would do, unless --yes is given.
    """
    only_said = dry_run or (retention < _WEEK and not yes)
    with place.reading() as lake:
        done = lake.maintenance.vacuum(table, retention=retention, dry_run=only_said)
    kinds = ("objects", "files", "sidecars", "log", "claims")
    rows = [
        {"table": name, **{kind: len(getattr(one, kind)) for kind in kinds}, "size_bytes": one.size_bytes}
        for name, one in done.items()
    ]
    names = ("table", *kinds, "size_bytes")
    rows = [{**row, "dry_run": only_said} for row in rows]
    write_rows(Rows.of_dicts(rows, (*names, "dry_run"), shown=names), form, limit=0)
    if only_said:
        note("Nothing was deleted." if dry_run else "Nothing was deleted: add --yes to do it.")


@click.command(cls=LakeCommand, short_help="Delete points (dry run without --yes).")
@click.argument("resources", nargs=-1, metavar="[RESOURCE]...")
@click.option("--metric", "metrics", multiple=True, help="Only this metric; repeatable.")
@click.option(
    "--glob", "is_glob", is_flag=True, help="RESOURCE and --metric are patterns ('*' is everything)."
)
@tags_options("Exactly the series with these tags; repeatable.", untagged=True)
@instants_options
@table_option
@click.option("--purge", is_flag=True, help="Remove the bytes at once too, not only at the next vacuum.")
@yes_option
@format_option
@click.pass_obj
def delete(
    place: Place,
    resources: tuple[str, ...],
    metrics: tuple[str, ...],
    is_glob: bool,
    tags: tuple[str, ...],
    untagged: bool,
    since: Any,
    until: Any,
    table: str | None,
    purge: bool,
    yes: bool,
    form: str | None,
) -> None:
    """Delete exactly the points that a read would give now; without --yes only say which."""
    if not (resources or metrics or tags or untagged or since or until):
        raise click.UsageError("nothing says what to delete: name resources, or --glob '*' for everything")
    with place.reading() as lake:
        try:
            done = lake.maintenance.delete(
                patterns(resources, not is_glob),
                patterns(metrics, not is_glob),
                tags=tags_of(tags, untagged),
                since=since,
                until=until,
                table=table or "metrics",
                dry_run=not yes,
                purge=purge,
            )
        except NotFoundError as error:
            if any(sign in name for name in (*resources, *metrics) for sign in "*?"):
                raise NotFoundError(error.message, hint="--glob takes names as patterns.") from error
            raise
        if not done.points and resources and not is_glob:
            raise NotFoundError(f"{lake.url} has no such points of {', '.join(map(repr, resources))}.")
    _write_deletion(done, form)


@click.command(cls=LakeCommand, short_help="Delete points by age (dry run without --yes).")
@click.argument("older_than", metavar="AGE|TIME")
@click.option(
    "--keep",
    type=click.Choice(("last", "none")),
    default="last",
    show_default=True,
    help="last: the latest point of every series stays, whatever its age.",
)
@table_option
@click.option("--purge", is_flag=True, help="Remove the bytes at once too, not only at the next vacuum.")
@yes_option
@format_option
@click.pass_obj
def retention(
    place: Place, older_than: str, keep: str, table: str | None, purge: bool, yes: bool, form: str | None
) -> None:
    """Delete the points older than an age (90d) or a time (2026-01-01); without --yes only say how many."""
    before = INSTANT.convert(older_than, None, click.get_current_context())
    with place.reading() as lake:
        done = lake.maintenance.retention(
            before,
            keep="last" if keep == "last" else None,
            table=table or "metrics",
            dry_run=not yes,
            purge=purge,
        )
    _write_deletion(done, form)


@click.command(cls=LakeCommand, short_help="Publish dead processes' journals.")
@click.argument("journals", required=False, metavar="[FOLDER]", type=click.Path())
@format_option
@click.pass_obj
def recover(place: Place, journals: str | None, form: str | None) -> None:
    """Publish the journals of dead processes, and mend watermarks that the log lost.

    Without a FOLDER those of this machine; another machine's state folder, or a copy of it, must be named.
    """
    with place.writing() as lake:
        done = lake.maintenance.recover(journals)
    write_report(
        {"points": done.points, "watermarks": len(done.watermarks)},
        form,
        f"{counted(done.points, 'point')} published, {counted(len(done.watermarks), 'watermark')} mended.",
    )


def _write_deletion(done: Deletion, form: str | None) -> None:
    row = {
        "points": done.points,
        "kept": done.kept,
        "files": len(done.files),
        "objects": len(done.objects),
        "version": done.version,
        "resources": list(done.resources),
        "dry_run": done.dry_run,
    }
    verb = "would go" if done.dry_run else "deleted"
    kept = f", {done.kept:,} kept as the latest of their series" if done.kept else ""
    sentence = f"{counted(done.points, 'point')} {verb}{kept}."
    if done.resources:
        more = "" if len(done.resources) < 20 else ", …"
        sentence += f" Resources: {', '.join(done.resources)}{more}"
    write_report(row, form, sentence)
    if done.dry_run:
        note("Nothing was deleted: add --yes to do it.")


COMMANDS: Final = (compact, vacuum, delete, retention, recover)
