"""The dashboard in a real browser, as ``metrics-lake ui`` serves it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math

import polars as pl
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


@pytest.fixture
def serve():
    """Return a function that serves another lake; name it before ``open_page``, whose pages go first."""
    with contextlib.ExitStack() as stack:
        yield lambda lake, *arguments: stack.enter_context(Served(lake, *arguments))


def cells(page):
    """Return the texts of the first table's body, row by row."""
    return page.evaluate(
        "deep('tbody')[0] ? [...deep('tbody')[0].rows].map(row => [...row.cells].map(c => c.innerText)) : []"
    )


def picture(page, at=0):
    """Wait until a chart is drawn; return what it says of itself and its pixels."""
    page.wait(f"deep('canvas').length > {at}")
    # The strip is below the curves, and may be there before them.
    told = page.wait(
        f"(told => told && ({at} > 0 || !told.startsWith('The whole range')) ? told : '')"
        f"((deep('[aria-roledescription=visualization]')[{at}] || {{}}).ariaLabel)"
    )
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
    for name in ("Curves", "Leaderboard"):
        page = open_page(served.page(page=name, where='"params/lrr" < 1'))
        page.shows("where names the column")
        assert page.text().count("where names the column") == 1
        assert "Drag on the strip" not in page.text()


def test_curves_have_lines(served, open_page):
    page = open_page(served.page())
    told, _ = picture(page)
    assert told.startswith("Curves of train/loss: 13 series · 4,805 points · 3 NaN or infinite")
    assert colours(page) > 2_000
    menus = page.evaluate("[...new Set(deep('.vega-actions a').map(each => each.textContent))]")
    assert menus == ["Save as SVG", "Save as PNG"]  # nothing that would take data to another site


def test_another_metric_is_another_picture_and_stands_in_the_address(served, open_page):
    page = open_page(served.page(metric="valid/acc"))
    told, _ = picture(page)
    assert told.startswith("Curves of valid/acc: 12 series")


def test_leaderboard_turns_round(served, open_page):
    page = open_page(served.page(page="Leaderboard", best="valid/acc"))
    page.shows("greatest first.", "2 parameters of 12 resources")
    _, before = picture(page)
    page.click("deep('marimo-radio')[0].shadowRoot.querySelectorAll('button')[1]")
    page.shows("least first.")
    changed(page, before)
    assert "mode=min" in page.evaluate("location.search")
    page.click("deep('marimo-accordion button')[0] || deep('button').find(each => each.innerText === 'Rows')")
    page.wait("deep('tbody').length > 0")
    assert cells(page)[0][-1] == "0.5"  # where every run began; the greatest is near 1


def test_series_of_a_leaderboard_are_chosen_and_stand_in_the_address(served, open_page):
    page = open_page(served.page(page="Leaderboard", best="fold/auc", mode="min"))
    page.shows("12 resources by best value ever of fold/auc", "fold=0")
    _, before = picture(page)
    page.evaluate(
        "(s => { s.selectedIndex = 1; s.dispatchEvent(new Event('change', {bubbles: true})); })"
        "(deep('select').find(s => [...s.options].some(each => each.text === 'fold=1')))"
    )
    changed(page, before)
    page.wait("location.search.includes('tags=fold%3D1')")
    page = open_page(served.page(page="Leaderboard", best="fold/auc", tags="fold=1"))
    page.wait("deep('select').some(s => s.selectedOptions[0]?.text === 'fold=1')")


def test_health_page_counts_files_and_rows(served, open_page):
    page = open_page(served.page(page="Health"))
    page.shows("points in 1 file", "waiting in the inbox", "0 versions", "1 writer", "No gaps")


def slide(page, keys, at=0):
    """Move a slider by keys."""
    page.evaluate(f"deep('[role=slider]')[{at}].focus()")
    for key in keys:
        page.press(key)


def changed(page, before, at=0):
    """Wait until a chart shows other pixels; return what it says of itself."""
    page.wait(f"deep('canvas').length > {at} && deep('canvas')[{at}].toDataURL() !== {json.dumps(before)}")
    return picture(page, at)[0]


def test_chosen_metric_changes_the_picture(served, open_page):
    page = open_page(served.page())
    picture(page)
    page.click(
        "deep('marimo-multiselect')[0].shadowRoot.querySelector('button, [role=combobox], div[tabindex]')"
    )
    page.click("[...deep('[role=option]')].find(each => each.innerText.includes('valid/acc'))")
    page.wait("deep('[aria-roledescription]').some(each => each.ariaLabel.startsWith('Curves of valid/acc'))")
    assert "valid%2Facc" in page.evaluate("location.search")
    assert colours(page, 1) > 2_000


def test_slider_smooths_the_picture(served, open_page):
    page = open_page(served.page(metric="valid/acc"))
    _, before = picture(page)
    slide(page, ["ArrowRight"] * 3)
    changed(page, before)
    page.wait("deep('[aria-roledescription]')[0].ariaLabel.includes('smoothed 0.03')")
    assert "smooth=0.03" in page.evaluate("location.search")


def test_part_of_the_axis_is_asked_for_again_and_given_back(served, open_page):
    page = open_page(served.page(metric="valid/acc"))
    told, _ = picture(page)
    assert told.endswith("12 series · 4,800 points.")
    picture(page, 1)
    x, y = page.middle("deep('canvas')[1]")
    page.drag((x, y), (x + 120, y))
    page.wait(
        "deep('[aria-roledescription=visualization]')[0].ariaLabel.match(/12 series · [5-6]\\d\\d points/)"
    )
    assert "part=" in page.evaluate("location.search")
    page.click("deep('button').find(each => each.innerText.includes('whole range'))")
    page.wait("deep('[aria-roledescription=visualization]')[0].ariaLabel.endsWith('4,800 points.')")
    assert "part=" not in page.evaluate("location.search")


def test_address_brings_back_what_was_chosen(served, open_page):
    page = open_page(
        served.page(metric="fold/auc", x="relative", smooth="0.5", log="1", color="fold", runs="mlp-0")
    )
    told, _ = picture(page)
    assert told.startswith("Curves of fold/auc: 20 series · 40 points · smoothed 0.5")
    page = open_page(served.page(metric="train/loss", part="[100, 149]", runs="mlp"))
    assert picture(page)[0] == "Curves of train/loss: 12 series · 600 points."
    page = open_page(served.page(metric="train/loss", part="[100.2, 100.7]", runs="mlp"))
    assert picture(page)[0] == "Curves of train/loss: 12 series · 24 points."


def test_metrics_without_steps_are_drawn_along_the_time(tmp_path, serve, open_page):
    with MetricsLake(tmp_path / "lake") as lake:
        for value in range(5):
            lake.log_metric("digits/run", "clock", value, timestamp=1_800_000_000 + value)
        lake.log_series("digits/run", "loss", [0.3, 0.2, 0.1])
    served = serve(tmp_path / "lake")
    page = open_page(served.page(metric="clock", part="[1, 2]"))
    assert picture(page)[0] == "Curves of clock: 1 series · 5 points."
    assert picture(page, 1)[0].startswith("The whole range")
    page = open_page(served.page(metric="clock", times="[1800000001000, 1800000002500]"))
    assert picture(page)[0] == "Curves of clock: 1 series · 2 points."
    page = open_page(served.page(metric='["clock", "loss"]', part="[1, 2]"))
    page.wait("deep('[aria-roledescription=visualization]').length > 2")
    labels = page.evaluate("deep('[aria-roledescription=visualization]').map(each => each.ariaLabel)")
    assert labels[1] == "Curves of loss: 1 series · 2 points."


def test_address_that_names_what_is_not_there_shows_the_page(served, open_page):
    page = open_page(
        served.page(page="Nothing", metric="none", x="colour", smooth="9", color="?", part="1", stat="worst")
    )
    assert picture(page)[0].startswith("Curves of train/loss")


def test_new_points_appear_by_themselves(tmp_path, serve, open_page):
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_series("live/run-1", "loss", [1.0, 0.9])
        lake.flush()
        served = serve(lake.url)
        page = open_page(served.page())
        assert picture(page)[0] == "Curves of loss: 1 series · 2 points."
        lake.log_series("live/run-1", "loss", [0.8, 0.7, 0.6], steps=[2, 3, 4])
        lake.log_series("live/run-2", "accuracy", [0.1, 0.2])
        lake.flush()
        page.shows("2 runs")
        # What is new comes first in the alphabet, and takes nobody's place.
        page.wait("deep('[aria-roledescription=visualization]')[0].ariaLabel.endsWith('5 points.')")
        page.wait("deep('marimo-multiselect')[0].shadowRoot.textContent.includes('loss')")
        assert picture(page)[0] == "Curves of loss: 1 series · 5 points."
        page = open_page(served.page(metric="accuracy"))
        assert picture(page)[0] == "Curves of accuracy: 1 series · 2 points."


def test_empty_lake_says_so_and_fills(tmp_path, serve, open_page):
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_metric("digits/run", "loss", 0.5)
        lake.flush()
        lake.maintenance.delete("digits/run", dry_run=False)
        served = serve(lake.url)
        page = open_page(served.page())
        page.shows("no points yet", "No curves yet.")
        for name, text in (
            ("Runs", "0 resources"),
            ("Leaderboard", "No numbers yet."),
            ("Health", "Gaps"),
        ):
            page.click(f"deep('[role=tab]').find(each => each.innerText.includes('{name}'))")
            page.shows(text)
        page.click("deep('[role=tab]').find(each => each.innerText.includes('Curves'))")
        lake.log_series("digits/run", "acc", [0.1, 0.2, 0.3])
        lake.flush()
        assert picture(page)[0] == "Curves of acc: 1 series · 3 points."


def test_a_deleted_lake_is_called_so_and_what_was_read_stays(tmp_path, serve, open_page):
    folder, aside = tmp_path / "lake", tmp_path / "aside"
    with MetricsLake(folder) as lake:
        lake.log_series("digits/run", "acc", [0.1, 0.2, 0.3])
    served = serve(folder)
    page = open_page(served.page())
    drawn = picture(page)
    folder.rename(aside)
    page.shows("UTC: there is no lake at", "1 run · 1 series · 3 points")
    assert picture(page) == drawn
    fresh = open_page(served.page(page="Runs"))
    fresh.shows("there is no lake at")
    assert "0 resources" not in fresh.text()
    aside.rename(folder)
    fresh.shows("1 resource, latest values.")
    for each in (page, fresh):
        each.wait("!deepText().includes('there is no lake at')")
        each.goto("about:blank")  # a page asks on for as long as it is open
    assert served.stop()[1] == f"{folder} is shown until Ctrl-C at:\n"


def test_a_store_that_is_down_is_told_of_until_it_answers_again(s3_server, s3_proxy, serve, open_page):
    url, options = s3_server.url(), s3_server.options(endpoint_url=s3_proxy.url)
    with MetricsLake(url, storage_options=s3_server.options()) as lake:
        for fold in range(2):
            lake.log_series("digits/run", "acc", [0.1, 0.2, 0.3], tags={"fold": fold})
        lake.flush()
        served = serve(url, *(f"--storage-option={name}={text}" for name, text in flat(options)))
        page = open_page(served.page(page="Leaderboard", best="acc"))
        drawn = picture(page)
        s3_proxy.outage()
        page.shows("The store or the way to it is down", "2 series")
        assert picture(page) == drawn
        fresh = open_page(served.page(page="Leaderboard", best="acc"))
        fresh.shows("The store or the way to it is down")
        lake.log_series("digits/other", "acc", [0.4], tags={"fold": 0})
        lake.flush()
        s3_proxy.heal()
        for each in (page, fresh):
            each.shows("2 runs", "2 resources by best value ever of acc")
            each.wait("!deepText().includes('is down')")
            each.wait("deep('select').some(s => s.selectedOptions[0]?.text === 'fold=0')")
            each.goto("about:blank")
    assert "Traceback" not in served.stop()[1]


def flat(options, above=""):
    """Return options as the command line takes them: the names of nested ones with dots."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def test_hostile_and_long_ids_are_only_texts(tmp_path, serve, open_page):
    hostile = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    with MetricsLake(tmp_path / "lake") as lake:
        for run in (hostile, "long/" + "x" * 4_000, "datum['a'] \\ % {{}} $` \U0001f680 \u202e\n\t end"):
            lake.log_series(run, hostile, [0.1, 0.5], tags={hostile: "<b>bold</b>"})
            lake.log_series(run, "loss", [0.1, 0.5])
            lake.log_params(run, {hostile: hostile})
            lake.log_series(run, "m" * 2_000, [0.1, 0.5])
        lake.log_metric("digits/proto", "__proto__", 0.25)
        lake.flush()
        served = serve(lake.url)
        for name in ("Runs", "Curves", "Leaderboard", "Health"):
            page = open_page(served.page(page=name, best=hostile, metric=hostile, where="'<b>' <> '&amp;'"))
            page.shows("onerror" if name != "Health" else "No gaps")
            if name in {"Curves", "Leaderboard"}:
                picture(page)
            assert "owned" not in page.evaluate("document.title")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
            if name == "Runs":
                page.shows("__proto__", "0.25")
        page = open_page(served.page(metric="m" * 2_000))
        picture(page)
        assert colours(page) > 500  # the title leaves the lines their room


def test_two_hundred_runs_stay_within_the_budget(tmp_path, serve, open_page):
    with MetricsLake(tmp_path / "lake") as lake:
        for at in range(200):
            lake.log_series(
                f"sweep/run-{at:03}", "loss", [1 / (1 + step * (at + 1) / 200) for step in range(500)]
            )
        lake.flush()
        served = serve(lake.url)
        page = open_page(served.page())
        told, _ = picture(page)
        assert "200 series" in told
        assert "of 100,000 points shown, extremes kept" in told
        page = open_page(served.page(page="Runs"))
        page.shows("200 resources", "Page 1 of 10")


def test_prediction_page_shows_curves_drift_and_windows(tmp_path, serve, open_page):
    rows = {
        "id": list(range(240)),
        "p": [(at * 37 % 100) / 100 for at in range(240)],
        "country": ["FR" if at % 2 else "NO" for at in range(240)],
        "at": [dt.datetime(2026, 11, 1, tzinfo=dt.UTC) + dt.timedelta(hours=at) for at in range(240)],
    }
    labels = {"id": rows["id"], "churned": [(at * 31 % 90) < 100 * p for at, p in enumerate(rows["p"])]}
    with MetricsLake(tmp_path / "lake") as lake:
        for job in ("churn/1", "churn/2"):
            frame = pl.DataFrame(rows)
            lake.log_prediction_metrics(job, frame, score="p", key="id", by="country", time="at", every="1d")
            lake.log_ground_truth(job, pl.DataFrame(labels), key="id", truth="churned")
        lake.flush()
        served = serve(lake.url)
        page = open_page(served.page(page="Predictions", reference="churn/1", segment="country"), height=1800)
        page.shows("240 predictions", "Share of positives found", "Rows by true and predicted class")
        page.shows("Windows of 1d, against churn/1", "How often what was predicted")
        picture(page)
        assert colours(page) > 50


def test_pages_of_a_table_turn_after_others_were_looked_at(tmp_path, serve, open_page):
    with MetricsLake(tmp_path / "lake") as lake:
        for at in range(45):
            lake.log_metric(f"sweep/run-{at:02}", "loss", at)
        lake.flush()
        served = serve(lake.url)
        page = open_page(served.page(page="Runs"))
        page.shows("sweep/run-00")
        page.click(
            "deep('[data-testid=next-page-button], button[id*=next], button').find(e => "
            "/next/i.test(e.dataset.testid + e.ariaLabel + e.innerText))"
        )
        page.shows("sweep/run-25")
