"""Lists and opens the V4L2 devices of this machine, and explains why one cannot be used."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    CAPTURE_MPLANE,
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
_NO_DEVICE = "is not a video device; give one such as /dev/video0"
_MEANING = {
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EBUSY: "is in use by another program; close that first",
    # An unplugged USB grabber answers with either, by whether its driver has noticed yet.
    errno.ENODEV: _GONE,
    errno.EIO: _GONE,
    errno.EISDIR: _NO_DEVICE,
    errno.ENXIO: _NO_DEVICE,
    # uvcvideo: the isochronous bandwidth of the bus is taken.
    errno.ENOSPC: "has too little USB bandwidth; choose mjpeg or a smaller size",
}
"""Meaning of a driver's error for the user."""


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """One video device: what it offers, or why it cannot be used."""

    path: str
    name: str | None = None
    """Name of the card, from its driver."""
    driver: str | None = None
    formats: tuple[PixelFormat, ...] = ()
    mode: str | None = None
    """The mode that is captured by default: ``yuyv 1280x720 at 60``."""
    problem: str | None = None
    """Why nothing can be captured, on one line; None if it can."""
    by_path: str | None = None
    """Link that always leads to the device at this port: ``/dev/v4l/by-path/...``; None if there is none."""
    warning: str | None = None
    """Why its name is not enough to find it again, on one line; None if it is."""

    def to_json(self) -> dict[str, Any]:
        """Values for JSON; ``by_path`` and ``warning`` only if there are any."""
        links = {"by_path": self.by_path, "warning": self.warning}
        return {name: value for name, value in links.items() if value is not None} | {
            "path": self.path,
            "name": self.name,
            "driver": self.driver,
            "mode": self.mode,
            "problem": self.problem,
            "formats": [item.to_json() for item in self.formats],
        }


def list_devices(paths: Iterable[str] | None = None) -> list[VideoDevice]:
    """Describe the video devices of this machine, or those given.

    A device that is absent, busy, forbidden or not a capture device raises nothing: its ``problem`` says so.
    """
    found = [_describe(path) for path in (device_paths() if paths is None else paths)]
    return with_links(found, DEVICE_FOLDER / "v4l")


def with_links(devices: Sequence[VideoDevice], folder: Path) -> list[VideoDevice]:
    """The devices with their links by port, and a warning for those that share a name.

    ``folder`` holds the links that udev makes. Two grabbers of one model without serial numbers get the same
    name in ``by-id``, which then leads to whichever was found last: a restart may exchange two machines.
    """
    by_id, by_path = (_links(folder / kind) for kind in ("by-id", "by-path"))
    linked = [replace(device, by_path=by_path.get(os.path.realpath(device.path))) for device in devices]
    usable = [device for device in linked if device.mode is not None]
    shared = Counter((device.name, device.driver) for device in usable)
    without = {
        (device.name, device.driver) for device in usable if os.path.realpath(device.path) not in by_id
    }
    return [
        replace(device, warning=_shared_name(device, shared[kind]))
        if device.mode is not None and (kind := (device.name, device.driver)) in without and shared[kind] > 1
        else device
        for device in linked
    ]


def _shared_name(device: VideoDevice, count: int) -> str:
    said = f"{count} devices are named {device.name}, so /dev/v4l/by-id does not tell them apart"
    return f"{said}; give {device.by_path}" if device.by_path else f"{said}; give each its own port"


def _links(folder: Path) -> dict[str, str]:
    """Links of a folder by what they lead to."""
    try:
        return {os.path.realpath(link): str(link) for link in sorted(folder.iterdir(), reverse=True)}
    except OSError:  # systems without udev have none
        return {}


def device_paths() -> list[str]:
    """Paths of all video devices, by number."""
    found = (path for path in DEVICE_FOLDER.glob("video*") if path.name.removeprefix("video").isdecimal())
    return [str(path) for path in sorted(found, key=lambda path: int(path.name.removeprefix("video")))]


def open_grabber(path: str) -> tuple[Driver, Capability]:
    """Open a capture device. Raises SourceError with a remedy."""
    try:
        driver = Driver(path)
    except DriverError as error:
        raise explained(path, error) from error
    capability = Capability()
    try:
        if not driver.ask(QUERYCAP, capability):
            raise SourceError(f"{path} {_NO_DEVICE}")
        _check_captures(path, capability)
        if not _capabilities(capability) & CAP_CAPTURE:
            driver.kind = CAPTURE_MPLANE
    except DriverError as error:
        driver.close()
        raise explained(path, error) from error
    except SourceError:
        driver.close()
        raise
    return driver, capability


def current_format(driver: Driver) -> Format:
    """The format that the device has now. Raises DriverError."""
    current = Format(type=driver.kind)
    driver.ask(G_FMT, current)
    return current


def explained(path: str, error: DriverError) -> SourceError:
    """The SourceError that explains a driver's error."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        found = ", ".join(device_paths()) or "none"
        return SourceError(f"no video device {path}; plug it in, or give one of those present ({found})")
    known = _MEANING.get(error.errno or 0, "failed ({why}); unplug it and plug it in again")
    return SourceError(f"{path} {known.format(why=error.strerror)}")


def _capabilities(capability: Capability) -> int:
    # Drivers with several nodes list those of all nodes first, those of this one second.
    whole: int = capability.capabilities
    here: int = capability.device_caps if whole & CAP_DEVICE_CAPS else whole
    return here


def _check_captures(path: str, capability: Capability) -> None:
    here = _capabilities(capability)
    if not here & (CAP_CAPTURE | CAP_CAPTURE_MPLANE):
        raise SourceError(
            f"{path} ({text(capability.card)}) does not capture video; give another of the grabber's devices"
        )
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
