"""Engines that are handed in, with nothing of ours in them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.benchmark import measure_engines
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.types import InputSpec, Tensor
from tests.benchmark.fakes import SHORT, SPEC


class Plain:
    """Sleeps, answers, and keeps how long that took: a busy machine sleeps longer."""

    name = "plain"
    fingerprint = "0" * 64
    spec = SPEC

    def __init__(self, delay_s: float, precision: str = "fp32") -> None:
        self.delay_s, self.precision = delay_s, precision
        self.took_ms: list[float] = []
        self.closed = False

    def infer(self, tensor: Tensor) -> Any:
        began = time.perf_counter()
        time.sleep(self.delay_s)
        answer = np.full((1, 32, 48), tensor.mean() % 1, np.float32)
        self.took_ms.append(1e3 * (time.perf_counter() - began))
        return answer

    def close(self) -> None:
        self.closed = True


def test_a_known_delay_is_measured(clip_path: Path) -> None:
    eager, quick = Plain(0.04), Plain(0.02, "int8")
    rows = measure_engines({"eager": eager, "quick": quick}, source=str(clip_path), regime=SHORT)
    assert [(row["backend"], row["precision"], row["precision_found"]) for row in rows] == [
        ("eager", "fp32", {}), ("quick", "int8", {}),
    ]  # fmt: skip
    for engine, row in zip((eager, quick), rows, strict=True):
        assert 1e3 * engine.delay_s <= row["latency_ms"]["p50"] <= max(engine.took_ms) * 1.02
        assert engine.closed
    assert rows[1]["ratio_to_eager"]["median"] > 0
    assert rows[0]["limit_share"] is None
    assert any("does not tell what it computes in" in note for note in rows[1]["notes"])


def test_one_that_ignores_its_input_shows(clip_path: Path) -> None:
    regime = replace(SHORT, untrained_images=2)
    rows = measure_engines(
        {"looks": Plain(0.003), "fake": FakeBackend(SPEC, delay_ms=3)}, source=str(clip_path), regime=regime
    )
    told = [any("ignores its input" in note for note in row["notes"]) for row in rows]
    assert told == [False, True]


def test_what_cannot_be_measured_is_refused(clip_path: Path) -> None:
    with pytest.raises(UsageError, match="received 0 of 0 sizes"):
        measure_engines({})
    other = FakeBackend(InputSpec(64, 64, mean=0.25, std=0.25, threshold=0.5))
    with pytest.raises(UsageError, match="received 2 of 2 sizes"):
        measure_engines({"one": FakeBackend(SPEC), "two": other})
    with pytest.raises(EngineError, match="failed at call 0"):
        measure_engines({"fails": FakeBackend(SPEC, fail_at=0)}, source=str(clip_path), regime=SHORT)


def test_the_old_place_of_the_function_still_works() -> None:
    from streamseg.benchmark.nets import own

    assert own.measure_engines is measure_engines
