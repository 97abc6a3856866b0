"""``MetricsLakeTracker``: lolpop's metrics on a lake, by class name alone.

Installed, this file is in ``lolpop/extension/metrics_lake/component/metrics_tracker``, where lolpop looks for
classes; so every import is absolute, and no folder of ours on that path has an ``__init__.py``. lolpop
swallows what an extension raises while it is imported ("class not found"); so the lake is imported in the
constructor.
"""

from __future__ import annotations

import ast
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lolpop.component.metrics_tracker.base_metrics_tracker import BaseMetricsTracker
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from metrics_lake import MetricsLake

_logger = logging.getLogger("metrics_lake")

_PREFIX: Final = "metrics_lake_"
_SEPARATOR: Final = "_"  # lolpop's ids: valid_f1
_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {  # how a text from the environment becomes an option
    "storage_options": json.loads,
    "durability": str,
    "flush_seconds": float,
    "on_full": str,
    "journal_max_bytes": int,
    "state_dir": str,
    "compaction": str,
}


class MetricsLakeTracker(BaseMetricsTracker):  # type: ignore[misc]  # lolpop is untyped
    """Keeps lolpop's metrics in a ``MetricsLake``; safe for threads, and it pickles.

    Each key of the configuration may stand in this component's config, in that of any parent, or in the
    environment in lower case; all have defaults:

    * ``metrics_lake_url``: the lake. Default: ``$METRICS_LAKE_URL``, else ``./metrics-lake``.
    * ``metrics_lake_storage_options``, ``_durability``, ``_flush_seconds``, ``_on_full``,
      ``_journal_max_bytes``, ``_state_dir``, ``_compaction``: as ``MetricsLake`` takes them.
    * ``metrics_lake_mirror_metadata``: also write ``performance_metric`` with its value,
      ``class_distribution`` and, with copies, ``training_params`` into lolpop's metadata tracker, after the
      lake has them. A failure there is logged and nothing else. Default: false.

    A resource of lolpop's MLflow tracker is a pair of an id and a run. The id alone is the same in every run,
    so the lake's resource is both: read it elsewhere as ``lake.get_metric((id, run_id), …)``.

    Attributes:
        url: The lake's url.

    Raises:
        metrics_lake.InvalidInputError: A key of the configuration is wrong.
    """

    _TASKS: ClassVar[Mapping[str, str]] = {
        "classification": "multiclass",  # a bare column of labels has no positive one; two classes are fine
        "regression": "regression",
        "timeseries": "regression",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = {name: self._option(name, parse) for name, parse in _OPTIONS.items()}
        self._options = {name: value for name, value in options.items() if value is not None}
        self._is_mirroring = str(self._option("mirror_metadata", str)).lower() in {"1", "true", "yes", "on"}
        self._lake = self._open(self._option("url", str))
        self.url = self._lake.url

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lake"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A pickled lake forgets its credentials; lolpop's components carry their configuration along. The
        # parent cannot be asked again: it may be only half read when its child is.
        self.__dict__.update(state)
        self._lake = self._open(self.url)

    def log_metric(self, resource: Any, id: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log one value; it survives this process when the call returns. See ``MetricsLake.log_metric``."""
        self._lake.log_metric(_identity(resource), id, _plain(value), *args, **kwargs)

    def get_metric(self, resource: Any, id: str, *args: Any, **kwargs: Any) -> Any:
        """Return the latest value, or None where there is none. See ``MetricsLake.get_metric``."""
        from metrics_lake import LakeNotFoundError

        try:
            return self._lake.get_metric(_identity(resource), id, *args, **kwargs)
        except LakeNotFoundError:  # the first write makes the lake; lolpop asks before that, too
            return kwargs.get("default")

    def log_metrics(
        self, resource: Any, metrics: Any, perf_metric: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Log the metrics of every split, all or nothing.

        Args:
            resource: What was measured, mostly an experiment.
            metrics: ``{"valid": {"f1": 0.8}}``, logged as ``valid_f1``, or flat; a split may be missing or
                empty.
            perf_metric: The name of the metric that the workflow optimises.
            *args: Refused, as ``MetricsLake.log_metrics`` does.
            **kwargs: As ``MetricsLake.log_metrics`` takes them.
        """
        metrics = _plain(metrics)
        kwargs.setdefault("separator", _SEPARATOR)
        self._lake.log_metrics(_identity(resource), metrics, perf_metric, *args, **kwargs)
        if self._is_mirroring and perf_metric is not None:
            self._mirror(resource, "performance_metric", perf_metric)
            value = _performance(metrics, perf_metric)
            if value is not None:
                self._mirror(resource, "performance_metric_value", value)

    def copy_metrics(self, from_resource: Any, to_resource: Any, *args: Any, **kwargs: Any) -> None:
        """Copy one resource's metrics, whole histories, and nothing of others that share its run.

        Where there is nothing to copy, lolpop's log says so.
        """
        from metrics_lake import NotFoundError

        try:
            self._lake.copy_metrics(_identity(from_resource), _identity(to_resource), *args, **kwargs)
        except NotFoundError as error:  # a workflow that logged no metrics goes on, as it does on MLflow
            self.log(f"No metrics were copied: {error}", "WARN")
        if self._is_mirroring:
            for id in ("performance_metric", "performance_metric_value", "training_params"):
                with _best_effort(id):
                    data = self.metadata_tracker.get_metadata(from_resource, id)
                    if id == "training_params" and isinstance(data, str):
                        data = ast.literal_eval(data)  # the tracker keeps a dict as its text
                    if data is not None:
                        self._mirror(to_resource, id, data)

    def log_prediction_metrics(
        self, prediction_job: Any, predictions: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Log metrics of predicted labels or numbers; the tracker's ``problem_type`` says which they are.

        Args:
            prediction_job: The job that predicted.
            predictions: A pandas Series, or whatever ``MetricsLake.log_prediction_metrics`` takes.
            *args: Refused, as ``MetricsLake.log_prediction_metrics`` does.
            **kwargs: As ``MetricsLake.log_prediction_metrics`` takes them: truth, score, …
        """
        kwargs.setdefault("task", self._TASKS.get(self.problem_type))
        found = self._lake.log_prediction_metrics(_identity(prediction_job), predictions, *args, **kwargs)
        if self._is_mirroring and (shares := found.get("class_distribution")) is not None:
            self._mirror(prediction_job, "class_distribution", shares)

    def _open(self, url: str | None) -> MetricsLake:
        from metrics_lake import MetricsLake

        return MetricsLake(url, **self._options)

    def _option(self, name: str, parse: Callable[[str], Any]) -> Any:
        from metrics_lake import InvalidInputError

        value = _plain(self._get_config(_PREFIX + name))
        try:
            return parse(value) if isinstance(value, str) else value
        except ValueError as error:
            # Without the value: storage options hold secrets.
            raise InvalidInputError(f"{_PREFIX}{name} cannot be read: {error}.", argument=name) from error

    def _mirror(self, resource: Any, id: str, data: Any) -> None:
        with _best_effort(id):
            self.metadata_tracker.log_metadata(resource, id=id, data=data)


@contextmanager
def _best_effort(id: str) -> Iterator[None]:
    try:
        yield
    except Exception:  # the lake has the metrics; lolpop raises whatever went wrong as a bare Exception
        _logger.exception("%s was not mirrored into lolpop's metadata tracker.", id)


def _performance(metrics: Mapping[str, Any], perf_metric: str) -> Any:
    """Return the optimised metric of 'valid' or, after a training on all data, of 'train'; None without."""
    for split in ("valid", "train"):
        found = metrics.get(split)
        value = metrics.get(split + _SEPARATOR + perf_metric)
        if isinstance(found, dict):  # anything else is a metric of that name
            value = found.get(perf_metric, value)
        if value is not None:
            return value
    return None


def _identity(resource: Any) -> Any:
    """Return what identifies a resource: of a pair (id, mlflow run), the id and the run's id."""
    if isinstance(resource, tuple) and len(resource) == 2:
        run_id = getattr(getattr(resource[1], "info", None), "run_id", None)
        if isinstance(run_id, str):
            return (resource[0], run_id)
    return resource


def _plain(value: Any) -> Any:
    """Return omegaconf's containers, on any level of dicts, as dicts and lists."""
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
