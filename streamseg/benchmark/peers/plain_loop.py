"""What one writes round a net in a few lines, with OpenCV: the plain loop that ours is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from streamseg.core.errors import SinkError, SourceError
from streamseg.core.types import Backend, Image, Mask, Roi

THICKNESS = 2
COLOUR = (80, 220, 255)
"""Of outlines, blue, green, red."""


class PlainModel:
    """What one writes round a net in a few lines: fit the region into its input, infer, fit the map back."""

    def __init__(self, engine: Backend, roi: Roi | None) -> None:
        self._engine, self._roi = engine, roi

    def mask(self, frame: Image) -> Mask:
        """Nerve, bool (H, W), in a frame (H, W[, 3])."""
        spec, roi = self._engine.spec, self._roi or Roi.whole(frame)
        region = roi.crop(frame)
        grey = region if region.ndim == 2 else cv2.cvtColor(region, cv2.COLOR_BGR2GRAY)
        scale = min(spec.height / roi.height, spec.width / roi.width)
        height, width = round(roi.height * scale), round(roi.width * scale)
        top, left = (spec.height - height) // 2, (spec.width - width) // 2
        tensor = np.zeros((1, 1, spec.height, spec.width), np.float32)
        tensor[0, 0, top : top + height, left : left + width] = cv2.resize(
            grey, (width, height), interpolation=cv2.INTER_AREA
        )
        tensor = (tensor / np.float32(255) - np.float32(spec.mean)) / np.float32(spec.std)
        found = self._engine.infer(tensor)[top : top + height, left : left + width]
        mask = np.zeros(frame.shape[:2], np.bool_)
        inside = cv2.resize(found, (roi.width, roi.height)) > spec.threshold
        mask[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width] = inside
        return mask


def plain_loop(uri: str, model: PlainModel, frames: int, target: Path | None, rate: float) -> int:
    """Decode, infer and draw the outline, frame by frame, and write it to ``target`` where that is given.

    The number of frames that came out, at most ``frames``. Raises SourceError, and SinkError.
    """
    done, writer = 0, None
    for frame in islice(_decoded(uri), frames):
        mask = model.mask(frame).view(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(frame, outlines, -1, COLOUR, THICKNESS)
        if target is not None:
            writer = writer or _writer(target, frame, rate)
            writer.write(frame)
        done += 1
    if writer is not None:
        writer.release()
    return done


def _decoded(uri: str) -> Iterator[Image]:
    """A video's frames by OpenCV. Raises SourceError where it cannot read it."""
    video = cv2.VideoCapture(uri)
    try:
        if not video.isOpened():
            raise SourceError("OpenCV cannot read this clip; give a video file")
        while True:
            found, frame = video.read()
            if not found:
                return
            yield np.asarray(frame, np.uint8)
    finally:
        video.release()


def _writer(path: Path, frame: Image, rate: float) -> cv2.VideoWriter:
    size = frame.shape[1], frame.shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    if not writer.isOpened():
        raise SinkError(f"OpenCV cannot write {path.name}")
    return writer
