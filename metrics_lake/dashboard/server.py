"""Serves the page over HTTP: this machine alone unless told otherwise, and only to who has the address."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from metrics_lake.dashboard.assets import KeptAssets
from metrics_lake.dashboard.offered import offer
from metrics_lake.errors import InvalidInputError, MetricsLakeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from types import TracebackType
    from typing import Self

    from metrics_lake import MetricsLake

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["Dashboard"]

FIRST_PORT: Final = 2718
_PORTS: Final = 50
_PAGE: Final = Path(__file__).with_name("app.py")


class Dashboard:
    """A dashboard whose address is taken already and which answers once ``run`` is called.

    Args:
        lake: What it shows; it should be opened read-only.
        host: The address to listen on.
        port: None takes the first free one from 2718 on.
        is_open: Whoever reaches the address may look; else only who has the token in ``address``.

    Raises:
        InvalidInputError: The address cannot be listened on, or is open to other machines without a token.
    """

    def __init__(
        self, lake: MetricsLake, *, host: str = "127.0.0.1", port: int | None = None, is_open: bool = False
    ) -> None:
        if is_open and not _is_loopback(host):
            raise InvalidInputError(
                f"without a token the dashboard serves this machine alone, not {host}.",
                hint="Listen on 127.0.0.1, or keep the token.",
            )
        self._lake = lake
        self._host = host
        self._token = "" if is_open else secrets.token_urlsafe(16)
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        """What to open in a browser."""
        shown = "127.0.0.1" if self._host in {"0.0.0.0", "::"} else self._host  # noqa: S104 -- asked for
        name = f"[{shown}]" if ":" in shown else shown
        return f"http://{name}:{self.port}/" + (f"?access_token={self._token}" if self._token else "")

    def run(self) -> None:
        """Serve until Ctrl-C."""
        import marimo
        import uvicorn

        offer(self._lake)
        # The browser needs a second to load the page; what the first chart needs is made ready meanwhile.
        ready = threading.Thread(target=_make_ready, args=(self._lake,))
        ready.start()
        builder = marimo.create_asgi_app(
            quiet=True, include_code=False, token=self._token or None, skew_protection=True
        )
        pages: list[Any] = []

        def keep(app: Any) -> Any:
            pages.append(app)
            return app

        served = builder.with_app(path="", root=str(_PAGE), middleware=[keep]).build()
        assets = Path(marimo.__file__).parent / "_static" / "assets"
        hosts = {"127.0.0.1", "localhost", "::1", self._host} if _is_loopback(self._host) else None
        config = uvicorn.Config(
            _SameOrigin(KeptAssets(served, assets), hosts),
            log_level="error",
            # A page's web socket stays open for as long as its tab: Ctrl-C must not wait for it.
            timeout_graceful_shutdown=1,
        )
        with suppress(KeyboardInterrupt):  # raised again by uvicorn when all is closed
            uvicorn.Server(config).run(sockets=[self._socket])
        # The threads of open pages wait for commands, and the interpreter for them: mounted applications are
        # not told that the server ends (starlette passes no lifespan on).
        for each in pages:
            asyncio.run(each.state.session_manager.shutdown())
        # A thread that is still inside of DuckDB when the interpreter ends takes the process down (SIGABRT).
        ready.join()

    def close(self) -> None:
        """Give the address free."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _SameOrigin:
    """Refuses what other sites' pages send through the user's browser.

    A request that such a page makes names it as its origin; a name that the page's owner makes point at
    127.0.0.1 (DNS rebinding) is no name of ours. marimo answers both.

    Args:
        app: What is protected.
        hosts: The names under which it is reached; None = any.
    """

    def __init__(self, app: App, hosts: set[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_own(dict(scope["headers"])):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"This page is for its own address only.\n"})

    def _is_own(self, headers: dict[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        is_ours = self._hosts is None or urlsplit(f"//{host}").hostname in self._hosts
        return is_ours and (not origin or urlsplit(origin).netloc == host)


def _make_ready(lake: MetricsLake) -> None:
    """Load what draws charts, and the summaries that the page asks for first."""
    import altair  # noqa: F401 -- seconds, on a busy machine
    from altair.utils import schemapi

    # Half of a chart's time is Altair checking each of its parts against the schema; tests draw them all.
    schemapi.disable_debug_mode()
    from metrics_lake.dashboard.catalogue import catalogue

    with suppress(MetricsLakeError):  # the page asks again, and says so
        catalogue(lake)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int | None) -> socket.socket:
    failure: OSError | None = None
    for each in (port,) if port is not None else (*range(FIRST_PORT, FIRST_PORT + _PORTS), 0):
        try:
            made = socket.create_server(
                (host, each), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
            )
        except OSError as error:  # taken, or an address of another machine
            failure = error
            continue
        # asyncio does so for the sockets that it opens itself. Without it each answer waits 40 ms for the
        # browser to acknowledge its head, and the page is 250 files.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    raise InvalidInputError(
        f"the dashboard cannot listen on {host}{'' if port is None else f' port {port}'}: "
        f"{failure.strerror if failure else ''}.",
        hint="Name another --port, or none.",
    ) from failure
