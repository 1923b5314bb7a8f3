"""What the whole pipeline does with a clip: saturated from its file, or live at a pace.

What is offered is counted at the source and what is processed where it comes out, here and not by the loop:
one that drops or repeats frames in silence shows. Every frame counts, the first ones too: who wants a warm
pipeline runs it once before.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from streamseg.benchmark.clip import Clip, FrameSource
from streamseg.benchmark.frame_trace import (
    CountedSource,
    FrameLedger,
    FrameTrace,
    LoopedClip,
    ProbeDisplay,
    ProbeSink,
    ages_of,
    frozen_notes,
    stages_of,
)
from streamseg.capture.paced import PacedSource
from streamseg.capture.screen.region import ImageRegion
from streamseg.core.errors import UsageError
from streamseg.core.latency import Percentiles
from streamseg.core.types import Sink, State
from streamseg.live import LiveLoop, LiveOptions, LiveReport
from streamseg.pipeline.replay import replay
from streamseg.segmentation.segmenter import Segmenter

STALL_S = 60.0
"""A pipeline that gives nothing for so long is ended."""
GRACE_S = 5.0
"""A live run that has not ended so long after its last frame was due is ended."""
OFFERED_SHARE = 0.98
"""A source that offers less than this share of its pace has not kept it, which is told."""


@dataclass(frozen=True, slots=True, repr=False)
class EndToEnd:
    """A clip from its file to drawn outlines, as fast as it goes."""

    offered: int
    """Frames that were read from the file."""
    processed: int
    """Different frames that came out, with their outline drawn."""
    dropped: int
    """Frames that were offered and did not come out."""
    fps: float | None
    """(n - 1) / span of the times at which they came out; None below two."""
    seconds: float
    """From the opened file until everything was closed."""
    stages: Mapping[str, Percentiles]
    """decode, preprocess, infer, postprocess, overlay, and what frames wait for between them: queue."""
    age: Percentiles
    """From the decoded frame until its outline was drawn."""
    ages_ns: tuple[int, ...]
    """Every frame's, in the order in which they came out."""
    states: Mapping[State, int]
    """Frames by state."""
    lives: tuple[FrameTrace, ...]
    notes: tuple[str, ...]
    """What is wrong with it; empty where nothing is."""

    def __repr__(self) -> str:
        return f"EndToEnd({self.processed} of {self.offered} frames, {self.fps or 0:.1f} a second)"


@dataclass(frozen=True, slots=True, repr=False)
class Paced:
    """A live run at a pace."""

    fps: float
    """Frames per second that were to be offered."""
    offered: int
    """Frames that the source delivered."""
    processed: int
    """Different frames that were segmented."""
    dropped: int
    """Frames that were not."""
    processed_fps: float | None
    """(n - 1) / span of the times at which outlines were known; None below two."""
    seconds: float
    age: Percentiles
    """Per segmented frame, from its capture until it was displayed; where it came too late for that, until
    its outline was known."""
    stages: Mapping[str, Percentiles]
    """wait (until the net was free), preprocess, infer, postprocess, display (from the outline known until
    displayed, for those that were), and what is left of the age: queue."""
    within_budget: float
    """Share of the processed frames that were displayed within the budget; 0 without any."""
    ages: tuple[tuple[float, float], ...]
    """Per segmented frame: seconds since the start when it came to its end, and its age in milliseconds."""
    states: Mapping[State, float]
    """Seconds for which each state was displayed."""
    lives: tuple[FrameTrace, ...]
    notes: tuple[str, ...]
    """What is wrong with it; empty where nothing is."""

    def __repr__(self) -> str:
        return f"Paced({self.fps:g} fps: {self.processed} of {self.offered} frames)"


def end_to_end(
    clip: Clip,
    segmenter: Segmenter,
    frames: int,
    *,
    sinks: Sequence[Sink] = (),
    stall_s: float = STALL_S,
) -> EndToEnd:
    """Replay ``frames`` frames of a clip: file, decoding, preprocessing, net, postprocessing, outline drawn.

    The clip's ROI replaces the segmenter's. The picture is drawn as a video's is, and thrown away; ``sinks``
    get every frame as well, after that. A clip with fewer frames is read again. Raises UsageError for less
    than one frame and what the loop raises; one that gives nothing for ``stall_s`` is ended by its error.
    """
    if frames < 1:
        raise UsageError(f"a pipeline cannot be measured on {frames} frames; give 1 or more")
    placed = copy.copy(segmenter)
    placed.roi = clip.roi
    overlay = ProbeSink()
    stop = threading.Event()
    with CountedSource(LoopedClip(clip.uri, frames)) as source, _watched(overlay.ledger, stop, stall_s):
        started = time.monotonic_ns()
        report = replay(source, placed, [overlay, *sinks], stop=stop)
        seconds = (time.monotonic_ns() - started) / 1e9
    ledger, lives = overlay.ledger, tuple(overlay.lives)
    notes = ledger.notes(source)
    if missing := source.offered - ledger.processed:
        notes.append(f"{missing} frames of a file were dropped")
    if report.frames != ledger.processed:
        notes.append(f"the loop reports {report.frames} frames, {ledger.processed} came out")
    ages = ages_of(lives)
    return EndToEnd(
        offered=source.offered,
        processed=ledger.processed,
        dropped=max(0, missing),
        fps=ledger.fps,
        seconds=seconds,
        stages=stages_of(lives),
        age=Percentiles.of(ages),
        ages_ns=tuple(ages),
        states=dict(overlay.states),
        lives=lives,
        notes=tuple(notes),
    )


def paced(clip: Clip, segmenter: Segmenter, fps: float, seconds: float, *, budget_s: float = 0.15) -> Paced:
    """Offer a clip's frames from memory for so long, at this pace, to the live loop.

    Its display draws the picture that people would see, at its natural size, and throws it away. The clip's
    ROI replaces the segmenter's. Raises UsageError for an impossible pace or time, and what ends the run.
    """
    count = round(fps * seconds) if 0 < fps < float("inf") and 0 < seconds < float("inf") else 0
    if count < 1:
        raise UsageError(f"no frame comes at {fps:g} per second for {seconds:g} s; give more of either")
    source = CountedSource(PacedSource(FrameSource(clip.frames, fps, count)))
    limit_s = count / fps + GRACE_S
    desk = ProbeDisplay()
    started_ns = time.monotonic_ns()
    loop = LiveLoop(
        lambda: source,
        segmenter,
        LiveOptions(age_budget_s=budget_s, seconds=limit_s),
        region=ImageRegion(clip.roi),
        displays=[desk],
        observers=[desk],
    )
    report = loop.run(threading.Event())
    seconds_taken = (time.monotonic_ns() - started_ns) / 1e9
    if report.error is not None:
        raise report.error
    lives = tuple(desk.lives())
    in_time = sum(life.displayed and life.age_ns <= budget_s * 1e9 for life in lives)
    return Paced(
        fps=fps,
        offered=source.offered,
        processed=len(lives),
        dropped=max(0, source.offered - len(lives)),
        processed_fps=desk.ledger.fps,
        seconds=seconds_taken,
        age=Percentiles.of(ages_of(lives)),
        stages=stages_of(lives),
        within_budget=in_time / len(lives) if lives else 0.0,
        ages=tuple(((life.end_ns - started_ns) / 1e9, life.age_ns / 1e6) for life in lives),
        states=report.states,
        lives=lives,
        notes=(
            *desk.ledger.notes(source),
            *_paced_notes(source, fps, count, over=seconds_taken < limit_s),
            *_reported(report, source, lives),
            *frozen_notes(report.states),
        ),
    )


def _paced_notes(source: CountedSource, fps: float, count: int, *, over: bool) -> list[str]:
    """What is wrong with how frames were offered, and with the run's end: ``over`` is True where it came in
    time."""
    notes = []
    if source.offered < count:
        notes.append(f"the run ended after {source.offered} of {count} frames")
    if not over:
        notes.append(f"the run did not end within {GRACE_S:g} s after its last frame, and was ended")
    if (real := source.fps) is not None and real < OFFERED_SHARE * fps:
        notes.append(f"frames were offered at {real:.1f} per second, not {fps:g}: the source was held up")
    return notes


def _reported(report: LiveReport, source: CountedSource, lives: Sequence[FrameTrace]) -> list[str]:
    """Where the loop's own report says something else than what was counted."""
    if (report.offered, report.processed) == (source.offered, len(lives)):
        return []
    return [
        f"the loop reports {report.offered} frames offered and {report.processed} segmented, "
        f"{source.offered} were offered and {len(lives)} came out"
    ]


@contextmanager
def _watched(ledger: FrameLedger, stop: threading.Event, stall_s: float) -> Iterator[None]:
    """Set ``stop`` when nothing comes out for so long: the loop then names the stage that hangs."""
    over = threading.Event()
    started_ns = time.monotonic_ns()

    def watch() -> None:
        while not over.wait(min(1.0, stall_s / 4)):
            if time.monotonic_ns() - (ledger.last_ns or started_ns) > stall_s * 1e9:
                stop.set()
                return

    thread = threading.Thread(target=watch, name="streamseg-bench-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
