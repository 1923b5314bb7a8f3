"""The pipeline's modes against one another: replay as fast as it goes, live at paces, live overloaded.

The modes take turns in rounds (:mod:`~streamseg.benchmark.pipeline.turns`); before them and after them comes
what the machine can do at most. All frames of all rounds count; a rate is the median of the rounds'.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from streamseg.benchmark.clip import Clip, open_clip
from streamseg.benchmark.limits import MachineLimits, on_gpu
from streamseg.benchmark.pipeline.rows import mode_row
from streamseg.benchmark.pipeline.run import STALL_S, EndToEnd, Paced, end_to_end, paced
from streamseg.benchmark.pipeline.turns import WARM_S, Mode, Turns
from streamseg.benchmark.provenance import OtherLoad
from streamseg.benchmark.rows import Row, finish_run, start_run
from streamseg.benchmark.timing import interleave
from streamseg.core.errors import StreamsegError, UsageError
from streamseg.core.types import Backend, Say
from streamseg.segmentation.segmenter import Segmenter
from streamseg.segmentation.temporal_filter import TemporalFilter
from streamseg.sinks import JsonRecords

OVERLOAD = 2
"""The overloaded pace is this many times the engine's own rate."""
OVERLOAD_KEY = "live, overloaded"
PROBES = 12
"""Calls that tell the engine's own rate; frames of a short clip that tell the replay's."""


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


def measure_pipeline(options: PipelineOptions, say: Say) -> list[Row]:
    """A row per mode; ``say`` gets lines about the progress.

    A mode that fails is left out and told in the rows' ``run["absent"]``. Ctrl-C ends it with the rounds that
    are finished: the run's ``stopped`` is then true. Raises UsageError and SourceError for the clip, what
    loading the engine raises, StallError for an engine that does not answer, StreamsegError where every mode
    fails, and KeyboardInterrupt where nothing was finished.
    """
    began = time.monotonic()
    with (
        TemporaryDirectory(prefix="streamseg-", ignore_cleanup_errors=True) as folder,
        ExitStack() as opened,
        OtherLoad() as others,
    ):
        many, single = (opened.enter_context(closing(options.load(kind))) for kind in (True, False))
        clip = open_clip(options.source, Path(folder))  # after the engine: to render one takes seconds
        machine = opened.enter_context(MachineLimits(options.threads, say, gpu=on_gpu([many, single])))
        modes = _modes(options, clip, many, single, Path(folder))
        turns = Turns(modes, say)
        stopped = machine.around(
            lambda: turns.run(options.rounds, options.seconds),
            kept=lambda: bool(turns.done),
            stopped=turns.stopped,
        )
    run = _run_of(options, clip) | {"stopped": stopped}
    finish_run(
        run,
        seconds=time.monotonic() - began,
        others_share=others.share,
        limits=machine.to_json(),
        absent=turns.absent,
    )
    if not turns.done:
        raise StreamsegError(f"no mode of the pipeline could be measured: {'; '.join(turns.absent.values())}")
    return [mode_row(mode, outcomes, run) for mode, outcomes in turns.done]


def _run_of(options: PipelineOptions, clip: Clip) -> dict[str, Any]:
    return start_run(
        options.arguments,
        quick=options.quick,
        threads=options.threads,
        source=clip.to_json(),
        regime={
            "rounds": options.rounds,
            "block_seconds": options.seconds,
            "warmup_seconds": WARM_S,
            "paces_fps": list(dict.fromkeys(options.paces)),
            "overload": OVERLOAD,  # its pace is the engine's, so that it is another in each run
            "budget_ms": round(options.budget_s * 1e3, 1),
        },
    )


def _modes(options: PipelineOptions, clip: Clip, many: Backend, single: Backend, folder: Path) -> list[Mode]:
    """Replay, live at each pace, and live at more than the engine can do."""
    records = folder / "records.jsonl"
    guess: list[float] = []

    def replayed(seconds: float) -> EndToEnd:
        # The first run counts for nothing but its rate, which says how many frames take how long.
        frames = max(len(clip.frames), round(guess[-1] * seconds) if guess else PROBES)
        sink = JsonRecords(records, header={"source": clip.name}, force=True)
        done = end_to_end(clip, Segmenter(many), frames, sinks=[sink])
        guess.append(done.fps or 0.0)
        return done

    def live(fps: float, seconds: float) -> Paced:
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
    """Frames per second of the net alone, one after another. Raises StallError where it does not answer."""
    segmenter = Segmenter(engine)
    prepared = segmenter.prepare(clip.frames[0], clip.roi)
    call = partial(segmenter.infer, prepared)
    return interleave({"engine": call}, rounds=1, per_round=PROBES, warmup=3, stall_s=STALL_S)["engine"].rate
