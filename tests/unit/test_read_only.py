"""A handle with ``read_only=True`` writes nothing at all, maintenance included."""

import datetime as dt

import pytest

from metrics_lake import MetricsLake
from metrics_lake.errors import InvalidInputError


@pytest.fixture
def filled(tmp_path):
    with MetricsLake(tmp_path / "lake", compaction="off") as lake:
        lake.log_series("run", "m", [1.0, 2.0, 3.0])
        lake.flush()
    return tmp_path / "lake"


@pytest.fixture
def reader(filled):
    with MetricsLake(filled, read_only=True) as lake:
        yield lake


def content_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "write",
    [
        lambda lake: lake.log_metric("run", "m", 4.0),
        lambda lake: lake.maintenance.compact(),
        lambda lake: lake.maintenance.vacuum(),
        lambda lake: lake.maintenance.delete("run", dry_run=False),
        lambda lake: lake.maintenance.retention(dt.timedelta(0), keep=None, dry_run=False),
        lambda lake: lake.maintenance.recover(),
        lambda lake: lake.inspect.quarantine(lake.inspect.files().values("path")[0], dry_run=False),
    ],
    ids=["log_metric", "compact", "vacuum", "delete", "retention", "recover", "quarantine"],
)
def test_a_read_only_handle_refuses_to_write(reader, filled, write):
    before = content_of(filled)
    with pytest.raises(InvalidInputError, match="read-only"):
        write(reader)
    assert content_of(filled) == before


def test_a_read_only_handle_says_what_would_go(reader, filled):
    before = content_of(filled)
    assert reader.maintenance.delete("run").points == 3
    assert reader.maintenance.retention(dt.timedelta(0), keep=None).points == 3
    assert reader.maintenance.vacuum(dry_run=True)["metrics"].objects == []
    assert content_of(filled) == before


def test_a_dry_vacuum_finds_what_a_vacuum_deletes(filled):
    with MetricsLake(filled, compaction="off") as lake:
        lake.maintenance.compact()
        lake.maintenance.delete("run", dry_run=False)
        before = content_of(filled)
        would = lake.maintenance.vacuum(retention=dt.timedelta(0), dry_run=True)["metrics"]
        assert content_of(filled) == before
        assert would.files
        assert lake.maintenance.vacuum(retention=dt.timedelta(0))["metrics"].files == would.files
