"""Draws the outlines of nerve and vessels on the image.

Anatomy atlases draw nerves in yellow (red and blue mean vessels). Yellow, orange and purple are from the
palette of Okabe and Ito, which colour-blind people can tell apart. Vessels are cyan, since yellow and blue
differ for almost everybody, while red and orange do not (figures in docs/log.md). Colour never carries the
meaning alone: a nerve's line is solid, an uncertain one's dashed, a vessel's dotted, and only nerves are
tinted. A dark rim on both sides keeps the lines visible on bright tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.spec import VESSEL
from streamseg.core.types import Image, Roi, Segmentation, State
from streamseg.render.text import Colour, to_bgr

YELLOW: Colour = (66, 228, 240)
ORANGE: Colour = (0, 159, 230)
PURPLE: Colour = (167, 121, 204)
CYAN: Colour = (255, 214, 0)
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


@dataclass(frozen=True, slots=True)
class Line:
    """How an outline is drawn."""

    colour: Colour
    period: float = 0.0
    """Length of a dash and its gap in widths of the line; 0: solid."""
    share: float = 1.0
    """Share of a dash in that, 0..1."""


NERVE_LINES = {
    State.NERVE: Line(STATE_COLOURS[State.NERVE]),
    State.LOW_CONFIDENCE: Line(STATE_COLOURS[State.LOW_CONFIDENCE], 12, 0.55),
}
"""The nerve's line in the states that have one."""
VESSEL_LINE = Line(CYAN, 5, 0.4)
_VESSEL_STATES = (*NERVE_LINES, State.NO_NERVE)


def draw_overlay(
    image: Image, segmentation: Segmentation, *, opacity: float = 0.25, vessels: bool = True
) -> Image:
    """Draw a segmentation's outlines over the frame that it was computed from.

    ``image`` is uint8, (H, W) grey or (H, W, 3) BGR, and is not modified; returns a new BGR image of the same
    size. NERVE is drawn as a solid yellow line around a light fill (``opacity`` 0..1), LOW_CONFIDENCE as a
    dashed orange line around a fainter fill; other states draw no nerve. Vessels have a dotted cyan line
    without fill in these states and in NO_NERVE, unless ``vessels`` is False. The lines' width follows the
    image's size.
    """
    canvas = to_bgr(image)
    canvas = canvas.copy() if canvas is image else canvas
    paint_overlay(canvas, segmentation, opacity=opacity, vessels=vessels)
    return canvas


def paint_overlay(
    canvas: Image,
    segmentation: Segmentation,
    *,
    origin: tuple[int, int] = (0, 0),
    scale: tuple[float, float] = (1.0, 1.0),
    opacity: float = 0.25,
    vessels: bool = True,
) -> None:
    """Draw into a BGR canvas whose top-left pixel is the frame's ``origin`` (x, y), enlarged by ``scale``."""
    width = line_width(canvas)
    if vessels and segmentation.state in _VESSEL_STATES and (vessel := segmentation.others.get(VESSEL)):
        _draw_line(canvas, [_on_canvas(each, origin, scale) for each in vessel.contours], VESSEL_LINE, width)
    line = NERVE_LINES.get(segmentation.state)
    if line is None or not segmentation.contours:
        return
    outlines = [_on_canvas(contour, origin, scale) for contour in segmentation.contours]
    _fill(canvas, outlines, line.colour, opacity * (0.5 if line.period else 1.0))
    _draw_line(canvas, outlines, line, width)


def shows_vessels(segmentation: Segmentation) -> bool:
    """Whether there are vessels to draw."""
    vessel = segmentation.others.get(VESSEL)
    return vessel is not None and bool(vessel.contours) and segmentation.state in _VESSEL_STATES


def draw_line_sample(canvas: Image, place: Roi, line: Line, width: int, background: Colour) -> None:
    """Draw a piece of an outline's line for a legend, from left to right in the middle of a place."""
    tile = _sample(place.height, place.width, line, width, background)
    room = place.crop(canvas)
    np.copyto(room, tile[: room.shape[0], : room.shape[1]])


@lru_cache(maxsize=16)
def _sample(height: int, length: int, line: Line, width: int, background: Colour) -> Image:
    tile = np.full((height, length, 3), background, np.uint8)
    row, inset = (height - 1) / 2, 1.5 * width
    ends = np.array([[inset, row], [length - 1 - inset, row]])
    _draw_pieces(tile, _dashes(ends, line, width, closed=False), line.colour, width, closed=False)
    tile.flags.writeable = False
    return tile


def _draw_line(canvas: Image, outlines: list[Points], line: Line, width: int) -> None:
    """Draw closed outlines."""
    if not line.period:
        _draw_pieces(canvas, outlines, line.colour, width, closed=True)
        return
    pieces = [piece for outline in outlines for piece in _dashes(outline, line, width, closed=True)]
    # Dashes must stay open: closing one would join its ends.
    _draw_pieces(canvas, pieces, line.colour, width, closed=False)


def _draw_pieces(canvas: Image, pieces: list[Points], colour: Colour, width: int, *, closed: bool) -> None:
    if not pieces:
        return
    ends = np.cumsum([len(piece) for piece in pieces])
    points = np.split(_fixed(np.concatenate(pieces)), ends[:-1])
    for ink, thickness in ((_HALO, width + 2 * max(1, round(width / 2))), (colour, width)):
        cv2.polylines(canvas, points, closed, ink, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


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


def _dashes(path: Points, line: Line, width: int, *, closed: bool) -> list[Points]:
    """Cut a path into evenly spaced dashes; a line without a period stays one piece."""
    if not line.period:
        return [path]
    ring = np.vstack([path, path[:1]]) if closed else path
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    around = float(travelled[-1])
    count = max(2, round(around / (line.period * width)))
    step = around / count
    begins = np.arange(count) * step
    drawn = travelled[travelled % step < line.share * step] if step else travelled
    # All dashes at once: there are hundreds of dots, too many for a loop.
    where = np.concatenate([begins, begins + line.share * step, drawn])
    dash = np.concatenate([np.arange(count), np.arange(count), np.minimum(drawn // (step or 1), count - 1)])
    order = np.lexsort((where, dash))
    points = np.column_stack([np.interp(where[order], travelled, ring[:, axis]) for axis in (0, 1)])
    return np.split(points, np.flatnonzero(np.diff(dash[order])) + 1)
