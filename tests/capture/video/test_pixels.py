"""Conversion of decoded frames to images: range, colour, rotation, deinterlacing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

# isort: split
import av

from streamseg.capture import open_source
from streamseg.capture.video.deinterlace import deinterlace, deinterlace_sequential
from streamseg.capture.video.pixels import DecodedPicture, FrameConverter
from streamseg.core.types import Frame, Roi
from tests.capture.media import (
    HEIGHT,
    WIDTH,
    jpeg_with_exif,
    number_of,
    picture,
    read_all,
    write_mjpeg,
    write_video,
)


@pytest.mark.parametrize("pixels", ["gray", "gray10le", "gray16le"])
def test_grey_stays_grey_with_its_values(pixels: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "grey.mkv", 3, codec="ffv1", pixels=pixels)
    frames, _ = read_all(path)
    expected = av.VideoFrame.from_ndarray(picture(2), format="bgr24").reformat(format="gray").to_ndarray()
    assert frames[2].image.shape == (HEIGHT, WIDTH)
    assert np.abs(frames[2].image.astype(int) - expected).max() <= 1


def test_limited_range_grey_is_expanded(tmp_path: Path) -> None:
    path = tmp_path / "limited.mkv"
    ramp = np.tile(np.arange(16, 236, dtype=np.uint8), (64, 1))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 220, 64, "gray"
        stream.codec_context.color_range = 1
        frame = av.VideoFrame.from_ndarray(ramp, format="gray")
        frame.color_range = 1
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    frames, _ = read_all(path)
    assert (frames[0].image.min(), frames[0].image.max()) == (0, 255)


def test_colours_are_blue_green_red(tmp_path: Path) -> None:
    path = tmp_path / "colour.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        image = np.full((64, 64, 3), (200, 100, 30), np.uint8)
        output.mux(
            stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv444p"))
        )
        output.mux(stream.encode(None))
    frames, _ = read_all(path)
    assert np.abs(frames[0].image.astype(int) - (200, 100, 30)).max() <= 3


@pytest.mark.parametrize(("degrees", "turn"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_applied(degrees: int, turn: int, tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mov", 3, rotation=degrees)
    with open_source(path) as source:
        frames = list(source)
    upright = np.rot90(frames[1].image, -turn)
    assert number_of(upright) == 1
    assert frames[1].image.shape[:2] == (source.info.height, source.info.width)


@pytest.mark.parametrize("shape", [(48, 32), (48, 32, 3), (47, 31), (2, 5, 3), (3, 4), (1, 7)])
@pytest.mark.parametrize("odd", [False, True])
def test_the_kept_lines_stay_and_the_others_are_between_them(shape: tuple[int, ...], odd: bool) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    before = image.copy()
    made = deinterlace(image, odd=odd)
    assert np.array_equal(image, before)
    assert (made.shape, made.dtype) == (image.shape, np.uint8)
    first = int(odd and len(image) > 1)
    assert np.array_equal(made[first::2], image[first::2])
    for row in range(1 - first, len(image), 2):
        near = [image[k].astype(float) for k in (row - 1, row + 1) if 0 <= k < len(image)]
        assert np.abs(made[row] - np.mean(near, axis=0)).max() <= 0.5


@pytest.mark.parametrize("odd", [False, True])
def test_a_vertical_ramp_stays_a_ramp(odd: bool) -> None:
    ramp = np.tile(np.arange(0, 200, 2, np.uint8)[:, None], (1, 8))
    assert np.abs(deinterlace(ramp, odd=odd).astype(int) - ramp).max() <= 2
    assert np.array_equal(deinterlace(ramp, odd=odd)[1:-1], ramp[1:-1])


@pytest.mark.parametrize("odd", [False, True])
def test_the_other_field_is_never_seen(odd: bool) -> None:
    image = np.zeros((64, 16, 3), np.uint8)
    image[1::2] = 255
    assert np.all(deinterlace(image, odd=odd) == (255 if odd else 0))


@pytest.mark.parametrize("odd", [False, True])
def test_fields_one_above_the_other(odd: bool) -> None:
    woven = np.random.default_rng(2).integers(0, 256, (40, 9, 3), np.uint8)
    older, newer = woven[int(not odd) :: 2], woven[int(odd) :: 2]
    stacked = np.concatenate([older, newer])
    assert np.array_equal(deinterlace_sequential(stacked, odd=odd), deinterlace(woven, odd=odd))


@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("file", ["exif.avi", "exif.mov"])
def test_mjpeg_with_exif_is_read_and_turned_upright(file: str, thumbnail: bool, tmp_path: Path) -> None:
    """FFmpeg attaches the EXIF block as side data 31, for which PyAV 18.1 has no name."""
    undo = {
        1: lambda image: image,
        2: lambda image: image[:, ::-1],
        3: lambda image: np.rot90(image, 2),
        6: np.rot90,
    }
    for orientation, back in undo.items():
        coded = [jpeg_with_exif(picture(n), orientation, thumbnail=thumbnail) for n in range(4)]
        frames, error = read_all(write_mjpeg(tmp_path / file, coded))
        assert error is None
        assert [number_of(back(frame.image)) for frame in frames] == [0, 1, 2, 3], orientation


PAL = Fraction(16, 15)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (PAL, (768, 576)),
        (Fraction(64, 45), (1024, 576)),
        (Fraction(8, 9), (720, 648)),
        (Fraction(1), (720, 576)),
        (Fraction(1279, 1280), (720, 576)),  # an encoder's rounding
        (Fraction(1, 1000), (720, 576)),  # damage
        (Fraction(1000), (720, 576)),
    ],
)
@pytest.mark.parametrize("file", ["pal.mp4", "pal.mkv", "pal.ts", "pal.mpg"])
def test_pixels_become_square(file: str, aspect: Fraction, size: tuple[int, int], tmp_path: Path) -> None:
    if file == "pal.mpg" and aspect != 1:
        aspect, size = PAL, (768, 576)  # MPEG-2 knows few aspects, of the display
    codec = "mpeg2video" if file == "pal.mpg" else "libx264"
    path = write_video(tmp_path / file, 3, codec=codec, size=(720, 576), aspect=aspect)
    with open_source(path) as source:
        frames = list(source)
    assert (source.info.width, source.info.height) == size
    assert {frame.image.shape[:2] for frame in frames} == {size[::-1]}
    narrow = cv2.resize(frames[2].image, (720, 576))
    assert number_of(narrow) == 2


def test_square_pixels_are_made_before_the_frame_is_turned(tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mov", 2, size=(96, 64), aspect=Fraction(3, 2), rotation=90)
    frames, _ = read_all(path)
    assert frames[0].image.shape[:2] == (144, 64)


PLANAR = ("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuvj420p", "yuvj422p", "yuvj444p")
SEMI_PLANAR = ("nv12", "nv21", "nv16", "nv24")


def decoded(pixels: str, color_range: int, *, coloured: bool = False, height: int = 46) -> av.VideoFrame:
    """A frame as a decoder returns it: all levels of luma, and no colour, or a red patch."""
    frame = av.VideoFrame(70, height, pixels)
    for plane in frame.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    luma = np.random.default_rng(1).integers(0, 256, (height, frame.planes[0].line_size), np.uint8)
    frame.planes[0].update(luma.tobytes())
    if coloured:
        for plane in frame.planes[1:]:
            rows = np.full((plane.height, plane.line_size), 128, np.uint8)
            rows[: plane.height // 2, : plane.width // 2] = 200
            plane.update(rows.tobytes())
    frame.color_range = color_range
    return frame


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("pixels", [*PLANAR, *SEMI_PLANAR])
def test_the_luma_of_a_decoded_picture_is_its_grey(pixels: str, color_range: int) -> None:
    frame = decoded(pixels, color_range)
    image = FrameConverter().convert(frame)
    picture = FrameConverter().picture(frame)
    assert isinstance(picture, DecodedPicture)
    part = Roi(11, 7, 43, 30)
    expected = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    for roi, step in (Roi.whole(image), 1), (part, 1), (part, 3):
        grey = picture.grey(roi, step)
        # The scaler rounds down, in some rows twice.
        assert np.abs(grey.astype(int) - roi.crop(expected)[::step, ::step]).max() <= 2
    np.testing.assert_array_equal(picture.image, image)
    assert not picture.image.flags.writeable
    np.testing.assert_array_equal(picture.grey(part, 1), FrameConverter().picture(frame).grey(part, 1))


@pytest.mark.parametrize("pixels", [*PLANAR, *SEMI_PLANAR])
def test_colour_is_noticed_where_it_is(pixels: str) -> None:
    picture = FrameConverter().picture(decoded(pixels, 1, coloured=True))
    assert isinstance(picture, DecodedPicture)
    assert not picture.is_colourless(Roi(0, 0, 70, 46), 60, 0.002)
    assert picture.is_colourless(Roi(40, 26, 30, 20), 60, 0.002)
    plain = FrameConverter().picture(decoded(pixels, 1))
    assert isinstance(plain, DecodedPicture)
    assert plain.is_colourless(Roi(0, 0, 70, 46), 60, 0.002)


def test_colours_are_computed_once_and_only_if_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = FrameConverter()
    asked = []
    convert = converter.convert
    monkeypatch.setattr(converter, "convert", lambda *a, **k: (asked.append(1), convert(*a, **k))[1])
    frame = Frame(converter.picture(decoded("yuv420p", 1)), 0, 0)
    assert frame.shape == (46, 70)
    assert frame.grey().shape == (46, 70)
    assert frame.nbytes == 46 * 70 * 3
    assert not frame.is_grey
    assert not asked
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: frame.image, range(8)))
    assert len(asked) == 1
    assert all(image is images[0] for image in images)
    assert replace(frame, index=3).image is images[0]


def noise(pixels: str, height: int, width: int, *, matrix: int = 5, color_range: int = 1) -> av.VideoFrame:
    """A frame as a decoder returns it, with every sample at random."""
    frame = av.VideoFrame(width, height, pixels)
    for plane in frame.planes:
        random = np.random.default_rng(plane.line_size)
        plane.update(random.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


def samples_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """Y, U and V with a sample for each pixel, and perhaps some for pixels outside of the frame."""
    planes = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size) for p in frame.planes]
    if len(planes) == 2:
        luma, both = planes
        planes = [luma, both[:, ::2], both[:, 1::2]]
        if frame.format.name == "nv21":
            planes = [luma, both[:, 1::2], both[:, ::2]]
        widths = [frame.width, *[frame.planes[1].width] * 2]
    else:
        widths = [plane.width for plane in frame.planes]
    factors = [
        (round(frame.height / p.shape[0]), round(frame.width / w))
        for p, w in zip(planes, widths, strict=True)
    ]
    return [p.repeat(down, 0).repeat(across, 1) for p, (down, across) in zip(planes, factors, strict=True)]


PARTS = (Roi(0, 0, 70, 46), Roi(2, 4, 32, 20), Roi(3, 5, 33, 21), Roi(37, 25, 33, 21), Roi(69, 45, 1, 1))


@pytest.mark.parametrize("matrix", [1, 2, 5, 9])
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "nv12", "yuv422p"])
def test_a_part_has_the_colours_of_the_whole(pixels: str, color_range: int, matrix: int) -> None:
    converter = FrameConverter()
    for height, width in ((46, 70), (47, 71)):
        frame = noise(pixels, height, width, matrix=matrix, color_range=color_range)
        image = converter.convert(frame)
        for roi in PARTS:
            picture = converter.picture(frame)
            assert isinstance(picture, DecodedPicture)
            np.testing.assert_array_equal(picture.crop(roi), roi.crop(image))
            np.testing.assert_array_equal(picture.image, image)
            np.testing.assert_array_equal(picture.crop(roi), roi.crop(image))


def test_a_part_is_converted_once_and_the_rest_of_the_frame_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    converter = FrameConverter()
    asked = []
    convert = converter.convert
    monkeypatch.setattr(converter, "convert", lambda *a, **k: (asked.append(1), convert(*a, **k))[1])
    frame, roi = Frame(converter.picture(noise("yuv420p", 46, 70)), 0, 0), Roi(3, 5, 33, 21)
    part = frame.crop(roi)
    assert frame.crop(Roi(3, 5, 33, 21)) is part
    assert not part.flags.writeable
    assert not asked


@pytest.mark.parametrize("matrix", [1, 2, 5])
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("pixels", [*PLANAR, *SEMI_PLANAR])
def test_a_part_in_yuv_has_the_samples_of_the_frame(pixels: str, color_range: int, matrix: int) -> None:
    for height, width in ((46, 70), (47, 71)):
        frame = noise(pixels, height, width, matrix=matrix, color_range=color_range)
        picture = FrameConverter().picture(frame)
        assert isinstance(picture, DecodedPicture)
        luma, *wide = (samples[:height, :width] for samples in samples_of(frame))
        for roi in PARTS:
            part = picture.yuv420(roi)
            assert part.matrix == (5 if matrix == 2 else matrix)
            assert part.full_range == (color_range == 2 or pixels.startswith("yuvj"))
            even = roi.height + roi.height % 2, roi.width + roi.width % 2
            assert part.shape == even
            padding = (0, even[0] - roi.height), (0, even[1] - roi.width)
            expected = np.pad(roi.crop(luma), padding, mode="edge")
            np.testing.assert_array_equal(part.planes[: even[0]], expected)
            chroma = part.planes[even[0] :].reshape(2, even[0] // 2, even[1] // 2)
            for found, samples in zip(chroma, wide, strict=True):
                np.testing.assert_array_equal(found, roi.crop(samples)[::2, ::2])


@pytest.mark.parametrize("pixels", ["rgb24", "gbrp", "yuv420p10le", "yuyv422", "gray"])
def test_other_formats_are_converted_at_once(pixels: str) -> None:
    frame = av.VideoFrame(70, 46, pixels)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    assert isinstance(FrameConverter().picture(frame), np.ndarray)


def test_pixels_that_are_not_square_are_made_square_at_once() -> None:
    picture = FrameConverter().picture(decoded("yuv420p", 1), Fraction(2))
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (46, 140, 3)


def test_a_decoded_picture_outlives_its_source(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", 12)
    with open_source(str(path)) as source:
        frames = list(source)
    assert all(isinstance(frame.pixels, DecodedPicture) for frame in frames)
    for number, frame in enumerate(frames):
        assert number_of(frame.image) == number
