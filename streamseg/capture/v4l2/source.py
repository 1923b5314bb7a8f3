"""Frame grabbers through Video4Linux.

The driver is spoken to directly. FFmpeg's V4L2 input sleeps in the kernel for as long as a grabber delivers
nothing, without time-out or interruption; OpenCV's waits ten seconds, changes settings in silence, and shows
damaged JPEG; Python packages for it are under the GPL. Here the descriptor never blocks: a picture is asked
for at least every 10 ms, until the time-out.

A frame's time is the driver's stamp of the buffer where the driver says that it is of the monotonic clock,
for as long as its stamps are plausible; from the first one that is not, it is the moment of arrival, which
is never taken for later than it was. ``info.clock`` says which it is.
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
from streamseg.core.types import Frame, SourceInfo

FIRST_FRAME_SECONDS = 5.0
"""A grabber may take longer over its first picture: it looks for the signal first."""
_TICK_MS = 10
_AT_ONCE_NS = 4_000_000
_CLOSE_S = 1.0
_EARLY_NS = 2_000_000_000  # before its buffer was given to the driver no picture was taken; clocks may drift
_AHEAD_NS = 20_000_000  # drivers that convert the device's own clock may be ahead a little


class V4l2Source:
    """Frames of a frame grabber, as they come. Implements :class:`streamseg.core.types.Source`.

    Normally every picture is delivered. One that finds newer ones behind it, because whoever iterates was
    late, is passed over for the newest.
    """

    live = True

    def __init__(
        self,
        device: str,
        *,
        size: tuple[int, int] | None = None,
        rate: Fraction | None = None,
        pixel_format: str | None = None,
        read_seconds: float = 2.0,
    ) -> None:
        """Open a device, set it up and start it.

        ``size`` is (width, height) in pixels, ``rate`` frames per second, ``pixel_format`` yuyv, uyvy, nv12,
        grey or mjpeg; what is left out is chosen as :mod:`streamseg.capture.v4l2.modes` says. Iterating
        raises SourceError where no good picture comes for ``read_seconds`` (at least 5 s for the first) or
        the device is unplugged. Raises UsageError for what the device does not have, naming what it has;
        SourceError where it is absent, in use, forbidden or no capture device.
        """
        wish = Wish(size, rate, pixel_format)
        check_wish(wish)
        if not (math.isfinite(read_seconds) and read_seconds > 0):
            raise UsageError(f"cannot wait {read_seconds:g} s for a picture; give more than 0 seconds")
        self.skipped = 0
        """Pictures passed over because newer ones were waiting."""
        self.damaged = 0
        """Pictures that were not delivered because they were incomplete or marked as bad by the driver."""
        self._path = device
        self._read_seconds = read_seconds
        self._index = 0
        self._last_ns = 0
        self._closing = threading.Event()
        self._lock = threading.Lock()  # the driver serves one thread at a time
        self._driver, _ = open_grabber(device)
        try:
            self._stream = Stream(device, self._driver, wish)
            self._converter = BufferConverter(self._stream.layout)
        except DriverError as error:
            self._driver.close()
            raise explained(device, error) from error
        except BaseException:
            self._driver.close()
            raise
        self._empty_ns = time.monotonic_ns()  # no picture had come until then
        layout = self._stream.layout
        self.pixel_format = layout.name
        """What the device sends: a key of PIXEL_FORMATS."""
        self.info = SourceInfo(
            name=PurePath(device).name,
            height=layout.height,
            width=layout.width,
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
                if self._closing.is_set():  # close() may have given up waiting for the lock
                    self._driver.close()
            if frame is None:
                raise StopIteration
            return frame

    def close(self) -> None:
        """Stop the device and give it back. May be called from any thread, more than once.

        Waits a second at most for a read in progress, which otherwise gives the device back as it ends.
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
        """The next good picture, or None when the source was closed meanwhile."""
        seconds = self._read_seconds if self._index else max(self._read_seconds, FIRST_FRAME_SECONDS)
        deadline, damaged = time.monotonic() + seconds, self.damaged
        late = True  # until there was nothing waiting
        hasty = 0
        while not self._closing.is_set():
            began = time.monotonic_ns()
            buffer = self._take()
            arrived_ns = time.monotonic_ns()
            # A driver that waits although it was told not to has nothing behind this picture either.
            late = late and arrived_ns - began < _AT_ONCE_NS
            if buffer is not None and late:
                # When it came is not known; no later than this, and older is safer than younger.
                arrived_ns = self._empty_ns
                buffer = self._newest(buffer)
            if buffer is not None:
                frame = self._frame(buffer, arrived_ns)
                if frame is not None:
                    return frame
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
        return buffer

    def _wait(self, hasty: int) -> int:
        """Wait for a picture, a tick at most; ``hasty`` counts the waits in a row that were none."""
        began = time.monotonic_ns()
        self._stream.wait(_TICK_MS)
        if time.monotonic_ns() - began >= _TICK_MS * 100_000:
            return 0
        if hasty:  # poll says that there is something, and there is not
            time.sleep(_TICK_MS / 2e3)
        return hasty + 1

    def _newest(self, buffer: Buffer) -> Buffer:
        """The newest good buffer of those that are filled; the others go back to the driver."""
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
        """The picture of a buffer, which goes back to the driver; None for one that is damaged."""
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
            # Some drivers tell only with the first picture which clock is theirs.
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
        what = f"only damaged pictures ({damaged})" if damaged else "no picture"
        return SourceError(
            f"{self._path} delivered {what} for {seconds:g} s{said}; check the scanner's output and the cable"
        )
