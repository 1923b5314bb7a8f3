"""Streams at a time: what is counted is what happened, whatever the engine and the loop do."""

import _thread
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from streamseg.backends.fake import FakeBackend
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.streams import run as stream_run
from streamseg.benchmark.streams.run import Offer, StreamsRun, run_streams
from streamseg.core.errors import EngineError, StallError, UsageError
from streamseg.core.types import Frame, InputSpec, Tensor

SPEC = InputSpec(32, 48, mean=0.0, std=1.0, threshold=0.5)
SHORT = Offer(fps=30, seconds=0.5, warm_s=0.1)


def noise_clip(frames: int = 8) -> Clip:
    """Grey noise that moves, in memory."""
    noise = np.random.default_rng(1).integers(0, 255, (48, 64), np.uint8)
    pictures = tuple(Frame(np.roll(noise, number, axis=1), number, 0) for number in range(frames))
    return Clip("", "noise", pictures, None, synthetic=True, rate=30.0)


CLIP = noise_clip()


class Slow(FakeBackend):
    """Notes how long its own calls took, and may do something else in some."""

    def __init__(self, delay_ms: float, act: Callable[[int], object] = lambda call: None) -> None:
        super().__init__(SPEC, delay_ms=delay_ms)
        self.spans: list[tuple[int, int]] = []
        self._act = act

    def infer(self, tensor: Tensor) -> np.ndarray:
        began = time.monotonic_ns()
        self._act(len(self.spans))
        answer = super().infer(tensor)
        self.spans.append((began, time.monotonic_ns()))
        return answer

    @property
    def seconds_per_call(self) -> float:
        return float(np.mean([end - begin for begin, end in self.spans])) / 1e9


def totals(run: StreamsRun) -> tuple[int, int, int]:
    return tuple(sum(getattr(s, name) for s in run.streams) for name in ("offered", "processed", "dropped"))


def test_an_engine_with_time_to_spare_drops_next_to_nothing() -> None:
    engine = Slow(2)
    run = run_streams(CLIP, engine, 2, SHORT)
    offered, processed, dropped = totals(run)
    assert offered == 2 * SHORT.counted == processed + dropped
    busy = engine.seconds_per_call > 0.012  # the machine is: nothing can be said of its speed then
    assert busy or processed >= 0.8 * offered
    assert run.fill == 1.0
    assert run.processor_share is None or 0 <= run.processor_share <= 1
    assert [stream.notes for stream in run.streams] == [(), ()]
    assert all(len(stream.ages_ns) == stream.processed for stream in run.streams)
    assert all(age > 0 for stream in run.streams for age in stream.ages_ns)


def test_too_many_streams_drop_what_the_engine_has_no_time_for_all_alike() -> None:
    engine = Slow(10)
    offer = Offer(fps=30, seconds=1.0, warm_s=0)
    run = run_streams(CLIP, engine, 8, offer)
    offered, processed, dropped = totals(run)
    assert offered == 8 * offer.counted == processed + dropped
    assert processed == len(engine.spans)  # each call came out, once
    longest = max(stream.seconds for stream in run.streams)
    assert processed <= 1.02 * longest / engine.seconds_per_call + 1  # no engine is faster than itself
    assert dropped >= 0.4 * offered
    each = [stream.processed for stream in run.streams]
    assert max(each) - min(each) <= 3 + 0.2 * max(each)  # nobody starves


@pytest.mark.parametrize("draw", [True, False])
def test_displays_draw_unless_there_are_none(monkeypatch: pytest.MonkeyPatch, draw: bool) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(
        "streamseg.benchmark.frame_trace.LivePainter.paint", lambda self, view: drawn.append(view)
    )
    stream = run_streams(CLIP, Slow(0), 1, Offer(seconds=0.2, warm_s=0, draw=draw)).streams[0]
    assert bool(drawn) == draw
    assert stream.in_time > 0  # displayed it is


def test_ages_hold_the_engines_delay() -> None:
    run = run_streams(CLIP, Slow(60), 1, SHORT)
    assert min(run.streams[0].ages_ns) >= 60e6


def test_a_stall_shows_in_the_ages_and_in_the_budget() -> None:
    stalled = threading.Event()

    def act(call: int) -> None:
        if call >= SHORT.warm and not stalled.is_set():
            stalled.set()
            time.sleep(0.5)

    run = run_streams(CLIP, Slow(1, act), 1, SHORT)
    stream = run.streams[0]
    assert stalled.is_set()
    assert max(stream.ages_ns) >= 0.4e9
    assert stream.dropped >= 5
    assert stream.within_budget < 1


def test_a_loop_that_drops_in_silence_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stream_run.LiveLoop

    def careless(opener, *args, **options):  # type: ignore[no-untyped-def]
        class Half:
            def __init__(self) -> None:
                self.source = opener()
                self.info, self.live = self.source.info, self.source.live

            def __iter__(self):  # type: ignore[no-untyped-def]
                return (frame for number, frame in enumerate(self.source) if number % 2)

            def close(self) -> None:
                self.source.close()

        return real(Half, *args, **options)

    monkeypatch.setattr(stream_run, "LiveLoop", careless)
    stream = run_streams(CLIP, Slow(0), 1, SHORT).streams[0]
    assert stream.offered == SHORT.counted
    assert stream.dropped >= 0.4 * stream.offered


def test_a_loop_that_repeats_frames_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stream_run.LiveLoop

    def stuttering(*args, observers, **options):  # type: ignore[no-untyped-def]
        class Twice:
            def __getattr__(self, name: str) -> object:
                return getattr(observers[0], name)

            def on_result(self, result: object) -> None:
                observers[0].on_result(result)
                observers[0].on_result(result)

        return real(*args, observers=[Twice()], **options)

    monkeypatch.setattr(stream_run, "LiveLoop", stuttering)
    stream = run_streams(CLIP, Slow(0), 1, SHORT).streams[0]
    assert any("came out twice" in note for note in stream.notes)
    assert stream.processed <= stream.offered


def test_what_an_engine_raises_is_raised() -> None:
    with pytest.raises(EngineError, match="failed at call 5"):
        run_streams(CLIP, FakeBackend(SPEC, fail_at=5), 3, SHORT)


def test_an_engine_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("streamseg.backends.shared.CLOSE_S", "streamseg.live.loop.JOIN_S"):
        monkeypatch.setattr(place, 0.05)
    free = threading.Event()

    def act(call: int) -> None:
        if call == 10:
            free.wait(60)

    began = time.monotonic()
    offer = Offer(fps=30, seconds=0.3, warm_s=0.1, stall_s=0.5)
    with pytest.raises(StallError, match=r"gave no answer for 0\.5 s with 2 streams"):
        run_streams(CLIP, Slow(0, act), 2, offer)
    assert time.monotonic() - began < 30
    free.set()


def test_streams_that_come_to_no_end_in_time_are_stopped_and_told() -> None:
    offer = Offer(fps=30, seconds=0.3, warm_s=0.0, stall_s=0.0)
    run = run_streams(CLIP, Slow(100), 1, offer)
    assert any("was stopped" in note for note in run.streams[0].notes)


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"fps": float("nan")}, {"seconds": 0}, {"budget_s": -1}])
def test_an_offer_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="cannot be measured"):
        Offer(**wrong)  # type: ignore[arg-type]


def test_ctrl_c_ends_all_streams_first() -> None:
    before = set(threading.enumerate())
    engine = Slow(5, lambda call: _thread.interrupt_main() if call == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        run_streams(CLIP, engine, 3, Offer(fps=30, seconds=60))
    left = set(threading.enumerate()) - before
    for thread in left:  # the last lines of a thread that has said that it is over
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)


def test_a_clip_that_stands_still_is_told() -> None:
    run = run_streams(noise_clip(1), FakeBackend(SPEC), 1, Offer(fps=30, seconds=1.5, warm_s=0.1))
    assert "the clip stood still" in " ".join(run.streams[0].notes)
