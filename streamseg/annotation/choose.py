"""Chooses the frames to be labelled from candidates.

No frame is near-identical to one that was chosen before or is labelled already. The subjects, and within one
its recordings, take turns, except by chance. Strategies:

* ``mixed``: every second frame for its kind of picture (the candidate least like all chosen ones), the others
  for one of the scores in turn;
* ``spread``: every frame for its kind of picture;
* ``unsure``: every frame for its scores;
* ``random``: by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamseg.annotation.candidates import SCORES, Candidate
from streamseg.core.errors import UsageError
from streamseg.core.types import State
from streamseg.datasets.near_duplicates import SAME

SPREAD, CHANCE = "kind of picture", "chance"
ASPECTS = {
    "mixed": [aspect for score in SCORES for aspect in (SPREAD, score)],
    "spread": [SPREAD],
    "unsure": list(SCORES),
    "random": [CHANCE],
}
"""What the frames are chosen for in turn, by strategy."""
MIN_SCORE = {"unsure": 0.15, "mirror": 0.15, "flicker": 0.15, "unlike": 0.45}
"""A lower score is no reason to choose a frame: another aspect takes its turn."""

Prints = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen candidate."""

    candidate: Candidate
    aspect: str
    """SPREAD, CHANCE or one of SCORES."""
    reason: str
    """In words, with the figure."""


def choose(
    candidates: Sequence[Candidate],
    count: int,
    *,
    strategy: str = "mixed",
    known: Prints | None = None,
    seed: int = 0,
) -> list[Choice]:
    """Choose up to ``count`` candidates, in the order in which they teach most.

    ``known`` (N, ...) are the prints of images that are labelled already. Fewer are chosen if the rest is
    near-identical to them. Raises UsageError for an unknown strategy.
    """
    if strategy not in ASPECTS:
        raise UsageError(f"no strategy is called {strategy!r}; choose one of {', '.join(ASPECTS)}")
    pool, aspects, place = _Pool(candidates, known, seed), ASPECTS[strategy], 0
    chosen: list[Choice] = []
    while len(chosen) < count and (rows := pool.free() if strategy == "random" else pool.turn()):
        in_turn = [aspects[(place + step) % len(aspects)] for step in range(len(aspects))]
        offers = [(aspect, pool.best(aspect, rows)) for aspect in in_turn]
        step, (aspect, row) = next(
            ((step, offer) for step, offer in enumerate(offers) if offer[1] is not None),
            (0, (SPREAD, pool.best(SPREAD, rows))),  # no score is a reason: then its kind of picture
        )
        assert row is not None
        place += step + 1
        chosen.append(Choice(candidates[row], aspect, pool.reason(row, aspect)))
        pool.take(row)
    return chosen


class _Pool:
    """Candidates that are still free, and how near each is to what is chosen or known."""

    def __init__(self, candidates: Sequence[Candidate], known: Prints | None, seed: int) -> None:
        self._candidates = candidates
        self._prints = np.stack([one.print for one in candidates]) if candidates else np.zeros((0, 1))
        self._nearest = np.full(len(candidates), -1.0)
        if known is not None and len(known) and len(candidates):
            self._nearest = (self._prints @ known.T).max(axis=1)
        self._free = self._nearest < SAME
        self._chance = np.random.default_rng(seed).random(len(candidates))
        self._taken: Counter[tuple[str, str]] = Counter()

    def free(self) -> list[int]:
        """Rows that may still be chosen."""
        return np.flatnonzero(self._free).tolist()

    def turn(self) -> list[int]:
        """Free rows of the recording whose turn it is: the subject with the fewest chosen, then its own."""
        rows = self._fewest(self.free(), lambda one: ("subject", one.subject))
        return self._fewest(rows, lambda one: ("recording", one.recording))

    def _fewest(self, rows: list[int], group: Callable[[Candidate], tuple[str, str]]) -> list[int]:
        """The rows of the group with the fewest chosen, the first of equal ones."""
        groups = dict.fromkeys(group(self._candidates[row]) for row in rows)
        first = min(groups, key=lambda name: self._taken[name], default=None)
        return [row for row in rows if group(self._candidates[row]) == first]

    def best(self, aspect: str, rows: list[int]) -> int | None:
        """The row to choose for an aspect; None if none has a reason."""
        if aspect == SPREAD:
            return min(rows, key=lambda row: self._nearest[row])
        if aspect == CHANCE:
            return min(rows, key=lambda row: self._chance[row])
        row = max(rows, key=lambda row: self._score(row, aspect))
        return row if self._score(row, aspect) >= MIN_SCORE[aspect] else None

    def _score(self, row: int, aspect: str) -> float:
        return self._candidates[row].scores.get(aspect, 0.0)

    def reason(self, row: int, aspect: str) -> str:
        """Why a row is chosen, in words."""
        one = self._candidates[row]
        if aspect == CHANCE:
            return "by chance"
        if aspect == SPREAD:
            nearest = self._nearest[row]
            return f"another kind of picture{'' if nearest < 0 else f' (likeness {nearest:.2f})'}"
        score, unlike = self._score(row, aspect), one.state is State.UNLIKE_TRAINING
        return {
            "unsure": f"the net is unsure: {one.state}, confidence {1 - score:.2f}",
            "mirror": f"the net disagrees with itself on the mirror image: Dice {1 - score:.2f}",
            "flicker": f"the outline flickers: Dice {1 - score:.2f} with the frame before",
            "unlike": f"{'unlike' if unlike else 'hardly like'} the training data: distance {2 * score:.2f}",
        }[aspect]

    def take(self, row: int) -> None:
        """Choose a row: it and those near-identical to it are no longer free."""
        self._nearest = np.maximum(self._nearest, self._prints @ self._prints[row])
        self._free &= self._nearest < SAME
        self._free[row] = False
        one = self._candidates[row]
        self._taken.update([("subject", one.subject), ("recording", one.recording)])
