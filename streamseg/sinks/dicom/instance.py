"""Makes a new DICOM instance in a cine's study, and writes it as a whole file: what all its sinks share."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian

from streamseg import __version__
from streamseg.core.cine import CineReference
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import SinkError, StreamsegError
from streamseg.core.types import Result
from streamseg.sinks.target import Target, sink_errors

NOTICE = "Research software - not a medical device"
_IMPLEMENTATION = UID("2.25.206487254014375218160384157329107465219")
"""Names this program as the writer of a file (PS3.7, D.3.3.2): a random UUID, drawn once."""
_REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements that every instance has, empty where the cine has none (type 2)."""
_LONG_TEXT = 64
"""Characters of LO, the usual text."""


def new_uid() -> str:
    """A UID that nobody else has: a random UUID (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid4().int}"


class Code:
    """A coded concept: value, scheme and meaning (PS3.3, 8.8)."""

    def __init__(self, value: str, scheme: str, meaning: str) -> None:
        self.value, self.scheme, self.meaning = value, scheme, meaning
        self._sequence: Sequence | None = None

    def sequence(self) -> Sequence:
        """The concept as the one item of a sequence, which nobody may change: thousands of items share it."""
        if self._sequence is None:
            self._sequence = Sequence(
                [item(CodeValue=self.value, CodingSchemeDesignator=self.scheme, CodeMeaning=self.meaning)]
            )
        return self._sequence


def item(**elements: object) -> Dataset:
    """A data set of elements by keyword."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def plain(text: str) -> str:
    """Text that every character set holds, of the length that an element may have."""
    ascii_text = text.encode("ascii", "replace").decode().replace("\\", "/")
    return "".join(c if c.isprintable() else "?" for c in ascii_text)[:_LONG_TEXT]


def software(engine: EngineInfo) -> str:
    """The algorithm for people: this program, its version and the engine."""
    return plain(f"streamseg {__version__}, {engine.name}")


def new_instance(
    cine: CineReference, engine: EngineInfo, kind: UID, modality: str, *, number: int, description: str
) -> Dataset:
    """An instance of the SOP class ``kind`` in a new series of the cine's study.

    Patient and study are those of the cine, byte by byte, with their character set. ``number`` tells its
    series from the others that are made of the same cine.
    """
    now = datetime.now().astimezone()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made = Dataset()
    for keyword in _REQUIRED:
        setattr(made, keyword, None)
    copy_encoded(made, cine.patient_and_study)
    made.StudyInstanceUID = cine.study_uid
    made.SeriesInstanceUID = new_uid()
    made.SeriesNumber = 100 * cine.series_number + number
    made.SeriesDescription = description
    made.Modality = modality
    made.Manufacturer = "streamseg"
    made.ManufacturerModelName = plain(engine.name)
    made.DeviceSerialNumber = plain(engine.sha256) or "unknown"  # no other engine has this number
    made.SoftwareVersions = __version__
    made.SOPClassUID = kind
    made.SOPInstanceUID = new_uid()
    made.InstanceCreationDate = made.ContentDate = made.SeriesDate = date
    made.InstanceCreationTime = made.ContentTime = made.SeriesTime = time
    made.InstanceNumber = 1
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = f"STREAMSEG_{__version__.replace('.', '_')}"[:16]
    made.file_meta = meta
    return made


def copy_encoded(made: Dataset, elements: Mapping[int, bytes]) -> None:
    """Add elements as another file has them, without decoding them."""
    for tag, value in elements.items():
        kind = dictionary_VR(tag)
        padded = value + (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
        made[BaseTag(tag)] = RawDataElement(BaseTag(tag), kind, len(padded), padded, 0, False, True)


def references(cine: CineReference) -> list[Dataset]:
    """References to all files of the cine, the only one or those of a series."""
    uids = cine.instances or (cine.instance_uid,)
    return [item(ReferencedSOPClassUID=cine.class_uid, ReferencedSOPInstanceUID=uid) for uid in uids]


def frame_reference(cine: CineReference, frame: int) -> Dataset:
    """A reference to one of the cine's frames (from 1)."""
    uid = cine.instances[frame - 1] if cine.instances else cine.instance_uid
    made = item(ReferencedSOPClassUID=cine.class_uid, ReferencedSOPInstanceUID=uid)
    if cine.multi_frame:
        made.ReferencedFrameNumber = 1 if cine.instances else frame
    return made


def write_instance(
    target: Target, made: Dataset, pixels: tuple[bytes, BinaryIO, bytes] | None = None
) -> None:
    """Write a file that appears only once it is whole and on the disk. Raises SinkError.

    ``pixels`` are the pixel data element: its beginning, a file with its value, and its end. The value is
    copied, since that of a long cine need not fit into the memory.
    """
    try:
        with sink_errors(target.path):
            made.save_as(target.part, enforce_file_format=True)
            with target.part.open("ab") as file:
                if pixels is not None:
                    head, value, end = pixels
                    file.write(head)
                    value.seek(0)
                    shutil.copyfileobj(value, file, 1 << 20)
                    file.write(end)
                file.flush()
                os.fsync(file.fileno())
        target.publish()
    except SinkError:
        target.discard()
        raise


class InstanceSink:
    """Gathers results, and writes one instance of them when it is closed: a whole file or none.

    After an error the results before it are written, if that is possible. What has to wait on the disk waits
    in an unnamed file, so that nothing is left of a run that was killed.
    """

    def __init__(self, path: Path, cine: CineReference, engine: EngineInfo, *, force: bool = False) -> None:
        """Raises UsageError for a file that exists without ``force``, SinkError if it cannot be written."""
        self._target = Target(path, force=force)
        self.path = path
        self.frames = 0
        """Frames written; 0 until the file is there."""
        self._cine, self._engine = cine, engine
        self._failed = self._closed = False

    def write(self, result: Result) -> None:
        """Add a result. Raises SinkError (disk full, ...), SourceError for a frame of no certain number."""
        if self._failed or self._closed:
            why = "an earlier error ended it; see the first message" if self._failed else "it is closed"
            raise SinkError(f"cannot write {self.path}: {why}")
        try:
            with disable_value_validation():  # scanners write UIDs that are not quite to the standard
                self._add(result)
        except StreamsegError:
            self._failed = True
            raise

    def close(self) -> None:
        """Write the file; a second call does nothing. Raises SinkError, and leaves nothing then.

        After an error in :meth:`write` it does not raise: the cause was reported.
        """
        if self._closed:
            return
        self._closed = True
        try:
            with disable_value_validation():
                self.frames = self._finish()
        except SinkError:
            if not self._failed:
                raise

    def _add(self, result: Result) -> None:
        raise NotImplementedError

    def _finish(self) -> int:
        """Write the file, if there is anything to write, and return the number of frames in it."""
        raise NotImplementedError


def waiting_file(target: Target) -> BinaryIO:
    """An unnamed file on the target's disk. Raises SinkError."""
    with sink_errors(target.path):
        return cast(BinaryIO, tempfile.TemporaryFile(dir=target.part.parent))
