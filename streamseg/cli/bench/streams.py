"""``streamseg bench streams``: how many live streams the machine can handle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.bench.common import Common, ThreadsOption, listed, measures
from streamseg.cli.console import say
from streamseg.cli.options import EngineOption
from streamseg.core.errors import UsageError
from streamseg.core.hardware import usable_cores

if TYPE_CHECKING:
    from streamseg.benchmark.rows.run import Row
    from streamseg.core.types import Backend

COUNTS = "1,2,4 or other numbers"
StreamsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--streams",
        metavar="N",
        help="Number of parallel streams; repeat it or separate with commas. Default: 1,2,4,8.",
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Use an engine of the store that segments the frames of this number of streams in one call.",
    ),
]
ThroughputOption = Annotated[
    bool | None,
    typer.Option(
        "--throughput/--latency",
        help="Split the cores between frames, or use all cores for each frame. Default: --throughput if "
        "there are enough streams to use all parts.",
        show_default=False,
    ),
]
DrawOption = Annotated[
    bool,
    typer.Option(
        "--draw/--no-draw",
        help="Let a page read all streams, as a browser on another machine would, or let nobody read them.",
    ),
]


@measures
def streams(
    common: Common,
    engine: EngineOption = None,
    numbers: StreamsOption = None,
    batch: BatchOption = None,
    throughput: ThroughputOption = None,
    draw: DrawOption = True,
    fps: Annotated[float, typer.Option(metavar="N", help="Frames per second of each stream.")] = 30.0,
    budget: Annotated[
        float, typer.Option(metavar="MS", help="Age budget: an older outline is not displayed.")
    ] = 150.0,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds per round. Default: 5, with --quick 3.")
    ] = None,
    threads: ThreadsOption = None,
) -> Sequence[Row]:
    """Measure how many live streams this machine can handle.

    Every stream has its own live loop and display; all share one engine. A number of streams is handled if in
    each stream 99 % of the outlines are within the budget, and at least 5 a second are displayed.
    """
    from streamseg.benchmark.live_probe import Offer
    from streamseg.benchmark.streams.bench import StreamsOptions, measure_streams

    options = StreamsOptions(
        load=lambda many: load(
            engine, batch, threads=threads, throughput=many if throughput is None else throughput
        ),
        source=common.source,
        counts=counts_of(numbers),
        offer=Offer(
            fps=fps,
            seconds=(3.0 if common.quick else 5.0) if seconds is None else seconds,
            budget_s=budget / 1e3,
            draw=draw,
        ),
        rounds=common.rounds or (2 if common.quick else 3),
        quick=common.quick,
        limit=common.limit,
        threads=threads or usable_cores(),
        arguments=common.arguments,
    )
    return measure_streams(options, say)


def counts_of(given: list[str] | None) -> tuple[int, ...]:
    """Numbers of streams from ``--streams``. Raises UsageError."""
    words = listed("--streams", given, COUNTS)
    if wrong := [word for word in words if not re.fullmatch(r"[0-9]{1,9}", word)]:
        raise UsageError(f"--streams {wrong[0]} is not a number of streams; give some of {COUNTS}")
    return tuple(int(word) for word in words) or (1, 2, 4, 8)


def load(engine: str | None, batch: int | None, *, threads: int | None, throughput: bool) -> Backend:
    """The engine that is named, of this batch if one is given; says which it is.

    Raises what :func:`streamseg.backends.load_backend` raises, and UsageError if none has the batch.
    """
    from streamseg.backends import load_backend
    from streamseg.core.engine_info import EngineInfo

    chosen = engine if batch in (None, 1) else _of_batch(engine, batch or 1)
    backend = load_backend(chosen, threads=threads, throughput=throughput, say=say)
    info = EngineInfo.of(backend)
    if batch not in (None, info.batch):
        backend.close()
        raise UsageError(
            f"engine {info.name} takes {info.batch} frames at a time, --batch says {batch}; leave --batch out"
        )
    spec = info.spec
    say(
        f"engine: {info.name} ({info.precision or ''}, input {spec.height}x{spec.width}, "
        f"{info.batch} per call)"
    )
    return backend


def _of_batch(engine: str | None, batch: int) -> str | Path:
    """The store's fastest engine of a batch, of the shipped net unless a name or its beginning is given."""
    from streamseg.backends import DEFAULT
    from streamseg.engines.compatibility import incompatibilities
    from streamseg.engines.store import EngineStore

    if engine is not None and Path(engine).exists():
        return engine
    begin = DEFAULT.partition("-")[0] if engine is None else engine
    found = [
        (float(entry.manifest.speed.get("ms", float("inf"))), entry.path)
        for entry in EngineStore().entries()
        if entry.manifest is not None
        and entry.sealed
        and entry.manifest.batch == batch
        and f"{entry.name}-".startswith(f"{begin}-")
        and not incompatibilities(entry.manifest)
    ]
    if not found:
        raise UsageError(
            f"the store has no engine {begin} of batch {batch} that fits this machine; build one with "
            f"streamseg export {begin.partition('-')[0]} --backend tensorrt --precision fp16 --batch {batch}"
        )
    return min(found)[1]
