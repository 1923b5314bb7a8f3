"""The display of the live loop that serves the web page."""

from __future__ import annotations

import socket
import time

from streamseg import __version__
from streamseg.core.errors import SinkError, UsageError
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
from streamseg.web.server import Server, bind, build_app
from streamseg.web.status import Status

_MAX_TITLE = 200
_SPARE_CONNECTIONS = 32
"""Connections besides the pages' WebSockets: their files, health checks, Prometheus."""


class WebDisplay:
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
        _check("rate", rate, 1, 240)
        _check("quality", quality, 1, 100)
        _check("clients", clients, 1, 256)
        _check("opacity", opacity, 0, 1)
        public = None if public_url is None else PublicUrl.parse(public_url)
        access = Access(host, loopback=is_loopback(host), token=token, public=public)
        self._listening = bind(host, port)
        self.port: int = self._listening.getsockname()[1]
        """The port on which the server listens."""
        access.port = self.port
        self.address = f"http://{_reachable(host)}:{self.port}/" if public is None else public.url
        """The address of the page, without the token."""
        self.url = self.address if access.token is None else f"{self.address}?token={access.token}"
        self._status = Status(time.monotonic_ns())
        self._hub = Hub(
            self._status,
            rate=rate,
            quality=quality,
            clients=clients,
            hello={
                **_hello(title, record and not recorded_by_operator),
                "opacity": opacity,
                "vessels": vessels,
            },
            record=not recorded_by_operator if record else None,
            proxied=public is not None,
        )
        self._closed = False
        self._server = Server(
            build_app(self._hub, access),
            self._listening,
            connections=clients + _SPARE_CONNECTIONS,
            message=MAX_BYTES,
            opened=self._hub.open,
            closed=self._hub.close,
        )

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
        if not self._closed and not self._server.alive:
            raise SinkError(f"the web server has ended: {self._server.cause}; start again")
        self._hub.show(view, time.monotonic_ns())

    def poll(self) -> list[Command]:
        """Commands from pages since the last call: about recording, and only if that is offered."""
        return self._hub.commands()

    def close(self) -> None:
        """End all connections and the server within a second; a second call does nothing."""
        self._closed = True
        self._server.close()


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
