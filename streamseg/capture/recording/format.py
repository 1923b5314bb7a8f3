"""The format of recorded live runs: names of files, and lines of the records.

A recording is a folder named after the wall-clock time at which it began::

    2026-11-22T14-03-07/
        records.jsonl        what happened, line by line, with exact times
        original-0001.mp4    the image region as it was captured, in segments
        annotated-0001.mp4   what was displayed, in segments of its own; not always there

Every line of the records is a JSON object with a ``type``:

``header``   the first line: source, engine, versions, and one moment in wall-clock and monotonic time
``segment``  a file of the original begins: its name, which part of the frame it shows, and how
``offered``  a frame that the source delivered; ``video`` is [segment, time in it] or null, ``left_out`` why
``frame``    a frame that was segmented, as in the records of a replay, and ``captured_ns``
``view``     what was displayed: a new state, or the outline of another frame
``end``      the last line, missing if the run was killed: counts (``outlined``: frames with an outline by
             structure), and why the recording ended

Times that end in ``_ns`` are monotonic nanoseconds, as is the header's anchor. Times in the videos are
microseconds since that anchor. Pixels around the ultrasound image are not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamseg.core.files import finite
from streamseg.core.numbers import whole_number
from streamseg.core.types import Frame, Roi

FORMAT = "streamseg-recording-1"
RECORDS_NAME = "records.jsonl"
UNITS_PER_SECOND = 1_000_000
"""Unit of the times in the videos."""
_MAX_HEADER = 1 << 20
_MAX_SIDE = 1 << 16


def is_recording(folder: Path) -> bool:
    """Whether a folder holds a recording. False also if it cannot be read."""
    path = folder / RECORDS_NAME
    try:
        if not path.is_file():  # reading a pipe could block for ever
            return False
        with path.open("rb") as file:
            header = parse_line(file.readline(_MAX_HEADER))
    except (OSError, ValueError):
        return False
    return header.get("recording") == FORMAT


def parse_line(line: bytes) -> dict[str, Any]:
    """A line of the records. Raises ValueError for all but a JSON object of plain numbers."""
    try:
        value = json.loads(line, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")  # of the file's content, not of a type in the program
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def recordings_in(folder: Path) -> list[Path]:
    """Recordings directly in a folder, oldest first; none if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if is_recording(path))
    except OSError:
        return []


def video_name(kind: str, number: int) -> str:
    """File name of a segment: ``original-0001.mp4``."""
    return f"{kind}-{number:04d}.mp4"


def segment_line(frame: Frame, shown: Roi, region: Roi | None) -> dict[str, Any]:
    """A file of the original begins with a frame: ``shown`` is the part of it there, ``region`` the image.

    The file's name and number are added when they are known, as ``file`` and ``segment``.
    """
    height, width = frame.shape
    return {
        "type": "segment",
        "frame_size": [width, height],
        "shown": box(shown),
        "roi": None if region is None else box(region),
        "grey": frame.is_grey,
        "spacing_mm": finite(frame.spacing_mm),
    }


def offered_line(
    frame: Frame, arrived_ns: int, video: tuple[int, int] | None, left_out: str = ""
) -> dict[str, Any]:
    """A frame that the source delivered."""
    height, width = frame.shape
    line: dict[str, Any] = {
        "type": "offered",
        "index": frame.index,
        "captured_ns": frame.captured_ns,
        "arrived_ns": arrived_ns,
        "pts": finite(frame.pts_seconds),
        "size": [width, height],
        "video": None if video is None else list(video),
    }
    return {**line, "left_out": left_out} if left_out else line


def view_line(
    *,
    index: int | None,
    state: str,
    reason: str,
    outline: bool,
    shown_ns: int,
    captured_ns: int | None,
    clock: str,
) -> dict[str, Any]:
    """What was displayed from ``shown_ns`` on; ``index`` and ``captured_ns`` are those of its frame."""
    return {
        "type": "view",
        "index": index,
        "state": state,
        "reason": reason,
        "outline": outline,
        "shown_ns": shown_ns,
        "age_ms": None if captured_ns is None else (shown_ns - captured_ns) / 1e6,
        "clock": clock,
    }


def end_line(reason: str, at_ns: int, counts: Mapping[str, int]) -> dict[str, Any]:
    """The recording ends, and why."""
    return {"type": "end", "reason": reason, "at_ns": at_ns, **counts}


def box(roi: Roi) -> list[int]:
    return [roi.x, roi.y, roi.width, roi.height]


def roi_of(box: Any) -> Roi:
    """Inverse of :func:`box`. Raises UsageError, TypeError or ValueError for anything else."""
    x, y, width, height = (whole(value, 0, _MAX_SIDE) for value in box)
    return Roi(x, y, width, height)


def whole(value: Any, minimum: int, maximum: int) -> int:
    """An integer of the records within bounds. Raises ValueError."""
    found = whole_number(value, minimum, maximum)
    if found is None:
        raise ValueError("not a whole number within its bounds")
    return found
