"""The command line in this process: what arguments mean, how cells and rows are written, how it fails."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import warnings
from decimal import Decimal

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("rich")

from metrics_lake import MetricsLake, glob
from metrics_lake.cli import main
from metrics_lake.cli.cells import Logged, csv_cell, json_cell, logged, table_cell
from metrics_lake.cli.output import FULL_INBOX, Rows, _blocks, write
from metrics_lake.cli.parameters import AGE, AT, INSTANT, STEPS, pattern, tags_of, value_of
from metrics_lake.values import decode

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A lake of two runs, and the folder above it as the current one."""
    monkeypatch.chdir(tmp_path)
    with MetricsLake("lake") as lake:
        for run, rate in (("digits/1", 0.1), ("digits/2", 0.01)):
            lake.log_params(run, {"lr": rate, "layers": [64, 32]})
            lake.log_series(run, "acc", [rate, rate + 0.5, math.nan])
        lake.log_metric("digits/*", "acc", 1.0, tags={"fold": 1})
    return tmp_path


@pytest.fixture
def run(capsysbinary):
    """Return a function that runs a command and returns its code, stdout and stderr."""

    def ran(*arguments):
        with warnings.catch_warnings():
            code = main(arguments)
        said = capsysbinary.readouterr()
        return code, said.out.decode(), said.err.decode()

    return ran


# ---- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("3.0", 3.0),
        ("-0.0", -0.0),
        ("1e-3", 0.001),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("true", True),
        ("null", None),
        ('"3"', "3"),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("relu", "relu"),
        ("", ""),
        ("007", "007"),
        ("+5", "+5"),
        ("True", "True"),
        ("[1, 2]", "[1, 2]"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_value_is_a_json_scalar_else_text(text, value):
    found = value_of(text)
    assert (type(found), repr(found)) == (type(value), repr(value))
    assert value_of(text, is_string=True) == text


def test_nan_is_the_float():
    assert math.isnan(value_of("NaN"))
    assert math.isnan(value_of("nan"))


def test_any_json_is_taken_on_demand_with_the_lakes_own_tags():
    assert value_of('[1, {"a": [true]}]', is_json=True) == [1, {"a": [True]}]
    assert value_of('{"$kind":["tuple",[1,2]]}', is_json=True) == (1, 2)
    assert math.isnan(value_of('{"$kind":["float","nan"]}', is_json=True))


@pytest.mark.parametrize("text", ["nope", "[1,", "[NaN]", "1e999", "[-1e999]"])
def test_what_is_no_json_or_no_double_is_refused(text):
    with pytest.raises(click.UsageError):
        value_of(text, is_json=True)


def test_tags():
    assert tags_of(("a=1", "b=x=y")) == {"a": "1", "b": "x=y"}
    assert tags_of(()) is None
    assert tags_of((), is_untagged=True) == {}
    for wrong in (("a",), ("a=1", "a=2")):
        with pytest.raises(click.UsageError):
            tags_of(wrong)
    with pytest.raises(click.UsageError):
        tags_of(("a=1",), is_untagged=True)


def test_patterns_only_where_there_is_a_sign():
    assert pattern("digits/1", is_exact=False) == "digits/1"
    assert pattern("digits/*", is_exact=False) == glob("digits/*")
    assert pattern("digits/*", is_exact=True) == "digits/*"


def test_instants_are_utc_unless_they_say():
    def at(text):
        return INSTANT.convert(text, None, None)

    assert at("2026-11-22") == dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    assert at("2026-11-22T08:30+01:00") == dt.datetime(2026, 11, 22, 7, 30, tzinfo=dt.UTC)
    assert at("2026-11-22T08:30:00.5Z") == dt.datetime(2026, 11, 22, 8, 30, 0, 500_000, tzinfo=dt.UTC)
    assert at("1700000000.5").timestamp() == 1700000000.5
    assert abs(dt.datetime.now(dt.UTC) - 2 * HOUR - at("2h ago")) < HOUR
    assert AGE.convert("90m", None, None) == 1.5 * HOUR
    assert AT.convert("12", None, None) == 12
    assert AT.convert("2026-11-22", None, None) == at("2026-11-22")
    assert AT.convert("some-snapshot", None, None) == "some-snapshot"
    for wrong in ("yesterday", "12", "2026-13-01", "999999999999w", ""):
        with pytest.raises(click.BadParameter):
            at(wrong)


def test_steps_are_as_in_python():
    def steps(text):
        return STEPS.convert(text, None, None)

    assert steps("7") == 7
    assert steps("-1") == -1
    assert steps("0:100") == range(100)
    assert steps(":10:2") == range(0, 10, 2)
    assert 10**18 in steps("5:")
    assert 4 not in steps("5:")
    for wrong in ("a", "1:b", "1:2:3:4", "", "1.5", "0:10:0"):
        with pytest.raises(click.BadParameter):
            steps(wrong)


# ---- cells ------------------------------------------------------------------------------------------------

VALUES = [
    0.1,
    -0.0,
    math.inf,
    3,
    2**70,
    10**400,
    True,
    None,
    "relu",
    "",
    '"\n\x00\x1b',
    [1, [2.5, None]],
    {"a": (1, 2), "b": {3, 4}},
    b"\x00\xff",
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    Decimal("1.10"),
    1 + 2j,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_json_gives_every_value_back_exactly(value):
    text = json_cell(logged(value))
    json.loads(text, parse_constant=pytest.fail)
    assert "\n" not in text
    found = decode("json", None, text)
    assert (type(found), repr(found)) == (type(value), repr(value))


def test_ints_that_python_does_not_write_in_decimal_are_json_too():
    for value in (10**5000, -(10**5000)):
        assert decode("json", None, json_cell(logged(value))) == value
        assert json.loads(csv_cell(logged(value))) == json.loads(json_cell(logged(value)))
        assert "0x31e20801036510" in table_cell(logged(value))


def test_numpy_values_are_json_too():
    np = pytest.importorskip("numpy")
    for value in (np.float32(0.1), np.int8(3), np.array([1.5, math.nan])):
        found = decode("json", None, json_cell(logged(value)))
        assert type(found) is type(value)
        np.testing.assert_array_equal(found, value)


def test_a_kind_of_a_newer_version_is_shown_as_it_is_stored():
    newer = Logged("quaternion", None, "1 2 3 4")
    assert json.loads(json_cell(newer)) == {"$kind": ["quaternion", "1 2 3 4"]}
    assert csv_cell(newer)
    assert table_cell(newer)


def test_cells_that_nobody_logged():
    when = dt.datetime(2026, 11, 22, 8, 30, 0, 5, tzinfo=dt.UTC)
    assert json_cell(when) == '"2026-11-22T08:30:00.000005Z"'
    assert table_cell(when) == "2026-11-22 08:30:00Z"
    assert json_cell(Decimal("12345678901234567890.10")) == "12345678901234567890.10"
    assert json_cell({"fold": "2"}) == '{"fold":"2"}'
    assert json_cell(math.nan) == '{"$kind":["float","nan"]}'
    assert (csv_cell(None), csv_cell(math.nan), csv_cell(True), csv_cell(0.1)) == ("", "nan", "true", "0.1")
    assert table_cell({"a": 1.23456789}) == "a=1.23457"


def test_csv_numbers_read_back_and_texts_are_themselves():
    assert float(csv_cell(logged(0.1 + 0.2))) == 0.1 + 0.2
    assert csv_cell(logged("a,b")) == "a,b"
    assert csv_cell(logged([1, 2])) == "[1,2]"
    assert csv_cell(logged(None)) == ""


def test_no_text_moves_the_cursor():
    assert table_cell("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb c\\u202e"
    assert table_cell(logged("\x07")) == "\\x07"


# ---- rows -------------------------------------------------------------------------------------------------


def written(rows, form):
    stream = io.BytesIO()
    count = write(rows, form, stream)
    return count, stream.getvalue()


def test_every_format_of_no_rows_and_of_two():
    none, two = (Rows.of_dicts([{"a": 1, "b": "x"}] * count, ("a", "b")) for count in (0, 2))
    assert written(none, "jsonl") == (0, b"")
    assert written(none, "json") == (0, b"[]\n")
    assert written(none, "csv") == (0, b"a,b\n")
    assert written(two, "jsonl") == (2, b'{"a":1,"b":"x"}\n' * 2)
    assert json.loads(written(two, "json")[1]) == [{"a": 1, "b": "x"}] * 2
    assert written(two, "csv") == (2, b"a,b\n1,x\n1,x\n")
    assert pq.read_table(pa.BufferReader(written(two, "parquet")[1])).to_pylist() == [{"a": 1, "b": "x"}] * 2


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet"])
def test_many_parts_are_one_output_and_a_limit_cuts_it(form, folder):
    with MetricsLake("lake", read_only=True) as lake:

        def rows():
            whole = lake.history(["digits/1", "digits/2"], full=True).arrow()
            return Rows.of_points(
                pa.RecordBatchReader.from_batches(whole.schema, whole.to_batches(max_chunksize=2)),
                ("resource", "metric", "step", "value"),
            )

        assert written(rows(), form)[0] == 10
        count, cut = written(rows().with_limit(3), form)
    assert count == 3
    if form == "json":
        assert len(json.loads(cut)) == 3
    elif form == "parquet":
        assert pq.read_table(pa.BufferReader(cut)).num_rows == 3
    else:
        assert cut.count(b"\n") == 3 + (form == "csv")


def test_columns_that_do_not_fit_go_below():
    widths = {"resource": 30, "a": 20, "b": 20, "c": 20}
    assert _blocks(widths, 120) == [["resource", "a", "b", "c"]]
    assert _blocks(widths, 80) == [["resource", "a", "b"], ["resource", "c"]]
    assert _blocks(widths, 40) == [["resource", "a"], ["resource", "b"], ["resource", "c"]]


# ---- commands ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "a", "b"),
        ("ls",),
        ("history", "a"),
        ("best", "m", "--mode", "min"),
        ("compare", "a"),
        ("sql", "select 1"),
        ("copy", "a", "b"),
        ("files",),
        ("compact",),
        ("vacuum",),
        ("delete", "a"),
        ("retention", "1d"),
        ("verify",),
        ("export", "a"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_url_without_a_lake_is_not_found_and_nothing_is_made(run, arguments, tmp_path):
    code, out, err = run(*arguments, "--url", str(tmp_path / "typo"))
    assert (code, out) == (3, "")
    assert "there is no lake at" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("get", "a", "--stpe", "1"),
        ("get", "a", "--step", "1"),
        ("get", "a", "b", "--step", "x"),
        ("log", "a", "b"),
        ("log", "a", "b", "1", "c"),
        ("log", "a", "b", "1", "b", "2"),
        ("log", "a", "b", "--stirng"),
        ("log", "a", "b", "[1", "--json"),
        ("log", "a", "b", "1", "--json", "--string"),
        ("log", "a", "b", "1", "--tag", "x"),
        ("log", "", "b", "1"),
        ("ls", "[a-z]*"),
        ("best", "acc"),
        ("best", "acc", "--mode", "most"),
        ("history", "a", "--since", "tomorrow"),
        ("history", "a", "--smooth", "2"),
        ("sql", "select 1", "--param", "x"),
        ("sql", "selct 1"),
        ("delete",),
        ("delete", "--yes"),
        ("retention", "old"),
        ("vacuum", "--retention", "-1d"),
        ("export", "digits/1", "-o", "points.xlsx"),
        ("files", "--table", "nope"),
        ("copy", "digits/1", "digits/1"),
        ("ls", "--url", "http://example.com/lake"),
        ("ls", "--url", "memory://lake"),
        ("ls", "--storage-option", "x"),
        ("lss",),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_one_line_and_code_2(run, arguments, folder):
    if "--url" not in arguments and arguments != ("lss",):
        arguments = (*arguments, "--url", "lake")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("metrics-lake: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "--formt", "csv"), "? Try: metrics-lake ls --help\n"),
        (
            ("get", "-neg", "acc"),
            ". A name that begins with - stands behind --. Try: metrics-lake get --help\n",
        ),
    ],
)
def test_an_option_that_there_is_not_may_be_a_name(run, arguments, said, folder):
    code, out, err = run(*arguments, "--url", "lake")
    assert (code, out) == (2, "")
    assert err.endswith(said)


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("get", "digits/1", "ac"), "'acc'"),
        (("get", "digit/1", "acc"), "'digits/1'"),
        (("get", "digits/1", "acc", "--step", "9"), "no such point"),
        (("get", "digits/1", "acc", "--tag", "fold=9"), "no such point"),
        (("get", "digits"), "no resource"),
        (("ls", "digits"), "no resource"),
        (("history", "digits/1", "ac"), "'acc'"),
        (("compare", "digits"), "no resource"),
        (("best", "ac", "--mode", "max"), "Did you mean 'acc'?"),
        (("export", "digits/11"), "'digits/1'"),
        (("copy", "digits/11", "x"), "'digits/1'"),
        (("delete", "digits/11", "--yes"), "Did you mean 'digits/1'"),
        (("delete", "digits/1", "--metric", "ac"), "Did you mean 'acc'?"),
        (("delete", "digits/1", "--metric", "acc", "--since", "2100-01-01"), "no such points"),
        (("delete", "digits/1*", "--yes"), "--glob"),
        (("recover", "no-such-folder"), "no-such-folder"),
        (("history", "digits/1", "--at", "7"), "7"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_what_is_not_there_is_code_3_with_near_names(run, arguments, near, folder):
    code, out, err = run(*arguments, "--url", "lake")
    assert (code, out) == (3, "")
    assert near in err
    assert err.count("\n") == 1


def test_a_pattern_that_fits_nothing_is_no_error(run, folder):
    for arguments in (("ls", "x*"), ("history", "x*"), ("history", "digits/1", "x*"), ("compare", "x*")):
        code, out, err = run(*arguments, "--url", "lake")
        assert (code, out) == (0, "")
        assert "fits" in err


def test_literal_stars_need_exact_where_patterns_are_taken(run, folder):
    lines = run("ls", "digits/*", "--url", "lake")[1].splitlines()
    assert len(lines) == 3
    (line,) = run("ls", "digits/*", "--exact", "--url", "lake")[1].splitlines()
    assert json.loads(line)["resource"] == "digits/*"
    assert run("get", "digits/*", "acc", "--url", "lake") == (0, "1.0\n", "")
    code, out, _ = run("delete", "digits/*", "--url", "lake")
    assert (code, json.loads(out)["points"]) == (0, 1)
    assert json.loads(run("delete", "digits/*", "--glob", "--url", "lake")[1])["points"] == 11


def test_negative_numbers_are_no_options(run, folder):
    assert run("log", "neg", "a", "-0.5", "b", "-3", "c", "-inf", "--step", "-1", "--url", "lake") == (
        0,
        "",
        "",
    )
    assert run("get", "neg", "a", "--url", "lake")[1] == "-0.5\n"
    assert run("get", "neg", "b", "--step", "-1", "--url", "lake")[1] == "-3\n"
    assert json.loads(run("get", "neg", "c", "--url", "lake")[1]) == {"$kind": ["float", "-inf"]}
    assert run("log", "--url", "lake", "--", "neg", "--odd", "-x") == (0, "", "")
    assert run("get", "--url", "lake", "--raw", "--", "neg", "--odd")[1] == "-x\n"


def test_reads_of_a_full_inbox_say_why_they_are_slow(run, folder):
    with MetricsLake("lake", compaction="off") as lake:
        for step in range(FULL_INBOX):
            lake.log_metric("many", "x", 1.0, step=step)
            lake.flush()
    for command in (("ls",), ("history", "many"), ("sql", "SELECT 1 FROM metrics")):
        code, _, err = run(*command, "--url", "lake")
        assert code == 0
        assert err.endswith("objects wait to be compacted, which makes reads slower: metrics-lake compact\n")
    run("compact", "--url", "lake")
    assert run("ls", "--url", "lake")[2] == ""


def test_several_tagged_series_ask_which(run, folder):
    for fold in ("1", "2"):
        run("log", "cv", "acc", f"0.{fold}", "--tag", f"fold={fold}", "--url", "lake")
    code, _, err = run("get", "cv", "acc", "--url", "lake")
    assert code == 2
    assert "2 series" in err
    assert "--tag KEY=VALUE" in err
    assert run("get", "cv", "acc", "--tag", "fold=2", "--url", "lake")[1] == "0.2\n"


def test_the_url_and_options_may_stand_before_the_command(run, folder, monkeypatch):
    assert run("--url", "lake", "get", "digits/1", "params/lr")[1] == "0.1\n"
    monkeypatch.setenv("METRICS_LAKE_URL", "lake")
    assert run("get", "digits/1", "params/lr")[1] == "0.1\n"
    monkeypatch.setenv("METRICS_LAKE_STORAGE_OPTIONS", "[1]")
    assert run("get", "digits/1", "params/lr")[0] == 2


def test_a_moment_and_a_version_of_the_past(run, folder):
    run("compact", "--url", "lake")
    run("log", "digits/1", "params/lr", "0.5", "--url", "lake")
    assert run("get", "digits/1", "params/lr", "--url", "lake")[1] == "0.5\n"
    assert run("get", "digits/1", "params/lr", "--at", "0", "--url", "lake")[1] == "0.1\n"
    code, out, _ = run("get", "digits/1", "params/lr", "--at", "1d", "--url", "lake")
    assert (code, out) == (3, "")


def test_frames_and_parameters_reach_the_query(run, folder):
    pq.write_table(pa.table({"resource": ["digits/1"], "team": ["vision"]}), folder / "teams.parquet")
    (folder / "costs.csv").write_text("resource,cost\ndigits/1,7\n")
    code, out, err = run(
        *("sql", "select team, cost, $x as x from teams join costs using (resource)"),
        *(
            "--frame",
            "teams=teams.parquet",
            "--frame",
            "costs=costs.csv",
            "--param",
            "x=-1.5",
            "--url",
            "lake",
        ),
    )
    assert (code, err) == (0, "")
    assert json.loads(out) == {"team": "vision", "cost": 7, "x": -1.5}
    assert run("sql", "select * from t", "--frame", "t=nope.csv", "--url", "lake")[0] == 1


def test_query_columns_of_one_name_and_every_type(run, folder):
    query = """select 1 as a, 2 as a, 3 as a_1, sum(step) as s, map {'k': 1} as m, 1.50::decimal(4,2) as d,
        {x: 1} as t from metrics"""
    code, out, _ = run("sql", query, "--url", "lake")
    assert code == 0
    assert json.loads(out) == {
        "a": 1,
        "a_1": 2,
        "a_1_1": 3,
        "s": 6,
        "m": {"k": 1},
        "d": 1.5,
        "t": {"x": 1},
    }
    assert run("sql", query, "--url", "lake", "--format", "csv")[0] == 0
    code, out, err = run("sql", "select metric::int from metrics", "--url", "lake")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert run("sql", "select 1 where false", "--url", "lake")[:2] == (0, "")


def test_an_export_that_fails_leaves_no_file(run, folder):
    assert run("export", "digits/11", "-o", "points.csv", "--url", "lake")[0] == 3
    assert run("export", "digits/1", "-o", "no/such/folder/points.csv", "--url", "lake")[0] == 1
    assert sorted(path.name for path in folder.iterdir()) == ["lake", "state"]


def test_storage_options_nest_and_stay_text(monkeypatch):
    from metrics_lake.cli.place import _options_of_environment, _with_options

    monkeypatch.setenv("METRICS_LAKE_STORAGE_OPTIONS", '{"key": "k", "client_kwargs": {"a": 1}}')
    made = _with_options(
        _options_of_environment(),
        ("secret=12345", "anon=false", "client_kwargs.endpoint_url=http://h:1?a=b", 'config_kwargs={"x": 2}'),
    )
    assert made == {
        "key": "k",
        "secret": "12345",
        "anon": False,
        "client_kwargs": {"a": 1, "endpoint_url": "http://h:1?a=b"},
        "config_kwargs": {"x": 2},
    }
    with pytest.raises(click.BadParameter):
        _with_options({"a": 1}, ("a.b=2",))
