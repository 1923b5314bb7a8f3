"""Coded pictures and RTP packets of them, made here, so that single ones can be damaged or left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

import cv2  # noqa: F401

# isort: split
import av
import numpy as np
import numpy.typing as npt

from streamseg.capture.rtsp.rtp import Arrival, RtpPacket
from tests.rtsp_server.barcode import draw

ENCODERS = {"h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg"}


def encode(
    codec: str,
    count: int,
    options: dict[str, str] | None = None,
    *,
    gop: int = 10,
    picture: Callable[[int], npt.NDArray[np.uint8]] = draw,
    pixels: str = "yuv420p",
) -> list[tuple[bytes, bool]]:
    """Pictures 0, 1, ... of a codec (FFmpeg's name), and whether each is a key picture."""
    context = av.CodecContext.create(ENCODERS[codec], "w")
    assert isinstance(context, av.VideoCodecContext)
    height, width = picture(0).shape
    context.width, context.height = width, height
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else pixels
    context.framerate, context.time_base = Fraction(30), Fraction(1, 30)
    context.gop_size = gop
    quiet = {"x265-params": "log-level=none"} if codec == "hevc" else {}
    usual = {} if codec == "mjpeg" else {"tune": "zerolatency", "preset": "ultrafast"}
    context.options = usual | quiet | (options or {})
    coded: list[tuple[bytes, bool]] = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number), format="gray").reformat(format=context.pix_fmt)
        frame.pts, frame.time_base = number, context.time_base
        coded += [(bytes(packet), packet.is_keyframe) for packet in context.encode(frame)]
    return coded + [(bytes(packet), packet.is_keyframe) for packet in context.encode(None)]


def units_of(data: bytes) -> list[bytes]:
    """NAL units of a picture with start codes."""
    return [unit.rstrip(b"\0") for unit in re.split(b"\0\0\1", data) if unit.rstrip(b"\0")]


def packets_of(
    pictures: Sequence[bytes], *, hevc: bool = False, mtu: int = 1000, aggregate: bool = False
) -> list[RtpPacket]:
    """RTP packets of pictures with start codes, numbered from 65530 on so that the numbers wrap."""
    packets: list[RtpPacket] = []
    for index, picture in enumerate(pictures):
        payloads = _payloads(units_of(picture), hevc, mtu, aggregate)
        for place, payload in enumerate(payloads):
            sequence = 65530 + len(packets) & 0xFFFF
            last = place == len(payloads) - 1
            packets.append(RtpPacket(96, last, sequence, (index * 3000 - 5000) & 0xFFFFFFFF, 77, payload))
    return packets


def arrivals_of(packets: Sequence[RtpPacket]) -> list[Arrival]:
    """The packets as they arrive over TCP: what is left out counts as lost."""
    arrivals: list[Arrival] = []
    for place, packet in enumerate(packets):
        lost = place > 0 and packet.sequence != packets[place - 1].sequence + 1 & 0xFFFF
        arrivals.append(Arrival(packet, place, lost))
    return arrivals


def _payloads(units: list[bytes], hevc: bool, mtu: int, aggregate: bool) -> list[bytes]:
    header = 2 if hevc else 1
    small = [unit for unit in units if len(unit) <= mtu // 4] if aggregate else []
    payloads: list[bytes] = []
    if len(small) > 1:
        head = bytes((48 << 1, 1)) if hevc else bytes((24 | 0x60,))
        payloads.append(head + b"".join(len(unit).to_bytes(2) + unit for unit in small))
        units = [unit for unit in units if unit not in small]
    for unit in units:
        if len(unit) <= mtu:
            payloads.append(unit)
            continue
        kind = unit[0] >> 1 & 63 if hevc else unit[0] & 31
        indicator = bytes((unit[0] & 0x81 | 49 << 1, unit[1])) if hevc else bytes((unit[0] & 0xE0 | 28,))
        body = unit[header:]
        pieces = [body[place : place + mtu] for place in range(0, len(body), mtu)]
        for place, piece in enumerate(pieces):
            flags = (0x80 if place == 0 else 0) | (0x40 if place == len(pieces) - 1 else 0)
            payloads.append(indicator + bytes((flags | kind,)) + piece)
    return payloads
