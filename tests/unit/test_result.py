"""Results: columns for machines, exact values for people."""

import pickle
import threading

import polars as pl
import pyarrow as pa
import pytest

from metrics_lake import MetricsLake, glob
from metrics_lake.errors import InvalidInputError, NotFoundError, UnsupportedFormatError
from metrics_lake.result import Result

ROWS = pa.table(
    {
        "resource": ["a", "b", "c"],
        "tags": pa.array([[("k", "v")], None, None], pa.map_(pa.string(), pa.string())),
        "step": pa.array([0, None, 2], pa.int64()),
        "value": pa.array([0.5, 3.0, None], pa.float64()),
        "kind": ["float", "int", "str"],
        "text": pa.array([None, None, "<b>relu</b>"], pa.string()),
    }
)


def result(table=ROWS, **options):
    return Result(lambda: table, hidden=("kind", "text"), **options)


def test_values_come_back_as_they_were_logged():
    rows = result().rows()
    assert rows == [
        {"resource": "a", "tags": {"k": "v"}, "step": 0, "value": 0.5},
        {"resource": "b", "tags": None, "step": None, "value": 3},
        {"resource": "c", "tags": None, "step": 2, "value": "<b>relu</b>"},
    ]
    assert type(rows[1]["value"]) is int
    assert list(result()) == rows
    assert result().values() == [0.5, 3, "<b>relu</b>"]
    assert result().values("step") == [0, None, 2]


def test_columns_hold_the_numeric_view():
    assert result().columns == ["resource", "tags", "step", "value"]
    assert result().arrow()["value"].to_pylist() == [0.5, 3.0, None]
    assert result().pl()["value"].to_list() == [0.5, 3.0, None]
    assert result().df()["step"].dtype == "Int64"
    assert pa.table(result()).column_names == ["resource", "tags", "step", "value"]
    assert pl.DataFrame(result()).shape == (3, 4)
    assert len(result()) == 3
    assert result()
    assert not result(ROWS.slice(0, 0))


def test_the_query_runs_once_and_late():
    runs = []

    def run():
        runs.append(1)
        return ROWS

    lazy = Result(run, hidden=("kind", "text"))
    assert runs == []
    threads = [threading.Thread(target=lazy.arrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lazy.rows()) == 3
    assert "Result" in repr(lazy)
    assert runs == [1]


def test_a_reader_streams_what_nobody_looked_at():
    runs = []

    def stream():
        runs.append(1)
        return ROWS.to_reader()

    lazy = result(stream=stream)
    assert lazy.reader().read_all().column_names == ["resource", "tags", "step", "value"]
    assert runs == [1]
    lazy.arrow()
    assert lazy.reader().read_all().num_rows == 3
    assert runs == [1]


def test_one_row_is_one_row():
    assert result(ROWS.slice(0, 1)).one()["value"] == 0.5
    with pytest.raises(NotFoundError):
        result(ROWS.slice(0, 0)).one()
    with pytest.raises(InvalidInputError, match="3 rows"):
        result().one()


def test_columns_that_are_not_there_are_named():
    with pytest.raises(InvalidInputError, match="resource, tags"):
        result().values("nothing")
    with pytest.raises(InvalidInputError, match="value"):
        result(ROWS.select(["resource", "step"])).values()
    assert result(ROWS.select(["resource"])).values() == ["a", "b", "c"]


def test_a_value_of_a_newer_kind_spoils_nothing_else():
    newer = ROWS.set_column(4, "kind", pa.array(["float", "int", "quaternion"]))
    with pytest.raises(UnsupportedFormatError, match="quaternion"):
        result(newer).rows()
    assert "relu" in repr(result(newer))
    assert result(newer).arrow().num_rows == 3


def test_a_person_sees_the_first_rows():
    long = pa.concat_tables([ROWS] * 20)
    assert repr(result()).splitlines()[0] == "Result: 3 rows"
    assert "k=v" in repr(result())
    assert repr(result(long)).splitlines()[-1] == "… 50 more"
    assert repr(result(ROWS.slice(0, 0))).splitlines()[0] == "Result: 0 rows"
    html = result(long)._repr_html_()
    assert "&lt;b&gt;relu" in html
    assert "60 rows, the first 20 shown" in html


def test_ints_that_python_does_not_write_in_decimal_are_shown(tmp_path):
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "state") as lake:
        lake.log_metrics("run", {"a": 10**5000, "b": [1, -(10**5000)]})
        shown = lake.history("run", ["a", "b"])
        assert shown.values() == [10**5000, [1, -(10**5000)]]
        assert "0x31e20801036510" in repr(shown)
        assert "list of 2" in repr(shown)
        assert "0x31e20801036510" in shown._repr_html_()


def test_rich_prints_a_table():
    from rich.console import Console

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(result())
    assert "<b>relu</b>" in console.export_text()


def test_no_id_or_value_moves_the_cursor():
    from rich.console import Console

    hostile = "a\x1b]0;title\x07\x9b31mb\r\nc\u202e\x7f"
    table = pa.table({"resource": [hostile], f"metric {hostile}": [hostile]})
    shown = [repr(result(table)), result(table)._repr_html_()]
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(result(table))
    shown.append(console.export_text())
    for text in shown:
        assert not set(text) & set("\x1b\x07\x9b\r\u202e\x7f")
        assert text.count("a\\x1b]0;title\\x07\\x9b31mb") == 3
    assert repr(result(table)).count("\n") == 2


VALUES = {"a": 1, "b": 2**70, "c": "relu", "d": [1, 2], "e": None, "f": True, "g": 0.5, "h": float("inf")}


@pytest.mark.parametrize("metrics", [glob("*"), "g"])
@pytest.mark.parametrize("full", [False, True])
def test_a_history_is_appended_to_another_lake_exactly(tmp_path, metrics, full):
    state = tmp_path / "state"
    with MetricsLake(tmp_path / "a", state_dir=state) as a, MetricsLake(tmp_path / "b", state_dir=state) as b:
        a.log_metrics("run", VALUES, step=3, tags={"fold": 1})
        taken = a.history("run", metrics, full=full)
        b.append(taken, key="once")
        b.append(taken, key="once")
        assert b.history("run", glob("*")).rows() == a.history("run", metrics).rows()


def test_a_smoothed_history_is_appended_as_it_is_shown(tmp_path):
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "state") as lake:
        lake.log_series("run", "loss", [3, 1, "x", 1])
        smoothed = lake.history("run", "loss", smooth=0.5)
        lake.append({**smoothed.points().to_pydict(), "metric": ["smooth"] * 4})
        assert lake.history("run", "smooth").values() == smoothed.values()
        ranked = lake.best("loss", mode="min")
        with pytest.raises(InvalidInputError, match="columns that a point does not have: 'rank'"):
            lake.append(ranked)


def test_a_result_does_not_pickle():
    with pytest.raises(InvalidInputError, match="arrow"):
        pickle.dumps(result())
