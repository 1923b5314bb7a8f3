"""The encoder shared by video sinks and recordings, and how it cuts an unfinished file."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import cv2  # noqa: F401  # Before av.

# isort: split
import av
import numpy as np
import pytest

from streamseg.sinks.encoder import Encoder, cut_unfinished
from streamseg.sinks.target import Target

UNIT = Fraction(1, 1_000_000)


def test_grey_levels_come_back(tmp_path: Path) -> None:
    steps = np.repeat(np.arange(0, 256, 5, dtype=np.uint8), 16)
    image = np.repeat(steps[np.newaxis, :], 32, axis=0)
    encoder = Encoder(Target(tmp_path / "a.mp4", force=False), *image.shape, UNIT, Fraction(30), quality=4)
    assert encoder.last is None
    assert encoder.encode(np.ascontiguousarray(image), Fraction(1, 3))
    assert encoder.last == 333_333
    assert not encoder.encode(np.ascontiguousarray(image), Fraction(1, 3))
    assert encoder.last == 333_334
    encoder.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        first = next(container.decode(video=0))
        assert first.pts * (first.time_base or 0) == Fraction(333_333, 1_000_000)
        found = first.to_ndarray(format="bgr24")
    assert np.abs(found.astype(int) - image[:, :, np.newaxis]).max() <= 4


def test_better_quality_is_closer_and_larger(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96), np.uint8)
    sizes = []
    for quality in (0, 12, 30):
        path = tmp_path / f"{quality}.mp4"
        encoder = Encoder(Target(path, force=False), 64, 96, UNIT, Fraction(30), quality=quality)
        encoder.encode(image, 0)
        encoder.close()
        sizes.append(path.stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.5 * sizes[2]


def test_a_file_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    target = Target(folder / "a.mp4", force=False)
    folder.rmdir()
    with pytest.raises((OSError, av.FFmpegError)):
        Encoder(target, 64, 96, UNIT, Fraction(30))
    assert not folder.exists()


def box(kind: bytes, content: bytes, *, long: bool = False) -> bytes:
    if long:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


HEAD = box(b"ftyp", b"isom") + box(b"moov", b"x" * 20)
FRAGMENT = box(b"moof", b"y" * 30) + box(b"mdat", b"z" * 50)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (HEAD + FRAGMENT + FRAGMENT, 2),
        (HEAD + FRAGMENT + FRAGMENT[:-1], 1),
        (HEAD + FRAGMENT + FRAGMENT[:38], 1),  # The fragment's head is whole, its data missing.
        (HEAD + FRAGMENT + FRAGMENT[:5], 1),
        (HEAD + FRAGMENT[:60], 0),
        (HEAD + FRAGMENT + box(b"moov", b"x" * 100)[:90], 1),
    ],
)
def test_whole_fragments_remain(tmp_path, content, kept):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    cut_unfinished(path)
    assert path.read_bytes() == HEAD + kept * FRAGMENT


def test_64_bit_box_sizes_are_read(tmp_path):
    path = tmp_path / "a.mp4"
    whole = HEAD + box(b"mdat", b"z" * 40, long=True)
    path.write_bytes(whole + box(b"mdat", b"z" * 40, long=True)[:-3])
    cut_unfinished(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"abc", b"\0" * 64, b"not a video at all, but long enough"])
def test_other_files_are_not_changed(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    cut_unfinished(path)
    assert path.read_bytes() == content
