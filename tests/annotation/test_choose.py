"""Which frames are chosen, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamseg.annotation.candidates import Candidate
from streamseg.annotation.choose import SPREAD, choose
from streamseg.core.errors import UsageError
from streamseg.core.types import State


def candidate(
    number: int, direction: float, *, subject: str = "1", recording: str = "", **scores: float
) -> Candidate:
    """A candidate whose print is a direction in the plane, in degrees."""
    angle = np.radians(direction)
    return Candidate(
        recording=recording or subject,
        frame=number,
        seconds=None,
        subject=subject,
        image=Path("x.png"),
        height=4,
        width=4,
        scores=scores,
        state=State.NERVE,
        print=np.array([np.cos(angle), np.sin(angle)], np.float32),
        masks={},
    )


def test_no_frame_is_near_identical_to_another() -> None:
    pool = [candidate(number, direction) for number, direction in enumerate((0, 5, 10, 60, 62, 180))]
    for strategy in ("mixed", "spread", "unsure", "random"):
        chosen = choose(pool, 6, strategy=strategy)
        directions = sorted(round(float(np.degrees(np.arctan2(*c.candidate.print[::-1])))) for c in chosen)
        assert len(chosen) == 3, strategy
        assert np.diff(directions).min() >= 18


def test_none_is_near_identical_to_what_is_labelled() -> None:
    pool = [candidate(0, 0), candidate(1, 90)]
    known = np.array([[0.0, 1.0]], np.float32)
    assert [c.candidate.frame for c in choose(pool, 2, known=known)] == [0]


def test_subjects_and_recordings_take_turns() -> None:
    pool = [candidate(n, 20 * n, subject="1", recording=f"1{n % 2}") for n in range(8)]
    pool += [candidate(n, 20 * n, subject="2") for n in range(9, 12)]
    chosen = choose(pool, 6, strategy="spread")
    assert [c.candidate.subject for c in chosen].count("2") == 3
    assert sorted(c.candidate.recording for c in chosen if c.candidate.subject == "1") != ["10", "10", "10"]


def test_the_strategy_decides_what_frames_are_chosen_for() -> None:
    pool = [candidate(n, 20 * n, unsure=0.1 * n, mirror=0.5 if n == 2 else 0.0) for n in range(8)]
    mixed = choose(pool, 4)
    assert [c.aspect for c in mixed] == [SPREAD, "unsure", SPREAD, "mirror"]
    assert mixed[1].candidate.frame == 7
    assert mixed[1].reason == "the net is unsure: nerve, confidence 0.30"
    assert mixed[3].candidate.frame == 2
    assert {c.aspect for c in choose(pool, 4, strategy="spread")} == {SPREAD}
    assert SPREAD not in {c.aspect for c in choose(pool, 3, strategy="unsure")}
    assert {c.reason for c in choose(pool, 4, strategy="random")} == {"by chance"}


def test_a_low_score_is_no_reason() -> None:
    pool = [candidate(n, 20 * n, unsure=0.05) for n in range(3)]
    assert {c.aspect for c in choose(pool, 3)} == {SPREAD}


def test_the_same_seed_gives_the_same_frames() -> None:
    pool = [candidate(n, 20 * n) for n in range(12)]
    first, again, other = (
        [c.candidate.frame for c in choose(pool, 4, strategy="random", seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_nothing_to_choose_from() -> None:
    assert choose([], 4) == []
    with pytest.raises(UsageError, match="no strategy is called 'best'"):
        choose([], 4, strategy="best")
