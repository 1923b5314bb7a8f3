"""Figures with one value: which change of which counts, and to what side."""

from __future__ import annotations

from typing import Any

import pytest

from streamseg.benchmark.compare.single import change_of, singles
from streamseg.benchmark.compare.spread import BETTER, SAME, UNCLEAR, WORSE
from tests.benchmark.compared import row


def verdicts(a: dict[str, Any], b: dict[str, Any]) -> dict[str, str]:
    before, after = singles(row(**a)), singles(row(**b))
    assert before.keys() == after.keys()
    return {name: change_of(before[name], after[name]).verdict for name in before}


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
def test_what_counts(name: str, a: Any, b: Any, verdict: str) -> None:
    assert verdicts({name: a}, {name: b}) == {name: verdict}


@pytest.mark.parametrize(
    ("dropped", "verdict"), [((0, 1), SAME), ((0, 10), WORSE), ((10, 0), BETTER), ((40, 45), SAME)]
)
def test_dropped_frames_count_by_share_of_those_offered(dropped: tuple[int, int], verdict: str) -> None:
    a, b = ({"offered": 100, "dropped": count} for count in dropped)
    assert verdicts(a, b) == {"dropped": verdict}
    assert verdicts({"end_to_end": a}, {"end_to_end": b}) == {"end to end dropped": verdict}
    paces = [{"paced": [{"fps": 30, **counts, "within_budget": 1.0}]} for counts in (a, b)]
    assert verdicts(*paces) == {"at 30 fps dropped": verdict, "at 30 fps within_budget": SAME}


def test_shares_of_few_frames_are_chance() -> None:
    few, many = ({"within_budget": 1.0, "processed": count} for count in (12, 300))
    assert verdicts(few, {**few, "within_budget": 0.84}) == {"within_budget": SAME}
    assert verdicts(few, {**few, "within_budget": 0.0}) == {"within_budget": WORSE}
    assert verdicts(many, {**many, "within_budget": 0.95}) == {"within_budget": WORSE}


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
    before, after = (singles(row(within_budget=value))["within_budget"] for value in (0.8, b))
    change = change_of(before, after, machine)
    assert change.verdict == verdict
    assert ("the machine itself was 20 %" in change.why) == (verdict == UNCLEAR)


def test_a_slow_machine_excuses_no_wrong_masks() -> None:
    before, after = (singles(row(dice=value))["dice"] for value in (0.9, 0.8))
    assert change_of(before, after, 0.5).verdict == WORSE


def test_an_engine_that_computes_less_in_what_was_asked_is_worse() -> None:
    a, b = ({"precision": "int8", "precision_found": found} for found in ({"int8": 0.8}, {"fp32": 1.0}))
    assert verdicts(a, b) == {"computes in int8": WORSE}
    assert verdicts(b, a) == {"computes in int8": BETTER}
    assert verdicts(a, a) == {"computes in int8": SAME}


def test_shares_of_the_limit_whose_rounds_are_apart_count_earlier() -> None:
    a = {"limit_share": 0.50, "limit_share_spread": {"median": 0.5, "min": 0.49, "max": 0.51}}
    b = {"limit_share": 0.46, "limit_share_spread": {"median": 0.46, "min": 0.45, "max": 0.47}}
    few = {"limit_share": 0.2, "limit_share_spread": {"median": 0.2, "min": 0.2, "max": 0.2}}
    short = {**row(ms=[10.0]), **few}
    assert change_of(singles(row(**a))["limit_share"], singles(short)["limit_share"]).verdict == UNCLEAR
    wide = {"limit_share": 0.40, "limit_share_spread": {"median": 0.4, "min": 0.2, "max": 0.5}}
    assert verdicts(a, b) == {"limit_share": WORSE}
    assert verdicts(a, wide) == {"limit_share": SAME}


def test_figures_of_another_shape_are_left_out() -> None:
    strange = {"paced": None, "end_to_end": 3, "precision_found": "int8", "offered": 0, "dropped": 0}
    assert singles(row(**strange)) == {}
    assert verdicts({"dice": "good"}, {"dice": True}) == {"dice": SAME}
