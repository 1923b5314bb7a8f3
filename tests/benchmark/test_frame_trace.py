"""One frame's life, and what many of them say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.benchmark import frame_trace as module
from streamseg.benchmark.clip import FrameSource
from streamseg.benchmark.frame_trace import (
    CountedSource,
    FrameLedger,
    FrameTrace,
    LoopedClip,
    Span,
    age_of,
    age_over_time,
    in_order,
    spans_of,
    stages_of,
    waterfall,
)
from streamseg.core.errors import SourceError
from streamseg.core.types import Frame, Result, Roi, Segmentation, State
from tests.benchmark.fakes import FRAMES, MS, outcome, trace
from tests.fakes import Clip


def life(*spans: tuple[str, int, int], end: int, captured: int = 100, index: int = 0) -> FrameTrace:
    """Times in milliseconds."""
    return FrameTrace(
        index,
        captured * MS,
        tuple(Span(name, begin * MS, stop * MS) for name, begin, stop in spans),
        end * MS,
    )


def result(stage_ns: dict[str, int], began_ns: dict[str, int], captured_ns: int) -> Result:
    frame = Frame(np.zeros((4, 4), np.uint8), 3, captured_ns)
    nothing = Segmentation(np.zeros((4, 4), bool), (), 0, None, None, 0.0, State.NO_NERVE)
    return Result(frame, nothing, Roi(0, 0, 4, 4), stage_ns, 0, began_ns)


def test_stages_and_the_time_between_them_make_up_the_age() -> None:
    one = life(
        ("decode", 90, 100), ("preprocess", 100, 103), ("infer", 110, 130), ("overlay", 131, 135), end=135
    )
    assert one.age_ns == 35 * MS
    stages = {name: duration // MS for name, duration in one.stages().items()}
    assert stages == {"decode": 10, "preprocess": 3, "infer": 20, "overlay": 4, "queue": 8}


def test_a_waterfall_begins_at_zero_ends_at_the_age_and_has_no_gap() -> None:
    one = life(("decode", 90, 100), ("wait", 100, 102), ("infer", 110, 130), ("display", 130, 131), end=135)
    assert one.segments() == [
        ("wait", 0.0, 2.0),
        ("queue", 2.0, 10.0),
        ("infer", 10.0, 30.0),
        ("display", 30.0, 31.0),
        ("queue", 31.0, 35.0),
    ]


@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), max_size=6),
    st.integers(0, 10**8),
)
def test_no_segments_overlap_and_none_is_missing(steps: list[tuple[int, int]], rest: int) -> None:
    at, spans = 5, []
    for number, (gap, work) in enumerate(steps):
        spans.append(Span(f"s{number}", at + gap, at + gap + work))
        at += gap + work
    one = FrameTrace(0, 5, tuple(spans), at + rest)
    segments = one.segments()
    if segments:
        assert segments[0][1] == 0
        assert segments[-1][2] == pytest.approx(one.age_ns / 1e6, abs=1e-3)
    for before, after in pairwise(segments):
        assert before[2] == pytest.approx(after[1], abs=1e-3 * len(segments))
        assert before[2] > before[1]
    assert sum(one.stages().values()) == one.age_ns


def test_spans_are_in_the_order_in_which_they_began() -> None:
    found = spans_of(
        result(
            {"decode": 10, "preprocess": 5, "infer": 30, "elsewhere": 9},
            {"infer": 140, "decode": 91, "preprocess": 110},
            captured_ns=100,
        )
    )
    # A file's frame is stamped while it is decoded: decoding is over by then.
    assert found == [Span("decode", 91, 100), Span("preprocess", 110, 115), Span("infer", 140, 170)]


def test_waiting_for_the_net_begins_with_the_capture() -> None:
    found = spans_of(result({"wait": 7, "preprocess": 5}, {"preprocess": 108}, captured_ns=100))
    assert found == [Span("wait", 100, 107), Span("preprocess", 108, 113)]


def test_stages_of_many_frames_come_in_the_order_of_a_life() -> None:
    lives = [life(("infer", 100, 100 + n), ("decode", 95, 100), end=102 + n) for n in (10, 20, 30)]
    stages = stages_of(lives)
    assert list(stages) == ["decode", "infer", "queue"]
    assert (stages["infer"].p50_ms, stages["infer"].max_ms, stages["queue"].max_ms) == (20, 30, 2)
    assert (age_of(lives).p50_ms, age_of(lives).max_ms) == (22, 32)
    assert [one.age_ns // MS for one in lives] == [12, 22, 32]
    assert in_order({"queue", "zebra", "wait", "decode"}) == ["decode", "wait", "queue", "zebra"]


def test_the_waterfalls_are_those_of_real_frames_at_p50_and_p99() -> None:
    lives = [life(("infer", 100, 110 + n), end=110 + n) for n in range(101)]
    found = waterfall(lives)
    assert found == {"p50": [("infer", 0.0, 60.0)], "p99": [("infer", 0.0, 109.0)]}
    assert waterfall([]) is None


def test_a_stall_stays_in_the_age_over_time() -> None:
    frames = [trace(k, 10 * k, 20) for k in range(3000)]
    frames[1234] = trace(1234, 12_340 - 300, 320)
    thin = age_over_time([frames], limit=50)
    assert len(thin) == 50
    assert (12.36, 320.0) in thin
    assert thin == sorted(thin)
    assert age_over_time([]) == age_over_time([[]]) == []
    assert age_over_time([[trace(0, 100, 5)]]) == [(0.005, 5.0)]
    assert not any(math.isnan(value) for point in thin for value in point)


def test_rounds_follow_one_another_in_the_age_over_time() -> None:
    found = age_over_time([[trace(0, 1000, 10), trace(1, 1100, 20)], [trace(0, 9000, 30)]])
    assert found == [(0.01, 10.0), (0.12, 20.0), (0.15, 30.0)]


def test_an_outcome_counts_each_frame_once() -> None:
    found = outcome(10, 30, notes=("odd",))
    assert (found.offered, found.processed, found.dropped) == (3, 2, 1)
    assert (found.age.count, found.age.p50_ms, found.age.max_ms) == (2, 20, 30)
    assert found.stages["infer"].max_ms == 30
    assert repr(found) == "2 of 3 frames, 20.0 frames/s"
    assert repr(replace(found, fps=None)) == "2 of 3 frames, 0.0 frames/s"


def memory(count: int) -> FrameSource:
    return FrameSource([Frame(np.zeros((8, 8), np.uint8), 0, 0)], 30.0, count)


class Skipping(FrameSource):
    """Leaves out every third frame."""

    def __iter__(self) -> Iterator[Frame]:
        return (frame for frame in super().__iter__() if frame.index % 3 != 2)


def test_offered_is_what_was_taken() -> None:
    with CountedSource(memory(10)) as source:
        frames = iter(source)
        for _ in range(4):
            next(frames)
    assert (source.offered, source.skipped) == (4, 0)
    assert source.live is False
    assert source.fps is not None


def test_a_rate_needs_two_frames() -> None:
    source = CountedSource(memory(1))
    list(source)
    assert source.fps is None


def test_a_source_that_skips_is_seen_by_its_numbers() -> None:
    source = CountedSource(Skipping([Frame(np.zeros((8, 8), np.uint8), 0, 0)], 30.0, 10))
    ledger = FrameLedger()
    for frame in source:
        ledger.came_out(frame.index, frame.captured_ns)
    assert (source.offered, source.skipped) == (7, 3)
    assert "3 frames were left out by the source itself, by their numbers" in ledger.notes(source)


def test_a_clip_is_read_again_until_enough_frames_came(clip_path: Path) -> None:
    count = 2 * FRAMES + 5
    with LoopedClip(str(clip_path), count) as source:
        frames = list(source)
        assert source.info.width == 160
    assert [frame.index for frame in frames] == list(range(count))
    assert np.array_equal(frames[0].image, frames[FRAMES].image)


def test_damage_ends_a_turn_not_the_clip(monkeypatch) -> None:
    monkeypatch.setattr(module, "open_source", lambda uri: Clip(6, fail_at=4))
    with LoopedClip("damaged", 10) as source:
        assert [frame.index for frame in source] == list(range(10))


@pytest.mark.parametrize("empty", [Clip(0), Clip(3, fail_at=0)])
def test_a_clip_without_frames_ends_with_an_error(monkeypatch, empty: Clip) -> None:
    monkeypatch.setattr(module, "open_source", lambda uri: empty)
    with LoopedClip("empty", 10) as source, pytest.raises(SourceError):
        list(source)


def test_a_closed_clip_is_not_opened_again(clip_path: Path) -> None:
    source = LoopedClip(str(clip_path), 1000)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_frames_that_come_out_twice_or_late_are_noted_and_counted_once() -> None:
    source = CountedSource(memory(5))
    frames = list(source)
    ledger = FrameLedger()
    order = [0, 1, 1, 3, 2]
    counted = [ledger.came_out(frames[k].index, 10**9 * number) for number, k in enumerate(order)]
    assert counted == [True, True, False, True, True]
    assert ledger.processed == 4
    assert ledger.fps == pytest.approx(3 / 4)
    assert ledger.last_ns == 4 * 10**9
    assert ledger.notes(source) == ["1 frames came out twice", "1 frames came out of their order"]


def test_a_frame_that_was_never_offered_is_noted() -> None:
    source = CountedSource(memory(1))
    (frame,) = source
    ledger = FrameLedger()
    ledger.came_out(replace(frame, index=7).index, 5)
    assert ledger.notes(source) == ["1 frames came out that were never offered"]
    assert ledger.fps is None
    assert FrameLedger().last_ns is None
