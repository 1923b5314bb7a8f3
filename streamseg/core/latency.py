"""Times per stage and frame rate, on the monotonic clock.

A :class:`StageClock` belongs to one frame and collects nanoseconds per stage. A
:class:`LatencyRecorder` collects the frames: percentiles per stage (linear interpolation between the
order statistics, as numpy does) and the rate, (n - 1) / span of n completion times. Nothing is
clipped, no outlier is removed, no warm-up is left out: to leave one out, start a recorder later.

A run that lasts for days must not fill the memory: above :data:`MAX_EXACT` frames :class:`Durations` stores
how many fall into each of some thousand intervals, and its percentiles are within 0.5 % of the exact ones.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

MAX_EXACT = 20_000
"""Number of durations that are stored as they are: eleven minutes at 30 fps."""
_GROWTH = 1.01
"""Each interval of a histogram ends at this multiple of its beginning, so its middle is 0.5 % from both."""
REFRESH_NS = 250_000_000
"""A windowed recorder recomputes its percentiles when the last ones are older than this."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Distribution of one stage's times, milliseconds."""

    count: int
    """Number of frames; 0 leaves the others NaN."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, durations_ns: array[int] | deque[int] | list[int]) -> Percentiles:
        """Percentiles of durations in nanoseconds."""
        if not durations_ns:
            return cls(0, *[float("nan")] * 4)
        values = np.array(durations_ns, np.float64) / 1e6
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        return cls(len(values), float(p50), float(p95), float(p99), float(values.max()))

    def to_json(self) -> dict[str, float]:
        """p50, p95, p99 and max in milliseconds, to a microsecond."""
        return {key: round(getattr(self, f"{key}_ms"), 3) for key in ("p50", "p95", "p99", "max")}


class Durations:
    """Any number of durations in bounded memory: exact at first, then a histogram of logarithmic intervals.

    Count and maximum are always exact. Up to :data:`MAX_EXACT` durations percentiles are exact, too; beyond,
    each is within 0.5 % of an order statistic at its rank (a sketch with relative-error guarantees, as in
    DDSketch: Masson, Rim and Lee, VLDB 2019). The histogram has an entry for each interval that occurred: at
    most 2,700 between a microsecond and a week. Shorter and negative ones share one. For one thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self._exact: array[int] | None = array("q")
        self._histogram: Counter[int] = Counter()
        self._max_ns = 0

    def append(self, duration_ns: int) -> None:
        """Add a duration in nanoseconds."""
        self._max_ns = duration_ns if self.count == 0 else max(self._max_ns, duration_ns)
        self.count += 1
        if self._exact is None:
            self._histogram[_interval(duration_ns)] += 1
            return
        self._exact.append(duration_ns)
        if self.count > MAX_EXACT:
            self._histogram.update(map(_interval, self._exact))
            self._exact = None

    def percentiles(self) -> Percentiles:
        """Percentiles of all durations so far."""
        if self._exact is not None:
            return Percentiles.of(self._exact)
        intervals = sorted(self._histogram)
        ends = np.cumsum([self._histogram[number] for number in intervals])
        middles = np.minimum([_middle_ns(number) for number in intervals], self._max_ns) / 1e6
        ranks = np.array((50, 95, 99)) / 100 * (self.count - 1)
        p50, p95, p99 = (float(middles[np.searchsorted(ends, rank, side="right")]) for rank in ranks)
        return Percentiles(self.count, p50, p95, p99, self._max_ns / 1e6)


def _interval(duration_ns: int) -> int:
    return 0 if duration_ns < 1000 else 1 + int(math.log(duration_ns / 1000) / math.log(_GROWTH))


def _middle_ns(interval: int) -> float:
    """A value that is within 0.5 % of all durations of an interval; of the shortest, half a microsecond."""
    return 500.0 if interval == 0 else 1000 * _GROWTH ** (interval - 1) * 2 * _GROWTH / (1 + _GROWTH)


class StageClock:
    """Collects, for one frame, the nanoseconds spent in each stage. Used by one thread at a time."""

    __slots__ = ("began_ns", "stage_ns")

    def __init__(self) -> None:
        self.stage_ns: dict[str, int] = {}
        """Nanoseconds per stage, in the order in which the stages first ran."""
        self.began_ns: dict[str, int] = {}
        """Monotonic nanoseconds at which each stage first began; without stages measured elsewhere."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside the ``with`` block to a stage, also when the block raises."""
        start = time.monotonic_ns()
        self.began_ns.setdefault(name, start)
        try:
            yield
        finally:
            self.add(name, time.monotonic_ns() - start)

    def add(self, name: str, duration_ns: int) -> None:
        """Add a duration that was measured elsewhere."""
        self.stage_ns[name] = self.stage_ns.get(name, 0) + duration_ns


class LatencyRecorder:
    """Stage times of many frames. Safe to use from several threads.

    With ``window=None`` every frame counts (see :class:`Durations` for the accuracy) and every call of
    :meth:`stages` recomputes: for the final table. With a window only the newest frames count and
    :meth:`stages` answers from a copy at most ``REFRESH_NS`` old: for a display that asks on every frame.
    """

    def __init__(self, window: int | None = None) -> None:
        if window is not None and window < 2:
            raise ValueError(f"a window holds at least 2 frames to have a rate, received {window}")
        self._window = window
        self._durations: dict[str, Durations | deque[int]] = {}
        self._ends: deque[int] = deque(maxlen=window or 2)
        self._first_ns: int | None = None
        self._count = 0
        self._copy: dict[str, Percentiles] = {}
        self._copied_ns: int | None = None
        self._lock = threading.Lock()

    def add(self, stage_ns: Mapping[str, int], at_ns: int | None = None) -> None:
        """Add one frame: its nanoseconds per stage, and when it was complete (monotonic; None is now)."""
        at_ns = time.monotonic_ns() if at_ns is None else at_ns
        with self._lock:
            for name, duration_ns in stage_ns.items():
                if name not in self._durations:
                    self._durations[name] = (
                        Durations() if self._window is None else deque(maxlen=self._window)
                    )
                self._durations[name].append(duration_ns)
            self._first_ns = at_ns if self._first_ns is None else self._first_ns
            self._ends.append(at_ns)
            self._count += 1

    def stages(self) -> dict[str, Percentiles]:
        """Percentiles per stage, in the order in which the stages were first seen."""
        with self._lock:
            now = time.monotonic_ns()
            fresh = self._copied_ns is not None and now - self._copied_ns < REFRESH_NS
            if self._window is None or not fresh:
                self._copy = {
                    name: values.percentiles() if isinstance(values, Durations) else Percentiles.of(values)
                    for name, values in self._durations.items()
                }
                self._copied_ns = now if self._copy else None
            return dict(self._copy)

    def fps(self) -> float | None:
        """Frames per second, (n - 1) / span; None before two frames at different times were added."""
        with self._lock:
            if self._count < 2 or self._first_ns is None:
                return None
            whole = self._window is None
            start = self._first_ns if whole else self._ends[0]
            intervals = (self._count if whole else len(self._ends)) - 1
            span = self._ends[-1] - start
            return intervals * 1e9 / span if span > 0 else None

    @property
    def count(self) -> int:
        """Number of frames added, including those that have left the window."""
        return self._count
