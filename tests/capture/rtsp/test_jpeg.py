"""JPEG pictures are put together again from what RTP leaves of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.decoder import PictureDecoder
from streamseg.capture.rtsp.jpeg import JpegAssembler
from streamseg.capture.rtsp.nal import CodedPicture
from streamseg.capture.rtsp.rtp import Arrival, RtpPacket
from streamseg.capture.video.pixels import FrameConverter
from tests.rtsp_server.barcode import draw, read


def taken_apart(quality: int) -> tuple[bytes, bytes]:
    """Quantisation tables (two of 64 bytes) and scan of a JPEG of OpenCV with usual Huffman tables."""
    colour = cv2.cvtColor(draw(5), cv2.COLOR_GRAY2BGR)
    _, encoded = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, quality])
    data = encoded.tobytes()
    tables = b""
    place = 2
    while data[place + 1] != 0xDA:
        length = int.from_bytes(data[place + 2 : place + 4])
        if data[place + 1] == 0xDB:
            segment = data[place + 4 : place + 2 + length]
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        place += 2 + length
    return tables, data[place + 2 + int.from_bytes(data[place + 2 : place + 4]) : -2]


def packets(quality: int, *, in_band: bool, mtu: int = 700) -> list[RtpPacket]:
    tables, scan = taken_apart(quality)
    found = []
    pieces = [scan[place : place + mtu] for place in range(0, len(scan), mtu)]
    for number, piece in enumerate(pieces):
        head = bytes(1) + (number * mtu).to_bytes(3) + bytes((1, 255 if in_band else quality, 40, 30))
        if in_band and number == 0:
            head += b"\0\0" + len(tables).to_bytes(2) + tables
        found.append(RtpPacket(26, number == len(pieces) - 1, number, 9, 1, head + piece))
    return found


def assemble(found: list[RtpPacket]) -> list[CodedPicture]:
    assembler = JpegAssembler()
    lost = [False] + [b.sequence != a.sequence + 1 for a, b in pairwise(found)]
    return [
        picture
        for packet, missing in zip(found, lost, strict=True)
        for picture in assembler.push(Arrival(packet, 0, missing))
    ]


@pytest.mark.parametrize("quality", [30, 50, 60, 95])
@pytest.mark.parametrize("in_band", [False, True])
def test_pictures_look_as_they_did(quality: int, in_band: bool) -> None:
    (picture,) = assemble(packets(quality, in_band=in_band))
    assert picture.key
    assert not picture.broken
    huffman = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    start = huffman.index(b"\xff\xc4")
    tables = huffman[start : huffman.index(b"\xff\xda")]
    scan = picture.data.index(b"\xff\xda")
    whole = picture.data[:scan] + tables + picture.data[scan:]  # OpenCV wants what FFmpeg can do without
    image = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    assert read(image) == 5


def test_a_missing_packet_breaks_the_picture() -> None:
    whole = packets(60, in_band=True)
    for place in range(len(whole) - 1):
        assert [picture.broken for picture in assemble(whole[:place] + whole[place + 1 :])] == [True]


@given(st.lists(st.tuples(st.binary(max_size=30), st.booleans(), st.integers(0, 1)), max_size=10))
def test_no_packets_break_it(contents: list[tuple[bytes, bool, int]]) -> None:
    assembler = JpegAssembler()
    for number, (payload, marker, stamp) in enumerate(contents):
        for found in assembler.push(Arrival(RtpPacket(26, marker, number, stamp, 1, payload), 0, False)):
            assert found.broken == (not found.data)


def wide_packets(tables: bytes, scan: bytes, sides: tuple[int, int]) -> list[RtpPacket]:
    head = bytes(1) + (0).to_bytes(3) + bytes((1, 255, *sides)) + b"\0\0" + len(tables).to_bytes(2) + tables
    return [RtpPacket(26, True, 0, 9, 1, head + scan)]


def decoded(picture: CodedPicture) -> np.ndarray:
    (frame,) = [found for found, _ in PictureDecoder("mjpeg").decode(picture, 0)]
    return FrameConverter().convert(frame)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_usual_number_of_tables_is_taken(count: int) -> None:
    """A Logitech c922 sends three, and others four: a table for each component, or more."""
    tables, scan = taken_apart(60)
    several = (tables[:64] + tables[64:] * 3)[: 64 * count]
    (picture,) = assemble(wide_packets(several, scan, (40, 30)))
    assert not picture.broken
    assert read(decoded(picture)) == 5


@pytest.mark.parametrize("length", [65, 191, 320, 0])
def test_tables_of_another_length_are_not_believed(length: int) -> None:
    _, scan = taken_apart(60)
    (picture,) = assemble(wide_packets(bytes(range(1, 256))[:length].ljust(length, b"\1"), scan, (40, 30)))
    assert picture.broken


def test_a_size_that_no_packet_can_say_comes_from_the_description() -> None:
    tables, scan = taken_apart(60)
    assert assemble(wide_packets(tables, scan, (0, 0)))[0].broken
    assembler = JpegAssembler((320, 240))
    (picture,) = assembler.push(Arrival(wide_packets(tables, scan, (0, 0))[0], 0, False))
    assert read(decoded(picture)) == 5


def test_a_whole_jpeg_in_the_packets_is_taken_as_it_is() -> None:
    colour = cv2.cvtColor(draw(5), cv2.COLOR_GRAY2BGR)
    data = cv2.imencode(".jpg", colour)[1].tobytes()
    (picture,) = assemble(wide_packets(b"", data, (0, 0)))
    assert read(decoded(picture)) == 5


def test_packets_of_padding_alone_break_nothing() -> None:
    sent = packets(75, in_band=True)
    padded: list[RtpPacket] = []
    for packet in sent:
        padded += [replace(packet, marker=False, payload=b""), packet]
    padded = [replace(packet, sequence=number) for number, packet in enumerate(padded)]
    assert [picture.data for picture in assemble(padded)] == [picture.data for picture in assemble(sent)]
    assert not any(picture.broken for picture in assemble(padded))
