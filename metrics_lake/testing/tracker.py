"""What every metrics tracker must do, as tests: subclass ``TrackerSuite``, give it a ``tracker`` fixture."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import pytest

from metrics_lake.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from metrics_lake.tracker import BaseMetricsTracker

__all__ = ["HARD_VALUES", "HOSTILE_IDS", "TrackerSuite"]

HARD_VALUES: tuple[Any, ...] = (
    *(0.0, -0.0, 0.1, 1e308, 5e-324, 2.2250738585072014e-308, math.inf, -math.inf, math.nan),
    *(0, 1, -1, 2**53, 2**53 + 1, -(2**63), 2**64, 10**400, True, False, None),
    *("", "text", "NUL\0inside", "ünïcödé 🎉", "'; drop table metrics; --", '{"a": 1}', b"", b"\0\xff"),
    *(Decimal("1.10"), Decimal("NaN"), 1 + 2j, UUID(int=7)),
    *(dt.date(2026, 2, 28), dt.time(23, 59, 59, 999999), dt.timedelta(days=-1, microseconds=1)),
    *(dt.datetime(2026, 3, 29, 2, 30), dt.datetime(1900, 1, 1, tzinfo=dt.UTC)),  # noqa: DTZ001 -- naive too
    *([], [1, 2.0, "x", None, [True]], (1, (2, 3)), {"a": {"b": [1.5]}}, {1: "a", (2, 3): "b"}, {1, 2, 3}),
    *([math.nan, -0.0, math.inf], {"nested": b"bytes", "when": dt.date(2026, 1, 1)}),
)
"""Values that trackers tend to change: each must come back equal and of the same type."""

HOSTILE_IDS: tuple[str, ...] = (
    *("..", ".", "/", "//", "a/../b", "a=b", "a=b/c=d", "a b", " a", "a ", "a\tb", "a\nb", "a\0b", "a%2Fb"),
    *("%", "*", "?", "[a]", "glob*", "'", '"', "`", "';--", "$1", "$kind", "{}", "\\", "a\\b", "C:\\x"),
    *(
        "__HIVE_DEFAULT_PARTITION__",
        "null",
        "NULL",
        "None",
        "nan",
        "007",
        "1e5",
        "true",
        "ß",
        "\u00e9",
        "e\u0301",
        "日本語",
        "🎉",
    ),
    "x" * 300,
)
"""Ids that trackers tend to lose or change: they are data, never paths or patterns."""


@dataclass
class _Version:
    id: int


class TrackerSuite:
    """Conformance tests of one tracker.

    A subclass named ``Test…`` defines a fixture ``tracker`` that returns an empty tracker of its own for each
    test, and ``reopened``, which given a tracker returns another one on the same metrics::

        class TestMyTracker(TrackerSuite):
            @pytest.fixture
            def tracker(self, tmp_path):
                with MetricsLake(tmp_path / "lake") as lake:
                    yield lake

            def reopened(self, tracker):
                return MetricsLake(tracker.url)

    Attributes:
        hard_values: The values that must come back exactly.
        hostile_ids: The ids that must be told apart.
    """

    hard_values: ClassVar[tuple[Any, ...]] = HARD_VALUES
    hostile_ids: ClassVar[tuple[str, ...]] = HOSTILE_IDS

    def reopened(self, tracker: BaseMetricsTracker) -> BaseMetricsTracker:
        """Return another tracker on the metrics that ``tracker`` has logged."""
        raise NotImplementedError

    def test_a_logged_value_is_the_latest(self, tracker: BaseMetricsTracker) -> None:
        """The later call wins, and a missing metric is None."""
        tracker.log_metric("run", "loss", 0.5)
        tracker.log_metric("run", "loss", 0.25)
        assert tracker.get_metric("run", "loss") == 0.25
        assert tracker.get_metric("run", "acc") is None
        assert tracker.get_metric("other", "loss") is None

    def test_hard_values_come_back_exactly(self, tracker: BaseMetricsTracker) -> None:
        """Equal, of the same type, in this tracker and in another one."""
        tracker.log_metrics(
            "run", {f"v{i}": value for i, value in enumerate(self.hard_values)}, separator=None
        )
        for lake in (tracker, self.reopened(tracker)):
            for i, value in enumerate(self.hard_values):
                _assert_same(lake.get_metric("run", f"v{i}"), value)

    def test_hostile_ids_are_told_apart(self, tracker: BaseMetricsTracker) -> None:
        """As resources and as metrics, in this tracker and in another one."""
        for i, name in enumerate(self.hostile_ids):
            tracker.log_metric(name, "m", i)
            tracker.log_metric("run", name, -i)
        for lake in (tracker, self.reopened(tracker)):
            for i, name in enumerate(self.hostile_ids):
                assert lake.get_metric(name, "m") == i
                assert lake.get_metric("run", name) == -i

    def test_objects_with_an_identity_are_resources(self, tracker: BaseMetricsTracker) -> None:
        """The same thing built twice is the same resource."""
        for i in range(3):
            same = [(_Version(7), UUID(int=7), PurePosixPath("a/b"))[i] for _ in range(2)]
            tracker.log_metric(same[0], "m", i)
            assert tracker.get_metric(same[1], "m") == i

    def test_an_object_without_an_identity_is_refused(self, tracker: BaseMetricsTracker) -> None:
        """It would be another resource in the next process."""
        with pytest.raises(InvalidInputError, match="id"):
            tracker.log_metric(object(), "m", 1)

    @pytest.mark.parametrize("id", ["", "x" * 5000, "lone \ud800 surrogate", 7, None])
    def test_ids_that_cannot_be_kept_are_refused(self, tracker: BaseMetricsTracker, id: Any) -> None:
        """Empty, too long, not text."""
        with pytest.raises(InvalidInputError):
            tracker.log_metric("run", id, 1)
        if not isinstance(id, int):
            with pytest.raises(InvalidInputError):
                tracker.log_metric(id, "m", 1)

    def test_values_that_cannot_be_kept_are_refused(self, tracker: BaseMetricsTracker) -> None:
        """In the call, and nothing of the call is kept."""
        tracker.log_metric("run", "other", 1)
        with pytest.raises(InvalidInputError):
            tracker.log_metrics("run", {"good": 1, "bad": object()})
        assert tracker.get_metric("run", "good") is None

    def test_nested_metrics_are_flattened(self, tracker: BaseMetricsTracker) -> None:
        """An empty mapping adds nothing; two paths that meet are refused."""
        tracker.log_metrics("run", {"train": {"loss": 0.5, "by": {"a": 1}}, "valid": {}, "n": 3})
        assert tracker.get_metric("run", "train/loss") == 0.5
        assert tracker.get_metric("run", "train/by/a") == 1
        assert tracker.get_metric("run", "n") == 3
        with pytest.raises(InvalidInputError, match="train/loss"):
            tracker.log_metrics("run", {"train": {"loss": 0.5}, "train/loss": 1})

    def test_copies_are_whole_and_repeating_one_adds_nothing(self, tracker: BaseMetricsTracker) -> None:
        """Every metric with its type, in the copy and still in the original."""
        tracker.log_metrics("run", {"loss": 0.5, "layers": [64, 64], "name": "mlp"})
        tracker.log_metric("run", "loss", 0.25)
        assert tracker.copy_metrics("run", "model/1") == 4
        assert tracker.copy_metrics("run", "model/1") == 0
        assert tracker.copy_metrics("model/1", "model/2") == 4
        assert tracker.copy_metrics("model/2", "run") == 0
        for lake in (tracker, self.reopened(tracker)):
            for resource in ("run", "model/1", "model/2"):
                assert lake.get_metric(resource, "loss") == 0.25
                assert lake.get_metric(resource, "layers") == [64, 64]
                assert lake.get_metric(resource, "name") == "mlp"

    def test_copies_of_nothing_or_onto_itself_are_refused(self, tracker: BaseMetricsTracker) -> None:
        """With the names that were meant."""
        tracker.log_metric("digits/run-1", "loss", 0.5)
        with pytest.raises(NotFoundError, match="digits/run-1"):
            tracker.copy_metrics("digits/run-l", "model")
        with pytest.raises(InvalidInputError, match="itself"):
            tracker.copy_metrics("digits/run-1", "digits/run-1")

    def test_prediction_metrics_of_labels(self, tracker: BaseMetricsTracker) -> None:
        """A bare list is enough; shares sum to 1 and keys keep their type."""
        tracker.log_prediction_metrics("job", ["no", "yes", "no", "no", None])
        assert tracker.get_metric("job", "num_predictions") == 5
        assert tracker.get_metric("job", "num_null") == 1
        assert tracker.get_metric("job", "class_distribution") == {"no": 0.75, "yes": 0.25}

    def test_prediction_metrics_of_numbers(self, tracker: BaseMetricsTracker) -> None:
        """Moments and quantiles, with what could not be used counted."""
        tracker.log_prediction_metrics("job", [1.5, 2.5, 3.5, math.nan, math.inf])
        assert tracker.get_metric("job", "num_predictions") == 5
        assert tracker.get_metric("job", "num_nan") == 1
        assert tracker.get_metric("job", "num_inf") == 1
        assert tracker.get_metric("job", "mean") == 2.5
        assert (tracker.get_metric("job", "min"), tracker.get_metric("job", "max")) == (1.5, 3.5)

    def test_unknown_arguments_are_a_type_error(self, tracker: BaseMetricsTracker) -> None:
        """A misspelt keyword is never ignored."""
        with pytest.raises(TypeError):
            tracker.log_metric("run", "loss", 0.5, stepp=1)


def _assert_same(found: Any, value: Any) -> None:
    """Compare as values and as types all the way down, NaN being equal to NaN."""
    assert type(found) is type(value), (found, value)
    if isinstance(value, dict):
        assert list(found) == list(value)
        for key, item in value.items():
            _assert_same(found[key], item)
    elif isinstance(value, list | tuple):
        assert len(found) == len(value)
        for one, other in zip(found, value, strict=True):
            _assert_same(one, other)
    elif isinstance(value, float):
        assert repr(found) == repr(value)
    elif isinstance(value, Decimal):
        assert str(found) == str(value)
    else:
        assert found == value
