"""Traces each frame from its capture to its end, counting frames where they enter and leave a loop.

The benchmarks count here and do not rely on the loops' own reports: a loop that drops or repeats frames
without saying so shows.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from streamseg.benchmark.clip import Closing
from streamseg.capture import open_source
from streamseg.core.errors import SourceError
from streamseg.core.latency import LatencyRecorder, Percentiles
from streamseg.core.types import Frame, Result, Source, State
from streamseg.core.view import Command, View
from streamseg.render import compose
from streamseg.render.live import LivePainter

Segment = tuple[str, float, float]
"""A stage's name, its begin and its end, milliseconds after the frame's capture."""
QUEUE = "queue"
"""The time between two stages, in which a frame waits for its turn or for room in a queue."""
ORDER = ("decode", "wait", "preprocess", "infer", "postprocess", "overlay", "display", QUEUE)
"""The stages in the order in which a frame passes through them; the waiting between them is last."""


Outcome = TypeVar("Outcome", bound="RunOutcome")


@dataclass(frozen=True, slots=True)
class Span:
    """One stage of a frame, monotonic nanoseconds."""

    stage: str
    begin_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, slots=True)
class FrameTrace:
    """What happened to one frame from its capture (in a file: when it was decoded) to its end."""

    index: int
    captured_ns: int
    spans: tuple[Span, ...]
    """In order, without overlap; ``decode``, if it is one of them, ends at the capture."""
    end_ns: int
    """When the frame was drawn or displayed; if it never was, when its outline was known."""
    displayed: bool = True

    @property
    def age_ns(self) -> int:
        """Nanoseconds from its capture to its end."""
        return self.end_ns - self.captured_ns

    def stages(self) -> dict[str, int]:
        """Nanoseconds by stage. ``queue`` is the rest of its age: all of them together make up the age,
        except ``decode``, which ends when the age begins."""
        found = {span.stage: span.duration_ns for span in self.spans}
        working = sum(duration for stage, duration in found.items() if stage != "decode")
        return {**found, QUEUE: max(0, self.age_ns - working)}

    def segments(self) -> list[Segment]:
        """The trace as a waterfall: from 0 to its age without overlap, every gap a ``queue``.

        To a microsecond; anything shorter is left out.
        """
        found: list[Segment] = []
        reached = self.captured_ns

        def add(stage: str, end_ns: int) -> None:
            nonlocal reached
            begin, end = (round((at - self.captured_ns) / 1e6, 3) for at in (reached, end_ns))
            if end > begin:
                found.append((stage, begin, end))
            reached = max(reached, end_ns)

        for span in self.spans:
            if span.end_ns > reached:
                add(QUEUE, span.begin_ns)
                add(span.stage, span.end_ns)
        add(QUEUE, self.end_ns)
        return found


def spans_of(result: Result) -> list[Span]:
    """The known stages of a result, in the order in which they began.

    ``wait``, the time until the net was free for the frame, begins with the capture.
    """
    captured_ns = result.frame.captured_ns
    began = {"wait": captured_ns, **result.began_ns}
    spans = [
        Span(stage, began[stage], began[stage] + duration)
        for stage, duration in result.stage_ns.items()
        if stage in began
    ]
    # A file's frame is stamped within the stage that decodes it: the rest of that stage belongs to its age.
    spans = [replace(span, end_ns=captured_ns) if span.stage == "decode" else span for span in spans]
    return sorted(spans, key=lambda span: span.begin_ns)


def in_order(stages: Collection[str]) -> list[str]:
    """Names of stages in the order in which a frame passes through them, unknown ones last."""
    known = [stage for stage in ORDER if stage in stages]
    return known + sorted(set(stages) - set(known))


def stages_of(traces: Sequence[FrameTrace]) -> dict[str, Percentiles]:
    """The distribution of every stage over frames, in order, ``queue`` last."""
    found: dict[str, list[int]] = {}
    for trace in traces:
        for stage, duration in trace.stages().items():
            found.setdefault(stage, []).append(duration)
    return {stage: Percentiles.of(found[stage]) for stage in in_order(found)}


def age_of(traces: Sequence[FrameTrace]) -> Percentiles:
    """The distribution of the frames' ages at their ends."""
    return Percentiles.of([trace.age_ns for trace in traces])


def waterfall(traces: Sequence[FrameTrace]) -> dict[str, list[Segment]] | None:
    """The traces of the frames whose ages are nearest to the p50 and the p99; None without frames."""
    if not traces:
        return None
    age = age_of(traces)

    def nearest(age_ms: float) -> FrameTrace:
        return min(traces, key=lambda trace: abs(trace.age_ns / 1e6 - age_ms))

    return {"p50": nearest(age.p50_ms).segments(), "p99": nearest(age.p99_ms).segments()}


def age_over_time(rounds: Sequence[Sequence[FrameTrace]], limit: int = 400) -> list[tuple[float, float]]:
    """Seconds of measuring, one round after the other, and the age in milliseconds.

    Thinned to ``limit`` points: each is the oldest frame of its span of time, so that no stall is lost.
    """
    points: list[tuple[float, float]] = []
    for traces in rounds:
        begin = points[-1][0] if points else 0.0
        origin = min((trace.captured_ns for trace in traces), default=0)
        points += [(begin + (trace.end_ns - origin) / 1e9, trace.age_ns / 1e6) for trace in traces]
    end = max((seconds for seconds, _ in points), default=0.0)
    bins: dict[int, tuple[float, float]] = {}
    for seconds, age in points:
        number = min(limit - 1, int(seconds / end * limit)) if end > 0 else 0
        if number not in bins or age > bins[number][1]:
            bins[number] = seconds, age
    return [(round(seconds, 3), round(age, 3)) for _, (seconds, age) in sorted(bins.items())]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RunOutcome:
    """What happened to the frames of one run."""

    offered: int
    """Frames that the source delivered."""
    traces: tuple[FrameTrace, ...]
    """Of every frame that came out, once each, in that order."""
    fps: float | None
    """(n - 1) / span of the times at which frames came out; None for fewer than two."""
    states: Mapping[State, float]
    """Seconds for which each state was displayed; frames of a replay."""
    notes: tuple[str, ...] = ()
    """What is wrong with the run; empty if nothing is."""

    @property
    def processed(self) -> int:
        """Different frames that came out."""
        return len(self.traces)

    @property
    def dropped(self) -> int:
        """Frames that were offered and did not come out."""
        return max(0, self.offered - self.processed)

    @property
    def age(self) -> Percentiles:
        """From the capture to the end of each frame."""
        return age_of(self.traces)

    @property
    def stages(self) -> dict[str, Percentiles]:
        """By stage."""
        return stages_of(self.traces)

    def __repr__(self) -> str:
        return f"{self.processed} of {self.offered} frames, {self.fps or 0:.1f} frames/s"


def pool(rounds: Sequence[Outcome]) -> Outcome:
    """Several runs of the same thing, at least one, as if they were one; without a rate."""
    states: Counter[State] = Counter()
    for each in rounds:
        states.update(each.states)
    return replace(
        rounds[0],
        offered=sum(each.offered for each in rounds),
        traces=tuple(trace for each in rounds for trace in each.traces),
        fps=None,
        states=dict(states),
        notes=tuple(dict.fromkeys(note for each in rounds for note in each.notes)),
    )


def rate(count: int, first_ns: int | None, last_ns: int | None) -> float | None:
    """Frames per second, (n - 1) / span; None for fewer than two."""
    if first_ns is None or last_ns is None or last_ns <= first_ns:
        return None
    return (count - 1) * 1e9 / (last_ns - first_ns)


class CountedSource(Closing):
    """Counts the frames that another source offers. Implements :class:`streamseg.core.types.Source`."""

    def __init__(self, source: Source) -> None:
        self.info, self.live = source.info, source.live
        self.offered = 0
        """Frames that were taken from it."""
        self.skipped = 0
        """Frames that it left out, by their indices."""
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        """When the first and the newest frame were taken, monotonic."""
        self._source = source

    @property
    def fps(self) -> float | None:
        """Frames offered per second; None for fewer than two."""
        return rate(self.offered, self.first_ns, self.last_ns)

    def __iter__(self) -> Iterator[Frame]:
        following = 0
        for frame in self._source:
            self.skipped += max(0, frame.index - following)
            following = frame.index + 1
            self.last_ns = time.monotonic_ns()
            self.first_ns = self.first_ns or self.last_ns
            self.offered += 1
            yield frame

    def close(self) -> None:
        self._source.close()


class LoopedClip(Closing):
    """Reads a recorded clip from its file again and again, until ``count`` frames were decoded.

    Opening it again is part of reading it. The frames are numbered on. Raises what
    :func:`streamseg.capture.open_source` raises; damage ends a pass through the file, unless no frame
    precedes it.
    """

    live = False

    def __init__(self, uri: str, count: int) -> None:
        self._uri, self._count = uri, count
        self._source = open_source(uri)
        self._lock = threading.Lock()
        self._closed = False
        self.info = self._source.info

    def __iter__(self) -> Iterator[Frame]:
        given = following = 0
        while given < self._count:
            before, first = given, following
            try:
                for frame in self._source:
                    given, following = given + 1, first + frame.index + 1
                    yield frame if first == 0 else replace(frame, index=first + frame.index)
                    if given == self._count:
                        return
            except SourceError:
                if given == before:
                    raise
            if not self._open_again():
                return
            if given == before:
                raise SourceError(f"{self.info.name} holds no frame; give a clip that has some")

    def _open_again(self) -> bool:
        """False if it was closed."""
        with self._lock:
            if not self._closed:
                self._source.close()
                self._source = open_source(self._uri)
            return not self._closed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._source.close()


class FrameLedger:
    """Counts the different frames that come out of a loop, and checks their order."""

    def __init__(self) -> None:
        self.repeated = self.disordered = 0
        self.first_ns: int | None = None
        """When the first came out, monotonic."""
        self.last_ns: int | None = None
        """When the newest came out, monotonic."""
        self._seen: set[int] = set()
        self._last = -1

    @property
    def processed(self) -> int:
        """Different frames that came out."""
        return len(self._seen)

    @property
    def fps(self) -> float | None:
        """Frames per second of the times at which they came out; None for fewer than two."""
        return rate(self.processed, self.first_ns, self.last_ns)

    def came_out(self, index: int, at_ns: int) -> bool:
        """Note that a frame came out; False for one that did before, which does not count."""
        if index in self._seen:
            self.repeated += 1
            return False
        self.disordered += index < self._last
        self._seen.add(index)
        self._last = max(self._last, index)
        self.first_ns = at_ns if self.first_ns is None else self.first_ns
        self.last_ns = at_ns
        return True

    def notes(self, source: CountedSource) -> list[str]:
        """What is wrong with the frames that came out and those that went in."""
        counts = {
            "frames came out twice": self.repeated,
            "frames came out of their order": self.disordered,
            "frames came out that were never offered": sum(index >= source.offered for index in self._seen),
            "frames were left out by the source itself, by their numbers": source.skipped,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]


class ProbeSink:
    """A measuring sink: draws like a video's sink, and keeps only timestamps."""

    name = "overlay"

    def __init__(self) -> None:
        self.ledger = FrameLedger()
        self.traces: list[FrameTrace] = []
        self.states: dict[State, float] = {}
        """Frames by state."""
        self._recorder = LatencyRecorder(window=300)

    def write(self, result: Result) -> None:
        """Draw one frame."""
        began_ns = time.monotonic_ns()
        self._recorder.add(result.stage_ns)
        compose(result, stages=self._recorder.stages(), fps=self._recorder.fps(), full_frame=False)
        ended_ns = time.monotonic_ns()
        if self.ledger.came_out(result.frame.index, ended_ns):
            spans = (*spans_of(result), Span(self.name, began_ns, ended_ns))
            self.traces.append(FrameTrace(result.frame.index, result.frame.captured_ns, spans, ended_ns))
            self.states[result.state] = self.states.get(result.state, 0) + 1

    def close(self) -> None:
        """Nothing to finish."""


class ProbeDisplay:
    """A measuring display: draws like the window, keeps only timestamps, and observes the run."""

    name = "probe"

    def __init__(self, *, draw: bool = True) -> None:
        """``draw`` False shows nothing: for runs whose outlines are used but not displayed."""
        self.ledger = FrameLedger()
        self._painter = LivePainter() if draw else None
        self._known: dict[int, tuple[int, list[Span]]] = {}
        """Capture and stages of the segmented frames, by index."""
        self._shown: dict[int, int] = {}
        """When each outline was displayed first."""

    def show(self, view: View) -> None:
        """Draw the display."""
        if self._painter is not None:
            self._painter.paint(view)

    def poll(self) -> list[Command]:
        """There are no commands."""
        return []

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        """Frames are counted at the source."""

    def on_result(self, result: Result) -> None:
        """A frame's outline is known."""
        index = result.frame.index
        if self.ledger.came_out(index, time.monotonic_ns()):
            self._known[index] = result.frame.captured_ns, spans_of(result)

    def on_view(self, view: View, shown_ns: int) -> None:
        """A view was drawn."""
        if view.segmentation is not None and view.frame is not None:
            self._shown.setdefault(view.frame.index, shown_ns)

    def close(self) -> None:
        """Nothing to release."""

    def traces(self) -> Iterator[FrameTrace]:
        """The trace of each segmented frame, in the order in which they were segmented."""
        for index, (captured_ns, spans) in self._known.items():
            known_ns = spans[-1].end_ns
            shown_ns = self._shown.get(index)
            if shown_ns is None:
                yield FrameTrace(index, captured_ns, tuple(spans), known_ns, displayed=False)
            else:
                display = Span("display", known_ns, shown_ns)
                yield FrameTrace(index, captured_ns, (*spans, display), shown_ns)
