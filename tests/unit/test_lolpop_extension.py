"""lolpop's tracker against a stand-in for lolpop's base class; the integration tests run lolpop itself."""

import importlib.util
import inspect
import logging
import math
import os
import pickle
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from metrics_lake import InvalidInputError, MetricsLake

SOURCE = Path(__file__).parents[2] / "metrics_lake/integrations/lolpop_extension/metrics_lake_tracker.py"


class Base:
    """What a component of lolpop 0.2.0 gives its subclasses, in the places that the tracker touches."""

    url = "https://replace.me"

    def __init__(self, conf=None, parent=None, problem_type="Unknown", **siblings):
        self.config = dict((conf or {}).get("config", {}))
        self.name, self.type, self.module = type(self).__name__, "metrics_tracker", self.__module__
        self.parent = parent
        self.problem_type = problem_type
        self.told: list[tuple[str, str]] = []
        for name, sibling in siblings.items():
            setattr(self, name, sibling)

    def log(self, message, level="INFO"):
        self.told.append((level, message))

    def _get_config(self, key, default_value=None):
        value = {name.lower(): value for name, value in self.config.items()}.get(key.lower())
        if value is None and self.parent is not None:
            value = self.parent._get_config(key)
        return os.getenv(key, default_value) if value is None else value

    def log_metric(self, resource, id, value, *args, **kwargs): ...
    def get_metric(self, resource, id, *args, **kwargs): ...
    def log_metrics(self, resource, metrics, *args, **kwargs): ...
    def copy_metrics(self, from_resource, to_resource, *args, **kwargs): ...
    def log_prediction_metrics(self, prediction_resource, predictions, *args, **kwargs): ...


class DictConfig(dict):
    """Stands for omegaconf's container, which the lake must never see."""


class OmegaConf:
    @staticmethod
    def is_config(value):
        return isinstance(value, DictConfig)

    @staticmethod
    def to_container(value, resolve):
        assert resolve
        return dict(value)


class Metadata:
    """Stands for MLFlowMetadataTracker: a dict becomes its text, and every error a bare Exception."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.kept: dict[tuple[str, str], object] = {}

    def log_metadata(self, resource, id, data):
        if self.fails:
            raise Exception("An error occurred while executing log_metadata")
        self.kept[resource[0], id] = data

    def get_metadata(self, resource, id):
        if self.fails:
            raise Exception("An error occurred while executing get_metadata")
        return self.kept.get((resource[0], id))


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    place = "lolpop.component.metrics_tracker.base_metrics_tracker"
    stub = types.ModuleType(place)
    stub.BaseMetricsTracker = Base
    for end in ("lolpop", "lolpop.component", "lolpop.component.metrics_tracker"):
        monkeypatch.setitem(sys.modules, end, types.ModuleType(end))
    monkeypatch.setitem(sys.modules, place, stub)
    omegaconf = types.ModuleType("omegaconf")
    omegaconf.OmegaConf = OmegaConf
    monkeypatch.setitem(sys.modules, "omegaconf", omegaconf)
    spec = importlib.util.spec_from_file_location("a_lolpop_extension", SOURCE)
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, loaded)
    spec.loader.exec_module(loaded)
    monkeypatch.chdir(tmp_path)
    return loaded


@pytest.fixture
def tracker(module: types.ModuleType) -> Base:
    return module.MetricsLakeTracker(problem_type="classification")


def of_run(id: str, run_id: str = "r1") -> tuple[str, object]:
    return id, SimpleNamespace(info=SimpleNamespace(run_id=run_id))


def test_the_same_id_in_another_run_is_another_resource(tracker: Base) -> None:
    tracker.log_metric(of_run("model", "r1"), "f1", 0.5)
    tracker.log_metric(of_run("model", "r2"), "f1", 0.75)
    assert tracker.get_metric(of_run("model", "r1"), "f1") == 0.5
    tracker._lake.flush()
    with MetricsLake() as lake:
        assert lake.get_metric(("model", "r2"), "f1") == 0.75
        assert lake.get_metric("model/r2", "f1") == 0.75


def test_the_raw_id_counts_however_long_its_path(tracker: Base) -> None:
    tracker.log_metric(of_run("s3://bucket/a/data.csv"), "rows", 1)
    tracker.log_metric(of_run("s3://bucket/b/data.csv"), "rows", 2)
    tracker.log_metric("a plain id", "rows", 3)
    assert tracker.get_metric(of_run("s3://bucket/a/data.csv"), "rows") == 1
    assert tracker.get_metric("a plain id", "rows") == 3


def test_splits_join_their_metrics_by_an_underscore_and_may_be_empty_or_absent(tracker: Base) -> None:
    tracker.log_metrics(of_run("a"), {"train": {"f1": 0.9}, "valid": {}, "test": {}}, "f1")
    tracker.log_metrics(of_run("a"), {"valid": DictConfig(f1=0.8)})
    tracker.log_metrics(of_run("a"), {"loss": 0.1})
    assert tracker.get_metric(of_run("a"), "train_f1") == 0.9
    assert tracker.get_metric(of_run("a"), "valid_f1") == 0.8
    assert tracker.get_metric(of_run("a"), "loss") == 0.1
    assert tracker.get_metric(of_run("a"), "performance_metric") == "f1"


def test_log_metrics_is_all_or_nothing(tracker: Base) -> None:
    with pytest.raises(InvalidInputError):
        tracker.log_metrics(of_run("a"), {"train": {"f1": 0.9, "oops": object()}}, "f1")
    assert tracker.get_metric(of_run("a"), "train_f1") is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_bias_metrics_that_are_not_finite_come_back(tracker: Base, value: float) -> None:
    tracker.log_metric(of_run("a"), "disparate_impact", value)
    assert repr(tracker.get_metric(of_run("a"), "disparate_impact")) == repr(value)


def test_reading_before_the_first_write_finds_nothing(tracker: Base) -> None:
    assert tracker.get_metric(of_run("a"), "f1") is None
    assert tracker.get_metric(of_run("a"), "f1", default=0) == 0


def test_unknown_arguments_are_refused(tracker: Base) -> None:
    with pytest.raises(TypeError):
        tracker.log_metric(of_run("a"), "f1", 0.5, nonsense=1)
    with pytest.raises(TypeError):
        tracker.log_metrics(of_run("a"), {"f1": 0.5}, "f1", "more")


def test_copies_carry_whole_histories_and_nothing_of_the_runs_other_resources(tracker: Base) -> None:
    for value in (0.1, 0.2, 0.3):
        tracker.log_metric(of_run("trial"), "f1", value)
    tracker.log_metric(of_run("other"), "mae", 7.0)
    tracker.copy_metrics(of_run("trial"), of_run("model"))
    with MetricsLake() as lake:
        assert lake.history("model/r1", "f1").values("value") == [0.1, 0.2, 0.3]
        assert lake.metric_ids("model/r1") == ["f1"]


def test_a_copy_of_nothing_is_told_and_no_error(tracker: Base) -> None:
    tracker.log_metric(of_run("other"), "f1", 0.5)
    tracker.copy_metrics(of_run("trial"), of_run("model"))
    assert [level for level, _ in tracker.told] == ["WARN"]


@pytest.mark.parametrize(
    ("problem", "values", "id", "expected"),
    [
        ("classification", [0, 1, 1, 1], "class_distribution", {0: 0.25, 1: 0.75}),
        ("classification", ["no", "yes"], "class_distribution", {"no": 0.5, "yes": 0.5}),
        ("regression", [1, 2, 3, 6], "mean", 3.0),
        ("timeseries", [1.5, 2.5], "mean", 2.0),
    ],
)
def test_the_problem_type_says_what_predictions_are(
    module: types.ModuleType, problem: str, values: list, id: str, expected: object
) -> None:
    pandas = pytest.importorskip("pandas")
    tracker = module.MetricsLakeTracker(problem_type=problem)
    tracker.log_prediction_metrics(of_run("job"), pandas.Series(values, name="prediction"))
    assert tracker.get_metric(of_run("job"), "num_predictions") == len(values)
    assert tracker.get_metric(of_run("job"), id) == expected


def test_writing_returns_none_so_that_lolpops_cache_never_skips_it(tracker: Base) -> None:
    assert tracker.log_metric(of_run("a"), "f1", 0.5) is None
    assert tracker.log_metrics(of_run("a"), {"f1": 0.5}, "f1") is None
    assert tracker.copy_metrics(of_run("a"), of_run("b")) is None
    assert tracker.log_prediction_metrics(of_run("a"), ["x", "y"]) is None


def test_the_configuration_comes_from_here_the_parent_or_the_environment(
    module: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = Base(conf={"config": {"METRICS_LAKE_URL": str(tmp_path / "of-the-parent")}})
    own = {"config": {"metrics_lake_url": str(tmp_path / "own")}}
    assert module.MetricsLakeTracker(conf=own, parent=parent).url == str(tmp_path / "own")
    assert module.MetricsLakeTracker(parent=parent).url == str(tmp_path / "of-the-parent")
    assert module.MetricsLakeTracker().url == str(tmp_path / "metrics-lake")
    monkeypatch.setenv("METRICS_LAKE_URL", str(tmp_path / "of-the-environment"))
    assert module.MetricsLakeTracker().url == str(tmp_path / "of-the-environment")


def test_options_reach_the_lake_as_plain_values(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, object]] = []

    class Lake:
        def __init__(self, url, **options):
            self.url = url or "default"
            made.append(options)

    monkeypatch.setattr("metrics_lake.MetricsLake", Lake)
    monkeypatch.setenv("metrics_lake_flush_seconds", "2.5")
    monkeypatch.setenv("metrics_lake_journal_max_bytes", "1000")
    first = module.MetricsLakeTracker(
        conf={"config": {"metrics_lake_storage_options": DictConfig(key="secret")}}
    )
    monkeypatch.setenv("metrics_lake_storage_options", '{"anon": true}')
    module.MetricsLakeTracker()
    pickle.loads(pickle.dumps(first))  # noqa: S301 -- made here
    shared = {"flush_seconds": 2.5, "journal_max_bytes": 1000}
    secret, anon = {"storage_options": {"key": "secret"}}, {"storage_options": {"anon": True}}
    assert made == [secret | shared, anon | shared, secret | shared]
    assert type(made[0]["storage_options"]) is dict


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics_lake_flush_seconds", "soon"),
        ("metrics_lake_journal_max_bytes", "1GB"),
        ("metrics_lake_storage_options", "{key: secret"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(module: types.ModuleType, key: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match=key) as caught:
        module.MetricsLakeTracker(conf={"config": {key: value}})
    assert "secret" not in str(caught.value)


def test_a_wrong_option_raises_where_the_component_is_made(module: types.ModuleType) -> None:
    with pytest.raises(InvalidInputError, match="durability"):
        module.MetricsLakeTracker(conf={"config": {"metrics_lake_durability": "perhaps"}})


def test_a_twin_from_a_pickle_logs_into_the_same_lake(tracker: Base) -> None:
    tracker.log_metric(of_run("a"), "f1", 0.5)
    twin = pickle.loads(pickle.dumps(tracker))  # noqa: S301 -- made here
    twin.log_metric("b", "f1", 0.75)
    twin._lake.flush()
    with MetricsLake() as lake:
        assert lake.get_metric("b", "f1") == 0.75


def test_many_threads_lose_nothing(tracker: Base) -> None:
    def trial(number: int) -> None:
        for step in range(50):
            tracker.log_metric(of_run(f"trial-{number}"), "loss", step / 10)
        tracker.log_metrics(of_run(f"trial-{number}"), {"valid": {"f1": number}}, "f1")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(trial, range(16)))
    tracker._lake.flush()
    with MetricsLake() as lake:
        for number in range(16):
            assert len(lake.history(f"trial-{number}/r1", "loss")) == 50
            assert lake.get_metric(f"trial-{number}/r1", "valid_f1") == number


def test_nothing_that_lolpop_decorates_or_sets_is_in_the_way(module: types.ModuleType) -> None:
    kind = module.MetricsLakeTracker
    public = {name for name in vars(kind) if not name.startswith("_")}
    assert public == {"log_metric", "get_metric", "log_metrics", "copy_metrics", "log_prediction_metrics"}
    assert not {"log", "name", "type", "config", "parent", "module", "problem_type"} & set(vars(kind))
    assert not any(isinstance(vars(kind)[name], (staticmethod, classmethod)) for name in public)
    assert not hasattr(kind, "__REQUIRED_CONF__")
    assert not hasattr(kind, "__DEFAULT_CONF__")
    own = inspect.getsource(module)
    assert "import metrics_lake" not in own.split("class MetricsLakeTracker")[0]


def mirroring(module: types.ModuleType, metadata: Metadata) -> Base:
    conf = {"config": {"metrics_lake_mirror_metadata": True}}
    made = module.MetricsLakeTracker(conf=conf, problem_type="classification")
    made.metadata_tracker = metadata  # lolpop attaches siblings later
    return made


def test_the_mirror_tells_the_metadata_tracker_what_mlflows_tracker_did(module: types.ModuleType) -> None:
    metadata = Metadata()
    tracker = mirroring(module, metadata)
    metadata.kept["trial", "training_params"] = "{'max_depth': 4, 'early': None}"
    tracker.log_metrics(of_run("trial"), {"train": {"f1": 0.9}, "valid": {"f1": 0.8}}, "f1")
    tracker.log_metrics(of_run("retrained"), {"train": {"f1": 0.9}, "valid": {}}, "f1")
    tracker.log_metrics(of_run("flat"), {"valid_f1": 0.7}, "f1")
    tracker.log_metrics(of_run("of no split"), {"valid": 0.6, "train": None}, "f1")
    tracker.copy_metrics(of_run("trial"), of_run("model"))
    tracker.log_prediction_metrics(of_run("job"), ["no", "yes"])
    assert metadata.kept == {
        ("trial", "training_params"): "{'max_depth': 4, 'early': None}",
        ("trial", "performance_metric"): "f1",
        ("trial", "performance_metric_value"): 0.8,
        ("retrained", "performance_metric"): "f1",
        ("retrained", "performance_metric_value"): 0.9,
        ("flat", "performance_metric"): "f1",
        ("flat", "performance_metric_value"): 0.7,
        ("of no split", "performance_metric"): "f1",
        ("model", "performance_metric"): "f1",
        ("model", "performance_metric_value"): 0.8,
        ("model", "training_params"): {"max_depth": 4, "early": None},
        ("job", "class_distribution"): {"no": 0.5, "yes": 0.5},
    }


def test_a_mirror_that_fails_costs_no_metric(
    module: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = mirroring(module, Metadata(fails=True))
    with caplog.at_level(logging.ERROR, logger="metrics_lake"):
        tracker.log_metrics(of_run("trial"), {"valid": {"f1": 0.8}}, "f1")
        tracker.copy_metrics(of_run("trial"), of_run("model"))
    assert tracker.get_metric(of_run("model"), "valid_f1") == 0.8
    assert len(caplog.records) == 5
    assert "was not mirrored" in caplog.text


def test_without_the_mirror_the_metadata_tracker_is_left_alone(tracker: Base) -> None:
    tracker.metadata_tracker = metadata = Metadata(fails=True)
    tracker.log_metrics(of_run("trial"), {"valid": {"f1": 0.8}}, "f1")
    tracker.log_prediction_metrics(of_run("job"), ["no", "yes"])
    assert not metadata.kept
