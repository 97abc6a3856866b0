"""``best``, ``compare`` and the views of ``sql`` against plain Python over the same points.

The points lie in the table, in the inbox and in the journal, with copies among them, as chance has it.
"""

import datetime as dt
import itertools
import math
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from metrics_lake import AmbiguousSeriesError, MetricsLake, MetricsLakeWarning
from metrics_lake.tags import canonical_tags, tags_key

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
RESOURCES = ["a", "A", "b/é", "\U00010000"]
METRICS = ["m", "M", "params/p", "kind"]
TAGS = [None, {"k": "v"}, {"k": "w"}]
VALUES = st.sampled_from(
    [0.5, 0.5, 1.0, -1.0, math.nan, math.inf, -math.inf, 0.0, -0.0, 1, 2**60 + 1, True, None, "x", "y" * 1500]
)
STEPS = st.sampled_from([None, 0, 1, 1, 2, -5, 2**63 - 1])
POINTS = st.tuples(
    st.sampled_from(RESOURCES),
    st.sampled_from(METRICS),
    VALUES,
    STEPS,
    st.integers(0, 3).map(lambda hours: START + dt.timedelta(days=20 * hours)),
    st.sampled_from(TAGS),
)
ACTIONS = st.lists(
    st.lists(POINTS, min_size=1, max_size=12)
    | st.sampled_from(["flush", "compact", "compact"])
    | st.tuples(st.just("copy"), st.sampled_from(RESOURCES), st.sampled_from(RESOURCES)),
    min_size=1,
    max_size=8,
)
numbers = itertools.count()


def by_time(row):
    return (row["timestamp"], row["writer"].encode(), row["seq"])


def by_step(row):
    return (row["step"] is not None, row["step"] or 0, *by_time(row))


def number(value):
    """Return the numeric view of a value."""
    return float(value) if isinstance(value, int | float) else None


def may_win(row):
    view = number(row["value"])
    return view is not None and not math.isnan(view)


def extreme(rows, mode):
    candidates = [row for row in rows if may_win(row)]
    sign = -1 if mode == "max" else 1
    return min(candidates, key=lambda row: (sign * number(row["value"]), by_step(row)), default=None)


def series_of(rows):
    """Return the rows of each series, by resource, metric and tags_key."""
    found = {}
    for row in rows:
        found.setdefault((row["resource"], row["metric"]), {}).setdefault(row["tags_key"], []).append(row)
    return found


def the_one(series, tags):
    """Return the rows of the series that one value comes from; None where several could."""
    if tags is not None:
        return series.get(tags_key(canonical_tags(tags)), [])
    if "" in series:
        return series[""]
    return next(iter(series.values())) if len(series) == 1 else None


def same(left, right):
    return repr(left) == repr(right)


def check_best(lake, rows, mode, by, step, tags, at):
    mine = [row for row in rows if row["metric"] == "m"]
    picked = []
    for (resource, _), series in series_of(mine).items():
        points = the_one(series, tags)
        if points is None:
            with pytest.raises(AmbiguousSeriesError):
                lake.best("m", mode=mode, by=by, step=step, tags=tags, at=at).rows()
            return
        if by == "best":
            row = extreme(points, mode)
        elif by == "last":
            row = max(points, key=by_time, default=None)
        else:
            among = [each for each in points if step is None or each["step"] == step]
            row = max(among, key=by_step, default=None)
        if row is not None and may_win(row):
            picked.append((resource, row))
    sign = -1 if mode == "max" else 1
    picked.sort(key=lambda pair: (sign * number(pair[1]["value"]), by_step(pair[1]), pair[0].encode()))
    goodness = [number(row["value"]) for _, row in picked]
    for top in (None, 2):
        found = lake.best("m", mode=mode, by=by, step=step, tags=tags, at=at, top=top).rows()
        expected = picked[:top]
        assert [row["resource"] for row in found] == [resource for resource, _ in expected]
        assert [row["rank"] for row in found] == [goodness.index(each) + 1 for each in goodness[:top]]
        for left, (_, right) in zip(found, expected, strict=True):
            assert same(left["value"], right["value"])
            assert (left["step"], left["timestamp"], left["tags"]) == (
                right["step"],
                right["timestamp"],
                right["tags"],
            )


def cell(points, stat):
    if stat in ("last", "first"):
        row = (max if stat == "last" else min)(points, key=by_time, default=None)
    elif stat in ("min", "max"):
        row = extreme(points, stat)
    elif stat == "count":
        return len(points) or None
    else:
        finite = [
            each for row in points if (each := number(row["value"])) is not None and math.isfinite(each)
        ]
        return pytest.approx(math.fsum(finite) / len(finite), rel=1e-9, abs=1e-9) if finite else None
    return None if row is None else row["value"]


def check_compare(lake, rows, stat, tags, at):
    series = series_of(rows)
    resources = sorted({resource for resource, _ in series}, key=str.encode)
    left_out = {metric for (_, metric), each in series.items() if the_one(each, tags) is None}
    if left_out:
        with pytest.raises(AmbiguousSeriesError):
            lake.compare(None, sorted(left_out), stat=stat, tags=tags, at=at).rows()
    picked = {
        key: points
        for key, each in series.items()
        if key[1] not in left_out and (points := the_one(each, tags))
    }
    metrics = sorted({metric for _, metric in picked})
    result = lake.compare(None, stat=stat, tags=tags, at=at)
    with pytest.warns(MetricsLakeWarning, match="Left out") if left_out else nullcontext():
        result.rows()
    assert result.columns == ["resource", *metrics]
    for row, resource in zip(result.rows(), resources, strict=True):
        assert row["resource"] == resource
        for metric in metrics:
            expected = cell(picked.get((resource, metric), []), stat)
            if stat == "mean":
                assert row[metric] == expected
            else:
                assert same(row[metric], expected)
    condition = lake.compare(None, [], where="\"M\" > 0 or resource = 'a'", tags=tags, at=at)
    of_m = [points_of_m(series, resource, tags) for resource in resources]
    if None in of_m:
        with pytest.raises(AmbiguousSeriesError):
            condition.rows()
        return
    views = {
        resource: number(max(points, key=by_time)["value"] if points else None)
        for resource, points in zip(resources, of_m, strict=True)
    }
    # Where every value is a text the column is one, and cannot be compared with a number.
    if metrics and any(view is not None for view in views.values()):
        check_where(condition, views)


def points_of_m(series, resource, tags):
    """Return the rows of the series that a condition means by "M"; None where several could be meant."""
    each = series.get((resource, "M"), {})
    points = the_one(each, tags) if tags is not None else None
    return points or (the_one(each, None) if each else [])


def check_where(found, views):
    passing = []
    for resource, view in views.items():
        if resource == "a" or (view is not None and (view > 0 or math.isnan(view))):  # NaN is greatest in SQL
            passing.append(resource)
    assert found.values("resource") == passing


def check_views(lake, rows, at):
    found = lake.sql("from metrics", at=at).arrow()
    assert sorted((r, w, s) for r, w, s in _keys(found)) == sorted(
        (row["resource"], row["writer"], row["seq"]) for row in rows
    )
    flat = {(*key, tags): each for key, per in series_of(rows).items() for tags, each in per.items()}
    series = lake.sql("from series order by resource, metric, tags_key", at=at).rows()
    assert [(row["resource"], row["metric"], row["tags_key"]) for row in series] == sorted(
        flat, key=lambda key: tuple(part.encode() for part in key)
    )
    for row in series:
        points = flat[row["resource"], row["metric"], row["tags_key"]]
        views = [number(each["value"]) for each in points]
        assert row["count"] == len(points)
        assert row["num_nan"] == sum(each is not None and math.isnan(each) for each in views)
        assert row["mean"] == cell(points, "mean")
        picks = {
            "first": min(points, key=by_time),
            "last": max(points, key=by_time),
            "min": extreme(points, "min"),
            "max": extreme(points, "max"),
        }
        for name, expected in picks.items():
            view = None if expected is None else number(expected["value"])
            assert same(row[name], view) or row[name] == view
            assert row[f"{name}_step"] == (expected and expected["step"])
            assert row[f"{name}_timestamp"] == (expected and expected["timestamp"])
    latest = lake.sql("select * from latest", at=at).rows()
    assert {(row["writer"], row["seq"], row["resource"]) for row in latest} == {
        (row["writer"], row["seq"], row["resource"]) for row in (max(p, key=by_time) for p in flat.values())
    }
    assert all(row["text"] is None or row["kind"] != "str" or len(row["text"]) in (1, 1500) for row in latest)
    params = lake.sql("from params order by resource", at=at).rows()
    expected_params = {}
    for (resource, metric, key), points in flat.items():
        if metric == "params/p":
            last = max(points, key=by_time)
            rank = (key == "", by_time(last))
            if resource not in expected_params or rank > expected_params[resource][0]:
                expected_params[resource] = (rank, last)
    assert [(row["resource"], row["name"]) for row in params] == [
        (resource, "p") for resource in sorted(expected_params, key=str.encode)
    ]
    for row in params:
        last = expected_params[row["resource"]][1]
        assert (row["kind"], row["timestamp"]) == (last["kind"], last["timestamp"])


def _keys(table):
    return zip(*(table.column(name).to_pylist() for name in ("resource", "writer", "seq")), strict=True)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(data=st.data())
def test_analysis_agrees_with_plain_python(data):
    with tempfile.TemporaryDirectory() as folder:
        lake = MetricsLake(
            Path(folder, "lake"), state_dir=Path(folder, "state"), compaction="off", flush_seconds=3600
        )
        with lake:
            run_actions(data, lake)
            rows = lake.history(full=True).rows()
            moment = data.draw(st.none() | st.integers(-1, 3), label="at")
            at = None if moment is None else START + dt.timedelta(days=20 * moment)
            visible = [row for row in rows if at is None or row["timestamp"] <= at]
            tags = data.draw(st.sampled_from([None, {}, {"k": "v"}]), label="tags")
            for mode in ("max", "min"):
                by = data.draw(st.sampled_from(["best", "last", "step"]))
                step = data.draw(STEPS) if by == "step" else None
                check_best(lake, visible, mode, by, step, tags, at)
            stats = ["last", "first", "min", "max", "mean", "count"]
            check_compare(lake, visible, data.draw(st.sampled_from(stats)), tags, at)
            check_views(lake, visible, at)


def run_actions(data, lake):
    known = set()
    lake.log_metric("first", "other", 1.0, timestamp=START)
    for action in data.draw(ACTIONS):
        if action == "flush":
            lake.flush()
        elif action == "compact":
            lake.flush()
            lake.maintenance.compact()
        elif isinstance(action, tuple):
            _, source, target = action
            if source in known and source != target:
                lake.copy_metrics(source, target)
                known.add(target)
        else:
            for resource, metric, value, step, timestamp, tags in action:
                lake.log_metric(resource, metric, value, step=step, timestamp=timestamp, tags=tags)
                known.add(resource)
