"""The video is found in a server's description of its stream."""

from __future__ import annotations

import time
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.capture.rtsp.sdp import find_video
from streamseg.core.errors import SourceError

BASE = "rtsp://host:554/live/"
HEAD = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n"
AUDIO = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/48000/2\r\na=control:stream=1\r\n"
VIDEO = (
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=framerate:29.97\r\na=control:stream=0\r\n"
    "a=fmtp:96 packetization-mode=1;profile-level-id=42c015;sprop-parameter-sets=Z0LAFQ==,aM48gA==\r\n"
)


def test_video_behind_audio_is_found() -> None:
    track = find_video((HEAD + AUDIO + VIDEO).encode(), BASE)
    assert (track.codec, track.payload_type, track.clock) == ("h264", 96, 90000)
    assert track.url == "rtsp://host:554/live/stream=0"
    assert track.session_url == BASE
    assert track.rate == Fraction(2997, 100)
    assert track.parameter_sets == (bytes.fromhex("6742c015"), bytes.fromhex("68ce3c80"))


@pytest.mark.parametrize(
    ("control", "url"),
    [
        ("rtsp://other/x", "rtsp://other/x"),
        ("trackID=1", "rtsp://host:554/live/trackID=1"),
        ("/abs/1", "rtsp://host:554/abs/1"),
        ("*", BASE),
    ],
)
def test_where_a_track_is_set_up(control: str, url: str) -> None:
    text = HEAD + VIDEO.replace("stream=0", control)
    assert find_video(text.encode(), BASE).url == url


def test_h265_and_jpeg_are_known() -> None:
    hevc = (
        "m=video 0 RTP/AVP 98\r\na=rtpmap:98 H265/90000\r\n"
        "a=fmtp:98 sprop-vps=QAE=; sprop-sps=QgE=; sprop-pps=RAE="
    )
    track = find_video((HEAD + hevc).encode(), BASE)
    assert (track.codec, len(track.parameter_sets), track.url) == ("hevc", 3, BASE)
    track = find_video((HEAD + "m=video 0 RTP/AVP 26\r\n").encode(), BASE)
    assert (track.codec, track.payload_type, track.rate) == ("mjpeg", 26, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + AUDIO, "no video stream \\(only audio\\)"),
        ("", "no video stream \\(nothing at all\\)"),
        (HEAD + VIDEO.replace("H264", "VP9"), "video as VP9; have it send H.264"),
        (HEAD + VIDEO.replace("packetization-mode=1", "packetization-mode=2"), "out of order"),
    ],
)
def test_why_there_is_none(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        find_video(text.encode(), BASE)


@given(st.text(max_size=200), st.integers(0, 400))
def test_no_description_breaks_it(extra: str, cut: int) -> None:
    text = (HEAD + AUDIO + VIDEO)[:cut] + extra + VIDEO[cut // 2 :]
    with suppress(SourceError):
        find_video(text.encode("utf-8", "replace"), BASE)


@pytest.mark.parametrize(
    "text", ["1e99999999", "1e-99999999", "9" * 5000, "²5", "nan", "inf", "-25", "0", "1/0", "25/1/1", "x"]
)
def test_a_rate_that_makes_no_sense_is_not_believed(text: str) -> None:
    began = time.process_time()
    assert find_video((HEAD + VIDEO.replace("29.97", text)).encode(), BASE).rate is None
    assert time.process_time() - began < 0.5


def test_a_rate_may_be_a_fraction() -> None:
    text = HEAD + VIDEO.replace("29.97", "30000/1001")
    assert find_video(text.encode(), BASE).rate == Fraction(30000, 1001)


@pytest.mark.parametrize(
    "odd",
    [
        VIDEO.replace("VP 96", "VP ²").replace(":96", ":²"),
        VIDEO.replace("VP 96", f"VP {'9' * 5000}"),
        VIDEO.replace("H264/90000", "H264/²"),
        VIDEO.replace("H264/90000", f"H264/{'9' * 5000}"),
    ],
)
def test_odd_numbers_in_a_description_break_nothing(odd: str) -> None:
    with suppress(SourceError):
        assert find_video((HEAD + odd).encode(), BASE).clock == 90000


@pytest.mark.parametrize(
    "hostile",
    [
        "\n" * 10**6,
        "m=video 0 RTP/AVP" + " 96" * 300_000,
        ("m=video 0 RTP/AVP " + " 97" * 100 + "\r\n" + "a=rtpmap:98 X/1\r\n" * 200) * 200,
        "a=control:" + "/" * 10**6,
        VIDEO.replace("Z0LAFQ==", "Z0LAFQ==," * 100_000),
    ],
)
def test_a_huge_description_is_refused_at_once(hostile: str) -> None:
    began = time.process_time()
    with pytest.raises(SourceError):
        find_video((HEAD + hostile).encode(), BASE)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "sets", ["Z0LAFQ,aM48gA", "Z0LAFQ== , aM48gA==,", ",Z0LAFQ==,, aM48gA=", "Z0 LAFQ,aM48gA=="]
)
def test_parameter_sets_that_are_written_carelessly_are_read(sets: str) -> None:
    text = HEAD + VIDEO.replace("Z0LAFQ==,aM48gA==", sets)
    assert find_video(text.encode(), BASE).parameter_sets == (
        bytes.fromhex("6742c015"),
        bytes.fromhex("68ce3c80"),
    )


@pytest.mark.parametrize(
    "line", ["a=x-dimensions:3840,2160", "a=x-dimensions: 3840 , 2160", "a=framesize:26 3840-2160"]
)
def test_the_size_of_a_large_jpeg_is_in_the_description(line: str) -> None:
    text = HEAD + f"m=video 0 RTP/AVP 26\r\n{line}\r\n"
    assert find_video(text.encode(), BASE).size == (3840, 2160)


@pytest.mark.parametrize(
    "line", ["a=x-dimensions:0,0", f"a=x-dimensions:{'9' * 5000},1", "a=framesize:96 1-1", "a=x-dimensions:1"]
)
def test_a_size_that_makes_no_sense_is_not_believed(line: str) -> None:
    assert find_video((HEAD + f"m=video 0 RTP/AVP 26\r\n{line}\r\n").encode(), BASE).size is None
