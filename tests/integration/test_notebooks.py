"""The notebooks run from top to bottom, and their cells say what their texts say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from metrics_lake import MetricsLake

FOLDER = Path(__file__).parents[2] / "notebooks"
MARIMO = sorted(FOLDER.glob("*.py"))
MONITORING = FOLDER / "monitoring.ipynb"


def run(name):
    """Run a marimo notebook; return what its cells define."""
    spec = importlib.util.spec_from_file_location(f"notebook_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, defined = module.app.run()
    return defined


def title(chart):
    """Return what a chart is called."""
    found = chart.to_dict()["title"]
    return found if isinstance(found, str) else found["text"]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A lake with runs and a prediction job."""
    folder = tmp_path_factory.mktemp("notebooks")
    with MetricsLake(folder / "lake", state_dir=folder / "state") as lake:
        for number in range(3):
            lake.log_params(f"digits/run-{number}", {"lr": 10.0**-number})
            lake.log_series(f"digits/run-{number}", "loss", [1 / (step + 1) for step in range(20)])
        scored = {"p": [0.9, 0.8, 0.3, 0.2], "late": [True, False, True, False]}
        lake.log_prediction_metrics("trains/today", scored, score="p", truth="late")
    return str(folder / "lake")


def test_the_four_are_there():
    assert [path.name for path in MARIMO] == ["comparison.py", "dashboard.py", "tour.py"]
    assert MONITORING.is_file()


@pytest.mark.parametrize("path", MARIMO, ids=lambda path: path.stem)
def test_marimo_finds_nothing_wrong(path):
    found = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", str(path)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_tour_tells_what_it_promises(tmp_path, monkeypatch):
    monkeypatch.setenv("METRICS_LAKE_URL", str(tmp_path / "lake"))
    cells = run("tour")
    assert cells["accuracy"] > 0.9
    assert len(cells["confusion"]) == len(cells["confusion"][0]) == 10
    assert len(cells["curves"]) == 5 * 2 * 40
    ranking = cells["ranking"].rows()
    assert len(ranking) == 4  # alpha = 1 is filtered out
    assert [row["value"] for row in ranking] == sorted((row["value"] for row in ranking), reverse=True)
    assert {row["params/alpha"] for row in cells["table"].rows()} == {1e-4, 1e-2, 0.1, 0.5, 1.0}
    assert {row["author"] for row in cells["fastest"].rows()} == {"ada"}
    assert cells["copied"] == [2 * 40 + 40 + 3, 0]
    assert cells["lake"].get_metric("models/digits/1", "is_deployed") is True
    assert cells["receipt"].points == 1
    assert cells["seen_points"] == 5 * 123 + 123 + 1
    assert set(cells["files"]["kind"]) == {"table"}
    cells["lake"].close()


def test_the_comparison_tells_what_it_promises(tmp_path, monkeypatch):
    monkeypatch.setenv("METRICS_LAKE_URL", str(tmp_path / "lake"))
    cells = run("comparison")
    by_accuracy, by_log_loss = (
        [row["resource"] for row in cells[name].rows()] for name in ("by_accuracy", "by_log_loss")
    )
    assert len(by_accuracy) == 4
    assert by_accuracy != by_log_loss  # as its text says
    assert cells["spread"].height == 4 * 5
    rows = {row["resource"]: row for row in cells["accuracies"].rows()}
    assert all(row["low"] < row["value"] < row["high"] and row["n"] == 1797 for row in rows.values())
    points = cells["calibration"].pl()
    assert points["n"].sum() == 4 * 1797
    sure = {row["resource"]: row for row in points.filter(points["bin_start"] == 0.9).to_dicts()}
    assert (
        sure["predictions/naive-bayes"]["high"] < sure["predictions/naive-bayes"]["x"]
    )  # too sure of itself
    assert sure["predictions/forest"]["y"] > sure["predictions/forest"]["x"]  # too modest
    assert cells["confusion"].pl()["value"].sum() == 1797
    assert title(cells["one_against_all"]) == "The digit 8 against all others"
    assert len(cells["tradeoff"]) == 4
    cells["lake"].close()


def test_the_dashboard_shows_what_a_lake_has(url, monkeypatch):
    monkeypatch.setenv("METRICS_LAKE_URL", url)
    cells = run("dashboard")
    assert cells["problem"] is None
    resources = cells["run_table"].table.column("resource").to_pylist()
    assert resources == ["digits/run-0", "digits/run-1", "digits/run-2", "trains/today"]
    assert cells["curves"].chart is not None
    assert cells["board"].table.num_rows
    assert [panel.title for panel in cells["predictions"]][:2] == ["Metrics", "ROC curve"]
    assert [panel.title for panel in cells["health"]] == ["Files", "Versions", "Writers", "Gaps"]


def test_names_in_the_dashboard_are_texts(tmp_path, monkeypatch):
    name = "<img src=x> **loud** $x$"
    with MetricsLake(tmp_path / "lake") as lake:
        lake.log_series("digits/run", name, [0.5, 0.25])
    monkeypatch.setenv("METRICS_LAKE_URL", str(tmp_path / "lake"))
    page = run("dashboard")["board_page"].text
    assert "<h3>Leaderboard: &lt;img src=x&gt; **loud** $x$</h3>" in page
    assert "<img" not in page


def test_the_dashboard_explains_a_url_without_a_lake(tmp_path, monkeypatch):
    monkeypatch.setenv("METRICS_LAKE_URL", str(tmp_path / "nothing"))
    cells = run("dashboard")
    assert "nothing" in cells["problem"]
    assert not (tmp_path / "nothing").exists()


class Marimo:
    """``marimo run`` of a notebook, on this machine alone."""

    def __init__(self, notebook, environment):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "marimo", "run", str(notebook), "--headless", "--no-token"]
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(self.port)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.address = f"http://127.0.0.1:{self.port}/"
        said = []
        for line in self.process.stdout:
            said.append(line)
            if str(self.port) in line:
                return
        raise AssertionError(f"marimo did not start: {''.join(said)}")

    def close(self):
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def served(url, tmp_path):
    marimo = Marimo(FOLDER / "dashboard.py", {"METRICS_LAKE_URL": url, "HOME": str(tmp_path)})
    yield marimo
    marimo.close()


def test_the_dashboard_in_a_browser_takes_another_url(served, tmp_path, open_page):
    with MetricsLake(tmp_path / "other") as other:
        other.log_series("another/run", "loss", [0.5, 0.25, 0.125])
    page = open_page(served.address)
    page.shows("A dashboard of your own", "digits/run-2", "Leaderboard")
    page.click("deep('input').find(each => each.value.endsWith('lake'))")
    page.evaluate("deep('input').find(each => each.value.endsWith('lake')).select()")
    page.type(str(tmp_path / "other"))
    page.press("Enter")
    page.shows("another/run")
    assert "digits/run-2" not in page.text()
    page.click("deep('[role=tab]').find(each => each.innerText == 'Curves')")
    page.wait("deep('canvas, svg.marks').length > 0")


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory):
    """The Jupyter notebook, run by its own kernel."""
    folder = tmp_path_factory.mktemp("monitoring")
    notebook = nbformat.read(MONITORING, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRICS_LAKE_URL", str(folder / "lake"))
        patch.setenv("METRICS_LAKE_STATE", str(folder / "state"))
        patch.setenv("IPYTHONDIR", str(folder))
        NotebookClient(notebook, timeout=200, kernel_name="python3").execute(cwd=str(folder))
    return notebook, str(folder / "lake")


def outputs_of(notebook, kind):
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if kind in output.get("data", {})
    ]


def test_monitoring_draws_pictures_without_a_network(monitoring):
    pictures = outputs_of(monitoring[0], "image/svg+xml")
    assert len(pictures) == 6
    assert "ROC curve" in pictures[0]
    for picture in pictures:
        assert "<path" in picture
        assert ">NaN<" not in picture


def test_monitoring_tells_what_its_text_says(monitoring):
    told = [json.loads(text.replace("'", '"')) for text in outputs_of(monitoring[0], "text/plain")
            if text.startswith("{")]  # fmt: skip
    reference, so_far, everything = told
    assert reference["roc_auc"] > 0.9
    assert (so_far["coverage"], everything["coverage"]) == (0.7, 1.0)
    assert everything["accuracy"] < so_far["accuracy"] < reference["accuracy"]
    with MetricsLake(monitoring[1], read_only=True) as lake:
        days = lake.prediction_metrics(
            "letters/live",
            metrics=["accuracy", "estimated/accuracy", "drift/psi"],
            every="1d",
            reference="letters/validation",
        ).pl()
    days = days.drop("segment").filter(days["window_start"].is_not_null())
    wide = days.pivot("metric", index="window_start", values="value").sort("window_start")
    before, after = wide[:6], wide[6:]
    assert after["accuracy"].max() < 0.75 < before["accuracy"].min()
    assert after["drift/psi"].min() > before["drift/psi"].max()  # drift says: look
    assert after["estimated/accuracy"].min() > 0.8  # the estimate says: all is well


def test_no_outputs_and_no_machine_are_kept():
    notebook = json.loads(MONITORING.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
        assert cell["metadata"] == {}
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for path in (*MARIMO, MONITORING):
        assert not re.search(r"/(home|Users|root|work|tmp)/", path.read_text(encoding="utf-8"))
