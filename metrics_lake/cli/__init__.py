"""The console script ``metrics-lake``.

Exit codes: 0 all went well, 1 a failure, 2 wrong arguments, 3 what was asked for is not there, 4 something in
the lake is damaged, 130 stopped by Ctrl-C. Data goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_PACKAGES = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script and return its exit code.

    Args:
        arguments: Those of the command line; None takes the process's own.

    Raises:
        SystemExit: While a shell asks for completions, and where whoever read the output has gone.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by whoever started us: nobody wants the data
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- open until the end
    try:
        from metrics_lake.cli.app import run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        extra = "demo" if given[:1] == ["demo"] else "cli"
        print(
            f"metrics-lake: the command line needs click and rich (no {package} here): "
            f'pip install "metrics-lake[{extra}]"',
            file=sys.stderr,
        )
        return 1
    return run(given)
