"""The driver's interface as we write it down is the one of the kernel's header."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from streamseg.capture.v4l2 import structs as v4l2_structs
from streamseg.capture.v4l2.driver import Driver, DriverError

STRUCTURES = {
    "Capability": ("v4l2_capability", "card capabilities device_caps"),
    "FormatDescription": ("v4l2_fmtdesc", "description pixelformat"),
    "FrameSize": ("v4l2_frmsizeenum", "pixelformat:pixel_format kind:type values:discrete"),
    "FrameInterval": ("v4l2_frmivalenum", "width height kind:type values:discrete"),
    "PixFormat": ("v4l2_pix_format", "field bytesperline colorspace priv quantization"),
    "PlaneFormat": ("v4l2_plane_pix_format", "sizeimage bytesperline"),
    "PixFormatMplane": ("v4l2_pix_format_mplane", "field colorspace plane_fmt num_planes quantization"),
    "Plane": ("v4l2_plane", "bytesused length m data_offset"),
    "CropCapability": ("v4l2_cropcap", "defrect aspect:pixelaspect"),
    "DvTimings": ("v4l2_dv_timings", "width:bt.width height:bt.height"),
    "EventSubscription": ("v4l2_event_subscription", "type flags"),
    "Event": ("v4l2_event", "type data:u pending sequence seconds:timestamp.tv_sec id"),
    "Format": ("v4l2_format", "type fmt"),
    "CaptureParameters": (
        "v4l2_streamparm",
        "capability:parm.capture.capability numerator:parm.capture.timeperframe.numerator",
    ),
    "Input": ("v4l2_input", "status"),
    "RequestBuffers": ("v4l2_requestbuffers", "memory"),
    "Buffer": (
        "v4l2_buffer",
        "flags field seconds:timestamp.tv_sec microseconds:timestamp.tv_usec sequence m length",
    ),
}
IOCTLS = [
    *(
        "QUERYCAP",
        "ENUM_FMT",
        "G_FMT",
        "S_FMT",
        "REQBUFS",
        "QUERYBUF",
        "QBUF",
        "DQBUF",
        "STREAMON",
        "STREAMOFF",
    ),
    *("CROPCAP", "QUERY_DV_TIMINGS", "S_DV_TIMINGS", "SUBSCRIBE_EVENT", "DQEVENT"),
    *("G_PARM", "S_PARM", "ENUMINPUT", "G_INPUT", "ENUM_FRAMESIZES", "ENUM_FRAMEINTERVALS"),
]
FLAGS = {
    "CAPTURE": "V4L2_BUF_TYPE_VIDEO_CAPTURE",
    "CAPTURE_MPLANE": "V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE",
    "EVENT_SOURCE_CHANGE": "V4L2_EVENT_SOURCE_CHANGE",
    "MEMORY_MMAP": "V4L2_MEMORY_MMAP",
    "CAP_CAPTURE": "V4L2_CAP_VIDEO_CAPTURE",
    "CAP_CAPTURE_MPLANE": "V4L2_CAP_VIDEO_CAPTURE_MPLANE",
    "CAP_STREAMING": "V4L2_CAP_STREAMING",
    "CAP_DEVICE_CAPS": "V4L2_CAP_DEVICE_CAPS",
    "BUF_ERROR": "V4L2_BUF_FLAG_ERROR",
    "BUF_CLOCK": "V4L2_BUF_FLAG_TIMESTAMP_MASK",
    "BUF_MONOTONIC": "V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC",
}


def test_numbers_and_layouts_are_those_of_the_header(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").is_file():
        pytest.skip("gcc and linux/videodev2.h are not here")
    expected: dict[str, int] = {}
    for name, flag in {**{name: f"VIDIOC_{name}" for name in IOCTLS}, **FLAGS}.items():
        expected[f"(uint32_t){flag}"] = getattr(v4l2_structs, name)
    for name, (theirs, members) in STRUCTURES.items():
        ours = getattr(v4l2_structs, name)
        expected[f"sizeof(struct {theirs})"] = ctypes.sizeof(ours)
        for member in members.split():
            own, _, other = member.partition(":")
            expected[f"offsetof(struct {theirs}, {other or own})"] = getattr(ours, own).offset
    lines = "\n".join(f'printf("%llu\\n", (unsigned long long)({what}));' for what in expected)
    headers = "".join(
        f"#include <{name}>\n" for name in ("stddef.h", "stdint.h", "stdio.h", "linux/videodev2.h")
    )
    (tmp_path / "ask.c").write_text(headers + "int main(void) {\n" + lines + "\nreturn 0;\n}\n")
    subprocess.run([compiler, "-o", tmp_path / "ask", tmp_path / "ask.c"], check=True, timeout=60)
    answer = subprocess.run([tmp_path / "ask"], check=True, timeout=60, capture_output=True, text=True).stdout
    assert dict(zip(expected, map(int, answer.split()), strict=True)) == expected


def test_a_file_that_is_no_device_says_so() -> None:
    driver = Driver("/dev/null")
    with pytest.raises(DriverError):
        driver.call(v4l2_structs.QUERYCAP, v4l2_structs.Capability())
    assert not driver.ask(v4l2_structs.QUERYCAP, v4l2_structs.Capability())
    driver.close()
    driver.close()
