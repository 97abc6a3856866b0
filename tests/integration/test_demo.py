"""The demo as a user starts it: the console script in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("sklearn")

from metrics_lake import MetricsLake, glob

SCRIPT = Path(sys.executable).with_name("metrics-lake")


@pytest.fixture
def start(tmp_path):
    """Return a function that runs the console script in a folder of its own and returns how it went."""

    def started(*arguments, **environment):
        home = {
            "METRICS_LAKE_STATE": str(tmp_path / "state"),
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
        }
        (tmp_path / "work").mkdir(exist_ok=True)
        return subprocess.run(
            [SCRIPT, *arguments],
            cwd=tmp_path / "work",
            env=home | environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=240,
            check=False,
        )

    return started


def test_two_rounds_lie_in_the_lake_as_they_were_printed(start, tmp_path):
    first = start("demo")
    assert (first.returncode, first.stderr) == (0, "")
    assert "round 1" in first.stdout
    assert str(tmp_path / "work" / "metrics-lake") in first.stdout
    for expected in ("digits, by valid/log_loss", "diabetes, by valid/rmse", "roc_auc", "Parquet files"):
        assert expected in first.stdout
    assert max(map(len, first.stdout.splitlines()[2:])) <= 80
    assert all(line == line.rstrip() for line in first.stdout.splitlines())
    assert "None" not in first.stdout
    assert "nan" not in first.stdout
    assert "\x1b" not in first.stdout

    folder = tmp_path / "work" / "metrics-lake"
    with MetricsLake(folder, read_only=True) as lake:
        names = set(lake.resources().values("resource")) - {"demo"}
        runs = sorted(name for name in names if name.split("/")[1] in {"digits", "cancer", "diabetes"})
        assert len(runs) == 10
        assert all(name.startswith("demo/") and name.endswith("/1") for name in names)
        before = lake.history(glob("demo/*")).rows()
        for name in runs:
            assert lake.get_metric(name, "params/epochs") == 40
            assert len(lake.history(name, glob("valid/*"), steps=range(1, 41))) == 80
        for data, metric in (
            ("digits", "valid/log_loss"),
            ("cancer", "valid/log_loss"),
            ("diabetes", "valid/rmse"),
        ):
            last = {name: lake.get_metric(name, metric) for name in runs if f"/{data}/" in name}
            winner = min(last, key=last.get)
            model = f"demo/models/{data}/1"
            assert f"{winner} -> {model}" in first.stdout
            assert lake.latest_metrics(model) == lake.latest_metrics(winner)
            assert lake.get_metric(f"demo/predictions/{data}/1", "num_predictions") > 80
        assert lake.get_metric("demo/predictions/cancer/1", "roc_auc") > 0.95
        assert lake.get_metric("demo/predictions/digits/1", "accuracy") > 0.9
        assert lake.get_metric("demo/predictions/diabetes/1", "r2") > 0.3

    second = start("demo", COLUMNS="60", PYTHONIOENCODING="ascii")
    assert (second.returncode, second.stderr) == (0, "")
    assert "round 2" in second.stdout
    assert "demo/digits/mlp-16/1" in second.stdout
    assert "demo/digits/mlp-16/2" in second.stdout
    with MetricsLake(folder, read_only=True) as lake:
        assert lake.history(glob("demo/*/1")).rows() == before
        assert lake.get_metric("demo", "rounds") == 2
        assert len(lake.resources(glob("demo/*"))) == 2 * len(names)


def test_the_url_comes_from_the_option_then_from_the_environment(start, tmp_path):
    broken = tmp_path / "file"
    broken.touch()
    answers = [
        start("demo", "--url", str(broken / "option"), METRICS_LAKE_URL=str(broken / "environment")),
        start("demo", METRICS_LAKE_URL=str(broken / "environment")),
    ]
    for answer, name in zip(answers, ("option", "environment"), strict=True):
        assert answer.returncode == 1
        assert answer.stderr.startswith("metrics-lake: ")
        assert answer.stderr.count("\n") == 1
        assert str(broken / name) in answer.stderr


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://lake", "vanishes"),
        ("http://example.com/lake", "cannot hold a lake"),
        ("nowhere://bucket/lake", "nowhere"),
        ("", "neither a path nor a url"),
    ],
)
def test_a_url_that_cannot_keep_a_lake_is_one_clean_line(start, url, message):
    answer = start("demo", "--url", url)
    assert answer.returncode == 2
    assert answer.stderr.startswith("metrics-lake: ")
    assert answer.stderr.count("\n") == 1
    assert message in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize("arguments", [("dmeo",), ("demo", "--ulr", "x")], ids=["command", "option"])
def test_wrong_arguments_are_one_line_that_names_the_help(start, arguments):
    answer = start(*arguments)
    assert answer.returncode == 2
    assert answer.stderr.startswith("metrics-lake: No such ")
    assert answer.stderr.count("\n") == 1
    assert "--help" in answer.stderr
    assert answer.stdout == ""


def test_help_and_version(start):
    assert "demo" in start("--help").stdout
    assert "--url" in start("demo", "--help").stdout
    assert start("--version").stdout.startswith("metrics-lake 0.")


@pytest.mark.parametrize("missing", ["click", "rich", "sklearn"])
def test_a_missing_package_is_named_with_the_pip_line(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; "
        "from metrics_lake.cli import main; sys.exit(main(['demo']))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("metrics-lake: the ")
    assert answer.stderr.endswith('pip install "metrics-lake[demo]"\n')
    assert answer.stderr.count("\n") == 1
