"""A live run without a loop: numbered frames, passed to observers as the loop would pass them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.core.types import Frame, Image, Result, Roi, Segmentation, State
from streamseg.core.view import RunObserver, View
from streamseg.recording.writer import Recorder
from tests.capture.media import picture

HEADER = {"source": "phantom-1", "engine": {"name": "net", "sha256": "ab"}, "age_budget_ms": 150}
SCREEN = (120, 160)
"""Height and width of the machine's screen."""
REGION = Roi(40, 30, 96, 64)
"""The image's region on it; a frame's number can be read from it."""


def screen(number: int, region: Roi = REGION, *, banner: int = 255) -> Image:
    """A machine's screen: a banner of one colour with the numbered image in its region."""
    image = np.full((*SCREEN, 3), banner, np.uint8)
    region.crop(image)[:] = picture(number, region.height, region.width)
    return image


def frame_of(number: int, image: Image | None = None, *, captured_ns: int | None = None) -> Frame:
    captured_ns = time.monotonic_ns() if captured_ns is None else captured_ns
    return Frame(screen(number) if image is None else image, number, captured_ns, number / 25, (0.1, 0.2))


def found_in(frame: Frame, roi: Roi = REGION, state: State = State.NERVE) -> Result:
    """A square of nerve in the middle of the region."""
    mask = np.zeros(frame.image.shape[:2], bool)
    left, top = roi.x + roi.width // 2, roi.y + roi.height // 2
    mask[top : top + 8, left : left + 8] = True
    corners = [(left, top), (left + 7, top), (left + 7, top + 7), (left, top + 7)]
    contour = np.array(corners, np.int32)
    segmentation = Segmentation(mask, (contour,), 64, None, (left + 3.5, top + 3.5), 0.9, state)
    return Result(frame, segmentation, roi, {"infer": 2_000_000}, 5_000_000)


def view_of(number: int, result: Result, *, reason: str = "") -> View:
    at_ns = result.frame.captured_ns + 10_000_000
    shown = View(number, at_ns, result.state, reason, result.frame, result.roi)
    if reason:
        return shown
    return replace(shown, segmentation=result.segmentation, expires_ns=at_ns + 100_000_000)


def pass_frame(
    observer: RunObserver, frame: Frame, number: int = 1, *, roi: Roi = REGION, segment: bool = True
) -> None:
    """One frame: offered, and perhaps segmented and displayed."""
    observer.on_frame(frame, frame.captured_ns + 1_000_000)
    if segment:
        result = found_in(frame, roi)
        observer.on_result(result)
        observer.on_view(view_of(number, result), frame.captured_ns + 12_000_000)


def record(
    folder: Path,
    images: Sequence[Image],
    *,
    step_ns: int = 40_000_000,
    roi: Roi = REGION,
    **options: Any,
) -> tuple[Recorder, list[Frame]]:
    """Record images at exact intervals, with the region known before the first."""
    recording = Recorder(folder, header=HEADER, min_free=0, **options)
    first = frame_of(-1, images[0], captured_ns=recording.anchor_ns)
    recording.on_result(found_in(first, roi))
    frames = []
    for number, image in enumerate(images):
        captured_ns = recording.anchor_ns + 123_456 + number * step_ns
        frames.append(frame_of(number, image, captured_ns=captured_ns))
        pass_frame(recording, frames[-1], number + 1, roi=roi)
        wait_for(recording, number + 1)
    recording.close()
    return recording, frames


def wait_for(recording: Recorder, frames: int, timeout_s: float = 30.0) -> None:
    """Wait until ``frames`` frames are recorded, so that none is left out on a busy machine."""
    deadline = time.monotonic() + timeout_s
    while recording.frames + recording.left_out < frames and time.monotonic() < deadline:
        time.sleep(0.001)
