"""The quickstart by which the API is measured: each of its lines runs, on real data, and says what it should.

The lines are what people are shown, so they stand here as they are; only the bucket becomes a folder.
"""

from __future__ import annotations

import ast
import datetime as dt
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from served import Served
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from metrics_lake import MetricsLake

ROOT = Path(__file__).parents[2]
BUCKET = "s3://acme-ml/metrics"
PYTHON = """
import polars as pl
from metrics_lake import MetricsLake, glob

lake = MetricsLake("s3://acme-ml/metrics")             # or "gs://…", a folder, or nothing at all: ./metrics-lake

# log: durable when the call returns, microseconds, no network in your loop
with lake.resource("digits/mlp-3") as run:             # a name, or any object that has an id
    run.log_params({"lr": 3e-4, "layers": [64, 64]})
    for step, (loss, acc) in enumerate(train()):
        run.log_metrics({"train": {"loss": loss}, "valid": {"acc": acc}}, step=step)
    run.log_metric("confusion", [[50, 2], [1, 47]])    # any value; the same type comes back
                                                       # leaving the block publishes: every reader sees it
# read
lake.get_metric("digits/mlp-3", "valid/acc")           # the latest
lake.best("valid/acc", mode="max", resources=glob("digits/*"), where='"params/lr" < 1e-3', top=5)
lake.compare(glob("digits/*"), ["params/lr", "train/loss", "valid/acc"]).pl()
lake.history(glob("digits/*"), "valid/acc").plot(x="step")
lake.sql("select resource, avg(value) from metrics where metric = $m group by all", {"m": "valid/acc"}).df()

# promote: whole histories, exact, with lineage; repeating it adds nothing
lake.copy_metrics("digits/mlp-3", "models/digits/7")

# monitor predictions; the labels arrive weeks later
scored = pl.scan_parquet("scored.parquet")             # customer_id, country, churn, p, scored_at
job = lake.resource("churn/2026-11-22")
lake.log_prediction_metrics(job, scored, prediction="churn", score="p", key="customer_id",
                            by="country", time="scored_at", every="1d")
labels = pl.read_parquet("labels.parquet")             # customer_id, churned
lake.log_ground_truth(job, labels, key="customer_id", truth="churned")
lake.get_metric(job, "roc_auc")                        # everything labelled so far
lake.get_metric(job, "roc_auc", tags={"country": "FR"})
lake.prediction_metrics(glob("churn/*"), metrics=["roc_auc", "log_loss"], by="country", every="7d").plot()
lake.close()
"""  # noqa: E501 -- as people are shown it
CONSOLE = """
$ pip install "metrics-lake[s3,cli,ui]" && export METRICS_LAKE_URL=s3://acme-ml/metrics
$ metrics-lake ls 'digits/*'
$ metrics-lake best valid/acc --mode max --resources 'digits/*' --top 5
$ metrics-lake history digits/mlp-3 valid/acc --format csv > acc.csv
$ metrics-lake ui
"""


def train():
    """Learn digits for five epochs; yield loss and validation accuracy behind each."""
    features, targets = load_digits(return_X_y=True)
    features = StandardScaler().fit_transform(features)
    model = SGDClassifier(loss="log_loss", random_state=0)
    for _ in range(5):
        model.partial_fit(features[:1200], targets[:1200], classes=np.arange(10))
        shares = model.predict_proba(features[:1200])
        yield log_loss(targets[:1200], shares), model.score(features[1200:], targets[1200:])


def write_predictions(folder: Path) -> pl.DataFrame:
    """Write scores of patients held out and, apart, what came true; return both together."""
    features, targets = load_breast_cancer(return_X_y=True)
    model = LogisticRegression(max_iter=5000).fit(features[:200, :4], targets[:200])
    shares = model.predict_proba(features[200:, :4])[:, 1]
    count = len(shares)
    whole = pl.DataFrame(
        {
            "customer_id": range(count),
            "country": [("FR", "NO", "DE")[at % 3] for at in range(count)],
            "churn": shares > 0.5,
            "p": shares,
            "scored_at": [
                dt.datetime(2026, 11, 1, tzinfo=dt.UTC) + dt.timedelta(hours=2 * at) for at in range(count)
            ],
            "churned": targets[200:] == 1,
        }
    )
    whole.drop("churned").write_parquet(folder / "scored.parquet")
    whole.select("customer_id", "churned").write_parquet(folder / "labels.parquet")
    return whole


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """Run the Python lines once; return the folder, what each expression gave, and the predictions."""
    folder = tmp_path_factory.mktemp("quickstart")
    predictions = write_predictions(folder)
    names = {"train": train}
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("METRICS_LAKE_STATE", str(folder / "state"))
        for statement in ast.parse(PYTHON.replace(BUCKET, str(folder / "lake"))).body:
            if isinstance(statement, ast.Expr):
                code = compile(ast.Expression(statement.value), "quickstart", "eval")
                given[ast.unparse(statement)] = eval(code, names)  # noqa: S307 -- our own lines
            else:
                exec(compile(ast.Module([statement], []), "quickstart", "exec"), names)  # noqa: S102
    return folder, given, predictions


def of(given, *parts):
    """Return what the one expression gave that holds all these texts."""
    (found,) = (value for text, value in given.items() if all(part in text for part in parts))
    return found


def test_every_line_of_python_says_what_it_should(quickstart):
    _, given, predictions = quickstart
    losses, accuracies = zip(*train(), strict=True)
    assert of(given, "get_metric", "valid/acc") == accuracies[-1]
    (best,) = of(given, ".best(").rows()
    assert (best["rank"], best["resource"], best["value"]) == (1, "digits/mlp-3", max(accuracies))
    assert of(given, ".compare(").rows() == [
        ("digits/mlp-3", 3e-4, losses[-1], accuracies[-1]),
    ]
    chart = of(given, ".history(").to_dict()
    (drawn,) = (data for data in chart["datasets"].values() if isinstance(data, str))
    assert len(drawn.splitlines()) == 1 + 5
    frame = of(given, ".sql(")
    assert frame.iloc[0].to_list() == ["digits/mlp-3", pytest.approx(np.mean(accuracies))]
    assert of(given, ".copy_metrics(") == 2 * 5 + 3
    # By bins of scores, which are kept in place of them.
    truth, scores = predictions["churned"].to_numpy(), predictions["p"].to_numpy()
    assert of(given, "get_metric(job, 'roc_auc')") == pytest.approx(roc_auc_score(truth, scores), abs=1e-3)
    french = (predictions["country"] == "FR").to_numpy()
    expected = roc_auc_score(truth[french], scores[french])
    assert of(given, "{'country': 'FR'}") == pytest.approx(expected, abs=1e-3)
    chart = of(given, ".prediction_metrics(").to_dict()
    shown = str(chart["datasets"])
    assert all(text in shown for text in ("roc_auc", "log_loss", "FR", "NO", "DE"))


def test_what_the_lines_logged_is_there_for_another_process(quickstart):
    folder, _, _ = quickstart
    with MetricsLake(folder / "lake", read_only=True) as lake:
        assert lake.get_metric("digits/mlp-3", "confusion") == [[50, 2], [1, 47]]
        assert lake.get_metric("digits/mlp-3", "params/layers") == [64, 64]
        copied = lake.history("models/digits/7", full=True)
        assert set(copied.values("origin")) == {"digits/mlp-3"}
        assert len(copied) == len(lake.history("digits/mlp-3"))
    with MetricsLake(folder / "lake", state_dir=folder / "state") as lake:
        assert lake.copy_metrics("digits/mlp-3", "models/digits/7") == 0


def test_every_line_of_the_console_runs(quickstart):
    folder, _, _ = quickstart
    (install, *commands, last) = (line.removeprefix("$ ") for line in CONSOLE.strip().splitlines())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.search(r"metrics-lake\[([a-z0-9,]+)\]", install)[1].split(",")
    assert set(named) <= extras["optional-dependencies"].keys()
    export = install.partition(" && ")[2].replace(BUCKET, str(folder / "lake"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = []
    for command in commands:
        answer = subprocess.run(
            ["/bin/bash", "-c", f"{export} && {command}"],
            cwd=folder,
            env=os.environ | {"PATH": path, "METRICS_LAKE_STATE": str(folder / "state")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (answer.returncode, answer.stderr) == (0, ""), command
        said.append(answer.stdout)
    assert '"resource":"digits/mlp-3"' in said[0]
    assert '"rank":1' in said[1]
    assert len((folder / "acc.csv").read_text(encoding="utf-8").splitlines()) == 6
    assert last == "metrics-lake ui"
    with Served(folder / "lake") as served:
        with urllib.request.urlopen(served.address, timeout=60) as answer:  # noqa: S310 -- our own server
            assert answer.status == 200
        assert served.stop()[0] == 0
