"""Keeps one server process alive as long as somebody uses it, and not a second longer.

Run by path with nothing but the standard library: ``python _supervisor.py spec.json``. Whoever uses the
server holds a shared ``flock`` on ``users``; the kernel gives it back however that process ends, SIGKILL
included. As soon as the lock is free, the server is ended and its folder removed. If this process itself is
killed, Linux ends the server with it (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 3.0
_PR_SET_PDEATHSIG = 1


def main(spec_file: str) -> int:
    """Run the server of a spec until nobody uses it; return its exit status, or 0 if it was ended."""
    spec: dict[str, Any] = json.loads(Path(spec_file).read_text("utf-8"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the tests
    server = subprocess.Popen(  # noqa: S603 -- the caller's own command
        spec["command"],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **spec["env"]},
        preexec_fn=_die_with_parent,
    )
    deadline = time.monotonic() + float(spec["max_seconds"])
    # Never closed: the lock that ends the server is held until this process is gone, so that a newcomer waits
    # for it and then finds no state file.
    users = os.open(spec["users"], os.O_RDWR | os.O_CREAT)
    try:
        while server.poll() is None and time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return 0
            time.sleep(_POLL_SECONDS)
        return server.returncode or 0
    finally:
        _end(server, spec)


def _end(server: subprocess.Popen[bytes], spec: dict[str, Any]) -> None:
    Path(spec["state"]).unlink(missing_ok=True)
    server.terminate()
    try:
        server.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    shutil.rmtree(spec["directory"], ignore_errors=True)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
