"""Draws the live display's image: outline, ruler, and the band that marks a frame that is not live."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from streamseg.core.types import Image, Roi, State
from streamseg.core.view import View
from streamseg.render.live.layout import Layout
from streamseg.render.live.style import LiveStyle
from streamseg.render.overlay import paint_overlay
from streamseg.render.replay_panel import BACKGROUND, DIM
from streamseg.render.symbols import HELD, INK, state_colours
from streamseg.render.text import CAP_HEIGHT, put_text, to_bgr

_DIMMED = {State.SOURCE_LOST: 0.5, State.FROZEN: 0.85, HELD: 0.85}
"""Brightness of frames that are not live."""
_AVERAGED = 0.6
"""Below this scale pixels are averaged, which costs five times as much as interpolating."""
_TICKS_MM = (1, 2, 5, 10, 20, 50, 100)


def shown_region(view: View, style: LiveStyle) -> Roi | None:
    """The part of the frame that is shown; None if nothing of it may be."""
    if view.frame is None or view.roi is None:
        return None
    return Roi.whole(view.frame) if style.full_frame else view.roi


def draw_image(canvas: Image, layout: Layout, view: View, style: LiveStyle) -> None:
    """Draw the image region, its outline, ruler and band into the body, which must be cleared."""
    shown, place = shown_region(view, style), layout.image
    if shown is None or place is None or view.frame is None or view.roi is None:
        return
    sign = HELD if style.held_s is not None else view.state
    target = place.crop(canvas)
    region = to_bgr(_resized(view.frame.crop(shown), target))
    if sign in _DIMMED:
        cv2.convertScaleAbs(region, dst=target, alpha=_DIMMED[sign])
        _draw_band(canvas, layout, sign)
    else:
        np.copyto(target, region)
    scale = (place.width / shown.width, place.height / shown.height)
    if style.overlay and view.segmentation is not None:
        origin = (shown.x, shown.y)
        paint_overlay(
            target,
            view.segmentation,
            origin=origin,
            scale=scale,
            opacity=style.opacity,
            vessels=style.vessels,
        )
    if view.frame.spacing_mm is not None:
        top = place.y + round((view.roi.y - shown.y) * scale[1])
        row_mm = view.frame.spacing_mm[0]
        _draw_ruler(canvas, layout, (top, round(view.roi.height * scale[1])), row_mm / scale[1])


def _resized(region: Image, target: Image) -> Image:
    height, width = target.shape[:2]
    if region.shape[:2] == (height, width):
        return region
    # Resize while it is grey: a third of the work.
    method = cv2.INTER_AREA if height < _AVERAGED * region.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(region, (width, height), interpolation=method), np.uint8)


def _draw_band(canvas: Image, layout: Layout, sign: str) -> None:
    """Hatch the band around the image; the image itself is not touched."""
    place, wide = layout.image, layout.frame
    if place is None:
        return
    left, top = max(0, place.x - wide), max(0, place.y - wide)
    right, bottom = place.x + place.width, place.y + place.height
    around = canvas[top : bottom + wide, left : right + wide]
    hatch = _hatch(around.shape[0], around.shape[1], state_colours(sign)[0], 2 * wide)
    for rows, columns in (
        (slice(0, place.y - top), slice(None)),
        (slice(bottom - top, None), slice(None)),
        (slice(None), slice(0, place.x - left)),
        (slice(None), slice(right - left, None)),
    ):
        around[rows, columns] = hatch[rows, columns]


@lru_cache(maxsize=4)
def _hatch(height: int, width: int, colour: tuple[int, int, int], period: int) -> Image:
    """Diagonal stripes of a colour on the background."""
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % period < period // 2
    return np.where(diagonal[..., None], np.array(colour, np.uint8), np.array(BACKGROUND, np.uint8))


def _draw_ruler(canvas: Image, layout: Layout, rows: tuple[int, int], row_mm: float) -> None:
    """Draw the depth in millimetres left of the image; ``rows`` are the region's top (0 mm) and height."""
    place, (top, height) = layout.image, rows
    if place is None or not 1e-6 < row_mm < 1e3 or height < 2:
        return
    right = place.x - layout.frame
    above = max(0, top - layout.frame)
    strip = canvas[above : top + height + layout.frame, max(0, right - layout.ruler) : right]
    tile = _ruler(strip.shape[:2], zero=top - above, height=height, pixels_per_mm=1 / row_mm, u=layout.u)
    np.copyto(strip, tile)


@lru_cache(maxsize=4)
def _ruler(shape: tuple[int, int], *, zero: int, height: int, pixels_per_mm: float, u: float) -> Image:
    rows, columns = shape
    tile = np.full((rows, columns, 3), BACKGROUND, np.uint8)
    fine = next((step for step in _TICKS_MM if step * pixels_per_mm >= 5 * u), _TICKS_MM[-1])
    coarse = next((step for step in _TICKS_MM[2:] if step * pixels_per_mm >= 60 * u), _TICKS_MM[-1])
    size, thick = max(8, round(26 * u)), max(1, round(2 * u))
    for mm in range(0, int(height / pixels_per_mm) + 1, fine):
        row = min(rows - thick, zero + round(mm * pixels_per_mm))
        labelled = mm % coarse == 0
        length = (18 if labelled else 8) * u
        tile[row : row + thick, columns - max(2, round(length)) :] = INK if labelled else DIM
        if labelled:
            text = str(mm) if mm else "mm"
            baseline = min(rows - 2, max(round(size * CAP_HEIGHT) + 1, row + round(size * CAP_HEIGHT / 2)))
            edge = columns - round(24 * u)
            put_text(tile, text, edge, baseline, size, colour=INK, background=BACKGROUND, right=True)
    tile.flags.writeable = False
    return tile
