"""The pipeline's modes against one another: replay as fast as it goes, live at paces, live overloaded.

The modes take turns in rounds, every other round backwards. A run of each that does not count comes first.
All frames of all rounds count; a rate is the median of the rounds'.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streamseg.benchmark.measure import interleave
from streamseg.benchmark.pipeline.clip import Clip, open_clip
from streamseg.benchmark.pipeline.life import Life, ages_of, in_order, over_time, stages_of, waterfall
from streamseg.benchmark.pipeline.run import STALL_S, EndToEnd, Paced, end_to_end, paced
from streamseg.benchmark.provenance import Bystanders
from streamseg.benchmark.results import table
from streamseg.benchmark.rows import Row, finish_run, start_run, why_absent
from streamseg.errors import StreamsegError, UsageError
from streamseg.latency import Percentiles
from streamseg.segment import Segmenter
from streamseg.sinks import JsonRecords
from streamseg.steady import Steady
from streamseg.strict_json import finite
from streamseg.types import Backend

Outcome = EndToEnd | Paced
Say = Callable[[str], None]
OVERLOAD = 2
"""The overloaded pace is this many times the engine's own rate."""
OVERLOAD_KEY = "live, overloaded"
PROBES = 12
"""Calls that tell the engine's own rate."""
WARM_S = 1.0
"""Seconds that each live mode runs before it counts."""


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """What is to be measured, and for how long."""

    load: Callable[[bool], Backend]
    """Loads the engine; True: for throughput, as replay does, else for one frame at a time, as live does."""
    source: str | None = None
    """A recorded clip; None is a phantom clip."""
    paces: tuple[float, ...] = (30.0, 60.0)
    """Frames per second of the live modes, besides the overloaded one."""
    seconds: float = 10.0
    """Of each mode in each round."""
    rounds: int = 3
    budget_s: float = 0.15
    quick: bool = False
    threads: int = 1
    """Threads of the net, as the result says it."""
    arguments: tuple[str, ...] = ()
    """The command line, as the result says it."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.seconds < float("inf"):
            raise UsageError(f"{self.rounds} rounds of {self.seconds:g} s measure nothing; give more")
        for pace in self.paces:
            if not 0 < pace <= 1000:
                raise UsageError(f"no source runs at {pace:g} frames per second; give 0 to 1000")


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to run the pipeline."""

    key: str
    engine: Backend
    source_fps: float | None
    """None for replay."""
    run: Callable[[float], Outcome]
    """Runs it for about so many seconds."""


def measure_pipeline(options: PipelineOptions, say: Say) -> list[Row]:
    """A row per mode; ``say`` gets lines about the progress.

    A mode that fails is left out and told in the rows' ``run["absent"]``. Raises UsageError and SourceError
    for the clip, what loading the engine raises, StallError for an engine that does not answer, and
    StreamsegError where every mode fails.
    """
    began = time.monotonic()
    with TemporaryDirectory(prefix="streamseg-") as folder, ExitStack() as opened, Bystanders() as others:
        clip = open_clip(options.source, Path(folder))
        many, single = (opened.enter_context(closing(options.load(kind))) for kind in (True, False))
        modes = _modes(options, clip, many, single, Path(folder))
        outcomes, absent = take_turns(modes, options.rounds, options.seconds, say)
    run = start_run(
        options.arguments,
        quick=options.quick,
        threads=options.threads,
        source=clip.to_json(),
        regime={
            "rounds": options.rounds,
            "block_seconds": options.seconds,
            "warmup_seconds": WARM_S,
            "paces_fps": [mode.source_fps for mode in modes if mode.source_fps is not None],
            "budget_ms": round(options.budget_s * 1e3, 1),
        },
    )
    finish_run(run, seconds=time.monotonic() - began, others_share=others.share, absent=absent)
    if not outcomes:
        raise StreamsegError(f"no mode of the pipeline could be measured: {'; '.join(absent.values())}")
    return [mode_row(mode, outcomes[mode.key], run) for mode in modes if mode.key in outcomes]


def _modes(options: PipelineOptions, clip: Clip, many: Backend, single: Backend, folder: Path) -> list[Mode]:
    """Replay, live at each pace, and live at more than the engine can do."""
    records = folder / "records.jsonl"
    guess: list[float] = []

    def replayed(seconds: float) -> EndToEnd:
        # The first run counts for nothing but its rate, which says how many frames take how long.
        frames = max(len(clip.frames), round(guess[-1] * seconds)) if guess else len(clip.frames)
        sink = JsonRecords(records, header={"source": clip.name}, force=True)
        done = end_to_end(clip, Segmenter(many), frames, sinks=[sink])
        guess.append(done.fps or len(clip.frames))
        return done

    def live(fps: float, seconds: float) -> Paced:
        return paced(clip, Segmenter(single, steady=Steady()), fps, seconds, budget_s=options.budget_s)

    of_clip = "phantom clip" if options.source is None else clip.name
    modes = [Mode(f"replay {of_clip}", many, None, replayed)]
    paces = dict.fromkeys(options.paces)
    modes += [Mode(f"live {pace:g} fps", single, pace, partial(live, pace)) for pace in paces]
    overload = max(1.0, round(OVERLOAD * engine_rate(single, clip)))
    return [*modes, Mode(OVERLOAD_KEY, single, overload, partial(live, overload))]


def engine_rate(engine: Backend, clip: Clip) -> float:
    """Frames per second of the net alone, one after another. Raises StallError where it does not answer."""
    segmenter = Segmenter(engine)
    tensor = segmenter.prepare(clip.frames[0], clip.roi)
    call = partial(segmenter.infer, tensor)
    return interleave({"engine": call}, rounds=1, per_round=PROBES, warmup=3, stall_s=STALL_S)["engine"].rate


def take_turns(
    modes: Sequence[Mode], rounds: int, seconds: float, say: Say
) -> tuple[dict[str, list[Outcome]], dict[str, str]]:
    """What came of each mode in each round, by key; and why others have failed."""
    found: dict[str, list[Outcome]] = {mode.key: [] for mode in modes}
    absent: dict[str, str] = {}
    for number in range(rounds + 1):
        for mode in modes if number % 2 else modes[::-1]:
            if mode.key in absent:
                continue
            try:
                outcome = mode.run(seconds if number else min(WARM_S, seconds))
            except Exception as error:
                absent[mode.key] = why_absent(error)
                say(f"{mode.key} is left out: {absent[mode.key]}")
                del found[mode.key]
                continue
            if number:
                found[mode.key].append(outcome)
                say(f"round {number} of {rounds}: {mode.key}: {outcome!r}")
    return found, absent


def mode_row(mode: Mode, outcomes: Sequence[Outcome], run: Mapping[str, Any]) -> Row:
    """What all rounds of a mode say together."""
    lives = [life for outcome in outcomes for life in outcome.lives]
    rates = [_rate(outcome) for outcome in outcomes]
    known = [rate for rate in rates if rate is not None]
    paced_runs = [outcome for outcome in outcomes if isinstance(outcome, Paced)]
    in_time = sum(outcome.within_budget * outcome.processed for outcome in paced_runs)
    processed = sum(outcome.processed for outcome in outcomes)
    row: Row = finite(
        {
            "bench": "pipeline",
            "key": mode.key,
            "run": run,
            "rounds": {
                "age_p50_ms": [round(outcome.age.p50_ms, 3) for outcome in outcomes],
                "age_p99_ms": [round(outcome.age.p99_ms, 3) for outcome in outcomes],
                "processed_fps": rates,
            },
            "notes": list(dict.fromkeys(note for outcome in outcomes for note in outcome.notes)),
            "mode": "replay" if mode.source_fps is None else "live",
            "source_fps": mode.source_fps,
            "engine": engine_of(mode.engine),
            "offered": sum(outcome.offered for outcome in outcomes),
            "processed": processed,
            "dropped": sum(outcome.dropped for outcome in outcomes),
            "fps": statistics.median(known) if known else None,
            "age_ms": Percentiles.of(ages_of(lives)).to_json(),
            "stages_ms": {stage: times.to_json() for stage, times in stages_of(lives).items()},
            "within_budget": round(in_time / processed, 4) if paced_runs and processed else None,
            "states": _states(outcomes),
            "age_over_time": over_time(_points([outcome.lives for outcome in outcomes])),
            "waterfall": waterfall(lives),
        }
    )
    return row


def engine_of(engine: Backend) -> dict[str, Any]:
    """What a result says about its engine."""
    return {
        "name": engine.name,
        "sha256": engine.fingerprint,
        "precision": getattr(engine, "precision", None),
        "backend": type(engine).__module__.rpartition(".")[2],
    }


def _rate(outcome: Outcome) -> float | None:
    rate = outcome.processed_fps if isinstance(outcome, Paced) else outcome.fps
    return None if rate is None else round(rate, 3)


def _states(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Seconds for which each state was displayed; of a replay, frames."""
    total: dict[str, float] = {}
    for outcome in outcomes:
        for state, amount in outcome.states.items():
            total[str(state)] = round(total.get(str(state), 0) + amount, 3)
    return total


def _points(rounds: Sequence[Sequence[Life]]) -> list[tuple[float, float]]:
    """Seconds of measuring so far, and age in milliseconds, of every frame: one round behind the other."""
    points: list[tuple[float, float]] = []
    for lives in rounds:
        begin = points[-1][0] if points else 0.0
        origin = min((life.captured_ns for life in lives), default=0)
        points += [(begin + (life.end_ns - origin) / 1e9, life.age_ns / 1e6) for life in lives]
    return points


def tables(rows: Sequence[Row]) -> list[str]:
    """Markdown for people: a line per mode, their stages, and what is wrong."""
    ages = ("p50", "p95", "p99", "max")
    head = [
        "mode",
        "offered",
        "processed",
        "dropped",
        "frames/s",
        *(f"age {q}, ms" for q in ages),
        "in budget",
    ]
    counts = [
        [
            row["key"], row["offered"], row["processed"], row["dropped"], row["fps"],
            *(row["age_ms"][quantile] for quantile in ages), _percent(row["within_budget"]),
        ]
        for row in rows
    ]  # fmt: skip
    names = in_order({name for row in rows for name in row["stages_ms"]})
    stages = [[row["key"], *(_stage(row["stages_ms"].get(name)) for name in names)] for row in rows]
    lines = [
        *table(head, counts),
        "",
        "Milliseconds by stage, p50 / p99:",
        "",
        *table(["mode", *names], stages),
    ]
    notes = [f"- {row['key']}: {note}" for row in rows for note in row["notes"]]
    notes += [f"- {key} is absent: {why}" for key, why in rows[0]["run"]["absent"].items()]
    return [*lines, "", *notes] if notes else lines


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _stage(times: Mapping[str, float | None] | None) -> str | None:
    if times is None or times["p50"] is None or times["p99"] is None:
        return None
    return f"{times['p50']:.1f} / {times['p99']:.1f}"
