"""``streamseg bench peers``: other programs side by side with ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.bench.common import Common, ThreadsOption, listed, measures
from streamseg.cli.console import say
from streamseg.core.hardware import usable_cores

if TYPE_CHECKING:
    from streamseg.benchmark.rows.run import Row


@measures
def peers(
    common: Common,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="runtime|pipeline",
            help="What to compare; repeat it or separate with commas. Default: both.",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Input size of the nets. INT8 is shipped only for 192x224.")
    ] = "192x224",
    threads: ThreadsOption = None,
) -> Sequence[Row]:
    """Compare with other runtimes and video pipelines.

    runtime: the same weights in torch, torch.compile, ONNX Runtime, OpenCV and OpenVINO. pipeline: a plain
    OpenCV loop and supervision, with the same engine. Needs the extra bench.
    """
    from streamseg.benchmark.peers.bench import KINDS, PeersOptions, measure_peers
    from streamseg.cli.train import parse_height_width

    options = PeersOptions(
        kinds=listed("--kind", kind, ", ".join(KINDS)) or KINDS,
        source=common.source,
        size=parse_height_width(size),
        rounds=common.rounds,
        quick=common.quick,
        limit=common.limit,
        threads=threads or usable_cores(),
        arguments=common.arguments,
    )
    return measure_peers(options, say)
