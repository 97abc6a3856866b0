"""``metrics-lake ui`` as a process: what it prints, whom it answers, how it ends, what it leaves."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import marimo
import pytest
from served import SCRIPT, Served

from metrics_lake import MetricsLake

ASSETS = Path(marimo.__file__).parent / "_static"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A small lake that no test changes."""
    folder = tmp_path_factory.mktemp("lake") / "lake"
    with MetricsLake(folder, state_dir=tmp_path_factory.mktemp("state")) as lake:
        lake.log_series("digits/mlp-1", "loss", [0.9, 0.5, 0.3])
    return folder


def fetched(url, **headers):
    """Return the status that an address answers with, and where it lead."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 -- our own server's
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.url
    except urllib.error.HTTPError as error:
        return error.code, error.url


@pytest.fixture(scope="module")
def without_token(lake):
    """A dashboard that everybody on this machine may see."""
    with Served(lake, "--no-token") as served:
        yield served


def test_prints_an_address_and_ends_with_ctrl_c_and_writes_nothing(lake, tmp_path):
    before = sorted((path, path.stat().st_mtime_ns) for path in lake.rglob("*"))
    with Served(lake) as served:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?access_token=[\w-]{16,}", served.address)
        bare = served.address.partition("?")[0]
        assert "/auth/login" in fetched(bare)[1]
        assert "/auth/login" in fetched(f"{bare}?access_token=guessed")[1]
        assert fetched(served.address)[0] == 200
        code, messages = served.stop()
    assert code == 0
    assert messages == f"{lake} is shown until Ctrl-C at:\n"
    assert sorted((path, path.stat().st_mtime_ns) for path in lake.rglob("*")) == before
    assert not list((tmp_path / "state").rglob("*"))


def test_answers_no_other_site(without_token):
    address = without_token.address
    assert fetched(address, Origin=address.rstrip("/"))[0] == 200
    assert fetched(address, Origin="http://evil.example")[0] == 403
    assert fetched(address, Host="evil.example")[0] == 403


def test_browsers_keep_the_scripts_and_styles_of_the_page(without_token):
    address = without_token.address
    with urllib.request.urlopen(address, timeout=30) as page:  # noqa: S310
        text = page.read().decode()
    named = set(re.findall(r'(?:src|href)="\./(assets/[^"]+\.(?:js|css))"', text))
    assert {name.rpartition(".")[2] for name in named} == {"js", "css"}
    for name in named:
        with urllib.request.urlopen(address + name, timeout=30) as answer:  # noqa: S310
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["content-type"].startswith(
                "text/css" if name.endswith("css") else "text/javascript"
            )
            assert answer.read() == (ASSETS / name).read_bytes()
    head = urllib.request.Request(address + min(named), method="HEAD")  # noqa: S310
    with urllib.request.urlopen(head, timeout=30) as answer:  # noqa: S310
        assert int(answer.headers["content-length"]) == (ASSETS / min(named)).stat().st_size
        assert answer.read() == b""
    for other in ("assets/none-12345678.js", "assets/../index.html", "assets/%2e%2e/index.html"):
        assert fetched(address + other)[0] == 404


def test_web_socket_answers_no_other_site(without_token):
    host = without_token.address.split("/")[2]
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=30) as connection:
        connection.sendall(
            f"GET /ws?session_id=s HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


def test_listens_on_one_address_of_this_machine(without_token):
    port = int(without_token.address.rstrip("/").rpartition(":")[2])
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", port))


def ran(*arguments):
    """Run the command to its end."""
    return subprocess.run(
        [SCRIPT, "ui", *map(str, arguments)], capture_output=True, text=True, timeout=90, env={**os.environ}
    )


def test_url_without_a_lake_is_told_before_anything_is_served(tmp_path):
    answer = ran("--url", tmp_path / "nothing")
    assert (answer.returncode, answer.stdout) == (3, "")
    assert "there is no lake" in answer.stderr


def test_port_in_use_is_named(lake):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = ran("--url", lake, "--port", port)
    assert answer.returncode == 2
    assert f"port {port}" in answer.stderr


def test_other_machines_need_the_token(lake):
    answer = ran("--url", lake, "--host", "192.0.2.1", "--no-token")
    assert answer.returncode == 2
    assert "this machine alone" in answer.stderr


def test_missing_package_is_told_with_the_pip_line(lake):
    program = (
        "import sys; sys.modules['marimo'] = None\n"
        f"from metrics_lake.cli import main; sys.exit(main(['ui', '--url', {str(lake)!r}]))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90)
    assert answer.returncode == 1
    assert 'pip install "metrics-lake[cli,ui]"' in answer.stderr
