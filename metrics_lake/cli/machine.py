"""What ``metrics-lake doctor`` looks at on this machine: versions, the state folder, journals."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from metrics_lake import __version__
from metrics_lake.errors import JournalError
from metrics_lake.journal.locks import lock_file, unlock
from metrics_lake.journal.state import find_state_directory, host_id, is_network, unbound_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from metrics_lake.lakefile import LakeFile
    from metrics_lake.storage import Storage

__all__ = ["DRIVERS", "Found", "state_of", "versions"]

DRIVERS: Final = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""Which package speaks for a url's scheme."""

_CORE: Final = ("pyarrow", "duckdb", "polars", "fsspec")
_LITTLE_SPACE: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was looked at.

    Attributes:
        check: What.
        status: ``"ok"``; ``"warn"``: it works, and something is worth knowing; ``"fail"``: it does not work.
        what: What was found.
        hint: What to do; ``""`` where nothing is to be done.
    """

    check: str
    status: Literal["ok", "warn", "fail"]
    what: str
    hint: str = ""


def versions() -> Iterator[Found]:
    """Yield what is installed, and what of it is older than what is tested."""
    parts = [f"metrics-lake {__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {importlib.metadata.version(name)}" for name in _CORE]
    yield Found("versions", "ok", ", ".join(parts))
    try:
        required = importlib.metadata.requires("metrics-lake") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in required:
        found = re.match(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", requirement)
        if found is None or found[1] not in {*_CORE, *DRIVERS.values()}:
            continue
        try:
            there = importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            continue  # a driver that nobody asked for
        if _numbers(there) < _numbers(found[2]):
            yield Found(
                "versions",
                "warn",
                f"{found[1]} is {there}; {found[2]} is the oldest that is tested",
                f"pip install --upgrade {found[1]}",
            )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def state_of(storage: Storage, lake: LakeFile | None) -> Iterator[Found]:
    """Yield where journals lie on this machine, and which of them wait to be published."""
    named = os.environ.get("METRICS_LAKE_STATE")
    try:
        state = find_state_directory(None)
    except JournalError as error:
        yield Found("state", "fail", error.message, error.hint or "")
        return
    if state is None:
        yield Found(
            "state",
            "warn",
            "no folder for journals can be written: points wait in memory, and die with their process",
            "Set METRICS_LAKE_STATE to a folder on a local disk.",
        )
        return
    free = shutil.disk_usage(state).free
    what = f"{state}, {free / (1 << 30):,.1f} GiB free"
    if free < _LITTLE_SPACE:
        yield Found(
            "state", "warn", what, "Make room, or set METRICS_LAKE_STATE to a folder on another disk."
        )
    elif named and is_network(state):
        yield Found(
            "state",
            "warn",
            f"{what}, on a network file system: logging waits for it",
            "Set METRICS_LAKE_STATE to a folder on a local disk.",
        )
    else:
        yield Found("state", "ok", what)
    yield from _journals(state, storage, lake)


def _journals(state: Path, storage: Storage, lake: LakeFile | None) -> Iterator[Found]:
    ours = {unbound_name(storage.url), *([] if lake is None else [lake.lake_id])}
    living = 0
    waiting: dict[str, list[Path]] = {"here": [], "host": [], "other": []}
    aside: list[Path] = []
    for segment in state.glob("*/*/*/*"):
        writer = segment.parent
        host, of_lake = writer.parent.name, writer.parent.parent.name
        if segment.suffix == ".damaged":
            aside.append(segment)
        elif segment.suffix != ".seg":
            continue
        elif host != host_id():
            waiting["host"].append(segment)
        elif _is_alive(writer):
            living += 1
        else:
            waiting["here" if of_lake in ours else "other"].append(segment)
    if living:
        yield Found("journals", "ok", f"{living} journal segments of running processes")
    if waiting["here"]:
        yield Found(
            "journals",
            "warn",
            f"{_sized(waiting['here'])} of dead processes wait to be published into this lake",
            "Any command that opens the lake publishes them: metrics-lake recover",
        )
    if waiting["other"]:
        names = sorted({each.parents[2].name for each in waiting["other"]})
        yield Found(
            "journals",
            "warn",
            f"{_sized(waiting['other'])} of dead processes wait for other lakes: {', '.join(names[:3])}"
            f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}",
            "Run `metrics-lake recover --url …` with the url of each (`doctor` says the id of a url's lake); "
            f"of a lake that is gone for good, delete the folder of that name in {state}.",
        )
    if waiting["host"]:
        folders = sorted({str(each.parent.parent) for each in waiting["host"]})
        yield Found(
            "journals",
            "warn",
            f"{_sized(waiting['host'])} of other machines",
            f"Once they run no more: metrics-lake recover {folders[0]}",
        )
    if aside:
        yield Found(
            "journals",
            "warn",
            f"{_sized(aside)} could not be read and were set aside: {aside[0]}",
            "Keep them and ask for help, or delete them.",
        )
    if not (living or aside or any(waiting.values())):
        yield Found("journals", "ok", "none waits")


def _is_alive(writer: Path) -> bool:
    try:
        descriptor = lock_file(writer / "lock")
    except OSError:
        return True  # another user's: that user's processes publish it
    if descriptor is None:
        return True
    unlock(descriptor)
    return False


def _sized(paths: list[Path]) -> str:
    size = sum(path.stat().st_size for path in paths if path.exists())
    return f"{len(paths)} journal segment{'' if len(paths) == 1 else 's'} ({size:,} bytes)"
