"""Panels: what a page says of a lake."""

import pytest

from metrics_lake import InvalidInputError, MetricsLake, glob
from metrics_lake.panels import curves, health, leaderboard, metric_overview, parameters, run_table


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake") as made:
        for at in range(3):
            run = f"digits/{at}"
            made.log_params(run, {"lr": 10.0**-at, "optimizer": "adam"})
            made.log_series(run, "acc", [0.5, 0.5 + at / 10])
            for fold in range(2):
                made.log_metric(run, "fold/acc", 0.5, tags={"fold": fold})
        made.log_metric("notes", "text", "hello")
        yield made


def test_the_overview_says_what_can_be_drawn_and_ranked(lake):
    rows = {row["metric"]: row for row in metric_overview(lake).to_pylist()}
    assert list(rows) == ["acc", "fold/acc", "params/lr", "params/optimizer", "text"]
    assert rows["acc"] == {"metric": "acc", "resources": 3, "series": 3, "points": 6, "is_number": True,
                           "is_curve": True, "has_steps": True, "is_ambiguous": False}  # fmt: skip
    assert not rows["fold/acc"]["has_steps"]
    assert rows["fold/acc"]["is_ambiguous"]
    assert not rows["params/lr"]["is_curve"]
    assert not rows["text"]["is_number"]
    assert metric_overview(lake, "notes").column("metric").to_pylist() == ["text"]


def test_a_run_table_leaves_out_what_is_ambiguous_and_says_so(lake):
    panel = run_table(lake)
    assert panel.table.column_names == [
        "resource", "points", "last_timestamp", "params/lr", "params/optimizer", "acc", "text",
    ]  # fmt: skip
    assert panel.table.column("acc").to_pylist() == [0.5, 0.6, 0.7, None]
    assert panel.table.column("points").to_pylist() == [6, 6, 6, 1]
    assert "without fold/acc" in panel.caption
    assert (
        run_table(lake, glob("digits/*"), ["fold/acc"], tags={"fold": 1}).table.column_names[-1] == "fold/acc"
    )
    assert run_table(lake, where='"params/lr" < 0.5').table.num_rows == 2


def test_curves_ask_for_the_part_in_view(lake):
    whole = curves(lake, glob("digits/*"), "acc")
    assert whole.caption == "3 series · 6 points"
    assert curves(lake, glob("digits/*"), "acc", steps=range(1, 2)).caption == "3 series · 3 points"
    nobody = curves(lake, "nobody", "acc")
    assert (nobody.caption, nobody.chart.title.text) == ("0 series · 0 points", "acc")


def test_a_leaderboard_has_rows_and_bars(lake):
    panel = leaderboard(lake, "acc", mode="max", top=2)
    assert panel.table.column("resource").to_pylist() == ["digits/2", "digits/1"]
    assert panel.caption == "2 resources by best value ever of acc, greatest first."
    assert panel.chart is not None
    assert leaderboard(lake, "text", mode="max").chart is None
    with pytest.raises(InvalidInputError, match="mode"):
        leaderboard(lake, "acc", mode="best")


def test_parameters_stand_beside_a_metric(lake):
    panel = parameters(lake, "acc")
    assert panel.table.column_names == ["resource", "params/lr", "params/optimizer", "acc"]
    assert panel.table.num_rows == 3
    assert panel.caption == "2 parameters of 3 resources beside acc."
    assert panel.chart is not None
    assert parameters(lake, "params/lr").table.column_names == ["resource", "params/optimizer", "params/lr"]


def test_health_counts_files_and_gaps(lake):
    lake.flush()
    files, versions, writers, gaps = health(lake)
    assert files.caption.startswith("19 points in ")
    assert sum(files.table.column("points").to_pylist()) == 19
    assert (versions.table.num_rows, writers.caption, gaps.table.num_rows) == (0, "1 writer.", 0)
    lake.maintenance.compact()
    files, versions, *_ = health(lake)
    assert "0 of them waiting" in files.caption
    assert versions.table.num_rows >= 1
