"""Reads what results must repeat of a cine: the only place that reads elements about a patient.

They are copied as they are encoded, and never decoded, printed or logged.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement

from streamseg.capture.dicom.header import frame_count, read_header
from streamseg.capture.dicom.video import VIDEO_SYNTAXES, check_frame_count
from streamseg.capture.files import check_readable, is_dicom
from streamseg.core.cine import CineReference, is_uid
from streamseg.core.errors import SourceError, StreamsegError, is_programming_error
from streamseg.core.numbers import read_integer

_PATIENT_AND_STUDY = """
SpecificCharacterSet PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime PatientSex
OtherPatientNames EthnicGroup PatientAge PatientSize PatientWeight PatientIdentityRemoved
DeidentificationMethod LongitudinalTemporalInformationModified StudyDate StudyTime StudyID AccessionNumber
StudyDescription ReferringPhysicianName TimezoneOffsetFromUTC
""".split()  # noqa: SIM905  # a name on a line of its own would say no more
_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_OTHERS = ("Rows", "Columns", "NumberOfFrames", "BurnedInAnnotation", "SeriesNumber", "Laterality")
_MAX_TEXT = 10_240
"""Bytes of one element about patient or study; the longest has 10,240 characters."""


def read_reference(path: Path) -> CineReference:
    """Read a cine's reference from its header.

    Raises UsageError or SourceError if there is no such file, it is not DICOM, has no valid UIDs, without
    which no archive can file the results, or holds a video with another number of frames than it states.
    """
    check_readable(path)
    if not is_dicom(path):
        raise SourceError(f"{path.name} is no DICOM file, in whose study results could be; use --records")
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            header, syntax, data = read_header(file, (*_PATIENT_AND_STUDY, *_COMPRESSION, *_UIDS, *_OTHERS))
            found = _reference(path.name, header)
            if syntax in VIDEO_SYNTAXES:
                check_frame_count(path, data, found.frames)
            return found
    except StreamsegError:
        raise
    except Exception as error:  # pydicom raises almost anything on damaged files
        if is_programming_error(error, "pydicom"):
            raise
        raise SourceError(
            f"{path.name} has no DICOM header that can be read; give a DICOM file, or omit --dicom"
        ) from error


def _reference(name: str, header: Dataset) -> CineReference:
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
        compression=_encoded(name, header, _COMPRESSION),
        burned_in=_text(header, "BurnedInAnnotation"),
        laterality=_text(header, "Laterality"),
        series_number=read_integer(_text(header, "SeriesNumber"), 0, 10_000_000) or 0,
    )


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
