"""What a frame grabber can deliver: pixel formats with their sizes and rates, as its driver lists them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from streamseg.capture.v4l2.driver import Driver
from streamseg.capture.v4l2.structs import (
    CAPTURE,
    ENUM_FMT,
    ENUM_FRAMEINTERVALS,
    ENUM_FRAMESIZES,
    FormatDescription,
    FrameInterval,
    FrameSize,
)

PIXEL_FORMATS = {"yuyv": "YUYV", "uyvy": "UYVY", "nv12": "NV12", "grey": "GREY", "mjpeg": "MJPG"}
"""Our names of the formats that can be read, and the drivers' codes."""
_NAMES = {**{code: name for name, code in PIXEL_FORMATS.items()}, "JPEG": "mjpeg"}
_LONGEST_LIST = 256  # entries after which a driver's list is taken for endless
_DISCRETE = 1


@dataclass(frozen=True, slots=True)
class Rates:
    """Frames per second that go with a size."""

    values: tuple[Fraction, ...] = ()
    """Highest first; empty where the driver does not tell."""
    continuous: bool = False
    """Whether everything between the first and the last of ``values`` is possible too."""

    def nearest(self, rate: Fraction) -> Fraction | None:
        """The rate that is offered within half a percent (29.97 is 30), or None; unknown rates offer all."""
        if not self.values or (self.continuous and self.values[-1] <= rate <= self.values[0]):
            return rate
        best = min(self.values, key=lambda value: abs(value - rate))
        return best if abs(best - rate) <= rate / 200 else None

    def __str__(self) -> str:
        joint = " to " if self.continuous else ", "
        return joint.join(f"{float(value):.4g}" for value in self.values) or "unknown rates"


@dataclass(frozen=True, slots=True)
class Size:
    """One size in pixels, or all sizes from one to another."""

    width: int
    height: int
    rates: Rates = Rates()
    up_to: tuple[int, int] | None = None
    """Largest (width, height) where the device scales to any from ``width``, ``height`` on; else None."""

    def holds(self, width: int, height: int) -> bool:
        """Whether the size is this one, or within the range."""
        right, bottom = self.up_to or (self.width, self.height)
        return self.width <= width <= right and self.height <= height <= bottom

    def __str__(self) -> str:
        upper = f" to {self.up_to[0]}x{self.up_to[1]}" if self.up_to else ""
        return f"{self.width}x{self.height}{upper}"

    def to_json(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "width": self.width,
            "height": self.height,
            "up_to": None if self.up_to is None else list(self.up_to),
            "rates": [round(float(value), 3) for value in self.rates.values],
            "continuous_rates": self.rates.continuous,
        }


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """One pixel format of a device."""

    code: str
    """The driver's four letters: ``YUYV``."""
    description: str
    """The driver's words: ``YUYV 4:2:2``."""
    sizes: tuple[Size, ...] = ()
    """Largest first; empty where the driver does not tell."""

    @property
    def name(self) -> str | None:
        """Our name, or None for a format that cannot be read."""
        return name_of(self.code)

    def to_json(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "format": self.name,
            "code": self.code,
            "description": self.description,
            "sizes": [size.to_json() for size in self.sizes],
        }


def list_formats(driver: Driver) -> tuple[PixelFormat, ...]:
    """Every pixel format in the driver's order. Raises DriverError."""
    found = []
    for index in range(_LONGEST_LIST):
        entry = FormatDescription(index=index, type=CAPTURE)
        if not driver.ask(ENUM_FMT, entry):
            break
        sizes = sorted(_sizes(driver, entry.pixelformat), key=lambda size: -size.width * size.height)
        found.append(PixelFormat(letters(entry.pixelformat), text(entry.description), tuple(sizes)))
    return tuple(found)


def name_of(code: str) -> str | None:
    """Our name of a pixel format's four letters, or None for one that cannot be read."""
    return _NAMES.get(code)


def number(code: str) -> int:
    """The number of a pixel format's four letters."""
    return int.from_bytes(code.encode("ascii").ljust(4), "little")


def letters(pixelformat: int) -> str:
    """The four letters of a pixel format's number."""
    return pixelformat.to_bytes(4, "little").decode("ascii", "backslashreplace").rstrip()


def text(value: bytes) -> str:
    """A driver's words on one line."""
    return " ".join(value.decode("utf-8", "replace").split())


def _sizes(driver: Driver, pixelformat: int) -> Iterator[Size]:
    for index in range(_LONGEST_LIST):
        entry = FrameSize(index=index, pixelformat=pixelformat)
        if not driver.ask(ENUM_FRAMESIZES, entry):
            return
        if entry.kind == _DISCRETE:
            width, height = entry.values[:2]
            if width and height:
                yield Size(width, height, _rates(driver, pixelformat, width, height))
            continue
        left, right, _, top, bottom, _ = entry.values
        if left and top:
            yield Size(left, top, _rates(driver, pixelformat, right, bottom), (right, bottom))
        return


def _rates(driver: Driver, pixelformat: int, width: int, height: int) -> Rates:
    found: list[Fraction] = []
    continuous = False
    for index in range(_LONGEST_LIST):
        entry = FrameInterval(index=index, pixelformat=pixelformat, width=width, height=height)
        if continuous or not driver.ask(ENUM_FRAMEINTERVALS, entry):
            break
        continuous = entry.kind != _DISCRETE
        pairs = zip(entry.values[0::2], entry.values[1::2], strict=True)
        seconds = list(pairs)[: 2 if continuous else 1]
        found += [Fraction(below, above) for above, below in seconds if above and below]
    return Rates(tuple(sorted(set(found), reverse=True)), continuous)
