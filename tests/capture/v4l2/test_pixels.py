"""Conversion of a grabber's bytes to images."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from streamseg.capture.v4l2.formats import PIXEL_FORMATS
from streamseg.capture.v4l2.pixels import BYTES, BufferConverter, BufferLayout
from streamseg.core.errors import SourceError
from tests.capture.media import jpeg_with_exif, number_of, picture
from tests.capture.v4l2.device import Mode, encode

CODES = PIXEL_FORMATS
WIDTH, HEIGHT = 96, 64


def layout(name: str, **changes: object) -> BufferLayout:
    values = {"width": WIDTH, "height": HEIGHT, "stride": BYTES[name] * WIDTH}
    return BufferLayout(name, **{**values, **changes})  # type: ignore[arg-type]


def sent(name: str) -> np.ndarray:
    return np.frombuffer(encode(picture(9, HEIGHT, WIDTH), Mode(CODES[name], WIDTH, HEIGHT)), np.uint8)


@pytest.mark.parametrize("name", CODES)
def test_padded_rows_are_read_like_others(name: str) -> None:
    data = sent(name)
    whole = BufferConverter(layout(name)).convert(data)
    assert whole is not None
    if name != "mjpeg":
        rows = data.reshape(-1, BYTES[name] * WIDTH)
        if name in ("yu12", "yv12"):  # chroma rows have half the length, and half the padding
            luma, chroma = rows[:HEIGHT], rows[HEIGHT:].reshape(HEIGHT, WIDTH // 2)
            parts = [np.pad(luma, ((0, 0), (0, 32))), np.pad(chroma, ((0, 0), (0, 16)))]
            data = np.concatenate([part.ravel() for part in parts])
        elif name == "nv24":  # chroma rows have twice the length, and twice the padding
            luma, chroma = rows[:HEIGHT], rows[HEIGHT:].reshape(HEIGHT, 2 * WIDTH)
            parts = [np.pad(luma, ((0, 0), (0, 32))), np.pad(chroma, ((0, 0), (0, 64)))]
            data = np.concatenate([part.ravel() for part in parts])
        else:
            data = np.pad(rows, ((0, 0), (0, 32)), constant_values=99).ravel()
        padded = BufferConverter(layout(name, stride=rows.shape[1] + 32)).convert(data)
        assert np.array_equal(padded, whole)


@pytest.mark.parametrize("name", CODES)
def test_the_image_does_not_share_the_buffer(name: str) -> None:
    buffer = sent(name).copy()
    image = BufferConverter(layout(name)).convert(buffer)
    assert image is not None
    before = image.copy()
    buffer[:] = 0
    assert np.array_equal(image, before)


@pytest.mark.parametrize("name", CODES)
def test_an_incomplete_buffer_gives_no_image(name: str) -> None:
    data = sent(name)
    converter = BufferConverter(layout(name))
    for length in [0, 1, 3, *range(4, len(data) - 1, len(data) // 40), len(data) - 1]:
        assert converter.convert(data[:length]) is None, length
    assert converter.convert(data) is not None  # and the next is read again


@pytest.mark.parametrize("name", [name for name in CODES if name not in ("mjpeg", "rgb3", "bgr3", "xr24")])
def test_full_range_and_limited_range_are_distinguished(name: str) -> None:
    """Grey ramp 0..255 as luma: with full range it is the image, else it is expanded and clipped."""
    ramp = np.tile(np.arange(0, 256, 4, np.uint8)[:, None], (1, WIDTH))
    data = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
    data[..., 1 if name == "uyvy" else 0] = ramp
    if name not in ("yuyv", "uyvy", "yvyu"):
        rows = {"nv16": HEIGHT, "nv24": 2 * HEIGHT}.get(name, HEIGHT // 2)
        data = np.concatenate([ramp, np.full((rows, WIDTH), 128, np.uint8)])
    full = BufferConverter(layout(name, full_range=True)).convert(data.ravel())
    limited = BufferConverter(layout(name)).convert(data.ravel())
    assert full is not None
    assert limited is not None
    grey = full if full.ndim == 2 else full[..., 1]
    assert np.abs(grey.astype(int) - ramp).max() <= 1
    if name != "grey":  # which has full range by default
        expanded = np.clip((ramp.astype(float) - 16) * 255 / 219, 0, 255)
        assert np.abs(limited[..., 1] - expanded).max() <= 1.5


def test_a_jpeg_with_a_hole_or_of_another_size_gives_no_image() -> None:
    data = sent("mjpeg")
    converter = BufferConverter(layout("mjpeg"))
    start = len(data) // 2
    assert converter.convert(np.delete(data, slice(start, len(data) - 40))) is None
    assert converter.convert(np.zeros(5000, np.uint8)) is None
    assert BufferConverter(layout("mjpeg", width=2 * WIDTH)).convert(data) is None


def test_a_jpeg_may_be_padded_after_its_end() -> None:
    data = sent("mjpeg")
    converter = BufferConverter(layout("mjpeg"))
    padded = converter.convert(np.pad(data, (0, 999)))
    assert np.array_equal(padded, converter.convert(data))


def test_a_jpeg_without_huffman_tables_uses_the_standard_ones() -> None:
    """Cameras leave them out."""
    data = bytes(cv2.imencode(".jpg", picture(3, HEIGHT, WIDTH))[1])
    lean = bytearray()
    position = 2
    while data[position + 1] != 0xDA:
        length = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] != 0xC4:
            lean += data[position : position + length]
        position += length
    lean = bytearray(data[:2]) + lean + data[position:]
    assert len(lean) < len(data) - 100
    converter = BufferConverter(layout("mjpeg"))
    without = converter.convert(np.frombuffer(lean, np.uint8))
    assert without is not None
    assert np.array_equal(without, converter.convert(np.frombuffer(data, np.uint8)))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("yuyv", {"width": 0}, "not a frame size"),
        ("grey", {"height": 99999}, "not a frame size"),
        ("yuyv", {"width": 95}, "sizes must be even"),
        ("nv12", {"height": 63}, "sizes must be even"),
        ("yuyv", {"height": 63, "field": 5}, "sizes must be even"),
        ("grey", {"height": 63, "field": 6}, "sizes must be even"),
        ("yuyv", {"stride": 96}, "rows of 96 bytes"),
        ("grey", {"field": 2}, "only top fields"),
        ("grey", {"field": 3}, "only bottom fields"),
        ("mjpeg", {"field": 7}, "fields one by one"),
    ],
)
def test_unsupported_layouts_are_refused(name: str, changes: dict[str, int], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        layout(name, **changes)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_jpeg_with_exif_is_read_as_the_driver_describes_it(orientation: int, thumbnail: bool) -> None:
    data = jpeg_with_exif(picture(9, HEIGHT, WIDTH), orientation, thumbnail=thumbnail)
    image = BufferConverter(layout("mjpeg")).convert(np.frombuffer(data, np.uint8))
    assert image is not None
    assert number_of(image) == 9
    cut = np.frombuffer(data[: len(data) * 3 // 4], np.uint8)
    assert BufferConverter(layout("mjpeg")).convert(cut) is None


def test_a_grabber_that_never_sends_the_end_mark_is_read_after_a_few_frames() -> None:
    converter = BufferConverter(layout("mjpeg"))
    data = sent("mjpeg")[:-2]
    seen = [converter.convert(data) is not None for _ in range(8)]
    assert seen == [False] * 5 + [True] * 3
    assert converter.convert(data[: len(data) // 2]) is None
    assert converter.convert(np.pad(data, (0, 100))) is not None  # a buffer of fixed size
    assert converter.convert(sent("mjpeg")) is not None
    assert converter.convert(data) is None  # it does send it


@pytest.mark.parametrize("name", CODES)
def test_pixels_become_square(name: str) -> None:
    image = BufferConverter(layout(name, aspect=Fraction(4, 3))).convert(sent(name))
    assert image is not None
    assert image.shape[:2] == (64, 128)


def test_fields_are_separated_before_pixels_become_square() -> None:
    fields = np.full((HEIGHT, WIDTH), 60, np.uint8)
    fields[1::2] = 180
    converter = BufferConverter(layout("grey", field=8, aspect=Fraction(2, 3)))
    image = converter.convert(fields.ravel())
    assert image is not None
    assert image.shape == (96, 96)
    assert (image == 180).all()


@pytest.mark.parametrize("name", ["rgb3", "bgr3", "xr24"])
def test_limited_range_rgb_is_expanded(name: str) -> None:
    """HDMI sources send red, green and blue of 16..235, too."""
    ramp = np.tile(np.arange(0, 256, 4, np.uint8)[:, None, None], (1, WIDTH, BYTES[name]))
    full = BufferConverter(layout(name)).convert(ramp.ravel())
    limited = BufferConverter(layout(name, limited_rgb=True)).convert(ramp.ravel())
    assert full is not None
    assert limited is not None
    assert np.array_equal(full, ramp[..., :3])
    expanded = np.clip((ramp[..., :3].astype(float) - 16) * 255 / 219, 0, 255)
    assert np.abs(limited - expanded).max() <= 0.51


@pytest.mark.parametrize("name", CODES)
def test_every_format_shows_the_same_colours(name: str) -> None:
    sent_colours = [[200, 40, 40], [40, 200, 40], [40, 40, 200], [220, 220, 220]]
    image = np.repeat(np.array([sent_colours], np.uint8), WIDTH // 4, axis=1).repeat(HEIGHT, axis=0)
    data = np.frombuffer(encode(image, Mode(CODES[name], WIDTH, HEIGHT)), np.uint8)
    seen = BufferConverter(layout(name)).convert(data)
    assert seen is not None
    if name != "grey":
        centres = seen[HEIGHT // 2, WIDTH // 8 :: WIDTH // 4].astype(int)
        assert np.abs(centres - sent_colours).max() <= 4
