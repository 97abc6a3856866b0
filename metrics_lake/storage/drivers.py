"""The few ways in which fsspec's filesystems differ: how to connect, create, list and delete.

Everything else (retries, errors, forks, pickles) is the same for all of them and lives in ``remote``.
"""

from __future__ import annotations

import importlib
import io
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["AzureDriver", "Driver", "GcsDriver", "S3Driver", "modified_at"]

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 15.0
"""Silence after which a request is given up. Not a limit on a transfer that moves."""

_STALLED_SECONDS: Final = 30.0
_SLOWEST_BYTES_PER_SECOND: Final = 128 << 10
"""An upload that is slower than this all in all is given up: nothing else notices one that stalls."""

_CONNECTIONS: Final = 32
_LARGE_BODY: Final = 1 << 20
_PART_BYTES: Final = 512 << 20
"""s3fs uploads in parts from twice this on. A killed upload in parts leaves parts that are billed, and more
clones of S3 know the condition on a PUT than on the completion of parts."""

_UNSHARED: Final = {"skip_instance_cache": True, "use_listings_cache": False}
_TIMES: Final = ("mtime", "LastModified", "last_modified", "updated", "modified", "creation_time", "created")
_MAGIC: Final = re.compile(r"[*?\[]")
"""fsspec's ``rm`` would take these for patterns."""


class Driver:
    """Any fsspec filesystem: complete, but its creation is exclusive only as long as nobody races.

    Attributes:
        is_exclusive: True where ``create`` is one conditional request.
        has_suffix_ranges: True where a negative start is one request.
    """

    is_exclusive: ClassVar[bool] = False
    has_suffix_ranges: ClassVar[bool] = False

    def connect(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a new filesystem that shares nothing with others and caches no listings, and the url's path.

        Raises:
            TypeError: An option is unknown to the driver.
            ValueError: An option's value is none.
        """
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(url, **{**options, **_UNSHARED})
        return filesystem, root.rstrip("/")

    def errors(self) -> tuple[type[BaseException], ...]:
        """Return what the filesystem raises when the store or the network fails."""
        return (OSError,)

    def create(self, filesystem: Any, path: str, data: bytes) -> None:
        """Create an object, or raise what ``classify`` calls EXISTS."""
        if filesystem.exists(path):
            raise FileExistsError(path)
        self.write(filesystem, path, data)

    def write(self, filesystem: Any, path: str, data: bytes) -> None:
        """Write an object over whatever is there."""
        # Servers with folders want them made; that they are there already is no error.
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(path, data)

    def read(self, filesystem: Any, path: str, start: int, end: int | None) -> bytes:
        """Return an object's bytes, or raise what ``classify`` calls OUT_OF_RANGE."""
        if start < 0:
            start = max(filesystem.info(path)["size"] + start, 0)
        if start == 0 and end is None:
            return bytes(filesystem.cat_file(path))
        return bytes(filesystem.cat_file(path, start=start, end=end))

    def read_many(
        self, filesystem: Any, ranges: Sequence[tuple[str, int, int]]
    ) -> list[bytes | BaseException]:
        """Return the bytes of each range, or what reading it raised."""
        found = filesystem.cat_ranges(
            [path for path, _, _ in ranges],
            [start for _, start, _ in ranges],
            [end for _, _, end in ranges],
            on_error="return",
            **self.batching(filesystem),
        )
        return list(found)

    def batching(self, filesystem: Any) -> dict[str, int]:
        """Return how many ranges to fetch at once, where the filesystem can do several."""
        return {"batch_size": _CONNECTIONS} if filesystem.async_impl else {}

    def find(self, filesystem: Any, root: str, prefix: str) -> Iterable[Mapping[str, Any]]:
        """Return fsspec's infos of the objects whose key begins with a prefix, and maybe of more."""
        folder = f"{root}/{prefix}".rpartition("/")[0]
        try:
            return _values(filesystem.find(folder, detail=True))
        except FileNotFoundError:
            return ()

    def remove(self, filesystem: Any, paths: Sequence[str]) -> None:
        """Remove objects; absent ones are fine."""
        for path in paths:
            try:
                filesystem.rm_file(path)
            except FileNotFoundError:
                continue


class S3Driver(Driver):
    """s3fs. All retrying is left to ``remote``: s3fs and botocore would multiply each other's attempts."""

    is_exclusive = True
    has_suffix_ranges = True

    def connect(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a filesystem whose requests are single attempts with bounded silence, and the url's path."""
        config = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "max_pool_connections": _CONNECTIONS,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            **options.get("config_kwargs", {}),
        }
        filesystem, root = super().connect(url, {**options, "config_kwargs": config})
        filesystem.retries = 1
        filesystem.connect()  # no request yet; unknown options are found here
        # "Expect: 100-continue" costs a round trip a PUT, and aiohttp waits for that answer without a limit.
        expect = importlib.import_module("botocore.handlers").add_expect_header
        filesystem.s3.meta.events.unregister("before-call.s3", expect)
        return filesystem, root

    def errors(self) -> tuple[type[BaseException], ...]:
        """Return the errors of botocore and aiohttp, and those that s3fs makes of them."""
        botocore = importlib.import_module("botocore.exceptions")
        parsers = importlib.import_module("botocore.parsers")
        aiohttp = importlib.import_module("aiohttp")
        return (
            OSError,
            botocore.ClientError,
            botocore.BotoCoreError,
            parsers.ResponseParserError,
            aiohttp.ClientError,
        )

    def create(self, filesystem: Any, path: str, data: bytes) -> None:
        """Create an object with ``If-None-Match: *``, in one request below 1 GiB."""
        filesystem.pipe_file(path, data, mode="create", chunksize=_PART_BYTES, **_limit(data))

    def write(self, filesystem: Any, path: str, data: bytes) -> None:
        """Write an object over whatever is there."""
        filesystem.pipe_file(path, data, chunksize=_PART_BYTES, **_limit(data))

    def read(self, filesystem: Any, path: str, start: int, end: int | None) -> bytes:
        """Return an object's bytes by one GET; without any range s3fs would ask for the size first."""
        return bytes(filesystem.cat_file(path, start=start, end=end))

    def find(self, filesystem: Any, root: str, prefix: str) -> Iterable[Mapping[str, Any]]:
        """Return a listing, one request a page; with a folder in the path an empty one would cost three."""
        bucket, path = _in_bucket(root, prefix)
        return _values(filesystem.find(bucket, prefix=path, detail=True))

    def remove(self, filesystem: Any, paths: Sequence[str]) -> None:
        """Remove a thousand objects a request; s3fs's own way does not look at the errors in the answer."""
        bucket = paths[0].partition("/")[0]
        for first in range(0, len(paths), 1000):
            keys = [{"Key": path.partition("/")[2]} for path in paths[first : first + 1000]]
            answer = filesystem.call_s3(
                "delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True}
            )
            for error in answer.get("Errors", []):
                if error.get("Code") != "NoSuchKey":
                    raise _DeleteError({"Error": error})


class _DeleteError(OSError):
    """One object of a bulk delete was refused; carries the answer as botocore's errors do."""

    def __init__(self, response: dict[str, dict[str, str]]) -> None:
        super().__init__(f"{response['Error'].get('Message', '')} ({response['Error'].get('Key', '')})")
        self.response = response


class GcsDriver(Driver):
    """gcsfs without its own retries, which would last half a minute and log tracebacks."""

    is_exclusive = True
    has_suffix_ranges = True

    def connect(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a filesystem whose requests are single attempts with bounded silence, and the url's path."""
        token = options.get("token")
        if isinstance(token, str) and token.endswith(".json") and not Path(token).exists():
            raise ValueError(f"there is no file {token}")  # gcsfs would take its name for an access token
        aiohttp = importlib.import_module("aiohttp")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        filesystem = _single_attempt_gcs()(**{"requests_timeout": timeout, **options, **_UNSHARED})
        return filesystem, url.partition("://")[2]

    def errors(self) -> tuple[type[BaseException], ...]:
        """Return the errors of gcsfs, google-auth and aiohttp; a 400 with "invalid" in it is a ValueError."""
        gcsfs = importlib.import_module("gcsfs.retry")
        auth = importlib.import_module("google.auth.exceptions")
        aiohttp = importlib.import_module("aiohttp")
        return (
            OSError,
            gcsfs.HttpError,
            gcsfs.ChecksumError,
            auth.GoogleAuthError,
            aiohttp.ClientError,
            ValueError,
        )

    def create(self, filesystem: Any, path: str, data: bytes) -> None:
        """Create an object with ``ifGenerationMatch=0``, in one request whatever its size."""
        filesystem.pipe_file(path, data, mode="create", chunksize=len(data) + 1, **_limit(data))

    def write(self, filesystem: Any, path: str, data: bytes) -> None:
        """Write an object over whatever is there."""
        filesystem.pipe_file(path, data, chunksize=len(data) + 1, **_limit(data))

    def read(self, filesystem: Any, path: str, start: int, end: int | None) -> bytes:
        """Return an object's bytes by one GET."""
        if start == 0 and end is None:
            return bytes(filesystem.cat_file(path))
        return bytes(filesystem.cat_file(path, start=start, end=end))

    def find(self, filesystem: Any, root: str, prefix: str) -> Iterable[Mapping[str, Any]]:
        """Return a listing, one request a page and one more where nothing is there."""
        bucket, path = _in_bucket(root, prefix)
        return _values(filesystem.find(bucket, prefix=path, detail=True))

    def remove(self, filesystem: Any, paths: Sequence[str]) -> None:
        """Remove a hundred objects a request."""
        plain = [path for path in paths if _MAGIC.search(path) is None]
        if plain:
            with suppress(FileNotFoundError):  # none of them was there
                filesystem.rm(plain)
        super().remove(filesystem, [path for path in paths if _MAGIC.search(path) is not None])


def _single_attempt_gcs() -> Any:
    core = importlib.import_module("gcsfs.core")
    attempt = getattr(core.GCSFileSystem._request, "__wrapped__", None)
    if attempt is None:
        return core.GCSFileSystem

    async def _request(self: Any, *args: Any, data: Any = None, **kwargs: Any) -> Any:
        if isinstance(data, bytes) and len(data) > _LARGE_BODY:
            data = io.BytesIO(data)  # else aiohttp warns that it sends it all without a break
        return await attempt(self, *args, data=data, **kwargs)

    # The plain class, not the one for zonal buckets that the package shows: that one asks a gRPC service
    # about every bucket first, which no emulator has (60 s of silence) and no reader needs.
    return type("SingleAttemptGCSFileSystem", (core.GCSFileSystem,), {"_request": _request})


class AzureDriver(Driver):
    """adlfs. No server for it runs in this project's tests."""

    is_exclusive = True

    def connect(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Return a filesystem with bounded silence, and the url's path."""
        defaults = {"connection_timeout": int(_CONNECT_SECONDS), "read_timeout": int(_READ_SECONDS)}
        filesystem, root = super().connect(url, {**defaults, **options})
        # The SDK would try again for minutes, and adlfs passes no setting on.
        policy = getattr(getattr(filesystem.service_client, "_config", None), "retry_policy", None)
        if policy is not None:
            policy.total_retries = 0
        return filesystem, root

    def errors(self) -> tuple[type[BaseException], ...]:
        """Return the errors of the Azure SDK and aiohttp, and those that adlfs makes of them."""
        azure = importlib.import_module("azure.core.exceptions")
        aiohttp = importlib.import_module("aiohttp")
        return (OSError, azure.AzureError, aiohttp.ClientError, ValueError)

    def create(self, filesystem: Any, path: str, data: bytes) -> None:
        """Create a blob with ``If-None-Match: *``."""
        filesystem.pipe_file(path, data, mode="create", **_limit(data))

    def write(self, filesystem: Any, path: str, data: bytes) -> None:
        """Write a blob over whatever is there."""
        filesystem.pipe_file(path, data, **_limit(data))

    def remove(self, filesystem: Any, paths: Sequence[str]) -> None:
        """Remove blobs, eight at once."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: super(AzureDriver, self).remove(filesystem, [path]), paths))


def modified_at(info: Mapping[str, Any]) -> float:
    """Return when an object was written, in POSIX seconds; 0.0 where the filesystem does not say."""
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
    return 0.0


def _limit(data: bytes) -> dict[str, float]:
    """Return fsspec's own argument for how long a call may last."""
    return {"timeout": _STALLED_SECONDS + len(data) / _SLOWEST_BYTES_PER_SECOND}


def _in_bucket(root: str, prefix: str) -> tuple[str, str]:
    bucket, _, base = root.partition("/")
    return bucket, f"{base}/{prefix}" if base else prefix


def _values(found: Any) -> list[Mapping[str, Any]]:
    if not isinstance(found, dict):
        return []  # adlfs, where the folder is an object: nothing lies below it
    return [info for info in found.values() if info["type"] == "file"]
