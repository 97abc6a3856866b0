"""Curves in a terminal: what is drawn where, and what is left out."""

import pytest

pytest.importorskip("rich")

from metrics_lake.cli._plot import MARKERS, curves


def lines(*args, **kwargs):
    return str(curves(*args, **kwargs)).splitlines()


def test_a_rising_line_goes_from_corner_to_corner():
    drawn = lines({"a": [(0, 0.0), (1, 1.0), (2, 2.0)]}, width=19, height=3)
    assert drawn == [
        "       2 ┤        *",
        "       1 ┤    *",
        "       0 ┤*",
        "         └─────────",
        "          0  step 2",
        "          * a",
    ]


def test_every_line_fits_the_width():
    series = {f"run-{n}": [(step, n + 1 / (step + 1)) for step in range(50)] for n in range(4)}
    drawn = lines(series, width=78, is_log=True, x_label="step (epoch)")
    assert max(map(len, drawn)) == 78
    for (marker, _), name in zip(MARKERS, series, strict=True):
        assert f"          {marker} {name}" in drawn


def test_the_first_curve_lies_on_top():
    drawn = lines({"a": [(0, 0), (1, 1)], "b": [(0, 0), (1, 0)]}, width=30, height=4)
    assert drawn[0].endswith("*")
    assert drawn[3].split("┤")[1].strip().split() == ["*", "+"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_what_cannot_be_drawn_is_left_out(value):
    drawn = lines({"a": [(0, 1.0), (1, value), (2, 4.0)]}, width=40, height=3, is_log=True)
    assert drawn[0].startswith("       4 ┤")
    assert drawn[1].startswith("       2 ┤")
    assert sum(line.count("*") for line in drawn[:3]) == 2


def test_nothing_and_one_value_are_no_errors():
    assert lines({}, width=40) == lines({"a": []}, width=40) == ["(nothing to draw)"]
    assert lines({"a": [(3, 0.5)]}, width=40, height=3)[2] == "     0.5 ┤*"
