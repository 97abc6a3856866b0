"""The dashboard as users start it: the console script in a process of its own."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

SCRIPT = Path(sys.executable).with_name("metrics-lake")
_STOP_SECONDS = 20


class Served:
    """One ``metrics-lake ui`` over a lake.

    Attributes:
        address: What it printed.
    """

    def __init__(self, lake: str | os.PathLike[str], *arguments: str, seconds: float = 90.0) -> None:
        self.process = subprocess.Popen(
            [str(SCRIPT), "ui", "--url", str(lake), "--no-browser", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C of the tests is not its own
        )
        self.address = self._first_line(seconds)

    def page(self, **query: str | list[str]) -> str:
        """Return the address with a query: what somebody chose."""
        asked = urlencode(query, doseq=True)
        return f"{self.address}{'&' if '?' in self.address else '?'}{asked}" if asked else self.address

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """End it as Ctrl-C does; return its exit code and what it wrote as messages."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            _, messages = self.process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, messages = self.process.communicate()
            raise AssertionError(f"did not end in {_STOP_SECONDS} s\n{messages}") from None
        return self.process.returncode, messages

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError):  # it was stopped and read already
            self.stop()

    def _first_line(self, seconds: float) -> str:
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if selector.select(1.0):
                    line = self.process.stdout.readline().strip()
                    if line:
                        return line
                    break
        self.process.kill()
        _, messages = self.process.communicate()
        raise AssertionError(f"no address in {seconds:.0f} s: {messages}")
