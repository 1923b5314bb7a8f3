"""Plays one video track of an RTSP server, over TCP or UDP, and keeps the session alive."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence

from streamseg.capture.rtsp.address import RtspAddress
from streamseg.capture.rtsp.connection import Connection, Redirected
from streamseg.capture.rtsp.messages import Answer, Interleaved
from streamseg.capture.rtsp.rtp import SenderReport, parse_control
from streamseg.capture.rtsp.sdp import VideoTrack, find_video
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.numbers import read_integer

_RECEIVE_BUFFER = 4 << 20
_DATAGRAM = 65536
_KEEP_ALIVE_SECONDS = 60
_CHANNELS = (0, 1)
_MAX_DATAGRAMS = 512
_MAX_REDIRECTS = 5
_MAX_REPORTS = 4
_SIGNS = ("GET_PARAMETER", "OPTIONS")
_UNSUPPORTED = (400, 404, 405, 451, 454, 455, 459, 500, 501, 503, 551)
_NO_OPTIONS = (400, 405, 451, 454, 455, 500, 501, 551)
"""Answers of servers that do not know OPTIONS, or only within a session; DESCRIBE shows whether they work."""
_NO_RANGE, _NO_AGGREGATE = 457, 459
"""Answers to PLAY of servers whose live streams have no range, or that play single tracks only."""
_unfit_signs: dict[str, set[str]] = {}
"""By host and port the requests that did not keep a session alive there, or ended it."""

Packet = tuple[bytes, int]
"""An RTP packet, and the monotonic nanoseconds at which it arrived."""


class RtspSession:
    """A stream that plays from the constructor on. Not for two threads at once, except :meth:`wake`."""

    def __init__(self, address: RtspAddress, transport: str, deadline: float) -> None:
        """Connect, log in and play before ``deadline`` (``time.monotonic()``).

        ``transport`` is ``tcp`` or ``udp``. Redirects are followed, up to five. Raises SourceError with the
        reason alone.
        """
        self._sockets: list[socket.socket] = []
        self.sender: int | None = None
        """The synchronisation source that the server announced for UDP, if it did."""
        self.strangers = ""
        """An address that sent UDP packets to us, but is not the server's."""
        self.reports: deque[SenderReport] = deque(maxlen=_MAX_REPORTS)
        """What the sender has reported of its clock, until somebody takes it."""
        self._sign_pending = 0.0
        self._played: float | None = None
        self._heard = 0.0
        self._own_number = secrets.token_bytes(4)
        self._server_ports: tuple[int, int] | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        try:
            self._connect(address, transport, deadline)
        except BaseException:
            self._wake_reader.close()
            self._wake_writer.close()
            raise
        self._played = self._heard = time.monotonic()
        self._next_sign = self._played + self._sign_seconds

    def _connect(self, address: RtspAddress, transport: str, deadline: float) -> None:
        """Connect and play, at another address if the server says so."""
        for _ in range(_MAX_REDIRECTS + 1):
            self._connection = Connection(address, deadline)
            self._place = address.place
            try:
                self._play(address, transport, deadline)
            except Redirected as redirected:
                self._connection.close()
                for opened in self._sockets:
                    opened.close()
                self._sockets = []
                try:
                    target = address.redirected(redirected.location)
                except UsageError as error:
                    raise SourceError(
                        f"the server sends us to another address ({redirected.status}), which is not RTSP"
                    ) from error
                if address.tls and not target.tls:
                    raise SourceError("the server sends us to an address that is not encrypted") from None
                address = target
            except BaseException:
                self.close()
                raise
            else:
                return
        raise SourceError(f"the server sent us on more than {_MAX_REDIRECTS} times; check its redirects")

    def _play(self, address: RtspAddress, transport: str, deadline: float) -> None:
        options = self._connection.ask("OPTIONS", address.url, deadline, also=_NO_OPTIONS)
        offered = "GET_PARAMETER" in options.header("public").upper()
        self._choose_sign(_SIGNS if offered else _SIGNS[::-1])
        described = self._connection.ask("DESCRIBE", address.url, deadline, Accept="application/sdp")
        self.track: VideoTrack = find_video(described.body, _base(described, address))
        wanted = "RTP/AVP/TCP;unicast;interleaved=0-1" if transport == "tcp" else self._open_ports()
        answer = self._connection.ask("SETUP", self.track.url, deadline, Transport=wanted)
        self._read_setup(answer, transport)
        played = self._connection.ask(
            "PLAY", self.track.session_url, deadline, (_NO_RANGE, _NO_AGGREGATE), Range="npt=0.000-"
        )
        if played.status == _NO_RANGE:
            self._connection.ask("PLAY", self.track.session_url, deadline)
        elif played.status == _NO_AGGREGATE:
            self._connection.ask("PLAY", self.track.url, deadline, Range="npt=0.000-")

    def _read_setup(self, answer: Answer, transport: str) -> None:
        identifier, _, parameters = answer.header("session").partition(";")
        timeout = re.search(r"timeout\s*=\s*([0-9]{1,5})", parameters, re.I)
        self._timeout = float(timeout[1]) if timeout and int(timeout[1]) else _KEEP_ALIVE_SECONDS
        # Two signs within the server's patience.
        self._sign_seconds = self._timeout / 2.5
        self._connection.join_session(identifier.strip())
        given = answer.header("transport")
        if "multicast" in given.lower():
            raise SourceError("the server sends by multicast only; set it to unicast")
        if transport == "tcp" and re.search(r"client_port|server_port|RTP/AVP/UDP", given, re.I):
            raise SourceError("the server sends over UDP although it was asked for TCP; try --transport udp")
        if transport == "udp" and re.search(r"interleaved|RTP/AVP/TCP", given, re.I):
            raise SourceError("the server sends over TCP although it was asked for UDP; try --transport tcp")
        if transport == "tcp":
            self._channels = _pair(given, "interleaved", 255) or _CHANNELS
            return
        self._server_ports = _pair(given, "server_port", 65535)
        self._source = self._connection.peer
        if source := re.search(r"source=([0-9a-fA-F.:\[\]]{2,45})", given, re.I):
            # Some servers send media from another address than they answer on.
            with contextlib.suppress(ValueError):
                self._source = str(ipaddress.ip_address(source[1].strip("[]")))
        if sender := re.search(r"ssrc=\s*([0-9a-fA-F]{1,8})(?![0-9a-fA-F])", given, re.I):
            self.sender = int(sender[1], 16)
        if self._server_ports:
            self._pierce()

    def _open_ports(self) -> str:
        """Bind an even port and the next one; returns what to ask the server for."""
        host, _, *scope = self._connection.local
        for _ in range(64):
            data = socket.socket(self._connection.family, socket.SOCK_DGRAM)
            control = socket.socket(self._connection.family, socket.SOCK_DGRAM)
            try:
                data.bind((host, 0, *scope))
                port = int(data.getsockname()[1])
                if port % 2 == 0:
                    control.bind((host, port + 1, *scope))
                    break
            except OSError:
                pass
            data.close()
            control.close()
        else:
            raise SourceError("no two neighbouring UDP ports are free; use tcp")
        # A key frame arrives as a burst of many packets.
        data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._sockets = [data, control]
        for opened in self._sockets:
            opened.setblocking(False)
        return f"RTP/AVP;unicast;client_port={port}-{port + 1}"

    def _pierce(self) -> None:
        """Open the way through firewalls that let only answers in."""
        if self._server_ports:
            with contextlib.suppress(OSError):
                self._sockets[0].sendto(b"\x80\0\0\0" + bytes(8), (self._source, self._server_ports[0]))
            self._send_control(b"\x80\xc9\0\1" + self._own_number)

    def receive(self, seconds: float) -> list[Packet]:
        """Packets that arrived, after waiting at most this long for the first; none after :meth:`wake`.

        Raises SourceError when the connection or the stream has ended.
        """
        try:
            packets = self._receive(seconds)
        except SourceError:
            self._blame_sign(time.monotonic())
            raise
        if packets:
            self._heard = time.monotonic()
        return packets

    def _receive(self, seconds: float) -> list[Packet]:
        packets = list(self._sort(list(self._connection.early), time.monotonic_ns()))
        self._connection.early.clear()
        self._keep_alive()
        if packets:
            return packets
        if self._connection.more:
            seconds = 0.0
        poll = select.poll()
        sockets = (self._wake_reader, *self._sockets)
        for number in (self._connection.fileno(), *(opened.fileno() for opened in sockets)):
            poll.register(number, select.POLLIN)
        ready = {number for number, _ in poll.poll(min(seconds, self._sign_seconds) * 1000)}
        now = time.monotonic_ns()
        if self._wake_reader.fileno() in ready:
            self._wake_reader.recv(64)
        for opened in self._sockets:
            if opened.fileno() in ready:
                packets += self._datagrams(opened, now)
        if self._connection.fileno() in ready or self._connection.more:
            messages: list[Answer | Interleaved] = []
            try:
                messages.extend(self._connection.read())
            finally:
                packets += self._sort(messages, now)
        return packets

    def _sort(self, messages: Sequence[Answer | Interleaved], now: int) -> Iterator[Packet]:
        for message in messages:
            if isinstance(message, Answer):
                self._heed(message)
            elif not self._sockets and message.channel == self._channels[0]:
                yield message.payload, now
            elif not self._sockets and message.channel == self._channels[1]:
                self._heed_control(message.payload)

    def _datagrams(self, opened: socket.socket, now: int) -> Iterator[Packet]:
        media = opened is self._sockets[0]
        ports = self._server_ports
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(_MAX_DATAGRAMS):
                data, sender = opened.recvfrom(_DATAGRAM)
                if sender[0] != self._source or (ports and sender[1] != ports[0 if media else 1]):
                    self.strangers = f"{sender[0]}:{sender[1]}"
                    continue  # anyone can send here
                if media:
                    yield data, now
                else:
                    self._heed_control(data)

    def _heed(self, answer: Answer) -> None:
        """An answer to a sign of life: a login may have expired, or the session."""
        self._sign_pending = 0.0
        login = self._connection.login
        if answer.status in _UNSUPPORTED and answer.status != 454:
            self._refuse_sign()
        if answer.status == 401 and login and login.challenge(answer.headers.get("www-authenticate", [])):
            self._next_sign = min(self._next_sign, time.monotonic() + 1)
        elif answer.status == 454:
            raise SourceError("the server has forgotten the session (454)")

    def _heed_control(self, data: bytes) -> None:
        """Keep sender reports. Raises SourceError if the stream's sender says goodbye."""
        reports, leaves = parse_control(data)
        self.reports.extend(reports)
        if leaves:
            raise SourceError("the server ended the stream")

    def _keep_alive(self) -> None:
        if time.monotonic() >= self._next_sign:
            self._next_sign = time.monotonic() + self._sign_seconds
            self._sign_pending = time.monotonic()
            self._connection.send_request(self._sign, self.track.session_url)

    def _choose_sign(self, preferred: Sequence[str]) -> None:
        unfit = _unfit_signs.get(self._place, set())
        self._sign = next((sign for sign in preferred if sign not in unfit), preferred[0])

    def _refuse_sign(self) -> None:
        """Take another request from now on: this one is not supported, or does not do what it should."""
        unfit = _unfit_signs.setdefault(self._place, set())
        unfit.add(self._sign)
        if unfit >= set(_SIGNS):
            unfit.clear()
        self._choose_sign(_SIGNS)

    def _blame_sign(self, ended: float) -> None:
        """Find out whether the stream ended, at this time, because of how it was kept alive.

        Some servers accept OPTIONS, and end the session after its time all the same; others close the
        connection when they are asked for GET_PARAMETER.
        """
        if self._played is None:
            return
        killed = self._sign_pending and time.monotonic() - self._sign_pending < 3.0
        forgotten = 0.8 * self._timeout < ended - self._played < 1.5 * self._timeout
        if killed or forgotten:
            self._refuse_sign()
        self._played = None  # found out once

    def ask_for_key(self, sender: int) -> None:
        """Ask the stream's sender for a key frame at once (RFC 4585, PLI). Not every server does it."""
        target = sender.to_bytes(4)
        self._send_control(b"\x80\xc9\0\1" + self._own_number + b"\x81\xce\0\2" + self._own_number + target)

    def _send_control(self, data: bytes) -> None:
        if not self._sockets:
            head = b"$" + bytes((self._channels[1],)) + len(data).to_bytes(2)
            self._connection.send(head + data)
        elif self._server_ports:
            with contextlib.suppress(OSError):
                self._sockets[1].sendto(data, (self._source, self._server_ports[1]))

    def wake(self) -> None:
        """End the wait of :meth:`receive`; from any thread."""
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"!")

    def close(self) -> None:
        """Tell the server, without waiting for its answer, and close all sockets."""
        if time.monotonic() - self._heard > 1.0:
            self._blame_sign(self._heard)  # the media stopped, and the connection did not
        with contextlib.suppress(SourceError, AttributeError):
            self._connection.leave(self.track.session_url)
        self._connection.close()
        for opened in (*self._sockets, self._wake_reader, self._wake_writer):
            opened.close()


def _base(described: Answer, address: RtspAddress) -> str:
    """What the addresses in a description are relative to; some servers send a path alone, or nonsense."""
    for name in ("content-base", "content-location"):
        given = described.header(name)
        with contextlib.suppress(UsageError):
            if given and re.match(r"rtsps?://", given, re.IGNORECASE):
                return given
            if given:
                return address.redirected(given).url
    return address.url


def _pair(text: str, key: str, maximum: int) -> tuple[int, int] | None:
    """Two numbers of a Transport header, such as ``interleaved=0-1``; some servers give only the first."""
    found = re.search(rf"{key}=([0-9]{{1,5}})(?:-([0-9]{{1,5}}))?", text, re.I)
    if found is None:
        return None
    first = read_integer(found[1], 0, maximum)
    second = read_integer(found[2], 0, maximum) if found[2] else None if first is None else first + 1
    if first is None or second is None or second > maximum:
        raise SourceError(f"the server answers with {key}={found[1]}, which makes no sense; try tcp or udp")
    return first, second
