"""Addresses of live sources: what they hold, and how to show them without their passwords."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from streamseg.core.errors import UsageError

USER_VARIABLE = "STREAMSEG_RTSP_USER"
PASSWORD_VARIABLE = "STREAMSEG_RTSP_PASSWORD"

_SECRET_WORDS = re.compile("user|usr|login|pass|pwd|pw|pin|token|key|secret|auth|cred|sig|code|session", re.I)
_LOGIN = re.compile(r"([a-z][a-z0-9+.-]{0,15}://)[^\s'\"<>]*@", re.IGNORECASE)
_WHOLE_LOGIN = re.compile(r"^\s*([a-z][a-z0-9+.-]*://).*@", re.IGNORECASE | re.DOTALL)
_VALUE = re.compile(r"(?<![\w-])([\w-]+)=([^&;\s'\"<>]*)")
_RTSP = re.compile(
    r"(?P<scheme>rtsps?)://(?:(?P<login>[^/?#]*)@)?(?P<host>\[[0-9a-f:.%]+\]|[^/?#:@\[\]]+)(?::(?P<port>\d{1,5}))?"
    r"(?P<path>[/?][^#]*)?(?:#.*)?",
    re.IGNORECASE,
)


def masked(address: str) -> str:
    """An address, or any text with addresses in it, without users, passwords and tokens.

    What stands before an ``@`` is left out, and so are the values of keys that sound secret, wherever
    they are: ``rtsp://u:p@host/live?token=x`` becomes ``rtsp://host/live?token=***``. It rather hides
    too much than too little.
    """
    without_login = _LOGIN.sub(r"\1", _WHOLE_LOGIN.sub(r"\1", address))
    return _VALUE.sub(_hide, without_login)


def _hide(found: re.Match[str]) -> str:
    return f"{found[1]}=***" if _SECRET_WORDS.search(found[1]) else found[0]


def without_credentials(address: str) -> str:
    """An address as it can be saved: without user and password, all else as it is."""
    return _WHOLE_LOGIN.sub(r"\1", address)


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """Where an RTSP stream is, and who asks for it. Its ``repr`` holds no credentials."""

    host: str
    port: int
    path: str = field(repr=False)
    """From the first slash on, with the query, in ASCII; may hold secrets of its own."""
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, address: str) -> RtspAddress:
        """Read ``rtsp://[user[:password]@]host[:port]/path`` or ``rtsps://``.

        A user and password that the address does not give come from STREAMSEG_RTSP_USER and
        STREAMSEG_RTSP_PASSWORD. Raises UsageError, which never repeats the address.
        """
        found = _RTSP.fullmatch(address)
        if found is None or not address.isprintable() or " " in address:
            raise UsageError(
                "this is no RTSP address; write rtsp://host:port/path, or rtsp://user:password@host/path "
                "with every special character of the password percent-encoded (/ as %2F, @ as %40)"
            )
        path = found["path"] or "/"
        if "@" in path:
            # It may as well be a password with a slash in it, of which parts would be shown as the host.
            raise UsageError(
                "the RTSP address has an @ behind the host; "
                "write a / in a password as %2F, and an @ in a path as %40"
            )
        tls = found["scheme"].lower() == "rtsps"
        port = int(found["port"] or (322 if tls else 554))
        if not 0 < port < 65536:
            raise UsageError(f"the RTSP address has port {port}; give one from 1 to 65535")
        user, password = _login(found["login"])
        ascii_path = quote(path if path.startswith("/") else f"/{path}", safe="/%?&=;:+$,!*'()~-._[]|")
        return cls(found["host"].strip("[]"), port, ascii_path, tls, user, password)

    @property
    def url(self) -> str:
        """The address for the server: without user and password, but with the query. Not for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rtsps' if self.tls else 'rtsp'}://{host}:{self.port}{self.path}"

    @property
    def label(self) -> str:
        """The address for people: without credentials and query."""
        return masked(self.url).partition("?")[0]

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """For people and file names, such as ``192.168.1.5-554-live``; neither query nor credentials."""
        path = re.split(r"[?;&]", masked(self.path))[0]
        parts = [part for part in path.split("/") if part and "=" not in part]
        return re.sub(r"[^\w.-]+", "-", "-".join([self.host, str(self.port), *parts])).strip("-")


def _login(text: str | None) -> tuple[str | None, str | None]:
    """User and password from an address, percent-encoded, or else from the environment."""
    if text is None:
        user = os.environ.get(USER_VARIABLE)
        return user, os.environ.get(PASSWORD_VARIABLE, "") if user else None
    user, _, password = text.partition(":")
    return unquote(user), unquote(password)
