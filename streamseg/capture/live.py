"""Opens live sources: a frame grabber, a network stream, OpenIGTLink, or a recording paced as if live."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from streamseg.capture import open_source
from streamseg.core.errors import UsageError
from streamseg.core.numbers import read_fraction
from streamseg.core.plugins import source_plugin
from streamseg.core.types import Say, Source

_DEVICE = re.compile(r"v4l2:(?P<named>.+)|(?P<bare>/dev/(?:video\d+|v4l/.+))", re.DOTALL)
_RTSP = re.compile(r"\s*rtsps?://", re.IGNORECASE)
_IGTL = re.compile(r"\s*igtl://", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How to open a live source; each kind uses the options that concern it."""

    transport: str = "tcp"
    """Transport of RTSP: ``tcp`` or ``udp``."""
    size: tuple[int, int] | None = None
    """(width, height) requested from a frame grabber; None: chosen by rule."""
    rate: Fraction | None = None
    """Frames per second requested from a frame grabber."""
    pixel_format: str | None = None
    """Requested from a frame grabber: ``yuyv``, ``mjpeg``, ``nv12``, ``grey``, ..."""
    sar: Fraction | None = None
    """Width of a pixel divided by its height, where the source is wrong; None: as it says."""
    open_seconds: float = 5.0
    """Time limit for connecting, authenticating and the first frame of a network stream."""
    read_seconds: float = 2.0
    """A live source that gives no frame for this duration is lost."""
    pace: bool = True
    """Play recordings at their own times; otherwise as fast as they are read."""


def is_live(uri: str) -> bool:
    """Whether an address names a device or stream, which may vanish and come back."""
    if _DEVICE.fullmatch(uri) or _RTSP.match(uri) or _IGTL.match(uri):
        return True
    plugin = source_plugin(uri)
    return plugin is not None and plugin.live


def open_live(
    uri: str, options: CaptureOptions | None = None, *, on_wait: Say = lambda message: None
) -> Source:
    """Open ``v4l2:/dev/video0``, ``rtsp://``, ``rtsps://``, ``igtl://``, or what ``open_source`` takes.

    Recordings and phantoms are paced unless ``options.pace`` is off. Raises UsageError (the address or an
    option is wrong) and SourceError (it cannot be opened now; later it may). ``on_wait`` is called, about
    once a second, with what a network stream waits for while it is opened or read and its data arrives.
    """
    options = options or CaptureOptions()
    if _RTSP.match(uri):
        from streamseg.capture.rtsp.source import RtspSource

        return RtspSource(
            uri,
            transport=options.transport,
            open_seconds=options.open_seconds,
            read_seconds=options.read_seconds,
            sar=options.sar,
            on_wait=on_wait,
        )
    if _IGTL.match(uri):
        from streamseg.capture.openigtlink import OpenIGTLinkSource

        return OpenIGTLinkSource(
            uri, open_seconds=options.open_seconds, read_seconds=options.read_seconds, on_wait=on_wait
        )
    if device := _DEVICE.fullmatch(uri):
        from streamseg.capture.v4l2.source import V4l2Source

        return V4l2Source(
            device["named"] or device["bare"],
            size=options.size,
            rate=options.rate,
            pixel_format=options.pixel_format,
            sar=options.sar,
            read_seconds=options.read_seconds,
        )
    if (plugin := source_plugin(uri)) is not None and plugin.live:
        live_source: Source = plugin.make(uri)
        return live_source
    source = _open_recorded(uri, options.sar)
    if not options.pace:
        return source
    from streamseg.capture.paced import PacedSource

    return PacedSource(source)


def _open_recorded(uri: str, sar: Fraction | None) -> Source:
    """A recording, or a phantom: that goes on until it is stopped, unless its address says how long it is."""
    if not uri.startswith("phantom:") or sar is not None:
        return open_source(uri, sar=sar)
    from streamseg.capture.phantom import PhantomSource

    return PhantomSource.from_uri(uri, endless=True)


def parse_width_height(text: str | None) -> tuple[int, int] | None:
    """Read ``1280x720`` as (width, height); None stays None. Raises UsageError."""
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None or not (int(found[1]) and int(found[2])):
        raise UsageError(f"size is {text[:40]!r}; give WIDTHxHEIGHT in pixels, such as 1280x720")
    return int(found[1]), int(found[2])


def parse_rate(text: str | None) -> Fraction | None:
    """Read ``30``, ``29.97`` or ``30000/1001`` frames per second; None stays None. Raises UsageError."""
    if text is None:
        return None
    rate = read_fraction(text, 0, 1000)
    if not rate:
        raise UsageError(f"rate is {text[:40]!r}; give frames per second, such as 30, 29.97 or 30000/1001")
    return rate
