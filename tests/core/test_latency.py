"""Percentiles, the frame's clock and the recorder."""

import math
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.core import latency
from streamseg.core.latency import MAX_EXACT, Durations, LatencyRecorder, Percentiles, StageClock


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200))
def test_percentiles_are_those_of_numpy_and_nothing_is_clipped(durations: list[int]) -> None:
    found = Percentiles.of(durations)
    expected = np.percentile(np.array(durations) / 1e6, [50, 95, 99])
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx(tuple(expected))
    assert found.max_ms == max(durations) / 1e6
    assert found.count == len(durations)


@pytest.mark.parametrize("shape", ["normal", "long tail", "two peaks", "constant", "tiny"])
def test_percentiles_of_a_long_run_are_within_half_a_percent(shape: str) -> None:
    rng, count = np.random.default_rng(0), 3 * MAX_EXACT
    values = {
        "normal": rng.normal(30e6, 5e6, count),
        "long tail": 5e6 * (1 + rng.pareto(1.5, count)),
        "two peaks": np.where(rng.random(count) < 0.9, 20e6, 250e6) + rng.normal(0, 1e6, count),
        "constant": np.full(count, 33_333_333),
        "tiny": rng.integers(-500, 5_000_000, count),
    }[shape].astype(np.int64)
    durations = Durations()
    for value in values:
        durations.append(int(value))
    found = durations.percentiles()
    expected = np.percentile(values / 1e6, [50, 95, 99])
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx(tuple(expected), rel=0.0051, abs=0.001)
    assert (found.count, found.max_ms) == (count, values.max() / 1e6)


@given(st.lists(st.integers(-(10**6), 7 * 86_400 * 10**9), min_size=30, max_size=60))
def test_above_the_limit_every_percentile_is_near_an_order_statistic(values: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "MAX_EXACT", 20)
        durations = Durations()
        for value in values:
            durations.append(value)
        found = durations.percentiles()
    ordered = sorted(values)
    for share, got in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        at = int(share * (len(values) - 1))
        assert any(got * 1e6 == pytest.approx(max(v, 0), rel=0.0051, abs=1000) for v in ordered[at : at + 2])
    assert found.max_ms == max(values) / 1e6


def test_a_day_of_frames_takes_little_memory() -> None:
    recorder, rng = LatencyRecorder(), np.random.default_rng(0)
    tracemalloc.start()
    for value in rng.lognormal(17, 1, 200_000).astype(np.int64):
        recorder.add({"infer": int(value)}, at_ns=1)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 500_000


def test_no_durations_give_nan_not_zero() -> None:
    empty = Percentiles.of([])
    assert empty.count == 0
    assert math.isnan(empty.p50_ms)
    assert math.isnan(empty.max_ms)


def test_clock_adds_up_repeated_stages_and_keeps_their_order() -> None:
    clock = StageClock()
    clock.add("decode", 5)
    with clock.stage("infer"):
        pass
    clock.add("decode", 7)
    assert list(clock.stage_ns) == ["decode", "infer"]
    assert clock.stage_ns["decode"] == 12
    assert clock.stage_ns["infer"] >= 0


def test_clock_knows_when_a_stage_first_began() -> None:
    clock = StageClock()
    clock.add("decode", 5)
    before = time.monotonic_ns()
    with clock.stage("infer"):
        pass
    first = clock.began_ns["infer"]
    with clock.stage("infer"):
        pass
    assert list(clock.began_ns) == ["infer"]
    assert before <= clock.began_ns["infer"] == first
    assert first + clock.stage_ns["infer"] <= time.monotonic_ns()


def test_clock_counts_a_stage_that_raises() -> None:
    clock = StageClock()
    with pytest.raises(ValueError, match="bad"), clock.stage("infer"):
        raise ValueError("bad")
    assert "infer" in clock.stage_ns


def test_rate_is_intervals_over_span() -> None:
    recorder = LatencyRecorder()
    assert recorder.fps() is None
    for tick in range(31):
        recorder.add({"infer": 1}, at_ns=tick * 100_000_000)
    assert recorder.fps() == pytest.approx(10.0)
    assert recorder.count == 31


def test_rate_of_one_frame_or_of_no_span_is_unknown() -> None:
    recorder = LatencyRecorder()
    recorder.add({}, at_ns=7)
    assert recorder.fps() is None
    recorder.add({}, at_ns=7)
    assert recorder.fps() is None


def test_window_forgets_old_frames_and_whole_record_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "REFRESH_NS", 0)
    windowed, whole = LatencyRecorder(window=4), LatencyRecorder()
    for tick in range(10):
        duration = 9_000_000 if tick == 0 else 1_000_000
        gap = 1_000_000_000 if tick < 6 else 100_000_000
        for recorder in (windowed, whole):
            recorder.add({"infer": duration}, at_ns=tick * gap)
    assert windowed.stages()["infer"] == Percentiles(4, 1.0, 1.0, 1.0, 1.0)
    assert whole.stages()["infer"].max_ms == 9.0
    assert windowed.fps() == pytest.approx(10.0)
    assert windowed.count == 10


def test_window_answers_from_a_copy_between_refreshes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "REFRESH_NS", 10**15)
    recorder = LatencyRecorder(window=8)
    assert recorder.stages() == {}
    recorder.add({"infer": 1_000_000})
    assert recorder.stages()["infer"].count == 1
    recorder.add({"infer": 1_000_000})
    assert recorder.stages()["infer"].count == 1


def test_a_window_too_small_for_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        LatencyRecorder(window=1)


def test_threads_may_add_and_read_at_once() -> None:
    recorder = LatencyRecorder()

    def add() -> None:
        for _ in range(500):
            recorder.add({"a": 1, "b": 2})
            recorder.fps()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert recorder.count == 2000
    assert recorder.stages()["b"].count == 2000
