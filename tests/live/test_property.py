"""Whatever the source and the engine do, the display shows only what is true."""

from __future__ import annotations

import itertools
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.core.types import State
from streamseg.core.view import View
from tests.fakes import Act, Memory, Notes, Numbered, Script, marked_number, number_of, run_live

BUDGET_S = 0.04
OUTLINED = {State.NERVE, State.LOW_CONFIDENCE, State.NO_NERVE, State.UNLIKE_TRAINING}
GAPPY = {State.SLOW, State.LAGGING}
"""States whose outlines may come and go."""

acts = st.builds(
    Act,
    wait_s=st.sampled_from([0.0, 0.002, 0.005, 0.01, 0.03, 0.09]),
    what=st.sampled_from(["frame"] * 12 + ["fail"]),
    shape=st.sampled_from([(64, 96)] * 5 + [(96, 144), (128, 192)]),
    age_s=st.sampled_from([0.0] * 6 + [0.01, 0.05]),
)
plays = st.lists(st.one_of(st.just([Act(what="refuse")]), st.lists(acts, max_size=25)), max_size=4)
delays = st.lists(st.sampled_from([0.0, 0.001, 0.005, 0.02, 0.06]), min_size=1, max_size=6)
pauses = st.sampled_from([None, 0.001, 0.01])


def check(view: View) -> None:
    if view.state not in GAPPY:
        assert (view.state in OUTLINED) == (view.segmentation is not None)
    if view.segmentation is None:
        assert view.reason, "a view without an outline says why"
        return
    assert view.frame is not None
    assert view.expires_ns is not None
    assert bool(view.reason) == (view.state in GAPPY)
    assert marked_number(view) == number_of(view.frame.image), "the outline of another frame"
    assert view.segmentation.mask.shape == view.frame.image.shape[:2]
    assert view.expires_ns == view.frame.captured_ns + round(BUDGET_S * 1e9)
    assert view.at_ns < view.expires_ns, "an outline past its time"


@settings(max_examples=30)
@given(plays=plays, delays=delays, pause=pauses)
def test_every_view_is_true(plays: list[list[Act]], delays: list[float], pause: float | None) -> None:
    display = Memory(pause=None if pause is None else lambda: pause)
    report, display = run_live(
        Script(*plays),
        backend=Numbered(delays),
        display=display,
        age_budget_s=BUDGET_S,
        reconnect=True,
        seconds=0.25,
    )
    shown = display.shown
    assert shown
    assert display.closed == 1
    for view, _ in shown:
        check(view)
    for (view, _), (after, _) in itertools.pairwise(shown):
        assert after.number > view.number
        if view.segmentation is not None and after.frame is not None and view.frame is not None:
            assert after.frame.index >= view.frame.index, "back in time"
    assert report.offered >= report.processed >= 0
    assert report.dropped == report.offered - report.processed
    assert threading.active_count() < 20, "threads are left running"


def test_an_outline_is_taken_off_though_nothing_new_comes() -> None:
    """The source hangs after a frame with an outline: the run goes on until that has left the display."""
    display, left = Memory(), threading.Event()

    class Watcher(Notes):
        def on_view(self, view: View, shown_ns: int) -> None:
            outlined = [earlier.segmentation is not None for earlier, _ in display.shown]
            if any(outlined) and view.segmentation is None:
                left.set()

    source = Script([Act(0.01)] * 50 + [Act(600.0)])
    run_live(source, display=display, observers=[Watcher()], stop=left, age_budget_s=1.0, seconds=60.0)
    assert left.is_set(), "an outline that nobody took off"
