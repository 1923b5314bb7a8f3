"""The connection to an RTSP server: requests, answers and media over one socket; every wait has a limit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

from streamseg.capture.rtsp.address import (
    FINGERPRINT_VARIABLE,
    PASSWORD_VARIABLE,
    USER_VARIABLE,
    RtspAddress,
)
from streamseg.capture.rtsp.auth import Login
from streamseg.capture.rtsp.messages import Answer, Interleaved, MessageParser
from streamseg.core.errors import SourceError

_CHUNK = 1 << 18
_MAX_CHUNKS = 8
"""Read at one go: a server that sends faster than we parse must not keep a thread in one call."""
_MAX_EARLY = 4096
_SEND_SECONDS = 0.5
_LEAVE_SECONDS = 0.1
_MAX_TRIES = 3
_UNDERSTOOD = ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "REDIRECT", "TEARDOWN")
_AGENT = "streamseg"


_OTHER_NAME = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


class Redirected(Exception):  # noqa: N818  # what happened, and no error unless it goes on
    """The server sends us to another address."""

    def __init__(self, status: int, location: str) -> None:
        self.status = status
        self.location = location
        super().__init__(str(status))


class Connection:
    """Requests and answers over one socket. Not for two threads at once."""

    def __init__(self, address: RtspAddress, deadline: float) -> None:
        """Connect before ``deadline`` (``time.monotonic()``). Raises SourceError with the reason alone."""
        self._address = address
        self.login = None if address.user is None else Login(address.user, address.password or "")
        self._socket = _connect(address, deadline)
        self._parser = MessageParser()
        self._number = 0
        self._session = ""
        self.early: deque[Interleaved] = deque(maxlen=_MAX_EARLY)
        """The latest packets that came while an answer was awaited."""
        self.more = False
        """Whether :meth:`read` left something behind, which no poll of the socket may show."""

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def peer(self) -> str:
        """The server's IP address. Raises SourceError if it is gone."""
        try:
            return str(self._socket.getpeername()[0])
        except OSError as error:
            raise self._lost() from error

    @property
    def local(self) -> tuple[Any, ...]:
        """The address by which the server sees us, as sockets of its family take it."""
        return tuple(self._socket.getsockname())

    @property
    def family(self) -> socket.AddressFamily:
        return self._socket.family

    def join_session(self, identifier: str) -> None:
        """Name this session in all requests from now on."""
        self._session = identifier

    def ask(
        self, method: str, url: str, deadline: float, also: Collection[int] = (), **headers: str
    ) -> Answer:
        """Send a request and wait for its answer; log in if the server asks for it.

        Raises SourceError, also for a status other than 200 and those in ``also``, and Redirected if the
        server sends us elsewhere.
        """
        answer, tries = self._ask_once(method, url, deadline, headers), 1
        while (
            answer.status == 401
            and self.login
            and self.login.challenge(answer.headers.get("www-authenticate", []))
            and (tries == 1 or (self.login.stale and tries < _MAX_TRIES))
        ):
            answer, tries = self._ask_once(method, url, deadline, headers), tries + 1
        if 300 <= answer.status < 400 and (location := answer.header("location")):
            raise Redirected(answer.status, location)
        if answer.status != 200 and answer.status not in also:
            raise self._refusal(answer)
        return answer

    def _ask_once(self, method: str, url: str, deadline: float, headers: dict[str, str]) -> Answer:
        self.send_request(method, url, headers)
        while True:
            # Looked at in each turn: a server may send media for ever, and no answer.
            if time.monotonic() >= deadline or not (self.more or wait_readable(self._socket, deadline)):
                raise SourceError(f"{self._address.place} does not answer; check that the server runs")
            for message in self.read():
                if isinstance(message, Interleaved):
                    self.early.append(message)
                elif message.header("cseq") in {str(self._number), ""} and message.status >= 200:
                    return message

    def leave(self, url: str) -> None:
        """Ask for the end of the session, without waiting for anything."""
        self.send_request("TEARDOWN", url, seconds=_LEAVE_SECONDS)

    def send_request(
        self, method: str, url: str, headers: dict[str, str] | None = None, seconds: float = _SEND_SECONDS
    ) -> None:
        """Send a request without waiting for its answer."""
        self._number += 1
        lines = {"CSeq": str(self._number), "User-Agent": _AGENT}
        if self._session:
            lines["Session"] = self._session
        if self.login and (authorization := self.login.header(method, url)):
            lines["Authorization"] = authorization
        lines |= headers or {}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"{method} {url} RTSP/1.0\r\n{text}\r\n".encode(), seconds)

    def send(self, data: bytes, seconds: float = _SEND_SECONDS) -> None:
        """Send all of it, within half a second by default. Raises SourceError."""
        deadline = time.monotonic() + seconds
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if not _wait(self._socket, select.POLLOUT, deadline):
                    raise SourceError(
                        f"{self._address.place} no longer takes anything; check the server"
                    ) from None
            except OSError as error:
                raise self._lost() from error

    def read(self) -> Iterator[Answer | Interleaved]:
        """What has arrived, without waiting, up to 2 MiB. Raises SourceError if the connection has ended."""
        self.more = False
        for _ in range(_MAX_CHUNKS):
            try:
                data = self._socket.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise self._lost() from error
            if not data:
                raise self._lost()
            self._parser.feed(data)
            yield from self._parser.messages()
            self._serve()
        self.more = True

    def _serve(self) -> None:
        """Answer the server's own requests: some ask whether we are there, and end the session if not."""
        requests, self._parser.requests = self._parser.requests, []
        for method, number in requests:
            status = "200 OK" if method in _UNDERSTOOD else "501 Not Implemented"
            session = f"Session: {self._session}\r\n" if self._session else ""
            self.send(f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n{session}\r\n".encode())
            if method == "REDIRECT":
                raise SourceError("the server sends us to another address")
            if method == "TEARDOWN":
                raise SourceError("the server ended the stream")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _lost(self) -> SourceError:
        return SourceError(f"{self._address.place} closed the connection")

    def _refusal(self, answer: Answer) -> SourceError:
        status = answer.status
        if status == 401 and self.login is None:
            return SourceError(
                f"the server wants a user and password (401); write rtsp://user:password@host/path, "
                f"or set {USER_VARIABLE} and {PASSWORD_VARIABLE}"
            )
        if status in {401, 403}:
            return SourceError(f"the server does not accept this user and password ({status}); check both")
        if status == 404:
            return SourceError("the server has no stream of this path (404); check the path")
        if status == 461:
            return SourceError("the server does not send over this transport (461); try tcp or udp")
        if 300 <= status < 400:
            return SourceError(f"the server sends us to another address ({status}), but gives none")
        # The server's own words may repeat the request, and with it secrets of the query.
        return SourceError(f"the server refused with status {status}; look into its own log")


def wait_readable(waiting: socket.socket, deadline: float) -> bool:
    """Wait until there is something to read; False if the deadline passed."""
    pending = getattr(waiting, "pending", None)
    if pending is not None and pending():
        return True
    return _wait(waiting, select.POLLIN, deadline)


def _wait(waiting: socket.socket, event: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(waiting, event)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _connect(address: RtspAddress, deadline: float) -> socket.socket:
    failure: OSError | None = None
    candidates = _resolve(address, deadline)
    for place, (family, kind, protocol, _, target) in enumerate(candidates):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            found = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6, or too many open files
            failure = failure or error
            continue
        try:
            # A host may have an IPv6 address on a network that drops IPv6: time is left for the others.
            found.settimeout(left / (len(candidates) - place))
            found.connect(target)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls:
                found.settimeout(max(0.01, deadline - time.monotonic()))
                found = _secure(found, address, deadline)
            found.settimeout(0)
            return found
        except OSError as error:
            found.close()
            failure = error
        except ValueError as error:
            found.close()
            raise SourceError(f"{address.host[:80]} is no name of a host; check the address") from error
        except SourceError:
            found.close()
            raise
    raise _why_no_connection(address, failure) from failure


def _secure(plain: socket.socket, address: RtspAddress, deadline: float) -> ssl.SSLSocket:
    """The encrypted connection; only to a server whose certificate is trusted, or is the one that was pinned.

    Scanners and cameras often bring a certificate that they made themselves, or one for another name.
    """
    pinned = re.sub(r"[^0-9a-f]", "", os.environ.get(FINGERPRINT_VARIABLE, "").lower().removeprefix("sha256"))
    context = ssl.create_default_context()
    if pinned:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        secured = context.wrap_socket(plain, server_hostname=address.host.partition("%")[0])
    except ssl.SSLCertVerificationError as error:
        raise _why_not_trusted(address, error, deadline) from error
    if pinned and not secrets.compare_digest(pinned, _fingerprint(secured)):
        shown = _fingerprint(secured)
        secured.close()
        raise SourceError(
            f"the certificate of {address.place} is not the pinned one (its SHA-256 fingerprint is {shown}); "
            f"check who answers there, or correct {FINGERPRINT_VARIABLE}"
        )
    return secured


def _fingerprint(secured: ssl.SSLSocket) -> str:
    return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


def _why_not_trusted(
    address: RtspAddress, error: ssl.SSLCertVerificationError, deadline: float
) -> SourceError:
    """Tells a certificate for another name from one that nobody known has signed, and how to pin it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shown = "unknown"
    with contextlib.suppress(OSError):
        left = max(0.1, deadline - time.monotonic())
        plain = socket.create_connection((address.host, address.port), left)
        with context.wrap_socket(plain, server_hostname=address.host.partition("%")[0]) as secured:
            shown = _fingerprint(secured)
    pin = f"or, if its SHA-256 fingerprint {shown} is the device's own, set {FINGERPRINT_VARIABLE} to that"
    if error.verify_code in _OTHER_NAME:
        return SourceError(
            f"the certificate of {address.place} is for another name; use that name in the address, {pin}"
        )
    return SourceError(
        f"the certificate of {address.place} is not trusted ({error.verify_message}); "
        f"name the authority that signed it in SSL_CERT_FILE, {pin}"
    )


class _Lookup(threading.Thread):
    """Resolves a host. The system's resolver has no time-out, so a thread waits for it."""

    _pending: ClassVar[dict[tuple[str, int], _Lookup]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="streamseg-rtsp-resolve", daemon=True)
        self._key = host, port
        self.found: list[tuple[Any, ...]] = []

    @classmethod
    def of(cls, host: str, port: int) -> _Lookup:
        """The one that is under way, or a new one: a resolver that hangs must not collect threads."""
        with cls._lock:
            lookup = cls._pending.get((host, port))
            if lookup is None:
                lookup = cls._pending[host, port] = cls(host, port)
                lookup.start()
            return lookup

    def run(self) -> None:
        try:
            self.found = list(socket.getaddrinfo(*self._key, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError, ValueError):
            self.found = []
        finally:
            with self._lock:
                del self._pending[self._key]


def _resolve(address: RtspAddress, deadline: float) -> list[tuple[Any, ...]]:
    """Addresses of the host, found before ``deadline``. Raises SourceError."""
    lookup = _Lookup.of(address.host, address.port)
    lookup.join(max(0.0, deadline - time.monotonic()))
    if lookup.is_alive():
        raise SourceError(f"the name {address.host} is not resolved in time; check the network")
    if not lookup.found:
        raise SourceError(f"there is no host {address.host}; check the name")
    return lookup.found


def _why_no_connection(address: RtspAddress, failure: OSError | None) -> SourceError:
    place = address.place
    if failure is None or isinstance(failure, TimeoutError):
        return SourceError(f"{place} does not answer; check host, port and network")
    if isinstance(failure, ConnectionRefusedError):
        return SourceError(f"nothing listens at {place} (connection refused); check that the server runs")
    if isinstance(failure, ssl.SSLError):
        return SourceError(f"{place} does not speak TLS; try rtsp:// instead of rtsps://")
    reason = failure.strerror or type(failure).__name__
    return SourceError(f"{place} cannot be reached ({reason}); check host and network")
