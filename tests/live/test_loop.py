"""Whole live runs with scripted sources and engines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamseg.backends import FakeBackend
from streamseg.capture.recording.reader import read_recording
from streamseg.capture.screen.region import ImageRegion
from streamseg.core.errors import EngineError, SinkError, SourceError, UsageError
from streamseg.core.types import Frame, Planes, Roi, State, Tensor
from streamseg.core.view import Command, View
from streamseg.live import LiveLoop, LiveOptions
from streamseg.recording import Recorder
from streamseg.segmentation.segmenter import Segmenter
from tests.capture.screen.test_region import Long, screens
from tests.fakes import (
    SPEC,
    Act,
    Clip,
    Memory,
    Notes,
    Numbered,
    Script,
    ScriptedSource,
    loop_threads,
    number_of,
    run_live,
)

STEADY = [Act(0.01)] * 20


def test_a_recording_is_shown_to_its_end() -> None:
    notes = Notes()
    report, display = run_live(Script(STEADY), observers=[notes], age_budget_s=10.0)
    assert report.offered == 20
    assert report.processed + report.dropped == 20
    assert not report.stopped
    last, _ = display.shown[-1]
    assert last.frame is not None
    assert number_of(last.frame.image) == 19, "the last frame is shown, too"
    assert len(notes.frames) == 20
    assert len(notes.results) == report.processed == report.age.count
    assert [view for view, _ in notes.views] == [view for view, _ in display.shown]
    assert notes.closed == display.closed == 1
    assert display.states[-2:] == ["nerve", "source ended"]
    assert not loop_threads()


def test_every_structure_is_shown_on_its_own_frame() -> None:
    """The vessel lies as many pixels from the left as the frame's number says."""

    def planes(tensor: Tensor) -> Planes:
        number = number_of(np.round((tensor[0, 0] * SPEC.std + SPEC.mean) * 255))
        answer = np.zeros((2, SPEC.height, SPEC.width), np.float32)
        answer[0, 8:24, 24:40] = answer[1, 8:24, number : number + 8] = 0.9
        return answer

    backend = FakeBackend(replace(SPEC, structures=("nerve", "vessel")), planes)
    _, display = run_live(Script(STEADY), backend=backend, age_budget_s=10.0)
    outlined = [view for view, _ in display.shown if view.segmentation is not None]
    assert outlined
    for view in outlined:
        assert view.frame is not None
        vessel = view.segmentation.others["vessel"]
        left = 2 * number_of(view.frame.image)  # the frame is twice as wide as the net's input
        assert abs(int(vessel.contours[0][:, 0].min()) - left) <= 1


def test_a_slow_engine_drops_and_counts_but_stays_new() -> None:
    report, _ = run_live(Script([Act(0.005)] * 60), backend=Numbered([0.03]), age_budget_s=10.0)
    assert report.offered == 60
    assert report.processed < 60
    assert report.dropped == 60 - report.processed
    assert set(report.stages) == {"wait", "preprocess", "infer", "postprocess"}


def test_an_engine_slower_than_the_budget_shows_frames_without_outlines() -> None:
    report, display = run_live(Script([Act(0.01)] * 50), backend=Numbered([0.08]), age_budget_s=0.04)
    assert display.states[:2] == ["starting", "segmentation lagging"]
    assert all(view.segmentation is None for view, _ in display.shown)
    assert len({view.frame.index for view, _ in display.shown if view.frame}) > report.processed, (
        "the video goes on"
    )
    assert report.age.p50_ms >= 80, "what came too late counts"


def test_states_over_a_loss_and_a_return() -> None:
    display, seen = Memory(), threading.Event()

    class Observed(Script):
        """Comes back once its loss is on display, and ends the run once an outline is there again."""

        def __call__(self) -> ScriptedSource:
            while self.opened == 1 and "source lost" not in display.states:
                time.sleep(0.005)
            return super().__call__()

    class Watcher(Notes):
        def on_view(self, view: View, shown_ns: int) -> None:
            if settled(display.states)[2:] == ["nerve"]:
                seen.set()

    def settled(states: list[str]) -> list[str]:
        return [state for state in states if state != "starting"]

    script = Observed([*STEADY, Act(what="fail")], [Act(0.02)] * 10_000)
    report, _ = run_live(
        script,
        display=display,
        observers=[Watcher()],
        stop=seen,
        reconnect=True,
        seconds=60.0,
        age_budget_s=60.0,
    )
    assert display.states[0] == "starting"
    assert settled(display.states)[:3] == ["nerve", "source lost", "nerve"]
    assert report.reconnects == 1
    assert report.states[State.SOURCE_LOST] > 0
    assert 0.2 <= sum(report.states.values()) <= report.seconds + 0.3
    lost = [view for view, _ in display.shown if view.state is State.SOURCE_LOST]
    assert lost[0].reason.startswith("the cable was pulled; put it back; next try in 0.0 s")


def test_frames_that_a_given_region_no_longer_fits_into_are_neither_shown_nor_recorded(
    tmp_path: Path,
) -> None:
    given, small = Roi(10, 10, 80, 50), (48, 64)
    acts = [*STEADY, *[Act(0.01, shape=small)] * 30]
    recorder, display = Recorder(tmp_path, header={}, min_free=0), Memory()
    loop = LiveLoop(
        Script(acts),
        Segmenter(Numbered()),
        LiveOptions(age_budget_s=10.0),
        region=ImageRegion(given),
        displays=[display],
        observers=[recorder],
    )
    assert loop.run(threading.Event()).error is None
    late = [view for view, _ in display.shown if view.frame and view.frame.image.shape == small]
    assert late
    assert all(view.roi is None and view.segmentation is None for view in late)
    misfit = "--roi 10,10,80,50 does not fit into frames of 64x48; give another"
    assert (late[-2].state, late[-2].reason) == (State.STARTING, misfit)
    written = read_recording(recorder.path)
    assert {segment.shown for segment in written.segments} == {given}
    lines = [line for line in written.offered if line.index >= len(STEADY)]
    assert all(line.video is None for line in lines)


def test_a_given_region_outside_the_first_frame_ends_the_run() -> None:
    region = ImageRegion(Roi(10, 10, 600, 50))
    report = LiveLoop(Script(STEADY), Segmenter(Numbered()), region=region).run(threading.Event())
    assert isinstance(report.error, UsageError)
    assert not report.states.get(State.NERVE)


def test_without_an_image_the_state_says_so_even_if_nothing_on_the_screen_moves() -> None:
    class NoSignal(Script):
        def __call__(self) -> ScriptedSource:
            source = super().__call__()
            source.blank = True
            return source

    display, notes = Memory(), Notes()
    script = NoSignal([Act(0.05, shape=(240, 320))] * 60)
    region = ImageRegion(search=True)
    loop = LiveLoop(script, Segmenter(Numbered()), region=region, displays=[display], observers=[notes])
    assert loop.run(threading.Event()).processed == 0
    assert display.states == ["starting", "source ended"]
    assert all(view.roi is None for view, _ in display.shown)
    reasons = [view.reason for view, _ in display.shown[:-1]]
    assert reasons[-1].startswith("no ultrasound image found yet; still looking")


def test_a_menu_over_the_screen_is_neither_segmented_nor_shown_and_the_state_says_what_happened() -> None:
    """Not "no nerve", nor "scanner frozen" after a second of it."""

    class MenuAfterImage(Clip):
        live = True

        def __iter__(self) -> Iterator[Frame]:
            usual, menu = screens(3), screens(4, theme=140, menu=True)
            for index in range(80):
                time.sleep(0.025)
                image = usual.frames[index % 4] if index < 20 else menu.frames[0]
                yield Frame(image, index, time.monotonic_ns())

    display, notes, clip = Memory(), Notes(), Long(screens(3), 0, 40, 40)
    region = ImageRegion.of_recording(clip.info, lambda: clip, live=True)
    loop = LiveLoop(
        lambda: MenuAfterImage(80),
        Segmenter(FakeBackend(SPEC)),
        LiveOptions(age_budget_s=1.0),
        region=region,
        displays=[display],
        observers=[notes],
    )
    report = loop.run(threading.Event())
    assert report.error is None
    assert display.states == ["starting", "nerve", "starting", "source ended"]
    shown = [view for view, _ in display.shown if view.frame is not None and view.frame.index >= 20]
    assert shown
    assert all(view.roi is None and view.segmentation is None for view in shown)
    assert max(result.frame.index for result in notes.results) < 20
    assert shown[-2].reason == "the ultrasound image has left the screen; looking for it"


@pytest.mark.parametrize("waits", [1, 2, 3])
def test_what_is_noticed_about_the_senders_clock_is_said_once_and_a_wait_if_it_lasts(waits: int) -> None:
    said: list[str] = []

    class Noted(Script):
        def __call__(self) -> ScriptedSource:
            source = super().__call__()
            source.clock_note = "the sender's time stamps jumped; ages go on as before"
            for _ in range(waits):  # the second time a second later
                loop.on_wait("the stream runs; waiting for its next key frame")
            return source

    options = LiveOptions(reconnect=True, seconds=1.0, retry_delays_s=(0.02,))
    loop = LiveLoop(Noted(STEADY, STEADY), Segmenter(Numbered()), options, say=said.append)
    report = loop.run(threading.Event())
    notes = ("the sender's time stamps jumped; ages go on as before",)
    assert report.notes == notes
    assert report.to_json()["notes"] == list(notes)
    assert said.count(notes[0]) == 1
    assert said.count("the stream runs; waiting for its next key frame") == (2 if waits > 1 else 0)


def test_the_time_ends_the_run() -> None:
    report, _ = run_live(Script([Act(0.01)] * 100_000), seconds=0.2)
    assert not report.stopped
    assert report.seconds >= 0.2


def test_stop_ends_the_run_and_quit_as_well() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    report, _ = run_live(Script([Act(0.01)] * 100_000), stop=stop)
    assert report.stopped
    report, display = run_live(Script([Act(0.01)] * 100_000), display=Memory(commands={3: Command.QUIT}))
    assert not report.stopped
    assert display.closed == 1


def test_other_commands_are_handed_on() -> None:
    asked: list[Command] = []
    display = Memory(commands={2: Command.RECORD})
    report = LiveLoop(
        Script(STEADY),
        Segmenter(Numbered()),
        displays=[display],
        on_command=asked.append,
        recording=lambda: "recording 0:01" if asked else None,
    ).run(threading.Event())
    assert report.error is None
    assert asked == [Command.RECORD]


def test_an_engine_that_fails_ends_the_run_with_its_cause() -> None:
    display, notes = Memory(), Notes()
    with pytest.raises(EngineError, match="failed at call 3"):
        run_live(Script([Act(0.01)] * 1000), backend=Numbered(fail_at=3), display=display, observers=[notes])
    assert display.closed == notes.closed == 1
    assert not loop_threads()


def test_a_display_that_fails_ends_the_run_with_its_cause() -> None:
    class Broken(Memory):
        def show(self, view) -> None:
            raise SinkError("the window is gone; start again")

    display = Broken()
    with pytest.raises(SinkError, match="window is gone"):
        run_live(Script([Act(0.01)] * 1000), display=display)
    assert display.closed == 1


def test_a_damaged_recording_is_shown_up_to_the_damage() -> None:
    display = Memory()
    with pytest.raises(SourceError, match="cable"):
        run_live(Script([*STEADY, Act(what="fail")]), display=display, age_budget_s=10.0)
    last, _ = display.shown[-1]
    assert last.frame is not None
    assert last.frame.index == 19


def test_a_source_that_never_answers_is_said_and_ends_with_the_time() -> None:
    report, display = run_live(Script(), reconnect=True, seconds=0.3)
    assert report.offered == 0
    assert report.age.count == 0
    assert display.states[-1] == "source lost"
    assert report.to_json()["age_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}


def test_millimetres_given_by_the_user_reach_the_results() -> None:
    notes = Notes()
    run_live(Script(STEADY), observers=[notes], spacing_mm=(0.2, 0.2))
    area = notes.results[0].segmentation
    assert area.area_mm2 == pytest.approx(area.area_px * 0.04)


def test_a_net_that_hangs_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.live.loop.JOIN_S", 0.2)
    release = threading.Event()

    class Hanging(Numbered):
        def infer(self, tensor):
            release.wait(30)
            return super().infer(tensor)

    began = time.monotonic()
    report, display = run_live(Script([Act(0.01)] * 10_000), backend=Hanging(), seconds=0.2)
    release.set()
    assert time.monotonic() - began < 20
    assert report.processed == 0
    assert display.states == ["starting"]
