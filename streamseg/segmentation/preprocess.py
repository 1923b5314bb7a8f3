"""From pixels to the net's input. Training and every back end go through here, so they cannot drift apart."""

from __future__ import annotations

import cv2
import numpy as np

from streamseg.core.geometry import Letterbox
from streamseg.core.types import Grey, Image, InputSpec, Tensor


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


def boxed(image: Image, spec: InputSpec) -> Grey:
    """An image (H, W[, 3]) in grey and letterboxed into the net's input: uint8 (spec.height, spec.width)."""
    return letterbox_for(image, spec).apply(to_grey(image))  # grey first: a third of the bytes to resize


def to_tensor(image: Image, spec: InputSpec) -> Tensor:
    """Letterbox an image (H, W[, 3]) into the net's input: float32 (1, 1, spec.height, spec.width)."""
    return normalise(boxed(image, spec), spec)[None, None]
