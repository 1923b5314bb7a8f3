"""Records: the results of every frame as JSON lines or CSV.

A file of JSON lines begins with a header object (``"type": "header"``: source, engine, units) and continues
with one object per frame (``"type": "frame"``). Every line is passed to the operating system when it is
written, so a killed process loses no finished line, and a full disk leaves only whole lines. The JSON is
strict: a number that is not finite is null.

The keys of a frame mean the nerve. Where the engine outlines other structures too, the frame also has
``structures`` with the outline of each, the nerve's included, and the distance between nerve and vessel.
Frames of an engine that outlines nerves alone lack these keys, since they would say everything twice.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from streamseg.core.errors import DataError, SinkError, one_line
from streamseg.core.files import finite, parse_json, read_file
from streamseg.core.outline_distance import nerve_vessel_distance_mm
from streamseg.core.spec import NERVE, VESSEL
from streamseg.core.types import Result, Structure
from streamseg.sinks.target import Target, sink_errors

FORMAT = "streamseg-records-1"
MAX_BYTES = 512 << 20
"""Of records that are read at once, into several times that memory."""
_SEPARATORS = (",", ":")
Record = dict[str, Any]

OTHER_TYPES = frozenset(("state", "segment", "offered", "view", "end"))
"""Types of other lines in records of live runs and recordings."""

_COLUMNS = (
    *("index", "pts", "state", "area", "area_px", "centroid_x", "centroid_y", "confidence"),
    *("age_ms", "stages_ms", "polygons"),
    *(f"{VESSEL}_{name}" for name in ("area_mm2", "area_px", "centroid_x", "centroid_y", "confidence")),
    *(f"{VESSEL}_polygons", "nerve_vessel_distance_mm"),
)


def header_record(header: Mapping[str, object]) -> Record:
    """The header object of a file of JSON lines: ``header`` and the fields common to all files."""
    try:
        ours = version("streamseg")
    except PackageNotFoundError:  # Run from a folder of sources.
        ours = "unknown"
    fixed = {"type": "header", "format": FORMAT}
    return {
        **fixed,  # First in order, and last so that nothing replaces them.
        "version": ours,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "coordinates": "source frame pixels, x right, y down; (0, 0) is the centre of the top-left pixel",
        "units": {
            "pts": "seconds of the source's own time, or null",
            "area": "square millimetres, or null where the pixel spacing is unknown",
            "area_px": "pixels",
            "centroid": "[x, y] pixels, or null without nerve",
            "confidence": "0..1",
            "polygons": "outer outlines, lists of [x, y] pixels",
            "structures": "the same of each structure, area_mm2 in square millimetres",
            "nerve_vessel_distance_mm": "millimetres, 0 where they touch, null if unknown or one is missing",
            "stages_ms": "milliseconds",
            "age_ms": "milliseconds from the frame's capture or decoding to its result",
        },
        "notice": "Research software - not a medical device",
        **header,
        **fixed,
    }


def header_line(header: Mapping[str, object]) -> str:
    """The header as a line. Numbers that are not finite become null, unknown types text."""
    text = json.dumps(finite(header_record(header)), allow_nan=False, separators=_SEPARATORS, default=str)
    return text + "\n"


def json_line(record: Record) -> str:
    """A record as one line of strict JSON."""
    return _strict(record) + "\n"


def frame_record(result: Result) -> Record:
    """The record of one frame: index, pts, state, area, centroid, confidence, polygons, times, structures."""
    segmentation = result.segmentation
    record = {
        "type": "frame",
        "index": int(result.frame.index),
        "pts": _number(result.frame.pts_seconds),
        "state": str(segmentation.state),
        "area": _number(segmentation.area_mm2),
        "area_px": int(segmentation.area_px),
        "centroid": _point(segmentation.centroid),
        "confidence": _number(segmentation.confidence),
        "polygons": [contour.tolist() for contour in segmentation.contours],
        "stages_ms": {name: duration / 1e6 for name, duration in result.stage_ns.items()},
        "age_ms": result.age_ns / 1e6,
    }
    if segmentation.others:
        record["structures"] = {
            name: _structure_record(structure) for name, structure in segmentation.structures.items()
        }
    if VESSEL in segmentation.others:
        record["nerve_vessel_distance_mm"] = nerve_vessel_distance_mm(segmentation, result.frame.spacing_mm)
    return record


def _structure_record(structure: Structure) -> Record:
    return {
        "polygons": [contour.tolist() for contour in structure.contours],
        "area_px": int(structure.area_px),
        "area_mm2": _number(structure.area_mm2),
        "centroid": _point(structure.centroid),
        "confidence": _number(structure.confidence),
    }


def _point(point: tuple[float, float] | None) -> list[float | None] | None:
    return None if point is None else [_number(value) for value in point]


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _strict(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=_SEPARATORS)


class LineFile:
    """Appends whole lines of UTF-8 text to a file that appears with its first line."""

    name: ClassVar[str]

    def __init__(self, path: Path, first_line: str, *, force: bool) -> None:
        target = Target(path, force=force)
        self.path = path
        self.frames = 0
        """Frames written."""
        self._failed = False
        with sink_errors(path):
            # Unbuffered: written lines outlive the process, and after an error nothing is written again.
            self._file = target.part.open("wb", buffering=0)
        try:
            self.write_line(first_line)
            target.publish()
        except SinkError:
            self.close()
            target.discard()
            raise

    def write_line(self, line: str) -> None:
        """Append a line, including its line break. Raises SinkError (disk full, ...)."""
        if self._failed or self._file.closed:
            why = "an earlier error ended it; see the first message" if self._failed else "it is closed"
            raise SinkError(f"cannot write {self.path}: {why}")
        rest = memoryview(line.encode())
        start = self._file.tell()
        try:
            with sink_errors(self.path):
                while rest:
                    rest = rest[self._file.write(rest) :]
        except SinkError:
            self._failed = True
            # A partial line would stop readers of the rest.
            with suppress(OSError):
                self._file.truncate(start)
            raise

    def close(self) -> None:
        """Close the file; a second call does nothing. Raises SinkError if the last data did not fit."""
        with sink_errors(self.path):
            self._file.close()


class JsonRecords(LineFile):
    """Writes JSON lines: a header, then one object per frame. Raises SinkError or UsageError on opening."""

    name = "records"

    def __init__(self, path: Path, *, header: Mapping[str, object], force: bool = False) -> None:
        super().__init__(path, header_line(header), force=force)

    def write(self, result: Result) -> None:
        """Write one frame. Raises SinkError (disk full, ...)."""
        self.write_line(json_line(frame_record(result)))
        self.frames += 1


class CsvRecords(LineFile):
    """Writes CSV with a row of column names; polygons and stage times are JSON text in one column each.

    Unknown values are empty, and so are all of the vessel where the engine outlines none. Raises SinkError or
    UsageError on opening.
    """

    name = "csv"

    def __init__(self, path: Path, *, force: bool = False) -> None:
        super().__init__(path, _csv_line(_COLUMNS), force=force)

    def write(self, result: Result) -> None:
        """Write one frame. Raises SinkError (disk full, ...)."""
        record = frame_record(result)
        record |= _csv_cells(record, "") | {"stages_ms": _strict(record["stages_ms"])}
        if (vessel := record.get("structures", {}).get(VESSEL)) is not None:
            record |= {f"{VESSEL}_{name}": vessel[name] for name in ("area_mm2", "area_px", "confidence")}
            record |= _csv_cells(vessel, f"{VESSEL}_")
        self.write_line(_csv_line([record.get(column) for column in _COLUMNS]))
        self.frames += 1


def _csv_cells(record: Record, prefix: str) -> Record:
    """The columns of a structure whose values are lists in its record."""
    x, y = record["centroid"] or (None, None)
    columns = {"centroid_x": x, "centroid_y": y, "polygons": _strict(record["polygons"])}
    return {f"{prefix}{name}": value for name, value in columns.items()}


def _csv_line(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def read_records(path: str | Path) -> tuple[Record, list[Record]]:
    """Read a file of JSON lines: its header and its frames.

    Every frame has ``structures`` with at least the nerve, also where the file has none: those of engines
    that outline nerves alone, and of earlier versions. Skips an incomplete last line (its writer was killed),
    and lines of live runs and recordings that are not frames. Raises DataError for anything else that is not
    such a file.
    """
    try:
        lines = read_file(Path(path), MAX_BYTES).split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read records {path}: {one_line(error)}; give a .jsonl file") from error
    records: list[Record] = []
    for number, line in enumerate(
        lines[:-1], start=1
    ):  # What follows the last newline is incomplete or empty.
        try:
            record = parse_json(line, strict=False)
        except ValueError as error:
            raise DataError(f"records {path}, line {number} is damaged: {error}; write them again") from error
        kind = record.get("type") if isinstance(record, dict) else None
        if kind == ("header" if number == 1 else "frame"):
            records.append(record)
        elif number == 1 or kind not in OTHER_TYPES:
            raise DataError(f"records {path}, line {number} does not have this format; expected {FORMAT}")
    if not records:
        raise DataError(f"records {path} hold no header; expected JSON lines of {FORMAT}")
    for frame in records[1:]:
        frame.setdefault("structures", {NERVE: _nerve_of(frame)})
    return records[0], records[1:]


def _nerve_of(frame: Record) -> Record:
    """The nerve's structure from the keys of a frame."""
    names = ("polygons", "area_px", "area", "centroid", "confidence")
    return {"area_mm2" if name == "area" else name: frame.get(name) for name in names}
