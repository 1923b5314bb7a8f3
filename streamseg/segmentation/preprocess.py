"""Converts images to the net's input, for training and every back end, so that they cannot drift apart."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from streamseg.core.geometry import Letterbox
from streamseg.core.latency import StageClock
from streamseg.core.types import Frame, Grey, Image, InputSpec, Roi, Tensor


@dataclass(frozen=True, slots=True, repr=False)
class Prepared:
    """A frame as it enters the net: what preprocessing made of it, for inference and postprocessing."""

    frame: Frame
    roi: Roi
    """The ultrasound image in the frame."""
    letterbox: Letterbox
    """Fits the ROI into the net's input."""
    grey: Grey
    """The ROI in grey, letterboxed: uint8 (spec.height, spec.width)."""
    tensor: Tensor
    """The net's input: float32 (1, 1, spec.height, spec.width)."""
    clock: StageClock
    """Collects the times of this frame's stages."""
    misplaced: bool = False
    """The ultrasound image is elsewhere on the screen, or not on it: an outline would mean nothing."""

    @property
    def content(self) -> Grey:
        """View of ``grey`` without the letterbox's padding: uint8 (h, w)."""
        return self.letterbox.crop(self.grey)

    def __repr__(self) -> str:
        return f"Prepared({self.frame!r}, roi={self.roi}, tensor={self.tensor.shape})"


def prepare(frame: Frame, roi: Roi, spec: InputSpec, clock: StageClock) -> Prepared:
    """Prepare a frame's ROI, which must lie inside it; timed as the stage ``preprocess``."""
    with clock.stage("preprocess"):
        letterbox = Letterbox(roi.height, roi.width, spec.height, spec.width)
        grey = letterbox.apply(frame.grey(roi))  # grey first: a third of the bytes to resize
        return Prepared(frame, roi, letterbox, grey, normalise(grey, spec)[None, None], clock)


def to_grey(image: Image) -> Grey:
    """Grey levels of an image (H, W) or (H, W, 3) BGR; uint8 (H, W). Weights are those of ITU-R BT.601."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def letterbox_for(image: Image, spec: InputSpec) -> Letterbox:
    """The letterbox that fits an image into the net's input."""
    return Letterbox(image.shape[0], image.shape[1], spec.height, spec.width)


def normalise(grey: Grey, spec: InputSpec) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Grey levels 0..255 to the net's units: ``(grey / 255 - mean) / std``, float32, same shape."""
    scale = 1 / (255 * spec.std)
    return np.asarray(grey, np.float32) * np.float32(scale) - np.float32(spec.mean / spec.std)


def letterboxed(image: Image, spec: InputSpec) -> Grey:
    """An image (H, W[, 3]) in grey, letterboxed into the net's input: uint8 (spec.height, spec.width)."""
    return letterbox_for(image, spec).apply(to_grey(image))


def unpadded(image: Image, spec: InputSpec) -> Grey:
    """:func:`letterboxed` without the padding: uint8 (h, w), at most (spec.height, spec.width)."""
    return letterbox_for(image, spec).crop(letterboxed(image, spec))


def to_tensor(image: Image, spec: InputSpec) -> Tensor:
    """An image (H, W[, 3]) as the net's input: float32 (1, 1, spec.height, spec.width)."""
    return normalise(letterboxed(image, spec), spec)[None, None]
