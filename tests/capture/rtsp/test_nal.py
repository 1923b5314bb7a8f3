"""Pictures are put together from packets, whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.h264 import PictureTracker, has_recovery_point
from streamseg.capture.rtsp.nal import CodedPicture, NalAssembler
from streamseg.capture.rtsp.rtp import Arrival, RtpPacket
from tests.rtsp_server.coded import arrivals_of, encode, packets_of, units_of

COUNT = 14


@cache
def pictures(codec: str) -> list[tuple[bytes, bool]]:
    return encode(codec, COUNT, {"x264-params": "slices=2"} if codec == "h264" else None, gop=6)


def assemble(packets: list[RtpPacket], *, hevc: bool = False) -> list[CodedPicture]:
    assembler = NalAssembler(hevc=hevc)
    return [found for arrival in arrivals_of(packets) for found in assembler.push(arrival)]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("aggregate", [False, True])
@pytest.mark.parametrize("mtu", [200, 1400, 60000])
def test_pictures_come_out_as_they_went_in(codec: str, aggregate: bool, mtu: int) -> None:
    coded = pictures(codec)
    hevc = codec == "hevc"
    packets = packets_of([data for data, _ in coded], hevc=hevc, mtu=mtu, aggregate=aggregate)
    found = assemble(packets, hevc=hevc)
    assert [picture.key for picture in found] == [key for _, key in coded]
    assert not any(picture.broken for picture in found)
    for picture, (data, _) in zip(found, coded, strict=True):
        assert sorted(units_of(picture.data)) == sorted(units_of(data))


def test_a_picture_is_there_with_its_last_packet() -> None:
    packets = packets_of([data for data, _ in pictures("h264")[:2]])
    assembler = NalAssembler(hevc=False)
    second = next(place for place, packet in enumerate(packets) if packet.timestamp != packets[0].timestamp)
    *before, last = [assembler.push(arrival) for arrival in arrivals_of(packets)]
    # The first picture shows what the server's marker means, and waits for the second.
    assert [place for place, found in enumerate(before) if found] == [second]
    assert before[second][0].arrived_ns == 0
    assert last[0].arrived_ns == second  # as old as its first packet


@given(st.sets(st.integers(0, 400), min_size=1, max_size=6), st.sampled_from(["h264", "hevc"]))
def test_whatever_is_lost_no_picture_has_parts_missing(lost: set[int], codec: str) -> None:
    coded = [data for data, _ in pictures(codec)]
    packets = packets_of(coded, hevc=codec == "hevc", mtu=150)
    lost = {1 + number % (len(packets) - 1) for number in lost}
    kept = [packet for place, packet in enumerate(packets) if place not in lost]
    whole = {b"".join(sorted(units_of(data))) for data in coded}
    found = assemble(kept, hevc=codec == "hevc")
    assert any(picture.broken for picture in found) or len(found) < len(coded)
    for picture in found:
        assert picture.broken or b"".join(sorted(units_of(picture.data))) in whole


def test_a_picture_that_the_server_left_out_is_noticed() -> None:
    coded = [data for data, _ in pictures("h264")]
    found = assemble(packets_of([*coded[:3], *coded[4:]]))
    assert [picture.broken for picture in found[:4]] == [False, False, False, True]
    assert sum(picture.broken for picture in found) == 1


def test_pictures_without_markers_end_where_the_next_begins() -> None:
    packets = packets_of([data for data, _ in pictures("h264")])
    unmarked = [RtpPacket(96, False, p.sequence, p.timestamp, p.sender, p.payload) for p in packets]
    found = assemble(unmarked)
    assert len(found) == COUNT - 1
    assert not any(picture.broken for picture in found)


def test_parameter_sets_that_come_alone_go_with_the_next_picture() -> None:
    units = units_of(pictures("h264")[0][0])
    sets = [unit for unit in units if unit[0] & 31 in (6, 7, 8)]
    slices = [unit for unit in units if unit not in sets]
    join = b"".join
    alone = [join(b"\0\0\1" + unit for unit in part) for part in (sets, slices)]
    found, *_ = assemble(packets_of([*alone, *(data for data, _ in pictures("h264")[1:3])]))
    assert found.key
    assert units_of(found.data) == [*sets, *slices]


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.booleans(), st.integers(0, 2)), max_size=12), st.booleans()
)
def test_no_packets_break_it(contents: list[tuple[bytes, bool, int]], hevc: bool) -> None:
    assembler = NalAssembler(hevc=hevc)
    for number, (payload, marker, stamp) in enumerate(contents):
        for found in assembler.push(Arrival(RtpPacket(96, marker, number, stamp, 1, payload), 0, False)):
            assert found.broken == (not found.data)


def remarked(packets: list[RtpPacket], marked: Callable[[RtpPacket], bool]) -> list[RtpPacket]:
    return [replace(packet, marker=packet.marker or marked(packet)) for packet in packets]


def restamped(packets: list[RtpPacket], timestamp: int = 7) -> list[RtpPacket]:
    return [replace(packet, timestamp=timestamp) for packet in packets]


def is_unit_end(packet: RtpPacket) -> bool:
    """Whether a packet ends an H.264 unit."""
    return packet.payload[0] & 31 != 28 or bool(packet.payload[1] & 64)


@pytest.mark.parametrize("marked", [is_unit_end, lambda packet: True], ids=["every unit", "every packet"])
@pytest.mark.parametrize("start", [0, 1])
def test_markers_within_a_picture_do_not_cut_it(marked: Callable[[RtpPacket], bool], start: int) -> None:
    coded = [data for data, _ in pictures("h264")]
    packets = remarked(packets_of(coded, mtu=200), marked)[start:]
    found = assemble(packets)
    assert not any(picture.broken for picture in found)
    whole = [sorted(units_of(data)) for data in coded]
    if start == 0:
        assert [sorted(units_of(picture.data)) for picture in found] == whole[:-1]


def test_a_server_that_begins_to_mark_every_slice_is_noticed() -> None:
    coded = [data for data, _ in pictures("h264")]
    packets = packets_of(coded, mtu=200)
    later = len(packets_of(coded[:4], mtu=200))
    found = assemble(packets[:later] + remarked(packets[later:], is_unit_end))
    whole = {b"".join(sorted(units_of(data))) for data in coded}
    cut = [p for p in found if not p.broken and b"".join(sorted(units_of(p.data))) not in whole]
    assert len(cut) <= 1
    assert sum(picture.broken for picture in found) == len(cut)
    assert not any(picture.broken for picture in found[-8:])


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_pictures_of_one_time_stamp_end_where_the_next_begins(codec: str) -> None:
    coded = [data for data, _ in pictures(codec)]
    found = assemble(restamped(packets_of(coded, hevc=codec == "hevc")), hevc=codec == "hevc")
    whole = [sorted(units_of(data)) for data in coded]
    assert [sorted(units_of(picture.data)) for picture in found] == whole[: len(found)]
    assert len(found) >= COUNT - 1


def bits(text: str, head: int) -> bytes:
    """A unit from its header and binary digits, filled up with zeros."""
    digits = text.replace(" ", "")
    digits += "0" * (-len(digits) % 8)
    return bytes((head,)) + int(digits, 2).to_bytes(len(digits) // 8)


def test_two_fields_of_a_picture_stay_together() -> None:
    """No encoder here makes fields, so their slice headers are written by hand."""
    sets = [bits("01001101 00000000 00011110 1 1 011 010 0 00110 00110 0 0 1", 0x67)]
    sets += [bits("1 1 1 0 1", 0x68)]
    numbers = (1, 1, 2, 2)
    slices = (f"1 00110 1 {number:04b} 1 {place % 2} 1" for place, number in enumerate(numbers))
    fields = [bits(text, 0x41) for text in slices]
    units = [*sets, *fields]
    packets = [RtpPacket(96, False, number, 7, 1, unit) for number, unit in enumerate(units)]
    assembler = NalAssembler(hevc=False)
    found = [p for arrival in arrivals_of(packets) for p in assembler.push(arrival)]
    assert [units_of(picture.data) for picture in found] == [units[:4]]


EXTRA = {
    "h264": [b"\x1e\0", b"\x1f\1\2\3", b"\x0a", b"\x0b", b"\x00\x01", b"", b"\x0c\xff\xff\x80"],
    "hevc": [b"\x4a\1", b"\x48\1", b"\x66\1\2", b"\x7e\1\2", b"", b"\x4c\1\xff\x80"],
}


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_units_that_no_decoder_needs_break_nothing(codec: str) -> None:
    """Padding, ends of sequence and stream, undefined types; alone and in aggregation packets."""
    coded, hevc = [data for data, _ in pictures(codec)], codec == "hevc"
    packets: list[RtpPacket] = []
    for packet in packets_of(coded, hevc=hevc):
        together = (bytes((48 << 1, 1)) if hevc else b"\x78") + b"".join(
            len(unit).to_bytes(2) + unit for unit in EXTRA[codec] if unit
        )
        first = not packets or packets[-1].timestamp != packet.timestamp
        extra = [*EXTRA[codec], together] if first else []
        packets += [replace(packet, marker=False, payload=payload) for payload in extra] + [packet]
    packets = [replace(packet, sequence=number & 0xFFFF) for number, packet in enumerate(packets)]
    found = assemble(packets, hevc=hevc)
    assert not any(picture.broken for picture in found)
    assert len(found) >= COUNT - 1
    for picture, data in zip(found, coded, strict=False):
        assert set(units_of(data)) <= set(units_of(picture.data))


def without(data: bytes, kind: int) -> bytes:
    return b"".join(b"\0\0\1" + unit for unit in units_of(data) if unit[0] & 31 != kind)


def test_i_pictures_begin_a_stream_that_has_nothing_better() -> None:
    """Some encoders send no IDR picture after the first, and no recovery points."""
    coded = encode(
        "h264", 20, {"x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=0"}, gop=8
    )
    joined = [without(data, 6) for data, _ in coded[1:]]
    sets = [unit for unit in units_of(coded[0][0]) if unit[0] & 31 in (7, 8)]
    assembler = NalAssembler(hevc=False, parameter_sets=sets)
    found = [p for arrival in arrivals_of(packets_of(joined)) for p in assembler.push(arrival)]
    assert [number for number, picture in enumerate(found, 1) if picture.key] == [8, 16]


def test_a_recovery_point_after_other_messages_is_found() -> None:
    recovery = b"\x06" + b"\x05\x10" + bytes(range(16)) + b"\x06\x01\xc4" + b"\x80"
    assert has_recovery_point(recovery)
    assert not has_recovery_point(b"\x06\x05\x10" + b"\x06" * 16 + b"\x80")
    assert not has_recovery_point(b"\x06" + b"\xff" * 300)


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (31, 255)])
def test_gaps_are_noticed_whatever_the_numbers_of_the_parameter_sets(numbers: tuple[int, int]) -> None:
    """A picture parameter set names its own number first, then the sequence's: once they were exchanged."""
    sequence, picture = numbers
    first = bits(f"01001101 00000000 00011110 {golomb(sequence)} 1 011 010 0 00110 00110 1 1 1", 0x67)
    second = bits(f"{golomb(picture)} {golomb(sequence)} 0 1", 0x68)
    other = bits(f"{golomb((picture + 7) % 256)} {golomb((sequence + 3) % 32)} 0 1", 0x68)
    tracker = PictureTracker()
    tracker.learn([first, second, other])

    def slice_of(number: int, head: int) -> bytes:
        return bits(f"1 00110 {golomb(picture)} {number:04b} 1", head)

    assert tracker.follows([slice_of(0, 0x65)])
    assert tracker.follows([slice_of(1, 0x41)])
    assert not tracker.follows([slice_of(5, 0x41)])
    assert tracker.follows([slice_of(6, 0x41)])


SEQUENCE = "01001101 00000000 00011110 1 1 011 010 0 00110 00110 1 1 1"
"""Frames only, numbers of four bits, no order."""
FIELDS = "01001101 00000000 00011110 1 1 1 00101 010 0 00110 00110 0 1 1"
"""Also fields; order of eight bits."""


@pytest.mark.parametrize(
    ("sequence", "picture", "between"),
    [
        (SEQUENCE, "1 1 0 0 1 1 1 0 00 1 1 1 0 0 0 1", "0 0"),
        (SEQUENCE, "1 1 0 0 1 010 1 0 00 1 1 1 0 0 1 1", "1 0 1 1 010 00100"),  # with changes and redundant
        (SEQUENCE, "1 1 1 0 1 1 1 1 00 1 1 1 0 0 0 1", "0 0 011 011 1 010 1 1 1 1 1 1"),  # with weights
        (FIELDS, "1 1 0 1 1 1 1 0 00 1 1 1 0 0 0 1", "0 00000011 1 0 0"),  # a frame, with both orders
        (FIELDS, "1 1 0 1 1 1 1 0 00 1 1 1 0 0 0 1", "1 0 00000011 0 0"),  # a field
    ],
)
def test_numbers_may_begin_anew_after_a_picture_that_says_so(
    sequence: str, picture: str, between: str
) -> None:
    """Memory management command 5; two others come first."""
    commands = f"1 {golomb(1)} 1 {golomb(3)} 1 1 {golomb(5)} {golomb(0)} 1"

    def slice_of(number: int, more: str) -> bytes:
        return bits(f"1 00110 1 {number:04b} {between} {more}", 0x41)

    for marking, next_number in ((commands, 1), ("0 1", 6)):
        for number in (1, 6):
            tracker = PictureTracker()
            tracker.learn([bits(sequence, 0x67), bits(picture, 0x68)])
            tracker._last = 4
            assert tracker.follows([slice_of(5, marking)])
            assert tracker.follows([slice_of(number, "0 1")]) == (number == next_number)


@pytest.mark.parametrize(
    "options",
    [
        "weightp=2:bframes=3:b-pyramid=normal:ref=4:weightb=1",
        "bframes=2:b-pyramid=strict:ref=3:interlaced=1",
        "slices=4:ref=5:cabac=0",
    ],
)
def test_no_picture_of_a_real_encoder_is_taken_for_one_that_resets_numbers(options: str) -> None:
    coded = encode("h264", 40, {"x264-params": options, "tune": "film", "preset": "medium"}, gop=100)
    tracker = PictureTracker()
    for data, _ in coded:
        units = units_of(data)
        tracker.learn(units)
        headers = [tracker.slice_header(unit) for unit in units if 1 <= unit[0] & 31 <= 5]
        assert headers
        assert not any(header is None or header.resets for header in headers)


def test_parameter_sets_without_end_fill_no_memory() -> None:
    tracker = PictureTracker()
    for number in range(2_000):
        tracker.learn([bits(f"{golomb(number)} 1 0 1", 0x68)])
        tracker.learn(
            [bits(f"01001101 00000000 00011110 {golomb(number)} 1 011 010 0 00110 00110 1 1", 0x67)]
        )
    assert len(tracker._sets) <= 256
    assert len(tracker._numberings) <= 32


def golomb(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def test_a_loss_before_a_recovery_point_is_told() -> None:
    """A gradual refresh begins with a picture that still refers to those before it."""
    coded = encode("h264", 30, {"preset": "veryfast", "x264-params": "intra-refresh=1"}, gop=12)
    found = assemble(packets_of([data for number, (data, _) in enumerate(coded) if number != 11]))
    assert [picture.broken for picture in found[10:14]] == [False, True, False, False]
    assert [picture.key for picture in found[10:14]] == [False, False, True, False]


@pytest.mark.parametrize("lost", range(1, 16))
def test_gaps_are_noticed_however_many_are_missing(lost: int) -> None:
    coded = encode("h264", 40, {"x264-params": "slices=1"}, gop=100)
    found = assemble(packets_of([data for data, _ in [*coded[:5], *coded[5 + lost :]]]))
    assert [number for number, picture in enumerate(found) if picture.broken] == [5]


def test_an_encoder_that_does_not_count_is_believed_after_two_pictures() -> None:
    sets = [bits("01001101 00000000 00011110 1 1 011 010 0 00110 00110 1 1 1", 0x67), bits("1 1 0 1", 0x68)]
    tracker = PictureTracker()
    tracker.learn(sets)
    heads = [0x65, *[0x41] * 5]
    assert [tracker.follows([bits("1 00110 1 0000 1", head)]) for head in heads] == [True, False, *[True] * 4]


def sliced(codec: str, count: int = 30) -> list[bytes]:
    name = "x264-params" if codec == "h264" else "x265-params"
    return [data for data, _ in encode(codec, count, {name: "slices=4:log-level=none"}, gop=10)]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_server_that_begins_to_mark_every_slice_gets_no_picture_cut(codec: str) -> None:
    coded, hevc = sliced(codec), codec == "hevc"
    packets = packets_of(coded, hevc=hevc, mtu=60_000)
    later = len(packets_of(coded[:14], hevc=hevc, mtu=60_000))
    found = assemble(packets[:later] + remarked(packets[later:], lambda _: True), hevc=hevc)
    whole = [sorted(units_of(data)) for data in coded]
    assert [sorted(units_of(picture.data)) for picture in found] == whole[:-1]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_marker_is_trusted_again_when_it_has_ended_many_pictures(codec: str) -> None:
    coded, hevc = sliced(codec) * 4, codec == "hevc"
    packets = packets_of(coded, hevc=hevc, mtu=60_000)
    early = len(packets_of(coded[:10], hevc=hevc, mtu=60_000))
    assembler = NalAssembler(hevc=hevc)
    *_, last = [
        assembler.push(arrival)
        for arrival in arrivals_of(remarked(packets[:early], lambda _: True) + packets[early:])
    ]
    assert [picture.timestamp for picture in last] == [packets[-1].timestamp]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_undefined_units_between_fragments_are_passed_over(codec: str) -> None:
    hevc = codec == "hevc"
    coded = [data for data, _ in pictures(codec)]
    odd = b"\x7e\1\2" if hevc else b"\x1e\1\2"
    packets: list[RtpPacket] = []
    for packet in packets_of(coded, hevc=hevc, mtu=200):
        packets += [replace(packet, marker=False, payload=odd), packet]
    packets = [replace(packet, sequence=number & 0xFFFF) for number, packet in enumerate(packets)]
    found = assemble(packets, hevc=hevc)
    assert [sorted(units_of(picture.data)) for picture in found] == [sorted(units_of(d)) for d in coded]


def test_packets_with_extensions_about_their_content_are_unwrapped() -> None:
    """H.265's PACI: the type of what it holds, the extension's size, the extension, then the content."""
    coded = [data for data, _ in pictures("hevc")]

    def wrapped(payload: bytes) -> bytes:
        fields = (payload[0] >> 7) << 15 | (payload[0] >> 1 & 63) << 9 | 3 << 4 | 0b1000
        head = bytes((50 << 1 | payload[0] & 1, payload[1]))
        return head + fields.to_bytes(2) + b"abc" + payload[2:]

    packets = packets_of(coded, hevc=True, mtu=200)
    found = assemble([replace(p, payload=wrapped(p.payload)) for p in packets], hevc=True)
    assert [sorted(units_of(picture.data)) for picture in found] == [sorted(units_of(d)) for d in coded]


def test_messages_after_the_marked_slice_are_not_the_next_picture_s() -> None:
    """An H.265 check sum of one picture would call the next one damaged."""
    coded = [data for data, _ in pictures("hevc")]
    suffix = b"\x50\1\x84\x11\0" + bytes(range(1, 17)) + b"\x80"
    packets: list[RtpPacket] = []
    for packet in packets_of(coded, hevc=True):
        packets += [packet] + [replace(packet, marker=False, payload=suffix)] * packet.marker
    packets = [replace(packet, sequence=number & 0xFFFF) for number, packet in enumerate(packets)]
    found = assemble(packets, hevc=True)
    assert len(found) >= COUNT - 1
    for picture in found[1:]:
        assert suffix not in units_of(picture.data)


def test_a_picture_of_endless_units_is_broken_and_takes_no_memory() -> None:
    several = b"\x78" + b"\0\2\6\1" * 16_000
    assembler = NalAssembler(hevc=False)
    began = time.process_time()
    for number in range(16):
        assembler.push(Arrival(RtpPacket(96, True, number, 7, 1, several), 0, False))
    assert time.process_time() - began < 0.5
    assert len(assembler._units) < 50_000
