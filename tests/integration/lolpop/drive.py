"""Run a lolpop workflow and write down what its metrics tracker was told, and how long that took.

``python drive.py PROGRAM RUNS OUT``: the program, a Python file, is run RUNS times in this process and leaves
its runner in the variable ``runner``. OUT becomes a pickle of a list with one dict a run.
"""

import functools
import pickle
import sys
import threading
import time
from pathlib import Path

import lolpop.component
import lolpop.extension
from lolpop.component.metrics_tracker.base_metrics_tracker import BaseMetricsTracker
from read_back import is_same

VERBS = ("log_metric", "log_metrics", "copy_metrics", "log_prediction_metrics")


def identity(resource) -> tuple[str, str]:
    return resource[0], resource[1].info.run_id


class Recorder:
    """What was told, as the values that must then be readable, and the seconds that telling took."""

    def __init__(self) -> None:
        self.expected: dict[tuple[str, str], dict[str, object]] = {}
        self.resources: dict[tuple[str, str], object] = {}
        self.predictions: dict[tuple[str, str], list] = {}
        self.copies: list[tuple[tuple[str, str], tuple[str, str]]] = []
        self.calls: list[tuple[str, float]] = []
        self.inside = threading.local()  # Optuna's trials log from threads of their own

    def watch(self, verb: str, method):
        @functools.wraps(method)
        def watched(tracker, *args, **kwargs):
            if getattr(self.inside, "a_verb", False):  # MLFlowMetricsTracker builds verbs on one another
                return method(tracker, *args, **kwargs)
            self.inside.a_verb = True
            begun = time.perf_counter()
            try:
                returned = method(tracker, *args, **kwargs)
            finally:
                self.inside.a_verb = False
            self.calls.append((verb, time.perf_counter() - begun))
            assert returned is None, f"{verb} returned {returned!r}: lolpop's cache would skip it"
            getattr(self, verb)(*args, **kwargs)
            return None

        return watched

    def log_metric(self, resource, id, value):
        self._of(resource)[id] = value

    def log_metrics(self, resource, metrics, perf_metric):
        told = self._of(resource)
        told.update({f"{split}_{id}": v for split, found in metrics.items() for id, v in found.items()})
        told["performance_metric"] = perf_metric

    def copy_metrics(self, from_resource, to_resource):
        self._of(to_resource).update(self._of(from_resource))
        self.copies.append((identity(from_resource), identity(to_resource)))

    def log_prediction_metrics(self, job, predictions):
        self._of(job)["num_predictions"] = len(predictions)
        self.predictions[identity(job)] = predictions.tolist()

    def _of(self, resource) -> dict[str, object]:
        self.resources[identity(resource)] = resource
        return self.expected.setdefault(identity(resource), {})


def ground_truth(runner) -> None:
    """Let the truth come in; lolpop looks up the job's model under the job's own id, so it is told here."""
    metadata = runner.metadata_tracker
    job = (runner._get_config("model_name") + "_predictions", metadata.run)
    metadata.get_prediction_job_model_version = lambda job: (job[0].removesuffix("_predictions"), job[1])
    runner.evaluate_ground_truth(job)
    del metadata.get_prediction_job_model_version
    runner.stop()


def run(program: Path) -> dict[str, object]:
    recorder = Recorder()
    kinds = [
        kind
        for module in (lolpop.component, lolpop.extension)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, BaseMetricsTracker) and kind is not BaseMetricsTracker
    ]
    methods = {(kind, verb): getattr(kind, verb) for kind in kinds for verb in VERBS}
    for (kind, verb), method in methods.items():
        setattr(kind, verb, recorder.watch(verb, method))
    names: dict[str, object] = {"__name__": "__main__"}
    try:
        exec(compile(program.read_text(encoding="utf-8"), str(program), "exec"), names)  # noqa: S102
        runner = names["runner"]
        ground_truth(runner)
    finally:
        for (kind, verb), method in methods.items():
            setattr(kind, verb, method)
    tracker = runner.metrics_tracker
    same = True
    if type(tracker).__name__ == "MetricsLakeTracker":
        for key, told in recorder.expected.items():
            for id, value in told.items():
                read = tracker.get_metric(recorder.resources[key], id)
                same = same and is_same(read, value)
        twin = pickle.loads(pickle.dumps(tracker))  # noqa: S301 -- what metaflow does with components
        job = next(iter(recorder.resources))
        twin.log_metric(recorder.resources[job], "from_a_pickle", 1.5)
        recorder.expected[job]["from_a_pickle"] = 1.5
    return {
        "tracker": type(tracker).__name__,
        "url": tracker.url,
        "expected": recorder.expected,
        "predictions": recorder.predictions,
        "copies": recorder.copies,
        "calls": recorder.calls,
        "is_same_in_process": same,
    }


def main() -> None:
    program, runs, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    told = [run(program) for _ in range(runs)]
    out.write_bytes(pickle.dumps(told))


if __name__ == "__main__":
    main()
