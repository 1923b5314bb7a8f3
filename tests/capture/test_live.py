"""Which live source an address opens, and the messages if it is none."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest

from streamseg.capture.live import CaptureOptions, is_live, open_live, parse_rate, parse_width_height
from streamseg.capture.paced import PacedSource
from streamseg.capture.phantom import PhantomSource
from streamseg.core.errors import SourceError, UsageError
from tests.capture.media import write_video
from tests.rtsp_server.server import serve, why_not


@pytest.mark.parametrize(
    ("uri", "live"),
    [
        ("v4l2:/dev/video0", True),
        ("/dev/video12", True),
        ("/dev/v4l/by-id/usb-x", True),
        ("rtsp://host/live", True),
        ("RTSPS://host/live", True),
        ("phantom:?seed=1", False),
        ("clip.mp4", False),
        ("/dev/videos/clip.mp4", False),
    ],
)
def test_devices_and_streams_are_live(uri: str, live: bool) -> None:
    assert is_live(uri) == live


def test_recordings_are_paced_by_default(tmp_path: Path) -> None:
    clip = str(write_video(tmp_path / "clip.mp4", 3))
    with open_live(clip) as source:
        assert isinstance(source, PacedSource)
        assert len(list(source)) == 3
    with open_live("phantom:?seed=1&frames=2", CaptureOptions(pace=False)) as source:
        assert isinstance(source, PhantomSource)


def test_a_phantom_goes_on_until_it_is_stopped_unless_its_length_is_given() -> None:
    with open_live("phantom:?seed=1&size=96x64", CaptureOptions(pace=False)) as source:
        assert source.info.frame_count is None
        assert [frame.index for frame in islice(source, 400)] == list(range(400))
    with open_live("phantom:?seed=1&size=96x64&frames=7", CaptureOptions(pace=False)) as source:
        assert len(list(source)) == source.info.frame_count == 7


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "no reason")
def test_streams_are_opened_with_their_options() -> None:
    with serve() as server, open_live(server.url, CaptureOptions(open_seconds=60)) as source:
        assert source.live
        assert source.info.width == 320
        with pytest.raises(UsageError, match="tcp or udp"):
            open_live(server.url, CaptureOptions(transport="http"))


def test_failures_to_open_are_reported() -> None:
    for uri in ("v4l2:/dev/video4711", "/dev/video4711", "rtsp://127.0.0.1:1/live"):
        with pytest.raises(SourceError):
            open_live(uri)
    for uri in ("http://me:hush@host/", "missing.mp4", "rtsp://me:hush"):
        with pytest.raises((UsageError, SourceError)) as caught:
            open_live(uri, CaptureOptions(open_seconds=2))
        assert "hush" not in str(caught.value)


def test_sizes_and_rates_are_parsed() -> None:
    assert parse_width_height(None) is None
    assert parse_width_height("1280x720") == (1280, 720)
    assert parse_rate(None) is None
    assert parse_rate("30000/1001") == Fraction(30000, 1001)
    for size in ("", "1280", "0x5", "axb", "1280x720x3", "-1x5"):
        with pytest.raises(UsageError, match="size is"):
            parse_width_height(size)
    for rate in ("", "0", "-3", "1e99999999", "1/0", "nan", "2000", "fast"):
        with pytest.raises(UsageError, match="rate is"):
            parse_rate(rate)
