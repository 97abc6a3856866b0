"""Seconds that a lolpop workflow spends in its metrics tracker, on MLflow and on the lake.

    python tests/benchmarks/bench_lolpop.py [--runs 4] [--trials 4|16|64|100] [--problem regression]

Each tracker runs the same workflow of the integration test that many times in one process of its own; the
first run pays for imports and is shown apart. Training, metadata and artifacts are not counted. lolpop's own
search takes 100 trials unless it is told otherwise.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from test_lolpop import Environment, build_wheel, find_lolpop, project, run, shared_environment

TRACKERS = ("MLFlowMetricsTracker", "MetricsLakeTracker")
RUNNERS = {"classification": "ClassificationRunner", "regression": "RegressionRunner"}


def told(folder: Path, environment: Environment, tracker: str, problem: str, runs: int, trials: int) -> list:
    project(folder, environment, problem)
    config = folder / f"{problem}.yaml"
    text = config.read_text(encoding="utf-8").replace(TRACKERS[0], tracker)
    if trials > 4:
        rates = [round(0.1 * number, 1) for number in range(1, trials // 4 + 1)]
        text = text.replace("max_depth: [2, 4]", "max_depth: [1, 2, 3, 4]").replace("[0.3, 1.0]", str(rates))
    config.write_text(text, encoding="utf-8")
    (folder / "program.py").write_text(
        f"from lolpop.runner import {RUNNERS[problem]}\n"
        f"runner = {RUNNERS[problem]}(conf='{config.name}')\n"
        "runner.build_all()\n",
        encoding="utf-8",
    )
    run(environment.python, "drive.py", "program.py", runs, "record.pickle", cwd=folder)
    return pickle.loads((folder / "record.pickle").read_bytes())  # noqa: S301 -- drive.py wrote it


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def seconds_of(record: list) -> list[dict[str, float]]:
    """Return, for each run, the seconds by verb, and of all verbs."""
    found = []
    for each in record:
        seconds: dict[str, float] = defaultdict(float)
        for verb, took in each["calls"]:
            seconds[verb] += took
            seconds["all"] += took
        found.append(seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--problem", choices=RUNNERS, default="classification")
    parser.add_argument("--trials", type=int, choices=(4, 16, 64, 100), default=4)
    asked = parser.parse_args()
    shared = shared_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["METRICS_LAKE_STATE"] = str(folder / "state")
        environment = Environment(folder / "venv", shared)
        environment.install(find_lolpop(shared), build_wheel(shared, folder))
        found = {
            tracker: seconds_of(
                told(folder / tracker, environment, tracker, asked.problem, asked.runs, asked.trials)
            )
            for tracker in TRACKERS
        }
    old, new = found.values()
    say(f"{'ms a run':24} {'first':>10} {'':>10} {'ratio':>7} {'later, median':>14} {'':>10} {'ratio':>7}")
    for verb in old[0]:
        row = f"{verb:24}"
        for runs in (slice(0, 1), slice(1, None)):
            then, now = (statistics.median(run[verb] for run in each[runs]) * 1e3 for each in (old, new))
            row += f" {then:10.1f} {now:10.2f} {then / now:7.1f}   "
        say(row)
    say("columns: MLFlowMetricsTracker, MetricsLakeTracker, how many times less")


if __name__ == "__main__":
    main()
