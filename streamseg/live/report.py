"""The figures of a live run: counts, ages and seconds per state."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamseg.core.files import finite
from streamseg.core.latency import Durations, LatencyRecorder, Percentiles
from streamseg.core.types import Result, State
from streamseg.core.view import Figures, View

FIGURES_EVERY_NS = 250_000_000
"""How often the figures on the display change."""
WINDOW = 120
"""Number of newest frames that the figures on the display are computed from."""


@dataclass(frozen=True, slots=True)
class LiveReport:
    """The figures of a whole live run."""

    offered: int
    """Frames that the source delivered."""
    processed: int
    """Frames that were segmented."""
    dropped: int
    """Frames that were not segmented: a newer one came first, or the run ended."""
    reconnects: int
    """Times that the source was opened again after it had delivered frames."""
    seconds: float
    age: Percentiles
    """Per segmented frame, from its capture until it was displayed; if it came too late for that, until its
    outline was known."""
    stages: Mapping[str, Percentiles]
    """wait (from the capture until the net was free for it), preprocess, infer, postprocess."""
    states: Mapping[State, float]
    """Seconds for which each state was displayed."""
    stopped: bool
    """True if ``stop`` ended the run, not the end of the source or of the requested time."""
    error: BaseException | None = None
    """The cause of a premature end, else None."""
    notes: tuple[str, ...] = ()
    """What was noticed about the source's clock, a line each."""
    outlined: Mapping[str, int] = field(default_factory=dict)
    """Segmented frames with an outline of a structure, by its name, for each that the engine outlines."""

    def to_json(self) -> dict[str, Any]:
        """Strings, numbers and dicts; times in milliseconds, unknown ones null."""
        found: dict[str, Any] = finite(
            {
                "offered": self.offered,
                "processed": self.processed,
                "dropped": self.dropped,
                "reconnects": self.reconnects,
                "seconds": round(self.seconds, 3),
                "offered_fps": round(self.offered / self.seconds, 3) if self.seconds else None,
                "processed_fps": round(self.processed / self.seconds, 3) if self.seconds else None,
                "age_ms": self.age.to_json(),
                "stages_ms": {name: times.to_json() for name, times in self.stages.items()},
                "states": {str(state): round(seconds, 3) for state, seconds in self.states.items()},
                "outlined": dict(self.outlined),
                "error": None if self.error is None else str(self.error),
                **({"notes": list(self.notes)} if self.notes else {}),
            }
        )
        return found


class LiveStatistics:
    """Counts during a run. ``on_result`` is called by one thread, the rest by the display's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started_ns = time.monotonic_ns()
        self._ages = Durations()
        self._recent_ages = LatencyRecorder(window=WINDOW)
        self._stages = LatencyRecorder()
        self._recent = LatencyRecorder(window=WINDOW)
        self._counts: list[tuple[int, int, int]] = []
        """Time, frames offered, frames segmented: the last two seconds or so."""
        self._states: Counter[State] = Counter()
        self._outlined: Counter[str] = Counter()
        self._state: tuple[State, int] | None = None
        self._waiting: tuple[int, int] | None = None
        """Index and age of the newest segmented frame that is not displayed yet."""

    def on_result(self, result: Result, now_ns: int) -> None:
        """A frame was segmented."""
        with self._lock:
            self._count_waiting()
            self._waiting = result.frame.index, now_ns - result.frame.captured_ns
            for name, structure in result.segmentation.structures.items():
                self._outlined[name] += bool(structure.contours)
        self._stages.add(result.stage_ns, now_ns)
        self._recent.add(result.stage_ns, now_ns)

    def on_view(self, view: View, shown_ns: int) -> None:
        """A view was displayed at this moment; its state lasts until the next."""
        if self._state is not None:
            self._states[self._state[0]] += shown_ns - self._state[1]
        self._state = view.state, shown_ns
        with self._lock:
            if view.segmentation is None or view.frame is None or self._waiting is None:
                return
            if self._waiting[0] == view.frame.index:
                self._waiting = view.frame.index, shown_ns - view.frame.captured_ns
                self._count_waiting()

    def _count_waiting(self) -> None:
        if self._waiting is not None:
            self._ages.append(self._waiting[1])
            self._recent_ages.add({"age": self._waiting[1]})
            self._waiting = None

    def figures(
        self, offered: int, dropped: int, reconnects: int, *, clock: str, recording: str | None
    ) -> Figures:
        """The figures for the display."""
        now_ns = time.monotonic_ns()
        processed = self._stages.count
        self._counts = [*self._counts, (now_ns, offered, processed)][-9:]
        began_ns, offered_before, processed_before = self._counts[0]
        # Over time, not over frames: the rates of a lost source have to fall.
        span_s = (now_ns - began_ns) / 1e9
        return Figures(
            offered=offered,
            processed=processed,
            dropped=dropped,
            reconnects=reconnects,
            offered_fps=(offered - offered_before) / span_s if span_s else None,
            processed_fps=(processed - processed_before) / span_s if span_s else None,
            age=self._recent_ages.stages().get("age"),
            stages=self._recent.stages(),
            recording=recording,
            clock=clock,
        )

    def report(
        self,
        offered: int,
        reconnects: int,
        *,
        stopped: bool,
        error: BaseException | None,
        notes: tuple[str, ...] = (),
    ) -> LiveReport:
        """The figures of the whole run."""
        now_ns = time.monotonic_ns()
        if self._state is not None:
            self._states[self._state[0]] += now_ns - self._state[1]
            self._state = None
        with self._lock:
            self._count_waiting()
            outlined = dict(self._outlined)
        processed = self._stages.count
        return LiveReport(
            offered=offered,
            processed=processed,
            dropped=offered - processed,
            reconnects=reconnects,
            seconds=(now_ns - self._started_ns) / 1e9,
            age=self._ages.percentiles(),
            stages=self._stages.stages(),
            states={state: total / 1e9 for state, total in self._states.items()},
            stopped=stopped,
            error=error,
            notes=notes,
            outlined=outlined,
        )
