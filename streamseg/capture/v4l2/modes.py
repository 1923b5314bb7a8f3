"""Chooses the pixel format, frame size and frame rate of a frame grabber.

The user's choices are binding. For the rest:

* at least 25 frames per second, to follow the needle; if no mode is that fast, the fastest;
* no more pixels than 1920x1200: above the size of a scanner's screen they cost time and show nothing;
* the largest uncompressed frame, YUYV first: JPEG smooths the speckle that the net relies on, and takes 4 ms
  to decode at 1280x720;
* but MJPEG if it has at least twice the pixels: a grabber on USB 2 has bandwidth for 640x480 uncompressed,
  and at that size a scanner's screen loses more than by JPEG;
* the highest rate up to 60. If a device scales to any size, its current one: usually that of its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from streamseg.capture.v4l2.formats import PIXEL_FORMATS, PixelFormat, Rates, Size
from streamseg.core.errors import SourceError, UsageError

_MIN_RATE = Fraction(249, 10)
_MAX_RATE = Fraction(601, 10)
_MAX_PIXELS = 1920 * 1200
_MAX_NAMED = 12
"""Alternatives in a message."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user requests; None leaves it to the rule."""

    size: tuple[int, int] | None = None
    """Width, height in pixels."""
    rate: Fraction | None = None
    """Frames per second."""
    pixel_format: str | None = None
    """A key of PIXEL_FORMATS."""


@dataclass(frozen=True, slots=True)
class CaptureMode:
    """The mode to request from the driver."""

    code: str
    """V4L2 code of the pixel format."""
    name: str
    """Our name of the pixel format."""
    width: int
    height: int
    rates: Rates
    rate: Fraction | None = None
    """Frames per second; None leaves it to the driver."""

    def __str__(self) -> str:
        at = f" at {float(self.rate):.4g}" if self.rate else ""
        return f"{self.name} {self.width}x{self.height}{at}"


def check_wish(wish: Wish) -> None:
    """Raise UsageError for values that no device can have."""
    if wish.pixel_format is not None and wish.pixel_format not in PIXEL_FORMATS:
        raise UsageError(
            f"unknown pixel format {wish.pixel_format!r}; give one of {', '.join(PIXEL_FORMATS)}"
        )
    if wish.size is not None and not all(1 <= side <= 16384 for side in wish.size):
        raise UsageError(
            f"impossible size {_pixels(wish.size)}; give WIDTHxHEIGHT in pixels, such as 1280x720"
        )
    if wish.rate is not None and not 1 <= wish.rate <= 1000:
        raise UsageError(
            f"impossible rate {float(wish.rate):g}; give 1 to 1000 frames per second, such as 30"
        )


def choose_mode(
    device: str, formats: Sequence[PixelFormat], wish: Wish, current: tuple[int, int]
) -> CaptureMode:
    """Choose the mode by the rule above; ``current`` is the device's present size (width, height).

    Raises UsageError if the device lacks what was requested, naming what it has, and SourceError if it has
    no readable format.
    """
    readable = [item for item in formats if item.name]
    if not readable:
        codes = ", ".join(item.code for item in formats) or "nothing"
        raise SourceError(
            f"{device} delivers {codes}, which cannot be read; supported are {_listed(PIXEL_FORMATS)}"
        )
    if wish.pixel_format is not None:
        names = (item.name or "" for item in readable)
        readable = [item for item in readable if item.name == wish.pixel_format]
        if not readable:
            raise UsageError(f"{device} has no pixel format {wish.pixel_format}; it has {_listed(names)}")
    modes = [mode for item in readable for mode in _modes(item, wish.size, current)]
    if not modes:
        sizes = (f"{item.name} {size}" for item in readable for size in item.sizes)
        raise UsageError(f"{device} has no size {_pixels(wish.size)}; it has {_listed(sizes)}")
    if wish.rate is None:
        return _best([replace(mode, rate=_default_rate(mode.rates)) for mode in modes])
    timed = [replace(mode, rate=mode.rates.nearest(wish.rate)) for mode in modes]
    possible = [mode for mode in timed if mode.rate is not None]
    if not possible:
        rates = (f"{mode} at {mode.rates}" for mode in modes)
        raise UsageError(f"{device} has no {float(wish.rate):g} frames per second; it has {_listed(rates)}")
    return _best(possible)


def _modes(
    item: PixelFormat, size: tuple[int, int] | None, current: tuple[int, int]
) -> Iterator[CaptureMode]:
    """Each size of a format, without a rate."""
    # Drivers of capture cards with a fixed size may list none: then the requested or present one is tried.
    for entry in item.sizes or (Size(*(size or current)),):
        width, height = entry.width, entry.height
        if entry.up_to is not None:
            width, height = size or (current if entry.holds(*current) else entry.up_to)
        if entry.holds(width, height) and size in (None, (width, height)):
            yield CaptureMode(item.code, item.name or item.code, width, height, entry.rates)


def _best(modes: list[CaptureMode]) -> CaptureMode:
    fast = [mode for mode in modes if mode.rate is None or mode.rate >= _MIN_RATE]
    if not fast:
        fastest = max(mode.rate or 0 for mode in modes)
        fast = [mode for mode in modes if mode.rate == fastest]
    fitting = [mode for mode in fast if mode.width * mode.height <= _MAX_PIXELS]
    candidates = fitting or [min(fast, key=_area)]
    plain = [mode for mode in candidates if mode.name != "mjpeg"]
    packed = [mode for mode in candidates if mode.name == "mjpeg"]
    if not plain or (packed and max(map(_area, packed)) >= 2 * max(map(_area, plain))):
        return max(packed, key=_merit)
    return max(plain, key=_merit)


def _merit(mode: CaptureMode) -> tuple[int, Fraction, int]:
    return _area(mode), mode.rate or Fraction(0), -list(PIXEL_FORMATS).index(mode.name)


def _area(mode: CaptureMode) -> int:
    return mode.width * mode.height


def _default_rate(rates: Rates) -> Fraction | None:
    if not rates.values:
        return None
    if rates.continuous:
        return max(min(rates.values[0], Fraction(60)), rates.values[-1])
    return next((rate for rate in rates.values if rate <= _MAX_RATE), rates.values[-1])


def _pixels(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))


def _listed(items: Iterable[str]) -> str:
    """The first twelve alternatives, without repetition."""
    different = list(dict.fromkeys(items))
    more = ", ..." if len(different) > _MAX_NAMED else ""
    return ", ".join(different[:_MAX_NAMED]) + more
