"""The display of the live loop that serves the web page."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import replace

from starlette.types import ASGIApp

from streamseg import __version__
from streamseg.core.errors import SinkError, UsageError, one_line
from streamseg.core.printable import printable
from streamseg.core.spec import VESSEL
from streamseg.core.types import State
from streamseg.core.view import OUTLINE_EXPIRED, Command, View
from streamseg.render.overlay import NERVE_LINES, VESSEL_LINE, Line
from streamseg.render.replay_panel import DISCLAIMER
from streamseg.render.symbols import HELD, STATE_WORDS, state_colours
from streamseg.render.text import Colour
from streamseg.web.access import Access, PublicUrl, is_loopback
from streamseg.web.client import MAX_BYTES
from streamseg.web.hub import Hub
from streamseg.web.server import Server, WallStream, bind, build_app, build_wall_app, wall_pages
from streamseg.web.status import Status

_MAX_TITLE = 200
_SPARE_CONNECTIONS = 32
"""Connections besides the pages' WebSockets: their files, health checks, Prometheus."""
_TILE_SIDES = ((2, 960), (4, 720), (10**9, 480))
"""The longest side of a tile's image in pixels, by the largest number of streams that it holds for: there is
no room for more on a screen, and every pixel costs time that the engine needs."""
_BARE_RATE = 10.0
"""Views without a segmentation that a tile gets in a second; those with one are not delayed."""


class _Page:
    """What every page is served by: the socket, the access control, and the server once it has been started.

    Parameters as those of :class:`WebDisplay`.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        token: str | None,
        public_url: str | None,
        rate: float,
        quality: int,
        clients: int,
        opacity: float,
        pages: Sequence[str] = ("/",),
    ) -> None:
        _check("rate", rate, 1, 240)
        _check("quality", quality, 1, 100)
        _check("clients", clients, 1, 256)
        _check("opacity", opacity, 0, 1)
        self._public = None if public_url is None else PublicUrl.parse(public_url)
        self._access = Access(host, loopback=is_loopback(host), token=token, public=self._public, pages=pages)
        self._listening = bind(host, port)
        self.port: int = self._listening.getsockname()[1]
        """The port on which the server listens."""
        self._access.port = self.port
        public = self._public
        self.address = f"http://{_reachable(host)}:{self.port}/" if public is None else public.url
        """The address of the page, without the token."""
        token = self._access.token
        self.url = self.address if token is None else f"{self.address}?token={token}"
        """The address to open, with the token."""
        self._closed = False
        self._server: Server | None = None

    def _start(self, app: ASGIApp, hubs: Sequence[Hub]) -> None:
        def opened() -> None:
            for hub in hubs:
                hub.open()

        async def closed() -> None:
            await asyncio.gather(*(hub.close() for hub in hubs))

        self._server = Server(
            app,
            self._listening,
            connections=sum(hub.places for hub in hubs) + _SPARE_CONNECTIONS,
            message=MAX_BYTES,
            opened=opened,
            closed=closed,
        )

    def check(self) -> None:
        """Raise SinkError if the server has failed."""
        if not self._closed and self._server is not None and not self._server.alive:
            raise SinkError(f"the web server has ended: {self._server.cause}; start again")

    def close(self) -> None:
        """End all connections and the server within a second; a second call does nothing."""
        self._closed = True
        if self._server is not None:
            self._server.close()


class WebDisplay(_Page):
    """Serves the page from construction to :meth:`close`; ``url`` is the address to open, with the token.

    ``host`` is the address to listen on: a loopback one is open to this machine, any other needs ``token``
    (12 to 200 of ``A-Z a-z 0-9 . _ ~ -``; None generates one). ``port`` 0 takes a free one. ``public_url`` is
    the address at which a proxy serves the page; unless that is this machine's, it needs the token too.
    ``rate`` is the maximum number of views per second (1..240), ``quality`` that of the JPEGs (1..100),
    ``clients`` the maximum number of pages at a time (1..256). ``record`` offers a button for recording; with
    ``recorded_by_operator`` the page only shows that a recording runs, and can neither start nor end one.
    ``title`` names the source and must hold no credentials. ``opacity`` (0..1) is that of the outline's tint,
    and ``vessels`` says whether those are outlined, until a user changes it on the page. Raises UsageError
    for invalid values, and for an address in use.
    """

    name = "web"

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 8765,
        token: str | None = None,
        public_url: str | None = None,
        rate: float = 30.0,
        quality: int = 85,
        clients: int = 16,
        title: str = "streamseg",
        record: bool = False,
        recorded_by_operator: bool = False,
        opacity: float = 0.25,
        vessels: bool = True,
    ) -> None:
        super().__init__(
            host=host,
            port=port,
            token=token,
            public_url=public_url,
            rate=rate,
            quality=quality,
            clients=clients,
            opacity=opacity,
        )
        self._hub = Hub(
            Status(time.monotonic_ns()),
            rate=rate,
            quality=quality,
            clients=clients,
            hello={
                **_hello(title, record and not recorded_by_operator),
                "opacity": opacity,
                "vessels": vessels,
            },
            record=not recorded_by_operator if record else None,
            proxied=self._public is not None,
        )
        self._start(build_app(self._hub, self._access), [self._hub])

    def __repr__(self) -> str:
        return f"WebDisplay(port={self.port})"

    @property
    def clients(self) -> int:
        """Number of connected pages."""
        return self._hub.connected

    def show(self, view: View) -> None:
        """Pass a view to the pages; never waits. Raises SinkError if the server has failed."""
        if self._hub.failure is not None:
            raise self._hub.failure
        self.check()
        self._hub.show(view, time.monotonic_ns())

    def poll(self) -> list[Command]:
        """Commands from pages since the last call: about recording, and only if that is offered."""
        return self._hub.commands()


class WebWall(_Page):
    """Serves a page of several streams, with a tile for each, and below it a page for each stream alone.

    ``titles`` name the sources, in the order of the streams; other parameters are those of
    :class:`WebDisplay`. Each of :attr:`streams` is the display of one stream's loop; close this object after
    all of them. Raises as WebDisplay does.
    """

    def __init__(
        self,
        titles: Sequence[str],
        *,
        host: str = "127.0.0.1",
        port: int = 8765,
        token: str | None = None,
        public_url: str | None = None,
        rate: float = 30.0,
        quality: int = 85,
        clients: int = 16,
        record: bool = False,
        recorded_by_operator: bool = False,
        opacity: float = 0.25,
        vessels: bool = True,
    ) -> None:
        count = len(titles)
        super().__init__(
            host=host,
            port=port,
            token=token,
            public_url=public_url,
            rate=rate,
            quality=quality,
            clients=clients,
            opacity=opacity,
            pages=wall_pages(count),
        )
        side = next(side for most, side in _TILE_SIDES if count <= most)
        proxied, now_ns = self._public is not None, time.monotonic_ns()
        made: list[StreamDisplay] = []
        for number, title in enumerate(titles, 1):
            hello = {
                **_hello(title, record and not recorded_by_operator),
                "opacity": opacity,
                "vessels": vessels,
                "stream": number,
                "streams": count,
            }
            status = Status(now_ns)
            hub = Hub(
                status,
                rate=rate,
                quality=quality,
                clients=clients,
                hello=hello,
                record=not recorded_by_operator if record else None,
                proxied=proxied,
            )
            tiles = Hub(
                status,
                rate=rate,
                quality=quality,
                clients=clients,
                hello=hello,
                record=None,
                proxied=proxied,
                max_side=side,
                bare_rate=min(rate, _BARE_RATE),
            )
            made.append(StreamDisplay(self, title, hub, tiles))
        self.streams = tuple(made)
        """The displays of the streams, in their order."""
        parts = [WallStream(printable(each.title)[:_MAX_TITLE], each.hub, each.tiles) for each in made]
        app = build_wall_app(parts, self._access)
        self._start(app, [hub for part in parts for hub in (part.hub, part.tiles)])

    def __repr__(self) -> str:
        return f"WebWall(port={self.port}, {len(self.streams)} streams)"


class StreamDisplay:
    """Shows the views of one stream on the pages of a :class:`WebWall`."""

    name = "web"

    def __init__(self, wall: WebWall, title: str, hub: Hub, tiles: Hub) -> None:
        """Made by :class:`WebWall`."""
        self.title, self.hub, self.tiles = title, hub, tiles
        self._wall = wall

    def show(self, view: View) -> None:
        """Pass a view to the pages; never waits. Raises SinkError if the server has failed."""
        failure = self.hub.failure or self.tiles.failure
        if failure is not None:
            raise failure
        self._wall.check()
        self.hub.show(view, time.monotonic_ns())
        self.tiles.wake()

    def poll(self) -> list[Command]:
        """Commands from this stream's pages since the last call: about recording, if that is offered."""
        return self.hub.commands()

    def close(self) -> None:
        """The pages go on showing the last view: see :meth:`end`."""

    def end(self, error: BaseException | None = None) -> None:
        """Say on the pages that this stream has ended, and why, while the program goes on with others."""
        last, now_ns = self.hub.status.view, time.monotonic_ns()
        if error is not None or last is None or last.state is not State.ENDED:
            reason = "this stream has ended" if error is None else f"this stream has ended: {one_line(error)}"
            state = State.ENDED if error is None else State.SOURCE_LOST
            view = View(1, now_ns, state, reason)
            if last is not None:
                view = replace(
                    view, number=last.number + 1, frame=last.frame, roi=last.roi, figures=last.figures
                )
            self.hub.show(view, now_ns)
            self.tiles.wake()
        self.hub.status.end()


def _check(name: str, value: float, minimum: int, maximum: int) -> None:
    if not minimum <= value <= maximum:
        raise UsageError(f"the web page's {name} is {value}; give {minimum} to {maximum}")


def _hello(title: str, record: bool) -> dict[str, object]:
    return {
        "hello": __version__,
        "title": printable(title)[:_MAX_TITLE],
        "record": record,
        "disclaimer": DISCLAIMER,
        "late": OUTLINE_EXPIRED,
        "signs": {str(sign): _sign(sign) for sign in (*State, HELD)},
        "lines": {
            **{str(state): _line(line) for state, line in NERVE_LINES.items()},
            VESSEL: _line(VESSEL_LINE),
        },
    }


def _line(line: Line) -> dict[str, object]:
    """How an outline is drawn, the same as in the window."""
    return {"colour": _css(line.colour), "period": line.period, "share": line.share}


def _sign(sign: str) -> dict[str, str]:
    """Words and colours of a state, the same as in the window."""
    background, ink = state_colours(sign)
    return {"words": STATE_WORDS[sign], "background": _css(background), "ink": _css(ink)}


def _css(colour: Colour) -> str:
    blue, green, red = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def _reachable(host: str) -> str:
    """The host to open; for a server that listens on all addresses, the one by which others reach it."""
    name = host.strip("[]")
    if name in ("0.0.0.0", "::", ""):
        # Connecting a datagram socket sends nothing; it only asks the kernel for the route.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
                return str(probe.getsockname()[0])
            except OSError:
                return socket.gethostname()
    return f"[{name}]" if ":" in name else name
