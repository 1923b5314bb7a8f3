"""Writes outlines as a DICOM Segmentation (PS3.3, A.51): one segment for each structure.

Each frame of it is the mask of one structure in one frame of the cine, one bit for a pixel, on the pixels
that the cine stores. An ultrasound cine has no frame of reference in the patient's space, so that every
frame names the source's frame that it was computed from (Derivation Image), and no pixel size is stated.

Bits are stored as they are: a compressed file would be smaller, but one bit cannot be compressed by any
transfer syntax that archives know (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence as AbstractSequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.sequence import Sequence
from pydicom.uid import SegmentationStorage

from streamseg.core.cine import CineReference
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import SinkError
from streamseg.core.types import Mask, Result
from streamseg.sinks.dicom.instance import (
    NOTICE,
    Code,
    InstanceSink,
    copy_encoded,
    frame_reference,
    item,
    new_instance,
    new_uid,
    references,
    software,
    waiting_file,
    write_instance,
)
from streamseg.sinks.dicom.structures import (
    ANATOMICAL_STRUCTURE,
    PixelGrid,
    code_of,
    frame_number,
    outlined,
    rank,
)
from streamseg.sinks.target import sink_errors

SEGMENTATION = Code("113076", "DCM", "Segmentation")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
_MAX_BYTES = (1 << 32) - 2
"""Of an element (PS3.5, 7.1)."""


class SegmentationSink(InstanceSink):
    """Writes one SEG of a cine, with a frame for each outlined structure of each of the cine's frames.

    There is none if no frame has an outline; an older one, which ``force`` allows to replace, is removed
    then: beside the new report it would show outlines of another run.
    """

    name = "dicom seg"

    def __init__(self, path: Path, cine: CineReference, engine: EngineInfo, *, force: bool = False) -> None:
        """Raises UsageError for a file that exists without ``force``, SinkError if it cannot be written."""
        super().__init__(path, cine, engine, force=force)
        self._found: list[tuple[str, int]] = []
        self._results = 0
        self._bits = _BitFile(waiting_file(self._target))

    def _add(self, result: Result) -> None:
        self._results += 1
        for name, structure in outlined(result.segmentation):
            number = frame_number(result, self._cine)
            mask = PixelGrid.of(self._cine, result).mask(structure.mask)
            if not mask.any():
                continue
            if self._bits.size + mask.size // 8 + 2 > _MAX_BYTES:
                raise SinkError(
                    f"cannot write {self.path}: its masks exceed 4 GB, the most that DICOM holds; write "
                    "parts of the cine, with --start and --max-frames"
                )
            with sink_errors(self.path):
                self._bits.append(mask)
            self._found.append((name, number))

    def _finish(self) -> int:
        with sink_errors(self.path), self._bits.file as file:  # closing fails on a full disk, too
            if self._results and not self._found and not self._failed:
                self.path.unlink(missing_ok=True)
            elif self._found:
                self._bits.finish()
                write_instance(self._target, self._dataset(), (self._bits.head(), file, b""))
        return len(self._found)

    def _dataset(self) -> Dataset:
        made = new_instance(
            self._cine, self._engine, SegmentationStorage, "SEG", number=1, description="streamseg outlines"
        )
        if self._cine.compression:
            copy_encoded(made, self._cine.compression)
        else:
            made.LossyImageCompression = "00"
        made.ImageType = ["DERIVED", "PRIMARY"]
        made.PatientOrientation = None
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.Rows, made.Columns = self._cine.rows, self._cine.columns
        made.BitsAllocated = made.BitsStored = 1
        made.HighBit = made.PixelRepresentation = 0
        made.SegmentationType = "BINARY"
        made.SegmentsOverlap = "UNDEFINED"
        made.ContentLabel = "STREAMSEG"
        made.ContentDescription = NOTICE
        made.ContentCreatorName = None
        made.ReferencedSeriesSequence = [
            item(SeriesInstanceUID=self._cine.series_uid, ReferencedInstanceSequence=references(self._cine))
        ]
        names = sorted({name for name, _ in self._found}, key=rank)
        made.SegmentSequence = [self._segment(number, name) for number, name in enumerate(names, start=1)]
        made.NumberOfFrames = len(self._found)
        self._add_frames(made, names)
        return made

    def _segment(self, number: int, name: str) -> Dataset:
        return item(
            SegmentNumber=number,
            SegmentLabel=name,
            SegmentAlgorithmType="AUTOMATIC",
            SegmentAlgorithmName=software(self._engine),
            SegmentedPropertyCategoryCodeSequence=ANATOMICAL_STRUCTURE.sequence(),
            SegmentedPropertyTypeCodeSequence=code_of(name).sequence(),
        )

    def _add_frames(self, made: Dataset, names: AbstractSequence[str]) -> None:
        """The functional groups: what each frame shows, and of which frame of the cine."""
        organization = new_uid()
        made.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
        made.DimensionIndexSequence = [
            item(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=tag_for_keyword(pointer),
                FunctionalGroupPointer=tag_for_keyword(group),
                DimensionDescriptionLabel=label,
            )
            for pointer, group, label in (
                ("ReferencedSegmentNumber", "SegmentIdentificationSequence", "Segment"),
                ("TemporalPositionIndex", "FrameContentSequence", "Frame"),
            )
        ]
        made.SharedFunctionalGroupsSequence = [Dataset()]
        segments = {name: number for number, name in enumerate(names, start=1)}
        identified = {
            name: Sequence([item(ReferencedSegmentNumber=number)]) for name, number in segments.items()
        }
        order = {
            number: at for at, number in enumerate(sorted({number for _, number in self._found}), start=1)
        }
        sources = {number: Sequence([self._derivation(number)]) for number in order}
        made.PerFrameFunctionalGroupsSequence = [
            item(
                FrameContentSequence=[
                    item(
                        DimensionIndexValues=[segments[name], order[number]],
                        TemporalPositionIndex=order[number],  # without gaps; the source has the number itself
                    )
                ],
                SegmentIdentificationSequence=identified[name],
                DerivationImageSequence=sources[number],
            )
            for name, number in self._found
        ]

    def _derivation(self, number: int) -> Dataset:
        source = frame_reference(self._cine, number)
        source.PurposeOfReferenceCodeSequence = SOURCE_IMAGE.sequence()
        source.SpatialLocationsPreserved = "YES"
        return item(DerivationCodeSequence=SEGMENTATION.sequence(), SourceImageSequence=[source])


class _BitFile:
    """Masks packed bit after bit, without a gap between frames, first bit lowest (PS3.5, 8.1.1)."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        """Bytes written."""
        self._rest: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    def append(self, mask: Mask) -> None:
        """Add a mask. OSError passes through."""
        bits = mask.reshape(-1) if not len(self._rest) else np.concatenate([self._rest, mask.reshape(-1)])
        whole = len(bits) // 8 * 8
        self._write(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._rest = bits[whole:].copy()

    def finish(self) -> None:
        """Fill up to an even number of bytes, after the last whole mask. OSError passes through."""
        self.file.seek(self.size)
        self.file.truncate()
        self._write(np.packbits(self._rest, bitorder="little").tobytes())
        self._write(bytes(self.size % 2))
        self.file.flush()

    def head(self) -> bytes:
        """The beginning of the pixel data element that holds the file."""
        return b"\xe0\x7f\x10\0OB\0\0" + self.size.to_bytes(4, "little")

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self.size += len(data)
