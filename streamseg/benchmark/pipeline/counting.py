"""Counts frames where they go in and where they come out, for benchmarks that believe no loop's report."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import replace
from typing import Self

from streamseg.capture import open_source
from streamseg.core.errors import SourceError
from streamseg.core.types import Frame, Source


class CountedSource:
    """Another source, and how many frames it has offered. Implements :class:`streamseg.core.types.Source`."""

    def __init__(self, source: Source) -> None:
        self.info, self.live = source.info, source.live
        self.offered = 0
        """Frames that were taken from it."""
        self.skipped = 0
        """Frames that it left out, by its own numbers."""
        self.first_ns = self.last_ns = 0
        """When the first and the newest frame were taken, monotonic."""
        self._source = source

    @property
    def fps(self) -> float | None:
        """Frames per second that it has offered, (n - 1) / span; None below two."""
        span = self.last_ns - self.first_ns
        return (self.offered - 1) * 1e9 / span if self.offered > 1 and span > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        following = 0
        for frame in self._source:
            self.skipped += max(0, frame.index - following)
            following = frame.index + 1
            self.last_ns = time.monotonic_ns()
            self.first_ns = self.first_ns or self.last_ns
            self.offered += 1
            yield frame

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class LoopedClip:
    """A recorded clip from its file, again and again: decoding goes on for as long as is asked for.

    Opening it again is part of reading it. The frames are numbered on. Raises what
    :func:`streamseg.capture.open_source` raises; damage ends a turn, unless nothing comes before it.
    """

    live = False

    def __init__(self, uri: str, count: int) -> None:
        self._uri, self._count = uri, count
        self._source = open_source(uri)
        self._lock = threading.Lock()
        self._closed = False
        self.info = self._source.info

    def __iter__(self) -> Iterator[Frame]:
        given = following = 0
        while given < self._count:
            before, first = given, following
            try:
                for frame in self._source:
                    given, following = given + 1, first + frame.index + 1
                    yield frame if first == 0 else replace(frame, index=first + frame.index)
                    if given == self._count:
                        return
            except SourceError:
                if given == before:
                    raise
            if not self._open_again():
                return
            if given == before:
                raise SourceError(f"{self.info.name} holds no frame; give a clip that has some")

    def _open_again(self) -> bool:
        """False: it was closed."""
        with self._lock:
            if not self._closed:
                self._source.close()
                self._source = open_source(self._uri)
            return not self._closed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Ledger:
    """What comes out of a loop: how many different frames, and whether in order."""

    def __init__(self) -> None:
        self.repeated = self.disordered = 0
        self._seen: set[int] = set()
        self._last = -1
        self._times = array("q")

    @property
    def processed(self) -> int:
        """Different frames that came out."""
        return len(self._seen)

    @property
    def last_ns(self) -> int | None:
        """When the newest came out, monotonic."""
        return self._times[-1] if self._times else None

    @property
    def fps(self) -> float | None:
        """Frames per second, (n - 1) / span of the times at which they came out; None below two."""
        if len(self._times) < 2 or self._times[-1] == self._times[0]:
            return None
        return (len(self._times) - 1) * 1e9 / (self._times[-1] - self._times[0])

    def came_out(self, index: int, at_ns: int) -> bool:
        """A frame came out; False for one that did before, which does not count."""
        if index in self._seen:
            self.repeated += 1
            return False
        self.disordered += index < self._last
        self._seen.add(index)
        self._last = max(self._last, index)
        self._times.append(at_ns)
        return True

    def notes(self, source: CountedSource) -> list[str]:
        """What is wrong with what came out, and with what went in."""
        told = {
            "frames came out twice": self.repeated,
            "frames came out of their order": self.disordered,
            "frames came out that were never offered": sum(index >= source.offered for index in self._seen),
            "frames were left out by the source itself, by their numbers": source.skipped,
        }
        return [f"{count} {what}" for what, count in told.items() if count]
