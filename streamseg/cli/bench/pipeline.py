"""``streamseg bench pipeline``: counts frames, and measures their age by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.bench.common import Common, listed, measures
from streamseg.cli.console import say
from streamseg.cli.options import EngineOption
from streamseg.core.errors import UsageError
from streamseg.core.hardware import usable_cores

if TYPE_CHECKING:
    from streamseg.benchmark.rows.run import Row

RATES = "30,60 or other frames per second"


@measures
def pipeline(
    common: Common,
    engine: EngineOption = None,
    fps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N",
            help="Frames per second of a live run; repeat it or separate with commas. Default: 30,60.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="S", help="Seconds per mode and round. Default: 6, with --quick 3."),
    ] = None,
) -> Sequence[Row]:
    """Measure the whole pipeline: dropped frames, age by stage.

    Runs a replay as fast as possible, live at each --fps, and live at twice the engine's rate. Outlines are
    drawn and frames discarded: no encoder, window or network is included.
    """
    from streamseg.benchmark.pipeline.bench import PipelineOptions, measure_pipeline
    from streamseg.cli.engine import load_engine

    options = PipelineOptions(
        load=lambda many: load_engine(engine, throughput=many),
        source=common.source,
        paces=paces_of(fps),
        seconds=seconds or (3.0 if common.quick else 6.0),
        rounds=common.rounds or (2 if common.quick else 3),
        quick=common.quick,
        limit=common.limit,
        threads=usable_cores(),
        arguments=common.arguments,
    )
    return measure_pipeline(options, say)


def paces_of(given: list[str] | None) -> tuple[float, ...]:
    """Frames per second from ``--fps``. Raises UsageError."""
    words = listed("--fps", given, RATES)
    try:
        return tuple(float(word) for word in words) or (30.0, 60.0)
    except ValueError:
        raise UsageError(f"--fps {','.join(words)} is not a list of rates; give some of {RATES}") from None
