"""The contract over every kind of store."""

import pytest

from metrics_lake import MetricsLake
from metrics_lake.testing import TrackerSuite


class TestMetricsLake(TrackerSuite):
    @pytest.fixture
    def tracker(self, any_url, any_options):
        self._options = any_options
        with MetricsLake(any_url, storage_options=any_options) as lake:
            yield lake

    def reopened(self, tracker):
        tracker.flush()
        return MetricsLake(tracker.url, storage_options=self._options)


class TestCompacted(TrackerSuite):
    """Another handle that reads what compaction made of it."""

    @pytest.fixture
    def tracker(self, any_url, any_options):
        self._options = any_options
        with MetricsLake(any_url, storage_options=any_options) as lake:
            yield lake

    def reopened(self, tracker):
        moved = tracker.maintenance.compact()
        assert moved["metrics"].points > 0 or tracker.snapshot().log.version >= 0
        lake = MetricsLake(tracker.url, storage_options=self._options, read_only=True)
        assert not lake.snapshot().inbox
        return lake
