"""Samples of every compression and colour become the right images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from tests.capture.dicoms import sample, write_dicom
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
