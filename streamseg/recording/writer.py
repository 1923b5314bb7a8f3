"""Records a live run: what was captured, what was displayed, and when everything happened."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from streamseg.capture.recording.format import (
    FORMAT,
    RECORDS_NAME,
    end_line,
    offered_line,
    segment_line,
    view_line,
)
from streamseg.core.errors import SinkError, one_line
from streamseg.core.types import Frame, Image, Result, Roi, Say, State
from streamseg.core.view import View
from streamseg.recording.segments import ORIGINAL_CRF, SegmentedVideo
from streamseg.recording.worker import Worker
from streamseg.sinks.records import LineFile, frame_record, header_line, json_line
from streamseg.sinks.target import sink_errors

MIN_FREE = 200 << 20
"""Bytes that are left free on the disk: a system without any space fails in other places."""
CHECK_NS = 2_000_000_000
"""How often the free space is looked at."""
QUEUE_BYTES = 64 << 20
"""Pictures that wait for the encoder: half a second of 1080p at 20 fps, more of what is smaller."""

ANNOTATED_NS = 1_000_000_000 // 15
"""Least distance of two pictures of what was displayed, but for a change of the state: drawing and encoding
one takes 8 ms of a core that the inference needs."""

Compose = Callable[[View], Image]


class Recorder:
    """A tap that records into a new folder, ``<folder>/<time of the start>``;
    :mod:`streamseg.capture.recording.format` says what it holds.

    The image region is recorded as soon as it is known; before that, and where the encoder is too slow,
    frames are listed without their pixels. ``full_frame`` records the machine's whole screen, which may name
    the patient. With ``compose`` the pictures that it draws of the displayed views (uint8, (H, W, 3) BGR) are
    recorded as well, at most 15 a second and every change of the state. What goes wrong later ends the
    recording and is said in :meth:`status` and through ``say``; nothing but the constructor raises.

    Raises SinkError where nothing can be written, or less than ``min_free`` bytes are left.
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
        min_free: int = MIN_FREE,
        say: Say = lambda message: None,
    ) -> None:
        self._full_frame, self._compose, self._min_free, self._say = full_frame, compose, min_free, say
        self.anchor_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        started = datetime.fromtimestamp(wall_ns / 1e9).astimezone()
        with sink_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._check_space(folder)
            self.path = _new_folder(folder, started.strftime("%Y-%m-%dT%H-%M-%S"))
        self.frames = 0
        """Frames whose pixels were written."""
        self.left_out = 0
        """Frames whose pixels were not, since the encoder was too slow."""
        self._listed = 0
        self._regions: dict[tuple[int, ...], Roi] = {}
        self._last_view: object = None
        self._annotated_last: tuple[State | None, int] = (None, 0)
        self._lock = threading.Lock()
        self._ended_ns: int | None = None
        self._stopped = ""
        self._checked_ns = self.anchor_ns
        self._original = SegmentedVideo(self.path, "original", seconds=segment_seconds, quality=ORIGINAL_CRF)
        self._annotated = SegmentedVideo(self.path, "annotated", seconds=segment_seconds)
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
        """A frame arrived: records its pixels where that may and can be done, else a line."""
        region = self._regions.get(frame.image.shape[:2])
        left_out = "no region known"
        if region is not None or self._full_frame:
            job = partial(self._write_picture, frame, arrived_ns, region)
            if self._worker.put(job, held=frame.image.nbytes, max_held=QUEUE_BYTES):
                return
            left_out = "encoder too slow"
            self._count_left_out()
        self._put(offered_line(frame, arrived_ns, None, left_out))

    def on_result(self, result: Result) -> None:
        """A frame was segmented: a line, as in the records of a replay."""
        self._regions[result.frame.image.shape[:2]] = result.roi
        self._put({**frame_record(result), "captured_ns": result.frame.captured_ns})

    def on_view(self, view: View, shown_ns: int) -> None:
        """A view was displayed: a line where the state, or the frame of the outline, is another."""
        if view.frame is not None and view.roi is not None:
            self._regions[view.frame.image.shape[:2]] = view.roi
            self._offer_annotated(view, view.frame, shown_ns)
        key = (view.state, view.frame.index if view.frame and view.segmentation else None)
        if key != self._last_view:
            self._last_view = key
            self._put(view_line(view, shown_ns))

    def _offer_annotated(self, view: View, frame: Frame, shown_ns: int) -> None:
        state, last_ns = self._annotated_last
        if self._compose is None or (state == view.state and shown_ns - last_ns < ANNOTATED_NS):
            return
        self._annotated_last = view.state, shown_ns
        job = partial(self._write_annotated, view, shown_ns)
        # Half of the room, so that what cannot be made again has the other half for itself.
        self._worker.put(job, held=frame.image.nbytes, max_held=QUEUE_BYTES // 2)

    def status(self) -> str:
        """For the display: ``recording 0:12``, or why it stopped."""
        if self._stopped:
            return f"recording stopped: {self._stopped}"
        seconds = ((self._ended_ns or time.monotonic_ns()) - self.anchor_ns) // 1_000_000_000
        left_out = f", {self.left_out} left out" if self.left_out else ""
        done = "recorded" if self._ended_ns else "recording"
        return f"{done} {seconds // 60}:{seconds % 60:02d}{left_out}"

    def end(self) -> None:
        """Record nothing more, and finish in the background what waits. Returns at once."""
        self._worker.end()

    def close(self) -> None:
        """Write what waits and finish the files; after 0.7 s lines only. A second time does nothing."""
        if not self._worker.close():
            self._stop("the disk does not answer")

    def _put(self, line: dict[str, Any]) -> None:
        self._worker.put(partial(self._write, line))

    def _count_left_out(self) -> None:
        with self._lock:
            self.left_out += 1

    # The worker's thread.

    def _write(self, line: dict[str, Any]) -> None:
        self._listed += line["type"] == "offered"
        self._lines.write_line(json_line(line))

    def _write_picture(self, frame: Frame, arrived_ns: int, region: Roi | None) -> None:
        if self._worker.hurried:
            self._count_left_out()
            self._write(offered_line(frame, arrived_ns, None, "recording ended"))
            return
        self._look_at_space()
        shown = Roi.whole(frame.image) if self._full_frame or region is None else region

        def begins(name: str, number: int) -> None:
            self._write(segment_line(name, number, frame, shown, region))

        key = (frame.image.shape, shown, region, frame.spacing_mm)
        at = self._video_time(frame.captured_ns)
        video = self._original.add(shown.crop(frame.image), at, key, begins)
        self.frames += 1
        self._write(offered_line(frame, arrived_ns, video))

    def _write_annotated(self, view: View, shown_ns: int) -> None:
        if self._worker.hurried or self._compose is None:
            return
        self._look_at_space()
        self._annotated.add(self._compose(view), self._video_time(shown_ns), None, lambda name, number: None)

    def _video_time(self, moment_ns: int) -> int:
        """Microseconds since the anchor; a frame captured just before it is shown at it."""
        return max(0, (moment_ns - self.anchor_ns + 500) // 1000)

    def _look_at_space(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._checked_ns >= CHECK_NS:
            self._checked_ns = now_ns
            self._check_space(self.path)

    def _check_space(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if free < self._min_free:
            raise SinkError(
                f"only {free >> 20} MB free on the disk, {self._min_free >> 20} MB are left free; "
                f"make some room, or record to another disk than that of {folder}"
            )

    def _finish(self, error: Exception | None) -> None:
        """Finish the files, also where one of them failed."""
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
            self._lines.write_line(json_line(end_line(self._stopped or "ended", self._ended_ns, counts)))
        with contextlib.suppress(SinkError):
            self._lines.close()

    def _stop(self, reason: str) -> None:
        self._stopped = reason
        self._say(f"recording stopped: {reason}; {self.path} holds what came before")


def _new_folder(parent: Path, name: str) -> Path:
    """A folder of this name that nobody else made, for its owner only: recordings are of patients."""
    for number in range(1, 1000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            return path
    raise SinkError(f"cannot record into {parent}: {name} exists in a thousand versions; name another folder")


def _reason(error: Exception) -> str:
    """What stopped a recording, as short as a display needs it."""
    number = getattr(error.__cause__, "errno", None) or getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return one_line(error).partition(";")[0]
