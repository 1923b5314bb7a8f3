"""Addresses of live sources: parsing them, and showing them without their passwords."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from streamseg.core.errors import UsageError
from streamseg.core.printable import without_logins

USER_VARIABLE = "STREAMSEG_RTSP_USER"
PASSWORD_VARIABLE = "STREAMSEG_RTSP_PASSWORD"
FINGERPRINT_VARIABLE = "STREAMSEG_RTSP_FINGERPRINT"
"""SHA-256 fingerprint, in hexadecimal, of the only certificate that is accepted of an ``rtsps://`` server."""

_MAX_LENGTH = 8192

_SECRET_WORDS = re.compile("user|usr|login|pass|pwd|pw|pin|token|key|secret|auth|cred|sig|code|session", re.I)
_WHOLE_LOGIN = re.compile(r"^\s*([a-z][a-z0-9+.-]*://).*@", re.IGNORECASE | re.DOTALL)
_VALUE = re.compile(r"(?<![\w-])([\w-]+)=([^&;\s'\"<>]*)")
_RTSP = re.compile(
    r"(?P<scheme>rtsps?)://(?:(?P<login>[^/?#]*)@)?(?P<host>\[[0-9a-f:.]+(?:%[\w.~-]{1,32})?\]|[^/?#:@\[\]]+)(?::(?P<port>\d{1,5}))?"
    r"(?P<path>[/?][^#]*)?(?:#.*)?",
    re.IGNORECASE,
)


def masked(address: str) -> str:
    """An address, or any text with addresses in it, without users, passwords and tokens.

    Whatever precedes an ``@`` is left out, and so are the values of keys that sound secret, wherever they
    are: ``rtsp://u:p@host/live?token=x`` becomes ``rtsp://host/live?token=***``. It hides too much rather
    than too little.
    """
    return _VALUE.sub(_hide, without_logins(_WHOLE_LOGIN.sub(r"\1", address)))


def _hide(found: re.Match[str]) -> str:
    return f"{found[1]}=***" if _SECRET_WORDS.search(found[1]) else found[0]


def without_credentials(address: str) -> str:
    """An address as it can be saved: without user and password, otherwise unchanged."""
    return _WHOLE_LOGIN.sub(r"\1", address)


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """The address of an RTSP stream, with its login. Its ``repr`` holds no credentials."""

    host: str
    port: int
    path: str = field(repr=False)
    """From the first slash on, with the query, in ASCII; may hold secrets itself."""
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, address: str) -> RtspAddress:
        """Read ``rtsp://[user[:password]@]host[:port]/path`` or ``rtsps://``.

        Blanks around it do not count. If it gives no user and password, they come from STREAMSEG_RTSP_USER
        and STREAMSEG_RTSP_PASSWORD. Raises UsageError, which never repeats the address.
        """
        parsed = cls._parse(address.strip())
        if parsed.user is not None or not (user := os.environ.get(USER_VARIABLE)):
            return parsed
        return replace(parsed, user=user, password=os.environ.get(PASSWORD_VARIABLE, ""))

    @classmethod
    def _parse(cls, address: str) -> RtspAddress:
        """As :meth:`parse`, but the environment is not asked."""
        found = _RTSP.fullmatch(address) if len(address) <= _MAX_LENGTH else None
        if found is None or not address.isprintable() or " " in address:
            raise UsageError(
                "this is not an RTSP address; write rtsp://host:port/path, or rtsp://user:password@host/path "
                "with every special character of the password percent-encoded (/ as %2F, @ as %40)"
            )
        path = found["path"] or "/"
        if "@" in path:
            # It may be a password with a slash in it, of which parts would be shown as the host.
            raise UsageError(
                "the RTSP address has an @ after the host; "
                "write a / in a password as %2F, and an @ in a path as %40"
            )
        tls = found["scheme"].lower() == "rtsps"
        port = int(found["port"] or (322 if tls else 554))
        if not 0 < port < 65536:
            raise UsageError(f"the RTSP address has port {port}; give one from 1 to 65535")
        login = found["login"]
        user, password = (None, None) if login is None else map(unquote, login.partition(":")[::2])
        ascii_path = quote(path if path.startswith("/") else f"/{path}", safe="/%?&=;:+$,!*'()~-._[]|")
        # RFC 6874 writes the zone of a link-local address as %25eth0, and people write it as %eth0.
        host, mark, zone = found["host"].strip("[]").partition("%")
        return cls(host + mark + zone.removeprefix("25"), port, ascii_path, tls, user, password)

    def redirected(self, location: str) -> RtspAddress:
        """Where a server sends us instead; ``location`` may be relative to this address.

        The user and password go along only to the same host, and not from an encrypted connection to a plain
        one. Raises UsageError if that is not an RTSP address.
        """
        location = location.strip()
        if not re.match(r"[a-z][a-z0-9+.-]*:", location, re.IGNORECASE):
            if not location.startswith(("/", "?")):
                location = self.path.partition("?")[0].rpartition("/")[0] + "/" + location
            elif location.startswith("?"):
                location = self.path.partition("?")[0] + location
            place = "" if location.startswith("//") else f"//{self.place}"
            location = f"{'rtsps' if self.tls else 'rtsp'}:{place}{location}"
        target = self._parse(location)
        if target.user is None and target.host.lower() == self.host.lower() and target.tls >= self.tls:
            return replace(target, user=self.user, password=self.password)
        return target

    @property
    def url(self) -> str:
        """The address for the server: without user and password, but with the query. Never to be shown."""
        host = self.host.partition("%")[0]  # a zone means something on this machine only
        return f"{'rtsps' if self.tls else 'rtsp'}://{_bracketed(host)}:{self.port}{self.path}"

    @property
    def label(self) -> str:
        """The address to show: without credentials and query."""
        return masked(self.url).partition("?")[0]

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def name(self) -> str:
        """To show and for file names, such as ``192.168.1.5-554-live``; neither query nor credentials."""
        path = re.split(r"[?;&]", masked(self.path))[0]
        parts = [part for part in path.split("/") if part and "=" not in part]
        return re.sub(r"[^\w.-]+", "-", "-".join([self.host, str(self.port), *parts])).strip("-")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
