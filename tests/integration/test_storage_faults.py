"""Races, lost answers, outages, missing rights, full disks, forks and kills."""

import errno
import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from metrics_lake.errors import (
    BucketNotFoundError,
    InvalidInputError,
    ObjectNotFoundError,
    PermissionDeniedError,
    RequestRefusedError,
    StorageError,
)
from metrics_lake.storage import Creation, open_storage

RACES = 200
REMOTE_RACES = 30


def run_python(code, *arguments, check=True):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
    )


@pytest.fixture(params=["s3", "gcs"])
def remote(request):
    """A storage and the proxy before it."""
    return request.getfixturevalue(request.param), request.getfixturevalue(f"{request.param}_proxy")


# --- races ---


def test_threads_race_for_one_key_and_one_wins(any_storage):
    racers = 4
    barrier = threading.Barrier(racers)
    races = REMOTE_RACES if any_storage.is_remote else RACES

    def race(number):
        won = []
        for lap in range(races):
            barrier.wait()
            won.append(any_storage.put_new(f"race/{lap}", bytes([number]) * 2_000))
        return won

    with ThreadPoolExecutor(racers) as pool:
        laps = list(zip(*pool.map(race, range(racers)), strict=True))
    assert [sum(lap) for lap in laps] == [1] * races
    contents = any_storage.get_many([(f"race/{lap}", 0, 9_999) for lap in range(races)])
    assert contents == [bytes([lap.index(True)]) * 2_000 for lap in laps]


def race_in_process(storage, number, races, barrier, results):
    won = []
    for lap in range(races):
        barrier.wait(30)
        won.append(storage.put_new(f"race/{lap}", bytes([number]) * 2_000))
    results.put((number, won))


@pytest.mark.parametrize("any_url", ["local", "s3", "gcs"], indirect=True)
def test_forked_processes_race_for_one_key_and_one_wins(any_storage):
    any_storage.put_new("before/fork", b"x")  # the parent's connections are there and stay its own
    context, racers = multiprocessing.get_context("fork"), 3
    races = REMOTE_RACES if any_storage.is_remote else RACES
    barrier, results = context.Barrier(racers), context.Queue()
    workers = [
        context.Process(target=race_in_process, args=(any_storage, number, races, barrier, results))
        for number in range(racers)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what this is about
        for worker in workers:
            worker.start()
    laps = list(zip(*(won for _, won in sorted(results.get(timeout=60) for _ in workers)), strict=True))
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * racers
    assert [sum(lap) for lap in laps] == [1] * races
    contents = any_storage.get_many([(f"race/{lap}", 0, 9_999) for lap in range(races)])
    assert contents == [bytes([lap.index(True)]) * 2_000 for lap in laps]


# --- answers that get lost ---


@pytest.mark.parametrize("kind", ["lost", "answer_after", "duplicate"])
def test_own_put_that_arrived_reads_as_existing(remote, kind):
    storage, proxy = remote
    proxy.inject(kind, "PUT", status=500)
    assert storage.put_new("a", b"mine") is False
    assert storage.get("a") == b"mine"


@pytest.mark.parametrize(
    ("kind", "status"), [("reset", 0), ("answer", 503), ("answer", 500), ("answer", 409)]
)
def test_put_that_never_arrived_is_sent_again(remote, kind, status):
    storage, proxy = remote
    proxy.inject(kind, "PUT", status=status, times=2)
    assert storage.put_new("a", b"mine") is True
    assert proxy.count()["PUT"] == 3
    assert storage.get("a") == b"mine"


def test_put_that_lost_a_race_after_a_conflict_says_so(s3, s3_proxy, s3_server):
    rival = open_storage(s3.url, s3_server.options())
    rival.put_new("a", b"theirs")
    s3_proxy.inject("answer", "PUT", status=409)
    assert s3.put_new("a", b"mine") is False
    assert s3.get("a") == b"theirs"


@pytest.mark.parametrize("kind", ["reset", "lost", "truncate", "answer"])
def test_reads_are_tried_again(remote, kind):
    storage, proxy = remote
    storage.put_new("inbox/a", bytes(range(256)) * 100)
    proxy.inject(kind, "GET", times=2)
    assert storage.get("inbox/a") == bytes(range(256)) * 100
    proxy.inject(kind, "LIST", times=1)
    assert [info.key for info in storage.list("inbox/")] == ["inbox/a"]


def test_only_the_failed_ranges_are_fetched_again(remote):
    storage, proxy = remote
    for number in range(10):
        storage.put_new(f"a/{number}", bytes([number]) * 100)
    proxy.reset()
    proxy.inject("reset", "GET", key="a/3")
    proxy.inject("truncate", "GET", key="a/7")
    found = storage.get_many([(f"a/{number}", 0, 50) for number in range(10)])
    assert found == [bytes([number]) * 50 for number in range(10)]
    assert proxy.count()["GET"] == 12


def test_a_store_that_gives_something_at_every_attempt_is_not_given_up(remote):
    storage, proxy = remote
    for number in range(7):
        storage.put_new(f"a/{number}", bytes([number]) * 100)
    for number in range(1, 7):
        proxy.inject("answer", "GET", key=f"a/{number}", status=503, times=number)
    found = storage.get_many([(f"a/{number}", 0, 50) for number in range(7)])
    assert found == [bytes([number]) * 50 for number in range(7)]
    proxy.inject("answer", "GET", key="a/3", status=503, times=None)
    with pytest.raises(StorageError) as caught:
        storage.get_many([(f"a/{number}", 0, 50) for number in range(7)])
    assert caught.value.retryable is True


def test_deletes_are_tried_again(remote):
    storage, proxy = remote
    storage.put_new("a", b"x")
    proxy.inject("lost", "DELETE")
    storage.delete(["a"])
    assert storage.list("") == []


def test_body_that_never_comes_whole_is_an_error(s3, s3_proxy):
    s3.put_new("a", bytes(10_000))
    s3_proxy.inject("truncate", "GET", times=None)
    with pytest.raises(StorageError) as caught:
        s3.get("a")
    assert caught.value.retryable is True


# --- exclusive creation ---


def test_store_that_ignores_the_condition_is_found_out(s3_server, s3_proxy):
    s3 = open_storage(f"s3://open/{uuid.uuid4().hex}", {"anon": True, "endpoint_url": s3_proxy.url})
    s3_proxy.inject("ignore_condition", "PUT", times=None)
    assert s3.create_exclusively_or_mark("_lake.json", b"exclusive", b"append only") is Creation.NOT_EXCLUSIVE
    assert s3.get("_lake.json") == b"append only"
    assert s3.honours_exclusive_create is False
    assert s3_proxy.count() == {"PUT": 2, "GET": 1}


def test_store_that_refuses_the_condition_is_used_without(s3, s3_proxy):
    s3_proxy.inject("answer", "PUT", status=501, times=1)
    assert s3.create_exclusively_or_mark("_lake.json", b"exclusive", b"append only") is Creation.NOT_EXCLUSIVE
    assert s3.get("_lake.json") == b"append only"
    s3_proxy.inject("answer", "PUT", status=501, times=1)
    assert s3.put_new("_lake.json", b"other") is False
    s3_proxy.inject("answer", "PUT", status=501, times=1)
    assert s3.put_new("inbox/a", b"x") is True
    assert s3.honours_exclusive_create is False


def test_proof_survives_a_lost_answer(s3, s3_proxy):
    s3_proxy.inject("lost", "PUT")
    assert s3.create_exclusively_or_mark("_lake.json", b"exclusive", b"append only") is Creation.EXISTS
    assert s3.get("_lake.json") == b"exclusive"


# --- outages ---


@contextmanager
def silent_server():
    """Something that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def seconds_until_error(storage):
    begun = time.monotonic()
    with pytest.raises(StorageError) as caught:
        storage.put_new("inbox/a", b"x")
    assert caught.value.retryable is True
    assert caught.value.operation == "put_new"
    return time.monotonic() - begun


S3_OPTIONS = {"key": "admin", "secret": "admin-secret", "client_kwargs": {"region_name": "us-east-1"}}
GCS_OPTIONS = {"token": "anon", "project": "test"}


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid:9000"])
def test_unreachable_store_fails_within_seconds(endpoint):
    storages = [
        open_storage("s3://lake/x", S3_OPTIONS | {"endpoint_url": endpoint}),
        open_storage("gs://lake/x", GCS_OPTIONS | {"endpoint_url": endpoint}),
    ]
    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(seconds_until_error, storages)) < 12


def test_silent_store_fails_within_seconds():
    with silent_server() as endpoint:
        storages = [
            open_storage("s3://lake/x", S3_OPTIONS | {"endpoint_url": endpoint}),
            open_storage("gs://lake/x", GCS_OPTIONS | {"endpoint_url": endpoint}),
        ]
        with ThreadPoolExecutor(2) as pool:
            assert 10 < max(pool.map(seconds_until_error, storages)) < 25


def test_users_own_timeouts_are_kept():
    with silent_server() as endpoint:
        config = {"config_kwargs": {"read_timeout": 0.2}}
        assert (
            seconds_until_error(open_storage("s3://lake/x", S3_OPTIONS | config | {"endpoint_url": endpoint}))
            < 10
        )


def test_attempts_are_not_multiplied_by_the_drivers(remote):
    storage, proxy = remote
    proxy.inject("answer", "PUT", status=503, times=None)
    with pytest.raises(StorageError) as caught:
        storage.put_new("a", b"x")
    assert caught.value.retryable is True
    assert proxy.count()["PUT"] == 4


def test_store_comes_back_and_is_used_again(remote):
    storage, proxy = remote
    storage.put_new("a", b"x")
    proxy.outage()
    with pytest.raises(StorageError):
        storage.put_new("b", b"x")
    proxy.heal()
    assert storage.put_new("b", b"x") is True
    assert [info.key for info in storage.list("")] == ["a", "b"]


# --- rights and places ---


def test_reader_may_read_and_nothing_else(s3_server, s3_url):
    open_storage(s3_url, s3_server.options()).put_new("inbox/a", b"x")
    reader = open_storage(s3_url, s3_server.options("reader"))
    assert reader.get("inbox/a") == b"x"
    assert [info.key for info in reader.list("inbox/")] == ["inbox/a"]
    for operation, call in {
        "put_new": lambda: reader.put_new("inbox/b", b"x"),
        "put": lambda: reader.put("inbox/b", b"x"),
        "delete": lambda: reader.delete(["inbox/a"]),
    }.items():
        with pytest.raises(PermissionDeniedError) as caught:
            call()
        error = caught.value
        assert (error.operation, error.bucket, error.retryable) == (operation, "lake", False)
        assert operation in str(error)
        assert "'inbox/" in str(error)
        assert "right to" in str(error)
    assert [info.key for info in reader.list("inbox/")] == ["inbox/a"]


def test_writer_needs_no_right_to_list(s3_server, s3_url):
    writer = open_storage(s3_url, s3_server.options("writer"))
    assert writer.create_exclusively_or_mark("_lake.json", b"yes", b"no") is Creation.EXCLUSIVE
    assert writer.put_new("inbox/a", b"x") is True
    assert writer.put_new("inbox/a", b"y") is False
    assert writer.get("inbox/a") == b"x"
    with pytest.raises(PermissionDeniedError, match="LIST"):
        writer.list("inbox/")


def test_denied_delete_of_many_is_not_taken_for_done(s3_server, s3_url):
    open_storage(s3_url, s3_server.options()).put_new("a", b"x")
    with pytest.raises(PermissionDeniedError):
        open_storage(s3_url, s3_server.options("reader")).delete(["absent", "a", "b"])


def test_wrong_credentials_are_said_without_the_secret(s3_server, s3_url):
    wrong = s3_server.options() | {"secret": "not-the-secret-at-all"}
    with pytest.raises(PermissionDeniedError, match="credentials") as caught:
        open_storage(s3_url, wrong).get("a")
    assert caught.value.status == "SignatureDoesNotMatch"
    assert "not-the-secret-at-all" not in f"{caught.value!s}{caught.value!r}{caught.value.context}"


def test_no_credentials_at_all(s3_server, s3_url, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(PermissionDeniedError, match="credentials"):
        open_storage(s3_url, {"endpoint_url": s3_server.endpoint_url}).get("a")


def test_a_file_of_credentials_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InvalidInputError, match=r"there is no file .*key\.json"):
        open_storage("gs://lake/a", {"token": str(tmp_path / "key.json")}).get("a")


def test_expired_token_is_a_denial(s3, s3_proxy):
    s3_proxy.inject("answer", "GET", status=400)
    with pytest.raises(PermissionDeniedError) as caught:
        s3.get("a")
    assert caught.value.status == "ExpiredToken"


def test_missing_bucket_is_said_and_not_made(s3_server, gcs_server):
    for storage in (
        open_storage("s3://no-such-bucket/lake", s3_server.options("reader")),
        open_storage("gs://no-such-bucket/lake", gcs_server.options()),
    ):
        with pytest.raises(BucketNotFoundError, match="no-such-bucket") as caught:
            storage.list("")
        assert caught.value.retryable is False
        assert "Create the bucket" in str(caught.value)
    with pytest.raises(BucketNotFoundError):
        open_storage("gs://no-such-bucket/lake", gcs_server.options()).put_new("a", b"x")
    with pytest.raises(BucketNotFoundError):
        open_storage("s3://no-such-bucket/lake", s3_server.options()).get("a")


def test_impossible_bucket_and_options_are_refused(s3_server):
    with pytest.raises(RequestRefusedError):
        open_storage("s3://a*b/lake", s3_server.options()).get("a")
    for options in (
        {"no_such_option": 1},
        {"client_kwargs": {"no_such_option": 1}},
        {"config_kwargs": {"nope": 1}},
    ):
        with pytest.raises(InvalidInputError, match="storage_options"):
            open_storage("s3://lake/x", s3_server.options() | options).get("a")


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_bucket_itself_can_be_the_lake(request, kind):
    server = request.getfixturevalue(f"{kind}_server")
    storage, folder = open_storage(server.url().rpartition("/")[0], server.options()), uuid.uuid4().hex
    storage.put_new(f"{folder}/a", b"x")
    assert [info.key for info in storage.list(f"{folder}/")] == [f"{folder}/a"]
    assert f"{folder}/a" in {info.key for info in storage.list("")}
    assert storage.get(f"{folder}/a") == b"x"
    storage.delete([f"{folder}/a"])
    assert storage.list(folder) == []


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_foreign_names_are_listed_read_and_deleted(request, kind):
    server = request.getfixturevalue(f"{kind}_server")
    url, name = server.url(), "metrics/month=2026-01/part-00000 AB%20c,+@[1]*#.snappy.parquet"
    storage = open_storage(url, server.options())
    storage.put_new("metrics/month=2026-01/part-00000", b"mine")
    storage._driver.write(storage._connect().filesystem, f"{url.partition('://')[2]}/{name}", b"theirs")
    assert [info.key for info in storage.list("metrics/")] == ["metrics/month=2026-01/part-00000", name]
    assert storage.get(name) == b"theirs"
    assert storage.get_many([(name, 1, 3)]) == [b"he"]
    storage.delete([name])
    assert [info.key for info in storage.list("")] == ["metrics/month=2026-01/part-00000"]


def test_error_keeps_its_one_cause(s3):
    with pytest.raises(ObjectNotFoundError) as caught:
        s3.get("absent")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert not isinstance(caught.value.__cause__, StorageError)


# --- the local disk ---


def test_full_disk_leaves_no_part_of_an_object(local_url):
    code = """
        import json, resource, sys
        from metrics_lake.errors import StorageError
        from metrics_lake.storage import open_storage

        storage = open_storage(sys.argv[1])
        storage.put_new("small", b"x" * 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        said = []
        for call in (storage.put_new, storage.put):
            try:
                call("inbox/large", b"x" * 200_000)
            except StorageError as error:
                said.append([str(error), error.retryable, error.__cause__.errno])
        said.append(storage.put_new("inbox/other", b"x" * 1000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.append(storage.put_new("inbox/large", b"x" * 200_000))
        print(json.dumps(said))
    """
    first, second, other, again = json.loads(run_python(code, local_url).stdout)
    for text, retryable, number in (first, second):
        assert "disk is full" in text
        assert "'inbox/large'" in text
        assert (retryable, number) == (True, errno.EFBIG)
    assert (other, again) == (True, True)
    assert {path.name for path in Path(local_url).rglob("*") if path.is_file()} == {"small", "other", "large"}


def test_folder_without_rights_is_said(local_url):
    open_storage(local_url).put_new("inbox/a", b"x")
    for path in (Path(local_url), Path(local_url, "inbox")):
        path.chmod(0o555)
    code = """
        import os, sys
        from metrics_lake.errors import PermissionDeniedError
        from metrics_lake.storage import open_storage

        if os.geteuid() == 0:
            os.seteuid(65534)  # root may do everything
        storage = open_storage(sys.argv[1])
        for call in (lambda: storage.put_new("inbox/b", b"x"), lambda: storage.delete(["inbox/a"])):
            try:
                call()
            except PermissionDeniedError as error:
                print(error)
    """
    for folder in [Path(local_url), *Path(local_url).parents]:
        if folder.is_relative_to(Path(local_url).parents[2]):
            folder.chmod(0o755)
    Path(local_url, "inbox").chmod(0o555)
    said = run_python(code, local_url).stdout.splitlines()
    Path(local_url, "inbox").chmod(0o755)
    assert ["put_new of 'inbox/b'" in said[0], "delete of 'inbox/a'" in said[1]] == [True, True]


def test_killed_writers_leave_whole_objects_only(local_url):
    code = """
        import sys
        from metrics_lake.storage import open_storage

        storage = open_storage(sys.argv[1])
        for number in range(10_000):
            storage.put_new(f"inbox/{sys.argv[2]}/{number}", bytes([number % 256]) * 300_000)
            print(number, flush=True)
    """
    storage, acknowledged = open_storage(local_url), {}
    for kill in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), local_url, str(kill)],
            stdout=subprocess.PIPE,
            text=True,
        )
        writer.stdout.readline()
        time.sleep(0.02 * kill)
        writer.kill()
        rest = writer.communicate(timeout=30)[0].split()
        acknowledged[kill] = int(rest[-1]) if rest else 0
    found = {info.key: info.size_bytes for info in storage.list("")}
    assert set(found.values()) == {300_000}
    for kill, last in acknowledged.items():
        for number in range(last + 1):
            assert storage.get(f"inbox/{kill}/{number}", -1) == bytes([number % 256])
    assert all(".tmp-" not in key for key in found)


# --- processes ---


@pytest.mark.parametrize("any_url", ["local", "memory", "s3", "gcs"], indirect=True)
def test_fork_leaves_the_parents_connections_alone(any_storage):
    any_storage.put_new("inbox/parent", b"x")
    for _ in range(3):
        child = os.fork()
        if child == 0:  # what a forked worker does, and a normal end with all finalizers
            try:
                ok = any_storage.get("inbox/parent") == b"x"
                ok = ok and len(any_storage.list("inbox/")) == 1
                any_storage.close()
            finally:
                os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        begun = time.monotonic()
        assert any_storage.get("inbox/parent") == b"x"
        assert time.monotonic() - begun < 3


def test_forked_child_ends_without_waiting_for_the_parents_loop(s3_server, gcs_server):
    code = """
        import json, os, sys
        import fsspec.asyn
        from metrics_lake.storage import open_storage

        storages = [open_storage(url, options) for url, options in json.loads(sys.argv[1])]
        for storage in storages:
            storage.put_new("a", b"parent")
        parents_loop = fsspec.asyn.get_loop()
        child = os.fork()
        if child == 0:
            # Finalizers wait a second and more for a loop that seems to run, and touch what it shares.
            assert (parents_loop.is_closed(), parents_loop.is_running()) == (True, False)
            assert [storage.get("a") for storage in storages] == [b"parent"] * 2
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (parents_loop.is_closed(), parents_loop.is_running()) == (False, True)
        for _ in range(20):
            assert [storage.get("a") for storage in storages] == [b"parent"] * 2
    """
    places = [(server.url(), server.options()) for server in (s3_server, gcs_server)]
    done = run_python(code, json.dumps(places))
    assert done.stderr == ""


def test_pickle_has_no_secret_and_says_so_where_it_matters(s3_server, s3_url, monkeypatch):
    storage = open_storage(s3_url, s3_server.options())
    storage.put_new("a", b"x")
    pickled = pickle.dumps(storage)
    assert b"admin-secret" not in pickled
    received = pickle.loads(pickled)  # noqa: S301 -- our own
    with pytest.raises(PermissionDeniedError, match="never pickled") as caught:
        received.get("a")
    assert "key, secret" in str(caught.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "admin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "admin-secret")
    assert pickle.loads(pickled).get("a") == b"x"  # noqa: S301 -- our own


def test_pickle_travels_to_a_spawned_process(local_url, gcs_url, gcs_options):
    storages = [open_storage(local_url), open_storage(gcs_url, gcs_options)]
    for storage in storages:
        storage.put_new("a", b"x")
    code = "import pickle, sys; print([one.get('a') for one in pickle.loads(bytes.fromhex(sys.argv[1]))])"
    assert run_python(code, pickle.dumps(storages).hex()).stdout == "[b'x', b'x']\n"


def test_calls_in_an_event_loop_and_from_signal_handlers_work(s3_url, s3_options):
    import asyncio

    storage = open_storage(s3_url, s3_options)

    async def use():
        return storage.put_new("a", b"x"), await asyncio.to_thread(storage.get, "a")

    assert asyncio.run(use()) == (True, b"x")
    heard = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: heard.append(storage.get("a")))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        storage.get("a")
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert heard == [b"x"]


# --- the servers themselves ---


def test_servers_end_when_their_last_user_is_killed(tmp_path):
    code = """
        import sys, time
        from pathlib import Path
        from metrics_lake.testing.servers import GcsServer, S3Server

        with S3Server(Path(sys.argv[1])) as s3, GcsServer(Path(sys.argv[1])) as gcs:
            print(s3.endpoint_url, gcs.endpoint_url, flush=True)
            time.sleep(600)
    """
    users = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    with users[0], users[1]:
        lines = {user.stdout.readline() for user in users}
        assert len(lines) == 1  # both share the servers
        ports = [int(url.rpartition(":")[2]) for url in lines.pop().split()]
        users[0].kill()
        users[0].wait(10)
        time.sleep(1)
        assert all(map(listens, ports))
        users[1].kill()
        deadline = time.monotonic() + 15
        while any(map(listens, ports)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(listens, ports))
    while list(tmp_path.rglob("state.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(tmp_path.rglob("state.json")) == []


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
