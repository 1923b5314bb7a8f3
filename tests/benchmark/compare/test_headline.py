"""Rates and quantiles that a row gives as one value: judged where its rounds do not tell more of them."""

from __future__ import annotations

from typing import Any

import pytest

from streamseg.benchmark.compare.bench import compare
from streamseg.benchmark.compare.headline import tails
from streamseg.benchmark.compare.spread import BETTER, SAME, UNCLEAR, WORSE
from tests.benchmark.compared import row, run

LATENCY = {"p50": 10.0, "p95": 11.0, "p99": 12.0, "max": 30.0}


def bare(**figures: Any) -> dict[str, Any]:
    return {**row(of=run(), **figures), "rounds": {}}


def verdicts(a: dict[str, Any], b: dict[str, Any]) -> dict[str, str]:
    return {found.figure: found.change.verdict for found in compare([a], [b]).findings}


def scaled(times: float) -> dict[str, Any]:
    latency = {name: ms * times for name, ms in LATENCY.items()}
    return bare(engine_fps=100 / times, end_to_end_fps=80 / times, latency_ms=latency)


@pytest.mark.parametrize(
    ("times", "median", "tail"),
    [
        (1.0, SAME, SAME),
        (1.05, UNCLEAR, UNCLEAR),
        (1.1, WORSE, UNCLEAR),
        (1.5, WORSE, WORSE),
        (0.85, BETTER, UNCLEAR),
        (0.5, BETTER, BETTER),
    ],
)
def test_without_rounds(times: float, median: str, tail: str) -> None:
    assert verdicts(scaled(1), scaled(times)) == {
        "engine_fps": median,
        "end_to_end_fps": median,
        "latency_ms p50": median,
        "latency_ms p95": tail,
        "latency_ms p99": tail,
    }


def test_slower_is_said_of_times_and_rates() -> None:
    words = {found.figure: found.words for found in compare([scaled(1)], [scaled(2)]).findings}
    assert set(words.values()) == {"slower"}
    assert {found.words for found in compare([scaled(2)], [scaled(1)]).findings} == {"faster"}


def test_one_latency() -> None:
    assert verdicts(bare(latency_ms=10.0), bare(latency_ms=13.0)) == {"latency_ms": WORSE}


def test_a_spread_that_overlaps_is_unclear() -> None:
    a = bare(engine_fps=10.0, engine_fps_spread={"min": 8, "max": 12})
    assert verdicts(a, bare(engine_fps=8.5, engine_fps_spread=[7, 10])) == {"engine_fps": UNCLEAR}
    assert verdicts(a, bare(engine_fps=6.5, engine_fps_spread=[6, 7])) == {"engine_fps": WORSE}


def test_what_is_not_measured_any_more() -> None:
    found = compare([bare(engine_fps=10.0)], [bare(engine_fps=None)])
    assert [one.words for one in found.findings] == ["unclear: not measured in B"]
    assert found.worse
    assert not compare([bare(engine_fps=None)], [bare(engine_fps=10.0)]).worse


def test_rounds_speak_for_their_value() -> None:
    a = row(engine_fps=100.0, latency_ms=LATENCY)
    b = row(engine_fps=97.0, latency_ms={**LATENCY, "p50": 10.2})
    assert verdicts(a, b) == {"engine_ms": SAME}


def test_a_value_that_is_not_its_rounds_counts() -> None:
    """Else a net whose rate halved would be called the same."""
    a, b = row(engine_fps=100.0), row(engine_fps=50.0)
    assert verdicts(a, b) == {"engine_ms": SAME, "engine_fps": WORSE}
    many = [row(engine_fps=rate, batch=4) for rate in (400.0, 396.0)]
    assert verdicts(*many) == {"engine_ms": SAME}


def test_a_tail_is_judged_by_all_calls() -> None:
    calm = [[10.0] * 9 + [11.0 + turn] for turn in range(3)]
    wild = [[10.0] * 9 + [30.0 + turn] for turn in range(3)]
    a, b = (row(durations_ms=calls) for calls in (calm, wild))
    assert verdicts(a, b) == {"engine_ms": SAME, "latency_p99_ms": WORSE}
    assert tails(row(durations_ms=[[1.0] * 4] * 3)) == []
    told = row(durations_ms=calm, latency_ms={"p99": 12.8})
    lied = row(durations_ms=calm, latency_ms={"p99": 60.0})
    assert verdicts(told, lied) == {"engine_ms": SAME, "latency_p99_ms": SAME, "latency_ms p99": WORSE}


@pytest.mark.parametrize("strange", ["fast", [1, None], {"p50": "x"}, 10**400, float("nan"), True, -1.0, 0])
def test_damaged_values_do_no_harm(strange: object) -> None:
    values = {"engine_fps": strange, "latency_ms": strange, "durations_ms": strange, "batch": strange}
    compare([scaled(1)], [bare(**values)])
    compare([bare(**values)], [scaled(1)])
    compare([row(**values)], [bare(**values)])
