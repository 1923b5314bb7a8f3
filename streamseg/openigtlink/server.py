"""A display that serves its views to OpenIGTLink's viewers, such as 3D Slicer.

One thread serves all viewers, and never waits for any of them: a viewer that has taken all of its last
message gets the next one, and after a view's last message the newest view. A slow viewer therefore gets fewer
views, each of them whole. What a view consists of is decided message by message, so that an outline which
expired on the way is left out.

A viewer shows each message as it comes. Therefore its outlines are taken away before it gets another image,
and when they expire: at any moment the outlines it was sent last are empty, or belong to the image it was
sent last.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import selectors
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np

from streamseg.core.errors import SinkError, UsageError, one_line
from streamseg.core.numbers import read_integer
from streamseg.core.printable import printable
from streamseg.core.types import Frame, Roi, Say, Segmentation, State, Structure
from streamseg.core.view import Command, View, without_expired_outline
from streamseg.openigtlink.message import (
    MAX_SIDE,
    UNKNOWN_SPACING,
    Body,
    image_body,
    outline_body,
    string_body,
)

DEFAULT_HOST = "127.0.0.1"
IMAGE, LABELS, STATE, NERVE = "Ultrasound", "Labels", "State", "nerve"
"""Names of the devices; the outlines of other structures are named after them."""
OLD_NS = 1_000_000_000
"""An image of a frame that was captured longer ago is not sent any more."""
STUCK_S = 5.0
"""Time after which a viewer whose network accepts no data is dropped."""
_SEND_BUFFER = 128 << 10
"""Bytes that the system keeps for a viewer: what is in there gets old, and cannot be taken back."""
_FAREWELL_S = 0.3
_CLOSE_S = 2.0
_MAX_TEXT = 300
_TICK_S = 0.5
_HIDDEN = (State.SOURCE_LOST, State.ENDED)
"""States whose frame is an old one."""
NOTICE = "research software, not a medical device"


def parse_place(text: str) -> tuple[str, int]:
    """Read ``PORT`` or ``HOST:PORT`` as (host, port); the host is 127.0.0.1 by default. Raises UsageError."""
    host, _, port = text.strip().rpartition(":")
    number = read_integer(port, 0, 65_535)
    if number is None or not host.isprintable() or " " in host or len(host) > 253:
        raise UsageError(f"igtl is {text[:80]!r}; give PORT or HOST:PORT, such as 18944 or 0.0.0.0:18944")
    return host.strip("[]") or DEFAULT_HOST, number


class OpenIGTLinkDisplay:
    """Serves views from construction to :meth:`close`, without a password: the protocol has none.

    ``host`` is the address to listen on, ``port`` 0 takes a free one. ``full_frame`` serves the machine's
    whole screen, which may name the patient, instead of the image only. ``viewers`` is how many may connect.
    ``say`` receives a line, in any thread, when one comes or goes. Raises UsageError for an address in use.
    """

    name = "OpenIGTLink"

    def __init__(
        self,
        *,
        host: str = DEFAULT_HOST,
        port: int = 18944,
        full_frame: bool = False,
        viewers: int = 8,
        say: Say = lambda message: None,
    ) -> None:
        self._full_frame, self._max_viewers, self._say = full_frame, viewers, say
        self._listening = _listen(host, port)
        self.port: int = self._listening.getsockname()[1]
        """The port on which it listens."""
        self._packet: _Packet | None = None
        self._viewers: list[_Viewer] = []
        self._closing = False
        self._failure: BaseException | None = None
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="streamseg-igtl", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"OpenIGTLinkDisplay(port={self.port})"

    @property
    def viewers(self) -> int:
        """Number of connected viewers."""
        return len(self._viewers)

    def show(self, view: View) -> None:
        """Pass a view to the viewers; never waits. Raises SinkError if the server has failed."""
        if self._failure is not None:
            raise SinkError(
                f"the OpenIGTLink server has ended: {type(self._failure).__name__}: "
                f"{one_line(self._failure, 200)}; start again"
            ) from self._failure
        if not self._closing:
            self._packet = _Packet(view, self._packet, full_frame=self._full_frame)
            self._wake()

    def poll(self) -> list[Command]:
        """Viewers give no commands."""
        return []

    def close(self) -> None:
        """Take the outlines away from all viewers, tell them the end, and disconnect; within a second."""
        self._closing = True
        self._wake()
        self._thread.join(_CLOSE_S)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake up; closed: there is nothing to wake
            self._waker.send(b"\0")

    # The server's thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                self._step(self._wait_s())
            self._say_farewell()
        except BaseException as error:  # for the loop, which reports it
            self._failure = error
        finally:
            for viewer in self._viewers:
                viewer.connection.close()
            self._viewers.clear()
            self._selector.close()
            for end in (self._listening, self._woken, self._waker):
                end.close()

    def _wait_s(self) -> float:
        """Seconds until an outline expires at a viewer, or the next look at those that are stuck."""
        times = [v.outlined.view.expires_ns for v in self._viewers if v.outlined is not None and v.idle]
        expiries = [time_ns for time_ns in times if time_ns is not None]
        if not expiries:
            return _TICK_S
        return min(_TICK_S, max(0.0, (min(expiries) - time.monotonic_ns()) / 1e9))

    def _step(self, wait_s: float) -> None:
        for key, events in self._selector.select(wait_s):
            if key.fileobj is self._listening:
                self._accept()
            elif key.fileobj is self._woken:
                with contextlib.suppress(OSError):
                    self._woken.recv(4096)
            elif events & selectors.EVENT_READ and not key.data.hears():
                self._drop(key.data, "left")
        for viewer in list(self._viewers):
            self._serve(viewer)

    def _accept(self) -> None:
        try:
            connection, address = self._listening.accept()
        except OSError:  # it left before it was let in, or this process has too many open files
            time.sleep(0.01)  # the latter goes on, and select would return at once
            return
        if len(self._viewers) >= self._max_viewers:
            connection.close()
            self._say(f"OpenIGTLink: {address[0]} was turned away, {self._max_viewers} viewers are connected")
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        viewer = _Viewer(connection, str(address[0]))
        self._viewers.append(viewer)
        self._selector.register(connection, selectors.EVENT_READ, viewer)
        self._say(f"OpenIGTLink: {viewer.peer} has connected")

    def _drop(self, viewer: _Viewer, why: str) -> None:
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self._selector.unregister(viewer.connection)
            viewer.connection.close()
            self._say(f"OpenIGTLink: {viewer.peer} {why}")

    def _serve(self, viewer: _Viewer) -> None:
        """Send what the viewer takes now, from as many messages as that are."""
        try:
            while viewer.rest or self._next(viewer):
                if not viewer.send():
                    break
        except OSError as error:
            self._drop(viewer, f"was lost: {one_line(error)}")
            return
        if viewer.rest and time.monotonic() - viewer.moved > STUCK_S:
            self._drop(viewer, f"was dropped, because its network accepted no data for {STUCK_S:g} s")
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if viewer.rest else 0)
        if self._selector.get_key(viewer.connection).events != wanted:
            self._selector.modify(viewer.connection, wanted, viewer)

    def _next(self, viewer: _Viewer) -> bool:
        """Give the viewer its next message; False if there is none."""
        for _ in range(2):
            if viewer.bundle is None:
                packet = self._packet
                if packet is None or (packet is viewer.packet and not viewer.holds_expired()):
                    return False
                viewer.packet, viewer.bundle = packet, _messages(viewer, packet)
            if (message := next(viewer.bundle, None)) is not None:
                viewer.give(message)
                return True
            viewer.bundle = None
        return False

    def _say_farewell(self) -> None:
        ended = View(0, time.monotonic_ns(), State.ENDED, "streamseg has ended")
        self._packet = _Packet(ended, None, full_frame=False)
        deadline = time.monotonic() + _FAREWELL_S
        while time.monotonic() < deadline and not all(
            viewer.idle and viewer.packet is self._packet for viewer in self._viewers
        ):
            self._step(0.02)


class _Viewer:
    """A connected viewer: what is on the way to it, and what it shows."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        self.connection, self.peer = connection, peer
        self.packet: _Packet | None = None
        """The view that it gets, or got last."""
        self.bundle: Iterator[tuple[bytes, bytes]] | None = None
        """The rest of that view's messages."""
        self.rest: list[memoryview] = []
        """The rest of the message that is on the way."""
        self.moved = time.monotonic()
        """When it took some of it last."""
        self.frame: Frame | None = None
        """The frame whose image it has."""
        self.outlined: _Packet | None = None
        """The view whose outlines it has, or has a part of; None if they were taken away."""
        self.text = ""
        """The state that it was told."""

    @property
    def idle(self) -> bool:
        """Whether it has all that it was to get."""
        return not self.rest and self.bundle is None

    def holds_expired(self) -> bool:
        """Whether it has outlines that must be taken away."""
        return self.outlined is not None and self.outlined.expired(time.monotonic_ns())

    def give(self, message: tuple[bytes, bytes]) -> None:
        """Put a message on the way."""
        self.rest = [memoryview(part) for part in message if part]
        self.moved = time.monotonic()

    def send(self) -> bool:
        """Send as much as it takes; False if it takes no more now. Raises OSError."""
        try:
            while self.rest:
                sent = self.connection.send(self.rest[0])
                self.moved = time.monotonic()
                self.rest[0] = self.rest[0][sent:]
                if not self.rest[0]:
                    del self.rest[0]
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def hears(self) -> bool:
        """Take what the viewer sends, which is of no interest; False if it has left."""
        try:
            return bool(self.connection.recv(1 << 16))
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False


class _Packet:
    """A view as messages. Each is made when the first viewer needs it, in the server's thread."""

    def __init__(self, view: View, last: _Packet | None, *, full_frame: bool) -> None:
        """``last`` is the view before this one; ``full_frame``: not only the image region."""
        self.view = view
        offset_ns = time.time_ns() - time.monotonic_ns()
        self._decided_ns = offset_ns + view.at_ns
        self.stamp_ns = self._decided_ns
        """The time stamp of the frame: when it was captured, nanoseconds since 1970."""
        if view.frame is not None:
            # All messages of a frame have one time stamp, even if the clock was set in between.
            same = last is not None and last.view.frame is view.frame
            self.stamp_ns = last.stamp_ns if last is not None and same else offset_ns + view.frame.captured_ns
        self._roi = view.roi
        if full_frame and view.frame is not None and view.roi is not None:
            self._roi = Roi.whole(view.frame)
        self._image: Body | None = None
        self._outlines: list[Body] = []
        self._cleared: list[Body] = []

    @property
    def _spacing(self) -> tuple[float, float]:
        return _known_spacing(self.view.frame) or UNKNOWN_SPACING

    def expired(self, now_ns: int) -> bool:
        """Whether its outlines must not be shown any more."""
        return self.view.expires_ns is not None and now_ns >= self.view.expires_ns

    def has_image(self, now_ns: int) -> bool:
        """Whether its frame may be sent: where the image is must be known, and it must not be an old one."""
        view = self.view
        if view.frame is None or self._roi is None or view.state in _HIDDEN:
            return False
        if max(self._roi.width, self._roi.height) > MAX_SIDE:
            return False
        return now_ns - view.frame.captured_ns <= OLD_NS

    def image(self) -> tuple[bytes, bytes]:
        """The frame's image region."""
        assert self.view.frame is not None
        assert self._roi is not None
        if self._image is None:
            self._image = image_body(IMAGE, self.view.frame.crop(self._roi), self._spacing)
        return self._image.message(self.stamp_ns)

    def outlines(self) -> list[Body]:
        """The label map, and the outlines of each structure."""
        found, roi = self.view.segmentation, self._roi
        if not self._outlines and found is not None and roi is not None:
            labels = np.zeros((roi.height, roi.width), np.uint8)
            parts = []
            for label, (name, part) in reversed(list(enumerate(_structures(found).items(), 1))):
                labels[roi.crop(part.mask.view(np.uint8)) > 0] = (
                    label  # the nerve comes last, over the others
                )
                contours = [contour - np.array((roi.x, roi.y)) for contour in part.contours]
                parts.append(outline_body(name, contours, self._spacing))
            self._outlines = [image_body(LABELS, labels, self._spacing), *reversed(parts)]
        return self._outlines

    def cleared(self) -> list[Body]:
        """An empty label map and empty outlines, in place of this view's."""
        found, roi = self.view.segmentation, self._roi
        if not self._cleared and found is not None and roi is not None:
            labels = np.zeros((roi.height, roi.width), np.uint8)
            empty = [outline_body(name, (), self._spacing) for name in _structures(found)]
            self._cleared = [image_body(LABELS, labels, self._spacing), *empty]
        return self._cleared

    def state(self, now_ns: int) -> tuple[str, int]:
        """The state as JSON, and its time stamp: the frame's if it says what was found in it, or its own."""
        view = without_expired_outline(self.view, now_ns)
        found = view.segmentation
        text = json.dumps(
            {
                "state": view.state.value,
                "reason": printable(view.reason)[:_MAX_TEXT],
                "mm_per_pixel": _known_spacing(view.frame),
                "structures": {} if found is None else _figures(found),
                "notice": NOTICE,
            }
        )
        return text, self._decided_ns if found is None else self.stamp_ns


def _messages(viewer: _Viewer, packet: _Packet) -> Iterator[tuple[bytes, bytes]]:
    """What the viewer needs to show a view, message by message: each is made when it can be sent."""
    view = packet.view
    image_due = view.frame is not viewer.frame and packet.has_image(time.monotonic_ns())
    old = viewer.outlined
    if old is not None and (
        image_due or old.expired(time.monotonic_ns()) or view.segmentation is not old.view.segmentation
    ):
        stamp_ns = packet.stamp_ns if image_due else time.time_ns()
        for body in old.cleared():
            yield body.message(stamp_ns)
        viewer.outlined = None
    if image_due:
        viewer.frame = view.frame
        yield packet.image()
    if view.frame is viewer.frame and viewer.outlined is None:
        for body in packet.outlines():
            if packet.expired(time.monotonic_ns()):
                break
            viewer.outlined = packet
            yield body.message(packet.stamp_ns)
    text, stamp_ns = packet.state(time.monotonic_ns())
    if text != viewer.text or image_due:
        viewer.text = text
        yield string_body(STATE, text).message(stamp_ns)


def _structures(found: Segmentation) -> dict[str, Structure]:
    """All structures by name, the nerve first; their labels are 1, 2, 3, ... in this order."""
    return {NERVE: found, **{name: found.others[name] for name in sorted(found.others)}}


def _figures(found: Segmentation) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            "label": label,
            "confidence": _finite(part.confidence),
            "area_px": part.area_px,
            "area_mm2": _finite(part.area_mm2),
        }
        for label, (name, part) in enumerate(_structures(found).items(), 1)
    }


def _known_spacing(frame: Frame | None) -> tuple[float, float] | None:
    spacing = None if frame is None else frame.spacing_mm
    return spacing if spacing is not None and all(0 < value < math.inf for value in spacing) else None


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 3)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(8)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise UsageError(f"cannot serve OpenIGTLink on {host} port {port}: {_remedy(error)}") from error
    return listening


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; end it, or choose another port (0 takes a free one)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 are for administrators; choose a higher one, such as 18944"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "this machine has no such address; give 127.0.0.1, 0.0.0.0 or one of its own"
    return f"{one_line(error)}; choose another address or port"
