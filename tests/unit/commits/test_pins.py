from __future__ import annotations

import pytest

from metrics_lake.commits import TableLog, take_snapshot
from metrics_lake.commits.pins import snapshot_from_text, snapshot_to_text
from metrics_lake.errors import InvalidInputError


def test_a_snapshot_round_trips_through_its_text(world, make):
    world.commit(0, (make.writer(1), 0, 2), (make.writer(1), 6, 7))
    world.publish(make.writer(1), 0, 9)
    world.publish(make.writer(2), 0, 4)
    world.publish(make.writer(2), 5, 9, is_end=True)
    log = TableLog(world.storage, "metrics")
    snapshot = take_snapshot(world.storage, log, tuple)
    back = snapshot_from_text(snapshot_to_text(snapshot), log.at_version, "metrics")
    assert back.log.version == 0
    assert [(live.name.key, live.size_bytes, live.keep) for live in back.inbox] == [
        (live.name.key, live.size_bytes, live.keep) for live in snapshot.inbox
    ]
    assert back.inbox[0].keep == ((3, 5), (8, 9))
    assert back.inbox[-1].name.is_end


def test_a_text_of_something_else_is_refused(world):
    log = TableLog(world.storage, "metrics")
    for text in ("", "metrics", "other@1", "metrics@1;nonsense"):
        with pytest.raises(InvalidInputError):
            snapshot_from_text(text, lambda version: log.refresh(), "metrics")
