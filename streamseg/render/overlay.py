"""Draws the nerve's outline on the image.

Anatomy atlases draw nerves in yellow (red and blue mean vessels). Yellow, orange and purple are from the
palette of Okabe and Ito, which colour-blind people can tell apart; an uncertain outline is also dashed, so
that colour never carries the meaning alone. A dark rim on both sides keeps the line visible on bright tissue.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Image, Segmentation, State
from streamseg.render.text import Colour, to_bgr

YELLOW: Colour = (66, 228, 240)
ORANGE: Colour = (0, 159, 230)
PURPLE: Colour = (167, 121, 204)
_SKY: Colour = (233, 180, 86)
_PALE: Colour = (247, 224, 189)
_BLUE: Colour = (178, 114, 0)
_VERMILION: Colour = (0, 94, 213)
STATE_COLOURS: dict[State, Colour] = {
    State.NERVE: YELLOW,
    State.LOW_CONFIDENCE: ORANGE,
    State.NO_NERVE: (168, 168, 168),
    State.UNLIKE_TRAINING: PURPLE,
    State.LAGGING: _SKY,
    State.SLOW: _PALE,
    State.FROZEN: _BLUE,
    State.SOURCE_LOST: _VERMILION,
    State.STARTING: (168, 168, 168),
    State.ENDED: (168, 168, 168),
}
_HALO: Colour = (16, 16, 16)
_SUBPIXEL_BITS = 4

Points = npt.NDArray[np.float64]


def draw_overlay(image: Image, segmentation: Segmentation, *, opacity: float = 0.25) -> Image:
    """Draw a segmentation's outline over the frame that it was computed from.

    ``image`` is uint8, (H, W) grey or (H, W, 3) BGR, and is not modified; returns a new BGR image of the same
    size. NERVE is drawn as a solid yellow line around a light fill (``opacity`` 0..1), LOW_CONFIDENCE as a
    dashed orange line around a fainter fill; other states draw nothing. The line's width follows the image's
    size.
    """
    canvas = to_bgr(image)
    canvas = canvas.copy() if canvas is image else canvas
    paint_overlay(canvas, segmentation, opacity=opacity)
    return canvas


def paint_overlay(
    canvas: Image,
    segmentation: Segmentation,
    *,
    origin: tuple[int, int] = (0, 0),
    scale: tuple[float, float] = (1.0, 1.0),
    opacity: float = 0.25,
) -> None:
    """Draw into a BGR canvas whose top-left pixel is the frame's ``origin`` (x, y), enlarged by ``scale``."""
    if segmentation.state not in (State.NERVE, State.LOW_CONFIDENCE) or not segmentation.contours:
        return
    uncertain = segmentation.state is State.LOW_CONFIDENCE
    colour = STATE_COLOURS[segmentation.state]
    outlines = [_on_canvas(contour, origin, scale) for contour in segmentation.contours]
    _fill(canvas, outlines, colour, opacity * (0.5 if uncertain else 1.0))
    width = line_width(canvas)
    lines = [piece for line in outlines for piece in _dashes(line, 12 * width)] if uncertain else outlines
    for ink, thickness in ((_HALO, width + 2 * max(1, round(width / 2))), (colour, width)):
        # Dashes must stay open: closing one would join its ends.
        cv2.polylines(
            canvas,
            [_fixed(line) for line in lines],
            not uncertain,
            ink,
            thickness,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )


def line_width(canvas: Image) -> int:
    """Thickness of the outline in pixels for a canvas of this size."""
    height, width = canvas.shape[:2]
    return max(2, round(int(min(height, width)) / 270))


def _on_canvas(contour: npt.NDArray[np.int32], origin: tuple[int, int], scale: tuple[float, float]) -> Points:
    """Transform a contour to canvas pixels and drop the points that make no visible difference."""
    points = (contour - np.asarray(origin) + 0.5) * np.asarray(scale) - 0.5
    if min(scale) >= 2 and len(points) > 3:
        points = _cut_corners(points)
    slim = cv2.approxPolyDP(points.astype(np.float32).reshape(-1, 1, 2), 0.4, True)
    return np.asarray(slim, np.float64).reshape(-1, 2)


def _cut_corners(points: Points) -> Points:
    """Smooth the pixel steps of an enlarged outline (Chaikin); moves it by less than half a frame pixel."""
    following = np.roll(points, -1, axis=0)
    return np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(
        -1, 2
    )


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    """Convert points to the fixed-point format of OpenCV's drawing functions."""
    return np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32).reshape(-1, 1, 2)


def _fill(canvas: Image, outlines: list[Points], colour: Colour, opacity: float) -> None:
    """Tint the inside of the outlines, touching only their bounding box."""
    height, width = canvas.shape[:2]
    everything = np.concatenate(outlines)
    left, top = np.clip(np.floor(everything.min(axis=0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(everything.max(axis=0)).astype(int) + 1, 0, (width, height))
    if opacity <= 0 or left >= right or top >= bottom:
        return
    region = canvas[top:bottom, left:right]
    inside = np.zeros(region.shape[:2], np.uint8)
    polygons: list[Any] = [_fixed(outline - (left, top)) for outline in outlines]
    cv2.fillPoly(inside, polygons, 255, cv2.LINE_8, _SUBPIXEL_BITS)
    tint = np.full_like(region, colour)
    cv2.copyTo(cv2.addWeighted(region, 1 - opacity, tint, opacity, 0), inside, region)


def _dashes(outline: Points, period: float) -> list[Points]:
    """Cut a closed outline into evenly spaced dashes, about one every ``period`` pixels."""
    ring = np.vstack([outline, outline[:1]])
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    around = float(travelled[-1])
    count = max(2, round(around / period))
    dashes = []
    for start in np.arange(count) * (around / count):
        end = start + 0.55 * around / count
        corners = ring[(travelled > start) & (travelled < end)]
        ends = np.column_stack([np.interp((start, end), travelled, ring[:, axis]) for axis in (0, 1)])
        dashes.append(np.vstack([ends[:1], corners, ends[1:]]))
    return dashes
