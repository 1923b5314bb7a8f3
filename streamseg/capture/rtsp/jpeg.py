"""Assembles JPEG frames from RTP packets, which leave out most of a JPEG's headers (RFC 2435)."""

from __future__ import annotations

import struct

from streamseg.capture.rtsp.nal import CodedPicture
from streamseg.capture.rtsp.rtp import Arrival

_MAX_BYTES = 32 << 20
_WHOLE = b"\xff\xd8\xff"
# The tables of ISO 10918-1, annex K, in zigzag order; RFC 2435 scales them by its Q.
_LUMA = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933"
    "383740485c4e404457453738506d51575f626768673e4d71797064785c656763"
)
_CHROMA = bytes.fromhex("1112121815182f1a1a2f634238426363" + "63" * 48)


class JpegAssembler:
    """Assembles the frames of a motion JPEG stream; each is a key picture.

    ``size`` is the width and height that the description gives: a packet cannot say more than 2040 pixels.
    """

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self._size = size
        self._open = False
        self._timestamp = 0
        self._arrived_ns = 0
        self._broken = False
        self._scan = bytearray()
        self._headers = b""
        self._tables: dict[int, bytes] = {}

    def push(self, arrival: Arrival) -> list[CodedPicture]:
        """Take a packet in its place; returns what is complete, or known to be broken."""
        packet = arrival.packet
        pictures: list[CodedPicture] = []
        if self._open and packet.timestamp != self._timestamp:
            self._broken = True  # the end of the picture, with its marker, is missing
            pictures.append(self._finish())
        if not self._open:
            self._open, self._timestamp, self._arrived_ns = True, packet.timestamp, arrival.arrived_ns
        self._broken = self._broken or arrival.lost
        if not self._broken and packet.payload:  # padding alone: some servers probe the bandwidth with it
            self._broken = not self._take(packet.payload)
        if packet.marker:
            pictures.append(self._finish())
        return pictures

    def _finish(self) -> CodedPicture:
        broken = self._broken or not self._scan
        data = b"" if broken else self._picture()
        self._open = self._broken = False
        self._scan = bytearray()
        return CodedPicture(data, self._timestamp, self._arrived_ns, key=not broken, broken=broken)

    def _picture(self) -> bytes:
        if self._scan.startswith(_WHOLE):
            return bytes(self._scan)  # some cameras send the whole JPEG, headers and all
        return self._headers + bytes(self._scan) + b"\xff\xd9"

    def _take(self, payload: bytes) -> bool:
        """Add a packet's part of the scan. False: it makes no sense."""
        if (
            len(payload) < 9
            or int.from_bytes(payload[1:4]) != len(self._scan)
            or len(self._scan) > _MAX_BYTES
        ):
            return False
        special, kind, quality, width, height = payload[0], *payload[4:8]
        place = 8
        restart = 0
        if 64 <= kind < 128:
            restart = int.from_bytes(payload[8:10])
            place = 12
        # Types above 1 are not defined; single fields of interlaced frames cannot be shown as frames.
        if kind & 63 > 1 or kind >= 128 or special != 0:
            return False
        if not self._scan:
            tables, place = self._read_tables(payload, place, quality)
            whole = payload[place : place + 3] == _WHOLE
            # 0 stands for more than 2040 pixels, as of cameras with 4K; the description then gives the size.
            sides = (width * 8, height * 8) if width and height else self._size
            if not whole and (tables is None or sides is None):
                return False
            if not whole and tables is not None and sides is not None:
                self._headers = _headers((kind & 63, *sides), tables, restart)
        self._scan += payload[place:]
        return place < len(payload)

    def _read_tables(self, payload: bytes, place: int, quality: int) -> tuple[bytes | None, int]:
        """Quantisation tables (of 64 bytes each) of a frame's first packet, and where its scan begins."""
        if quality < 128:
            return (_scaled(quality), place) if 1 <= quality <= 99 else (None, place)
        precision = payload[place + 1] if len(payload) > place + 4 else 1
        length = int.from_bytes(payload[place + 2 : place + 4])
        place += 4
        tables = payload[place : place + length]
        if length == 0:
            return self._tables.get(quality), place  # as given before
        # Mostly one or two; a Logitech c922 sends three, other cameras four.
        if precision != 0 or len(tables) != length or length not in {64, 128, 192, 256}:
            return None, place
        self._tables[quality] = tables
        return tables, place + length


def _scaled(quality: int) -> bytes:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return bytes(min(max((value * scale + 50) // 100, 1), 255) for value in _LUMA + _CHROMA)


def _headers(shape: tuple[int, int, int], tables: bytes, restart: int) -> bytes:
    """All before the scan; the Huffman tables are left out, decoders know the usual ones."""
    kind, width, height = shape
    parts = [b"\xff\xd8"]
    count = len(tables) // 64
    for number in range(count):
        parts.append(b"\xff\xdb" + struct.pack(">HB", 67, number) + tables[64 * number : 64 * number + 64])
    if restart:
        parts.append(b"\xff\xdd" + struct.pack(">HH", 4, restart))
    sampling = 0x22 if kind else 0x21
    last = max(count - 1, 0)  # fewer tables than components: the last one serves the rest
    components = bytes((1, sampling, 0, 2, 0x11, min(1, last), 3, 0x11, min(2, last)))
    parts.append(b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + components)
    parts.append(b"\xff\xda" + struct.pack(">HB", 12, 3) + bytes((1, 0, 2, 0x11, 3, 0x11, 0, 63, 0)))
    return b"".join(parts)
