"""How frame grabbers are configured, and why one is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from streamseg.capture.v4l2.source import V4l2Source
from streamseg.core.errors import SourceError, UsageError
from tests.capture.v4l2.device import PATH, Child, EmulatedDevice, Mode


def opened(device: EmulatedDevice, options: dict[str, Any]) -> str:
    """The mode in which the device opens; the error if it does not."""

    options = {name: tuple(value) if name == "size" else value for name, value in options.items()}
    for name in options.keys() & {"rate", "sar"}:
        options[name] = Fraction(options[name])
    with V4l2Source(device.path, **options) as source:
        return f"{source.pixel_format} {source.info.width}x{source.info.height} {source.info.rate}"


MODES = [
    Mode("YUYV", 320, 240, Fraction(30)),
    Mode("YUYV", 320, 240, Fraction(60000, 1001)),
    Mode("YUYV", 640, 480, Fraction(5)),
    Mode("MJPG", 640, 480, Fraction(30)),
]


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, "mjpeg 640x480 30"),
        ({"pixel_format": "yuyv"}, "yuyv 320x240 60000/1001"),
        ({"pixel_format": "yuyv", "rate": "60"}, "yuyv 320x240 60000/1001"),
        ({"pixel_format": "yuyv", "rate": "30"}, "yuyv 320x240 30"),
        ({"size": (640, 480), "rate": "5"}, "yuyv 640x480 5"),
        ({"size": (320, 240)}, "yuyv 320x240 60000/1001"),
    ],
)
def test_the_device_is_set_to_the_requested_mode(
    device: EmulatedDevice, child: Child, options: dict[str, Any], mode: str
) -> None:
    device.offer(MODES, state="stall")
    assert child.run(opened, options) == mode


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_format": "nv12"}, f"UsageError: {PATH} has no pixel format nv12; it has yuyv, mjpeg"),
        (
            {"size": (800, 600)},
            f"UsageError: {PATH} has no size 800x600; it has yuyv 640x480, yuyv 320x240, mjpeg 640x480",
        ),
        (
            {"size": (640, 480), "rate": "25"},
            f"UsageError: {PATH} has no 25 frames per second; it has yuyv 640x480 at 5, mjpeg 640x480 at 30",
        ),
    ],
)
def test_a_mode_that_the_device_lacks_is_refused_naming_those_it_has(
    device: EmulatedDevice, child: Child, options: dict[str, Any], message: str
) -> None:
    device.offer(MODES, state="stall")
    assert child.run(opened, options) == message


def test_a_driver_that_sets_another_size_is_detected(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode("YUYV", 320, 240)], range="640 480", state="stall")  # it promises a range
    message = child.run(opened, {"size": (640, 480)})
    assert message == f"UsageError: {PATH} was asked for yuyv 640x480 but set yuyv 320x240; request that"
    assert child.run(opened, {}) == "yuyv 320x240 30"


def test_a_driver_with_only_the_requests_that_ffmpeg_needs(device: EmulatedDevice, child: Child) -> None:
    device.offer(MODES, state="stall", optional="no")
    assert child.run(opened, {"pixel_format": "yuyv", "size": (320, 240), "rate": "30"}) == "yuyv 320x240 30"
    refused = child.run(opened, {"pixel_format": "yuyv", "size": (320, 240), "rate": "25"})
    assert refused.startswith(f"UsageError: {PATH} cannot be set to 25 frames per second, it delivers ")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("gone", f"SourceError: no video device {PATH}; plug it in, or give one of those present ("),
        ("busy", f"SourceError: {PATH} is in use by another program; close that first"),
        ("denied", f"SourceError: {PATH} may not be opened (Permission denied); join the group 'video'"),
        ("novideo", f"SourceError: {PATH} (Emulated Grabber) does not capture video; "),
    ],
)
def test_why_a_device_cannot_be_opened(
    device: EmulatedDevice, child: Child, state: str, message: str
) -> None:
    device.offer([Mode()], state=state)
    assert child.run(opened, {}).startswith(message)


@pytest.mark.parametrize("field", [2, 3, 7])
def test_separate_fields_are_refused(device: EmulatedDevice, child: Child, field: int) -> None:
    device.offer([Mode(field=field)])
    assert "fields" in child.run(opened, {})
    assert "is not supported" in child.run(opened, {})


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_impossible_time_outs_are_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="cannot wait"):
        V4l2Source("/dev/video0", read_seconds=seconds)


@pytest.mark.parametrize(
    "path", ["/dev/no-such-video", "", "a\0b", "\udfff\ud800", "/dev/null", "/dev", "/dev/null/x"]
)
def test_paths_that_are_not_video_devices(path: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no video device|not a video device"):
        V4l2Source(path)


def test_the_aspect_of_pixels_can_be_set_where_a_driver_is_wrong(
    device: EmulatedDevice, child: Child
) -> None:
    device.offer([Mode(width=320, height=240)], state="stall", aspect="3 4")
    assert child.run(opened, {}).startswith("yuyv 427x240")
    assert child.run(opened, {"sar": "1"}).startswith("yuyv 320x240")
    assert child.run(opened, {"sar": "3/2"}).startswith("yuyv 480x240")
