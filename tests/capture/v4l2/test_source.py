"""Frames, times and colours of a grabber, with a device emulated in user space.

The scenarios run in a process that sees the device; see Child.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from streamseg.capture.v4l2.source import V4l2Source
from streamseg.core.errors import SourceError
from streamseg.core.types import Source
from tests.capture.media import number_of
from tests.capture.v4l2.device import FAST, Child, EmulatedDevice, Mode


def numbers(device: EmulatedDevice, count: int, options: dict[str, Any]) -> dict[str, Any]:
    """The numbers that the first frames show, and the attributes of the source."""
    with V4l2Source(device.path, **options) as source:
        frames = [next(source) for _ in range(count)]
        return {
            "numbers": [number_of(frame.image) for frame in frames],
            "shape": frames[0].image.shape,
            "index": [frame.index for frame in frames],
            "read_only": not any(frame.image.flags.writeable for frame in frames),
            "own_memory": len({frame.image.ctypes.data for frame in frames}) == count,
            "format": source.pixel_format,
            "size": [source.info.width, source.info.height],
            "rate": str(source.info.rate),
            "clock": source.info.clock,
            "name": source.info.name,
            "live": source.live and isinstance(source, Source),
            "counts": [source.skipped, source.damaged],
        }


@pytest.mark.parametrize(
    "code", ["YUYV", "UYVY", "NV12", "GREY", "MJPG", "YU12", "RGB3", "BGR3", "NV16", "NV24"]
)
def test_every_frame_arrives_in_order(device: EmulatedDevice, child: Child, code: str) -> None:
    device.offer([Mode(code)])
    seen = child.run(numbers, 6, {})
    gaps = [(after - before) % 64 for before, after in pairwise(seen["numbers"])]
    assert all(1 <= gap < 32 for gap in gaps), seen  # a busy machine misses some
    assert seen["shape"] == ([120, 160] if code == "GREY" else [120, 160, 3])
    assert seen["index"] == [0, 1, 2, 3, 4, 5]
    assert (seen["read_only"], seen["own_memory"], seen["live"]) == (True, True, True)
    assert (seen["format"], seen["size"], seen["rate"]) == (
        "mjpeg" if code == "MJPG" else code.lower(),
        [160, 120],
        "30",
    )
    assert (seen["clock"], seen["name"], seen["counts"][1]) == ("driver", "video97", 0)


def test_ffmpeg_reads_the_emulated_device(device: EmulatedDevice, child: Child) -> None:
    """The emulator is only useful if other programs can read it."""

    def read(device: EmulatedDevice) -> list[int]:
        import cv2  # noqa: F401 - before av

        # isort: split
        import av

        with av.open(device.path, format="v4l2", options={"input_format": "mjpeg"}) as container:
            pictures = container.decode(video=0)
            return [number_of(next(pictures).to_ndarray(format="bgr24")) for _ in range(4)]

    device.offer([Mode("YUYV"), Mode("MJPG")])
    seen = child.run(read)
    assert len(set(seen)) == 4
    assert seen == sorted(seen)


def pixels(device: EmulatedDevice) -> list[list[int]]:
    """Some pixels of the first frame."""

    with V4l2Source(device.path) as source:
        image = next(source).image
    height, width = image.shape[:2]
    return [image[height // 2, width * k // 8].tolist() for k in (1, 3, 5, 7)]


@pytest.mark.parametrize("code", ["YUYV", "UYVY", "NV12", "MJPG"])
def test_colours_are_those_that_were_sent(device: EmulatedDevice, child: Child, code: str) -> None:

    sent = [[200, 40, 40], [40, 200, 40], [40, 40, 200], [220, 220, 220]]
    image = np.repeat(np.array([sent], np.uint8), 40, axis=1).repeat(120, axis=0)
    device.offer([Mode(code)], [image])
    assert np.abs(np.array(child.run(pixels)) - sent).max() <= 4


def test_grey_levels_are_those_that_were_sent(device: EmulatedDevice, child: Child) -> None:

    image = np.repeat(np.array([[0, 80, 160, 255]], np.uint8), 40, axis=1).repeat(120, axis=0)
    device.offer([Mode("GREY")], [image])
    assert child.run(pixels) == [0, 80, 160, 255]


@pytest.mark.parametrize(
    ("stamps", "clock"),
    [("monotonic", "driver"), ("none", "arrival"), ("future", "arrival"), ("past", "arrival")],
)
def test_the_capture_time_is_the_drivers_if_plausible(
    device: EmulatedDevice, child: Child, stamps: str, clock: str
) -> None:
    def ages(device: EmulatedDevice) -> list[Any]:

        with V4l2Source(device.path) as source:
            frames = [(next(source).captured_ns, time.monotonic_ns()) for _ in range(5)]
            return [source.info.clock, frames]

    device.offer([Mode(rate=FAST)], stamps=stamps)
    said, frames = child.run(ages)
    assert said == clock
    captured = [frame[0] for frame in frames]
    assert captured == sorted(set(captured))
    assert all(now - 10_000_000_000 < at <= now for at, now in frames)
    if clock == "driver":  # frames are 10 ms apart on the device's clock, whenever they were fetched
        steps = [(after - before) / 1e6 for before, after in pairwise(captured)]
        assert all(abs(step / 10 - round(step / 10)) < 0.01 for step in steps), steps


def test_a_late_consumer_gets_the_newest_frame(device: EmulatedDevice, child: Child) -> None:
    def late(device: EmulatedDevice) -> list[int]:

        with V4l2Source(device.path) as source:
            for _ in range(20):  # a machine that pauses just then looks like one without a frame
                first, skipped = number_of(next(source).image), source.skipped
                time.sleep(0.2)  # all buffers fill up: with the four that follow
                newest = number_of(next(source).image)
                if source.skipped == skipped + 3:
                    break
            return [first, newest, source.skipped - skipped]

    device.offer([Mode(rate=FAST)])
    first, newest, skipped = child.run(late)
    assert (newest - first) % 64 >= 4
    assert skipped == 3


@pytest.mark.parametrize("field", [4, 5, 6, 8, 9])
def test_interlaced_frames_have_no_combs(device: EmulatedDevice, child: Child, field: int) -> None:
    """Two fields, grey levels 60 and 180: half a frame apart, only one of them may be seen."""

    image = np.full((120, 160, 3), 60, np.uint8)
    if field in (5, 6):
        image[60:] = 180  # stored second, so the newer
    else:
        image[1::2] = 180  # the lower lines; newer in the order top, bottom
    device.offer([Mode(field=field)], [image])
    seen = np.array(child.run(pixels))
    newer = 60 if field in (4, 9) else 180
    assert np.abs(seen - newer).max() <= 2


@pytest.mark.parametrize("stamps", ["monotonic", "none"])
def test_a_frame_that_waited_is_not_dated_as_new(device: EmulatedDevice, child: Child, stamps: str) -> None:
    """All buffers were filled long ago and not read: their frames are old, and are dated so."""

    def wait(device: EmulatedDevice) -> list[float]:
        with V4l2Source(device.path) as source:
            time.sleep(0.4)
            ages = []
            for _ in range(12):
                frame = next(source)
                ages.append((time.monotonic_ns() - frame.captured_ns) / 1e9)
            return ages

    device.offer([Mode(rate=FAST)], stamps=stamps)
    first, *others = child.run(wait)
    assert first > 0.25
    assert min(others) < 0.2


@pytest.mark.parametrize(
    ("code", "planes", "name"),
    [
        ("YUYV", "1", "yuyv"),
        ("NV12", "1", "nv12"),
        ("NM12", "2", "nv12"),
        ("YM12", "3", "yu12"),
        ("BGR3", "1", "bgr3"),
        ("MJPG", "1", "mjpeg"),
        ("NV24", "1 64", "nv24"),  # after a header of the driver's own
        ("NM12", "2 128", "nv12"),
    ],
)
def test_multi_planar_devices_are_read(
    device: EmulatedDevice, child: Child, code: str, planes: str, name: str
) -> None:
    device.offer([Mode(code, rate=FAST)], planes=planes)
    seen = child.run(numbers, 4, {})
    gaps = [(after - before) % 64 for before, after in pairwise(seen["numbers"])]
    assert all(1 <= gap < 32 for gap in gaps), seen
    assert (seen["format"], seen["size"], seen["clock"], seen["counts"][1]) == (name, [160, 120], "driver", 0)
    assert seen["own_memory"]


@pytest.mark.parametrize(("quantization", "level"), [(1, 120), (2, 121)])
@pytest.mark.parametrize("planes", [{}, {"planes": "1"}])
def test_the_range_of_rgb_is_the_drivers(
    device: EmulatedDevice, child: Child, quantization: int, level: int, planes: dict[str, str]
) -> None:
    device.offer([Mode("BGR3")], [np.full((120, 160, 3), 120, np.uint8)], quantization=quantization, **planes)
    assert child.run(pixels) == [[level] * 3] * 4


def opened(device: EmulatedDevice) -> list[Any]:
    """Mode and first number of a source opened now."""
    with V4l2Source(device.path) as source:
        return [source.info.width, source.info.height, number_of(next(source).image) < 64]


HDMI = [Mode("BGR3", 320, 240, FAST), Mode("BGR3", 160, 120, FAST)]


@pytest.mark.parametrize(("width", "height"), [(160, 120), (320, 240)])
def test_a_digital_input_is_set_to_its_signal(
    device: EmulatedDevice, child: Child, width: int, height: int
) -> None:
    device.offer(HDMI, timings=f"{width} {height}")
    assert child.run(opened) == [width, height, True]


@pytest.mark.parametrize(
    ("signal", "said"),
    [
        ("none", "no input signal"),
        ("unstable", "no stable input signal"),
        ("range", "an input signal that it cannot capture"),
    ],
)
def test_a_digital_input_without_a_signal_says_so(
    device: EmulatedDevice, child: Child, signal: str, said: str
) -> None:
    device.offer(HDMI, timings="160 120", signal=signal)
    message = child.run(opened)
    assert message == f"SourceError: {device.path} has {said}; check the scanner's output and the cable"


def test_a_changed_signal_ends_the_source_and_it_can_be_opened_again(
    device: EmulatedDevice, child: Child
) -> None:
    def change(device: EmulatedDevice) -> list[Any]:
        with V4l2Source(device.path, read_seconds=60) as source:
            next(source), next(source)
            device.set(timings="320 240", change=1)
            began = time.monotonic()
            try:
                for _ in range(100):
                    next(source)
            except SourceError as error:
                said = str(error)
            took = time.monotonic() - began
        with V4l2Source(device.path) as again:
            return [said, took, again.info.width, next(again).image.shape[1]]

    device.offer(HDMI, timings="160 120", change=0)
    said, took, width, shape = child.run(change)
    assert said.endswith("has another input signal now; it has to be opened again")
    assert took < 1
    assert (width, shape) == (320, 320)


@pytest.mark.parametrize(
    ("mode", "aspect", "size"),
    [
        (Mode("YUYV", 720, 576), {}, (768, 576)),
        (Mode("GREY", 720, 480), {}, (720, 540)),
        (Mode("YUYV", 720, 576), {"aspect": "54 59"}, (787, 576)),  # PAL, by the driver
        (Mode("YUYV", 720, 576), {"aspect": "1 1"}, (768, 576)),  # which USB grabbers say whatever it is
        (Mode("YUYV", 640, 480), {}, (640, 480)),
        (Mode("MJPG", 720, 576), {"planes": "1"}, (768, 576)),
    ],
)
def test_pixels_of_television_become_square(
    device: EmulatedDevice, child: Child, mode: Mode, aspect: dict[str, str], size: tuple[int, int]
) -> None:
    device.offer([mode], **aspect)
    seen = child.run(numbers, 1, {})
    assert (seen["size"], seen["shape"][:2]) == ([*size], [size[1], size[0]])
