"""Who may see the page.

On a loopback address everybody on this machine may, and the Host header has to name this machine, so that no
foreign page can reach us by pointing its own name at 127.0.0.1. Any other address needs a token. It comes
once in the address (``/?token=...``), from then on in a cookie that only a request from our own page carries;
scripts send ``Authorization: Bearer <token>``. A WebSocket's Origin has to be the host that it was opened on.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamseg.core.errors import UsageError

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{12,200}")
SAFE_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Access:
    """The rules for one server.

    ``token`` is needed from everybody where it is given; where it is None and ``loopback`` is False, one is
    made. Raises UsageError for a token that is short or does not fit into an address.
    """

    def __init__(self, host: str, *, loopback: bool, token: str | None) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError(
                f"the web page's token has {len(token)} characters; "
                "give 12 to 200 of A-Z a-z 0-9 . _ ~ -, or none to have one made"
            )
        self.token = secrets.token_urlsafe(24) if token is None and not loopback else token
        self.port = 0
        """Filled in once the socket is bound: cookies do not know ports, so their name does."""
        self._host = host.strip("[]").lower()
        self._loopback = loopback

    def __repr__(self) -> str:
        return f"Access(loopback={self._loopback}, token={'yes' if self.token else 'no'})"

    @property
    def cookie(self) -> str:
        """``name=value; attributes`` to give to whoever came with the token."""
        return f"{self._cookie_name}={self._cookie_value}; Path=/; HttpOnly; SameSite=Strict"

    @property
    def _cookie_name(self) -> str:
        return f"streamseg_{self.port}"

    @property
    def _cookie_value(self) -> str:
        """Not the token itself, but as good as it for as long as it is valid, also after a restart."""
        return hmac.new((self.token or "").encode(), b"streamseg page", hashlib.sha256).hexdigest()

    def refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Status and text for a request that came to the wrong host or from a wrong page; None if neither."""
        host = headers.get("host", "")
        if self._loopback and not self._is_ours(_name(host)):
            return 421, "this page is for this machine only; open it at http://127.0.0.1"
        origin = headers.get("origin")
        if origin is not None and (not host or _place(origin) != host.lower()):
            return 403, "this request comes from a page of another origin"
        return None

    def knows(self, headers: Headers) -> bool:
        """True for a request that carries the token, in its cookie or its Authorization header."""
        if self.token is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self.token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie_name)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._cookie_value)

    def introduces(self, scope: Scope) -> bool:
        """True for a request for the page itself whose address carries the token."""
        if self.token is None or scope["type"] != "http" or scope["path"] != "/":
            return False
        values = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=None).get("token", [])
        return len(values) == 1 and _same(values[0], self.token)

    def _is_ours(self, name: str) -> bool:
        if name in ("localhost", self._host):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


class Guard:
    """Lets only those requests through to the application that may pass, and adds the headers of safety."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        introduced = self._access.introduces(scope)
        refusal = self._access.refusal(headers)
        if refusal is None and not introduced and not self._access.knows(headers):
            refusal = 401, "a token is needed: open the address that was printed at the start"
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = dict(SAFE_HEADERS)
                if introduced:
                    extra["set-cookie"] = self._access.cookie
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_safely)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        # Refused before it is accepted: the browser sees a failed handshake, status 403.
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse(text + "\n", status, headers=SAFE_HEADERS)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """True where every address that a name stands for is of this machine only. Raises UsageError."""
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"the web page cannot listen on {host!r}: no such address; "
            "give 127.0.0.1, 0.0.0.0 or one of this machine's"
        ) from error
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def _same(given: str, expected: str) -> bool:
    """Compare in a time that does not tell how much was right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    """``host:port`` of an origin, as the Host header gives it."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""
