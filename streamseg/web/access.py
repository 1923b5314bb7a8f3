"""Access control of the web page.

A loopback address is open to everybody on this machine, but the Host header must name this machine, so that a
foreign page cannot reach the server by resolving its own name to 127.0.0.1 (DNS rebinding). Any other address
requires a token: once in the address (``/?token=...``), then in a cookie that only requests from our own page
carry; scripts send ``Authorization: Bearer <token>``. A WebSocket's Origin must be the host it is opened on.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamseg.core.errors import UsageError

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{12,200}")
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Access:
    """The access rules of one server.

    If ``token`` is given, every request needs it; if it is None and ``loopback`` is False, one is generated.
    Raises UsageError for a token that is too short or does not fit into an address.
    """

    def __init__(self, host: str, *, loopback: bool, token: str | None) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError(
                f"the web page's token has {len(token)} characters; "
                "give 12 to 200 of A-Z a-z 0-9 . _ ~ -, or none to have one generated"
            )
        self.token = secrets.token_urlsafe(24) if token is None and not loopback else token
        self.port = 0
        """Set once the socket is bound; part of the cookie's name, since all ports share their cookies."""
        self._host = host.strip("[]").lower()
        self._loopback = loopback

    def __repr__(self) -> str:
        return f"Access(loopback={self._loopback}, token={'yes' if self.token else 'no'})"

    @property
    def cookie(self) -> str:
        """Set-Cookie header (``name=value; attributes``) for a request that came with the token."""
        return f"{self._cookie_name}={self._cookie_value}; Path=/; HttpOnly; SameSite=Strict"

    @property
    def _cookie_name(self) -> str:
        return f"streamseg_{self.port}"

    @property
    def _cookie_value(self) -> str:
        """A hash of the token: does not reveal it, and stays valid after a restart with the same token."""
        return hmac.new((self.token or "").encode(), b"streamseg page", hashlib.sha256).hexdigest()

    def refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Status and text for a request to the wrong host or from a foreign page; None if it is neither."""
        host = headers.get("host", "")
        if self._loopback and not self._is_this_machine(_host_name(host)):
            return 421, "this page is for this machine only; open it at http://127.0.0.1"
        origin = headers.get("origin")
        if origin is not None and (not host or _netloc(origin) != host.lower()):
            return 403, "this request comes from a page of another origin"
        return None

    def authorizes(self, headers: Headers) -> bool:
        """True if a request carries the token, in its cookie or its Authorization header."""
        if self.token is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(bearer.strip(), self.token):
            return True
        return any(_equal(value, self._cookie_value) for value in _cookies(headers, self._cookie_name))

    def introduces(self, scope: Scope) -> bool:
        """True if a request is for the page itself and its address carries the token."""
        if self.token is None or scope["type"] != "http" or scope["path"] != "/":
            return False
        values = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=None).get("token", [])
        return len(values) == 1 and _equal(values[0], self.token)

    def _is_this_machine(self, name: str) -> bool:
        if name in ("localhost", self._host):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


class Guard:
    """Passes only permitted requests to the application, and adds security headers to its responses."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        introduced = self._access.introduces(scope)
        refusal = self._access.refusal(headers)
        if refusal is None and not introduced and not self._access.authorizes(headers):
            refusal = 401, "a token is needed: open the address that was printed at the start"
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = dict(SECURITY_HEADERS)
                if introduced:
                    extra["set-cookie"] = self._access.cookie
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        # Closed before it is accepted, the browser sees a failed handshake with status 403.
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse(text + "\n", status, headers=SECURITY_HEADERS)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """True if every address of a host name is a loopback address. Raises UsageError for an unknown name."""
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"the web page cannot listen on {host!r}: no such address; "
            "give 127.0.0.1, 0.0.0.0 or one of this machine's"
        ) from error
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def _equal(given: str, expected: str) -> bool:
    """Compare in constant time, so that the time does not reveal how much was right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _cookies(headers: Headers, name: str) -> Iterator[str]:
    """The values of the cookies of this name.

    Other programs on this host set cookies too, and Python's SimpleCookie gives up a header in which it
    dislikes any: one without a value, with ``/`` or ``@`` in its name, or a blank in its value.
    """
    for line in headers.getlist("cookie"):
        for pair in line.split(";"):
            found, _, value = pair.partition("=")
            if found.strip() == name:
                yield value.strip().strip('"')


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    """``host:port`` of an origin, as in the Host header."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""
