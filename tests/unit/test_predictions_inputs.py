import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from metrics_lake.errors import InvalidInputError
from metrics_lake.predictions import PredictionMetrics, finalize, prediction_state
from metrics_lake.predictions.batches import rebatch
from metrics_lake.predictions.inputs import adapt

LABELS = ["cat", "dog", None, "cat"]
NUMBERS = [1.5, 2.5, -1.0, 40.25]


def metrics(data, **options):
    state = prediction_state(data, **options)
    return PredictionMetrics(finalize(state, "all"), state)


class Tensor:
    """What a torch tensor answers to, without torch."""

    shape = (4,)

    def __init__(self, values, dtype="torch.float32"):
        self.values = np.asarray(values)
        self.dtype = dtype
        self.requires_detach = True

    def detach(self):
        self.requires_detach = False
        return self

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.values.astype("float32"))

    def numpy(self):
        return self.values


class Stream:
    def __init__(self, data):
        self.data = data

    def __arrow_c_stream__(self, requested_schema=None):
        return self.data.__arrow_c_stream__(requested_schema)


class OneArray:
    def __init__(self, data):
        self.data = data

    def __arrow_c_array__(self, requested_schema=None):
        return self.data.__arrow_c_array__(requested_schema)


def every_kind(values):
    table = pa.table({"prediction": values})
    yield "list", values
    yield "tuple", tuple(values)
    yield "polars series", pl.Series(values)
    yield "polars frame", pl.DataFrame({"p": values})
    yield "polars lazy", pl.LazyFrame({"p": values})
    yield "arrow table", table
    yield "arrow batch", table.to_batches()[0]
    yield "arrow array", pa.array(values)
    yield "arrow chunks", pa.chunked_array([values[:1], values[1:]])
    yield "arrow reader", table.to_reader()
    yield "arrow dataset", ds.dataset(table)
    yield "stream of rows", Stream(table)
    yield "stream of values", Stream(pa.chunked_array([values]))
    yield "array of rows", OneArray(table.to_batches()[0])
    yield "array of values", OneArray(pa.array(values))
    yield "pandas series", pd.Series(values)
    yield "pandas frame", pd.DataFrame({"p": values})
    yield "generator of values", (value for value in values)
    yield "generator of frames", (pl.DataFrame({"prediction": [value]}) for value in values if value)
    yield "mapping", {"p": values}
    yield "rows", [{"p": value} for value in values]
    if None not in values:
        yield "numpy", np.array(values)
        yield "numpy column", np.array(values).reshape(-1, 1)
        yield "rows of one", [[value] for value in values]
    else:
        yield "categorical", pd.Series(values, dtype="category")
        yield "numpy objects", np.array(values, dtype=object)
        yield "dictionary", pa.array(values).dictionary_encode()


@pytest.mark.parametrize(
    ("kind", "data"), list(every_kind(LABELS)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_kind_of_labels_gives_the_same_distribution(kind, data):
    found = metrics(data)
    assert found.task == "multiclass"
    assert found["class_distribution"] == {"cat": pytest.approx(2 / 3), "dog": pytest.approx(1 / 3)}
    if kind != "generator of frames":
        assert found.n == 4
        assert found.excluded == {"null": 1, "nan": 0, "inf": 0, "out_of_range": 0}


@pytest.mark.parametrize(
    ("kind", "data"), list(every_kind(NUMBERS)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_kind_of_numbers_gives_the_same_moments(kind, data):
    found = metrics(data)
    assert found.task == "regression", kind
    assert found.n == 4
    assert found["mean"] == pytest.approx(np.mean(NUMBERS), rel=1e-15)
    assert found["std"] == pytest.approx(np.std(NUMBERS), rel=1e-14)
    assert (found["min"], found["max"]) == (-1.0, 40.25)
    assert found["p50"] == np.quantile(NUMBERS, 0.5)


def test_tensor_of_halves_is_widened_and_of_integers_stays_exact():
    big = 2**53 + 1
    source = adapt(Tensor(np.array([big, 1]), "torch.int64"))
    assert source.frame.collect().to_series().to_list() == [big, 1]
    source = adapt(Tensor(np.array([0.5, 1], dtype="float16"), "torch.bfloat16"))
    assert source.schema["prediction"] == pl.Float32


def test_pandas_nullable_integers_stay_integers_and_nan_stays_nan():
    frame = pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "f": [1.5, math.nan]})
    found = adapt(frame).frame.collect()
    assert found["i"].to_list() == [1, None]
    assert found["f"].is_nan().to_list() == [False, True]


def test_pandas_index_is_no_column():
    frame = pd.DataFrame({"p": [0.5]}, index=[7])
    assert adapt(frame).schema.names() == ["p"]


@pytest.mark.parametrize("dtype", ["float16", ">f8", "uint8", "int64", "bool", "longdouble"])
def test_numpy_types(dtype):
    found = adapt(np.array([1, 0], dtype=dtype)).frame.collect().to_series()
    assert found.cast(pl.Float64).to_list() == [1.0, 0.0]


def test_masked_array_has_nulls():
    masked = np.ma.masked_array([1.5, 2.5], mask=[True, False])
    assert adapt(masked).frame.collect().to_series().to_list() == [None, 2.5]


def test_matrix_becomes_a_column_a_class():
    source = adapt(np.array([[0.2, 0.8], [0.5, 0.5]]))
    assert source.is_matrix
    assert source.schema.names() == ["0", "1"]


def test_parquet_paths(tmp_path: Path):
    for i in range(3):
        pq.write_table(pa.table({"p": [float(i), 0.5]}), tmp_path / f"{i}.parquet")
    for data in (
        tmp_path / "0.parquet",
        str(tmp_path / "0.parquet"),
        [tmp_path / "0.parquet"],
        [str(tmp_path / "0.parquet")],
    ):
        assert metrics(data).n == 2
    assert metrics(str(tmp_path / "*.parquet")).n == 6
    assert metrics([tmp_path / "0.parquet", tmp_path / "1.parquet"]).n == 4
    assert metrics("any://0", open_file=lambda url: (tmp_path / f"{url[-1]}.parquet").open("rb")).n == 2


def test_missing_file_says_so(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="cannot be read as Parquet"):
        prediction_state(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    "data",
    [
        ["a", 1],
        pd.Series(["a", 1, None], dtype=object),
        pl.Series([object(), object()], dtype=pl.Object),
        np.array(["a", 1], dtype=object),
        [True, 1.5],
        [{"p": "a"}, {"p": 2}],
    ],
    ids=["list", "pandas", "polars", "numpy", "bool and float", "rows"],
)
def test_mixed_column_is_refused_with_its_types(data):
    with pytest.raises(InvalidInputError, match="one type first") as caught:
        prediction_state(data)
    assert caught.value.types


@pytest.mark.parametrize("data", [5, None, {1, 2}, b"abc", object(), np.zeros((2, 2, 2)), np.array(1.0)])
def test_what_holds_no_column_is_refused(data):
    with pytest.raises(InvalidInputError, match="Pass"):
        prediction_state(data)


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(InvalidInputError, match="different lengths"):
        prediction_state([[0.1, 0.9], [0.5]])
    with pytest.raises(InvalidInputError, match=r"'a' has 1, 'b' has 2"):
        prediction_state({"a": [1], "b": [1, 2]})


def test_numpy_scalars_in_a_list_are_plain_numbers():
    assert metrics([np.float32(1.5), np.float64(2.5)])["mean"] == 2.0


def test_integer_beyond_64_bits_is_refused():
    with pytest.raises(InvalidInputError, match="64 bits"):
        prediction_state([2**70])


def test_reader_is_read_once_and_later_batches_must_fit():
    table = pa.table({"p": [1.5]})
    reader = table.to_reader()
    source = adapt(reader)
    assert len(list(source.batches(["p"]))) == 1
    with pytest.raises(InvalidInputError, match="already read"):
        list(source.batches(["p"]))
    with pytest.raises(InvalidInputError, match="lacks the column 'p'"):
        prediction_state(pl.DataFrame({name: [1.5]}) for name in ("p", "q"))
    with pytest.raises(InvalidInputError, match="does not fit the Float64 of the first"):
        prediction_state(pl.DataFrame({"p": [value]}) for value in (1.5, "a"))


def test_rebatch_keeps_the_rows_in_order():
    batches = [pl.DataFrame({"i": range(start, start + size)}) for start, size in ((0, 3), (3, 10), (13, 1))]
    found = list(rebatch(iter(batches), rows=4))
    assert [frame.height for frame in found] == [4, 4, 4, 2]
    assert pl.concat(found)["i"].to_list() == list(range(14))


def test_whole_numbers_without_truth_are_shown_under_both_readings():
    found = metrics([1, 2, 2, 3])
    assert found.task == "unknown"
    assert found["class_distribution"] == {1: 0.25, 2: 0.5, 3: 0.25}
    assert found["p50"] == 2.0
    assert "class_distribution" not in metrics(list(range(21)))
    assert metrics([1.0, 2.0]).task == "unknown"


def test_empty_input_has_no_predictions_and_nothing_else():
    for data in ([], pl.Series([], dtype=pl.Float64), pl.Series([], dtype=pl.String)):
        found = metrics(data)
        assert found.n == 0
        assert {name for name, value in found.items() if value} == set()
    assert metrics(pl.DataFrame(schema={"p": pl.Float64, "c": pl.String}), by="c").n == 0


def test_labels_come_back_in_their_own_type():
    assert metrics([True, False])["class_distribution"] == {True: 0.5, False: 0.5}
    assert metrics([3, 3, 4], task="multiclass")["class_counts"] == {3: 2, 4: 1}
    assert metrics([3.0, 3.0, 4.0], task="multiclass")["class_counts"] == {3: 2, 4: 1}
    assert metrics(["3", "4"])["class_counts"] == {"3": 1, "4": 1}


def test_distribution_is_cut_at_a_thousand_classes_and_says_how_many_there_are():
    labels = [f"c{i:04d}" for i in range(1500)] + ["c0042"]
    found = metrics(labels)
    assert len(found["class_distribution"]) == 1000
    assert found["num_classes"] == 1500
    assert found["class_distribution"]["c0042"] == 2 / 1501


def test_excluded_values_are_counted_by_reason():
    found = metrics(pl.Series([1.5, None, math.nan, math.inf, -math.inf]))
    assert found.n == 5
    assert found.excluded == {"null": 1, "nan": 1, "inf": 2, "out_of_range": 0}
    assert found["mean"] == 1.5
