"""Times variants of the same work against one another, interleaved, so that a machine that is slower for a
while is slower for all of them.

A round runs a block of calls of each variant; every other round goes through them backwards. Before a block
may come calls that do not count (``lead_in``): they bring the variant's data back into the caches and let the
other variants' worker threads fall asleep. All that count are kept, none is clipped or left out, and who
reports a ratio takes it within each round.
"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from streamseg.core.errors import StallError
from streamseg.core.latency import Percentiles

STOPPED = "the benchmark was stopped before this was done"
"""Why something is absent after Ctrl-C."""
Call = Callable[[], object]
Counts = int | Mapping[str, int]
"""One number for all variants, or one by name."""


@dataclass(frozen=True, slots=True, repr=False)
class Timing:
    """How long each counted call of one variant took."""

    rounds_ns: tuple[tuple[int, ...], ...]
    """Monotonic nanoseconds of each call, by round; at least one round, none empty."""

    def __repr__(self) -> str:
        calls = len(self.durations_ns)
        return f"Timing({calls} calls in {len(self.rounds_ns)} rounds, median {self.median_ms:.3f} ms)"

    @property
    def durations_ns(self) -> list[int]:
        """All calls in order."""
        return [duration for block in self.rounds_ns for duration in block]

    @property
    def median_ms(self) -> float:
        """Median over all calls, milliseconds."""
        return statistics.median(self.durations_ns) / 1e6

    @property
    def medians_ms(self) -> list[float]:
        """Median of each round, milliseconds."""
        return [statistics.median(block) / 1e6 for block in self.rounds_ns]

    @property
    def percentiles(self) -> Percentiles:
        """p50, p95, p99 and max over all calls, milliseconds."""
        return Percentiles.of(self.durations_ns)

    @property
    def rate(self) -> float:
        """Calls per second: their number / the sum of their durations, slow ones included."""
        durations = self.durations_ns
        return len(durations) * 1e9 / max(1, sum(durations))


def add_rounds(timings: dict[str, Timing], more: Mapping[str, Timing]) -> None:
    """Put each variant's further rounds behind those that ``timings`` has of it."""
    for name, timing in more.items():
        before = timings[name].rounds_ns if name in timings else ()
        timings[name] = Timing(before + timing.rounds_ns)


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def to_json(self, digits: int = 4) -> dict[str, float]:
        """``median``, ``min`` and ``max``, rounded."""
        values = {"median": self.median, "min": self.least, "max": self.most}
        return {name: round(value, digits) for name, value in values.items()}


def speedup(faster: Timing, slower: Timing) -> Spread:
    """How many times ``slower``'s time is that of ``faster``: the ratio of the medians within each round.

    Both are of one :func:`interleave`: rounds belong together.
    """
    pairs = zip(slower.medians_ms, faster.medians_ms, strict=True)
    return Spread.of([above / max(below, 1e-6) for above, below in pairs])


def interleave(
    variants: Mapping[str, Call],
    *,
    rounds: int,
    per_round: Counts = 1,
    warmup: Counts = 1,
    lead_in: Counts = 0,
    synchronize: Call | None = None,
    budget_s: float | None = None,
    least_rounds: int = 1,
    stall_s: float | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
) -> dict[str, Timing]:
    """Time variants in turn, ``rounds`` times a block of ``per_round`` calls of each.

    ``warmup`` calls of each come first and do not count; ``lead_in`` calls come before each block and do not
    count either. ``synchronize`` waits for work that a call has only begun (a GPU): it is called before the
    clock is read, at both ends. With ``budget_s`` no round begins that would, as long as the longest so far,
    end later than so many seconds after the first began, but for the first ``least_rounds``.

    What a variant raises ends the measurement, and so does a block (or its warm-up) that takes longer than
    ``stall_s``, by StallError. With ``on_failure`` it is told instead, the variant is left out of that and
    all later rounds, and the answer has no entry for it. Raises ValueError for no variants, and for fewer
    than one round or call.
    """
    counts, warm, lead = (_by_name(variants, given) for given in (per_round, warmup, lead_in))
    if not variants or rounds < 1 or min(counts.values()) < 1:
        raise ValueError(f"nothing to time: {len(variants)} variants, {rounds} rounds of {per_round} calls")
    wait = synchronize or _nothing
    found: dict[str, list[tuple[int, ...]]] = {name: [] for name in variants}
    left = dict(variants)
    started, longest = time.monotonic(), 0.0
    with CallTimeout(stall_s) as watch:

        def attempt(name: str, work: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
            try:
                return watch.run(work)
            except Exception as error:
                if on_failure is None:
                    raise
                on_failure(name, error)
                del left[name], found[name]
                return ()

        for name, call in variants.items():
            attempt(name, partial(_repeat, call, warm[name]))
        for number in range(rounds):
            began = time.monotonic()
            if budget_s is not None and number >= least_rounds and began + longest > started + budget_s:
                break
            for name in list(left)[:: 1 if number % 2 == 0 else -1]:
                block = attempt(name, partial(_block, left[name], counts[name], wait, lead[name]))
                if block:
                    found[name].append(block)
            longest = max(longest, time.monotonic() - began)
    return {name: Timing(tuple(blocks)) for name, blocks in found.items()}


def calls_for(seconds_per_call: float, block_s: float, most: int = 1000) -> int:
    """Calls that fill a block of ``block_s`` seconds: at least 1, at most ``most``."""
    return max(1, min(most, round(block_s / max(seconds_per_call, 1e-9))))


def seconds_of(call: Call, *, warmup: int = 1, synchronize: Call | None = None) -> float:
    """Seconds of one call, after others that do not count: a first idea, for :func:`calls_for`."""
    return _block(call, 1, synchronize or _nothing, warmup)[0] / 1e9


def _block(call: Call, count: int, wait: Call, lead_in: int) -> tuple[int, ...]:
    """Nanoseconds of ``count`` calls, behind others that do not count."""
    _repeat(call, lead_in)
    durations = []
    wait()
    for _ in range(count):
        start = time.monotonic_ns()
        call()
        wait()
        durations.append(time.monotonic_ns() - start)
    return tuple(durations)


def _repeat(call: Call, count: int) -> tuple[int, ...]:
    for _ in range(count):
        call()
    return ()


def _by_name(variants: Mapping[str, Call], given: Counts) -> dict[str, int]:
    return {name: given if isinstance(given, int) else given[name] for name in variants}


def _nothing() -> None:
    """What waits for a processor: its calls are over when they return."""


T = TypeVar("T")
LEAVE_S = 10.0
"""Leaving the ``with`` block waits so long for a call that goes on, when Ctrl-C came in between: libraries
that still compute while the program ends abort it."""


class CallTimeout:
    """Runs calls one after another in one thread, for libraries whose workers belong to the calling thread.

    A call that takes longer than ``limit_s`` is left behind with its thread, which nothing can end; the next
    call gets a new one. None sets no limit. Close it, or leave the ``with`` block.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._calls: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._thread: threading.Thread | None = None

    def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises. Raises StallError where it takes too long."""
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put((call(), None))
            except BaseException as error:
                answers.put((None, error))

        if self._calls is None:
            self._calls = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=_serve, args=(self._calls,), name="streamseg-bench", daemon=True
            )
            self._thread.start()
        self._calls.put(work)
        try:
            answer, error = answers.get(timeout=self.limit_s)
        except queue.Empty:
            self.close()
            raise StallError(f"no answer within {self.limit_s:g} s; it was left out") from None
        if error is not None:
            raise error
        return answer  # type: ignore[return-value]

    def close(self) -> None:
        """Let the thread end once its call is over."""
        if self._calls is not None:
            self._calls.put(None)
        self._calls = self._thread = None

    def __enter__(self) -> CallTimeout:
        return self

    def __exit__(self, *exc: object) -> None:
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(LEAVE_S)


def _serve(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
