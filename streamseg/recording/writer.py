"""Records a live run: captured frames, displayed views, and the times of everything."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.capture.recording.format import (
    FORMAT,
    RECORDS_NAME,
    end_line,
    offered_line,
    segment_line,
    view_line,
)
from streamseg.core.errors import SinkError, one_line
from streamseg.core.spec import NERVE
from streamseg.core.types import Frame, Image, Result, Roi, Say, State, Yuv420
from streamseg.core.view import View
from streamseg.recording.segments import ORIGINAL_CRF, SegmentedVideo
from streamseg.recording.worker import Worker
from streamseg.render.live import LiveStyle
from streamseg.sinks.encoder import yuv420
from streamseg.sinks.records import LineFile, frame_record, header_line, json_line
from streamseg.sinks.target import sink_errors

ORIGINAL, ANNOTATED = "original", "annotated"
"""Kinds of video: frames as captured, views as displayed."""
MIN_FREE = 200 << 20
"""Bytes to leave free on the disk: a system without any space fails elsewhere."""
CHECK_NS = 2_000_000_000
"""Interval of the checks of free space."""
QUEUE_BYTES, QUEUE_FRAMES, MAX_QUEUE_BYTES = 16 << 20, 10, 32 << 20
"""Original frames that may wait for the encoder: so many bytes, or so many frames if that is more, up to a
maximum of bytes, which are ten whole frames of 1080p."""
VIEW_BYTES = 16 << 20
"""Bytes of views that may wait to be drawn and encoded."""

ANNOTATED_NS = 1_000_000_000 // 15
"""Minimum time between two annotated frames, unless the state changes: drawing and encoding one takes 8 ms
of a core that the inference needs."""

Compose = Callable[[View, LiveStyle], Image]
"""Draws a view in a style; the next call may draw over the image that it returns."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is recorded of a frame. It does not hold the frame, which is several times as large."""

    pixels: Image | Yuv420
    captured_ns: int
    key: object
    """Another one needs another file."""
    segment: dict[str, Any]
    """The line of the file that begins with it, if one does."""


class Recorder:
    """An observer that records a live run into a new folder, ``<folder>/<time of the start>``.

    :mod:`streamseg.capture.recording.format` describes its content. The image region is recorded once it is
    known; before that, and when the encoder is too slow, frames are listed without their pixels.
    ``full_frame`` records the machine's whole screen, which may name the patient. With ``compose``, the views
    as drawn by it (uint8, (H, W, 3) BGR) are recorded too, at most 15 a second and every change of the state.
    ``style`` gives the style in which the display draws at that moment; it is called in the display's thread.
    A later error ends the recording and is reported by :meth:`status` and through ``say``; only the
    constructor raises.

    Raises SinkError if nothing can be written, or less than ``min_free`` bytes are left on the disk.
    """

    name = "recording"

    def __init__(
        self,
        folder: Path,
        *,
        header: Mapping[str, object],
        full_frame: bool = False,
        segment_seconds: float = 60.0,
        compose: Compose | None = None,
        style: Callable[[], LiveStyle] = LiveStyle,
        min_free: int = MIN_FREE,
        say: Say = lambda message: None,
    ) -> None:
        self._full_frame, self._min_free, self._say = full_frame, min_free, say
        self._compose, self._style = compose, style
        self.anchor_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        started = datetime.fromtimestamp(wall_ns / 1e9).astimezone()
        with sink_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._check_space(folder)
            self.path = _new_folder(folder, started.strftime("%Y-%m-%dT%H-%M-%S"))
        self.frames = 0
        """Frames whose pixels were written."""
        self.left_out = 0
        """Frames whose pixels were not written because the encoder was too slow."""
        self._listed = 0
        self._outlined: Counter[str] = Counter()
        self._regions: dict[tuple[int, ...], Roi] = {}
        self._unknown_until: int | None = None
        """Index of the last frame of which it is known that its region is unknown."""
        self._last_view: object = None
        self._annotated_last: tuple[State | None, int] = (None, 0)
        self._lock = threading.Lock()
        self._ended_ns: int | None = None
        self._stopped = ""
        self._checked_ns = self.anchor_ns
        self._original = SegmentedVideo(self.path, ORIGINAL, seconds=segment_seconds, quality=ORIGINAL_CRF)
        self._annotated = SegmentedVideo(self.path, ANNOTATED, seconds=segment_seconds)
        about = {
            **header,
            "recording": FORMAT,
            "started": started.isoformat(timespec="milliseconds"),
            "anchor": {"wall_ns": wall_ns, "monotonic_ns": self.anchor_ns},
            "full_frame": full_frame,
        }
        self._lines = LineFile(self.path / RECORDS_NAME, header_line(about), force=False)
        self._worker = Worker("record", self._finish)

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        """Record a frame's pixels if that is allowed and possible, else only a line."""
        region = self._regions.get(frame.shape)
        left_out = "no region known"
        if region is not None or self._full_frame:
            shown = Roi.whole(frame) if self._full_frame or region is None else region
            held = _bytes_in(frame, shown)
            limit = _most_waiting(held)
            # Asked before the copy: where the encoder is too slow, there is no time for copies either.
            if self._worker.has_room(ORIGINAL, held, limit):
                line = offered_line(frame, arrived_ns, None)
                job = partial(self._write_frame, _shown(frame, shown, region), line)
                if self._worker.put(job, kind=ORIGINAL, held=held, max_held=limit):
                    return
            left_out = "encoder too slow"
            self._count_left_out()
        self._put(offered_line(frame, arrived_ns, None, left_out))

    def on_result(self, result: Result) -> None:
        """Write a line for a segmented frame, as in the records of a replay."""
        if self._unknown_until is None or result.frame.index > self._unknown_until:
            self._regions[result.frame.shape] = result.roi
        self._put({**frame_record(result), "captured_ns": result.frame.captured_ns})

    def on_view(self, view: View, shown_ns: int) -> None:
        """Write a line if the state, or the frame of the outline, changed."""
        if view.frame is not None and view.roi is not None:
            self._regions[view.frame.shape] = view.roi
            self._offer_annotated(view, view.frame, shown_ns)
        elif view.frame is not None:  # what is in its place now may name the patient
            self._unknown_until = view.frame.index
            self._regions.pop(view.frame.shape, None)
        key = (view.state, view.frame.index if view.frame and view.segmentation else None)
        if key != self._last_view:
            self._last_view = key
            line = view_line(
                index=None if view.frame is None else view.frame.index,
                state=str(view.state),
                reason=view.reason,
                outline=view.segmentation is not None,
                shown_ns=shown_ns,
                captured_ns=None if view.frame is None else view.frame.captured_ns,
                clock=view.figures.clock,
            )
            self._put(line)

    def _offer_annotated(self, view: View, frame: Frame, shown_ns: int) -> None:
        state, last_ns = self._annotated_last
        if self._compose is None or (state == view.state and shown_ns - last_ns < ANNOTATED_NS):
            return
        self._annotated_last = view.state, shown_ns
        recorded = _bytes_in(frame, Roi.whole(frame) if self._full_frame or view.roi is None else view.roi)
        if not self._worker.has_room(ORIGINAL, recorded, _most_waiting(recorded) // 2):
            return  # original frames come first: they cannot be made again
        masks = () if view.segmentation is None else view.segmentation.structures.values()
        decoded = 0 if isinstance(frame.pixels, np.ndarray) else _bytes_in(frame, Roi.whole(frame))
        held = frame.nbytes + decoded + sum(structure.mask.nbytes for structure in masks)
        job = partial(self._write_annotated, view, self._style(), shown_ns)
        self._worker.put(job, kind=ANNOTATED, held=held, max_held=VIEW_BYTES)

    def status(self) -> str:
        """Status for the display: ``recording 0:12``, or why it stopped."""
        if self._stopped:
            return f"recording stopped: {self._stopped}"
        seconds = ((self._ended_ns or time.monotonic_ns()) - self.anchor_ns) // 1_000_000_000
        left_out = f", {self.left_out} left out" if self.left_out else ""
        done = "recorded" if self._ended_ns else "recording"
        return f"{done} {seconds // 60}:{seconds % 60:02d}{left_out}"

    def end(self) -> None:
        """Record nothing more, and finish in the background what is queued. Returns at once."""
        self._worker.end()

    def close(self) -> None:
        """Write what is queued (after 0.7 s only lines) and finish the files; a second call does nothing."""
        if not self._worker.close():
            self._stop("the disk does not respond")

    def _put(self, line: dict[str, Any]) -> None:
        self._worker.put(partial(self._write, line))

    def _count_left_out(self) -> None:
        with self._lock:
            self.left_out += 1

    # In the worker's thread:

    def _write(self, line: dict[str, Any]) -> None:
        self._listed += line["type"] == "offered"
        if line["type"] == "frame":
            for name, structure in line.get("structures", {NERVE: line}).items():
                self._outlined[name] += bool(structure["polygons"])
        self._lines.write_line(json_line(line))

    def _write_frame(self, shown: _Shown, line: dict[str, Any]) -> None:
        if self._worker.hurried:
            self._count_left_out()
            self._write({**line, "left_out": "recording ended"})
            return
        self._check_space_if_due()

        def begins(name: str, number: int) -> None:
            self._write({**shown.segment, "file": name, "segment": number})

        at = self._video_time(shown.captured_ns)
        video = self._original.add(shown.pixels, at, shown.key, begins)
        self.frames += 1
        self._write({**line, "video": list(video)})

    def _write_annotated(self, view: View, style: LiveStyle, shown_ns: int) -> None:
        if self._worker.hurried or self._compose is None:
            return
        self._check_space_if_due()
        image = self._compose(view, style)
        self._annotated.add(image, self._video_time(shown_ns), None, lambda name, number: None)

    def _video_time(self, moment_ns: int) -> int:
        """Microseconds since the anchor; 0 for a frame captured just before it."""
        return max(0, (moment_ns - self.anchor_ns + 500) // 1000)

    def _check_space_if_due(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._checked_ns >= CHECK_NS:
            self._checked_ns = now_ns
            self._check_space(self.path)

    def _check_space(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if free < self._min_free:
            raise SinkError(
                f"only {free >> 20} MB free on the disk, {self._min_free >> 20} MB must stay free; "
                f"make some room, or record to another disk than that of {folder}"
            )

    def _finish(self, error: Exception | None) -> None:
        """Finish the files, even if one of them failed."""
        for close in (self._original.close, self._annotated.close):
            try:
                close()
            except SinkError as failure:
                error = error or failure
        if error is not None:
            self._stop(_reason(error))
        self._ended_ns = time.monotonic_ns()
        counts = {"offered": self._listed, "recorded": self.frames, "left_out": self.left_out}
        with contextlib.suppress(SinkError):
            line = end_line(self._stopped or "ended", self._ended_ns, counts)
            self._lines.write_line(json_line({**line, "outlined": dict(self._outlined)}))
        with contextlib.suppress(SinkError):
            self._lines.close()

    def _stop(self, reason: str) -> None:
        self._stopped = reason
        self._say(f"recording stopped: {reason}; {self.path} holds what was recorded before")


def _shown(frame: Frame, shown: Roi, region: Roi | None) -> _Shown:
    """A copy of a rectangle; ``region`` is the image, if its place is known."""
    pixels: Image | Yuv420
    if not isinstance(frame.pixels, np.ndarray):
        pixels = frame.pixels.yuv420(shown)
    elif frame.is_grey:
        pixels = shown.crop(frame.pixels).copy()
    else:
        pixels = yuv420(shown.crop(frame.pixels))
    key = (frame.shape, frame.is_grey, shown, region, frame.spacing_mm)
    return _Shown(pixels, frame.captured_ns, key, segment_line(frame, shown, region))


def _most_waiting(held: int) -> int:
    """Bytes that may wait of frames that hold so many each."""
    return min(max(QUEUE_BYTES, QUEUE_FRAMES * held), MAX_QUEUE_BYTES)


def _bytes_in(frame: Frame, shown: Roi) -> int:
    """Bytes that a rectangle takes as grey levels or in YUV."""
    pixels = shown.width * shown.height
    return pixels if frame.is_grey else pixels * 3 // 2


def _new_folder(parent: Path, name: str) -> Path:
    """Create a new folder, readable only by its owner: recordings show patients."""
    for number in range(1, 1000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return path
    raise SinkError(f"cannot record into {parent}: {name} exists a thousand times; choose another folder")


def _reason(error: Exception) -> str:
    """The reason that stopped a recording, short enough for a display."""
    code = getattr(error.__cause__, "errno", None) or getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    if isinstance(code, int) and code > 0:
        return os.strerror(code).lower()
    return one_line(error).partition(";")[0]
