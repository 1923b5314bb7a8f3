"""The fault table's figures, computed from known observations."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.live_faults import account, stream
from benchmarks.live_faults.kinds import FAULTS
from benchmarks.live_faults.scene import (
    BAND,
    BLACK,
    MENU,
    NO_SIGNAL,
    OTHER,
    PLACED,
    USUAL,
    DiscEngine,
    Seen,
    off_by,
    overlap,
    picture,
    screen_with,
)
from streamseg.capture.rtsp.nal import NalAssembler
from streamseg.capture.rtsp.rtp import RtpPacket, parse_rtp
from streamseg.capture.screen.find import find_region
from streamseg.core.types import Frame, Roi, State
from streamseg.segmentation.segmenter import Segmenter
from tests.rtsp_server import barcode
from tests.rtsp_server.coded import arrivals_of, encode, packets_of, units_of

S = 1_000_000_000


def seen(second: float, state: State, captured: float | None = None, number: int | None = None) -> Seen:
    at = None if captured is None else round(captured * S)
    return Seen(round(second * S), state, "" if captured is not None else "no frame for 0.2 s", at, number)


STORY = [
    seen(1.0, State.NERVE, 0.95, 1),
    seen(1.5, State.NERVE, 1.45, 2),
    seen(1.6, State.LAGGING),
    seen(1.7, State.SOURCE_LOST),
    seen(3.2, State.NERVE, 3.15, 3),
    seen(3.3, State.NERVE, 3.25, 4),
]
MOMENTS = account.Moments(began=round(1.55 * S), ended=3 * S, back=round(3.2 * S), stopped=round(3.4 * S))


def test_age_of_an_outline_is_that_at_its_removal_from_the_display() -> None:
    ages = [age / S for age in account.outline_ages(STORY, MOMENTS.stopped)]
    assert ages == pytest.approx([0.55, 0.15, 0.15, 0.15])
    true = account.true_ages(STORY, {2: S, 4: 3 * S}, MOMENTS.stopped)
    assert [age / S for age in true] == pytest.approx([0.6, 0.4])


def test_longest_time_without_an_outline() -> None:
    assert account.longest_gap(STORY, MOMENTS.began, MOMENTS.stopped) == pytest.approx(1.6)
    assert account.longest_gap(STORY[:2], S, 2 * S) == 0
    assert account.longest_gap(STORY[2:4], S, 2 * S) == pytest.approx(1.0), "nothing seen is no outline"


def test_states_are_timed_from_the_beginning_of_the_fault() -> None:
    changes = account.states(STORY, MOMENTS)
    assert (
        account.state_words(changes) == "nerve, 0.05 s segmentation lagging, 0.15 s source lost, 1.65 s nerve"
    )
    many = [(float(k), f"state {k}") for k in range(20)]
    assert account.state_words(many).endswith("(12 more changes), 19.00 s state 19")


def test_reasons_that_differ_in_a_number_are_one() -> None:
    assert account.reasons(STORY, MOMENTS) == ["no frame for 0.2 s"]


@pytest.mark.parametrize("size", [(240, 320), (360, 480)])
def test_an_outline_differs_from_that_of_the_next_frame(size: tuple[int, int]) -> None:
    segmenter = Segmenter(DiscEngine())
    first, second = (Frame(picture(number, *size), number, 0) for number in (7, 8))
    limit = 8 * size[0] / 240
    assert off_by(first.image, segmenter.segment(first)) < limit / 2
    assert off_by(second.image, segmenter.segment(first)) > 2 * limit
    colour = np.repeat(first.image[..., None], 3, axis=2)
    assert off_by(colour, segmenter.segment(first)) < limit / 2


def test_a_fault_that_stays_is_over_when_the_right_state_has_come_that_lasts() -> None:
    story = [seen(1.0, State.NERVE, 0.95), seen(2.5, State.LAGGING), seen(4.0, State.NERVE, 3.95)]
    assert account.settled(story, State.NERVE, 1 * S, 5 * S) is None, "it stayed for one second"
    assert account.settled(story, State.NERVE, 1 * S, 7 * S) == 4 * S
    assert account.settled(story, State.NERVE, 5 * S, 8 * S) == 5 * S
    elsewhere = [replace(one, misplaced=one.at_ns == 4 * S) for one in [*story, seen(6.0, State.NERVE, 5.9)]]
    assert account.settled(elsewhere, State.NERVE, 1 * S, 9 * S) == 6 * S, "in its place"
    assert account.misplaced_s(elsewhere, 9 * S) == 2
    assert account.settled([seen(1.0, State.SLOW)], State.SLOW, S, 4 * S) == S, "outlines come and go"
    assert account.changes(story, 2 * S, 9 * S) == 2
    assert account.changes(story, 3 * S, 9 * S) == 1
    moments = account.Moments(S, 5 * S, 4 * S, 6 * S)
    assert (moments.until, replace(moments, stays=True).until) == (4 * S, 5 * S)


def test_the_image_is_found_on_the_machine_s_screen_and_nothing_on_screens_without_it() -> None:
    for place in (USUAL, OTHER):
        frames = [screen_with(number, place) for number in range(4)]
        found = find_region(frames)
        assert found is not None
        assert overlap(found, place) > PLACED
        assert barcode.read(place.crop(frames[2])[:BAND]) == 2
        answer = Segmenter(DiscEngine(), found).segment(Frame(frames[2], 2, 0))
        assert off_by(place.crop(frames[2]), answer, (place.x, place.y)) < 8
    assert overlap(USUAL, OTHER) < 0.5 < PLACED
    assert overlap(USUAL, USUAL) == 1
    assert overlap(Roi(0, 0, 8, 8), Roi(20, 0, 8, 8)) == 0
    for without in (NO_SIGNAL, BLACK, MENU):
        assert find_region([without] * 4) is None


def sent(rewrite: stream.Rewrite, packets: list[RtpPacket]) -> list[RtpPacket]:
    return [one for packet in packets for one in rewrite(packet)]


def of_pictures(count: int, options: dict[str, str] | None = None) -> list[RtpPacket]:
    coded = encode("h264", count, options, picture=picture)
    return packets_of([data for data, _ in coded])


def stamps(packets: list[RtpPacket]) -> list[int]:
    """Of each picture, as a signed number."""
    return [(one - (one >> 31 << 32)) for one in dict.fromkeys(packet.timestamp for packet in packets)]


def test_time_stamps_are_rewritten_by_picture() -> None:
    packets = of_pictures(4)
    assert stamps(packets) == [-5000, -2000, 1000, 4000]
    assert stamps(sent(stream.paced(0.5), packets)) == [-5000, -3500, -2000, -500]
    assert stamps(sent(stream.paced(0.0), packets)) == [-5000]
    assert stamps(sent(stream.shifted(0.9, pictures=1), packets)) == [-5000, 79000, 1000, 4000]
    assert stamps(sent(stream.shifted(-0.9), packets)) == [-5000, -83000, -80000, -77000]


def test_pictures_of_odd_senders_are_whole() -> None:
    plain = of_pictures(6, {"x264-params": "slices=4"})
    usual = slices_of(plain)
    assert [len(slices) > 1 for slices in usual] == [True] * 5
    for rewrite in (
        stream.EVERY_UNIT,
        stream.EVERY_SLICE,
        stream.with_more(stream.UNKNOWN),
        stream.with_more(stream.PADDING),
        stream.ended,
    ):
        packets = sent(rewrite, plain)
        assert packets != plain
        assert slices_of(numbered(packets)) == usual
    assert len(sent(stream.without_one(), plain)) == len(plain) - 1


def numbered(packets: list[RtpPacket]) -> list[RtpPacket]:
    return [replace(packet, sequence=place & 0xFFFF) for place, packet in enumerate(packets)]


def slices_of(packets: list[RtpPacket]) -> list[list[bytes]]:
    """The slices of each of the first pictures that are whole."""
    assembler = NalAssembler(hevc=False)
    pictures = [one for arrival in arrivals_of(packets) for one in assembler.push(arrival) if not one.broken]
    return [[unit for unit in units_of(one.data) if unit[0] & 31 in (1, 5)] for one in pictures[:5]]


def test_a_connection_is_split_into_messages_and_packets() -> None:
    packet = RtpPacket(96, True, 7, 1234, 77, b"unit")
    data = stream.interleaved(packet)
    answer = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\nv=0\n"
    whole = answer + data + b"OPTIONS * RTSP/1.0\r\n\r\n" + data
    for cut in range(len(whole)):
        first, rest = stream.split(whole[:cut])
        second, rest = stream.split(rest + whole[cut:])
        assert [*first, *second] == [answer, data, b"OPTIONS * RTSP/1.0\r\n\r\n", data]
        assert rest == b""
    assert parse_rtp(data[4:]) == packet
    padding = replace(packet, payload=b"")
    assert parse_rtp(stream.interleaved(padding)[4:]) == padding


def test_faults_have_names_of_their_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
