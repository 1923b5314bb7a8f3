"""Recognises frames that a grabber or an encoder repeats: they show what the frame before showed, and noise.

At 60 frames a second of a scanner that draws 20 or 30, most frames are repetitions, and a net that wavers
with the noise must not count them as evidence. Three things give them away, each where the others cannot:

- **White noise**, of an analogue grabber, loses as much in a blur as noise does. Tissue changes in whole
  specks, which keep more. This tells single frames apart, at any rate.
- **A floor**: noise that a grabber or a codec has blurred looks like tissue, but it has the same size in all
  repetitions, while every new image adds its own change. So differences of consecutive frames fall into two
  groups with a gap between them, and alternate between them.
- **A rhythm**: a codec at a low rate changes repetitions by as much as it likes, but every second, third, ...
  frame by more. Where the largest difference keeps its place in the period, the others are repetitions.

A scene that moves has none of these: its differences change gradually. A codec that is given so few bits that
the change of one image arrives over several frames hides the rhythm too; its frames count as new.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt

from streamseg.core.geometry import cell_means
from streamseg.core.types import Grey

NOISE_LEFT = 0.36
"""Share of white noise that a blur of 3x3 pixels leaves; :func:`noise_left` gives that of resized frames. The
change of tissue at rest within 1/30 s keeps 0.54 and more, 0.47 in single frames of a sliding probe."""
RECENT_NS = 300_000_000
"""If no frame has differed by more than noise for this time, noise is all that can be seen, and proves
nothing. After a pause as long, nothing is known of the frames before."""
LONGEST_RUN = 5
"""Repetitions in a row: a scanner that draws 10 images a second, at 60."""
_MARGIN = 1.15
_MAX_NOISE_LEFT = 0.45
"""Where noise keeps more, because small frames were enlarged, it cannot be distinguished from tissue."""
_CELLS, _COUNTED = (8, 6), 16
"""Of this grid of an image, the most changed cells count: depth is black."""

_WINDOW, _MIN_WINDOW = 24, 16
"""Differences among which a floor is looked for."""
_GAP, _MIN_GAP = 1.5, 0.03
"""The gap above a floor, in parts of its spread and of itself."""
_ALTERNATIONS = 4
"""Changes from below the gap to above it: the beat of an artery has one or two in this time."""
_PERIODS = {2: (10, 1), 3: (8, 2), 4: (5, 1), 5: (5, 1), 6: (5, 1)}
"""Frames for each image; periods that are looked at, and how many of them may differ: key frames do."""
_STANDS_OUT = 1.2
"""The largest difference of a period, in parts of the next."""
_KEPT = 30
_DROPPED = 1.7
"""An interval longer than usual by this factor holds a frame that was dropped, which breaks the rhythm."""


class RepetitionDetector:
    """Tells which frames of one source are repetitions. For one thread, frames in order."""

    def __init__(self) -> None:
        self._new: Grey | None = None
        """The latest frame that was no repetition."""
        self._last: Grey | None = None
        self._forget()

    def _forget(self) -> None:
        self._last_ns = 0
        self._changed_ns: int | None = None
        """When the last frame was captured whose difference from the one before was more than noise."""
        self._run = 0
        self._differences: deque[float] = deque(maxlen=_KEPT)
        self._intervals: deque[int] = deque(maxlen=_KEPT)
        self._in_step = 0
        """Differences since a frame was dropped."""

    def update(self, content: Grey, captured_ns: int, noise: float = NOISE_LEFT) -> bool:
        """Whether a frame is a repetition of the latest one that was none.

        ``content`` uint8 (h, w), the image at the net's resolution; ``captured_ns`` its capture time;
        ``noise`` the share of a grabber's noise that a blur leaves in it (:func:`noise_left`).
        """
        new, last, interval_ns = self._new, self._last, captured_ns - self._last_ns
        self._last, self._last_ns = content, captured_ns
        if new is None or last is None or last.shape != content.shape or not 0 <= interval_ns <= RECENT_NS:
            self._forget()
            self._new, self._last_ns = content, captured_ns
            return False
        since_last = _Change.between(content, last)
        self._measure(since_last, interval_ns)
        noise_only = is_noise(content, new, noise, since_last if new is last else None)
        recent = self._changed_ns is not None and captured_ns - self._changed_ns <= RECENT_NS
        repeated = recent and self._run < LONGEST_RUN and (noise_only or self._on_floor() or self._off_beat())
        if not noise_only and not repeated:
            self._changed_ns = captured_ns
        self._run = self._run + 1 if repeated else 0
        if not repeated:
            self._new = content
        return repeated

    def _measure(self, change: _Change, interval_ns: int) -> None:
        usual_ns = median(self._intervals) if self._intervals else interval_ns
        self._in_step = 1 if interval_ns > _DROPPED * usual_ns else self._in_step + 1
        self._intervals.append(interval_ns)
        self._differences.append(change.blurred_rms())

    def _on_floor(self) -> bool:
        """Whether the latest difference is one of many small ones below a gap."""
        found = list(self._differences)[-_WINDOW:]
        if len(found) < _MIN_WINDOW:
            return False
        rising = sorted(found)
        limit = -1.0
        for count in range(max(5, len(found) // 3), len(found) - max(3, len(found) // 8) + 1):
            floor, gap = rising[count - 1], rising[count] - rising[count - 1]
            if gap >= max(_GAP * (floor - rising[0]), _MIN_GAP * floor + 0.02):
                below = [difference <= floor + gap / 3 for difference in found]
                if sum(low and not then for low, then in pairwise(below)) >= _ALTERNATIONS:
                    limit = floor + gap / 3
        return found[-1] <= limit

    def _off_beat(self) -> bool:
        """Whether the differences have a rhythm, and the latest one is not its beat."""
        found = np.array(self._differences)[-self._in_step :]
        for period, (count, odd) in _PERIODS.items():
            if len(found) < count * period:
                continue
            periods = found[-count * period :].reshape(count, period)
            rising = np.sort(periods, axis=0)  # np.median takes ten times as long
            usual = (rising[(count - 1) // 2] + rising[count // 2]) / 2
            beat = int(np.argmax(usual))
            if usual[beat] < _STANDS_OUT * np.partition(usual, -2)[-2]:
                continue
            # Where all differences fall or rise, one place has the largest of every period, but no peak.
            latest = found[-count * period :]
            before, after = np.roll(latest, 1), np.roll(latest, -1)
            before[0] = after[-1] = -np.inf
            peaks = ((latest > before) & (latest > after)).reshape(count, period)[:, beat]
            agreeing = int(((periods.argmax(axis=1) == beat) & peaks).sum())
            if agreeing >= count - odd:
                return beat != period - 1
        return False


@dataclass(frozen=True, slots=True)
class _Change:
    """What differs between two images: means of squares in each of :data:`_CELLS`, (cells,)."""

    whole: npt.NDArray[np.float64]
    blurred: npt.NDArray[np.float64]
    """Of the difference after a blur."""

    @classmethod
    def between(cls, one: Grey, other: Grey) -> _Change:
        difference = cv2.subtract(one, other, dtype=cv2.CV_32F)
        blurred = cv2.blur(difference, (3, 3))
        return cls(*(cell_means(part * part, *_CELLS[::-1]).ravel() for part in (difference, blurred)))

    def blurred_rms(self) -> float:
        """Root mean square of the blurred difference in its most changed cells, grey levels."""
        return float(np.sqrt(np.partition(self.blurred, -_COUNTED)[-_COUNTED:].mean()))


@lru_cache(maxsize=8)
def noise_left(source: tuple[int, int], content: tuple[int, int]) -> float:
    """The share of white noise in frames of a size (height, width) that a blur leaves in the content."""
    rng = np.random.default_rng(0)
    height, width = (min(side, 4 * other) for side, other in zip(source, content, strict=True))
    noise = rng.normal(0, 1, (height, width)).astype(np.float32)
    shrinks = content[1] < source[1]
    resized = cv2.resize(noise, content[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return float(np.std(cv2.blur(resized, (3, 3))) / max(float(np.std(resized)), 1e-9))


def is_noise(one: Grey, other: Grey, noise: float = NOISE_LEFT, change: _Change | None = None) -> bool:
    """Whether two images, uint8 of one size, differ by white noise alone. ``change`` is theirs, if known."""
    if noise > _MAX_NOISE_LEFT:
        return np.array_equal(one, other)
    change = _Change.between(one, other) if change is None else change
    most = np.argpartition(change.whole, -_COUNTED)[-_COUNTED:]
    return float(change.blurred[most].sum()) <= (_MARGIN * noise) ** 2 * float(change.whole[most].sum())
