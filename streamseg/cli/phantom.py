"""``streamseg phantom``: writes a data set of phantom pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamseg.cli.options import ForceOption, JsonOption


def phantom(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write; train/ appears in it.")],
    images: Annotated[int, typer.Option("--images", metavar="N", help="Pictures in all.")] = 200,
    subjects: Annotated[
        int, typer.Option("--subjects", metavar="S", help="People they are of, at most N.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", metavar="K", help="The same seed gives the same files.")] = 0,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write phantom pictures with exact masks, in the layout of the Kaggle competition.

    DIR/train/<subject>_<n>.tif and <subject>_<n>_mask.tif, 580x420; more than half of the masks are empty.
    """
    from streamseg.cli.console import Progress, print_json, say
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
        typer.echo(out)
