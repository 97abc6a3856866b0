"""What a chart draws: in memory and by scanning the same, against plain Python."""

import math
import random
from dataclasses import replace
from functools import partial

import pytest

from metrics_lake.charts import MAX_SERIES
from metrics_lake.reader import drawing
from metrics_lake.reader.drawing import Curves
from metrics_lake.reader.selection import Selection

ALL = 1_000_000


def log(lake, seed):
    """Log series with repeated and missing steps, texts, NaN and infinities; return their rows."""
    chance = random.Random(seed)
    logged = []
    for run in ("a", "b", "ä"):
        for tags in (None, {"fold": "1"}):
            count = chance.choice([1, 5, 400])
            odd = chance.choice([[], [math.nan, math.inf, -math.inf, "text"]])
            values = [chance.choice([0.0, 1.0, chance.gauss(0, 1), *odd]) for _ in range(count)]
            repeated = [chance.choice([None, chance.randrange(300)]) for _ in range(count)]
            steps = chance.choice([list(range(count)), repeated])
            rows = lake.log_rows(run, "m", values, steps=steps, tags=tags, writer=len(logged) + 1)
            moved = [replace(row, timestamp=row.timestamp - chance.randrange(9) * 1_000_000) for row in rows]
            (lake.publish if chance.random() < 0.5 else lake.compact)(moved)
            logged += moved
    return logged


def curves(lake, *, is_read_once):
    reader = lake.reader()
    table, snapshot = reader.table(), reader.snapshot()
    return Curves(
        Selection(),
        lambda: table.summaries(snapshot, Selection()),
        lambda part: (partial(table.run, snapshot, part), partial(table.stream, snapshot, part)),
        is_read_once=is_read_once,
    )


def newest(logged):
    """Return the rows that count: of each step the newest, and all without a step."""
    last = {}
    for row in sorted(logged, key=lambda row: row.by_time):
        step = (row.writer, row.seq) if row.step is None else row.step
        last[row.resource, row.tags_key, step] = row
    return list(last.values())


def is_number(row):
    return not isinstance(row.value, str)


def shown(drawn):
    columns = ("resource", "tags_key", "step", "timestamp", "value")
    rows = zip(*(drawn.points.column(name).to_pylist() for name in columns), strict=True)
    return [tuple(map(str, row)) for row in rows]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("x", ["step", "timestamp", "relative"])
@pytest.mark.parametrize("kept_points", [ALL, 0])
@pytest.mark.parametrize("is_read_once", [False, True])
def test_every_point_that_counts_has_its_place(lake, monkeypatch, seed, x, kept_points, is_read_once):
    monkeypatch.setattr(drawing, "_KEPT_POINTS", kept_points)
    rows = newest(log(lake, seed))
    drawn = curves(lake, is_read_once=is_read_once).draw(x, ALL)
    placed = [row for row in rows if is_number(row) and (x != "step" or row.step is not None)]
    assert drawn.num_points == len(placed) == drawn.points.num_rows
    assert drawn.num_not_finite == sum(not math.isfinite(row.value) for row in placed)
    assert drawn.num_texts == sum(not is_number(row) for row in rows)
    assert drawn.num_unplaced == len(rows) - drawn.num_texts - len(placed)
    along = "step" if x == "step" else "timestamp"
    columns = (drawn.points.column(name).to_pylist() for name in ("resource", "tags_key", along))
    places = list(zip(*columns, strict=True))
    assert places == sorted(places, key=lambda place: (place[0].encode(), *place[1:]))
    values = sorted(str(row.value) for row in placed)
    assert sorted(str(value) for value in drawn.points.column("value").to_pylist()) == values


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("x", ["step", "timestamp"])
@pytest.mark.parametrize("is_read_once", [False, True])
def test_thinned_in_memory_and_by_scanning_is_the_same(lake, monkeypatch, seed, x, is_read_once):
    log(lake, seed)
    in_memory = curves(lake, is_read_once=is_read_once).draw(x, 240)
    monkeypatch.setattr(drawing, "_KEPT_POINTS", 0)
    by_scanning = curves(lake, is_read_once=is_read_once).draw(x, 240)
    assert sorted(shown(in_memory)) == sorted(shown(by_scanning))
    assert replace(in_memory, points=None) == replace(by_scanning, points=None)
    assert in_memory.points.num_rows < in_memory.num_points or in_memory.num_points < 400


@pytest.mark.parametrize("x", ["step", "timestamp"])
def test_smoothed_points_are_those_of_the_history(lake, x):
    chance = random.Random(1)
    for run in ("a", "b"):
        values = [chance.choice([0.0, 1.0, math.nan, chance.gauss(0, 1)]) for _ in range(300)]
        lake.publish(lake.log_rows(run, "m", values, steps=chance.sample(range(300), 300)))
    history = lake.reader().history(smooth=0.9, full=True).arrow().to_pylist()
    drawn = curves(lake, is_read_once=False).draw(x, ALL, smooth=0.9).points.to_pylist()
    expected = sorted(history, key=lambda row: (row["resource"], row[x]))
    columns = ("resource", "step", "timestamp", "value")
    assert [[str(row[name]) for name in columns] for row in drawn] == [
        [str(row[name]) for name in columns] for row in expected
    ]


def test_nothing_that_can_be_drawn_is_counted(lake, monkeypatch):
    lake.publish(lake.log_rows("a", "m", [1.0, 2.0, "text"]))
    for kept_points in (ALL, 0):
        monkeypatch.setattr(drawing, "_KEPT_POINTS", kept_points)
        drawn = curves(lake, is_read_once=False).draw("step", ALL)
        assert (drawn.num_points, drawn.num_texts, drawn.num_unplaced) == (0, 1, 2)


def test_few_points_are_read_once_for_every_look(lake):
    lake.compact(lake.log_rows("a", "m", [float(at) for at in range(100)], steps=range(100)))
    reader = lake.reader()
    reader.history("a").plot()
    lake.storage.reset()
    again = reader.history("a", smooth=0.5).plot(x="timestamp", max_points=20)
    assert "10 of 100 points shown" in again.title.subtitle[0]
    assert not [key for verb, key in lake.storage.calls if key.endswith(".parquet")]
    lake.publish(lake.log_rows("a", "m", [9.0], steps=[100], writer=2))
    assert reader.history("a").plot().title.subtitle == ["1 series · 101 points"]


@pytest.mark.parametrize("kept_points", [ALL, 0])
def test_points_of_series_that_are_not_drawn_are_not_counted(lake, monkeypatch, kept_points):
    monkeypatch.setattr(drawing, "_KEPT_POINTS", kept_points)
    for fold in range(MAX_SERIES + 1):
        values = [1.0, math.inf, "text"]
        lake.publish(lake.log_rows("a", "m", values, steps=[0, 1, 2], tags={"fold": f"{fold:03}"}))
    drawn = curves(lake, is_read_once=False).draw("step", ALL)
    assert drawn.num_series == MAX_SERIES + 1
    assert drawn.num_points == drawn.points.num_rows == 2 * MAX_SERIES
    assert drawn.num_not_finite == drawn.num_texts == MAX_SERIES


@pytest.mark.parametrize("window", [{"steps": range(50, 60)}, {"since": 1_790_000_000 + MAX_SERIES}])
def test_series_drawn_of_a_window_have_points_in_it(lake, window):
    for run in range(MAX_SERIES):
        lake.publish(lake.log_rows(f"old/{run:03}", "m", [1.0], steps=[0]))
    lake.publish(lake.log_rows("run", "m", [1.0, 2.0, 3.0], steps=[0, 50, 51]))
    (subtitle,) = lake.reader().history(**window).plot().title.subtitle
    assert subtitle.startswith("1 series · ")
