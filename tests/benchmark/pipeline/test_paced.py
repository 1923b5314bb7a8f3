"""Live runs at a pace: engines that are slow, stall or hang must show, and loops that drop or repeat."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import streamseg.live.loop
from streamseg.backends import FakeBackend
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import over_time, waterfall
from streamseg.benchmark.pipeline import run as pipeline
from streamseg.benchmark.pipeline.run import paced
from streamseg.core.errors import EngineError, UsageError
from streamseg.core.types import Frame, State
from streamseg.segmentation.segmenter import Segmenter
from tests.benchmark.meddling import SPEC, Hanging, Meddling, SelfTimed
from tests.benchmark.small_clip import small_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return small_clip(tmp_path_factory.mktemp("clip"))


def test_an_engine_that_fails_ends_the_run_with_its_error(clip: Clip) -> None:
    with pytest.raises(EngineError, match="call 3"):
        paced(clip, Segmenter(FakeBackend(SPEC, fail_at=3)), 60, 0.3)


def test_a_live_engine_that_hangs_is_told(clip: Clip, monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "GRACE_S", 0.3)
    monkeypatch.setattr(streamseg.live.loop, "JOIN_S", 0.2)
    with Hanging() as engine:
        found = paced(clip, Segmenter(engine), 30, 0.5)
    assert (found.offered, found.processed, found.dropped) == (15, 2, 13)
    assert "the run did not end within 0.3 s after its last frame, and was ended" in found.notes


def test_live_frames_that_the_engine_cannot_take_are_counted_as_dropped(clip: Clip) -> None:
    engine = SelfTimed([100.0])
    found = paced(clip, Segmenter(engine), 30, 1.5)
    assert found.offered == 45
    assert found.processed == engine.calls == found.age.count == len(found.ages)
    assert found.dropped == 45 - found.processed
    # A call takes 100 ms or more, a frame comes every 33 ms: two of three are dropped, or more.
    assert found.dropped >= 45 - 17
    assert found.processed >= 5
    assert found.stages["infer"].p50_ms == pytest.approx(statistics.median(engine.durations_ms), rel=0.02)
    # Nothing comes out faster than the engine works, whatever is offered.
    assert found.processed_fps is not None
    assert found.processed_fps <= 12


def test_live_frames_that_are_in_time_are_displayed_within_the_budget(clip: Clip) -> None:
    found = paced(clip, Segmenter(SelfTimed([5.0])), 20, 0.6, budget_s=5.0)
    assert found.offered == 12
    assert found.within_budget == sum(life.displayed for life in found.lives) / found.processed >= 0.5
    stages = list(found.stages)
    assert stages == ["wait", "preprocess", "infer", "postprocess", "display", "queue"]
    life = found.lives[-1]
    assert life.displayed
    assert sum(life.stages().values()) == life.age_ns
    assert found.states[State.NERVE] > 0


def test_outlines_that_come_too_late_are_not_within_the_budget(clip: Clip) -> None:
    found = paced(clip, Segmenter(SelfTimed([60.0])), 20, 0.6, budget_s=0.03)
    assert found.processed > 0
    assert found.within_budget == 0.0
    assert not any(life.displayed for life in found.lives)
    assert found.age.p50_ms >= 60


def test_a_stall_shows_in_the_largest_age_and_over_time(clip: Clip) -> None:
    engine = SelfTimed([5.0] * 8 + [300.0] + [5.0])
    found = paced(clip, Segmenter(engine), 20, 1.2)
    assert found.stages["infer"].max_ms >= 300
    assert found.age.max_ms >= 300
    assert max(age for _, age in over_time(found.ages, most=10)) == pytest.approx(found.age.max_ms, abs=0.01)
    slowest = max(found.lives, key=lambda life: life.age_ns)
    assert any(name == "infer" and end - begin >= 299 for name, begin, end in slowest.segments())
    assert found.dropped >= 4


def test_waterfalls_hold_no_overlap_and_end_at_the_age(clip: Clip) -> None:
    found = paced(clip, Segmenter(SelfTimed([10.0])), 30, 0.6)
    lives = waterfall(found.lives)
    assert lives is not None
    for segments in lives.values():
        assert segments[0][1] == 0
        assert [segment[1] for segment in segments[1:]] == [segment[2] for segment in segments[:-1]]
        names = [segment[0] for segment in segments if segment[0] != "queue"]
        assert names[1:4] == ["preprocess", "infer", "postprocess"]


@pytest.mark.parametrize(
    ("meddle", "note"),
    [
        (lambda count: count % 5 != 4, "the loop reports"),
        (lambda count: 1 + (count == 3), "1 frames came out twice"),
    ],
)
def test_a_live_loop_that_drops_or_repeats_in_silence_shows(
    clip: Clip, monkeypatch, meddle: Callable[[int], int], note: str
) -> None:
    real = pipeline.LiveLoop

    def meddling(*args, observers, **others):
        return real(*args, observers=[Meddling(observer, meddle) for observer in observers], **others)

    monkeypatch.setattr(pipeline, "LiveLoop", meddling)
    engine = SelfTimed([5.0])
    found = paced(clip, Segmenter(engine), 20, 0.6)
    assert found.offered == 12
    assert found.processed == sum(min(1, meddle(count)) for count in range(engine.calls))
    assert found.dropped == 12 - found.processed
    assert any(note in told for told in found.notes)


def test_a_live_loop_that_ends_early_shows(clip: Clip, monkeypatch) -> None:
    real = pipeline.LiveLoop

    def impatient(opener, segmenter, options, **others):
        return real(opener, segmenter, replace(options, seconds=0.3), **others)

    monkeypatch.setattr(pipeline, "LiveLoop", impatient)
    found = paced(clip, Segmenter(SelfTimed()), 20, 2.0)
    assert found.offered < 40
    assert f"the run ended after {found.offered} of 40 frames" in found.notes


def test_a_pace_that_is_not_kept_is_told(clip: Clip, monkeypatch) -> None:
    class Slow(pipeline.FrameSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                time.sleep(0.02)
                yield frame

    monkeypatch.setattr(pipeline, "FrameSource", Slow)
    found = paced(clip, Segmenter(SelfTimed()), 200, 0.1)
    assert any("not 200: the source was held up" in note for note in found.notes)


@pytest.mark.parametrize(
    ("fps", "seconds"), [(0, 1), (30, 0), (float("inf"), 1), (30, float("nan")), (1, 0.1)]
)
def test_what_gives_no_frame_is_refused(clip: Clip, fps: float, seconds: float) -> None:
    with pytest.raises(UsageError, match="give more of either"):
        paced(clip, Segmenter(SelfTimed()), fps, seconds)


def test_a_frame_in_memory_is_not_changed(clip: Clip) -> None:
    before = [frame.image.copy() for frame in clip.frames]
    paced(clip, Segmenter(SelfTimed()), 60, 0.2)
    assert all(np.array_equal(frame.image, old) for frame, old in zip(clip.frames, before, strict=True))
    assert Path(clip.uri).name == clip.name


def test_a_clip_that_stands_still_is_told(clip: Clip) -> None:
    still = replace(clip, frames=clip.frames[:1])
    found = paced(still, Segmenter(SelfTimed([1.0])), 30, 1.6)
    assert found.states[State.FROZEN] > 0
    assert "the clip stood still: displays showed a frozen scanner" in " ".join(found.notes)
    assert not any("stood still" in note for note in paced(clip, Segmenter(SelfTimed()), 30, 0.3).notes)
