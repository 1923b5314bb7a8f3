"""Verdicts on figures with a spread: by hand, and how often they are wrong on simulated runs that drift."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from streamseg.benchmark.compare.spread import (
    BETTER,
    SAME,
    UNCLEAR,
    WORSE,
    between_runs,
    between_turns,
    between_values,
)

TRIES = 1000
NOISE, SPELLS, DRIFT, LIMIT_NOISE = 0.025, 0.05, 0.04, 0.015
"""Spread of rounds, share of rounds in a slow spell (5 to 20 %), of runs, and of how well limits tell it.
A shared virtual machine with two cores showed 1 to 5 % for the first, and up to 10 % between runs."""


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([10, 10.1, 9.9], [12, 12.1, 11.9], WORSE),
        ([12, 12.1, 11.9], [10, 10.1, 9.9], BETTER),
        ([10, 10.1, 9.9], [10.3, 10.4, 10.2], SAME),
        ([10, 10, 10], [10, 10, 10], SAME),
        ([10, 10.1, 9.9], [11, 11.11, 10.89], WORSE),
        ([10, 10.1, 9.9], [10.7, 10.8, 10.6], UNCLEAR),
        ([10, 10], [20, 20], WORSE),
        ([10], [12], UNCLEAR),
        ([10], [10], SAME),
        ([10, 10], [10, 10.1], UNCLEAR),
        ([10, 20, 30], [10, 20, 30], SAME),
        ([10, 14, 9], [12, 17, 10], UNCLEAR),
        ([], [10, 10, 10], UNCLEAR),
    ],
)
def test_times(a: list[float], b: list[float], verdict: str) -> None:
    assert between_runs(a, b, less_is_better=True).verdict == verdict


@pytest.mark.parametrize(
    ("b", "ranges", "verdict", "why"),
    [
        (10.0, None, SAME, ""),
        (10.5, None, UNCLEAR, "counts from 10 % on"),
        (11.0, None, WORSE, ""),
        (9.0, None, BETTER, ""),
        (12.0, ((8, 12), (9, 15)), UNCLEAR, "overlaps"),
        (12.0, ((9.8, 10.2), (11.8, 12.2)), WORSE, ""),
        (10.2, ((8, 12), (9, 15)), SAME, ""),
        (0.0, None, BETTER, ""),
        (1e308, None, WORSE, ""),
    ],
)
def test_values_without_rounds(
    b: float, ranges: tuple[tuple[float, float], tuple[float, float]] | None, verdict: str, why: str
) -> None:
    change = between_values(10.0, b, less_is_better=True, ranges=ranges)
    assert change.verdict == verdict
    assert why in change.why
    if verdict == WORSE:
        assert between_values(10.0, b, less_is_better=False, ranges=ranges).verdict == BETTER
        slower = between_values(10.0, b, less_is_better=True, ranges=ranges, machine=10.0 / b)
        assert slower.verdict == UNCLEAR
        assert "machine itself" in slower.why


def test_a_ratio_that_no_number_holds() -> None:
    assert between_values(1e-308, 1e308, less_is_better=True).ratio == math.inf


def test_more_frames_are_better() -> None:
    change = between_runs([50, 51, 49], [60, 61, 59], less_is_better=False)
    assert change.verdict == BETTER
    assert change.ratio == pytest.approx(1.2)
    assert change.low is not None
    assert change.high is not None
    assert change.low < 1.2 < change.high
    assert between_runs([60, 61, 59], [50, 51, 49], less_is_better=False).verdict == WORSE


def test_few_rounds_tell_only_of_large_changes() -> None:
    """A quick run on a slow machine has one or two; half as fast must not pass for that."""
    for times, quiet, busy in ((1.2, UNCLEAR, UNCLEAR), (1.5, WORSE, UNCLEAR), (2.1, WORSE, WORSE)):
        changes = [
            between_runs([10, 10.2], [10 * times], less_is_better=True, machine=1.0, busy=disturbed)
            for disturbed in (False, True)
        ]
        assert [change.verdict for change in changes] == [quiet, busy]
        assert changes[0].low is None
    assert "counts from 100 % on" in between_runs([10], [15], less_is_better=True, busy=True).why
    drifted = between_runs([10], [15], less_is_better=True, machine=1 / 1.5)
    assert drifted.verdict == UNCLEAR
    assert "machine itself" in drifted.why


def test_one_slow_spell_makes_a_figure_unclear_and_not_slower() -> None:
    assert between_runs([10, 10.1, 9.9], [10.1, 14, 10], less_is_better=True).verdict == UNCLEAR


def test_a_machine_that_was_slower_itself_is_set_off() -> None:
    before, after = [10, 10.1, 9.9], [12, 12.1, 11.9]
    drifted = between_runs(before, after, less_is_better=True, machine=1 / 1.2)
    assert drifted.verdict == UNCLEAR
    assert drifted.why == "the machine itself was 17 % slower"
    assert drifted.relative == pytest.approx(1.0)
    assert between_runs(before, after, less_is_better=True, machine=1.01).verdict == WORSE
    hidden = between_runs(before, before, less_is_better=True, machine=1.3)
    assert hidden.verdict == UNCLEAR
    assert hidden.relative == pytest.approx(1.3)
    frames = between_runs([50, 50, 50], [40, 40, 40], less_is_better=False, machine=0.8)
    assert frames.relative == pytest.approx(1.0)
    little = between_runs([10, 10, 10], [10.7] * 3, less_is_better=True)
    assert little.verdict == UNCLEAR
    assert "less than runs of the same program" in little.why
    assert between_runs([10, 10, 10], [10.7] * 3, less_is_better=True, machine=1.0).verdict == WORSE


@pytest.mark.parametrize(
    ("a", "b", "less", "verdict"),
    [
        ([30, 30, 30], [0, 0, 0], False, WORSE),
        ([0, 0, 0], [30, 30, 30], False, BETTER),
        ([0, 0, 0], [1, 2, 3], True, WORSE),
        ([0, 0, 0], [0, 0, 0], True, SAME),
        ([0, 1, 1], [3, 2, 0], True, UNCLEAR),
    ],
)
def test_zeros(a: list[float], b: list[float], less: bool, verdict: str) -> None:
    assert between_runs(a, b, less_is_better=less).verdict == verdict
    assert between_turns(a, b, less_is_better=less).verdict == verdict


def test_turns_set_off_what_the_machine_did_meanwhile() -> None:
    a, b = [10.0, 15.0, 8.0], [11.0, 16.6, 8.75]
    assert between_runs(a, b, less_is_better=True).verdict == UNCLEAR
    change = between_turns(a, b, less_is_better=True)
    assert change.verdict == WORSE
    assert change.ratio == pytest.approx(1.1)
    assert between_turns(b, a, less_is_better=True).verdict == BETTER
    assert between_turns(a[:2], b[:2], less_is_better=True).verdict == UNCLEAR


def spell(rng: random.Random) -> float:
    return rng.gauss(0, NOISE) + (rng.uniform(0.05, 0.2) if rng.random() < SPELLS else 0)


def simulated(kind: str, rounds: int, change: float) -> Iterator[str]:
    """Verdicts on runs of which the second is ``change`` times as slow."""
    rng = random.Random(7)
    for _ in range(TRIES):
        drift = [rng.gauss(0, DRIFT) for _ in range(2)]
        a, b = ([math.exp(off + spell(rng)) for _ in range(rounds)] for off in drift)
        machine = math.exp(drift[0] - drift[1] + rng.gauss(0, LIMIT_NOISE)) if kind == "limits" else None
        if kind == "turns":
            paces = [rng.gauss(0, DRIFT) for _ in range(rounds)]
            a, b = ([math.exp(pace + spell(rng)) for pace in paces] for _ in range(2))
            yield between_turns(a, [value * change for value in b], less_is_better=True).verdict
        else:
            slowed = [value * change for value in b]
            yield between_runs(a, slowed, less_is_better=True, machine=machine).verdict


@pytest.mark.parametrize(("kind", "most"), [("alone", 0.07), ("limits", 0.015), ("turns", 0.015)])
@pytest.mark.parametrize("rounds", [3, 5, 8])
def test_false_alarms_are_rare(kind: str, most: float, rounds: int) -> None:
    found = Counter(simulated(kind, rounds, 1.0))
    assert found[WORSE] <= most * TRIES
    assert found[BETTER] <= most * TRIES


@pytest.mark.parametrize(
    ("kind", "rounds", "change", "least"),
    [
        ("alone", 5, 1.1, 0.4),
        ("limits", 5, 1.1, 0.5),
        ("turns", 5, 1.1, 0.65),
        ("turns", 8, 1.1, 0.88),
        ("alone", 5, 1.2, 0.85),
        ("limits", 5, 1.2, 0.9),
        ("turns", 3, 1.2, 0.7),
    ],
)
def test_what_is_slower_is_found(kind: str, rounds: int, change: float, least: float) -> None:
    found = Counter(simulated(kind, rounds, change))
    assert found[WORSE] >= least * TRIES
    assert found[BETTER] <= 0.005 * TRIES


def test_more_rounds_find_more() -> None:
    shares = [Counter(simulated("turns", rounds, 1.1))[WORSE] for rounds in (3, 5, 10)]
    assert all(fewer < more for fewer, more in pairwise(shares))
