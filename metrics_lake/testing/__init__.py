"""What tests of this package, and of what is built on it, need.

``StorageSuite`` are the rules of a storage as tests, ``TrackerSuite`` those of the contract.
``CountingStorage``, ``LatencyStorage`` and
``FaultyStorage`` go around any storage. ``metrics_lake.testing.servers`` starts real S3 and GCS servers,
``metrics_lake.testing.proxy`` counts and fails on the wire, ``metrics_lake.testing.fixtures`` has pytest
fixtures for all of it. Needs the extra ``test``.
"""

from __future__ import annotations

from metrics_lake.testing.faults import CrashError, Fault, FaultKind, FaultyStorage
from metrics_lake.testing.storage import StorageSuite
from metrics_lake.testing.tracker import HARD_VALUES, HOSTILE_IDS, TrackerSuite
from metrics_lake.testing.wrappers import CountingStorage, LatencyStorage, Verb, WrappedStorage

__all__ = [
    "HARD_VALUES",
    "HOSTILE_IDS",
    "CountingStorage",
    "CrashError",
    "Fault",
    "FaultKind",
    "FaultyStorage",
    "LatencyStorage",
    "StorageSuite",
    "TrackerSuite",
    "Verb",
    "WrappedStorage",
]
