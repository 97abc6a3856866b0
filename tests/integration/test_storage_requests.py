"""How many requests each operation costs on the wire: stores bill them, and latency multiplies them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from metrics_lake.errors import ObjectNotFoundError


@pytest.fixture(params=["s3", "gcs"])
def counted(request):
    """A storage, and what counts its requests while a call runs."""
    storage = request.getfixturevalue(request.param)
    proxy = request.getfixturevalue(f"{request.param}_proxy")

    def count(call):
        proxy.reset()
        call()
        return dict(proxy.count())

    return storage, count


@pytest.mark.parametrize("size_bytes", [0, 1_000, 5 << 20])
def test_a_put_is_one_request(counted, size_bytes):
    storage, count = counted
    assert count(lambda: storage.put_new("a", bytes(size_bytes))) == {"PUT": 1}
    assert count(lambda: storage.put_new("a", bytes(size_bytes))) == {"PUT": 1}
    assert count(lambda: storage.put("a", bytes(size_bytes))) == {"PUT": 1}


def test_a_get_is_one_request_whatever_is_asked(counted):
    storage, count = counted
    storage.put_new("a", bytes(100_000))
    storage.put_new("empty", b"")
    for arguments in (("a",), ("a", 5), ("a", 5, 10), ("a", -8), ("a", 99_999, 200_000), ("empty",)):
        assert count(lambda arguments=arguments: storage.get(*arguments)) == {"GET": 1}

    def miss():
        with pytest.raises(ObjectNotFoundError):
            storage.get("absent")

    assert count(miss) == {"GET": 1}
    assert count(lambda: storage.get("a", 7, 7)) == {}


def test_many_ranges_are_a_request_each(counted):
    storage, count = counted
    storage.put_new("a", bytes(1000))
    assert count(lambda: storage.get_many([("a", 10 * i, 10 * i + 5) for i in range(40)])) == {"GET": 40}


def test_proof_of_exclusive_creation_is_two_requests(counted):
    storage, count = counted
    assert count(lambda: storage.create_exclusively_or_mark("_lake.json", b"yes", b"no")) == {"PUT": 2}


def test_a_listing_is_a_request_a_page(counted):
    storage, count = counted
    assert count(lambda: storage.list("inbox/")) in ({"LIST": 1}, {"LIST": 2})  # gcsfs looks twice
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: storage.put_new(f"inbox/{number}", b"x"), range(1005)))
    assert count(lambda: storage.list("inbox/1")) == {"LIST": 1}
    assert count(lambda: storage.list("inbox/")) == {"LIST": 2}


def test_a_delete_is_a_request_a_thousand_on_s3(s3, s3_proxy):
    s3_proxy.reset()
    s3.delete([f"a/{number}" for number in range(1005)])
    assert s3_proxy.count() == {"DELETE": 2}


def test_s3_puts_do_not_wait_for_a_go_ahead(s3, s3_proxy):
    s3.put_new("a", b"x")
    assert "expect" not in {name.lower() for seen in s3_proxy.requests for name in seen.headers}
