"""Access control of the web page.

A loopback address is open to everybody on this machine, but the Host header must name this machine, so that a
foreign page cannot reach the server by resolving its own name to 127.0.0.1 (DNS rebinding). Any other address
requires a token: once in the address (``/?token=...``), then in a cookie that only requests from our own page
carry; scripts send ``Authorization: Bearer <token>``. A WebSocket's Origin must be the host it is opened on.

A public address is that of a proxy in front of the server: its host is accepted as Host, its origin as
Origin. X-Forwarded headers are never believed, because a page that rebinds its name can send them too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamseg.core.errors import UsageError

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9a-f:]{2,45}")
_PUBLIC = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,300}(/[A-Za-z0-9._~/%-]{0,500})?")
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


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """The address at which a proxy serves the page."""

    origin: str
    """``https://guide.example`` or ``https://guide.example:8443``: in small letters, without a usual port."""
    path: str
    """From the first slash to the last: ``/`` or ``/us/``."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``https://host[:port][/path]``. Raises UsageError."""
        try:
            parts = urlsplit(url)
            origin = _origin(url)
        except ValueError:
            origin = ""
        if not origin or not _PUBLIC.fullmatch(url):
            raise UsageError(
                "the public address is not one of a web page; give https://HOST/ or https://HOST:PORT/PATH/, "
                "without user, password, query and blanks"
            )
        return cls(origin, f"{parts.path.rstrip('/')}/")

    @property
    def url(self) -> str:
        """The address to open."""
        return f"{self.origin}{self.path}"

    @property
    def host(self) -> str:
        """Name or address of the host, without port."""
        return urlsplit(self.origin).hostname or ""

    def below(self, path: str) -> str:
        """A requested path without the public one, for a proxy that passes it on."""
        prefix = self.path.rstrip("/")
        return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


class Access:
    """The access rules of one server.

    If ``token`` is given, every request needs it; if it is None, one is generated unless the server, and the
    proxy at ``public`` if there is one, is for this machine only. Raises UsageError for a token that is too
    short or does not fit into an address.
    """

    def __init__(
        self,
        host: str,
        *,
        loopback: bool,
        token: str | None,
        public: PublicUrl | None = None,
        pages: Collection[str] = ("/",),
    ) -> None:
        """``pages`` are the paths whose address may carry the token."""
        if token is not None and not _TOKEN.fullmatch(token):
            raise UsageError(
                f"the web page's token has {len(token)} characters; "
                "give 12 to 200 of A-Z a-z 0-9 . _ ~ -, or none to have one generated"
            )
        local = loopback and (public is None or _is_loopback_name(public.host))
        self.token = secrets.token_urlsafe(24) if token is None and not local else token
        self.public = public
        self._pages = frozenset(pages)
        self.port = 0
        """Set once the socket is bound; part of the cookie's name, since all ports share their cookies."""
        self._host = host.strip("[]").lower()
        self._loopback = loopback

    def __repr__(self) -> str:
        return f"Access(loopback={self._loopback}, token={'yes' if self.token else 'no'})"

    def cookie(self, headers: Headers) -> str:
        """Set-Cookie header (``name=value; attributes``) for a request that came with the token."""
        place = "Path=/"
        if self.public is not None and _came_through_proxy(headers, self.public):
            secure = "; Secure" if self.public.origin.startswith("https:") else ""
            place = f"Path={self.public.path}{secure}"
        return f"{self._cookie_name}={self._cookie_value}; {place}; HttpOnly; SameSite=Strict"

    @property
    def _cookie_name(self) -> str:
        return f"streamseg_{self.port}"

    @property
    def _cookie_value(self) -> str:
        """A hash of the token: does not reveal it, and stays valid after a restart with the same token."""
        return hmac.new((self.token or "").encode(), b"streamseg page", hashlib.sha256).hexdigest()

    def refusal(self, headers: Headers, *, file: bool = False) -> tuple[int, str] | None:
        """Status and text for a request to the wrong host or from a foreign page; None if it is neither.

        A ``file`` of the page may have any Origin: it is the same for everybody, Chromium names the origin
        when it loads the script, and without that the page could not say what is wrong.
        """
        host = headers.get("host", "")
        name = _host_name(host)
        public = None if self.public is None else self.public.host
        if self._loopback and name != public and not self._is_this_machine(name):
            return 421, (
                "this page is for this machine only; open it at http://127.0.0.1, or, behind a proxy, start "
                f"streamseg with --public-url https://{name if _NAME.fullmatch(name) else 'HOST'}/"
            )
        origin = headers.get("origin")
        if (
            file
            or origin is None
            or (host and _origin(origin) in (_origin(f"http://{host}"), _origin(f"https://{host}")))
        ):
            return None
        if self.public is not None and _origin(origin) == self.public.origin:
            return None
        found = _origin(origin)
        return 403, (
            "this request comes from a page of another origin; behind a proxy, start streamseg with "
            f"--public-url {found if _PUBLIC.fullmatch(found) else 'https://HOST'}/"
        )

    def authorizes(self, headers: Headers) -> bool:
        """True if a request carries the token, in its cookie or its Authorization header."""
        if self.token is None:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(bearer.strip(), self.token):
            return True
        return any(_equal(value, self._cookie_value) for value in _cookies(headers, self._cookie_name))

    def introduces(self, scope: Scope) -> bool:
        """True if a request is for a page itself and its address carries the token."""
        if self.token is None or scope["type"] != "http" or scope["path"] not in self._pages:
            return False
        values = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=None).get("token", [])
        return len(values) == 1 and _equal(values[0], self.token)

    def _is_this_machine(self, name: str) -> bool:
        return name == self._host or _is_loopback_name(name)


class Guard:
    """Passes only permitted requests to the application, and adds security headers to its responses."""

    def __init__(self, app: ASGIApp, access: Access, *, files: Collection[str] = ()) -> None:
        """``files`` are the paths of the page's own files."""
        self._app = app
        self._access = access
        self._files = frozenset(files)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        public = self._access.public
        if public is not None:
            if scope["type"] == "http" and f"{scope['path']}/" == public.path:
                # Without the slash the page would look for its files a level above.
                await RedirectResponse(public.path, 307)(scope, receive, send)
                return
            scope = {**scope, "path": public.below(scope["path"])}
        headers = Headers(scope=scope)
        introduced = self._access.introduces(scope)
        file = scope["type"] == "http" and scope["path"] in self._files
        refusal = self._access.refusal(headers, file=file)
        if refusal is None and not introduced and not self._access.authorizes(headers):
            refusal = 401, "a token is needed: open the address that was printed at the start"
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = dict(SECURITY_HEADERS)
                if introduced:
                    extra["set-cookie"] = self._access.cookie(headers)
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


def _origin(url: str) -> str:
    """Scheme, host and port of an address, without the usual port; empty if it is not one of a web page."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        return ""
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}")


def _is_loopback_name(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _came_through_proxy(headers: Headers, public: PublicUrl) -> bool:
    """True if a request shows it; one whose Host a proxy has rewritten does not."""
    named = _host_name(headers.get("host", "")) == public.host
    return named or any(name in headers for name in ("x-forwarded-host", "x-forwarded-proto", "forwarded"))
