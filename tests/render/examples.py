"""Results with a nerve drawn by hand, for the tests of everything that shows or writes results."""

import cv2
import numpy as np

from streamseg.core.types import Frame, Result, Roi, Segmentation, State


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
