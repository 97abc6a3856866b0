"""Smoothing and thinning of histories, against the same in plain Python."""

import math
import random

import pyarrow as pa
import pytest

from metrics_lake.errors import InvalidInputError
from metrics_lake.reader.thinning import one_of_each


def averages(values, weight):
    """Return the exponential moving average, corrected for its start, of the finite values."""
    found, above, below = [], 0.0, 0.0
    for value in values:
        if isinstance(value, float) and math.isfinite(value):
            above = above * weight + value
            below = below * weight + 1
            found.append(above / below)
        else:
            found.append(value)
    return found


@pytest.mark.parametrize("weight", [1e-9, 0.001, 0.5, 0.9, 0.999, 0.999999])
def test_smoothing_is_the_corrected_moving_average(lake, weight):
    chance = random.Random(1)
    values = [chance.gauss(0, 1) + at / 100 for at in range(3000)]
    values[7] = math.nan
    values[9] = "text"
    values[11] = math.inf
    lake.publish(lake.log_rows("run", "m", values, steps=range(3000)))
    lake.publish(lake.log_rows("other", "m", [1.0, 2.0]))
    reader = lake.reader()
    found = reader.history("run", "m", smooth=weight).values()
    for left, right in zip(found, averages(values, weight), strict=True):
        assert left == right or left == pytest.approx(right, rel=1e-9, abs=1e-12, nan_ok=True)
    assert reader.history("run", "m", smooth=weight).notes == {"smooth": weight}
    assert reader.history("run", "m", smooth=0).values()[:3] == values[:3]
    full = reader.history("run", "m", smooth=weight, full=True)
    assert full.values()[:3] == pytest.approx(averages(values, weight)[:3])


def test_each_series_is_smoothed_by_itself(lake):
    series = [("a", None), ("a", {"fold": "1"}), ("a", {"fold": "2"}), ("b", None)]
    logged = {}
    for at, (run, tags) in enumerate(series):
        values = [1e9 * at + step * 0.5 for step in range(50)]
        logged[run, str(tags)] = averages(values, 0.7)
        lake.publish(lake.log_rows(run, "m", values, steps=range(50), tags=tags))
    found = {}
    for row in lake.reader().history(metrics="m", smooth=0.7):
        found.setdefault((row["resource"], str(row["tags"])), []).append(row["value"])
    assert found.keys() == logged.keys()
    for key, values in logged.items():
        assert found[key] == pytest.approx(values, rel=1e-12)


def keep(points, most):
    """Return the points that M4 keeps of one series with steps."""
    if len(points) <= most:
        return points
    low, high = points[0][0], points[-1][0]
    intervals = most // 4
    kept = set()
    buckets = {}
    for point in points:
        at = min(math.floor((point[0] - low) / (high - low) * intervals), intervals - 1)
        buckets.setdefault(at, []).append(point)
    for bucket in buckets.values():
        kept |= {bucket[0], bucket[-1]}
        kept |= {
            min(bucket, key=lambda point: (point[1], point[0])),
            max(bucket, key=lambda point: (point[1], -point[0])),
        }
    return sorted(kept)


def test_thinning_keeps_what_a_line_shows(lake):
    chance = random.Random(2)
    steps = sorted(chance.sample(range(20_000), 4000))
    points = [(step, chance.gauss(0, 1)) for step in steps]
    lake.publish(lake.log_rows("run", "m", [value for _, value in points], steps=steps))
    lake.publish(lake.log_rows("run", "short", [1.0, 2.0], steps=[0, 1]))
    result = lake.reader().history("run", downsample=200)
    found = [(row["step"], row["value"]) for row in result if row["metric"] == "m"]
    assert found == keep(points, 200)
    assert 100 < len(found) <= 200
    assert len(result) == len(found) + 2
    assert result.notes == {"downsample": 200, "total_points": 4002}
    assert "thinned out from 4,002" in repr(result)
    assert "total_points" not in result.columns
    assert result.reader().schema.names == ["resource", "metric", "tags", "step", "timestamp", "value"]


@pytest.mark.parametrize("seed", range(5))
def test_of_equal_values_and_steps_the_first_in_order_is_kept(lake, seed):
    chance = random.Random(seed)
    steps = [chance.randrange(300) for _ in range(2_000)]
    values = [float(chance.randrange(4)) if step < 200 else chance.gauss(0, 1) for step in steps]
    lake.publish(lake.log_rows("run", "m", values, steps=steps))
    ordered = sorted(zip(steps, range(2_000), values, strict=True))
    low, high = min(steps), max(steps)
    kept = set()
    for part in range(25):
        own = [at for at in ordered if min(int((at[0] - low) / (high - low) * 25), 24) == part]
        least, greatest = min(at[2] for at in own), max(at[2] for at in own)
        first = {at[2]: at for at in reversed(own)}
        kept |= {own[0], own[-1], first[least], first[greatest]}
    found = lake.reader().history("run", downsample=100)
    assert [(row["step"], row["value"]) for row in found] == [(at[0], at[2]) for at in sorted(kept)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_intervals_that_go_on_in_the_next_batch_give_four_points(seed, size):
    chance = random.Random(seed)
    rows = []
    for interval in range(40):
        if interval % 7 == 0:  # a series that is whole
            rows += [{"interval": None, "is_lowest": None, "is_highest": None}] * chance.randrange(4)
        flags = [None, False, True] if interval % 3 else [True]
        rows += [
            {"interval": interval, "is_lowest": chance.choice(flags), "is_highest": chance.choice(flags)}
            for _ in range(chance.choice([1, 2, 5, 30]))
        ]
    rows = [{"at": at, **row} for at, row in enumerate(rows)]
    expected = {row["at"] for row in rows if row["interval"] is None}
    for interval in range(40):
        own = [row for row in rows if row["interval"] == interval]
        chosen = [own[:1], own[-1:], *([row for row in own if row[name]][:1] for name in list(rows[0])[2:])]
        expected |= {row["at"] for part in chosen for row in part}
    types = [pa.int64(), pa.int64(), pa.bool_(), pa.bool_()]
    table = pa.Table.from_pylist(rows, pa.schema(list(zip(rows[0], types, strict=True))))
    found = one_of_each(pa.RecordBatchReader.from_batches(table.schema, table.to_batches(size))).read_all()
    assert found.column_names == ["at"]
    assert found.column("at").to_pylist() == sorted(expected)
    assert len(expected) < len(rows)


@pytest.mark.parametrize("asked", [{"downsample": 40}, {"downsample": 40, "repeats": "last"}])
def test_a_reader_gives_what_the_table_has(lake, asked):
    for run in ("a", "b"):
        lake.publish(lake.log_rows(run, "m", [float(at // 100 % 2) for at in range(1000)], steps=range(1000)))
        lake.publish(lake.log_rows(run, "text", ["x"] * 100, steps=[at // 2 for at in range(100)]))
    history = lake.reader().history
    streamed = history(**asked).reader().read_all()
    assert streamed == history(**asked).arrow()
    assert streamed.num_rows == 2 * (10 * 2 + 10 * 2)


def test_series_without_steps_are_thinned_along_time(lake):
    lake.publish(lake.log_rows("run", "m", [float(at % 7) for at in range(1000)]))
    result = lake.reader().history("run", downsample=100)
    assert 20 < len(result) <= 100
    assert result.values()[0] == 0.0


def test_smoothing_comes_first(lake):
    chance = random.Random(3)
    values = [chance.gauss(0, 1) for _ in range(1000)]
    lake.publish(lake.log_rows("run", "m", values, steps=range(1000)))
    smooth = averages(values, 0.9)
    found = lake.reader().history("run", smooth=0.9, downsample=40)
    assert [row["value"] for row in found] == pytest.approx([smooth[row["step"]] for row in found])


def test_thinning_nothing_says_so(lake):
    result = lake.reader().history("nobody", downsample=40)
    assert result.notes == {"downsample": 40, "total_points": 0}


@pytest.mark.parametrize(
    "options",
    [
        {"smooth": 1},
        {"smooth": -0.1},
        {"smooth": "0.9"},
        {"smooth": math.nan},
        {"downsample": 3},
        {"downsample": 10.0},
        {"downsample": True},
    ],
)
def test_what_makes_no_sense_is_refused(lake, options):
    with pytest.raises(InvalidInputError):
        lake.reader().history("run", **options)
