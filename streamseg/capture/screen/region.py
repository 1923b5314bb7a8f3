"""Decides where the ultrasound image lies in the frames of a source: the only place that does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import islice
from typing import Self

from streamseg.capture.screen.find import find_region
from streamseg.core.errors import SourceError
from streamseg.core.types import Frame, Image, Roi, Say, Source, SourceInfo

SAMPLED_FRAMES, SAMPLED_EVERY = 24, 8
"""Of a recording, every eighth frame is searched, 24 in all: the first few seconds."""
LIVE_SAMPLES = 16
"""Frames of a live stream that one search takes."""
LIVE_SAMPLE_EVERY_NS = 80_000_000
"""Nanoseconds between two of them: neighbours hardly differ, and what never changes is not the image."""
LIVE_ATTEMPTS = 3
"""Searches of a live stream without success after which the whole frame is taken for good."""


class Origin(StrEnum):
    """Where a region is known from; ``roi_from`` in records."""

    GIVEN = "given"
    """By the user."""
    SOURCE = "source"
    """Reported by the source: a DICOM header, or a recording of a live run."""
    FOUND = "found"
    """By the screen finder."""
    WHOLE_FRAME = "whole frame"


class ImageRegion:
    """The ultrasound image in the frames of one source, which may change their size at any time.

    A size that was seen before keeps its answer. :meth:`locate` is for one thread.
    """

    def __init__(
        self, given: Roi | None = None, *, search: bool = False, say: Say = lambda message: None
    ) -> None:
        """The policy for a live stream.

        ``given`` holds for frames of any size that it fits into. In others, and without one if ``search`` is
        set, the image is searched for in the first seconds. Without either, frames are taken whole. ``say``
        gets what was decided, in one line each.
        """
        self.roi = given
        """The region that is known before the first frame; None: to be searched for, or the whole frame."""
        self.origin = Origin.WHOLE_FRAME if given is None else Origin.GIVEN
        """Where the region that was decided last is known from."""
        self._search, self._say = search, say
        self._must_fit = False
        self._only_size: tuple[int, int] | None = None
        """Height and width of the frames that ``roi`` holds for; None: all that it fits into."""
        self._known: dict[tuple[int, int], Roi] = {}
        self._warned = False
        self._samples: list[Image] = []
        self._sampled_size: tuple[int, int] | None = None
        self._next_sample_ns = 0
        self._attempts = 0

    @classmethod
    def of_recording(
        cls,
        info: SourceInfo,
        open_again: Callable[[], Source],
        *,
        given: Roi | None = None,
        search: bool = True,
        say: Say = lambda message: None,
    ) -> Self:
        """The policy for a recorded source: everything is decided before its first frame.

        ``given`` must fit into every frame. Without it, the source's own region or, if ``search`` is set, the
        one found in a second opening of the source holds for frames of the size that it was found in; others
        are taken whole. Raises UsageError for a given region outside the frame.
        """
        region = cls(given, say=say)
        region._must_fit = True
        size = info.height, info.width
        if given is not None:
            given.check_inside(*size)
        elif search and info.region is not None:
            region.roi, region.origin, region._only_size = info.region, Origin.SOURCE, size
        elif search:
            with open_again() as source:
                found = region._find(sample_frames(source))
            region.roi, region._only_size = found, size
        return region

    @property
    def progress(self) -> str:
        """A human-readable line while :meth:`locate` answers None."""
        return f"looking for the ultrasound image, {len(self._samples)} of {LIVE_SAMPLES} frames"

    def known(self, frame: Frame) -> Roi | None:
        """The region of this frame if it is decided already. May be called from any thread."""
        return self._known.get(frame.image.shape[:2])

    def locate(self, frame: Frame) -> Roi | None:
        """The region of this frame; None while the search goes on. Raises UsageError for a given region of a
        recording that reaches outside this frame."""
        size = frame.image.shape[:2]
        known = self._known.get(size)
        if known is None and (known := self._decide(frame, *size)) is not None:
            self._known[size] = known
        return known

    def _decide(self, frame: Frame, height: int, width: int) -> Roi | None:
        if self.roi is not None and self._only_size in (None, (height, width)):
            if self._must_fit:
                self.roi.check_inside(height, width)
            if self.roi.fits_into(height, width):
                return self.roi
            if self._sampled_size != (height, width):
                self._say(
                    f"--roi {self.roi} does not fit into frames of {width}x{height}; looking for the image"
                )
            return self._search_in(frame)
        if self._search:
            return self._search_in(frame)
        if self._only_size is not None and self.roi not in (None, Roi(0, 0, *self._only_size[::-1])):
            self._say_once(f"frame {frame.index} is {width}x{height}; frames of another size are taken whole")
        self.origin = Origin.WHOLE_FRAME
        return Roi.whole(frame.image)

    def _say_once(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            self._say(message)

    def _search_in(self, frame: Frame) -> Roi | None:
        """Sample a live frame; the region when enough of them were searched."""
        if self._sampled_size != frame.image.shape[:2]:
            self._sampled_size, self._samples = frame.image.shape[:2], []
            self._attempts = self._next_sample_ns = 0
        if frame.captured_ns < self._next_sample_ns:
            return None
        self._next_sample_ns = frame.captured_ns + LIVE_SAMPLE_EVERY_NS
        self._samples.append(frame.image)
        if len(self._samples) < LIVE_SAMPLES:
            return None
        samples, self._samples = self._samples, []
        self._attempts += 1
        give_up = self._attempts >= LIVE_ATTEMPTS
        found = self._find(samples, give_up=give_up)
        return Roi.whole(frame.image) if found is None and give_up else found

    def _find(self, samples: list[Image], *, give_up: bool = True) -> Roi | None:
        """Search samples of one size, and say the outcome; of a failure only when it is the last."""
        found = find_region(samples)
        if found is not None:
            self.origin = Origin.FOUND
            self._say(f"found the ultrasound image at {found}; --roi overrides it")
        elif give_up:
            self.origin = Origin.WHOLE_FRAME
            self._say("found no ultrasound image, taking the whole screen; --roi x,y,w,h sets it")
        return found


def sample_frames(frames: Iterable[Frame]) -> list[Image]:
    """Images from the first few seconds of a recording, those of the first one's size.

    A source that breaks off ends the sampling without an error: its replay meets that at the same place.
    """
    images: list[Image] = []
    try:
        for number, frame in enumerate(islice(frames, SAMPLED_FRAMES * SAMPLED_EVERY)):
            if number % SAMPLED_EVERY == 0 and (not images or frame.image.shape == images[0].shape):
                images.append(frame.image)
    except SourceError:
        pass
    return images
