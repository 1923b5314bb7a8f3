"""RTP packets are put in order, and a missing one is noticed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.rtp import RtpPacket, SenderReport, Sequencer, Timeline, parse_control, parse_rtp

PLAIN = bytes.fromhex("80e0fffe000000640000004d") + b"data"


def packet(sequence: int, sender: int = 1) -> RtpPacket:
    return RtpPacket(96, False, sequence & 0xFFFF, 0, sender, b"")


def order(sequences: list[int], *, reorder: bool, gap_ns: int = 0) -> list[tuple[int, bool]]:
    sequencer = Sequencer(reorder=reorder)
    found = [
        arrival
        for place, sequence in enumerate(sequences)
        for arrival in sequencer.push(packet(sequence), place * gap_ns)
    ]
    return [(arrival.packet.sequence, arrival.lost) for arrival in found]


def test_packet_is_read() -> None:
    read = parse_rtp(PLAIN)
    assert read == RtpPacket(96, True, 65534, 100, 77, b"data")
    contributors = bytes((0x82,)) + PLAIN[1:12] + bytes(8) + b"data"
    extended = bytes((0x90,)) + PLAIN[1:12] + b"\0\0\0\1abcd" + b"data"
    padded = bytes((0xA0,)) + PLAIN[1:] + b"\0\0\3"
    assert [parse_rtp(data) for data in (contributors, extended, padded)] == [read] * 3


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reading(data: bytes) -> None:
    for candidate in (data, b"\x80" + data, b"\xbf" + data):
        read = parse_rtp(candidate)
        assert read is None or len(read.payload) <= len(candidate)


def test_order_is_kept_over_the_wrap_of_numbers() -> None:
    assert order([65534, 65535, 0, 1], reorder=False) == [
        (65534, False),
        (65535, False),
        (0, False),
        (1, False),
    ]


def test_gap_is_a_loss_and_a_double_is_left_out() -> None:
    assert order([5, 6, 6, 5, 8, 9], reorder=False) == [(5, False), (6, False), (8, True), (9, False)]


def test_numbering_that_begins_anew_is_a_loss_and_goes_on() -> None:
    assert order([5, 6, 40000, 40001], reorder=False) == [
        (5, False),
        (6, False),
        (40000, True),
        (40001, False),
    ]
    assert order([5, 40000, 6, 7], reorder=True) == [(5, False), (40000, True), (6, True), (7, False)]


def test_packets_that_overtook_each_other_are_put_in_order() -> None:
    assert order([5, 7, 8, 6, 9], reorder=True) == [(k, False) for k in (5, 6, 7, 8, 9)]


def test_a_missing_packet_is_not_waited_for_too_long() -> None:
    assert order([5, 7, 8, 9], reorder=True, gap_ns=20_000_000) == [
        (5, False),
        (7, True),
        (8, False),
        (9, False),
    ]
    many = order([5, *range(7, 50)], reorder=True)
    assert many[:3] == [(5, False), (7, True), (8, False)]


def test_one_packet_of_another_sender_is_ignored_and_two_are_a_new_stream() -> None:
    sequencer = Sequencer(reorder=False)
    sequencer.push(packet(1), 0)
    assert sequencer.push(packet(900, sender=2), 0) == []
    assert [a.lost for a in sequencer.push(packet(2), 0)] == [False]
    sequencer.push(packet(901, sender=3), 0)
    assert [a.lost for a in sequencer.push(packet(902, sender=3), 0)] == [True]
    assert [a.lost for a in sequencer.push(packet(903, sender=3), 0)] == [False]


@given(st.permutations(range(20)))
def test_whatever_the_order_nothing_is_doubled_and_losses_are_told(sequences: list[int]) -> None:
    found = order(sequences, reorder=True)
    numbers = [number for number, _ in found]
    assert len(set(numbers)) == len(numbers)
    for (before, _), (after, lost) in pairwise(found):
        assert lost or after == before + 1


def test_time_does_not_wrap() -> None:
    line = Timeline()
    stamps = [0xFFFFF000, 0xFFFFF800, 0, 0x800, 0x400]
    assert [line.place(stamp) for stamp in stamps] == [0, 0x800, 0x1000, 0x1800, 0x1400]


def test_of_two_senders_at_once_the_first_one_is_followed() -> None:
    sequencer = Sequencer(reorder=False)
    found = [sequencer.push(packet(number, sender), 0) for number in range(20) for sender in (1, 2)]
    assert [(a.packet.sender, a.lost) for arrivals in found for a in arrivals] == [(1, False)] * 20


def test_sender_reports_are_read_and_what_is_none_is_passed_over() -> None:
    head = bytes((0x80, 200)) + (6).to_bytes(2)
    body = b"".join(value.to_bytes(4) for value in (77, 3_900_000_000, 1 << 31, 90_000, 5, 6))
    described = bytes((0x81, 202)) + (2).to_bytes(2) + bytes(8)
    report = SenderReport(77, 3_900_000_000_500_000_000, 90_000)
    assert parse_control(head + body + described) == ([report], False)
    assert parse_control(described + head + body) == ([report], False)
    assert parse_control(described + bytes((0x81, 203)) + bytes(6)) == ([], True)
    without_clock = head + (77).to_bytes(4) + bytes(8) + body[12:]
    for broken in (
        without_clock,
        (head + body)[:-9],
        head,
        b"",
        bytes(3),
        bytes((0x80, 200, 0, 1)) + bytes(4),
    ):
        assert parse_control(broken) == ([], False)


def test_a_stamp_that_is_no_picture_s_has_its_place_on_the_line_and_does_not_move_it() -> None:
    line = Timeline()
    assert line.near(5) == 0
    assert line.place(0xFFFFFF00) == 0
    assert line.near(0x100) == 0x200
    assert line.near(0xFFFFFE00) == -0x100
    assert line.place(0) == 0x100
