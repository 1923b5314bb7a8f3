"""RTSP from a real server: what arrives, and what is said when it does not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from streamseg.capture.rtsp.lateness import FORGIVEN_TOLD
from streamseg.capture.rtsp.source import RtspSource
from streamseg.capture.video.source import VideoSource
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.types import Grey, Source
from tests.capture.media import SHARED
from tests.rtsp_server.barcode import draw, read
from tests.rtsp_server.coded import encode, packets_of
from tests.rtsp_server.scripted import Scripted
from tests.rtsp_server.server import Server, feeding, serve, why_not
from tests.rtsp_server.sources import PATIENT, opened, take, threads

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "no reason")


def everything_said(error: BaseException | None) -> str:
    """All text of an exception and what caused it."""
    said = ""
    while error is not None:
        said += f"{error} {error!r} {error.args} "
        error = error.__cause__ or error.__context__
    return said


@pytest.fixture(scope="module")
def numbered() -> Iterator[Server]:
    """A server whose pictures show 0, 1, 2, ..."""
    with serve(stdin=True) as server, feeding(server):
        yield server


@pytest.mark.parametrize("codec", ["h264", "h265", "jpeg"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_arrive_whole_and_in_order(codec: str, transport: str) -> None:
    with (
        serve(stdin=True, codec=codec, fps=60) as server,
        feeding(server),
        opened(server.url, transport=transport) as source,
    ):
        assert isinstance(source, Source)
        assert source.live
        assert (source.info.width, source.info.height, source.info.clock) == (320, 240, "arrival")
        frames = take(source, 30)
        now = time.monotonic_ns()
        damaged = source.damaged
    assert [frame.index for frame in frames] == list(range(30))
    shown = [read(frame.image) for frame in frames]
    assert None not in shown
    if not damaged:
        assert np.all(np.diff(np.array(shown, int)) == 1)
    arrivals = [frame.captured_ns for frame in frames]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < now
    pts = [frame.pts_seconds or 0.0 for frame in frames]
    assert pts == sorted(pts)
    assert all(abs(time * 90000 - round(time * 90000)) < 1e-3 for time in pts)
    assert threads() == []


def test_picture_does_not_wait_for_the_next_one() -> None:
    sent: list[int] = []

    def picture(number: int) -> Grey:
        sent.append(number)
        return draw(number)

    with serve(stdin=True, fps=2) as server, feeding(server, picture), opened(server.url) as source:
        assert any(sent[-1] == read(frame.image) for frame in take(source, 4)[1:])


def poured(count: int) -> bytes:
    """Interleaved RTP packets of pictures 33 ms apart, as a relay sends those that it has stored."""
    packets = packets_of([data for data, _ in encode("h264", count)])
    heads = [b"$\0" + (12 + len(packet.payload)).to_bytes(2) for packet in packets]
    return b"".join(
        head
        + bytes((0x80, packet.marker << 7 | 96))
        + packet.sequence.to_bytes(2)
        + packet.timestamp.to_bytes(4)
        + packet.sender.to_bytes(4)
        + packet.payload
        for head, packet in zip(heads, packets, strict=True)
    )


@pytest.mark.parametrize("count", [2, 6, 30])
def test_no_frame_that_a_relay_had_stored_counts_as_new(count: int) -> None:
    with Scripted(after_play=poured(count)) as server, RtspSource(server.url) as source:
        frame = next(iter(source))
        assert read(frame.image) is not None
        assert time.monotonic_ns() - frame.captured_ns > 0.9e9


def test_a_stream_that_ends_while_its_age_is_unknown_still_gives_its_newest_frame() -> None:
    with Scripted(after_play=poured(2)) as server:
        server.close_after = 0.1
        with RtspSource(server.url) as source:
            assert read(next(iter(source)).image) == 1
            with pytest.raises(SourceError, match="closed the connection"):
                next(iter(source))


@pytest.mark.slow
def test_a_real_server_s_reports_tell_the_pace_of_its_clock() -> None:
    with serve(stdin=True) as server, feeding(server), opened(server.url) as source:
        ends = time.monotonic() + 30
        while source._lateness._forgiven > FORGIVEN_TOLD and time.monotonic() < ends:
            take(source, 10)
        assert abs(source._lateness._pace - 1) < 1e-3


def test_real_clip_comes_through() -> None:
    clips = sorted((SHARED / "clips").glob("*.mp4"))
    if not clips:
        pytest.skip("no clips in ../shared/data/clips")
    with VideoSource(clips[0]) as clip:
        greys = [frame.image.mean(axis=2).astype(np.uint8) for frame in take(clip, 4)]
    height, width = greys[0].shape
    server_options = {"width": width, "height": height, "fps": 15, "bitrate": 20000}
    with (
        serve(stdin=True, **server_options) as server,
        feeding(server, lambda number: greys[number % len(greys)]),
        opened(server.url) as source,
    ):
        frames = take(source, 4)
    for frame in frames:
        grey = frame.image.mean(axis=2)
        assert min(float(np.abs(grey - original).mean()) for original in greys) < 6


def test_killed_server_ends_the_stream_at_once(numbered: Server) -> None:
    with serve() as server, opened(server.url) as source:
        take(source, 3)
        server.kill()
        with pytest.raises(SourceError, match=r"rtsp://127.0.0.1:\d+/live: .* closed the connection"):
            take(source, 1000)
        with pytest.raises(SourceError, match=r"nothing listens .*connection refused"):
            RtspSource(server.url)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_stalled_server_is_noticed(transport: str) -> None:
    with serve() as server, opened(server.url, transport) as source:
        take(source, 3)
        source._read_seconds = 0.5
        server.stop()
        with pytest.raises(SourceError, match=r"no frame for \d\.\d s"):
            take(source, 1000)
        source.close()
        with pytest.raises(SourceError, match="does not answer"):
            RtspSource(server.url, open_seconds=0.5)
        server.cont()
        with opened(server.url, transport) as again:
            assert len(take(again, 2)) == 2


def test_restart_with_another_size_and_codec() -> None:
    with serve() as server:
        for options in ({}, {"width": 480, "height": 320, "codec": "h265"}, {"codec": "jpeg"}):
            if options:
                server.restart(**options)
            with opened(server.url) as source:
                assert take(source, 2)[1].image.shape[:2] == (source.info.height, source.info.width)
                assert source.info.width == server.options["width"]


@pytest.mark.parametrize("method", ["basic", "digest"])
def test_login(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hu@sh/h:ush%"
    with serve(user="me", password=secret, auth=method) as server:
        address = server.url.replace("rtsp://", "rtsp://me:hu%40sh%2Fh%3Aush%25@")
        with RtspSource(address, open_seconds=PATIENT) as source:
            assert len(take(source, 2)) == 2
            assert "hu" not in f"{source.info} {vars(source)!r}"
        with pytest.raises(SourceError, match=r"does not accept this user and password \(401\)") as caught:
            RtspSource(address.replace("ush%25", "ushhush"), open_seconds=PATIENT)
        assert "hush" not in everything_said(caught.value)
        with pytest.raises(SourceError, match="wants a user and password"):
            RtspSource(server.url, open_seconds=PATIENT)
        monkeypatch.setenv("STREAMSEG_RTSP_USER", "me")
        monkeypatch.setenv("STREAMSEG_RTSP_PASSWORD", secret)
        RtspSource(server.url, open_seconds=PATIENT).close()


def test_wrong_path_is_told(numbered: Server) -> None:
    with pytest.raises(SourceError, match=r"no stream of this path \(404\)"):
        RtspSource(numbered.url + "/other?password=hush", open_seconds=PATIENT)


def test_wrong_calls_are_told() -> None:
    for url, options in [
        ("rtsp://127.0.0.1:1/", {"transport": "http"}),
        ("rtsp://127.0.0.1:1/", {"open_seconds": 0.0}),
        ("rtsp://127.0.0.1:1/", {"read_seconds": float("nan")}),
        ("rtsp://a b/", {}),
    ]:
        with pytest.raises(UsageError):
            RtspSource(url, **options)  # type: ignore[arg-type]


def test_host_that_is_not_there() -> None:
    with pytest.raises(SourceError, match=r"there is no host nowhere\.invalid|not resolved in time"):
        RtspSource("rtsp://me:hush@nowhere.invalid/live", open_seconds=PATIENT)


def test_port_that_takes_connections_and_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://me:hush@127.0.0.1:{silent.getsockname()[1]}/live"
        start = time.monotonic()
        with pytest.raises(SourceError, match="does not answer"):
            RtspSource(url, open_seconds=0.4)
        assert time.monotonic() - start < PATIENT
    assert threads() == []


def test_interlaced_pictures_are_deinterlaced() -> None:
    """Odd lines are white and even ones black: without it the picture would be a comb."""
    comb = np.zeros((240, 320), np.uint8)
    comb[1::2] = 255
    with (
        serve(stdin=True, interlaced=True) as server,
        feeding(server, lambda _: comb),
        opened(server.url) as source,
    ):
        image = take(source, 1)[0].image
    assert float(image[8:-8].std()) < 30
