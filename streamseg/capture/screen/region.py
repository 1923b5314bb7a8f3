"""Decides where the ultrasound image lies in the frames of a source: the only place that does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Self

from streamseg.capture.screen.activity import Extremes
from streamseg.capture.screen.find import enlarged, find_region, search_step
from streamseg.capture.screen.layout_watch import (
    LayoutWatch,
    Whereabouts,
    differs,
    factor_of,
    find_small,
)
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Frame, Grey, Roi, Say, Source, SourceInfo

SPOTS, SPOT_FRAMES, SPOT_EVERY = 8, 3, 8
"""A recording is searched at 8 times spread over it, in three frames each, every eighth one."""
MAX_SIZES = 16
"""Frame sizes of which the region is remembered."""
LIVE_SAMPLES = 16
"""Frames of a live stream that one search takes."""
EARLY_SAMPLES = 5
"""Frames after which a search of a live stream ends if the image that moves in them is where the texture of
the first one alone shows an image: two signs of different kinds."""
CONFIRMING_SAMPLES = 4
"""Later frames that must agree if a live search takes nearly the whole frame for the image."""
WHOLE_SHARE = 0.9
"""Share of the frame's pixels from which on that holds."""
_FALLBACK_RATE = 25
LIVE_SAMPLE_EVERY_NS = 80_000_000
"""Nanoseconds between two of them: neighbours hardly differ, and what never changes is not the image."""


class Origin(StrEnum):
    """The origin of a region; ``roi_from`` in records."""

    GIVEN = "given"
    """By the user."""
    SOURCE = "source"
    """Reported by the source: a DICOM header, or a recording of a live run."""
    FOUND = "found"
    """By the screen finder."""
    WHOLE_FRAME = "whole frame"


class ImageRegion:
    """The ultrasound image in the frames of one source, which may change their size at any time.

    The region of each frame size is remembered. :meth:`locate` is for one thread.
    """

    def __init__(
        self, given: Roi | None = None, *, search: bool = False, say: Say = lambda message: None
    ) -> None:
        """The policy for a live stream.

        ``given`` holds for frames of any size that it fits into; other frames are not used, because a user
        who sets a rectangle wants no more than that shown. Without one, and with ``search``, the image is
        searched for until it is found, and followed when it moves; without either, frames are taken whole.
        ``say`` gets each decision as one line.
        """
        self.roi = given
        """The region that is known before the first frame; None: to be searched for, or the whole frame."""
        self.origin = Origin.WHOLE_FRAME if given is None else Origin.GIVEN
        """The origin of the latest region."""
        self._search = self._follows = search
        self._say, self._when = say, ""
        self._must_fit = False
        self._has_fitted = False
        self._misfit = ""
        self._only_size: tuple[int, int] | None = None
        """Height and width of the frames that ``roi`` holds for; None: all that it fits into."""
        self._known: dict[tuple[int, int], Roi] = {}
        self._watches: dict[tuple[int, int], LayoutWatch] = {}
        self._warned = False
        self._samples = Extremes()
        self._first_sample: Grey | None = None
        self._sampled_size: tuple[int, int] | None = None
        self._next_sample_ns = 0
        self._attempts = 0
        self._unconfirmed: Roi | None = None
        self._gone = self._doubted = False

    @classmethod
    def of_recording(
        cls,
        info: SourceInfo,
        open_again: Callable[[], Source],
        *,
        given: Roi | None = None,
        search: bool = True,
        open_at: Callable[[float], Source] | None = None,
        live: bool = False,
        say: Say = lambda message: None,
    ) -> Self:
        """The policy for a recorded source: everything is decided before its first frame.

        ``given`` must fit into every frame. Without it, the source's own region or, if ``search`` is set, the
        one found in further openings of the source holds for frames of the size that it was found in; others
        are taken whole. An image that was found is followed if it moves on the screen, except in a folder of
        images, which have no time.
        ``open_at`` opens the source at a number of seconds after its start, so that a long one need not be
        read from end to end. With ``live`` the recording is played as if it were live: then the image is
        searched for as well where it was not found. Raises UsageError for a given region outside the frame.
        """
        region = cls(given, say=say)
        region._must_fit = True
        size = info.height, info.width
        if given is not None:
            given.check_inside(*size)
        elif search and info.region is not None:
            region.roi, region.origin, region._only_size = info.region, Origin.SOURCE, size
        elif search:
            region._search, follows = live, live or info.time_base is not None
            spots = sample_spots(info, open_again, open_at)
            found, elsewhere = _agreed(spots, *size, first=follows)
            region.roi, region._only_size = region._found(found, final=not live), size
            region._follows = live or (follows and found is not None)
            if elsewhere and not follows:
                region._say("the ultrasound image is at another place in some files; replay those alone")
        return region

    @property
    def progress(self) -> str:
        """A human-readable line while :meth:`locate` answers None."""
        if self._misfit:
            return self._misfit
        if self._gone:
            return "the ultrasound image has left the screen; looking for it"
        if self._doubted:
            return "the screen has changed; looking for the ultrasound image"
        count = f"{self._samples.count} of {LIVE_SAMPLES} frames"
        if self._attempts:
            return f"no ultrasound image found yet; still looking, {count}"
        return f"looking for the ultrasound image, {count}"

    def known(self, frame: Frame) -> Roi | None:
        """The region of this frame if it is decided already. May be called from any thread."""
        size = frame.shape
        known, watch = self._known.get(size), self._watches.get(size)
        return known if known is None or watch is None or watch.fits(frame) else None

    def locate(self, frame: Frame) -> Roi | None:
        """The region of this frame; None while the search goes on, or if the given one does not fit into it.

        Raises UsageError for a given region that reaches outside the first frame, or outside any frame of a
        recording.
        """
        size = frame.shape
        if (watch := self._watches.get(size)) is not None:
            return self._follow(watch, frame, size)
        known = self._known.get(size)
        if known is None and (known := self._decide(frame, *size)) is not None:
            if len(self._known) >= MAX_SIZES:
                self._known.clear()  # a stream whose frames change their size all the time
                self._watches.clear()
            self._known[size] = known
            if self._follows and (self.roi is None or self._only_size in (None, size)):
                self._watches[size] = LayoutWatch(known, frame.shape)
        return known

    def locate_recorded(self, frame: Frame) -> tuple[Roi | None, bool]:
        """The region of a recording's frame, and whether the image is known to be there.

        While it is looked for, or not on the screen, the region is the last known one. Raises as
        :meth:`locate` does.
        """
        seconds = frame.index / _FALLBACK_RATE if frame.pts_seconds is None else frame.pts_seconds
        self._when = f"at {seconds:.1f} s "
        found = self.locate(replace(frame, captured_ns=round(seconds * 1e9)))
        watch = self._watches.get(frame.shape)
        return (watch.place, False) if found is None and watch is not None else (found, True)

    def _follow(self, watch: LayoutWatch, frame: Frame, size: tuple[int, int]) -> Roi | None:
        """The region of a frame of a size in which the image was found earlier: it may have moved since."""
        before, now = watch.place, watch.update(frame)
        self._doubted = now is None
        if now is None:
            self._known.pop(size, None)
            if watch.whereabouts is Whereabouts.GONE and not self._gone:
                self._gone = True
                until = "no outline is valid" if self._when else "nothing is shown"
                self._say(f"{self._when}the ultrasound image has left the screen; {until} until it is back")
            return None
        self._known[size] = now
        if self._gone or now != before:
            self._say(
                f"{self._when}the ultrasound image {'is back' if self._gone else 'moved'}, now at {now}"
            )
        self._gone = False
        return now

    def _decide(self, frame: Frame, height: int, width: int) -> Roi | None:
        if self.roi is not None and self._only_size in (None, (height, width)):
            if self._must_fit or not self._has_fitted:
                self.roi.check_inside(height, width)
            if self.roi.fits_into(height, width):
                self._has_fitted, self._misfit = True, ""
                return self.roi
            misfit = f"--roi {self.roi} does not fit into frames of {width}x{height}; give another"
            if misfit != self._misfit:
                self._misfit = misfit
                self._say(f"{misfit}; nothing is shown or recorded until it fits")
            return None
        if self._search:
            return self._search_in(frame)
        if self._only_size is not None and self.roi not in (None, Roi(0, 0, *self._only_size[::-1])):
            self._say_once(f"frame {frame.index} is {width}x{height}; frames of another size are taken whole")
        self.origin = Origin.WHOLE_FRAME
        return Roi.whole(frame)

    def _say_once(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            self._say(message)

    def _search_in(self, frame: Frame) -> Roi | None:
        """Sample a live frame; the region when enough of them were searched. Goes on until one is found."""
        self._gone = self._doubted = False
        if self._sampled_size != frame.shape:
            self._sampled_size, self._samples = frame.shape, Extremes()
            self._attempts = self._next_sample_ns = 0
            self._unconfirmed = None
        if frame.captured_ns < self._next_sample_ns:
            return None
        self._next_sample_ns = frame.captured_ns + LIVE_SAMPLE_EVERY_NS
        self._samples.add(grey := frame.grey())
        if self._samples.count == 1:
            self._first_sample = grey
        if self._unconfirmed is None and self._samples.count == EARLY_SAMPLES and (early := self._early()):
            self._samples, self._first_sample = Extremes(), None
            return self._found(early, final=False)
        if self._samples.count < (CONFIRMING_SAMPLES if self._unconfirmed else LIVE_SAMPLES):
            return None
        samples, self._samples = self._samples, Extremes()
        found = find_region([samples.low, samples.high])
        if self._unconfirmed is not None:
            return self._confirm(found, samples)
        self._attempts += 1
        if found is not None and self._is_nearly_all(found, frame.shape):
            # Everything changes when "NO SIGNAL" or a menu gives way to the machine's screen.
            self._unconfirmed = found
            return None
        return self._found(found, final=False)

    def _confirm(self, found: Roi | None, samples: Extremes) -> Roi | None:
        """Nearly the whole frame if later samples show the image there, too."""
        before, self._unconfirmed = self._unconfirmed, None
        if before is not None and found is not None and not differs(before, found):
            return self._found(before, final=False)
        self._samples = samples  # the first of the next search
        return self._found(None, final=False)

    def _early(self) -> Roi | None:
        """The image if the first few samples leave no doubt of it."""
        samples, first = self._samples, self._first_sample
        moving = find_region([samples.low, samples.high])
        if moving is None or first is None or self._is_nearly_all(moving, first.shape):
            return None
        still = find_region([first])
        # Both ways: a lower side that is higher is no difference, but here the image may be cut off there.
        agree = still is not None and not differs(still, moving) and not differs(moving, still)
        return moving if agree else None

    @staticmethod
    def _is_nearly_all(found: Roi, shape: tuple[int, ...]) -> bool:
        return found.width * found.height > WHOLE_SHARE * shape[0] * shape[1]

    def _found(self, found: Roi | None, *, final: bool) -> Roi | None:
        """Say the outcome of a search; ``final``: there will be no other."""
        if found is not None:
            self.origin = Origin.FOUND
            self._say(f"found the ultrasound image at {found}; --roi overrides it")
        elif final:
            self.origin = Origin.WHOLE_FRAME
            self._say("found no ultrasound image, taking the whole screen; --roi x,y,w,h sets it")
        elif self._attempts <= 1:
            self._say("found no ultrasound image yet, still looking; --roi x,y,w,h or none sets it")
        return found


def sample_spots(
    info: SourceInfo, open_again: Callable[[], Source], open_at: Callable[[float], Source] | None = None
) -> list[Extremes]:
    """Extremes of grey of a few frames each, at times spread over a recording; all frames of its own size.

    Of large frames only every :func:`search_step`-th row and column is kept: 16 groups of 88 megapixels would
    take 2.8 GB.

    Without ``open_at``, or if the duration is unknown or short, the recording is read from end to end. One
    that breaks off ends the sampling without an error: its replay meets that at the same place.
    """
    size = info.height, info.width
    count, rate = info.frame_count, info.rate
    spot = SPOT_FRAMES * SPOT_EVERY
    if open_at is None or count is None or rate is None or count <= 2 * SPOTS * spot:
        return _spread(_groups(open_again, size))
    seconds = float(count / rate)
    starts = [seconds * number / SPOTS for number in range(SPOTS)]
    found = [next(_groups(partial(open_at, start), size), None) for start in starts]
    return [group for group in found if group is not None]


def _groups(open_source: Callable[[], Source], size: tuple[int, int]) -> Iterator[Extremes]:
    """Extremes of every :data:`SPOT_FRAMES` samples of a source, as long as it can be read."""
    group, step, number = Extremes(), search_step(*size), 0
    with contextlib.suppress(SourceError, UsageError), open_source() as source:
        for frame in source:  # not by enumerate(), which keeps a frame while the next one is decoded
            if number % SPOT_EVERY == 0 and frame.shape == size:
                group.add(frame.grey(step=step))
                if group.count == SPOT_FRAMES:
                    yield group
                    group = Extremes()
            del frame  # large
            number += 1
    if group.count:
        yield group


def _spread(groups: Iterable[Extremes]) -> list[Extremes]:
    """About :data:`SPOTS` groups spread evenly over all, whose number is not known in advance."""
    kept: list[Extremes] = []
    step = 1
    for number, group in enumerate(groups):
        if number % step == 0:
            kept.append(group)
            if len(kept) >= 2 * SPOTS:
                kept, step = kept[::2], 2 * step
    return kept


def _agreed(
    spots: list[Extremes], full_height: int, full_width: int, *, first: bool
) -> tuple[Roi | None, bool]:
    """The image in most of those groups that show one, and whether it is at another place in some.

    With ``first``, the first place of several that it is at in more than one group.
    """
    if not spots:
        return None, False
    height, width = spots[0].low.shape  # of reduced frames, if they are large
    factor = factor_of(height, width)
    places = [find_small(spot.of_every(factor), factor, (height, width)) for spot in spots]
    found = [place for place in places if place is not None]
    alike: list[Extremes] = spots
    if found:
        counts = [sum(not differs(place, other) for other in found) for place in found]
        enough = min(2, max(counts)) if first else max(counts)
        usual = next(place for place, count in zip(found, counts, strict=True) if count >= enough)
        pairs = zip(spots, places, strict=True)
        alike = [spot for spot, place in pairs if place is not None and not differs(usual, place)]
    together = Extremes()
    for spot in alike:
        together.include(spot)
    place = find_region([together.low, together.high])
    step = search_step(full_height, full_width)
    if place is not None and step > 1:
        place = enlarged(place, step, (width, height), (full_width, full_height))
    return place, len(alike) < len(found)
