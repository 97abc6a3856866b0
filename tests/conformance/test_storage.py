"""The rules of a storage over every kind of store."""

from typing import ClassVar

import pytest
from aiobotocore.session import AioSession

from metrics_lake.storage import open_storage
from metrics_lake.testing import CountingStorage, FaultyStorage, StorageSuite


class TestLocal(StorageSuite):
    @pytest.fixture
    def storage(self, local_url):
        return open_storage(local_url)


class TestMemory(StorageSuite):
    num_listed: ClassVar[int] = 10_500

    @pytest.fixture
    def storage(self, memory_url):
        return open_storage(memory_url)


@pytest.fixture(scope="module")
def s3_session():
    """One session reads botocore's model of S3 once: 6 ms a test in place of 100."""
    return AioSession()


class TestS3(StorageSuite):
    @pytest.fixture
    def storage(self, s3_url, s3_options, s3_session):
        with open_storage(s3_url, s3_options | {"session": s3_session}) as storage:
            yield storage


class TestGcs(StorageSuite):
    @pytest.fixture
    def storage(self, gcs_url, gcs_options):
        with open_storage(gcs_url, gcs_options) as storage:
            yield storage


class TestWrapped(StorageSuite):
    """The wrappers change nothing as long as nothing is planted."""

    @pytest.fixture
    def storage(self, memory_url):
        class Reopened(CountingStorage):
            def __reduce__(self):
                return open_storage, (self.url,)

        return Reopened(FaultyStorage(open_storage(memory_url)))
