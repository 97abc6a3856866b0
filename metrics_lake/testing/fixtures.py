"""Pytest fixtures: stores of every kind, real servers included. Import the names into a ``conftest.py``.

Servers start when the first test asks for them, once for all workers of pytest-xdist, and end with the last.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from metrics_lake.storage import Storage, open_storage
from metrics_lake.testing.proxy import StoreProxy
from metrics_lake.testing.servers import GcsServer, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "any_options",
    "any_storage",
    "any_url",
    "gcs_options",
    "gcs_proxy",
    "gcs_server",
    "gcs_url",
    "local_url",
    "memory_url",
    "s3_options",
    "s3_proxy",
    "s3_server",
    "s3_url",
    "shared_folder",
]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def s3_server(shared_folder: Path) -> Iterator[S3Server]:
    """A SeaweedFS server with the bucket ``lake``."""
    with S3Server(shared_folder) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server(shared_folder: Path) -> Iterator[GcsServer]:
    """A fake-gcs-server with the bucket ``lake``."""
    with GcsServer(shared_folder) as server:
        yield server


@pytest.fixture
def s3_options(s3_server: S3Server) -> dict[str, Any]:
    """The ``storage_options`` of the identity that may do everything."""
    return s3_server.options()


@pytest.fixture
def s3_url(s3_server: S3Server) -> str:
    """A url of its own on the S3 server."""
    return s3_server.url()


@pytest.fixture
def gcs_options(gcs_server: GcsServer) -> dict[str, Any]:
    """The ``storage_options`` of the GCS server."""
    return gcs_server.options()


@pytest.fixture
def gcs_url(gcs_server: GcsServer) -> str:
    """A url of its own on the GCS server."""
    return gcs_server.url()


@pytest.fixture
def memory_url() -> str:
    """A url of its own in memory."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def local_url(tmp_path: Path) -> str:
    """A folder of its own that does not exist yet."""
    return str(tmp_path / "lake")


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[StoreProxy]:
    """A counting, failing proxy before the S3 server: ``s3_server.options(endpoint_url=s3_proxy.url)``."""
    with StoreProxy(s3_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def gcs_proxy(gcs_server: GcsServer) -> Iterator[StoreProxy]:
    """A counting, failing proxy before the GCS server: ``gcs_server.options(endpoint_url=gcs_proxy.url)``."""
    with StoreProxy(gcs_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(params=["local", "memory", "s3", "gcs"])
def any_url(request: pytest.FixtureRequest) -> str:
    """A url of its own on each kind of store, one after the other."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def any_options(any_url: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The ``storage_options`` that go with ``any_url``."""
    name = {"s3": "s3_options", "gs": "gcs_options"}.get(any_url.partition("://")[0])
    return {} if name is None else dict(request.getfixturevalue(name))


@pytest.fixture
def any_storage(any_url: str, any_options: dict[str, Any]) -> Iterator[Storage]:
    """An empty storage of each kind, one after the other."""
    with open_storage(any_url, any_options) as storage:
        yield storage
