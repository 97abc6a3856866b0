"""What the tests of whole processes share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browser import MISSING, Browser, chromium

from metrics_lake.storage import open_storage


@pytest.fixture
def s3(s3_server, s3_proxy):
    """A storage on the S3 server through the proxy."""
    with open_storage(s3_server.url(), s3_server.options(endpoint_url=s3_proxy.url)) as storage:
        yield storage


@pytest.fixture
def gcs(gcs_server, gcs_proxy):
    """A storage on the GCS emulator through the proxy."""
    with open_storage(gcs_server.url(), gcs_server.options(endpoint_url=gcs_proxy.url)) as storage:
        yield storage


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


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium of this test process."""
    program = chromium()
    if program is None:
        pytest.skip(MISSING)
    browser = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a url; no page may have an error in the end, or ask other machines."""
    pages = []

    def opened(url, **size):
        pages.append(browser.open(url, **size))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()
    assert [page.foreign for page in pages] == [[] for _ in pages]
    assert [page.errors for page in pages] == [[] for _ in pages]
