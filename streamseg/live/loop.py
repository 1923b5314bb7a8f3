"""The live loop: newest frame in, outline on the display before it is old.

Threads::

    read: source -> one slot (newest wins)  ->  segment: prepare, infer  ->  finish: postprocess
                     \\______________________________________________________________/
                                               presenter
    the caller's thread: asks the presenter what is to be shown, and shows it

The caller's thread shows, since windows belong to a program's main thread. It wakes when something came,
when an outline expires, and often enough that keys are answered. It never waits for the net or the source.
A stage that raises ends the run with its cause; displays and taps are closed in every case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from streamseg.capture.screen.region import LiveRegion
from streamseg.core.latency import StageClock
from streamseg.core.types import Frame, Result, Roi, Source
from streamseg.core.view import Command, Display, Figures, RunObserver, View
from streamseg.live.frame_reader import RETRY_DELAYS_S, LatestFrameReader, Phase
from streamseg.live.freeze_detector import FreezeDetector
from streamseg.live.presenter import FROZEN_AFTER_NS, Presenter
from streamseg.live.report import FIGURES_EVERY_NS, LiveReport, LiveStatistics
from streamseg.pipeline.ordered_queue import OrderedQueue
from streamseg.segmentation.postprocess import Probability
from streamseg.segmentation.preprocess import Prepared
from streamseg.segmentation.segmenter import Segmenter

POLL_S = 1 / 60
"""The longest sleep of the display's thread."""
WAIT_S = 0.2
"""The longest wait of the others without looking whether the run has ended."""
LOOK_EVERY_NS = 25_000_000
"""How often it is looked whether the scanner is frozen: fast sources do not need it in every frame."""
JOIN_S = 2.0
"""How long the end of the run waits for a net that is inferring."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live run behaves."""

    age_budget_s: float = 0.15
    """An outline is displayed no later than this after its frame was captured."""
    seconds: float | None = None
    """The run ends after so long; None: when the source ends or somebody stops it."""
    reconnect: bool = False
    """Open the source again when it cannot be opened, fails or ends."""
    roi: Roi | None = None
    find_roi: bool = False
    """Look for the ultrasound image in the screen where there is no ROI, or it does not fit."""
    spacing_mm: tuple[float, float] | None = None
    """Millimetres per pixel (row, column) where the user knows better than the source."""
    ladder: tuple[float, ...] = RETRY_DELAYS_S


def run_live(
    opener: Callable[[], Source],
    segmenter: Segmenter,
    *,
    displays: Sequence[Display] = (),
    taps: Sequence[RunObserver] = (),
    options: LiveOptions,
    stop: threading.Event,
    say: Callable[[str], None] = lambda message: None,
    on_command: Callable[[Command], None] = lambda command: None,
    recording: Callable[[], str | None] = lambda: None,
) -> LiveReport:
    """Run until the source ends, ``stop`` is set, the time is over or a display is quit.

    ``opener`` opens the source, again and again where ``options.reconnect`` is set. ``say`` gets one line for
    people now and then, in any thread. ``recording`` gives what the display says about a recording, and
    ``on_command`` gets what users ask for, but for QUIT. Whatever ends the run, displays and taps are closed
    and its figures returned; an error is in the report's ``error``, for the caller to raise.
    """
    run = _Run(opener, segmenter, displays=displays, taps=taps, options=options, stop=stop, say=say)
    with ExitStack() as closing:
        for tap in taps:
            closing.callback(tap.close)
        for display in displays:
            closing.callback(display.close)
        closing.callback(run.close)
        run.start()
        try:
            run.show_until_over(on_command, recording)
        except Exception as error:  # of a display
            run.error = run.error or error
    return run.report()


class _Run:
    """One run: its threads, what they share, and what was counted."""

    def __init__(
        self,
        opener: Callable[[], Source],
        segmenter: Segmenter,
        *,
        displays: Sequence[Display],
        taps: Sequence[RunObserver],
        options: LiveOptions,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self.error: BaseException | None = None
        self._segmenter, self._displays, self._taps = segmenter, displays, taps
        self._options, self._stop, self._say = options, stop, say
        self._ended = threading.Event()
        self._presenter = Presenter(round(options.age_budget_s * 1e9))
        self._region = LiveRegion(options.roi, search=options.find_roi, say=say)
        self._still, self._frozen, self._looked_ns = FreezeDetector(FROZEN_AFTER_NS / 1e9), False, 0
        self._tally = LiveStatistics()
        self._inferred: OrderedQueue[tuple[Prepared, Probability]] = OrderedQueue()
        self._all_finished = threading.Event()
        self._taken = 0
        self._reader = LatestFrameReader(
            opener,
            again=options.reconnect,
            prepare=self._with_spacing,
            on_frame=self._arrived,
            on_change=self._source_changed,
            ladder=options.ladder,
        )
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"streamseg-{name}", daemon=True)
            for name, work in (("segment", self._segment), ("finish", self._finish))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        self._reader.start()

    def close(self) -> None:
        """End the threads; one that hangs in the source or the net is left behind."""
        self._ended.set()
        self._inferred.cut()
        self._reader.close()
        deadline = time.monotonic() + JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def report(self) -> LiveReport:
        status = self._reader.status
        return self._tally.report(
            self._reader.offered, status.reconnects, stopped=self._stop.is_set(), error=self.error
        )

    # The reader's thread.

    def _with_spacing(self, frame: Frame) -> Frame:
        spacing = self._options.spacing_mm
        return frame if spacing is None else replace(frame, spacing_mm=spacing)

    def _arrived(self, frame: Frame, arrived_ns: int) -> None:
        for tap in self._taps:
            tap.on_frame(frame, arrived_ns)
        roi = self._region.known(frame)
        if arrived_ns - self._looked_ns >= LOOK_EVERY_NS:
            self._looked_ns = arrived_ns
            self._frozen = self._still.update(
                frame.image if roi is None else roi.crop(frame.image), arrived_ns
            )
        self._presenter.arrived(frame, roi, arrived_ns, still=self._frozen)

    def _source_changed(self) -> None:
        status = self._reader.status
        if status.phase is Phase.WAITING:
            wait_s = ((status.retry_ns or 0) - time.monotonic_ns()) / 1e9
            self._say(f"source lost: {status.reason}; trying again in {max(wait_s, 0):.1f} s")
        elif status.phase is Phase.OPEN and status.reconnects:
            self._say(f"{status.name} is back")
        self._presenter.source(status)

    # The net's threads.

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.error = self.error or error
            self._ended.set()

    def _segment(self) -> None:
        try:
            while not self._ended.is_set():
                frame = self._reader.take(WAIT_S)
                if frame is None:
                    if self._reader.over:
                        return
                    continue
                if self._segmenter.wait_turn():
                    frame = self._reader.newer(frame)
                roi = self._region.of(frame)
                if roi is None:
                    self._presenter.searching(self._region.progress)
                    continue
                clock = StageClock()
                clock.add("wait", time.monotonic_ns() - frame.captured_ns)
                prepared = self._segmenter.prepare(frame, roi, clock)
                if not self._inferred.put((prepared, self._segmenter.infer(prepared)), self._taken):
                    return
                self._taken += 1
        finally:
            self._inferred.end()

    def _finish(self) -> None:
        while (item := self._inferred.get()) is not None:
            prepared, probability = item
            segmentation = self._segmenter.finish(prepared, probability)
            now_ns = time.monotonic_ns()
            frame, clock = prepared.frame, prepared.clock
            age_ns = now_ns - frame.captured_ns
            result = Result(frame, segmentation, prepared.roi, clock.stage_ns, age_ns, clock.began_ns)
            self._tally.on_result(result, now_ns)
            self._presenter.on_result(result)
            for tap in self._taps:
                tap.on_result(result)
        self._all_finished.set()

    # The caller's thread.

    def show_until_over(
        self, on_command: Callable[[Command], None], recording: Callable[[], str | None]
    ) -> None:
        """Show what is to be shown until the run is over."""
        seconds = self._options.seconds
        end_ns = None if seconds is None else time.monotonic_ns() + round(seconds * 1e9)
        shown = figures_ns = 0
        while not (self._stop.is_set() or self._ended.is_set()):
            now_ns = time.monotonic_ns()
            if end_ns is not None and now_ns >= end_ns:
                return
            over = self._all_finished.is_set()  # asked before the view, so that the last one is shown
            if now_ns >= figures_ns:
                figures_ns = now_ns + FIGURES_EVERY_NS
                self._presenter.figures(self._figures(recording()))
            view = self._presenter.view()
            if view.number != shown:
                shown = view.number
                self._show(view)
            if self._quit(on_command):
                return
            if self._reader.error is not None and self._reader.over:
                self.error = self.error or self._reader.error
            if over:
                return
            self._presenter.wait(self._nap_s(view, end_ns))

    def _figures(self, recording: str | None) -> Figures:
        reader, status = self._reader, self._reader.status
        return self._tally.figures(
            reader.offered, reader.dropped, status.reconnects, clock=status.clock, recording=recording
        )

    def _show(self, view: View) -> None:
        for display in self._displays:
            display.show(view)
        shown_ns = time.monotonic_ns()
        self._tally.on_view(view, shown_ns)
        for tap in self._taps:
            tap.on_view(view, shown_ns)

    def _quit(self, on_command: Callable[[Command], None]) -> bool:
        for command in [command for display in self._displays for command in display.poll()]:
            if command is Command.QUIT:
                return True
            on_command(command)
        return False

    @staticmethod
    def _nap_s(view: View, end_ns: int | None) -> float:
        """Until the outline on the display expires, or it is time to look at the keys."""
        times = [time_ns for time_ns in (view.expires_ns, end_ns) if time_ns is not None]
        left_s = (min(times) - time.monotonic_ns()) / 1e9 if times else POLL_S
        return min(POLL_S, max(left_s, 0.0))
