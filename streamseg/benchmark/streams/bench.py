"""How many live streams one machine holds: 1, 2, 4, 8, ... of them at the same time.

Each stream is a live loop of its own, as ``streamseg live A B C --display web`` runs it, over the same clip
from memory at the same pace, its frames due at moments of its own; all share one engine. Their page is
served, and a client in a process of its own reads the tiles of all streams and answers as a browser does.
Numbers of streams take turns in rounds, every other round backwards, each right after the engine alone. The
first second of each run does not count; everything after it does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from streamseg.backends.shared import SharedEngine
from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import pool
from streamseg.benchmark.live_probe import LiveOutcome, LiveProbe, Offer, outcomes, run_at_once
from streamseg.benchmark.pipeline.bench import engine_ref
from streamseg.benchmark.provenance import CpuTimes
from streamseg.benchmark.rotation import Rotation
from streamseg.benchmark.rows.run import Latency, RunInfo
from streamseg.benchmark.rows.streams import StreamFigures, StreamsRow
from streamseg.benchmark.run import BenchOptions, BenchRun
from streamseg.benchmark.streams.page_client import watched
from streamseg.benchmark.time_limit import rounds_note
from streamseg.benchmark.timing import CallTimeout
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import EngineError, StallError, UsageError
from streamseg.core.latency import Percentiles
from streamseg.core.types import Backend, Say
from streamseg.core.view import Display
from streamseg.live.streams import POLL_S
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter
from streamseg.web import WebDisplay, WebWall

ENOUGH = 8
"""Larger numbers of streams are skipped if a smaller one was not held."""
MAX_STREAMS = 64
"""At the same time; each takes eight threads."""
WARM_UP = 5
"""Calls of the engine before anything is measured."""
BARE_S = 0.5
"""Duration of each measurement of the engine alone."""
WARM_UP_S = 60.0
"""An engine that takes longer for one of them hangs."""
LEAD_S = 0.1
"""All streams are set up before the first of them offers a frame."""
HELD_SHARE = 0.99
"""The share of a stream's outlines that have to be within the budget for it to be held, and of its frames
that have to be segmented for every frame to be held: one in a hundred may be missing."""
MIN_FPS = 5.0
"""A stream with fewer displayed outlines per second is not held."""


@dataclass(frozen=True, slots=True)
class StreamsOptions(BenchOptions):
    """What is measured."""

    load: Callable[[bool], Backend]
    """Loads the engine: True for throughput, with the cores divided among lanes, else for one frame at a
    time. The first serves numbers of streams that fill its lanes, the second smaller ones. An engine that
    takes several frames per call gets those of several streams."""
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of streams."""
    offer: Offer = field(default_factory=Offer)
    """What each stream is offered."""
    rounds: int = field(default=3, kw_only=True)

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.counts or not all(1 <= count <= MAX_STREAMS for count in self.counts):
            raise UsageError(
                f"{self.rounds} rounds of {', '.join(map(str, self.counts)) or 'no'} streams cannot be "
                f"measured; give 1 or more rounds, and 1 to {MAX_STREAMS} streams"
            )
        if self.offer.fps > 1000:
            raise UsageError(
                f"streams of {self.offer.fps:g} frames per second cannot be measured; give 1000 or fewer"
            )


@dataclass(frozen=True, slots=True, repr=False)
class StreamsRun:
    """Several streams at the same time."""

    streams: tuple[LiveOutcome, ...]
    processor_share: float | None
    """Share of all cores' time, 0..1, that this process took while frames counted; None if unknown."""
    fill: float | None
    """Frames per call of the engine, mean of all calls."""
    engine_fps: float | None = None
    """Frames per second of the engine alone, right before."""
    page_ages: tuple[tuple[int, ...], ...] = ()
    """Ages of the outlines that arrived at the page, nanoseconds, for each stream."""

    def __repr__(self) -> str:
        fps = sum(stream.processed_fps for stream in self.streams)
        worst = min(stream.ready_in_time for stream in self.streams)
        return f"{fps:.1f} frames/s, {worst:.0%} in time in the worst stream"


def measure_streams(options: StreamsOptions, say: Say = lambda _: None) -> list[StreamsRow]:
    """A row per number of streams, in their order; ``say`` gets lines about the progress.

    A number of streams whose run fails is left out and is in the rows' ``run.absent``; an engine that hangs
    ends the measurement. Ctrl-C ends it with the finished runs: ``run.stopped`` is then true. Raises what
    loading the engine raises, UsageError and SourceError for the clip, EngineError if nothing could be
    measured, and KeyboardInterrupt if nothing was finished.
    """
    with BenchRun(options, say) as run:
        engines = _engines(options, run)
        clip = run.open_clip()  # after the engine: to render one takes seconds
        counts = {key_of(count): count for count in engines}
        rotation: Rotation[StreamsRun] = Rotation(
            counts, say=say, on_failure=_end_if_it_hangs, limit=run.limit
        )

        def block(key: str) -> StreamsRun:
            count = counts[key]
            if count > ENOUGH and not rotation.results[key]:
                for fewer, found in rotation.done.items():
                    if not is_held(_pooled(found), options.offer.fps):
                        raise EngineError(f"skipped: already {fewer} missed the budget")
            alone = bare_rate(engines[count])
            return replace(run_streams(clip, engines[count], count, options.offer), engine_fps=alone)

        def turns() -> None:
            try:
                rotation.run(block, options.rounds)
            except StallError:  # it would hang the others as well
                rotation.leave_out_the_rest("the engine hung before")

        run.measure(turns, finished=lambda: bool(rotation.done))
    rotation.leave_out_the_rest(run.why_unfinished)
    run.absent = rotation.absent
    if not rotation.done:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in rotation.absent.items())
        raise EngineError(f"no number of streams could be measured: {reasons}")
    offer = options.offer
    info = run.info(
        {
            "rounds": options.rounds,
            "block_seconds": offer.seconds,
            "warmup_seconds": offer.warm_s,
            "warmup_calls": WARM_UP,
            "paces_fps": [offer.fps],
            "budget_ms": offer.budget_s * 1e3,
            "drawn": offer.draw,
            "display": "page",
            "streams": list(options.counts),
        }
    )
    return [
        streams_row(counts[key], found, offer, engines[counts[key]], info)
        for key, found in rotation.done.items()
    ]


def run_streams(clip: Clip, backend: Backend, count: int, offer: Offer) -> StreamsRun:
    """Offer the clip's frames from memory to ``count`` live loops that share the engine, due at equal
    distances within a frame's interval.

    Each has its own segmentation with a temporal filter, and its own tile on the page, which is read unless
    ``offer.draw`` is False. Raises what ended a stream before its time, and StallError for an engine that
    gives no answer. Ctrl-C passes through once the streams have ended.
    """
    with ExitStack() as opened:
        displays, address, paths = _open_page(count, opened)
        client = opened.enter_context(watched(address, paths)) if offer.draw else None
        shared = opened.enter_context(SharedEngine(backend))
        begin_ns = time.monotonic_ns() + round(LEAD_S * 1e9)
        probes = [
            LiveProbe(
                clip,
                Segmenter(shared.lane(), steady=TemporalFilter()),
                offer,
                begin_ns + round(number * 1e9 / (offer.fps * count)),
                display=display,
                poll_s=POLL_S,
            )
            for number, display in enumerate(displays)
        ]
        counted_ns = begin_ns + round(offer.warm_s * 1e9)
        share = run_at_once(probes, lambda: _processor_share(counted_ns, offer.counted / offer.fps))
        fill = shared.fill
        shared.close()
        if shared.hangs:
            raise StallError(
                f"engine {backend.name} gave no answer for {offer.stall_s:g} s with {count} streams; "
                "it was left behind"
            )
        found = outcomes(probes)
        arrivals = [[] for _ in probes] if client is None else client.arrivals()
    page_ages = tuple(
        tuple(age for captured_ns, age in each if captured_ns >= probe.counted_from_ns)
        for probe, each in zip(probes, arrivals, strict=True)
    )
    return StreamsRun(found, share, fill, page_ages=page_ages)


def _open_page(count: int, opened: ExitStack) -> tuple[list[Display], str, list[str]]:
    """The displays of the streams, the address of their page, and the paths of the sockets that it opens."""
    if count == 1:
        page = WebDisplay(port=0)
        opened.callback(page.close)
        return [page], page.address, ["ws"]
    wall = WebWall([f"stream {number}" for number in range(1, count + 1)], port=0)
    opened.callback(wall.close)
    return list(wall.streams), wall.address, [f"{number}/tile" for number in range(1, count + 1)]


def bare_rate(backend: Backend) -> float:
    """Frames per second of the engine alone, called from as many threads as it has lanes.

    Raises what it raises, and StallError for one that gives no answer.
    """
    info, ended = EngineInfo.of(backend), threading.Event()
    tensor = np.zeros((info.batch, 1, info.spec.height, info.spec.width), np.float32)

    def call() -> int:
        calls = 0
        while not ended.is_set():
            backend.infer(tensor)
            calls += 1
        return calls

    pool = ThreadPoolExecutor(info.lanes, thread_name_prefix="streamseg-bench-bare")
    try:
        began = time.monotonic()
        calls = [pool.submit(call) for _ in range(info.lanes)]
        wait(calls, BARE_S, FIRST_EXCEPTION)
        ended.set()
        if wait(calls, WARM_UP_S).not_done:
            raise StallError(f"engine {backend.name} gave no answer for {WARM_UP_S:g} s; it was left behind")
        done = sum(each.result() for each in calls)
        return done * info.batch / (time.monotonic() - began)
    finally:
        ended.set()
        pool.shutdown(wait=False)


def key_of(count: int) -> str:
    """The row's key."""
    return f"{count} stream" if count == 1 else f"{count} streams"


def is_held(streams: Sequence[LiveOutcome], fps: float) -> bool:
    """Whether each of the streams, offered ``fps`` frames per second, is held within the budget."""
    least = min(MIN_FPS, HELD_SHARE * fps)
    return all(stream.ready_in_time >= HELD_SHARE and stream.displayed_fps >= least for stream in streams)


def streams_row(
    count: int, runs: Sequence[StreamsRun], offer: Offer, backend: Backend, run: RunInfo
) -> StreamsRow:
    """All rounds of a number of streams together; at least one round."""
    streams = _pooled(runs)
    found, ages = pool(streams), [Latency.of(pool(each.streams).age) for each in runs]
    held, engine = is_held(streams, offer.fps), EngineInfo.of(backend)
    pages = [
        [age for each in runs for age in (each.page_ages[number] if each.page_ages else ())]
        for number in range(count)
    ]
    return StreamsRow(
        bench="streams",
        key=key_of(count),
        run=run,
        rounds={
            "processed_fps": [round(sum(s.processed_fps for s in each.streams), 3) for each in runs],
            "age_p50_ms": [age.p50 for age in ages],
            "age_p99_ms": [age.p99 for age in ages],
        },
        notes=[
            *(f"stream {n}: {note}" for n, stream in enumerate(streams, 1) for note in stream.notes),
            *rounds_note(len(runs), run.regime.get("rounds", 1)),
        ],
        streams=count,
        source_fps=offer.fps,
        budget_ms=offer.budget_s * 1e3,
        engine=engine_ref(backend),
        batch=engine.batch,
        lanes=engine.lanes,
        offered=found.offered,
        processed=found.processed,
        dropped=found.dropped,
        per_stream=[
            StreamFigures(
                offered=stream.offered,
                processed=stream.processed,
                dropped=stream.dropped,
                processed_fps=round(stream.processed_fps, 3),
                displayed_fps=round(stream.displayed_fps, 3),
                age_ms=Latency.of(stream.age),
                within_budget=round(stream.ready_in_time, 5),
                page_age_ms=Latency.of(Percentiles.of(list(ages))),
            )
            for stream, ages in zip(streams, pages, strict=True)
        ],
        processed_fps=round(sum(stream.processed_fps for stream in streams), 3),
        age_ms=Latency.of(found.age),
        within_budget=round(min(stream.ready_in_time for stream in streams), 5),
        holds_budget=held,
        holds_every_frame=held and all(s.processed >= HELD_SHARE * s.offered for s in streams),
        engine_fps=_mean([each.engine_fps for each in runs]),
        page_age_ms=Latency.of(
            Percentiles.of([age for each in runs for ages in each.page_ages for age in ages])
        ),
        processor_share=_mean([each.processor_share for each in runs]),
        batch_fill=_mean([each.fill for each in runs]),
    )


def _engines(options: StreamsOptions, run: BenchRun) -> dict[int, Backend]:
    """The engine for each number of streams, warm."""
    counts = sorted(set(options.counts))
    many = run.keep(options.load(True))
    _warm_up(many)
    few, lanes = many, EngineInfo.of(many).lanes
    if counts[0] < lanes:
        few = run.keep(options.load(False))
        _warm_up(few)
    return {count: many if count >= lanes else few for count in counts}


def _warm_up(backend: Backend) -> None:
    """Raises StallError for an engine that hangs."""
    empty = np.zeros((1, 1, backend.spec.height, backend.spec.width), np.float32)
    with SharedEngine(backend) as shared, CallTimeout(WARM_UP_S) as timeout:
        lane = shared.lane()
        for _ in range(WARM_UP):
            timeout.run(partial(lane.infer, empty))


def _end_if_it_hangs(_: str, error: Exception) -> None:
    if isinstance(error, StallError):
        raise error


def _pooled(runs: Sequence[StreamsRun]) -> list[LiveOutcome]:
    """Each stream over all rounds."""
    return [LiveOutcome.pooled(rounds) for rounds in zip(*(run.streams for run in runs), strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _processor_share(begin_ns: int, seconds: float) -> float | None:
    """The share of all cores' time that this process takes from a monotonic time on."""
    times = []
    for moment_ns in (begin_ns, begin_ns + round(seconds * 1e9)):
        time.sleep(max(0.0, (moment_ns - time.monotonic_ns()) / 1e9))
        times.append(CpuTimes.now())
    before, after = times
    if before is None or after is None or after.elapsed <= before.elapsed:
        return None
    return min(1.0, (after.own - before.own) / (after.elapsed - before.elapsed))
