"""Where journals lie: only where this user can write, and on a network only when asked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from metrics_lake.errors import JournalError
from metrics_lake.journal import find_state_directory, host_id, state_directories, unbound_name
from metrics_lake.journal.state import is_network


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("METRICS_LAKE_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))


def test_home_is_the_place(tmp_path):
    assert find_state_directory(None) == tmp_path / "home" / ".local" / "state" / "metrics_lake"
    assert stat.S_IMODE(find_state_directory(None).stat().st_mode) == 0o700


def test_xdg_comes_before_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert find_state_directory(None) == tmp_path / "xdg" / "metrics_lake"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert find_state_directory(None) == tmp_path / "home" / ".local" / "state" / "metrics_lake"


def test_a_name_comes_before_all(tmp_path, monkeypatch):
    monkeypatch.setenv("METRICS_LAKE_STATE", str(tmp_path / "named"))
    assert find_state_directory(None) == tmp_path / "named"
    assert find_state_directory(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.chdir(tmp_path)
    assert find_state_directory("here") == tmp_path / "here"
    assert find_state_directory("~/there") == tmp_path / "home" / "there"


def test_a_named_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="METRICS_LAKE_STATE"):
        find_state_directory(tmp_path / "file")


def test_without_a_home_it_is_the_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    assert find_state_directory(None) == tmp_path / "tmp" / f"metrics_lake-{os.getuid()}"
    (tmp_path / "tmp" / f"metrics_lake-{os.getuid()}").rmdir()
    (tmp_path / "tmp" / f"metrics_lake-{os.getuid()}").symlink_to(tmp_path)
    assert find_state_directory(None) is None, "anybody could have put the link there"


def test_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "home"))
    assert find_state_directory(None) is None
    assert state_directories(None) == []


def test_where_there_is_no_temporary_folder_none_is_used(tmp_path, monkeypatch):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)  # as in a container that is read-only
    assert find_state_directory(tmp_path / "named") == tmp_path / "named"
    (tmp_path / "home").touch()
    assert find_state_directory(None) is None
    assert state_directories(None) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_home_that_is_closed_to_this_user_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "tmp").chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    program = (
        "import os, sys\n"
        "from metrics_lake.journal import find_state_directory, state_directories\n"
        "os.setuid(65534)\n"
        "assert str(find_state_directory(None)) == sys.argv[1]\n"
        "assert list(map(str, state_directories(None))) == [sys.argv[1]]\n"
    )
    there = tmp_path / "tmp" / "metrics_lake-65534"
    subprocess.run([sys.executable, "-c", program, str(there)], check=True)


def test_looking_for_journals_makes_nothing(tmp_path):
    assert state_directories(None) == []
    assert state_directories(tmp_path / "named") == []
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "named").exists()


def test_journals_are_looked_for_wherever_they_may_have_been_left(tmp_path):
    home = find_state_directory(None)
    temporary = tmp_path / "tmp" / f"metrics_lake-{os.getuid()}"
    temporary.mkdir()
    assert state_directories(None) == [home, temporary]
    assert state_directories(home) == [home]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_another_user_is_not_trusted(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    program = (
        "import os, sys\n"
        "from metrics_lake.errors import JournalError\n"
        "from metrics_lake.journal import find_state_directory, state_directories\n"
        "os.setuid(65534)\n"
        "assert state_directories(sys.argv[1]) == []\n"
        "try: find_state_directory(sys.argv[1])\n"
        "except JournalError as error: assert 'belongs to user 0' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "theirs")], check=True)


MOUNTS = r"""
21 1 8:1 / / rw - ext4 /dev/sda rw
22 21 0:5 / /home rw - nfs4 server:/home rw
23 22 8:2 / /home/local rw - xfs /dev/sdb rw
24 21 0:6 / /mnt/with\040space rw shared:1 - cifs //server/share rw
25 21 0:7 / /mnt/bücher rw - fuse.sshfs me@host: rw
26 21 0:8 / /mnt/over rw - fuse.overlayfs overlay rw
27 21 8:3 / /mnt/twice rw - ext4 /dev/sdc rw
28 27 0:9 / /mnt/twice rw - lustre x@tcp:/x rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "is_remote"),
    [
        ("/", False),
        ("/srv/x", False),
        ("/home/me/.local", True),
        ("/home", True),
        ("/homes/me", False),
        ("/home/local/me", False),
        ("/mnt/with space/x", True),
        ("/mnt/with", False),
        ("/mnt/bücher/x", True),
        ("/mnt/over/x", False),
        ("/mnt/twice", True),
    ],
)
def test_network_file_systems_are_known(tmp_path, monkeypatch, path, is_remote):
    table = tmp_path / "mountinfo"
    table.write_bytes(MOUNTS.encode() + b"29 21 0:10 / /mnt/\xff\xfe rw - ext4 x rw\n")
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    assert is_network(Path(path), table) is is_remote


def test_without_a_table_of_mounts_nothing_is_known_to_be_remote(tmp_path):
    assert not is_network(tmp_path, tmp_path / "none")


def test_a_network_home_is_used_only_when_named(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setattr("metrics_lake.journal.state.is_network", lambda path: home in path.parents)
    assert find_state_directory(None) == tmp_path / "tmp" / f"metrics_lake-{os.getuid()}"
    assert find_state_directory(home / "named") == home / "named"


def test_names():
    assert host_id() == host_id()
    assert len(host_id()) == 16
    assert unbound_name("s3://a") != unbound_name("s3://b")
    assert unbound_name("s3://a") == unbound_name("s3://a")
