"""A proxy before an object store that counts requests on the wire and makes them fail.

It passes everything through as it came, the ``Host`` header too, so that signatures stay valid.
"""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["ProxyFault", "ProxyFaultKind", "Seen", "StoreProxy"]

ProxyFaultKind = Literal[
    "latency", "reset", "answer", "answer_after", "lost", "truncate", "stale", "duplicate", "ignore_condition"
]
"""What the wire does to one request.

====================  ===================================================================================
``latency``           it waits ``seconds`` first
``reset``             the connection breaks before the request reaches the store
``answer``            the store never sees it; the answer is ``status``
``answer_after``      the store does it; the answer is ``status`` all the same
``lost``              the store does it; the connection breaks before the answer
``truncate``          half of the answer's body, then the connection breaks
``stale``             a listing is answered as the same listing was last time
``duplicate``         the store gets it twice; the second answer is passed on
``ignore_condition``  without ``If-None-Match``, as old clones of S3 read it
====================  ===================================================================================
"""

_HOP_HEADERS: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})
_CODES: Final = {400: "ExpiredToken", 403: "AccessDenied", 409: "ConditionalRequestConflict"} | {
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
}
_GCS_OBJECT: Final = re.compile(r"/b/[^/]+/o/.")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that came.

    Attributes:
        verb: ``PUT``, ``GET``, ``HEAD``, ``LIST``, ``DELETE`` or ``OTHER``.
        path: Its path, decoded.
        query: Its query as it came.
        headers: Its headers.
        size_bytes: The length of its body.
        fault: The kind of the fault that met it, or "".
    """

    verb: str
    path: str
    query: str
    headers: Mapping[str, str]
    size_bytes: int
    fault: str


@dataclass(frozen=True, slots=True)
class ProxyFault:
    """One thing that goes wrong on the wire.

    Attributes:
        kind: What.
        verb: Which requests; None is all.
        key: A part of the path or query that they have.
        times: How many of them; None is all from now on.
        status: The HTTP status of ``answer`` and ``answer_after``.
        seconds: How long ``latency`` takes.
    """

    kind: ProxyFaultKind
    verb: str | None = None
    key: str = ""
    times: int | None = 1
    status: int = 503
    seconds: float = 0.0


class StoreProxy:
    """A proxy on a port of its own, in a thread of its own, while its ``with`` block lasts.

    Args:
        target: The store's address, ``http://host:port``.

    Attributes:
        url: The proxy's address: use it as ``endpoint_url``.
        requests: What came since the last ``reset``.
        faults: What goes wrong, in this order as far as the requests fit.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.requests: list[Seen] = []
        self.faults: list[ProxyFault] = []
        self._lock = threading.Lock()
        self._listings: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store-proxy", daemon=True)
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def inject(self, kind: ProxyFaultKind, verb: str | None = None, **more: object) -> None:
        """Add a fault; ``more`` are the fields of ``ProxyFault``."""
        with self._lock:
            self.faults.append(replace(ProxyFault(kind, verb), **more))  # type: ignore[arg-type]  # its fields

    def outage(self) -> None:
        """Break every connection from now on, until ``heal``."""
        self.inject("reset", times=None)

    def heal(self) -> None:
        """Let everything through from now on."""
        with self._lock:
            self.faults.clear()

    def reset(self) -> None:
        """Forget what came."""
        with self._lock:
            self.requests.clear()

    def count(self) -> Counter[str]:
        """Return how many requests of each verb came."""
        with self._lock:
            return Counter(seen.verb for seen in self.requests)

    async def _open(self) -> None:
        self._client = aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(limit=0, force_close=False)
        )
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, auto_decompress=False, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path, _, query = request.raw_path.partition("?")
        verb = _verb(request.method, path, query)
        fault = self._take(verb, unquote(path), query)
        kind = "" if fault is None else fault.kind
        with self._lock:
            self.requests.append(Seen(verb, unquote(path), query, request.headers, len(body), kind))
        if fault is not None and kind == "latency":
            await asyncio.sleep(fault.seconds)
        if kind == "reset":
            return _break(request)
        if fault is not None and kind == "answer":
            return _refusal(fault.status)
        if kind == "stale" and query in self._listings:
            return _response(*self._listings[query])
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_HEADERS}
        if kind == "ignore_condition":
            headers = {name: value for name, value in headers.items() if name.lower() != "if-none-match"}
        for _ in range(2 if kind == "duplicate" else 1):
            answer = await self._forward(request, headers, body)
        if verb == "LIST":
            self._listings[query] = answer
        if kind == "lost":
            return _break(request)
        if fault is not None and kind == "answer_after":
            return _refusal(fault.status)
        if kind == "truncate":
            return await _half(request, *answer)
        return _response(*answer)

    async def _forward(
        self, request: web.Request, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if self._client is None:
            raise web.HTTPServiceUnavailable
        async with self._client.request(
            request.method,
            URL(self.target + request.raw_path, encoded=True),
            headers=headers,
            data=io.BytesIO(body) if body or request.method in ("PUT", "POST") else None,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_HEADERS}
            return answer.status, kept, content

    def _take(self, verb: str, path: str, query: str) -> ProxyFault | None:
        with self._lock:
            for index, fault in enumerate(self.faults):
                if fault.verb in (None, verb) and (fault.key in path or fault.key in query):
                    if fault.times is not None:
                        left = fault.times - 1
                        self.faults[index : index + 1] = [replace(fault, times=left)] if left else []
                    return fault
        return None


def _verb(method: str, path: str, query: str) -> str:
    if path.startswith(("/storage/v1/", "/download/", "/upload/", "/batch/")):
        if method == "GET" and "alt=media" not in query:
            return "HEAD" if _GCS_OBJECT.search(path) else "LIST"
        return "PUT" if method == "POST" and path.startswith("/upload/") else method
    if method == "GET" and "list-type=" in query:
        return "LIST"
    if method == "POST" and re.search(r"(?:^|&)delete(?:=|&|$)", query):
        return "DELETE"
    return method if method in ("PUT", "GET", "HEAD", "DELETE") else "OTHER"


def _response(status: int, headers: dict[str, str], body: bytes) -> web.Response:
    # A HEAD's Content-Length is the object's.
    return web.Response(status=status, headers=headers, body=body or None)


def _refusal(status: int) -> web.Response:
    code = _CODES.get(status, "Planted")
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>planted</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def _break(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _half(
    request: web.Request, status: int, headers: dict[str, str], body: bytes
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers | {"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
