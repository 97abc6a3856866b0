from __future__ import annotations

import time

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from metrics_lake.commits.intervals import union
from metrics_lake.commits.watermarks import Transactions, end_app_id, watermark_txns, writer_of

W, V = "a" * 32, "b" * 32


def base(txns):
    return Transactions(
        pa.table(
            {
                "appId": pa.array(list(txns), pa.string()),
                "version": pa.array(list(txns.values()), pa.int64()),
                "lastUpdated": pa.array([7] * len(txns), pa.int64()),
            }
        )
    )


def test_a_checkpoint_and_later_changes_answer_together():
    state = base({f"ml:{W}": 9, f"ml:{W}@20": 29, f"ml:{V}": 3, "spark": 5})
    assert state.consumed(W) == ((0, 9), (20, 29))
    assert state.consumed("c" * 32) == ()
    later = state.with_changes({f"ml:{W}@40": (49, 8), f"ml:{W}": (14, 8), "ml:bulk:x": (0, None)})
    assert later.consumed(W) == ((0, 14), (20, 29), (40, 49))
    assert later.consumed(V) == ((0, 3),)
    assert state.consumed(W) == ((0, 9), (20, 29))
    assert (later.get("spark"), later.get("ml:bulk:x"), later.get("none")) == (5, 0, None)
    assert (later.last_updated(f"ml:{W}"), later.last_updated("spark")) == (8, 7)
    assert len(later) == 6
    assert later.writers() == [W, V]
    assert Transactions(later.table()).consumed(W) == later.consumed(W)
    assert sorted(later) == later.table()["appId"].to_pylist()


def test_ends_are_kept_apart_from_watermarks_and_can_be_forgotten_with_them():
    state = base({f"ml:{W}": 9, f"ml:{V}": 3}).with_changes({end_app_id(W): (0, 1), f"ml:{W}@12": (15, 1)})
    assert state.consumed(W) == ((0, 9), (12, 15))
    assert state.ended_writers() == [W]
    assert state.of_writer(W) == [f"ml:{W}", f"ml:{W}@12", f"ml:{W}@end"]
    left = state.without(state.of_writer(W))
    assert (left.consumed(W), left.consumed(V), len(left)) == ((), ((0, 3),), 1)


def test_only_watermarks_name_a_writer():
    assert writer_of(f"ml:{W}") == W
    assert writer_of(f"ml:{W}@5") == W
    for text in ("ml:bulk:" + W, "ml:copy:" + W, "spark", f"ml:{W}@end", f"ml:{W}x"):
        assert writer_of(text) is None


runs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)).map(lambda p: (p[0], sum(p))), max_size=6)


@given(st.lists(runs, max_size=5))
def test_runs_set_one_after_the_other_add_up(commits):
    state = Transactions()
    everything = ()
    for added in commits:
        txns = watermark_txns(W, state.consumed(W), union(added))
        state = state.with_changes({text: (version, None) for text, version in txns.items()})
        everything = union((*everything, *added))
        assert state.consumed(W) == everything
        assert Transactions(state.table()).consumed(W) == everything


def test_a_million_watermarks_are_looked_up_without_becoming_python_objects():
    count = 1_000_000
    texts = pa.array([f"ml:{number:032x}" for number in range(count)])
    numbers = pa.array(range(count), pa.int64())
    state = Transactions(pa.table({"appId": texts, "version": numbers, "lastUpdated": numbers}))
    assert state.consumed(f"{count - 1:032x}") == ((0, count - 1),)
    writers = [f"{number:032x}" for number in range(0, count, 5000)]
    start = time.perf_counter()
    for writer in writers:
        state.consumed(writer)
    each = (time.perf_counter() - start) / len(writers)
    start = time.perf_counter()
    texts.to_pylist()
    assert each < (time.perf_counter() - start) / 100
