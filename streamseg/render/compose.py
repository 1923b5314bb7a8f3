"""Composes the frames of a replay's video: the image region with its outline, and the panel of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from streamseg.core.latency import Percentiles
from streamseg.core.types import Image, Result, Roi
from streamseg.render.overlay import paint_overlay
from streamseg.render.replay_panel import BACKGROUND, draw_panel
from streamseg.render.text import to_bgr

_MIN_HEIGHT = 480
"""Rows to which smaller regions are enlarged before drawing, so that lines and letters stay fine."""
_ENLARGED_WIDTH = 1920
"""Width at which enlarging stops."""
_FLAT = 1.5
"""Ratio of width to height above which the panel is placed below the region instead of beside it."""
_MAX_PIXELS, _LARGE_IMAGE = 11_200_000, 12_000_000
"""Pixels of a frame (4K with its panel has 11 million): x264 needs 35 bytes for each. Larger images need
much memory themselves, and get a third of that."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes in output pixels for one size of image region; height and width are even, as H.264 requires."""

    image_height: int
    image_width: int
    height: int
    width: int
    beside: bool

    @classmethod
    def of(cls, height: int, width: int) -> _Layout:
        scale = max(1.0, min(_MIN_HEIGHT / height, _ENLARGED_WIDTH / width))
        layout = cls._scaled(height, width, scale)
        limit = _MAX_PIXELS if height * width <= _LARGE_IMAGE else _MAX_PIXELS // 3
        excess = layout.height * layout.width / limit
        return layout if excess <= 1 else cls._scaled(height, width, scale * excess**-0.5 * 0.999)

    @classmethod
    def _scaled(cls, height: int, width: int, scale: float) -> _Layout:
        tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
        if wide > _FLAT * tall:
            return cls(
                tall,
                wide,
                _even_up(tall + wide * 13.2 / 72),
                _even_up(wide),
                beside=False,
            )
        return cls(tall, wide, _even_up(tall), _even_up(wide + tall * 0.58), beside=True)


def _even_up(value: float) -> int:
    return 2 * int(np.ceil(value / 2))


def compose(
    result: Result,
    *,
    stages: Mapping[str, Percentiles],
    fps: float | None,
    full_frame: bool,
    vessels: bool = True,
) -> Image:
    """Draw a result with its panel of figures: BGR, uint8 (height, width, 3), even height and width.

    Shows only the result's ROI, since the rest of a machine's screen carries patients' names, or the whole
    frame with ``full_frame``. ``vessels`` draws their outlines too. Regions under 480 rows are enlarged, and
    above 11 megapixels reduced. The output size depends only on the size of what is shown.
    """
    shown = Roi.whole(result.frame) if full_frame else result.roi
    layout = _Layout.of(shown.height, shown.width)
    canvas = np.empty((layout.height, layout.width, 3), np.uint8)
    view = canvas[: layout.image_height, : layout.image_width]
    region = to_bgr(shown.crop(result.frame.image))
    if region.shape == view.shape:
        np.copyto(view, region)
    else:
        how = cv2.INTER_CUBIC if layout.image_height >= shown.height else cv2.INTER_AREA
        cv2.resize(region, (layout.image_width, layout.image_height), dst=view, interpolation=how)
    scale = (layout.image_width / shown.width, layout.image_height / shown.height)
    paint_overlay(view, result.segmentation, origin=(shown.x, shown.y), scale=scale, vessels=vessels)
    if layout.beside:
        panel = canvas[:, layout.image_width :]
        canvas[layout.image_height :, : layout.image_width] = BACKGROUND
    else:
        panel = canvas[layout.image_height :]
        canvas[: layout.image_height, layout.image_width :] = BACKGROUND
    draw_panel(panel, result, stages=stages, fps=fps, beside=layout.beside, vessels=vessels)
    return canvas


def compose_plain(result: Result, *, full_frame: bool, vessels: bool = True) -> Image:
    """Draw the image region with its outlines at its own size, without the panel.

    BGR, uint8; an odd height or width is padded by one black row or column.
    """
    shown = Roi.whole(result.frame) if full_frame else result.roi
    canvas = np.zeros((_even_up(shown.height), _even_up(shown.width), 3), np.uint8)
    view = canvas[: shown.height, : shown.width]
    np.copyto(view, to_bgr(shown.crop(result.frame.image)))
    paint_overlay(view, result.segmentation, origin=(shown.x, shown.y), vessels=vessels)
    return canvas
