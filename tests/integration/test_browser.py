"""The browser that tests look through: it sees what a page does, and all that goes wrong in it."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest
from browser import Browser, chromium

PAGE = """<!doctype html><title>small</title><button onclick="out.textContent += typed.value">add</button>
<input id="typed"><p id="out"></p><script>/*here*/</script>"""


@pytest.fixture
def serve():
    """Return a function that serves one page on this machine."""
    servers = []

    def served(html):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                is_page = self.path == "/"
                self.send_response(200 if is_page else 204)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                if is_page:
                    self.wfile.write(html.encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield served
    for server in servers:
        server.shutdown()
        server.server_close()


def test_page_is_clicked_typed_into_and_seen(open_page, serve, tmp_path):
    page = open_page(serve(PAGE), width=400, height=300)
    page.wait("document.title === 'small' && document.readyState === 'complete'")
    page.click("document.querySelector('#typed')")
    page.type("seen")
    page.click("document.querySelector('button')")
    assert page.wait("document.querySelector('#out').textContent") == "seen"
    page.screenshot(tmp_path / "small.png")
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
    assert page.evaluate("[innerWidth, innerHeight]") == [400, 300]


@pytest.mark.parametrize(
    "script",
    [
        "throw new Error('planted')",
        "console.error('planted')",
        "setTimeout(() => Promise.reject(new Error('planted')))",
        "new Worker(URL.createObjectURL(new Blob(['throw new Error(\"planted\")'])))",
    ],
)
def test_every_error_is_kept(browser, serve, script):
    page = browser.open(serve(PAGE.replace("/*here*/", script)))
    wait_for(lambda: any("planted" in error for error in page.errors))
    page.close()


@pytest.mark.parametrize(
    "script",
    [
        "fetch('http://example.com/planted').catch(() => 0)",
        "new WebSocket('ws://example.com/planted')",
        "document.write('<img src=\"https://example.com/planted.png\">')",
        "new Worker(URL.createObjectURL(new Blob([\"fetch('http://example.com/planted')\"])))",
    ],
)
def test_every_foreign_request_is_kept_and_none_arrives(browser, serve, script):
    page = browser.open(serve(PAGE.replace("/*here*/", script)))
    wait_for(lambda: any("planted" in url for url in page.foreign))
    page.close()


def test_own_requests_are_not_foreign(open_page, serve):
    page = open_page(serve(PAGE.replace("/*here*/", "fetch('/more'); new Image().src = 'data:,'")))
    wait_for(lambda: any(url.endswith("/more") for url in page.requests))


def test_wait_says_what_the_page_showed(open_page, serve):
    page = open_page(serve("<p>nothing to see</p>"))
    with pytest.raises(TimeoutError, match="nothing to see"):
        page.wait("false", seconds=0.5)


def test_closed_browser_leaves_no_process(tmp_path):
    program = chromium()
    if program is None:
        pytest.skip("no Chromium here")
    browser = Browser(program, tmp_path)
    pid = browser.pid
    browser.close()
    assert not Path(f"/proc/{pid}").exists()


def wait_for(is_so, seconds=20.0):
    """Wait until something is so."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if is_so():
            return
        pause.wait(0.05)
    raise TimeoutError(f"not in {seconds} s")
