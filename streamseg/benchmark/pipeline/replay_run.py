"""Measures a replay: a clip from its file to drawn outlines, as fast as it goes."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import CountedSource, FrameLedger, LoopedClip, ProbeSink, RunOutcome
from streamseg.core.errors import UsageError
from streamseg.core.types import Sink
from streamseg.pipeline.replay import replay
from streamseg.segmentation.segmenter import Segmenter

STALL_S = 60.0
"""A pipeline from which no frame comes for this long is ended."""


def end_to_end(
    clip: Clip,
    segmenter: Segmenter,
    frames: int,
    *,
    sinks: Sequence[Sink] = (),
    stall_s: float = STALL_S,
) -> RunOutcome:
    """Replay ``frames`` frames of a clip: file, decoding, preprocessing, net, postprocessing, outline drawn.

    Every frame counts, the first ones too: run it once before if the pipeline is to be warm. The clip's
    region replaces the segmenter's. The frame is drawn as for a video, and thrown away; ``sinks`` get every
    frame after that. A clip with fewer frames is read again. Raises UsageError for fewer than one frame and
    what the loop raises; a run without a frame for ``stall_s`` seconds is ended by the loop's error.
    """
    if frames < 1:
        raise UsageError(f"a pipeline cannot be measured on {frames} frames; give 1 or more")
    placed = copy.copy(segmenter)
    placed.roi = clip.roi
    probe = ProbeSink()
    stop = threading.Event()
    with (
        CountedSource(LoopedClip(clip.uri, frames)) as source,
        _stopped_on_stall(probe.ledger, stop, stall_s),
    ):
        report = replay(source, placed, [probe, *sinks], stop=stop)
    came_out = len(probe.traces)
    notes = probe.ledger.notes(source)
    if missing := source.offered - came_out:
        notes.append(f"{missing} frames of a file were dropped")
    if report.frames != came_out:
        notes.append(f"the loop reports {report.frames} frames, {came_out} came out")
    return RunOutcome(
        offered=source.offered,
        traces=tuple(probe.traces),
        fps=probe.ledger.fps,
        states=dict(probe.states),
        notes=tuple(notes),
    )


@contextmanager
def _stopped_on_stall(ledger: FrameLedger, stop: threading.Event, stall_s: float) -> Iterator[None]:
    """Set ``stop`` when no frame comes out for ``stall_s`` seconds: the loop then names the stage that
    hangs."""
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
