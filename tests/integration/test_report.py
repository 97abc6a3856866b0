"""The report in a real browser: charts have marks, nothing fails, nothing leaves the machine."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from metrics_lake import MetricsLake

SCRIPT = Path(sys.executable).with_name("metrics-lake")
HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=document.title='owned'>&amp;<!--",
    "{{constructor}} ${1} \\u003c/script> \x1b[31m\n\ttwo lines",
)
MARKS = """
(() => Object.values(metricsLakeCharts).map(({view}) => {
  const counts = {};
  const walk = (item) => {
    if (item.marktype && item.marktype !== "group") {
      counts[item.marktype] = (counts[item.marktype] || 0) + item.items.length;
    }
    (item.items || []).forEach(walk);
  };
  walk(view.scenegraph().root);
  return counts;
}))()
"""

ITEMS = """
(view, type) => {
  const found = [];
  const walk = (item) => {
    if (item.marktype === type) found.push(...item.items);
    (item.items || []).forEach(walk);
  };
  walk(view.scenegraph().root);
  return found;
}
"""


def fill(lake, runs, steps=60, name="digits/mlp-{}"):
    chance = random.Random(runs)
    start = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    for at in range(runs):
        run = name.format(at)
        lake.log_params(run, {"lr": 10 ** -chance.uniform(1, 4), "optimizer": chance.choice(["adam", "sgd"])})
        loss = [math.exp(-step / 20) + chance.gauss(0, 0.02) for step in range(steps)]
        times = [start + dt.timedelta(hours=at, seconds=20 * step) for step in range(steps)]
        lake.log_series(run, "train/loss", loss, steps=range(steps), timestamps=times)
        lake.log_series(
            run, "valid/acc", [1 - each / 2 for each in loss], steps=range(steps), timestamps=times
        )


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake") as made:
        yield made


@pytest.fixture
def show(lake, tmp_path, open_page):
    """Return a function that writes a report and opens it; it is drawn when the function returns."""

    def shown(**options):
        target = tmp_path / "report.html"
        lake.report(target, **options)
        page = open_page(target.as_uri())
        page.wait("document.documentElement?.dataset.drawn !== undefined")
        return page

    return shown


@pytest.mark.parametrize("runs", [1, 12, 200])
def test_charts_have_their_marks(lake, show, runs):
    fill(lake, runs)
    page = show()
    board, loss, acc, *more = page.evaluate(MARKS)
    assert board["rect"] == min(runs, 20)
    # A line is a mark of as many items as it has points.
    drawn = runs * 60
    assert loss["line"] == acc["line"] == drawn
    assert bool(more) == (runs > 1)
    assert f"{runs} series" in page.evaluate("document.querySelector('.charts .chart').ariaLabel")


def test_ids_stay_text(lake, show):
    for at, name in enumerate(HOSTILE):
        lake.log_series(name, f"m{name}", [1.0, 2.0 + at])
        lake.log_series(name, "shared", [1.0, 2.0 + at], tags={name[:60]: name})
        lake.log_metric(name, "shared", 3.0)
        lake.log_params(name, {name: name})
    page = show(title=HOSTILE[0])
    assert page.evaluate("document.title") == HOSTILE[0]
    assert page.evaluate("document.querySelector('h1').textContent") == HOSTILE[0]
    shown = page.evaluate("[...document.querySelectorAll('td.id')].map((cell) => cell.textContent)")
    assert set(HOSTILE[:3]) <= set(shown)
    assert (
        page.evaluate(
            "document.querySelectorAll('main script, main img, main svg:not(summary svg), td *').length"
        )
        == 0
    )
    assert len(page.evaluate(MARKS)) >= 6


def test_gaps_are_marked(lake, show):
    lake.log_series("run", "m", [1.0, math.nan, 2.0, math.inf, 3.0, -math.inf, 4.0], steps=range(7))
    lake.log_metric("run", "m", "diverged", step=8)
    page = show()
    (marks, *_) = page.evaluate(MARKS)[1:]
    # Four points with no neighbour, three marks at the edges.
    assert marks["symbol"] == 7


def test_a_lake_without_points_says_so(lake, show):
    lake.log_metric("run", "m", 1.0)
    page = show(resources="nobody")
    assert "No resource of this lake has such metrics." in page.text()
    assert page.evaluate(MARKS) == []


def test_the_table_sorts_and_filters(lake, show):
    fill(lake, 12)
    page = show()
    runs = "[...document.querySelectorAll('section')].find("
    runs += "(each) => each.querySelector('h2').textContent === 'Runs')"
    first = f"{runs}.querySelector('tbody tr:not([hidden])').cells[0].textContent"
    assert page.evaluate(first) == "digits/mlp-0"
    page.click(f"{runs}.querySelector('th button')")
    page.click(f"{runs}.querySelector('th button')")
    assert page.evaluate(first) == "digits/mlp-11"
    values = f"[...{runs}.querySelectorAll('tbody tr')].map((row) => Number(row.cells[3].dataset.v))"
    page.click(f"{runs}.querySelectorAll('th button')[3]")
    found = page.evaluate(values)
    assert found == sorted(found)
    page.click(f"{runs}.querySelector('input')")
    page.type("mlp-7")
    page.wait(f"{runs}.querySelector('output').textContent === '1 of 12 rows'")
    assert page.evaluate(first) == "digits/mlp-7"


def test_the_other_order_is_one_click_away(lake, show):
    fill(lake, 3)
    page = show(best="train/loss")
    visible = "[...document.querySelectorAll('section tbody')].filter((each) => each.offsetParent)[0]"
    values = f"[...{visible}.rows].map((row) => Number(row.cells.item(4).textContent))"
    descending = page.evaluate(values)
    assert descending == sorted(descending, reverse=True)
    page.click("document.querySelectorAll('input[type=radio]')[1]")
    page.wait("Object.keys(metricsLakeCharts).length === 5")
    ascending = page.evaluate(values)
    assert ascending == sorted(ascending)
    assert ascending[0] < descending[-1]


CURVES = "metricsLakeCharts[document.querySelector('.charts .chart').id].view"


def place(page, x, y):
    """Return where on the screen the first curves have a point."""
    page.middle("document.querySelector('.charts canvas')")
    return page.evaluate(f"""(() => {{
        const view = {CURVES}, box = view.container().querySelector('canvas').getBoundingClientRect();
        const left = view.origin()[0] + view.padding().left, top = view.origin()[1] + view.padding().top;
        return [box.x + left + view.scale('x')({x}), box.y + top + view.scale('y')({y})];
    }})()""")


def words(page):
    """Return what the first curves write inside, once they have written something."""
    found = f"(({ITEMS})({CURVES}, 'text').filter((each) => each.lineHeight === 14).map((each) => each.text))"
    return page.wait(f"{found}.length && {found}")


def test_hovering_names_the_nearest_of_all_points(lake, show):
    runs, steps = 20, 1_000
    for run in range(runs):
        values = [run + (step * 7 % 10) / 20 for step in range(steps)]
        lake.log_series(f"digits/{run}", "m", values, steps=range(steps))
    page = show(metrics="m")
    for run, step in ((0, 0), (7, 333), (19, 999)):
        value = run + (step * 7 % 10) / 20
        page.hover(*place(page, step, value))
        page.wait(f"{CURVES}.data('nearest').some((each) => each.x === {step} && each.y === {value})")
        halo, text = words(page)
        assert halo == text == [f"digits/{run}", f"step {step}", str(value).removesuffix(".0")]
        (shown,) = page.evaluate(
            f"[({ITEMS})({CURVES}, 'line').filter((each) => each.strokeWidth === 2).length]"
        )
        assert shown == steps
    page.hover(1, 1)
    page.wait(f"{CURVES}.data('nearest').length === 0")


def test_a_lifted_line_keeps_its_gaps(lake, show):
    lake.log_series("a", "m", [1.0, 2.0, math.nan, 2.0, 1.0], steps=range(5))
    lake.log_series("b", "m", [3.0, 4.0, 5.0, 4.0, 3.0], steps=range(5), tags={"fold": 3})
    page = show(metrics="m")
    page.hover(*place(page, 1, 2))
    assert words(page)[1] == ["a", "step 1", "2"]
    drawn = page.evaluate(
        f"({ITEMS})({CURVES}, 'line').filter((each) => each.strokeWidth === 2).map((each) => each.defined)"
    )
    assert drawn == [True, True, False, True, True]
    # Nothing is at the gap: what is nearest to it is a point of the other line.
    page.hover(*place(page, 2, 2))
    page.wait(f"{CURVES}.data('nearest')[0].series.resource === 'b'")
    assert words(page)[1] == ["b", "fold=3 · step 2", "5"]


def test_it_follows_the_reader_into_the_dark(lake, show):
    fill(lake, 2)
    page = show()
    back = "metricsLakeCharts[document.querySelector('.chart').id].view.background()"
    assert page.evaluate(back) == "#ffffff"
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.wait(f"{back} === '#16191d'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 29)"


def test_nothing_scrolls_sideways_on_a_narrow_page(lake, show):
    fill(lake, 12, name="team/experiments/resnet-with-a-very-long-descriptive-name/seed-{}")
    page = show()
    page.resize(390, 800)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_command_writes_it(lake, tmp_path, open_page):
    fill(lake, 2)
    lake.flush()
    target = tmp_path / "from-the-command.html"
    done = subprocess.run(
        [
            SCRIPT,
            "report",
            "-o",
            target,
            "digits/*",
            "--metric",
            "train/*",
            "--mode",
            "min",
            "--url",
            lake.url,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"Wrote {target}" in " ".join(done.stderr.split())
    page = open_page(target.as_uri())
    page.wait("document.documentElement?.dataset.drawn === '3'")
    assert "Least" not in page.evaluate("document.querySelector('main').innerText").splitlines()[:5]
    specs = page.evaluate("[...document.querySelectorAll('[data-spec]')].map((each) => each.dataset.spec)")
    title = page.evaluate(
        f"JSON.parse(document.getElementById({json.dumps(specs[1])}).textContent).title.text"
    )
    assert title == "train/loss"
    piped = subprocess.run(
        [SCRIPT, "report", "-o", "-", "--url", lake.url], capture_output=True, text=True, check=True
    )
    assert piped.stdout.startswith("<!DOCTYPE html>")
    missing = subprocess.run(
        [SCRIPT, "report", "-o", "-", "digits/none", "--url", lake.url], capture_output=True, check=False
    )
    assert missing.returncode == 3
