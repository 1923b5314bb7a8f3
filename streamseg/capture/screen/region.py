"""Where the ultrasound image is in frames of a live source, which may change their size at any time."""

from __future__ import annotations

from collections.abc import Callable

from streamseg.capture.screen.find import find_region
from streamseg.core.types import Frame, Image, Roi

SAMPLES = 16
"""Frames that the screen finder looks at."""
EVERY_NS = 80_000_000
"""Nanoseconds between two of them: neighbours hardly differ, and what never changes is not the image."""
ATTEMPTS = 3
"""Searches without success after which the whole frame is taken for good."""


class LiveRegion:
    """Gives each frame its ROI: the given one, the source's own, or one found in the first seconds.

    A given ROI holds for frames of any size that it fits into. In others, and without one, the image is
    searched for; a size that was seen before keeps its answer. Used by one thread.
    """

    def __init__(self, given: Roi | None, *, search: bool, say: Callable[[str], None]) -> None:
        """Without ``search`` frames without a given ROI are taken whole."""
        self._given, self._search, self._say = given, search, say
        self._known: dict[tuple[int, int], Roi] = {}
        self._samples: list[Image] = []
        self._size: tuple[int, int] | None = None
        self._next_ns = 0
        self._attempts = 0

    @property
    def progress(self) -> str:
        """For people, while :meth:`of` answers None."""
        return f"looking for the ultrasound image, {len(self._samples)} of {SAMPLES} frames"

    def known(self, frame: Frame) -> Roi | None:
        """The ROI, if it is known already; looks for nothing. May be called from any thread."""
        return self._known.get(frame.image.shape[:2])

    def of(self, frame: Frame) -> Roi | None:
        """The ROI of this frame; None while it is being looked for."""
        size = frame.image.shape[:2]
        if (known := self._known.get(size)) is not None:
            return known
        if size != self._size:
            self._size, self._samples, self._attempts, self._next_ns = size, [], 0, 0
        height, width = size
        if self._given is not None and self._fits(self._given, height, width):
            self._known[size] = self._given
        elif not self._search:
            self._known[size] = Roi.whole(frame.image)
        elif frame.captured_ns >= self._next_ns:
            self._next_ns = frame.captured_ns + EVERY_NS
            self._samples.append(frame.image)
            if len(self._samples) >= SAMPLES:
                self._look()
        return self._known.get(size)

    def _fits(self, roi: Roi, height: int, width: int) -> bool:
        fits = roi.x + roi.width <= width and roi.y + roi.height <= height
        if not fits and not self._samples:
            self._say(f"--roi {roi} does not fit into frames of {width}x{height}; looking for the image")
            self._search = True
        return fits

    def _look(self) -> None:
        found = find_region(self._samples)
        whole = Roi.whole(self._samples[0])
        self._samples = []
        self._attempts += 1
        if found is not None:
            self._say(f"found the ultrasound image at {found}; --roi overrides it")
        elif self._attempts >= ATTEMPTS:
            found = whole
            self._say("found no ultrasound image, taking the whole screen; --roi x,y,w,h sets it")
        if found is not None:
            assert self._size is not None
            self._known[self._size] = found
