"""Where journals lie on this machine, and which machine this is.

``{state}/{lake id}/{host id}/{writer}/`` holds one writer's segments and the lock file that tells a living
owner from an orphan. A journal begun before its lake could be reached lies under ``unbound-{hash of the
url}`` in the lake id's place and is renamed when the lake is known.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import tempfile
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from metrics_lake.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["find_state_directory", "host_id", "state_directories", "unbound_name"]

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "9p"}
)

_MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


@cache
def host_id() -> str:
    """Return a name of this machine that survives a restart: journals of other hosts are left alone.

    It is made of the machine id and the host name: containers of one image share the first, restored
    machines often share the second.
    """
    parts = [socket.gethostname()]
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            parts.append(Path(path).read_text(encoding="ascii").strip())
        except OSError:
            continue
        break
    return blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def unbound_name(url: str) -> str:
    """Return the name of the folder for journals of a url whose lake id is not known yet."""
    return f"unbound-{blake2b(url.encode(), digest_size=8).hexdigest()}"


def find_state_directory(named: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder for journals, or None where this machine has none that can be written.

    Args:
        named: The folder that the caller named; else ``$METRICS_LAKE_STATE``, else the XDG state folder,
            else one in the temporary directory. A network file system is used only when named.

    Raises:
        JournalError: A folder was named and cannot be written.
    """
    path = _named(named)
    if path is not None:
        problem = _prepare(path)
        if problem is not None:
            raise JournalError(
                f"the state folder {path} cannot be used: {problem}.",
                hint="Name a folder that this user can write, with state_dir= or METRICS_LAKE_STATE.",
                path=str(path),
            )
        return path
    for path in _candidates():
        if not is_network(path) and _prepare(path) is None:
            return path
    return None


def state_directories(named: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders in which processes of this user may have left journals; nothing is made.

    Args:
        named: As for ``find_state_directory``. Without a name these are several: a process takes the
            temporary directory only while its home cannot be written.
    """
    path = _named(named)
    candidates = [path] if path is not None else [path for path in _candidates() if not is_network(path)]
    return [path for path in candidates if _is_ours(path)]


def _named(named: str | os.PathLike[str] | None) -> Path | None:
    chosen = named if named is not None else os.environ.get("METRICS_LAKE_STATE")
    return Path(chosen).expanduser().absolute() if chosen else None


def _candidates() -> Iterator[Path]:
    xdg = os.environ.get("XDG_STATE_HOME")
    if xdg and Path(xdg).is_absolute():
        yield Path(xdg) / "metrics_lake"
    else:
        home = os.path.expanduser("~")  # noqa: PTH111 -- Path.home raises where there is no home
        if Path(home).is_absolute():
            yield Path(home) / ".local" / "state" / "metrics_lake"
    owner = os.getuid() if hasattr(os, "getuid") else 0
    temporary = _temporary_directory()
    if temporary is not None:
        yield temporary / f"metrics_lake-{owner}"


def _temporary_directory() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return None  # as in a container whose file system is read-only


def _prepare(path: Path) -> str | None:
    """Make the folder and prove that it can be written; return what is wrong."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        problem = _distrust(path)
        if problem is None:
            with tempfile.TemporaryFile(dir=path):
                pass
    except OSError as error:
        return error.strerror or str(error)
    return problem


def _is_ours(path: Path) -> bool:
    try:
        return path.is_dir() and _distrust(path) is None
    except OSError:
        return False


def _distrust(path: Path) -> str | None:
    """Return why a folder that is there must not be used: somebody else may have put it there."""
    found = path.lstat()
    if hasattr(os, "getuid") and found.st_uid != os.getuid() and os.getuid() != 0:
        return f"it belongs to user {found.st_uid}"
    if stat.S_ISLNK(found.st_mode) and path.parent == _temporary_directory():
        return "it is a symbolic link in a folder that everybody can write"
    return None


def is_network(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Tell whether the path, or its nearest existing parent, lies on a network file system (Linux).

    Args:
        path: The path; it need not exist.
        mounts: The kernel's table of mounts.
    """
    try:
        table = mounts.read_bytes()
    except OSError:
        return False
    # Path.exists raises where a folder may not be looked into, as root's home by another user.
    while not os.path.exists(path) and path != path.parent:  # noqa: PTH110 -- as said
        path = path.parent
    target = os.fsencode(os.path.realpath(path))
    best, kind = b"", ""
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        if len(fields) < 5 or not after:
            continue
        point = _ESCAPED.sub(lambda found: bytes((int(found[1], 8),)), fields[4])
        is_inside = target == point or target.startswith(point.rstrip(b"/") + b"/")
        # Of several mounts on one point the last one is seen.
        if is_inside and len(point) >= len(best):
            best, kind = point, after.split(b" ")[0].decode(errors="replace")
    return kind in _NETWORK_FILE_SYSTEMS or (kind.startswith("fuse.") and kind != "fuse.overlayfs")
