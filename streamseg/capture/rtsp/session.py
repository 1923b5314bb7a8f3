"""Plays one video track of an RTSP server, over TCP or UDP, and keeps the session alive."""

from __future__ import annotations

import contextlib
import re
import secrets
import select
import socket
import time
from collections.abc import Iterator

from streamseg.capture.rtsp.address import RtspAddress
from streamseg.capture.rtsp.connection import Connection
from streamseg.capture.rtsp.messages import Answer, Interleaved
from streamseg.capture.rtsp.sdp import VideoTrack, find_video
from streamseg.core.errors import SourceError

_RECEIVE_BUFFER = 4 << 20
_DATAGRAM = 65536
_BYE = 203
_KEEP_ALIVE_SECONDS = 60
_CHANNELS = (0, 1)

Packet = tuple[bytes, int]
"""An RTP packet, and the monotonic nanoseconds at which it arrived."""


class RtspSession:
    """A stream that plays from the constructor on. Not for two threads at once, but for :meth:`wake`."""

    def __init__(self, address: RtspAddress, transport: str, deadline: float) -> None:
        """Connect, log in and play before ``deadline`` (``time.monotonic()``).

        ``transport`` is ``tcp`` or ``udp``. Raises SourceError with the reason alone.
        """
        self._sockets: list[socket.socket] = []
        self._own_number = secrets.token_bytes(4)
        self._server_ports: tuple[int, int] | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        try:
            self._connection = Connection(address, deadline)
        except BaseException:
            self._wake_reader.close()
            self._wake_writer.close()
            raise
        try:
            self._play(address, transport, deadline)
        except BaseException:
            self.close()
            raise
        self._next_sign = time.monotonic() + self._sign_seconds

    def _play(self, address: RtspAddress, transport: str, deadline: float) -> None:
        options = self._connection.ask("OPTIONS", address.url, deadline)
        self._sign = "GET_PARAMETER" if "GET_PARAMETER" in options.header("public").upper() else "OPTIONS"
        described = self._connection.ask("DESCRIBE", address.url, deadline, Accept="application/sdp")
        base = described.header("content-base") or described.header("content-location") or address.url
        self.track: VideoTrack = find_video(described.body, base)
        wanted = "RTP/AVP/TCP;unicast;interleaved=0-1" if transport == "tcp" else self._open_ports()
        answer = self._connection.ask("SETUP", self.track.url, deadline, Transport=wanted)
        self._read_setup(answer, transport)
        self._connection.ask("PLAY", self.track.session_url, deadline, Range="npt=0.000-")

    def _read_setup(self, answer: Answer, transport: str) -> None:
        identifier, _, parameters = answer.header("session").partition(";")
        timeout = re.search(r"timeout=(\d{1,5})", parameters)
        # Two signs within the server's patience.
        self._sign_seconds = max(1.0, (int(timeout[1]) if timeout else _KEEP_ALIVE_SECONDS) / 2.5)
        self._connection.join_session(identifier.strip())
        given = answer.header("transport")
        pattern = (
            r"interleaved=(\d{1,3})-(\d{1,3})" if transport == "tcp" else r"server_port=(\d{1,5})-(\d{1,5})"
        )
        ports = re.search(pattern, given)
        if transport == "tcp":
            self._channels = (int(ports[1]), int(ports[2])) if ports else _CHANNELS
        elif ports:
            self._server_ports = int(ports[1]), int(ports[2])
            self._pierce()

    def _open_ports(self) -> str:
        """Bind an even port and the next one; returns what to ask the server for."""
        host = self._connection.local
        for _ in range(64):
            data = socket.socket(self._connection.family, socket.SOCK_DGRAM)
            control = socket.socket(self._connection.family, socket.SOCK_DGRAM)
            try:
                data.bind((host, 0))
                port = int(data.getsockname()[1])
                if port % 2 == 0:
                    control.bind((host, port + 1))
                    break
            except OSError:
                pass
            data.close()
            control.close()
        else:
            raise SourceError("no two neighbouring UDP ports are free; use tcp")
        # A key picture arrives as a burst of many packets.
        data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._sockets = [data, control]
        for opened in self._sockets:
            opened.setblocking(False)
        return f"RTP/AVP;unicast;client_port={port}-{port + 1}"

    def _pierce(self) -> None:
        """Open the way through firewalls that let only answers in."""
        if self._server_ports:
            with contextlib.suppress(OSError):
                self._sockets[0].sendto(
                    b"\x80\0\0\0" + bytes(8), (self._connection.peer, self._server_ports[0])
                )
            self._send_control(b"\x80\xc9\0\1" + self._own_number)

    def receive(self, seconds: float) -> list[Packet]:
        """Packets that arrived, after waiting at most so long for the first; none after :meth:`wake`.

        Raises SourceError when the connection or the stream has ended.
        """
        packets = list(self._sort(self._connection.early, time.monotonic_ns()))
        self._connection.early = []
        self._keep_alive()
        if packets:
            return packets
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
        if self._connection.fileno() in ready:
            messages: list[Answer | Interleaved] = []
            try:
                messages.extend(self._connection.read())
            finally:
                packets += self._sort(messages, now)
        return packets

    def _sort(self, messages: list[Answer | Interleaved] | list[Interleaved], now: int) -> Iterator[Packet]:
        for message in messages:
            if isinstance(message, Answer):
                self._heed(message)
            elif not self._sockets and message.channel == self._channels[0]:
                yield message.payload, now
            elif not self._sockets and message.channel == self._channels[1]:
                _check_control(message.payload)

    def _datagrams(self, opened: socket.socket, now: int) -> Iterator[Packet]:
        peer = self._connection.peer
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                data, sender = opened.recvfrom(_DATAGRAM)
                if sender[0] != peer:
                    continue  # anyone can send here
                if opened is self._sockets[0]:
                    yield data, now
                else:
                    _check_control(data)

    def _heed(self, answer: Answer) -> None:
        """An answer to a sign of life: a login may have expired, or the session."""
        login = self._connection.login
        if answer.status == 401 and login and login.challenge(answer.headers.get("www-authenticate", [])):
            self._next_sign = min(self._next_sign, time.monotonic() + 1)
        elif answer.status == 454:
            raise SourceError("the server has forgotten the session (454)")

    def _keep_alive(self) -> None:
        if time.monotonic() >= self._next_sign:
            self._next_sign = time.monotonic() + self._sign_seconds
            self._connection.send_request(self._sign, self.track.session_url)

    def ask_for_key(self, sender: int) -> None:
        """Ask the stream's sender for a key picture at once (RFC 4585, PLI). Not every server heeds it."""
        target = sender.to_bytes(4)
        self._send_control(b"\x80\xc9\0\1" + self._own_number + b"\x81\xce\0\2" + self._own_number + target)

    def _send_control(self, data: bytes) -> None:
        if not self._sockets:
            head = b"$" + bytes((self._channels[1],)) + len(data).to_bytes(2)
            self._connection.send(head + data)
        elif self._server_ports:
            with contextlib.suppress(OSError):
                self._sockets[1].sendto(data, (self._connection.peer, self._server_ports[1]))

    def wake(self) -> None:
        """End the wait of :meth:`receive`; from any thread."""
        with contextlib.suppress(OSError):
            self._wake_writer.send(b"!")

    def close(self) -> None:
        """Tell the server, without waiting for its answer, and close all sockets."""
        with contextlib.suppress(SourceError, AttributeError):
            self._connection.send_request("TEARDOWN", self.track.session_url)
        self._connection.close()
        for opened in (*self._sockets, self._wake_reader, self._wake_writer):
            opened.close()


def _check_control(data: bytes) -> None:
    """Raise SourceError where the stream's sender says goodbye (RTCP, one or more packets in one)."""
    place = 0
    while place + 4 <= len(data) and data[place] >> 6 == 2:
        if data[place + 1] == _BYE:
            raise SourceError("the server ended the stream")
        place += 4 + 4 * int.from_bytes(data[place + 2 : place + 4])
