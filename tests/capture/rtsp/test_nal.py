"""Pictures are put together from packets, whole or not at all."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    packets = packets_of([pictures("h264")[0][0]])
    assembler = NalAssembler(hevc=False)
    *before, last = [assembler.push(arrival) for arrival in arrivals_of(packets)]
    assert not any(before)
    assert last[0].arrived_ns == 0  # as old as its first packet


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
    (found,) = assemble(packets_of(alone))
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
