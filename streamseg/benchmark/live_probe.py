"""Measures live runs: each is a live loop in a thread of its own, over a clip from memory at a pace.

The loop is that of ``streamseg live``. Its display draws what a window would show at its natural size, and
throws it away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from streamseg.benchmark.clip import Clip, FrameSource
from streamseg.benchmark.frame_trace import CountedSource, ProbeDisplay, RunOutcome, pool
from streamseg.capture.paced import PacedSource
from streamseg.capture.screen.region import ImageRegion
from streamseg.core.errors import StallError, UsageError
from streamseg.core.types import State
from streamseg.core.view import Display
from streamseg.live import LiveLoop, LiveOptions, LiveReport
from streamseg.live.loop import POLL_S
from streamseg.segmentation.segmenter import Segmenter

T = TypeVar("T")
END_S = 2.0
"""The least time that a stopped run has to end."""
GRACE_S = 5.0
"""A single run that has not ended this long after its last frame was due is stopped."""
OFFERED_SHARE = 0.98
"""A source that offers less than this share of its pace did not keep it; a note says so."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a live run is offered, and the age budget of its outlines."""

    fps: float = 30.0
    seconds: float = 8.0
    """Of frames that count, after the warm-up."""
    budget_s: float = 0.15
    draw: bool = True
    """False: its outlines are used, but nobody sees them."""
    warm_s: float = 1.0
    """Frames of these first seconds are processed like all others, but do not count."""
    stall_s: float = 10.0
    """A run that has not ended this long after its last frame was due is stopped."""

    def __post_init__(self) -> None:
        frames = self.fps * self.seconds
        if not (self.fps > 0 and self.seconds > 0 and 0.5 < frames < 1e9 and 0 < self.budget_s < 1e3):
            raise UsageError(
                f"{self.fps:g} frames per second for {self.seconds:g} s within {self.budget_s * 1e3:g} ms "
                "cannot be measured; give more than 0 of each, and one frame or more"
            )

    @property
    def warm(self) -> int:
        """Frames that do not count."""
        return round(self.warm_s * self.fps)

    @property
    def counted(self) -> int:
        """Frames that count."""
        return max(1, round(self.seconds * self.fps))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LiveOutcome(RunOutcome):
    """What happened to the counted frames of a live run."""

    offer: Offer
    seconds: float
    """From when the first counted frame was due to the end of the last one."""

    @property
    def displayed(self) -> int:
        """Frames whose outline was displayed."""
        return sum(trace.displayed for trace in self.traces)

    @property
    def within_budget(self) -> float:
        """Share of the processed frames, 0..1, displayed within the budget; 0 without any."""
        return self._share(sum(trace.displayed and self._in_time(trace.age_ns) for trace in self.traces))

    @property
    def ready_in_time(self) -> float:
        """Share of the processed frames, 0..1, whose age was within the budget when they were displayed, or
        when their outline was known if a newer one was displayed instead; 0 without any."""
        return self._share(sum(self._in_time(trace.age_ns) for trace in self.traces))

    @property
    def processed_fps(self) -> float:
        """Segmented frames per second of :attr:`seconds`."""
        return self.processed / self.seconds

    @property
    def displayed_fps(self) -> float:
        """Displayed outlines per second of :attr:`seconds`."""
        return self.displayed / self.seconds

    @classmethod
    def pooled(cls, rounds: Sequence[LiveOutcome]) -> LiveOutcome:
        """Several runs of the same offer, at least one, as if they were one."""
        return replace(pool(rounds), seconds=sum(each.seconds for each in rounds))

    def _in_time(self, age_ns: int) -> bool:
        return age_ns <= self.offer.budget_s * 1e9

    def _share(self, frames: int) -> float:
        return frames / self.processed if self.processed else 0.0


class LiveProbe:
    """One live run. The clip's region replaces the segmenter's."""

    def __init__(
        self,
        clip: Clip,
        segmenter: Segmenter,
        offer: Offer,
        begin_ns: int | None = None,
        *,
        display: Display | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        """``begin_ns``: monotonic time at which its first frame is due; None is now. ``display`` shows its
        views; without one they are drawn as in a window. ``poll_s`` as in ``LiveOptions``."""
        self.offer = offer
        self.begin_ns = time.monotonic_ns() if begin_ns is None else begin_ns
        self.engine = segmenter.backend.name
        self.source = CountedSource(
            PacedSource(FrameSource(clip.frames, offer.fps, offer.warm + offer.counted))
        )
        self.overdue = False
        """It was stopped because it did not end in time."""
        self._segmenter = segmenter
        self._display = ProbeDisplay(draw=offer.draw and display is None)
        self._displays: list[Display] = [self._display] if display is None else [display, self._display]
        self._poll_s = poll_s
        self._region = ImageRegion(clip.roi)
        self._report: LiveReport | None = None
        self._raised: BaseException | None = None
        # Python 3.11 takes a thread for ended when Ctrl-C interrupts its join().
        self._over = threading.Event()

    def start(self, stop: threading.Event) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, args=(stop,), name="streamseg-live-probe", daemon=True).start()

    def ended(self, deadline_s: float) -> bool:
        """Wait for its end, at most until a monotonic time in seconds."""
        return self._over.wait(max(0.0, deadline_s - time.monotonic()))

    @property
    def counted_from_ns(self) -> int:
        """When the first frame that counts was due, monotonic; known once frames have come."""
        return (self.source.first_ns or 0) + round(self.offer.warm * 1e9 / self.offer.fps)

    @property
    def error(self) -> BaseException | None:
        """What ended it before its time."""
        return self._raised or (None if self._report is None else self._report.error)

    def outcome(self) -> LiveOutcome:
        """What happened to the counted frames."""
        offer, source, ledger = self.offer, self.source, self._display.ledger
        traces = list(self._display.traces())
        notes = ledger.notes(source)
        if self._report is not None:
            notes += _notes(self._report, source.offered, len(traces))
        if self.overdue:
            notes.append(f"stopped: still running {offer.stall_s:g} s after its last frame")
        traces = [trace for trace in traces if trace.index >= offer.warm]
        span_ns = max((trace.end_ns for trace in traces), default=0) - self.counted_from_ns
        return LiveOutcome(
            offered=max(0, source.offered - offer.warm),
            traces=tuple(traces),
            fps=ledger.fps,
            states={} if self._report is None else self._report.states,
            notes=tuple(notes),
            offer=offer,
            seconds=max(span_ns / 1e9, offer.counted / offer.fps),
        )

    def _run(self, stop: threading.Event) -> None:
        try:
            self._report = LiveLoop(
                self._open,
                self._segmenter,
                LiveOptions(age_budget_s=self.offer.budget_s, poll_s=self._poll_s),
                region=self._region,
                displays=self._displays,
                observers=[self._display],
            ).run(stop)
        except BaseException as error:  # raised in the thread that started it
            self._raised = error
        finally:
            self._over.set()

    def _open(self) -> CountedSource:
        time.sleep(max(0.0, (self.begin_ns - time.monotonic_ns()) / 1e9))
        return self.source


def run_at_once(probes: Sequence[LiveProbe], meanwhile: Callable[[], T]) -> T:
    """Run probes of one offer at the same time, and return what ``meanwhile`` returns.

    Runs that do not end in time are stopped. Ctrl-C passes through once all have ended.
    """
    stop, offer = threading.Event(), probes[0].offer
    try:
        for probe in probes:
            probe.start(stop)
        found = meanwhile()
        deadline = probes[0].begin_ns / 1e9 + (offer.warm + offer.counted) / offer.fps + offer.stall_s
        for probe in probes:
            probe.overdue = not probe.ended(deadline)
    except BaseException:  # Ctrl-C reaches the thread that waits
        stop.set()
        deadline = time.monotonic() + END_S
        for probe in probes:
            probe.ended(deadline)
        raise
    stop.set()
    return found


def outcomes(probes: Sequence[LiveProbe]) -> tuple[LiveOutcome, ...]:
    """The outcome of each run, after :func:`run_at_once`.

    Raises what ended a run before its time, and StallError for one that goes on although it was stopped: its
    engine hangs.
    """
    deadline = time.monotonic() + max(END_S, probes[0].offer.stall_s)
    stopped = any(probe.overdue for probe in probes)
    for probe in probes:
        if not probe.ended(deadline):
            raise StallError(
                f"engine {probe.engine} gave no answer for {probe.offer.stall_s:g} s; it was left behind"
            )
        if probe.error is not None and not stopped:
            raise probe.error
    return tuple(probe.outcome() for probe in probes)


def paced(
    clip: Clip, segmenter: Segmenter, fps: float, seconds: float, *, budget_s: float = 0.15
) -> LiveOutcome:
    """One live run of which every frame counts, with a note if they were not offered at the pace.

    Raises UsageError for an impossible pace or time, and what :func:`outcomes` does.
    """
    probe = LiveProbe(clip, segmenter, Offer(fps, seconds, budget_s, warm_s=0.0, stall_s=GRACE_S))
    run_at_once([probe], lambda: None)
    (found,) = outcomes([probe])
    notes, source, count = list(found.notes), probe.source, probe.offer.counted
    if source.offered < count:
        notes.append(f"the run ended after {source.offered} of {count} frames")
    if (real := source.fps) is not None and real < OFFERED_SHARE * fps:
        notes.append(f"frames were offered at {real:.1f} per second, not {fps:g}: the source was held up")
    return replace(found, notes=tuple(notes))


def _notes(report: LiveReport, offered: int, processed: int) -> list[str]:
    """What the loop's own report tells that is wrong with a run, or with the report."""
    notes = []
    if (report.offered, report.processed) != (offered, processed):
        notes.append(
            f"the loop reports {report.offered} frames offered and {report.processed} segmented, "
            f"{offered} were offered and {processed} came out"
        )
    if report.states.get(State.FROZEN):  # outlines that are withheld for that say nothing of the machine
        notes.append(
            "the clip stood still: displays showed a frozen scanner without an outline; give one that moves"
        )
    return notes
