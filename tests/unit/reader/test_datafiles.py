"""Data files where no file can be opened: row groups of several objects, fetched and decoded at once."""

import threading
from itertools import islice

import pytest

from metrics_lake.errors import CorruptObjectError
from metrics_lake.reader.datafiles import DataFiles
from metrics_lake.reader.selection import Selection
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.storage import open_storage


@pytest.fixture
def lake(support, tmp_path):
    """A lake of three data files with three row groups each."""
    made = support.Lake(open_storage(f"memory://{tmp_path.name}"))
    for writer in (1, 2, 3):
        rows = made.log_rows(f"run-{writer}", "m", list(map(float, range(40_000))), writer=writer)
        made.compact(rows, {rows[0].writer: ((0, 39_999),)})
    return made


def batches_of(lake, *asked):
    reader = lake.reader()
    files = reader.table().snapshot().log.files
    return DataFiles(lake.storage, METRICS, reader._cache).batches(files, Selection.of(*asked))


def test_rows_come_in_the_order_of_the_files(lake):
    rows = [row for batch in batches_of(lake) for row in batch.column("seq").to_pylist()]
    assert rows == 3 * list(range(40_000))
    assert all(batch.schema.equals(arrow_schema(METRICS)) for batch in batches_of(lake, "run-2"))
    assert sum(batch.num_rows for batch in batches_of(lake, "run-2", "m")) == 40_000


def test_a_read_that_ends_early_leaves_nothing_behind(lake):
    batches = batches_of(lake)
    assert len(list(islice(batches, 1))) == 1
    assert any(thread.name.startswith("metrics_lake-read") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("metrics_lake-read") for thread in threading.enumerate())


def test_the_damaged_one_of_several_is_named(lake):
    key = lake.reader().table().snapshot().log.files[1].key
    data = bytearray(lake.storage.get(key))
    data[100:3000] = bytes(2900)
    lake.storage.put(key, bytes(data))
    with pytest.raises(CorruptObjectError) as caught:
        list(batches_of(lake))
    assert caught.value.key == key
