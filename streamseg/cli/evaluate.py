"""``streamseg evaluate``: how well an engine finds the nerve in labelled images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from streamseg.cli.console import Progress, print_json, say, stop_on_signals
from streamseg.cli.options import EngineOption, JsonOption


def evaluate(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder with images/ and masks/, or the Kaggle layout (train/)."),
    ],
    engine: EngineOption = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="Also give each image's figures.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare an engine's outlines with labelled images.

    The whole image is segmented, as replay does with --roi none; Dice and IoU are those of the image's own
    pixels, and 1 where neither the engine nor the label has nerve. Sensitivity and specificity are of "there
    is nerve in this image", null where the data has no such images.
    """
    from streamseg.backends import load_backend
    from streamseg.datasets import open_dataset
    from streamseg.evaluation import confusions
    from streamseg.metrics import summarise
    from streamseg.segment import Segmenter

    samples = open_dataset(data)[:limit]
    backend = load_backend(engine)
    try:
        with stop_on_signals() as stop, Progress(data.resolve().name, len(samples), "images") as progress:
            counts = []
            for found in confusions(samples, Segmenter(backend, None)):
                counts.append(found)
                progress.advance()
                if stop:
                    break
    finally:
        backend.close()
    if stop:
        say(f"stopped by {stop.cause} after {len(counts)} of {len(samples)} images; no figures of a part")
        raise typer.Exit(stop.exit_code)
    result: dict[str, Any] = {
        **asdict(summarise([count for _, count in counts])),
        "engine": {"name": backend.name, "sha256": backend.fingerprint},
        "data": str(data),
    }
    if per_image:
        result["per_image"] = [
            {"name": name, "dice": c.dice, "iou": c.iou, "nerve": c.nerve_present, "found": c.nerve_predicted}
            for name, c in counts
        ]
    if as_json:
        print_json(result)
    else:
        _print_lines(result)


def _print_lines(result: dict[str, Any]) -> None:
    for image in result.pop("per_image", ()):
        print(f"{image['name']}  dice {image['dice']:.4f}  iou {image['iou']:.4f}")
    engine = result.pop("engine")
    for key, value in {**result, "engine": f"{engine['name']} (sha256 {engine['sha256'][:12]})"}.items():
        text = "undefined" if value is None else f"{value:.4f}" if isinstance(value, float) else value
        print(f"{key + ':':<13} {text}")
