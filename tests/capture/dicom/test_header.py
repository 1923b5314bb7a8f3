"""Frame times, pixel spacing and image region from DICOM headers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from streamseg.capture import open_source
from streamseg.capture.dicom.source import DicomSource
from streamseg.core.errors import UsageError
from streamseg.core.types import Roi
from tests.capture.dicoms import sample, write_dicom
from tests.capture.media import HEIGHT, WIDTH, number_of, picture, read_all


def test_a_real_cine_has_times_spacing_and_region() -> None:
    with open_source(sample("color3d_jpeg_baseline.dcm")) as source:
        frames = list(source)
    info = source.info
    assert (info.frame_count, info.rate, info.height, info.width) == (120, 30, 480, 640)
    assert info.time_base == Fraction("0.033333")
    assert [frame.pts_seconds for frame in frames] == [float(n * info.time_base) for n in range(120)]
    assert info.region == Roi(84, 31, 512, 384)
    assert frames[0].spacing_mm == pytest.approx((0.5105, 0.5105), abs=1e-4)


def timed(tmp_path: Path, **elements: object) -> DicomSource:
    def change(data: Dataset) -> None:
        for keyword, value in elements.items():
            setattr(data, keyword, value)

    source = open_source(write_dicom(tmp_path / "cine.dcm", [picture(n) for n in range(4)], change=change))
    assert isinstance(source, DicomSource)
    return source


@pytest.mark.parametrize(
    ("elements", "times", "rate"),
    [
        ({"FrameTime": "40"}, [0.0, 0.04, 0.08, 0.12], 25),
        ({"FrameTime": "0"}, [None] * 4, None),
        ({"FrameTimeVector": ["0", "40", "60.5", "40"]}, [0.0, 0.04, 0.1005, 0.1405], Fraction(6000, 281)),
        ({"CineRate": "50"}, [0.0, 0.02, 0.04, 0.06], 50),
        ({"RecommendedDisplayFrameRate": "20"}, [0.0, 0.05, 0.1, 0.15], 20),
        ({}, [None] * 4, None),
    ],
)
def test_times_come_from_the_header(
    elements: dict[str, object], times: list[float | None], rate: Fraction | None, tmp_path: Path
) -> None:
    with timed(tmp_path, **elements) as source:
        assert [frame.pts_seconds for frame in source] == times
    assert source.info.rate == (None if rate is None else Fraction(rate).limit_denominator(1001))


def test_start_is_exact_and_relative(tmp_path: Path) -> None:
    timed(tmp_path, FrameTime="40").close()
    frames, _ = read_all(tmp_path / "cine.dcm", start_seconds=0.08)
    assert [(frame.index, number_of(frame.image)) for frame in frames] == [(0, 2), (1, 3)]
    with pytest.raises(UsageError, match="earlier start"):
        open_source(tmp_path / "cine.dcm", start_seconds=1.0)
    timed(tmp_path).close()
    with pytest.raises(UsageError, match="no frame times"):
        open_source(tmp_path / "cine.dcm", start_seconds=0.08)


def region(
    box: tuple[int, int, int, int],
    units: int = 3,
    kind: int = 1,
    delta: float = 0.02,
    *,
    data: int = 1,
    square: bool = False,
) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = kind, data
    item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = (
        box
    )
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta, -delta if square else -2 * delta
    return item


@pytest.mark.parametrize(
    ("regions", "box", "spacing"),
    [
        # Rows are twice as far apart as columns: the frame is made square.
        ([region((10, 5, 59, 44))], Roi(10, 10, 50, 80), (0.2, 0.2)),
        ([region((0, 0, 9, 9)), region((10, 5, 59, 44), delta=0.01)], Roi(10, 10, 50, 80), (0.1, 0.1)),
        ([region((10, 5, 19, 14)), region((0, 0, 95, 63), units=0)], Roi(10, 10, 10, 20), (0.2, 0.2)),
        ([region((10, 5, 59, 44), units=0)], Roi(10, 5, 50, 40), None),
        ([region((10, 5, 59, 44), delta=0)], Roi(10, 5, 50, 40), None),
        ([region((10, 5, WIDTH, HEIGHT))], Roi(10, 10, WIDTH - 10, 2 * HEIGHT - 10), (0.2, 0.2)),
        ([region((10, 5, 2 * WIDTH, HEIGHT))], Roi(10, 5, WIDTH - 10, HEIGHT - 5), None),
        ([region((2 * WIDTH, 5, 3 * WIDTH, HEIGHT))], None, None),
        ([region((10, 5, 59, 44), kind=3)], None, None),  # a spectrum
        ([], None, None),
    ],
)
def test_region_and_spacing(
    regions: list[Dataset], box: Roi | None, spacing: tuple[float, float] | None, tmp_path: Path
) -> None:
    with timed(tmp_path, SequenceOfUltrasoundRegions=regions) as source:
        frame = next(iter(source))
    assert source.info.region == box
    assert frame.spacing_mm == (None if spacing is None else pytest.approx(spacing))


@pytest.mark.parametrize(
    ("regions", "box", "spacing"),
    [
        # Two views: the larger one.
        (
            [region((0, 0, 40, 60), square=True), region((45, 0, 90, 60), square=True)],
            Roi(45, 0, 46, 61),
            0.2,
        ),
        # Only the colour box states a scale: it lies in the image and shares it.
        (
            [region((4, 4, 91, 59), units=0), region((20, 10, 50, 40), data=2, square=True)],
            Roi(4, 4, 88, 56),
            0.2,
        ),
        (
            [region((4, 4, 40, 59), units=0), region((60, 10, 90, 40), data=2, square=True)],
            Roi(4, 4, 37, 56),
            None,
        ),
        ([region((20, 10, 50, 40), data=2, square=True)], Roi(20, 10, 31, 31), 0.2),
        # No scanner has 0.1 micrometres a pixel.
        ([region((4, 4, 91, 59), delta=1e-5, square=True)], Roi(4, 4, 88, 56), None),
        ([region((4, 4, 91, 59), delta=float("nan"), square=True)], Roi(4, 4, 88, 56), None),
        ([region((4, 4, 91, 59), delta=5.0, square=True)], Roi(4, 4, 88, 56), None),
        ([region((10, 5, 59, 44), data=4, square=True)], None, None),
    ],
)
def test_several_regions_and_impossible_scales(
    regions: list[Dataset], box: Roi | None, spacing: float | None, tmp_path: Path
) -> None:
    with timed(tmp_path, SequenceOfUltrasoundRegions=regions) as source:
        frame = next(iter(source))
    assert source.info.region == box
    assert frame.spacing_mm == (None if spacing is None else pytest.approx((spacing, spacing)))


@pytest.mark.parametrize(
    ("elements", "spacing", "shape"),
    [
        ({"PixelSpacing": ["0.3", "0.3"]}, (0.3, 0.3), (64, 96)),
        ({"PixelSpacing": ["0.3", "0.2"]}, (0.2, 0.2), (96, 96)),  # rows are further apart
        ({"PixelSpacing": ["0.2", "0.3"]}, (0.2, 0.2), (64, 144)),
        ({"PixelSpacing": ["0.0", "0.3"]}, None, (64, 96)),
        ({"PixelSpacing": ["300", "300"]}, None, (64, 96)),
        ({"PixelAspectRatio": ["3", "2"]}, None, (96, 96)),  # height to width
        ({"PixelAspectRatio": ["1", "1000"]}, None, (64, 96)),
        ({"PixelAspectRatio": ["0", "1"]}, None, (64, 96)),
    ],
)
def test_spacing_without_regions_and_square_pixels(
    elements: dict[str, list[str]],
    spacing: tuple[float, float] | None,
    shape: tuple[int, int],
    tmp_path: Path,
) -> None:
    with timed(tmp_path, **elements) as source:
        frames = list(source)
    assert {frame.image.shape[:2] for frame in frames} == {shape}
    assert (source.info.height, source.info.width) == shape
    assert frames[0].spacing_mm == (None if spacing is None else pytest.approx(spacing))


def test_an_area_in_millimetres_is_that_of_the_file(tmp_path: Path) -> None:
    """Whatever is done to make pixels square, the frame covers as many square millimetres as before."""
    with timed(tmp_path, SequenceOfUltrasoundRegions=[region((0, 0, WIDTH - 1, HEIGHT - 1))]) as source:
        frame = next(iter(source))
    assert frame.spacing_mm is not None
    height, width = frame.image.shape[:2]
    area = height * width * frame.spacing_mm[0] * frame.spacing_mm[1]
    assert area == pytest.approx(HEIGHT * WIDTH * 0.4 * 0.2)
