"""Options shared by several commands."""

from __future__ import annotations

from typing import Annotated

import typer

EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME_OR_PATH",
        help="Name of a shipped engine or of one in 'streamseg engines list' (its beginning suffices), an "
        "engine folder, or a .safetensors checkpoint. Default: the first shipped one, or the fastest "
        "engine built here from the same weights that passed the accuracy gate.",
    ),
]
SarOption = Annotated[
    str | None,
    typer.Option(
        "--sar",
        metavar="W:H",
        help="Width to height of a pixel (SAR, as ffprobe prints it), such as 16:15 or 1:1, where the source "
        "is wrong. Default: as it says.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line on stdout.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")]
