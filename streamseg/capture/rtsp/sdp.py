"""Finds the video in an RTSP server's description of a stream (SDP, RFC 4566)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import urljoin, urlsplit

from streamseg.core.errors import SourceError

CODECS = {"H264": "h264", "H265": "hevc", "HEVC": "hevc", "JPEG": "mjpeg"}
"""Encoding names and what FFmpeg calls their decoders."""
_CLOCK = 90000


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The video stream that is played."""

    codec: str
    """FFmpeg's name: h264, hevc or mjpeg."""
    payload_type: int
    url: str = field(repr=False)
    """Where it is set up; may hold a query with secrets."""
    session_url: str = field(repr=False)
    """Where all tracks are played together."""
    clock: int = _CLOCK
    """Units of the time stamps per second."""
    rate: Fraction | None = None
    """Nominal frames per second, where the server tells."""
    parameter_sets: tuple[bytes, ...] = ()
    """Parameter sets (NAL units without start codes) to decode with, in order."""


def find_video(description: bytes, base_url: str) -> VideoTrack:
    """The first video that can be decoded. Raises SourceError where there is none."""
    sections: list[dict[str, list[str]]] = [{}]
    for line in description.decode("utf-8", "replace").splitlines():
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
        for payload_type in parts[3:]:
            name, clock = _coding(section, payload_type)
            if name.upper() in CODECS and payload_type.isdigit():
                return _track(session, section, (int(payload_type), CODECS[name.upper()], clock), base_url)
            seen.append(name or f"type {payload_type}")
    if seen:
        names = ", ".join(dict.fromkeys(seen))[:60]
        raise SourceError(f"it sends video as {names}; have it send H.264, H.265 or MJPEG")
    others = sorted({parts[0] for parts in kinds if parts})
    held = f"only {' and '.join(others)}"[:60] if others else "nothing at all"
    raise SourceError(f"it has no video stream ({held}); give the path of one that has")


def _coding(section: dict[str, list[str]], payload_type: str) -> tuple[str, int]:
    for entry in section.get("rtpmap", []):
        number, _, coding = entry.strip().partition(" ")
        if number == payload_type:
            name, _, clock = coding.strip().partition("/")
            digits = clock.partition("/")[0]
            return name, int(digits[:9]) if digits.isdigit() and int(digits[:9]) else _CLOCK
    return ("JPEG", _CLOCK) if payload_type == "26" else ("", _CLOCK)


def _track(
    session: dict[str, list[str]],
    section: dict[str, list[str]],
    coding: tuple[int, str, int],
    base_url: str,
) -> VideoTrack:
    payload_type, codec, clock = coding
    fields = _format_fields(section, payload_type)
    if fields.get("packetization-mode") == "2" or fields.get("sprop-max-don-diff", "0") != "0":
        raise SourceError("it sends the parts of pictures out of order; set up its encoder for low delay")
    return VideoTrack(
        codec=codec,
        payload_type=payload_type,
        url=_control(section, base_url),
        session_url=_control(session, base_url),
        clock=clock,
        rate=_rate(section) or _rate(session),
        parameter_sets=_parameter_sets(fields),
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
    try:
        rate = Fraction(section["framerate"][0].strip()[:16])
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    return rate if 0 < rate <= 1000 else None


def _parameter_sets(fields: dict[str, str]) -> tuple[bytes, ...]:
    names = ("sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps")
    sets: list[bytes] = []
    for text in ",".join(fields.get(name, "") for name in names).split(","):
        try:
            sets.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            continue  # the stream itself carries them too, nearly always
    return tuple(unit for unit in sets if unit)
