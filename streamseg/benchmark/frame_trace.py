"""One frame's life: what was done with it when, and for how long it only waited."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from streamseg.capture import open_source
from streamseg.core.errors import SourceError
from streamseg.core.latency import LatencyRecorder, Percentiles
from streamseg.core.types import Frame, Result, Source, State
from streamseg.core.view import Command, View
from streamseg.render import compose
from streamseg.render.live import LivePainter

Segment = list[str | float]
"""A stage's name, and when it began and ended, milliseconds after the frame's capture."""
QUEUE = "queue"
"""What a frame waits for between two stages: for its turn, or for room in a pipe."""
ORDER = ("decode", "wait", "preprocess", "infer", "postprocess", "overlay", "display", QUEUE)
"""Stages in the order of a frame's life, and what lies between them."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stage of a frame's life, monotonic nanoseconds."""

    stage: str
    begin_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, slots=True)
class FrameTrace:
    """What became of one frame, from its capture (of a file: when it was decoded) to its end."""

    index: int
    captured_ns: int
    spans: tuple[Span, ...]
    """In order, without overlap; ``decode``, where it is one of them, ends at the capture."""
    end_ns: int
    """When it was drawn or displayed; where that never happened, when its outline was known."""
    displayed: bool = True

    @property
    def age_ns(self) -> int:
        """Nanoseconds from its capture to its end."""
        return self.end_ns - self.captured_ns

    def stages(self) -> dict[str, int]:
        """Nanoseconds by stage; ``queue`` is what is left of its age: together they are all of it, but for
        ``decode``, which is over when it begins."""
        found = {span.stage: span.duration_ns for span in self.spans}
        working = sum(duration for stage, duration in found.items() if stage != "decode")
        return {**found, QUEUE: max(0, self.age_ns - working)}

    def segments(self) -> list[Segment]:
        """Its life as a waterfall: begins at 0, ends at its age, every gap is a ``queue``, nothing overlaps.

        To a microsecond; what is shorter is left out.
        """
        found: list[Segment] = []
        reached = self.captured_ns

        def add(stage: str, end_ns: int) -> None:
            nonlocal reached
            begin, end = (round((at - self.captured_ns) / 1e6, 3) for at in (reached, end_ns))
            if end > begin:
                found.append([stage, begin, end])
            reached = max(reached, end_ns)

        for span in self.spans:
            if span.end_ns > reached:
                add(QUEUE, span.begin_ns)
                add(span.stage, span.end_ns)
        add(QUEUE, self.end_ns)
        return found


def spans_of(result: Result) -> list[Span]:
    """The stages of a result that are known, in the order in which they began.

    ``wait``, the time from the capture until somebody was free for the frame, begins with the capture.
    """
    captured_ns = result.frame.captured_ns
    began = {"wait": captured_ns, **result.began_ns}
    spans = [
        Span(stage, began[stage], began[stage] + duration)
        for stage, duration in result.stage_ns.items()
        if stage in began
    ]
    # A file's frame is stamped within the stage that decodes it: what follows there belongs to its age.
    spans = [
        Span(span.stage, span.begin_ns, captured_ns) if span.stage == "decode" else span for span in spans
    ]
    return sorted(spans, key=lambda span: span.begin_ns)


def in_order(stages: Collection[str]) -> list[str]:
    """Names of stages in the order of a frame's life, unknown ones last."""
    known = [stage for stage in ORDER if stage in stages]
    return known + sorted(set(stages) - set(known))


def stages_of(lives: Sequence[FrameTrace]) -> dict[str, Percentiles]:
    """Distribution of every stage over frames, in the order of a frame's life, ``queue`` last."""
    found: dict[str, list[int]] = {}
    for life in lives:
        for stage, duration in life.stages().items():
            found.setdefault(stage, []).append(duration)
    return {stage: Percentiles.of(found[stage]) for stage in in_order(found)}


def ages_of(lives: Sequence[FrameTrace]) -> list[int]:
    """Age of every frame at its end, nanoseconds."""
    return [life.age_ns for life in lives]


def waterfall(lives: Sequence[FrameTrace]) -> dict[str, list[Segment]] | None:
    """The life of the frame whose age is nearest to the p50, and to the p99, of all; None without frames."""
    if not lives:
        return None
    ages = Percentiles.of(ages_of(lives))

    def nearest(age_ms: float) -> FrameTrace:
        return min(lives, key=lambda life: abs(life.age_ns / 1e6 - age_ms))

    return {"p50": nearest(ages.p50_ms).segments(), "p99": nearest(ages.p99_ms).segments()}


def over_time(points: Sequence[tuple[float, float]], most: int = 400) -> list[list[float]]:
    """(seconds, age in milliseconds) thinned to ``most`` points: the oldest frame of each bin, so that
    no stall is lost."""
    if not points:
        return []
    end = max(seconds for seconds, _ in points)
    bins: dict[int, tuple[float, float]] = {}
    for seconds, age in points:
        number = min(most - 1, int(seconds / end * most)) if end > 0 else 0
        if number not in bins or age > bins[number][1]:
            bins[number] = seconds, age
    return [[round(seconds, 3), round(age, 3)] for _, (seconds, age) in sorted(bins.items())]


class CountedSource:
    """Another source, and how many frames it has offered. Implements :class:`streamseg.core.types.Source`."""

    def __init__(self, source: Source) -> None:
        self.info, self.live = source.info, source.live
        self.offered = 0
        """Frames that were taken from it."""
        self.skipped = 0
        """Frames that it left out, by its own numbers."""
        self.first_ns = self.last_ns = 0
        """When the first and the newest frame were taken, monotonic."""
        self._source = source

    @property
    def fps(self) -> float | None:
        """Frames per second that it has offered, (n - 1) / span; None below two."""
        span = self.last_ns - self.first_ns
        return (self.offered - 1) * 1e9 / span if self.offered > 1 and span > 0 else None

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class LoopedClip:
    """A recorded clip from its file, again and again: decoding goes on for as long as is asked for.

    Opening it again is part of reading it. The frames are numbered on. Raises what
    :func:`streamseg.capture.open_source` raises; damage ends a turn, unless nothing comes before it.
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
        """False: it was closed."""
        with self._lock:
            if not self._closed:
                self._source.close()
                self._source = open_source(self._uri)
            return not self._closed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class FrameLedger:
    """What comes out of a loop: how many different frames, and whether in order."""

    def __init__(self) -> None:
        self.repeated = self.disordered = 0
        self._seen: set[int] = set()
        self._last = -1
        self._times = array("q")

    @property
    def processed(self) -> int:
        """Different frames that came out."""
        return len(self._seen)

    @property
    def last_ns(self) -> int | None:
        """When the newest came out, monotonic."""
        return self._times[-1] if self._times else None

    @property
    def fps(self) -> float | None:
        """Frames per second, (n - 1) / span of the times at which they came out; None below two."""
        if len(self._times) < 2 or self._times[-1] == self._times[0]:
            return None
        return (len(self._times) - 1) * 1e9 / (self._times[-1] - self._times[0])

    def came_out(self, index: int, at_ns: int) -> bool:
        """A frame came out; False for one that did before, which does not count."""
        if index in self._seen:
            self.repeated += 1
            return False
        self.disordered += index < self._last
        self._seen.add(index)
        self._last = max(self._last, index)
        self._times.append(at_ns)
        return True

    def notes(self, source: CountedSource) -> list[str]:
        """What is wrong with what came out, and with what went in."""
        told = {
            "frames came out twice": self.repeated,
            "frames came out of their order": self.disordered,
            "frames came out that were never offered": sum(index >= source.offered for index in self._seen),
            "frames were left out by the source itself, by their numbers": source.skipped,
        }
        return [f"{count} {what}" for what, count in told.items() if count]


class ProbeSink:
    """Draws as a video's sink does, and throws the picture away."""

    name = "overlay"

    def __init__(self) -> None:
        self.ledger = FrameLedger()
        self.lives: list[FrameTrace] = []
        self.states: dict[State, int] = {}
        self._recorder = LatencyRecorder(window=300)

    def write(self, result: Result) -> None:
        """Draw one frame."""
        began_ns = time.monotonic_ns()
        self._recorder.add(result.stage_ns)
        compose(result, stages=self._recorder.stages(), fps=self._recorder.fps(), full_frame=False)
        ended_ns = time.monotonic_ns()
        if self.ledger.came_out(result.frame.index, ended_ns):
            spans = (*spans_of(result), Span(self.name, began_ns, ended_ns))
            self.lives.append(FrameTrace(result.frame.index, result.frame.captured_ns, spans, ended_ns))
            self.states[result.state] = self.states.get(result.state, 0) + 1

    def close(self) -> None:
        """Nothing to finish."""


class ProbeDisplay:
    """A display that draws and throws away, and a tap that remembers what became of each frame."""

    name = "nobody"

    def __init__(self) -> None:
        self.ledger = FrameLedger()
        self._painter = LivePainter()
        self._known: dict[int, tuple[int, list[Span]]] = {}
        """Capture and stages of the segmented frames, by index."""
        self._shown: dict[int, int] = {}
        """When each outline was displayed first."""

    def show(self, view: View) -> None:
        """Draw what people would see."""
        self._painter.paint(view)

    def poll(self) -> list[Command]:
        """Nobody asks for anything."""
        return []

    def on_frame(self, frame: Frame, arrived_ns: int) -> None:
        """Counted at the source."""

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

    def lives(self) -> Iterator[FrameTrace]:
        """What became of each segmented frame, in the order in which they were."""
        for index, (captured_ns, spans) in self._known.items():
            known_ns = spans[-1].end_ns
            shown_ns = self._shown.get(index)
            if shown_ns is None:
                yield FrameTrace(index, captured_ns, tuple(spans), known_ns, displayed=False)
            else:
                display = Span("display", known_ns, shown_ns)
                yield FrameTrace(index, captured_ns, (*spans, display), shown_ns)


def frozen_notes(states: Mapping[State, float]) -> list[str]:
    """That the clip stood still, told from the seconds for which each state was displayed: outlines that were
    not shown for that say nothing about the machine."""
    if not states.get(State.FROZEN):
        return []
    return ["the clip stood still: displays showed a frozen scanner without an outline; give one that moves"]
