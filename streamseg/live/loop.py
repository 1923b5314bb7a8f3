"""The live loop: newest frame in, outline on the display before it is old.

Threads::

    read: source -> one slot (newest wins)  ->  segment: prepare, infer  ->  finish: postprocess
                     \\______________________________________________________________/
                                               presenter
    the caller's thread: asks the presenter for the view to show, and shows it

The caller's thread shows, since windows belong to a program's main thread. It wakes when something arrived,
when an outline expires, and often enough that keys are answered. It never waits for the net or the source.
A stage that raises ends the run with its cause; displays and observers are closed in every case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from streamseg.capture.screen.region import ImageRegion
from streamseg.core.latency import StageClock
from streamseg.core.types import Frame, Planes, Result, Say, Source
from streamseg.core.view import Command, Display, Figures, RunObserver, View
from streamseg.live.frame_reader import RETRY_DELAYS_S, LatestFrameReader, Phase
from streamseg.live.freeze_detector import FreezeDetector
from streamseg.live.presenter import FROZEN_AFTER_NS, Presenter
from streamseg.live.report import FIGURES_EVERY_NS, LiveReport, LiveStatistics
from streamseg.pipeline.ordered_queue import OrderedQueue
from streamseg.segmentation.preprocess import Prepared
from streamseg.segmentation.segmenter import Segmenter

POLL_S = 1 / 60
"""The longest sleep of the display's thread: keys are answered within it."""
WAIT_S = 0.2
"""The longest wait of the others before they check whether the run has ended."""
FREEZE_CHECK_NS = 25_000_000
"""Interval of the checks for a frozen scanner: fast sources do not need one in every frame."""
MAX_NOTES = 10
JOIN_S = 2.0
"""How long the end of the run waits for a net that is inferring."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live run behaves."""

    age_budget_s: float = 0.15
    """An outline is displayed no later than this after its frame was captured."""
    seconds: float | None = None
    """Duration after which the run ends; None: when the source ends or somebody stops it."""
    reconnect: bool = False
    """Open the source again when it cannot be opened, fails or ends."""
    spacing_mm: tuple[float, float] | None = None
    """Millimetres per pixel (row, column), if the user knows better than the source."""
    retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S
    poll_s: float = POLL_S
    """The longest sleep of the display's thread: how often keys are asked for, and a silence is noticed.
    Outlines expire in time whatever it is."""


class LiveLoop:
    """One live run: its threads, what they share, and what was counted. Runs once."""

    def __init__(
        self,
        opener: Callable[[], Source],
        segmenter: Segmenter,
        options: LiveOptions | None = None,
        *,
        region: ImageRegion | None = None,
        displays: Sequence[Display] = (),
        observers: Sequence[RunObserver] = (),
        say: Say = lambda message: None,
        on_command: Callable[[Command], None] = lambda command: None,
        recording: Callable[[], str | None] = lambda: None,
    ) -> None:
        """``opener`` opens the source, again and again if ``options.reconnect`` is set.

        ``region`` locates the ultrasound image in each frame; None: the segmenter's ROI. ``say`` gets one
        human-readable line now and then, in any thread. ``on_command`` gets the users' commands except QUIT,
        and ``recording`` returns what the display says about a recording.
        """
        self._options = options = options or LiveOptions()
        self._segmenter, self._displays, self._observers = segmenter, displays, observers
        self._say, self._on_command, self._recording = say, on_command, recording
        self._region = ImageRegion(segmenter.roi, say=say) if region is None else region
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._presenter = Presenter(round(options.age_budget_s * 1e9))
        self._freeze_detector = FreezeDetector(FROZEN_AFTER_NS / 1e9)
        self._frozen, self._freeze_checked_ns = False, 0
        self._statistics = LiveStatistics()
        self._awaited = self._awaited_ns = 0
        """How often the source has said what it waits for, and when last."""
        self._notes: list[str] = []
        self._inferred: OrderedQueue[tuple[Prepared, Planes]] = OrderedQueue()
        self._all_finished = threading.Event()
        self._reader = LatestFrameReader(
            opener,
            reconnect=options.reconnect,
            prepare=self._with_spacing,
            on_frame=self._on_frame,
            on_change=self._on_source_change,
            retry_delays_s=options.retry_delays_s,
        )
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"streamseg-{name}", daemon=True)
            for name, work in (("segment", self._segment), ("finish", self._finish))
        ]

    def run(self, stop: threading.Event) -> LiveReport:
        """Run until the source ends, ``stop`` is set, the time is over or a display is quit.

        Whatever ends the run, displays and observers are closed and its figures returned; an error is in the
        report's ``error``, for the caller to raise.
        """
        with ExitStack() as closing:
            for observer in self._observers:
                closing.callback(observer.close)
            for display in self._displays:
                closing.callback(display.close)
            closing.callback(self._close)
            for thread in self._threads:
                thread.start()
            self._reader.start()
            try:
                self._show_until_over(stop)
            except Exception as error:  # of a display
                self._error = self._error or error
        reconnects = self._reader.status.reconnects
        return self._statistics.report(
            self._reader.offered,
            reconnects,
            stopped=stop.is_set(),
            error=self._error,
            notes=tuple(self._notes),
        )

    def _close(self) -> None:
        """End the threads; one that hangs in the source or the net is abandoned."""
        self._ended.set()
        self._inferred.abort()
        self._reader.close()
        deadline = time.monotonic() + JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # The caller's thread.

    def _show_until_over(self, stop: threading.Event) -> None:
        seconds = self._options.seconds
        end_ns = None if seconds is None else time.monotonic_ns() + round(seconds * 1e9)
        shown = figures_ns = 0
        while not (stop.is_set() or self._ended.is_set()):
            now_ns = time.monotonic_ns()
            if end_ns is not None and now_ns >= end_ns:
                return
            over = self._all_finished.is_set()  # asked before the view, so that the last one is shown
            if now_ns >= figures_ns:
                figures_ns = now_ns + FIGURES_EVERY_NS
                self._presenter.figures(self._figures())
            view = self._presenter.view()
            if view.number != shown:
                shown = view.number
                self._show(view)
            if self._quit():
                return
            if self._reader.error is not None and self._reader.over:
                self._error = self._error or self._reader.error
            if over:
                if self._reader.status.phase is Phase.ENDED and self._error is None:
                    self._show(self._presenter.end())
                return
            self._presenter.wait(self._nap_s(view, end_ns))

    def _figures(self) -> Figures:
        reader, status = self._reader, self._reader.status
        return self._statistics.figures(
            reader.offered, reader.dropped, status.reconnects, clock=status.clock, recording=self._recording()
        )

    def _show(self, view: View) -> None:
        for display in self._displays:
            display.show(view)
        shown_ns = time.monotonic_ns()
        self._statistics.on_view(view, shown_ns)
        for observer in self._observers:
            observer.on_view(view, shown_ns)

    def _quit(self) -> bool:
        for command in [command for display in self._displays for command in display.poll()]:
            if command is Command.QUIT:
                return True
            self._on_command(command)
        return False

    def _nap_s(self, view: View, end_ns: int | None) -> float:
        """Seconds until the outline on the display expires, or the keys are due to be checked."""
        times = [time_ns for time_ns in (view.expires_ns, end_ns) if time_ns is not None]
        poll_s = self._options.poll_s
        left_s = (min(times) - time.monotonic_ns()) / 1e9 if times else poll_s
        return min(poll_s, max(left_s, 0.0))

    # The reader's thread.

    def _with_spacing(self, frame: Frame) -> Frame:
        spacing = self._options.spacing_mm
        return frame if spacing is None else replace(frame, spacing_mm=spacing)

    def _on_frame(self, frame: Frame, arrived_ns: int) -> None:
        for observer in self._observers:
            observer.on_frame(frame, arrived_ns)
        roi = self._region.known(frame)
        if roi is None:
            self._frozen = False  # "NO SIGNAL" does not change either: that no image is known matters more
        elif arrived_ns - self._freeze_checked_ns >= FREEZE_CHECK_NS:
            self._freeze_checked_ns = arrived_ns
            with self._segmenter.alone:
                self._frozen = self._freeze_detector.update(frame.grey(roi), arrived_ns)
        self._presenter.on_frame(frame, roi, arrived_ns, frozen=self._frozen)

    def _on_source_change(self) -> None:
        status = self._reader.status
        if status.phase is Phase.WAITING:
            wait_s = ((status.retry_ns or 0) - time.monotonic_ns()) / 1e9
            self._say(f"source lost: {status.reason}; trying again in {max(wait_s, 0):.1f} s")
        elif status.phase is Phase.OPEN and status.reconnects:
            self._say(f"{status.name} is back")
        if status.awaited and status.awaited_ns != self._awaited_ns:
            # The display says so at once, the terminal only if it lasts.
            self._awaited, self._awaited_ns = self._awaited + 1, status.awaited_ns
            if self._awaited == 2:
                self._say(status.awaited)
        elif not status.awaited:
            self._awaited = 0
        if status.note and status.note not in self._notes and len(self._notes) < MAX_NOTES:
            if not self._notes:
                self._say(status.note)
            self._notes.append(status.note)
        self._presenter.on_source_change(status)

    def on_wait(self, awaited: str) -> None:
        """Called by a source that is alive but cannot deliver frames yet: what it waits for."""
        self._reader.on_wait(awaited)

    # The net's threads.

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = self._error or error
            self._ended.set()

    def _segment(self) -> None:
        position = 0
        try:
            while not self._ended.is_set():
                frame = self._reader.take(WAIT_S)
                if frame is None:
                    if self._reader.over:
                        return
                    continue
                if self._segmenter.wait_turn():
                    frame = self._reader.newer(frame)
                roi = self._region.locate(frame)
                if roi is None:
                    self._presenter.on_search(self._region.progress, frame.index)
                    continue
                clock = StageClock()
                clock.add("wait", time.monotonic_ns() - frame.captured_ns)
                prepared = self._segmenter.prepare(frame, roi, clock)
                if not self._inferred.put((prepared, self._segmenter.infer(prepared)), position):
                    return
                position += 1
        finally:
            self._inferred.finish()

    def _finish(self) -> None:
        while (item := self._inferred.get()) is not None:
            prepared, planes = item
            segmentation = self._segmenter.finish(prepared, planes)
            now_ns = time.monotonic_ns()
            frame, clock = prepared.frame, prepared.clock
            age_ns = now_ns - frame.captured_ns
            result = Result(frame, segmentation, prepared.roi, clock.stage_ns, age_ns, clock.began_ns)
            self._statistics.on_result(result, now_ns)
            self._presenter.on_result(result)
            for observer in self._observers:
                observer.on_result(result)
        self._all_finished.set()
