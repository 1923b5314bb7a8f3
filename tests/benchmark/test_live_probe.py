"""Live runs: engines that are slow, stall, fail or hang must show, and so must loops that drop or repeat."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamseg.live.loop
from streamseg.backends import FakeBackend
from streamseg.benchmark import live_probe as module
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import age_over_time, waterfall
from streamseg.benchmark.live_probe import LiveOutcome, LiveProbe, Offer, outcomes, paced, run_at_once
from streamseg.core.errors import EngineError, StallError, UsageError
from streamseg.core.types import Frame, State
from streamseg.segmentation.segmenter import Segmenter
from tests.benchmark.fakes import SPEC, Hanging, Repeater, SelfTimed, live_outcome, noise_clip

BRIEF = Offer(fps=30, seconds=0.3, warm_s=0.1)


def side_by_side(count: int, offer: Offer, engine: Any = None) -> tuple[LiveOutcome, ...]:
    probes = [LiveProbe(noise_clip(), Segmenter(engine or SelfTimed()), offer) for _ in range(count)]
    run_at_once(probes, lambda: None)
    return outcomes(probes)


def test_every_frame_of_an_engine_with_time_to_spare_is_displayed(clip: Clip) -> None:
    before = [frame.image.copy() for frame in clip.frames]
    found = paced(clip, Segmenter(SelfTimed([5.0])), 20, 0.6, budget_s=5.0)
    assert found.offered == 12
    assert found.displayed == sum(trace.displayed for trace in found.traces)
    assert found.within_budget == found.displayed / found.processed >= 0.5
    assert found.ready_in_time == 1
    stages = list(found.stages)
    assert stages == ["wait", "preprocess", "infer", "postprocess", "display", "queue"]
    trace = found.traces[-1]
    assert trace.displayed
    assert sum(trace.stages().values()) == trace.age_ns
    assert found.states[State.NERVE] > 0
    assert not any("stood still" in note or "the loop reports" in note for note in found.notes)
    # Waterfalls hold no overlap and end at the age.
    falls = waterfall(found.traces)
    assert falls is not None
    for segments in falls.values():
        assert segments[0][1] == 0
        assert [segment[1] for segment in segments[1:]] == [segment[2] for segment in segments[:-1]]
        names = [segment[0] for segment in segments if segment[0] != "queue"]
        assert names[1:4] == ["preprocess", "infer", "postprocess"]
    # The clip in memory is not changed.
    assert all(np.array_equal(frame.image, old) for frame, old in zip(clip.frames, before, strict=True))
    assert Path(clip.uri).name == clip.name


def test_frames_that_the_engine_cannot_take_are_counted_as_dropped(clip: Clip) -> None:
    engine = SelfTimed([100.0])
    found = paced(clip, Segmenter(engine), 30, 1.0)
    assert found.offered == 30
    assert found.processed == len(engine.durations_ms) == found.age.count
    assert found.dropped == 30 - found.processed
    # A call takes 100 ms or more, a frame comes every 33 ms: two of three are dropped, or more.
    assert found.dropped >= 30 - 12
    assert found.processed >= 1
    # What a busy machine adds between the engine's clock and ours is unknown.
    assert found.stages["infer"].p50_ms >= statistics.median(engine.durations_ms) - 0.01
    # Nothing comes out faster than the engine works, whatever is offered.
    assert (found.fps or 0) <= 12


def test_outlines_that_come_too_late_are_not_within_the_budget(clip: Clip) -> None:
    found = paced(clip, Segmenter(SelfTimed([60.0])), 20, 0.4, budget_s=0.03)
    assert found.processed > 0
    assert found.within_budget == found.ready_in_time == 0.0
    assert found.displayed == 0
    assert found.age.p50_ms >= 60
    assert min(trace.age_ns for trace in found.traces) >= 60e6


def test_a_stall_shows_in_the_largest_age_and_over_time(clip: Clip) -> None:
    engine = SelfTimed([5.0] * 8 + [300.0] + [5.0])
    found = paced(clip, Segmenter(engine), 20, 1.0)
    assert found.stages["infer"].max_ms >= 300
    assert found.age.max_ms >= 300
    over_time = age_over_time([found.traces], limit=10)
    assert max(age for _, age in over_time) == pytest.approx(found.age.max_ms, abs=0.01)
    # On a busy machine another frame may be older still.
    stalled = max(found.traces, key=lambda trace: trace.stages()["infer"])
    assert stalled.age_ns >= 300e6
    assert any(name == "infer" and end - begin >= 299 for name, begin, end in stalled.segments())
    assert found.dropped >= 4
    assert found.within_budget < 1
    assert found.ready_in_time < 1


@pytest.mark.parametrize(
    ("times", "note"),
    [
        (lambda count: count % 5 != 4, "the loop reports"),
        (lambda count: 1 + (count == 3), "1 frames came out twice"),
    ],
)
def test_a_loop_that_drops_or_repeats_in_silence_shows(
    clip: Clip, monkeypatch: pytest.MonkeyPatch, times: Callable[[int], int], note: str
) -> None:
    real = module.LiveLoop

    def loop(*args: Any, observers: Any, **options: Any) -> Any:
        return real(*args, observers=[Repeater(each, times) for each in observers], **options)

    monkeypatch.setattr(module, "LiveLoop", loop)
    engine = SelfTimed([5.0])
    found = paced(clip, Segmenter(engine), 20, 0.6)
    assert found.offered == 12
    assert found.processed == sum(min(1, times(count)) for count in range(len(engine.durations_ms)))
    assert found.dropped == 12 - found.processed
    assert any(note in told for told in found.notes)


def test_a_loop_that_leaves_out_frames_of_its_source_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.LiveLoop

    def careless(opener: Any, *args: Any, **options: Any) -> Any:
        class Half:
            def __init__(self) -> None:
                self.source = opener()
                self.info, self.live = self.source.info, self.source.live

            def __iter__(self) -> Iterator[Frame]:
                return (frame for number, frame in enumerate(self.source) if number % 2)

            def close(self) -> None:
                self.source.close()

        return real(Half, *args, **options)

    monkeypatch.setattr(module, "LiveLoop", careless)
    (found,) = side_by_side(1, BRIEF)
    assert found.offered == BRIEF.counted
    assert found.dropped >= 0.4 * found.offered


def test_a_loop_that_ends_early_shows(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.LiveLoop

    def impatient(opener: Any, segmenter: Any, options: Any, **others: Any) -> Any:
        return real(opener, segmenter, replace(options, seconds=0.3), **others)

    monkeypatch.setattr(module, "LiveLoop", impatient)
    found = paced(clip, Segmenter(SelfTimed()), 20, 2.0)
    assert found.offered < 40
    assert f"the run ended after {found.offered} of 40 frames" in found.notes


def test_a_pace_that_is_not_kept_is_noted(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(module.FrameSource):
        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                time.sleep(0.02)
                yield frame

    monkeypatch.setattr(module, "FrameSource", Slow)
    found = paced(clip, Segmenter(SelfTimed()), 200, 0.1)
    assert any("not 200: the source was held up" in note for note in found.notes)


@pytest.mark.parametrize("warm_s", [0.0, 0.1])
def test_a_clip_that_stands_still_is_noted(clip: Clip, warm_s: float) -> None:
    still = LiveProbe(
        replace(clip, frames=clip.frames[:1]),
        Segmenter(SelfTimed()),
        Offer(30, 1.5 - warm_s, warm_s=warm_s),
    )
    run_at_once([still], lambda: None)
    (found,) = outcomes([still])
    assert found.states[State.FROZEN] > 0
    assert "the clip stood still: displays showed a frozen scanner" in " ".join(found.notes)


def test_warm_up_frames_do_not_count() -> None:
    engine = SelfTimed()
    one, two = side_by_side(2, BRIEF, engine)
    assert one.offered == two.offered == BRIEF.counted == 9
    assert one.processed + two.processed <= len(engine.durations_ms)
    assert all(trace.index >= BRIEF.warm == 3 for trace in (*one.traces, *two.traces))
    assert one.seconds >= 0.3


@pytest.mark.parametrize("draw", [True, False])
def test_displays_draw_unless_there_are_none(monkeypatch: pytest.MonkeyPatch, draw: bool) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(
        "streamseg.benchmark.frame_trace.LivePainter.paint", lambda self, view: drawn.append(view)
    )
    (found,) = side_by_side(1, Offer(seconds=0.2, warm_s=0, draw=draw))
    assert bool(drawn) == draw
    assert found.ready_in_time > 0  # displayed it is


def test_errors_of_the_engine_are_raised(clip: Clip) -> None:
    with pytest.raises(EngineError, match="call 3"):
        paced(clip, Segmenter(FakeBackend(SPEC, fail_at=3)), 60, 0.3)


def test_an_engine_that_hangs_is_noted(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.2)
    monkeypatch.setattr(streamseg.live.loop, "JOIN_S", 0.1)
    with Hanging() as engine:
        found = paced(clip, Segmenter(engine), 30, 0.3)
    assert (found.offered, found.processed, found.dropped) == (9, 2, 7)
    assert "stopped: still running 0.2 s after its last frame" in found.notes


def test_a_run_that_goes_on_after_it_was_stopped_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_S", 0.05)
    free = threading.Event()
    monkeypatch.setattr(module.LiveLoop, "run", lambda self, stop: free.wait(60))
    probe = LiveProbe(noise_clip(), Segmenter(SelfTimed()), Offer(seconds=0.1, warm_s=0, stall_s=0.05))
    run_at_once([probe], lambda: None)
    with pytest.raises(StallError, match=r"engine fake gave no answer for 0\.05 s"):
        outcomes([probe])
    free.set()


def test_runs_that_come_to_no_end_in_time_are_stopped_and_noted() -> None:
    (found,) = side_by_side(1, Offer(fps=30, seconds=0.3, warm_s=0.0, stall_s=0.0), SelfTimed([100.0]))
    assert "stopped: still running 0 s after its last frame" in found.notes


def test_ctrl_c_ends_all_runs_first() -> None:
    before = set(threading.enumerate())

    once = threading.Lock()

    def interrupt(call: int) -> None:
        if call >= 3 and once.acquire(blocking=False):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    engine = SelfTimed([5.0], interrupt)
    probes = [LiveProbe(noise_clip(), Segmenter(engine), Offer(fps=30, seconds=60)) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        run_at_once(probes, lambda: None)
    left = set(threading.enumerate()) - before
    for thread in left:  # the last lines of a thread that has said that it is over
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"fps": 1, "seconds": 0.1},
        {"budget_s": -1},
    ],
)
def test_an_offer_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="cannot be measured; give more"):
        Offer(**wrong)  # type: ignore[arg-type]


def test_rounds_are_pooled() -> None:
    rounds = [live_outcome(30), live_outcome(20, age_ms=40, in_time=10, displayed=15)]
    rounds = [replace(each, states={State.NERVE: 0.5}, notes=("odd",)) for each in rounds]
    found = LiveOutcome.pooled(rounds)
    assert (found.offered, found.processed, found.dropped, found.seconds) == (60, 50, 10, 2.0)
    assert (found.processed_fps, found.displayed_fps) == (25, 22.5)
    assert found.ready_in_time == 40 / 50
    assert found.within_budget == 40 / 50
    assert found.states == {State.NERVE: 1.0}
    assert found.notes == ("odd",)
    assert live_outcome(0).ready_in_time == live_outcome(0).within_budget == 0
