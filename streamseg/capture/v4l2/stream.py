"""Configures a V4L2 device and exchanges its buffers."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from fractions import Fraction
from typing import Any

import numpy as np

from streamseg.capture.v4l2.devices import current_format
from streamseg.capture.v4l2.driver import Driver, DriverError, planes_of
from streamseg.capture.v4l2.formats import PixelFormat, letters, list_formats, name_of, number
from streamseg.capture.v4l2.modes import CaptureMode, Wish, choose_mode
from streamseg.capture.v4l2.pixels import BYTES, BufferLayout
from streamseg.capture.v4l2.structs import (
    BUF_CLOCK,
    BUF_MONOTONIC,
    CAPTURE,
    CAPTURE_MPLANE,
    CROPCAP,
    DQBUF,
    ENUMINPUT,
    EVENT_SOURCE_CHANGE,
    G_INPUT,
    G_PARM,
    QBUF,
    QUERY_DV_TIMINGS,
    S_DV_TIMINGS,
    S_FMT,
    S_PARM,
    STREAMON,
    SUBSCRIBE_EVENT,
    Buffer,
    CaptureParameters,
    CropCapability,
    DvTimings,
    Event,
    EventSubscription,
    Format,
    Input,
    PixFormat,
)
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Grey

_BUFFERS = 4
_INTERLACED = 4
_SEPARATE_FIELDS = (2, 3, 7)
_EXTENDED = 0xFEEDCAFE
"""V4L2_PIX_FMT_PRIV_MAGIC: drivers without it leave the members after ``priv`` undefined."""
_FULL_RANGE, _LIMITED_RANGE, _JPEG_COLOURS = 1, 2, 7
_NO_TIMINGS = {
    errno.ENOLINK: "no input signal",
    errno.ENOLCK: "no stable input signal",
    errno.ERANGE: "an input signal that it cannot capture",
}
_TELEVISION = {
    (720, 576): Fraction(16, 15),
    (704, 576): Fraction(12, 11),
    (720, 480): Fraction(8, 9),
    (704, 480): Fraction(10, 11),
    (720, 486): Fraction(10, 11),
}
"""Pixel aspects of the sizes of standard-definition video, which have 4:3 on a screen (ITU-R BT.601)."""
_INPUT_TROUBLE = {0x1: "no power", 0x2: "no signal", 0x100: "no stable signal", 0x200: "no stable signal"}


class Stream:
    """The buffers of one streaming device. Every method raises DriverError. Not thread-safe."""

    def __init__(self, device: str, driver: Driver, wish: Wish, sar: Fraction | None = None) -> None:
        """Configure and start. Raises UsageError or SourceError if the device does not fit, and DriverError.

        ``sar`` replaces the aspect of a pixel that the driver states. The caller closes the driver in every
        case.
        """
        self._driver = driver
        _take_timings(device, driver)
        # Drivers of cameras have no such event; those of HDMI and SDI inputs send one when the scanner
        # changes its resolution: they deliver nothing more, or wrong frames, until they are set up again.
        subscription = EventSubscription(type=EVENT_SOURCE_CHANGE)
        self._has_events = driver.ask(SUBSCRIBE_EVENT, subscription, dispensable=True)
        now = current_format(driver).fmt.pix
        # A driver that lists no formats has at least the current one.
        formats = list_formats(driver) or (PixelFormat(letters(now.pixelformat), ""),)
        mode = choose_mode(device, formats, wish, (now.width, now.height))
        self.layout = _set_format(device, driver, mode, wish, sar)
        self.rate = _set_rate(device, driver, mode, wish)
        """Frames per second that the driver reports, or None."""
        self._views: list[list[Grey]] = []
        self._queued_ns: list[int] = []
        self.stamped = False
        """Whether the driver stamps buffers with the monotonic clock."""
        for planes, buffer in driver.map_buffers(_BUFFERS):
            memory: list[Any] = [
                (ctypes.c_uint8 * length).from_address(address) for address, length in planes
            ]
            self._views.append([np.frombuffer(plane, np.uint8) for plane in memory])
            self._queued_ns.append(0)
            self.stamped = has_monotonic_stamp(buffer)
            self.give_back(buffer)
        if not self._views:
            raise SourceError(f"{device} has no memory for buffers; unplug it and plug it in again")
        driver.call(STREAMON, ctypes.c_int(driver.kind))

    def __len__(self) -> int:
        """The number of buffers."""
        return len(self._views)

    def take(self) -> Buffer | None:
        """The oldest filled buffer, or None if there is none yet. Does not wait."""
        buffer = self._driver.buffer()
        try:
            self._driver.call(DQBUF, buffer)
        except DriverError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise
        if buffer.index >= len(self._views):  # a broken driver: the index leads outside our memory
            raise DriverError(errno.EIO, os.strerror(errno.EIO))
        return buffer

    def wait(self, milliseconds: int) -> None:
        """Wait until a buffer may be filled, at most ``milliseconds``."""
        self._driver.wait(milliseconds)

    def data(self, buffer: Buffer) -> Grey:
        """The bytes of a taken buffer, uint8 (n,): the driver's memory, valid until it is given back.

        Empty if a plane of several holds less than its part of the frame.
        """
        views = self._views[buffer.index]
        if self._driver.kind == CAPTURE:
            held: Grey = views[0][: buffer.bytesused]
            return held
        # Drivers may start the data of a plane after a header of their own.
        planes = [
            view[plane.data_offset : plane.bytesused]
            for view, plane in zip(views, planes_of(buffer), strict=False)
        ]
        if len(planes) == 1:
            only: Grey = planes[0]
            return only
        # Some drivers say that a plane holds all of its memory, with what fills its last page.
        luma = self.layout.stride * self.layout.height
        lengths = [luma, *[(self.layout.length - luma) // (len(planes) - 1)] * (len(planes) - 1)]
        pairs = list(zip(planes, lengths, strict=True))
        whole = bool(pairs) and all(len(plane) >= length for plane, length in pairs)
        parts: list[Grey] = [plane[:length] for plane, length in pairs]
        return np.concatenate(parts) if whole else np.empty(0, np.uint8)

    def queued_ns(self, buffer: Buffer) -> int:
        """When a buffer was last queued, monotonic nanoseconds."""
        index: int = buffer.index
        return self._queued_ns[index]

    def give_back(self, buffer: Buffer) -> None:
        """Let the driver fill a buffer again."""
        self._queued_ns[buffer.index] = time.monotonic_ns()
        self._driver.call(QBUF, self._driver.buffer(buffer.index))

    def source_changed(self) -> bool:
        """Whether the input has changed its resolution or format since the start."""
        event = Event()
        while self._has_events and self._driver.ask_event(event):
            if event.type == EVENT_SOURCE_CHANGE:
                return True
        return False

    def trouble(self) -> str | None:
        """What is wrong with the input by the device's own status, or None."""
        index = ctypes.c_int()
        if not self._driver.ask(G_INPUT, index, dispensable=True):
            return None
        entry = Input(index=index.value)
        if not self._driver.ask(ENUMINPUT, entry, dispensable=True):
            return None
        return next((words for bit, words in _INPUT_TROUBLE.items() if entry.status & bit), None)


def has_monotonic_stamp(buffer: Buffer) -> bool:
    """Whether a buffer's time stamp is of the monotonic clock, by the driver's flags."""
    return bool(buffer.flags & BUF_CLOCK == BUF_MONOTONIC)


def _set_format(
    device: str, driver: Driver, mode: CaptureMode, wish: Wish, sar: Fraction | None
) -> BufferLayout:
    given = _request_format(driver, mode, field=0)
    # Asked for any field order, drivers of interlaced video may deliver single fields.
    if given.field in _SEPARATE_FIELDS:
        given = _request_format(driver, mode, field=_INTERLACED)
    code = letters(given.pixelformat)
    name = name_of(code)
    got = f"{name or code} {given.width}x{given.height}"
    # Drivers answer with the nearest format and size that they have instead of an error.
    other_format = name is None or (wish.pixel_format is not None and name != mode.name)
    other_size = wish.size is not None and (given.width, given.height) != wish.size
    if name is None or other_format or other_size:
        asked = wish.pixel_format or wish.size
        kind = UsageError if asked else SourceError
        raise kind(
            f"{device} was asked for {mode.name} {mode.width}x{mode.height} but set {got}; request that"
        )
    aspect = _pixel_aspect(driver, given.width, given.height) if sar is None else sar
    return _layout(name, given, aspect)


def _request_format(driver: Driver, mode: CaptureMode, field: int) -> PixFormat:
    wanted = Format(type=driver.kind)
    pix = wanted.fmt.pix_mp if driver.kind == CAPTURE_MPLANE else wanted.fmt.pix
    pix.width, pix.height, pix.pixelformat, pix.field = mode.width, mode.height, number(mode.code), field
    driver.call(S_FMT, wanted)
    if driver.kind == CAPTURE:
        answer: PixFormat = wanted.fmt.pix
        return answer
    given = wanted.fmt.pix_mp
    return PixFormat(
        width=given.width,
        height=given.height,
        pixelformat=given.pixelformat,
        field=given.field,
        bytesperline=given.plane_fmt[0].bytesperline,
        colorspace=given.colorspace,
        priv=_EXTENDED,
        quantization=given.quantization,
    )


def _take_timings(device: str, driver: Driver) -> None:
    """Set a digital input to the signal that it receives. Raises SourceError if there is none.

    Drivers of HDMI and SDI inputs (those of cameras lack the request) do not do that themselves: until it is
    done they deliver the resolution of an earlier signal, or nothing.
    """
    timings = DvTimings()
    try:
        if driver.ask(QUERY_DV_TIMINGS, timings) and timings.width and timings.height:
            driver.call(S_DV_TIMINGS, timings)
    except DriverError as error:
        if error.errno not in _NO_TIMINGS:
            raise
        raise SourceError(
            f"{device} has {_NO_TIMINGS[error.errno]}; check the scanner's output and the cable"
        ) from error


def _pixel_aspect(driver: Driver, width: int, height: int) -> Fraction | None:
    """Width of a pixel divided by its height, by the driver, or of the sizes that only television has."""
    crop = CropCapability(type=driver.kind)
    # Drivers of cameras and of most USB grabbers lack the request, or answer 1:1 whatever the video is.
    if driver.ask(CROPCAP, crop, dispensable=True) and all(crop.aspect) and crop.aspect[0] != crop.aspect[1]:
        scale = Fraction(crop.defrect.width or width, width) / Fraction(crop.defrect.height or height, height)
        return Fraction(crop.aspect[1], crop.aspect[0]) * scale
    return _TELEVISION.get((width, height))


def _layout(name: str, given: PixFormat, aspect: Fraction | None) -> BufferLayout:
    extended = given.priv == _EXTENDED
    full = given.priv == _EXTENDED and given.quantization == _FULL_RANGE
    by_default = given.quantization == 0 and given.colorspace == _JPEG_COLOURS
    return BufferLayout(
        name=name,
        width=given.width,
        height=given.height,
        # Drivers may leave bytesperline at 0 for rows without padding.
        stride=0 if name == "mjpeg" else given.bytesperline or BYTES[name] * given.width,
        field=given.field,
        full_range=full or by_default,
        limited_rgb=extended and given.quantization == _LIMITED_RANGE,
        aspect=aspect,
    )


def _set_rate(device: str, driver: Driver, mode: CaptureMode, wish: Wish) -> Fraction | None:
    """Request the mode's rate; returns the rate that the driver then reports, or None. Raises UsageError."""
    parameters = CaptureParameters(type=driver.kind)
    known = driver.ask(G_PARM, parameters, dispensable=True)
    # Drivers of capture cards often lack G_PARM: their rate is that of the input.
    if mode.rate is not None and known:
        parameters.numerator, parameters.denominator = mode.rate.denominator, mode.rate.numerator
        known = any(driver.ask(request, parameters, dispensable=True) for request in (S_PARM, G_PARM))
    rate = None
    if known and parameters.numerator and parameters.denominator:
        rate = Fraction(parameters.denominator, parameters.numerator)
    if wish.rate is not None and (rate is None or abs(rate - wish.rate) > wish.rate / 200):
        has = "does not report its rate" if rate is None else f"delivers {float(rate):.4g}"
        raise UsageError(
            f"{device} cannot be set to {float(wish.rate):.4g} frames per second, it {has}; omit the rate"
        )
    return rate
