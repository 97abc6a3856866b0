"""``lake.history`` as users call it: what it passes on, and who may be named."""

import pytest

from metrics_lake import MetricsLake, glob
from metrics_lake.errors import InvalidInputError


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake") as lake:
        yield lake


class Run:
    def __init__(self, id):
        self.id = id


def test_notes_say_what_was_done_and_how_many_points_there_were(lake):
    run = lake.resource("digits/1")
    run.log_series("loss", [1 / (1 + at) for at in range(500)])
    for history in (
        run.history("loss", downsample=40, smooth=0.5),
        lake.history(run, "loss", downsample=40, smooth=0.5),
    ):
        assert 10 < len(history) <= 40
        assert history.notes == {"downsample": 40, "smooth": 0.5, "total_points": 500}
    with pytest.raises(InvalidInputError):
        run.history("loss", downsample=2)


def test_any_resource_and_any_list_of_them_can_be_named(lake):
    for name in ("Run/1", "digits/a", "x/y"):
        lake.log_metric(name, "m", 1.0)
    for asked, names in [
        (Run(1), ["Run/1"]),
        ([Run(1), "x/y"], ["Run/1", "x/y"]),
        (("x/y", glob("digits/*")), ["digits/a", "x/y"]),
        ([("x", "y"), ("digits", "a")], ["digits/a", "x/y"]),
        ((name for name in ["x/y"]), ["x/y"]),
        (lake.resource("x/y"), ["x/y"]),
        (None, ["Run/1", "digits/a", "x/y"]),
        ([], []),
    ]:
        assert lake.history(asked).values("resource") == names
    assert lake.resources([Run(1)]).values("resource") == ["Run/1"]
    for wrong in (b"x", {"a": 1}, 3.0, [object()]):
        with pytest.raises(InvalidInputError):
            lake.history(wrong)
