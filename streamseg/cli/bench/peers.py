"""``streamseg bench peers``: other programs side by side with ours."""

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
    ThreadsOption,
    cores,
    exit_without_hanging_threads,
    listed,
)
from streamseg.cli.console import say


@exit_without_hanging_threads()
def peers(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="runtime|pipeline",
            help="What is compared; may be repeated, or several with commas. Default: both.",
        ),
    ] = None,
    source: SourceOption = None,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Input of the nets. INT8 is shipped for 192x224 only.")
    ] = "192x224",
    rounds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Turns of each. Default: 5, of pipelines 3."),
    ] = None,
    threads: ThreadsOption = None,
    quick: QuickOption = False,
    json_file: JsonFileOption = None,
    report: ReportOption = None,
) -> None:
    """Measure other programs beside ours: runtimes and video pipelines.

    runtime: the same weights in torch, torch.compile, ONNX Runtime, OpenCV and OpenVINO. pipeline: a plain
    OpenCV loop and supervision, with the same engine. Needs the extra bench.
    """
    outputs.check(json_file, report)
    from streamseg.benchmark.peers.bench import KINDS, PeersOptions, measure_peers
    from streamseg.benchmark.peers.table import peers_lines
    from streamseg.cli.console import limit_opencv_threads
    from streamseg.cli.train import parse_height_width

    options = PeersOptions(
        kinds=listed("--kind", kind, ", ".join(KINDS)) or KINDS,
        source=source,
        size=parse_height_width(size),
        rounds=rounds,
        quick=quick,
        threads=threads or cores(),
        arguments=tuple(sys.argv[1:]),
    )
    limit_opencv_threads()
    outputs.stop_as_by_ctrl_c()
    rows = measure_peers(options, say)
    outputs.write(rows, peers_lines(rows), json_file, report)
