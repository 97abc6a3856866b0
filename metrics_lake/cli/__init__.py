"""The console script ``metrics-lake``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from metrics_lake.errors import MetricsLakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_DEMO = """\
Train a few small models on data that scikit-learn ships, log them, copy the best
to a model version, log its predictions, and show what the lake then holds.
Everything it writes has an id that begins with demo/. Under a minute."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script and return its exit code: 0, 1 for an error, 2 for wrong arguments.

    Args:
        arguments: Those of the command line; None takes the process's own.

    Raises:
        SystemExit: With code 2 and the usage on stderr for wrong arguments, with 0 for ``--help``.
    """
    chosen = _parser().parse_args(arguments)
    try:
        return _demo(chosen.url)
    except MetricsLakeError as error:
        return _failed(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return _failed("stopped", code=130)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); Python would complain once more when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    from metrics_lake import __version__

    parser = argparse.ArgumentParser(
        prog="metrics-lake", description="ML metrics as Parquet in your own bucket or folder."
    )
    parser.add_argument("--version", action="version", version=f"metrics-lake {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="train small models, log them and show what the lake then holds",
        description=_DEMO,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument(
        "--url", help="the lake: a folder or a url (default: $METRICS_LAKE_URL, else ./metrics-lake)"
    )
    return parser


def _demo(url: str | None) -> int:
    try:
        from metrics_lake.cli import demo
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"sklearn", "rich", "numpy"}:
            raise
        return _failed('the demo needs scikit-learn and rich: pip install "metrics-lake[demo]"')
    demo.run(url)
    return 0


def _failed(message: str, code: int = 1) -> int:
    print(f"metrics-lake: {message}", file=sys.stderr)
    return code
