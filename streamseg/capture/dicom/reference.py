"""Reads what results must repeat of a cine: the only place that reads elements about a patient.

They are copied as they are encoded, and never decoded, printed or logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from streamseg.capture.dicom.header import frame_count, read_header, translated_errors
from streamseg.capture.dicom.series import DicomSeriesSource, series_of_folder
from streamseg.capture.dicom.video import VIDEO_SYNTAXES, check_frame_count
from streamseg.capture.files import check_readable, is_dicom, is_folder
from streamseg.core.cine import CineReference, is_uid
from streamseg.core.errors import SourceError
from streamseg.core.numbers import read_integer
from streamseg.core.types import Source

_PATIENT_AND_STUDY = """
SpecificCharacterSet PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime PatientSex
OtherPatientNames EthnicGroup PatientAge PatientSize PatientWeight PatientIdentityRemoved
DeidentificationMethod LongitudinalTemporalInformationModified StudyDate StudyTime StudyID AccessionNumber
StudyDescription ReferringPhysicianName TimezoneOffsetFromUTC
""".split()  # noqa: SIM905  # a name on a line of its own would say no more
_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_TAGS = tuple(int(tag_for_keyword(keyword) or 0) for keyword in _COMPRESSION)
_PATIENT_ID = int(tag_for_keyword("PatientID") or 0)
_LOSSY = (
    (JPEGBaseline8Bit, "ISO_10918_1"),
    (JPEGExtended12Bit, "ISO_10918_1"),
    (JPEGLSNearLossless, "ISO_14495_1"),
    (JPEG2000, "ISO_15444_1"),
    ("1.2.840.10008.1.2.4.100", "ISO_13818_2"),
    ("1.2.840.10008.1.2.4.101", "ISO_13818_2"),
    *((f"1.2.840.10008.1.2.4.{number}", "ISO_14496_10") for number in range(102, 107)),
    *((f"1.2.840.10008.1.2.4.{number}", "ISO_23008_2") for number in (107, 108)),
)
"""Beginnings of the UIDs of transfer syntaxes that lose something, and their methods (PS3.3, C.7.6.1.1.5)."""
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_OTHERS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "BurnedInAnnotation",
    "SeriesNumber",
    "Laterality",
)
_MAX_TEXT = 10_240
"""Bytes of one element about patient or study; the longest has 10,240 characters."""


def read_reference(path: Path) -> CineReference:
    """Read a cine's reference from its header, or that of a folder with a series of single-frame files.

    Raises UsageError or SourceError if there is no such file, it is not DICOM, has no valid UIDs, without
    which no archive can file the results, holds a video with another number of frames than it states, or
    files that are no frames of one cine: of several studies, patients, kinds or sizes, or of the same UID.
    """
    if is_folder(path):
        return _read_series(series_of_folder(path), path.resolve().name)
    check_readable(path)
    if not is_dicom(path):
        raise SourceError(f"{path.name} is no DICOM file, in whose study results could be; use --records")
    what = "has no DICOM header that can be read; give a DICOM file, or omit --dicom"
    with translated_errors(path, what), path.open("rb") as file:
        header, syntax, data = read_header(file, (*_PATIENT_AND_STUDY, *_COMPRESSION, *_UIDS, *_OTHERS))
        found = _reference(path.name, header, _compression(path, header, syntax))
        if syntax in VIDEO_SYNTAXES:
            check_frame_count(path, data, found.frames)
        return found


def reference_of(source: Source, path: Path) -> CineReference:
    """The reference of what was opened from a path, to whose frames it fits. Raises as
    :func:`read_reference`, and SourceError if the files of a series changed since."""
    if not isinstance(source, DicomSeriesSource):
        return read_reference(path)
    found = _read_series(source.paths, source.info.name)
    if found.instances != source.instances:
        raise SourceError(f"files of {source.info.name} changed while they were opened; replay it again")
    return found


def _read_series(paths: Sequence[Path], name: str) -> CineReference:
    if not paths:
        raise SourceError(
            f"{name} is no series of DICOM files, in whose study results could be; use --records"
        )
    files = [read_reference(path) for path in paths]
    first = files[0]
    for path, file in zip(paths, files, strict=True):
        for what, value, expected in (
            ("study", file.study_uid, first.study_uid),
            ("series", file.series_uid, first.series_uid),
            ("patient", file.patient_and_study.get(_PATIENT_ID), first.patient_and_study.get(_PATIENT_ID)),
            ("kind of object", file.class_uid, first.class_uid),
            ("size", (file.rows, file.columns), (first.rows, first.columns)),
            ("number of frames", file.frames, 1),
        ):
            if value != expected:
                raise SourceError(
                    f"{path.name} has another {what} than {paths[0].name}, so that they are not frames of "
                    "one cine; put them into folders of their own"
                )
    seen: dict[str, Path] = {}
    for path, file in zip(paths, files, strict=True):
        if (twin := seen.setdefault(file.instance_uid, path)) != path:
            raise SourceError(
                f"{twin.name} and {path.name} have the same SOPInstanceUID, so that no result can refer to "
                "either; remove one of them"
            )
    return replace(
        first,
        frames=len(files),
        compression=max((file.compression for file in files), key=lambda stated: stated.get(_TAGS[0], b"")),
        burned_in="NO" if all(file.burned_in == "NO" for file in files) else "",
        laterality=first.laterality if len({file.laterality for file in files}) == 1 else "",
        instances=tuple(seen),
    )


def _reference(name: str, header: Dataset, compression: dict[int, bytes]) -> CineReference:
    study, series, instance, kind = (_uid(name, header, keyword) for keyword in _UIDS)
    rows, columns = header.get("Rows"), header.get("Columns")
    if not rows or not columns:
        raise SourceError(f"{name} holds no image; results in DICOM need one")
    return CineReference(
        study_uid=study,
        series_uid=series,
        instance_uid=instance,
        class_uid=kind,
        rows=int(rows),
        columns=int(columns),
        frames=frame_count(header),
        multi_frame="NumberOfFrames" in header,
        patient_and_study=_encoded(name, header, _PATIENT_AND_STUDY),
        compression=compression,
        burned_in=_text(header, "BurnedInAnnotation"),
        laterality=_text(header, "Laterality"),
        series_number=read_integer(_text(header, "SeriesNumber"), 0, 10_000_000) or 0,
    )


def _compression(path: Path, header: Dataset, syntax: UID) -> dict[int, bytes]:
    """How lossily the cine is compressed, by its header, else by its transfer syntax; empty: not at all."""
    stated = _encoded(path.name, header, _COMPRESSION)
    method = next((name for prefix, name in _LOSSY if syntax.startswith(prefix)), "")
    if stated.get(_TAGS[0], b"").strip() or not method:
        return stated
    pixels = int(header.get("Rows") or 0) * int(header.get("Columns") or 0) * frame_count(header)
    ratio = pixels * int(header.get("SamplesPerPixel") or 1) / path.stat().st_size
    return dict(zip(_TAGS, (b"01", f"{max(ratio, 1):.4g}".encode(), method.encode()), strict=True))


def _uid(name: str, header: Dataset, keyword: str) -> str:
    uid = _text(header, keyword)
    if not is_uid(uid):
        why = "is not a UID" if uid else "is missing"
        raise SourceError(f"{keyword} of {name} {why}, so that no result can refer to it; export it again")
    return uid


def _text(header: Dataset, keyword: str) -> str:
    """An element in ASCII, as it is encoded; empty if it is absent."""
    tag = tag_for_keyword(keyword)
    element = None if tag is None or tag not in header else header.get_item(tag)
    if isinstance(element, RawDataElement):
        return (element.value or b"").decode("ascii", "replace").strip(" \0")
    return "" if element is None else str(element.value)


def _joined(value: object) -> str:
    """One value or several, as they are encoded."""
    if value is None or isinstance(value, str):
        return value or ""
    return "\\".join(str(part) for part in cast(Iterable[object], value))


def _encoded(name: str, header: Dataset, keywords: Iterable[str]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None or tag not in header:
            continue
        element = header.get_item(tag)
        if keyword == "SpecificCharacterSet":  # pydicom has decoded it to decode others
            found[int(tag)] = _joined(header.get(keyword)).encode("ascii", "replace")
            continue
        value = (element.value or b"") if isinstance(element, RawDataElement) else None
        if value is None or len(value) > _MAX_TEXT:
            raise SourceError(f"{keyword} of {name} is damaged; export the file again")
        found[int(tag)] = value
    return found
