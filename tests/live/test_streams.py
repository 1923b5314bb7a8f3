"""Several live loops that share one engine: each shows its own frames, and none touches the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from streamseg.backends.shared import SharedEngine
from streamseg.core.errors import EngineError, SinkError, SourceError
from streamseg.core.types import State
from streamseg.core.view import View
from streamseg.live import LiveLoop, LiveOptions, LiveReport, run_streams
from streamseg.segmentation.segmenter import Segmenter
from tests.fakes import (
    Act,
    Memory,
    Notes,
    Numbered,
    Script,
    loop_threads,
    marked_number,
    number_of,
)
from tests.waiting import wait_for

APART = 4096
"""The frames of stream k show the numbers from k times this on."""


def script(stream: int, *plays: Sequence[Act], live: bool = True) -> Script:
    """A source whose frames show which stream they are of."""
    made = Script(*plays, live=live)
    made.given = stream * APART
    return made


def loops_of(
    shared: SharedEngine,
    scripts: Sequence[Script],
    displays: Sequence[Memory],
    observers: Sequence[Notes] = (),
    **options: object,
) -> list[LiveLoop]:
    chosen = LiveOptions(**{"retry_delays_s": (0.02,), "age_budget_s": 10.0, **options})  # type: ignore[arg-type]
    return [
        LiveLoop(
            opener,
            Segmenter(shared.lane()),
            chosen,
            displays=[display],
            observers=list(observers[index : index + 1]),
        )
        for index, (opener, display) in enumerate(zip(scripts, displays, strict=True))
    ]


@pytest.mark.parametrize("lanes", [1, 3])
def test_every_outline_is_shown_on_its_own_frame_of_its_own_stream(lanes: int) -> None:
    engine = Numbered([0.004, 0.0, 0.011])
    engine.info = replace(engine.info, lanes=lanes)
    displays = [Memory() for _ in range(5)]
    notes = [Notes() for _ in displays]
    scripts = [script(stream, [Act(0.004 + 0.001 * stream)] * 40) for stream in range(5)]
    with SharedEngine(engine) as shared:
        reports = run_streams(loops_of(shared, scripts, displays, notes), threading.Event())
    outlined = 0
    for stream, (display, seen, report) in enumerate(zip(displays, notes, reports, strict=True)):
        assert report.offered == 40
        assert report.processed + report.dropped == 40
        assert report.processed == len(seen.results) > 0
        for view, _ in display.shown:
            if view.frame is not None:
                assert number_of(view.frame.image) // APART == stream
            if view.segmentation is not None:
                assert marked_number(view) == number_of(view.frame.image)
                outlined += 1
        for result in seen.results:
            marked = round((float(result.segmentation.probability[0, 0]) - 0.1) * 1e6)
            assert marked == number_of(result.frame.image)
            assert marked // APART == stream
    assert outlined > 10
    assert not loop_threads()


def test_a_stream_that_fails_or_reconnects_touches_no_other() -> None:
    displays = [Memory() for _ in range(3)]
    lost = [[Act(0.01)] * 5 + [Act(what="fail")], [Act(what="refuse")], [Act(0.01)] * 5]
    steady, fails = [Act(0.01)] * 60, [*[Act(0.01)] * 5, Act(what="fail")]
    ended: list[tuple[int, LiveReport]] = []
    stop = threading.Event()
    with SharedEngine(Numbered()) as shared:
        loops = loops_of(shared, [script(0, steady), script(1, fails)], displays[:2])
        loops += loops_of(shared, [script(2, *lost)], displays[2:], reconnect=True)
        running = threading.Thread(
            target=lambda: reports.extend(
                run_streams(loops, stop, on_end=lambda index, report: ended.append((index, report)))
            )
        )
        reports: list[LiveReport] = []
        running.start()
        wait_for(lambda: len(ended) == 2, "the ends of two streams")
        wait_for(lambda: "source lost" in displays[2].states, "the loss of the third")
        stop.set()
        running.join(30)
    assert {index for index, _ in ended} == {0, 1, 2}
    good, failed, back = reports
    assert (good.error, good.offered, good.stopped) == (None, 60, False)
    assert isinstance(failed.error, SourceError)
    assert failed.offered == 5
    assert back.error is None
    assert back.reconnects == 1
    assert State.SOURCE_LOST not in good.states
    assert "source lost" not in displays[0].states


def test_a_display_that_fails_ends_its_own_stream() -> None:
    class Broken(Memory):
        def show(self, view: View) -> None:
            super().show(view)
            if len(self.shown) == 3:
                raise SinkError("the screen was unplugged; plug it in")

    displays = [Memory(), Broken()]
    with SharedEngine(Numbered()) as shared:
        loops = loops_of(shared, [script(k, [Act(0.01)] * 30) for k in range(2)], displays)
        good, broken = run_streams(loops, threading.Event())
    assert good.error is None
    assert good.offered == 30
    assert isinstance(broken.error, SinkError)
    assert [display.closed for display in displays] == [1, 1]


def test_an_engine_that_fails_ends_all() -> None:
    displays = [Memory() for _ in range(3)]
    with SharedEngine(Numbered(fail_at=4)) as shared:
        loops = loops_of(shared, [script(k, [Act(0.01)] * 500) for k in range(3)], displays)
        reports = run_streams(loops, threading.Event())
    assert any(isinstance(report.error, EngineError) for report in reports)
    assert not loop_threads()


def test_streams_alike_get_equal_shares_and_waiting_frames_are_the_newest() -> None:
    """Four times as many frames as the engine can take: the rest is dropped before the engine."""
    displays, notes = [Memory() for _ in range(4)], [Notes() for _ in range(4)]
    engine = Numbered([0.01])
    scripts = [script(stream, [Act(0.005)] * 200) for stream in range(4)]
    with SharedEngine(engine) as shared:
        reports = run_streams(loops_of(shared, scripts, displays, notes), threading.Event())
    assert sum(report.offered for report in reports) == 800 > 2 * sum(report.processed for report in reports)
    times = [[each.frame.captured_ns + each.age_ns for each in seen.results] for seen in notes]
    began, ended = max(each[0] for each in times), min(each[-1] for each in times)
    counts = [sum(began <= time_ns <= ended for time_ns in each) for each in times]
    # A turn each, as long as all have frames: a busy machine may not wake a source in time for its turn.
    assert min(counts) >= max(counts) / 2
    for seen, report in zip(notes, reports, strict=True):
        indices = [result.frame.index for result in seen.results]
        assert indices == sorted(set(indices)), "no frame twice, none after a newer one"
        assert report.dropped == report.offered - report.processed
