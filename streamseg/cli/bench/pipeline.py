"""``streamseg bench pipeline``: what becomes of frames, and where their age comes from."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from streamseg.cli.bench import common as outputs
from streamseg.cli.bench.common import (
    JsonFileOption,
    QuickOption,
    ReportOption,
    SourceOption,
    cores,
    exit_without_hanging_threads,
    listed,
)
from streamseg.cli.console import say
from streamseg.cli.options import EngineOption
from streamseg.core.errors import UsageError

RATES = "30,60 or other frames per second"


@exit_without_hanging_threads()
def pipeline(
    source: SourceOption = None,
    engine: EngineOption = None,
    fps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N",
            help="Frames per second of a live run; may be repeated, or several with commas. Default: 30,60.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="S", help="Of each mode in each round. Default: 6; 3 if --quick."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Turns of each mode. Default: 3; 2 if --quick.")
    ] = None,
    quick: QuickOption = False,
    json_file: JsonFileOption = None,
    report: ReportOption = None,
) -> None:
    """Measure the whole pipeline: offered, processed and dropped frames, and their age by stage.

    Replay as fast as it goes, live at each --fps, and live at twice what the engine can do. The outlines are
    drawn and the pictures thrown away: no encoder, window or network is part of it.
    """
    outputs.check(json_file, report)
    from streamseg.benchmark.pipeline.bench import PipelineOptions, measure_pipeline
    from streamseg.benchmark.pipeline.words import tables
    from streamseg.cli.console import limit_opencv_threads
    from streamseg.cli.engine import load_engine

    options = PipelineOptions(
        load=lambda many: load_engine(engine, throughput=many),
        source=source,
        paces=paces_of(fps),
        seconds=seconds or (3.0 if quick else 6.0),
        rounds=rounds or (2 if quick else 3),
        quick=quick,
        threads=cores(),
        arguments=tuple(sys.argv[1:]),
    )
    limit_opencv_threads()
    outputs.stop_as_by_ctrl_c()
    rows = measure_pipeline(options, say)
    outputs.write(rows, tables(rows), json_file, report)


def paces_of(given: list[str] | None) -> tuple[float, ...]:
    """Frames per second from ``--fps``. Raises UsageError."""
    words = listed("--fps", given, RATES)
    try:
        return tuple(float(word) for word in words) or (30.0, 60.0)
    except ValueError:
        raise UsageError(f"--fps {','.join(words)} is no list of rates; give some of {RATES}") from None
