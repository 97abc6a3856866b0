"""Lakes that earlier versions wrote are read back exactly; ``tests/data/README.md`` says what they are."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from metrics_lake import MetricsLake, glob
from metrics_lake.commits import TableLog
from metrics_lake.layout import parse_inbox_key
from metrics_lake.schema import FORMAT_VERSION
from metrics_lake.storage import open_storage
from metrics_lake.values import KINDS

DATA = Path(__file__).parents[1] / "data"
GOLDEN = sorted(path for path in DATA.glob("golden-v*") if path.name.count("-") == 1)
PREDICTIONS = sorted(DATA.glob("golden-v*-predictions"))
SERIES = ["resource", "metric", "tags_key"]

_spec = importlib.util.spec_from_file_location("make_golden", DATA / "make_golden.py")
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def url(request, tmp_path):
    """Return a copy: reading must not need rights to write, but the test must not depend on that."""
    return str(shutil.copytree(request.param, tmp_path / "lake"))


@pytest.fixture
def lake(url):
    with MetricsLake(url, read_only=True) as handle:
        yield handle


def same(found, expected):
    """Say whether two values are of the same type and look the same; NaN equals NaN, -0.0 is not 0.0."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, np.ndarray):
        return (found.dtype, found.shape, found.tobytes()) == (
            expected.dtype,
            expected.shape,
            expected.tobytes(),
        )
    if isinstance(expected, set | frozenset):
        return found == expected
    return repr(found) == repr(expected)


def test_there_is_a_golden_lake_of_the_current_format():
    assert f"golden-v{FORMAT_VERSION}" in [path.name for path in GOLDEN]

    assert f"golden-v{FORMAT_VERSION}-predictions" in [path.name for path in PREDICTIONS]


def test_golden_lakes_are_small():
    for folder in (*GOLDEN, *PREDICTIONS):
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 300_000


def test_every_value_comes_back_with_its_type(lake):
    for metric, value in made.VALUES.items():
        assert same(lake.get_metric("values", metric), value), metric
    latest = lake.latest_metrics("values")
    assert latest.keys() == made.VALUES.keys()
    assert all(same(latest[metric], value) for metric, value in made.VALUES.items())
    assert set(lake.history("values", full=True).values("kind")) == set(KINDS)


def test_histories_come_back(lake):
    for (resource, metric, tag), points in made.HISTORY.items():
        tags = None if tag is None else dict([tag])
        found = lake.history(resource, metric, tags=tags).rows()
        assert [(row["step"], row["value"]) for row in found] == points
        assert {row["tags"] if row["tags"] is None else tuple(row["tags"].items()) for row in found} == {
            None if tag is None else (tag,)
        }
    times = lake.history("runs/a", "loss").values("timestamp")
    assert times == [made.START + step * made.HOUR * 30 for step in range(12)]


def test_resources_copies_and_deletes_are_as_they_were_left(lake):
    resources = ["bulk", "copies/a", "runs/a", "runs/é=b%2F", "values"]
    assert lake.resources().values("resource") == resources
    assert lake.get_metric("mistakes", "loss") is None
    copied, original = (
        lake.history(resource, "loss", full=True).arrow() for resource in ("copies/a", "runs/a")
    )
    assert copied["origin"].to_pylist() == ["runs/a"] * 12
    for column in ("writer", "seq", "timestamp", "value"):
        assert copied[column].equals(original[column])
    assert lake.history(glob("runs/*")).arrow().num_rows == 12 + 24 + 4


def test_everything_in_it_is_as_it_should_be(lake):
    report = lake.inspect.verify()
    assert report.is_clean, str(report)
    assert {(each.severity, each.code) for each in report} == {("note", "unprotected")}
    assert report.points == len(lake.history())


def test_it_holds_every_kind_of_object(lake, url):
    files = lake.inspect.files().rows()
    assert {(row["kind"], row["is_ours"]) for row in files} == {
        ("table", True),
        ("table", False),
        ("inbox", True),
    }
    with open_storage(url) as storage:
        keys = [info.key for info in storage.list("")]
        names = [name for name in map(parse_inbox_key, keys) if name is not None]
        state = TableLog(storage, "metrics").refresh()
    assert any(name.is_end for name in names)
    assert len({name.writer for name in names}) == 2
    assert len(names) > sum(row["kind"] == "inbox" for row in files)
    assert any(key.endswith(".checkpoint.parquet") for key in keys)
    assert any(key.startswith("_derived/series/metrics/month=") for key in keys)
    assert state.transactions.get("ml:bulk:once") == 0
    assert any(text.startswith("ml:copy:") for text in state.transactions)


def test_its_table_is_one_that_other_engines_read(lake, url):
    compacted = sum(row["points"] for row in lake.inspect.files() if row["kind"] == "table")
    assert pl.scan_delta(f"{url}/metrics").select(pl.len()).collect().item() == compacted


def test_logging_and_compaction_go_on(url, lake):
    before = len(lake.history())
    with MetricsLake(url, compaction="off") as handle:
        handle.log_metric("runs/a", "loss", 0.0, step=12)
        again = {"resource": ["bulk"], "metric": ["x"], "value": [1.5], "timestamp": [made.START]}
        assert handle.append(again, key="once").points == 0
        assert handle.copy_metrics("runs/a", "copies/a", metrics="loss") == 1
        handle.maintenance.compact()
        assert len(handle.history()) == before + 2
        assert [row["kind"] for row in handle.inspect.files()].count("inbox") == 0
        assert len(handle.inspect.verify().findings) == 0
        for metric, value in made.VALUES.items():
            assert same(handle.get_metric("values", metric), value), metric


# ---- prediction jobs ------------------------------------------------------------------------------------


@pytest.fixture(params=PREDICTIONS, ids=lambda path: path.name)
def predictions_url(request, tmp_path):
    return str(shutil.copytree(request.param, tmp_path / "lake"))


def auc(rows):
    """Return the share of pairs of a positive and a negative that the scores order; ties count half."""
    positive = [row["p"] for row in rows if row["churned"]]
    negative = [row["p"] for row in rows if not row["churned"]]
    ordered = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    return ordered / (len(positive) * len(negative))


def labelled(known):
    """Return the scored rows of which the first so many labels are known."""
    return [row | label for row, label in zip(made.SCORED[:known], made.LABELS[:known], strict=True)]


def test_metrics_of_prediction_jobs_come_back(predictions_url):
    with MetricsLake(predictions_url, read_only=True) as lake:
        rows = labelled(16)
        assert lake.get_metric("churn", "roc_auc") == pytest.approx(auc(rows))
        right = sum((row["p"] >= 0.5) == row["churned"] for row in rows)
        assert lake.get_metric("churn", "accuracy") == pytest.approx(right / 16)
        assert lake.get_metric("churn", "coverage") == pytest.approx(16 / 24)
        errors = [abs(found - true) for true, found in made.PRICES]
        assert lake.get_metric("prices", "mae") == pytest.approx(sum(errors) / len(errors))
        assert lake.get_metric("species", "confusion") == {
            "labels": ["a", "b", "c"],
            "rows": [[2, 0, 0], [1, 1, 0], [0, 1, 1]],
        }
        assert lake.inspect.verify().is_clean


def test_states_of_prediction_jobs_are_aggregated_anew(predictions_url):
    with MetricsLake(predictions_url, read_only=True) as lake:
        found = lake.prediction_metrics("churn", metrics=["roc_auc", "num_predictions"], by="country").rows()
        by_country = {(dict(row["segment"]).get("country"), row["metric"]): row["value"] for row in found}
    assert by_country[None, "roc_auc"] == pytest.approx(auc(labelled(16)))
    for country in ("de", "fr"):
        own = [row for row in labelled(16) if row["country"] == country]
        assert by_country[country, "roc_auc"] == pytest.approx(auc(own))
        scored = [row for row in made.SCORED if row["country"] == country]
        assert by_country[country, "num_predictions"] == len(scored)


@pytest.mark.parametrize("is_compacted", [False, True])
def test_labels_go_on_coming_to_old_predictions(predictions_url, is_compacted):
    with MetricsLake(predictions_url, compaction="off") as lake:
        if is_compacted:
            lake.maintenance.compact()
        late = [{"id": row["id"], "churned": row["churned"]} for row in made.LABELS[16:]]
        lake.log_ground_truth("churn", pl.DataFrame(late), key="id")
        assert lake.get_metric("churn", "coverage") == 1.0
        assert lake.get_metric("churn", "roc_auc") == pytest.approx(auc(labelled(24)))
        lake.flush()
        assert lake.inspect.verify().is_clean


def test_the_lake_of_prediction_jobs_holds_every_table_in_every_place(predictions_url):
    with open_storage(predictions_url) as storage:
        keys = [info.key for info in storage.list("")]
    for table in ("metrics", "prediction_states", "predictions", "ground_truth"):
        assert any(key.startswith(f"{table}/month=") for key in keys)
    for table in ("metrics", "prediction_states"):
        assert any(key.startswith(f"inbox/{table}/date=") for key in keys)
