"""Configures a V4L2 device and exchanges its buffers."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from fractions import Fraction

import numpy as np

from streamseg.capture.v4l2.devices import current_format
from streamseg.capture.v4l2.driver import Driver, DriverError
from streamseg.capture.v4l2.formats import PixelFormat, letters, list_formats, name_of, number
from streamseg.capture.v4l2.modes import Mode, Wish, choose_mode
from streamseg.capture.v4l2.pixels import Layout
from streamseg.capture.v4l2.structs import (
    BUF_CLOCK,
    BUF_MONOTONIC,
    CAPTURE,
    DQBUF,
    ENUMINPUT,
    G_INPUT,
    G_PARM,
    QBUF,
    S_FMT,
    S_PARM,
    STREAMON,
    Buffer,
    CaptureParameters,
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
_FULL_RANGE, _JPEG_COLOURS = 1, 7
_INPUT_TROUBLE = {0x1: "no power", 0x2: "no signal", 0x100: "no stable signal", 0x200: "no stable signal"}


class Stream:
    """The buffers of one streaming device. Every method raises DriverError. Not thread-safe."""

    def __init__(self, device: str, driver: Driver, wish: Wish) -> None:
        """Configure and start. Raises UsageError or SourceError if the device does not fit, and DriverError.

        The caller closes the driver in every case.
        """
        self._driver = driver
        now = current_format(driver).fmt.pix
        # A driver that lists no formats has at least the current one.
        formats = list_formats(driver) or (PixelFormat(letters(now.pixelformat), ""),)
        mode = choose_mode(device, formats, wish, (now.width, now.height))
        self.layout = _set_format(device, driver, mode, wish)
        self.rate = _set_rate(device, driver, mode, wish)
        """Frames per second that the driver reports, or None."""
        self._views: list[Grey] = []
        self._queued_ns: list[int] = []
        self.stamped = False
        """Whether the driver stamps buffers with the monotonic clock."""
        for address, buffer in driver.map_buffers(_BUFFERS):
            memory = (ctypes.c_uint8 * buffer.length).from_address(address)
            self._views.append(np.frombuffer(memory, np.uint8))
            self._queued_ns.append(0)
            self.stamped = has_monotonic_stamp(buffer)
            self.give_back(buffer)
        if not self._views:
            raise SourceError(f"{device} has no memory for buffers; unplug it and plug it in again")
        driver.call(STREAMON, ctypes.c_int(CAPTURE))

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
        """The bytes of a taken buffer, uint8 (n,): the driver's memory, valid until it is given back."""
        held: Grey = self._views[buffer.index][: buffer.bytesused]
        return held

    def queued_ns(self, buffer: Buffer) -> int:
        """When a buffer was last queued, monotonic nanoseconds."""
        index: int = buffer.index
        return self._queued_ns[index]

    def give_back(self, buffer: Buffer) -> None:
        """Let the driver fill a buffer again."""
        self._queued_ns[buffer.index] = time.monotonic_ns()
        self._driver.call(QBUF, self._driver.buffer(buffer.index))

    def trouble(self) -> str | None:
        """What is wrong with the input by the device's own status, or None."""
        index = ctypes.c_int()
        if not self._driver.ask(G_INPUT, index):
            return None
        entry = Input(index=index.value)
        if not self._driver.ask(ENUMINPUT, entry):
            return None
        return next((words for bit, words in _INPUT_TROUBLE.items() if entry.status & bit), None)


def has_monotonic_stamp(buffer: Buffer) -> bool:
    """Whether a buffer's time stamp is of the monotonic clock, by the driver's flags."""
    return bool(buffer.flags & BUF_CLOCK == BUF_MONOTONIC)


def _set_format(device: str, driver: Driver, mode: Mode, wish: Wish) -> Layout:
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
    return _layout(name, given)


def _request_format(driver: Driver, mode: Mode, field: int) -> PixFormat:
    wanted = Format(type=CAPTURE)
    pix = wanted.fmt.pix
    pix.width, pix.height, pix.pixelformat, pix.field = mode.width, mode.height, number(mode.code), field
    driver.call(S_FMT, wanted)
    answer: PixFormat = wanted.fmt.pix
    return answer


def _layout(name: str, given: PixFormat) -> Layout:
    packed = 2 if name in ("yuyv", "uyvy") else 1
    full = given.priv == _EXTENDED and given.quantization == _FULL_RANGE
    by_default = given.quantization == 0 and given.colorspace == _JPEG_COLOURS
    return Layout(
        name=name,
        width=given.width,
        height=given.height,
        # Drivers may leave bytesperline at 0 for rows without padding.
        stride=0 if name == "mjpeg" else given.bytesperline or packed * given.width,
        field=given.field,
        full_range=full or by_default,
    )


def _set_rate(device: str, driver: Driver, mode: Mode, wish: Wish) -> Fraction | None:
    """Request the mode's rate; returns the rate that the driver then reports, or None. Raises UsageError."""
    parameters = CaptureParameters(type=CAPTURE)
    known = driver.ask(G_PARM, parameters)
    # Drivers of capture cards often lack G_PARM: their rate is that of the input.
    if mode.rate is not None and known:
        parameters.numerator, parameters.denominator = mode.rate.denominator, mode.rate.numerator
        known = driver.ask(S_PARM, parameters) or driver.ask(G_PARM, parameters)
    rate = None
    if known and parameters.numerator and parameters.denominator:
        rate = Fraction(parameters.denominator, parameters.numerator)
    if wish.rate is not None and (rate is None or abs(rate - wish.rate) > wish.rate / 200):
        has = "does not report its rate" if rate is None else f"delivers {float(rate):.4g}"
        raise UsageError(
            f"{device} cannot be set to {float(wish.rate):.4g} frames per second, it {has}; omit the rate"
        )
    return rate
