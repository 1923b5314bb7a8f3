"""The connection to an RTSP server: opened, asked and read, with a limit on every wait."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

from streamseg.capture.rtsp.address import PASSWORD_VARIABLE, USER_VARIABLE, RtspAddress
from streamseg.capture.rtsp.auth import Login
from streamseg.capture.rtsp.messages import Answer, Interleaved, MessageParser
from streamseg.core.errors import SourceError

_CHUNK = 1 << 18
_SEND_SECONDS = 0.5
_AGENT = "streamseg"


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
        self.early: list[Interleaved] = []
        """Packets that came while an answer was awaited."""

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def peer(self) -> str:
        """The server's IP address."""
        return str(self._socket.getpeername()[0])

    @property
    def local(self) -> str:
        """The IP address by which the server sees us."""
        return str(self._socket.getsockname()[0])

    @property
    def family(self) -> socket.AddressFamily:
        return self._socket.family

    def join_session(self, identifier: str) -> None:
        """Name this session in all requests from now on."""
        self._session = identifier

    def ask(self, method: str, url: str, deadline: float, **headers: str) -> Answer:
        """Send a request and wait for its answer; log in where the server asks for it. Raises SourceError."""
        answer = self._ask_once(method, url, deadline, headers)
        if (
            answer.status == 401
            and self.login
            and self.login.challenge(answer.headers.get("www-authenticate", []))
        ):
            answer = self._ask_once(method, url, deadline, headers)
        if answer.status != 200:
            raise self._refusal(answer)
        return answer

    def _ask_once(self, method: str, url: str, deadline: float, headers: dict[str, str]) -> Answer:
        self.send_request(method, url, headers)
        while True:
            if not wait_readable(self._socket, deadline):
                raise SourceError(f"{self._address.place} does not answer; check that the server runs")
            for message in self.read():
                if isinstance(message, Interleaved):
                    self.early.append(message)
                elif message.header("cseq") in {str(self._number), ""} and message.status >= 200:
                    return message

    def send_request(self, method: str, url: str, headers: dict[str, str] | None = None) -> None:
        """Send a request, and wait for no answer."""
        self._number += 1
        lines = {"CSeq": str(self._number), "User-Agent": _AGENT}
        if self._session:
            lines["Session"] = self._session
        if self.login and (authorization := self.login.header(method, url)):
            lines["Authorization"] = authorization
        lines |= headers or {}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"{method} {url} RTSP/1.0\r\n{text}\r\n".encode())

    def send(self, data: bytes) -> None:
        """Send all of it within half a second. Raises SourceError."""
        deadline = time.monotonic() + _SEND_SECONDS
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([], [self._socket], [], left)[1]:
                    raise SourceError(f"{self._address.place} takes nothing any more") from None
            except OSError as error:
                raise self._lost() from error

    def read(self) -> Iterator[Answer | Interleaved]:
        """What has arrived, without waiting. Raises SourceError when the connection has ended."""
        ended = False
        while not ended:
            try:
                data = self._socket.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                raise self._lost() from error
            ended = not data
            self._parser.feed(data)
            # What came before the end counts.
            yield from self._parser.messages()
        if ended:
            raise self._lost()

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
            return SourceError(f"the server sends us to another address ({status}); give that one")
        # The server's own words may repeat the request, and with it secrets of the query.
        return SourceError(f"the server refused with status {status}; look into its own log")


def wait_readable(waiting: socket.socket, deadline: float) -> bool:
    """Wait until there is something to read; False when the deadline passed."""
    pending = getattr(waiting, "pending", None)
    if pending is not None and pending():
        return True
    poll = select.poll()
    poll.register(waiting, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _connect(address: RtspAddress, deadline: float) -> socket.socket:
    failure: OSError | None = None
    for family, kind, protocol, _, target in _resolve(address, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        found = socket.socket(family, kind, protocol)
        try:
            found.settimeout(left)
            found.connect(target)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls:
                found = ssl.create_default_context().wrap_socket(found, server_hostname=address.host)
            found.settimeout(0)
            return found
        except OSError as error:
            found.close()
            failure = error
    raise _why_no_connection(address, failure) from failure


def _resolve(address: RtspAddress, deadline: float) -> list[tuple[Any, ...]]:
    """Addresses of the host. The system's resolver has no time-out, so a thread waits for it."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, name="streamseg-rtsp-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise SourceError(f"the name {address.host} is not resolved in time; check the network") from None
    if isinstance(answer, list):
        return list(answer)
    raise SourceError(f"there is no host {address.host}; check the name")


def _why_no_connection(address: RtspAddress, failure: OSError | None) -> SourceError:
    place = address.place
    if failure is None or isinstance(failure, TimeoutError):
        return SourceError(f"{place} does not answer; check host, port and network")
    if isinstance(failure, ConnectionRefusedError):
        return SourceError(f"nothing listens at {place} (connection refused); check that the server runs")
    if isinstance(failure, ssl.SSLCertVerificationError):
        return SourceError(
            f"the certificate of {place} is not trusted ({failure.verify_message}); "
            f"name the authority that signed it in SSL_CERT_FILE"
        )
    if isinstance(failure, ssl.SSLError):
        return SourceError(f"{place} does not speak TLS; try rtsp:// instead of rtsps://")
    reason = failure.strerror or type(failure).__name__
    return SourceError(f"{place} cannot be reached ({reason}); check host and network")
