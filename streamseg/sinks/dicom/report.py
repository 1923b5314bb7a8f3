"""Writes areas as a DICOM Structured Report (Comprehensive SR) by TID 1500, "Measurement Report".

A measurement group (TID 1410) for each part of each outlined structure in each frame: the outline (SCOORD),
the frame that it was computed from, and the area, in mm² if the spacing of the pixels is known, else in
pixels. The outline runs through the centres of the structure's outermost pixels, and the area counts whole
pixels, as in the records. Comments list the frames of every state, so that a cine without nerve has a report,
too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ComprehensiveSRStorage

from streamseg.core.cine import CineReference
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import SinkError
from streamseg.core.types import Result, State
from streamseg.sinks.dicom.instance import (
    NOTICE,
    Code,
    InstanceSink,
    frame_reference,
    item,
    new_instance,
    new_uid,
    plain,
    references,
    write_instance,
)
from streamseg.sinks.dicom.structures import (
    ANATOMICAL_STRUCTURE,
    PixelGrid,
    code_of,
    frame_number,
    outlined,
    part_areas,
)

_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
_LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
_ENGLISH = Code("en-US", "RFC5646", "English (United States)")
_OBSERVER_TYPE, _DEVICE = Code("121005", "DCM", "Observer Type"), Code("121007", "DCM", "Device")
_DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
_DEVICE_NAME = Code("121013", "DCM", "Device Observer Name")
_DEVICE_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
_DEVICE_MODEL = Code("121015", "DCM", "Device Observer Model Name")
_PROCEDURE = Code("121058", "DCM", "Procedure reported")
_ULTRASONOGRAPHY = Code("16310003", "SCT", "Diagnostic ultrasonography")
_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
_GROUP = Code("125007", "DCM", "Measurement Group")
_TRACKING, _TRACKING_UID = (
    Code("112039", "DCM", "Tracking Identifier"),
    Code("112040", "DCM", "Tracking Unique Identifier"),
)
_CATEGORY, _FINDING = Code("276214006", "SCT", "Finding category"), Code("121071", "DCM", "Finding")
_REGION, _SOURCE = Code("111030", "DCM", "Image Region"), Code("260753009", "SCT", "Source")
_AREA = Code("42798000", "SCT", "Area")
_MM2, _PIXELS = Code("mm2", "UCUM", "square millimeter"), Code("{pixels}", "UCUM", "pixels")
_COMMENT = Code("121106", "DCM", "Comment")
_MAX_GROUPS = 100_000
"""Groups of one report: each takes 2 kB of the file and ten times that of memory."""


class ReportSink(InstanceSink):
    """Writes one SR of a cine, about each frame that was segmented."""

    name = "dicom sr"

    def __init__(self, path: Path, cine: CineReference, engine: EngineInfo, *, force: bool = False) -> None:
        """Raises UsageError for a file that exists without ``force``, SinkError if it cannot be written."""
        super().__init__(path, cine, engine, force=force)
        self._groups: list[Dataset] = []
        self._states: dict[State, list[int]] = {}
        self._tracked: dict[str, str] = {}

    def _add(self, result: Result) -> None:
        number = frame_number(result, self._cine)
        if len(self._groups) >= _MAX_GROUPS:
            raise SinkError(
                f"cannot write {self.path}: more than {_MAX_GROUPS} outlines; write parts of the cine, with "
                "--start and --max-frames"
            )
        self._groups += self._measured(result, number, PixelGrid.of(self._cine, result))
        self._states.setdefault(result.state, []).append(number)

    def _finish(self) -> int:
        frames = sum(map(len, self._states.values()))
        if frames:
            write_instance(self._target, self._dataset(frames))
        return frames

    def _measured(self, result: Result, number: int, grid: PixelGrid) -> Iterator[Dataset]:
        spacing = result.frame.spacing_mm
        for name, structure in outlined(result.segmentation):
            for part, (contour, pixels) in enumerate(
                zip(structure.contours, part_areas(structure), strict=True), start=1
            ):
                tracked = name if part == 1 else f"{name}, part {part}"
                area = _decimal(pixels if spacing is None else pixels * spacing[0] * spacing[1])
                region = _content("CONTAINS", "SCOORD", _REGION)
                region.GraphicType = "POLYLINE"
                region.GraphicData = grid.outline(contour).ravel().tolist()
                source = _content("SELECTED FROM", "IMAGE", _SOURCE)
                source.ReferencedSOPSequence = [frame_reference(self._cine, number)]
                region.ContentSequence = [source]
                measured = _content("CONTAINS", "NUM", _AREA)
                measured.MeasuredValueSequence = [
                    item(
                        NumericValue=area,
                        MeasurementUnitsCodeSequence=(_PIXELS if spacing is None else _MM2).sequence(),
                    )
                ]
                yield _container(
                    "CONTAINS",
                    _GROUP,
                    [
                        _text("HAS OBS CONTEXT", _TRACKING, tracked),
                        _uid("HAS OBS CONTEXT", _TRACKING_UID, self._tracked.setdefault(tracked, new_uid())),
                        _code("CONTAINS", _CATEGORY, ANATOMICAL_STRUCTURE),
                        _code("CONTAINS", _FINDING, code_of(name)),
                        measured,
                        region,
                    ],
                    template="1410",
                )

    def _dataset(self, frames: int) -> Dataset:
        made = new_instance(
            self._cine, self._engine, ComprehensiveSRStorage, "SR", number=2, description="streamseg areas"
        )
        made.ReferencedPerformedProcedureStepSequence = []
        made.PerformedProcedureCodeSequence = []
        made.CompletionFlag = "COMPLETE" if frames == self._cine.frames else "PARTIAL"
        made.VerificationFlag = "UNVERIFIED"
        made.PreliminaryFlag = "PRELIMINARY"
        made.CurrentRequestedProcedureEvidenceSequence = [
            item(
                StudyInstanceUID=self._cine.study_uid,
                ReferencedSeriesSequence=[
                    item(
                        SeriesInstanceUID=self._cine.series_uid,
                        ReferencedSOPSequence=references(self._cine),
                    )
                ],
            )
        ]
        content = [
            _code("HAS CONCEPT MOD", _LANGUAGE, _ENGLISH),
            _code("HAS OBS CONTEXT", _OBSERVER_TYPE, _DEVICE),
            _uid("HAS OBS CONTEXT", _DEVICE_UID, _device_uid(self._engine)),
            _text("HAS OBS CONTEXT", _DEVICE_NAME, f"streamseg {made.SoftwareVersions}"),
            _text("HAS OBS CONTEXT", _DEVICE_MANUFACTURER, "streamseg"),
            _text("HAS OBS CONTEXT", _DEVICE_MODEL, plain(self._engine.name)),
            _code("HAS CONCEPT MOD", _PROCEDURE, _ULTRASONOGRAPHY),
        ]
        if self._groups:
            content.append(_container("CONTAINS", _MEASUREMENTS, self._groups))
        content.append(_container("CONTAINS", _EVALUATIONS, list(self._comments(frames))))
        root = _container(None, _REPORT, content, template="1500")
        made.update(root)
        return made

    def _comments(self, frames: int) -> Iterator[Dataset]:
        yield _text("CONTAINS", _COMMENT, f"{NOTICE}. A program drew the outlines, and nobody verified them.")
        stated = self._cine.frames
        of = "all frames" if frames == stated else f"{frames} of {stated} frames"
        yield _text("CONTAINS", _COMMENT, f"Segmented: {of}.")
        for state, numbers in self._states.items():
            yield _text("CONTAINS", _COMMENT, f"{state}: frames {_ranges(numbers)}")


def _content(relationship: str | None, kind: str, name: Code) -> Dataset:
    made = item(ValueType=kind, ConceptNameCodeSequence=name.sequence())
    if relationship is not None:
        made.RelationshipType = relationship
    return made


def _container(
    relationship: str | None, name: Code, content: list[Dataset], template: str | None = None
) -> Dataset:
    made = _content(relationship, "CONTAINER", name)
    made.ContinuityOfContent = "SEPARATE"
    if template is not None:
        made.ContentTemplateSequence = [item(MappingResource="DCMR", TemplateIdentifier=template)]
    made.ContentSequence = Sequence(content)
    return made


def _text(relationship: str, name: Code, text: str) -> Dataset:
    made = _content(relationship, "TEXT", name)
    made.TextValue = text
    return made


def _uid(relationship: str, name: Code, uid: str) -> Dataset:
    made = _content(relationship, "UIDREF", name)
    made.UID = uid
    return made


def _code(relationship: str, name: Code, value: Code) -> Dataset:
    made = _content(relationship, "CODE", name)
    made.ConceptCodeSequence = value.sequence()
    return made


def _device_uid(engine: EngineInfo) -> str:
    """The observer: the same UID for the same engine. Other packages' engines may have any fingerprint."""
    return f"2.25.{int(hashlib.sha256(engine.sha256.encode()).hexdigest()[:32], 16)}"


def _decimal(value: float) -> str:
    """A number of at most 16 characters (DS)."""
    return f"{value:.8g}" if math.isfinite(value) else "0"


def _ranges(numbers: Iterable[int]) -> str:
    """``1-3, 7`` for increasing numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
