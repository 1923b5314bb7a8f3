"""The loop: no frame lost, none twice, in order; every sink closed; nothing hangs, whatever fails."""

import _thread
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg import pipeline
from streamseg.backends import FakeBackend
from streamseg.backends.fake import ellipse
from streamseg.errors import EngineError, SinkError, SourceCut, StreamsegError, UsageError
from streamseg.pipeline import Report, replay
from streamseg.segment import Segmenter
from streamseg.types import Frame, InputSpec, Result, Roi, SourceInfo, State, Tensor

SPEC = InputSpec(32, 48, mean=0.25, std=0.25, threshold=0.5, min_area=0.001)


class Clip:
    """A source of ``count`` grey frames that can be slow, and can fail before a frame."""

    live = False

    def __init__(
        self,
        count: int,
        *,
        fail_at: int | None = None,
        error: Exception | None = None,
        pause: Callable[[], float] | None = None,
        shape: tuple[int, int] = (64, 96),
    ) -> None:
        self.info = SourceInfo("clip", *shape)
        self.count, self.fail_at, self.pause, self.shape = count, fail_at, pause, shape
        self.error = error or SourceCut("clip ends in the middle; it was cut")
        self.given = 0

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            if self.pause:
                time.sleep(self.pause())
            if index == self.fail_at:
                raise self.error
            self.given += 1
            image = np.full(self.shape, index % 256, np.uint8)
            yield Frame(image, index, time.monotonic_ns(), pts_seconds=index / 25)
        if self.fail_at == self.count:
            raise self.error

    def close(self) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


class Collector:
    """A sink that remembers, can be slow and can fail in writing and in closing."""

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        fail_close: bool = False,
        pause: Callable[[], float] | None = None,
    ) -> None:
        self.results: list[Result] = []
        self.closed = 0
        self.fail_at, self.fail_close, self.pause = fail_at, fail_close, pause

    def write(self, result: Result) -> None:
        assert not self.closed
        if self.pause:
            time.sleep(self.pause())
        if result.frame.index == self.fail_at:
            raise SinkError("disk full; free some space")
        self.results.append(result)

    def close(self) -> None:
        self.closed += 1
        if self.fail_close:
            raise SinkError("cannot finish the file; free some space")

    @property
    def indices(self) -> list[int]:
        return [result.frame.index for result in self.results]


def index_of(tensor: Tensor) -> int:
    """The index of a clip's frame, which is its grey level."""
    return round(float(tensor.mean() * SPEC.std + SPEC.mean) * 255)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("streamseg-")]
    assert left == []


def run(source: Any, sinks: Any, backend: Any = None, **options: Any) -> Report:
    stop = options.pop("stop", None) or threading.Event()
    segmenter = Segmenter(backend or FakeBackend(SPEC), options.pop("roi", None))
    return replay(source, segmenter, sinks, stop=stop, **options)


def test_every_frame_arrives_once_in_order_and_the_report_adds_up() -> None:
    sinks = [Collector(), Collector()]
    seen: list[int] = []
    report = run(Clip(30), sinks, on_result=lambda result: seen.append(result.frame.index))
    assert sinks[0].indices == sinks[1].indices == seen == list(range(30))
    assert [sink.closed for sink in sinks] == [1, 1]
    assert report.frames == 30
    assert report.states == {State.NERVE: 30}
    assert list(report.stages) == ["decode", "preprocess", "infer", "postprocess", "collector"]
    assert {p.count for p in report.stages.values()} == {30}
    assert report.age.count == 30
    assert report.fps is not None
    assert report.seconds > 0
    assert not report.stopped


def test_results_carry_their_own_frame_times_and_age() -> None:
    sink = Collector()
    run(Clip(3), [sink], FakeBackend(SPEC, delay_ms=5), roi=Roi(10, 5, 40, 30))
    for result in sink.results:
        assert list(result.stage_ns) == ["decode", "preprocess", "infer", "postprocess"]
        assert result.stage_ns["infer"] >= 5_000_000
        assert result.age_ns >= result.stage_ns["infer"]
        assert result.roi == Roi(10, 5, 40, 30)
        assert result.segmentation.mask.shape == (64, 96)


def test_decoding_is_measured_and_overlaps_with_inference() -> None:
    report = run(Clip(8, pause=lambda: 0.01), [], FakeBackend(SPEC, delay_ms=10))
    assert report.stages["decode"].p50_ms >= 10
    assert report.stages["infer"].p50_ms >= 10


def test_an_empty_source_gives_an_empty_report() -> None:
    sink = Collector()
    report = run(Clip(0), [sink])
    assert (report.frames, report.fps, report.states, sink.closed) == (0, None, {}, 1)
    assert report.age.count == 0


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (7, 7), (99, 10)])
def test_max_frames(limit: int, expected: int) -> None:
    clip, sink = Clip(10), Collector()
    assert run(clip, [sink], max_frames=limit).frames == expected
    assert sink.indices == list(range(expected))
    assert clip.given == expected


def test_without_sinks_the_frames_are_counted() -> None:
    assert run(Clip(5), []).frames == 5


@pytest.mark.parametrize("at", [0, 1, 9, 10])
def test_a_cut_source_delivers_what_came_before_then_raises(at: int) -> None:
    sink = Collector()
    with pytest.raises(SourceCut, match="cut"):
        run(Clip(10, fail_at=at), [sink], FakeBackend(SPEC, delay_ms=1))
    assert sink.indices == list(range(at))
    assert sink.closed == 1


def test_lanes_work_at_the_same_time_and_order_is_kept() -> None:
    """Four frames of which each waits for the next to have begun: one lane alone would never end."""
    begun = [threading.Event() for _ in range(5)]
    begun[4].set()

    def answer(tensor: Tensor) -> np.ndarray:
        index = index_of(tensor)
        begun[index].set()
        assert begun[index + 1].wait(10)
        time.sleep(0.005 * (3 - index))
        return ellipse(SPEC)

    sink = Collector()
    report = run(Clip(4), [sink], FakeBackend(SPEC, answer, lanes=4))
    assert sink.indices == [0, 1, 2, 3]
    assert report.frames == 4


@pytest.mark.parametrize("at", [0, 6])
def test_a_failing_engine_delivers_what_came_before_then_raises(at: int) -> None:
    sink = Collector()
    with pytest.raises(EngineError, match=f"call {at}"):
        run(Clip(200), [sink], FakeBackend(SPEC, fail_at=at))
    assert sink.indices == list(range(at))
    assert sink.closed == 1


def test_a_roi_outside_the_frame_is_one_clear_error() -> None:
    sink = Collector()
    with pytest.raises(UsageError, match="largest that fits is 0,0,96,64"):
        run(Clip(5), [sink], roi=Roi(0, 0, 97, 64))
    assert (sink.indices, sink.closed) == ([], 1)


def test_when_one_sink_fails_the_others_get_the_frame_and_all_are_closed() -> None:
    before, broken, after = Collector(), Collector(fail_at=4), Collector()
    with pytest.raises(SinkError, match="disk full"):
        run(Clip(300), [before, broken, after])
    assert before.indices == after.indices == list(range(5))
    assert broken.indices == list(range(4))
    assert [sink.closed for sink in (before, broken, after)] == [1, 1, 1]


def test_a_sink_that_cannot_be_finished_is_reported_and_the_rest_closed() -> None:
    broken, after = Collector(fail_close=True), Collector()
    with pytest.raises(SinkError, match="cannot finish"):
        run(Clip(3, fail_at=3), [broken, after])
    assert after.closed == 1
    assert after.indices == [0, 1, 2]


def test_a_failing_callback_ends_the_run() -> None:
    sink = Collector()

    def fail(result: Result) -> None:
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        run(Clip(100), [sink], on_result=fail)
    assert (sink.indices, sink.closed) == ([0], 1)


def test_the_error_furthest_downstream_is_raised() -> None:
    sink = Collector(fail_at=1, pause=lambda: 0.02)
    with pytest.raises(SinkError, match="disk full"):
        run(Clip(10, fail_at=3), [sink], FakeBackend(SPEC, fail_at=2))


def test_stop_ends_cleanly_with_a_prefix() -> None:
    stop = threading.Event()
    clip, sink = Clip(10_000), Collector()

    def halt(result: Result) -> None:
        if result.frame.index == 5:
            stop.set()

    report = run(clip, [sink], FakeBackend(SPEC, delay_ms=2), stop=stop, on_result=halt)
    assert report.stopped
    assert sink.indices == list(range(report.frames))
    assert 6 <= report.frames <= 12
    assert clip.given <= 20
    assert sink.closed == 1


def test_stop_set_beforehand_reads_nothing() -> None:
    stop = threading.Event()
    stop.set()
    clip, sink = Clip(10), Collector()
    assert run(clip, [sink], stop=stop).frames == 0
    assert (clip.given, sink.closed) == (0, 1)


def test_stop_reaches_a_reader_held_by_a_slow_engine() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    report = run(Clip(10_000), [], FakeBackend(SPEC, delay_ms=50), stop=stop)
    assert report.stopped
    assert report.frames < 100


def test_keyboard_interrupt_finishes_the_outputs() -> None:
    sink = Collector()

    def interrupt(result: Result) -> None:
        if result.frame.index == 3:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        run(Clip(100_000), [sink], FakeBackend(SPEC, delay_ms=1), on_result=interrupt)
    assert sink.closed == 1
    assert sink.indices == list(range(len(sink.indices)))


def test_a_source_that_no_longer_answers_is_named_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "GRACE_S", 0.2)
    silent = threading.Event()

    def pause() -> float:
        if clip.given == 3:
            silent.wait(30)
        return 0.0

    clip, sink, stop = Clip(10, pause=pause), Collector(), threading.Event()

    def halt(result: Result) -> None:
        if result.frame.index == 2:
            stop.set()

    with pytest.raises(StreamsegError, match=r"read.* still hangs"):
        run(clip, [sink], stop=stop, on_result=halt)
    assert (sink.indices, sink.closed) == ([0, 1, 2], 1)
    silent.set()
    _wait_for_threads()


def test_a_sink_that_hangs_is_named_and_the_others_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "GRACE_S", 0.2)
    silent, stop = threading.Event(), threading.Event()

    def pause() -> float:
        stop.set()
        silent.wait(30)
        return 0.0

    stuck, other = Collector(pause=pause), Collector()
    with pytest.raises(StreamsegError, match=r"write.* still hangs"):
        run(Clip(100), [other, stuck], stop=stop)
    assert (stuck.closed, other.closed, other.indices) == (0, 1, [0])
    silent.set()
    _wait_for_threads()


def _wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("streamseg-"):
            thread.join(5)


def test_frames_may_change_size() -> None:
    class Two(Clip):
        def __iter__(self) -> Iterator[Frame]:
            for index, shape in enumerate([(64, 96), (64, 96), (100, 50)]):
                yield Frame(np.zeros(shape, np.uint8), index, time.monotonic_ns())

    sink = Collector()
    run(Two(3), [sink])
    assert [result.segmentation.mask.shape for result in sink.results] == [(64, 96), (64, 96), (100, 50)]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 25),
    source_fault=st.none() | st.integers(0, 25),
    engine_fault=st.none() | st.integers(0, 25),
    sink_fault=st.none() | st.integers(0, 25),
    close_fault=st.booleans(),
    lanes=st.integers(1, 4),
)
def test_random_delays_and_faults(
    seed: int,
    count: int,
    source_fault: int | None,
    engine_fault: int | None,
    sink_fault: int | None,
    close_fault: bool,
    lanes: int,
) -> None:
    chance = random.Random(seed)

    def pause() -> float:
        return chance.choice((0.0, 0.0, 0.0005, 0.003))

    clip = Clip(count, fail_at=source_fault, pause=pause)
    sinks = [
        Collector(pause=pause),
        Collector(fail_at=sink_fault, fail_close=close_fault, pause=pause),
        Collector(),
    ]
    delays = [pause() for _ in range(count)]

    def answer(tensor: Tensor) -> np.ndarray:
        """By the frame, not by the call: lanes may swap calls."""
        index = index_of(tensor)
        time.sleep(delays[index])
        if index == engine_fault:
            raise EngineError(f"failed at frame {index}")
        return ellipse(SPEC)

    backend = FakeBackend(SPEC, answer, lanes=lanes)
    readable = count if source_fault is None or source_fault > count else source_fault
    inferable = readable if engine_fault is None or engine_fault >= readable else engine_fault
    sink_fails = sink_fault is not None and sink_fault < inferable
    expected = sink_fault + 1 if sink_fails and sink_fault is not None else inferable
    source_fails = source_fault is not None and source_fault <= count
    fails = sink_fails or close_fault or inferable < readable or source_fails
    try:
        report = run(clip, sinks, backend)
    except StreamsegError:
        assert fails
    else:
        assert not fails
        assert report.frames == count
    assert [sink.closed for sink in sinks] == [1, 1, 1]
    assert sinks[0].indices == sinks[2].indices == list(range(expected))
    assert sinks[1].indices == list(range(expected - sink_fails))
