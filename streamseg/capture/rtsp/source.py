"""Live video from a network camera, encoder or ultrasound machine: ``rtsp://`` and ``rtsps://``.

FFmpeg's own RTSP reader is not used: it takes a frame for complete only when the next one begins, which
makes every H.264 frame one interval older (33 ms at 30 fps), and it passes frames on with parts missing when
packets are lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from typing import Self

# OpenCV comes first: the other order hangs its window.
import cv2  # noqa: F401

# isort: split
import av

from streamseg.capture.geometry import square_pixels
from streamseg.capture.rtsp.address import RtspAddress
from streamseg.capture.rtsp.decoder import PictureDecoder
from streamseg.capture.rtsp.lateness import UNKNOWN_NS, LatenessEstimator
from streamseg.capture.rtsp.nal import CodedPicture
from streamseg.capture.rtsp.receiver import Receiver
from streamseg.capture.rtsp.rtp import Timeline
from streamseg.capture.rtsp.session import RtspSession
from streamseg.capture.video.deinterlace import deinterlace
from streamseg.capture.video.pixels import DecodedPicture, FrameConverter
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Frame, Image, Say, SourceInfo

_KEY_SECONDS = 60.0
"""Key frames are no farther apart than this."""
_SAY_SECONDS = 0.08
"""What is awaited is said after this time, before silence counts as a lost source."""

Picture = tuple[av.VideoFrame, int]
"""A decoded frame, and the monotonic nanoseconds at which it counts as captured."""


class RtspSource:
    """Frames of an RTSP stream as they arrive. Implements :class:`streamseg.core.types.Source`.

    ``captured_ns`` is the arrival of the frame's first packet, before it was decoded; earlier if the
    sender's time stamps show that it came late (see :mod:`streamseg.capture.rtsp.lateness`). Frames that are
    damaged, or need one that is, are left out and counted in ``damaged``. Frames may change their size.
    """

    live = True

    def __init__(
        self,
        url: str,
        *,
        transport: str = "tcp",
        open_seconds: float = 5.0,
        read_seconds: float = 2.0,
        sar: Fraction | None = None,
        on_wait: Say = lambda _: None,
    ) -> None:
        """Connect, log in, play, and decode the first frame, in ``open_seconds`` altogether.

        While data arrives but no key frame, it goes on waiting, for a minute at most: relays send key frames
        10 to 30 s apart. ``on_wait`` is called then, almost at once and about once a second, with what is
        awaited.

        ``transport`` is ``tcp`` or ``udp``; ``sar`` the width of a pixel divided by its height, None: as the
        stream says. Iterating raises SourceError if no intact frame comes for
        ``read_seconds``. Raises UsageError (the address or an option is wrong) and SourceError (which
        says what is wrong: no such host, refused, no answer, login, path, no video, ...).
        """
        if transport not in {"tcp", "udp"}:
            raise UsageError(f"RTSP transport is {transport!r}; give tcp or udp")
        if not (open_seconds > 0 and read_seconds > 0):
            raise UsageError(f"time limits are {open_seconds} s and {read_seconds} s; give more than 0")
        address = RtspAddress.parse(url)
        if address.tls and transport == "udp":
            raise UsageError("rtsps:// with UDP would send the video unencrypted; use --transport tcp")
        self._label = address.label
        self._transport = transport
        self._read_seconds = read_seconds
        self._on_wait = on_wait
        self._sar = sar
        self._delivered = 0
        self._closed = threading.Event()
        deadline = time.monotonic() + open_seconds
        with self._named():
            session = RtspSession(address, transport, deadline)
        self._receiver = Receiver(session, reorder=transport == "udp")
        try:
            with self._named():
                self._open(session, address.name, deadline, open_seconds)
        except BaseException:
            self.close()
            raise

    def _open(self, session: RtspSession, name: str, deadline: float, open_seconds: float) -> None:
        """Wait for the first frame, which has the size."""
        track = session.track
        self._decoder = PictureDecoder(track.codec, track.parameter_sets)
        self._converter = FrameConverter()
        self._timeline, self._lateness = Timeline(), LatenessEstimator()
        self._clock = track.clock
        self._pictures: deque[Picture] = deque()
        if not self._await(deadline):
            raise SourceError(self._why_no_start(open_seconds))
        self._await_age(deadline)
        first = self._convert(*self._pictures.popleft())
        self._first: Frame | None = first
        height, width = first.shape
        self.info = SourceInfo(
            name=name,
            height=height,
            width=width,
            rate=track.rate or self._decoder.rate,
            time_base=Fraction(1, self._clock),
            clock="arrival",
        )

    @property
    def damaged(self) -> int:
        """Frames left out so far because they were damaged, incomplete or came too fast."""
        return self._decoder.damaged + self._receiver.overrun

    @property
    def clock_note(self) -> str:
        """What was noticed about the sender's clock, one line; empty while it keeps time."""
        return self._lateness.note

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        first, self._first = self._first, None
        if self._closed.is_set():
            raise StopIteration
        if first is not None:
            return first
        with self._named():
            now = time.monotonic()
            if not self._pictures and not self._await(now + self._read_seconds):
                if self._closed.is_set():
                    raise StopIteration
                raise SourceError(self._why_nothing(time.monotonic() - now))
            return self._convert(*self._pictures.popleft())

    def _await(self, limit: float) -> bool:
        """Decode until there is a frame. False: closed, or none came before ``limit``.

        While data arrives but a key frame is awaited, the limit moves on, for a minute at most.
        """
        blind, due = max(limit, time.monotonic() + _KEY_SECONDS), time.monotonic() + _SAY_SECONDS
        while not self._pictures:
            coded = self._receiver.get(limit)
            if coded is None:
                return False
            self._decode(coded)
            if self._decoder.waiting or self._decoder.refreshing:
                now = time.monotonic()
                limit = min(blind, max(limit, now + self._read_seconds))
                if now >= due:
                    due = now + 1
                    self._on_wait("the stream runs; waiting for its next key frame")
        return True

    def _await_age(self, limit: float) -> None:
        """Hold the first frames until some have come at their own rate: a relay may pour out stored ones.

        Of those that rush in, only the newest one is kept.
        """
        limit = min(limit, time.monotonic() + UNKNOWN_NS / 1e9)
        with suppress(SourceError):  # the stream has ended already: raised again after what came of it
            while not self._lateness.age_known and (coded := self._receiver.get(limit)) is not None:
                self._decode(coded)
                while self._lateness.rushing and len(self._pictures) > 1:
                    self._pictures.popleft()

    def _decode(self, coded: CodedPicture) -> None:
        """Add the frames that this picture completes to those that wait to be delivered."""
        units = self._timeline.place(coded.timestamp)
        for report in self._receiver.take_reports():
            sent_ns = self._timeline.near(report.timestamp) * 1_000_000_000 // self._clock
            self._lateness.take_report(report.wall_ns, sent_ns)
        captured_ns = self._lateness.captured_ns(units * 1_000_000_000 // self._clock, coded.arrived_ns)
        self._pictures.extend(self._decoder.decode(replace(coded, arrived_ns=captured_ns), units))
        if self._decoder.waiting:
            self._receiver.want_key()

    def _why_no_start(self, seconds: float) -> str:
        if self._receiver.heard:
            return (
                f"the server plays, but no frame that can be decoded came within {seconds:g} s; "
                f"check its encoder, and whether it sends key frames often enough"
            )
        if stranger := self._receiver.strangers:
            return (
                f"the server plays, but UDP packets come from {stranger}, which it has not announced; "
                "make it send from the address that it answers on, or try tcp"
            )
        hint = "a firewall may hold UDP back, try tcp" if self._transport == "udp" else "check its encoder"
        return f"the server plays, but nothing arrived within {seconds:g} s; {hint}"

    def _why_nothing(self, seconds: float) -> str:
        if self._decoder.waiting:
            return f"no intact frame for {seconds:.1f} s; check the network for losses"
        return f"no frame for {seconds:.1f} s"

    def _convert(self, picture: av.VideoFrame, arrived_ns: int) -> Frame:
        aspect = self._decoder.aspect if self._sar is None else self._sar
        pixels: Image | DecodedPicture
        try:
            if picture.interlaced_frame:
                pixels = square_pixels(deinterlace(self._converter.convert(picture)), aspect)
            else:
                pixels = self._converter.picture(picture, aspect)
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise SourceError(f"a frame cannot be converted ({type(error).__name__})") from error
        index, self._delivered = self._delivered, self._delivered + 1
        seconds = None if picture.pts is None else picture.pts / self._clock
        return Frame(pixels, index=index, captured_ns=arrived_ns, pts_seconds=seconds)

    def close(self) -> None:
        """Leave the stream; from any thread, even while another waits for a frame."""
        self._closed.set()
        self._receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Prefix errors with the address, without credentials."""
        try:
            yield
        except SourceError as error:
            raise SourceError(f"{self._label}: {error}") from error.__cause__
