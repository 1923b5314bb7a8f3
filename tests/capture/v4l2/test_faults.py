"""Faults of frame grabbers: stalls, damage, unplugging."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from streamseg.capture.v4l2 import source as v4l2
from streamseg.capture.v4l2.source import V4l2Source
from streamseg.core.errors import SourceError, StreamsegError
from tests.capture.v4l2.device import FAST, PATH, Child, EmulatedDevice, Mode


def fault(device: EmulatedDevice, changes: dict[str, str], seconds: float) -> list[Any]:
    """Change the device after two frames: the error, its delay, damaged frames, and those after it."""

    source = V4l2Source(device.path, read_seconds=seconds)
    next(source), next(source)
    device.set(**changes)
    began = time.monotonic()
    try:
        for _ in range(20):
            next(source)
    except SourceError as error:
        return [str(error), time.monotonic() - began, source.damaged, list(source)]
    finally:
        source.close()
    return ["", 0.0, source.damaged, []]


def test_a_stall_is_an_error_after_the_time_out(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode(rate=FAST)])
    message, took, damaged, after = child.run(fault, {"state": "stall"}, 0.3)
    assert message == (f"{PATH} delivered no frame for 0.3 s; check the scanner's output and the cable")
    assert took >= 0.3
    assert (damaged, after) == (0, [])


def test_a_stall_reports_the_status_of_the_input(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode(rate=FAST)], input=2)
    message = child.run(fault, {"state": "stall"}, 0.2)[0]
    assert "and it reports: no signal" in message


def test_a_stall_ends_even_if_poll_is_wrong(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode(rate=FAST)], poll="no")
    assert "no frame for 0.2 s" in child.run(fault, {"state": "stall"}, 0.2)[0]


def test_a_device_that_never_delivers_is_an_error(device: EmulatedDevice, child: Child) -> None:
    def silent(device: EmulatedDevice) -> str:

        v4l2.FIRST_FRAME_SECONDS = 0.3
        with v4l2.V4l2Source(device.path, read_seconds=0.1) as source:
            next(source)
        return "a frame"

    device.offer([Mode()], state="stall")
    assert "no frame for 0.3 s" in child.run(silent)


def test_unplugging_is_an_error_at_once(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode(rate=FAST)])
    message, took, _, after = child.run(fault, {"state": "gone"}, 60)
    assert message == f"{PATH} is gone or was reset (No such device); check its cable"
    assert took < 30
    assert after == []


def test_it_can_be_opened_again_when_it_is_back(device: EmulatedDevice, child: Child) -> None:
    def again(device: EmulatedDevice) -> list[str]:

        seen = []
        source = V4l2Source(device.path)
        next(source)
        device.unplug()
        for attempt in (source.__next__, lambda: V4l2Source(device.path)):
            try:
                attempt()
            except SourceError as error:
                seen.append(str(error))
        device.plug()
        with V4l2Source(device.path) as second:
            seen.append(str(next(second).index))
        return seen

    device.offer([Mode(rate=FAST)])
    lost, absent, index = child.run(again)
    assert "is gone or was reset" in lost
    assert absent.startswith(f"no video device {PATH}; plug it in")
    assert index == "0"


def test_a_device_delivers_again_after_a_stall(device: EmulatedDevice, child: Child) -> None:
    def resume(device: EmulatedDevice) -> list[int]:

        with V4l2Source(device.path, read_seconds=60) as source:
            before = next(source)
            device.stall()
            timer = threading.Timer(0.2, device.resume)
            timer.start()
            frames = [next(source) for _ in range(8)]
            timer.join()
            return [frames[-1].index, frames[-1].captured_ns - before.captured_ns, source.damaged]

    device.offer([Mode(rate=FAST)])
    index, span, damaged = child.run(resume)
    assert index == 8
    assert span > 150_000_000
    assert damaged == 0


@pytest.mark.parametrize(("code", "damage"), [("YUYV", "flag"), ("YUYV", "short"), ("MJPG", "short")])
def test_damaged_frames_are_counted_and_never_shown(
    device: EmulatedDevice, child: Child, code: str, damage: str
) -> None:
    device.offer([Mode(code, rate=FAST)])
    message, _, damaged, _ = child.run(fault, {"damage": damage}, 0.5)
    assert "delivered only damaged frames (" in message
    assert damaged >= 1


def test_frames_continue_after_damaged_ones(device: EmulatedDevice, child: Child) -> None:
    def heal(device: EmulatedDevice) -> list[int]:

        with V4l2Source(device.path, read_seconds=60) as source:
            next(source)
            device.set(damage="flag")
            timer = threading.Timer(0.2, lambda: device.set(damage="none"))
            timer.start()
            frames = [next(source) for _ in range(8)]
            timer.join()
            return [frames[-1].index, source.damaged]

    device.offer([Mode(rate=FAST)])
    index, damaged = child.run(heal)
    assert index == 8
    assert damaged >= 1


def test_close_ends_a_read_in_another_thread(device: EmulatedDevice, child: Child) -> None:
    def close(device: EmulatedDevice) -> list[Any]:

        source = V4l2Source(device.path, read_seconds=100)
        next(source)
        device.stall()
        left: list[int] = []
        reader = threading.Thread(target=lambda: left.append(len(list(source))), daemon=True)
        reader.start()
        time.sleep(0.1)
        source.close()
        source.close()
        reader.join(30)
        device.resume()
        with V4l2Source(device.path) as again:  # it was given back
            return [left, next(again).index]

    device.offer([Mode(rate=FAST)])
    left, index = child.run(close)
    assert len(left) == 1
    assert index == 0


def test_nothing_is_left_open(device: EmulatedDevice, child: Child) -> None:
    def leak(device: EmulatedDevice) -> list[int]:

        def held() -> list[int]:
            gc.collect()
            maps = Path("/proc/self/maps").read_text().count("emulated-video")
            return [len(list(Path("/proc/self/fd").iterdir())), maps]

        held()
        before = held()
        for number in range(12):  # the emulator has room for eight
            with V4l2Source(device.path) as source:
                next(source)
            device.set(state="busy" if number % 2 else "novideo")
            with contextlib.suppress(StreamsegError):
                V4l2Source(device.path)
            device.set(state="run")
            with contextlib.suppress(StreamsegError):
                V4l2Source(device.path, size=(1, 1))
        return [after - earlier for after, earlier in zip(held(), before, strict=True)]

    device.offer([Mode(rate=FAST)])
    assert child.run(leak) == [0, 0]
