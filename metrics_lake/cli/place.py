"""Which lake a command works on, and the options by which every command is told."""

from __future__ import annotations

import json
import os
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from metrics_lake.errors import GapWarning, InvalidInputError, MetricsLakeWarning, NotPublishedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metrics_lake import MetricsLake

__all__ = ["OPTIONS_VARIABLE", "LakeCommand", "LakeGroup", "Place"]

OPTIONS_VARIABLE: Final = "METRICS_LAKE_STORAGE_OPTIONS"

_NUMBER: Final = re.compile(r"-(?:\.?\d.*|inf|Infinity)")
_ALSO_JSON: Final = ("{", "[", '"')


@dataclass(frozen=True)
class Place:
    """The lake that the command line names.

    Attributes:
        url: As given; None = from the environment, else the default.
        storage_options: What the url's filesystem takes.
    """

    url: str | None = None
    storage_options: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def reading(self, *, adopting: bool = True) -> Iterator[MetricsLake]:
        """Yield the lake to read.

        Args:
            adopting: Publish first what dead processes of this machine left; else nothing is ever written.
        """
        lake = self._make(read_only=not adopting)
        try:
            yield lake
        finally:
            try:
                lake.close(timeout_seconds=0)
            except NotPublishedError as error:  # a dead process's points; they were read all the same
                click.echo(f"metrics-lake: warning: {error}", err=True)

    @contextmanager
    def writing(self) -> Iterator[MetricsLake]:
        """Yield the lake to write; everything is published when the block is left, or an error says not."""
        # What the background would warn of is raised here; gaps are another matter.
        warnings.simplefilter("ignore", MetricsLakeWarning)
        warnings.simplefilter("default", GapWarning)
        lake = self._make()
        try:
            yield lake
            lake.flush()
        except BaseException as error:
            try:
                lake.close(timeout_seconds=0)
            except NotPublishedError as failure:
                if not isinstance(error, NotPublishedError):
                    click.echo(f"metrics-lake: warning: {failure}", err=True)
            raise
        lake.close()

    def _make(self, *, read_only: bool = False) -> MetricsLake:
        from metrics_lake import MetricsLake

        # A command that runs for a second is no place to compact on the side: `compact` is.
        lake = MetricsLake(
            self.url, storage_options=self.storage_options, compaction="off", read_only=read_only
        )
        if lake.url.startswith("memory:"):
            raise InvalidInputError(
                "a lake in memory:// vanishes with the command.", hint="Name a folder or a bucket."
            )
        return lake


class _LakeOptions(click.Command):
    """A command that takes the options that say which lake; its ``ctx.obj`` is the ``Place``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["--url"], help="The lake: a folder or a url.", metavar="URL"),
            click.Option(
                ["--storage-option"],
                multiple=True,
                metavar="KEY=VALUE",
                help="An option of the url's filesystem, such as endpoint_url=https://…; repeatable. Dots "
                "lead into nested ones; true, false, null and JSON objects are themselves, all else is text. "
                f"${OPTIONS_VARIABLE} holds secrets better: a JSON object.",
            ),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        above = ctx.parent.obj if ctx.parent is not None and isinstance(ctx.parent.obj, Place) else Place()
        url, given = ctx.params.pop("url"), ctx.params.pop("storage_option")
        ctx.params.pop("debug")
        options = above.storage_options or _options_of_environment()
        ctx.obj = Place(url if url is not None else above.url, _with_options(options, given))
        return super().invoke(ctx)


class LakeCommand(_LakeOptions):
    """A command on a lake; negative numbers are arguments, not options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; options may stand anywhere, and ``-0.5`` needs no ``--`` before it."""
        taking = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag and not option.count
            for name in option.opts
        }
        options: list[str] = []
        arguments: list[str] = []
        rest = iter(args)
        for each in rest:
            if each == "--":
                arguments += rest
            elif not each.startswith("-") or each == "-" or _NUMBER.fullmatch(each):
                arguments.append(each)
            else:
                options.append(each)
                if each in taking:
                    options += [value for value in (next(rest, None),) if value is not None]
        return super().parse_args(ctx, [*options, "--", *arguments] if arguments else options)


class LakeGroup(_LakeOptions, click.Group):
    """The group of the commands; its options count for the command that follows."""

    command_class = LakeCommand

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added: by what they do."""
        del ctx
        return list(self.commands)


def _options_of_environment() -> dict[str, Any]:
    text = os.environ.get(OPTIONS_VARIABLE, "").strip()
    if not text:
        return {}
    try:
        options = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"${OPTIONS_VARIABLE} is no JSON") from error
    if not isinstance(options, dict):
        raise click.UsageError(f"${OPTIONS_VARIABLE} is no JSON object")
    return options


def _with_options(options: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(options))
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not all(name.split(".")):
            raise click.BadParameter(f"{each!r} is not KEY=VALUE", param_hint="'--storage-option'")
        *above, last = name.split(".")
        inside = made
        for part in above:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise click.BadParameter(
                    f"{part!r} of {name!r} is no object", param_hint="'--storage-option'"
                )
        inside[last] = _option_value(text)
    return made


def _option_value(text: str) -> Any:
    # Numbers stay text: access keys and account ids may consist of digits.
    if text in {"true", "false", "null"} or text.startswith(_ALSO_JSON):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
