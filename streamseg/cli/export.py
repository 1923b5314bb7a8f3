"""``streamseg export``: builds an engine, judges it, and puts it into the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from streamseg.cli.console import Progress, print_json, put, say
from streamseg.cli.options import JsonOption

T = TypeVar("T")


class ConsoleReporter:
    """Shows the progress of a build on stderr."""

    def say(self, line: str) -> None:
        say(line)

    def track(self, what: str, items: Sequence[T]) -> Iterator[T]:
        with Progress(what, len(items)) as progress:
            for item in items:
                yield item
                progress.advance()


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NET_OR_CHECKPOINT",
            help="unet, segnet, improved_unet or lite_unet (shipped weights, or random ones marked as "
            "untrained), a .safetensors checkpoint, or a run folder.",
        ),
    ],
    backend: Annotated[
        str,
        typer.Option(
            "--backend", metavar="openvino|tensorrt|compiled|onnx", help="Back end that runs the engine."
        ),
    ] = "openvino",
    precision: Annotated[
        str, typer.Option("--precision", metavar="fp32|fp16|bf16|int8", help="Precision of the computation.")
    ] = "fp32",
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Input size. Default: the weights' own.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Frames per call.")] = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Labelled images for calibration and the accuracy gate. Default: phantom images, which the "
            "manifest notes.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            metavar="FILE",
            help="Recipe that selects the images. Default: the one in calibration/, else a new one.",
        ),
    ] = None,
    better: Annotated[
        bool,
        typer.Option("--better", help="Use the next better precision if the accuracy gate refuses this one."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Build even if the store has this engine.")] = False,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Average in the net's output for the mirrored image, at two to three times the time. "
            "Default: as the weights were calibrated.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build an engine and add it to the engine store.

    It is added only if it passes the accuracy gate: FP32 and FP16 must give the same masks as the weights in
    FP32 (mean Dice 0.998), INT8 and BF16 may lose 0.01 of Dice against the labels; otherwise the exit code is
    1. By default live and replay then use the fastest engine built from the shipped weights; --engine selects
    any other. The store is engines/ in a checkout, else the user's cache folder, or the folder given by
    STREAMSEG_ENGINES.
    """
    from streamseg.cli.train import parse_height_width
    from streamseg.engines.store import EngineStore
    from streamseg.export.build import export as build
    from streamseg.export.contract import ExportRequest

    shape = None if size is None else parse_height_width(size)
    request = ExportRequest(source, backend, precision, shape, batch, data, recipe, better, force, mirror)
    found = build(request, EngineStore(), ConsoleReporter())
    manifest = found.manifest
    if as_json:
        print_json({"folder": str(found.folder), "fresh": found.fresh, **manifest.to_json()})
        return
    if not found.fresh:
        say("the store has this engine already, and it fits this machine; --force builds it again")
    for line in _lines(manifest.to_json()):
        put(line)
    put(f"folder:     {found.folder}")


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    """The manifest as human-readable lines."""
    from streamseg.core.spec import NERVE

    gate, speed = values["gate"], values["speed"]
    spec = values["spec"]
    yield f"engine:     {values['name']}" + ("" if values["trained"] else "  UNTRAINED")
    mirrored = ", each with its mirror image" if spec.get("mirrored") else ""
    yield f"input:      {spec['height']}x{spec['width']}, {values['batch']} per call{mirrored}"
    yield f"outlines:   {', '.join(spec.get('structures', [NERVE]))}"
    found = ", ".join(f"{name} {share:.0%}" for name, share in values["precision_found"].items())
    yield f"precision:  asked for {values['precision']}, computes in {found} (share of layers)"
    yield f"gate:       {_verdict(gate)}"
    if values["calibration"]:
        yield f"calibrated: on {values['calibration']['frames']} frames, {values['calibration']['data']}"
    if values.get("licence"):
        yield f"licence:    {values['licence']}"
    relative = f", {speed['ratio']:.2f} of the shipped engine's time" if "ratio" in speed else ""
    yield f"speed:      {speed['ms']:.1f} ms per call{relative}"
    yield f"built in:   {values['built']['seconds']:.0f} s, {values['built']['bytes'] / 1e6:.1f} MB"


def _verdict(gate: Mapping[str, Any]) -> str:
    if gate["kind"] == "probabilities":
        return (
            f"probabilities within {gate['probability_difference_max']:.2g} of FP32's on {gate['frames']} "
            "frames; random weights, so that nothing else can be judged"
        )
    others = (f"; {name}: {_dice_words(figures)}" for name, figures in gate.get("structures", {}).items())
    return f"passed on {gate['frames']} frames ({gate['data']}): {_dice_words(gate)}" + "".join(others)


def _dice_words(figures: Mapping[str, Any]) -> str:
    words = f"mean Dice to FP32's masks {figures['mask_dice_mean']:.4f}"
    if "dice" not in figures:
        return words
    return f"{words}, against the labels {figures['dice']:.4f} (FP32 {figures['dice_fp32']:.4f})"
