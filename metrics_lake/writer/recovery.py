"""Journals that no process of this machine adopts by itself: another machine's, another lake's, a copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metrics_lake.errors import NotFoundError
from metrics_lake.journal import adopt_orphans
from metrics_lake.writer.changed import Changed
from metrics_lake.writer.outbox import Outbox

if TYPE_CHECKING:
    import os

    from metrics_lake.lakefile import LakeFile
    from metrics_lake.storage import Storage

__all__ = ["recover_journals"]


def recover_journals(storage: Storage, lake: LakeFile, folder: str | os.PathLike[str]) -> int:
    """Publish every journal under a folder into the lake; return how many points.

    A journal whose process is alive on this machine is left alone. Rows that the lake has already are not
    published again.

    Args:
        storage: The store.
        lake: What ``_lake.json`` says.
        folder: A state folder, or any folder in it.

    Raises:
        NotFoundError: There is no such folder.
        StorageError: The store failed; repeating the call is safe.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise NotFoundError(f"there is no folder {path}.", hint="Name a folder of journals.", path=str(path))
    roots = sorted({segment.parent.parent for segment in path.rglob("*.seg")})
    outbox = Outbox(storage, Changed(), lambda _: None, None)
    outbox.orphans.extend(adopt_orphans(roots))
    outbox.publish_all(lake)
    return outbox.published.points
