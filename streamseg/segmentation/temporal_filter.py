"""Takes the flicker out of live outlines, never more than one frame late.

A net that is unsure says nerve in one frame and none in the next, of tissue that did not move. Averaging
over many frames would hide that, and would lag behind the probe. So what is shown is, pixel by pixel, the
*median of three* probabilities: this frame's, that of the frame before, and a running mean of what was
shown. Where this frame and the one before agree on nerve, at whatever level, the median agrees with both:
nothing appears or disappears more than one frame late, by construction. Only where the two contradict one
another does the past decide.

- The probe moves: the past is first moved with the picture (phase correlation of a small copy), where that
  makes the two pictures more alike. A picture that is unlike the one before all the same (another scene), a
  pause, another size: the past is forgotten, and the frame decides alone.
- The present has the last word: a pixel is shown at most at twice its own probability in this very frame,
  so an outline needs everywhere at least half the threshold, and a frame without evidence never has one.
- A grabber that repeats a picture repeats its map: that is no second opinion, and counts as no frame.
- States near their limits follow the same rule. LOW_CONFIDENCE begins and ends with the second frame in a
  row; UNLIKE_TRAINING begins at once, because it takes the outline away, and ends with the second.

The price: where the net sees a true nerve in single frames only, those are taken for flicker as well, and the
mean Dice falls with them (by 0.01 to 0.03 on phantoms); what is shown keeps its Dice within 0.007.

Weights that fall with the change of the picture, pixel by pixel, flow fields, and a longer memory were tried
and gained nothing over this on clips and phantoms (benchmarks/flicker.py measures).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.types import Grey, State

LONGEST_GAP_NS = 300_000_000
"""A frame that comes later than this after the last one has no past."""
SAME_SCENE = 0.8
"""Least correlation of two pictures of one scene. Over 15 Hz and more it stayed above 0.93 on clips of a
contracting muscle and 0.98 on phantoms; pictures of two people have 0.4 in the median."""
PAST = 0.55
"""Weight of what was shown, in the running mean with the present. Above a half, so that what one frame alone
is sure of stays below a threshold of a half; more makes outlines of a sliding probe lag."""
SMALL = 64, 48
"""Width and height at which pictures are compared: finer is speckle, which does not last. Sizes that the
Fourier transform takes without padding, which would shift its answer by half a pixel."""
FARTHEST = 0.25
"""Of a side: a movement larger than this between two frames is a chance finding."""
MOVED = 0.5
"""A movement is believed where it brings what two pictures differ in to this part or less. A sliding probe
has 0.03 to 0.5, a muscle that contracts under a probe at rest 0.5 and more, tissue at rest 0.9."""

Probability = npt.NDArray[np.float32]
_Small = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, repr=False)
class _History:
    """The frame before, as far as it may speak to the present."""

    captured_ns: int
    picture: Grey
    small: _Small
    before: Probability
    """Its own map."""
    shown: Probability
    unlike: bool


class TemporalFilter:
    """The past of one source. For one thread, frames in order."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame decides alone."""
        self._past: _History | None = None
        self._states: tuple[State, State] | None = None
        self._repeated = False
        self.unlike = False
        """Whether to say that the last frame is unlike the training data."""

    def update(
        self, probability: Probability, content: Grey, captured_ns: int, *, unlike: bool = False
    ) -> Probability:
        """The map to show for a frame; ``probability`` itself where there is no past. Changes no argument.

        ``probability`` float32 (h, w) at the net's resolution, 0..1; ``content`` uint8, at most
        (h, w), the image as it enters the net without padding (``Prepared.content``);
        ``captured_ns`` when the frame was taken; ``unlike`` whether it is unlike the training data: then its
        map says nothing to the frames that follow. The result is at most twice ``probability`` in each pixel.
        """
        past = self._past
        if past is None or not _follows(past, probability, content, captured_ns):
            self.reset()
            return self._keep(
                _History(captured_ns, content, _shrunk(content), probability, probability, unlike)
            )
        self._repeated = (
            past.unlike == unlike
            and np.array_equal(content, past.picture)
            and np.array_equal(probability, past.before)
        )
        if self._repeated:
            self._past = replace(past, captured_ns=captured_ns)
            return past.shown
        small = _shrunk(content)
        moved = _movement(past.small, small)
        steady = probability
        if moved is None:
            self.reset()
        elif unlike or past.unlike:
            self._states = None
            self.unlike = True
        else:
            self.unlike = False
            steady = _steadied(probability, past, moved, content.shape)
        return self._keep(_History(captured_ns, content, small, probability, steady, unlike))

    def _keep(self, past: _History) -> Probability:
        self._past = past
        self.unlike = self.unlike or past.unlike
        return past.shown

    def filter_state(self, state: State) -> State:
        """The state to show for the one that was found with the updated map; call it once after an update.

        NERVE and LOW_CONFIDENCE take turns only when two frames in a row say so; others pass.
        """
        if state not in {State.NERVE, State.LOW_CONFIDENCE}:
            self._states = None
            return state
        before, shown = self._states or (state, state)
        if self._repeated:
            return shown
        settled = state if state is before else shown
        self._states = state, settled
        return settled


def _follows(past: _History, probability: Probability, content: Grey, captured_ns: int) -> bool:
    return (
        past.picture.shape == content.shape
        and past.before.shape == probability.shape
        and 0 <= captured_ns - past.captured_ns <= LONGEST_GAP_NS
    )


def _steadied(
    probability: Probability, past: _History, moved: tuple[float, float], shape: tuple[int, ...]
) -> Probability:
    """The map with the median of three where the picture, of this shape, lies in it."""
    top, left = (probability.shape[0] - shape[0]) // 2, (probability.shape[1] - shape[1]) // 2
    inside = slice(top, top + shape[0]), slice(left, left + shape[1])
    steady = probability.copy()
    steady[inside] = _median(
        probability[inside], _move(past.before[inside], moved), _move(past.shown[inside], moved)
    )
    return steady


def _median(now: Probability, before: Probability, shown: Probability) -> Probability:
    """The median of now, before and the running mean, but at most twice what is seen now."""
    mean = cv2.addWeighted(shown, PAST, now, 1 - PAST, 0.0)
    middle = cv2.max(cv2.min(now, before), cv2.min(cv2.max(now, before), mean))
    return np.asarray(cv2.min(middle, 2 * now), np.float32)


def _shrunk(content: Grey) -> _Small:
    return cv2.resize(content, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)


def _movement(before: _Small, now: _Small) -> tuple[float, float] | None:
    """How far the picture moved, (x, y) as parts of its sides; None where it is another scene."""
    width, height = SMALL
    at_rest = _likeness(before, now)
    # Copies, because OpenCV multiplies pictures of such sizes by the window where they stand.
    (x, y), _ = cv2.phaseCorrelate(before.copy(), now.copy(), _window())
    if abs(x) <= FARTHEST * width and abs(y) <= FARTHEST * height:
        moved = _likeness(_move(before, (x / width, y / height)), now)
        if moved >= SAME_SCENE and 1 - moved <= MOVED * (1 - at_rest):
            return x / width, y / height
    return (0.0, 0.0) if at_rest >= SAME_SCENE else None


@lru_cache(maxsize=1)
def _window() -> _Small:
    return np.asarray(cv2.createHanningWindow(SMALL, cv2.CV_32F), np.float32)


def _likeness(one: _Small, other: _Small) -> float:
    """Correlation, -1..1; 0 where one of the two is the same everywhere."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt(np.vdot(a, a) * np.vdot(b, b)))
    return float(np.vdot(a, b)) / scale if scale > 0 else 0.0


def _move(image: npt.NDArray[np.float32], by: tuple[float, float]) -> npt.NDArray[np.float32]:
    """The image moved by (x, y) of its sides; what comes in at a side is what stood there."""
    if by == (0.0, 0.0):
        return image
    size = (image.shape[1], image.shape[0])
    matrix = np.array([[1, 0, by[0] * size[0]], [0, 1, by[1] * size[1]]], np.float32)
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )
