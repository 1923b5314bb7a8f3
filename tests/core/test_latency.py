"""Percentiles, the frame's clock and the recorder."""

import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.core import latency
from streamseg.core.latency import LatencyRecorder, Percentiles, StageClock


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200))
def test_percentiles_are_those_of_numpy_and_nothing_is_clipped(durations: list[int]) -> None:
    found = Percentiles.of(durations)
    expected = np.percentile(np.array(durations) / 1e6, [50, 95, 99])
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == pytest.approx(tuple(expected))
    assert found.max_ms == max(durations) / 1e6
    assert found.count == len(durations)


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
