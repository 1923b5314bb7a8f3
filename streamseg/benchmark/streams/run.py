"""One run of several live streams at a time over one engine: who offered what, and what came out of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamseg.backends.shared import SharedEngine
from streamseg.benchmark.clip import Clip, FrameSource
from streamseg.benchmark.frame_trace import CountedSource, ProbeDisplay, frozen_notes
from streamseg.benchmark.provenance import CpuTimes
from streamseg.capture.paced import PacedSource
from streamseg.capture.screen.region import ImageRegion
from streamseg.core.errors import StallError, UsageError
from streamseg.core.types import Backend
from streamseg.core.view import View
from streamseg.live import LiveLoop, LiveOptions
from streamseg.live.report import LiveReport
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter

WARM_S = 1.0
"""Frames of the first second are processed like all others, but not counted."""
END_S = 2.0
"""A stream that was stopped may take so long to end, at least."""
LEAD_S = 0.1
"""All streams are set up before the first of them offers a frame."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What each stream offers, and what is asked of it."""

    fps: float = 30.0
    seconds: float = 8.0
    """Counted, behind the warm-up."""
    budget_s: float = 0.15
    draw: bool = True
    """Its display draws what people would see, and throws it away; False shows nothing."""
    warm_s: float = WARM_S
    stall_s: float = 10.0
    """Streams that have not come to their end so long after their last frame are stopped."""

    def __post_init__(self) -> None:
        if not (0 < self.fps <= 1000 and 0 < self.seconds < 1e6 and 0 < self.budget_s < 1e3):
            raise UsageError(
                f"{self.fps:g} frames per second for {self.seconds:g} s within {self.budget_s * 1e3:g} ms "
                "cannot be measured; give 0 to 1000 frames per second, and more than 0 of the others"
            )

    @property
    def warm(self) -> int:
        """Frames that are not counted."""
        return round(self.warm_s * self.fps)

    @property
    def counted(self) -> int:
        """Frames that are."""
        return max(1, round(self.seconds * self.fps))


@dataclass(frozen=True, slots=True, repr=False)
class StreamCount:
    """What became of one stream's counted frames."""

    offered: int
    """Frames that its source delivered."""
    processed: int
    """Different ones that were segmented."""
    in_time: int
    """Those of them whose age was within the budget when they were displayed, or when a newer outline came
    before that."""
    displayed: int
    """Those of them whose outline was displayed."""
    ages_ns: tuple[int, ...]
    """From the capture to the display; of outlines that came too late for that, until they were known."""
    seconds: float
    """From the first counted frame's capture to the last one's end."""
    notes: tuple[str, ...] = ()

    @property
    def dropped(self) -> int:
        return self.offered - self.processed

    @property
    def fps(self) -> float:
        """Segmented frames per second."""
        return self.processed / self.seconds

    @property
    def displayed_fps(self) -> float:
        """Outlines on display per second: each of them within the budget, as the live loop shows no other."""
        return self.displayed / self.seconds

    @property
    def within_budget(self) -> float:
        """Share of the segmented frames that were in time, 0..1; 0 without any."""
        return self.in_time / self.processed if self.processed else 0.0


@dataclass(frozen=True, slots=True, repr=False)
class StreamsRun:
    """Several streams at the same time."""

    streams: tuple[StreamCount, ...]
    processor_share: float | None
    """Of all cores' time, what this process took while frames were counted; None where unknown."""
    fill: float | None
    """Frames in a call of the engine, mean of all calls."""

    def __repr__(self) -> str:
        fps = sum(stream.fps for stream in self.streams)
        worst = min(stream.within_budget for stream in self.streams)
        return f"StreamsRun({fps:.1f} frames/s, {worst:.0%} in time in the worst stream)"


def run_streams(clip: Clip, backend: Backend, count: int, offer: Offer) -> StreamsRun:
    """Offer the clip's frames from memory to ``count`` live loops, which share the engine, at equal distances
    within a frame's interval.

    Each has its own segmentation, steadied, and its own display. Raises what ended a stream before its time,
    and StallError for an engine that gives no answer. Ctrl-C passes through when the streams have ended.
    """
    stop = threading.Event()
    with SharedEngine(backend) as shared:
        begin_ns = time.monotonic_ns() + round(LEAD_S * 1e9)
        streams = [
            Stream(clip, shared.lane(), offer, begin_ns + round(number * 1e9 / (offer.fps * count)))
            for number in range(count)
        ]
        try:
            for stream in streams:
                stream.start(stop)
            share = _processor_share(begin_ns + round(offer.warm_s * 1e9), offer.counted / offer.fps)
            deadline = begin_ns / 1e9 + offer.warm_s + offer.counted / offer.fps + offer.stall_s
            overdue = [stream for stream in streams if not stream.ended(deadline)]
        except BaseException:  # Ctrl-C reaches the thread that waits
            _end_all(streams, stop)
            raise
        stop.set()
        fill = shared.fill
    for stream in streams:
        if shared.hangs or not stream.ended(time.monotonic() + max(END_S, offer.stall_s)):
            raise StallError(
                f"engine {backend.name} gave no answer for {offer.stall_s:g} s with {count} streams; "
                "it was left behind"
            )
        if stream.error is not None and not overdue:
            raise stream.error
    return StreamsRun(tuple(stream.count(stopped=stream in overdue) for stream in streams), share, fill)


def _end_all(streams: Sequence[Stream], stop: threading.Event) -> None:
    """End streams before their time; one that hangs is left behind."""
    stop.set()
    deadline = time.monotonic() + END_S
    for stream in streams:
        stream.ended(deadline)


class Stream:
    """One stream: its source, and its loop in a thread."""

    def __init__(self, clip: Clip, lane: Backend, offer: Offer, begin_ns: int) -> None:
        """``begin_ns``: monotonic time of its first frame."""
        self._offer, self._begin_ns = offer, begin_ns
        self._source = CountedSource(
            PacedSource(FrameSource(clip.frames, offer.fps, offer.warm + offer.counted))
        )
        self._segmenter = Segmenter(lane, steady=TemporalFilter())
        self._region = ImageRegion(clip.roi)
        self._desk = ProbeDisplay() if offer.draw else _Undrawn()
        self._report: LiveReport | None = None
        self._raised: BaseException | None = None
        # Python 3.11 takes a thread for ended when Ctrl-C interrupts its join().
        self._over = threading.Event()

    def start(self, stop: threading.Event) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, args=(stop,), name="streamseg-stream", daemon=True).start()

    def ended(self, deadline_s: float) -> bool:
        """Wait until it has come to its end, at most until a monotonic time in seconds."""
        return self._over.wait(max(0.0, deadline_s - time.monotonic()))

    @property
    def error(self) -> BaseException | None:
        """What ended it before its time."""
        return self._raised or (None if self._report is None else self._report.error)

    def count(self, *, stopped: bool) -> StreamCount:
        """What became of the counted frames; ``stopped``: before it had come to its end."""
        offer, notes = self._offer, self._desk.ledger.notes(self._source)
        notes += frozen_notes({} if self._report is None else self._report.states)
        if stopped:
            notes.append(
                f"it had not come to its end {offer.stall_s:g} s after its last frame, and was stopped"
            )
        lives = [life for life in self._desk.lives() if life.index >= offer.warm]
        span_ns = max((life.end_ns for life in lives), default=0) - self._counted_from_ns
        return StreamCount(
            offered=max(0, self._source.offered - offer.warm),
            processed=len(lives),
            in_time=sum(life.age_ns <= offer.budget_s * 1e9 for life in lives),
            displayed=sum(life.displayed for life in lives),
            ages_ns=tuple(life.age_ns for life in lives),
            seconds=max(span_ns / 1e9, offer.counted / offer.fps),
            notes=tuple(notes),
        )

    @property
    def _counted_from_ns(self) -> int:
        """When the first counted frame was due."""
        return self._source.first_ns + round(self._offer.warm * 1e9 / self._offer.fps)

    def _run(self, stop: threading.Event) -> None:
        try:
            self._report = LiveLoop(
                self._open,
                self._segmenter,
                LiveOptions(age_budget_s=self._offer.budget_s),
                region=self._region,
                displays=[self._desk],
                observers=[self._desk],
            ).run(stop)
        except BaseException as error:  # raised by who started it
            self._raised = error
        finally:
            self._over.set()

    def _open(self) -> CountedSource:
        time.sleep(max(0.0, (self._begin_ns - time.monotonic_ns()) / 1e9))
        return self._source


class _Undrawn(ProbeDisplay):
    """Where outlines are only used, not looked at."""

    def show(self, view: View) -> None:
        """Nothing to draw."""


def _processor_share(begin_ns: int, seconds: float) -> float | None:
    """Of all cores' time, what this process takes from a monotonic time on for so long."""
    ticks = []
    for moment_ns in (begin_ns, begin_ns + round(seconds * 1e9)):
        time.sleep(max(0.0, (moment_ns - time.monotonic_ns()) / 1e9))
        ticks.append(CpuTimes.now())
    for before, after in pairwise(ticks):
        if before is not None and after is not None and after.elapsed > before.elapsed:
            return min(1.0, (after.own - before.own) / (after.elapsed - before.elapsed))
    return None
