"""The models of the demo: small, real, trained epoch by epoch on data that scikit-learn ships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["EPOCHS", "STUDIES", "Setting", "Study", "Training"]

EPOCHS: Final = 40

Array = Any  # numpy's own generic type says nothing here


@dataclass(frozen=True)
class Setting:
    """One way to train.

    Attributes:
        name: The part of the run's id that names it.
        params: What is logged as the run's parameters.
    """

    name: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One data set, the settings that are tried on it, and the metric that picks the winner.

    Attributes:
        name: The part of the run's id that names it.
        load: Returns the data as ``(X, y)``.
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        metric: The id of the metric by which runs are ranked; less is better.
        other: Another metric worth a column.
        settings: What is tried.
    """

    name: str
    load: Callable[..., tuple[Array, Array]]
    task: str
    metric: str
    other: str
    settings: tuple[Setting, ...]


def _mlp(learning_rate: float, *layers: int) -> Setting:
    params = {"model": "mlp", "layers": list(layers), "learning_rate": learning_rate}
    return Setting("mlp-" + "x".join(map(str, layers)), params)


def _sgd(learning_rate: float, alpha: float) -> Setting:
    name = f"sgd-{alpha:g}"
    return Setting(name, {"model": "sgd", "alpha": alpha, "learning_rate": learning_rate})


def _load_cancer(*, return_X_y: bool) -> tuple[Array, Array]:  # noqa: N803 -- scikit-learn's name
    """Return the data with malignant as the positive class, which scikit-learn has the other way round."""
    features, targets = load_breast_cancer(return_X_y=return_X_y)
    return features, 1 - targets


STUDIES: Final = (
    Study(
        "digits",
        load_digits,
        task="multiclass",
        metric="valid/log_loss",
        other="valid/accuracy",
        settings=(_mlp(3e-3, 16), _mlp(3e-3, 64), _mlp(1e-3, 64, 64), _sgd(1e-3, 1e-2)),
    ),
    Study(
        "cancer",
        _load_cancer,
        task="binary",
        metric="valid/log_loss",
        other="valid/accuracy",
        settings=(_mlp(1e-2, 8), _sgd(1e-2, 1e-3), _sgd(1e-2, 1e-1)),
    ),
    Study(
        "diabetes",
        load_diabetes,
        task="regression",
        metric="valid/rmse",
        other="valid/r2",
        settings=(_mlp(3e-3, 16), _mlp(1e-3, 32, 16), _sgd(1e-3, 1e-2)),
    ),
)


class Training:
    """One model that learns one setting of a study, an epoch at a time; a fifth is held out for the end.

    Args:
        study: The data.
        setting: How to learn it.
        seed: Of the model; the split of the data is always the same, so that runs can be compared.
    """

    def __init__(self, study: Study, setting: Setting, seed: int) -> None:
        self._is_regression = study.task == "regression"
        self._is_binary = study.task == "binary"
        features, targets = study.load(return_X_y=True)
        stratify = None if self._is_regression else targets
        rest, test, rest_y, self.test_truth = train_test_split(
            features, targets, test_size=0.2, random_state=0, stratify=stratify
        )
        stratify = None if self._is_regression else rest_y
        train, valid, self._train_y, self._valid_y = train_test_split(
            rest, rest_y, test_size=0.25, random_state=0, stratify=stratify
        )
        scaler = StandardScaler().fit(train)
        self._train, self._valid, self._test = map(scaler.transform, (train, valid, test))
        self._classes = np.unique(targets)
        self._center, self._scale = self._train_y.mean(), self._train_y.std()
        self._model = _estimator(self._is_regression, setting.params, seed)

    def epochs(self) -> Iterator[dict[str, dict[str, float]]]:
        """Learn; yield what there is to log behind every epoch."""
        for _ in range(EPOCHS):
            if self._is_regression:
                self._model.partial_fit(self._train, (self._train_y - self._center) / self._scale)
                yield self._regression_metrics()
            else:
                self._model.partial_fit(self._train, self._train_y, classes=self._classes)
                yield self._classification_metrics()

    def confusion(self) -> list[list[int]]:
        """Return the confusion matrix of the validation data, rows are true classes."""
        found = confusion_matrix(self._valid_y, self._model.predict(self._valid), labels=self._classes)
        rows: list[list[int]] = found.tolist()
        return rows

    def predictions(self) -> dict[str, Array]:
        """Return the columns of a prediction job over the held-out data, its truth among them."""
        columns = {"predicted": self._predict(self._test), "truth": self.test_truth}
        if self._is_binary:
            columns["score"] = self._model.predict_proba(self._test)[:, 1]
        return columns

    def _predict(self, features: Array) -> Array:
        found = self._model.predict(features)
        return found * self._scale + self._center if self._is_regression else found

    def _regression_metrics(self) -> dict[str, dict[str, float]]:
        predicted = self._predict(self._valid)
        return {
            "train": {"rmse": root_mean_squared_error(self._train_y, self._predict(self._train))},
            "valid": {
                "rmse": root_mean_squared_error(self._valid_y, predicted),
                "r2": r2_score(self._valid_y, predicted),
            },
        }

    def _classification_metrics(self) -> dict[str, dict[str, float]]:
        shares = self._model.predict_proba(self._valid)
        train = self._model.predict_proba(self._train)
        return {
            "train": {"log_loss": log_loss(self._train_y, train, labels=self._classes)},
            "valid": {
                "log_loss": log_loss(self._valid_y, shares, labels=self._classes),
                "accuracy": accuracy_score(self._valid_y, self._classes[shares.argmax(axis=1)]),
            },
        }


def _estimator(is_regression: bool, params: dict[str, Any], seed: int) -> Any:
    rate = params["learning_rate"]
    if params["model"] == "mlp":
        kind = MLPRegressor if is_regression else MLPClassifier
        layers = params["layers"]
        return kind(hidden_layer_sizes=layers, learning_rate_init=rate, batch_size=32, random_state=seed)
    common = {"alpha": params["alpha"], "learning_rate": "constant", "eta0": rate, "random_state": seed}
    return SGDRegressor(**common) if is_regression else SGDClassifier(loss="log_loss", **common)
