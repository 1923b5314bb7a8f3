"""Damaged copies of real files: frames, or one clear error, and nothing else; no crash and no hanging."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from streamseg.core.errors import StreamsegError
from streamseg.core.types import Frame
from tests.capture.dicoms import encoded
from tests.capture.media import picture, read_all, write_video

KINDS = (
    "mp4",
    "fast.mp4",
    "mkv",
    "ts",
    "avi",
    "mpg",
    "png",
    "tif",
    "jpg",
    "plain.dcm",
    "jpeg.dcm",
    "rle.dcm",
)
MAX_SECONDS = 30.0  # of reading one small file, on a machine that is busy with other things


def write_kind(kind: str, folder: Path) -> Path:
    path = folder / f"original.{kind}"
    name, _, suffix = kind.rpartition(".")
    if suffix == "dcm":
        return encoded(name, 4, path)
    if suffix in ("png", "jpg"):
        cv2.imwrite(str(path), picture(3))
        return path
    if suffix == "tif":
        pages = [Pillow.fromarray(picture(number)) for number in range(3)]
        pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
        return path
    codec = {"mpg": "mpeg2video", "avi": "mpeg4"}.get(suffix, "libx264")
    return write_video(path, 12, codec=codec, options={"movflags": "faststart"} if name else None)


def damaged(data: bytes, seed: int) -> bytes:
    """A copy cut off, with flipped bits, with a block zeroed or filled with noise, or with a part missing."""
    random = np.random.default_rng(seed)
    copy = bytearray(data)
    at = int(random.integers(len(copy)))
    length = int(random.integers(1, max(2, len(copy) // 8)))
    match seed % 5:
        case 0:
            del copy[at:]
        case 1:
            for place in random.integers(len(copy), size=int(random.integers(1, 40))):
                copy[place] ^= 1 << int(random.integers(8))
        case 2:
            copy[at : at + length] = bytes(len(copy[at : at + length]))
        case 3:
            copy[at : at + length] = random.bytes(len(copy[at : at + length]))
        case 4:
            del copy[at : at + length]
    if seed % 3 == 0:  # headers are where the damage hurts most
        for place in random.integers(min(400, max(1, len(copy))), size=2):
            copy[place : place + 1] = random.bytes(len(copy[place : place + 1]))
    return bytes(copy)


def check(path: Path) -> tuple[list[Frame], StreamsegError | None]:
    """Read a file; anything but frames and our own one-line errors fails the test."""
    begun = time.monotonic()
    frames, error = read_all(path)
    assert time.monotonic() - begun < MAX_SECONDS
    assert [frame.index for frame in frames] == list(range(len(frames)))
    if error is not None:
        assert len(str(error).splitlines()) == 1
        assert error.exit_code in (1, 2)
        assert "Traceback" not in str(error)
    return frames, error


def fuzz(kind: str, seeds: range, folder: Path) -> None:
    data = write_kind(kind, folder).read_bytes()
    frames, error = check(folder / f"original.{kind}")
    assert frames
    assert error is None
    path = folder / f"damaged.{kind}"
    for seed in seeds:
        path.write_bytes(damaged(data, seed))
        try:
            check(path)
        except Exception as failure:
            pytest.fail(f"seed {seed} of {kind}: {type(failure).__name__}: {failure}")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_copies(kind: str, tmp_path: Path) -> None:
    fuzz(kind, range(15), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_copies(kind: str, tmp_path: Path) -> None:
    fuzz(kind, range(1000, 1400), tmp_path)
