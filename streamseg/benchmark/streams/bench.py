"""How many live streams one machine holds: what it costs to segment 1, 2, 4, 8, ... of them at a time.

Each stream is a live loop of its own, as ``streamseg live`` runs it, over the same clip from memory at the
same pace, its frames due at its own moments; all share one engine. Numbers of streams take turns in rounds,
every other round backwards. The first second of each run does not count, and everything behind it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from streamseg.backends.shared import CLOSE_S, SharedEngine
from streamseg.benchmark.pipeline.clip import Clip, open_clip
from streamseg.benchmark.pipeline.rows import engine_of
from streamseg.benchmark.provenance import Bystanders
from streamseg.benchmark.rows import Row, finish_run, start_run, why_absent
from streamseg.benchmark.streams.run import Offer, StreamCount, StreamsRun, run_streams
from streamseg.benchmark.watch import Watch
from streamseg.errors import EngineError, StallError, UsageError
from streamseg.latency import Percentiles
from streamseg.strict_json import finite
from streamseg.types import Backend

HELD_SHARE = 0.99
"""Of a stream's outlines that have to be within the budget, and of its frames that have to be segmented where
it is said that every one is: one in a hundred is allowed for."""
LEAST_FPS = 5.0
"""A stream with fewer outlines on display in a second is left without."""
ENOUGH = 8
"""Larger numbers of streams are left out where a smaller one was not held."""
MOST = 64
"""Streams at a time; each takes seven threads."""
WARM_UP = 5
"""Calls of the engine before anything is measured."""
WARM_UP_S = 60.0
"""One of them that takes longer is taken for an engine that hangs."""

Say = Callable[[str], None]


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
    hangs ends the measurement. Raises UsageError and SourceError for the clip, what loading the engine
    raises, and EngineError where nothing could be measured.
    """
    began = time.monotonic()
    with ExitStack() as opened, TemporaryDirectory(prefix="streamseg-") as folder:
        engines = _engines(options, opened)
        clip = open_clip(options.source, Path(folder))
        with Bystanders() as others:
            found, absent = _rounds(options, engines, clip, say)
    run = start_run(
        options.arguments,
        quick=options.quick,
        threads=options.threads,
        source=clip.to_json(),
        regime=_regime(options),
    )
    named = {_key(count): reason for count, reason in absent.items()}
    finish_run(run, seconds=time.monotonic() - began, others_share=others.share, absent=named)
    if not found:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in named.items())
        raise EngineError(f"no number of streams could be measured: {reasons}")
    return [_row(count, runs, options, engines[count], run) for count, runs in sorted(found.items())]


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
    few, lanes = many, int(getattr(many, "lanes", 1))
    if counts[0] < lanes:
        few = options.load(False)
        opened.callback(_let_go, few)
        _warm_up(few)
    return {count: many if count >= lanes else few for count in counts}


def _let_go(engine: Backend) -> None:
    """Close an engine, unless it hangs: what was measured must not wait for it."""
    with Watch(CLOSE_S) as watch, suppress(StallError):
        watch.run(engine.close)


def _warm_up(backend: Backend) -> None:
    """Raises StallError for an engine that hangs."""
    empty = np.zeros((1, 1, backend.spec.height, backend.spec.width), np.float32)
    with SharedEngine(backend) as shared, Watch(WARM_UP_S) as watch:
        lane = shared.lane()
        for _ in range(WARM_UP):
            watch.run(partial(lane.infer, empty))


def _rounds(
    options: StreamsOptions, engines: Mapping[int, Backend], clip: Clip, say: Say
) -> tuple[dict[int, list[StreamsRun]], dict[int, str]]:
    """The runs of each number of streams, and why others have none."""
    counts = sorted(set(options.counts))
    found: dict[int, list[StreamsRun]] = {count: [] for count in counts}
    absent: dict[int, str] = {}
    for number in range(options.rounds):
        for count in counts if number % 2 == 0 else counts[::-1]:
            if count in absent:
                continue
            if number == 0 and count > ENOUGH and (missed := _missed(found, options)):
                absent[count] = f"{missed} were too many already"
                continue
            try:
                found[count].append(run_streams(clip, engines[count], count, options.offer))
            except StallError as error:  # it would hang the others as well
                absent[count] = why_absent(error)
                rest = {other: "the engine hung before" for other, runs in found.items() if not runs}
                return _whole(found, absent), rest | absent
            except Exception as error:
                absent[count] = why_absent(error)
                say(f"{_key(count)} left out: {absent[count]}")
                continue
            say(f"round {number + 1} of {options.rounds}: {_key(count)}: {found[count][-1]!r}")
    return _whole(found, absent), absent


def _whole(found: Mapping[int, list[StreamsRun]], absent: Mapping[int, str]) -> dict[int, list[StreamsRun]]:
    return {count: runs for count, runs in found.items() if runs and count not in absent}


def _missed(found: Mapping[int, Sequence[StreamsRun]], options: StreamsOptions) -> int | None:
    """The least number of streams that was not held so far."""
    return next(
        (count for count, runs in found.items() if runs and not _in_budget(_pooled(runs), options)), None
    )


def _key(count: int) -> str:
    return f"{count} stream" if count == 1 else f"{count} streams"


def _pooled(runs: Sequence[StreamsRun]) -> list[StreamCount]:
    """Each stream over all rounds."""
    pooled = []
    for rounds in zip(*(run.streams for run in runs), strict=True):
        pooled.append(
            StreamCount(
                offered=sum(each.offered for each in rounds),
                processed=sum(each.processed for each in rounds),
                in_time=sum(each.in_time for each in rounds),
                displayed=sum(each.displayed for each in rounds),
                ages_ns=tuple(age for each in rounds for age in each.ages_ns),
                seconds=sum(each.seconds for each in rounds),
                notes=tuple(note for each in rounds for note in each.notes),
            )
        )
    return pooled


def _in_budget(streams: Sequence[StreamCount], options: StreamsOptions) -> bool:
    least = min(LEAST_FPS, HELD_SHARE * options.offer.fps)
    return all(stream.within_budget >= HELD_SHARE and stream.displayed_fps >= least for stream in streams)


def _row(
    count: int, runs: Sequence[StreamsRun], options: StreamsOptions, backend: Backend, run: dict[str, Any]
) -> Row:
    streams = _pooled(runs)
    ages = [Percentiles.of([age for stream in each.streams for age in stream.ages_ns]) for each in runs]
    offered, processed = (
        sum(getattr(stream, name) for stream in streams) for name in ("offered", "processed")
    )
    figures: dict[str, Any] = finite(
        {
            "rounds": {
                "processed_fps": [round(sum(stream.fps for stream in each.streams), 3) for each in runs],
                "age_p50_ms": [round(age.p50_ms, 3) for age in ages],
                "age_p99_ms": [round(age.p99_ms, 3) for age in ages],
            },
            "offered": offered,
            "processed": processed,
            "dropped": offered - processed,
            "per_stream": [_stream(stream) for stream in streams],
            "processed_fps": round(sum(stream.fps for stream in streams), 3),
            "age_ms": Percentiles.of([age for stream in streams for age in stream.ages_ns]).to_json(),
            "within_budget": round(min(stream.within_budget for stream in streams), 5),
            "holds_budget": _in_budget(streams, options),
            "holds_every_frame": _in_budget(streams, options)
            and all(stream.processed >= HELD_SHARE * stream.offered for stream in streams),
            "processor_share": _mean([each.processor_share for each in runs]),
            "batch_fill": _mean([each.fill for each in runs]),
        }
    )
    return {
        "bench": "streams",
        "key": _key(count),
        "run": run,
        "notes": [f"stream {n}: {note}" for n, stream in enumerate(streams, 1) for note in stream.notes],
        "streams": count,
        "source_fps": options.offer.fps,
        "budget_ms": options.offer.budget_s * 1e3,
        "engine": engine_of(backend),
        "batch": int(getattr(backend, "batch", 1)),
        "lanes": int(getattr(backend, "lanes", 1)),
        **figures,
    }


def _stream(stream: StreamCount) -> dict[str, Any]:
    return {
        "offered": stream.offered,
        "processed": stream.processed,
        "dropped": stream.dropped,
        "processed_fps": round(stream.fps, 3),
        "displayed_fps": round(stream.displayed_fps, 3),
        "age_ms": Percentiles.of(list(stream.ages_ns)).to_json(),
        "within_budget": round(stream.within_budget, 5),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
