"""What all tests share: stores of every kind, real servers among them."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# gcsfs would ask a gRPC service about each bucket, which the emulator has not: a minute of silence.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
# No test may find credentials of this machine, or wait for a metadata service that is not there.
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
os.environ["AWS_CONFIG_FILE"] = os.devnull

from metrics_lake.testing.fixtures import (  # noqa: F401 -- behind the settings; pytest finds them here
    any_options,
    any_storage,
    any_url,
    gcs_options,
    gcs_proxy,
    gcs_server,
    gcs_url,
    local_url,
    memory_url,
    s3_options,
    s3_proxy,
    s3_server,
    s3_url,
    shared_folder,
)

# How long an example takes says nothing about the code: the first one imports half of the packages.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test's journals apart, and out of this machine's state folder."""
    monkeypatch.setenv("METRICS_LAKE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("METRICS_LAKE_URL", raising=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: everything that a test may need is installed there.

    Only the tests marked ``oracle`` may be: CI runs them in an environment of their own.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI") or hasattr(session.config, "workerinput"):
        return
    skipped = reporter.stats.get("skipped", [])
    if "METRICS_LAKE_ORACLES" not in os.environ:
        skipped = [report for report in skipped if "oracle" not in report.keywords]
    if skipped:
        reporter.write_line(f"{len(skipped)} tests were skipped, which CI does not allow.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
