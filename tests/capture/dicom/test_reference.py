"""What results repeat of a cine is copied byte by byte, and nothing of it is ever printed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage

from streamseg.capture.dicom.reference import read_reference
from streamseg.core.cine import is_uid
from streamseg.core.errors import SourceError, StreamsegError, UsageError
from tests.capture.dicoms import jpeg, sample, write_dicom

UIDS = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.4", "SOPInstanceUID": "1.2.5"}


def cine(path: Path, change: Callable[[Dataset], object] | None = None, **options: object) -> Path:
    def fill(data: Dataset) -> None:
        data.SOPClassUID = UltrasoundMultiFrameImageStorage
        for keyword, uid in UIDS.items():
            setattr(data, keyword, uid)
        if change is not None:
            change(data)

    return write_dicom(path, [np.zeros((6, 8), np.uint8)] * 3, change=fill, **options)  # type: ignore[arg-type]


def test_identity_and_layout(tmp_path: Path) -> None:
    found = read_reference(cine(tmp_path / "a.dcm"))
    assert (found.study_uid, found.series_uid, found.instance_uid) == ("1.2.3", "1.2.4", "1.2.5")
    assert (found.rows, found.columns, found.frames, found.multi_frame) == (6, 8, 3, True)
    assert found.patient_and_study[0x00100020] == b"SECRET-4711 "


@pytest.mark.parametrize(
    "name", ["chrH31.dcm", "chrX2.dcm", "chrKoreanMulti.dcm", "chrRuss.dcm", "chrArab.dcm"]
)
def test_names_in_any_character_set_are_copied_byte_by_byte(tmp_path: Path, name: str) -> None:
    from pydicom.data import get_charset_files

    (path,) = get_charset_files(name)
    data = dcmread(path)
    raw = data.get_item("PatientName").value  # type: ignore[union-attr]
    from streamseg.capture.dicom import reference

    header = dcmread(path, specific_tags=["SpecificCharacterSet", "PatientName"])
    found = reference._encoded(name, header, ("SpecificCharacterSet", "PatientName"))
    assert found[0x00100010] == raw
    sets = found[0x00080005].decode().split("\\")
    stated = data.SpecificCharacterSet
    assert sets == ([stated] if isinstance(stated, str) else list(stated))


def test_nothing_of_the_patient_is_printed(tmp_path: Path) -> None:
    found = read_reference(cine(tmp_path / "a.dcm"))
    assert "SECRET" not in repr(found) + str(found)
    assert "Doe" not in repr(found)


def test_real_cines_can_be_referred_to() -> None:
    found = read_reference(sample("color3d_jpeg_baseline.dcm"))
    assert (found.rows, found.columns, found.frames) == (480, 640, 120)
    assert found.compression


@pytest.mark.parametrize(("stated", "says"), [("", b"01"), ("00", b"00"), ("01", b"01")])
def test_losses_are_those_of_the_syntax_where_the_header_does_not_say(
    tmp_path: Path, stated: str, says: bytes
) -> None:
    image = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    uids = {**UIDS, "SOPClassUID": UltrasoundMultiFrameImageStorage, "LossyImageCompression": stated}

    def fill(data: Dataset) -> None:
        for keyword, value in uids.items():
            setattr(data, keyword, value)

    path = write_dicom(
        tmp_path / "a.dcm", [image], syntax=JPEGBaseline8Bit, encoded=[jpeg(image)], change=fill
    )
    found = read_reference(path).compression
    assert found[0x00282110] == says
    if not stated:
        assert found[0x00282114] == b"ISO_10918_1"
        assert 1 < float(found[0x00282112]) < 3
    assert read_reference(cine(tmp_path / "plain.dcm")).compression == {}


def test_a_file_in_another_encoding_is_read_alike(tmp_path: Path) -> None:
    plain = read_reference(cine(tmp_path / "a.dcm"))
    other = read_reference(cine(tmp_path / "b.dcm", syntax=ImplicitVRLittleEndian))
    assert plain == other


@pytest.mark.parametrize("keyword", [*UIDS, "SOPClassUID"])
@pytest.mark.parametrize("uid", ["", "../../etc/passwd", "1.2/3", "1." * 40 + "1"])
def test_a_cine_without_valid_uids_is_refused(tmp_path: Path, keyword: str, uid: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = cine(tmp_path / "a.dcm", lambda data: setattr(data, keyword, uid))
    with pytest.raises(SourceError, match=keyword):
        read_reference(path)


def test_damaged_elements_are_refused_without_showing_them(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = cine(tmp_path / "a.dcm", lambda data: setattr(data, "StudyDescription", "SECRET" * 5000))
    with pytest.raises(SourceError, match="StudyDescription") as caught:
        read_reference(path)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("content", [b"no dicom at all" * 100, b"\0" * 5000])
def test_what_is_not_dicom_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(StreamsegError):
        read_reference(path)
    with pytest.raises(UsageError, match="no such file"):
        read_reference(tmp_path / "b.dcm")


def test_uids() -> None:
    good = ("1.2", "1.2.840.10008.1.2", "2.25." + "1" * 39, "1.02")
    bad = ("", "1", ".1", "1.", "1..2", "1.a", "1.2\n", "1.2 ", "../1", "1.2/3", "1.٣", "1." + "2" * 63)
    assert all(map(is_uid, good))
    assert not any(map(is_uid, bad))
