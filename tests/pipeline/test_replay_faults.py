"""The loop when something fails: what came before is delivered, sinks are closed, nothing hangs."""

import _thread
import random
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.backends import FakeBackend
from streamseg.backends.fake import ellipse
from streamseg.core.errors import EngineError, SinkError, SourceCut, StreamsegError, UsageError
from streamseg.core.types import Result, Roi, Tensor
from streamseg.pipeline import replay as pipeline
from streamseg.segmentation.segmenter import Segmenter
from tests.fakes import SPEC, Clip, Collector, index_of, loop_threads, run_replay


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert loop_threads() == []


@pytest.mark.parametrize("at", [0, 1, 9, 10])
def test_a_cut_source_delivers_what_came_before_then_raises(at: int) -> None:
    sink = Collector()
    with pytest.raises(SourceCut, match="cut"):
        run_replay(Clip(10, fail_at=at), [sink], FakeBackend(SPEC, delay_ms=1))
    assert sink.indices == list(range(at))
    assert sink.closed == 1


def test_the_report_of_a_broken_run_says_what_was_done_before_and_why_it_broke() -> None:
    sink = Collector()
    segmenter = Segmenter(FakeBackend(SPEC, fail_at=6))
    report = pipeline.Replay(segmenter, [sink]).run(Clip(200), threading.Event())
    assert isinstance(report.error, EngineError)
    assert report.frames == report.age.count == sum(report.states.values()) == 6
    assert report.stages["infer"].count == 6
    assert not report.stopped
    assert sink.closed == 1


@pytest.mark.parametrize("at", [0, 6])
def test_a_failing_engine_delivers_what_came_before_then_raises(at: int) -> None:
    sink = Collector()
    with pytest.raises(EngineError, match=f"call {at}"):
        run_replay(Clip(200), [sink], FakeBackend(SPEC, fail_at=at))
    assert sink.indices == list(range(at))
    assert sink.closed == 1


def test_a_roi_outside_the_frame_is_one_clear_error() -> None:
    sink = Collector()
    with pytest.raises(UsageError, match="largest that fits is 0,0,96,64"):
        run_replay(Clip(5), [sink], roi=Roi(0, 0, 97, 64))
    assert (sink.indices, sink.closed) == ([], 1)


def test_when_one_sink_fails_the_others_get_the_frame_and_all_are_closed() -> None:
    before, broken, after = Collector(), Collector(fail_at=4), Collector()
    with pytest.raises(SinkError, match="disk full"):
        run_replay(Clip(300), [before, broken, after])
    assert before.indices == after.indices == list(range(5))
    assert broken.indices == list(range(4))
    assert [sink.closed for sink in (before, broken, after)] == [1, 1, 1]


def test_a_sink_that_cannot_be_finished_is_reported_and_the_rest_closed() -> None:
    broken, after = Collector(fail_close=True), Collector()
    with pytest.raises(SinkError, match="cannot finish"):
        run_replay(Clip(3, fail_at=3), [broken, after])
    assert after.closed == 1
    assert after.indices == [0, 1, 2]


def test_a_failing_callback_ends_the_run() -> None:
    sink = Collector()

    def fail(result: Result) -> None:
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        run_replay(Clip(100), [sink], on_result=fail)
    assert (sink.indices, sink.closed) == ([0], 1)


def test_the_error_furthest_downstream_is_raised() -> None:
    sink = Collector(fail_at=1, pause=lambda: 0.02)
    with pytest.raises(SinkError, match="disk full"):
        run_replay(Clip(10, fail_at=3), [sink], FakeBackend(SPEC, fail_at=2))


def test_keyboard_interrupt_finishes_the_outputs() -> None:
    sink = Collector()

    def interrupt(result: Result) -> None:
        if result.frame.index == 3:
            _thread.interrupt_main()

    # A test run started in the background inherits an ignored SIGINT, which nothing then interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_replay(Clip(100_000), [sink], FakeBackend(SPEC, delay_ms=1), on_result=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sink.closed == 1
    assert sink.indices == list(range(len(sink.indices)))


def test_a_source_that_no_longer_answers_is_named_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "GRACE_S", 0.5)
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
        run_replay(clip, [sink], stop=stop, on_result=halt)
    assert (sink.indices, sink.closed) == ([0, 1, 2], 1)
    silent.set()
    _wait_for_threads()


def test_a_sink_that_hangs_is_named_and_the_others_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "GRACE_S", 0.5)
    silent, stop = threading.Event(), threading.Event()

    def pause() -> float:
        stop.set()
        silent.wait(30)
        return 0.0

    stuck, other = Collector(pause=pause), Collector()
    with pytest.raises(StreamsegError, match=r"write.* still hangs"):
        run_replay(Clip(100), [other, stuck], stop=stop)
    assert (stuck.closed, other.closed, other.indices) == (0, 1, [0])
    silent.set()
    _wait_for_threads()


def _wait_for_threads() -> None:
    for thread in loop_threads():
        thread.join(5)


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
        report = run_replay(clip, sinks, backend)
    except StreamsegError:
        assert fails
    else:
        assert not fails
        assert report.frames == count
    assert [sink.closed for sink in sinks] == [1, 1, 1]
    assert sinks[0].indices == sinks[2].indices == list(range(expected))
    assert sinks[1].indices == list(range(expected - sink_fails))
