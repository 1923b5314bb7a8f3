"""Plays a recording as if it were live: each frame at its own time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Protocol, Self

from streamseg.core.types import Frame, Source

_AHEAD = 4
"""Frames decoded before they are due."""
_USUAL_RATE = Fraction(25)
_WAIT_SECONDS = 0.5
_END_SECONDS = 1.0


class Moments(Protocol):
    """When a frame was captured and when it arrived in an earlier run, monotonic nanoseconds of that run."""

    @property
    def captured_ns(self) -> int: ...
    @property
    def arrived_ns(self) -> int: ...


class PacedSource:
    """Delivers the frames of another source at their own times, as a live source.

    The first frame is due at once, each other one as much later as its time says. None is skipped: a late
    frame is delivered at once. ``captured_ns`` is when the frame was due, as a grabber would have taken it
    then; waiting for the consumer is part of its age. If it was decoded after it was due, ``captured_ns`` is
    when it was decoded: it did not exist before, and a slow disk does not make a frame old. Implements
    :class:`streamseg.core.types.Source`.
    """

    live = True

    def __init__(
        self,
        source: Source,
        *,
        arrivals_ns: Sequence[int] | None = None,
        moments: Callable[[Frame], Moments] | None = None,
    ) -> None:
        """Take over a source and pace it.

        Frames are due by the differences of ``arrivals_ns`` (monotonic nanoseconds of an earlier run, one
        per frame) or the arrivals in ``moments`` if given, else of ``pts_seconds``. With ``moments``, a frame
        is as old when it is delivered as it was when it arrived in the earlier run. A frame without a time is
        due one frame interval after the one before (1/25 s if the rate is unknown).
        """
        self.info = source.info
        self.late_ns = 0
        """Largest delay of a frame after its due time, nanoseconds."""
        self._source = source
        self._schedule = _Schedule(source.info.rate or _USUAL_RATE, arrivals_ns, moments)
        self._ready: deque[tuple[Frame, int]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        """Wait until the next frame is due. Raises what the source raised, after the frames before it."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._decode, name="streamseg-pace", daemon=True)
                self._thread.start()
            while not (self._ready or self._ended or self._closed):
                self._changed.wait(_WAIT_SECONDS)
            if self._closed:
                raise StopIteration
            if not self._ready:
                failure, self._failure = self._failure, None
                raise failure or StopIteration
            frame, ready_ns = self._ready.popleft()
            self._changed.notify_all()
            due_ns = self._schedule.due(frame, ready_ns)
            while (left := due_ns - time.monotonic_ns()) > 0:
                self._changed.wait(min(left / 1e9, _WAIT_SECONDS))
                if self._closed:
                    raise StopIteration
        self.late_ns = max(self.late_ns, -left)
        return replace(frame, captured_ns=max(due_ns, ready_ns) - self._schedule.delay_ns)

    def close(self) -> None:
        """Close this and the source, from any thread, also while another one waits for a frame."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is None:
            self._source.close()
        elif thread is not threading.current_thread():
            # A thread that hangs in its source is abandoned; it closes the source when it returns.
            thread.join(_END_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _decode(self) -> None:
        failure: BaseException | None = None
        try:
            for frame in self._source:
                if not self._put(frame):
                    break
        except BaseException as error:  # raised again in __next__
            failure = error
        finally:
            self._source.close()
            with self._changed:
                self._ended, self._failure = True, failure
                self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        """Queue a frame until it is due. False: closed."""
        ready_ns = time.monotonic_ns()
        with self._changed:
            while len(self._ready) >= _AHEAD and not self._closed:
                self._changed.wait(_WAIT_SECONDS)
            self._ready.append((frame, ready_ns))
            self._changed.notify_all()
            return not self._closed


class _Schedule:
    """Computes when each frame is due, never earlier than the one before."""

    def __init__(
        self,
        rate: Fraction,
        arrivals_ns: Sequence[int] | None,
        moments: Callable[[Frame], Moments] | None,
    ) -> None:
        self.delay_ns = 0
        """Time from capture to arrival of the frame that was asked for last, in the earlier run."""
        self._moments = moments
        self._interval_ns = round(1_000_000_000 / rate)
        self._arrivals_ns = arrivals_ns
        self._number = 0
        self._last_ns = 0
        self._last_time: int | None = None

    def due(self, frame: Frame, ready_ns: int) -> int:
        """Monotonic nanoseconds at which the next frame is due; the first is when it is ready."""
        moment = self._moment(frame)
        if self._number == 0:
            self._last_ns = ready_ns
        elif moment is None or self._last_time is None:
            self._last_ns += self._interval_ns
        else:
            self._last_ns += max(0, moment - self._last_time)
        self._last_time = moment
        self._number += 1
        return self._last_ns

    def _moment(self, frame: Frame) -> int | None:
        """The frame's own time in nanoseconds from any origin, or None."""
        if self._moments is not None:
            moments = self._moments(frame)
            self.delay_ns = max(0, moments.arrived_ns - moments.captured_ns)
            return moments.arrived_ns
        if self._arrivals_ns is not None and self._number < len(self._arrivals_ns):
            return self._arrivals_ns[self._number]
        if self._arrivals_ns is None and frame.pts_seconds is not None:
            return round(frame.pts_seconds * 1_000_000_000)
        return None
