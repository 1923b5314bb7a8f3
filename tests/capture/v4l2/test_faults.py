"""Faults of frame grabbers: stalls, damage, unplugging."""

from __future__ import annotations

import contextlib
import errno
import gc
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.capture.v4l2 import source as v4l2
from streamseg.capture.v4l2 import structs
from streamseg.capture.v4l2.source import V4l2Source
from streamseg.core.errors import SourceError, StreamsegError
from tests.capture.media import number_of, picture
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


OPENING = ("QUERYCAP", "ENUM_FMT", "S_FMT", "REQBUFS", "QUERYBUF", "QBUF", "STREAMON", "QUERY_DV_TIMINGS")
READING = ("QBUF", "DQBUF")
DISPENSABLE = (
    *("SUBSCRIBE_EVENT", "CROPCAP", "G_PARM", "S_PARM", "ENUM_FRAMESIZES", "ENUM_FRAMEINTERVALS"),
    *("G_INPUT", "ENUMINPUT", "DQEVENT"),
)
ERRORS = (errno.EIO, errno.EINTR, errno.ENOMEM, errno.ERANGE, errno.EAGAIN, errno.EPERM, errno.EINVAL)


def failing(device: EmulatedDevice, requests: list[int]) -> list[str]:
    """What becomes of each request that fails with each error: frames were read, or the message."""
    said = []
    for request in requests:
        for code in ERRORS:
            device.set(fail=f"{request} {code}")
            try:
                with V4l2Source(device.path, read_seconds=0.05) as source:
                    said.append("" if [next(source), next(source)] else "nothing")
            except StreamsegError as error:
                said.append(str(error))
    return said


def test_every_request_may_fail_with_every_error(device: EmulatedDevice, child: Child) -> None:
    """One that always said that a signal had interrupted it held its thread for ever."""
    device.offer([Mode(rate=FAST)])
    requests = [getattr(structs, name) & 0xFF for name in OPENING]
    said = child.run(failing, requests)
    assert len(said) == len(OPENING) * len(ERRORS)
    for number, message in enumerate(said):
        name, code = OPENING[number // len(ERRORS)], ERRORS[number % len(ERRORS)]
        lacks = name == "QUERY_DV_TIMINGS" and code == errno.EINVAL
        ends_a_list = name == "ENUM_FMT" and code == errno.EINVAL
        assert (message == "") is (lacks or ends_a_list), (name, errno.errorcode[code], message)
        assert not message or (message.startswith(PATH) and "\n" not in message), message


def test_requests_that_frames_do_not_depend_on_may_fail(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode(rate=FAST)])
    requests = [getattr(structs, name) & 0xFF for name in DISPENSABLE if name != "DQEVENT"]
    assert set(child.run(failing, requests)) == {""}


def test_requests_that_fail_while_frames_are_read(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode(rate=FAST)])
    for name in READING:
        for code in (errno.EIO, errno.EINTR, errno.EPIPE):
            changes = {"fail": f"{getattr(structs, name) & 0xFF} {code}"}
            message, took, _, after = child.run(fault, changes, 60)
            assert message.startswith(PATH)
            assert took < 30
            assert after == []
            device.set(fail="0 0")


def test_a_format_that_the_driver_sets_to_another_size(device: EmulatedDevice, child: Child) -> None:
    def sizes(device: EmulatedDevice, wanted: list[int] | None) -> list[Any]:
        with V4l2Source(device.path, size=None if wanted is None else (wanted[0], wanted[1])) as source:
            return [next(source).image.shape[:2], [source.info.height, source.info.width]]

    device.offer([Mode(width=320, height=240, rate=FAST), Mode(rate=FAST)], answer="160 120")
    assert child.run(sizes, None) == [[120, 160], [120, 160]]
    assert child.run(sizes, [320, 240]) == (
        f"UsageError: {PATH} was asked for yuyv 320x240 but set yuyv 160x120; request that"
    )


@pytest.mark.parametrize(("code", "used"), [("YUYV", 0), ("MJPG", 0), ("YUYV", 1000)])
def test_buffers_that_say_to_hold_too_little(
    device: EmulatedDevice, child: Child, code: str, used: int
) -> None:
    device.offer([Mode(code, rate=FAST)])
    message, _, damaged, _ = child.run(fault, {"used": str(used)}, 0.3)
    assert "delivered only damaged frames (" in message
    assert damaged >= 1


def shown(device: EmulatedDevice) -> list[Any]:
    """How much each of five frames differs from what it shows; the frames that were damaged and skipped."""
    with V4l2Source(device.path) as source:
        images = [next(source).image for _ in range(5)]
        drawn = [picture(number_of(image), *image.shape[:2]) for image in images]
        pairs = zip(images, drawn, strict=True)
        apart = [float(np.abs(a.astype(np.int16) - b).mean()) for a, b in pairs]
        return [apart, source.damaged, source.skipped]


@pytest.mark.parametrize(("code", "planes"), [("YUYV", None), ("MJPG", None), ("NM12", "2"), ("YM12", "3")])
def test_buffers_that_say_to_hold_more_than_a_frame(
    device: EmulatedDevice, child: Child, code: str, planes: str | None
) -> None:
    """The planes of a multi-planar device were put together with what filled their last page."""
    settings = {"used": str(1 << 30)} | ({} if planes is None else {"planes": planes})
    device.offer([Mode(code, rate=FAST)], **settings)
    apart, damaged, _ = child.run(shown)
    assert max(apart) < 15
    assert damaged == 0


def test_frames_that_the_driver_lost_are_counted(device: EmulatedDevice, child: Child) -> None:
    device.offer([Mode(rate=FAST)], lost=2)
    _, _, skipped = child.run(shown)
    assert skipped >= 8
