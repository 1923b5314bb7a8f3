"""The web server: uvicorn in its own thread, with limits that uvicorn lacks, and the application."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from streamseg.core.errors import SinkError, UsageError, one_line
from streamseg.core.latency import Percentiles
from streamseg.web.access import Access, Guard
from streamseg.web.client import MAX_BYTES_PER_S, MAX_FRAGMENTS
from streamseg.web.hub import Hub
from streamseg.web.status import MeasuredStream, Metrics

FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "link.js": "text/javascript; charset=utf-8",
    "awake.js": "text/javascript; charset=utf-8",
    "clock.js": "text/javascript; charset=utf-8",
    "figures.js": "text/javascript; charset=utf-8",
    "picture.js": "text/javascript; charset=utf-8",
    "states.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""All files of the page of one stream, with their types."""
WALL_FILES = {
    "wall.html": "text/html; charset=utf-8",
    "wall.css": "text/css; charset=utf-8",
    "wall.js": "text/javascript; charset=utf-8",
}
"""The files that the page of all streams has besides."""
FIRST_REQUEST_S = 2.0
"""Time that a new connection has for its first whole request: longer only serves those that hold places."""
HTTP_S = 10.0
"""Longest life of a plain HTTP connection: our answers are small, and it ends clients that trickle bytes."""
_STUCK_MS = 5000
"""Time after which the kernel ends a connection whose peer acknowledges nothing or has no room."""
_START_S = 10.0
_GRACE_S = 0.35
"""Time that connections get to end on their own when the server closes."""
_CLOSE_S = 2.0
_FAREWELL_S = 1.0
"""Time in which a page has to receive the reason for its end; then its connection is cut."""


class Server:
    """Serves an application on a bound socket until :meth:`close`.

    ``opened`` and ``closed`` are called on the event loop, first and last. ``connections`` is the maximum
    number of open connections, ``message`` that of bytes in a WebSocket message. Raises SinkError if the
    server does not start.
    """

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        *,
        connections: int,
        message: int,
        opened: Callable[[], None],
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        self._server = uvicorn.Server(_config(app, connections, message))
        self._listening = listening
        self._opened, self._closed = opened, closed
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="streamseg-web", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_S) or not self.alive:
            self.close()
            raise SinkError(f"the web server did not start: {self.cause}; try again, or another display")

    @property
    def alive(self) -> bool:
        """False once the server has ended, for whatever reason."""
        return self._thread.is_alive()

    @property
    def cause(self) -> str:
        """Why the server ended, in a few words."""
        return "no answer" if self._error is None else f"{type(self._error).__name__}: {self._error}"

    def close(self) -> None:
        """End all connections and the thread within a second; a second call does nothing."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self.alive:
            with contextlib.suppress(RuntimeError):  # It has just ended.
                loop.call_soon_threadsafe(stop.set)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # uvicorn raises SystemExit; the thread that shows views reports it
            self._error = error
        finally:
            self._listening.close()
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._opened()
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._listening]))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.005)
            self._started.set()
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await self._closed()
            self._server.should_exit = True
            await asyncio.wait({serving}, timeout=_GRACE_S)
            # A client that does not read does not let its connection end either.
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            await asyncio.wait({serving}, timeout=_GRACE_S)
        if serving.done():
            serving.result()


class _Http(H11Protocol):
    """HTTP with limits on the number of connections, and on the life of those that are no WebSockets.

    If there are too many, a new connection takes the place of one that waits: the longest of the address
    that has the most. So whoever opens connections and asks for nothing cannot lock others out.
    """

    def __init__(self, *, limit: int, **options: Any) -> None:
        super().__init__(**options)
        self._limit = limit
        self.since_s = self.loop.time()
        """When it began to wait."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._make_room():
            transport.abort()
            return
        self.loop.call_later(FIRST_REQUEST_S, self._end_unasked)
        self.loop.call_later(HTTP_S, self._out_of_time)

    @property
    def waiting(self) -> bool:
        """True while no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def on_response_complete(self) -> None:
        """It waits for the next request from now on."""
        self.since_s = self.loop.time()
        super().on_response_complete()

    def _make_room(self) -> bool:
        """Cut a connection that waits if there are too many; False if none can be cut."""
        others: list[_Http | _WebSocket] = [
            connection
            for connection in self.connections
            if isinstance(connection, _Http | _WebSocket)
            and connection is not self
            and not connection.transport.is_closing()
        ]
        if len(others) < self._limit:
            return True
        waiting = [connection for connection in others if connection.waiting]
        if not waiting:  # all are being answered, which takes milliseconds
            return len(others) < 2 * self._limit
        ((crowd, _),) = Counter(map(_peer, waiting)).most_common(1)
        victim = min((one for one in waiting if _peer(one) == crowd), key=lambda one: one.since_s)
        victim.transport.abort()
        return True

    def _end_unasked(self) -> None:
        if self.cycle is None:
            self._out_of_time()

    def _out_of_time(self) -> None:
        if self in self.connections:
            self.transport.abort()


class _WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket with limits on what comes from a page, and on the time that its end may take."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.since_s = self.loop.time()
        self.close_timeout = _FAREWELL_S
        self._window_s, self._received = self.since_s, 0

    @property
    def waiting(self) -> bool:
        """True once it is being closed."""
        return self.close_sent or self.disconnected

    def data_received(self, data: bytes) -> None:
        """Cut the connection of a page that sends too much: pongs to one that reads nothing would pile up."""
        now = self.loop.time()
        if now - self._window_s > 1:
            self._window_s, self._received = now, 0
        self._received += len(data)
        if self._received > MAX_BYTES_PER_S:
            self.transport.abort()
            return
        super().data_received(data)

    def handle_cont(self, event: Frame) -> None:
        """Refuse a message of endless fragments: its size does not grow with empty ones."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.transport.abort()
            return
        super().handle_cont(event)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The hub is done with this page: one that reads nothing more does not close on its own."""
        super().on_task_complete(task)
        self.loop.call_later(_FAREWELL_S, self.transport.abort)


def _peer(connection: _Http | _WebSocket) -> str:
    return connection.client[0] if connection.client else ""


def _config(app: ASGIApp, connections: int, message: int) -> uvicorn.Config:
    options: dict[str, Any] = {
        "http": partial(_Http, limit=connections),
        "ws": _WebSocket,
        "ws_max_size": message,
        "ws_per_message_deflate": False,  # JPEGs do not get smaller, and it costs time
        "lifespan": "off",
        "log_config": None,
        "log_level": "critical",  # below, it logs addresses with tokens, and a traceback for what is no HTTP
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "date_header": False,
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": 1,
        "h11_max_incomplete_event_size": 16 * 1024,
    }
    return uvicorn.Config(app, **options)


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes a free one. Raises UsageError with a remedy."""
    if not 0 <= port <= 65535:
        raise UsageError(f"the web page cannot listen on port {port}; give 1 to 65535, or 0 for a free one")
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STUCK_MS)
        listening.bind((name, port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise UsageError(f"the web page cannot listen on {host} port {port}: {_remedy(error)}") from error
    return listening


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; end it, or choose another port (0 takes a free one)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 are for administrators; choose a higher one, such as 8765"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "this machine has no such address; give 127.0.0.1, 0.0.0.0 or one of its own"
    return f"{one_line(error)}; choose another address or port"


def build_app(hub: Hub, access: Access) -> ASGIApp:
    """Build the application of one stream behind its access control. Reads the page's files once."""
    return Guard(Starlette(routes=_routes(hub)), access, files=[_path(name) for name in FILES])


@dataclass(frozen=True, slots=True)
class WallStream:
    """One of several streams, as its pages get it."""

    source: str
    """Its name, without credentials."""
    hub: Hub
    """Serves the page of this stream alone."""
    tiles: Hub
    """Serves its tiles on the pages of all streams."""

    def ages(self) -> dict[int, Percentiles]:
        """The ages measured by each page and tile, by slot; those of tiles follow those of pages."""
        pages = self.hub.ages()
        return pages | {self.hub.places + slot: ages for slot, ages in self.tiles.ages().items()}


def build_wall_app(streams: Sequence[WallStream], access: Access) -> ASGIApp:
    """Build the application of several streams: a page of all; below ``/1/``, ``/2/``, ... that of each."""
    measured = [
        MeasuredStream(stream.hub.status, stream.ages, number, stream.source)
        for number, stream in enumerate(streams, 1)
    ]

    async def count(_: Request) -> Response:
        return JSONResponse({"streams": len(streams)})

    async def health(_: Request) -> Response:
        now_ns = time.monotonic_ns()
        each = [
            {"stream": number, "source": stream.source, **stream.hub.status.health(now_ns)}
            for number, stream in enumerate(streams, 1)
        ]
        ok = all(stream["ok"] for stream in each)
        return JSONResponse({"ok": ok, "streams": each}, 200 if ok else 503)

    files = {name: kind for name, kind in (FILES | WALL_FILES).items() if name != "index.html"}
    routes: list[BaseRoute] = [_file(name, kind) for name, kind in files.items()]
    routes += [Route("/streams", count), Route("/healthz", health), _metrics_route(measured)]
    below: list[str] = []
    for number, stream in enumerate(streams, 1):
        # Without the slash the page would look for its files a level above.
        routes.append(Route(f"/{number}", partial(_with_slash, number)))
        tile = WebSocketRoute("/tile", stream.tiles.serve)
        unasked = Route("/tile", _not_upgraded, methods=["GET", "POST"])
        routes.append(Mount(f"/{number}", routes=[*_routes(stream.hub), tile, unasked]))
        below += [f"/{number}{_path(name)}" for name in FILES]
    return Guard(Starlette(routes=routes), access, files=[*map(_path, files), *below])


def wall_pages(streams: int) -> list[str]:
    """The paths of the pages of several streams."""
    return ["/", *(f"/{number}/" for number in range(1, streams + 1))]


def _routes(hub: Hub) -> list[BaseRoute]:
    """Everything of one stream."""

    async def health(_: Request) -> Response:
        answer = hub.status.health(time.monotonic_ns())
        return JSONResponse(answer, 200 if answer["ok"] else 503)

    return [
        *(_file(name, kind) for name, kind in FILES.items()),
        Route("/healthz", health),
        _metrics_route([MeasuredStream(hub.status, hub.ages)]),
        WebSocketRoute("/ws", hub.serve),
        Route("/ws", _not_upgraded, methods=["GET", "POST"]),
    ]


def _metrics_route(streams: Sequence[MeasuredStream]) -> Route:
    metrics = Metrics(streams)

    async def figures(_: Request) -> Response:
        text = metrics.text(time.monotonic_ns())
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return Route("/metrics", figures)


async def _with_slash(number: int, _: Request) -> Response:
    return Response(status_code=307, headers={"location": f"{number}/"})


async def _not_upgraded(_: Request) -> Response:
    """The answer to a plain request for the socket: a page asks why, or a proxy left headers out."""
    text = "this is a WebSocket; a proxy has to pass the headers Upgrade and Connection on, by HTTP/1.1\n"
    return PlainTextResponse(text, 426, headers={"upgrade": "websocket", "connection": "upgrade"})


def _file(name: str, kind: str) -> Route:
    content = resources.files("streamseg.web").joinpath("page", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return Route(_path(name), answer)


def _path(name: str) -> str:
    return "/" if name in ("index.html", "wall.html") else f"/{name}"
