"""The dashboard in a real browser, as ``metrics-lake ui`` serves it."""

from __future__ import annotations

import math

import pytest
from served import Served

from metrics_lake import MetricsLake


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Twelve runs: curves, parameters, series by tag, NaN and infinities, texts."""
    folder = tmp_path_factory.mktemp("lake") / "lake"
    with MetricsLake(folder, state_dir=tmp_path_factory.mktemp("state")) as lake:
        for at in range(12):
            run = f"digits/mlp-{at:02}"
            lake.log_params(run, {"lr": 10.0 ** -(1 + at % 4), "optimizer": "adam" if at % 2 else "sgd"})
            lake.log_series(run, "train/loss", [math.exp(-step / (20 + at)) for step in range(400)])
            lake.log_series(run, "valid/acc", [1 - 0.5 ** (1 + step / (9 + at)) for step in range(400)])
            for fold in range(2):
                lake.log_series(run, "fold/auc", [0.5 + fold / 10, 0.7], tags={"fold": fold})
        lake.log_series("digits/odd", "train/loss", [0.5, math.nan, math.inf, -math.inf, 0.25])
    return folder


@pytest.fixture(scope="module")
def served(lake):
    """The dashboard over that lake."""
    with Served(lake) as served:
        yield served


def cells(page):
    """Return the texts of the first table's body, row by row."""
    return page.evaluate(
        "deep('tbody')[0] ? [...deep('tbody')[0].rows].map(row => [...row.cells].map(c => c.innerText)) : []"
    )


def picture(page, at=0):
    """Wait until a chart is drawn; return what it says of itself and its pixels."""
    page.wait(f"deep('canvas').length > {at}")
    told = page.wait(f"(deep('[aria-roledescription=visualization]')[{at}] || {{}}).ariaLabel")
    return told, page.evaluate(f"deep('canvas')[{at}].toDataURL()")


def colours(page, at=0):
    """Return how many pixels of a chart have a hue: lines and bars, not axes or texts."""
    return page.evaluate(
        f"""(() => {{ const c = deep('canvas')[{at}];
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
        for (let i = 0; i < d.length; i += 4)
          if (Math.max(d[i], d[i+1], d[i+2]) - Math.min(d[i], d[i+1], d[i+2]) > 60) n++;
        return n; }})()"""
    )


def test_run_table_shows_parameters_beside_metrics(served, open_page):
    page = open_page(served.page(page="Runs"))
    page.shows("13 resources", "digits/mlp-07", "params/optimizer", "adam", "valid/acc", "0.0001")
    page.shows("without fold/auc")


def test_run_table_is_searched_and_filtered(served, open_page):
    page = open_page(served.page(page="Runs", runs="mlp-0", where="\"params/optimizer\" = 'adam'"))
    page.shows("digits/mlp-01", "digits/mlp-09", "5 rows")


def test_wrong_condition_is_explained(served, open_page):
    page = open_page(served.page(page="Runs", where='"params/lrr" < 1'))
    page.shows("params/lrr", "params/lr")


def test_curves_have_lines(served, open_page):
    page = open_page(served.page())
    told, _ = picture(page)
    assert told == "Curves of train/loss: 13 series · 4,805 points · 3 points NaN or infinite."
    assert colours(page) > 2_000


def test_another_metric_is_another_picture_and_stands_in_the_address(served, open_page):
    page = open_page(served.page(metric="valid/acc"))
    told, _ = picture(page)
    assert told.startswith("Curves of valid/acc: 12 series")


def test_leaderboard_turns_round(served, open_page):
    page = open_page(served.page(page="Leaderboard", best="valid/acc"))
    page.shows("rank", "greatest first.", "digits/mlp-00")
    assert cells(page)[0][:2] == ["1", "digits/mlp-00"]
    page.click("deep('marimo-radio')[0].shadowRoot.querySelectorAll('button')[1]")
    page.shows("least first.")
    assert "mode=min" in page.evaluate("location.search")


def test_health_page_counts_files_and_rows(served, open_page):
    page = open_page(served.page(page="Health"))
    page.shows("points in 1 file", "waiting in the inbox", "0 versions", "1 writer", "No gaps")
