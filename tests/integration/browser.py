"""A real headless Chromium for tests: the DevTools protocol over the browser's own pipe.

The pipe needs no port and no package, and a browser whose test process died sees its end and leaves. No name
is resolved but 127.0.0.1, so that nothing a page asks for can leave the machine; what it asked for is kept.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import queue
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium here: `apt-get install chromium` (CI does); pages were NOT tested"

_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--lang=en-US",
    "--metrics-recording-only",
    "--mute-audio",
    "--password-store=basic",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
_ANSWER_SECONDS = 60.0
# Elements of libraries keep what they show in shadow trees: these look into them.
_TOOLS = """
window.deep = (selector, root = document) => [...root.querySelectorAll('*')].flatMap(each =>
  [...(each.matches(selector) ? [each] : []), ...(each.shadowRoot ? deep(selector, each.shadowRoot) : [])]);
window.deepText = (node = document.body) => !node ? '' : [...node.childNodes].map(each =>
  each.nodeType === 3 ? each.data
  : ['SCRIPT', 'STYLE'].includes(each.tagName) ? ''
  : (each.shadowRoot ? deepText(each.shadowRoot) : '') + deepText(each)).join(' ').replace(/\\s+/g, ' ');
"""
_OWN_SCHEMES = ("data", "blob", "file", "about", "chrome", "devtools")


def chromium() -> str | None:
    """Return where Chromium is, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One browser process with a profile of its own; ``close`` ends it by its own process id."""

    def __init__(self, program: str, folder: Path) -> None:
        self._incoming, ours_read = os.pipe()
        ours_write, self._outgoing = os.pipe()
        # Chromium reads commands from descriptor 3 and writes to 4: move ours out of their way first.
        theirs_read = fcntl.fcntl(ours_write, fcntl.F_DUPFD, 10)
        theirs_write = fcntl.fcntl(ours_read, fcntl.F_DUPFD, 10)
        os.close(ours_read)
        os.close(ours_write)
        log = os.open(folder / "chromium.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.pid = os.posix_spawn(
            program,
            [program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            {**os.environ, "HOME": str(folder), "TZ": "UTC"},
            file_actions=[
                # The log first: it may be one of the descriptors that the next two take.
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, theirs_read, 3),
                (os.POSIX_SPAWN_DUP2, theirs_write, 4),
            ],
            setpgroup=0,
        )
        for descriptor in (theirs_read, theirs_write, log):
            os.close(descriptor)
        self._lock = threading.Lock()
        self._next_id = 0
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.version: str = self.call("Browser.getVersion")["product"]

    def call(self, method: str, session: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Send one command and return its result; RuntimeError if the browser refuses it."""
        number, answers = self._send(method, session, arguments)
        try:
            answer = answers.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"no answer to {method} in {_ANSWER_SECONDS:.0f} s") from None
        finally:
            self._answers.pop(number, None)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str, *, width: int = 1280, height: int = 900) -> Page:
        """Open a page in a context of its own: no cookies, no cache of others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, context, session)
        self._pages[session] = page
        page.prepare(width, height)
        page.goto(url)
        return page

    def close(self) -> None:
        """End the browser and everything that it started."""
        with contextlib.suppress(TimeoutError, RuntimeError, OSError):
            self._send("Browser.close", None, {})
        deadline = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.05)
        os.close(self._outgoing)
        self._reader.join(10)
        os.close(self._incoming)

    def _send(self, method: str, session: str | None, arguments: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            self._next_id += 1
            number = self._next_id
            answers = self._answers[number] = queue.SimpleQueue()
            message: dict[str, Any] = {"id": number, "method": method, "params": arguments}
            if session is not None:
                message["sessionId"] = session
            rest = memoryview(json.dumps(message).encode() + b"\0")
            while rest:
                rest = rest[os.write(self._outgoing, rest) :]
        return number, answers

    def _read(self) -> None:
        pending = b""
        while chunk := os.read(self._incoming, 1 << 20):
            *messages, pending = (pending + chunk).split(b"\0")
            for each in messages:
                self._take(json.loads(each))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            if (waiting := self._answers.get(message["id"])) is not None:
                waiting.put(message)
            return
        page = self._pages.get(message.get("sessionId", ""))
        if page is not None:
            page.take(message["method"], message["params"])

    def adopt(self, session: str, page: Page) -> None:
        """Give the events of a page's worker or frame to the page."""
        self._pages[session] = page
        # It waits until it is told to run, so nothing that it asks for comes before somebody listens.
        for method in ("Runtime.enable", "Network.enable", "Runtime.runIfWaitingForDebugger"):
            self._send(method, session, {})  # called by the reader: it cannot wait for answers


class Page:
    """One page and what it did; its scripts have ``deep(selector)`` and ``deepText()`` for shadow trees.

    Attributes:
        errors: Exceptions that nobody caught, and what was written to the console as an error.
        requests: Every url that was asked for, web sockets and workers among them.
    """

    def __init__(self, browser: Browser, context: str, session: str) -> None:
        self._browser = browser
        self._context = context
        self._session = session
        self.errors: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Send one DevTools command to this page."""
        return self._browser.call(method, self._session, **arguments)

    def prepare(self, width: int, height: int) -> None:
        """Listen to everything, before anything is loaded."""
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_TOOLS)
        self.resize(width, height)

    def take(self, method: str, params: dict[str, Any]) -> None:
        """Keep what an event tells."""
        if method in {"Network.requestWillBeSent", "Network.webSocketCreated"}:
            self.requests.append(params["request"]["url"] if "request" in params else params["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "assert"}:
            self.errors.append(" ".join(_text(each) for each in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}".strip())
        elif method == "Target.attachedToTarget":
            self._browser.adopt(params["sessionId"], self)

    @property
    def foreign(self) -> list[str]:
        """What was asked of anything but this machine."""
        return [url for url in self.requests if not _is_own(url)]

    def goto(self, url: str) -> None:
        """Go to an address; returns when the browser has begun to load it."""
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise RuntimeError(f"{url}: {answer['errorText']}")

    def resize(self, width: int, height: int) -> None:
        """Make the window this large."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def evaluate(self, script: str) -> Any:
        """Return the JSON value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 60.0) -> Any:
        """Return the value of an expression as soon as it is true.

        Raises:
            TimeoutError: It never was; the message shows what the page showed and the errors it had.
        """
        deadline = time.monotonic() + seconds
        while not (found := self.evaluate(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"never in {seconds:.0f} s: {script}\nerrors: {self.errors}\n"
                    f"the page showed:\n{self.text()[:2000]}"
                )
            time.sleep(0.02)
        return found

    def text(self) -> str:
        """Return all text of the page."""
        found: str = self.evaluate("deepText()")
        return found

    def shows(self, *parts: str, seconds: float = 60.0) -> None:
        """Wait until the page shows all these texts.

        Raises:
            TimeoutError: One of them it never did.
        """
        for part in parts:
            self.wait(f"deepText().includes({json.dumps(part)})", seconds)

    def click(self, script: str) -> None:
        """Click in the middle of the element that an expression gives, with the mouse."""
        x, y = self.middle(script)
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y, clickCount=1)
        self._mouse("mouseReleased", x, y, clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place of the window and release it at another, slowly enough to be seen."""
        self._mouse("mouseMoved", *start)
        self._mouse("mousePressed", *start, clickCount=1)
        for part in range(1, 11):
            x, y = (a + (b - a) * part / 10 for a, b in zip(start, end, strict=True))
            self._mouse("mouseMoved", x, y, buttons=1)
        self._mouse("mouseReleased", *end, clickCount=1)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse."""
        self._mouse("mouseMoved", x, y)

    def type(self, text: str) -> None:
        """Type where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press and release one named key, such as Enter or ArrowRight."""
        codes = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "Backspace": 8}
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def middle(self, script: str) -> tuple[float, float]:
        """Return the middle of an element, scrolled into view, in the window."""
        box = self.evaluate(
            f"(() => {{ const e = {script}; if (!e) return null; e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        if box is None:
            raise LookupError(f"no element: {script}")
        return box[0], box[1]

    def screenshot(self, path: Path | str, *, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as a PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        """Close the page and its context."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        button = {} if kind == "mouseMoved" else {"button": "left"}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button, **more)


def _text(argument: dict[str, Any]) -> str:
    return str(argument.get("value", argument.get("description", argument.get("type"))))


def _is_own(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in _OWN_SCHEMES or parts.hostname == "127.0.0.1"
