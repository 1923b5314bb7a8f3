"""What is shown when, on a clock that the test holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.backends import FakeBackend
from streamseg.core.types import Frame, Result, Roi, State
from streamseg.live.frame_reader import Phase, SourceStatus
from streamseg.live.presenter import Presenter
from streamseg.segmentation.segmenter import Segmenter
from tests.fakes import SPEC

MS = 1_000_000
SEGMENTER = Segmenter(FakeBackend(SPEC))


def frame_at(index: int, captured_ms: float) -> Frame:
    return Frame(np.full((32, 48), index % 256, np.uint8), index, round(captured_ms * MS))


def result_of(frame: Frame, done_ms: float) -> Result:
    segmentation = SEGMENTER.segment(frame)
    return Result(frame, segmentation, Roi.whole(frame.image), {}, round(done_ms * MS) - frame.captured_ns)


class PresenterRun:
    """A presenter with a budget of 150 ms and an open source."""

    def __init__(self) -> None:
        self.presenter = Presenter(150 * MS)
        self.presenter.on_source_change(SourceStatus(Phase.OPEN))

    def frame(self, index: int, ms: float, *, frozen: bool = False) -> Frame:
        frame = frame_at(index, ms)
        self.presenter.on_frame(frame, Roi.whole(frame.image), round(ms * MS), frozen=frozen)
        return frame

    def result(self, frame: Frame, ms: float) -> None:
        self.presenter.on_result(result_of(frame, ms))

    def at(self, ms: float):
        return self.presenter.view(round(ms * MS))


def test_starts_without_a_frame() -> None:
    presenter = Presenter(150 * MS)
    view = presenter.view(0)
    assert (view.state, view.reason, view.frame) == (State.STARTING, "opening the source", None)
    presenter.on_source_change(SourceStatus(Phase.OPEN))
    assert presenter.view(1).reason == "waiting for the first frame"


def test_a_frame_wakes_the_display_only_if_it_may_change_the_view() -> None:
    run = PresenterRun()

    def wakes(index: int, ms: float, *, frozen: bool = False) -> bool:
        run.at(ms)
        run.frame(index, ms, frozen=frozen)
        return run.presenter.wait(0.0)

    assert wakes(0, 0)
    run.result(run.frame(1, 33), 50)
    assert run.presenter.wait(0.0)
    assert run.at(50).segmentation is not None
    assert not wakes(2, 67)
    assert wakes(3, 100, frozen=True)
    assert run.at(100).state is State.FROZEN
    assert wakes(4, 133)
    run.result(run.frame(5, 167), 180)
    assert run.at(180).segmentation is not None
    run.frame(6, 9000)  # the display's thread was held up: it has not seen that outlines are too old
    assert run.presenter.wait(0.0)
    assert run.at(9000).segmentation is None


def test_a_source_that_is_not_there_yet_is_lost_not_starting() -> None:
    presenter = Presenter(150 * MS)
    presenter.on_source_change(SourceStatus(Phase.WAITING, "connection refused", retry_ns=2000 * MS))
    view = presenter.view(900 * MS)
    assert (view.state, view.reason) == (State.SOURCE_LOST, "connection refused; next try in 1.1 s")
    presenter.on_source_change(SourceStatus(Phase.OPENING, "connection refused"))
    assert presenter.view(2000 * MS).state is State.SOURCE_LOST


def test_a_stream_that_waits_for_its_key_frame_is_not_lost() -> None:
    awaited = "the stream runs; waiting for its next key frame"
    opening = Presenter(150 * MS)
    opening.on_source_change(SourceStatus(Phase.OPENING, "connection refused", awaited=awaited, awaited_ns=1))
    assert (opening.view(1000 * MS).state, opening.view(1000 * MS).reason) == (State.STARTING, awaited)
    run = PresenterRun()
    for index in range(6):
        run.result(run.frame(index, 33 * index), 33 * index + 20)
    run.presenter.on_source_change(SourceStatus(Phase.OPEN, awaited=awaited, awaited_ns=1200 * MS))
    view = run.at(1300)
    assert (view.state, view.reason, view.segmentation) == (State.STARTING, awaited, None)
    assert run.at(4300).state is State.SOURCE_LOST, "it has said nothing more"
    run.presenter.on_source_change(
        SourceStatus(Phase.WAITING, "no frame", awaited=awaited, awaited_ns=4300 * MS)
    )
    assert run.at(4301).state is State.SOURCE_LOST


def test_an_outline_is_shown_until_the_budget_and_not_longer() -> None:
    run = PresenterRun()
    first = run.frame(0, 0)
    assert run.at(1).state is State.STARTING
    run.result(first, 50)
    view = run.at(50)
    assert view.state is State.NERVE
    assert view.frame is first
    assert view.expires_ns == 150 * MS
    for index in range(1, 5):
        run.frame(index, 33 * index)
    assert run.at(149) is view
    late = run.at(150)
    assert (late.state, late.segmentation) == (State.LAGGING, None)
    assert late.frame is not None
    assert late.frame.index == 4, "the newest frame is shown without an outline"
    assert late.reason == "no outline of a frame of the last 0.1 s; limit 150 ms"


def test_a_result_that_comes_too_late_is_never_shown() -> None:
    run = PresenterRun()
    first = run.frame(0, 0)
    run.frame(1, 140)
    run.result(first, 150)
    view = run.at(150)
    assert view.state is State.LAGGING
    assert view.reason == "the last outline came 150 ms after its frame; limit 150 ms"


def test_lagging_ends_with_an_outline_that_has_life_left() -> None:
    run = PresenterRun()
    first = run.frame(0, 0)
    run.frame(1, 150)
    run.result(first, 160)
    assert run.at(160).state is State.LAGGING
    second = run.frame(2, 200)
    run.result(second, 325)
    assert run.at(325).state is State.LAGGING, "125 of 150 ms old: it would only flash"
    third = run.frame(3, 330)
    run.result(third, 440)
    assert run.at(440).state is State.NERVE
    assert run.at(470).state is State.NERVE, "what is shown stays until it expires"


def test_silence_is_a_lost_source_once_frames_are_missing() -> None:
    run = PresenterRun()
    for index in range(6):
        last = run.frame(index, 33 * index)
    run.result(last, 180)
    assert run.at(300).state is State.NERVE
    assert run.at(165 + 149.9).state is State.NERVE
    view = run.at(165 + 150)
    assert (view.state, view.segmentation, view.frame) == (State.SOURCE_LOST, None, last)
    assert view.reason == "no frame for 0.1 s"
    assert run.at(1200).reason == "no frame for 1.0 s"


def test_a_slow_source_is_not_lost_between_its_frames_and_nothing_lags() -> None:
    run = PresenterRun()
    for index in range(6):
        last = run.frame(index, 200 * index)
    run.result(last, 1020)
    run.at(1100)
    early = run.at(1101)
    assert (early.state, early.segmentation is not None) == (State.SLOW, True)
    assert early.expires_ns == 1150 * MS
    between = run.at(1160)
    reason = "the source gives 5 frames per second, so outlines come and go; limit 150 ms"
    assert (between.state, between.reason, between.segmentation) == (State.SLOW, reason, None)
    assert run.at(1000 + 601).state is State.SOURCE_LOST


def changes_of_state(
    interval_ms: float, net_ms: float, seconds: float = 8.0, jitter_ms: float = 0.0
) -> tuple[list[State], int]:
    """The states of a run, one per change, and how many milliseconds had an outline.

    The net takes the newest frame as soon as it is free.
    """
    run, states, outlined = PresenterRun(), list[State](), 0
    rng = np.random.default_rng(0)
    arrivals = [
        k * interval_ms + rng.uniform(0, jitter_ms) for k in range(1, round(seconds * 1e3 / interval_ms) + 1)
    ]
    slot: Frame | None = None
    working: Frame | None = None
    done_ms, index = 0.0, 0
    for ms in range(round(seconds * 1e3)):
        while arrivals and arrivals[0] <= ms:
            arrivals.pop(0)
            slot, index = run.frame(index, ms), index + 1
        if working is not None and ms >= done_ms:
            run.result(working, ms)
            working = None
        if working is None and slot is not None:
            working, slot, done_ms = slot, None, ms + net_ms
        view = run.at(ms)
        assert view.segmentation is None or ms * MS < (view.expires_ns or 0)
        outlined += view.segmentation is not None
        if not states or states[-1] is not view.state:
            states.append(view.state)
    return states, outlined


@pytest.mark.parametrize(
    ("interval_ms", "net_ms", "jitter_ms"),
    [
        (200, 20, 0),
        (200, 20, 30),
        (160, 20, 0),
        (250, 100, 10),
        (125, 60, 0),
        (100, 80, 5),
        (500, 30, 50),
        (1000, 30, 0),
    ],
)
def test_the_state_of_a_slow_source_does_not_change_with_every_frame(
    interval_ms: float, net_ms: float, jitter_ms: float
) -> None:
    states, outlined = changes_of_state(interval_ms, net_ms, jitter_ms=jitter_ms)
    assert states[-1] is State.SLOW
    # Where an outline expires before the next frame comes, the first one tells.
    assert len(states) <= (3 if interval_ms - jitter_ms > 150 else 6), states
    assert State.LAGGING not in states
    assert outlined > 8_000 * (150 - net_ms - 5) / interval_ms * 0.7, "outlines are shown as long as they may"


@pytest.mark.parametrize(
    ("interval_ms", "net_ms"),
    [(33, 20), (33, 60), (33, 74), (33, 100), (33, 118), (33, 140), (16, 110), (50, 90)],
)
def test_the_state_of_a_slow_net_does_not_change_with_every_frame_either(
    interval_ms: float, net_ms: float
) -> None:
    states, outlined = changes_of_state(interval_ms, net_ms)
    assert State.SLOW not in states
    assert len(states) <= 12, states
    assert outlined > (7_000 if states[-1] is State.NERVE else 0)


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.FAILED])
def test_a_lost_connection_takes_the_outline_off_at_once(phase: Phase) -> None:
    run = PresenterRun()
    run.result(run.frame(0, 0), 10)
    assert run.at(20).state is State.NERVE
    run.presenter.on_source_change(SourceStatus(phase, "the cable was pulled"))
    view = run.at(21)
    assert (view.state, view.segmentation, view.reason) == (State.SOURCE_LOST, None, "the cable was pulled")


def test_the_end_of_a_recording_is_no_loss() -> None:
    run = PresenterRun()
    last = run.frame(0, 0)
    run.presenter.on_source_change(SourceStatus(Phase.ENDED))
    run.result(last, 20)
    assert run.at(20).state is State.NERVE


def test_a_frozen_scanner_has_no_outline() -> None:
    run = PresenterRun()
    run.result(run.frame(0, 0), 10)
    frozen = run.frame(1, 33, frozen=True)
    run.result(frozen, 40)
    view = run.at(45)
    assert (view.state, view.segmentation, view.frame) == (State.FROZEN, None, frozen)
    assert view.reason == "the image has not changed for 1.0 s"
    moving = run.frame(2, 66)
    after = run.at(67)
    assert (after.state, after.segmentation) == (State.STARTING, None), "the frozen frame's outline is old"
    run.result(moving, 80)
    assert run.at(80).state is State.NERVE


def test_after_a_return_no_outline_from_before_is_shown() -> None:
    run = PresenterRun()
    for index in range(5):
        last = run.frame(index, 33 * index)
    run.presenter.on_source_change(SourceStatus(Phase.WAITING, "gone"))
    run.presenter.on_source_change(SourceStatus(Phase.OPEN))
    first = run.frame(5, 140)
    run.result(last, 145)
    assert run.at(145).state is State.STARTING
    run.result(first, 160)
    assert run.at(160).state is State.NERVE


def test_frames_that_a_network_held_back_are_late_not_fresh() -> None:
    run = PresenterRun()
    for index in range(5):
        run.result(run.frame(index, 33 * index), 33 * index + 20)
    held = frame_at(5, 165)
    run.presenter.on_frame(held, Roi.whole(held.image), 900 * MS, frozen=False)
    run.result(held, 920)
    view = run.at(920)
    assert (view.state, view.segmentation) == (State.LAGGING, None)
    assert view.reason == "the newest frame came 735 ms late; limit 150 ms"


def test_while_the_image_is_looked_for_it_is_starting() -> None:
    run = PresenterRun()
    first = run.frame(0, 0)
    run.presenter.on_search("looking for the ultrasound image, 3 of 16 frames")
    assert run.at(1).reason == "looking for the ultrasound image, 3 of 16 frames"
    run.result(first, 2)
    assert run.at(2).state is State.NERVE


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["frame", "frame", "frame", "frozen", "result", "lose", "open", "search", "look"]),
        st.integers(0, 120),
    ),
    max_size=60,
)


@given(EVENTS)
def test_no_order_of_events_shows_a_wrong_or_old_outline(events: list[tuple[str, int]]) -> None:
    run, now = PresenterRun(), 0
    frames: list[Frame] = []
    done = -1
    last = None
    for what, wait in events:
        now += wait
        if what in ("frame", "frozen"):
            frames.append(run.frame(len(frames), now, frozen=what == "frozen"))
        elif what == "result" and len(frames) - 1 > done:
            done += 1 + (len(frames) - 2 - done) // 2  # sometimes skips frames, as a slow net does
            run.result(frames[done], now)
        elif what == "lose":
            run.presenter.on_source_change(SourceStatus(Phase.WAITING, "gone"))
        elif what == "open":
            run.presenter.on_source_change(SourceStatus(Phase.OPEN))
        elif what == "search":
            run.presenter.on_search("looking")
        view = run.at(now)
        if view.segmentation is not None:
            assert view.frame is not None
            assert view.expires_ns is not None
            assert now * MS < view.frame.captured_ns + 150 * MS == view.expires_ns
            assert view.state not in (State.FROZEN, State.SOURCE_LOST, State.STARTING)
            assert bool(view.reason) == (view.state in (State.SLOW, State.LAGGING))
            if view.segmentation is not None:
                assert "no outline" not in view.reason
        else:
            assert view.reason
        if last is not None and last.segmentation is not None and view.frame is not None:
            assert view.frame.index >= last.frame.index
        assert (last is None) or view is last or view.number == last.number + 1
        last = view
