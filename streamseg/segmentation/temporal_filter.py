"""Removes the flicker of live outlines, never more than one frame late.

An unsure net sees a nerve in one frame and none in the next, in tissue that did not move. Averaging over
many frames would hide that, and would lag behind the probe. Instead each pixel of each structure shows the
*median of three* probabilities: this frame's, the previous frame's, and a running mean of what was shown.
Where this frame and the previous one agree, at whatever level, the median agrees with both: nothing appears
or disappears more than one frame late, by construction. The history decides only where the two disagree.

- The probe moves: the history is first moved with the image (phase correlation of a small copy), if that
  makes the two images more alike. If the image still differs from the previous one (another scene), after a
  pause, or at another size, the history is dropped, and the frame decides alone.
- The present has the last word: a pixel is shown at most at twice its own probability in this very frame,
  so an outline needs at least half the threshold everywhere, and a frame without evidence never has one.
- A grabber that repeats a frame repeats its map: a repeated frame adds no evidence and is ignored. Grabbers
  and encoders add noise to repetitions (:mod:`streamseg.segmentation.repetition_detector`). An image that
  moves with the probe is none, whatever its noise looks like.
- States near their limits follow the same rule. LOW_CONFIDENCE begins and ends with the second frame in a
  row; UNLIKE_TRAINING begins at once, because it removes the outline, and ends with the second.

The price: a true nerve that the net sees in single frames only is treated as flicker as well, which lowers
the mean Dice (by 0.01 to 0.03 on phantoms); the outlines that are shown keep their Dice within 0.007.

Weights that fall with the change of the image, pixel by pixel, flow fields, and a longer memory gained
nothing over this on clips and phantoms (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Grey, Planes, State
from streamseg.segmentation.repetition_detector import NOISE_LEFT, RepetitionDetector

MAX_GAP_NS = 300_000_000
"""A frame that follows the last one after a longer time has no history."""
SAME_SCENE = 0.8
"""Minimum correlation of two images of one scene. At 15 Hz and more it stayed above 0.93 on clips of a
contracting muscle and 0.98 on phantoms; images of two people have 0.4 in the median."""
HISTORY_WEIGHT = 0.55
"""Weight of what was shown, in the running mean with the present. Above a half, so that a single frame,
however sure, stays below a threshold of a half; more makes the outlines of a sliding probe lag."""
SMALL = 64, 48
"""Width and height at which images are compared: finer detail is speckle, which does not last. Sizes that the
Fourier transform takes without padding, which would shift its answer by half a pixel."""
MAX_MOVEMENT = 0.25
"""Share of a side: a larger movement between two frames is a chance finding."""
REST_AFTER_MOVING = 0.5
"""A movement is accepted if it reduces the difference of two images to this share or less. A sliding probe
has 0.03 to 0.5, a muscle that contracts under a probe at rest 0.5 and more, tissue at rest 0.9."""

Probability = npt.NDArray[np.float32]
_Small = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, repr=False)
class _History:
    """The previous frame, as far as it influences the next."""

    captured_ns: int
    content: Grey
    small: _Small
    before: Planes
    """The maps of that frame alone."""
    shown: Planes
    unlike: bool


class TemporalFilter:
    """Filters the maps and states of one source. For one thread, frames in order."""

    def __init__(self) -> None:
        self._repetitions = RepetitionDetector()
        self.reset()

    def reset(self) -> None:
        """Drop the history: the next frame decides alone."""
        self._history: _History | None = None
        self._states: tuple[State, State] | None = None
        self._repeated = False
        self.unlike = False
        """Whether the last frame counts as unlike the training data."""

    def update(
        self,
        planes: Planes,
        content: Grey,
        captured_ns: int,
        *,
        unlike: bool = False,
        noise: float = NOISE_LEFT,
    ) -> Planes:
        """The maps to show for a frame; ``planes`` itself without a history. Changes no argument.

        ``planes`` float32 (structures, h, w) at the net's resolution, 0..1; ``content`` uint8, at most
        (h, w), the image as it enters the net without padding (``Prepared.content``);
        ``captured_ns`` is its capture time; ``unlike`` whether it is unlike the training data: then its maps
        do not influence the frames that follow; ``noise`` is the share of a grabber's noise that a blur
        leaves. The result is at most twice ``planes`` in each pixel.
        """
        history = self._history
        repeats = self._repetitions.update(content, captured_ns, noise)
        if history is None or not _follows(history, planes, content, captured_ns):
            self.reset()
            return self._store(_History(captured_ns, content, _shrunk(content), planes, planes, unlike))
        small = _shrunk(content)
        moved = _movement(history.small, small)
        self._repeated = history.unlike == unlike and (
            (np.array_equal(content, history.content) and np.array_equal(planes, history.before))
            or (repeats and moved == (0.0, 0.0))
        )
        if self._repeated:
            self._history = replace(history, captured_ns=captured_ns)
            return np.minimum(history.shown, 2 * planes)
        steady = planes
        if moved is None:
            self.reset()
        elif unlike or history.unlike:
            self._states = None
            self.unlike = True
        else:
            self.unlike = False
            steady = _filtered(planes, history, moved, content.shape)
        return self._store(_History(captured_ns, content, small, planes, steady, unlike))

    def _store(self, history: _History) -> Planes:
        self._history = history
        self.unlike = self.unlike or history.unlike
        return history.shown

    def filter_state(self, state: State) -> State:
        """The state to show for the one found with the updated map; call it once after an update.

        NERVE and LOW_CONFIDENCE alternate only when two frames in a row say so; others pass unchanged.
        """
        if state not in {State.NERVE, State.LOW_CONFIDENCE}:
            self._states = None
            return state
        before, shown = self._states or (state, state)
        if self._repeated:
            return shown
        filtered = state if state is before else shown
        self._states = state, filtered
        return filtered


def _follows(history: _History, planes: Planes, content: Grey, captured_ns: int) -> bool:
    return (
        history.content.shape == content.shape
        and history.before.shape == planes.shape
        and 0 <= captured_ns - history.captured_ns <= MAX_GAP_NS
    )


def _filtered(
    planes: Planes, history: _History, moved: tuple[float, float], shape: tuple[int, ...]
) -> Planes:
    """The maps with the median of three in their content, which has this shape."""
    top, left = (planes.shape[1] - shape[0]) // 2, (planes.shape[2] - shape[1]) // 2
    inside = slice(top, top + shape[0]), slice(left, left + shape[1])
    steady = planes.copy()
    for plane, now, before, shown in zip(steady, planes, history.before, history.shown, strict=True):
        plane[inside] = _median(now[inside], _move(before[inside], moved), _move(shown[inside], moved))
    return steady


def _median(now: Probability, before: Probability, shown: Probability) -> Probability:
    """The median of now, before and the running mean, but at most twice the present value."""
    mean = cv2.addWeighted(shown, HISTORY_WEIGHT, now, 1 - HISTORY_WEIGHT, 0.0)
    middle = cv2.max(cv2.min(now, before), cv2.min(cv2.max(now, before), mean))
    return np.asarray(cv2.min(middle, 2 * now), np.float32)


def _shrunk(content: Grey) -> _Small:
    return cv2.resize(content, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)


def _movement(before: _Small, now: _Small) -> tuple[float, float] | None:
    """Movement of the image, (x, y) as shares of its sides; None for another scene."""
    width, height = SMALL
    at_rest = _likeness(before, now)
    # Copies, because OpenCV multiplies images of such sizes by the window in place.
    (x, y), _ = cv2.phaseCorrelate(before.copy(), now.copy(), _window())
    if abs(x) <= MAX_MOVEMENT * width and abs(y) <= MAX_MOVEMENT * height:
        moved = _likeness(_move(before, (x / width, y / height)), now)
        if moved >= SAME_SCENE and 1 - moved <= REST_AFTER_MOVING * (1 - at_rest):
            return x / width, y / height
    return (0.0, 0.0) if at_rest >= SAME_SCENE else None


@lru_cache(maxsize=1)
def _window() -> _Small:
    return np.asarray(cv2.createHanningWindow(SMALL, cv2.CV_32F), np.float32)


def _likeness(one: _Small, other: _Small) -> float:
    """Correlation, -1..1; 0 if one of the two is constant."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt(np.vdot(a, a) * np.vdot(b, b)))
    return float(np.vdot(a, b)) / scale if scale > 0 else 0.0


def _move(image: npt.NDArray[np.float32], by: tuple[float, float]) -> npt.NDArray[np.float32]:
    """The image moved by (x, y), shares of its sides; what enters at a side repeats its edge."""
    if by == (0.0, 0.0):
        return image
    size = (image.shape[1], image.shape[0])
    matrix = np.array([[1, 0, by[0] * size[0]], [0, 1, by[1] * size[1]]], np.float32)
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )
