"""Samples of every compression and colour become the right images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom.data
import pytest
from PIL import Image as Pillow
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from tests.capture.dicoms import jpeg, sample, write_dicom
from tests.capture.media import read_all


def reference(path: Path, number: int) -> np.ndarray:
    """One frame, RGB, by pydicom's own path."""
    frame = pixel_array(dcmread(path), index=number)
    return (frame >> 8).astype(np.uint8) if frame.dtype.itemsize == 2 else frame


@pytest.mark.parametrize(
    "name",
    [
        "examples_ybr_color.dcm",  # JPEG baseline, YBR_FULL_422
        "examples_jpeg2k.dcm",  # YBR_RCT
        "US1_J2KI.dcm",  # YBR_ICT
        "examples_rgb_color.dcm",
        "ExplVR_BigEnd.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_rgb_rle_2frame.dcm",
        "SC_rgb_rle_16bit_2frame.dcm",
        "SC_rgb_expb_16bit_2frame.dcm",
        "SC_ybr_full_uncompressed.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",  # YBR_FULL
        "SC_rgb_jpeg.dcm",  # compressed, but written without types
        "color-px.dcm",
        "color-pl.dcm",  # planar configuration 1
    ],
)
@pytest.mark.filterwarnings("ignore")  # pydicom, in the reference
def test_colours_equal_those_of_pydicom(name: str) -> None:
    frames, error = read_all(sample(name))
    assert error is None
    number = len(frames) // 2
    expected = reference(sample(name), number)
    if name.startswith("color-p"):  # its pixels are 3 wide and 4 high
        assert expected.shape == (120, 256, 3)
        expected = cv2.resize(expected, (256, 160))
    assert np.abs(frames[number].image[..., ::-1].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "name", ["examples_palette.dcm", "OBXXXX1A_rle_2frame.dcm", "gdcm-US-ALOKA-16_big.dcm"]
)
@pytest.mark.filterwarnings("ignore")
def test_palettes_are_looked_up(name: str) -> None:
    frames, error = read_all(sample(name))
    data = dcmread(sample(name))
    first = pixel_array(data) if data.get("NumberOfFrames", 1) == 1 else pixel_array(data)[0]
    colours = pydicom.pixels.apply_color_lut(first, data)
    expected = colours >> 8 if colours.max() > 255 else colours
    assert error is None
    assert np.array_equal(frames[0].image[..., ::-1], expected)


@pytest.mark.parametrize(
    "name", ["image_dfl.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm"]
)
def test_grey_is_two_dimensional(name: str) -> None:
    frames, error = read_all(sample(name))
    assert error is None
    assert frames[0].image.ndim == 2
    assert frames[0].image.max() > frames[0].image.min()


@pytest.mark.parametrize(
    ("name", "slope", "intercept"), [("MR2_UNCI.dcm", 3.774114, 0.000061), ("RG1_UNCI.dcm", 1, 0)]
)
def test_the_window_of_a_real_file_is_applied(name: str, slope: float, intercept: float) -> None:
    data = dcmread(sample(name))
    center, width = float(data.WindowCenter), float(data.WindowWidth)
    values = pixel_array(data) * slope + intercept
    expected = np.clip(((values - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)
    if data.PhotometricInterpretation == "MONOCHROME1":
        expected = 255 - expected
    frames, _ = read_all(sample(name))
    assert np.abs(frames[0].image - expected).max() <= 0.501


def grey_of(values: list[int], kind: str, tmp_path: Path, change: Callable[[Dataset], object]) -> list[int]:
    frames, error = read_all(write_dicom(tmp_path / "grey.dcm", [np.array([values], kind)], change=change))
    assert error is None
    return frames[0].image[0].tolist()


def test_grey_values_are_mapped_by_the_standard(tmp_path: Path) -> None:
    def window(data: Dataset) -> None:
        data.WindowCenter, data.WindowWidth = 200, 101
        data.RescaleSlope, data.RescaleIntercept = 2, 10

    assert grey_of([0, 70, 95, 120, 300, 0], "u2", tmp_path, window) == [0, 1, 129, 255, 255, 0]
    assert grey_of([0, 100, 255, 0], "u1", tmp_path, lambda data: None) == [0, 100, 255, 0]
    invert = lambda data: setattr(data, "PhotometricInterpretation", "MONOCHROME1")  # noqa: E731
    assert grey_of([0, 100, 255, 0], "u1", tmp_path, invert) == [255, 155, 0, 255]
    assert grey_of([-100, 10, 100, -100], "i2", tmp_path, lambda data: None) == [0, 140, 255, 0]


def test_the_grey_scale_of_the_first_frame_applies_to_all(tmp_path: Path) -> None:
    cine = [np.array([[0, 1000, 0, 0]], np.uint16), np.array([[500, 500, 500, 2000]], np.uint16)]
    frames, _ = read_all(write_dicom(tmp_path / "cine.dcm", cine))
    assert frames[1].image.tolist() == [[128, 128, 128, 255]]


GREY_IMAGE = np.repeat(np.linspace(20, 230, 96).astype(np.uint8)[None], 64, axis=0)


def jpeg_bytes(image: np.ndarray, *, space: str, marker: bool) -> bytes:
    """A colour JPEG with its components stored as RGB or YCbCr, with or without the JFIF or Adobe marker."""
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=95, keep_rgb=space == "RGB", subsampling=0)
    data = bytearray(buffer.getvalue())
    if not marker:
        for start in (b"\xff\xe0", b"\xff\xee"):
            while (at := data.find(start, 0, 60)) >= 0:
                del data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        for ids in (data.find(b"\xff\xc0") + 10, data.find(b"\xff\xda") + 5):  # RGB would be a mark, too
            step = 3 if data[ids - 10 : ids - 8] == b"\xff\xc0" else 2
            for number in range(3):
                data[ids + step * number] = number + 1
    return bytes(data) + bytes(len(data) % 2)


@pytest.mark.parametrize("marker", [True, False])
@pytest.mark.parametrize("space", ["RGB", "YCbCr"])
@pytest.mark.parametrize("label", ["RGB", "YBR_FULL_422", "YBR_FULL"])
def test_a_jpeg_whose_label_disagrees_keeps_its_grey(
    label: str, space: str, marker: bool, tmp_path: Path
) -> None:
    if not marker and (label == "RGB") != (space == "RGB") and label != "RGB":
        pytest.skip("nothing but the label says how the components are stored, and it is wrong")
    image = np.repeat(GREY_IMAGE[..., None], 3, axis=2)
    coded = jpeg_bytes(image, space=space, marker=marker)
    path = write_dicom(
        tmp_path / "x.dcm", [image], syntax=JPEGBaseline8Bit, photometric=label, encoded=[coded]
    )
    frames, error = read_all(path)
    assert error is None
    assert np.abs(frames[0].image.astype(int) - image).max() <= 4


@pytest.mark.parametrize(
    "label", [JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000, ExplicitVRLittleEndian]
)
def test_a_jpeg_with_the_label_of_another_compression_is_read(label: UID, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", [GREY_IMAGE], syntax=JPEGBaseline8Bit, encoded=[jpeg(GREY_IMAGE)])
    data = path.read_bytes()
    old = JPEGBaseline8Bit.encode()
    new = label.encode()
    at = data.index(old)
    length = len(old) + len(old) % 2
    body = new + b"\0" * (len(new) % 2)
    meta_length = int.from_bytes(data[140:144], "little") + len(body) - length
    text = data[: at - 2] + len(body).to_bytes(2, "little") + body + data[at + length :]
    path.write_bytes(text[:140] + meta_length.to_bytes(4, "little") + text[144:])
    frames, error = read_all(path)
    assert error is None
    assert np.abs(frames[0].image.astype(int) - GREY_IMAGE).max() <= 4


def test_jpeg_2000_with_the_label_of_jpeg_is_read(tmp_path: Path) -> None:
    Pillow.fromarray(GREY_IMAGE).save(tmp_path / "x.jp2")
    data = (tmp_path / "x.jp2").read_bytes()
    coded = data[data.index(b"\xff\x4f\xff\x51") :]
    coded += bytes(len(coded) % 2)
    path = write_dicom(tmp_path / "x.dcm", [GREY_IMAGE], syntax=JPEGBaseline8Bit, encoded=[coded])
    frames, error = read_all(path)
    assert error is None
    assert np.array_equal(frames[0].image, GREY_IMAGE)


def test_grey_labels_of_colour_data_and_the_reverse(tmp_path: Path) -> None:
    colour = np.repeat(GREY_IMAGE[..., None], 3, axis=2)
    for name, image, coded in (("a", GREY_IMAGE, jpeg(colour)), ("b", colour, jpeg(GREY_IMAGE))):
        path = write_dicom(tmp_path / f"{name}.dcm", [image], syntax=JPEGBaseline8Bit, encoded=[coded])
        frames, error = read_all(path)
        assert error is None
        shown = frames[0].image if frames[0].image.ndim == 2 else frames[0].image[..., 0]
        assert np.abs(shown.astype(int) - GREY_IMAGE).max() <= 4


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_without_a_planar_configuration_is_recognised(planar: int, tmp_path: Path) -> None:
    image = np.repeat(GREY_IMAGE[..., None], 3, axis=2).copy()
    image[:8, :8] = (200, 30, 30)
    stored = image if planar == 0 else np.ascontiguousarray(np.moveaxis(image, 2, 0))
    path = write_dicom(
        tmp_path / "x.dcm",
        [image],
        change=lambda data: (
            delattr(data, "PlanarConfiguration"),
            setattr(data, "PixelData", stored.tobytes()),
        ),
    )
    frames, error = read_all(path)
    assert error is None
    assert np.array_equal(frames[0].image[..., ::-1], image)


@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("bits", [8, 10])
def test_stored_bits_may_be_the_highest(low: bool, bits: int, tmp_path: Path) -> None:
    values = (GREY_IMAGE.astype(np.uint16) << (bits - 8)) << (0 if low else 16 - bits)

    def change(data: Dataset) -> None:
        data.BitsStored, data.HighBit = bits, 15

    frames, error = read_all(write_dicom(tmp_path / "x.dcm", [values], change=change))
    assert error is None
    seen = frames[0].image.astype(float)
    expected = GREY_IMAGE.astype(float)
    if bits > 8:  # spread over the range of the frame
        expected = (expected - expected.min()) * 255 / (expected.max() - expected.min())
    assert np.abs(seen - expected).max() <= 1.01
