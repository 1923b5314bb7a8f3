"""Files that ask for endless memory or time: each is refused, or read within bounds.

They are read in a process of their own, whose peak memory is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from tests.capture.dicoms import jpeg, write_dicom
from tests.capture.media import picture, read_all, write_video

MAX_MB = 1000
MAX_HELD_S = 1.0
"""Generous, for a slow machine: processor time of the whole process while one of its threads did not run."""
_READ = """
import json, sys, threading, time
from streamseg.capture import open_source
from streamseg.core.errors import StreamsegError
gaps = [time.process_time()]  # of the process: a busy machine does not count
def tick():
    while True:
        time.sleep(0.01)
        gaps.append(time.process_time())
import streamseg.capture.dicom.source, streamseg.capture.images, streamseg.capture.video.source
threading.Thread(target=tick, daemon=True).start()
found = []
for path in sys.argv[2:]:
    count, said, shape = 0, "", None
    del gaps[:-1]
    try:
        with open_source(path) as source:
            for frame in source:
                count, shape = count + 1, frame.image.shape
                if count >= int(sys.argv[1]):
                    break
    except StreamsegError as error:
        said = str(error)
    held = max((b - a for a, b in zip(gaps, gaps[1:])), default=0.0)
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) / 1024
    found.append({"count": count, "said": said, "peak": peak, "shape": shape, "held": held})
print(json.dumps(found))
"""


def read(*paths: Path, most: int = 3, seconds: float = 60) -> list[dict[str, Any]]:
    """Read sources in a process of its own: of each the frames, the message, the peak memory so far in MB,
    and the most processor time that passed while another thread did not run."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(most), *paths],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def small(change: Callable[[Dataset], object] | None = None, **options: object) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        return write_dicom(path / "x.dcm", [picture(0)[..., 0]], change=change, **options)  # type: ignore[arg-type]

    return write


def elements(**values: object) -> Callable[[Dataset], object]:
    def change(data: Dataset) -> None:
        for keyword, value in values.items():
            setattr(data, keyword, value)

    return change


def deflated_bomb(path: Path) -> Path:
    """A cine of 700 MB that deflates to less than 1 MB."""
    frames = 700
    template = write_dicom(
        path / "t.dcm", [np.zeros((1024, 1024), np.uint8)], change=elements(NumberOfFrames=frames)
    ).read_bytes()
    meta = write_dicom(
        path / "m.dcm", [np.zeros((2, 2), np.uint8)], syntax=DeflatedExplicitVRLittleEndian
    ).read_bytes()
    meta = meta[: 132 + 12 + int.from_bytes(meta[140:144], "little")]
    data = template[132 + 12 + int.from_bytes(template[140:144], "little") :]
    at = data.index(b"\xe0\x7f\x10\x00")
    body = data[:at] + b"\xe0\x7f\x10\x00OB\0\0" + (frames << 20).to_bytes(4, "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(body)
    block = bytes(1 << 20)
    packed += b"".join(packer.compress(block) for _ in range(frames)) + packer.flush()
    (path / "bomb.dcm").write_bytes(meta + packed)
    return path / "bomb.dcm"


def many_tiny_frames(path: Path) -> Path:
    file = small(elements(Rows=1, Columns=1, NumberOfFrames=30_000_000))(path)
    return grow_pixels(file, 30_000_000)


def grow_pixels(file: Path, length: int) -> Path:
    """Let the pixel data of a plain file be this long; the file is sparse."""
    data = bytearray(file.read_bytes())
    at = data.index(b"\xe0\x7f\x10\x00") + 8
    data[at : at + 4] = length.to_bytes(4, "little")
    file.write_bytes(data)
    os.truncate(file, at + 4 + length)
    return file


def many_tiny_fragments(path: Path) -> Path:
    file = write_dicom(
        path / "x.dcm",
        [np.zeros((1, 1), np.uint8)],
        syntax=RLELossless,
        encoded=[bytes(2)],
    )
    data = file.read_bytes()
    at = data.rindex(b"\xfe\xff\xdd\xe0")
    item = b"\xfe\xff\x00\xe0" + (2).to_bytes(4, "little") + bytes(2)
    file.write_bytes(data[:at] + item * 3_000_000 + data[at:])
    return file


def rle_bomb(path: Path) -> Path:
    head = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    coded = head + b"\x81\0" * 20_000_000
    return write_dicom(path / "x.dcm", [np.zeros((64, 64), np.uint8)], syntax=RLELossless, encoded=[coded])


def other_size(kind: str) -> Callable[[Path], Path]:
    """A frame of 64x64 whose own header says 12000x12000."""

    def write(path: Path) -> Path:
        if kind == "jpeg":
            coded, syntax = bytearray(jpeg(np.zeros((64, 64), np.uint8))), JPEGBaseline8Bit
            at = coded.index(b"\xff\xc0") + 5
            coded[at : at + 4] = (12_000).to_bytes(2, "big") * 2
        else:
            Pillow.fromarray(np.zeros((64, 64), np.uint8)).save(path / "x.jp2")
            data, syntax = (path / "x.jp2").read_bytes(), JPEG2000Lossless
            coded = bytearray(data[data.index(b"\xff\x4f\xff\x51") :])
            for field in (8, 12, 24, 28):  # the size of the image, and of its tiles
                coded[field : field + 4] = (12_000).to_bytes(4, "big")
        coded += bytes(len(coded) % 2)
        return write_dicom(
            path / "x.dcm", [np.zeros((64, 64), np.uint8)], syntax=syntax, encoded=[bytes(coded)]
        )

    return write


def endless_header(path: Path) -> Path:
    file = small()(path)
    data = file.read_bytes()
    file.write_bytes(data[: data.index(b"\xe0\x7f\x10\x00")])
    os.truncate(file, 20 << 30)
    return file


def giant_element(path: Path) -> Path:
    file = small(elements(FrameTimeVector=["0", "40"]))(path)
    data = bytearray(file.read_bytes())
    at = data.index(b"\x18\x00\x65\x10")
    data[at : at + 8] = b"\x18\x00\x65\x10UT\0\0"
    file.write_bytes(data[: at + 8] + (0xFFFFFF00).to_bytes(4, "little"))
    os.truncate(file, 5 << 30)
    return file


def palette_of_32_bits(path: Path) -> Path:
    return write_dicom(path / "x.dcm", [np.zeros((64, 64), np.uint32)], photometric="PALETTE COLOR")


def gif(width: int, height: int) -> Callable[[Path], Path]:
    """An animation of two pixels on a large screen."""

    def write(path: Path) -> Path:
        size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
        frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
        control = b"\x21\xf9\x04\0\x04\0\0\0"
        head = b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
        (path / "x.gif").write_bytes(head + (control + frame) * 30 + b";")
        return path / "x.gif"

    return write


def huge_video(path: Path) -> Path:
    """MJPEG that says 16384x8192 in its frames."""
    file = write_video(path / "x.avi", 3, codec="mjpeg", pixels="yuvj420p")
    data = file.read_bytes()
    old, new = (
        b"\xff\xc0\0\x11\x08" + h.to_bytes(2, "big") + w.to_bytes(2, "big")
        for h, w in ((64, 96), (8192, 16384))
    )
    assert old in data
    file.write_bytes(data.replace(old, new))
    return file


def png(width: int, height: int, rows: int | None = None) -> Callable[[Path], Path]:
    """A black image, of which only some rows may be there."""

    def write(path: Path) -> Path:
        row = zlib.compressobj(1)
        line = bytes(1 + 3 * width)
        packed = b"".join(row.compress(line) for _ in range(height if rows is None else rows)) + row.flush()
        head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
        parts = ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
        text = b"\x89PNG\r\n\x1a\n"
        for kind, body in parts:
            text += len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        (path / "x.png").write_bytes(text)
        return path / "x.png"

    return write


REFUSED = {
    "3e7 frames": many_tiny_frames,
    "3e6 fragments": many_tiny_fragments,
    "rle bomb": rle_bomb,
    "jpeg of another size": other_size("jpeg"),
    "jpeg 2000 of another size": other_size("jpeg 2000"),
    "endless header": endless_header,
    "giant element": giant_element,
    "large frames of a cine": small(elements(Rows=9000, Columns=9000, NumberOfFrames=2)),
    "32-bit palette": palette_of_32_bits,
    "gif of 117 megapixels": gif(10_800, 10_800),
    "gif of 80 megapixels": gif(9000, 9000),
    "video of 134 megapixels": huge_video,
    "gif of 36 megapixels": gif(6000, 6000),
    "png of 400 megapixels": png(20_000, 20_000, rows=4),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of each file that is to be refused, all read by one process."""
    paths = [write(tmp_path_factory.mktemp("refused")) for write in REFUSED.values()]
    return dict(zip(REFUSED, read(*paths), strict=True))


@pytest.mark.parametrize("kind", REFUSED)
def test_endless_files_are_refused(kind: str, refused: dict[str, dict[str, Any]]) -> None:
    found = refused[kind]
    assert found["said"], found
    assert found["count"] == 0
    assert found["peak"] < MAX_MB
    assert found["held"] < MAX_HELD_S


def test_a_deflated_cine_is_inflated_piece_by_piece(tmp_path: Path) -> None:
    path = deflated_bomb(tmp_path)
    assert path.stat().st_size < 4 << 20
    (found,) = read(path, most=5)
    assert (found["count"], found["said"]) == (5, "")
    assert found["peak"] < 400


def large_video(path: Path) -> Path:
    return write_video(path / "x.avi", 3, codec="mjpeg", pixels="yuvj420p", size=(4096, 4096))


def video_of_8k(path: Path) -> Path:
    return write_video(path / "x.avi", 2, codec="mjpeg", pixels="yuvj420p", size=(7680, 4320))


def large_dicom(path: Path) -> Path:
    return write_dicom(path / "x.dcm", [np.zeros((6400, 6800, 3), np.uint8)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "shape"),
    [
        (png(9000, 9800), [9800, 9000, 3]),
        (large_video, [4096, 4096, 3]),
        (video_of_8k, [4320, 7680, 3]),
        (large_dicom, [6400, 6800, 3]),
    ],
)
def test_the_largest_frames_fit(write: Callable[[Path], Path], shape: list[int], tmp_path: Path) -> None:
    (found,) = read(write(tmp_path))
    assert found["shape"] == shape
    assert found["peak"] < MAX_MB


@pytest.mark.parametrize(
    "keyword", ["NumberOfFrames", "FrameTime", "CineRate", "WindowCenter", "RescaleSlope", "PixelSpacing"]
)
@pytest.mark.parametrize("text", ["1e99999999", "9" * 5000, "1" + "0" * 400, "NaN", "Infinity"])
def test_numbers_without_end_are_ignored(keyword: str, text: str, tmp_path: Path) -> None:
    """Text in place of a number: conversion of `1e99999999` would hold the interpreter for hours."""
    path = small(elements(**{keyword: "1"} if keyword != "PixelSpacing" else {keyword: ["1", "1"]}))(tmp_path)
    data = bytearray(path.read_bytes())
    tag = {
        "NumberOfFrames": b"\x28\x00\x08\x00",
        "FrameTime": b"\x18\x00\x63\x10",
        "CineRate": b"\x18\x00\x40\x00",
        "WindowCenter": b"\x28\x00\x50\x10",
        "RescaleSlope": b"\x28\x00\x53\x10",
        "PixelSpacing": b"\x28\x00\x30\x00",
    }[keyword]
    at = data.index(tag)
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    value = text.encode() + b" " * (len(text) % 2)
    data[at + 6 : at + 8 + length] = len(value).to_bytes(2, "little") + value
    path.write_bytes(data)
    began = time.monotonic()
    frames, error = read_all(path)
    assert time.monotonic() - began < 5
    assert len(frames) == 1 or error is not None


def test_decoded_frames_do_not_gather_until_the_garbage_collector_runs(tmp_path: Path) -> None:
    """PyAV's side data and its frame refer to each other: 30 frames of 16 million pixels took 2 GB."""
    (found,) = read(gif(4096, 4096)(tmp_path), most=30)
    assert found["count"] == 30
    assert found["peak"] < 500
