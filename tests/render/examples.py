"""Results and views with a nerve drawn by hand, for tests of everything that shows or writes them."""

import time
from dataclasses import replace

import cv2
import numpy as np

from streamseg.core.latency import Percentiles
from streamseg.core.types import Frame, Result, Roi, Segmentation, State, Structure
from streamseg.core.view import Figures, View
from streamseg.segmentation.segmenter import Segmenter

FIGURES = Figures(
    offered=12345,
    processed=11890,
    dropped=455,
    reconnects=2,
    offered_fps=29.97,
    processed_fps=28.6,
    age=Percentiles(300, 61.0, 79.3, 110.2, 180.0),
    stages={name: Percentiles(300, 1.0, 2.0, 3.0, 4.0) for name in ("preprocess", "infer", "postprocess")},
)
FOUND = (State.NERVE, State.NO_NERVE, State.LOW_CONFIDENCE, State.UNLIKE_TRAINING)


def segmentation(state: State, shape=(200, 300), centre=(150, 90), axes=(60, 35)) -> Segmentation:
    """An ellipse of nerve, or none, in a frame of this shape."""
    mask = np.zeros(shape, np.uint8)
    contours = ()
    if state not in (State.NO_NERVE, State.UNLIKE_TRAINING):
        cv2.ellipse(mask, centre, axes, 20, 0, 360, 1, -1)
        found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        contours = tuple(contour[:, 0] for contour in found)
    area = int(mask.sum())
    middle = (float(centre[0]), float(centre[1])) if area else None
    return Segmentation(mask.astype(bool), contours, area, None, middle, 0.8, state)


def structure(
    shape=(200, 300), centre=(240, 90), axes=(20, 20), *, spacing_mm=None, confidence=0.9
) -> Structure:
    """An ellipse in a frame of this shape; none with ``axes`` None."""
    mask = np.zeros(shape, np.uint8)
    if axes is not None:
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    area = int(mask.sum())
    return Structure(
        mask.astype(bool),
        tuple(contour[:, 0] for contour in found),
        area,
        None if spacing_mm is None else area * spacing_mm[0] * spacing_mm[1],
        (float(centre[0]), float(centre[1])) if area else None,
        confidence,
    )


def with_vessel(found: Segmentation, *, empty: bool = False, spacing_mm=None) -> Segmentation:
    """The same with a vessel right of the middle of its frame, or with none found."""
    height, width = found.mask.shape
    axes = None if empty else (max(1, width // 12),) * 2
    return replace(
        found,
        others={
            "vessel": structure((height, width), (width * 5 // 6, height // 2), axes, spacing_mm=spacing_mm)
        },
    )


def result(shape=(200, 300), state=State.NERVE, roi=None, index=3, pts=1.25, image=None) -> Result:
    """A frame of noise (or ``image``) with a nerve in its middle."""
    if image is None:
        image = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    height, width = image.shape[:2]
    centre, axes = (width // 2, height // 2), (max(1, width // 5), max(1, height // 6))
    segment = segmentation(state, (height, width), centre, axes)
    return Result(
        Frame(image, index, 0, pts), segment, roi or Roi.whole(image), {"infer": 10_000_000}, 12_000_000
    )


def view(
    state: State = State.NERVE,
    reason: str = "",
    *,
    shape: tuple[int, ...] = (420, 580),
    image: np.ndarray | None = None,
    roi: Roi | None = None,
    number: int = 1,
    age_ms: int = 40,
    expires_in_ms: int = 100,
    spacing_mm: tuple[float, float] | None = (0.07, 0.07),
    figures: Figures = FIGURES,
) -> View:
    """A view decided now: dark noise unless an image is given, with an ellipse of nerve in its middle."""
    now_ns = time.monotonic_ns()
    if image is None:
        image = np.random.default_rng(1).integers(20, 90, shape, np.uint8)
    height, width = image.shape[:2]
    frame = Frame(image, number, now_ns - age_ms * 1_000_000, None, spacing_mm)
    found = None
    if state in FOUND:
        axes = max(1, width // 5), max(1, height // 6)
        found = segmentation(state, (height, width), (width // 2, height // 2), axes)
        if spacing_mm is not None:
            found = replace(found, area_mm2=found.area_px * spacing_mm[0] * spacing_mm[1])
    return View(
        number,
        now_ns,
        state,
        reason,
        frame,
        roi or Roi.whole(image),
        found,
        None if found is None else now_ns + expires_in_ms * 1_000_000,
        figures,
    )


def near(image: np.ndarray, colour: tuple[int, int, int], tolerance: int = 12) -> np.ndarray:
    """True where a BGR image has about this colour, bool (height, width)."""
    return np.all(np.abs(image.astype(np.int16) - np.int16(colour)) <= tolerance, axis=-1)


def outline_vessels(monkeypatch) -> None:
    """Let every engine outline a vessel too, as one does that was trained for it."""
    finish = Segmenter.finish

    def finish_with_vessel(self, prepared, planes):
        spacing_mm = prepared.frame.spacing_mm
        return with_vessel(finish(self, prepared, planes), spacing_mm=spacing_mm)

    monkeypatch.setattr(Segmenter, "finish", finish_with_vessel)
