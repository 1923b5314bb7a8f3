"""Options that several commands have in common."""

from __future__ import annotations

from typing import Annotated

import typer

EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME_OR_PATH",
        help="A shipped engine's name, one of 'streamseg engines list' (or its beginning), an engine folder, "
        "or a .safetensors checkpoint. Default: the INT8 improved U-Net, or the fastest engine built here "
        "that has its weights and passed the accuracy gate.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on one line, last on stdout.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]
