"""How many live streams one machine holds: what it costs to segment 1, 2, 4, 8, ... of them at a time.

Each stream is a live loop of its own, as ``streamseg live`` runs it, over the same clip from memory at the
same pace, its frames due at its own moments; all share one engine. Numbers of streams take turns in rounds,
every other round backwards. The first second of each run does not count, and everything behind it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from streamseg.backends.shared import CLOSE_S, SharedEngine
from streamseg.benchmark.clip import Clip, open_clip
from streamseg.benchmark.limits import MachineLimits, on_gpu
from streamseg.benchmark.provenance import OtherLoad
from streamseg.benchmark.rows import Row, finish_run, start_run
from streamseg.benchmark.streams.rows import in_budget, key_of, pooled, streams_row
from streamseg.benchmark.streams.run import Offer, StreamsRun, run_streams
from streamseg.benchmark.timing import STOPPED, CallTimeout
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, StallError, UsageError, one_line
from streamseg.core.types import Backend, Say

ENOUGH = 8
"""Larger numbers of streams are left out where a smaller one was not held."""
MOST = 64
"""Streams at a time; each takes seven threads."""
WARM_UP = 5
"""Calls of the engine before anything is measured."""
WARM_UP_S = 60.0
"""One of them that takes longer is taken for an engine that hangs."""


@dataclass(frozen=True, slots=True)
class StreamsOptions:
    """What is measured."""

    load: Callable[[bool], Backend]
    """Loads the engine; True: for throughput, with the cores divided among lanes, else for one frame at a
    time. The first serves numbers of streams that fill its lanes, the second those that do not. An engine
    that takes several frames in a call gets those of several streams."""
    source: str | None = None
    """A recorded clip; None is a phantom clip."""
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of streams."""
    offer: Offer = field(default_factory=Offer)
    """What each stream offers."""
    rounds: int = 3
    quick: bool = False
    threads: int = 1
    """Threads of the net, as the result says it."""
    arguments: tuple[str, ...] = ()
    """The command line, as the result says it."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.counts or not all(1 <= count <= MOST for count in self.counts):
            raise UsageError(
                f"{self.rounds} rounds of {', '.join(map(str, self.counts)) or 'no'} streams cannot be "
                f"measured; give 1 or more rounds, and 1 to {MOST} streams"
            )


def measure_streams(options: StreamsOptions, say: Say = lambda _: None) -> list[Row]:
    """A row per number of streams, in their order; ``say`` gets lines about the progress.

    A number of streams whose run fails is left out and told in the rows' ``run["absent"]``; an engine that
    hangs ends the measurement. Ctrl-C ends it with the runs that are finished: the run's ``stopped`` is then
    true. Raises UsageError and SourceError for the clip, what loading the engine raises, EngineError where
    nothing could be measured, and KeyboardInterrupt where nothing was finished.
    """
    began = time.monotonic()
    with ExitStack() as opened, TemporaryDirectory(prefix="streamseg-", ignore_cleanup_errors=True) as folder:
        engines = _engines(options, opened)
        clip = open_clip(options.source, Path(folder))  # after the engine: to render one takes seconds
        machine = opened.enter_context(MachineLimits(options.threads, say, gpu=on_gpu([*engines.values()])))
        turns = _Turns(options, engines, clip, say)
        with OtherLoad() as others:
            stopped = machine.around(
                turns.run, kept=lambda: bool(turns.done), stopped=lambda: turns.leave_out_the_rest(STOPPED)
            )
    run = start_run(
        options.arguments,
        quick=options.quick,
        threads=options.threads,
        source=clip.to_json(),
        regime=_regime(options),
    ) | {"stopped": stopped}
    absent = {key_of(count): reason for count, reason in turns.absent.items()}
    finish_run(
        run,
        seconds=time.monotonic() - began,
        others_share=others.share,
        limits=machine.to_json(),
        absent=absent,
    )
    if not turns.done:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in absent.items())
        raise EngineError(f"no number of streams could be measured: {reasons}")
    return [streams_row(count, runs, options.offer, engines[count], run) for count, runs in turns.done]


def _regime(options: StreamsOptions) -> dict[str, Any]:
    offer = options.offer
    return {
        "rounds": options.rounds,
        "block_seconds": offer.seconds,
        "warmup_seconds": offer.warm_s,
        "warmup_calls": WARM_UP,
        "paces_fps": [offer.fps],
        "budget_ms": offer.budget_s * 1e3,
        "drawn": offer.draw,
        "streams": list(options.counts),
    }


def _engines(options: StreamsOptions, opened: ExitStack) -> dict[int, Backend]:
    """The engine for each number of streams, warm."""
    counts = sorted(set(options.counts))
    many = options.load(True)
    opened.callback(_let_go, many)
    _warm_up(many)
    few, lanes = many, EngineInfo.of(many).lanes
    if counts[0] < lanes:
        few = options.load(False)
        opened.callback(_let_go, few)
        _warm_up(few)
    return {count: many if count >= lanes else few for count in counts}


def _let_go(engine: Backend) -> None:
    """Close an engine, unless it hangs: what was measured must not wait for it."""
    with CallTimeout(CLOSE_S) as watch, suppress(StallError):
        watch.run(engine.close)


def _warm_up(backend: Backend) -> None:
    """Raises StallError for an engine that hangs."""
    empty = np.zeros((1, 1, backend.spec.height, backend.spec.width), np.float32)
    with SharedEngine(backend) as shared, CallTimeout(WARM_UP_S) as watch:
        lane = shared.lane()
        for _ in range(WARM_UP):
            watch.run(partial(lane.infer, empty))


class _Turns:
    """Numbers of streams that take turns, and what came of each so far."""

    def __init__(self, options: StreamsOptions, engines: Mapping[int, Backend], clip: Clip, say: Say) -> None:
        self.absent: dict[int, str] = {}
        """Why numbers of streams have no runs."""
        self._options, self._engines, self._clip, self._say = options, engines, clip, say
        self._found: dict[int, list[StreamsRun]] = {count: [] for count in sorted(set(options.counts))}

    @property
    def done(self) -> list[tuple[int, list[StreamsRun]]]:
        """Numbers of streams that have runs and have not failed, in order."""
        return [(count, runs) for count, runs in self._found.items() if runs and count not in self.absent]

    def run(self) -> None:
        """Run all of them. Ctrl-C passes through; what was finished is kept."""
        counts = list(self._found)
        for number in range(self._options.rounds):
            for count in counts if number % 2 == 0 else counts[::-1]:
                if count in self.absent:
                    continue
                if number == 0 and count > ENOUGH and (missed := self._missed()):
                    self.absent[count] = f"{missed} were too many already"
                    continue
                try:
                    self._take_turn(count, number)
                except StallError as error:  # it would hang the others as well
                    self.absent[count] = one_line(error)
                    self.leave_out_the_rest("the engine hung before")
                    return

    def leave_out_the_rest(self, why: str) -> None:
        """There will be no more turns: what has no run yet is ``absent`` for that."""
        for count, runs in self._found.items():
            if not runs:
                self.absent.setdefault(count, why)

    def _take_turn(self, count: int, number: int) -> None:
        offer = self._options.offer
        try:
            found = run_streams(self._clip, self._engines[count], count, offer)
        except StallError:
            raise
        except Exception as error:
            self.absent[count] = one_line(error)
            self._say(f"{key_of(count)} left out: {self.absent[count]}")
            return
        self._found[count].append(found)
        self._say(f"round {number + 1} of {self._options.rounds}: {key_of(count)}: {found!r}")

    def _missed(self) -> int | None:
        """The least number of streams that was not held so far."""
        offer = self._options.offer
        return next((count for count, runs in self.done if not in_budget(pooled(runs), offer)), None)
