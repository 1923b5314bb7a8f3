"""The pipeline's modes: replay as fast as it goes, live at several paces, live overloaded.

The modes take turns in rounds; the machine's limits are measured before and after them. All frames of all
rounds count; a rate is the median of the rounds' rates.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from streamseg.benchmark.clip import Clip
from streamseg.benchmark.frame_trace import RunOutcome, age_over_time, pool, waterfall
from streamseg.benchmark.live_probe import LiveOutcome, paced
from streamseg.benchmark.pipeline.replay_run import STALL_S, end_to_end
from streamseg.benchmark.rotation import Rotation
from streamseg.benchmark.rows.pipeline import PipelineRow
from streamseg.benchmark.rows.run import EngineRef, Latency, RunInfo
from streamseg.benchmark.run import BenchOptions, BenchRun
from streamseg.benchmark.time_limit import rounds_note
from streamseg.benchmark.timing import interleave
from streamseg.core.engine_info import EngineInfo
from streamseg.core.errors import StreamsegError, UsageError
from streamseg.core.types import Backend, Say
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter
from streamseg.sinks import JsonRecords

OVERLOAD = 2
"""The overloaded pace is this many times the engine's own rate."""
OVERLOAD_KEY = "live, overloaded"
PROBES = 12
"""Calls that estimate the engine's own rate; frames of a short clip that estimate the replay's."""
WARM_S = 1.0
"""Seconds that each mode runs before it counts."""


@dataclass(frozen=True, slots=True)
class PipelineOptions(BenchOptions):
    """What is to be measured, and for how long."""

    load: Callable[[bool], Backend]
    """Loads the engine: True for throughput, as for a replay, else for one frame at a time, as for live."""
    paces: tuple[float, ...] = (30.0, 60.0)
    """Frames per second of the live modes, besides the overloaded one."""
    seconds: float = 10.0
    """Of each mode in each round."""
    budget_s: float = 0.15
    rounds: int = field(default=3, kw_only=True)

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.seconds < float("inf"):
            raise UsageError(
                f"rounds must be at least 1 and seconds greater than 0, received {self.rounds} rounds of "
                f"{self.seconds:g} s"
            )
        for pace in self.paces:
            if not 0 < pace <= 1000:
                raise UsageError(f"no source runs at {pace:g} frames per second; give 0 to 1000")


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the pipeline."""

    key: str
    engine: Backend
    source_fps: float | None
    """None for a replay."""
    run: Callable[[float], RunOutcome]
    """Runs it for about this many seconds."""


def measure_pipeline(options: PipelineOptions, say: Say) -> list[PipelineRow]:
    """A row per mode; ``say`` gets lines about the progress.

    A mode that fails is left out and is in the rows' ``run.absent``. Ctrl-C ends it with the finished rounds:
    ``run.stopped`` is then true. Raises what loading the engine raises, UsageError and SourceError for the
    clip, StallError for an engine that does not answer, StreamsegError if every mode fails, and
    KeyboardInterrupt if nothing was finished.
    """
    with BenchRun(options, say) as run:
        many, single = (run.keep(options.load(kind)) for kind in (True, False))
        clip = run.open_clip()  # after the engine: to render one takes seconds
        modes = {mode.key: mode for mode in _modes(options, clip, many, single, run.folder)}
        rotation: Rotation[RunOutcome] = Rotation(modes, say=say, limit=run.limit)

        def turns() -> None:
            warm_s = min(WARM_S, options.seconds)
            rotation.warm_up(lambda key: modes[key].run(warm_s), backwards=True)
            rotation.run(lambda key: modes[key].run(options.seconds), options.rounds)

        run.measure(turns, finished=lambda: bool(rotation.done))
    rotation.leave_out_the_rest(run.why_unfinished)
    run.absent = rotation.absent
    if not rotation.done:
        reasons = "; ".join(rotation.absent.values())
        raise StreamsegError(f"no mode of the pipeline could be measured: {reasons}")
    info = run.info(
        {
            "rounds": options.rounds,
            "block_seconds": options.seconds,
            "warmup_seconds": WARM_S,
            "paces_fps": list(dict.fromkeys(options.paces)),
            "overload": OVERLOAD,  # its pace is the engine's, and so another one in each run
            "budget_ms": round(options.budget_s * 1e3, 1),
        }
    )
    return [mode_row(modes[key], found, info) for key, found in rotation.done.items()]


def _modes(options: PipelineOptions, clip: Clip, many: Backend, single: Backend, folder: Path) -> list[Mode]:
    """Replay, live at each pace, and live at more than the engine can do."""
    records = folder / "records.jsonl"
    rates: list[float] = []

    def replayed(seconds: float) -> RunOutcome:
        # The warm-up's rate tells how many frames take how long.
        frames = max(len(clip.frames), round(rates[-1] * seconds) if rates else PROBES)
        sink = JsonRecords(records, header={"source": clip.name}, force=True)
        done = end_to_end(clip, Segmenter(many), frames, sinks=[sink])
        rates.append(done.fps or 0.0)
        return done

    def live(fps: float, seconds: float) -> RunOutcome:
        return paced(
            clip, Segmenter(single, steady=TemporalFilter()), fps, seconds, budget_s=options.budget_s
        )

    of_clip = "phantom clip" if options.source is None else clip.name
    modes = [Mode(f"replay {of_clip}", many, None, replayed)]
    paces = dict.fromkeys(options.paces)
    modes += [Mode(f"live {pace:g} fps", single, pace, partial(live, pace)) for pace in paces]
    overload = max(1.0, round(OVERLOAD * engine_rate(single, clip)))
    return [*modes, Mode(OVERLOAD_KEY, single, overload, partial(live, overload))]


def engine_rate(engine: Backend, clip: Clip) -> float:
    """Frames per second of the net alone, one after another. Raises StallError if it does not answer."""
    segmenter = Segmenter(engine)
    prepared = segmenter.prepare(clip.frames[0], clip.roi)
    call = partial(segmenter.infer, prepared)
    return interleave({"engine": call}, rounds=1, per_round=PROBES, warmup=3, stall_s=STALL_S)["engine"].rate


def mode_row(mode: Mode, outcomes: Sequence[RunOutcome], run: RunInfo) -> PipelineRow:
    """All rounds of a mode together."""
    found = pool(outcomes)
    rates = [None if outcome.fps is None else round(outcome.fps, 3) for outcome in outcomes]
    ages = [Latency.of(outcome.age) for outcome in outcomes]
    within = found.within_budget if isinstance(found, LiveOutcome) and found.processed else None
    return PipelineRow(
        bench="pipeline",
        key=mode.key,
        run=run,
        rounds={
            "age_p50_ms": [age.p50 for age in ages],
            "age_p99_ms": [age.p99 for age in ages],
            "processed_fps": rates,
        },
        notes=[*found.notes, *rounds_note(len(outcomes), run.regime.get("rounds", 1))],
        mode="replay" if mode.source_fps is None else "live",
        source_fps=mode.source_fps,
        engine=engine_ref(mode.engine),
        offered=found.offered,
        processed=found.processed,
        dropped=found.dropped,
        fps=statistics.median(known) if (known := [rate for rate in rates if rate is not None]) else None,
        age_ms=Latency.of(found.age),
        stages_ms={stage: Latency.of(times) for stage, times in found.stages.items()},
        within_budget=None if within is None else round(within, 4),
        states={str(state): round(amount, 3) for state, amount in found.states.items()},
        age_over_time=age_over_time([outcome.traces for outcome in outcomes]),
        waterfall=waterfall(found.traces),
    )


def engine_ref(engine: Backend) -> EngineRef:
    """What a row says about its engine."""
    info = EngineInfo.of(engine)
    return EngineRef(name=info.name, sha256=info.sha256, precision=info.precision, backend=info.backend)
