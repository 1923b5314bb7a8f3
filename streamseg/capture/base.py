"""Base class of recorded sources: reading under a lock, and a close that is safe from any thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Self

from streamseg.core.errors import UsageError
from streamseg.core.types import Frame, SourceInfo


class RecordedSource:
    """Frames of a recording, once, in order. Implements :class:`streamseg.core.types.Source`.

    The iterator raises SourceCut if the recording ends in the middle and SourceError if parts of it are
    damaged, after every readable frame. A closed source delivers nothing more.
    """

    live = False

    def __init__(self, info: SourceInfo, frames: Iterator[Frame], release: Callable[[], None]) -> None:
        self.info = info
        self._frames = frames
        self._release = release
        self._closed = False
        # A decoder must not be freed while another thread is inside it.
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        with self._lock:
            if self._closed:
                raise StopIteration
            return next(self._frames)

    def close(self) -> None:
        """Release the file. Waits for a decode in progress; may be called more than once."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


START_TOLERANCE = Fraction(1, 1_000_000)
"""Seconds by which a frame may precede the requested start: decimal fractions are not exact."""


def check_start(start_seconds: float) -> None:
    """Raise UsageError unless the start is finite and 0 or more."""
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise UsageError(f"cannot start at {start_seconds} s; give 0 or more seconds")
