"""When a net replaces another one, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.adaptation.comparison import Comparison, Outlines, compare
from streamseg.core.types import Mask, State
from streamseg.datasets import Sample

HALF = np.array([[True, True], [False, False]])
NONE = np.zeros((2, 2), np.bool_)
FULL = np.ones((2, 2), np.bool_)


def sample(number: int, nerve: Mask, vessel: Mask | None = None, subject: str | None = None) -> Sample:
    return Sample(str(number), np.zeros((2, 2), np.uint8), nerve, vessel, subject)


def found(nerve: Mask, vessel: Mask | None = None) -> Outlines:
    masks = {"nerve": nerve} if vessel is None else {"nerve": nerve, "vessel": vessel}
    return Outlines(masks, State.NERVE, 0.5)


def test_figures_are_per_structure_with_intervals_over_subjects() -> None:
    samples = [sample(n, HALF, HALF if n < 2 else None, subject=str(n % 2)) for n in range(4)]
    before, after = [found(NONE, NONE)] * 4, [found(HALF, FULL)] * 3 + [found(FULL, FULL)]
    nerve, vessel = compare(samples, before, after, (0.2, 0.1)).structures
    assert (nerve.before, nerve.after) == (0, pytest.approx(0.9166, abs=1e-3))
    assert nerve.difference == pytest.approx(nerve.after)
    assert nerve.over == "subjects"
    assert nerve.difference_interval is not None
    assert nerve.difference_interval[0] < nerve.difference < nerve.difference_interval[1]
    assert (vessel.structure, vessel.images, vessel.after) == ("vessel", 2, pytest.approx(2 / 3))


def test_vessels_count_only_where_both_engines_and_labels_have_them() -> None:
    samples = [sample(0, HALF, HALF), sample(1, HALF)]
    only_nerve = compare(samples, [found(HALF)] * 2, [found(HALF, HALF)] * 2, (0, 0))
    assert [one.structure for one in only_nerve.structures] == ["nerve"]


def judged(
    before: Mask, after: Mask, alarms: tuple[float, float] = (0, 0), rival: Mask | None = None
) -> Comparison:
    samples = [sample(n, HALF) for n in range(3)]
    other = None if rival is None else [found(rival)] * 3
    return compare(samples, [found(before)] * 3, [found(after)] * 3, alarms, rival=other)


def test_a_net_replaces_only_what_it_beats() -> None:
    better = judged(FULL, HALF)
    assert better.objections() == []
    assert better.certain()
    assert judged(HALF, HALF).objections() == [
        "its Dice on the held-back frames is 1.000, before it was 1.000"
    ]
    assert not judged(HALF, HALF).certain()
    (worse,) = judged(NONE, FULL, rival=HALF).objections()
    assert worse == "its Dice is 0.667, that of the round in use 1.000"
    (loud,) = judged(FULL, HALF, alarms=(0.1, 0.3)).objections()
    assert loud == "it outlines a nerve in 30% of phantoms without one, before it was 10%"
