"""lolpop 0.2.0 runs on the lake: its own runners, on real data, with the class name as the only change.

lolpop pins packages of 2023, so it is installed without its dependencies beside today's, in environments of
its own, from the package index with plain pip. What all of them share is built once for a list of
requirements (in ``$METRICS_LAKE_TEST_CACHE``, else the user's cache folder); each then adds lolpop and this
project.
"""

import base64
import csv
import fcntl
import hashlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parent / "lolpop"
LOLPOP = "lolpop==0.2.0"
PLACE = "lolpop/extension/metrics_lake/component/metrics_tracker/metrics_lake_tracker.py"
REQUIREMENTS = [
    *tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"],
    "hatchling>=1.27",  # the shared environment builds this project, too
    "editables>=0.5",
    "anytree>=2.12",  # lolpop itself
    "colorama>=0.4",
    "gitpython>=3.1",
    "omegaconf>=2.3",
    "pandas>=2.2",
    "alembic>=1.13",  # its tracker of metadata, on sqlite
    "mlflow-skinny>=3.1",
    "sqlalchemy>=2",
    "optuna>=4",  # its tuner, trainer and metrics
    "scikit-learn>=1.5",
    "xgboost-cpu>=3; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "xgboost>=3; platform_system != 'Linux' or platform_machine != 'x86_64'",
]

pytestmark = [
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="lolpop 0.2.0 needs Python < 3.12"),
    pytest.mark.timeout(900),  # the first test builds the environment
]


def run(*command: object, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


def cache_folder() -> Path:
    told = os.environ.get("METRICS_LAKE_TEST_CACHE")
    if told:
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metrics-lake-tests"


class Environment:
    """A virtual environment that sees the shared one's packages behind its own; the shared pip serves it."""

    def __init__(self, folder: Path, shared: Path) -> None:
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        self.python = folder / "bin" / "python"
        self.packages = next(folder.glob("lib/python*/site-packages"))
        self._pip = [shared / "bin" / "python", "-m", "pip", "--python", self.python]
        shared_packages = next(shared.glob("lib/python*/site-packages"))
        (self.packages / "shared.pth").write_text(f"{shared_packages}\n", encoding="utf-8")

    def install(self, *what: object) -> None:
        run(*self._pip, "install", "--quiet", "--no-deps", "--no-build-isolation", *what)

    def uninstall(self, name: str) -> None:
        run(*self._pip, "uninstall", "--quiet", "--yes", name)


def shared_environment() -> Path:
    """Return the environment with all but lolpop and this project; one process builds it, once."""
    key = hashlib.sha256("\n".join([sys.version, *REQUIREMENTS]).encode()).hexdigest()[:16]
    folder = cache_folder() / f"lolpop-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run(sys.executable, "-m", "venv", folder)
            pip = [folder / "bin" / "python", "-m", "pip"]
            run(*pip, "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS)
            run(*pip, "download", "--quiet", "--no-deps", "--dest", folder / "wheels", LOLPOP)
            (folder / "complete").touch()
    return folder


def find_lolpop(shared: Path) -> Path:
    return next((shared / "wheels").glob("lolpop-*.whl"))


def build_wheel(shared: Path, folder: Path) -> Path:
    pip = [shared / "bin" / "python", "-m", "pip"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    return next(folder.glob("metrics_lake-*.whl"))


@pytest.fixture(scope="session")
def shared() -> Path:
    return shared_environment()


@pytest.fixture(scope="session")
def lolpop_wheel(shared: Path) -> Path:
    return find_lolpop(shared)


@pytest.fixture(scope="session")
def our_wheel(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(shared, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def environment(
    shared: Path, lolpop_wheel: Path, our_wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    made = Environment(tmp_path_factory.mktemp("lolpop") / "venv", shared)
    made.install(lolpop_wheel)
    made.install(our_wheel)
    return made


def readme_block(language: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## lolpop\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert section, "README.md has no section '## lolpop'"
    block = re.search(rf"^```{language}\n(.*?)^```", section[1], flags=re.MULTILINE | re.DOTALL)
    assert block, f"the section '## lolpop' has no {language}"
    return block[1]


def project(folder: Path, environment: Environment, problem: str) -> Path:
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    run(environment.python, "data.py", problem, cwd=folder)
    return folder


def run_twice_and_read_back(folder: Path, environment: Environment) -> list[dict]:
    run(environment.python, "drive.py", "program.py", 2, "record.pickle", cwd=folder)
    run(environment.python, "read_back.py", "record.pickle", cwd=folder)
    return pickle.loads((folder / "record.pickle").read_bytes())  # noqa: S301 -- drive.py wrote it


def check_record(record: list[dict], folder: Path, name: str, trials: int) -> None:
    for told in record:
        assert told["tracker"] == "MetricsLakeTracker"
        assert told["url"] == str(folder / "metrics-lake")
        assert told["is_same_in_process"]
        verbs = [verb for verb, _ in told["calls"]]
        assert verbs.count("log_metrics") >= trials + 1  # and the ground truth
        assert verbs.count("copy_metrics") == 1
        assert verbs.count("log_prediction_metrics") == 1
        assert {id for id, _ in told["expected"]} >= {name, f"{name}_predictions"}
    first, second = (set(told["expected"]) for told in record)
    assert not first & second  # an id is the same in every run, a resource is not
    # Without an earlier model the first run's is better: lolpop trains it again on all data, where 'valid'
    # and 'test' are empty.
    assert [verb for verb, _ in record[0]["calls"]].count("log_metrics") == trials + 2


def test_the_readmes_quickstart_keeps_every_metric_of_a_classification(
    tmp_path: Path, environment: Environment
) -> None:
    folder = project(tmp_path / "project", environment, "classification")
    (folder / "change.yaml").write_text(readme_block("yaml"), encoding="utf-8")
    (folder / "program.py").write_text(readme_block("python"), encoding="utf-8")
    merge = (
        "from omegaconf import OmegaConf as O\n"
        "O.save(O.merge(O.load('classification.yaml'), O.load('change.yaml')), 'classification.yaml')\n"
    )
    run(environment.python, "-c", merge, cwd=folder)
    record = run_twice_and_read_back(folder, environment)
    check_record(record, folder, "diagnosis", 4)
    bias = next(told for (id, _), told in record[0]["expected"].items() if id == "diagnosis")
    assert bias["disparate_impact"] == float("inf")
    assert bias["log_disparate_impact"] == float("-inf")
    assert bias["consistency"] != bias["consistency"]


def test_a_regression_with_trials_in_threads_needs_the_class_name_only(
    tmp_path: Path, environment: Environment
) -> None:
    folder = project(tmp_path / "project", environment, "regression")
    config = folder / "regression.yaml"
    text = config.read_text(encoding="utf-8")
    assert text.count("MLFlowMetricsTracker") == 1
    assert "num_jobs: 2" in text
    config.write_text(text.replace("MLFlowMetricsTracker", "MetricsLakeTracker"), encoding="utf-8")
    (folder / "program.py").write_text(
        "from lolpop.runner import RegressionRunner\n"
        "runner = RegressionRunner(conf='regression.yaml')\n"
        "runner.build_all()\n",
        encoding="utf-8",
    )
    check_record(run_twice_and_read_back(folder, environment), folder, "progression", 4)


STANDALONE = """
import sys
for name in ("mlflow", "optuna", "sklearn", "xgboost"):  # lolpop imports what it finds; these take seconds
    sys.modules[name] = None
from lolpop.component.logger.stdout_logger import StdOutLogger
from lolpop.component.notifier.stdout_notifier import StdOutNotifier
from lolpop.component.metadata_tracker.base_metadata_tracker import BaseMetadataTracker
from lolpop.utils.common_utils import load_class
parts = {"component": {"logger": None, "notifier": None, "metadata_tracker": None}}
kinds = {"logger": StdOutLogger, "notifier": StdOutNotifier, "metadata_tracker": BaseMetadataTracker}
for name, kind in kinds.items():
    parts["component"][name] = kind(dependent_integrations=parts, is_standalone=True)
tracker = load_class("MetricsLakeTracker")(
    conf={"config": {"metrics_lake_url": "lake"}},
    dependent_integrations=parts, problem_type="classification", is_standalone=True,
)
tracker.log_metric("a/b", "f1", 0.5)
tracker.log_prediction_metrics("job", [0, 1, 1, 1])
print("READ", tracker.get_metric("a/b", "f1"), tracker.get_metric("job", "class_distribution"), tracker.url)
print("FILE", sys.modules[type(tracker).__module__].__file__)
"""
BARE = """
import sys
for name in ("mlflow", "optuna", "sklearn", "xgboost"):
    sys.modules[name] = None
import lolpop.extension
from lolpop.component import StdOutLogger
assert not hasattr(lolpop.extension, "MetricsLakeTracker")
"""


@pytest.mark.parametrize("order", ["wheel, lolpop", "lolpop, wheel", "lolpop, editable", "editable, lolpop"])
def test_any_order_of_installation_works_and_uninstalling_leaves_lolpop_whole(
    order: str, tmp_path: Path, shared: Path, lolpop_wheel: Path, our_wheel: Path
) -> None:
    environment = Environment(tmp_path / "venv", shared)
    ways = {"wheel": [our_wheel], "editable": ["--editable", ROOT], "lolpop": [lolpop_wheel]}
    for step in order.split(", "):
        environment.install(*ways[step])
    said = run(environment.python, "-c", STANDALONE, cwd=tmp_path)
    assert f"READ 0.5 {{0: 0.25, 1: 0.75}} {tmp_path / 'lake'}" in said
    assert f"FILE {environment.packages / PLACE}" in said
    environment.uninstall("metrics-lake")
    ours = environment.packages / "lolpop" / "extension" / "metrics_lake"
    assert not [path for path in ours.rglob("*") if not path.is_dir()]  # pip leaves empty folders behind
    record = next(environment.packages.glob("lolpop-*.dist-info")) / "RECORD"
    for name, digest, _ in csv.reader(record.read_text(encoding="utf-8").splitlines()):
        content = (environment.packages / name).read_bytes()
        if digest:
            actual = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert digest == f"sha256={actual}", name
    run(environment.python, "-c", BARE, cwd=tmp_path)


def test_the_wheel_adds_one_file_to_lolpops_folder_and_no_package_marker(our_wheel: Path) -> None:
    with zipfile.ZipFile(our_wheel) as wheel:
        assert [name for name in wheel.namelist() if name.startswith("lolpop/")] == [PLACE]
