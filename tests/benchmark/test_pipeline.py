"""The pipeline is measured as it is: fakes that are slow, stall, drop, repeat or hang must show."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamseg.pipeline
from streamseg.backends import FakeBackend
from streamseg.benchmark import counting, pipeline
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.life import over_time, waterfall
from streamseg.benchmark.pipeline import end_to_end, paced
from streamseg.capture import open_source
from streamseg.errors import EngineError, StreamsegError, UsageError
from streamseg.pipeline import replay
from streamseg.segment import Segmenter
from streamseg.types import Frame, InputSpec, Result, State
from tests.benchmark.small_clip import REGION, small_clip

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)


class SelfTimed(FakeBackend):
    """Knows how long each of its own calls took. The delays are taken in turn, milliseconds."""

    def __init__(self, delays: Sequence[float] = (0.0,)) -> None:
        super().__init__(SPEC)
        self.delays = delays
        self.durations_ms: list[float] = []

    def infer(self, tensor: Any) -> Any:
        began = time.monotonic_ns()
        time.sleep(self.delays[min(len(self.durations_ms), len(self.delays) - 1)] / 1e3)
        answer = super().infer(tensor)
        self.durations_ms.append((time.monotonic_ns() - began) / 1e6)
        return answer


class Meddling:
    """A sink or tap between the loop and the benchmark that drops or repeats what it is given."""

    def __init__(self, inner: Any, meddle: Callable[[int], int]) -> None:
        self.name = getattr(inner, "name", "tap")
        self.inner, self.meddle, self.count = inner, meddle, -1

    def write(self, result: Result) -> None:
        self._hand_on(self.inner.write, result)

    def segmented(self, result: Result) -> None:
        self._hand_on(self.inner.segmented, result)

    def _hand_on(self, receive: Callable[[Result], None], result: Result) -> None:
        self.count += 1
        for _ in range(self.meddle(self.count)):
            receive(result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return small_clip(tmp_path_factory.mktemp("clip"))


def test_every_frame_of_a_file_is_decoded_segmented_and_drawn(clip: Clip) -> None:
    found = end_to_end(clip, Segmenter(SelfTimed()), 40)
    assert (found.offered, found.processed, found.dropped) == (40, 40, 0)
    assert found.notes == ()
    assert list(found.stages) == ["decode", "preprocess", "infer", "postprocess", "overlay", "queue"]
    assert all(times.count == 40 for times in found.stages.values())
    assert found.age.count == len(found.ages_ns) == len(found.lives) == 40
    assert found.states == {State.NERVE: 40}
    assert found.fps is not None
    assert found.fps >= 39 / found.seconds
    for life in found.lives:
        assert sum(life.stages().values()) - life.stages()["decode"] == life.age_ns


def test_the_clips_region_is_segmented_and_the_segmenter_left_as_it_was(clip: Clip) -> None:
    segmenter = Segmenter(SelfTimed())
    sink = Remembering()
    end_to_end(clip, segmenter, 3, sinks=[sink])
    assert {result.roi for result in sink.results} == {REGION}
    assert segmenter.roi is None


class Remembering:
    """A sink."""

    name = "remembering"

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, result: Result) -> None:
        self.results.append(result)

    def close(self) -> None:
        """Nothing to finish."""


def test_a_known_delay_is_measured(clip: Clip) -> None:
    engine = SelfTimed([120.0])
    found = end_to_end(clip, Segmenter(engine), 12)
    assert found.stages["infer"].p50_ms == pytest.approx(statistics.median(engine.durations_ms), rel=0.02)
    # One lane: a frame comes out per call, and what is around the net goes on meanwhile.
    assert found.fps == pytest.approx(1e3 / statistics.mean(engine.durations_ms[1:]), rel=0.2)


def test_two_lanes_are_two_frames_at_a_time(clip: Clip) -> None:
    backend = FakeBackend(SPEC, delay_ms=40, lanes=2)
    found = end_to_end(clip, Segmenter(backend), 20)
    assert found.processed == 20
    assert found.age.p50_ms >= 40


@pytest.mark.parametrize(
    ("meddle", "processed", "note"),
    [
        (lambda count: count % 5 != 4, 16, "4 frames of a file were dropped"),
        (lambda count: 1 + (count == 7), 20, "1 frames came out twice"),
    ],
)
def test_a_loop_that_drops_or_repeats_in_silence_shows(
    clip: Clip, monkeypatch, meddle: Callable[[int], int], processed: int, note: str
) -> None:
    def meddling(source, segmenter, sinks, **options):
        return replay(source, segmenter, [Meddling(sink, meddle) for sink in sinks], **options)

    monkeypatch.setattr(pipeline, "replay", meddling)
    found = end_to_end(clip, Segmenter(SelfTimed()), 20)
    assert (found.offered, found.processed, found.dropped) == (20, processed, 20 - processed)
    assert note in found.notes
    told = "the loop reports 20 frames, 16 came out"
    assert (told in found.notes) == (processed == 16)


def test_a_source_that_skips_shows(clip: Clip, monkeypatch) -> None:
    class Skipping:
        live = False

        def __init__(self, uri: str) -> None:
            self.inner = open_source(uri)
            self.info = self.inner.info

        def __iter__(self) -> Iterator[Frame]:
            return (frame for frame in self.inner if frame.index != 5)

        def close(self) -> None:
            self.inner.close()

    monkeypatch.setattr(counting, "open_source", Skipping)
    found = end_to_end(clip, Segmenter(SelfTimed()), 10)
    assert (found.offered, found.processed, found.dropped) == (10, 10, 0)
    assert "1 frames were left out by the source itself, by their numbers" in found.notes


def test_an_engine_that_fails_ends_the_measurement_with_its_error(clip: Clip) -> None:
    with pytest.raises(EngineError, match="call 3"):
        end_to_end(clip, Segmenter(FakeBackend(SPEC, fail_at=3)), 10)
    with pytest.raises(EngineError, match="call 3"):
        paced(clip, Segmenter(FakeBackend(SPEC, fail_at=3)), 60, 0.3)


def test_an_engine_that_hangs_is_named_and_left_behind(clip: Clip, monkeypatch) -> None:
    monkeypatch.setattr(streamseg.pipeline, "GRACE_S", 0.3)
    released = threading.Event()

    class Hanging(FakeBackend):
        def infer(self, tensor: Any) -> Any:
            if self.calls == 2:
                released.wait(60)
            return super().infer(tensor)

    try:
        with pytest.raises(StreamsegError, match="infer 0"):
            end_to_end(clip, Segmenter(Hanging(SPEC)), 10, stall_s=0.5)
    finally:
        released.set()


def test_live_frames_that_the_engine_cannot_take_are_counted_as_dropped(clip: Clip) -> None:
    engine = SelfTimed([100.0])
    found = paced(clip, Segmenter(engine), 30, 2.0)
    assert found.offered == 60
    assert found.processed == engine.calls == found.age.count == len(found.ages)
    assert found.dropped == 60 - found.processed
    # A call takes 100 ms or more, a frame comes every 33 ms: two of three are dropped, or more.
    assert found.dropped >= 60 - 22
    assert found.processed >= 5
    assert found.stages["infer"].p50_ms == pytest.approx(statistics.median(engine.durations_ms), rel=0.02)
    # Nothing comes out faster than the engine works, whatever is offered.
    assert found.processed_fps is not None
    assert found.processed_fps <= 12


def test_live_frames_that_are_in_time_are_displayed_within_the_budget(clip: Clip) -> None:
    found = paced(clip, Segmenter(SelfTimed([5.0])), 20, 1.0, budget_s=5.0)
    assert found.offered == 20
    assert found.within_budget == sum(life.displayed for life in found.lives) / found.processed >= 0.5
    stages = list(found.stages)
    assert stages == ["wait", "preprocess", "infer", "postprocess", "display", "queue"]
    life = found.lives[-1]
    assert life.displayed
    assert sum(life.stages().values()) == life.age_ns
    assert found.states[State.NERVE] > 0


def test_outlines_that_come_too_late_are_not_within_the_budget(clip: Clip) -> None:
    found = paced(clip, Segmenter(SelfTimed([60.0])), 20, 1.0, budget_s=0.03)
    assert found.processed > 0
    assert found.within_budget == 0.0
    assert not any(life.displayed for life in found.lives)
    assert found.age.p50_ms >= 60


def test_a_stall_shows_in_the_largest_age_and_over_time(clip: Clip) -> None:
    engine = SelfTimed([5.0] * 8 + [300.0] + [5.0])
    found = paced(clip, Segmenter(engine), 20, 1.5)
    assert found.stages["infer"].max_ms >= 300
    assert found.age.max_ms >= 300
    assert max(age for _, age in over_time(found.ages, most=10)) == pytest.approx(found.age.max_ms, abs=0.01)
    slowest = max(found.lives, key=lambda life: life.age_ns)
    assert any(name == "infer" and end - begin >= 299 for name, begin, end in slowest.segments())
    assert found.dropped >= 4


def test_waterfalls_hold_no_overlap_and_end_at_the_age(clip: Clip) -> None:
    found = paced(clip, Segmenter(SelfTimed([10.0])), 30, 1.0)
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
    real = pipeline.run_live

    def meddling(opener, segmenter, *, taps, **options):
        return real(opener, segmenter, taps=[Meddling(tap, meddle) for tap in taps], **options)

    monkeypatch.setattr(pipeline, "run_live", meddling)
    engine = SelfTimed([5.0])
    found = paced(clip, Segmenter(engine), 20, 1.0)
    assert found.offered == 20
    assert found.processed == sum(min(1, meddle(count)) for count in range(engine.calls))
    assert found.dropped == 20 - found.processed
    assert any(note in told for told in found.notes)


def test_a_live_loop_that_ends_early_shows(clip: Clip, monkeypatch) -> None:
    real = pipeline.run_live

    def impatient(opener, segmenter, *, options, **others):
        return real(opener, segmenter, options=replace(options, seconds=0.3), **others)

    monkeypatch.setattr(pipeline, "run_live", impatient)
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
    found = paced(clip, Segmenter(SelfTimed()), 200, 0.2)
    assert any("not 200: the source was held up" in note for note in found.notes)


@pytest.mark.parametrize(
    ("fps", "seconds"), [(0, 1), (30, 0), (float("inf"), 1), (30, float("nan")), (1, 0.1)]
)
def test_what_gives_no_frame_is_refused(clip: Clip, fps: float, seconds: float) -> None:
    with pytest.raises(UsageError, match="give more of either"):
        paced(clip, Segmenter(SelfTimed()), fps, seconds)


def test_no_frames_of_a_file_are_refused(clip: Clip) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        end_to_end(clip, Segmenter(SelfTimed()), 0)


def test_a_frame_in_memory_is_not_changed(clip: Clip) -> None:
    before = [frame.image.copy() for frame in clip.frames]
    paced(clip, Segmenter(SelfTimed()), 60, 0.2)
    assert all(np.array_equal(frame.image, old) for frame, old in zip(clip.frames, before, strict=True))
    assert Path(clip.uri).name == clip.name
