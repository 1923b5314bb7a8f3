"""Detects a frozen scanner: frames keep arriving, but their content has not changed for a while.

Live tissue changes all the time, even under a probe at rest: speckle turns over, arteries beat, a hand is
never quite still. A frozen image changes too during transmission: by a grabber's noise, by a codec that
refreshes it now and then. Two neighbouring frames prove nothing (a grabber may repeat frames, a machine may
draw five in a second), so each is compared with the *same earlier frame*, the reference, and only a real
change replaces the reference: live changes add up, noise does not.

The comparison uses about 72 rows, each pixel the mean of many, which removes noise and compression; of the
difference, only the most changed quarter of the image counts, because depth is black and much else may be.
The limit depends on brightness, as speckle does. Measured margins: the largest change within a second, in
parts of the limit:

- live: phantoms at rest 2.8 and more (2.4 with half the gain, 2.5 after H.264 at 300 kbit/s), sliding 8, the
  clips 6, and 2 already after 0.15 s of a muscle at rest
- frozen: the same bytes 0; noise of 2 grey levels 0.3 (coarse noise 0.8); H.264 at 500 kbit/s with a key
  frame twice a second 0.4, at 200 kbit/s 0.9; motion JPEG of qualities from 60 to 95 in turn 0.4, from 30 0.9

Limits: a frozen image with stronger noise, or from a codec with fewer bits, counts as live, and so may the
first second of a stream, in which a codec finds its rate. A flat image (probe off the skin, black) says
nothing about freezing and is never called frozen: it is unlike the training data, which keeps outlines away
too. A probe in air shows unchanging reverberations, and may be called frozen until it touches the skin.
"""

from __future__ import annotations

import cv2
import numpy as np

from streamseg.core.errors import UsageError
from streamseg.core.types import Grey, Image

ROWS = 72
"""Approximate number of rows that are compared."""
NOISE = 0.25
"""Grey levels of change that even a black image may have while frozen."""
CONTRAST = 0.025
"""Change per grey level of mean brightness that a frozen image may have in addition."""
FLAT = 2.0
"""Standard deviation, grey levels, below which an image shows no echoes; black may be any level."""
_CELLS = 8
_COUNTED = 16
"""Of the 8x8 cells of the image, the most changed 16 count."""


class FreezeDetector:
    """Watches the frames of one source. For one thread, frames in order."""

    def __init__(self, limit_s: float = 1.0) -> None:
        """``limit_s``: seconds without a change after which a scanner counts as frozen. Raises UsageError."""
        if not 0 < limit_s < float("inf"):
            raise UsageError(f"the time to call a scanner frozen is {limit_s!r} s; give more than 0")
        self._limit_ns = round(limit_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._shape: tuple[int, ...] = ()
        self._reference: Grey | None = None
        self._since_ns = self._last_ns = 0

    def update(self, image: Image, captured_ns: int) -> bool:
        """Whether the scanner is frozen: its image has not changed for the limit.

        ``image`` uint8 (H, W) or (H, W, 3) BGR of the ultrasound image alone; ``captured_ns`` is its capture
        time. Another size, or a pause as long as the limit, starts over. The first frame that has changed
        ends a freeze.
        """
        small = downscale(image)
        if (
            self._reference is None
            or self._shape != image.shape
            or not 0 <= captured_ns - self._last_ns < self._limit_ns
            or self._changed(self._reference, small)
        ):
            self._shape, self._reference, self._since_ns = image.shape, small, captured_ns
        self._last_ns = captured_ns
        return captured_ns - self._since_ns >= self._limit_ns

    @staticmethod
    def _changed(reference: Grey, small: Grey) -> bool:
        return float(cv2.meanStdDev(small)[1][0, 0]) < FLAT or change(reference, small) > 1


def change(reference: Grey, small: Grey) -> float:
    """The change of an image, both uint8 (h, w) about :data:`ROWS` high; above 1 is a real change."""
    difference = cv2.absdiff(small, reference).astype(np.float32)
    cells = cv2.resize(difference, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel()
    most = float(np.partition(cells, -_COUNTED)[-_COUNTED:].mean())
    return most / (NOISE + CONTRAST * cv2.mean(reference)[0])


def downscale(image: Image) -> Grey:
    """An image in grey with :data:`ROWS` rows or a few more; a remainder at right and bottom is cut off."""
    part = max(1, min(image.shape[0] // ROWS, image.shape[1]))
    height, width = image.shape[0] // part, image.shape[1] // part
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    whole = grey[: height * part, : width * part]  # by a whole number OpenCV shrinks three times as fast
    while part % 2 == 0:  # by two, ten times
        part //= 2
        whole = cv2.resize(whole, (width * part, height * part), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
