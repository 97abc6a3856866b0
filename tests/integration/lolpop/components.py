"""The parts of a lolpop workflow that its users bring themselves, in their smallest real form.

lolpop's own take packages that are too old, or too large, to stand beside modern ones (dvc's remotes, alibi,
deepchecks, evidently 0.2). These write plain reports and keep plain files; everything else of the workflow
(runners, pipelines, splitter, trainer, tuners, trackers, repository) is lolpop's.
"""

import hashlib
import threading
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from lolpop.component.data_checker.base_data_checker import BaseDataChecker
from lolpop.component.data_profiler.base_data_profiler import BaseDataProfiler
from lolpop.component.model_bias_checker.base_model_bias_checker import BaseModelBiasChecker
from lolpop.component.model_checker.base_model_checker import BaseModelChecker
from lolpop.component.resource_version_control.base_resource_version_control import BaseResourceVersionControl


def _report(component, name: str, frame) -> str:
    path = Path(component._get_config("local_dir"), f"{name}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path)
    return str(path)


class SummaryDataProfiler(BaseDataProfiler):
    def profile_data(self, data, *args, **kwargs):
        summary = data.describe()
        return summary, _report(self, "profile", summary)

    def compare_data(self, data, prev_data, *args, **kwargs):
        difference = data.mean(numeric_only=True) - prev_data.mean(numeric_only=True)
        return difference, _report(self, "comparison", difference)


class NullDataChecker(BaseDataChecker):
    def check_data(self, data, *args, **kwargs):
        nulls = data.isna().sum()
        return nulls, _report(self, "nulls", nulls), "WARN" if nulls.any() else "PASS"


class ShareModelChecker(BaseModelChecker):
    def check_model(self, data_dict, model, *args, **kwargs):
        predicted = pd.Series(model.transform_and_predict(data_dict)["valid"]).describe()
        return predicted, _report(self, "model", predicted), "PASS"

    def calculate_model_drift(self, data, model, deployed_model, *args, **kwargs):
        now, then = (m.transform_and_predict(data)["test"] for m in (model, deployed_model))
        difference = pd.Series(np.asarray(now, dtype=float) - np.asarray(then, dtype=float))
        return difference, _report(self, "drift", difference)


class GroupBiasChecker(BaseModelBiasChecker):
    """Compares predictions of the rows above a column's threshold with the others; ratios may be infinite."""

    def check_model_bias(self, data, model, *args, **kwargs):
        column, threshold = self._get_config("group_column"), self._get_config("group_above")
        predicted = np.asarray(model.transform_and_predict(data)["valid"], dtype=float)
        is_above = (data["X_valid"][column] > threshold).to_numpy()
        above, below = predicted[is_above], predicted[~is_above]
        with np.errstate(divide="ignore", invalid="ignore"):
            disparity = np.float64(below.mean()) / np.float64(above.mean())
            return {
                "mean_difference": above.mean() - below.mean(),
                "disparate_impact": disparity,
                "log_disparate_impact": np.log(np.float64(1) / disparity),
                "consistency": np.float64(above.std()) / np.float64(above.std()),
            }


class FolderVersionControl(BaseResourceVersionControl):
    """Keeps data and models under the hash of their bytes."""

    def _keep(self, value) -> dict[str, str]:
        folder = Path(self._get_config("version_dir"))
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"draft-{threading.get_ident()}"  # trials may run in threads
        joblib.dump(value, draft)
        name = hashlib.sha256(draft.read_bytes()).hexdigest()
        kept = draft.replace(folder / name)
        return {"hexsha": name, "uri": str(kept)}

    def _kept(self, vc_info):
        name = (vc_info or {}).get("hexsha")
        return None if name is None else joblib.load(Path(self._get_config("version_dir"), name))

    def version_data(self, dataset_version, data, *args, **kwargs):
        return self._keep(data)

    def get_data(self, dataset_version, vc_info=None, *args, **kwargs):
        return self._kept(vc_info or self.metadata_tracker.get_vc_info(dataset_version))

    def version_model(self, experiment, model, *args, **kwargs):
        return self._keep(model)

    def get_model(self, experiment, *args, **kwargs):
        return self._kept(self.metadata_tracker.get_vc_info(experiment))
