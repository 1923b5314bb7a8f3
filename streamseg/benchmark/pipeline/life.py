"""One frame's life: what was done with it when, and for how long it only waited."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from streamseg.core.latency import Percentiles
from streamseg.core.types import Result

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
class Life:
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


def stages_of(lives: Sequence[Life]) -> dict[str, Percentiles]:
    """Distribution of every stage over frames, in the order of a frame's life, ``queue`` last."""
    found: dict[str, list[int]] = {}
    for life in lives:
        for stage, duration in life.stages().items():
            found.setdefault(stage, []).append(duration)
    return {stage: Percentiles.of(found[stage]) for stage in in_order(found)}


def ages_of(lives: Sequence[Life]) -> list[int]:
    """Age of every frame at its end, nanoseconds."""
    return [life.age_ns for life in lives]


def waterfall(lives: Sequence[Life]) -> dict[str, list[Segment]] | None:
    """The life of the frame whose age is nearest to the p50, and to the p99, of all; None without frames."""
    if not lives:
        return None
    ages = Percentiles.of(ages_of(lives))

    def nearest(age_ms: float) -> Life:
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
