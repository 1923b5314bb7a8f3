"""RTSP when things go wrong on the way: no picture that is not whole, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.live_faults.stream import Rewriter, without_one
from streamseg.capture.rtsp.source import RtspSource
from streamseg.core.errors import SourceError, StreamsegError
from tests.rtsp_server.barcode import read
from tests.rtsp_server.proxy import Proxy
from tests.rtsp_server.server import Server, feeding, serve, why_not
from tests.rtsp_server.sources import PATIENT, opened, take, threads

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "no reason")


@pytest.fixture(scope="module")
def numbered() -> Iterator[Server]:
    """A server whose pictures show 0, 1, 2, ..."""
    with serve(stdin=True) as server, feeding(server):
        yield server


@pytest.mark.parametrize("stalls", [False, True])
def test_close_ends_a_read_from_another_thread(stalls: bool) -> None:
    with serve() as server:
        source = opened(server.url)
        ended = threading.Event()

        def read_on() -> None:
            take(source, 1_000_000)
            ended.set()

        thread = threading.Thread(target=read_on, daemon=True)
        thread.start()
        time.sleep(0.2)
        if stalls:
            server.stop()
        start = time.monotonic()
        source.close()
        source.close()
        assert time.monotonic() - start < PATIENT / 2
        assert ended.wait(PATIENT / 2)
        assert list(source) == []
        if stalls:
            server.cont()
        thread.join(PATIENT)
    assert threads() == []


@pytest.mark.parametrize(
    ("codec", "transport"), [("h264", "tcp"), ("h264", "udp"), ("h265", "udp"), ("jpeg", "udp")]
)
def test_lost_packets_never_give_a_picture_with_parts_missing(codec: str, transport: str) -> None:
    shown: list[int | None] = []
    with (
        serve(stdin=True, codec=codec, drop=0.02, mtu=500, gop=6, fps=60) as server,
        feeding(server),
        opened(server.url, transport) as source,
    ):
        for frame in source:
            shown.append(read(frame.image))
            if len(shown) >= 30 and source.damaged > 2:
                break
    assert None not in shown
    assert shown == sorted(shown, key=lambda number: number or 0)


def test_key_pictures_are_asked_for_where_they_are_rare() -> None:
    """Without being asked, this server sends a key picture every half an hour."""
    shown: list[int | None] = []
    with (
        serve(stdin=True, drop=0.02, gop=100000, mtu=500, fps=60) as server,
        feeding(server),
        opened(server.url) as source,
    ):
        for frame in source:
            shown.append(read(frame.image))
            if source.damaged:
                break
        shown += [read(frame.image) for frame in take(source, 2)]
    assert None not in shown


def test_a_missing_key_frame_is_said_before_the_silence_counts_as_a_lost_source() -> None:
    said: list[float] = []
    with (
        serve(stdin=True, gop=90) as server,
        feeding(server),
        Rewriter(server.port) as rewriter,
        RtspSource(rewriter.url(), on_wait=lambda _: said.append(time.monotonic())) as source,
    ):
        take(source, 10)
        said.clear()
        rewriter.deaf, rewriter.rewrite = True, without_one()
        last, longest = time.monotonic(), 0.0
        while not said or longest < 0.5:
            next(iter(source))
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        back = last
    assert longest - (back - said[0]) < 0.4, "seconds from the last frame before the loss"


def test_bytes_changed_on_the_way_end_in_no_older_picture_and_no_hang(numbered: Server) -> None:
    """What the decoder does not notice, nobody can: a picture may be spoilt, but is the one of its time."""
    shown: list[int | None] = []
    with Proxy(numbered.port, seed=5) as proxy:
        deadline = time.monotonic() + PATIENT
        while len(shown) < 60 and time.monotonic() < deadline:
            proxy.corrupt_rate = 0.0
            try:
                with RtspSource(proxy.url(), open_seconds=5, read_seconds=1) as source:
                    proxy.corrupt_rate = 3e-5
                    for frame in source:
                        shown.append(read(frame.image))
                        if len(shown) % 30 == 0:
                            break
            except SourceError:
                continue  # the numbers of packets and the bounds between them are damaged as well
        assert proxy.corrupted
    assert len(shown) >= 60
    told = [number for number in shown if number is not None]
    assert told == sorted(told)
    assert len(told) >= 0.8 * len(shown)  # most of what is spoilt is noticed


def test_delayed_cut_and_refused_connections(numbered: Server) -> None:
    with Proxy(numbered.port) as proxy:
        proxy.delay_seconds = 0.1
        with opened(proxy.url()) as source:
            assert len(take(source, 5)) == 5
            proxy.cut()
            with pytest.raises(SourceError, match="closed the connection"):
                take(source, 1000)
        proxy.refusing = True
        with pytest.raises(SourceError, match="closed the connection"):
            RtspSource(proxy.url())
        proxy.refusing, proxy.stalled = False, True
        with pytest.raises(SourceError, match="does not answer"):
            RtspSource(proxy.url(), open_seconds=0.4)


def test_pictures_that_nobody_takes_are_given_up(numbered: Server) -> None:
    """Whoever comes back gets a new picture, not one that waited."""
    for _ in range(10):  # a server that dawdles just then sends too few to tell
        with opened(numbered.url) as source:
            first = take(source, 1)[0]
            time.sleep(2.5)
            later = take(source, 2)[1]
            assert later.captured_ns - first.captured_ns > 0.9e9
            assert read(later.image) is not None
            if source.damaged > 10:
                break
    assert source.damaged > 10


def test_many_openings_leave_nothing_behind(numbered: Server) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(StreamsegError):
            RtspSource(numbered.url + "x", open_seconds=PATIENT)
        opened(numbered.url, "udp").close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert threads() == []
