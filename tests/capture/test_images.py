"""Folders of images and single images."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from streamseg.capture import open_source
from streamseg.core.errors import SourceError, UsageError
from tests.capture.media import SHARED, number_of, picture, read_all


def test_a_folder_is_read_in_natural_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    for number, name in enumerate(["a1.png", "a2.jpg", "a10.bmp", "b.TIF"]):
        cv2.imwrite(str(tmp_path / name), picture(number))
    cv2.imwrite(str(tmp_path / ".hidden.png"), picture(9))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    with open_source(tmp_path) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert {frame.pts_seconds for frame in frames} == {None}
    assert (source.info.name, source.info.rate, source.info.time_base) == (tmp_path.name, None, None)


def test_sizes_may_differ(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((40, 50), np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((30, 70, 3), np.uint8))
    with open_source(tmp_path) as source:
        shapes = [frame.image.shape for frame in source]
    assert shapes == [(40, 50), (30, 70, 3)]
    assert (source.info.height, source.info.width, source.info.frame_count) == (40, 50, 2)


def test_every_page_of_a_tiff_is_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    pages = [Pillow.fromarray(picture(number)[..., 0]) for number in range(4)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with open_source(path) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert source.info.frame_count == 4


def _palette(colours: list[int]) -> Pillow.Image:
    image = Pillow.new("P", (4, 2))
    image.putpalette(colours)
    image.putdata([0, 1, 2, 0, 1, 2, 0, 1])
    return image


KINDS = {
    "grey": (Pillow.new("L", (4, 2), 77), [77]),
    "one bit": (Pillow.new("1", (4, 2), 1), [255]),
    "16 bits": (Pillow.fromarray(np.full((2, 4), 65535 // 3, np.uint16)), [85]),
    "32-bit float": (Pillow.fromarray(np.full((2, 4), 0.5, np.float32)), [128]),
    "grey with alpha": (Pillow.new("LA", (4, 2), (200, 128)), [100]),
    "colour": (Pillow.new("RGB", (4, 2), (10, 20, 30)), [30, 20, 10]),
    "colour with alpha": (Pillow.new("RGBA", (4, 2), (10, 20, 30, 0)), [0, 0, 0]),
    "printing colours": (Pillow.new("CMYK", (4, 2), (255, 255, 0, 0)), [255, 0, 0]),
    "palette of colours": (_palette([10, 20, 30, 10, 20, 30, 10, 20, 30]), [30, 20, 10]),
    "palette of greys": (_palette([5, 5, 5, 5, 5, 5, 5, 5, 5]), [5]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_eight_bits(kind: str, tmp_path: Path) -> None:
    image, expected = KINDS[kind]
    path = tmp_path / "image.tif"
    if image.mode in ("P", "RGBA"):
        path = path.with_suffix(".png")
    image.save(path)
    frames, error = read_all(path)
    assert error is None
    assert frames[0].image.shape == ((2, 4) if len(expected) == 1 else (2, 4, 3))
    assert frames[0].image[0, 0].tolist() == (expected[0] if len(expected) == 1 else expected)


def test_the_orientation_tag_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Pillow.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise
    Pillow.fromarray(picture(5)[..., ::-1]).save(path, exif=exif, quality=95)
    frames, _ = read_all(path)
    assert number_of(np.rot90(frames[0].image)) == 5


def test_an_unreadable_image_is_reported_after_those_before_it(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    data = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(data[: len(data) // 2])
    frames, error = read_all(tmp_path)
    assert len(frames) == 2
    assert isinstance(error, SourceError)
    assert "2.png" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"text, not an image", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_not_images_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"image\.png"):
        open_source(path)


def test_images_cannot_start_in_the_middle(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), picture(1))
    with pytest.raises(UsageError, match="no times"):
        open_source(tmp_path, start_seconds=1.0)


IMAGES = sorted((SHARED / "usgra-seg").rglob("*.png"))


@pytest.mark.skipif(not IMAGES, reason="needs the images in ../shared/data/usgra-seg")
def test_real_images_keep_their_size(tmp_path: Path) -> None:
    for path in IMAGES[:6]:
        shutil.copy(path, tmp_path)
    frames, error = read_all(tmp_path)
    assert error is None
    for frame, path in zip(frames, IMAGES[:6], strict=True):
        with Pillow.open(path) as image:
            assert frame.image.shape[:2] == image.size[::-1]


@pytest.mark.parametrize(
    ("file", "options", "shape"),
    [
        ("x.png", {"dpi": (100, 150)}, (64, 144)),
        ("x.png", {"dpi": (150, 100)}, (96, 96)),
        ("x.jpg", {"dpi": (100, 150)}, (64, 144)),
        ("x.tif", {"dpi": (100, 150)}, (64, 144)),
        ("x.png", {"dpi": (300, 300)}, (64, 96)),
        ("x.png", {}, (64, 96)),
        ("x.png", {"dpi": (1, 9000)}, (64, 96)),  # damage
    ],
)
def test_pixels_become_square(
    file: str, options: dict[str, tuple[int, int]], shape: tuple[int, int], tmp_path: Path
) -> None:
    image = Pillow.fromarray(picture(3)[..., ::-1])
    image.save(tmp_path / file, **options)
    with open_source(tmp_path / file) as source:
        frames = list(source)
    assert frames[0].image.shape[:2] == shape
    assert (source.info.height, source.info.width) == shape


def test_a_turned_image_becomes_square_along_the_right_side(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    image = Pillow.fromarray(picture(3)[..., ::-1])
    image.save(tmp_path / "x.jpg", exif=exif, dpi=(100, 150))
    frames, _ = read_all(tmp_path / "x.jpg")
    assert frames[0].image.shape[:2] == (144, 64)


@pytest.mark.parametrize("name", ["clip.png", "clip.webp", "clip.avif"])
def test_every_frame_of_an_animation_is_read(name: str, tmp_path: Path) -> None:
    pages = [Pillow.fromarray(np.ascontiguousarray(picture(number)[..., ::-1])) for number in range(5)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], duration=40)
    frames, error = read_all(tmp_path / name)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3, 4]


def test_a_thumbnail_in_a_tiff_is_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    page = Pillow.fromarray(picture(3)[..., 0])
    small = page.resize((24, 16))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(path, save_all=True, append_images=[small])
    frames, error = read_all(path)
    assert (len(frames), error) == (1, None)


def test_no_program_is_started_for_an_image(tmp_path: Path) -> None:
    """Pillow reads PostScript, whatever the file's name, by Ghostscript."""
    path = tmp_path / "image.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(SourceError, match="not an image"):
        open_source(path)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists a process's libraries")
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_no_library_prints_what_is_wrong_with_a_file(
    compression: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libtiff prints lines of its own, which nothing makes printable."""
    path = tmp_path / "x.tif"
    Pillow.fromarray(picture(0)).save(path, compression=compression)
    data = path.read_bytes()
    at = data.index(b"\x15\x01\x03\x00")  # samples per pixel
    path.write_bytes(data[: at + 8] + b"\xa9" + data[at + 9 :])
    read_all(path)
    for start in range(8, len(data) - 40, max(1, len(data) // 20)):
        path.write_bytes(data[:start] + b"\x87" * 30 + data[start + 30 :])
        read_all(path)
    assert capfd.readouterr() == ("", "")
