"""Interleaved timing: variants of the same work take turns, so that a slow phase of the machine slows all.

A round runs a block of calls of each variant; every other round goes through them backwards. Calls that do
not count may precede each block (``lead_in``): they bring the variant's data back into the caches and let the
worker threads of the others fall asleep. Every other call counts; none is clipped or left out. Ratios are
taken within each round.
"""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from streamseg.benchmark.rotation import Rotation, reraise
from streamseg.benchmark.rows.run import Spread
from streamseg.benchmark.time_limit import TimeLimit
from streamseg.core.errors import StallError
from streamseg.core.latency import Percentiles

Call = Callable[[], object]
Counts = int | Mapping[str, int]
"""One number for all variants, or one by name."""
WARM_UP_SHARE = 0.4
"""Of a time limit, the share in which warm-ups may begin."""
T = TypeVar("T")
LEAVE_S = 10.0
"""How long leaving a CallTimeout after Ctrl-C waits for a call that goes on: libraries that still compute
while the program ends abort it."""


@dataclass(frozen=True, slots=True, repr=False)
class Timing:
    """The duration of each counted call of one variant."""

    rounds_ns: tuple[tuple[int, ...], ...]
    """Nanoseconds of each call, by round; at least one round, none empty."""

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

    def to_json(self) -> list[list[float]]:
        """Milliseconds of each call, by round."""
        return [[round(duration / 1e6, 3) for duration in block] for block in self.rounds_ns]


def add_rounds(timings: dict[str, Timing], more: Mapping[str, Timing]) -> None:
    """Append further rounds of each variant to those in ``timings``."""
    for name, timing in more.items():
        before = timings[name].rounds_ns if name in timings else ()
        timings[name] = Timing(before + timing.rounds_ns)


def speedup(faster: Timing, slower: Timing) -> Spread:
    """How many times as fast the first variant is: the ratio of the medians within each round.

    Both are of one :func:`interleave`, so that their rounds belong together.
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
    min_rounds: int = 1,
    stall_s: float | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
    limit: TimeLimit | None = None,
) -> dict[str, Timing]:
    """Time variants in turn: ``rounds`` times a block of ``per_round`` calls of each.

    ``warmup`` calls of each precede all blocks and ``lead_in`` calls precede each block; neither count.
    ``synchronize`` waits for work that a call has only started (on a GPU): it is called before the clock is
    read, at both ends. With ``budget_s`` no round begins, after the first ``min_rounds``, that would end
    later than that many seconds after the first began if it took as long as the longest so far. None
    begins after the first that would end after ``limit``, whose clock is read, and a variant whose first
    block finds no time is left out as one that fails.

    The measurement ends with what a variant raises, and with StallError if a block or its warm-up takes
    longer than ``stall_s``. With ``on_failure``, that is called instead; the variant is left out of all
    later rounds and of the result. Raises ValueError for no variants, and for fewer than one round or call.
    """
    counts, warm, lead = (_by_name(variants, given) for given in (per_round, warmup, lead_in))
    if not variants or rounds < 1 or min(counts.values()) < 1:
        raise ValueError(f"nothing to time: {len(variants)} variants, {rounds} rounds of {per_round} calls")
    limit, wait = limit or TimeLimit(), synchronize or _nothing
    rotation: Rotation[tuple[int, ...]] = Rotation(variants, on_failure=on_failure or reraise, limit=limit)
    with CallTimeout(stall_s) as timeout:

        def warm_up(name: str) -> None:
            timeout.run(partial(_repeat, variants[name], warm[name]))

        def block(name: str) -> tuple[int, ...]:
            work = partial(_block, variants[name], counts[name], wait, lead[name], limit.clock_ns)
            return timeout.run(work)

        rotation.warm_up(warm_up, share=WARM_UP_SHARE)
        rotation.run(block, rounds, budget_s=budget_s, min_rounds=min_rounds)
    return {name: Timing(tuple(blocks)) for name, blocks in rotation.done.items()}


def calls_for(seconds_per_call: float, block_s: float, limit: int = 1000) -> int:
    """The number of calls that fill a block of ``block_s`` seconds: 1 to ``limit``."""
    return max(1, min(limit, round(block_s / max(seconds_per_call, 1e-9))))


def seconds_of(
    call: Call,
    *,
    warmup: int = 1,
    synchronize: Call | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> float:
    """Seconds of one call after ``warmup`` others: an estimate for :func:`calls_for`."""
    return _block(call, 1, synchronize or _nothing, warmup, clock_ns)[0] / 1e9


def _block(call: Call, count: int, wait: Call, lead_in: int, clock_ns: Callable[[], int]) -> tuple[int, ...]:
    """Nanoseconds of ``count`` calls, after ``lead_in`` others that do not count."""
    _repeat(call, lead_in)
    durations = []
    wait()
    for _ in range(count):
        start = clock_ns()
        call()
        wait()
        durations.append(clock_ns() - start)
    return tuple(durations)


def _repeat(call: Call, count: int) -> None:
    for _ in range(count):
        call()


def _by_name(variants: Mapping[str, Call], given: Counts) -> dict[str, int]:
    return {name: given if isinstance(given, int) else given[name] for name in variants}


def _nothing() -> None:
    """Waits for a processor, whose calls are over when they return."""


class CallTimeout:
    """Runs calls one after another in one thread, and gives up on calls that take longer than ``limit_s``.

    Nothing can end such a call: it is left behind with its thread, and the next call gets a new one. All
    other calls share a thread, because the workers of some libraries belong to the calling thread. None sets
    no limit. Close it, or leave the ``with`` block.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._calls: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._thread: threading.Thread | None = None

    def run(self, call: Callable[[], T]) -> T:
        """Return what the call returns, or raise what it raises. Raises StallError if it takes too long."""
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
            raise StallError(f"no answer within {self.limit_s:.3g} s; it was left out") from None
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
