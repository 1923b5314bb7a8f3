"""Pixel formats, sizes and frame rates that a driver lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from streamseg.capture.v4l2.driver import Driver
from streamseg.capture.v4l2.structs import (
    ENUM_FMT,
    ENUM_FRAMEINTERVALS,
    ENUM_FRAMESIZES,
    FormatDescription,
    FrameInterval,
    FrameSize,
)

PIXEL_FORMATS = {
    "yuyv": "YUYV",
    "uyvy": "UYVY",
    "nv12": "NV12",
    "grey": "GREY",
    "mjpeg": "MJPG",
    "yvyu": "YVYU",
    "nv16": "NV16",
    "nv24": "NV24",
    "bgr3": "BGR3",
    "rgb3": "RGB3",
    "xr24": "XR24",
    "nv21": "NV21",
    "yu12": "YU12",
    "yv12": "YV12",
}
"""Our names of the readable formats, and their V4L2 codes."""
# Drivers list the same compressed frames as MJPG or as JPEG; those with several planes have names of their
# own for the same samples in separate memory; and four bytes of blue, green, red and anything have three
# names.
_SAME = {"JPEG": "mjpeg", "NM12": "nv12", "NM21": "nv21", "NM16": "nv16", "YM12": "yu12", "YM21": "yv12"}
_SAME |= {"BGR4": "xr24", "AR24": "xr24"}
_NAMES = {**{code: name for name, code in PIXEL_FORMATS.items()}, **_SAME}
_MAX_ENTRIES = 256
"""Entries after which a list is cut: a driver that answers every index would never end it."""
_DISCRETE = 1


@dataclass(frozen=True, slots=True)
class Rates:
    """Frame rates of a size, frames per second."""

    values: tuple[Fraction, ...] = ()
    """Highest first; empty if the driver lists none."""
    continuous: bool = False
    """Whether every rate between the first and the last of ``values`` is possible."""

    def nearest(self, rate: Fraction) -> Fraction | None:
        """The offered rate within half a percent (29.97 is 30), or None; unknown rates offer all."""
        if not self.values or (self.continuous and self.values[-1] <= rate <= self.values[0]):
            return rate
        best = min(self.values, key=lambda value: abs(value - rate))
        return best if abs(best - rate) <= rate / 200 else None

    def __str__(self) -> str:
        joint = " to " if self.continuous else ", "
        return joint.join(f"{float(value):.4g}" for value in self.values) or "unknown rates"


@dataclass(frozen=True, slots=True)
class Size:
    """One frame size in pixels, or a range of sizes."""

    width: int
    height: int
    rates: Rates = Rates()
    up_to: tuple[int, int] | None = None
    """Largest (width, height) if the device scales to any size from ``width``, ``height`` on; else None."""

    def holds(self, width: int, height: int) -> bool:
        """Whether a size is this one, or within the range."""
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
    """V4L2 code of four letters: ``YUYV``."""
    description: str
    """The driver's description: ``YUYV 4:2:2``."""
    sizes: tuple[Size, ...] = ()
    """Largest first; empty if the driver lists none."""

    @property
    def name(self) -> str | None:
        """Our name, or None for an unreadable format."""
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
    for index in range(_MAX_ENTRIES):
        entry = FormatDescription(index=index, type=driver.kind)
        if not driver.ask(ENUM_FMT, entry):
            break
        sizes = sorted(_sizes(driver, entry.pixelformat), key=lambda size: -size.width * size.height)
        found.append(PixelFormat(letters(entry.pixelformat), text(entry.description), tuple(sizes)))
    return tuple(found)


def name_of(code: str) -> str | None:
    """Our name of a V4L2 code, or None for an unreadable format."""
    return _NAMES.get(code)


def number(code: str) -> int:
    """The 32-bit number of a V4L2 code."""
    return int.from_bytes(code.encode("ascii").ljust(4), "little")


def letters(pixelformat: int) -> str:
    """The V4L2 code of a 32-bit number."""
    return pixelformat.to_bytes(4, "little").decode("ascii", "backslashreplace").rstrip()


def text(value: bytes) -> str:
    """A driver's text on one line."""
    return " ".join(value.decode("utf-8", "replace").split())


def _sizes(driver: Driver, pixelformat: int) -> Iterator[Size]:
    for index in range(_MAX_ENTRIES):
        entry = FrameSize(index=index, pixelformat=pixelformat)
        if not driver.ask(ENUM_FRAMESIZES, entry, dispensable=True):
            return
        if entry.kind == _DISCRETE:
            width, height = entry.values[:2]
            if width and height:  # a driver without a signal lists 0x0
                yield Size(width, height, _rates(driver, pixelformat, width, height))
            continue
        left, right, _, top, bottom, _ = entry.values
        if left and top:
            yield Size(left, top, _rates(driver, pixelformat, right, bottom), (right, bottom))
        return


def _rates(driver: Driver, pixelformat: int, width: int, height: int) -> Rates:
    found: list[Fraction] = []
    continuous = False
    for index in range(_MAX_ENTRIES):
        entry = FrameInterval(index=index, pixelformat=pixelformat, width=width, height=height)
        if continuous or not driver.ask(ENUM_FRAMEINTERVALS, entry, dispensable=True):
            break
        continuous = entry.kind != _DISCRETE
        pairs = zip(entry.values[0::2], entry.values[1::2], strict=True)
        seconds = list(pairs)[: 2 if continuous else 1]
        # Some drivers list intervals of 0/0 for "any".
        found += [Fraction(below, above) for above, below in seconds if above and below]
    return Rates(tuple(sorted(set(found), reverse=True)), continuous)
