"""The group of all commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import rich  # noqa: F401 -- a missing package is told before a command runs, not in its middle

from metrics_lake import __version__
from metrics_lake.cli import analysing, doctor, inspecting, reading, report, ui, upkeep, writing
from metrics_lake.cli.codes import FAILURE, STOPPED, USAGE, code_of
from metrics_lake.cli.place import LakeCommand, LakeGroup, Place
from metrics_lake.cli.words import in_shell
from metrics_lake.errors import MetricsLakeError
from metrics_lake.printing import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main_group", "run"]

_HELP: Final = """\
ML metrics as Parquet in your own bucket or folder.

The lake is --url, else $METRICS_LAKE_URL, else ./metrics-lake. RESOURCE and METRIC are patterns in ls,
history, best, compare and export ('*' any text, '?' one character, '[*]' a star; --exact takes them
literally), and literal everywhere else.

Data goes to standard output, as a table on a terminal and as JSON lines in a pipe; --format says otherwise.
Messages and progress go to standard error.
"""

_EPILOG: Final = """\
\b
Exit codes: 0 done, 1 failure, 2 wrong arguments, 3 not found, 4 damaged data.

\b
JSON has every value exactly. What JSON lacks is an object with the one key $kind, as the lake
itself writes it: {"$kind":["float","nan"]}; `log --json` takes it back. CSV has numbers in the
shortest form that reads back the same, other values as their JSON; with --full, and in exports,
its column "kind" tells the text "3" from the number. Parquet has value, kind and text.

\b
Completion: put the line of your shell into its start file.
  eval "$(_METRICS_LAKE_COMPLETE=bash_source metrics-lake)"       # ~/.bashrc
  eval "$(_METRICS_LAKE_COMPLETE=zsh_source metrics-lake)"        # ~/.zshrc
  _METRICS_LAKE_COMPLETE=fish_source metrics-lake | source        # ~/.config/fish/config.fish
"""


@click.group(
    cls=LakeGroup,
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, message="metrics-lake %(version)s")
def main_group() -> None:
    """The group of all commands."""


@click.command("demo", cls=LakeCommand, short_help="Train small models and show what the lake then holds.")
@click.pass_obj
def _demo(place: Place) -> None:
    """Train small models, log them and show what the lake then holds.

    The models are real and learn data that scikit-learn ships; the best of them are copied to model versions,
    and their predictions are logged. Everything it writes has an id that begins with demo/. Under a minute.
    """
    try:
        from metrics_lake.cli import demo
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"sklearn", "numpy"}:
            raise
        raise click.ClickException(
            'the demo needs scikit-learn and rich: pip install "metrics-lake[demo]"'
        ) from error
    demo.run(place.url, place.storage_options)


for _command in (
    *writing.COMMANDS,
    *reading.COMMANDS,
    *analysing.COMMANDS,
    *inspecting.COMMANDS,
    *upkeep.COMMANDS,
    report.report,
    ui.ui,
    doctor.doctor,
    _demo,
):
    main_group.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code; an error becomes one line on standard error.

    Args:
        arguments: What stands behind ``metrics-lake`` on the command line.
    """
    # For good: what the lake warns of at the interpreter's exit is one line as well.
    warnings.showwarning = _show_warning
    # click does not say which command was running when it gives an error back.
    is_debug = "--debug" in arguments
    try:
        found = main_group.main(
            list(arguments), prog_name="metrics-lake", standalone_mode=False, color=_wants_colour()
        )
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        return _failed(_usage(error), USAGE, is_debug)
    except click.ClickException as error:
        return _failed(error.format_message(), error.exit_code, is_debug)
    except click.Abort:
        return _failed("stopped", STOPPED, is_debug=False)
    except MetricsLakeError as error:
        hint = f" {in_shell(error.hint)}" if error.hint else ""
        return _failed(f"{error.message}{hint}", code_of(error, is_past="--at" in arguments), is_debug)
    except OSError as error:
        # A file that the user named: the lake's own failures are StorageErrors.
        named = f"{error.filename}: " if error.filename else ""
        return _failed(f"{named}{error.strerror or error}", FAILURE, is_debug)
    return found if isinstance(found, int) else 0


def _wants_colour() -> bool | None:
    """Return False where the environment says so (no-color.org), which click does not ask; else None."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption) and not error.possibilities:
        message += ". A name that begins with - stands behind --"
    where = error.ctx.command_path if error.ctx is not None else "metrics-lake"
    return f"{message}{'' if message.endswith('?') else '.'} Try: {where} --help"


def _failed(message: str, code: int, is_debug: bool) -> int:
    if is_debug:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except OSError:
        # Told by the message; what is left must not be tried, and told, again at the interpreter's exit.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    _say(message)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {in_shell(str(message))}")


def _say(message: str) -> None:
    click.echo("metrics-lake: " + printable(" ".join(message.split())), err=True)
