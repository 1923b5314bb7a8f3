"""Reads the records of a recorded live run."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg.capture.files import check_readable
from streamseg.capture.geometry import MAX_FRAME_PIXELS
from streamseg.capture.recording.format import FORMAT, RECORDS_NAME, parse_line, roi_of, whole
from streamseg.core.errors import SourceError, UsageError
from streamseg.core.numbers import finite_number
from streamseg.core.types import Roi

_MAX_LINE = 4 << 20
_MAX_LINES, _MAX_ENTRIES = 4_000_000, 1_500_000
"""Lines that are read, and entries that are held (7 hours at 60 frames a second): 500 MB."""
_MAX_NS, _MAX_NUMBER, _MAX_SIDE, _MAX_TEXT = 1 << 62, 1 << 40, 1 << 16, 100
_FOUND = re.compile(rb'\{"type":"frame","index":(-?[0-9]{1,18}),')
"""Start of a line with a frame's result. These lines are long, and only the index is needed here."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A frame that the source delivered."""

    index: int
    captured_ns: int
    """Monotonic, of the machine that recorded."""
    arrived_ns: int
    video: tuple[int, int] | None
    """Segment and time in it, microseconds since the recording's anchor; None if it has no pixels."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A video file of the original."""

    number: int
    path: Path
    frame_size: tuple[int, int]
    """Width and height of the captured frames."""
    shown: Roi
    """The part of the frames that the file holds."""
    region: Roi | None
    """The ultrasound image in the captured frames, or None if unknown."""
    grey: bool
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What was displayed from ``shown_ns`` on."""

    state: str
    shown_ns: int
    index: int | None
    outline: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """The records of a recording."""

    folder: Path
    header: Mapping[str, Any]
    segments: tuple[Segment, ...]
    offered: tuple[Offered, ...]
    segmented: tuple[int, ...]
    """Indices of the frames that were segmented."""
    shown: tuple[Shown, ...]
    ended_ns: int | None
    """When it ended, monotonic nanoseconds; None if the run was killed."""
    damaged_line: int | None
    """The first line that was not read, from 1: it is damaged, or one too many; None if all were read."""

    def state_seconds(self, from_ns: int, until_ns: int) -> dict[str, float]:
        """Seconds for which each state was displayed between two moments, in the order of appearance."""
        seconds: dict[str, float] = {}
        ends = [*(shown.shown_ns for shown in self.shown[1:]), until_ns]
        for shown, end_ns in zip(self.shown, ends, strict=False):
            lasted = min(end_ns, until_ns) - max(shown.shown_ns, from_ns)
            if lasted > 0:
                seconds[shown.state] = seconds.get(shown.state, 0.0) + lasted / 1e9
        return seconds


def read_recording(folder: Path) -> Recorded:
    """Read the records in a folder, without an incomplete last line.

    Reading stops at a damaged line (a failing disk), which ``damaged_line`` then names. Raises SourceError
    if the folder holds no records of a recording.
    """
    segments: list[Segment] = []
    offered: list[Offered] = []
    shown: list[Shown] = []
    ended_ns: int | None = None
    damaged: int | None = None
    segmented = array("q")
    check_readable(folder / RECORDS_NAME)
    try:
        with (folder / RECORDS_NAME).open("rb") as file:
            header = _header(file.readline(_MAX_LINE), folder)
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), start=2):
                if not line.endswith(b"\n"):
                    damaged = number if len(line) == _MAX_LINE else None
                    break
                if number > _MAX_LINES or len(offered) + len(shown) + len(segments) >= _MAX_ENTRIES:
                    damaged = number
                    break
                if found := _FOUND.match(line):
                    segmented.append(int(found[1]))
                    continue
                try:
                    entry = _entry(parse_line(line), folder)
                except (ValueError, TypeError, KeyError, AttributeError, UsageError):
                    damaged = number
                    break
                if isinstance(entry, Segment):
                    segments.append(entry)
                elif isinstance(entry, Offered):
                    offered.append(entry)
                elif isinstance(entry, Shown):
                    shown.append(entry)
                elif entry is not None:
                    ended_ns = entry
    except OSError as error:
        raise SourceError(
            f"cannot read {folder / RECORDS_NAME}: {error.strerror}; check the folder and the disk"
        ) from error
    return Recorded(
        folder, header, tuple(segments), tuple(offered), tuple(segmented), tuple(shown), ended_ns, damaged
    )


def _header(line: bytes, folder: Path) -> Mapping[str, Any]:
    try:
        header = parse_line(line)
        whole(header["anchor"]["monotonic_ns"], 0, _MAX_NS)
        if header["recording"] == FORMAT:
            return header
    except (ValueError, TypeError, KeyError):
        pass
    raise SourceError(f"{folder} is not a recording of {FORMAT}; give a folder that 'live --record' made")


def _entry(line: Mapping[str, Any], folder: Path) -> Segment | Offered | Shown | int | None:
    """The content of a line; None for other kinds of line."""
    kind = line["type"]
    if kind == "offered":
        video = line["video"]
        return Offered(
            whole(line["index"], -_MAX_NUMBER, _MAX_NUMBER),
            whole(line["captured_ns"], -_MAX_NS, _MAX_NS),
            whole(line["arrived_ns"], -_MAX_NS, _MAX_NS),
            None if video is None else (whole(video[0], 0, _MAX_NUMBER), whole(video[1], -_MAX_NS, _MAX_NS)),
        )
    if kind == "view":
        index = line["index"]
        return Shown(
            str(line["state"])[:_MAX_TEXT],
            whole(line["shown_ns"], -_MAX_NS, _MAX_NS),
            None if index is None else whole(index, -_MAX_NUMBER, _MAX_NUMBER),
            bool(line["outline"]),
        )
    if kind == "segment":
        return _segment(line, folder)
    return whole(line["at_ns"], -_MAX_NS, _MAX_NS) if kind == "end" else None


def _segment(line: Mapping[str, Any], folder: Path) -> Segment:
    width, height = (whole(side, 1, _MAX_SIDE) for side in line["frame_size"])
    region, spacing = line["roi"], line["spacing_mm"]
    shown = roi_of(line["shown"])
    inside = None if region is None else roi_of(region)
    if inside is not None and not inside.fits_into(height, width):
        inside = None
    if shown.width * shown.height > MAX_FRAME_PIXELS:
        raise ValueError("no frame is that large")
    return Segment(
        number=whole(line["segment"], 0, _MAX_NUMBER),
        # The name alone: records must not lead to files elsewhere.
        path=folder / Path(str(line["file"])).name,
        frame_size=(width, height),
        shown=shown,
        region=inside,
        grey=bool(line["grey"]),
        spacing_mm=None if spacing is None else (_millimetres(spacing[0]), _millimetres(spacing[1])),
    )


def _millimetres(value: Any) -> float:
    found = finite_number(value, 1e-6, 1e6)
    if found is None:
        raise ValueError("not a pixel spacing")
    return found
