"""Leaderboards and run tables: who wins, who is shown, and what is refused."""

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest

from metrics_lake import AmbiguousSeriesError, LakeNotFoundError, MetricsLake, MetricsLakeWarning, glob
from metrics_lake.errors import InvalidInputError

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def lake(tmp_path):
    with MetricsLake(tmp_path / "lake", compaction="off") as lake:
        yield lake


def names(result):
    return [(row["rank"], row["resource"]) for row in result]


# ---- best --------------------------------------------------------------------------------------------------


def test_which_point_counts(lake):
    lake.log_series("a", "acc", [0.9, 0.1, 0.5])
    lake.log_series("b", "acc", [0.2, 0.8, 0.6])
    lake.log_metric("b", "acc", 0.3, step=1)  # logged last, of an earlier step
    expected = {
        ("max", "best", None): [(1, "a", 0, 0.9), (2, "b", 1, 0.8)],
        ("min", "best", None): [(1, "a", 1, 0.1), (2, "b", 0, 0.2)],
        ("max", "last", None): [(1, "a", 2, 0.5), (2, "b", 1, 0.3)],
        ("max", "step", None): [(1, "b", 2, 0.6), (2, "a", 2, 0.5)],
        ("max", "step", 1): [(1, "b", 1, 0.3), (2, "a", 1, 0.1)],
        ("min", "step", 7): [],
    }
    for (mode, by, step), rows in expected.items():
        found = lake.best("acc", mode=mode, by=by, step=step)
        assert [tuple(row[x] for x in ("rank", "resource", "step", "value")) for row in found] == rows
        assert found.columns == ["rank", "resource", "metric", "tags", "step", "timestamp", "value"]
    assert lake.best("acc", mode="max").arrow().schema.field("rank").type == pa.int64()
    assert lake.resource("b").best("acc", mode="max").one()["value"] == 0.8


@pytest.mark.parametrize("by", ["best", "last", "step"])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_nan_null_and_texts_never_win(lake, mode, by):
    for number, value in enumerate([math.nan, None, "text", [1], math.inf, -math.inf, 0.0]):
        lake.log_metric(f"run/{number}", "m", value, step=0)
    order = ["run/4", "run/6", "run/5"]
    found = lake.best("m", mode=mode, by=by).values("resource")
    assert found == (order if mode == "max" else order[::-1])


def test_equal_values_share_a_rank_and_the_earlier_comes_first(lake):
    for name, value, step, second in [
        ("late", 1.0, 2, 0),
        ("early", 1.0, 1, 9),
        ("none", 1, None, 9),
        ("early2", 1.0, 1, 3),
        ("zero", 0.0, 0, 0),
        ("minus", -0.0, 1, 0),
        ("worse", -1.0, 0, 0),
    ]:
        lake.log_metric(name, "m", value, step=step, timestamp=START + dt.timedelta(seconds=second))
    found = lake.best("m", mode="max")
    order = [(1, "none"), (1, "early2"), (1, "early"), (1, "late"), (5, "zero"), (5, "minus"), (7, "worse")]
    assert names(found) == order
    assert [repr(row["value"]) for row in found][3:6] == ["1.0", "0.0", "-0.0"]
    assert names(lake.best("m", mode="max", top=2)) == order[:2]
    assert len(lake.best("m", mode="max", top=None)) == 7


def test_values_come_back_exactly(lake):
    big = 2**60 + 1
    for value in (big, True, Decimal("1.50"), 10**1200 // 10**900):
        lake.log_metric(f"run/{value}", "m", value)
    found = lake.best("m", mode="max").values()
    assert found == [10**300, big, Decimal("1.50"), True]
    assert [type(each) for each in found] == [int, int, Decimal, bool]


def test_one_series_a_resource(lake):
    lake.log_metric("both", "m", 1.0)
    lake.log_metric("both", "m", 9.0, tags={"fold": 1})
    lake.log_metric("tagged", "m", 5.0, tags={"fold": 1})
    assert [(row["resource"], row["value"]) for row in lake.best("m", mode="max")] == [
        ("tagged", 5.0),
        ("both", 1.0),
    ]
    fold = lake.best("m", mode="max", tags={"fold": 1})
    assert [(row["resource"], row["tags"]) for row in fold] == [
        ("both", {"fold": "1"}),
        ("tagged", {"fold": "1"}),
    ]
    assert lake.best("m", mode="max", tags={}).values("resource") == ["both"]
    lake.log_metric("tagged", "m", 6.0, tags={"fold": 2})
    with pytest.raises(AmbiguousSeriesError, match=r"'m' of 'tagged' has 2 series: \{'fold': '1'\}"):
        lake.best("m", mode="max").rows()
    with pytest.raises(AmbiguousSeriesError):
        lake.compare(None, ["m"]).rows()
    assert lake.best("m", mode="max", resources="both").values() == [1.0]


@pytest.mark.parametrize("asked", [None, glob("*")])
def test_what_has_several_series_is_left_out_of_a_whole_table_with_a_warning(lake, asked):
    lake.log_metrics("a", {"m": 1.0, "acc": 0.5})
    for rank in range(8):
        lake.log_metric("b", "m", 2.0, tags={"rank": rank})
        for number in range(6):
            lake.log_metric("b", f"x{number}", 2.0, tags={"rank": rank})
    with pytest.warns(
        MetricsLakeWarning, match=r"Left out: 'm', 'x0', 'x1', 'x2', 'x3' and 2 more, of which"
    ):
        rows = lake.compare(None, asked).rows()
    assert rows == [{"resource": "a", "acc": 0.5}, {"resource": "b", "acc": None}]
    with pytest.warns(MetricsLakeWarning, match="Left out: 'm', "):
        assert lake.latest_metrics("b") == {}
    assert lake.latest_metrics("a") == {"acc": 0.5, "m": 1.0}
    assert lake.compare(None, tags={"rank": 3}).columns == ["resource", "m", *(f"x{n}" for n in range(6))]
    with pytest.raises(AmbiguousSeriesError):
        lake.compare(None, [glob("a*"), "x1"]).rows()


def test_who_takes_part(lake):
    for number in range(4):
        lake.log_metric(f"digits/{number}", "m", float(number))
    lake.log_metric("other", "m", 99.0)
    assert lake.best("m", mode="max", resources=glob("digits/*"), top=1).values() == [3.0]
    assert lake.best("m", mode="min", resources=["other", "digits/2"]).values() == [2.0, 99.0]
    assert len(lake.best("m", mode="max", resources="nobody")) == 0
    assert len(lake.best("nothing", mode="max")) == 0
    assert len(lake.compare("nobody")) == 0


def test_at_is_event_time(lake):
    for second, value in enumerate([1.0, 5.0, 3.0]):
        lake.log_metric("a", "m", value, step=second, timestamp=START + dt.timedelta(seconds=second))
    lake.log_metric("b", "m", 4.0, timestamp=START + dt.timedelta(seconds=2))
    lake.flush()
    lake.maintenance.compact()
    assert lake.best("m", mode="max").values() == [5.0, 4.0]
    then = START + dt.timedelta(seconds=1)
    assert lake.best("m", mode="max", at=then).values() == [5.0]
    assert lake.best("m", mode="max", at=START).values() == [1.0]
    assert lake.best("m", mode="max", by="step", step=1, at=START).values() == []
    assert lake.compare(None, "m", at=then).rows() == [{"resource": "a", "m": 5.0}]
    assert len(lake.compare(None, at=START - dt.timedelta(days=1))) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "best"},
        {"mode": None},
        {"mode": "max", "by": "first"},
        {"mode": "max", "step": 3},
        {"mode": "max", "by": "step", "step": 2.5},
        {"mode": "max", "top": 0},
        {"mode": "max", "top": True},
        {"mode": "max", "top": "3"},
        {"mode": "max", "where": ""},
        {"mode": "max", "where": 3},
        {"mode": "max", "at": "yesterday"},
        {"mode": "max", "resources": 3.5},
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_the_call(lake, options):
    lake.log_metric("a", "m", 1.0)
    with pytest.raises(InvalidInputError):
        lake.best("m", **options)


def test_mode_is_required_and_a_url_without_a_lake_is_said(lake, tmp_path):
    with pytest.raises(TypeError, match="mode"):
        lake.best("m")
    with pytest.raises(LakeNotFoundError):
        MetricsLake(tmp_path / "typo").best("m", mode="max")


# ---- where -------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(lake):
    for number, (lr, optimizer, layers) in enumerate(
        [(1e-2, "adam", 2), (1e-4, "sgd", 3), (1e-5, "adam", None), ("auto", "it's", [1])]
    ):
        lake.log_params(f"run/{number}", {"lr": lr, "optimizer": optimizer, "layers": layers})
        lake.log_metric(f"run/{number}", "acc", number / 10)
        lake.log_metric(f"run/{number}", "is good", number % 2 == 0)
    lake.log_metric("run/1", "Loss", 1.0)
    lake.log_metric("run/2", "loss", 2.0)
    lake.log_metric("run/0", 'odd "name"', 3)
    return lake


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ('"params/lr" < 1e-3', [1, 2]),
        ("\"params/optimizer\" = 'adam'", [0, 2]),
        ("\"params/optimizer\" = 'it''s'", [3]),
        ('"params/lr" < 1e-3 and not ("params/layers" = 3) is true', [2]),
        ('"params/layers" is null', [2, 3]),
        ('"is good"', [0, 2]),
        ("acc between 0.1 and 0.2 -- quotes are not needed here", [1, 2]),
        ('"Loss" = 1', [1]),
        ('"loss" = 2', [2]),
        ('"ACC" >= 0.3', [3]),
        ('"odd ""name""" = 3', [0]),
        ("resource like '%/3'", [3]),
        ("true", [0, 1, 2, 3]),
        ("false) or (true", [0, 1, 2, 3]),
        ("acc > 1 or acc < 0", []),
        ("\"params/optimizer\" in ('sgd', 'x') or \"acc\" = 0", [0, 1]),
        ("case when acc > 0.15 then true else false end", [2, 3]),
    ],
)
def test_conditions(runs, where, expected):
    wanted = [f"run/{number}" for number in expected]
    assert sorted(runs.best("acc", mode="max", where=where).values("resource")) == wanted
    assert runs.compare(None, "acc", where=where).values("resource") == wanted


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ('"params/rl" < 1', r'"params/lr"'),
        ("params/lr < 1", r"params/"),
        ('"LOSS" = 1', r'"Loss" or "loss"'),
        ("nothing_like_it = 1", "nothing_like_it"),
        ("acc <", "syntax error"),
        ("acc = 'x'", "acc|x"),
        ("1; drop table candidates", "syntax error"),
        ("true) union select (1", "more than one"),
        ("true) limit 1 --", "syntax error"),
        ("true) order by (1", "more than one"),
        ("true) group by (1", "more than one"),
        ("(select 1) = 1", "subquery"),
        ("exists (from read_text('/etc/passwd'))", "subquery|read"),
        ("read_text('/etc/passwd') = 'x'", "read_text"),
        ("getenv('HOME') = 'x'", "getenv"),
        ("acc = $x", "parameter"),
        ("columns(*) > 1", "star"),
        ("sum(acc) > 1", "aggregate"),
        ("row_number() over () = 1", "window"),
        ("sleep_ms(100000) is null", "sleep_ms"),
    ],
)
def test_conditions_that_are_none_are_refused(runs, where, said):
    with pytest.raises(InvalidInputError, match=f"(?i){said}"):
        runs.best("acc", mode="max", where=where).rows()


def test_a_condition_on_a_tagged_metric_falls_back_on_the_untagged_parameter(lake):
    for number in range(3):
        lake.log_params(f"run/{number}", {"lr": number / 10})
        lake.log_metric(f"run/{number}", "acc", float(number), tags={"country": "FR"})
        lake.log_metric(f"run/{number}", "acc", 0.0, tags={"country": "DE"})
    where = '"params/lr" < 0.15 and acc > 0'
    assert lake.best("acc", mode="max", tags={"country": "FR"}, where=where).values("resource") == ["run/1"]
    with pytest.raises(AmbiguousSeriesError):
        lake.best("params/lr", mode="max", where=where).rows()


def test_in_an_empty_lake_every_condition_has_an_empty_answer(lake):
    lake.log_metric("a", "m", 1.0)
    lake.flush()
    lake.maintenance.delete("a", dry_run=False)
    assert len(lake.best("m", mode="max", where='"x" > 1')) == 0


# ---- compare -----------------------------------------------------------------------------------------------


def test_a_row_a_resource_a_column_a_metric(lake):
    lake.log_series("b", "m", [3.0, 1.0, math.nan, 2.0])
    lake.log_metrics("a", {"n": 3, "s": "text", "m": None, "z": [1, 2], "t": True})
    found = lake.compare(None)
    assert found.columns == ["resource", "m", "n", "s", "t", "z"]
    assert found.rows() == [
        {"resource": "a", "m": None, "n": 3, "s": "text", "t": True, "z": [1, 2]},
        {"resource": "b", "m": 2.0, "n": None, "s": None, "t": None, "z": None},
    ]
    types = dict(zip(found.columns, found.arrow().schema.types, strict=True))
    assert types["m"] == pa.float64()
    assert types["n"] == pa.int64()
    assert types["s"] == types["z"] == pa.string()
    assert types["t"] == pa.bool_()
    assert found.values("z") == [[1, 2], None]
    assert found.arrow().column("z").to_pylist() == ["[1,2]", None]
    assert "[1, 2]" in repr(found)
    assert lake.resource("b").compare("m", stat="min").one() == {"resource": "b", "m": 1.0}


@pytest.mark.parametrize(
    ("stat", "cell"), [("last", 2.0), ("first", 3.0), ("min", 1.0), ("max", 3.0), ("mean", 2.0), ("count", 4)]
)
def test_stats(lake, stat, cell):
    lake.log_series("b", "m", [3.0, 1.0, math.nan, 2.0])
    lake.log_metric("c", "m", "text")
    found = lake.compare(None, "m", stat=stat).rows()
    assert found[0] == {"resource": "b", "m": cell}
    assert type(found[0]["m"]) is type(cell)
    assert found[1]["m"] == {"last": "text", "first": "text", "count": 1}.get(stat)
    with pytest.raises(InvalidInputError, match="stat"):
        lake.compare(None, stat="median")


def test_columns_come_in_the_order_asked_for(lake):
    lake.log_metrics("a", {"x": 1, "valid/acc": 2, "valid/loss": 3})
    found = lake.compare("a", ["x", "missing", glob("valid/*")])
    assert found.columns == ["resource", "x", "missing", "valid/acc", "valid/loss"]
    assert found.one() == {"resource": "a", "x": 1, "missing": None, "valid/acc": 2, "valid/loss": 3}
    assert lake.compare("a", []).rows() == [{"resource": "a"}]


def test_odd_names_are_columns_too(lake):
    ids = {"resource": 1, "metrics/resource": 2, "M": 3, "m": 4, "kind": "k", "value": 6.5}
    lake.log_metrics("a", ids)
    found = lake.compare("a").one()
    assert found == {
        "resource": "a",
        "M": 3,
        "kind": "k",
        "m": 4,
        "metrics/resource": 2,
        "metrics/metrics/resource": 1,
        "value": 6.5,
    }


def test_mixed_columns_are_exact_as_rows_and_readable_as_columns(lake):
    values = [0.5, 3, "auto", True, [1], None, 2**60 + 1, Decimal("1.50")]
    for number, value in enumerate(values):
        lake.log_metric(f"run/{number}", "p", value)
    found = lake.compare(None)
    assert found.values("p") == values
    assert [type(each) for each in found.values("p")] == [type(each) for each in values]
    shown = ["0.5", "3", "auto", "True", "[1]", None, str(2**60 + 1), "1.50"]
    assert found.arrow().column("p").to_pylist() == shown
    assert found.pl()["p"].to_list() == shown


def test_long_texts_and_minus_zero_are_whole(lake):
    lake.log_metric("a", "long", "x" * 4000)
    lake.log_metric("a", "zero", -0.0)
    lake.flush()
    lake.maintenance.compact()
    row = lake.compare("a").one()
    assert len(row["long"]) == 4000
    assert repr(row["zero"]) == "-0.0"


def test_strict_tags(lake):
    lake.log_metric("a", "m", 1.0, tags={"fold": 1})
    lake.log_metric("a", "n", 2.0)
    assert lake.compare("a", tags={"fold": 1}).rows() == [{"resource": "a", "m": 1.0}]
    assert lake.compare("a", tags={}).rows() == [{"resource": "a", "n": 2.0}]
    assert lake.compare("a").rows() == [{"resource": "a", "m": 1.0, "n": 2.0}]
