"""What doctor finds where something is amiss, and that it says what to do."""

from __future__ import annotations

import os
import time

import pytest

pytest.importorskip("click")

from metrics_lake import MetricsLake
from metrics_lake.cli import probes
from metrics_lake.cli.machine import state_of, versions
from metrics_lake.cli.place import Place
from metrics_lake.journal.state import host_id
from metrics_lake.lakefile import read_lake
from metrics_lake.storage import open_storage
from metrics_lake.testing import WrappedStorage


class Overwriting(WrappedStorage):
    """A store that ignores the condition of a creation, as old clones of S3 do."""

    def put_new(self, key, data):
        self.put(key, data)
        return True


@pytest.fixture
def folder(tmp_path):
    """A lake with one point."""
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_metric("a", "x", 1.0)
    return tmp_path / "lake"


def found(place, *, with_writes=True):
    return {each.check: each for each in probes.examine(place, with_writes=with_writes)}


def test_all_is_well_and_nothing_is_left(folder):
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    seen = found(Place(str(folder)))
    assert {each.status for each in seen.values()} == {"ok"}
    assert set(seen) >= {
        "versions",
        "url",
        "lake",
        "list",
        "put",
        "get",
        "exclusive create",
        "clock",
        "delete",
    }
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before
    assert "put" not in found(Place(str(folder)), with_writes=False)


def test_what_an_examination_left_that_was_killed_is_deleted_by_a_later_one(folder):
    (folder / "_doctor").mkdir()
    for name in ("old", "new"):
        (folder / "_doctor" / name).touch()
    os.utime(folder / "_doctor" / "old", (0, 0))
    assert found(Place(str(folder)))["delete"].status == "ok"
    assert [path.name for path in (folder / "_doctor").iterdir()] == ["new"]


def test_a_reader_on_s3_is_told_that_it_can_only_read(s3_server, s3_url):
    with MetricsLake(s3_url, storage_options=s3_server.options()) as lake:
        lake.log_metric("a", "x", 1.0)
    seen = found(Place(s3_url, s3_server.options("reader")))
    assert (seen["list"].status, seen["put"].status) == ("ok", "warn")
    assert "only read" in seen["put"].what
    assert "fail" not in {each.status for each in seen.values()}


def test_a_file_in_the_way_and_a_foreign_lake_file_are_failures(tmp_path):
    (tmp_path / "file").touch()
    seen = found(Place(str(tmp_path / "file" / "lake")))
    assert "fail" in {each.status for each in seen.values()}
    assert not (tmp_path / "file" / "lake").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "_lake.json").write_text("[]")
    seen = found(Place(str(tmp_path / "other")))
    assert seen["lake"].status == "fail"
    assert seen["lake"].hint


def test_a_store_that_overwrites_is_found(folder):
    with open_storage(folder) as inner:
        storage = Overwriting(inner)
        (fail,) = [each for each in probes._writes(storage, read_lake(inner)) if each.status != "ok"]
        assert (fail.check, fail.status) == ("exclusive create", "fail")
        (warn,) = [each for each in probes._writes(storage, None) if each.status != "ok"]
        assert (warn.check, warn.status) == ("exclusive create", "warn")
        assert inner.list("_doctor/") == []


@pytest.mark.parametrize(("ahead", "word"), [(100.0, "ahead"), (-100.0, "behind")])
def test_a_clock_that_differs_from_the_stores_is_found(folder, ahead, word):
    with open_storage(folder) as storage:
        storage.put("_doctor/x", b"")
        here = time.time() + ahead
        (skew,) = probes._clock(storage, "_doctor/x", here, here)
    assert skew.status == "warn"
    assert word in skew.what


def test_journals_of_other_lakes_machines_and_damaged_ones_are_told_apart(folder, tmp_path):
    state = tmp_path / "state"
    with open_storage(folder) as storage:
        lake = read_lake(storage)
        for place, name in (
            (f"{lake.lake_id}/{host_id()}", "metrics.seg"),
            (f"{'0' * 32}/{host_id()}", "metrics.seg"),
            (f"{lake.lake_id}/another-host", "metrics.seg"),
            (f"{lake.lake_id}/{host_id()}", "metrics.damaged"),
        ):
            writer = state / place / ("1" * 32)
            writer.mkdir(parents=True, exist_ok=True)
            (writer / name).write_bytes(b"x" * 10)
        said = [each for each in state_of(storage, lake) if each.check == "journals"]
    assert [each.status for each in said] == ["warn"] * 4
    assert all("1 journal segment (10 bytes)" in each.what and each.hint for each in said)
    assert "0" * 32 in said[1].what
    assert str(state / lake.lake_id / "another-host") in said[2].hint


def test_no_folder_for_journals_is_told(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("METRICS_LAKE_STATE", str(tmp_path / "file" / "state"))
    with open_storage(folder) as storage:
        (said,) = state_of(storage, None)
    assert said.status == "fail"
    assert "METRICS_LAKE_STATE" in said.hint


def test_versions_name_what_is_installed():
    (said, *old) = versions()
    assert "pyarrow" in said.what
    assert all(each.status == "warn" and "pip install" in each.hint for each in old)
