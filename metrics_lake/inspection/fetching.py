"""Objects with their bytes, a batch at a time, the next one fetched while the last one is looked at."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.errors import ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metrics_lake.storage import Storage

__all__ = ["fetched", "is_there"]

_BATCH_BYTES: Final = 16 << 20
_BATCH_OBJECTS: Final = 256


def fetched(
    storage: Storage, wanted: Sequence[tuple[Any, str, int]]
) -> Iterator[tuple[Any, str, bytes | None]]:
    """Yield objects with their keys and bytes, None in place of the bytes where one is not there.

    Args:
        storage: The lake's objects.
        wanted: Anything, its key, and the size that it should have.
    """
    batches: list[list[tuple[Any, str, int]]] = [[]]
    size = 0
    for each in wanted:
        if batches[-1] and (size + each[2] > _BATCH_BYTES or len(batches[-1]) >= _BATCH_OBJECTS):
            batches.append([])
            size = 0
        batches[-1].append(each)
        size += each[2]

    def fetch(batch: Sequence[tuple[Any, str, int]]) -> list[bytes | None]:
        try:
            if len(batch) > 1:
                # one byte more than an object should have: a longer one is damaged too
                return list(storage.get_many([(key, 0, length + 1) for _, key, length in batch]))
        except ObjectNotFoundError:
            pass
        return [_get(storage, key) for _, key, _ in batch]

    with ThreadPoolExecutor(1, thread_name_prefix="metrics-lake-verify") as pool:
        ahead: Future[list[bytes | None]] | None = None
        for index, batch in enumerate(batches):
            found = fetch(batch) if ahead is None else ahead.result()
            ahead = pool.submit(fetch, batches[index + 1]) if index + 1 < len(batches) else None
            for (item, key, length), data in zip(batch, found, strict=True):
                is_longer = data is not None and len(data) > length
                yield item, key, _get(storage, key) if is_longer else data


def _get(storage: Storage, key: str) -> bytes | None:
    try:
        return storage.get(key)
    except ObjectNotFoundError:
        return None


def is_there(storage: Storage, key: str) -> bool:
    """Return whether an object is there."""
    try:
        storage.get(key, 0, 1)
    except ObjectNotFoundError:
        return False
    return True
