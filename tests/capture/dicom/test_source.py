"""DICOM files: complete, cut, damaged or without an image, and never naming the patient."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import dcmread, filereader
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    MPEG4HP41,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
)

from streamseg.capture import open_source
from streamseg.capture.dicom.source import readable_syntaxes
from streamseg.capture.dicom.video import VIDEO_SYNTAXES
from streamseg.core.errors import MissingExtra, SourceCut, SourceError, StreamsegError
from streamseg.core.types import Roi
from tests.capture.dicoms import FOLDERS, encoded, jpeg, sample, write_dicom
from tests.capture.media import number_of, picture, read_all


@pytest.mark.parametrize("kind", ["plain", "jpeg", "rle", "deflated"])
def test_every_frame_comes_once(kind: str, tmp_path: Path) -> None:
    frames, error = read_all(encoded(kind, 7, tmp_path / "cine.dcm"))
    assert error is None
    assert [(frame.index, number_of(frame.image)) for frame in frames] == [(n, n) for n in range(7)]


@pytest.mark.parametrize("kind", ["plain", "jpeg", "rle"])
def test_a_cut_file_gives_every_complete_frame(kind: str, tmp_path: Path) -> None:
    path = encoded(kind, 10, tmp_path / "cine.dcm")
    data = path.read_bytes()
    for share in (0.35, 0.6, 0.95):
        path.write_bytes(data[: int(len(data) * share)])
        frames, error = read_all(path)
        assert isinstance(error, SourceCut)
        assert "of 10 promised" in str(error)
        assert [number_of(frame.image) for frame in frames] == list(range(len(frames)))
        assert len(frames) in (int(10 * share) - 1, int(10 * share))


def test_a_frame_of_several_fragments_is_joined(tmp_path: Path) -> None:
    cine = [np.ascontiguousarray(picture(n)[..., ::-1]) for n in range(3)]
    pieces = [jpeg(image) for image in cine]
    items = b"".join(
        b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part
        for data in pieces
        for part in (data[:500], data[500:])
    )
    for offsets in ([], [0, 16 + len(pieces[0]), 32 + len(pieces[0]) + len(pieces[1])]):
        table = b"".join(offset.to_bytes(4, "little") for offset in offsets)
        value = (
            b"\xfe\xff\x00\xe0"
            + len(table).to_bytes(4, "little")
            + table
            + items
            + b"\xfe\xff\xdd\xe0"
            + bytes(4)
        )
        path = write_dicom(
            tmp_path / "cine.dcm",
            cine,
            syntax=JPEGBaseline8Bit,
            photometric="YBR_FULL_422",
            encoded=pieces,
            change=lambda data, value=value: setattr(data, "PixelData", value),
        )
        frames, error = read_all(path)
        assert error is None
        assert [number_of(frame.image) for frame in frames] == [0, 1, 2]


def test_a_damaged_frame_is_skipped_and_reported(tmp_path: Path) -> None:
    path = encoded("jpeg", 6, tmp_path / "cine.dcm", lambda data: setattr(data, "FrameTime", "40"))
    data = bytearray(path.read_bytes())
    start = [at for at in range(len(data)) if data[at : at + 3] == b"\xff\xd8\xff"][2]
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    frames, error = read_all(path)
    assert [number_of(frame.image) for frame in frames] == [0, 1, 3, 4, 5]
    assert [frame.pts_seconds for frame in frames] == [0.0, 0.04, 0.12, 0.16, 0.2]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert type(error) is SourceError
    assert "1 damaged frame" in str(error)


def test_unavailable_compression_names_the_extra(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", [picture(0)], syntax=JPEGLosslessSV1, encoded=[bytes(10)])
    if find_spec("libjpeg") is not None:
        pytest.skip("the optional decoder is installed")
    for file in (path, sample("JPGExtended.dcm")):
        with pytest.raises(MissingExtra, match=r"streamseg\[gpl-codecs\]"):
            open_source(file)


def test_an_undecodable_video_inside_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", [picture(0)], syntax=MPEG4HP41, encoded=[bytes(10)])
    with pytest.raises(SourceError, match="cannot be decoded"):
        open_source(path)


@pytest.mark.parametrize("name", ["reportsi.dcm", "rtplan.dcm", "DICOMDIR-empty.dcm", "nested_priv_SQ.dcm"])
def test_files_without_an_image_are_refused(name: str) -> None:
    folder = FOLDERS[1]
    path = next(folder.rglob(name))
    with pytest.raises(SourceError, match="no image"):
        open_source(path)


def test_a_file_without_pixels_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", [picture(0)], change=lambda data: data.pop("PixelData"))
    with pytest.raises(SourceError, match="no pixel data"):
        open_source(path)


@pytest.mark.parametrize(
    "change",
    [
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 0},
        {"BitsAllocated": 12},
        {"NumberOfFrames": "100000000"},
        {"SamplesPerPixel": 4},
        {"PhotometricInterpretation": "ARGB"},
    ],
)
def test_impossible_headers_are_reported(change: dict[str, object], tmp_path: Path) -> None:
    def apply(data: Dataset) -> None:
        for keyword, value in change.items():
            setattr(data, keyword, value)

    _, error = read_all(write_dicom(tmp_path / "x.dcm", [picture(0)], change=apply))
    assert isinstance(error, SourceError)


def test_the_patient_is_never_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = encoded("jpeg", 3, tmp_path / "cine.dcm")
    whole = path.read_bytes()
    said = []
    for end in range(200, len(whole), 211):
        path.write_bytes(whole[:end])
        try:
            with open_source(path) as source:
                said += [repr(source.info), *map(repr, source)]
        except StreamsegError as error:
            said.append(str(error))
    text = "\n".join([*said, caplog.text])
    assert "Doe" not in text
    assert "SECRET" not in text


@pytest.mark.parametrize("kind", ["plain", "jpeg", "rle", "deflated"])
@pytest.mark.parametrize("stated", [None, 1, 3, 0])
def test_all_frames_come_though_the_header_states_fewer(
    kind: str, stated: int | None, tmp_path: Path
) -> None:
    def change(data: Dataset) -> None:
        if stated is None:
            del data.NumberOfFrames
        else:
            data.NumberOfFrames = stated

    if kind == "rle":
        path = encoded("rle", 7, tmp_path / "cine.dcm")
        data = dcmread(path)
        change(data)
        data.save_as(path)
    else:
        path = encoded(kind, 7, tmp_path / "cine.dcm", change)
    with open_source(path) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(7))
    assert source.info.frame_count == 7


def test_one_frame_of_several_fragments_is_not_a_cine(tmp_path: Path) -> None:
    data = jpeg(np.ascontiguousarray(picture(5)[..., ::-1]))
    path = write_dicom(
        tmp_path / "x.dcm",
        [picture(5)],
        syntax=JPEGBaseline8Bit,
        photometric="YBR_FULL_422",
        encoded=[data],
        change=lambda header: setattr(header, "PixelData", encapsulate([data], fragments_per_frame=3)),
    )
    frames, error = read_all(path)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == [5]


def test_a_frame_of_another_size_than_the_header_says_is_damage(tmp_path: Path) -> None:
    cine = [picture(n) for n in range(3)]
    pieces = [jpeg(image) for image in cine]
    pieces[1] = jpeg(picture(1, 128, 192))
    path = write_dicom(tmp_path / "x.dcm", cine, syntax=JPEGBaseline8Bit, encoded=pieces)
    frames, error = read_all(path)
    assert [number_of(frame.image) for frame in frames] == [0, 2]
    assert "1 damaged frame" in str(error)


def test_samples_that_are_all_there_are_read_though_the_label_says_422(tmp_path: Path) -> None:
    cine = [np.ascontiguousarray(picture(n)[..., ::-1]) for n in range(6)]
    luma = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb), np.uint8)[..., [0, 2, 1]] for image in cine]
    path = write_dicom(
        tmp_path / "x.dcm", [np.ascontiguousarray(i) for i in luma], photometric="YBR_FULL_422"
    )
    frames, error = read_all(path)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == list(range(6))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("label", [None, 7])
def test_coloured_samples_without_planar_configuration_are_told_apart(
    planar: int, label: int | None, tmp_path: Path
) -> None:
    """By the rows, because colours tell only in images that are nearly grey."""
    cine = [np.ascontiguousarray(picture(n)[..., ::-1]) for n in range(3)]

    def change(data: Dataset) -> None:
        if planar:
            data.PixelData = b"".join(image.transpose(2, 0, 1).tobytes() for image in cine)
        if label is None:
            del data.PlanarConfiguration
        else:
            data.PlanarConfiguration = label

    frames, error = read_all(write_dicom(tmp_path / "x.dcm", cine, change=change))
    assert error is None
    for frame, image in zip(frames, cine, strict=True):
        assert np.array_equal(frame.image, image[..., ::-1])


def test_colours_that_are_called_grey_are_colours(tmp_path: Path) -> None:
    cine = [np.ascontiguousarray(picture(n)[..., ::-1]) for n in range(2)]
    frames, error = read_all(write_dicom(tmp_path / "x.dcm", cine, photometric="MONOCHROME2"))
    assert error is None
    assert np.array_equal(frames[0].image, picture(0))


@pytest.mark.parametrize("syntax", ["1.2.3.4.5.6", "1.2.840.113619.5.2"])
def test_plain_samples_of_a_private_syntax_are_read(syntax: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", [picture(n)[..., 0].copy() for n in range(3)])
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    frames, error = read_all(path)
    assert (len(frames), error) == (3, None)


def test_a_wrong_offset_table_is_ignored(tmp_path: Path) -> None:
    cine = [np.ascontiguousarray(picture(n)[..., ::-1]) for n in range(5)]

    def change(data: Dataset) -> None:
        data.PixelData = encapsulate([jpeg(image) for image in cine], fragments_per_frame=3)

    path = write_dicom(
        tmp_path / "x.dcm",
        cine,
        syntax=JPEGBaseline8Bit,
        photometric="YBR_FULL_422",
        encoded=[b"\0\0"],
        change=change,
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"\xe0\x7f\x10\0") + 20
    data[at : at + 20] = bytes(range(20))
    path.write_bytes(data)
    frames, error = read_all(path)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == list(range(5))


@pytest.mark.parametrize("values", [{"RescaleSlope": "0"}, {"WindowCenter": "9", "WindowWidth": "0"}])
def test_values_that_would_blacken_a_cine_are_ignored(values: dict[str, str], tmp_path: Path) -> None:
    def change(data: Dataset) -> None:
        for keyword, value in values.items():
            setattr(data, keyword, value)

    frames, error = read_all(write_dicom(tmp_path / "x.dcm", [picture(0)[..., 0].copy()], change=change))
    assert error is None
    assert len(np.unique(frames[0].image)) > 20


@pytest.mark.parametrize("name", ["SC_rgb_jls_lossy_line.dcm", "JPEGLSNearLossless_08.dcm"])
def test_jpeg_ls_is_read(name: str) -> None:
    frames, error = read_all(sample(name))
    assert (len(frames), error) == (1, None)
    assert frames[0].image.std() > 1


def gradient(kind: str) -> np.ndarray:
    """The image from which the codestream of this kind was made."""
    y, x = np.mgrid[:48, :64]
    grey = (x * 3 + y * 2).astype(np.uint8)
    if kind.startswith("rgb"):
        return np.stack([grey, 255 - grey, (y * 5).astype(np.uint8)], -1)
    return (x * 64 + y * 40).astype(np.uint16) if kind.startswith("deep") else grey


@pytest.mark.parametrize(
    ("kind", "syntax", "photometric"),
    [
        ("grey-lossless", HTJ2KLossless, "MONOCHROME2"),
        ("grey-lossless", HTJ2KLosslessRPCL, "MONOCHROME2"),
        ("deep-lossless", HTJ2KLossless, "MONOCHROME2"),
        ("rgb-lossless", HTJ2K, "YBR_RCT"),
        ("grey-lossy", HTJ2K, "MONOCHROME2"),
    ],
)
def test_high_throughput_jpeg_2000_is_read(kind: str, syntax: UID, photometric: str, tmp_path: Path) -> None:
    image = gradient(kind)
    data = (Path(__file__).parent / "htj2k" / f"{kind}.j2c").read_bytes()
    data += bytes(len(data) % 2)
    cine = write_dicom(
        tmp_path / "c.dcm", [image] * 2, syntax=syntax, encoded=[data] * 2, photometric=photometric
    )
    frames, error = read_all(cine)
    expected, _ = read_all(write_dicom(tmp_path / "plain.dcm", [image]))
    assert (len(frames), error) == (2, None)
    tolerance = 3 if kind.endswith("lossy") else 0
    np.testing.assert_allclose(frames[1].image.astype(int), expected[0].image.astype(int), atol=tolerance)


def test_archives_are_offered_what_the_standard_knows_and_we_read() -> None:
    """107.1 and 108.1 were among the syntaxes of videos: HEVC has no fragmentable form."""
    known = {uid for uid, (name, *_) in UID_dictionary.items() if "MPEG" in name or "HEVC" in name}
    assert known == VIDEO_SYNTAXES
    offered = readable_syntaxes()
    assert {HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K} < set(offered)
    for syntax in set(offered) - VIDEO_SYNTAXES:
        assert not syntax.is_compressed or syntax.is_deflated or get_decoder(syntax).is_available


def test_of_thousands_of_regions_the_first_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3000 took 3.8 s, of which the parser of each took a millisecond, twice."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 1, 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = 10, 5
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = 69, 54
    item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = 3, 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.02, 0.02
    many = [item] * 3000
    path = write_dicom(
        tmp_path / "x.dcm",
        [picture(0)[..., 0].copy()],
        change=lambda data: setattr(data, "SequenceOfUltrasoundRegions", many),
    )
    parsed: list[int] = []
    parse = filereader.read_sequence_item

    def count(*arguments: Any, **options: Any) -> Dataset | None:
        parsed.append(1)
        return parse(*arguments, **options)

    monkeypatch.setattr(filereader, "read_sequence_item", count)
    with open_source(path) as source:
        assert source.info.region == Roi(10, 5, 60, 50)
        assert next(iter(source)).spacing_mm == pytest.approx((0.2, 0.2))
    assert len(parsed) <= 65
