"""Urls, options, errors, the local disk, and filesystems of any protocol: nothing here needs a server."""

import errno
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiohttp
import botocore.exceptions
import fsspec
import gcsfs.retry
import google.auth.exceptions
import pytest
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.memory import MemoryFileSystem

from metrics_lake import MetricsLake
from metrics_lake.errors import (
    InvalidInputError,
    MissingDriverError,
    ObjectNotFoundError,
    PermissionDeniedError,
    RequestRefusedError,
    StorageError,
)
from metrics_lake.storage import Creation, open_storage
from metrics_lake.storage.failures import Failure, classify, store_error
from metrics_lake.storage.options import redacted, without_secrets
from metrics_lake.storage.urls import parse_url
from metrics_lake.testing import StorageSuite

# --- urls ---


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("S3://Bucket/A", "s3://Bucket/A"),
        ("s3a://bucket/a", "s3://bucket/a"),
        ("gcs://bucket/a", "gs://bucket/a"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
        ("abfss://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("s3://KEY:s%2Fcret@bucket/a", "s3://bucket/a"),
        ("s3://bucket/a?endpoint_url=http://127.0.0.1:9000&secret=x", "s3://bucket/a"),
        ("sftp://me:word@host/lake/", "sftp://host/lake"),
        ("sftp://me@host:22/lake", "sftp://host:22/lake"),
        ("memory://", "memory://"),
        ("memory://a/", "memory://a"),
        ("memory:///a", "memory://a"),
        ("file:///a/b/../c/", "/a/c"),
        ("file:///a%20b", "/a b"),
        ("file://localhost/a", "/a"),
        ("local:///a", "/a"),
        ("/a//b/", "/a/b"),
        ("/", "/"),
    ],
)
def test_url_reads_back_in_one_form(given, url):
    assert parse_url(given).url == url


def test_local_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert open_storage("lake").url == str(tmp_path / "lake")
    assert open_storage("./a/../lake/").url == str(tmp_path / "lake")
    assert open_storage("~/lake").url == "/home/me/lake"
    assert open_storage("file://~/lake").url == "/home/me/lake"
    assert open_storage(Path("lake")).url == str(tmp_path / "lake")
    assert open_storage(tmp_path).url == str(tmp_path)
    assert list(tmp_path.iterdir()) == []  # opening makes nothing


def test_a_relative_path_in_a_deleted_directory_is_refused(tmp_path):
    program = (
        "import os, sys\n"
        "from metrics_lake import MetricsLake\n"
        "from metrics_lake.errors import InvalidInputError\n"
        "os.rmdir(os.getcwd())\n"
        "assert MetricsLake(sys.argv[1]).url == sys.argv[1]\n"
        "try: MetricsLake()\n"
        "except InvalidInputError as error: assert 'deleted' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, "/a/lake"], check=True, cwd=tmp_path)


def test_url_gives_options():
    place = parse_url("s3://k:s%2F1@bucket/a?endpoint_url=http%3A%2F%2Fhost:9&anon=false&profile=p")
    assert place.options == {
        "key": "k",
        "secret": "s/1",
        "endpoint_url": "http://host:9",
        "anon": False,
        "profile": "p",
    }
    assert "s/1" not in repr(place)
    assert parse_url("sftp://me:word@host/a").options == {"username": "me", "password": "word"}


def test_options_come_before_what_the_url_says(s3_server, s3_url, s3_options):
    url = f"{s3_url.replace('s3://', 's3://nobody:wrong@')}?endpoint_url=http://127.0.0.1:9"
    assert open_storage(url, s3_options).put_new("a", b"x") is True
    by_url = s3_url.replace("s3://", "s3://admin:admin-secret@") + f"?endpoint_url={s3_server.endpoint_url}"
    storage = open_storage(by_url)
    assert storage.get("a") == b"x"
    assert storage.url == s3_url
    assert "admin-secret" not in repr(storage)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("", ""),
        ("   ", ""),
        ("a\0b", ""),
        ("s3://", "s3://bucket/path"),
        ("gs:///path", "gs://bucket/path"),
        ("az://", "az://bucket/path"),
        ("s3://my bucket/a", ""),
        ("s3://bucket//a", ""),
        ("s3://bucket/a/../b", ""),
        ("s3:/bucket/a", "Did you mean s3://bucket/a"),
        ("file://a/b", "Did you mean file:///a/b"),
        ("file:/a/b", "Did you mean file:///a/b"),
        ("s4://bucket", "s3://"),
        ("gc://bucket", "gcs://"),
        ("memroy://a", "memory://"),
        ("https://bucket.s3.amazonaws.com/a", "endpoint_url"),
        ("simplecache::s3://bucket/a", ""),
        (7, ""),
        (None, ""),
        (b"/a", ""),
    ],
)
def test_what_is_no_url_is_refused_with_a_hint(given, hint):
    with pytest.raises(InvalidInputError) as caught:
        open_storage(given)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("s3://b/a", "s3fs", "s3"), ("gcs://b/a", "gcsfs", "gcs"), ("abfs://b/a", "adlfs", "azure")],
)
def test_missing_driver_names_its_extra(url, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDriverError) as caught:
        open_storage(url)
    assert f'pip install "metrics-lake[{extra}]"' in str(caught.value)
    assert package in str(caught.value)


def test_missing_driver_of_another_protocol_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "paramiko", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    with pytest.raises(MissingDriverError, match="paramiko"):
        open_storage("sftp://host/a")


def test_opening_is_light_and_asks_nobody():
    code = """
import sys
from metrics_lake.storage import open_storage
storage = open_storage("s3://bucket/lake", {"endpoint_url": "http://127.0.0.1:9"})
open_storage("gs://bucket/lake"), open_storage("/tmp/lake"), open_storage("memory://lake")
print(sorted({"fsspec", "s3fs", "gcsfs", "botocore", "aiohttp", "pyarrow"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_emulator_needs_no_setting_of_gcsfs(gcs_url, gcs_options):
    code = "import sys, json; from metrics_lake.storage import open_storage; "
    code += "s = open_storage(sys.argv[1], json.loads(sys.argv[2])); print(s.put_new('a', b'x'), s.list(''))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GCSFS_")}
    options = str(gcs_options).replace("'", '"')
    done = subprocess.run(
        [sys.executable, "-c", code, gcs_url, options],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )
    assert done.stdout.startswith("True [ObjectInfo(key='a', size_bytes=1")
    assert done.stderr == ""


# --- options ---


def test_secrets_stay_behind():
    session = object()
    options = {
        "key": "k",
        "secret": "s",
        "token": "t",
        "anon": False,
        "password": None,
        "endpoint_url": "http://host",
        "client_kwargs": {"region_name": "x", "aws_secret_access_key": "s"},
        "s3_additional_kwargs": {"SSECustomerKey": "c", "SSEKMSKeyId": "id"},
        "account_key": "a",
        "sas_token": "b",
        "connection_string": "c",
        "session": session,
        "retries": [1, 2],
    }
    kept, lost = without_secrets(options)
    assert kept == {
        "anon": False,
        "password": None,
        "endpoint_url": "http://host",
        "client_kwargs": {"region_name": "x"},
        "s3_additional_kwargs": {"SSEKMSKeyId": "id"},
        "retries": [1, 2],
    }
    assert set(lost) == {
        "key",
        "secret",
        "token",
        "client_kwargs.aws_secret_access_key",
        "s3_additional_kwargs.SSECustomerKey",
        "account_key",
        "sas_token",
        "connection_string",
        "session",
    }


@pytest.mark.parametrize(
    ("token", "stays"),
    [("anon", True), ("cloud", True), ("/run/key.json", True), ("ya29.abc", False), ({"a": 1}, False)],
)
def test_only_real_tokens_of_gcs_stay_behind(token, stays):
    assert ("token" in without_secrets({"token": token})[0]) is stays


def test_messages_have_no_secrets():
    text = "no: https://host/?access_token=ya29.abc&x=1 (swordfish-1) Password=hunter2"
    said = redacted(text, {"client_kwargs": {"aws_secret_access_key": "swordfish-1"}, "anon": True})
    assert said == "no: https://host/?access_token=***&x=1 (***) Password=***"


# --- what exceptions mean ---


def boto(code, status=400, **more):
    answer = {"Error": {"Code": code, "Message": "m", **more}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(answer, "PutObject")


def caused(error, cause):
    error.__cause__ = cause
    return error


FOREIGN = [
    (caused(OSError(22, "pre-condition"), boto("PreconditionFailed", 412)), Failure.EXISTS),
    (FileExistsError("x"), Failure.EXISTS),
    (caused(OSError(16, "x"), boto("ConditionalRequestConflict", 409)), Failure.TRANSIENT),
    (caused(OSError(16, "x"), boto("SlowDown", 503)), Failure.TRANSIENT),
    (boto("RequestTimeout", 400), Failure.TRANSIENT),
    (boto("InternalError", 500), Failure.TRANSIENT),
    (boto("SomethingNew", 502), Failure.TRANSIENT),
    (caused(OSError(22, "x"), boto("InvalidRange", 416)), Failure.OUT_OF_RANGE),
    (gcsfs.retry.HttpError({"code": 416, "message": ""}), Failure.OUT_OF_RANGE),
    (caused(FileNotFoundError("x"), boto("NoSuchKey", 404)), Failure.ABSENT),
    (caused(FileNotFoundError("x"), boto("404", 404)), Failure.ABSENT),
    (caused(FileNotFoundError("x"), boto("NoSuchBucket", 404)), Failure.NO_BUCKET),
    (FileNotFoundError("http://host/o/x"), Failure.ABSENT),
    (caused(PermissionError("x"), boto("AccessDenied", 403)), Failure.DENIED),
    (boto("ExpiredToken", 400), Failure.DENIED),
    (boto("SomethingNew", 403), Failure.DENIED),
    (OSError("Forbidden: http://host/o/x\nno"), Failure.DENIED),
    (gcsfs.retry.HttpError({"code": 401, "message": "Invalid Credentials"}), Failure.DENIED),
    (gcsfs.retry.HttpError({"code": 503, "message": "later"}), Failure.TRANSIENT),
    (gcsfs.retry.HttpError({"code": 429, "message": "slower"}), Failure.TRANSIENT),
    (gcsfs.retry.HttpError({"code": 400, "message": "what?"}), Failure.REFUSED),
    (ValueError("Bad Request: b/x\ninvalid bucket name"), Failure.REFUSED),
    (botocore.exceptions.NoCredentialsError(), Failure.DENIED),
    (google.auth.exceptions.DefaultCredentialsError(), Failure.DENIED),
    (botocore.exceptions.ProfileNotFound(profile="p"), Failure.REFUSED),
    (botocore.exceptions.ParamValidationError(report="r"), Failure.REFUSED),
    (boto("PermanentRedirect", 301), Failure.REFUSED),
    (boto("NotImplemented", 501), Failure.UNSUPPORTED),
    (botocore.exceptions.EndpointConnectionError(endpoint_url="u"), Failure.TRANSIENT),
    (botocore.exceptions.ReadTimeoutError(endpoint_url="u"), Failure.TRANSIENT),
    (aiohttp.ClientPayloadError("half"), Failure.TRANSIENT),
    (aiohttp.ServerDisconnectedError(), Failure.TRANSIENT),
    (FSTimeoutError(), Failure.TRANSIENT),
    (ConnectionResetError(104, "reset"), Failure.TRANSIENT),
    (OSError(5, "unheard of"), Failure.TRANSIENT),
]


@pytest.mark.parametrize(
    ("error", "failure"),
    FOREIGN,
    ids=[f"{number}-{failure.name}" for number, (_, failure) in enumerate(FOREIGN)],
)
def test_exceptions_are_classified(error, failure):
    assert classify(error) is failure


# --- the local disk ---


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def said_of(error):
    text = str(error)
    return str(
        store_error(
            classify(error), error, url="s3://b/a", bucket="b", operation="get", key="k", text=text, lost=()
        )
    )


def test_a_store_whose_clock_differs_says_so():
    assert "clock (NTP)" in said_of(boto("RequestTimeTooSkewed", 403))


def test_an_error_without_a_text_is_named():
    assert "failed: FSTimeoutError. The store" in said_of(FSTimeoutError())


def test_a_page_in_an_answer_is_cut():
    said = said_of(OSError(5, "<html>" + "x" * 10_000))
    assert "<html>xxx" in said
    assert len(said) < 1000


def test_put_is_on_the_disk_before_and_after_it_has_its_name(local_url, monkeypatch):
    events = []
    fsync, link = os.fsync, os.link

    def spied_fsync(descriptor):
        events.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def spied_link(source, target):
        assert Path(source).parent == Path(target).parent
        events.append(("link", Path(target).name))
        link(source, target)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "link", spied_link)
    storage = open_storage(local_url)
    storage.put_new("inbox/metrics/a", b"x")
    first, second, *after = [(what, ".tmp" if name.startswith(".tmp-") else name) for what, name in events]
    assert (first, second) == (("sync", ".tmp"), ("link", "a"))
    root = Path(local_url)
    assert [name for _, name in after] == ["metrics", "inbox", root.name, root.parent.name]
    events.clear()
    storage.put_new("inbox/metrics/b", b"x")
    assert [name for _, name in events[1:]] == ["b", "metrics"]  # the folders above are on the disk already
    events.clear()
    assert storage.put_new("inbox/metrics/b", b"x") is False
    assert events[-1] == ("sync", "metrics")  # its maker may have died before it synced


def test_a_listing_knows_settled_files_and_sees_what_replaces_them(local_url):
    storage = open_storage(local_url)
    for name in ("kept", "replaced", "deleted"):
        storage.put_new(f"folder/{name}", b"old")
        os.utime(storage.local_path(f"folder/{name}"), (1_000_000, 1_000_000))
    first = storage.list("folder/")
    assert storage.list("folder/") == first
    storage.put("folder/replaced", b"newer")
    storage.delete(["folder/deleted"])
    storage.put_new("folder/deleted", b"made anew")
    young = Path(storage.local_path("folder/young"))
    for size in (1, 2):
        young.write_bytes(bytes(size))  # as another engine does that writes in place
        found = {info.key.removeprefix("folder/"): info for info in storage.list("folder/")}
        assert {name: info.size_bytes for name, info in found.items()} == {
            "kept": 3, "replaced": 5, "deleted": 9, "young": size,
        }  # fmt: skip
    assert found["kept"].modified == 1_000_000
    assert found["replaced"].modified > 1_000_000


def test_half_written_files_are_not_listed_and_go_when_old(local_url):
    storage = open_storage(local_url)
    storage.put_new("inbox/a", b"x")
    old, young = Path(local_url, "inbox/.tmp-0f"), Path(local_url, "inbox/.tmp-1f")
    for path in (old, young):
        path.write_bytes(b"half")
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    assert [info.key for info in storage.list("")] == ["inbox/a"]
    assert old.exists()  # listing needs no right to delete and does not
    storage.delete(["inbox/absent"])
    assert (old.exists(), young.exists()) == (False, True)


def test_put_begins_anew_when_its_file_is_swept(local_url, monkeypatch):
    storage, link = open_storage(local_url), os.link

    def swept(source, target):
        monkeypatch.setattr(os, "link", link)
        Path(source).unlink()
        link(source, target)

    monkeypatch.setattr(os, "link", swept)
    assert storage.put_new("inbox/a", b"x") is True
    assert storage.get("inbox/a") == b"x"
    assert names(local_url) == ["inbox", "inbox/a"]


def test_empty_folders_go_with_their_last_object_and_not_under_a_writer(local_url):
    storage = open_storage(local_url)
    storage.put_new("_lake.json", b"x")
    stop = threading.Event()

    def delete():
        while not stop.is_set():
            storage.delete([info.key for info in storage.list("inbox/")])

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        for number in range(300):
            assert storage.put_new(f"inbox/metrics/date=2026-01-01/{number}", b"x") is True
    finally:
        stop.set()
        deleting.join()
    storage.delete([info.key for info in storage.list("inbox/")])
    assert names(local_url) == ["_lake.json"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_a_rename_is_exclusive(local_url, monkeypatch, number):
    def no_links(source, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    storage = open_storage(local_url)
    assert storage.honours_exclusive_create is None
    assert storage.create_exclusively_or_mark("_lake.json", b"yes", b"no") is Creation.EXCLUSIVE
    assert storage.put_new("_lake.json", b"other") is False
    assert storage.get("_lake.json") == b"yes"
    assert storage.honours_exclusive_create is True
    barrier, won = threading.Barrier(4), []

    def race(data):
        for lap in range(50):
            barrier.wait()
            won.append((lap, storage.put_new(f"a/{lap}", data)))

    racers = [threading.Thread(target=race, args=(bytes([number]),)) for number in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(lap for lap, created in won if created) == list(range(50))
    assert len(list(Path(local_url, "a").iterdir())) == 50


def test_where_nothing_is_exclusive_the_storage_says_so(local_url, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr("metrics_lake.storage.local.rename_exclusively", lambda source, target: None)
    storage = open_storage(local_url)
    assert storage.create_exclusively_or_mark("_lake.json", b"yes", b"no") is Creation.NOT_EXCLUSIVE
    assert storage.get("_lake.json") == b"no"
    assert storage.honours_exclusive_create is False
    assert storage.put_new("a", b"1") is True
    assert storage.put_new("a", b"2") is False
    assert storage.create_exclusively_or_mark("b", b"yes", b"no") is Creation.NOT_EXCLUSIVE
    assert storage.create_exclusively_or_mark("b", b"yes", b"no") is Creation.EXISTS
    assert storage.get("b") == b"no"


def test_other_failures_of_link_are_errors_and_leave_nothing(local_url, monkeypatch):
    def broken(source, target):
        raise OSError(errno.EIO, "broken disk")

    storage = open_storage(local_url)
    storage.put_new("a", b"x")
    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(StorageError, match="broken disk") as caught:
        storage.put_new("b", b"x")
    assert (caught.value.key, caught.value.operation, caught.value.retryable) == ("b", "put_new", True)
    assert caught.value.__cause__.errno == errno.EIO
    assert names(local_url) == ["a"]


@pytest.mark.parametrize("name", ["file", "file/below", "dangling", "loop", "n" * 300])
def test_where_no_folder_can_be_is_no_outage(tmp_path, name):
    (tmp_path / "file").write_text("notes")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone" / "far")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with MetricsLake(tmp_path / name) as lake, pytest.raises(RequestRefusedError, match="Name a folder"):
        lake.log_metric("run", "loss", 0.5)
    assert (tmp_path / "file").read_text() == "notes"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_said(local_url, monkeypatch, number):
    def full(descriptor, data):
        raise OSError(number, os.strerror(number))

    storage = open_storage(local_url)
    storage.put_new("a", b"x")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StorageError, match="disk is full"):
            storage.put_new("b", b"x")
        with pytest.raises(StorageError, match="disk is full"):
            storage.put("a", b"y")
    assert names(local_url) == ["a"]
    assert storage.get("a") == b"x"


def test_short_writes_are_completed(local_url, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    storage = open_storage(local_url)
    storage.put_new("a", bytes(range(100)))
    monkeypatch.undo()
    assert storage.get("a") == bytes(range(100))


def test_file_where_a_folder_should_be_is_an_error(local_url):
    storage = open_storage(local_url)
    storage.put_new("a", b"x")
    with pytest.raises(StorageError) as caught:
        storage.put_new("a/b", b"x")
    assert caught.value.key == "a/b"
    Path(local_url, "folder").mkdir()
    with pytest.raises(ObjectNotFoundError):
        storage.get("folder")


def test_unreadable_file_is_a_denial(local_url, monkeypatch):
    def denied(path, flags, mode=0o777):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    storage = open_storage(local_url)
    storage.put_new("a", b"x")
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionDeniedError, match="get of 'a'"):
        storage.get("a")


def test_foreign_names_are_listed_read_and_deleted(local_url):
    storage = open_storage(local_url)
    name = "metrics/month=2026-01/part-00000-AB c%20[1]*.snappy.parquet"
    path = Path(local_url, name)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert [info.key for info in storage.list("metrics/")] == [name]
    assert storage.get(name) == b"x"
    storage.delete([name])
    assert storage.list("") == []


def test_root_may_be_a_link_and_have_odd_characters(tmp_path):
    folder = tmp_path / "a b%20ü"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    storage = open_storage(tmp_path / "link")
    storage.put_new("a/b", b"x")
    assert open_storage(folder).get("a/b") == b"x"
    assert storage.url == str(tmp_path / "link")


# --- memory ---


def test_memory_is_what_fsspec_shows(memory_url):
    storage = open_storage(memory_url)
    storage.put_new("a/b", b"x")
    assert fsspec.filesystem("memory").cat_file(f"{memory_url}/a/b") == b"x"
    fsspec.filesystem("memory").pipe_file(f"{memory_url}/a/c", b"y")
    assert [info.key for info in storage.list("a/")] == ["a/b", "a/c"]
    assert open_storage(memory_url).get("a/c") == b"y"
    assert pickle.loads(pickle.dumps(storage)).get("a/b") == b"x"  # noqa: S301 -- our own


# --- any other protocol ---


class OtherFileSystem(MemoryFileSystem):
    """A protocol that the package knows nothing of; slow enough for races."""

    protocol = "otherfs"
    store = {}  # noqa: RUF012 -- as in fsspec
    pseudo_dirs = [""]  # noqa: RUF012 -- as in fsspec

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("otherfs://"))


@pytest.fixture
def other_url():
    fsspec.register_implementation("otherfs", OtherFileSystem, clobber=True)
    yield "otherfs://box/lake"
    OtherFileSystem.store.clear()
    OtherFileSystem.pseudo_dirs[:] = [""]


class TestOtherProtocol(StorageSuite):
    """All rules but one: creation is not exclusive, and that is said."""

    num_racers = 1

    @pytest.fixture
    def storage(self, other_url):
        return open_storage(other_url)

    def test_exclusive_creation_is_proved_and_written_down(self, storage):
        assert storage.honours_exclusive_create is False
        assert storage.create_exclusively_or_mark("_lake.json", b"yes", b"no") is Creation.NOT_EXCLUSIVE
        assert storage.get("_lake.json") == b"no"
        assert storage.create_exclusively_or_mark("_lake.json", b"yes", b"no") is Creation.EXISTS


def test_other_protocol_fails_with_our_errors(other_url, monkeypatch):
    def down(self, path, **options):
        raise ConnectionResetError(104, "reset")

    storage = open_storage(other_url)
    monkeypatch.setattr(OtherFileSystem, "cat_file", down)
    with pytest.raises(StorageError, match="reset") as caught:
        storage.get("a")
    assert (caught.value.key, caught.value.operation) == ("a", "get")
