"""What results of a DICOM cine must repeat of it, so that an archive files them in the same study."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_MAX_UID = 64


def is_uid(text: str) -> bool:
    """Whether a text is a UID (PS3.5, chapter 9): numbers and points, at most 64 characters.

    Only such a text may become the name of a file. A number that begins with a zero passes, though the
    standard forbids it: scanners write some.
    """
    return len(text) <= _MAX_UID and _UID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, repr=False)
class CineReference:
    """Identity and layout of a cine: one file, or a series with a file for each frame.

    Its ``repr`` says nothing about the patient.
    """

    study_uid: str
    series_uid: str
    instance_uid: str
    """Of a series: that of its first file."""
    class_uid: str
    rows: int
    """Rows of the stored image, whose pixels need not be square."""
    columns: int
    frames: int
    """Frames that the header states; of a series: its files."""
    multi_frame: bool
    """Whether the header states a number of frames, so that one of them can be referred to."""
    patient_and_study: Mapping[int, bytes]
    """Elements about patient and study by tag, encoded as in the cine: all text, which is not decoded."""
    compression: Mapping[int, bytes]
    """Elements that say how lossily the cine is compressed, likewise."""
    burned_in: str = ""
    """Burned In Annotation (0028,0301): YES or NO, empty if the header does not say."""
    laterality: str = ""
    """L, R or empty."""
    series_number: int = 0
    instances: tuple[str, ...] = ()
    """Of a series: the SOP Instance UID of each frame, in order; empty for a cine in one file."""

    def __repr__(self) -> str:
        return f"CineReference({self.instance_uid}, {self.frames} frames of {self.columns}x{self.rows})"
