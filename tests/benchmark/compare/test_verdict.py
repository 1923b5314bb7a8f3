"""Verdicts on single figures: by hand, and how often they are wrong on simulated runs that drift."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from streamseg.benchmark.compare.verdict import (
    BETTER,
    SAME,
    UNCLEAR,
    WORSE,
    Change,
    by_frames,
    by_ratio,
    by_rounds,
    by_value,
)
from streamseg.benchmark.rows.figures import Figure
from tests.benchmark.compared import row

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
    assert by_rounds(a, b, less_is_better=True).verdict == verdict


def ratio(a: float, b: float, *, less_is_better: bool = True, machine: float | None = None) -> Change:
    before, after = (Figure("x", value, "ratio", 0.1, less_is_better=less_is_better) for value in (a, b))
    return by_ratio(before, after, machine)


@pytest.mark.parametrize(
    ("b", "verdict", "why"),
    [
        (10.0, SAME, ""),
        (10.5, UNCLEAR, "counts from 10 % on"),
        (11.0, WORSE, ""),
        (9.0, BETTER, ""),
        (0.0, BETTER, ""),
        (1e308, WORSE, ""),
    ],
)
def test_values_without_rounds(b: float, verdict: str, why: str) -> None:
    change = ratio(10.0, b)
    assert change.verdict == verdict
    assert why in change.why
    if verdict == WORSE:
        assert ratio(10.0, b, less_is_better=False).verdict == BETTER
        slower = ratio(10.0, b, machine=10.0 / b)
        assert slower.verdict == UNCLEAR
        assert "machine itself" in slower.why


def test_a_ratio_that_no_number_holds() -> None:
    assert ratio(1e-308, 1e308).ratio == math.inf


def test_more_frames_are_better() -> None:
    change = by_rounds([50, 51, 49], [60, 61, 59], less_is_better=False)
    assert change.verdict == BETTER
    assert change.ratio == pytest.approx(1.2)
    assert change.low is not None
    assert change.high is not None
    assert change.low < 1.2 < change.high
    assert by_rounds([60, 61, 59], [50, 51, 49], less_is_better=False).verdict == WORSE


def test_few_rounds_tell_only_of_large_changes() -> None:
    """A quick run on a slow machine has one or two; half as fast must not pass for that."""
    for times, quiet, busy in ((1.2, UNCLEAR, UNCLEAR), (1.5, WORSE, UNCLEAR), (2.1, WORSE, WORSE)):
        changes = [
            by_rounds([10, 10.2], [10 * times], less_is_better=True, machine=1.0, busy=disturbed)
            for disturbed in (False, True)
        ]
        assert [change.verdict for change in changes] == [quiet, busy]
        assert changes[0].low is None
    assert "counts from 100 % on" in by_rounds([10], [15], less_is_better=True, busy=True).why
    drifted = by_rounds([10], [15], less_is_better=True, machine=1 / 1.5)
    assert drifted.verdict == UNCLEAR
    assert "machine itself" in drifted.why


def test_one_slow_spell_makes_a_figure_unclear_and_not_slower() -> None:
    assert by_rounds([10, 10.1, 9.9], [10.1, 14, 10], less_is_better=True).verdict == UNCLEAR


def test_a_machine_that_was_slower_itself_is_set_off() -> None:
    before, after = [10, 10.1, 9.9], [12, 12.1, 11.9]
    drifted = by_rounds(before, after, less_is_better=True, machine=1 / 1.2)
    assert drifted.verdict == UNCLEAR
    assert drifted.why == "the machine itself was 17 % slower"
    assert drifted.relative == pytest.approx(1.0)
    assert by_rounds(before, after, less_is_better=True, machine=1.01).verdict == WORSE
    hidden = by_rounds(before, before, less_is_better=True, machine=1.3)
    assert hidden.verdict == UNCLEAR
    assert hidden.relative == pytest.approx(1.3)
    frames = by_rounds([50, 50, 50], [40, 40, 40], less_is_better=False, machine=0.8)
    assert frames.relative == pytest.approx(1.0)
    little = by_rounds([10, 10, 10], [10.7] * 3, less_is_better=True)
    assert little.verdict == UNCLEAR
    assert "less than runs of the same program" in little.why
    assert by_rounds([10, 10, 10], [10.7] * 3, less_is_better=True, machine=1.0).verdict == WORSE


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
    assert by_rounds(a, b, less_is_better=less).verdict == verdict


def spell(rng: random.Random) -> float:
    return rng.gauss(0, NOISE) + (rng.uniform(0.05, 0.2) if rng.random() < SPELLS else 0)


def simulated(kind: str, rounds: int, change: float) -> Iterator[str]:
    """Verdicts on runs of which the second is ``change`` times as slow."""
    rng = random.Random(7)
    for _ in range(TRIES):
        drift = [rng.gauss(0, DRIFT) for _ in range(2)]
        a, b = ([math.exp(off + spell(rng)) for _ in range(rounds)] for off in drift)
        machine = math.exp(drift[0] - drift[1] + rng.gauss(0, LIMIT_NOISE)) if kind == "limits" else None
        slowed = [value * change for value in b]
        yield by_rounds(a, slowed, less_is_better=True, machine=machine).verdict


@pytest.mark.parametrize(("kind", "most"), [("alone", 0.07), ("limits", 0.015)])
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
        ("alone", 5, 1.2, 0.85),
        ("limits", 5, 1.2, 0.9),
    ],
)
def test_what_is_slower_is_found(kind: str, rounds: int, change: float, least: float) -> None:
    found = Counter(simulated(kind, rounds, change))
    assert found[WORSE] >= least * TRIES
    assert found[BETTER] <= 0.005 * TRIES


def test_more_rounds_find_more() -> None:
    shares = [Counter(simulated("limits", rounds, 1.1))[WORSE] for rounds in (3, 5, 10)]
    assert all(fewer < more for fewer, more in pairwise(shares))


def figures(bench: str, values: dict[str, Any], **others: Any) -> dict[str, Figure]:
    return {figure.name: figure for figure in row(bench=bench, **others, **values).figures()}


def verdicts(a: dict[str, Any], b: dict[str, Any], bench: str = "nets") -> dict[str, str]:
    before, after = figures(bench, a), figures(bench, b)
    assert before.keys() == after.keys()
    judge = {"value": by_value, "frames": by_frames}
    return {name: judge[one.judged](one, after[name]).verdict for name, one in before.items()}


@pytest.mark.parametrize(
    ("name", "a", "b", "verdict"),
    [
        ("dice", 0.900, 0.894, WORSE),
        ("dice", 0.900, 0.896, SAME),
        ("dice", 0.894, 0.900, BETTER),
        ("dice", 0.900, None, UNCLEAR),
        ("dice", None, None, SAME),
        ("mask_agreement", 0.999, 0.95, WORSE),
        ("model_bytes", 100_000, 104_000, SAME),
        ("model_bytes", 100_000, 106_000, WORSE),
        ("peak_host_bytes", 100_000, 90_000, BETTER),
        ("peak_gpu_bytes", None, 90_000, UNCLEAR),
        ("limit_share", 0.50, 0.46, SAME),
        ("limit_share", 0.50, 0.44, WORSE),
        ("within_budget", 1.0, 0.97, WORSE),
        ("within_budget", 1.0, 0.99, SAME),
        ("within_budget", 0.5, 0.45, SAME),
        ("within_budget", 0.5, 0.3, WORSE),
        ("within_budget", 0.97, 1.0, BETTER),
        ("holds_budget", True, False, WORSE),
        ("holds_every_frame", False, True, BETTER),
    ],
)
def test_differences_that_count(name: str, a: Any, b: Any, verdict: str) -> None:
    bench = "streams" if name.startswith(("within", "holds")) else "nets"
    assert verdicts({name: a}, {name: b}, bench) == {name: verdict}


@pytest.mark.parametrize(
    ("dropped", "verdict"), [((0, 1), SAME), ((0, 10), WORSE), ((10, 0), BETTER), ((40, 45), SAME)]
)
def test_dropped_frames_count_by_share_of_those_offered(dropped: tuple[int, int], verdict: str) -> None:
    a, b = ({"offered": 100, "dropped": count} for count in dropped)
    assert verdicts(a, b, "pipeline") == {"dropped": verdict}
    assert verdicts({"end_to_end": a}, {"end_to_end": b}) == {"end to end dropped": verdict}
    paces = [{"paced": [{"fps": 30, **counts, "within_budget": 1.0}]} for counts in (a, b)]
    assert verdicts(*paces) == {"at 30 fps dropped": verdict, "at 30 fps within_budget": SAME}


def test_shares_of_few_frames_are_chance() -> None:
    few, many = ({"within_budget": 1.0, "processed": count} for count in (12, 300))
    assert verdicts(few, {**few, "within_budget": 0.84}, "streams") == {"within_budget": SAME}
    assert verdicts(few, {**few, "within_budget": 0.0}, "streams") == {"within_budget": WORSE}
    assert verdicts(many, {**many, "within_budget": 0.95}, "streams") == {"within_budget": WORSE}


@pytest.mark.parametrize(
    ("b", "machine", "verdict"),
    [
        (0.5, 1.0, WORSE),
        (0.5, 0.8, UNCLEAR),
        (0.5, 1.2, WORSE),
        (1.0, 1.2, UNCLEAR),
        (1.0, 1.0, BETTER),
        (1.0, 0.8, BETTER),
        (0.8, 0.8, SAME),
    ],
)
def test_frames_that_the_machines_own_change_explains(b: float, machine: float, verdict: str) -> None:
    before, after = (figures("streams", {"within_budget": value})["within_budget"] for value in (0.8, b))
    change = by_frames(before, after, machine)
    assert change.verdict == verdict
    assert ("the machine itself was 20 %" in change.why) == (verdict == UNCLEAR)


def test_an_engine_that_computes_less_in_what_was_asked_is_worse() -> None:
    a, b = ({"precision": "int8", "precision_found": found} for found in ({"int8": 0.8}, {"fp32": 1.0}))
    assert verdicts(a, b) == {"computes in int8": WORSE}
    assert verdicts(b, a) == {"computes in int8": BETTER}
    assert verdicts(a, a) == {"computes in int8": SAME}


def test_shares_of_the_limit_whose_rounds_are_apart_count_earlier() -> None:
    a = {"limit_share": 0.50, "limit_share_spread": {"median": 0.5, "min": 0.49, "max": 0.51}}
    b = {"limit_share": 0.46, "limit_share_spread": {"median": 0.46, "min": 0.45, "max": 0.47}}
    few = {"limit_share": 0.2, "limit_share_spread": {"median": 0.2, "min": 0.2, "max": 0.2}}
    short = figures("nets", few, ms=[10.0])["limit_share"]
    assert by_value(figures("nets", a)["limit_share"], short).verdict == UNCLEAR
    wide = {"limit_share": 0.40, "limit_share_spread": {"median": 0.4, "min": 0.2, "max": 0.5}}
    assert verdicts(a, b) == {"limit_share": WORSE}
    assert verdicts(a, wide) == {"limit_share": SAME}


def test_figures_of_another_shape_are_left_out() -> None:
    strange = {"paced": None, "end_to_end": 3, "precision_found": "int8", "offered": 0, "dropped": 0}
    assert figures("nets", strange) == {}
    assert verdicts({"dice": "good"}, {"dice": True}) == {"dice": SAME}
