"""``streamseg phantom``: writes a data set of synthetic images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamseg.cli.options import ForceOption, JsonOption


def phantom(
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Output folder; the images are written to its folder train/."
        ),
    ],
    images: Annotated[int, typer.Option("--images", metavar="N", help="Number of images.")] = 200,
    subjects: Annotated[
        int, typer.Option("--subjects", metavar="S", help="Number of subjects, at most N.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", metavar="K", help="The same seed gives the same files.")] = 0,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write synthetic images with exact masks, in the Kaggle layout.

    DIR/train/<subject>_<n>.tif and <subject>_<n>_mask.tif, 580x420; more than half of the masks are empty.
    """
    from streamseg.cli.console import Progress, print_json, put_path, say
    from streamseg.datasets.kaggle_writer import write_kaggle

    with Progress("phantom", images, "images") as progress:
        nerves = write_kaggle(
            out, images=images, subjects=subjects, seed=seed, force=force, progress=progress.advance
        )
    say(f"wrote {images} images of {subjects} subjects, {nerves} of them with nerve")
    if json:
        print_json(
            {"out": str(out), "images": images, "subjects": subjects, "nerve_images": nerves, "seed": seed}
        )
    else:
        put_path(out)
