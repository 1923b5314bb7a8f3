"""``streamseg bench nets``: the nets by every back end, at every precision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamseg.cli.bench.common import Common, ThreadsOption, listed, measures
from streamseg.cli.console import say
from streamseg.core.errors import UsageError
from streamseg.core.hardware import usable_cores

if TYPE_CHECKING:
    from streamseg.benchmark.rows.run import Row


@measures
def nets(
    common: Common,
    net: Annotated[
        list[str] | None,
        typer.Option("--net", metavar="NET", help="improved_unet, lite_unet, unet, segnet. Default: all."),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="eager, openvino, onnx, compiled (minutes to build), eager-cuda, tensorrt. Default: all "
            "that are installed and run on this machine, except compiled; with --quick eager and openvino.",
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            metavar="NAME",
            help="fp32, fp16, bf16, int8. Default: fp32 and int8, on a GPU also fp16.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="Input size. Default: the shipped weights' own."),
    ] = None,
    batch: Annotated[
        list[str] | None, typer.Option("--batch", metavar="N", help="Frames per call. Default: 1.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Labelled images for measuring Dice. Default: phantom images."
        ),
    ] = None,
    last: Annotated[
        float | None,
        typer.Option(
            "--last",
            metavar="SHARE",
            help="Use only their last share; 0.2 is what the shipped weights were not trained on.",
        ),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Trained weights or a run folder, instead of the shipped or random weights of their net.",
        ),
    ] = None,
    threads: ThreadsOption = None,
) -> Sequence[Row]:
    """Measure the nets on every back end at every precision.

    Gives frames per second of the engine alone and from the decoded file to the drawn outline, latency, Dice
    and agreement with the masks of FP32, model size, memory, warm start, and the share of the machine's
    limit. Options can be repeated, or their values separated by commas. All variants are called in turn on
    real frames, and every call counts. Engines are the shipped ones, those of the store, or built for this
    run and discarded. Without --quick it takes about five minutes on two cores.
    """
    from streamseg.benchmark.nets.bench import NetsOptions, measure_nets
    from streamseg.benchmark.nets.variants import OFFERED
    from streamseg.cli.train import parse_height_width
    from streamseg.engines.checkpoint import NETS
    from streamseg.engines.manifest import PRECISIONS
    from streamseg.export.source import read_weights

    options = NetsOptions(
        threads=threads or usable_cores(),
        nets=listed("--net", net, ", ".join(NETS)),
        backends=listed("--backend", backend, ", ".join(OFFERED)),
        precisions=listed("--precision", precision, ", ".join(PRECISIONS)),
        sizes=tuple(
            parse_height_width(text) for text in listed("--size", size, "sizes such as 192x224,256x320")
        ),
        batches=tuple(map(parse_batch, listed("--batch", batch, "numbers of frames such as 1,8"))) or (1,),
        source=common.source,
        data=data,
        last=last,
        weights={read_weights(path).net: path for path in weights or ()},
        rounds=common.rounds,
        quick=common.quick,
        limit=common.limit,
        arguments=common.arguments,
    )
    return measure_nets(options, say)


def parse_batch(text: str) -> int:
    """Read a number of frames. Raises UsageError."""
    if not re.fullmatch(r"[1-9]\d{0,3}", text) or int(text) > 1024:
        raise UsageError(f"a batch has 1 to 1024 frames, received {text!r}")
    return int(text)
