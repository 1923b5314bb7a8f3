"""A replay is measured as it is: engines and loops that are slow, drop, repeat or hang must show."""

import statistics
from collections.abc import Callable, Iterator

import pytest

import streamseg.pipeline.replay
from streamseg.backends import FakeBackend
from streamseg.benchmark import frame_trace
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.pipeline import replay_run as module
from streamseg.benchmark.pipeline.replay_run import end_to_end
from streamseg.capture import open_source
from streamseg.core.errors import EngineError, StreamsegError, UsageError
from streamseg.core.types import Frame, State
from streamseg.pipeline.replay import replay
from streamseg.segmentation.segmenter import Segmenter
from tests.benchmark.fakes import REGION, SPEC, Hanging, Repeater, SelfTimed
from tests.fakes import Collector


def test_every_frame_of_a_file_is_decoded_segmented_and_drawn(clip: Clip) -> None:
    found = end_to_end(clip, Segmenter(SelfTimed()), 40)
    assert (found.offered, found.processed, found.dropped) == (40, 40, 0)
    assert found.notes == ()
    assert list(found.stages) == ["decode", "preprocess", "infer", "postprocess", "overlay", "queue"]
    assert all(times.count == 40 for times in found.stages.values())
    assert found.age.count == len(found.traces) == 40
    assert found.states == {State.NERVE: 40}
    assert found.fps is not None
    assert found.fps > 0
    for trace in found.traces:
        assert sum(trace.stages().values()) - trace.stages()["decode"] == trace.age_ns


def test_the_clips_region_is_segmented_and_the_segmenter_left_as_it_was(clip: Clip) -> None:
    segmenter = Segmenter(SelfTimed())
    sink = Collector()
    end_to_end(clip, segmenter, 3, sinks=[sink])
    assert {result.roi for result in sink.results} == {REGION}
    assert segmenter.roi is None


def test_a_known_delay_is_measured(clip: Clip) -> None:
    engine = SelfTimed([60.0])
    found = end_to_end(clip, Segmenter(engine), 10)
    # What a busy machine adds between the engine's clock and ours is unknown: a delay never measures shorter.
    assert found.stages["infer"].p50_ms >= statistics.median(engine.durations_ms) - 0.01
    # One lane: no more than a frame per call comes out, but for what the first one waited at its end.
    assert found.fps is not None
    assert found.fps <= 1.5e3 / statistics.mean(engine.durations_ms[1:])


def test_two_lanes_are_two_frames_at_a_time(clip: Clip) -> None:
    backend = FakeBackend(SPEC, delay_ms=20, lanes=2)
    found = end_to_end(clip, Segmenter(backend), 20)
    assert found.processed == 20
    assert found.age.p50_ms >= 20


@pytest.mark.parametrize(
    ("times", "processed", "note"),
    [
        (lambda count: count % 5 != 4, 16, "4 frames of a file were dropped"),
        (lambda count: 1 + (count == 7), 20, "1 frames came out twice"),
    ],
)
def test_a_loop_that_drops_or_repeats_in_silence_shows(
    clip: Clip, monkeypatch, times: Callable[[int], int], processed: int, note: str
) -> None:
    def repeating(source, segmenter, sinks, **options):
        return replay(source, segmenter, [Repeater(sink, times) for sink in sinks], **options)

    monkeypatch.setattr(module, "replay", repeating)
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

    monkeypatch.setattr(frame_trace, "open_source", Skipping)
    found = end_to_end(clip, Segmenter(SelfTimed()), 10)
    assert (found.offered, found.processed, found.dropped) == (10, 10, 0)
    assert "1 frames were left out by the source itself, by their numbers" in found.notes


def test_an_engine_that_fails_ends_the_measurement_with_its_error(clip: Clip) -> None:
    with pytest.raises(EngineError, match="call 3"):
        end_to_end(clip, Segmenter(FakeBackend(SPEC, fail_at=3)), 10)


def test_an_engine_that_hangs_is_named_and_left_behind(clip: Clip, monkeypatch) -> None:
    monkeypatch.setattr(streamseg.pipeline.replay, "GRACE_S", 0.3)
    with Hanging() as engine, pytest.raises(StreamsegError, match="infer 0"):
        end_to_end(clip, Segmenter(engine), 10, stall_s=0.5)


def test_no_frames_of_a_file_are_refused(clip: Clip) -> None:
    with pytest.raises(UsageError, match="1 or more"):
        end_to_end(clip, Segmenter(SelfTimed()), 0)
