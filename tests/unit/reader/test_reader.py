"""What the read verbs answer over table, inbox and pending rows."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics_lake.commits import Intent, TableLog, commit
from metrics_lake.commits.upkeep import write_checkpoint
from metrics_lake.errors import (
    AmbiguousSeriesError,
    CorruptObjectError,
    InvalidInputError,
    MetricsLakeWarning,
    NotFoundError,
    ObjectNotFoundError,
    SnapshotExpired,
)
from metrics_lake.globs import glob
from metrics_lake.layout import log_key, sidecar_key
from metrics_lake.schema import METRICS, arrow_schema


def value(point):
    from metrics_lake.values import decode

    return None if point is None else decode(point.kind, point.value, point.text)


def test_an_empty_lake_has_nothing(lake):
    reader = lake.reader()
    assert reader.latest("run", "loss") is None
    assert reader.latest_metrics("run") == {}
    assert reader.metric_ids("run") == []
    assert reader.resources().rows() == []
    assert reader.history("run", "loss").rows() == []


def test_latest_is_found_wherever_it_lies(lake):
    rows = lake.log_rows("run", "loss", [0.5, 0.4, 0.3])
    lake.hold(rows)
    reader = lake.reader()
    assert value(reader.latest("run", "loss")) == 0.3
    lake.publish(rows)
    assert value(reader.latest("run", "loss")) == 0.3
    lake.pending.clear()
    assert value(reader.latest("run", "loss")) == 0.3
    lake.compact(rows, {rows[0].writer: ((0, 2),)})
    assert value(reader.latest("run", "loss")) == 0.3
    assert value(lake.reader().latest("run", "loss")) == 0.3
    assert len(reader.history("run")) == 3


def test_a_late_point_with_an_older_timestamp_does_not_win(lake):
    lake.publish(lake.log_rows("run", "loss", [1.0], timestamp=2_000_000))
    lake.publish(lake.log_rows("run", "loss", [2.0], timestamp=1_000_000))
    assert value(lake.reader().latest("run", "loss")) == 1.0


def test_equal_timestamps_go_to_the_later_writer_then_the_later_call(lake):
    lake.publish(lake.log_rows("run", "loss", [1.0], timestamp=5, writer=2))
    lake.publish(lake.log_rows("run", "loss", [2.0], timestamp=5, writer=1))
    lake.publish(lake.log_rows("run", "loss", [3.0], timestamp=5, writer=1))
    assert value(lake.reader().latest("run", "loss")) == 1.0


def test_the_latest_step_is_asked_for(lake):
    lake.publish(lake.log_rows("run", "loss", [1.0, 2.0, 3.0], steps=[7, None, 3]))
    reader = lake.reader()
    assert value(reader.latest("run", "loss")) == 3.0
    assert value(reader.latest("run", "loss", order_by="step")) == 1.0
    assert value(reader.latest("run", "loss", step=3)) == 3.0
    assert value(reader.latest("run", "loss", step=7)) == 1.0
    assert reader.latest("run", "loss", step=4) is None


def test_the_untagged_series_comes_first_then_the_only_one(lake):
    reader = lake.reader()
    lake.publish(lake.log_rows("run", "acc", [1.0], tags={"fold": 1}))
    assert value(reader.latest("run", "acc")) == 1.0
    assert reader.latest("run", "acc", tags={}) is None
    lake.publish(lake.log_rows("run", "acc", [2.0], tags={"fold": 2}))
    with pytest.raises(AmbiguousSeriesError, match="fold") as caught:
        reader.latest("run", "acc")
    assert caught.value.series == [{"fold": "1"}, {"fold": "2"}]
    with pytest.warns(MetricsLakeWarning, match="Left out: 'acc'"):
        assert reader.latest_metrics("run") == {}
    assert value(reader.latest("run", "acc", tags={"fold": 2})) == 2.0
    assert value(reader.latest_metrics("run", tags={"fold": 1})["acc"]) == 1.0
    lake.publish(lake.log_rows("run", "acc", [3.0]))
    assert value(reader.latest("run", "acc")) == 3.0
    assert value(reader.latest_metrics("run")["acc"]) == 3.0


def test_a_step_does_not_change_which_series_is_meant(lake):
    lake.publish(lake.log_rows("run", "acc", [1.0], tags={"fold": 1}, steps=[5]))
    lake.publish(lake.log_rows("run", "acc", [2.0], steps=[6]))
    assert lake.reader().latest("run", "acc", step=5) is None


@pytest.mark.parametrize("where", ["pending", "inbox", "table", "table without sidecars"])
def test_long_texts_come_back_whole(lake, where):
    rows = lake.log_rows("run", "note", ["é" * 5000])
    if where == "pending":
        lake.hold(rows)
    elif where == "inbox":
        lake.publish(rows)
    else:
        lake.compact(rows, sidecars=where == "table")
    reader = lake.reader()
    assert value(reader.latest("run", "note")) == "é" * 5000
    assert value(reader.latest_metrics("run")["note"]) == "é" * 5000


def test_every_reader_argument_that_is_wrong_is_refused(lake):
    reader = lake.reader()
    for call in (
        lambda: reader.latest("run", "loss", order_by="value"),
        lambda: reader.latest("run", "loss", at="yesterday"),
        lambda: reader.latest("run", "loss", at=dt.datetime(2026, 1, 1)),  # noqa: DTZ001 -- naive on purpose
        lambda: reader.latest("run", "loss", at=True),
        lambda: reader.latest("run", "loss", step=1.5),
        lambda: reader.history(3),
        lambda: reader.history(b"run"),
        lambda: reader.history("run", [None]),
        lambda: reader.history("run", steps="1"),
        lambda: reader.history("run", steps=slice(1, 2)),
        lambda: reader.history("run", steps=[1, None]),
        lambda: reader.history("run", repeats="first"),
        lambda: reader.history("run", since=dt.datetime(2026, 1, 1)),  # noqa: DTZ001 -- naive on purpose
        lambda: reader.rows_of("run", to="run"),
    ):
        with pytest.raises(InvalidInputError):
            call()


# ---- history ---------------------------------------------------------------------------------------------


def test_history_is_ordered_and_exact(lake):
    first = lake.log_rows("b", "loss", [1.0, 2.0], steps=[1, 0])
    second = lake.log_rows("a", "loss", [3, "text", None, [1, 2]], steps=[0, None, 2, 1])
    lake.compact(first[:1], {first[0].writer: ((0, 0),)})
    lake.publish([first[1], *second[:2]])
    lake.hold(second[2:])
    result = lake.reader().history()
    assert result.columns == ["resource", "metric", "tags", "step", "timestamp", "value"]
    assert [(row["resource"], row["step"], row["value"]) for row in result] == [
        ("a", None, "text"),
        ("a", 0, 3),
        ("a", 1, [1, 2]),
        ("a", 2, None),
        ("b", 0, 2.0),
        ("b", 1, 1.0),
    ]
    assert result.arrow()["value"].to_pylist() == [None, 3.0, None, None, 2.0, 1.0]


def test_history_in_full_has_every_column(lake):
    rows = lake.log_rows("a", "loss", [1], tags={"k": "v"})
    lake.publish(rows)
    (row,) = lake.reader().history("a", full=True).rows()
    assert set(row) == set(arrow_schema(METRICS).names)
    assert row["tags"] == {"k": "v"}
    assert (row["kind"], row["value"], row["tags_key"]) == ("int", 1, '{"k":"v"}')


def test_literals_are_literal_and_patterns_are_patterns(lake):
    for number, name in enumerate(["a*", "ab", "a/b", "b", "a?", "a_", "a%"]):
        lake.publish(lake.log_rows(name, "m", [float(number)]))
    reader = lake.reader()
    assert [row["resource"] for row in reader.history("a*")] == ["a*"]
    assert len(reader.history(glob("a*"))) == 6
    assert [row["resource"] for row in reader.history(glob("a[*]"))] == ["a*"]
    assert [row["resource"] for row in reader.history([glob("a/*"), "b", "nobody"])] == ["a/b", "b"]
    assert len(reader.history([])) == 0
    assert len(reader.history(["x"] * 3 + [f"n{number}" for number in range(200)] + ["ab"])) == 1


def test_steps_times_and_tags_narrow_a_history(lake):
    day = 86_400_000_000
    rows = lake.log_rows(
        "run", "m", [float(step) for step in range(10)], steps=range(10), timestamp=40 * 365 * day
    )
    lake.compact(rows[:5], {rows[0].writer: ((0, 4),)})
    lake.publish(rows[5:])
    lake.publish(lake.log_rows("run", "m", [99.0]))
    lake.publish(lake.log_rows("run", "m", [77.0], tags={"a": 1, "b": 2}, steps=[3]))
    reader = lake.reader()

    def steps(**options):
        return [row["step"] for row in reader.history("run", "m", **options)]

    assert steps(steps=4) == [4]
    assert steps(steps=range(2, 9, 3)) == [2, 5, 8]
    assert steps(steps=range(8, 1, -3)) == [2, 5, 8]
    assert steps(steps=[7, 1, 1]) == [1, 7]
    assert steps(steps=[]) == []
    assert steps(steps=range(0)) == []
    assert steps(steps=range(3, 4)) == [3, 3]
    assert steps(tags={"b": "2"}) == [3]
    assert steps(tags={"b": "1"}) == []
    since = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=rows[3].timestamp)
    until = rows[6].timestamp / 1e6
    assert steps(since=since, until=until) == [3, 4, 5]
    assert steps(since=until, until=since) == []
    assert steps(until=dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC))[:2] == [None, 0]


def test_the_newest_of_repeated_steps_is_kept(lake):
    lake.publish(lake.log_rows("run", "m", [1.0, 2.0, 3.0, 4.0, 5.0], steps=[0, 1, 0, None, None]))
    result = lake.reader().history("run", repeats="last")
    assert result.values() == [4.0, 5.0, 3.0, 2.0]


def test_event_time_looks_back(lake):
    rows = lake.log_rows("run", "m", [1.0, 2.0, 3.0], steps=[2, 1, 0])
    other = lake.log_rows("other", "m", [9.0])
    lake.compact(rows[:2], {rows[0].writer: ((0, 1),)})
    lake.publish([rows[2], *other])
    reader = lake.reader()
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    moments = [epoch + dt.timedelta(microseconds=row.timestamp) for row in rows]
    assert [value(reader.latest("run", "m", at=moment)) for moment in moments] == [1.0, 2.0, 3.0]
    assert value(reader.latest("run", "m", at=moments[1], order_by="step")) == 1.0
    assert value(reader.latest("run", "m", at=moments[1], step=2)) == 1.0
    assert reader.latest("run", "m", at=moments[1], step=0) is None
    assert reader.latest("run", "m", at=epoch) is None
    assert value(reader.latest_metrics("run", at=moments[1])["m"]) == 2.0
    assert reader.history("run", at=moments[1]).values() == [2.0, 1.0]
    assert reader.resources(at=moments[1]).values("points") == [2]
    assert reader.resources(at=moments[2]).values("resource") == ["run"]


def test_a_version_of_the_table_has_compacted_rows_only(lake):
    rows = lake.log_rows("run", "m", [1.0, 2.0, 3.0])
    lake.compact(rows[:1], {rows[0].writer: ((0, 0),)})
    lake.compact(rows[1:2], {rows[0].writer: ((0, 1),)})
    lake.publish(rows[2:])
    reader = lake.reader()
    assert reader.history("run", at=0).values() == [1.0]
    assert reader.history("run", at=1).values() == [1.0, 2.0]
    assert value(reader.latest("run", "m", at=0)) == 1.0
    with pytest.raises(NotFoundError):
        reader.history("run", at=7)


def test_a_snapshot_round_trips_as_a_text(lake):
    rows = lake.log_rows("run", "m", [1.0, 2.0, 3.0, 4.0])
    reader = lake.reader()
    empty = str(reader.snapshot())
    lake.publish(rows[:3])
    lake.hold(rows)
    before = str(reader.snapshot())
    lake.compact(rows[:1], {rows[0].writer: ((0, 0),)})
    after = str(reader.snapshot())
    lake.pending.clear()
    lake.compact(rows[1:3], {rows[0].writer: ((0, 2),)})
    lake.publish(rows[3:])
    other = lake.reader()
    assert other.history("run", at=empty).values() == []
    assert other.history("run", at=before).values() == [1.0, 2.0, 3.0]
    assert other.history("run", at=after).values() == [1.0, 2.0, 3.0]
    assert value(other.latest("run", "m", at=after)) == 3.0
    assert value(other.latest("run", "m")) == 4.0
    assert str(other.history("run", at=after).snapshot) == after
    for wrong in ("", "metrics", "predictions@1", "metrics@1;x"):
        with pytest.raises(InvalidInputError):
            other.history("run", at=wrong)


# ---- what is there ---------------------------------------------------------------------------------------


def test_resources_are_counted(lake):
    rows = lake.log_rows("a", "m", [1.0, 2.0], steps=[0, 4]) + lake.log_rows("a", "n", [1.0], tags={"t": 1})
    lake.compact(rows[:1], {rows[0].writer: ((0, 0),)})
    lake.publish(rows[1:])
    lake.hold(lake.log_rows("b/c", "m", [1.0]))
    reader = lake.reader()
    table = reader.resources().arrow()
    assert table.select(["resource", "metrics", "series", "points", "last_step"]).to_pylist() == [
        {"resource": "a", "metrics": 2, "series": 2, "points": 3, "last_step": 4},
        {"resource": "b/c", "metrics": 1, "series": 1, "points": 1, "last_step": None},
    ]
    assert reader.resources(glob("b*")).values("resource") == ["b/c"]
    assert reader.resources("a").values("points") == [3]
    assert reader.metric_ids("a") == ["m", "n"]
    assert list(reader.latest_metrics("a")) == ["m", "n"]


def test_near_names_are_offered(lake):
    lake.publish(lake.log_rows("digits/run-1", "valid/acc", [1.0]))
    reader = lake.reader()
    assert "digits/run-1" in str(reader.not_found("digits/run-l"))
    assert "valid/acc" in str(reader.not_found("digits/run-1", "valid/ac"))
    with pytest.raises(NotFoundError, match="digits/run-1"):
        reader.rows_of("digit/run-1")
    with pytest.raises(NotFoundError, match="valid/acc"):
        reader.rows_of("digits/run-1", metrics="acc")


# ---- copies ----------------------------------------------------------------------------------------------


def test_rows_are_copied_once(lake):
    rows = lake.log_rows("a", "m", [1.0, 2.0, "x"], steps=[0, 1, None])
    lake.publish(rows)
    reader = lake.reader()
    copied = reader.rows_of("a", to="b").read_all()
    assert copied.schema.names == arrow_schema(METRICS).names
    assert copied["resource"].to_pylist() == ["b"] * 3
    assert copied["origin"].to_pylist() == ["a"] * 3
    assert sorted(copied["seq"].to_pylist()) == [0, 1, 2]
    assert copied.cast(arrow_schema(METRICS)).num_rows == 3

    from dataclasses import replace

    lake.compact([replace(row, resource="b", origin="a") for row in rows[:2]])
    assert reader.rows_of("a", to="b").read_all()["seq"].to_pylist() == [2]
    assert reader.rows_of("b", to="a").read_all().num_rows == 0
    assert reader.rows_of("a").read_all()["origin"].to_pylist() == [None] * 3
    assert reader.rows_of("a", metrics=glob("m*")).read_all().num_rows == 3


def test_objects_that_this_process_has_just_published_are_not_fetched(lake, support):
    first, second, foreign = (
        lake.log_rows("a", "m", [value, value + 1], steps=[0, 1]) for value in (1, 3, 5)
    )
    own = {lake.publish(rows).key: support.to_arrow(rows) for rows in (first, second)}
    others = lake.publish(foreign).key
    kept = dict(own)
    reader = lake.reader(published=lambda key: kept.pop(key, None))
    lake.compact(first[:1], {first[0].writer: ((0, 0),)})
    lake.storage.reset()
    assert sorted(reader.history("a").values()) == [1, 2, 3, 4, 5, 6]
    fetched = {key for _, key in lake.storage.calls}
    assert others in fetched
    assert not fetched & own.keys()
    assert not kept


# ---- what goes wrong -------------------------------------------------------------------------------------


def test_a_pinned_result_never_gives_other_rows(lake):
    rows = lake.log_rows("run", "m", [1.0, 2.0])
    (key,) = lake.compact(rows, {rows[0].writer: ((0, 1),)})
    reader = lake.reader()
    result = reader.history("run")
    snapshot = reader.snapshot()
    streamed = reader.history("run")
    (other,) = lake.compact(rows, removes=[key])
    lake.storage.delete([key])
    for ask in (result.arrow, lambda: streamed.reader().read_all(), reader.history("run", at=snapshot).arrow):
        with pytest.raises(SnapshotExpired):
            ask()
    assert reader.history("run").values() == [1.0, 2.0]
    assert other != key


def test_an_object_that_no_snapshot_can_do_without_is_named(lake):
    rows = lake.log_rows("run", "m", [1.0])
    (key,) = lake.compact(rows, {rows[0].writer: ((0, 0),)}, sidecars=False)
    lake.storage.delete([key])
    with pytest.raises(ObjectNotFoundError, match="lost") as caught:
        lake.reader().latest("run", "m")
    assert caught.value.key == key


def test_a_reader_that_missed_a_month_opens_the_log_anew_where_a_file_is_gone(lake):
    rows = lake.log_rows("run", "m", [1.0, 2.0], steps=[0, 1])
    (key,) = lake.compact(rows, {rows[0].writer: ((0, 1),)})
    reader = lake.reader()
    old = reader.snapshot().log.version
    lake.compact(rows, removes=[key])
    other = TableLog(lake.storage, METRICS)
    write_checkpoint(other, other.refresh())
    commit(other, other.refresh(), Intent("WRITE"))
    # cleaned up by others, and none of the time passed for this process: its machine was paused
    lake.storage.delete([key, *(log_key(METRICS, version) for version in range(old + 2))])
    assert reader.snapshot().log.version == old
    assert value(reader.latest("run", "m", step=0)) == 1.0


def test_a_lost_data_file_is_no_old_snapshot(lake):
    rows = lake.log_rows("run", "m", [float(number) for number in range(50)], steps=range(50))
    (key,) = lake.compact(rows, {rows[0].writer: ((0, 49),)})
    reader = lake.reader()
    pinned, streamed = reader.snapshot(), reader.history("run")
    lake.storage.delete([key])
    for ask in (
        reader.history("run").arrow,
        reader.history("run", at=pinned).arrow,
        lambda: streamed.reader().read_all(),
        lambda: reader.latest("run", "m", step=7),
    ):
        with pytest.raises(ObjectNotFoundError, match="lost") as caught:
            ask()
        assert caught.value.key == key
        assert "metrics-lake verify" in caught.value.hint


def test_damaged_objects_are_named(lake):
    rows = lake.log_rows("run", "m", [float(number) for number in range(5000)])
    name = lake.publish(rows)
    data = bytearray(lake.storage.get(name.key))
    data[200:400] = bytes(200)
    lake.storage.put(name.key, bytes(data))
    with pytest.raises(CorruptObjectError) as caught:
        lake.reader().latest("run", "m")
    assert caught.value.key == name.key


@pytest.mark.parametrize("place", [slice(4, 3000), slice(-100, None)], ids=["pages", "footer"])
def test_a_damaged_data_file_is_named(lake, place):
    rows = lake.log_rows("run", "m", [float(number) for number in range(5000)])
    (key,) = lake.compact(rows, sidecars=False)
    data = bytearray(lake.storage.get(key))
    data[place] = bytes(len(data[place]))
    lake.storage.put(key, bytes(data))
    for ask in (lambda reader: reader.latest("run", "m"), lambda reader: reader.history("run").arrow()):
        with pytest.raises(CorruptObjectError) as caught:
            ask(lake.reader())
        assert caught.value.key == key


def test_a_damaged_or_missing_sidecar_costs_time_only(lake):
    rows = lake.log_rows("run", "m", [1.0, 2.0])
    (key,) = lake.compact(rows)
    sidecar = sidecar_key(METRICS, key)
    lake.storage.put(sidecar, b"PAR1 damaged")
    assert value(lake.reader().latest("run", "m")) == 2.0
    lake.storage.delete([sidecar])
    reader = lake.reader()
    assert value(reader.latest("run", "m")) == 2.0
    assert reader.resources().values("points") == [2]


def test_foreign_files_are_read_with_their_own_types(lake):
    rows = lake.log_rows("run", "m", [1.0, "x"], tags={"a": 1}, steps=[0, 1])

    def encoded(table):
        odd = table.set_column(0, "resource", table["resource"].cast(pa.large_string()))
        at = odd.schema.get_field_index("timestamp")
        odd = odd.set_column(at, "timestamp", odd["timestamp"].cast(pa.timestamp("ns", tz="UTC")))
        sink = pa.BufferOutputStream()
        pq.write_table(odd.append_column("added", pa.array([1, 2])), sink)
        return sink.getvalue().to_pybytes()

    lake.compact(rows, foreign=encoded)
    lake.compact(lake.log_rows("run", "m", [3], steps=[2]))
    reader = lake.reader()
    assert [file.is_ours for file in reader.snapshot().log.files] == [False, True]
    assert reader.history("run").values() == [3, 1.0, "x"]
    assert reader.history("run", tags={"a": 1}, steps=1).values() == ["x"]
    assert value(reader.latest("run", "m", tags={"a": 1})) == "x"
    assert reader.resources().values("points") == [3]


# ---- requests --------------------------------------------------------------------------------------------


def test_a_warm_read_lists_and_looks_for_the_next_version(lake):
    rows = lake.log_rows("run", "m", [1.0, 2.0, 3.0])
    lake.compact(rows[:2], {rows[0].writer: ((0, 1),)})
    lake.publish(rows[2:])
    reader = lake.reader()
    assert value(reader.latest("run", "m")) == 3.0
    lake.storage.reset()
    assert value(reader.latest("run", "m")) == 3.0
    assert reader.latest("run", "nothing") is None
    assert lake.storage.requests == {"LIST": 2, "GET": 2}
