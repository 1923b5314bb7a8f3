"""The ends of a pipeline that is measured: they do the work of a display or a video, and keep only times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from streamseg.benchmark.pipeline.counting import Ledger
from streamseg.benchmark.pipeline.life import Life, Span, spans_of
from streamseg.core.latency import LatencyRecorder
from streamseg.core.types import Frame, Result, State
from streamseg.core.view import Command, View
from streamseg.render import compose
from streamseg.render.live import LivePainter


class DrawnOverlay:
    """Draws as a video's sink does, and throws the picture away."""

    name = "overlay"

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.lives: list[Life] = []
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
            self.lives.append(Life(result.frame.index, result.frame.captured_ns, spans, ended_ns))
            self.states[result.state] = self.states.get(result.state, 0) + 1

    def close(self) -> None:
        """Nothing to finish."""


class Desk:
    """A display that draws and throws away, and a tap that remembers what became of each frame."""

    name = "nobody"

    def __init__(self) -> None:
        self.ledger = Ledger()
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

    def lives(self) -> Iterator[Life]:
        """What became of each segmented frame, in the order in which they were."""
        for index, (captured_ns, spans) in self._known.items():
            known_ns = spans[-1].end_ns
            shown_ns = self._shown.get(index)
            if shown_ns is None:
                yield Life(index, captured_ns, tuple(spans), known_ns, displayed=False)
            else:
                display = Span("display", known_ns, shown_ns)
                yield Life(index, captured_ns, (*spans, display), shown_ns)


def frozen_notes(states: Mapping[State, float]) -> list[str]:
    """That the clip stood still, told from the seconds for which each state was displayed: outlines that were
    not shown for that say nothing about the machine."""
    if not states.get(State.FROZEN):
        return []
    return ["the clip stood still: displays showed a frozen scanner without an outline; give one that moves"]
