"""What the tests of whole processes share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest


class Family:
    """Forks children of a process that has everything imported; see ``children.py``."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("children.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert json.loads(self._process.stdout.readline()) == {"ready": True}

    def _ask(self, **command):
        with self._lock:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def fork(self, job, **arguments):
        """Start a child at a job; return its process id."""
        return self._ask(do="fork", job=job, arguments=arguments)["pid"]

    def wait(self, pid):
        """Return a child's exit code when it has ended, negative for a signal."""
        return os.waitstatus_to_exitcode(self._ask(do="wait", pid=pid)["status"])

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def family():
    """Starts children quickly."""
    family = Family()
    yield family
    family.close()


@pytest.fixture
def state_dir(tmp_path):
    """A folder for journals of its own."""
    return tmp_path / "state"
