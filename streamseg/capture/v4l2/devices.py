"""Frame grabbers of this machine: opening one, saying why one cannot be opened, and listing them all."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg.capture.v4l2.driver import Driver, DriverError
from streamseg.capture.v4l2.formats import PixelFormat, list_formats, text
from streamseg.capture.v4l2.modes import Wish, choose_mode
from streamseg.capture.v4l2.structs import (
    CAP_CAPTURE,
    CAP_CAPTURE_MPLANE,
    CAP_DEVICE_CAPS,
    CAP_STREAMING,
    CAPTURE,
    G_FMT,
    QUERYCAP,
    Capability,
    Format,
)
from streamseg.core.errors import SourceError, StreamsegError

DEVICE_FOLDER = Path("/dev")
_FORBIDDEN = (
    "may not be opened ({why}); join the group 'video' (sudo usermod -aG video $USER), then log in again"
)
_GONE = "is gone or was reset ({why}); check its cable"
_NO_DEVICE = "is no video device; give one such as /dev/video0"
_MEANING = {
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EBUSY: "is in use by another program; close that one first",
    errno.ENODEV: _GONE,
    errno.EIO: _GONE,
    errno.EISDIR: _NO_DEVICE,
    errno.ENXIO: _NO_DEVICE,
    errno.ENOSPC: "finds too little USB bandwidth; ask for mjpeg or a smaller size",
}
"""What a driver's errors say of a device."""


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """One video device, and what it offers or why it cannot be used."""

    path: str
    name: str | None = None
    """What its driver calls the card."""
    driver: str | None = None
    formats: tuple[PixelFormat, ...] = ()
    mode: str | None = None
    """What would be captured without options: ``yuyv 1280x720 at 60``."""
    problem: str | None = None
    """One line that says why nothing can be captured; None where it can."""

    def to_json(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "path": self.path,
            "name": self.name,
            "driver": self.driver,
            "mode": self.mode,
            "problem": self.problem,
            "formats": [item.to_json() for item in self.formats],
        }


def list_devices(paths: Iterable[str] | None = None) -> list[VideoDevice]:
    """The video devices of this machine, or those given, each with its formats or the reason why not.

    Raises nothing for a device that is absent, busy, forbidden or no capture device: its ``problem`` says so.
    """
    return [_describe(path) for path in (device_paths() if paths is None else paths)]


def device_paths() -> list[str]:
    """Paths of all video devices, by number."""
    found = (path for path in DEVICE_FOLDER.glob("video*") if path.name.removeprefix("video").isdecimal())
    return [str(path) for path in sorted(found, key=lambda path: int(path.name.removeprefix("video")))]


def open_grabber(path: str) -> tuple[Driver, Capability]:
    """Open a device that captures. Raises SourceError with what to do."""
    try:
        driver = Driver(path)
    except DriverError as error:
        raise explained(path, error) from error
    capability = Capability()
    try:
        if not driver.ask(QUERYCAP, capability):
            raise SourceError(f"{path} {_NO_DEVICE}")
        _check_captures(path, capability)
    except DriverError as error:
        driver.close()
        raise explained(path, error) from error
    except SourceError:
        driver.close()
        raise
    return driver, capability


def current_format(driver: Driver) -> Format:
    """The format that the device has now. Raises DriverError."""
    current = Format(type=CAPTURE)
    driver.ask(G_FMT, current)
    return current


def explained(path: str, error: DriverError) -> SourceError:
    """What an error of the driver means for a user."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        found = ", ".join(device_paths()) or "none"
        return SourceError(f"no video device {path}; plug it in, or give one that is there ({found})")
    known = _MEANING.get(error.errno or 0, "failed ({why}); unplug it and plug it in again")
    return SourceError(f"{path} {known.format(why=error.strerror)}")


def _check_captures(path: str, capability: Capability) -> None:
    whole = capability.capabilities
    here = capability.device_caps if whole & CAP_DEVICE_CAPS else whole
    if not here & CAP_CAPTURE:
        kind = "captures in several planes" if here & CAP_CAPTURE_MPLANE else "does not capture video"
        raise SourceError(f"{path} ({text(capability.card)}) {kind}; give another of the grabber's devices")
    if not here & CAP_STREAMING:
        raise SourceError(f"{path} ({text(capability.card)}) cannot stream; give another device")


def _describe(path: str) -> VideoDevice:
    try:
        driver, capability = open_grabber(path)
    except SourceError as error:
        return VideoDevice(path, problem=str(error))
    name, module = text(capability.card), text(capability.driver)
    formats: tuple[PixelFormat, ...] = ()
    try:
        formats = list_formats(driver)
        pix = current_format(driver).fmt.pix
        mode = choose_mode(path, formats, Wish(), (pix.width, pix.height))
    except DriverError as error:
        return VideoDevice(path, name, module, formats, problem=str(explained(path, error)))
    except StreamsegError as error:
        return VideoDevice(path, name, module, formats, problem=str(error))
    finally:
        driver.close()
    return VideoDevice(path, name, module, formats, mode=str(mode))
