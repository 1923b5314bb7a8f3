"""Live images from OpenIGTLink servers: ``igtl://host:port/device``; PLUS, Clarius, 3D Slicer and others.

The protocol's time stamps are of the sender's clock, which may be any. They always tell how much later than
others a frame came (see :mod:`streamseg.capture.rtsp.lateness`). They count as the time of capture only if
both clocks are one: the server runs on this machine, or the address says ``?clock=shared``, for clocks that
are kept together by NTP or PTP.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import cv2
import numpy as np

from streamseg.capture.geometry import MAX_FRAME_PIXELS, square_pixels
from streamseg.capture.rtsp.lateness import LatenessEstimator
from streamseg.core.errors import SourceError, UsageError, one_line
from streamseg.core.numbers import read_integer
from streamseg.core.printable import printable
from streamseg.core.types import Frame, Image, Say, SourceInfo
from streamseg.openigtlink.message import (
    HEADER_BYTES,
    Header,
    ImageContent,
    content,
    is_intact,
    to_8_bits,
)

DEFAULT_PORT = 18944
_ADDRESS = re.compile(
    r"igtl://(?P<host>\[[0-9a-f:.]+\]|[^/?#:@\[\]\s]+)(?::(?P<port>\d{1,5}))?"
    r"(?:/(?P<device>[^/?#\s]{0,20}))?(?:\?clock=(?P<clock>shared))?",
    re.IGNORECASE,
)
_MAX_BYTES = MAX_FRAME_PIXELS * 8 + (1 << 20)
"""Limit on an IMAGE message: four channels of 16 bits, and metadata."""
_MAX_AGE_NS = 10_000_000_000
_TOLERANCE_NS = 2_000_000
_CHUNK = 1 << 16
_NAMES = 8


@dataclass(frozen=True, slots=True)
class Address:
    """The address of an OpenIGTLink server."""

    host: str
    port: int
    device: str = ""
    """Name of the device whose images are wanted; empty: the first that sends some."""
    shared_clock: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``igtl://host[:port][/device][?clock=shared]``. Raises UsageError."""
        found = _ADDRESS.fullmatch(text.strip()) if text.isprintable() else None
        port = None if found is None else read_integer(found["port"] or str(DEFAULT_PORT), 1, 65_535)
        if found is None or port is None:
            raise UsageError(
                "this is not an OpenIGTLink address; write igtl://HOST:PORT, igtl://HOST:PORT/DEVICE for one "
                "of several images, and ?clock=shared at the end if both clocks are kept together"
            )
        return cls(found["host"].strip("[]"), port, found["device"] or "", bool(found["clock"]))

    @property
    def label(self) -> str:
        """The address to show."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"igtl://{host}:{self.port}" + (f"/{self.device}" if self.device else "")

    @property
    def name(self) -> str:
        """For file names: ``192.168.1.5-18944``."""
        parts = [self.host, str(self.port), *([self.device] if self.device else [])]
        return re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-")


class OpenIGTLinkSource:
    """Frames of the IMAGE messages of one device. Implements :class:`streamseg.core.types.Source`.

    Images are grey or RGB with 8 or 16 bits; 16-bit ones lose their lowest bits, as many as the largest value
    so far does not leave room for. Messages whose CRC is wrong are left out and counted in ``damaged``.
    ``spacing_mm`` comes from the image's matrix; pixels that are not square are made so.
    """

    live = True

    def __init__(
        self,
        url: str,
        *,
        open_seconds: float = 5.0,
        read_seconds: float = 2.0,
        on_wait: Say = lambda _: None,
    ) -> None:
        """Connect and wait for the first image, for ``open_seconds`` altogether.

        Iterating raises SourceError if no intact image comes for ``read_seconds``. ``on_wait`` is called
        about once a second while other messages arrive, but no image. Raises UsageError (the address is
        wrong) and SourceError (no such host, refused, no image in time, one of a kind that is not read, ...).
        """
        self._address = Address.parse(url)
        self._device, self._read_seconds, self._on_wait = self._address.device, read_seconds, on_wait
        self._others: set[str] = set()
        self._said = 0.0
        self._closed = threading.Event()
        self._lateness = LatenessEstimator()
        self._clock_note = ""
        self._shift = self._delivered = 0
        self.damaged = 0
        """Messages left out so far because their CRC was wrong."""
        deadline = time.monotonic() + open_seconds
        with self._named():
            self._socket = _connect(self._address, open_seconds)
            self._one_clock = self._address.shared_clock or _is_this_machine(self._socket)
            try:
                self._first: Frame | None = self._read(deadline, open_seconds)
            except BaseException:
                self._socket.close()
                raise
        height, width = self._first.shape
        self.info = SourceInfo(
            name=self._address.name,
            height=height,
            width=width,
            clock=self._clock,
        )

    @property
    def _clock(self) -> str:
        return "driver" if self._one_clock and not self._clock_note else "arrival"

    @property
    def clock_note(self) -> str:
        """What was noticed about the sender's clock, one line; empty while it keeps time."""
        return self._clock_note or self._lateness.note

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        first, self._first = self._first, None
        if self._closed.is_set():
            raise StopIteration
        if first is not None:
            return first
        with self._named():
            try:
                frame = self._read(time.monotonic() + self._read_seconds, self._read_seconds)
            except SourceError:
                if self._closed.is_set():
                    raise StopIteration from None
                raise
        if self._clock != self.info.clock:
            self.info = replace(self.info, clock=self._clock)
        return frame

    def _read(self, deadline: float, seconds: float) -> Frame:
        """The next frame. Raises SourceError."""
        damaged = self.damaged
        try:
            while True:
                header = self._header(deadline)
                arrived_ns = time.monotonic_ns()
                if header.kind != "IMAGE" or header.device != (self._device or header.device):
                    self._skip(header, deadline)
                    continue
                if header.size > _MAX_BYTES:
                    raise SourceError(
                        f"{header.device} sends a message of {header.size} bytes; the limit is {_MAX_BYTES}"
                    )
                body = bytearray(header.size)
                self._fill(body, deadline)
                if not is_intact(header, body):
                    self.damaged += 1
                    continue
                return self._frame(header, body, arrived_ns)
        except TimeoutError as error:
            raise SourceError(self._why_nothing(seconds, self.damaged - damaged)) from error
        except OSError as error:
            raise SourceError(f"the connection broke: {one_line(error)}") from error

    def _header(self, deadline: float) -> Header:
        data = bytearray(HEADER_BYTES)
        self._fill(data, deadline)
        try:
            return Header.parse(data)
        except ValueError as error:
            raise SourceError(f"{error}; check host and port") from error

    def _skip(self, header: Header, deadline: float) -> None:
        """Read over a message; at most a chunk of it is kept."""
        name = printable(header.device or header.kind)
        if header.kind == "IMAGE" and len(self._others) < _NAMES:
            self._others.add(name)
        if time.monotonic() - self._said >= 1:
            self._said = time.monotonic()
            self._on_wait("the server sends messages; waiting for an image")
        left = header.size
        chunk = bytearray(min(_CHUNK, left))
        while left:
            part = memoryview(chunk)[: min(_CHUNK, left)]
            self._fill(part, deadline)
            left -= len(part)

    def _fill(self, buffer: bytearray | memoryview, deadline: float) -> None:
        """Read as many bytes as the buffer holds. Raises TimeoutError, OSError, SourceError."""
        view = memoryview(buffer)
        while view:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            count = self._socket.recv_into(view)
            if count == 0:
                raise SourceError("the server closed the connection")
            view = view[count:]

    def _frame(self, header: Header, body: bytearray, arrived_ns: int) -> Frame:
        try:
            found = ImageContent.parse(content(header, body), MAX_FRAME_PIXELS)
        except ValueError as error:
            raise SourceError(f"{printable(header.device)} sends {error}") from error
        self._device = self._device or header.device
        image, spacing = self._pixels(found), found.spacing_mm
        if spacing is not None:
            row, column = spacing
            height, width = image.shape[:2]
            image = square_pixels(image, Fraction(column / row).limit_denominator(10_000))
            spacing = row * height / image.shape[0], column * width / image.shape[1]
        index, self._delivered = self._delivered, self._delivered + 1
        captured_ns = self._captured_ns(header.sent_ns, arrived_ns)
        seconds = header.sent_ns / 1e9 if header.sent_ns else None
        return Frame(image, index, captured_ns, pts_seconds=seconds, spacing_mm=spacing)

    def _pixels(self, found: ImageContent) -> Image:
        samples = found.samples
        if samples.dtype.itemsize == 2:
            # It only grows: a scale that followed each frame would flicker.
            self._shift = max(self._shift, max(0, int(samples.max())).bit_length() - 8)
            samples = to_8_bits(samples, self._shift)
        if samples.ndim == 2:
            return np.asarray(samples, np.uint8)
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(samples), cv2.COLOR_RGB2BGR), np.uint8)

    def _captured_ns(self, sent_ns: int, arrived_ns: int) -> int:
        """When a frame counts as captured; never later than its arrival."""
        captured_ns = self._lateness.captured_ns(sent_ns, arrived_ns)
        if not self._one_clock:
            return captured_ns
        age_ns = time.time_ns() - (time.monotonic_ns() - arrived_ns) - sent_ns
        if -_TOLERANCE_NS <= age_ns <= _MAX_AGE_NS:
            self._clock_note = ""
            return min(captured_ns, arrived_ns - age_ns)
        ahead = "ahead of" if age_ns < 0 else "behind"
        self._clock_note = f"the sender's clock is {ahead} ours; ages count from arrival"
        return captured_ns

    def _why_nothing(self, seconds: float, damaged: int) -> str:
        if damaged:
            return f"no intact image for {seconds:g} s: {damaged} had a wrong checksum"
        if self._delivered:
            return f"no image for {seconds:g} s"
        if self._others:
            names = ", ".join(sorted(self._others))
            return f"no image of {self._device} within {seconds:g} s; the server sends {names}"
        return f"connected, but no image came within {seconds:g} s; make the server send images"

    def close(self) -> None:
        """Leave the server; from any thread, even while another waits for a frame."""
        self._closed.set()
        with contextlib.suppress(OSError):  # the server has left already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Prefix errors with the address."""
        try:
            yield
        except SourceError as error:
            raise SourceError(f"{self._address.label}: {error}") from error.__cause__


def _connect(address: Address, seconds: float) -> socket.socket:
    try:
        return socket.create_connection((address.host, address.port), timeout=seconds)
    except TimeoutError as error:
        raise SourceError(f"no answer within {seconds:g} s; check host and port") from error
    except OSError as error:
        raise SourceError(f"cannot connect: {one_line(error)}; is the server on?") from error
    except UnicodeError as error:  # a name that no host can have
        raise SourceError("there is no such host") from error


def _is_this_machine(connection: socket.socket) -> bool:
    """Whether the other end has an address of this machine."""
    here, there = str(connection.getsockname()[0]), str(connection.getpeername()[0])
    return here == there or ipaddress.ip_address(there.partition("%")[0]).is_loopback
