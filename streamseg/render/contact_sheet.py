"""Small pictures of frames with outlines, in rows: for people to look over many frames at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from streamseg.core.types import Image, Mask
from streamseg.render.overlay import YELLOW
from streamseg.render.text import to_bgr

COLUMNS = 6
VESSEL_BLUE = (178, 114, 0)
PAPER = (24, 24, 24)
INK = (224, 224, 224)


def outlined(image: Image, masks: Mapping[str, Mask], width: int, height: int) -> Image:
    """An image fitted into (height, width) with the outlines of masks by structure: BGR uint8."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = to_bgr(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)).copy()
    for structure, mask in masks.items():
        colour = YELLOW if structure == "nerve" else VESSEL_BLUE
        reduced = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
        parts, _ = cv2.findContours(
            (reduced >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.polylines(small, parts, True, colour, 1, cv2.LINE_AA)
    canvas = np.full((height, width, 3), PAPER, np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def sheet(cells: Sequence[Image]) -> Image:
    """Pictures of one size in rows of COLUMNS."""
    rows = [list(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    blank = np.full_like(cells[0], PAPER[0])
    columns = min(COLUMNS, len(cells))
    return np.vstack([np.hstack([*row, *[blank] * (columns - len(row))]) for row in rows])
