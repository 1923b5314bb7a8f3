"""Finds the video in an RTSP server's description of a stream (SDP, RFC 4566)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import urljoin, urlsplit

from streamseg.core.errors import SourceError
from streamseg.core.numbers import read_fraction, read_integer

CODECS = {"H264": "h264", "H265": "hevc", "HEVC": "hevc", "JPEG": "mjpeg"}
"""Encoding names and what FFmpeg calls their decoders."""
_CLOCK = 90000
_MAX_BYTES, _MAX_LINES = 65536, 4096
"""Descriptions of real servers have some kilobytes; reading one may hold nobody up."""
_MAX_SETS = 64


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The video stream that is played."""

    codec: str
    """FFmpeg's name: h264, hevc or mjpeg."""
    payload_type: int
    url: str = field(repr=False)
    """Address for SETUP; may hold a query with secrets."""
    session_url: str = field(repr=False)
    """Address for PLAY, of all tracks together."""
    clock: int = _CLOCK
    """Units of the time stamps per second."""
    rate: Fraction | None = None
    """Nominal frames per second, if the server gives it."""
    parameter_sets: tuple[bytes, ...] = ()
    """Parameter sets (NAL units without start codes) to decode with, in order."""
    size: tuple[int, int] | None = None
    """Width and height in pixels, if given: JPEG over RTP cannot say more than 2040 itself."""


def find_video(description: bytes, base_url: str) -> VideoTrack:
    """The first video that can be decoded. Raises SourceError if there is none."""
    sections: list[dict[str, list[str]]] = [{}]
    if len(description) > _MAX_BYTES:
        raise SourceError(f"its description has {len(description)} bytes; expected at most {_MAX_BYTES}")
    for line in description.decode("utf-8", "replace").splitlines()[:_MAX_LINES]:
        key, equals, value = line.strip().partition("=")
        if not equals:
            continue
        if key == "m":
            sections.append({})
        name, _, rest = value.partition(":") if key == "a" else (key, "", value)
        sections[-1].setdefault(name.lower() if key == "a" else key, []).append(rest)
    session, media = sections[0], sections[1:]
    kinds = [section["m"][0].split() for section in media]
    seen: list[str] = []
    for section, parts in zip(media, kinds, strict=True):
        if not parts or parts[0] != "video":
            continue
        for text in parts[3:131]:  # no more than there are payload types
            payload_type = read_integer(text, 0, 127)
            name, clock = ("", _CLOCK) if payload_type is None else _coding(section, payload_type)
            if payload_type is not None and name.upper() in CODECS:
                return _track(session, section, (payload_type, CODECS[name.upper()], clock), base_url)
            seen.append(name or f"type {text[:8]}")
    if seen:
        names = ", ".join(dict.fromkeys(seen))[:60]
        raise SourceError(f"it sends video as {names}; have it send H.264, H.265 or MJPEG")
    others = sorted({parts[0] for parts in kinds if parts})
    held = f"only {' and '.join(others)}"[:60] if others else "nothing at all"
    raise SourceError(f"it has no video stream ({held}); give the path of one that has")


def _coding(section: dict[str, list[str]], payload_type: int) -> tuple[str, int]:
    """Name and clock of a payload type; type 26 is JPEG without being mapped (RFC 3551)."""
    for entry in section.get("rtpmap", [])[:_MAX_SETS]:
        number, _, coding = entry.strip().partition(" ")
        if read_integer(number, 0, 127) == payload_type:
            name, _, clock = coding.strip().partition("/")
            return name, read_integer(clock.partition("/")[0], 1, 10**9) or _CLOCK
    return ("JPEG", _CLOCK) if payload_type == 26 else ("", _CLOCK)


def _track(
    session: dict[str, list[str]],
    section: dict[str, list[str]],
    coding: tuple[int, str, int],
    base_url: str,
) -> VideoTrack:
    payload_type, codec, clock = coding
    fields = _format_fields(section, payload_type)
    if fields.get("packetization-mode") == "2" or fields.get("sprop-max-don-diff", "0") != "0":
        raise SourceError("it sends the parts of frames out of order; set up its encoder for low delay")
    return VideoTrack(
        codec=codec,
        payload_type=payload_type,
        url=_control(section, base_url),
        session_url=_control(session, base_url),
        clock=clock,
        rate=_rate(section) or _rate(session),
        parameter_sets=_parameter_sets(fields),
        size=_size(section, payload_type),
    )


def _format_fields(section: dict[str, list[str]], payload_type: int) -> dict[str, str]:
    for entry in section.get("fmtp", []):
        number, _, rest = entry.strip().partition(" ")
        if number == str(payload_type):
            pairs = (part.partition("=") for part in rest.split(";"))
            return {key.strip().lower(): value.strip() for key, _, value in pairs}
    return {}


def _control(section: dict[str, list[str]], base_url: str) -> str:
    control = section.get("control", ["*"])[-1].strip()
    if control in {"", "*"}:
        return base_url
    if urlsplit(control).scheme:
        return control
    if control.startswith("/"):
        # urljoin knows schemes of the web only.
        scheme = urlsplit(base_url).scheme
        joined = urljoin(base_url.replace(scheme, "http", 1), control)
        return joined.replace("http", scheme, 1)
    return f"{base_url.rstrip('/')}/{control}"


def _rate(section: dict[str, list[str]]) -> Fraction | None:
    rate = read_fraction(section.get("framerate", [""])[0], 0, 1000)
    return rate or None


def _size(section: dict[str, list[str]], payload_type: int) -> tuple[int, int] | None:
    """Width and height from ``x-dimensions:1920,1080`` or ``framesize:96 1920-1080``."""
    framesize = section.get("framesize", [""])[0].strip().partition(" ")
    for text, between in (
        (section.get("x-dimensions", [""])[0], ","),
        (framesize[2] if read_integer(framesize[0], 0, 127) == payload_type else "", "-"),
    ):
        width, _, height = text.strip().partition(between)
        sides = read_integer(width, 1, 65535), read_integer(height, 1, 65535)
        if sides[0] and sides[1]:
            return sides[0], sides[1]
    return None


def _parameter_sets(fields: dict[str, str]) -> tuple[bytes, ...]:
    names = ("sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps")
    sets: list[bytes] = []
    for text in ",".join(fields.get(name, "") for name in names).split(",")[:_MAX_SETS]:
        # Some cameras leave the padding out, or put blanks and commas too many between.
        digits = "".join(text.split()).rstrip("=")
        try:
            sets.append(base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True))
        except (binascii.Error, ValueError):
            continue  # the stream itself carries them too, nearly always
    return tuple(unit for unit in sets if unit)
