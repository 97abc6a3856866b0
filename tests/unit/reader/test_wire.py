"""What reading costs on a real object store, counted on the wire."""

import pytest

from metrics_lake.storage import open_storage


@pytest.fixture
def s3_lake(s3_server, s3_proxy, support):
    options = s3_server.options(endpoint_url=s3_proxy.url)
    with open_storage(s3_server.url(), options) as storage:
        yield support.Lake(storage)


def test_a_warm_read_takes_two_requests(s3_lake, s3_proxy):
    rows = s3_lake.log_rows("run", "m", [float(number) for number in range(20)], steps=range(20))
    s3_lake.compact(rows[:10], {rows[0].writer: ((0, 9),)})
    s3_lake.publish(rows[10:])
    reader = s3_lake.reader()
    assert reader.latest("run", "m").value == 19.0
    s3_proxy.reset()
    assert reader.latest("run", "m").value == 19.0
    assert s3_proxy.count() == {"LIST": 1, "GET": 1}
    s3_proxy.reset()
    assert reader.latest_metrics("run")["m"].value == 19.0
    assert reader.resources().values("points") == [20]
    assert s3_proxy.count() == {"LIST": 2, "GET": 2}


def test_news_cost_a_request_an_object(s3_lake, s3_proxy):
    s3_lake.publish(s3_lake.log_rows("run", "m", [1.0]))
    reader = s3_lake.reader()
    reader.latest("run", "m")
    for number in range(3):
        s3_lake.publish(s3_lake.log_rows("run", "m", [2.0 + number]))
    s3_proxy.reset()
    assert reader.latest("run", "m").value == 4.0
    assert s3_proxy.count() == {"LIST": 1, "GET": 4}


def test_a_point_read_of_the_table_fetches_row_groups(s3_lake, s3_proxy):
    rows = s3_lake.log_rows("run", "m", [float(number) for number in range(50_000)], steps=range(50_000))
    s3_lake.compact(rows, {rows[0].writer: ((0, 49_999),)})
    reader = s3_lake.reader()
    assert reader.latest("run", "m", step=7).value == 7.0
    s3_proxy.reset()
    assert reader.latest("run", "m", step=8).value == 8.0
    assert s3_proxy.count()["GET"] <= 3  # the log's next version, and the row group
    assert reader.history("run", steps=range(100, 110)).values() == [float(step) for step in range(100, 110)]
