"""Frame grabbers as a live source, through V4L2.

The driver is called directly. FFmpeg's V4L2 input sleeps in the kernel while a grabber delivers nothing,
without time-out or interruption; OpenCV's waits ten seconds, changes settings silently, and shows damaged
JPEG; Python packages for V4L2 are under the GPL. Here the descriptor never blocks: a frame is requested at
least every 10 ms, until the time-out.

A frame's time is the driver's time stamp, if the driver says that it is of the monotonic clock and as long as
stamps are plausible; after the first implausible one it is the time of arrival, never later than the true
one. ``info.clock`` says which.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import PurePath
from typing import Self

from streamseg.capture.v4l2.devices import explained, open_grabber
from streamseg.capture.v4l2.driver import DriverError
from streamseg.capture.v4l2.modes import Wish, check_wish
from streamseg.capture.v4l2.pixels import BufferConverter
from streamseg.capture.v4l2.stream import Stream, has_monotonic_stamp
from streamseg.capture.v4l2.structs import BUF_ERROR, Buffer
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.pixel_aspect import believable_aspect, square_size
from streamseg.core.types import Frame, SourceInfo

FIRST_FRAME_SECONDS = 5.0
"""Time limit for the first frame: a grabber detects its signal first."""
_TICK_MS = 10
_AT_ONCE_NS = 4_000_000
_CLOSE_S = 1.0
_MAX_LOST = 1000
"""A larger step of a driver's frame number is no loss: it numbers in another way, or began again."""
_EARLY_NS = 2_000_000_000
"""Plausible time stamps are not before the buffer was queued, with this tolerance for drifting clocks."""
_AHEAD_NS = 20_000_000
"""Drivers that convert the device's own clock (as uvcvideo does) may stamp a frame slightly ahead of time."""


class V4l2Source:
    """Frames of a frame grabber as they arrive. Implements :class:`streamseg.core.types.Source`.

    Every frame is delivered if the consumer keeps up; a late consumer gets the newest one.
    """

    live = True

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int] | None = None,
        rate: Fraction | None = None,
        pixel_format: str | None = None,
        sar: Fraction | None = None,
        read_seconds: float = 2.0,
    ) -> None:
        """Open a device, configure it and start streaming.

        ``size`` is (width, height) in pixels, ``rate`` frames per second, ``pixel_format`` a key of
        ``PIXEL_FORMATS``; what is omitted is chosen by :mod:`streamseg.capture.v4l2.modes`. ``sar`` is the
        width of a pixel divided by its height; None: as the driver says. The iterator raises SourceError if
        no intact frame arrives for ``read_seconds`` (at least 5 s for the first) or the
        device is unplugged. Raises UsageError for a mode that the device lacks, naming what it has;
        SourceError if it is absent, in use, forbidden or not a capture device.
        """
        wish = Wish(size, rate, pixel_format)
        check_wish(wish)
        if not (math.isfinite(read_seconds) and read_seconds > 0):
            raise UsageError(f"cannot wait {read_seconds:g} s for a frame; give more than 0 seconds")
        self.skipped = 0
        """Frames skipped because newer ones were waiting, or that the driver had no buffer for."""
        self.damaged = 0
        """Frames dropped because they were incomplete or marked as bad by the driver."""
        self._path = device
        self._read_seconds = read_seconds
        self._index = 0
        self._last_ns = 0
        self._last_sequence: int | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()  # the driver serves one thread at a time
        self._driver, _ = open_grabber(device)
        try:
            self._stream = Stream(device, self._driver, wish, sar)
            self._converter = BufferConverter(self._stream.layout)
        except DriverError as error:
            self._driver.close()
            raise explained(device, error) from error
        except BaseException:
            self._driver.close()
            raise
        self._empty_ns = time.monotonic_ns()  # no frame had arrived before
        layout = self._stream.layout
        width, height = square_size(layout.width, layout.height, believable_aspect(layout.aspect))
        self.pixel_format = layout.name
        """The pixel format of the device: a key of PIXEL_FORMATS."""
        self.info = SourceInfo(
            name=PurePath(device).name,
            height=height,
            width=width,
            rate=self._stream.rate,
            clock="driver" if self._stream.stamped else "arrival",
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        with self._lock:
            try:
                frame = None if self._closing.is_set() else self._read()
            except BaseException as error:
                self._closing.set()
                if isinstance(error, DriverError):
                    raise explained(self._path, error) from error
                raise
            finally:
                if self._closing.is_set():  # close() may have stopped waiting for the lock
                    self._driver.close()
            if frame is None:
                raise StopIteration
            return frame

    def close(self) -> None:
        """Stop and release the device. May be called from any thread, more than once.

        Waits at most a second for a read in progress, which otherwise releases the device when it ends.
        """
        self._closing.set()
        if self._lock.acquire(timeout=_CLOSE_S):
            try:
                self._driver.close()
            finally:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _read(self) -> Frame | None:
        """The next intact frame, or None if the source was closed meanwhile."""
        seconds = self._read_seconds if self._index else max(self._read_seconds, FIRST_FRAME_SECONDS)
        deadline, damaged = time.monotonic() + seconds, self.damaged
        late = True  # until no frame was waiting
        hasty = 0
        while not self._closing.is_set():
            began = time.monotonic_ns()
            buffer = self._take()
            arrived_ns = time.monotonic_ns()
            # A driver that blocks in DQBUF despite O_NONBLOCK has no newer frame either.
            late = late and arrived_ns - began < _AT_ONCE_NS
            if buffer is not None and late:
                # The time of arrival is unknown: take the earliest possible, because older is safer.
                arrived_ns = self._empty_ns
                buffer = self._newest(buffer)
            if buffer is not None:
                frame = self._frame(buffer, arrived_ns)
                if frame is not None and not self._stream.source_changed():
                    return frame
            if self._stream.source_changed():
                raise SourceError(f"{self._path} has another input signal now; it has to be opened again")
            if time.monotonic() > deadline:
                raise self._silence(seconds, self.damaged - damaged)
            if buffer is None:
                late = False
                hasty = self._wait(hasty)
        return None

    def _take(self) -> Buffer | None:
        buffer = self._stream.take()
        if buffer is None:
            self._empty_ns = time.monotonic_ns()
        else:
            self._count_lost(buffer.sequence)
        return buffer

    def _count_lost(self, sequence: int) -> None:
        """Count the frames that the driver numbered and did not deliver; some drivers number none."""
        lost = 0 if self._last_sequence is None else sequence - self._last_sequence - 1
        if 0 < lost <= _MAX_LOST:
            self.skipped += lost
        self._last_sequence = sequence

    def _wait(self, hasty: int) -> int:
        """Wait for a frame, at most a tick; ``hasty`` counts the consecutive waits that returned at once."""
        began = time.monotonic_ns()
        self._stream.wait(_TICK_MS)
        if time.monotonic_ns() - began >= _TICK_MS * 100_000:
            return 0
        # videobuf2 reports POLLERR at once while no buffer is queued, and some drivers report a frame that
        # DQBUF then does not have: sleep rather than spin.
        if hasty:
            time.sleep(_TICK_MS / 2e3)
        return hasty + 1

    def _newest(self, buffer: Buffer) -> Buffer:
        """The newest intact buffer of those that are filled; the others go back to the driver."""
        for _ in range(len(self._stream) - 1):
            following = self._take()
            if following is None:
                break
            if following.flags & BUF_ERROR:
                self.damaged += 1
                self._stream.give_back(following)
                continue
            bad = bool(buffer.flags & BUF_ERROR)
            self.damaged += bad
            self.skipped += not bad
            self._stream.give_back(buffer)
            buffer = following
        return buffer

    def _frame(self, buffer: Buffer, arrived_ns: int) -> Frame | None:
        """The frame of a buffer, or None if it is damaged; the buffer goes back to the driver."""
        try:
            bad = bool(buffer.flags & BUF_ERROR)
            image = None if bad else self._converter.convert(self._stream.data(buffer))
            if image is None:
                self.damaged += 1
                return None
            self._last_ns = self._captured_ns(buffer, max(arrived_ns, self._last_ns + 1))
            frame = Frame(image, self._index, self._last_ns)
        finally:
            self._stream.give_back(buffer)
        self._index += 1
        return frame

    def _captured_ns(self, buffer: Buffer, arrived_ns: int) -> int:
        if self._index == 0:
            # Some drivers report their clock only with the first frame, not in QUERYBUF.
            self._set_clock("driver" if has_monotonic_stamp(buffer) else "arrival")
        if self.info.clock != "driver":
            return arrived_ns
        stamp_ns: int = buffer.seconds * 1_000_000_000 + buffer.microseconds * 1000
        earliest_ns = max(self._last_ns + 1, self._stream.queued_ns(buffer) - _EARLY_NS)
        now_ns = time.monotonic_ns()
        if not (has_monotonic_stamp(buffer) and earliest_ns <= stamp_ns <= now_ns + _AHEAD_NS):
            self._set_clock("arrival")
            return arrived_ns
        return min(stamp_ns, now_ns)

    def _set_clock(self, clock: str) -> None:
        if clock != self.info.clock:
            self.info = replace(self.info, clock=clock)

    def _silence(self, seconds: float, damaged: int) -> SourceError:
        trouble = self._stream.trouble()
        said = f", and it reports: {trouble}" if trouble else ""
        what = f"only damaged frames ({damaged})" if damaged else "no frame"
        return SourceError(
            f"{self._path} delivered {what} for {seconds:g} s{said}; check the scanner's output and the cable"
        )
